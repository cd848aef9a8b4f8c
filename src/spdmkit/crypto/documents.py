"""Signatures over documents: COSE_Sign1 (RFC 9052) and JWS (RFC 7515) share these algorithms.

The key decides the algorithm, never the document: a verifier passes the key it trusts and the
algorithm the document names, and the two have to belong together. SPDM's own signatures, with
their prefix and context, are in `signing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as PycaUnsupported
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.errors import AuthenticationError, UnsupportedAlgorithm

__all__ = [
    "DOCUMENT_ALGORITHMS",
    "DocumentAlgorithm",
    "algorithm_by_cose",
    "algorithm_for",
    "sign_document",
    "verify_document",
]


@dataclass(frozen=True, slots=True, eq=False)
class DocumentAlgorithm:
    """A signature algorithm of the COSE and JOSE registries.

    Attributes:
        name: its name in JOSE ("ES384").
        cose: its number in COSE, the one that is written.
        cose_also: further numbers that mean the same for its keys (RFC 9864), accepted on reading.
        key_types: the keys it takes, as `PublicKey.key_type` names them.
        hash: the hash it signs; None where the scheme brings its own.
    """

    name: str
    cose: int
    key_types: tuple[str, ...]
    hash: Callable[[], hashes.HashAlgorithm] | None = None
    cose_also: tuple[int, ...] = ()


_RSA = ("rsa-2048", "rsa-3072", "rsa-4096")

#: Sources: RFC 9053, RFC 8230, RFC 9864, RFC 8037; ML-DSA: IANA's COSE and JOSE registries.
DOCUMENT_ALGORITHMS = (
    DocumentAlgorithm("ES256", -7, ("ec-p256",), hashes.SHA256, (-9,)),
    DocumentAlgorithm("ES384", -35, ("ec-p384",), hashes.SHA384, (-51,)),
    DocumentAlgorithm("ES512", -36, ("ec-p521",), hashes.SHA512, (-52,)),
    DocumentAlgorithm("EdDSA", -8, ("ed25519", "ed448"), None, (-19, -53)),
    DocumentAlgorithm("PS384", -38, _RSA, hashes.SHA384),
    DocumentAlgorithm("PS256", -37, _RSA, hashes.SHA256),
    DocumentAlgorithm("PS512", -39, _RSA, hashes.SHA512),
    DocumentAlgorithm("ML-DSA-44", -48, ("ml-dsa-44",)),
    DocumentAlgorithm("ML-DSA-65", -49, ("ml-dsa-65",)),
    DocumentAlgorithm("ML-DSA-87", -50, ("ml-dsa-87",)),
)


def algorithm_for(key: PublicKey | PrivateKey) -> DocumentAlgorithm:
    """The algorithm that documents are signed with by a key.

    Raises:
        UnsupportedAlgorithm: COSE and JOSE have none for it here (SM2, SLH-DSA, other curves).
    """
    for entry in DOCUMENT_ALGORITHMS:
        if key.key_type in entry.key_types:
            return entry
    raise UnsupportedAlgorithm(
        f"signing documents with a key of type {key.key_type}",
        hint="use an EC P-256, P-384 or P-521, Ed25519, Ed448, RSA or ML-DSA key",
    )


def algorithm_by_cose(number: object) -> DocumentAlgorithm | None:
    """The algorithm with a COSE number, or None."""
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    for entry in DOCUMENT_ALGORITHMS:
        if number == entry.cose or number in entry.cose_also:
            return entry
    return None


def sign_document(key: PrivateKey, message: bytes) -> bytes:
    """Sign with the key's algorithm (`algorithm_for`); ECDSA gives r then s, big endian.

    Raises:
        UnsupportedAlgorithm: the key's type has no such algorithm.
    """
    entry = algorithm_for(key)
    handle: Any = key.handle  # its type follows from key_type, which the table checked
    if isinstance(handle, ec.EllipticCurvePrivateKey) and entry.hash is not None:
        r, s = utils.decode_dss_signature(handle.sign(message, ec.ECDSA(entry.hash())))
        size = (handle.curve.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if isinstance(handle, rsa.RSAPrivateKey) and entry.hash is not None:
        return handle.sign(message, _pss(entry.hash()), entry.hash())
    signature: bytes = handle.sign(message)
    return signature


def verify_document(
    key: PublicKey, algorithm: DocumentAlgorithm, message: bytes, signature: bytes
) -> None:
    """Verify a signature over a document.

    Args:
        key: the key that is trusted.
        algorithm: what the document says it was signed with.
        message: the bytes that were signed.
        signature: ECDSA as r then s.

    Raises:
        AuthenticationError: the algorithm is not one of the key's, or the signature is wrong.
    """
    if key.key_type not in algorithm.key_types:
        raise AuthenticationError(
            "signature", f"{algorithm.name} does not go with a key of type {key.key_type}"
        )
    handle: Any = key.handle
    try:
        if isinstance(handle, ec.EllipticCurvePublicKey) and algorithm.hash is not None:
            size = (handle.curve.key_size + 7) // 8
            if len(signature) != 2 * size:
                raise InvalidSignature
            r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
            handle.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(algorithm.hash()))
        elif isinstance(handle, rsa.RSAPublicKey) and algorithm.hash is not None:
            handle.verify(signature, message, _pss(algorithm.hash()), algorithm.hash())
        else:
            handle.verify(signature, message)
    except (InvalidSignature, ValueError, PycaUnsupported):
        raise AuthenticationError(
            "signature", f"the {algorithm.name} signature does not verify"
        ) from None


def _pss(algorithm: hashes.HashAlgorithm) -> padding.PSS:
    """RFC 8230 2: MGF1 with the same hash, a salt as long as the digest."""
    return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
