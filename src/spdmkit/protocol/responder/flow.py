"""A responder's own requests, encapsulated (DSP0274 10.21).

The exchanges are those of a requester. Their `Send` travels inside ENCAPSULATED_REQUEST or
ENCAPSULATED_RESPONSE_ACK, and what DELIVER_ENCAPSULATED_RESPONSE brings is the answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import ProtocolViolation, SpdmError
from spdmkit.messages import (
    V13,
    Context,
    DeliverEncapsulatedResponse,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    ErrorCode,
    RequestCode,
)
from spdmkit.protocol.actions import Action, Done, Event, Exchange, Send, Work
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.handlers.call import Call, Steps, slow
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.session import MutualAuth, Session

if TYPE_CHECKING:
    from spdmkit.crypto.registry import SignatureAlgorithm
    from spdmkit.protocol.responder.device import Device
    from spdmkit.protocol.transcript import Transcript

__all__ = ["EncapsulatedLink", "Flow", "deliver", "get_encapsulated_request"]


class EncapsulatedLink(Link):
    """The way from a responder to its requester: through the requester's own requests."""

    __slots__ = ()

    def _permit(self, code: RequestCode) -> None:
        """Whether it may be asked is up to the flow that asks."""

    def _before(self, code: RequestCode) -> None:
        """The transcripts of the requester's own requests are not touched."""

    def _context(self, request: Any) -> Context:
        context = super()._context(request)
        context.requester_side = True
        return context

    def _deliver(self, code: RequestCode, message: bytes) -> Exchange[bytes]:  # noqa: ARG002  # as in Link
        event = yield Send(Frame(FrameKind.MESSAGE, message), float("inf"))
        if not isinstance(event, Frame):
            raise ProtocolViolation("the encapsulated flow was given up")
        return event.body

    def note_digests(self, request: bytes, response: bytes) -> None:
        """The first DIGESTS joins the session's transcript (ED, 1.3); M1/M2 starts anew."""
        transcript = self.connection.encapsulated_m1m2
        if self.session is None and transcript is not None:
            transcript.reset()
            transcript.append(request, response)
        session = self.session
        if session is not None and self.connection.context.multi_key_conn_req:
            session.encapsulated_digests = session.encapsulated_digests or response

    def note_for_challenge(self, request: bytes, response: bytes) -> None:
        """GET_CERTIFICATE and CERTIFICATE enter the encapsulated M1/M2."""
        transcript = self.connection.encapsulated_m1m2
        if self.session is None and transcript is not None:
            transcript.append(request, response)

    @property
    def challenge_transcript(self) -> Transcript:
        """M1/M2 as the requester's CHALLENGE_AUTH signs it."""
        transcript = self.connection.encapsulated_m1m2
        if transcript is None:
            raise ProtocolViolation("no basic mutual authentication is under way")
        return transcript

    @property
    def challenge_signature(self) -> tuple[SignatureAlgorithm, SigningContext]:
        """What the requester signs CHALLENGE_AUTH with."""
        return self.peer_signature, SigningContext.REQUESTER_CHALLENGE_AUTH

    @property
    def peer_signature(self) -> SignatureAlgorithm:
        """The negotiated algorithm of the requester's signatures."""
        algorithm = self.connection.algorithms.req_signature
        if algorithm is None:
            raise ProtocolViolation("no signature algorithm was negotiated with the requester")
        return algorithm


Starter: TypeAlias = Callable[[EncapsulatedLink], Exchange[int | None]]
"""An exchange of the responder's; its result is the slot byte that ends the flow, or None."""


class Flow:
    """The responder's requests of a connection or session: those that wait, the one that runs.

    Attributes:
        running: the exchange under way, or None.
        request_id: RequestID of the request that waits for its response.
        failure: why the last exchange failed, in words; empty when none did.
    """

    __slots__ = ("_waiting", "failure", "request_id", "running")

    def __init__(self) -> None:
        self._waiting: deque[Starter] = deque()
        self.running: Exchange[int | None] | None = None
        self.request_id = 0
        self.failure = ""

    def add(self, starter: Starter) -> None:
        """Have an exchange run when the requester next asks."""
        self._waiting.append(starter)

    def begin(self, link: EncapsulatedLink) -> None:
        """Start the next exchange.

        Raises:
            ProtocolViolation: nothing waits (NoPendingRequests, before 1.3 UnexpectedRequest).
        """
        if not self._waiting:
            code = ErrorCode.UNEXPECTED_REQUEST
            if link.connection.version >= V13:
                code = ErrorCode.NO_PENDING_REQUESTS
            raise ProtocolViolation("no request is pending", error_code=code)
        self.running = self._waiting.popleft()(link)
        self.request_id = 0

    def stop(self) -> None:
        """Give up what runs."""
        if self.running is not None:
            self.running.close()
            self.running = None


