"""COSE_Sign1 (RFC 9052 4.2), as signed CoRIM, EAR as CWT and our evidence files use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from spdmkit.attestation import cbor
from spdmkit.crypto.documents import (
    algorithm_by_cose,
    algorithm_for,
    sign_document,
    verify_document,
)
from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.errors import AuthenticationError, DecodeError

__all__ = ["ALG", "CONTENT_TYPE", "CRIT", "KID", "SIGN1_TAG", "X5CHAIN", "Sign1", "make_sign1"]

SIGN1_TAG: Final = 18

# Header parameters (IANA COSE Header Parameters)
ALG: Final = 1
CRIT: Final = 2
CONTENT_TYPE: Final = 3
KID: Final = 4
X5CHAIN: Final = 33

_MAX_CERTIFICATES = 16


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1 message, read but not verified.

    Attributes:
        protected: the protected header.
        unprotected: the unprotected header.
        payload: what is signed; None when it is detached.
        signature: the signature.
        protected_bytes: the protected header as it came; the signature covers these bytes.
    """

    protected: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes | None
    signature: bytes
    protected_bytes: bytes

    @classmethod
    def read(cls, item: object, *, what: str, understood: frozenset[int] = frozenset()) -> Sign1:
        """Take apart a decoded COSE_Sign1, tagged (18) or not.

        Args:
            item: what `cbor.decode` gave.
            what: what to call it in errors.
            understood: header parameters that the caller processes besides those named here;
                they may be listed as critical.

        Raises:
            DecodeError: not a COSE_Sign1, or it has a critical parameter that nobody here knows.
        """
        if isinstance(item, cbor.Tag) and item.tag == SIGN1_TAG:
            item = item.value
        if not isinstance(item, list | tuple) or len(item) != 4:
            raise DecodeError(what, "COSE_Sign1", 0, "not an array of four")
        protected_bytes, unprotected, payload, signature = item
        if not isinstance(protected_bytes, bytes) or not isinstance(signature, bytes):
            raise DecodeError(
                what, "COSE_Sign1", 0, "protected header or signature is no byte string"
            )
        if not isinstance(unprotected, Mapping):
            raise DecodeError(what, "COSE_Sign1", 0, "unprotected header is no map")
        if payload is not None and not isinstance(payload, bytes):
            raise DecodeError(what, "COSE_Sign1", 0, "payload is no byte string")
        protected: object = {}
        if protected_bytes:
            protected = cbor.decode(protected_bytes, what=what, limit=1 << 20)
        if not isinstance(protected, Mapping):
            raise DecodeError(what, "COSE_Sign1", 0, "protected header is no map")
        if set(protected) & set(unprotected):
            raise DecodeError(what, "COSE_Sign1", 0, "a parameter stands in both headers")
        known = {ALG, CRIT, CONTENT_TYPE, KID, X5CHAIN} | understood
        critical = protected.get(CRIT, ())
        if not isinstance(critical, list | tuple) or any(label not in known for label in critical):
            raise DecodeError(
                what, "COSE_Sign1", 0, "a critical header parameter is not understood"
            )
        return cls(protected, unprotected, payload, signature, protected_bytes)

    def certificates(self, *, what: str) -> tuple[bytes, ...]:
        """The certificates of x5chain, signer first, in DER; empty when there is none.

        They may stand in either header: nothing is trusted but what they chain to.

        Raises:
            DecodeError: x5chain is not one certificate or an array of them.
        """
        chain = self.protected.get(X5CHAIN, self.unprotected.get(X5CHAIN, ()))
        if isinstance(chain, bytes):
            return (chain,)
        if not isinstance(chain, list | tuple) or len(chain) > _MAX_CERTIFICATES:
            raise DecodeError(what, "x5chain", 0, "neither a certificate nor an array of them")
        if not all(isinstance(entry, bytes) for entry in chain):
            raise DecodeError(what, "x5chain", 0, "an entry is no byte string")
        return tuple(chain)

    def verify(self, key: PublicKey, *, payload: bytes | None = None) -> str:
        """Verify the signature by a key that is trusted already.

        Args:
            key: the key; it decides which algorithms are possible.
            payload: the bytes that were signed when the message does not hold them.

        Returns:
            Name of the algorithm.

        Raises:
            AuthenticationError: wrong algorithm, no payload or two, or a wrong signature.
        """
        algorithm = algorithm_by_cose(self.protected.get(ALG))
        if algorithm is None:
            raise AuthenticationError(
                "signature", f"algorithm {self.protected.get(ALG)!r} is not accepted"
            )
        if (payload is None) == (self.payload is None):
            raise AuthenticationError("signature", "exactly one payload is needed")
        signed = self.payload if payload is None else payload
        to_be_signed = _signature_structure(self.protected_bytes, signed or b"")
        verify_document(key, algorithm, to_be_signed, self.signature)
        return algorithm.name


def make_sign1(
    key: PrivateKey,
    payload: bytes,
    *,
    protected: Mapping[int, Any] | None = None,
    unprotected: Mapping[int, Any] | None = None,
    detached: bool = False,
) -> cbor.Tag:
    """Sign a payload.

    Args:
        key: decides the algorithm.
        payload: the bytes to sign.
        protected: further protected header parameters; `ALG` is added.
        unprotected: unprotected header parameters.
        detached: leave the payload out of the result.

    Returns:
        COSE_Sign1 under its tag, for `cbor.encode`.

    Raises:
        UnsupportedAlgorithm: COSE has no algorithm for the key.
    """
    header = {ALG: algorithm_for(key).cose, **(protected or {})}
    header_bytes = cbor.encode(header)
    signature = sign_document(key, _signature_structure(header_bytes, payload))
    shown = None if detached else payload
    return cbor.Tag(SIGN1_TAG, [header_bytes, dict(unprotected or {}), shown, signature])


def _signature_structure(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure of RFC 9052 4.4, without external data."""
    return cbor.encode(["Signature1", protected, b"", payload])
