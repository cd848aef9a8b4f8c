"""FINISH and FINISH_RSP (DSP0274 10.17)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import Scene, answering, appending, obliging
from spdmkit.conformance.talk import Talk
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V11,
    ErrorCode,
    Finish,
    GetDigests,
    Heartbeat,
    PskFinish,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.sessions import complete_key_exchange

CASES = Cases("finish", "DSP0274 10.17")
R = RequestCode
E = ErrorCode
F = ResponderFlags
KEX = F.KEY_EX_CAP | F.CERT_CAP


@CASES.case(
    "completes",
    "a right FINISH completes the handshake",
    stage=Stage.HANDSHAKE,
    needs=KEX,
    since=V11,
    breaks=answering(ResponseCode.FINISH_RSP, appending(b"\x01")),
)
def completes(talk: Talk) -> Exchange[None]:
    begun = talk.begun
    talk.need(begun is not None, "the handshake has begun")
    if begun is None:
        return
    try:
        yield from complete_key_exchange(begun)
    except SpdmError as error:
        talk.need(False, f"FINISH completes the handshake: {error}")
    talk.check(True, "FINISH completes the handshake")
    talk.check(begun.opened.session.established, "the session is established")


def _wrong(talk: Talk) -> Finish:
    return Finish(verify_data=bytes(talk.outside.peer_hash.size))


@CASES.case(
    "verify-data",
    "a FINISH whose RequesterVerifyData is wrong ends the session",
    stage=Stage.HANDSHAKE,
    needs=KEX,
    since=V11,
    breaks=obliging(ResponseCode.FINISH_RSP),
)
def verify_data(talk: Talk) -> Exchange[None]:
    yield from talk.expect_end(_wrong(talk), E.DECRYPT_ERROR, E.INVALID_REQUEST)


@CASES.case(
    "cut",
    "a FINISH that is not complete is refused",
    stage=Stage.HANDSHAKE,
    needs=KEX,
    since=V11,
    breaks=obliging(ResponseCode.FINISH_RSP),
)
def cut(talk: Talk) -> Exchange[None]:
    sent = _wrong(talk).encode(talk.connection.context)[:-4]
    yield from talk.expect_end(sent, E.DECRYPT_ERROR, E.INVALID_REQUEST)


@CASES.case(
    "wrong-finisher",
    "PSK_FINISH does not finish a session by KEY_EXCHANGE",
    clause="DSP0274 10.19",
    stage=Stage.HANDSHAKE,
    needs=KEX,
    since=V11,
    breaks=obliging(ResponseCode.PSK_FINISH_RSP),
)
def wrong_finisher(talk: Talk) -> Exchange[None]:
    sent = PskFinish(verify_data=bytes(talk.outside.peer_hash.size))
    yield from talk.expect_end(sent)


@CASES.case(
    "handshake-order",
    "in the handshake other requests are refused",
    clause="DSP0274 8.6",
    stage=Stage.HANDSHAKE,
    needs=KEX,
    since=V11,
    breaks=obliging(ResponseCode.HEARTBEAT_ACK),
)
def handshake_order(talk: Talk) -> Exchange[None]:
    yield from talk.expect_end(Heartbeat())


@CASES.case(
    "digests-too-early",
    "GET_DIGESTS in the handshake is refused",
    clause="DSP0274 8.6",
    stage=Stage.HANDSHAKE,
    needs=KEX,
    since=V11,
    breaks=obliging(ResponseCode.DIGESTS),
)
def digests_too_early(talk: Talk) -> Exchange[None]:
    yield from talk.expect_end(GetDigests())


@CASES.case(
    "twice",
    "FINISH in an established session is refused",
    clause="DSP0274 8.6",
    stage=Stage.SESSION,
    needs=KEX,
    since=V11,
    breaks=obliging(ResponseCode.FINISH_RSP),
)
def twice(talk: Talk) -> Exchange[None]:
    yield from talk.expect_refusal(_wrong(talk))


def _finish_of(raw: bytearray, _scene: Scene) -> bytes | bytearray:
    """What has no session is taken for what needs none."""
    if raw[1] != R.FINISH:
        return raw
    return bytes((raw[0], R.GET_DIGESTS, 0, 0))


CASES.refuses(
    "without-session",
    "FINISH without a session is refused",
    lambda talk: _wrong(talk).encode(talk.connection.context),
    E.UNEXPECTED_REQUEST,
    E.SESSION_REQUIRED,
    E.INVALID_REQUEST,
    clause="DSP0274 8.6",
    needs=KEX,
    since=V11,
    mend=_finish_of,
)
