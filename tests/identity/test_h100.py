"""The certificates of a real GPU (tests/data/nvidia-h100)."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.crypto.registry import signature_algorithm
from spdmkit.errors import DecodeError
from spdmkit.identity import (
    CertificateChain,
    CertificateModel,
    ChainError,
    ChainPolicy,
    Fwid,
    IdentityExpectation,
    Purpose,
    TrustAnchors,
    read_tcb_infos,
)

from .helpers import SHA384, refused, verify

DATA = Path(__file__).parents[1] / "data/nvidia-h100"
CHAIN = CertificateChain.from_file_bytes((DATA / "certificate_chain.pem").read_bytes(), SHA384)
ROOTS = TrustAnchors.from_files([DATA / "device_root.pem"], Purpose.DEVICE)
P384 = signature_algorithm("ecdsa-p384")
V11 = ChainPolicy.for_version(0x11)


def test_verifies_by_the_rules_of_its_spdm_version() -> None:
    verified = verify(CHAIN, ROOTS, policy=V11, algorithm=P384)
    assert len(CHAIN) == 5
    identity = verified.identity
    assert str(identity) == "NVIDIA:GH100:48B02D92494BADF4"
    assert identity.device_serial == "48B02D92494BADF4"
    assert identity.subject.startswith("CN=GH100 A01 GSP FMC LF")
    assert identity.serial == "53C22BA15E5D68088282DA074ED9FB37AA585771"
    assert identity.key_type == "ec-p384"
    assert verified.leaf.not_after.year == 9999
    assert verified.model is CertificateModel.NONE
    IdentityExpectation.parse("NVIDIA:GH100:48B02D92494BADF4").check(identity)


def test_its_leaf_lacks_what_newer_versions_demand() -> None:
    with pytest.raises(ChainError) as caught:
        verify(CHAIN, ROOTS, policy=ChainPolicy.for_version(0x12))
    refused(caught.value, "basic-constraints", 4, "no basicConstraints")


def test_dice_claims_equal_those_of_its_report() -> None:
    infos = read_tcb_infos(CHAIN.leaf)
    digest = infos[0].fwids[0].digest
    assert infos[0].fwids == (Fwid("sha384", digest),)
    assert infos[0].device_key is not None
    report = bytes.fromhex((DATA / "attestation_report.hex").read_text())
    assert digest in report  # opaque data of type 20


def test_without_its_root() -> None:
    chain = CertificateChain.from_certificates(
        CHAIN.certificates[1:], SHA384, root=CHAIN.certificates[0]
    )
    assert verify(chain, ROOTS, policy=V11).anchor_position == -1


@pytest.mark.parametrize("position", range(5))
def test_any_flipped_byte_is_found(position: int) -> None:
    start = CHAIN.raw.index(CHAIN.certificates[position])
    for offset in range(0, len(CHAIN.certificates[position]), 61):
        broken = bytearray(CHAIN.raw)
        broken[start + offset] ^= 0x04
        try:
            chain = CertificateChain.parse(broken, SHA384)
        except DecodeError:
            continue
        with pytest.raises(ChainError):
            verify(chain, ROOTS, policy=V11)


def test_another_vendors_root() -> None:
    others = TrustAnchors.from_files([DATA / "rim_root.pem"], Purpose.DEVICE)
    with pytest.raises(ChainError) as caught:
        verify(CHAIN, others, policy=V11)
    assert caught.value.check == "anchor"
