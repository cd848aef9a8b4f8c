"""Asymmetric keys: making, reading and writing them.

A key knows its type, not its algorithm: an RSA key of 3072 bits serves RSASSA and RSAPSS alike.
Types are "rsa-<bits>", "ec-p256", "ec-p384", "ec-p521", "ec-<curve>" for curves SPDM has no number
for, "ed25519", "ed448", "sm2", "ml-dsa-<n>" and "slh-dsa-<set>".

cryptography holds the keys it knows. SLH-DSA and SM2 keys it does not know; they are held as bytes
and used through the packages of the extras `pq` and `sm`. Private keys are objects of those
libraries or immutable bytes, so they cannot be wiped.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as PycaUnsupported
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

from spdmkit.crypto import der, pkcs8, rawkeys
from spdmkit.crypto.hashes import Octets
from spdmkit.crypto.rawkeys import RawPrivate, RawPublic
from spdmkit.crypto.registry import BASE_ASYM, PQC_ASYM, SignatureAlgorithm, signature_algorithm
from spdmkit.crypto.signing import LocalSigner, Signer
from spdmkit.errors import ConfigurationError, DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LocalSigner", "PrivateKey", "PublicKey", "Signer"]

PycaPublic: TypeAlias = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
PycaPrivate: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

#: The largest key SPDM has is ML-DSA-87's, 2,592 bytes; nothing longer than this is looked at.
MAX_SPKI_SIZE = 8192
#: A verifier's work grows with a peer's RSA modulus and exponent, so both are capped. 2^64 is
#: OpenSSL's own cap on exponents of large keys; in use are 3 and 65537.
MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT = 1 << 64

#: What reading a mutated key with cryptography has been seen to raise.
PYCA_ERRORS = (ValueError, TypeError, PycaUnsupported, InvalidSignature, OverflowError)

_CURVE_TYPES = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ec-p256": ec.SECP256R1,
    "ec-p384": ec.SECP384R1,
    "ec-p521": ec.SECP521R1,
}
_PUBLIC_TYPES: tuple[tuple[type, str], ...] = (
    (ed25519.Ed25519PublicKey, "ed25519"),
    (ed448.Ed448PublicKey, "ed448"),
    (mldsa.MLDSA44PublicKey, "ml-dsa-44"),
    (mldsa.MLDSA65PublicKey, "ml-dsa-65"),
    (mldsa.MLDSA87PublicKey, "ml-dsa-87"),
)


class PublicKey:
    """A public key for verifying signatures.

    Attributes:
        key_type: its type, see the module.
        handle: the object of the library that implements it; for `crypto` and `identity` only.
    """

    __slots__ = ("_spki", "context_handle", "handle", "key_type")

    def __init__(self, handle: PycaPublic | RawPublic, key_type: str, spki: bytes) -> None:
        """Not for callers: use `from_spki` or `from_pyca`."""
        self.handle = handle
        self.key_type = key_type
        self._spki = spki
        #: Ed448 in the library that takes a context string, made by the first signature.
        self.context_handle: object = None

    @classmethod
    def from_spki(cls, data: Octets) -> PublicKey:
        """Read a DER SubjectPublicKeyInfo (RFC 5280 4.1).

        The bytes are kept: a provisioned public key enters transcripts as it was provisioned.

        Raises:
            DecodeError: the bytes are not a SubjectPublicKeyInfo, or hold a key that does not sign,
                is malformed, off its curve, or exceeds the caps of this module.
        """
        if len(data) > MAX_SPKI_SIZE:
            _refuse(f"{len(data)} bytes, more than the {MAX_SPKI_SIZE} a key may have")
        spki = bytes(data)
        raw = rawkeys.parse_spki(spki)
        if raw is not None:
            return cls(raw, raw.key_type, spki)
        try:
            handle = serialization.load_der_public_key(spki)
        except PYCA_ERRORS as error:
            _refuse(str(error) or type(error).__name__)
        return cls(*_classify(handle), spki)

    @classmethod
    def from_pyca(cls, handle: object) -> PublicKey:
        """Wrap a key of cryptography, as `identity` gets one from a certificate.

        Raises:
            DecodeError: as `from_spki`.
        """
        known, key_type = _classify(handle)
        return cls(known, key_type, _encode_spki(known))

    @classmethod
    def load(cls, data: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo from a file's content, PEM or DER.

        Raises:
            ConfigurationError: the PEM is damaged.
            DecodeError: as `from_spki`.
        """
        content = pkcs8.unarmour(data, "PUBLIC KEY")
        return cls.from_spki(data if content is None else content)

    def spki(self) -> bytes:
        """The DER SubjectPublicKeyInfo."""
        return self._spki

    def spki_sha256(self) -> bytes:
        """SHA-256 of the DER SubjectPublicKeyInfo: the key's name in pins and reports."""
        return hashlib.sha256(self._spki).digest()

    def algorithm_identifier(self) -> bytes:
        """The DER AlgorithmIdentifier, as PublicKeyInfo of KEY_PAIR_INFO has it."""
        info = der.Reader(self._spki, structure="SubjectPublicKeyInfo").enter(der.SEQUENCE, "key")
        return info.whole(der.SEQUENCE, "algorithm")

    def to_pem(self) -> bytes:
        """The SubjectPublicKeyInfo in PEM."""
        return pkcs8.armour(self._spki, "PUBLIC KEY")

    @property
    def algorithms(self) -> tuple[SignatureAlgorithm, ...]:
        """SPDM's algorithms that take this key, preferred first; empty for a foreign curve."""
        return _algorithms_of(self.key_type)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other._spki == self._spki

    def __hash__(self) -> int:
        return hash(self._spki)

    def __repr__(self) -> str:
        return f"<PublicKey {self.key_type} spki-sha256:{self.spki_sha256().hex()}>"


