"""Chains for the protocol's tests: root, intermediate, leaf."""

from __future__ import annotations

from spdmkit.crypto.keys import PrivateKey
from spdmkit.identity.issue import Authority, Issuance, Profile
from spdmkit.messages import CertificateModel


def make_key(algorithm: str, seed: bytes) -> PrivateKey:
    """The same key each time where that is possible; RSA keys are fresh."""
    if algorithm.startswith("rsa"):
        return PrivateKey.generate(algorithm)
    return PrivateKey.from_seed(algorithm, seed)


def make_chain(
    algorithm: str, seed: bytes = b"device", *, requester: bool = False
) -> tuple[PrivateKey, tuple[bytes, ...]]:
    """A leaf's key, and its chain in DER, root first."""
    # Signed by RFC 6979, so that two processes make the same certificates from the same seed.
    number = Issuance(serial_number=1)
    root = Authority.root(
        "CN=Test Root",
        make_key(algorithm, seed + b" root"),
        deterministic=True,
        issuance=number,
    )
    middle = root.subordinate(
        "CN=Test Intermediate",
        make_key(algorithm, seed + b" middle"),
        deterministic=True,
        issuance=number,
    )
    key = make_key(algorithm, seed + b" leaf")
    profile = Profile.leaf(
        CertificateModel.DEVICE, "ACME:Widget:0001", responder=not requester, requester=requester
    )
    leaf = middle.issue("CN=Test Device", key.public_key, profile, number)
    return key, (root.certificate.der, middle.certificate.der, leaf.der)
