"""What a requester answers, and what not, when its responder asks (DSP0274 10.24.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    Challenge,
    Context,
    EndSession,
    ErrorCode,
    GetCertificate,
    GetDigests,
    GetEndpointInfo,
    GetSupportedEventTypes,
    KeyUpdate,
    Message,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    SubscribeEventTypes,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.events import dmtf_event_group
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.responder.flow import EncapsulatedLink
from spdmkit.protocol.states import SINCE

from .support import EVERYTHING, Pair, chain, psk_session
from .test_events import Source

E, Q = ErrorCode, RequesterFlags
ALL_FLAGS = int(requester_capabilities(sessions=True, psk=True, mutual=True, events=True))
FLAGS = EVERYTHING | ResponderFlags.EVENT_CAP

REQUESTS: dict[str, tuple[Callable[[Context], Message], int]] = {
    "GET_DIGESTS": (lambda _: GetDigests(), Q.CERT_CAP),
    "GET_CERTIFICATE": (lambda _: GetCertificate(length=100), Q.CERT_CAP),
    "CHALLENGE": (
        lambda context: Challenge(
            nonce=bytes(32), context=bytes(8) if context.version >= V13 else b""
        ),
        Q.CHAL_CAP,
    ),
    "KEY_UPDATE": (lambda _: KeyUpdate(operation=1, tag=1), Q.KEY_UPD_CAP),
    "GET_ENDPOINT_INFO": (lambda _: GetEndpointInfo(sub_code=1), Q.EP_INFO_CAP_MASK),
    "GET_SUPPORTED_EVENT_TYPES": (lambda _: GetSupportedEventTypes(), Q.EVENT_CAP),
    "SUBSCRIBE_EVENT_TYPES": (
        lambda _: SubscribeEventTypes(event_groups=[dmtf_event_group([2])]),
        Q.EVENT_CAP,
    ),
    "END_SESSION": (lambda _: EndSession(), 0),
}
CASES = [
    (version, name)
    for version in (V11, V12, V13, V14)
    for name in REQUESTS
    if SINCE[RequestCode[name]] <= version
]
each = pytest.mark.parametrize(("version", "name"), CASES)
SESSION_ONLY = {
    "KEY_UPDATE",
    "GET_SUPPORTED_EVENT_TYPES",
    "SUBSCRIBE_EVENT_TYPES",
    "END_SESSION",
}


def made(version: int, flags: int = ALL_FLAGS) -> Pair:
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    pair = Pair(
        versions=(version,),
        credentials=Credentials(
            [Slot(0, certificates, LocalSigner(key))], endpoint_info={1: bytes(4)}
        ),
        requester={"capabilities": flags},
        responder={"capabilities": FLAGS},
    )
    pair.requester.connection.event_source = Source()
    return pair


def raw_of(pair: Pair, name: str) -> bytes:
    context = pair.requester.connection.context
    return REQUESTS[name][0](context).encode(context)


def answered(pair: Pair, link: Link, raw: bytes) -> int | None:
    """The error code of the requester's answer to any bytes, None when it did as asked."""
    heard: list[Any] = []

    def starter(inside: EncapsulatedLink) -> Exchange[int | None]:
        heard.append((yield from inside._deliver(RequestCode(raw[1]), raw)))
        return None

    sessions = pair.responder.connection.sessions
    session = None if link.session is None else sessions[link.session.session_id]
    pair.responder.ask(starter, session)
    pair.run(poll(link))
    (answer,) = heard
    return answer[2] if answer[1] == 0x7F else None


@each
def test_in_a_session(version: int, name: str) -> None:
    pair = made(version)
    link = psk_session(pair)
    raw = raw_of(pair, name)
    if name == "END_SESSION" and version == V14:
        return  # it ends the session that the answer would come through
    if name == "CHALLENGE":
        wanted = E.UNEXPECTED_REQUEST
    elif name == "END_SESSION":
        wanted = E.UNSUPPORTED_REQUEST
    else:
        wanted = None
    assert answered(pair, link, raw) == wanted


@each
def test_outside_of_sessions(version: int, name: str) -> None:
    pair = made(version)
    pair.run(negotiate(pair.link))
    code = answered(pair, pair.link, raw_of(pair, name))
    if name not in SESSION_ONLY:
        assert code is None
    elif name == "END_SESSION" and version < V14:
        assert code == E.UNSUPPORTED_REQUEST
    else:
        assert code == (E.SESSION_REQUIRED if version >= V12 else E.UNEXPECTED_REQUEST)


@each
def test_layout_and_version(version: int, name: str) -> None:
    pair = made(version)
    link = psk_session(pair)
    raw = raw_of(pair, name)
    if name in {"CHALLENGE", "END_SESSION"}:
        return  # refused before anybody looks at their layout
    for end in range(4, len(raw)):
        assert answered(pair, link, raw[:end]) == E.INVALID_REQUEST
    assert answered(pair, link, raw + b"\0\x01") == E.INVALID_REQUEST
    assert answered(pair, link, bytes((version ^ 1,)) + raw[1:]) == E.INVALID_REQUEST
    assert answered(pair, link, raw + bytes(3)) is None


@each
def test_without_the_capability(version: int, name: str) -> None:
    needs = REQUESTS[name][1]
    if not needs:
        return
    pair = made(version, ALL_FLAGS & ~needs)
    link = psk_session(pair)
    assert answered(pair, link, raw_of(pair, name)) == E.UNSUPPORTED_REQUEST


@pytest.mark.parametrize(
    "code",
    [
        RequestCode.GET_VERSION,
        RequestCode.GET_MEASUREMENTS,
        RequestCode.SET_CERTIFICATE,
        RequestCode.KEY_EXCHANGE,
        RequestCode.SLOT_MANAGEMENT,
        RequestCode.VENDOR_DEFINED_REQUEST,
    ],
)
def test_what_no_requester_answers(code: RequestCode) -> None:
    pair = made(V14)
    link = psk_session(pair)
    assert answered(pair, link, bytes((V14, code)) + bytes(60)) == E.UNSUPPORTED_REQUEST