def mutual_authentication(device: Device, session: Session) -> Starter:
    """Fetch and verify the requester's chain during the handshake (10.16.2, 10.21)."""

    def run(link: EncapsulatedLink) -> Exchange[int | None]:
        digests = yield from get_digests(link)
        slot_id = session.local_slot or 0
        found = digests.slots.get(slot_id)
        if found is None:
            raise ProtocolViolation(f"the requester has no chain in slot {slot_id}")
        chain = yield from get_certificate(link, slot_id, expected_digest=found.digest)
        algorithm = link.peer_signature
        work = yield Work(lambda: device.verify_requester(chain, algorithm))
        if not isinstance(work, Done):
            raise ProtocolViolation("the encapsulated flow was given up")
        session.peer_key = work.result
        return slot_id

    return run


def get_encapsulated_request(call: Call) -> Steps:
    """GET_ENCAPSULATED_REQUEST -> ENCAPSULATED_REQUEST."""
    flow, link = _flow_of(call)
    if flow.running is not None:
        raise ProtocolViolation(
            "an encapsulated request waits for its response",
            error_code=ErrorCode.REQUEST_IN_FLIGHT,
        )
    flow.begin(link)
    request = yield from _advance(flow, None)
    if not isinstance(request, bytes):
        raise ProtocolViolation("nothing to ask", error_code=ErrorCode.NO_PENDING_REQUESTS)
    flow.request_id = 1
    return call.answer(EncapsulatedRequest(request_id=1, encapsulated_request=request))


def deliver(call: Call) -> Steps:
    """DELIVER_ENCAPSULATED_RESPONSE -> ENCAPSULATED_RESPONSE_ACK, with the next request if any."""
    delivery = call.typed(DeliverEncapsulatedResponse)
    flow, link = _flow_of(call)
    session = call.session
    optimized = (
        flow.running is None
        and session is not None
        and session.mutual is MutualAuth.GET_DIGESTS
        and not session.encapsulation_began
    )
    if optimized:
        # The first DIGESTS answers a GET_DIGESTS that nobody had to send.
        flow.begin(link)
        yield from _advance(flow, None)
        flow.request_id = 0
    if session is not None:
        session.encapsulation_began = True
    if flow.running is None or delivery.request_id != flow.request_id:
        raise ProtocolViolation(
            "no encapsulated request waits for this", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    ack = EncapsulatedResponseAck(ack_request_id=delivery.request_id)
    step = yield from _advance(flow, Frame(FrameKind.MESSAGE, delivery.encapsulated_response))
    if isinstance(step, bytes):
        flow.request_id = flow.request_id % 0xFF + 1
        ack.request_id = flow.request_id
        ack.payload_type = EncapsulatedPayload.PRESENT
        ack.payload = step
    elif step is not None:
        ack.payload_type = EncapsulatedPayload.REQ_SLOT_NUMBER
        ack.payload = bytes((step,))
    return call.answer(ack)


def _advance(flow: Flow, event: Event | None) -> Any:
    """Run the exchange to its next request (bytes) or its end (the slot byte, or None).

    An exchange that fails ends its flow; FINISH will find out what is missing.
    """
    exchange = flow.running
    if exchange is None:
        return None
    try:
        action: Action = next(exchange) if event is None else exchange.send(event)
        while isinstance(action, Work):
            result = yield from slow(action.call)
            action = exchange.send(Done(result))
    except StopIteration as stop:
        flow.running = None
        return stop.value
    except SpdmError as error:
        flow.running = None
        flow.failure = str(error)
        return None
    if isinstance(action, Send):
        return action.frame.body
    flow.stop()
    return None


def _flow_of(call: Call) -> tuple[Flow, EncapsulatedLink]:
    owner = call.session or call.connection
    flow = owner.flow
    if not isinstance(flow, Flow):
        flow = owner.flow = Flow()
        session = call.session
        if session is not None and session.mutual and not session.established:
            flow.add(mutual_authentication(call.the_device(), session))
    return flow, EncapsulatedLink(call.connection, call.session)
