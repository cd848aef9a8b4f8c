"""Answering the responder's own requests: encapsulated ones (DSP0274 10.21).

The same handlers answer here as on a responder; only the way the messages travel differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spdmkit.errors import PeerError, ProtocolViolation, SpdmError
from spdmkit.messages import (
    V12,
    V14,
    DeliverEncapsulatedResponse,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    Error,
    ErrorCode,
    GetDigests,
    GetEncapsulatedRequest,
    RequestCode,
)
from spdmkit.protocol.actions import perform
from spdmkit.protocol.handlers.call import Call, Handler, Outcome, Steps, for_request
from spdmkit.protocol.handlers.encapsulated import ENCAPSULATED, ENCAPSULATED_SINCE
from spdmkit.protocol.responder.device import Peer
from spdmkit.protocol.states import SINCE, Refusal, in_connection

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.credentials import Credentials
    from spdmkit.protocol.link import Link

__all__ = ["authenticate_basic", "authenticate_encapsulated", "serve_encapsulated"]

_IN_HANDSHAKE = frozenset({RequestCode.GET_DIGESTS, RequestCode.GET_CERTIFICATE})
_AFTER_CHALLENGE = frozenset({*_IN_HANDSHAKE, RequestCode.CHALLENGE})
_SINCE = {RequestCode.END_SESSION: V14}
"""Versions that allow a request to be encapsulated, where the request itself is older (10.24.2)."""
_MOST_REQUESTS = 1024
"""Encapsulated requests in one flow; a chain in small portions needs the most."""


def authenticate_encapsulated(
    link: Link, credentials: Credentials, *, digests_first: bool
) -> Exchange[int]:
    """The flow of session-based mutual authentication; the slot FINISH is to be signed with.

    Args:
        link: the way through the session in its handshake.
        credentials: our slots.
        digests_first: the optimized flow: the responder's first request is an implicit GET_DIGESTS.
    """
    if digests_first:
        # Nobody sent this request: only its response enters a transcript.
        first = GetDigests().encode(link.connection.context)
        slot = yield from _flow(link, credentials, 0, first, _IN_HANDSHAKE)
    else:
        asked = (yield from link.ask(GetEncapsulatedRequest(), EncapsulatedRequest)).message
        first = asked.encapsulated_request
        slot = yield from _flow(link, credentials, asked.request_id, first, _IN_HANDSHAKE)
    # The reference responder says "absent" where it means slot 0.
    return slot or 0


def authenticate_basic(link: Link, credentials: Credentials) -> Exchange[None]:
    """The basic mutual authentication that CHALLENGE_AUTH may ask for (10.15).

    Raises:
        PeerError: the responder asked for it and then has nothing to ask, or refuses.
        SpdmError: as `Link.ask`.
    """
    transcript = link.connection.encapsulated_m1m2
    if transcript is not None:
        # It signs what its own flow holds (DSP0274, M1/M2).
        transcript.reset()
    asked = (yield from link.ask(GetEncapsulatedRequest(), EncapsulatedRequest)).message
    first = asked.encapsulated_request
    yield from _flow(link, credentials, asked.request_id, first, _AFTER_CHALLENGE)


def serve_encapsulated(link: Link, credentials: Credentials) -> Exchange[bool]:
    """Ask for the responder's requests and answer all it has.

    Returns:
        False when it had none.

    Raises:
        PeerError: the responder took one of our answers for wrong.
        SpdmError: as `Link.ask`.
    """
    transcript = link.connection.encapsulated_m1m2
    if link.session is None and transcript is not None:
        transcript.reset()
    try:
        asked = (yield from link.ask(GetEncapsulatedRequest(), EncapsulatedRequest)).message
    except PeerError as error:
        if error.code in (ErrorCode.DECRYPT_ERROR, ErrorCode.REQUEST_RESYNCH):
            raise
        # Whatever else it says, it has nothing for us.
        return False
    yield from _flow(link, credentials, asked.request_id, asked.encapsulated_request, None)
    return True


def _flow(
    link: Link,
    credentials: Credentials,
    request_id: int,
    request: bytes,
    permitted: frozenset[RequestCode] | None,
) -> Exchange[int | None]:
    """Serve one flow from its first request to its end; the slot byte that ended it, if one did."""
    answer = yield from _answer(link, credentials, request, permitted)
    for _ in range(_MOST_REQUESTS):
        delivery = DeliverEncapsulatedResponse(
            request_id=request_id, encapsulated_response=answer.response
        )
        ack = (yield from link.ask(delivery, EncapsulatedResponseAck)).message
        if answer.then is not None:
            answer.then()
        if link.connection.version >= V12 and ack.ack_request_id != request_id:
            raise ProtocolViolation("ENCAPSULATED_RESPONSE_ACK is for another request")
        if ack.payload_type == EncapsulatedPayload.ABSENT:
            return None
        if ack.payload_type == EncapsulatedPayload.REQ_SLOT_NUMBER:
            return ack.payload[0]  # one byte, or it was no such message
        if ack.payload_type != EncapsulatedPayload.PRESENT or not ack.payload:
            raise ProtocolViolation(f"ENCAPSULATED_RESPONSE_ACK payload type {ack.payload_type}")
        request_id = ack.request_id
        answer = yield from _answer(link, credentials, ack.payload, permitted)
    raise ProtocolViolation("the responder does not stop asking")


def _answer(
    link: Link,
    credentials: Credentials,
    raw: bytes,
    permitted: frozenset[RequestCode] | None,
) -> Exchange[Outcome]:
    """Our response to one encapsulated request, or the ERROR that it deserves.

    What is to happen afterwards (the end of the session) waits until the responder has it.
    """
    connection = link.connection
    try:
        call, handler = _call(link, credentials, raw, permitted)
        answer = handler(call)
        return answer if isinstance(answer, Outcome) else (yield from _driven(answer))
    except SpdmError as error:
        code = error.error_code if isinstance(error, ProtocolViolation) else 0x01
        data = error.error_data if isinstance(error, ProtocolViolation) else 0
        return Outcome(Error(error_code=code, error_data=data).encode(connection.context))


def _driven(steps: Steps) -> Exchange[Outcome]:
    """Run a handler that needs slow work: pass its `Work` on, and the results back."""
    result: Any = None
    while True:
        try:
            work = steps.send(result)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        result = yield from perform(work.call)


def _call(
    link: Link,
    credentials: Credentials,
    raw: bytes,
    permitted: frozenset[RequestCode] | None,
) -> tuple[Call, Handler]:
    """The request as a handler wants it, when it is one that may be encapsulated now."""
    connection = link.connection
    if len(raw) < 4 or raw[0] != connection.version:
        raise ProtocolViolation("the encapsulated request has another version")
    entry = ENCAPSULATED.get(raw[1])
    if entry is None or connection.version < ENCAPSULATED_SINCE.get(raw[1], 0):
        raise ProtocolViolation(
            f"request 0x{raw[1]:02x} may not be encapsulated",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=raw[1],
        )
    if permitted is not None and raw[1] not in permitted:
        raise ProtocolViolation(
            f"{entry.message.name} may not be encapsulated in a handshake",
            error_code=ErrorCode.UNEXPECTED_REQUEST,
        )
    if entry.requester and not connection.own.flags & entry.requester:
        raise ProtocolViolation(
            f"{entry.message.name} needs a capability we did not announce",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=raw[1],
        )
    if entry.responder and not connection.peer.flags & entry.responder:
        raise ProtocolViolation(
            f"{entry.message.name} needs a capability the responder did not announce",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=raw[1],
        )
    _check_phase(link, RequestCode(raw[1]))
    request, consumed = entry.message.parse(
        raw, for_request(connection.context, None, requester_side=True)
    )
    if any(raw[consumed:]):
        raise ProtocolViolation(f"{len(raw) - consumed} bytes follow {entry.message.name}")
    call = Call(
        connection=connection,
        session=link.session,
        request=request,
        raw=raw[:consumed],
        context=for_request(connection.context, request, requester_side=True),
        credentials=credentials,
        device=None,
        peer=Peer(),
    )
    return call, entry.handler


def _check_phase(link: Link, code: RequestCode) -> None:
    """Refuse what is not legal here and now; in a handshake `permitted` has said so already.

    Raises:
        ProtocolViolation: with the ERROR that the table of states gives.
    """
    connection, session = link.connection, link.session
    version = connection.version
    verdict: object = None
    if version < _SINCE.get(code, SINCE[code]):
        verdict = Refusal(ErrorCode.UNSUPPORTED_REQUEST, code)
    elif session is None:
        verdict = in_connection(connection.phase, code, version)
    elif session.established:
        verdict = session.permits(code)
    if isinstance(verdict, Refusal):
        raise ProtocolViolation(
            f"{code.name} may not be encapsulated now",
            error_code=verdict.error,
            error_data=verdict.data,
        )