def _refuse(reason: str) -> NoReturn:
    raise DecodeError("SubjectPublicKeyInfo", "subjectPublicKey", 0, reason) from None


def _classify(handle: object) -> tuple[PycaPublic, str]:
    """A key of cryptography with its type, if it is one that verifies signatures."""
    if isinstance(handle, ec.EllipticCurvePublicKey):
        name = handle.curve.name
        return handle, _CURVE_TYPES.get(name, f"ec-{name}")
    if isinstance(handle, rsa.RSAPublicKey):
        if handle.key_size > MAX_RSA_BITS:
            _refuse(f"RSA modulus of {handle.key_size} bits, more than {MAX_RSA_BITS}")
        exponent = handle.public_numbers().e
        if not 3 <= exponent < MAX_RSA_EXPONENT or exponent % 2 == 0:
            _refuse("RSA public exponent is even, below 3 or above 2^64")
        return handle, f"rsa-{handle.key_size}"
    for kind, key_type in _PUBLIC_TYPES:
        if isinstance(handle, kind):
            return handle, key_type  # type: ignore[return-value] # narrowed by the table
    _refuse(f"{type(handle).__name__} does not verify signatures")


def _encode_spki(handle: PycaPublic) -> bytes:
    return handle.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _algorithms_of(key_type: str) -> tuple[SignatureAlgorithm, ...]:
    return tuple(
        entry
        for table in (BASE_ASYM, PQC_ASYM)
        for entry in table.by_strength
        if entry.key_type == key_type
    )


