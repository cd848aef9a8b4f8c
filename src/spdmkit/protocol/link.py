"""How a requester's exchanges reach the peer: `Link.ask` sends a request, returns its answer.

Whatever every request needs sits here once, so that exchanges read like the specification: whether
the request is legal now, the wrapping into a session's records, chunks for messages too large for
one transfer (DSP0274 10.24), Busy and ResponseNotReady, the resets of transcripts, deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import (
    DeadlineExceeded,
    PeerError,
    ProtocolViolation,
    ResetRequired,
    SpdmError,
    TransportError,
)
from spdmkit.messages import (
    V10,
    V12,
    ChunkGet,
    ChunkResponse,
    ChunkSend,
    ChunkSendAck,
    Context,
    Error,
    ErrorCode,
    Message,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    RespondIfReady,
    ResponseCode,
)
from spdmkit.protocol.actions import (
    Closed,
    DeadlinePassed,
    Event,
    Exchange,
    Meanwhile,
    Post,
    Send,
    Wait,
    perform,
    sleep,
)
from spdmkit.protocol.chunking import FIRST_CHUNK_HEADER, LATER_CHUNK_HEADER, chunks_of
from spdmkit.protocol.deadlines import ready_delay, ready_limit
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.records import ApplicationData
from spdmkit.protocol.settings import MIN_DATA_TRANSFER_SIZE
from spdmkit.protocol.states import Refusal, SessionPhase, in_connection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spdmkit.crypto.registry import HashAlgorithm, SignatureAlgorithm
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.session import Session
    from spdmkit.protocol.transcript import Transcript

__all__ = ["Answer", "Link", "is_decrypt_error"]

M = TypeVar("M", bound=Message)
R = RequestCode

_MESSAGE: Final = FrameKind.MESSAGE
_VERSION: Final = int(ResponseCode.VERSION)
_ERROR: Final = int(ResponseCode.ERROR)
_GET_DIGESTS: Final = int(R.GET_DIGESTS)
_GET_MEASUREMENTS: Final = int(R.GET_MEASUREMENTS)
"""Looked up for every message, and names of a module are found faster than those of a class."""

CRYPTOGRAPHIC = frozenset(
    {
        R.CHALLENGE,
        R.GET_MEASUREMENTS,
        R.KEY_EXCHANGE,
        R.FINISH,
        R.PSK_EXCHANGE,
        R.PSK_FINISH,
        R.GET_CSR,
        R.SET_CERTIFICATE,
        R.GET_ENDPOINT_INFO,
        R.SET_KEY_PAIR_INFO,
        R.SLOT_MANAGEMENT,
        R.DELIVER_ENCAPSULATED_RESPONSE,
        R.GET_ENCAPSULATED_REQUEST,
        R.CHUNK_SEND,
        R.CHUNK_GET,
        R.RESPOND_IF_READY,
        R.VENDOR_DEFINED_REQUEST,
    }
)
"""Requests whose answer may take CT: T2 = RTT + CT applies (DSP0274 table 8)."""

_TO_M1M2 = frozenset({R.GET_DIGESTS, R.GET_CERTIFICATE, R.CHALLENGE})
_PIECES = frozenset({R.CHUNK_GET, R.CHUNK_SEND, R.RESPOND_IF_READY})
"""Requests that are part of the exchange they help along."""
_LONGEST_BUSY_PAUSE = 2.0
_RECORDS_AHEAD = 2
"""Records of a stream that may wait to be sent."""
_TRACKING_TAG = 0b111
"""The bits of ResetRequired's Param2 that hold CSRTrackingTag."""


_HANDSHAKES = frozenset({R.KEY_EXCHANGE, R.FINISH, R.PSK_EXCHANGE, R.PSK_FINISH})
_HINTS: dict[int, str] = {
    ErrorCode.INVALID_POLICY: "its policy may demand that we prove who we are: by a certificate "
    "(mutual authentication) or by a pre-shared key",
    ErrorCode.DECRYPT_ERROR: "it does not accept what we proved in the handshake: it has to trust "
    "our root, or hold the same key",
}
"""What to try when a handshake is refused."""


