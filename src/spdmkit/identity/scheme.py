"""How a private key signs certificates, lists and requests: hash, padding, identifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from spdmkit.crypto.rawkeys import RawPrivate
from spdmkit.errors import ConfigurationError, UnsupportedAlgorithm
from spdmkit.identity import oids
from spdmkit.identity.der import (
    NULL,
    context,
    encode_integer,
    encode_object_identifier,
    sequence,
    tlv,
)

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey, PycaPrivate

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
        key: the key, of cryptography or of its interface.
        key_type: kind and size of the key.
        algorithm: the hash; None for schemes that bring their own.
        rsa_padding: PSS, or None for PKCS #1 v1.5 and for other keys.
        ecdsa_deterministic: sign by RFC 6979; None leaves it to the library.
    """

    key: PycaPrivate
    key_type: str
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None
    rsa_padding: padding.PSS | None = None
    ecdsa_deterministic: bool | None = None

    @classmethod
    def of(
        cls, key: PrivateKey, *, pss: bool = False, hash_name: str = "", deterministic: bool = False
    ) -> Scheme:
        """Choose how a key signs.

        Args:
            key: the private key.
            pss: RSASSA-PSS when it is RSA.
            hash_name: hash ("sha384"); empty takes the one that fits the key.
            deterministic: sign by RFC 6979 when it is ECDSA.

        Raises:
            UnsupportedAlgorithm: the key cannot sign certificates here.
            ConfigurationError: not a hash that certificates are signed with.
        """
        handle = key.handle
        if isinstance(handle, RawPrivate):
            raise UnsupportedAlgorithm(
                f"a certificate or request signed by a {key.key_type} key",
                hint="cryptography, which builds certificates here, does not know such keys",
            )
        if not isinstance(handle, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            return cls(handle, key.key_type)
        name = hash_name or _fitting_hash(handle)
        if name not in _HASHES:
            raise ConfigurationError(f"certificates are not signed with {name!r} here")
        algorithm = cast("hashes.SHA256", _HASHES[name])
        if isinstance(handle, ec.EllipticCurvePrivateKey):
            return cls(handle, key.key_type, algorithm, ecdsa_deterministic=deterministic or None)
        scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size) if pss else None
        return cls(handle, key.key_type, algorithm, rsa_padding=scheme)

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, as certificates and requests carry it."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(self._hash()))
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, self.rsa_padding or padding.PKCS1v15(), self._hash())
        return self.key.sign(data)

    def identifier(self) -> bytes:
        """The AlgorithmIdentifier in DER (RFC 4055, RFC 5758, RFC 8410, RFC 9881)."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return sequence(self._oid(f"ECDSA with {_title(self._hash().name)}"))
        if not isinstance(self.key, rsa.RSAPrivateKey):
            name = (
                self.key_type.upper() if self.key_type.startswith("ml") else self.key_type.title()
            )
            return sequence(self._oid(name))
        if self.rsa_padding is None:
            return sequence(self._oid(f"RSA with {_title(self._hash().name)}"), tlv(NULL))
        digest = sequence(encode_object_identifier(_HASH_OIDS[self._hash().name]), tlv(NULL))
        mask = sequence(encode_object_identifier(_MGF1), digest)
        salt = encode_integer(self._hash().digest_size)
        parameters = (
            tlv(context(number, constructed=True), value)
            for number, value in enumerate((digest, mask, salt))
        )
        return sequence(self._oid("RSASSA-PSS"), sequence(*parameters))

    def _hash(self) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
        if self.algorithm is None:
            raise ConfigurationError(f"no hash was chosen for a {self.key_type} key")
        return self.algorithm

    @staticmethod
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
