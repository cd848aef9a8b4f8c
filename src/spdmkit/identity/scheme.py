"""How a private key signs certificates, lists and requests: hash, padding, identifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from spdmkit.crypto.der import (
    BIT_STRING,
    NULL,
    context,
    encode_integer,
    encode_object_identifier,
    sequence,
    tlv,
)
from spdmkit.crypto.rawkeys import RawPrivate
from spdmkit.crypto.signing import sign_certificate
from spdmkit.errors import ConfigurationError
from spdmkit.identity import oids

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey

__all__ = ["Scheme"]

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}
_HASH_OIDS: Final = {name: oid for oid, name in oids.HASHES.items()}
_SIGNATURE_OIDS: Final = {signature.name: oid for oid, signature in oids.SIGNATURES.items()}
_MGF1: Final = "1.2.840.113549.1.1.8"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A private key with the algorithm that it signs by.

    Attributes:
        key: the key.
        algorithm: the hash; None for schemes that bring their own.
        pss: RSASSA-PSS when the key is RSA, PKCS #1 v1.5 otherwise.
        deterministic: by RFC 6979 when the key is ECDSA.
    """

    key: PrivateKey
    algorithm: hashes.HashAlgorithm | None = None
    pss: bool = False
    deterministic: bool = False

    @classmethod
    def of(
        cls, key: PrivateKey, *, pss: bool = False, hash_name: str = "", deterministic: bool = False
    ) -> Scheme:
        """Choose how a key signs.

        Args:
            key: the private key.
            pss: RSASSA-PSS when it is RSA.
            hash_name: hash ("sha384"), where the scheme leaves one to choose; empty takes the one
                that fits the key.
            deterministic: sign by RFC 6979 when it is ECDSA.

        Raises:
            ConfigurationError: not a hash that certificates are signed with.
        """
        handle = key.handle
        if not isinstance(handle, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            return cls(key)
        name = hash_name or _fitting_hash(handle)
        if name not in _HASHES:
            raise ConfigurationError(f"certificates are not signed with {name!r} here")
        return cls(key, _HASHES[name], pss, deterministic)

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, as certificates, lists and requests carry it.

        Raises:
            UnsupportedAlgorithm: the package for the key is not installed.
        """
        handle = self.key.handle
        if isinstance(handle, RawPrivate):
            return sign_certificate(self.key, data)
        if isinstance(handle, ec.EllipticCurvePrivateKey):
            deterministic = {"deterministic_signing": True} if self.deterministic else {}
            return handle.sign(data, ec.ECDSA(self._hash(), **deterministic))
        if isinstance(handle, rsa.RSAPrivateKey):
            return handle.sign(data, self._padding(), self._hash())
        return handle.sign(data)

    def identifier(self) -> bytes:
        """The AlgorithmIdentifier in DER (RFC 4055, 5758, 8410, 9881 and 9909)."""
        handle = self.key.handle
        if isinstance(handle, ec.EllipticCurvePrivateKey):
            return sequence(_oid(f"ECDSA with {_title(self._hash().name)}"))
        if not isinstance(handle, rsa.RSAPrivateKey):
            return sequence(_oid(_OWN_NAMES.get(self.key.key_type, self.key.key_type.upper())))
        if not self.pss:
            return sequence(_oid(f"RSA with {_title(self._hash().name)}"), tlv(NULL))
        digest = sequence(encode_object_identifier(_HASH_OIDS[self._hash().name]), tlv(NULL))
        mask = sequence(encode_object_identifier(_MGF1), digest)
        salt = encode_integer(self._hash().digest_size)
        parameters = (
            tlv(context(number, constructed=True), value)
            for number, value in enumerate((digest, mask, salt))
        )
        return sequence(_oid("RSASSA-PSS"), sequence(*parameters))

    def signed(self, data: bytes) -> bytes:
        """`data`, the AlgorithmIdentifier and the signature, as X.509 and PKCS #10 wrap them."""
        return sequence(data, self.identifier(), tlv(BIT_STRING, b"\0", self.sign(data)))

    def _hash(self) -> hashes.HashAlgorithm:
        if self.algorithm is None:
            raise ConfigurationError(f"no hash was chosen for a {self.key.key_type} key")
        return self.algorithm

    def _padding(self) -> padding.AsymmetricPadding:
        if not self.pss:
            return padding.PKCS1v15()
        return padding.PSS(padding.MGF1(self._hash()), self._hash().digest_size)


_OWN_NAMES: Final = {"ed25519": "Ed25519", "ed448": "Ed448", "sm2": "SM2 with SM3"}
"""Key types whose signature `oids.SIGNATURES` does not call by the type in capitals."""


def _oid(name: str) -> bytes:
    return encode_object_identifier(_SIGNATURE_OIDS[name])


def _title(hash_name: str) -> str:
    """The hash as `oids.SIGNATURES` writes it: SHA-384 for "sha384", SHA3-384 for "sha3-384"."""
    upper = hash_name.upper()
    return upper if "-" in upper else upper.replace("SHA", "SHA-")


def _fitting_hash(handle: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """The hash of about the key's strength."""
    limits = (3071, 4095) if isinstance(handle, rsa.RSAPrivateKey) else (256, 384)
    size = handle.key_size
    return "sha256" if size <= limits[0] else "sha384" if size <= limits[1] else "sha512"
