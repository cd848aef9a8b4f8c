"""Certificates into slots, between our two sides: the whole way, and each thing that stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    PeerError,
    ProtocolViolation,
    ResetRequired,
)
from spdmkit.identity import (
    Outcome,
    Profile,
    Purpose,
    TrustAnchors,
    VerifiedChain,
    build_csr,
    verify_chain,
)
from spdmkit.messages import V12, V13, V14, CertificateModel, ErrorCode, ResponderFlags
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.frames import Frame
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import SlotDigests, get_certificate, get_digests
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, psk_exchange
from spdmkit.protocol.responder.device import CsrRequest
from spdmkit.provisioning.authority import CertificateAuthority
from spdmkit.provisioning.install import Installation, Order, certify, confirm, erase, order_for
from tests.protocol.support import EVERYTHING, NOW, PSK, PSK_HINT, MemoryDevice, Pair, chain

PASSPHRASE = "correct horse"
F = ResponderFlags


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    folder = tmp_path_factory.mktemp("ca") / "ca"
    return CertificateAuthority.create(folder, PASSPHRASE, clock=lambda: NOW)


def attested(pair: Pair) -> tuple[VerifiedChain, SlotDigests]:
    pair.run(negotiate(pair.link))
    digests = pair.run(get_digests(pair.link))
    found = pair.run(get_certificate(pair.link, 0))
    anchors = TrustAnchors(found.certificates[:1], Purpose.DEVICE)
    return verify_chain(found, anchors, purpose=Purpose.DEVICE, time=NOW), digests


def session(pair: Pair) -> Link:
    return pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK))).link


def install(pair: Pair, authority: CertificateAuthority, order: Order) -> Installation:
    device, digests = attested(pair)
    link = session(pair)
    attested_key = digests.slots[0].key_pair_id or 0
    order = order_for(order, link, digests)
    made = pair.run(certify(link, authority, device, order, attested_key_pair=attested_key))
    pair.run(confirm(pair.link, authority, made, NOW))
    return made


def outcomes(made: Installation) -> list[tuple[str, str]]:
    return [(step.name, step.outcome.value) for step in made.steps]


@pytest.mark.parametrize("version", [V12, V13, V14])
def test_the_whole_way(authority: CertificateAuthority, version: int) -> None:
    pair = Pair(versions=(version,))
    made = install(pair, authority, Order(2, target="tcp://h"))
    assert outcomes(made) == [
        ("get-csr", "passed"),
        ("csr", "passed"),
        ("issue", "passed"),
        ("set-certificate", "passed"),
        ("read-back", "passed"),
        ("challenge", "passed"),
    ]
    assert made.chain is not None
    assert str(made.chain.identity.device_name) == "ACME:Widget:0001"
    assert made.chain.chain.certificates == made.issued.chain
    entry = authority.ledger.entries[made.issued.serial]
    assert entry.state == "installed"
    assert entry.details["target"] == "tcp://h"
    (csr,) = pair.device.csr_requests
    assert b"Test Device" in csr.requester_info
    assert csr.peer.authenticated


def test_several_keys_are_named(authority: CertificateAuthority) -> None:
    device = MemoryDevice()
    _, certificates = chain("ecdsa-p384")
    signer = device.credentials.slots[0].signer
    model = CertificateModel.DEVICE
    device.credentials = Credentials(
        [Slot(0, certificates, signer, model=model, key_pair_id=1)], supported=range(8)
    )
    several = EVERYTHING | F.MULTI_KEY_CAP_ONLY | F.GET_KEY_PAIR_INFO_CAP
    pair = Pair(device, versions=(V13,), responder={"capabilities": several})
    found, digests = attested(pair)
    link = session(pair)
    order = order_for(Order(1), link, digests)
    assert order.key_pair_id == 1
    made = pair.run(certify(link, authority, found, order, attested_key_pair=1))
    (asked,), (stored,) = device.csr_requests, device.stored
    assert (asked.key_pair_id, asked.model) == (1, model)
    assert (stored.key_pair_id, stored.model) == (1, model)
    assert ("csr", "passed") in outcomes(made)
    # Another key pair of the device: its session vouches for it, and the step says so.
    other = pair.run(certify(link, authority, found, Order(3, key_pair_id=2), attested_key_pair=1))
    assert ("csr", Outcome.NOT_COVERED.value) in outcomes(other)


@pytest.mark.parametrize("slot_id", [-1, 8])
def test_slots_are_0_to_7(slot_id: int) -> None:
    with pytest.raises(ConfigurationError, match="slots are 0 to 7"):
        Order(slot_id)


def test_slot_0_wants_consent() -> None:
    with pytest.raises(ConfigurationError, match="came with"):
        Order(0)
    assert Order(0, consent_to_slot_0=True).slot_id == 0


class Impostor(MemoryDevice):
    """It asks for a certificate for somebody else's key."""

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        key, _ = chain("ecdsa-p384", b"somebody else")
        return build_csr(key, subject="CN=x", profile=Profile.leaf(request.model))


