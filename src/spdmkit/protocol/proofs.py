"""What a peer's signatures verify with: a verified chain, or a key that was provisioned to us."""

from __future__ import annotations

from typing import TypeAlias

from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.identity import TrustedPublicKey, VerifiedChain
from spdmkit.protocol.session import PeerProof

__all__ = ["ProvenKey", "identity_of", "key_digest"]

ProvenKey: TypeAlias = VerifiedChain | TrustedPublicKey
"""A public key we have reason to believe in; only `identity` makes one."""


def key_digest(proven: ProvenKey, algorithm: HashAlgorithm) -> bytes:
    """What stands for the key in transcripts and in CertChainHash.

    The hash of the whole certificate chain structure, or of the DER SubjectPublicKeyInfo of a
    provisioned key (DSP0274, transcripts).
    """
    if isinstance(proven, VerifiedChain):
        return proven.chain.digest(algorithm)
    return algorithm.digest(proven.public_key.spki())


def identity_of(proven: ProvenKey) -> PeerProof:
    """Who holds the key, for the device's decisions and for reports."""
    if isinstance(proven, VerifiedChain):
        return PeerProof("certificate", proven.identity.subject)
    return PeerProof("public-key", f"spki-sha256:{proven.public_key.spki_sha256().hex()}")
