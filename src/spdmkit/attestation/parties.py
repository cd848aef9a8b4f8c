"""Whose evidence it says it is, and with which algorithms it was made: read, not verified."""

from __future__ import annotations

from spdmkit.attestation.conversation import Negotiated, hash_for_key, read_negotiation
from spdmkit.attestation.evidence import PROVISIONED_KEY, Evidence
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_HASH, HashAlgorithm
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import CertificateChain
from spdmkit.identity.chain import MAX_SMALL_CHAIN

__all__ = ["read_parties"]


def read_parties(
    evidence: Evidence,
    *,
    public_key: PublicKey | None = None,
    known: CertificateChain | None = None,
) -> tuple[CertificateChain | None, Negotiated]:
    """The chain that is said to have signed, and what was negotiated.

    Args:
        evidence: to be read.
        public_key: the provisioned key, for slot 255; by default the one that the evidence holds.
        known: the chain, when it was read before; it counts if its bytes are the same.

    Returns:
        The chain, or None with a provisioned key; and what was negotiated, or what is assumed where
        the messages are not at hand.

    Raises:
        DecodeError: the chain, the key or the negotiation is malformed or missing.
        AuthenticationError: the negotiation contradicts itself, or SPDM cannot use such a key.
    """
    if evidence.slot == PROVISIONED_KEY:
        return None, _assumed(evidence, public_key or _own_key(evidence))
    if evidence.vca:
        negotiated = read_negotiation(evidence)
        if known is not None and known.raw == evidence.chain:
            return known, negotiated
        return _chain(evidence, negotiated.selection.base_hash), negotiated
    # Without VCA nothing says which hash RootHash was made with: the one that fits.
    problem: DecodeError | None = None
    for algorithm in BASE_HASH:
        try:
            chain = _chain(evidence, algorithm)
            key = PublicKey.from_spki(chain.leaf.spki)
        except DecodeError as error:
            problem = problem or error
            continue
        return chain, _assumed(evidence, key)
    raise problem or DecodeError("evidence", "chain", 0, "cannot be read")


def _own_key(evidence: Evidence) -> PublicKey:
    if not evidence.public_key:
        raise DecodeError("evidence", "public_key", 0, "is missing")
    return PublicKey.from_spki(evidence.public_key)


def _chain(evidence: Evidence, algorithm: HashAlgorithm) -> CertificateChain:
    if evidence.chain:
        large = len(evidence.chain) > MAX_SMALL_CHAIN
        return CertificateChain.parse(evidence.chain, algorithm, large)
    try:
        return CertificateChain.from_certificates(evidence.certificates, algorithm)
    except ConfigurationError as error:
        raise DecodeError("evidence", "certificates", 0, str(error)) from error


def _assumed(evidence: Evidence, key: PublicKey) -> Negotiated:
    """What was negotiated; where nothing says so, what usually goes with the key."""
    names = [entry.short for entry in key.algorithms]
    if not names:
        raise AuthenticationError("signature", f"SPDM has no algorithm for {key.key_type} keys")
    return read_negotiation(evidence, hash_name=hash_for_key(key.key_type), signature_name=names[0])