class Braggart(MemoryDevice):
    """It asks for a certificate for a key it does not hold."""

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        csr = bytearray(super().certificate_signing_request(request))
        csr[-1] ^= 1
        return bytes(csr)


@pytest.mark.parametrize("kind", [Impostor, Braggart])
def test_a_request_for_another_key_is_refused_before_anything_is_issued(
    authority: CertificateAuthority, kind: type[MemoryDevice]
) -> None:
    before = set(authority.ledger.entries)
    pair = Pair(kind(), versions=(V13,))
    with pytest.raises(AuthenticationError, match="csr:"):
        install(pair, authority, Order(1))
    assert set(authority.ledger.entries) == before
    assert not pair.device.stored


def test_the_policy_is_asked_before_the_device(
    tmp_path: Path,
) -> None:
    made = CertificateAuthority.create(tmp_path / "ca", PASSPHRASE, clock=lambda: NOW)
    path = made.folder / "ca.toml"
    path.write_text(path.read_text().replace('["*"]', '["other:*"]'))
    strict = CertificateAuthority.load(made.folder, PASSPHRASE, clock=lambda: NOW)
    pair = Pair(versions=(V13,))
    with pytest.raises(AuthenticationError, match="ca-policy"):
        install(pair, strict, Order(1))
    assert not pair.device.csr_requests


def test_what_the_device_refuses_is_noted_as_failed(authority: CertificateAuthority) -> None:
    pair = Pair(versions=(V13,))
    device, _ = attested(pair)
    link = session(pair)
    known = set(authority.ledger.entries)
    original = pair.device.set_certificate

    def refuse(request: Any) -> None:
        raise ProtocolViolation("no", error_code=ErrorCode.OPERATION_FAILED)

    pair.device.set_certificate = refuse  # type: ignore[method-assign] # a device that refuses
    with pytest.raises(PeerError):
        pair.run(certify(link, authority, device, Order(1)))
    (serial,) = set(authority.ledger.entries) - known
    assert authority.ledger.entries[serial].state == "failed"
    assert "why" in authority.ledger.entries[serial].details
    pair.device.set_certificate = original  # type: ignore[method-assign] # and as it was


class Forgetful(MemoryDevice):
    """It says that it stored the chain, and did not."""

    def set_certificate(self, request: Any) -> None:
        self.stored.append(request)


class Swapping(MemoryDevice):
    """It stores another chain than it was given."""

    def set_certificate(self, request: Any) -> None:
        slots = dict(self.credentials.slots)
        slots[request.slot_id] = Slot(request.slot_id, self.certificates, slots[0].signer)
        self.credentials = Credentials(slots.values(), supported=range(8))


@pytest.mark.parametrize(
    ("kind", "words"), [(Forgetful, "does not show slot 1"), (Swapping, "shows another chain")]
)
def test_read_back_finds_out(
    authority: CertificateAuthority, kind: type[MemoryDevice], words: str
) -> None:
    pair = Pair(kind(), versions=(V13,))
    device, _ = attested(pair)
    made = pair.run(certify(session(pair), authority, device, Order(1)))
    with pytest.raises(AuthenticationError, match=words):
        pair.run(confirm(pair.link, authority, made, NOW))
    assert authority.ledger.entries[made.issued.serial].state == "failed"


def test_a_device_that_cannot_use_the_key_is_found_out(authority: CertificateAuthority) -> None:
    pair = Pair(versions=(V13,))
    device, _ = attested(pair)
    made = pair.run(certify(session(pair), authority, device, Order(1)))

    def bend(who: str, frame: Frame) -> Frame:
        if who == "responder" and frame.body[1] == 0x03:
            return Frame(frame.kind, frame.body[:-1] + bytes([frame.body[-1] ^ 1]))
        return frame

    pair.bend = bend
    with pytest.raises(AuthenticationError, match="signature"):
        pair.run(confirm(pair.link, authority, made, NOW))
    assert authority.ledger.entries[made.issued.serial].state == "failed"


