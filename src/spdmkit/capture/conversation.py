"""Following one SPDM connection message by message, as somebody who only listens.

A `Conversation` takes what was on the wire and gives an event for each thing: decoded as far as it
goes, linked to the request it answers, decrypted where there are secrets, checked where there is
something to check it with. Nothing a peer sends stops it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from spdmkit.capture.channels import Channel, Sender, WireEvent, WireKind
from spdmkit.capture.chunking import ChunkAssembler
from spdmkit.capture.events import ConversationEvent, EventKind, Party
from spdmkit.capture.exchanges import Assertions, Request
from spdmkit.capture.handshakes import Handshakes
from spdmkit.capture.negotiated import Negotiation, answering
from spdmkit.capture.proofs import Evidence, Proofs
from spdmkit.capture.sessions import SessionFollower
from spdmkit.capture.summaries import describe
from spdmkit.errors import DecodeError, SpdmError
from spdmkit.messages import (
    MESSAGES,
    Algorithms,
    Capabilities,
    Certificate,
    ChallengeAuth,
    ChunkResponse,
    ChunkSend,
    ChunkSendAck,
    Context,
    DeliverEncapsulatedResponse,
    Digests,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    EndpointInfo,
    EndSessionAck,
    Error,
    ErrorCode,
    Finish,
    FinishRsp,
    KeyExchangeRsp,
    Measurements,
    Message,
    PskExchangeRsp,
    PskFinish,
    PskFinishRsp,
    RequestCode,
    Version,
    parse_message,
)
from spdmkit.protocol.algorithms import Selection
from spdmkit.protocol.records import ApplicationData

__all__ = ["OTHER_NAMES", "Conversation"]

_REQUEST = 0x80
_DOE_WORD = 4
_MAX_UNKNOWN = 1024
_ANY_VERSION = frozenset((RequestCode.GET_VERSION, Version.code, Error.code))
"""Messages whose version byte need not be the negotiated one."""
_CARRIERS = frozenset((RequestCode.CHUNK_SEND, RequestCode.CHUNK_GET, RequestCode.RESPOND_IF_READY))
"""Requests that carry another request on, and begin nothing themselves."""


class Conversation:
    """One SPDM connection.

    Attributes:
        channel: what carries it.
        negotiation: what was agreed.
        handshakes: its sessions.
    """

    def __init__(
        self,
        channel: Channel,
        evidence: Evidence,
        *,
        number: Callable[[], int],
        assume: Selection | None = None,
    ) -> None:
        """Begin with nothing said.

        Args:
            channel: what carries it.
            evidence: what is known beside the capture.
            number: counts events.
            assume: algorithms to assume for a capture that begins later.
        """
        self.channel = channel
        self.negotiation = Negotiation()
        self._proofs = Proofs(evidence, self.negotiation)
        self._assertions = Assertions(self._proofs, self.negotiation)
        self.handshakes = Handshakes(self._proofs, self.negotiation, self._assertions, channel)
        self._number = number
        self._requester: Sender | None = None
        self._turn = Party.REQUESTER
        self._asked: tuple[int, int | None] = (0, None)
        self._pending: Request | None = None
        self._encapsulated: Request | None = None
        self._large_request = ChunkAssembler()
        self._large_response = ChunkAssembler()
        self._after_vca = False
        self._unknown: set[int] = set()
        self._answers: dict[type[Message], Callable[[Request, Any, ConversationEvent], None]] = {
            Version: self._version,
            Capabilities: self._capabilities,
            Algorithms: self._algorithms,
            Digests: self._digests,
            Certificate: self._assertions.certificate,
            ChallengeAuth: self._assertions.challenge_auth,
            Measurements: self._assertions.measurements,
            EndpointInfo: self._assertions.endpoint_info,
            KeyExchangeRsp: self.handshakes.key_exchange,
            FinishRsp: self.handshakes.finish_rsp,
            PskExchangeRsp: self.handshakes.psk_exchange,
            PskFinishRsp: self.handshakes.psk_finish_rsp,
        }
        if assume is not None:
            self.negotiation.assume(assume)
            self._assertions.begin()

    # -- what is on the wire --------------------------------------------------------------------

    def feed(self, wire: WireEvent) -> list[ConversationEvent]:
        """Take one thing on the wire; gives one event, or one for each of several messages."""
        kind = wire.kind
        if kind is WireKind.MESSAGE:
            return [self._clear_message(wire)]
        if kind is WireKind.RECORD:
            return [self._record(wire)]
        if kind is WireKind.MESSAGES:
            return self._several(wire)
        event = self._new(wire, _KINDS[kind], self._party(wire))
        event.name = _NAMES[kind]
        if wire.note:
            event.notes.append(wire.note)
        if kind is WireKind.ROLE_INQUIRY and wire.sender is not Sender.UNKNOWN:
            event.sender = Party.RESPONDER
            self._requester = wire.sender.other
        return [event]

    def _new(self, wire: WireEvent, kind: EventKind, party: Party) -> ConversationEvent:
        event = ConversationEvent(
            self._number(), kind, self.channel, party, wire.time_ns, wire.body
        )
        event.describe = describe
        return event

    def _party(self, wire: WireEvent) -> Party:
        sender = wire.sender
        if sender is Sender.REQUESTER:
            return Party.REQUESTER
        if sender is Sender.RESPONDER:
            return Party.RESPONDER
        if sender is Sender.UNKNOWN or self._requester is None:
            return Party.UNKNOWN
        return Party.REQUESTER if sender is self._requester else Party.RESPONDER

    def _several(self, wire: WireEvent) -> list[ConversationEvent]:
        """Messages in a row: each begins where the one before ended."""
        events: list[ConversationEvent] = []
        rest = wire.body
        while rest:
            event = self._clear_message(replace(wire, body=rest), several=True)
            rest = rest[len(event.raw) :]
            events.append(event)
        return events

    def _clear_message(self, wire: WireEvent, *, several: bool = False) -> ConversationEvent:
        """An SPDM message outside of sessions."""
        body = wire.body
        asks = len(body) > 1 and body[1] & _REQUEST
        party = self._party(wire)
        if party is Party.UNKNOWN:
            # Requests are the requester's; encapsulated ones are inside of its own.
            party = Party.REQUESTER if asks else Party.RESPONDER
            if wire.sender is not Sender.UNKNOWN:
                self._requester = wire.sender if asks else wire.sender.other
        event = self._new(wire, EventKind.MESSAGE, party)
        self._message(event, None, tail=not several)
        return event

    def _record(self, wire: WireEvent) -> ConversationEvent:
        """A secured message."""
        body = wire.body
        party = self._party(wire)
        event = self._new(wire, EventKind.RECORD, party)
        event.name = "secured message"
        if len(body) < 6:
            event.error = f"{len(body)} bytes are no secured message"
            return event
        event.session_id = int.from_bytes(body[:4], "little")
        session = self.handshakes.sessions.get(event.session_id)
        if session is None:
            if event.session_id not in self._unknown:
                self._unknown.add(event.session_id)
                event.notes.append("the beginning of this session is not in the capture")
                if len(self._unknown) > _MAX_UNKNOWN:
                    self._unknown.clear()
            self._passed(event)
            return event
        parties: tuple[Party, ...] = (party,)
        if party is Party.UNKNOWN:
            parties = (self._turn, self._turn.other)
        try:
            opened = session.open(body, parties)
        except SpdmError as error:
            if session.readable:
                event.error = str(error)
            elif not session.reported:
                session.reported = True
                event.notes.append(f"not decrypted: {session.problem or error}")
            self._passed(event)
            return event
        event.sender = opened.sender
        if opened.note:
            event.notes.append(opened.note)
        content = opened.content
        if isinstance(content, ApplicationData):
            event.kind, event.raw, event.name = (
                EventKind.APPLICATION,
                content.data,
                "application data",
            )
            if content.message_type:
                event.notes.append(f"MCTP message type 0x{content.message_type:02x}")
            self._passed(event)
        else:
            event.kind, event.raw = EventKind.MESSAGE, content
            self._message(event, session)
        return event

    def _passed(self, event: ConversationEvent) -> None:
        """Something went by that is not understood: whose turn it is may be guessed."""
        if event.sender is Party.UNKNOWN:
            event.sender = self._turn
        if event.sender is Party.REQUESTER:
            self._asked = (event.number, event.time_ns)
            self._pending = None
        else:
            self._link(event)
        self._turn = event.sender.other

    def _link(self, event: ConversationEvent) -> None:
        """Link a response to the request before it."""
        number, time_ns = self._asked
        if number:
            event.answers = number
            if time_ns is not None and event.time_ns is not None:
                event.elapsed_ns = event.time_ns - time_ns
        self._asked = (0, None)

    # -- messages -------------------------------------------------------------------------------

    def _message(
        self, event: ConversationEvent, session: SessionFollower | None, *, tail: bool = True
    ) -> None:
        """An SPDM message, in the clear or out of a record."""
        raw = event.raw
        code = raw[1] if len(raw) > 1 else 0
        asks = bool(code & _REQUEST)
        if asks != (event.sender is Party.REQUESTER):
            what = "request" if asks else "response"
            event.notes.append(f"a {what} from the {event.sender.value}")
        if code not in _ANY_VERSION and raw:
            self._look_at_version(event, raw[0])
        if asks:
            self._asked = (event.number, event.time_ns)
            self._turn = Party.RESPONDER
            message = self._decode(event, self.negotiation.context, tail=tail)
            self._request(code, message, event, session)
        else:
            self._link(event)
            self._turn = Party.REQUESTER
            message = self._decode(event, self._answer_context(), tail=tail)
            if message is not None:
                self._response(message, event, session)

    def _look_at_version(self, event: ConversationEvent, version: int) -> None:
        negotiation = self.negotiation
        if not negotiation.version_known:
            negotiation.note_version(version)
        elif version != negotiation.context.version:
            event.notes.append(
                f"SPDMVersion {_version(version)} on a connection of "
                f"{_version(negotiation.context.version)}"
            )

    def _answer_context(self) -> Context:
        """The context for the answer to the request that waits."""
        if self._pending is None or self._pending.message is None:
            return self.negotiation.context
        return answering(self.negotiation.context, self._pending.message)

    def _decode(
        self, event: ConversationEvent, context: Context, *, tail: bool = True
    ) -> Message | None:
        """Decode what an event holds, and cut it to what belongs to the message."""
        raw = event.raw
        event.context = context
        try:
            message, consumed = parse_message(raw, context)
        except DecodeError as error:
            event.error = str(error)
            event.error_offset = error.offset
            event.name = _name_of(raw)
            if self.negotiation.problem:
                event.notes.append(self.negotiation.problem)
            return None
        if consumed != len(raw):
            event.raw = raw[:consumed]
            if tail:
                self._note_tail(event, raw[consumed:])
        event.message = message
        event.name = message.name
        return message

    def _note_tail(self, event: ConversationEvent, tail: bytes) -> None:
        """Bytes behind a message; DOE fills its objects up to whole words."""
        zeros = not any(tail)
        if self.channel.transport == "doe" and zeros and len(tail) < _DOE_WORD:
            return
        event.notes.append(f"{len(tail)} {'zero ' if zeros else ''}bytes follow the message")

    def _inside(
        self, outer: ConversationEvent, raw: bytes, party: Party, context: Context
    ) -> ConversationEvent:
        """An event inside another one, decoded."""
        event = ConversationEvent(0, EventKind.MESSAGE, self.channel, party, outer.time_ns, raw)
        event.describe = describe
        event.session_id = outer.session_id
        outer.inside.append(event)
        self._decode(event, context)
        return event

    # -- requests -------------------------------------------------------------------------------

    def _request(
        self,
        code: int,
        message: Message | None,
        event: ConversationEvent,
        session: SessionFollower | None,
    ) -> None:
        pending = self._pending
        if pending is not None and pending.raw == event.raw and pending.session is session:
            event.notes.append("sent again")
            return
        if isinstance(message, ChunkSend):
            large = self._large_request.take(message, event)
            if large is not None:
                inner = self._inside(event, large, Party.REQUESTER, self.negotiation.context)
                self._begin(_code_of(large), inner.message, inner, session)
        elif code not in _CARRIERS:
            self._begin(code, message, event, session)

    def _begin(
        self,
        code: int,
        message: Message | None,
        event: ConversationEvent,
        session: SessionFollower | None,
    ) -> None:
        """A request that stands for itself."""
        self._pending = Request(code, message, event.raw, session)
        self._assertions.asked(code, session)
        if code != RequestCode.GET_DIGESTS:
            self._after_vca = False
        if isinstance(message, Finish):
            self.handshakes.finish(message, event, session)
        elif isinstance(message, PskFinish):
            self.handshakes.psk_finish(message, event, session)
        elif isinstance(message, DeliverEncapsulatedResponse):
            self._encapsulated_response(message.encapsulated_response, event, session)

    # -- responses ------------------------------------------------------------------------------

    def _response(
        self, message: Message, event: ConversationEvent, session: SessionFollower | None
    ) -> None:
        if isinstance(message, Error):
            self._error(message, session)
        elif isinstance(message, ChunkSendAck):
            if any(message.response):  # zeros alone are what a transport pads with
                self._inner_response(message.response, event, session)
        elif isinstance(message, ChunkResponse):
            large = self._large_response.take(message, event)
            if large is not None:
                self._inner_response(large, event, session)
        else:
            self._answer(message, event, session)

    def _inner_response(
        self, raw: bytes, outer: ConversationEvent, session: SessionFollower | None
    ) -> None:
        """The response to a large request, or a large response that is complete."""
        inner = self._inside(outer, raw, Party.RESPONDER, self._answer_context())
        if isinstance(inner.message, Error):
            self._error(inner.message, session)
        elif inner.message is not None:
            self._answer(inner.message, inner, session)

    def _error(self, message: Error, session: SessionFollower | None) -> None:
        code = message.error_code
        if code in (ErrorCode.RESPONSE_NOT_READY, ErrorCode.LARGE_RESPONSE):
            return  # the request is still open
        pending, self._pending = self._pending, None
        if code == ErrorCode.DECRYPT_ERROR and session is not None:
            self.handshakes.end(session)
        if pending is None:
            return
        self._assertions.refused(pending)
        if pending.code in (RequestCode.FINISH, RequestCode.PSK_FINISH):
            failed = pending.session or self.handshakes.clear
            if failed is not None:
                self.handshakes.end(failed)

    def _answer(
        self, message: Message, event: ConversationEvent, session: SessionFollower | None
    ) -> None:
        """A response that stands for itself."""
        pending, self._pending = self._pending, None
        if pending is None or pending.code & 0x7F != message.code or pending.session is not session:
            event.notes.append("answers no request that was seen")
            pending = None
        if isinstance(message, EncapsulatedRequest):
            self._encapsulated_request(message.encapsulated_request, event, session)
        elif isinstance(message, EncapsulatedResponseAck):
            if message.payload_type == EncapsulatedPayload.PRESENT:
                self._encapsulated_request(message.payload, event, session)
        elif isinstance(message, EndSessionAck) and session is not None:
            self.handshakes.end(session)
        handler = self._answers.get(type(message))
        if handler is not None and pending is not None and pending.message is not None:
            handler(pending, message, event)

    # -- encapsulated requests ------------------------------------------------------------------

    def _encapsulated_request(
        self, raw: bytes, outer: ConversationEvent, session: SessionFollower | None
    ) -> None:
        inner = self._inside(outer, raw, Party.RESPONDER, self.negotiation.context)
        self._encapsulated = Request(_code_of(raw), inner.message, inner.raw, session)

    def _encapsulated_response(
        self, raw: bytes, outer: ConversationEvent, session: SessionFollower | None
    ) -> None:
        pending, self._encapsulated = self._encapsulated, None
        request = pending.message if pending is not None else None
        context = answering(self.negotiation.context, request, requester_side=True)
        inner = self._inside(outer, raw, Party.REQUESTER, context)
        message = inner.message
        if message is None:
            return
        self.handshakes.encapsulated(message, inner.raw, session)
        self._assertions.encapsulated(pending, message, inner)
        if isinstance(message, EndpointInfo) and pending is not None and request is not None:
            self._assertions.endpoint_info(pending, message, inner)

    # -- negotiation ----------------------------------------------------------------------------

    def _version(
        self,
        request: Request,
        message: Version,  # noqa: ARG002  # handlers have one shape
        event: ConversationEvent,
    ) -> None:
        """GET_VERSION was answered: everything before is void."""
        self.negotiation.begin(request.raw, event.raw)
        self._proofs.forget_slots()
        self._assertions.begin()
        self.handshakes.begin()
        self._encapsulated = None
        self._after_vca = False
        self._large_request.reset()
        self._large_response.reset()

    def _capabilities(
        self, request: Request, message: Capabilities, event: ConversationEvent
    ) -> None:
        self.negotiation.announced(request.message, request.raw, message, event.raw)

    def _algorithms(self, request: Request, message: Algorithms, event: ConversationEvent) -> None:
        self.negotiation.selected(request.message, request.raw, message, event.raw)
        if self.negotiation.problem:
            event.notes.append(self.negotiation.problem)
        self._assertions.begin()
        self._after_vca = True

    def _digests(self, request: Request, message: Digests, event: ConversationEvent) -> None:
        """DIGESTS right after VCA joins session transcripts when there are several keys ("D")."""
        self._assertions.digests(request, message, event)
        if request.session is None and self._after_vca:
            self._after_vca = False
            if self.negotiation.context.multi_key_conn_rsp:
                self.handshakes.multi_key_digests = event.raw


_KINDS = {
    WireKind.ROLE_INQUIRY: EventKind.ROLE_INQUIRY,
    WireKind.BINDING_ERROR: EventKind.BINDING_ERROR,
    WireKind.PLATFORM: EventKind.PLATFORM,
    WireKind.LOST: EventKind.LOST,
    WireKind.CLOSED: EventKind.CLOSED,
}
_NAMES = {
    WireKind.ROLE_INQUIRY: "Role-Inquiry",
    WireKind.BINDING_ERROR: "error frame",
    WireKind.PLATFORM: "platform",
    WireKind.LOST: "not SPDM",
    WireKind.CLOSED: "connection closed",
}


OTHER_NAMES = frozenset((*_NAMES.values(), "secured message", "application data"))
"""Names of events that are no messages."""


def _code_of(raw: bytes) -> int:
    return raw[1] if len(raw) > 1 else 0


def _name_of(raw: bytes) -> str:
    """The name of a malformed message, by its code."""
    if len(raw) < 2:
        return "not SPDM"
    found = MESSAGES.get(raw[1])
    return found.name if found is not None else f"code 0x{raw[1]:02x}"


def _version(version: int) -> str:
    return f"{version >> 4}.{version & 15}"