def is_decrypt_error(message: bytes) -> bool:
    """Whether a message is ERROR DecryptError (in 1.1 InvalidSession says it too)."""
    lost = (ErrorCode.DECRYPT_ERROR, ErrorCode.INVALID_SESSION)
    return len(message) >= 4 and message[1] == ResponseCode.ERROR and message[2] in lost


@dataclass(slots=True)
class Answer(Generic[M]):
    """A response and the bytes of the exchange, as transcripts and evidence want them.

    Attributes:
        message: the decoded response.
        request: the request as sent.
        response: the response as received, without what followed its own length.
    """

    message: M
    request: bytes
    response: bytes


class Link:
    """A connection, or one session on it, as its requester uses it.

    Attributes:
        connection: the connection's state.
        session: the session requests go through, or None for the clear.
    """

    __slots__ = ("_meanwhile", "connection", "session")

    def __init__(self, connection: Connection, session: Session | None = None) -> None:
        self.connection = connection
        self.session = session
        self._meanwhile: Meanwhile[Any] | None = None

    # -- one request, one answer ----------------------------------------------------------------

    def ask(
        self, request: Message, expected: type[M], *, meanwhile: Meanwhile[Any] | None = None
    ) -> Exchange[Answer[M]]:
        """Send a request and wait for its response.

        Args:
            request: what to send; its layout follows the negotiated version.
            expected: the class of the response.
            meanwhile: work to do while the peer works on its answer. What it raises comes first:
                it is about what was said before.

        Raises:
            PeerError: the peer answered with ERROR, or stayed Busy or not ready for too long.
            ProtocolViolation: we may not send this now, or the answer breaks the specification.
            DecodeError: the answer's layout is wrong.
            AuthenticationError: the answer's record is not authentic; the session is over.
            DeadlineExceeded, TransportError: no answer; the connection is of no more use.
        """
        code = request.code
        self._permit(code)
        self._before(code)
        context = self._context(request)
        sent = request.encode(context)
        if meanwhile is not None:
            received = yield from self._with(meanwhile, code, sent)
        else:
            received = yield from self._deliver(code, sent)
            if len(received) > 1 and received[1] == _ERROR:
                received = yield from self._settled(code, sent, received)
        context.request = request  # those that fetched the answer in pieces came between
        return self._decoded(received, sent, expected, context)

    def _with(self, meanwhile: Meanwhile[Any], code: int, sent: bytes) -> Exchange[bytes]:
        """Send, and do something else until the answer comes."""
        self._meanwhile = meanwhile
        try:
            received = yield from self._deliver(code, sent)
            received = yield from self._settled(code, sent, received)
        except SpdmError:
            if meanwhile.done:
                meanwhile.result()
            raise
        finally:
            self._meanwhile = None
        meanwhile.result()
        return received

    def ask_raw(self, message: bytes) -> Exchange[bytes]:
        """Send bytes as they are and return the peer's answer as it is, an ERROR too.

        For tools that test a peer: nothing is checked, no transcript takes part, nothing is asked
        again. In a session both ways go through its records.

        Raises:
            AuthenticationError: the answer's record is not authentic; the session is over.
            DeadlineExceeded, TransportError: no answer; the connection is of no more use.
        """
        return (yield from self._roundtrip(R.CHUNK_GET, message))

    def ask_frame(self, frame: Frame) -> Exchange[Frame]:
        """Send a whole frame as it is, a record for example, and return the frame that answers.

        Raises:
            DeadlineExceeded, TransportError: no answer; the connection is of no more use.
        """
        return (yield from self._transfer(frame, self._deadline(R.CHUNK_GET)))

    def tell(self, data: bytes, message_type: int = 0) -> Exchange[None]:
        """Send application data in the session and wait for nothing."""
        session = self._need_session()
        record = self._sealed(session, data, message_type)
        yield Post(Frame(FrameKind.SECURED, record))

    def stream(self, chunks: Iterable[bytes], message_type: int = 0) -> Exchange[int]:
        """Send application data in the session, one record for each chunk, and wait for nothing.

        A few records at a time: the driver sends what is there before it asks for more.

        Returns:
            How many bytes were sent.
        """
        session = self._need_session()
        sent = 0
        for number, chunk in enumerate(chunks, 1):
            yield Post(Frame(FrameKind.SECURED, self._sealed(session, chunk, message_type)))
            sent += len(chunk)
            if number % _RECORDS_AHEAD == 0:
                yield from perform(_nothing)
                session = self._need_session()
        return sent

    def converse(self, data: bytes, message_type: int = 0) -> Exchange[ApplicationData]:
        """Send application data in the session and wait for application data in return."""
        session = self._need_session()
        record = self._sealed(session, data, message_type)
        deadline = self._deadline(R.VENDOR_DEFINED_REQUEST)
        frame = yield from self._transfer(Frame(FrameKind.SECURED, record), deadline)
        answer = self._opened(session, frame)
        if isinstance(answer, ApplicationData):
            return answer
        if len(answer) > 1 and answer[1] == ResponseCode.ERROR:
            raise self._refused(0, self._error(answer))
        raise ProtocolViolation("application data was answered with an SPDM message")

    def _sealed(self, session: Session, data: bytes, message_type: int) -> bytes:
        self._need_room(session)
        return session.sender.application(data, message_type)

    def _need_room(self, session: Session) -> None:
        """End a session whose key has protected all the records it may (DSP0277, AEAD limit)."""
        if session.alive and not session.sender.room:
            reason = "the AEAD limit of our key is reached"
            self.connection.end_session(session, reason)
            raise ProtocolViolation(reason, hint="update keys before that")

    def _need_session(self) -> Session:
        if self.session is None or not self.session.established:
            raise ProtocolViolation("application data needs an established session")
        return self.session

    # -- rules before sending -------------------------------------------------------------------

    def _permit(self, code: int) -> None:
        connection = self.connection
        verdict: object
        if self.session is not None:
            verdict = self.session.permits(code)
        else:
            verdict = in_connection(connection.phase, code, connection.version)
        if isinstance(verdict, Refusal):
            where = f"outside a session ({connection.phase.value})"
            if self.session is not None:
                where = f"in a session ({self.session.phase.value})"
            raise ProtocolViolation(f"{_name(code)} is not legal {where}", error_code=verdict.error)

    def _before(self, code: int) -> None:
        """Reset the transcripts that this request does not belong to (DSP0274, M1/M2, L1/L2)."""
        if code in _PIECES:
            return
        connection = self.connection
        if self.session is None and connection.m1m2 is not None:
            if code not in _TO_M1M2:
                connection.m1m2.reset()
            if code != _GET_DIGESTS:
                connection.exchanged_since_vca = True
        if code != _GET_MEASUREMENTS:
            measurements = self.measurement_transcript
            if measurements is not None:
                measurements.reset()

    @property
    def large_forms(self) -> bool:
        """The large forms of 1.4 may be used: whoever answers here has LARGE_RESP_CAP."""
        return self.connection.large_forms(self.connection.peer)

    @property
    def measurement_transcript(self) -> Transcript | None:
        """L1/L2 of this session, or of the connection outside of any."""
        return self.connection.l1l2 if self.session is None else self.session.l1l2

    def note_digests(self, request: bytes, response: bytes) -> None:
        """GET_DIGESTS and DIGESTS enter M1/M2 anew, and as "D" the sessions to come (1.3)."""
        connection = self.connection
        if self.session is not None or connection.m1m2 is None:
            return
        connection.m1m2.reset()
        connection.m1m2.append(request, response)
        first = not connection.exchanged_since_vca and not connection.multi_key_digests
        if first and connection.context.multi_key_conn_rsp:
            connection.multi_key_digests = response

    def note_for_challenge(self, request: bytes, response: bytes) -> None:
        """GET_CERTIFICATE and CERTIFICATE enter M1/M2; only messages outside sessions do."""
        if self.session is None and self.connection.m1m2 is not None:
            self.connection.m1m2.append(request, response)

    @property
    def l1l2(self) -> Transcript:
        """`measurement_transcript`, once algorithms are negotiated."""
        transcript = self.measurement_transcript
        if transcript is None:
            raise ProtocolViolation("algorithms are not negotiated yet")
        return transcript

    @property
    def challenge_transcript(self) -> Transcript:
        """M1/M2 as CHALLENGE_AUTH of the peer will sign it."""
        transcript = self.connection.m1m2
        if transcript is None:
            raise ProtocolViolation("algorithms are not negotiated yet")
        return transcript

    @property
    def may_be_asked_back(self) -> bool:
        """CHALLENGE_AUTH may ask for basic mutual authentication: both sides can do it."""
        connection = self.connection
        mutual = connection.flag(ResponderFlags.MUT_AUTH_CAP, both=True)
        return mutual and connection.flag(ResponderFlags.ENCAP_CAP, both=True)

    @property
    def challenge_signature(self) -> tuple[SignatureAlgorithm, SigningContext]:
        """What the peer signs CHALLENGE_AUTH with."""
        return self.peer_signature, SigningContext.RESPONDER_CHALLENGE_AUTH

    @property
    def endpoint_info_context(self) -> SigningContext:
        """What the peer signs ENDPOINT_INFO as."""
        return SigningContext.RESPONDER_ENDPOINT_INFO

    @property
    def peer_signature(self) -> SignatureAlgorithm:
        """The negotiated algorithm of the peer's signatures.

        Raises:
            ProtocolViolation: none was negotiated.
        """
        algorithm = self.connection.algorithms.signature
        if algorithm is None:
            raise ProtocolViolation("no signature algorithm was negotiated with the responder")
        return algorithm

    @property
    def peer_hash(self) -> HashAlgorithm:
        """The negotiated hash, by which chains are hashed."""
        return self.connection.algorithms.base_hash

    def _context(self, request: Message) -> Context:
        """What the answer will be read with.

        One request at a time is under way on a connection, so its own context can take note of it.
        """
        context = self.connection.context
        context.request = request
        return context

    # -- the answer -----------------------------------------------------------------------------

    def _settled(self, code: int, sent: bytes, received: bytes) -> Exchange[bytes]:
        """Follow Busy, ResponseNotReady and LargeResponse to the real answer."""
        busy = 0
        while len(received) >= 4 and received[1] == _ERROR:
            error = self._error(received)
            if error.error_code == ErrorCode.BUSY and busy < self.connection.settings.busy_tries:
                yield from self._pause(busy)
                busy += 1
                received = yield from self._deliver(code, sent)
            elif error.error_code == ErrorCode.RESPONSE_NOT_READY and code != R.GET_VERSION:
                received = yield from self._when_ready(code, error)
            elif error.error_code == ErrorCode.LARGE_RESPONSE:
                received = yield from self._collect(error.extended)
            else:
                raise self._refused(code, error)
        return received

    def _decoded(
        self, received: bytes, sent: bytes, expected: type[M], context: Context
    ) -> Answer[M]:
        if len(received) < 4:
            raise ProtocolViolation(f"an answer of {len(received)} bytes is no SPDM message")
        if received[1] != expected.code:
            raise ProtocolViolation(
                f"expected {expected.name}, got a message with code 0x{received[1]:02x}"
            )
        wanted = V10 if expected.code == _VERSION else self.connection.version
        if received[0] != wanted:
            raise ProtocolViolation(
                f"{expected.name} has version byte 0x{received[0]:02x}, not 0x{wanted:02x}"
            )
        message, consumed = expected.parse(received, context)
        if consumed != len(received):
            if any(received[consumed:]):
                raise ProtocolViolation(f"{len(received) - consumed} bytes follow {expected.name}")
            received = received[:consumed]
        return Answer(message, sent, received)

    def _error(self, received: bytes) -> Error:
        error, _ = Error.parse(received, self.connection.context)
        return error

    def _refused(self, request: int, error: Error) -> SpdmError:
        """The exception for an ERROR that ends the exchange, with its effect on our state.

        Args:
            request: code of the request that it answers; 0 for application data.
            error: what the peer answered.
        """
        connection = self.connection
        if error.error_code == ErrorCode.REQUEST_RESYNCH and self.session is None:
            # The responder has forgotten this connection: so do we, keys included (10.13).
            connection.reset(f"the peer answered {error.describe()}")
        elif self.session is None and connection.l1l2 is not None:
            connection.l1l2.reset()
        elif self.session is not None:
            self.session.l1l2.reset()
        code = error.error_code
        if self.session is not None and (
            code in (ErrorCode.DECRYPT_ERROR, ErrorCode.REQUEST_SESSION_TERMINATED)
            or self.session.phase is not SessionPhase.ESTABLISHED
        ):
            connection.end_session(self.session, f"the peer answered {error.describe()}")
        if code == ErrorCode.RESET_REQUIRED:
            return ResetRequired(
                "the peer must be reset before this takes effect (ERROR ResetRequired)",
                code=code,
                tracking_tag=error.error_data & _TRACKING_TAG,
                hint="reset the device, then connect again and go on",
            )
        return PeerError(
            f"the peer answered {_named(request)}with {error.describe()}",
            code=code,
            data=error.error_data,
            extended=error.extended,
            hint=_what_to_try(request, code),
        )

    # -- Busy, not ready ------------------------------------------------------------------------

    def _pause(self, tries: int) -> Exchange[None]:
        delay = min(0.05 * (1 << tries), _LONGEST_BUSY_PAUSE)
        jitter = self.connection.random(1)[0] / 255
        yield from sleep(self.connection.clock() + delay * (0.75 + jitter / 2))

    def _when_ready(self, code: int, error: Error) -> Exchange[bytes]:
        """Ask with RESPOND_IF_READY until there is an answer or WTMax has passed (10.26)."""
        connection = self.connection
        exponent, original, token, rdtm = error.not_ready()
        if original != code:
            raise ProtocolViolation("ResponseNotReady for a request that was not the one sent")
        timing = connection.settings.timing
        start = connection.clock()
        limit = start + ready_limit(exponent, rdtm, longest=timing.longest)
        delay = ready_delay(exponent)
        request = RespondIfReady(request_code=original, token=token)
        sent = request.encode(self._context(request))
        while True:
            # At least once after RDT, then with growing pauses until WTMax.
            yield from sleep(min(connection.clock() + delay, max(limit, start + delay)))
            received = yield from self._deliver(R.RESPOND_IF_READY, sent)
            if len(received) < 4 or received[1] != ResponseCode.ERROR:
                return received
            again = self._error(received)
            if again.error_code != ErrorCode.RESPONSE_NOT_READY:
                return received
            if again.not_ready()[1:3] != (original, token):
                raise ProtocolViolation("ResponseNotReady changed its token")
            if connection.clock() >= limit:
                raise PeerError(
                    f"the peer was not ready for {RequestCode(code).name} within WTMax",
                    code=again.error_code,
                )
            delay = max(delay * 1.5, 0.001)

    # -- transfers ------------------------------------------------------------------------------

    def _deliver(self, code: int, message: bytes) -> Exchange[bytes]:
        """One message there and one back, in chunks when it is too large for one transfer."""
        if len(message) <= MIN_DATA_TRANSFER_SIZE:
            return self._roundtrip(code, message)
        connection = self.connection
        limit = min(connection.peer.data_transfer_size, connection.settings.transmit_size)
        if len(message) <= limit or connection.version < V12:
            return self._roundtrip(code, message)
        if not connection.flag(ResponderFlags.CHUNK_CAP, both=True):
            raise ProtocolViolation(
                f"{_name(code)} of {len(message)} bytes exceeds the peer's DataTransferSize "
                f"{limit}, and chunks were not negotiated"
            )
        if len(message) > connection.peer.max_message_size:
            raise ProtocolViolation(
                f"{_name(code)} of {len(message)} bytes exceeds the peer's MaxSPDMmsgSize"
            )
        return self._send_chunks(message, limit)

    def _roundtrip(self, code: int, message: bytes) -> Exchange[bytes]:
        """One frame there, one frame back."""
        deadline = self._deadline(code)
        session = self.session
        if session is None or session.in_the_clear:
            meanwhile, self._meanwhile = self._meanwhile, None
            event = yield Send(Frame(_MESSAGE, message), deadline, meanwhile)
            frame = event if type(event) is Frame else _answered(event)
            if frame.kind is not _MESSAGE:
                raise ProtocolViolation("a secured message answered a request outside a session")
            return frame.body
        self._need_room(session)
        record = session.sender.message(message)
        frame = yield from self._transfer(Frame(FrameKind.SECURED, record), deadline)
        while True:
            answer = self._opened(session, frame)
            if not isinstance(answer, ApplicationData):
                return answer
            # It answers nothing: the other end sends application data when it likes.
            self._keep(session, answer)
            frame = yield from self._awaited(Wait(deadline))

    def _keep(self, session: Session, data: ApplicationData) -> None:
        try:
            if not session.established:
                raise ProtocolViolation("application data came in the handshake")
            session.keep(data)
        except ProtocolViolation as error:
            self.connection.end_session(session, str(error))
            raise

    def _transfer(self, frame: Frame, deadline: float) -> Exchange[Frame]:
        meanwhile, self._meanwhile = self._meanwhile, None
        return (yield from self._awaited(Send(frame, deadline, meanwhile)))

    def _awaited(self, action: Send | Wait) -> Exchange[Frame]:
        return _answered((yield action))

    def _opened(self, session: Session, frame: Frame) -> bytes | ApplicationData:
        """What a record in answer holds; anything wrong with it ends the session."""
        connection = self.connection
        try:
            if frame.kind is not FrameKind.SECURED:
                raise self._clear_answer(frame.body)
            return session.opened(frame.body, connection.clock())
        except SpdmError as error:
            connection.record_refused = True
            connection.end_session(session, str(error))
            raise

    def _clear_answer(self, body: bytes) -> SpdmError:
        """A message in the clear never answers a request in a session; an ERROR says why not."""
        if len(body) >= 4 and body[1] == ResponseCode.ERROR:
            error = self._error(body)
            return PeerError(
                f"the peer answered {error.describe()} outside the session",
                code=error.error_code,
                data=error.error_data,
            )
        return ProtocolViolation("a request in a session was answered in the clear")

    def _deadline(self, code: int) -> float:
        connection = self.connection
        plain, cryptographic = connection.patience
        return connection.clock() + (cryptographic if code in CRYPTOGRAPHIC else plain)

    # -- chunks (DSP0274 10.24) -----------------------------------------------------------------

    def _send_chunks(self, message: bytes, limit: int) -> Exchange[bytes]:
        connection = self.connection
        if chunks_of(len(message), limit) > connection.most_chunks:
            raise ProtocolViolation(
                f"{len(message)} bytes in chunks of {limit} are more chunks than can be counted"
            )
        handle = connection.next_handle()
        sequence = offset = 0
        while True:
            header = FIRST_CHUNK_HEADER if offset == 0 else LATER_CHUNK_HEADER
            chunk = message[offset : offset + limit - header]
            last = offset + len(chunk) == len(message)
            request = ChunkSend(
                last_chunk=last,
                handle=handle,
                chunk_seq_no=sequence,
                large_message_size=len(message) if sequence == 0 else 0,
                chunk=chunk,
            )
            context = self._context(request)
            received = yield from self._roundtrip(R.CHUNK_SEND, request.encode(context))
            if len(received) >= 4 and received[1] == ResponseCode.ERROR:
                return received
            ack = self._decoded(received, b"", ChunkSendAck, context).message
            if ack.handle != handle or ack.chunk_seq_no != sequence:
                raise ProtocolViolation("CHUNK_SEND_ACK is for another chunk")
            if last or ack.early_error_detected:
                return self._acknowledged(ack.response, early=not last)
            if any(ack.response):
                raise ProtocolViolation("a response came before the last chunk was sent")
            offset += len(chunk)
            sequence += 1

    def _acknowledged(self, response: bytes, *, early: bool) -> bytes:
        """The response in CHUNK_SEND_ACK: to the large request, or the ERROR that came early."""
        error = len(response) >= 4 and response[1] == ResponseCode.ERROR
        if early and not error:
            raise ProtocolViolation("EarlyErrorDetected without an ERROR")
        if error and response[2] == ErrorCode.LARGE_RESPONSE:
            raise ProtocolViolation("LargeResponse inside CHUNK_SEND_ACK")
        return response

    def _collect(self, extended: bytes) -> Exchange[bytes]:
        """Fetch a large response, chunk by chunk."""
        connection = self.connection
        if not connection.flag(RequesterFlags.CHUNK_CAP, both=True) or not extended:
            raise ProtocolViolation("LargeResponse, but chunks were not negotiated")
        handle = extended[0]
        parts: list[bytes] = []
        size = have = sequence = 0
        while True:
            request = ChunkGet(handle=handle, chunk_seq_no=sequence)
            context = self._context(request)
            received = yield from self._roundtrip(R.CHUNK_GET, request.encode(context))
            if len(received) >= 4 and received[1] == ResponseCode.ERROR:
                raise self._refused(R.CHUNK_GET, self._error(received))
            answer = self._decoded(received, b"", ChunkResponse, context)
            chunk = answer.message
            if chunk.handle != handle or chunk.chunk_seq_no != sequence:
                raise ProtocolViolation("CHUNK_RESPONSE is for another chunk")
            smallest = 0 if chunk.last_chunk else MIN_DATA_TRANSFER_SIZE
            if not smallest <= len(answer.response) <= connection.own.data_transfer_size:
                raise ProtocolViolation(f"CHUNK_RESPONSE has {len(answer.response)} bytes")
            if sequence == 0:
                size = chunk.large_message_size
                if not 0 < size <= connection.settings.max_message_size:
                    raise ProtocolViolation(f"a large response of {size} bytes is refused")
            have += len(chunk.chunk)
            if have > size or (not chunk.chunk) or (have == size) != bool(chunk.last_chunk):
                raise ProtocolViolation("the chunks do not add up to LargeMessageSize")
            parts.append(chunk.chunk)
            if have == size:
                return b"".join(parts)
            sequence += 1


def _answered(event: Event) -> Frame:
    """The frame that a wait ended with, or the error that stands for anything else."""
    if isinstance(event, Frame):
        return event
    if isinstance(event, DeadlinePassed):
        raise DeadlineExceeded(
            "the peer did not answer in time",
            hint="raise timeout= in the URI, or see whether the peer speaks another dialect",
        )
    if isinstance(event, Closed):
        raise event.error
    raise TransportError(f"the driver resumed a request with {type(event).__name__}")


def _nothing() -> None:
    """Work that is none: the driver sends everything before it."""


def _named(request: int) -> str:
    """A request within a sentence, with the space behind it; nothing for application data."""
    return f"{_name(request)} " if request else ""


def _what_to_try(request: int, error: int) -> str:
    """What to do about an ERROR, where that is known; else empty."""
    return _HINTS.get(error, "") if request in _HANDSHAKES else ""


def _name(code: int) -> str:
    """The specification's name of a request, for what people read."""
    return RequestCode(code).name
