"""KEY_EXCHANGE and KEY_EXCHANGE_RSP (DSP0274 10.16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import (
    Bend,
    Scene,
    answering,
    cutting,
    flipping,
    putting,
)
from spdmkit.conformance.talk import Talk
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    V11,
    V12,
    ErrorCode,
    KeyExchange,
    KeyExchangeRsp,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol import opaque
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.sessions import begin_key_exchange

CASES = Cases("key-exchange", "DSP0274 10.16")
R = RequestCode
E = ErrorCode
F = ResponderFlags
KEX = F.KEY_EX_CAP | F.CERT_CAP
RSP = ResponseCode.KEY_EXCHANGE_RSP
HEARTBEAT, SESSION_ID, MUTUAL, RANDOM, EXCHANGE = 2, 4, 6, 8, 40
"""Offsets in KEY_EXCHANGE_RSP."""


def request(talk: Talk) -> KeyExchange:
    """A sane request; its private half is thrown away."""
    connection = talk.connection
    selection = connection.algorithms
    if selection.dhe is not None:
        public = selection.dhe.generate().exchange_data
    elif selection.kem is not None:
        public = selection.kem.generate().encapsulation_key
    else:
        raise ProtocolViolation("no key exchange was negotiated")
    settings = connection.settings
    return KeyExchange(
        slot_id=0,
        req_session_id=0x1234,
        random_data=talk.random(32),
        exchange_data=public,
        opaque_data=opaque.write_offer(
            talk.version, settings.secured_versions, settings.aead_limit_exponent
        ),
    )


def _sent(talk: Talk, change: Callable[[KeyExchange], KeyExchange] | None = None) -> bytes:
    made = request(talk)
    if change is not None:
        made = change(made)
    return made.encode(talk.connection.context)


@CASES.case(
    "layout",
    "KEY_EXCHANGE_RSP is well formed, and asks for nothing that was not agreed",
    needs=KEX,
    since=V11,
    breaks=answering(RSP, putting(MUTUAL, 0x03)),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), KeyExchangeRsp)
    mutual = message.mut_auth_requested
    talk.check(mutual in (0, 1, 2, 4), f"MutAuthRequested has one bit at most; it is {mutual:#x}")
    agreed = talk.connection.flag(F.MUT_AUTH_CAP, both=True)
    talk.check(not mutual or agreed, "mutual authentication is asked for only where agreed")
    talk.check(any(message.random_data), "RandomData is not all zero")


CASES.ends(KeyExchangeRsp, request, needs=KEX, since=V11)


@CASES.case(
    "complete",
    "KEY_EXCHANGE_RSP is complete",
    needs=KEX,
    since=V11,
    breaks=answering(RSP, cutting(1)),
)
def complete(talk: Talk) -> Exchange[None]:
    yield from talk.expect(request(talk), KeyExchangeRsp)


@CASES.case(
    "heartbeat-period",
    "there is no HeartbeatPeriod without HBEAT_CAP",
    needs=KEX,
    since=V11,
    breaks=answering(RSP, putting(HEARTBEAT, 9)),
)
def heartbeat_period(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), KeyExchangeRsp)
    agreed = talk.connection.flag(F.HBEAT_CAP, both=True)
    talk.check(
        agreed or message.heartbeat_period == 0,
        f"HeartbeatPeriod is 0 where heartbeats were not agreed; it is {message.heartbeat_period}",
    )
    if agreed:
        talk.check(message.heartbeat_period != 9, "HeartbeatPeriod is what the device is set to")


@CASES.case(
    "random",
    "each KEY_EXCHANGE_RSP has random data of its own",
    needs=KEX,
    since=V11,
    breaks=answering(RSP, putting(RANDOM, *range(1, 33))),
)
def random(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk), KeyExchangeRsp)
    second = yield from talk.expect(replace(request(talk), req_session_id=0x4321), KeyExchangeRsp)
    talk.check(first.random_data != second.random_data, "two RandomData differ")


def _same_key(sent: bytearray, _request: bytes, scene: Scene) -> bytearray:
    group = scene.connection.algorithms.dhe
    size = group.exchange_size if group is not None else 64
    sent[EXCHANGE : EXCHANGE + size] = bytes(range(256)) * 8 if size > 2048 else bytes(size)
    return sent


@CASES.case(
    "fresh-key",
    "each KEY_EXCHANGE_RSP has an exchange value of its own",
    needs=KEX,
    since=V11,
    breaks=answering(RSP, _same_key),
)
def fresh_key(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk), KeyExchangeRsp)
    second = yield from talk.expect(replace(request(talk), req_session_id=0x4321), KeyExchangeRsp)
    talk.check(first.exchange_data != second.exchange_data, "two ExchangeData differ")


@CASES.case(
    "session-id",
    "two sessions of one connection have different identifiers",
    needs=KEX,
    since=V11,
    breaks=answering(RSP, putting(SESSION_ID, 7, 7)),
)
def session_id(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk), KeyExchangeRsp)
    second = yield from talk.expect(request(talk), KeyExchangeRsp)
    differ = first.rsp_session_id != second.rsp_session_id
    talk.check(differ, "RspSessionID differs where ReqSessionID is the same")


def _proof(title: str, words: str, name: str, bend: Bend) -> None:
    def script(talk: Talk) -> Exchange[None]:
        key = yield from talk.chain()
        yield from talk.holds(begin_key_exchange(talk.outside, key), words)

    CASES.case(name, title, needs=KEX, since=V11, breaks=answering(RSP, bend))(script)


def _in_signature(sent: bytearray, _request: bytes, scene: Scene) -> bytearray:
    tail = 0
    if not scene.connection.context.handshake_in_the_clear:
        tail = scene.connection.algorithms.base_hash.size
    sent[-1 - tail] ^= 1
    return sent


_proof(
    "the signature covers the negotiation, the chain, and both messages",
    "the signature of KEY_EXCHANGE_RSP verifies",
    "signature",
    _in_signature,
)
_proof(
    "ResponderVerifyData shows that the responder has the secret",
    "ResponderVerifyData of KEY_EXCHANGE_RSP holds",
    "verify-data",
    flipping(-1),
)
_proof(
    "a secured message version is selected of those offered",
    "a secured message version is selected",
    "version-selection",
    lambda sent, _r, scene: _without_selection(sent, scene),
)


def _without_selection(sent: bytearray, scene: Scene) -> bytes:
    message, _ = KeyExchangeRsp.parse(bytes(sent), scene.connection.context)
    return replace(message, opaque_data=b"").encode(scene.connection.context)


def _mended(raw: bytearray, scene: Scene) -> bytes | bytearray:
    if raw[1] != R.KEY_EXCHANGE:
        return raw
    connection = scene.connection
    selection = connection.algorithms
    if selection.dhe is not None:
        public = selection.dhe.generate().exchange_data
    elif selection.kem is not None:
        public = selection.kem.generate().encapsulation_key
    else:
        return raw
    offered = opaque.write_offer(connection.version, (0x1000, 0x1100, 0x1200, 0x1300), 64)
    made = KeyExchange(
        slot_id=0,
        req_session_id=1,
        random_data=bytes(range(32)),
        exchange_data=public,
        opaque_data=offered,
    )
    return made.encode(connection.context)


for _slot in (8, 9, 0x7F, 0xFE):
    CASES.refuses(
        f"slot-{_slot}",
        f"slot {_slot} does not exist",
        lambda talk, slot=_slot: _sent(talk, lambda m: replace(m, slot_id=slot)),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        needs=KEX,
        since=V11,
        mend=_mended,
    )
for _type in (2, 0x7F, 0xFE):
    CASES.refuses(
        f"summary-type-{_type:02x}",
        f"measurement summary hash type {_type:#04x} is reserved",
        lambda talk, kind=_type: _sent(  # type: ignore[misc] # likewise
            talk, lambda m: replace(m, measurement_summary_hash_type=kind)
        ),
        E.INVALID_REQUEST,
        needs=KEX,
        since=V11,
        mend=_mended,
    )
for _cut in (1, 8, 40):
    CASES.refuses(
        f"cut-{_cut}",
        f"KEY_EXCHANGE without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: _sent(talk)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        needs=KEX,
        since=V11,
        mend=_mended,
    )


def _zero_key(talk: Talk) -> bytes:
    return _sent(talk, lambda m: replace(m, exchange_data=bytes(len(m.exchange_data))))


CASES.refuses(
    "zero-key",
    "an exchange value of zeros, which is no point and no element, is refused",
    _zero_key,
    E.INVALID_REQUEST,
    E.UNSPECIFIED,
    needs=KEX,
    since=V11,
    until=0x13,  # with a KEM any encapsulation key of the right size may do (1.4)
    mend=_mended,
)
CASES.refuses(
    "no-versions",
    "KEY_EXCHANGE that offers no secured message version is refused",
    lambda talk: _sent(talk, lambda m: replace(m, opaque_data=b"")),
    E.INVALID_REQUEST,
    needs=KEX,
    since=V12,
    clause="DSP0277 8.1",
    mend=_mended,
)
CASES.refuses(
    "unknown-versions",
    "KEY_EXCHANGE that offers unknown secured message versions only is refused",
    lambda talk: _sent(
        talk, lambda m: replace(m, opaque_data=opaque.write_offer(talk.version, (0x9000,), 64))
    ),
    E.INVALID_REQUEST,
    needs=KEX,
    since=V11,
    clause="DSP0277 8.1",
    mend=_mended,
)


@CASES.case(
    "not-in-session",
    "KEY_EXCHANGE inside a session is refused",
    clause="DSP0274 8.6, table 6",
    stage=Stage.SESSION,
    needs=KEX,
    since=V11,
    breaks=answering(
        ResponseCode.ERROR,
        lambda sent, asked, _s: (
            sent if asked[1] != R.KEY_EXCHANGE else bytes((asked[0], RSP)) + bytes(60)
        ),
    ),
)
def not_in_session(talk: Talk) -> Exchange[None]:
    yield from talk.expect_refusal(_sent(talk), E.UNEXPECTED_REQUEST, E.INVALID_REQUEST)
