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
    V11,
    V12,
    V13,
    Context,
    DeliverEncapsulatedResponse,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    EndSession,
    EndSessionAck,
    ErrorCode,
    KeyUsage,
    RequesterFlags,
)
from spdmkit.protocol.actions import (
    Action,
    Done,
    Event,
    Exchange,
    Send,
    Sleep,
    Woken,
    Work,
    perform,
)
from spdmkit.protocol.events import RequesterAuthenticated
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.handlers import certificates
from spdmkit.protocol.handlers.call import Call, Steps, slow
from spdmkit.protocol.handlers.events import queue_events
from spdmkit.protocol.link import Link
from spdmkit.protocol.notifier import send_pending
from spdmkit.protocol.proofs import identity_of
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.sessions import key_update
from spdmkit.protocol.session import MutualAuth, Session

if TYPE_CHECKING:
    from spdmkit.crypto.registry import SignatureAlgorithm
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.responder.device import Device
    from spdmkit.protocol.transcript import Transcript

__all__ = [
    "EncapsulatedLink",
    "Flow",
    "Starter",
    "basic_mutual_authentication",
    "challenge_and_ask",
    "deliver",
    "flow_of",
    "get_encapsulated_request",
    "own_key_update",
    "own_session_end",
]


_FETCHES_CHAIN = (MutualAuth.ENCAPSULATED, MutualAuth.GET_DIGESTS)


class EncapsulatedLink(Link):
    """The way from a responder to its requester: through the requester's own requests."""

    __slots__ = ()

    def _permit(self, code: int) -> None:
        """Whether it may be asked is up to the flow that asks."""

    def _before(self, code: int) -> None:
        """The transcripts of the requester's own requests are not touched."""

    def _context(self, request: Any) -> Context:
        return self.connection.context.answering(request, requester_side=True)

    def _deliver(self, code: int, message: bytes) -> Exchange[bytes]:  # noqa: ARG002  # as in Link
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
    def may_be_asked_back(self) -> bool:
        """A requester never sets BasicMutAuthReq (10.10)."""
        return False

    @property
    def challenge_signature(self) -> tuple[SignatureAlgorithm, SigningContext]:
        """What the requester signs CHALLENGE_AUTH with."""
        return self.peer_signature, SigningContext.REQUESTER_CHALLENGE_AUTH

    @property
    def endpoint_info_context(self) -> SigningContext:
        """What the requester signs ENDPOINT_INFO as."""
        return SigningContext.REQUESTER_ENDPOINT_INFO

    @property
    def peer_signature(self) -> SignatureAlgorithm:
        """The negotiated algorithm of the requester's signatures."""
        algorithm = self.connection.algorithms.req_signature
        if algorithm is None:
            raise ProtocolViolation("no signature algorithm was negotiated with the requester")
        return algorithm


Starter: TypeAlias = Callable[["EncapsulatedLink"], Exchange[int | None]]
"""An exchange of the responder's; its result is the slot byte that ends the flow, or None."""


class Flow:
    """The responder's requests of a connection or session: those that wait, the one that runs.

    Attributes:
        running: the exchange under way, or None.
        request_id: RequestID of the request that waits for its response.
        failure: why the last exchange failed, in words; empty when none did.
        demanded: the requester must ask for what waits before it does anything else.
        parked: an exchange whose requester was not ready or busy, and when to ask it again; its
            flow ended meanwhile (10.24.3.1).
        ends: the session is over once the present response is acknowledged.
    """

    __slots__ = ("_waiting", "demanded", "ends", "failure", "parked", "request_id", "running")

    def __init__(self) -> None:
        self._waiting: deque[Starter] = deque()
        self.running: Exchange[int | None] | None = None
        self.request_id = 0
        self.failure = ""
        self.demanded = False
        self.parked: tuple[Exchange[int | None], float] | None = None
        self.ends = False

    @property
    def open(self) -> bool:
        """One of our requests waits for its response, or must be asked for first."""
        return self.running is not None or self.demanded

    @property
    def waits(self) -> bool:
        """There is something to ask when the requester next asks for it."""
        return bool(self._waiting) or self.parked is not None

    def add(self, starter: Starter) -> None:
        """Have an exchange run when the requester next asks."""
        self._waiting.append(starter)

    def begin(self, link: EncapsulatedLink) -> Event | None:
        """Start the next exchange, or go on with one that was parked.

        Returns:
            What the exchange is to be resumed with.

        Raises:
            ProtocolViolation: nothing waits (NoPendingRequests, before 1.3 UnexpectedRequest).
        """
        self.request_id = 0
        if self.parked is not None and link.connection.clock() >= self.parked[1]:
            self.running, self.parked = self.parked[0], None
            return Woken()
        if not self._waiting or self.parked is not None:
            code = ErrorCode.UNEXPECTED_REQUEST
            if link.connection.version >= V13:
                code = ErrorCode.NO_PENDING_REQUESTS
            raise ProtocolViolation("no request is pending", error_code=code)
        self.running = self._waiting.popleft()(link)
        self.demanded = False
        return None

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
        if found.key_usage is not None and not found.key_usage & KeyUsage.KEY_EX:
            raise ProtocolViolation(f"the requester's slot {slot_id} is not for key exchange")
        chain = yield from get_certificate(link, slot_id, expected_digest=found.digest)
        algorithm = link.peer_signature
        session.peer_key = yield from perform(lambda: device.verify_requester(chain, algorithm))
        return slot_id

    return run


