"""PSK_EXCHANGE, PSK_FINISH and their responses (DSP0274 10.18, 10.19)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import (
    Scene,
    answering,
    appending,
    cutting,
    flipping,
    obliging,
    putting,
)
from spdmkit.conformance.talk import Talk
from spdmkit.errors import AuthenticationError, PeerError, SpdmError
from spdmkit.messages import (
    V11,
    V12,
    ErrorCode,
    Finish,
    PskExchange,
    PskExchangeRsp,
    PskFinish,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol import opaque
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.sessions import (
    PreSharedKey,
    begin_psk_exchange,
    complete_psk_exchange,
)

CASES = Cases("psk", "DSP0274 10.18")
R = RequestCode
E = ErrorCode
F = ResponderFlags
ANY = F.PSK_CAP_NO_CONTEXT | F.PSK_CAP_CONTEXT
RSP = ResponseCode.PSK_EXCHANGE_RSP
STAGE = Stage.NEGOTIATED


def _psk(talk: Talk) -> PreSharedKey:
    known = talk.facts.psk
    if known is None:
        talk.need(False, "a pre-shared key was given")
        raise SpdmError("unreachable")
    return known


def request(talk: Talk) -> PskExchange:
    """A sane request."""
    settings = talk.connection.settings
    return PskExchange(
        req_session_id=0x1234,
        psk_hint=_psk(talk).hint,
        requester_context=talk.random(32),
        opaque_data=opaque.write_offer(
            talk.version, settings.secured_versions, settings.aead_limit_exponent
        ),
    )


def _sent(talk: Talk, change: Callable[[PskExchange], PskExchange] | None = None) -> bytes:
    made = request(talk)
    return (made if change is None else change(made)).encode(talk.connection.context)


@CASES.case(
    "layout",
    "PSK_EXCHANGE_RSP is well formed, with a context where there is to be one",
    any_of=ANY,
    since=V11,
    breaks=answering(RSP, cutting(1)),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), PskExchangeRsp)
    kind = talk.connection.peer.flags & F.PSK_CAP_MASK
    wanted = kind == F.PSK_CAP_CONTEXT
    talk.equal(bool(message.responder_context), wanted, "whether there is a ResponderContext")


CASES.ends(PskExchangeRsp, request, any_of=ANY, since=V11)


@CASES.case(
    "context",
    "each PSK_EXCHANGE_RSP has a context of its own",
    needs=F.PSK_CAP_CONTEXT,
    since=V11,
    breaks=answering(RSP, lambda sent, _r, scene: _no_context(sent, scene)),
)
def context(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk), PskExchangeRsp)
    second = yield from talk.expect(replace(request(talk), req_session_id=2), PskExchangeRsp)
    talk.check(first.responder_context != second.responder_context, "two contexts differ")


def _no_context(sent: bytearray, scene: Scene) -> bytes:
    message, _ = PskExchangeRsp.parse(bytes(sent), scene.connection.context)
    changed = replace(message, responder_context=bytes(len(message.responder_context)))
    return changed.encode(scene.connection.context)


@CASES.case(
    "session-id",
    "two sessions of one connection have different identifiers",
    any_of=ANY,
    since=V11,
    breaks=answering(RSP, putting(4, 7, 7)),
)
def session_id(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk), PskExchangeRsp)
    second = yield from talk.expect(request(talk), PskExchangeRsp)
    differ = first.rsp_session_id != second.rsp_session_id
    talk.check(differ, "RspSessionID differs where ReqSessionID is the same")


@CASES.case(
    "verify-data",
    "ResponderVerifyData shows that the responder has the key",
    any_of=ANY,
    since=V11,
    breaks=answering(RSP, flipping(-1)),
)
def verify_data(talk: Talk) -> Exchange[None]:
    begun = begin_psk_exchange(talk.outside, _psk(talk))
    yield from talk.holds(begun, "ResponderVerifyData of PSK_EXCHANGE_RSP holds")


@CASES.case(
    "completes",
    "a right PSK_FINISH completes the handshake",
    clause="DSP0274 10.19",
    stage=Stage.PSK_HANDSHAKE,
    needs=F.PSK_CAP_CONTEXT,
    since=V11,
    breaks=answering(ResponseCode.PSK_FINISH_RSP, appending(b"\x01")),
)
def completes(talk: Talk) -> Exchange[None]:
    begun = talk.begun_psk
    if begun is None:
        return
    try:
        yield from complete_psk_exchange(begun)
    except SpdmError as error:
        talk.need(False, f"PSK_FINISH completes the handshake: {error}")
    talk.check(begun.opened.session.established, "the session is established")


@CASES.case(
    "wrong-verify-data",
    "a PSK_FINISH whose RequesterVerifyData is wrong ends the session",
    clause="DSP0274 10.19",
    stage=Stage.PSK_HANDSHAKE,
    needs=F.PSK_CAP_CONTEXT,
    since=V11,
    breaks=obliging(ResponseCode.PSK_FINISH_RSP),
)
def wrong_verify_data(talk: Talk) -> Exchange[None]:
    sent = PskFinish(verify_data=bytes(talk.outside.peer_hash.size))
    yield from talk.expect_end(sent, E.DECRYPT_ERROR, E.INVALID_REQUEST)


@CASES.case(
    "wrong-finisher",
    "FINISH does not finish a session by PSK_EXCHANGE",
    clause="DSP0274 10.17",
    stage=Stage.PSK_HANDSHAKE,
    needs=F.PSK_CAP_CONTEXT,
    since=V11,
    breaks=obliging(ResponseCode.FINISH_RSP),
)
def wrong_finisher(talk: Talk) -> Exchange[None]:
    yield from talk.expect_end(Finish(verify_data=bytes(talk.outside.peer_hash.size)))


@CASES.case(
    "unknown-hint",
    "an unknown hint opens no session: it is refused, or answered like a key that is wrong",
    clause="DSP0274 10.18",
    any_of=ANY,
    since=V11,
    breaks=answering(RSP, cutting(1)),
)
def unknown_hint(talk: Talk) -> Exchange[None]:
    stranger = PreSharedKey(b"nobody knows this hint", _psk(talk).key)
    try:
        yield from begin_psk_exchange(talk.outside, stranger)
    except (PeerError, AuthenticationError):
        talk.check(True, "an unknown hint opens no session")
    except SpdmError as error:
        talk.check(False, f"an unknown hint opens no session; instead: {error}")
    else:
        talk.check(False, "an unknown hint opens no session; it did")


def _mended(raw: bytearray, _scene: Scene) -> bytes | bytearray:
    return bytes((raw[0], R.GET_DIGESTS, 0, 0)) if raw[1] == R.PSK_EXCHANGE else raw


for _type in (2, 0x7F):
    CASES.refuses(
        f"summary-type-{_type:02x}",
        f"measurement summary hash type {_type:#04x} is reserved",
        lambda talk, kind=_type: _sent(  # type: ignore[misc] # default argument binds the loop variable
            talk, lambda m: replace(m, measurement_summary_hash_type=kind)
        ),
        E.INVALID_REQUEST,
        any_of=ANY,
        since=V11,
        stage=STAGE,
        mend=_mended,
    )
for _cut in (1, 8, 40):
    CASES.refuses(
        f"cut-{_cut}",
        f"PSK_EXCHANGE without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: _sent(talk)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        any_of=ANY,
        since=V11,
        mend=_mended,
    )
CASES.refuses(
    "no-versions",
    "PSK_EXCHANGE that offers no secured message version is refused",
    lambda talk: _sent(talk, lambda m: replace(m, opaque_data=b"")),
    E.INVALID_REQUEST,
    any_of=ANY,
    since=V12,
    clause="DSP0277 8.1",
    mend=_mended,
)
