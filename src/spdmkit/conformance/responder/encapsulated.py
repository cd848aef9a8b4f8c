"""GET_ENCAPSULATED_REQUEST and DELIVER_ENCAPSULATED_RESPONSE (DSP0274 10.23, 10.24)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import Misbehaviour, Scene
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V11,
    EncapsulatedRequest,
    ErrorCode,
    GetEncapsulatedRequest,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("encapsulated", "DSP0274 10.23")
R = RequestCode
E = ErrorCode
F = ResponderFlags


def _obliging(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    """A request out of nowhere, where there is nothing to ask."""
    if sent[1] != ResponseCode.ERROR:
        return sent
    if asked[1] == R.GET_ENCAPSULATED_REQUEST:
        return bytes((asked[0], ResponseCode.ENCAPSULATED_REQUEST, 1, 0)) + b"\x00\x00"
    return bytes((asked[0], ResponseCode.ENCAPSULATED_RESPONSE_ACK, 0, 0, 0, 0, 0, 0))


def _nothing_pending(talk: Talk) -> Exchange[None]:
    answer = yield from talk.ask(GetEncapsulatedRequest())
    if answer[1] == ResponseCode.ENCAPSULATED_REQUEST:
        message = talk.decoded(answer, EncapsulatedRequest, GetEncapsulatedRequest())
        inner = message.encapsulated_request
        good = len(inner) >= 4 and inner[0] == talk.version and inner[1] & 0x80
        talk.check(bool(good), "what is encapsulated is a request of the same version")
        return
    talk.refused(
        answer,
        E.NO_PENDING_REQUESTS,
        E.UNEXPECTED_REQUEST,
        E.INVALID_RESPONSE_CODE,
        E.INVALID_REQUEST,
    )


for _stage, _name in ((Stage.NEGOTIATED, "outside"), (Stage.SESSION, "inside")):
    CASES.case(
        f"pending-{_name}",
        f"a requester that asks {_name} a session gets a request, or that there is none",
        stage=_stage,
        needs=F.ENCAP_CAP,
        since=V11,
        breaks=Misbehaviour(response=_obliging),
    )(_nothing_pending)


@CASES.case(
    "deliver-unasked",
    "a response that nobody asked for is refused",
    clause="DSP0274 10.24",
    needs=F.ENCAP_CAP,
    since=V11,
    breaks=Misbehaviour(response=_obliging),
)
def deliver_unasked(talk: Talk) -> Exchange[None]:
    inner = talk.header(R.GET_DIGESTS)[:1] + bytes((ResponseCode.DIGESTS, 0, 0))
    sent = talk.header(R.DELIVER_ENCAPSULATED_RESPONSE, 7) + inner
    yield from talk.expect_refusal(sent)
