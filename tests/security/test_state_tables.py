"""The state tables are total, and nothing reaches a session but what may.

Connection, session and binding: every state with every input has a defined outcome. What the
tables allow is compared with table 6 of DSP0274, written down here once more, by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.messages import V10, V11, V12, V13, V14, ErrorCode, RequestCode
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.handlers.table import HANDLERS
from spdmkit.protocol.requester.negotiate import get_capabilities, get_version, negotiate
from spdmkit.protocol.states import (
    CONNECTION,
    SESSION,
    SINCE,
    Phase,
    Refusal,
    SessionPhase,
    in_connection,
    in_session,
)
from spdmkit.transports.framing import Side
from spdmkit.transports.tcp import TRANSITIONS, Input
from spdmkit.transports.tcp import Phase as BindingPhase

from ..protocol.support import MemoryDevice, Pair
from ..protocol.test_session_life import another
from .support import deliver, error_of, open_key_exchange, open_psk

R = RequestCode
VERSIONS = (V10, V11, V12, V13, V14)

# DSP0274 1.4.0 table 6, and 10.1 for what comes before.
OUTSIDE_ONLY = {R.GET_CAPABILITIES, R.NEGOTIATE_ALGORITHMS, R.CHALLENGE, R.KEY_EXCHANGE,
                R.PSK_EXCHANGE, R.GET_VERSION}  # fmt: skip
BOTH = {R.GET_DIGESTS, R.GET_CERTIFICATE, R.GET_MEASUREMENTS, R.GET_ENDPOINT_INFO, R.GET_CSR,
        R.SET_CERTIFICATE, R.GET_KEY_PAIR_INFO, R.SET_KEY_PAIR_INFO,
        R.GET_MEASUREMENT_EXTENSION_LOG, R.SLOT_MANAGEMENT, R.VENDOR_DEFINED_REQUEST}  # fmt: skip
INSIDE_ONLY = {R.HEARTBEAT, R.KEY_UPDATE, R.END_SESSION, R.GET_SUPPORTED_EVENT_TYPES,
               R.SUBSCRIBE_EVENT_TYPES, R.SEND_EVENT}  # fmt: skip
ALL_PHASES = {R.GET_ENCAPSULATED_REQUEST, R.DELIVER_ENCAPSULATED_RESPONSE, R.CHUNK_SEND,
              R.CHUNK_GET, R.RESPOND_IF_READY}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("code", RequestCode)
@pytest.mark.parametrize("phase", Phase)
def test_the_connection_table_is_total(phase: Phase, code: RequestCode, version: int) -> None:
    outcome = in_connection(phase, code, version)
    assert isinstance(outcome, (Phase, Refusal))
    if code == R.GET_VERSION:
        assert outcome is Phase.VERSION
    if isinstance(outcome, Refusal):
        assert not outcome.ends_session
        assert outcome.error in ErrorCode


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("code", RequestCode)
@pytest.mark.parametrize("phase", SessionPhase)
def test_the_session_table_is_total(phase: SessionPhase, code: RequestCode, version: int) -> None:
    outcome = in_session(phase, code, version)
    assert isinstance(outcome, (SessionPhase, Refusal))
    if isinstance(outcome, Refusal) and version >= SINCE[code]:
        assert outcome.ends_session is (phase is not SessionPhase.ESTABLISHED)
    if phase is SessionPhase.ENDED:
        assert isinstance(outcome, Refusal)


def test_every_request_has_a_version_a_row_and_a_handler() -> None:
    assert set(SINCE) == set(RequestCode)
    assert set(HANDLERS) <= set(RequestCode)
    assert set(RequestCode) == OUTSIDE_ONLY | BOTH | INSIDE_ONLY | ALL_PHASES | {
        R.FINISH,
        R.PSK_FINISH,
    }


@pytest.mark.parametrize("code", RequestCode)
def test_table_6_outside_a_session(code: RequestCode) -> None:
    allowed = not isinstance(in_connection(Phase.NEGOTIATED, code, V14), Refusal)
    negotiation = code in (R.GET_CAPABILITIES, R.NEGOTIATE_ALGORITHMS)
    expected = code in (OUTSIDE_ONLY | BOTH | ALL_PHASES | {R.FINISH}) and not negotiation
    assert allowed is expected


@pytest.mark.parametrize("code", RequestCode)
def test_table_6_inside_a_session(code: RequestCode) -> None:
    allowed = not isinstance(in_session(SessionPhase.ESTABLISHED, code, V14), Refusal)
    assert allowed is (code in BOTH | INSIDE_ONLY | ALL_PHASES)


@pytest.mark.parametrize("code", RequestCode)
def test_table_6_in_a_handshake(code: RequestCode) -> None:
    for phase, finisher in (
        (SessionPhase.HANDSHAKE_KEY_EXCHANGE, R.FINISH),
        (SessionPhase.HANDSHAKE_PSK, R.PSK_FINISH),
    ):
        allowed = not isinstance(in_session(phase, code, V14), Refusal)
        assert allowed is (code in ALL_PHASES | {finisher})


def test_there_is_one_way_into_each_kind_of_session() -> None:
    """Lemma of the formal analyses: established means that its own finisher was accepted."""
    into = {
        entry
        for entry, after in SESSION.items()
        if after is SessionPhase.ESTABLISHED and entry[0] is not SessionPhase.ESTABLISHED
    }
    assert into == {
        (SessionPhase.HANDSHAKE_KEY_EXCHANGE, R.FINISH),
        (SessionPhase.HANDSHAKE_PSK, R.PSK_FINISH),
    }
    assert not any(phase is SessionPhase.ENDED for phase, _ in SESSION)


def test_negotiation_has_one_order() -> None:
    forward = {entry: after for entry, after in CONNECTION.items() if after is not entry[0]}
    assert {
        (before, code): after for (before, code), after in forward.items() if code != R.GET_VERSION
    } == {
        (Phase.VERSION, R.GET_CAPABILITIES): Phase.CAPABILITIES,
        (Phase.CAPABILITIES, R.NEGOTIATE_ALGORITHMS): Phase.NEGOTIATED,
    }


def test_the_binding_table_is_total() -> None:
    for side in Side:
        for phase in BindingPhase:
            if phase is BindingPhase.CLOSED or (
                side is Side.INITIATOR and phase is BindingPhase.OPENING
            ):
                continue
            for what in Input:
                assert (side, phase, what) in TRANSITIONS


# --- the tables, as the responder lives by them --------------------------------------------------


def in_phase(phase: str, version: int) -> tuple[Pair, Any]:
    """A pair, and the session that messages go through, if they go through one."""
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(version,))
    if phase == "start":
        return pair, None
    if phase == "version":
        pair.run(get_version(pair.link))
        return pair, None
    if phase == "capabilities":
        pair.run(get_version(pair.link))
        pair.run(get_capabilities(pair.link))
        return pair, None
    if phase == "key exchange":
        return pair, open_key_exchange(pair).session
    if phase == "psk":
        return pair, open_psk(pair).session
    pair.run(negotiate(pair.link))
    return pair, another(pair).session if phase == "established" else None


PHASES = ["start", "version", "capabilities", "negotiated", "established", "psk", "key exchange"]


@pytest.mark.parametrize("version", [V11, V13, V14])
@pytest.mark.parametrize("phase", PHASES)
def test_every_request_in_every_state_gets_one_answer(phase: str, version: int) -> None:
    """Whatever stands behind the header: an answer, and a responder that goes on."""
    fresh = True
    for code in (*RequestCode, 0x00, 0x7F, 0xFA):
        if fresh:
            pair, session = in_phase(phase, version)
        message = bytes((V10 if code == R.GET_VERSION else version, code, 0, 0)) + bytes(40)
        if session is None:
            frames = deliver(pair, Frame(FrameKind.MESSAGE, message))
        else:
            frames = deliver(pair, Frame(FrameKind.SECURED, session.sender.message(message)))
        assert len(frames) == 1
        alive = session is None or session.session_id in pair.responder.connection.sessions
        if session is not None and frames[0].kind is FrameKind.SECURED:
            session.receiver.message(frames[0].body)
        fresh = not alive or code in (R.GET_VERSION, R.KEY_UPDATE)
        assert not any(
            each.established and each.kind.value == "key-exchange"
            for each in pair.responder.connection.sessions.values()
        )


messages = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda version, code, rest: bytes((version, code)) + rest,
        st.sampled_from([V10, V13, 0x15, 0]),
        st.sampled_from([int(code) for code in RequestCode] + [0, 0x7F]),
        st.binary(min_size=2, max_size=80),
    ),
)


@settings(max_examples=150, deadline=None)
@given(phase=st.sampled_from(PHASES[:5]), sent=st.lists(messages, min_size=1, max_size=6))
def test_any_messages_in_any_state(phase: str, sent: list[bytes]) -> None:
    pair, session = in_phase(phase, V13)
    for message in sent:
        if session is not None and session.session_id in pair.responder.connection.sessions:
            frame = Frame(FrameKind.SECURED, session.sender.seal(message))
        else:
            frame = Frame(FrameKind.MESSAGE, message)
        frames = deliver(pair, frame)
        # Application data is echoed unless there is none in the record; all else is answered.
        assert len(frames) <= 1
        if frame.kind is FrameKind.MESSAGE:
            assert len(frames) == 1
            assert len(frames[0].body) >= 4
    pair.run(negotiate(pair.link))
    assert error_of(pair.raw(b"\x13\x81\0\0")) is None


@settings(max_examples=200, deadline=None)
@given(record=st.binary(max_size=120), right=st.booleans())
def test_any_bytes_as_a_record(record: bytes, right: bool) -> None:
    pair, session = in_phase("established", V13)
    if right:
        record = session.session_id.to_bytes(4, "little") + record
    (frame,) = deliver(pair, Frame(FrameKind.SECURED, record))
    assert error_of(frame.body) == ErrorCode.DECRYPT_ERROR
    assert pair.run(another(pair).link.converse(b"x")).data == b"x"