class PrivateKey:
    """A private key for signing.

    Attributes:
        public_key: its public half.
        handle: the object of the library that implements it; for `crypto` and `identity` only.
    """

    __slots__ = ("context_handle", "handle", "public_key")

    def __init__(self, handle: PycaPrivate | RawPrivate, public_key: PublicKey) -> None:
        """Not for callers: use `generate`, `from_seed`, `from_pyca` or `load`."""
        self.handle = handle
        self.public_key = public_key
        #: Ed448 in the library that takes a context string, made by the first signature.
        self.context_handle: object = None

    @property
    def key_type(self) -> str:
        """Its type, as `PublicKey.key_type`."""
        return self.public_key.key_type

    @property
    def algorithms(self) -> tuple[SignatureAlgorithm, ...]:
        """SPDM's algorithms that this key can sign with, preferred first."""
        return self.public_key.algorithms

    @classmethod
    def generate(cls, algorithm: SignatureAlgorithm | str) -> PrivateKey:
        """A fresh key for an algorithm ("ecdsa-p384").

        Raises:
            ConfigurationError: no algorithm has that name.
            UnsupportedAlgorithm: no library here can make one.
        """
        entry = _entry(algorithm)
        make = _GENERATORS.get(entry.key_type)
        if make is not None:
            return cls.from_pyca(make())
        if entry.key_type in _CURVES:
            return cls.from_pyca(ec.generate_private_key(_CURVES[entry.key_type]()))
        if entry.key_type.startswith("rsa-"):
            return cls.from_pyca(rsa.generate_private_key(65537, entry.signature_size * 8))
        return cls._from_raw(rawkeys.generate(entry))

    @classmethod
    def from_seed(cls, algorithm: SignatureAlgorithm | str, seed: bytes) -> PrivateKey:
        """The same key each time from the same seed: for fixtures that must not change.

        The seed is stretched by SHAKE-256 together with the key type. The key is as secret as the
        seed.

        Raises:
            ConfigurationError: no algorithm has that name, or its keys (RSA, SM2, SLH-DSA) cannot
                be made from a seed here.
        """
        entry = _entry(algorithm)
        stretched = hashlib.shake_256(
            b"spdmkit key from seed:" + entry.key_type.encode() + b":" + seed
        )
        if entry.key_type in _CURVES:
            curve = _CURVES[entry.key_type]()
            # 16 bytes more than the order, so that the remainder is as good as uniform.
            number = int.from_bytes(stretched.digest(82), "big")
            return cls.from_pyca(ec.derive_private_key(number % (curve.group_order - 1) + 1, curve))
        make = _FROM_SEED.get(entry.key_type)
        if make is None:
            raise ConfigurationError(f"{entry.short} keys cannot be made from a seed")
        size, constructor = make
        return cls.from_pyca(constructor(stretched.digest(size)))

    @classmethod
    def from_pyca(cls, handle: PycaPrivate) -> PrivateKey:
        """Wrap a private key of cryptography.

        Raises:
            DecodeError: its public half is not one `PublicKey` takes.
        """
        return cls(handle, PublicKey.from_pyca(handle.public_key()))

    @classmethod
    def _from_raw(cls, raw: RawPrivate) -> PrivateKey:
        public = raw.public()
        return cls(raw, PublicKey(public, public.key_type, public.spki()))

    @classmethod
    def load(cls, data: bytes, passphrase: bytes | str | None = None) -> PrivateKey:
        """Read a private key from a file's content: PKCS #8 in PEM or DER, clear or encrypted.

        PEM may also hold the older "RSA PRIVATE KEY" and "EC PRIVATE KEY".

        Raises:
            ConfigurationError: the bytes are no private key, hold one that does not sign, or the
                passphrase is missing, wrong, or given for a key that is not encrypted.
            UnsupportedAlgorithm: the key needs a package that is not installed.
        """
        secret = _passphrase(passphrase)
        content, secret = _open(data, secret)
        try:
            raw = rawkeys.load_private(content) if secret is None else None
            if raw is not None:
                return cls._from_raw(raw)
            key = cls.from_pyca(_load_pyca(pkcs8.seed_only(content), secret))
            _check_expanded(key, pkcs8.expanded_key(content))
        except DecodeError as error:
            raise ConfigurationError(f"not a usable private key: {error}") from None
        return key

    def to_pkcs8(self, passphrase: bytes | str | None = None) -> bytes:
        """PKCS #8 in DER (RFC 5958), encrypted (PBES2) when there is a passphrase.

        Raises:
            ConfigurationError: the passphrase is empty.
        """
        secret = _passphrase(passphrase)
        if isinstance(self.handle, RawPrivate):
            content = self.handle.to_pkcs8()
        else:
            content = self.handle.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        return content if secret is None else pkcs8.encrypt(content, secret)

    def to_pem(self, passphrase: bytes | str | None = None) -> bytes:
        """As `to_pkcs8`, in PEM."""
        label = "PRIVATE KEY" if passphrase is None else "ENCRYPTED PRIVATE KEY"
        return pkcs8.armour(self.to_pkcs8(passphrase), label)

    def __repr__(self) -> str:
        return f"<PrivateKey {self.key_type} spki-sha256:{self.public_key.spki_sha256().hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled; store it with to_pkcs8")


