"""Sample keys of libspdm, by the emulator's names of algorithms, as our objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.crypto.signing import LocalSigner
from spdmkit.identity import (
    ChainPolicy,
    KeyPurposeRule,
    Purpose,
    TrustAnchors,
    load_certificates,
)
from spdmkit.messages import V14, Context, Registry
from spdmkit.messages.endpoint_info import (
    DeviceClassIdentifier,
    DeviceClassList,
    EndpointInfoSubCode,
    SubordinateIdentifier,
)
from spdmkit.protocol.credentials import Credentials, ProvisionedKey, Slot

__all__ = [
    "PSK",
    "PSK_HINT",
    "anchors",
    "believed",
    "chain",
    "chain_policy",
    "credentials",
    "folder_of",
    "private_key",
    "public_key",
    "root",
]

PSK_HINT = b"TestPskHint\0"
PSK = b"TestPskData\0"
"""The emulator's pre-shared key; twelve bytes, where DSP0274 10.18 wants sixteen at least."""

_CONTEXT = Context(version=V14)
_DEVICE_CLASS = DeviceClassList(
    identifiers=[
        DeviceClassIdentifier(
            registry=Registry.PCI_SIG,
            vendor_id=b"\xb4\x1a",
            subordinate_ids=[SubordinateIdentifier(identifier=bytes(5))],
        )
    ]
)
"""What we say of ourselves when the responder asks. Its length makes ENDPOINT_INFO a multiple of
four: the emulator does not expect the padding of DOE."""

_FOLDERS = {
    "ECDSA_P256": "ecp256",
    "ECDSA_P384": "ecp384",
    "ECDSA_P521": "ecp521",
    "EDDSA_25519": "ed25519",
    "EDDSA_448": "ed448",
    "SM2_P256": "sm2",
}
_ROOTS = {0: "ca.cert.der", 1: "ca1.cert.der", 4: "ca.cert.der"}
_CHAINS = {0: "certchain.der", 1: "certchain1.der", 4: "certchain4.der"}
_KEYS = {0: "", 1: "", 4: "4"}
"""Slots that the emulator fills, and what distinguishes their files; 0 and 1 share a key."""


def folder_of(algorithm: str) -> str:
    """The folder of sample keys for an algorithm ("RSAPSS_3072" -> "rsa3072")."""
    if algorithm in _FOLDERS:
        return _FOLDERS[algorithm]
    if algorithm.startswith("RSA"):
        return "rsa" + algorithm[-4:]
    if algorithm.startswith("ML_DSA"):
        return algorithm.replace("_", "").lower()
    return algorithm.replace("_", "-").lower()


def anchors(keys: Path, algorithm: str, purpose: Purpose, slot: int = 0) -> TrustAnchors:
    """The root of a slot's chain; it is the same for both roles."""
    return TrustAnchors([root(keys, algorithm, slot)], purpose)


def root(keys: Path, algorithm: str, slot: int = 0) -> bytes:
    """The root of a slot's chain, DER."""
    return (keys / folder_of(algorithm) / _ROOTS[slot]).read_bytes()


def chain(keys: Path, algorithm: str, role: str, slot: int = 0) -> tuple[bytes, ...]:
    """The certificates that a role has in a slot, DER, root first."""
    bundle = (keys / folder_of(algorithm) / f"bundle_{role}.{_CHAINS[slot]}").read_bytes()
    return tuple(each.der for each in load_certificates(bundle))


def chain_policy(version: int) -> ChainPolicy:
    """The rules of a version, without the one that the sample leaves break.

    Their key purposes are those of TLS and OCSP, which DSP0274 10.9.2.1 gives no meaning.
    """
    policy = ChainPolicy.for_version(version)
    return replace(policy, key_purpose=KeyPurposeRule.NOT_THE_OTHER_ROLE)


def credentials(
    keys: Path, algorithm: str, role: str, *, slots: tuple[int, ...] = (0,), key_only: bool = False
) -> Credentials:
    """The identity that the emulator has in a role, for us to take instead of it.

    Args:
        keys: folder of the sample keys' folders.
        algorithm: the emulator's name of the signature algorithm.
        role: "responder" or "requester".
        slots: which slots to fill.
        key_only: no chains, the leaf's key is provisioned (PUB_KEY_ID_CAP).
    """
    if key_only:
        signer = LocalSigner(private_key(keys, algorithm, role))
        return Credentials(provisioned_key=ProvisionedKey(signer, signer.public_key))
    filled = [
        Slot(
            slot,
            chain(keys, algorithm, role, slot),
            LocalSigner(private_key(keys, algorithm, role, slot)),
            key_pair_id=position,
        )
        for position, slot in enumerate(slots, 1)
    ]
    info = {int(EndpointInfoSubCode.DEVICE_CLASS_IDENTIFIER): _DEVICE_CLASS.encode(_CONTEXT)}
    return Credentials(filled, supported=range(8), endpoint_info=info)


def public_key(keys: Path, algorithm: str, role: str) -> PublicKey:
    """The public key of a role's leaf."""
    return private_key(keys, algorithm, role).public_key


def private_key(keys: Path, algorithm: str, role: str, slot: int = 0) -> PrivateKey:
    """The private key of a role's leaf in a slot."""
    path = keys / folder_of(algorithm) / f"end_{role}{_KEYS[slot]}.key"
    return PrivateKey.load(path.read_bytes())


def believed(keys: Path, asym: str, req_asym: str) -> tuple[list[bytes], list[PublicKey]]:
    """All roots and leaf keys of a case, for whoever judges its record."""
    roots = {root(keys, name, slot) for name in (asym, req_asym) for slot in _ROOTS}
    leaves = [public_key(keys, asym, "responder"), public_key(keys, req_asym, "requester")]
    return sorted(roots), leaves
