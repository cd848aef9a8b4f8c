"""GET_CSR and SET_CERTIFICATE between our two sides, and every way to refuse them."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import PeerError, ProtocolViolation, ResetRequired
from spdmkit.identity import CertificateChain, RequesterInfo, verify_csr
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    CertificateModel,
    Csr,
    ErrorCode,
    GetCsr,
    ResponderFlags,
    SetCertificate,
    SetCertificateRsp,
)
from spdmkit.protocol.credentials import Credentials
from spdmkit.protocol.events import SlotChanged
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests, get_slot_size
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.provisioning import erase_certificate, get_csr, set_certificate

from .support import EVERYTHING, MemoryDevice, Pair, ask, psk_session, refusal
from .test_attestation_flow import verified

VERSIONS = [V12, V13, V14]
F = ResponderFlags
E = ErrorCode
DEVICE = CertificateModel.DEVICE
SEVERAL_KEYS = EVERYTHING | F.MULTI_KEY_CAP_ONLY | F.GET_KEY_PAIR_INFO_CAP


def link_of(pair: Pair, *, in_session: bool) -> Link:
    if in_session:
        return psk_session(pair)
    pair.run(negotiate(pair.link))
    return pair.link


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("in_session", [False, True], ids=["clear", "session"])
class TestBothSides:
    def test_a_signing_request_for_the_key(self, version: int, in_session: bool) -> None:
        pair = Pair(versions=(version,))
        link = link_of(pair, in_session=in_session)
        info = RequesterInfo.make("CN=wanted", pair.device.key.public_key).encode()
        csr = pair.run(get_csr(link, requester_info=info, opaque_data=bytes(4)))
        verify_csr(csr, expected_key=pair.device.key.public_key)
        (request,) = pair.device.csr_requests
        assert request.requester_info == info
        assert request.opaque == bytes(4)
        assert request.peer.authenticated is in_session

    def test_a_chain_is_stored_and_seen(self, version: int, in_session: bool) -> None:
        pair = Pair(versions=(version,))
        link = link_of(pair, in_session=in_session)
        assert set(pair.run(get_digests(link)).slots) == {0}
        pair.run(set_certificate(link, 3, pair.device.certificates))
        (request,) = pair.device.stored
        assert (request.slot_id, request.certificates) == (3, pair.device.certificates)
        slots = pair.run(get_digests(link)).slots
        assert set(slots) == {0, 3}
        chain = pair.run(get_certificate(link, 3, expected_digest=slots[3].digest))
        assert chain.certificates == pair.device.certificates
        assert ("requester", SlotChanged(3)) in pair.events

    def test_erase(self, version: int, in_session: bool) -> None:
        pair = Pair(MemoryDevice(slots=(0, 1)), versions=(version,))
        link = link_of(pair, in_session=in_session)
        if version == V12:
            with pytest.raises(ProtocolViolation, match=r"1\.3"):
                pair.run(erase_certificate(link, 1))
            return
        pair.run(erase_certificate(link, 1))
        assert set(pair.run(get_digests(link)).slots) == {0}
        assert pair.device.stored[0].erase

    def test_the_device_refuses(self, version: int, in_session: bool) -> None:
        pair = Pair(versions=(version,))
        link = link_of(pair, in_session=in_session)
        for code in (E.OPERATION_FAILED, E.BUSY, E.INVALID_STATE, E.UNSPECIFIED):
            pair.device.provisioning_error = ProtocolViolation("no", error_code=code)
            chain = pair.device.certificates
            assert refusal(pair, set_certificate(link, 1, chain)) is code
            assert refusal(pair, get_csr(link)) is code
        pair.device.provisioning_error = None
        pair.run(get_csr(link))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_chain_in_use_is_what_every_connection_sees(version: int) -> None:
    device = MemoryDevice()
    before, other = Pair(device, versions=(version,)), Pair(device, versions=(version,))
    old = verified(other)
    pair = before
    pair.run(negotiate(pair.link))
    pair.run(set_certificate(pair.link, 0, device.certificates[:1] + device.certificates[1:]))
    new = tuple(reversed(device.certificates))
    pair.run(set_certificate(pair.link, 0, new))
    digests = other.run(get_digests(other.link))
    assert digests.slots[0].digest != old.chain.digest(BASE_HASH.by_name("sha-384"))
    # What the other connection verified before does not stand for the new chain.
    with pytest.raises(Exception, match="CertChainHash"):
        other.run(challenge(other.link, old))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("requester", "responder"),
    [
        ({"data_transfer_size": 64}, {"data_transfer_size": 64}),
        # The responder could take it whole, but the requester cannot send it so (10.27).
        ({"transmit_size": 256}, {}),
    ],
)
def test_a_chain_that_travels_in_chunks(
    version: int, requester: dict[str, int], responder: dict[str, int]
) -> None:
    pair = Pair(versions=(version,), requester=requester, responder=responder)
    link = psk_session(pair)
    pair.run(set_certificate(link, 2, pair.device.certificates))
    assert pair.device.stored[0].certificates == pair.device.certificates


def large_chain(device: MemoryDevice) -> tuple[bytes, ...]:
    """Sixteen certificates, above 64 KiB together; nobody verifies them here."""
    filler = b"\x30\x82\x17\x70" + bytes(6000)
    return device.certificates[:1] + (filler,) * 14 + device.certificates[-1:]


def test_a_chain_above_64_kib() -> None:
    pair = Pair(versions=(V14,))
    link = psk_session(pair)
    chain = large_chain(pair.device)
    pair.run(set_certificate(link, 1, chain))
    read = pair.run(get_certificate(link, 1))
    assert read.certificates == chain
    assert len(read.raw) > 0xFFFF


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chain_above_64_kib_needs_large_forms(version: int) -> None:
    pair = Pair(versions=(version,), responder={"capabilities": EVERYTHING & ~F.LARGE_RESP_CAP})
    link = psk_session(pair)
    chain = large_chain(pair.device)
    with pytest.raises(ProtocolViolation, match="LARGE_RESP_CAP"):
        pair.run(set_certificate(link, 1, chain))
    raw = CertificateChain.from_certificates(chain, BASE_HASH.by_name("sha-512")).encode()
    request = SetCertificate(slot_id=1, cert_chain=raw)
    assert refusal(pair, ask(link, request, SetCertificateRsp)) is E.DATA_TOO_LARGE


class TestReset:
    def required(self, tag: int = 0) -> ProtocolViolation:
        return ProtocolViolation("reset", error_code=E.RESET_REQUIRED, error_data=tag)

    @pytest.mark.parametrize("version", [V13, V14])
    def test_a_signing_request_is_fetched_with_its_tag(self, version: int) -> None:
        pair = Pair(versions=(version,))
        pair.run(negotiate(pair.link))
        pair.device.provisioning_error = self.required(5)
        with pytest.raises(ResetRequired) as caught:
            pair.run(get_csr(pair.link))
        assert caught.value.tracking_tag == 5
        pair.device.provisioning_error = None
        pair.run(negotiate(pair.link))
        tag = caught.value.tracking_tag
        verify_csr(pair.run(get_csr(pair.link, tracking_tag=tag)))
        assert pair.device.csr_requests[-1].tracking_tag == 5
        pair.run(get_csr(pair.link, overwrite=True))
        assert pair.device.csr_requests[-1].overwrite

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_chain_that_waits_is_not_shown(self, version: int) -> None:
        pair = Pair(MemoryDevice(slots=(0, 1)), versions=(version,))
        device = pair.device
        pair.run(negotiate(pair.link))
        device.provisioning_error = self.required()
        with pytest.raises(ResetRequired) as caught:
            pair.run(set_certificate(pair.link, 1, device.certificates))
        assert caught.value.tracking_tag == 0
        device.credentials = Credentials(device.credentials.slots.values(), awaiting_reset=[1])
        assert refusal(pair, get_digests(pair.link)) is E.RESET_REQUIRED
        assert refusal(pair, get_certificate(pair.link, 1)) is E.RESET_REQUIRED
        pair.run(get_certificate(pair.link, 0))

    def test_tags_begin_with_1_3(self) -> None:
        pair = Pair(versions=(V12,))
        pair.run(negotiate(pair.link))
        for wish in ({"tracking_tag": 1}, {"overwrite": True}):
            with pytest.raises(ProtocolViolation, match=r"1\.3"):
                pair.run(get_csr(pair.link, **wish))


def csr(**fields: Any) -> tuple[Any, Any]:
    return GetCsr(**fields), Csr


def chain_for(pair: Pair, **fields: Any) -> tuple[Any, Any]:
    algorithm = pair.requester.connection.algorithms.base_hash
    chain = CertificateChain.from_certificates(pair.device.certificates, algorithm).encode()
    fields.setdefault("cert_chain", chain)
    fields.setdefault("slot_id", 1)
    return SetCertificate(**fields), SetCertificateRsp


class TestRefused:
    @pytest.mark.parametrize("version", [V13, V14])
    @pytest.mark.parametrize(
        "fields",
        [
            {"key_pair_id": 1},
            {"csr_cert_model": 4},
            {"csr_cert_model": CertificateModel.GENERIC},
            {"opaque_data": b"\x01\x00\x00\x00"},
        ],
    )
    def test_get_csr(self, version: int, fields: dict[str, Any]) -> None:
        pair = Pair(versions=(version,))
        pair.run(negotiate(pair.link))
        assert refusal(pair, ask(pair.link, *csr(**fields))) is E.INVALID_REQUEST
        assert not pair.device.csr_requests

    @pytest.mark.parametrize("version", [V13, V14])
    @pytest.mark.parametrize(
        "fields",
        [
            {"slot_id": 8},
            {"slot_id": 15},
            {"key_pair_id": 1},
            {"set_cert_model": 5},
            {"set_cert_model": CertificateModel.GENERIC},
            {"cert_chain": b""},
            {"cert_chain": b"\x03\x00\x00\x00"},
            {"cert_chain": bytes(100)},
            {"erase": True},
            {"erase": True, "cert_chain": b"", "set_cert_model": DEVICE},
            {"erase": True, "cert_chain": b"", "key_pair_id": 1},
        ],
    )
    def test_set_certificate(self, version: int, fields: dict[str, Any]) -> None:
        pair = Pair(versions=(version,))
        pair.run(negotiate(pair.link))
        exchange = ask(pair.link, *chain_for(pair, **fields))
        assert refusal(pair, exchange) is E.INVALID_REQUEST
        assert not pair.device.stored

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_chain_whose_root_hash_is_another(self, version: int) -> None:
        pair = Pair(versions=(version,))
        pair.run(negotiate(pair.link))
        request, expected = chain_for(pair)
        chain = bytearray(request.cert_chain)
        chain[5] ^= 1
        request.cert_chain = bytes(chain)
        assert refusal(pair, ask(pair.link, request, expected)) is E.INVALID_REQUEST

    @pytest.mark.parametrize("tail", [b"\x00" * 3, b"\x00\x01"])
    def test_only_zeros_may_follow_the_chain(self, tail: bytes) -> None:
        pair = Pair()
        pair.run(negotiate(pair.link))
        request, expected = chain_for(pair)
        request.cert_chain += tail
        exchange = ask(pair.link, request, expected)
        if any(tail):
            assert refusal(pair, exchange) is E.INVALID_REQUEST
        else:
            pair.run(exchange)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_without_the_capability(self, version: int) -> None:
        flags = EVERYTHING & ~(F.SET_CERT_CAP | F.CSR_CAP)
        pair = Pair(versions=(version,), responder={"capabilities": flags})
        pair.run(negotiate(pair.link))
        assert refusal(pair, get_csr(pair.link)) is E.UNSUPPORTED_REQUEST
        exchange = set_certificate(pair.link, 1, pair.device.certificates)
        assert refusal(pair, exchange) is E.UNSUPPORTED_REQUEST

    def test_before_1_2(self) -> None:
        pair = Pair(versions=(V11,))
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="GET_CSR is not legal"):
            pair.run(get_csr(pair.link))
        answer = pair.raw(bytes((V11, 0xED)) + bytes(6))
        assert answer[1:3] == bytes((0x7F, E.UNSUPPORTED_REQUEST))

    def test_before_algorithms_are_negotiated(self) -> None:
        pair = Pair()
        with pytest.raises(ProtocolViolation, match="not started"):
            pair.run(get_csr(pair.link))

    @pytest.mark.parametrize("missing", ["key_pair_id", "model"])
    def test_several_keys_need_a_key_and_a_model(self, missing: str) -> None:
        pair = Pair(responder={"capabilities": SEVERAL_KEYS})
        pair.run(negotiate(pair.link))
        known: dict[str, Any] = {"key_pair_id": 1, "model": DEVICE}
        pair.run(get_csr(pair.link, **known))
        pair.run(set_certificate(pair.link, 1, pair.device.certificates, **known))
        known.pop(missing)
        with pytest.raises(ProtocolViolation, match="several keys"):
            pair.run(get_csr(pair.link, **known))
        model = known.get("model", 0)
        number = known.get("key_pair_id", 0)
        exchange = ask(pair.link, *csr(key_pair_id=number, csr_cert_model=model))
        assert refusal(pair, exchange) is E.INVALID_REQUEST
        exchange = ask(pair.link, *chain_for(pair, key_pair_id=number, set_cert_model=model))
        assert refusal(pair, exchange) is E.INVALID_REQUEST

    def test_a_generic_chain_in_slot_0(self) -> None:
        pair = Pair(responder={"capabilities": SEVERAL_KEYS})
        pair.run(negotiate(pair.link))
        wish: dict[str, Any] = {"key_pair_id": 1, "model": CertificateModel.GENERIC}
        exchange = set_certificate(pair.link, 0, pair.device.certificates, **wish)
        assert refusal(pair, exchange) is E.INVALID_REQUEST
        pair.run(set_certificate(pair.link, 1, pair.device.certificates, **wish))

    def test_the_answer_is_for_another_slot(self) -> None:
        pair = Pair()
        pair.run(negotiate(pair.link))

        def bend(who: str, frame: Any) -> Any:
            if who == "responder" and frame.body[1] == SetCertificateRsp.code:
                frame.body = frame.body[:2] + b"\x05" + frame.body[3:]
            return frame

        pair.bend = bend
        with pytest.raises(ProtocolViolation, match="another slot"):
            pair.run(set_certificate(pair.link, 1, pair.device.certificates))

    def test_nobody_sends_a_slot_that_is_none(self) -> None:
        pair = Pair()
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="no slot 9"):
            pair.run(set_certificate(pair.link, 9, pair.device.certificates))

    def test_busy_is_asked_again(self) -> None:
        pair = Pair()
        pair.run(negotiate(pair.link))
        pair.device.provisioning_error = ProtocolViolation("later", error_code=E.BUSY)
        before = pair.clock.now
        with pytest.raises(PeerError):
            pair.run(get_csr(pair.link))
        assert len(pair.device.csr_requests) > 1
        assert pair.clock.now > before


class TestSlotSize:
    @pytest.mark.parametrize("version", [V13, V14])
    @pytest.mark.parametrize("size", [0, 4096, 100_000])
    def test_room_for_a_chain(self, version: int, size: int) -> None:
        device = MemoryDevice()
        slots = device.credentials.slots.values()
        device.credentials = Credentials(slots, supported=range(3), slot_size=size)
        pair = Pair(device, versions=(version,))
        proven = verified(pair)
        held = len(proven.chain.raw)
        most = size if version == V14 else min(size, 0xFFFF)
        assert pair.run(get_slot_size(pair.link, 0)) == max(most, held)
        assert pair.run(get_slot_size(pair.link, 2)) == most
        assert refusal(pair, get_slot_size(pair.link, 3)) is E.INVALID_REQUEST
        # What was asked joins M1/M2 on both sides.
        pair.run(get_digests(pair.link))
        pair.run(get_slot_size(pair.link, 0))
        pair.run(challenge(pair.link, proven))

    def test_before_1_3(self) -> None:
        pair = Pair(versions=(V12,))
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match=r"1\.3"):
            pair.run(get_slot_size(pair.link))

    def test_a_chain_that_nobody_asked_for(self) -> None:
        pair = Pair(versions=(V13,))
        pair.run(negotiate(pair.link))

        def bend(who: str, frame: Any) -> Any:
            if who == "responder":
                frame.body = frame.body[:4] + b"\x04\x00" + frame.body[6:8] + b"abcd"
            return frame

        pair.bend = bend
        with pytest.raises(ProtocolViolation, match="SlotSizeRequested"):
            pair.run(get_slot_size(pair.link))