def _entry(algorithm: SignatureAlgorithm | str) -> SignatureAlgorithm:
    return signature_algorithm(algorithm) if isinstance(algorithm, str) else algorithm


def _passphrase(passphrase: bytes | str | None) -> bytes | None:
    if passphrase is None:
        return None
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not secret:
        raise ConfigurationError("the passphrase is empty", hint="leave it out to store in clear")
    return secret


def _open(data: bytes, passphrase: bytes | None) -> tuple[bytes, bytes | None]:
    """Take off PEM and our own encryption.

    Returns:
        What is left, and the passphrase if it is still needed.
    """
    clear = pkcs8.unarmour(data, "PRIVATE KEY")
    if clear is not None:
        if passphrase is not None:
            raise ConfigurationError(_NOT_ENCRYPTED)
        return clear, None
    content = pkcs8.unarmour(data, "ENCRYPTED PRIVATE KEY") or data
    if passphrase is None:
        return content, None
    if pkcs8.is_clear(content):
        raise ConfigurationError(_NOT_ENCRYPTED)
    plain = pkcs8.decrypt(content, passphrase)
    return (content, passphrase) if plain is None else (plain, None)


def _check_expanded(key: PrivateKey, expanded: bytes | None) -> None:
    """Refuse an ML-DSA key whose seed and expanded form disagree (RFC 9881 8).

    The expanded key begins with rho, which begins the public key, and has its hash tr after K.
    """
    if expanded is None:
        return
    public = cast(mldsa.MLDSA65PublicKey, key.public_key.handle).public_bytes_raw()
    tr = hashlib.shake_256(public).digest(64)
    if expanded[:32] != public[:32] or expanded[64:128] != tr:
        raise ConfigurationError("seed and expanded key of the ML-DSA key do not belong together")


def _load_pyca(data: bytes, passphrase: bytes | None) -> PycaPrivate:
    load = (
        serialization.load_pem_private_key
        if data.lstrip().startswith(b"-----BEGIN")
        else serialization.load_der_private_key
    )
    try:
        handle = load(data, passphrase)
    except TypeError:  # what cryptography raises for both of these
        raise ConfigurationError(_ENCRYPTED if passphrase is None else _NOT_ENCRYPTED) from None
    except PYCA_ERRORS as error:
        what = "wrong passphrase, or not a private key" if passphrase else "not a private key"
        raise ConfigurationError(f"{what}: {error}") from None
    if not isinstance(handle, _PRIVATE_TYPES):
        raise ConfigurationError(f"{type(handle).__name__} does not sign")
    return handle


_ENCRYPTED = "the private key is encrypted and there is no passphrase"
_NOT_ENCRYPTED = "there is a passphrase, and the private key is not encrypted"
_PRIVATE_TYPES = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    mldsa.MLDSA44PrivateKey,
    mldsa.MLDSA65PrivateKey,
    mldsa.MLDSA87PrivateKey,
)
_GENERATORS: dict[str, Callable[[], PycaPrivate]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
_FROM_SEED: dict[str, tuple[int, Callable[[bytes], PycaPrivate]]] = {
    "ed25519": (32, ed25519.Ed25519PrivateKey.from_private_bytes),
    "ed448": (57, ed448.Ed448PrivateKey.from_private_bytes),
    "ml-dsa-44": (32, mldsa.MLDSA44PrivateKey.from_seed_bytes),
    "ml-dsa-65": (32, mldsa.MLDSA65PrivateKey.from_seed_bytes),
    "ml-dsa-87": (32, mldsa.MLDSA87PrivateKey.from_seed_bytes),
}
