"""Which request is legal when: the two state machines of SPDM, as tables, neutral of role.

`CONNECTION` holds what is legal outside a session, `SESSION` what is legal inside one. Both map
(state, request code) to the next state; a pair that is missing is illegal, and `refusal` says with
which ERROR and into which state that leads. Nothing elsewhere decides legality by order; the
requester consults the same tables before it sends as the responder does when it receives.

The rules are those of DSP0274 1.4.0 table 6 (clause 8.6) and of the order of messages in clause 10.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from spdmkit.messages import V10, V11, V12, V13, V14, ErrorCode, RequestCode

__all__ = [
    "CONNECTION",
    "SESSION",
    "SINCE",
    "Phase",
    "Refusal",
    "SessionPhase",
    "finish_outside",
    "in_connection",
    "in_session",
]

R = RequestCode


class Phase(enum.Enum):
    """How far a connection has come."""

    __hash__ = object.__hash__  # of the tables' keys; enum's own hashes the name each time

    NOT_STARTED = "not started"
    VERSION = "version known"
    CAPABILITIES = "capabilities known"
    NEGOTIATED = "algorithms negotiated"
    NOTHING_IN_COMMON = "no hash algorithm in common"
    """Only another GET_VERSION can help (DSP0274 10.5)."""


class SessionPhase(enum.Enum):
    """How far a session has come; its kind is part of the phase while it matters.

    An opener and a finisher of different kinds once completed sessions without authentication
    (CVE-2023-31127), hence the two handshake phases: no table entry joins them.
    """

    __hash__ = object.__hash__  # as `Phase`

    HANDSHAKE_KEY_EXCHANGE = "handshake by key exchange"
    HANDSHAKE_PSK = "handshake by pre-shared key"
    ESTABLISHED = "established"
    ENDED = "ended"


SINCE: dict[int, int] = {
    R.GET_DIGESTS: V10,
    R.GET_CERTIFICATE: V10,
    R.CHALLENGE: V10,
    R.GET_VERSION: V10,
    R.CHUNK_SEND: V12,
    R.CHUNK_GET: V12,
    R.GET_ENDPOINT_INFO: V13,
    R.SLOT_MANAGEMENT: V14,
    R.GET_MEASUREMENTS: V10,
    R.GET_CAPABILITIES: V10,
    R.GET_SUPPORTED_EVENT_TYPES: V13,
    R.NEGOTIATE_ALGORITHMS: V10,
    R.KEY_EXCHANGE: V11,
    R.FINISH: V11,
    R.PSK_EXCHANGE: V11,
    R.PSK_FINISH: V11,
    R.HEARTBEAT: V11,
    R.KEY_UPDATE: V11,
    R.GET_ENCAPSULATED_REQUEST: V11,
    R.DELIVER_ENCAPSULATED_RESPONSE: V11,
    R.END_SESSION: V11,
    R.GET_CSR: V12,
    R.SET_CERTIFICATE: V12,
    R.GET_MEASUREMENT_EXTENSION_LOG: V13,
    R.SUBSCRIBE_EVENT_TYPES: V13,
    R.SEND_EVENT: V13,
    R.GET_KEY_PAIR_INFO: V13,
    R.SET_KEY_PAIR_INFO: V13,
    R.VENDOR_DEFINED_REQUEST: V10,
    R.RESPOND_IF_READY: V10,
}
"""The SPDM version that brought each request."""

_ANYWHERE = (R.RESPOND_IF_READY, R.CHUNK_SEND, R.CHUNK_GET)
_ENCAPSULATION = (R.GET_ENCAPSULATED_REQUEST, R.DELIVER_ENCAPSULATED_RESPONSE)

_BOTH_SIDES_OF_A_SESSION = (
    R.GET_DIGESTS,
    R.GET_CERTIFICATE,
    R.GET_MEASUREMENTS,
    R.GET_ENDPOINT_INFO,
    R.GET_CSR,
    R.SET_CERTIFICATE,
    R.GET_KEY_PAIR_INFO,
    R.SET_KEY_PAIR_INFO,
    R.GET_MEASUREMENT_EXTENSION_LOG,
    R.SLOT_MANAGEMENT,
    R.VENDOR_DEFINED_REQUEST,
    *_ENCAPSULATION,
)

_IN_SESSION_ONLY = (
    R.HEARTBEAT,
    R.KEY_UPDATE,
    R.GET_SUPPORTED_EVENT_TYPES,
    R.SUBSCRIBE_EVENT_TYPES,
    R.SEND_EVENT,
)

CONNECTION: dict[tuple[Phase, int], Phase] = {
    # GET_VERSION resets whatever there was, at any time (DSP0274 10.3).
    **{(phase, R.GET_VERSION): Phase.VERSION for phase in Phase},
    (Phase.VERSION, R.GET_CAPABILITIES): Phase.CAPABILITIES,
    (Phase.CAPABILITIES, R.NEGOTIATE_ALGORITHMS): Phase.NEGOTIATED,
    **{
        (Phase.NEGOTIATED, code): Phase.NEGOTIATED
        for code in (
            *_BOTH_SIDES_OF_A_SESSION,
            *_ANYWHERE,
            R.CHALLENGE,
            R.KEY_EXCHANGE,
            R.PSK_EXCHANGE,
            # Legal here only while a handshake in the clear waits for it; the session's own
            # table has the last word (DSP0274 10.17).
            R.FINISH,
        )
    },
    # A supported-algorithms block can make CAPABILITIES itself a large response (1.3).
    (Phase.VERSION, R.CHUNK_GET): Phase.VERSION,
    (Phase.CAPABILITIES, R.CHUNK_GET): Phase.CAPABILITIES,
    # NEGOTIATE_ALGORITHMS is larger than the smallest DataTransferSize.
    (Phase.CAPABILITIES, R.CHUNK_SEND): Phase.CAPABILITIES,
    (Phase.VERSION, R.RESPOND_IF_READY): Phase.VERSION,
    (Phase.CAPABILITIES, R.RESPOND_IF_READY): Phase.CAPABILITIES,
}
"""(phase, request) -> next phase, for messages outside a session."""

SESSION: dict[tuple[SessionPhase, int], SessionPhase] = {
    (SessionPhase.HANDSHAKE_KEY_EXCHANGE, R.FINISH): SessionPhase.ESTABLISHED,
    (SessionPhase.HANDSHAKE_PSK, R.PSK_FINISH): SessionPhase.ESTABLISHED,
    **{
        (phase, code): phase
        for phase in (SessionPhase.HANDSHAKE_KEY_EXCHANGE, SessionPhase.HANDSHAKE_PSK)
        for code in (*_ENCAPSULATION, *_ANYWHERE)
    },
    **{
        (SessionPhase.ESTABLISHED, code): SessionPhase.ESTABLISHED
        for code in (*_BOTH_SIDES_OF_A_SESSION, *_IN_SESSION_ONLY, *_ANYWHERE)
    },
    (SessionPhase.ESTABLISHED, R.END_SESSION): SessionPhase.ENDED,
}
"""(phase, request) -> next phase, for messages inside a session (and FINISH in the clear)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an illegal request is answered with.

    Attributes:
        error: the ERROR code.
        data: Param2 of the ERROR.
        ends_session: the session is over as well.
    """

    error: ErrorCode
    data: int = 0
    ends_session: bool = False


def in_connection(phase: Phase, code: int, version: int) -> Phase | Refusal:
    """The phase after `code` outside a session, or how it is refused."""
    if version < SINCE[code] and code != R.GET_VERSION:
        return Refusal(ErrorCode.UNSUPPORTED_REQUEST, code)
    after = CONNECTION.get((phase, code))
    if after is not None:
        return after
    if phase is Phase.NOTHING_IN_COMMON:
        return Refusal(ErrorCode.REQUEST_RESYNCH)
    session_only = code in _IN_SESSION_ONLY or code in (R.END_SESSION, R.PSK_FINISH)
    if phase is Phase.NEGOTIATED and session_only and version >= V12:
        return Refusal(ErrorCode.SESSION_REQUIRED)
    return Refusal(ErrorCode.UNEXPECTED_REQUEST)


def finish_outside(
    phase: SessionPhase | None, version: int, *, clear: bool
) -> SessionPhase | Refusal:
    """What becomes of a FINISH outside a session.

    Args:
        phase: that of the session whose handshake in the clear it ends; None when there is none.
        version: the version negotiated.
        clear: handshakes in the clear were negotiated; otherwise FINISH belongs in a session.
    """
    if phase is not None:
        return in_session(phase, R.FINISH, version)
    if clear or version < V12:
        return Refusal(ErrorCode.UNEXPECTED_REQUEST)
    return Refusal(ErrorCode.SESSION_REQUIRED)


def in_session(phase: SessionPhase, code: int, version: int) -> SessionPhase | Refusal:
    """The phase after `code` in a session, or how it is refused.

    An illegal request in the handshake ends the session: nothing was promised yet, and whatever
    is out of order there is an attack or a broken peer.
    """
    if version < SINCE[code]:
        return Refusal(ErrorCode.UNSUPPORTED_REQUEST, code)
    after = SESSION.get((phase, code))
    if after is not None:
        return after
    return Refusal(ErrorCode.UNEXPECTED_REQUEST, ends_session=phase is not SessionPhase.ESTABLISHED)
