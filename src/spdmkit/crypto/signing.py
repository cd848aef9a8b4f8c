"""SPDMsign and SPDMsignatureVerify (DSP0274 clauses 15 and 16).

Both take the digest of the transcript, by the negotiated base hash. In SPDM 1.0 and 1.1 the
algorithm signs that digest as it is. From 1.2 on it signs M = combined_spdm_prefix || digest with
its own hashing: RSA and ECDSA with the base hash, EdDSA, ML-DSA and SLH-DSA with their own.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, cast

from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as PycaUnsupported
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from spdmkit.crypto.availability import GMSSL, PQCRYPTO, PYCRYPTODOME
from spdmkit.crypto.rawkeys import (
    SM2_A,
    SM2_B,
    SM2_G,
    SM2_N,
    RawPrivate,
    RawPublic,
    slh_dsa_module,
)
from spdmkit.crypto.registry import (
    BASE_ASYM,
    BASE_HASH,
    PQC_ASYM,
    RAW_BIT_STREAM,
    SignatureAlgorithm,
    SignatureFamily,
)
from spdmkit.errors import AuthenticationError, UnsupportedAlgorithm

if TYPE_CHECKING:
    from spdmkit.crypto.hashes import HashAlgorithm, Octets
    from spdmkit.crypto.keys import PrivateKey, PublicKey

__all__ = [
    "LocalSigner",
    "Signer",
    "SigningContext",
    "combined_prefix",
    "sign",
    "sign_certificate",
    "verify",
    "verify_certificate",
]


class SigningContext(enum.Enum):
    """What is signed and by whom: spdm_context (DSP0274 15)."""

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    RESPONDER_CHALLENGE_AUTH = "responder-challenge_auth signing"
    REQUESTER_CHALLENGE_AUTH = "requester-challenge_auth signing"
    RESPONDER_MEASUREMENTS = "responder-measurements signing"
    RESPONDER_KEY_EXCHANGE_RSP = "responder-key_exchange_rsp signing"
    REQUESTER_FINISH = "requester-finish signing"
    RESPONDER_ENDPOINT_INFO = "responder-endpoint_info signing"
    REQUESTER_ENDPOINT_INFO = "requester-endpoint_info signing"


_PREFIX_SIZE = 100
_FIRST_PREFIXED = 0x12  # SPDM 1.2


@functools.cache
def combined_prefix(version: int, context: SigningContext) -> bytes:
    """combined_spdm_prefix, 100 bytes (DSP0274 15).

    Args:
        version: the negotiated SPDM version byte, 0x12 or later.
        context: what is signed and by whom.

    Raises:
        ValueError: the version has no prefix.
    """
    if not _FIRST_PREFIXED <= version <= 0x19:
        raise ValueError(f"SPDM version byte 0x{version:02x} has no signing prefix")
    spdm_prefix = f"dmtf-spdm-v1.{version & 0x0F}.*".encode() * 4
    spdm_context = context.value.encode()
    return spdm_prefix + spdm_context.rjust(_PREFIX_SIZE - len(spdm_prefix), b"\x00")


class _Input(NamedTuple):
    """What a signature is over."""

    message: bytes  # M, or the digest when it is already hashed
    prehashed: bool
    context: bytes  # spdm_context, for the algorithms that have a context of their own
    hash: HashAlgorithm


def _input(
    algorithm: SignatureAlgorithm,
    version: int,
    context: SigningContext,
    hash_algorithm: HashAlgorithm,
    digest: Octets,
) -> _Input:
    if len(digest) != hash_algorithm.size:
        raise ValueError(f"{len(digest)} bytes are no {hash_algorithm.name} digest")
    if algorithm.since > version:
        needed = f"SPDM 1.{algorithm.since & 0x0F}"
        raise UnsupportedAlgorithm(
            algorithm.name, hint=f"it needs {needed}; the connection is 1.{version & 0x0F}"
        )
    if version < _FIRST_PREFIXED:
        return _Input(bytes(digest), True, b"", hash_algorithm)
    prefix = combined_prefix(version, context)
    return _Input(prefix + digest, False, context.value.encode(), hash_algorithm)


def verify(
    algorithm: SignatureAlgorithm,
    public_key: PublicKey,
    signature: Octets,
    *,
    version: int,
    context: SigningContext,
    hash: HashAlgorithm,  # noqa: A002 - the specification's word, agreed between packages
    digest: Octets,
) -> None:
    """SPDMsignatureVerify (DSP0274 16): returns if the signature holds.

    Args:
        algorithm: as negotiated (BaseAsymSel or PqcAsymSel, or the requester's).
        public_key: the signer's.
        signature: as it stands in the message.
        version: the negotiated SPDM version byte.
        context: what is signed and by whom; SPDM 1.0 and 1.1 do not use it.
        hash: the negotiated base hash.
        digest: digest of the transcript by `hash`.

    Raises:
        AuthenticationError: step "signature": the key is of another type than the algorithm takes,
            the signature has another length or values out of range, or it does not hold.
        UnsupportedAlgorithm: no library here has the algorithm, or the version does not.
        ValueError: the digest is not one of `hash`.
    """
    if public_key.key_type != algorithm.key_type:
        _reject(f"the key is {public_key.key_type}, {algorithm.name} takes {algorithm.key_type}")
    if len(signature) != algorithm.signature_size:
        _reject(
            f"{len(signature)} bytes, {algorithm.name} has {algorithm.signature_size}",
        )
    algorithm.require()
    signed = _input(algorithm, version, context, hash, digest)
    try:
        _FAMILIES[algorithm.family].verify(public_key, bytes(signature), signed)
    except (InvalidSignature, ValueError):
        _reject(f"the {algorithm.name} signature ({context.value}) does not hold")
    except PycaUnsupported as error:
        raise UnsupportedAlgorithm(f"{algorithm.name} with {hash.name}", hint=str(error)) from error


def sign(
    algorithm: SignatureAlgorithm,
    private_key: PrivateKey,
    *,
    version: int,
    context: SigningContext,
    hash: HashAlgorithm,  # noqa: A002 - the specification's word, agreed between packages
    digest: Octets,
) -> bytes:
    """SPDMsign (DSP0274 15): the signature as it goes into the message.

    Args:
        algorithm: as negotiated.
        private_key: ours.
        version: the negotiated SPDM version byte.
        context: what is signed and by whom; SPDM 1.0 and 1.1 do not use it.
        hash: the negotiated base hash.
        digest: digest of the transcript by `hash`.

    Raises:
        UnsupportedAlgorithm: no library here has the algorithm, or the version does not.
        ValueError: the key is of another type than the algorithm takes, or the digest is not one
            of `hash`.
    """
    if private_key.key_type != algorithm.key_type:
        raise ValueError(f"a {private_key.key_type} key does not sign {algorithm.name}")
    algorithm.require()
    signed = _input(algorithm, version, context, hash, digest)
    try:
        return _FAMILIES[algorithm.family].sign(private_key, signed)
    except PycaUnsupported as error:
        raise UnsupportedAlgorithm(f"{algorithm.name} with {hash.name}", hint=str(error)) from error


def _reject(reason: str) -> NoReturn:
    raise AuthenticationError("signature", reason) from None


# --- RSA -----------------------------------------------------------------------------------------

_PYCA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
    "sm3-256": hashes.SM3(),
}
_PKCS1 = padding.PKCS1v15()


@functools.cache
def _hash_argument(name: str, prehashed: bool) -> hashes.HashAlgorithm | Prehashed:
    return Prehashed(_PYCA_HASHES[name]) if prehashed else _PYCA_HASHES[name]


@functools.cache
def _pss(name: str) -> padding.PSS:
    """PSS with a salt as long as the hash (15.2), and MGF1 with the same hash."""
    algorithm = _PYCA_HASHES[name]
    return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)


def _verify_rsa(
    scheme: padding.AsymmetricPadding, key: PublicKey, s: bytes, signed: _Input
) -> None:
    handle = cast(rsa.RSAPublicKey, key.handle)
    handle.verify(s, signed.message, scheme, _hash_argument(signed.hash.short, signed.prehashed))


def _sign_rsa(scheme: padding.AsymmetricPadding, key: PrivateKey, signed: _Input) -> bytes:
    handle = cast(rsa.RSAPrivateKey, key.handle)
    return handle.sign(signed.message, scheme, _hash_argument(signed.hash.short, signed.prehashed))


def _verify_rsassa(key: PublicKey, signature: bytes, signed: _Input) -> None:
    _verify_rsa(_PKCS1, key, signature, signed)


def _sign_rsassa(key: PrivateKey, signed: _Input) -> bytes:
    return _sign_rsa(_PKCS1, key, signed)


def _verify_rsapss(key: PublicKey, signature: bytes, signed: _Input) -> None:
    _verify_rsa(_pss(signed.hash.short), key, signature, signed)


def _sign_rsapss(key: PrivateKey, signed: _Input) -> bytes:
    return _sign_rsa(_pss(signed.hash.short), key, signed)


# --- ECDSA and SM2: r || s, each as long as the curve's field, big endian (2.2.3.4) --------------

_ORDERS = {
    "ec-p256": ec.SECP256R1().group_order,
    "ec-p384": ec.SECP384R1().group_order,
    "ec-p521": ec.SECP521R1().group_order,
    "sm2": SM2_N,
}


@functools.cache
def _ecdsa(name: str, prehashed: bool) -> ec.ECDSA:
    return ec.ECDSA(_hash_argument(name, prehashed))


def _split(signature: bytes, key_type: str) -> bytes:
    """The signature in DER, as the libraries take it."""
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    order = _ORDERS[key_type]
    if not (0 < r < order and 0 < s < order):
        _reject("r or s is not between 1 and the curve's order")
    return encode_dss_signature(r, s)


def _join(encoded: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(encoded)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _verify_ecdsa(key: PublicKey, signature: bytes, signed: _Input) -> None:
    handle = cast(ec.EllipticCurvePublicKey, key.handle)
    handle.verify(
        _split(signature, key.key_type),
        signed.message,
        _ecdsa(signed.hash.short, signed.prehashed),
    )


def _sign_ecdsa(key: PrivateKey, signed: _Input) -> bytes:
    handle = cast(ec.EllipticCurvePrivateKey, key.handle)
    encoded = handle.sign(signed.message, _ecdsa(signed.hash.short, signed.prehashed))
    return _join(encoded, (handle.key_size + 7) // 8)


def _sm2_digest(public: bytes, identity: bytes, algorithm: HashAlgorithm, message: Octets) -> bytes:
    """The e of GB/T 32918.2 as 32 bytes: H(Z || M), reduced by the order.

    Z and e are by the negotiated hash (15.4), which need not be SM3; e enters sums modulo the
    order alone, so reducing it first changes nothing and makes any hash fit.
    """
    z = algorithm.new()
    z.update((8 * len(identity)).to_bytes(2, "big") + identity)
    z.update(SM2_A.to_bytes(32, "big") + SM2_B.to_bytes(32, "big") + SM2_G + public)
    e = int.from_bytes(algorithm.digest(z.digest() + message), "big")
    return (e % SM2_N).to_bytes(32, "big")


_SPDM_SM2_ID = b""  # "an empty string of size 0" (15.4)


def _verify_sm2(key: PublicKey, signature: bytes, signed: _Input) -> None:
    public = cast(RawPublic, key.handle).raw
    digest = _sm2_digest(public, _SPDM_SM2_ID, signed.hash, signed.message)
    if not GMSSL.load().sm2_verify_sm3_digest(public, digest, _split(signature, key.key_type)):
        raise InvalidSignature


def _sign_sm2(key: PrivateKey, signed: _Input) -> bytes:
    handle = cast(RawPrivate, key.handle)
    digest = _sm2_digest(handle.raw_public, _SPDM_SM2_ID, signed.hash, signed.message)
    return _join(GMSSL.load().sm2_sign_sm3_digest(handle.raw, digest), 32)


# --- EdDSA: Ed25519 has no context, Ed448 takes spdm_context (15.3) ------------------------------


def _verify_eddsa(key: PublicKey, signature: bytes, signed: _Input) -> None:
    if key.key_type == "ed25519":
        cast(ed25519.Ed25519PublicKey, key.handle).verify(signature, signed.message)
        return
    try:
        if key.context_handle is None:  # ValueError if it is no point of the curve
            raw = cast(ed448.Ed448PublicKey, key.handle).public_bytes_raw()
            key.context_handle = _eddsa().import_public_key(raw)
        _ed448(key.context_handle, signed).verify(signed.message, signature)
    except ValueError:
        raise InvalidSignature from None


def _sign_eddsa(key: PrivateKey, signed: _Input) -> bytes:
    if key.key_type == "ed25519":
        return cast(ed25519.Ed25519PrivateKey, key.handle).sign(signed.message)
    if key.context_handle is None:
        raw = cast(ed448.Ed448PrivateKey, key.handle).private_bytes_raw()
        key.context_handle = _eddsa().import_private_key(raw)
    return bytes(_ed448(key.context_handle, signed).sign(signed.message))


def _eddsa() -> Any:
    return PYCRYPTODOME.load("Signature.eddsa")


def _ed448(handle: object, signed: _Input) -> Any:
    return _eddsa().new(handle, "rfc8032", context=signed.context)


# --- post-quantum: pure variants with spdm_context as ctx (15.5, 15.6) ---------------------------


def _verify_ml_dsa(key: PublicKey, signature: bytes, signed: _Input) -> None:
    cast(mldsa.MLDSA65PublicKey, key.handle).verify(signature, signed.message, signed.context)


def _sign_ml_dsa(key: PrivateKey, signed: _Input) -> bytes:
    return cast(mldsa.MLDSA65PrivateKey, key.handle).sign(signed.message, signed.context)


def _verify_slh_dsa(key: PublicKey, signature: bytes, signed: _Input) -> None:
    module = slh_dsa_module(key.key_type)
    raw = cast(RawPublic, key.handle).raw
    try:
        module.verify(raw, signed.message, signature, signed.context)
    except _invalid_signature_error():
        raise InvalidSignature from None


def _sign_slh_dsa(key: PrivateKey, signed: _Input) -> bytes:
    module = slh_dsa_module(key.key_type)
    raw = cast(RawPrivate, key.handle).raw
    return bytes(module.sign(raw, signed.message, signed.context))


def _invalid_signature_error() -> type[Exception]:
    return cast(type[Exception], PQCRYPTO.load().InvalidSignatureError)


class _Family(NamedTuple):
    verify: Callable[[PublicKey, bytes, _Input], None]
    sign: Callable[[PrivateKey, _Input], bytes]


_FAMILIES: dict[SignatureFamily, _Family] = {
    SignatureFamily.RSASSA: _Family(_verify_rsassa, _sign_rsassa),
    SignatureFamily.RSAPSS: _Family(_verify_rsapss, _sign_rsapss),
    SignatureFamily.ECDSA: _Family(_verify_ecdsa, _sign_ecdsa),
    SignatureFamily.SM2: _Family(_verify_sm2, _sign_sm2),
    SignatureFamily.EDDSA: _Family(_verify_eddsa, _sign_eddsa),
    SignatureFamily.ML_DSA: _Family(_verify_ml_dsa, _sign_ml_dsa),
    SignatureFamily.SLH_DSA: _Family(_verify_slh_dsa, _sign_slh_dsa),
}

# --- certificates of the keys that cryptography does not know ------------------------------------

#: Identities that signers of SM2 certificates use: none, as OpenSSL does unless told otherwise and
#: libspdm's samples show, and the one of GM/T 0009 and RFC 8998. DSP0274 names none.
_CERTIFICATE_SM2_IDS = (b"", b"1234567812345678")


def verify_certificate(public_key: PublicKey, signature: bytes, signed: bytes) -> None:
    """Verify the signature of a certificate, CRL or CSR made with an SLH-DSA or SM2 key.

    cryptography does this for every other key.

    Args:
        public_key: the issuer's.
        signature: content of signatureValue: SLH-DSA without context (RFC 9909), or the DER of an
            SM2 signature with SM3 and either usual identity.
        signed: DER of what was signed (TBSCertificate and its like).

    Raises:
        AuthenticationError: step "signature": it does not hold.
        UnsupportedAlgorithm: the package for the key is not installed, or the key is of a type
            that is cryptography's to verify.
    """
    algorithm = _certificate_algorithm(public_key.key_type)
    raw = cast(RawPublic, public_key.handle).raw
    try:
        if algorithm.family is SignatureFamily.SLH_DSA:
            whole = _Input(signed, False, b"", RAW_BIT_STREAM)
            _verify_slh_dsa(public_key, signature, whole)
            return
        strict = _split(_join(signature, 32), "sm2")
        for identity in _CERTIFICATE_SM2_IDS:
            digest = _sm2_digest(raw, identity, _SM3, signed)
            if GMSSL.load().sm2_verify_sm3_digest(raw, digest, strict):
                return
    except (InvalidSignature, ValueError, OverflowError):
        pass
    _reject(f"the {algorithm.name} signature does not hold")


def sign_certificate(private_key: PrivateKey, to_sign: bytes) -> bytes:
    """Sign a certificate, CRL or CSR with an SLH-DSA or SM2 key; see `verify_certificate`.

    SM2 signs with an empty identity, as in SPDM itself.

    Raises:
        UnsupportedAlgorithm: the package for the key is not installed, or the key is of a type
            that is cryptography's to sign with.
    """
    algorithm = _certificate_algorithm(private_key.key_type)
    if algorithm.family is SignatureFamily.SLH_DSA:
        return _sign_slh_dsa(private_key, _Input(to_sign, False, b"", RAW_BIT_STREAM))
    handle = cast(RawPrivate, private_key.handle)
    digest = _sm2_digest(handle.raw_public, _SPDM_SM2_ID, _SM3, to_sign)
    return bytes(GMSSL.load().sm2_sign_sm3_digest(handle.raw, digest))


_SM3 = BASE_HASH.by_name("sm3-256")


def _certificate_algorithm(key_type: str) -> SignatureAlgorithm:
    for table in (PQC_ASYM, BASE_ASYM):
        for entry in table:
            if entry.key_type == key_type and entry.family in _RAW_FAMILIES:
                entry.require()
                return entry
    raise UnsupportedAlgorithm(f"a {key_type} key for this", hint="cryptography signs with it")


_RAW_FAMILIES = frozenset({SignatureFamily.SLH_DSA, SignatureFamily.SM2})

# --- whoever signs -------------------------------------------------------------------------------


class Signer(Protocol):
    """Signs for an endpoint: a key in memory, or something that takes its time, such as an HSM."""

    @property
    def public_key(self) -> PublicKey:
        """The key signatures verify with."""
        ...

    def sign(
        self,
        algorithm: SignatureAlgorithm,
        *,
        version: int,
        context: SigningContext,
        hash: HashAlgorithm,  # noqa: A002 - the specification's word, agreed between packages
        digest: bytes,
    ) -> bytes | Awaitable[bytes]:
        """As `sign` of this module; at once, or as something to await."""
        ...


class LocalSigner:
    """Signs with a private key in memory, at once.

    Attributes:
        private_key: the key.
    """

    __slots__ = ("private_key",)

    def __init__(self, private_key: PrivateKey) -> None:
        self.private_key = private_key

    @property
    def public_key(self) -> PublicKey:
        """The key signatures verify with."""
        return self.private_key.public_key

    def sign(
        self,
        algorithm: SignatureAlgorithm,
        *,
        version: int,
        context: SigningContext,
        hash: HashAlgorithm,  # noqa: A002 - the specification's word, agreed between packages
        digest: bytes,
    ) -> bytes:
        """As `sign` of this module."""
        return sign(
            algorithm,
            self.private_key,
            version=version,
            context=context,
            hash=hash,
            digest=digest,
        )

    def __repr__(self) -> str:
        return f"<LocalSigner {self.private_key!r}>"