def test_without_challenge_the_step_is_skipped(authority: CertificateAuthority) -> None:
    pair = Pair(versions=(V13,), responder={"capabilities": EVERYTHING & ~F.CHAL_CAP})
    made = install(pair, authority, Order(1))
    assert outcomes(made)[-1] == ("challenge", "skipped")


class Resetting(MemoryDevice):
    """It needs a reset before it makes a signing request, and after it got a certificate."""

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        if request.tracking_tag != 5:
            raise ProtocolViolation(
                "after the reset", error_code=ErrorCode.RESET_REQUIRED, error_data=5
            )
        return super().certificate_signing_request(request)

    def set_certificate(self, request: Any) -> None:
        super().set_certificate(request)
        raise ProtocolViolation("after the reset", error_code=ErrorCode.RESET_REQUIRED)


def test_resets_are_resumed(authority: CertificateAuthority) -> None:
    capabilities = EVERYTHING | F.CERT_INSTALL_RESET_CAP
    pair = Pair(Resetting(), versions=(V13,), responder={"capabilities": capabilities})
    device, _ = attested(pair)
    link = session(pair)
    with pytest.raises(ResetRequired) as caught:
        pair.run(certify(link, authority, device, Order(1)))
    tag = caught.value.tracking_tag
    assert tag == 5
    made = pair.run(certify(link, authority, device, Order(1, tracking_tag=tag)))
    assert made.awaits_reset
    pair.run(confirm(pair.link, authority, made, NOW))
    assert authority.ledger.entries[made.issued.serial].state == "installed"


def test_before_its_reset_nothing_has_failed(authority: CertificateAuthority) -> None:
    class Later(MemoryDevice):
        def set_certificate(self, request: Any) -> None:
            raise ProtocolViolation("after the reset", error_code=ErrorCode.RESET_REQUIRED)

    capabilities = EVERYTHING | F.CERT_INSTALL_RESET_CAP
    pair = Pair(Later(), versions=(V13,), responder={"capabilities": capabilities})
    device, _ = attested(pair)
    made = pair.run(certify(session(pair), authority, device, Order(1)))
    assert made.awaits_reset
    with pytest.raises(AuthenticationError, match="read-back"):
        pair.run(confirm(pair.link, authority, made, NOW))
    assert authority.ledger.entries[made.issued.serial].state == "issued"


def test_a_key_pair_that_cannot_be_named_is_not_passed_over(
    authority: CertificateAuthority,
) -> None:
    pair = Pair(versions=(V13,))
    device, _ = attested(pair)
    link = session(pair)
    before = set(authority.ledger.entries)
    with pytest.raises(ConfigurationError, match="key pair 3"):
        pair.run(certify(link, authority, device, Order(1, key_pair_id=3)))
    assert set(authority.ledger.entries) == before


def test_erase_empties_and_checks(authority: CertificateAuthority) -> None:
    pair = Pair(versions=(V13,))
    install(pair, authority, Order(1))
    steps = pair.run(erase(session(pair), 1))
    assert [step.name for step in steps] == ["set-certificate", "read-back"]
    assert 1 not in pair.device.credentials.slots
    forgetful = Pair(Forgetful(slots=(0, 1)), versions=(V13,))
    pair_link = forgetful
    attested(pair_link)
    with pytest.raises(AuthenticationError, match="still holds"):
        pair_link.run(erase(session(pair_link), 1))


def test_a_folder_device_keeps_what_it_was_given(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    from spdmkit.device.initialise import initialise

    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p384")
    text = (folder / "device.toml").read_text()
    assert "may_provision = []" in text
    (folder / "device.toml").write_text(
        text.replace("may_provision = []", 'may_provision = ["psk:*"]')
    )
    device = FolderDevice.load(folder)
    pair = Pair(device, versions=(V13,), settings=device.settings)  # type: ignore[arg-type] # another device
    found, digests = attested(pair)
    from spdmkit.device.shared_keys import read_shared_key

    shared = read_shared_key(folder / "psk.toml")
    link = pair.run(psk_exchange(pair.link, PreSharedKey(shared.hint, shared.key))).link
    order = order_for(Order(4), link, digests)
    named = digests.slots[0].key_pair_id or 0
    made = pair.run(certify(link, authority, found, order, attested_key_pair=named))
    pair.run(confirm(pair.link, authority, made, NOW))
    again = FolderDevice.load(folder)
    assert again.credentials.slots[4].certificates == made.issued.chain
