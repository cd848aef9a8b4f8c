"""Events (DSP0274 10.32 of 1.3 on)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import Misbehaviour, Scene, answering, appending
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V13,
    ErrorCode,
    GetSupportedEventTypes,
    RequestCode,
    ResponderFlags,
    ResponseCode,
    SupportedEventTypes,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("events", "DSP0274 10.14")
R = RequestCode
E = ErrorCode
CAP = ResponderFlags.EVENT_CAP


@CASES.case(
    "supported",
    "SUPPORTED_EVENT_TYPES is well formed and names a group at least",
    stage=Stage.SESSION,
    needs=CAP,
    since=V13,
    breaks=answering(ResponseCode.SUPPORTED_EVENT_TYPES, appending(b"\x01")),
)
def supported(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GetSupportedEventTypes(), SupportedEventTypes)
    talk.check(bool(message.event_groups), "a group of events is supported")


def _obliging(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    if sent[1] != ResponseCode.ERROR or asked[1] & 0xF0 not in (0xE0, 0xF0):
        return sent
    return bytes((asked[0], asked[1] & 0x7F)) + bytes(6)


for _name, _code in (
    ("supported", R.GET_SUPPORTED_EVENT_TYPES),
    ("subscribe", R.SUBSCRIBE_EVENT_TYPES),
    ("send", R.SEND_EVENT),
):

    def _outside(talk: Talk, code: RequestCode = _code) -> Exchange[None]:
        yield from talk.expect_refusal(talk.header(code) + bytes(8))

    CASES.case(
        f"outside-{_name}",
        f"{_code.name} outside a session is refused",
        clause="DSP0274 8.6, table 6",
        needs=CAP,
        since=V13,
        breaks=Misbehaviour(response=_obliging),
    )(_outside)


@CASES.case(
    "subscribe-nonsense",
    "a subscription to groups that do not exist is refused",
    stage=Stage.SESSION,
    needs=CAP,
    since=V13,
    breaks=Misbehaviour(response=_obliging),
)
def subscribe_nonsense(talk: Talk) -> Exchange[None]:
    sent = talk.header(R.SUBSCRIBE_EVENT_TYPES, 9) + b"\x04\0\0\0\0\0\0\0" + b"\xff" * 4
    yield from talk.expect_refusal(sent)