def basic_mutual_authentication(device: Device) -> Starter:
    """Fetch the requester's chain and challenge it, outside a session (10.15; 1.1 and 1.2)."""

    def run(link: EncapsulatedLink) -> Exchange[int | None]:
        connection = link.connection
        slot_id = connection.settings.requester_slot
        digests = yield from get_digests(link)
        found = digests.slots.get(slot_id)
        if found is None:
            raise ProtocolViolation(f"the requester has no chain in slot {slot_id}")
        chain = yield from get_certificate(link, slot_id, expected_digest=found.digest)
        algorithm = link.peer_signature
        key = yield from perform(lambda: device.verify_requester(chain, algorithm))
        yield from challenge(link, key, slot_id=slot_id)
        proof = connection.requester_proof = identity_of(key)
        connection.events(RequesterAuthenticated(proof.kind, proof.identity))
        return None

    return run


def challenge_and_ask(call: Call) -> Steps:
    """CHALLENGE -> CHALLENGE_AUTH, which may ask for basic mutual authentication (10.15)."""
    connection = call.connection
    wanted = (
        connection.settings.basic_mutual_auth
        and V11 <= connection.version <= V12
        and connection.flag(RequesterFlags.MUT_AUTH_CAP, both=True)
        and connection.flag(RequesterFlags.ENCAP_CAP, both=True)
        and bool(connection.peer.flags & RequesterFlags.CHAL_CAP)
        and connection.algorithms.req_signature is not None
    )
    outcome = yield from certificates.challenge(call, basic_mutual_auth=wanted)
    if wanted:
        flow = connection.flow = Flow()
        flow.add(basic_mutual_authentication(call.the_device()))
        flow.demanded = True
    return outcome


def own_key_update(link: EncapsulatedLink) -> Exchange[int | None]:
    """KEY_UPDATE of the responder: new keys for what it sends (10.22)."""
    yield from key_update(link)
    return None


def own_events(session: Session) -> Starter:
    """SEND_EVENT of the responder, as long as anything waits (10.29.3)."""

    def run(link: EncapsulatedLink) -> Exchange[int | None]:
        yield from send_pending(link, session)
        if session.notifier is not None and session.notifier.exhausted:
            session.terminated = "the last event instance id is used up"
        return None

    return run


def own_session_end(link: EncapsulatedLink) -> Exchange[int | None]:
    """END_SESSION of the responder (1.4, 10.25): keys go once its response is acknowledged."""
    yield from link.ask(EndSession(), EndSessionAck)
    if link.session is not None:
        flow_of(link.session).ends = True
    return None


def get_encapsulated_request(call: Call) -> Steps:
    """GET_ENCAPSULATED_REQUEST -> ENCAPSULATED_REQUEST."""
    flow, link = _flow_of(call)
    if flow.running is not None:
        raise ProtocolViolation(
            "an encapsulated request waits for its response",
            error_code=ErrorCode.REQUEST_IN_FLIGHT,
        )
    events = queue_events(call)
    if events is not None:
        yield from events
        session = call.session
        notifier = None if session is None else session.notifier
        if session is not None and notifier is not None and notifier.pending and not flow.waits:
            flow.add(own_events(session))
    event = flow.begin(link)
    request = yield from _advance(flow, event)
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
    outcome = call.answer(ack)
    if flow.ends and session is not None:
        connection, over = call.connection, session
        outcome.then = lambda: connection.end_session(over, "END_SESSION of the responder")
    return outcome


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
    if isinstance(action, Sleep):
        flow.running, flow.parked = None, (exchange, action.until)
    else:
        flow.stop()
    return None


def flow_of(owner: Session | Connection) -> Flow:
    """The flow of a session or connection, made when first needed."""
    flow = owner.flow
    if not isinstance(flow, Flow):
        flow = owner.flow = Flow()
    return flow


def _flow_of(call: Call) -> tuple[Flow, EncapsulatedLink]:
    session = call.session
    fresh = session is not None and session.flow is None and not session.established
    flow = flow_of(session or call.connection)
    if session is not None and fresh and session.mutual in _FETCHES_CHAIN:
        flow.add(mutual_authentication(call.the_device(), session))
    return flow, EncapsulatedLink(call.connection, session)
