"""A device in a folder is given certificates over SPDM, by who may, and shows them at once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_ASYM
from spdmkit.crypto.signing import LocalSigner
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.errors import ProtocolViolation
from spdmkit.identity import (
    Authority,
    Profile,
    Purpose,
    RequesterInfo,
    TrustAnchors,
    verify_chain,
    verify_csr,
)
from spdmkit.messages import (
    V12,
    V13,
    V14,
    CertificateModel,
    ErrorCode,
    KeyPairAlgorithms,
    KeyUsage,
)
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.key_pairs import (
    change_key_pair,
    erase_key_pair,
    generate_key_pair,
    get_key_pairs,
)
from spdmkit.protocol.requester.measurements import get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.provisioning import erase_certificate, get_csr, set_certificate
from spdmkit.protocol.requester.sessions import PreSharedKey, key_exchange, psk_exchange
from spdmkit.protocol.settings import AlgorithmSet

from ..protocol.support import Pair, chain, refusal

VERSIONS = [V12, V13, V14]
DEVICE = CertificateModel.DEVICE


def made(tmp_path: Path, *edits: tuple[str, str]) -> FolderDevice:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256", serial="0001")
    path = folder / "device.toml"
    text = path.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return FolderDevice(folder)


def pair_with(device: FolderDevice, version: int, **options: Any) -> Pair:
    return Pair(device, settings=device.settings, versions=(version,), **options)  # type: ignore[arg-type]  # any Device will do here


def session(pair: Pair, device: FolderDevice) -> Link:
    pair.run(negotiate(pair.link))
    ((hint, shared),) = device._shared_keys.items()
    return pair.run(psk_exchange(pair.link, PreSharedKey(hint, shared.key))).link


def issued(authority: Authority, csr: bytes) -> tuple[bytes, ...]:
    request = verify_csr(csr)
    leaf = authority.issue(request.subject, request.public_key, Profile.leaf(DEVICE, "A:B:1"))
    return (authority.certificate.der, leaf.der)


ALLOWED = ("may_provision = []", 'may_provision = ["psk:0001"]')


@pytest.mark.parametrize("version", VERSIONS)
def test_csr_to_attested_slot(tmp_path: Path, version: int, authority: Authority) -> None:
    device = made(tmp_path, ALLOWED)
    pair, other = pair_with(device, version), pair_with(device, version)
    other.run(negotiate(other.link))
    link = session(pair, device)
    wish = RequesterInfo.make("CN=Owner's device", device.credentials.slots[0].signer.public_key)
    csr = pair.run(get_csr(link, requester_info=wish.encode()))
    assert verify_csr(csr).subject == "CN=Owner's device"
    certificates = issued(authority, csr)
    pair.run(set_certificate(link, 1, certificates))
    # The other connection was there before, and a device that starts anew was not.
    digests = other.run(get_digests(other.link))
    assert set(digests.slots) == {0, 1}
    read = other.run(get_certificate(other.link, 1, expected_digest=digests.slots[1].digest))
    proven = verify_chain(
        read,
        TrustAnchors(certificates[:1], Purpose.DEVICE),
        purpose=Purpose.DEVICE,
        time=dt.datetime.now(dt.UTC),
    )
    other.run(challenge(other.link, proven, slot_id=1))
    assert set(FolderDevice(device.folder).credentials.slots) == {0, 1}
    if version > V12:
        pair.run(erase_certificate(link, 1))
        assert set(other.run(get_digests(other.link)).slots) == {0}
        assert refusal(pair, erase_certificate(link, 1)) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("version", VERSIONS)
class TestRefused:
    def test_in_the_clear(self, tmp_path: Path, version: int) -> None:
        device = made(tmp_path, ALLOWED)
        pair = pair_with(device, version)
        pair.run(negotiate(pair.link))
        certificates = device.credentials.slots[0].certificates
        exchange = set_certificate(pair.link, 1, certificates)
        assert refusal(pair, exchange) is ErrorCode.SESSION_REQUIRED

    def test_by_whom_may_not(self, tmp_path: Path, version: int) -> None:
        device = made(tmp_path)
        pair = pair_with(device, version)
        link = session(pair, device)
        certificates = device.credentials.slots[0].certificates
        assert refusal(pair, set_certificate(link, 1, certificates)) is ErrorCode.UNSPECIFIED
        assert set(device.credentials.slots) == {0}

    def test_in_a_session_whose_requester_proved_nothing(
        self, tmp_path: Path, version: int
    ) -> None:
        device = made(tmp_path, ("may_provision = []", 'may_provision = ["*:*", "certificate:*"]'))
        pair = pair_with(device, version)
        pair.run(negotiate(pair.link))
        proven = verify_chain(
            pair.run(get_certificate(pair.link, 0)),
            TrustAnchors([device.credentials.slots[0].certificates[0]], Purpose.DEVICE),
            purpose=Purpose.DEVICE,
            time=dt.datetime.now(dt.UTC),
        )
        link = pair.run(key_exchange(pair.link, proven)).link
        certificates = device.credentials.slots[0].certificates
        assert refusal(pair, set_certificate(link, 1, certificates)) is ErrorCode.UNSPECIFIED

    def test_slot_0_outside_a_trusted_environment(self, tmp_path: Path, version: int) -> None:
        device = made(tmp_path, ALLOWED)
        pair = pair_with(device, version)
        link = session(pair, device)
        certificates = device.credentials.slots[0].certificates
        assert refusal(pair, set_certificate(link, 0, certificates)) is ErrorCode.UNSPECIFIED

    def test_a_chain_for_another_key(
        self, tmp_path: Path, version: int, authority: Authority
    ) -> None:
        device = made(tmp_path, ALLOWED)
        pair = pair_with(device, version)
        link = session(pair, device)
        key = PrivateKey.from_seed("ecdsa-p256", b"another")
        leaf = authority.issue("CN=other", key.public_key, Profile.leaf(DEVICE, "A:B:1"))
        exchange = set_certificate(link, 1, (authority.certificate.der, leaf.der))
        assert refusal(pair, exchange) is ErrorCode.INVALID_REQUEST
        assert set(device.credentials.slots) == {0}

    def test_wishes_that_are_none(self, tmp_path: Path, version: int) -> None:
        device = made(tmp_path, ALLOWED)
        pair = pair_with(device, version)
        link = session(pair, device)
        exchange = get_csr(link, requester_info=b"\x30\x00")
        assert refusal(pair, exchange) is ErrorCode.INVALID_REQUEST
        if version > V12:
            tagged = get_csr(link, tracking_tag=3)
            assert refusal(pair, tagged) is ErrorCode.UNEXPECTED_REQUEST
            alias = get_csr(link, model=CertificateModel.ALIAS)
            assert refusal(pair, alias) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("version", VERSIONS)
def test_a_trusted_environment_needs_no_session(
    tmp_path: Path, version: int, authority: Authority
) -> None:
    device = made(tmp_path, ("may_provision = []", "trusted_environment = true"))
    pair = pair_with(device, version)
    pair.run(negotiate(pair.link))
    certificates = issued(authority, pair.run(get_csr(pair.link)))
    pair.run(set_certificate(pair.link, 0, certificates))
    assert pair.run(get_certificate(pair.link, 0)).certificates == certificates


def test_a_certificate_says_who_may(tmp_path: Path, authority: Authority) -> None:
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    roots = '[trust]\nrequester_trust_anchors = ["requesters.der"]'
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256", serial="0001")
    (folder / "requesters.der").write_bytes(certificates[0])
    path = folder / "device.toml"
    text = path.read_text().replace("[trust]", roots, 1)
    path.write_text(
        text.replace("may_provision = []", 'may_provision = ["certificate:CN=Test Device"]')
    )
    device = FolderDevice(folder)
    pair = pair_with(
        device,
        V13,
        credentials=Credentials([Slot(0, certificates, LocalSigner(key))]),
        requester={"capabilities": requester_capabilities(sessions=True, mutual=True)},
    )
    pair.run(negotiate(pair.link))
    proven = verify_chain(
        pair.run(get_certificate(pair.link, 0)),
        TrustAnchors([device.credentials.slots[0].certificates[0]], Purpose.DEVICE),
        purpose=Purpose.DEVICE,
        time=dt.datetime.now(dt.UTC),
    )
    link = pair.run(key_exchange(pair.link, proven)).link
    pair.run(set_certificate(link, 1, issued(authority, pair.run(get_csr(link)))))
    assert device._slots.entries[1].stored_by == "certificate:CN=Test Device"


def test_an_alias_chain_is_refused(tmp_path: Path) -> None:
    device = made(tmp_path, ALLOWED)
    pair = pair_with(device, V14)
    link = session(pair, device)
    certificates = device.credentials.slots[0].certificates
    exchange = set_certificate(link, 1, certificates, model=CertificateModel.ALIAS)
    assert refusal(pair, exchange) is ErrorCode.INVALID_REQUEST
    with pytest.raises(ProtocolViolation, match="several keys"):
        pair.run(get_csr(link, key_pair_id=1))


@pytest.mark.parametrize("version", [V13, V14])
def test_a_key_of_the_owners(tmp_path: Path, version: int, authority: Authority) -> None:
    """Generate a second key, give it a slot and a chain, use it (the flow of DSP0274 10.28)."""
    several = ('"GET_KEY_PAIR_INFO_CAP",', '"GET_KEY_PAIR_INFO_CAP", "MULTI_KEY_CAP_NEG",')
    device = made(tmp_path, ALLOWED, several)
    pair = pair_with(device, version, requester={"multi_key": True})
    link = session(pair, device)
    pairs = pair.run(get_key_pairs(link))
    assert [len(each.public_key_info) > 0 for each in pairs.values()] == [True, False]
    p256 = KeyPairAlgorithms.ECC_P256
    pair.run(change_key_pair(link, 2, slots=[], algorithm=p256, usage=KeyUsage.MEASUREMENT))
    pair.run(generate_key_pair(link, 2, slots=[5]))
    shown = pair.run(get_digests(link)).slots[5]
    assert (shown.key_pair_id, shown.model) == (2, CertificateModel.NONE)
    model = CertificateModel.GENERIC
    csr = pair.run(get_csr(link, key_pair_id=2, model=model))
    assert verify_csr(csr).public_key != device.credentials.slots[0].signer.public_key
    pair.run(set_certificate(link, 5, issued(authority, csr), key_pair_id=2, model=model))
    shown = pair.run(get_digests(link)).slots[5]
    assert (shown.model, shown.key_usage) == (model, KeyUsage.MEASUREMENT)
    assert refusal(pair, erase_key_pair(link, 2)) is ErrorCode.OPERATION_FAILED
    proven = verify_chain(
        pair.run(get_certificate(link, 5)),
        TrustAnchors([authority.certificate.der], Purpose.DEVICE),
        purpose=Purpose.DEVICE,
        time=dt.datetime.now(dt.UTC),
    )
    pair.run(get_signed_measurements(link, proven, slot_id=5))
    pair.run(erase_certificate(link, 5))
    pair.run(change_key_pair(link, 2, slots=[]))
    pair.run(erase_key_pair(link, 2))
    assert FolderDevice(device.folder)._keys.entries[2].key is None


@pytest.mark.parametrize("version", [V13, V14])
def test_key_pairs_are_for_those_who_may(tmp_path: Path, version: int) -> None:
    device = made(tmp_path)
    pair = pair_with(device, version)
    link = session(pair, device)
    assert refusal(pair, generate_key_pair(link, 2)) is ErrorCode.UNSPECIFIED
    assert refusal(pair, generate_key_pair(pair.link, 2)) is ErrorCode.SESSION_REQUIRED


def test_a_key_of_another_algorithm(tmp_path: Path) -> None:
    """A key signs requests in connections that negotiated its algorithm, and only there."""
    several = ('"GET_KEY_PAIR_INFO_CAP",', '"GET_KEY_PAIR_INFO_CAP", "MULTI_KEY_CAP_NEG",')
    device = made(tmp_path, ALLOWED, several)
    pair = pair_with(device, V13, requester={"multi_key": True})
    link = session(pair, device)
    p384 = KeyPairAlgorithms.ECC_P384
    pair.run(generate_key_pair(link, 2, slots=[1], algorithm=p384))
    assert set(pair.run(get_digests(link)).slots) == {0}
    exchange = get_csr(link, key_pair_id=2, model=CertificateModel.GENERIC)
    assert refusal(pair, exchange) is ErrorCode.INVALID_REQUEST
    only = AlgorithmSet.available().narrowed(base_asym=BASE_ASYM.by_name("ecdsa-p384").mask)
    other = pair_with(
        device,
        V13,
        requester={"multi_key": True, "algorithms": only.with_masks(pqc_asym=0)},
    )
    link = session(other, device)
    csr = other.run(get_csr(link, key_pair_id=2, model=CertificateModel.GENERIC))
    assert verify_csr(csr).public_key.key_type == "ec-p384"


def test_key_pairs_that_nobody_may_change_say_so(tmp_path: Path) -> None:
    device = made(tmp_path, (' "SET_KEY_PAIR_INFO_CAP",', ""))
    # ShareableCap shall not be set without CertAssocCap (DSP0274 table 112).
    assert {pair.capabilities for pair in device.key_pairs()} == {0}
