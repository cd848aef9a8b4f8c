"""What holds for every request alike: layout, version, phase of connection and session, capability.

One table of valid requests, and each rule tried on all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from spdmkit.messages import (
    V12,
    V13,
    V14,
    Context,
    ErrorCode,
    Finish,
    GetCertificate,
    GetCsr,
    GetEndpointInfo,
    GetKeyPairInfo,
    GetMeasurementExtensionLog,
    GetSupportedEventTypes,
    Message,
    RequestCode,
    ResponderExtendedFlags,
    ResponderFlags,
    ResponseCode,
    SendEvent,
    SetCertificate,
    SetKeyPairInfo,
    SlotAddress,
    SlotManagement,
    SubscribeEventTypes,
    VendorDefinedRequest,
)
from spdmkit.messages.events import Event
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.events import dmtf_event_group
from spdmkit.protocol.requester.negotiate import get_capabilities, get_version, negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, psk_exchange
from spdmkit.protocol.states import SINCE

from .support import EVERYTHING, PSK, PSK_HINT, Pair, psk_session
from .test_key_pairs import PAIR
from .test_slot_management import banked

E, F = ErrorCode, ResponderFlags
FLAGS = EVERYTHING | F.EVENT_CAP | F.GET_KEY_PAIR_INFO_CAP | F.SET_KEY_PAIR_INFO_CAP
SESSION_ONLY = {"GET_SUPPORTED_EVENT_TYPES", "SUBSCRIBE_EVENT_TYPES", "SEND_EVENT"}

REQUESTS: dict[str, Callable[[Context], Message]] = {
    "GET_CERTIFICATE": lambda _: GetCertificate(length=10),
    "GET_CSR": lambda _: GetCsr(requester_info=b"info"),
    "SET_CERTIFICATE": lambda _: SetCertificate(slot_id=1, cert_chain=b"\x50\0\0\0" + bytes(76)),
    "GET_KEY_PAIR_INFO": lambda _: GetKeyPairInfo(key_pair_id=1),
    "SET_KEY_PAIR_INFO": lambda _: SetKeyPairInfo(key_pair_id=1, desired_assoc_cert_slot_mask=1),
    "GET_ENDPOINT_INFO": lambda _: GetEndpointInfo(
        sub_code=1, signature_requested=True, nonce=bytes(32)
    ),
    "GET_MEASUREMENT_EXTENSION_LOG": lambda _: GetMeasurementExtensionLog(length=16),
    "GET_SUPPORTED_EVENT_TYPES": lambda _: GetSupportedEventTypes(),
    "SUBSCRIBE_EVENT_TYPES": lambda _: SubscribeEventTypes(event_groups=[dmtf_event_group([2])]),
    "SEND_EVENT": lambda _: SendEvent(events=[Event(event_type_id=2, event_detail=bytes(32))]),
    "SLOT_MANAGEMENT": lambda context: SlotManagement.of(2, SlotAddress(), context),
    "VENDOR_DEFINED_REQUEST": lambda _: VendorDefinedRequest(
        standard_id=4, vendor_id=bytes(4), payload=b"payload"
    ),
}
CASES = [
    (version, name)
    for version in (V12, V13, V14)
    for name in REQUESTS
    if SINCE[RequestCode[name]] <= version
]
each = pytest.mark.parametrize(("version", "name"), CASES)


def made(version: int, **responder: Any) -> Pair:
    flags = requester_capabilities(sessions=True, psk=True, events=True)
    pair = Pair(
        banked(),
        versions=(version,),
        requester={"capabilities": flags},
        responder={
            "capabilities": FLAGS,
            "extended_capabilities": int(ResponderExtendedFlags.SLOT_MGMT_CAP),
            **responder,
        },
    )
    pair.device.pairs = [PAIR]
    return pair


def encoded(pair: Pair, name: str) -> bytes:
    context = replace(pair.requester.connection.context)
    return REQUESTS[name](context).encode(context)


def inside(pair: Pair, link: Link, raw: bytes) -> bytes:
    """The answer to one message in a session; in the clear when the session is over."""
    assert link.session is not None
    record = link.session.sender.message(raw)
    pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
    for job in pair.responder.work():
        pair.responder.complete(job.token, job.call(), pair.clock.now)
    (frame,) = pair.responder.outgoing()
    if frame.kind is FrameKind.MESSAGE:
        return frame.body
    answer = link.session.receiver.message(frame.body)
    assert isinstance(answer, bytes)
    return answer


def code_of(answer: bytes) -> int | None:
    return answer[2] if answer[1] == ResponseCode.ERROR else None


@each
def test_cut_anywhere(version: int, name: str) -> None:
    pair = made(version)
    link = psk_session(pair)
    raw = encoded(pair, name)
    for end in range(4, len(raw)):
        code = code_of(inside(pair, link, raw[:end]))
        assert code == E.INVALID_REQUEST, f"{name} cut at byte {end}"
    device = pair.device
    assert not device.csr_requests
    assert not device.stored
    assert not device.pair_changes


@each
def test_bytes_that_follow(version: int, name: str) -> None:
    pair = made(version)
    link = psk_session(pair)
    raw = encoded(pair, name)
    whole = code_of(inside(pair, link, raw))
    assert code_of(inside(pair, link, raw + bytes(5))) == whole
    assert code_of(inside(pair, link, raw + b"\0\0\x01")) == E.INVALID_REQUEST


@each
def test_another_version(version: int, name: str) -> None:
    pair = made(version)
    link = psk_session(pair)
    raw = encoded(pair, name)
    for other in {V12, V13, V14, 0x10, 0x20, 0xFF} - {version}:
        answer = inside(pair, link, bytes((other,)) + raw[1:])
        assert code_of(answer) == E.VERSION_MISMATCH


@each
def test_outside_a_session(version: int, name: str) -> None:
    pair = made(version)
    pair.run(negotiate(pair.link))
    code = code_of(pair.raw(encoded(pair, name)))
    if name in SESSION_ONLY:
        assert code == E.SESSION_REQUIRED
    else:
        assert code in {None, E.INVALID_REQUEST}


@each
def test_before_algorithms_are_negotiated(version: int, name: str) -> None:
    pair = made(version)
    pair.run(negotiate(pair.link))
    raw = encoded(pair, name)
    assert code_of(made(version).raw(raw)) == E.REQUEST_RESYNCH
    fresh = made(version)
    fresh.run(get_version(fresh.link))
    # No version is settled then, so that it may also be a request that the oldest does not have.
    assert code_of(fresh.raw(raw)) in {E.UNEXPECTED_REQUEST, E.UNSUPPORTED_REQUEST}
    fresh.run(get_capabilities(fresh.link))
    assert code_of(fresh.raw(raw)) == E.UNEXPECTED_REQUEST


@each
def test_in_a_handshake(version: int, name: str) -> None:
    """Whatever is out of order there ends the session, and nothing reaches the device."""
    pair = made(version)
    pair.run(negotiate(pair.link))
    pair.bend = lambda who, frame: None if frame.kind is FrameKind.SECURED else frame
    pair.requester.submit(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)))
    while pair.step():
        pass
    (ours,) = pair.requester.connection.sessions.values()
    (theirs,) = pair.responder.connection.sessions.values()
    assert not theirs.established
    # PSK_FINISH went astray: the next record has its number, so that it is made with the keys anew.
    record = theirs_expects(pair, ours, encoded(pair, name))
    pair.responder.receive(record, pair.clock.now)
    assert not theirs.alive
    assert not pair.responder.connection.sessions
    assert not pair.device.csr_requests
    assert not pair.device.stored
    assert pair.responder.work() == []


def theirs_expects(pair: Pair, ours: Any, raw: bytes) -> Frame:
    """A record of the handshake that the responder can open: the lost one never counted."""
    ours.sender._state.sequence -= 1
    return Frame(FrameKind.SECURED, ours.sender.message(raw))


@each
def test_without_its_capability(version: int, name: str) -> None:
    if name == "VENDOR_DEFINED_REQUEST":
        return  # it needs none
    sessions = EVERYTHING & ~(
        F.CERT_CAP
        | F.CHAL_CAP
        | F.MEAS_CAP_MASK
        | F.MEL_CAP
        | F.SET_CERT_CAP
        | F.CSR_CAP
        | F.EP_INFO_CAP_MASK
    )
    plain = Pair(
        versions=(version,),
        requester={"capabilities": requester_capabilities(sessions=True, psk=True)},
        responder={"capabilities": sessions},
    )
    link = psk_session(plain)
    answer = inside(plain, link, encoded(plain, name))
    assert answer[1:4] == bytes((ResponseCode.ERROR, E.UNSUPPORTED_REQUEST, RequestCode[name]))


def test_finish_is_no_request_of_an_established_session() -> None:
    pair = made(V13)
    link = psk_session(pair)
    context = pair.requester.connection.context
    raw = Finish(verify_data=bytes(context.hash_size)).encode(context)
    assert code_of(inside(pair, link, raw)) == E.UNEXPECTED_REQUEST
