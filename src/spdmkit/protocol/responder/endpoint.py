"""The responder's end of a connection: requests in, responses out.

Every request takes the same path, in the order in which DSP0274 lets a responder refuse: size,
code, version, what else is under way, capability, state, layout, and only then its handler. What a
handler raises becomes the ERROR it names. Nothing a peer sends raises out of `receive`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spdmkit.errors import AuthenticationError, DecodeError, ProtocolViolation, SpdmError
from spdmkit.messages import (
    V10,
    V11,
    V12,
    V14,
    Context,
    Error,
    ErrorCode,
    PskExchange,
    RequestCode,
    RequesterFlags,
)
from spdmkit.protocol.actions import Work
from spdmkit.protocol.cache import psk_identity
from spdmkit.protocol.chunking import chunks_of
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.endpoint import Job
from spdmkit.protocol.events import RequestRefused
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.handlers.call import Call, Outcome, SessionOver, Steps, for_request
from spdmkit.protocol.handlers.table import HANDLERS, Entry, missing_capability
from spdmkit.protocol.records import ApplicationData, record_session_id
from spdmkit.protocol.responder.chunks import ChunkedRequest, ChunkedResponse
from spdmkit.protocol.responder.device import Device, Peer
from spdmkit.protocol.responder.flow import Flow, Starter, flow_of, own_key_update, own_session_end
from spdmkit.protocol.session import TERMINATION_POLICY, PeerProof, Session
from spdmkit.protocol.states import Phase, Refusal, finish_outside, in_connection, in_session

if TYPE_CHECKING:
    from spdmkit.errors import TransportError
    from spdmkit.protocol.credentials import Credentials

__all__ = ["ResponderEndpoint"]

R = RequestCode

_BELONGS_TO_CLEAR_HANDSHAKE = frozenset(
    {R.FINISH, R.GET_ENCAPSULATED_REQUEST, R.DELIVER_ENCAPSULATED_RESPONSE}
)
_WITHIN_FLOW = frozenset(
    {
        R.GET_ENCAPSULATED_REQUEST,
        R.DELIVER_ENCAPSULATED_RESPONSE,
        R.RESPOND_IF_READY,
        R.CHUNK_SEND,
        R.CHUNK_GET,
        R.GET_VERSION,
    }
)
"""Requests that may come while an encapsulated request waits for its response (10.22)."""
_NEVER_DELAYED = frozenset({R.GET_VERSION, R.GET_CAPABILITIES, R.NEGOTIATE_ALGORITHMS})
"""Requests that ResponseNotReady may not answer (DSP0274 10.3, table 8)."""
_PIECES = frozenset({R.RESPOND_IF_READY, R.CHUNK_SEND, R.CHUNK_GET})
_CHUNKS = frozenset({R.CHUNK_SEND, R.CHUNK_GET})
_NEVER_IN_CHUNKS = _CHUNKS | {R.GET_VERSION, R.GET_CAPABILITIES}
"""Requests that no chunks may carry (DSP0274 10.27.3)."""


@dataclass(slots=True)
class _Running:
    """A request whose handler waits for slow work, or whose answer waits to be fetched.

    Attributes:
        steps: the handler, or None once it is done.
        job: token of the job it waits for.
        late_at: when to say ResponseNotReady.
        token: the token of that ResponseNotReady, None while it was not said.
        outcome: the answer, once there is one and nobody fetched it.
    """

    code: RequestCode
    carrier: Session | None
    steps: Steps | None
    job: int
    late_at: float
    token: int | None = None
    outcome: Outcome | None = None
    in_chunks: ChunkedRequest | None = None


class ResponderEndpoint:
    """One responder on one connection.

    Attributes:
        connection: its state.
        device: the device it speaks for; shared with other connections.
        close_wanted: the connection is of no more use.
        name: the connection's name in what the device is told.
    """

    def __init__(self, connection: Connection, device: Device, *, name: str = "") -> None:
        """An endpoint that waits for GET_VERSION."""
        self.connection = connection
        self.device = device
        self.name = name
        self.close_wanted = False
        self._outgoing: list[Frame] = []
        self._jobs: list[Job] = []
        self._tokens = itertools.count(1)
        self._running: _Running | None = None
        self._incoming: ChunkedRequest | None = None
        self._large: ChunkedResponse | None = None
        self._presumed = ""
        self._remembered = ""
        self._last_peer: tuple[tuple[int, PeerProof], Peer] | None = None

    # -- what drivers call ----------------------------------------------------------------------

    def receive(self, frame: Frame, now: float) -> None:
        """Take a frame; the answer, if there is one now, is outgoing afterwards."""
        if frame.kind is FrameKind.MESSAGE:
            self._request(frame.body, None, now)
        else:
            self._record(frame.body, now)

    def connection_lost(self, error: TransportError) -> None:
        """Drop every session and whatever was under way."""
        self._abandon()
        self.connection.lost(f"connection lost: {error}")

    def on_time(self, now: float) -> None:
        """Say ResponseNotReady for what is late; end sessions without heartbeat."""
        running = self._running
        if running is not None and running.token is None and now >= running.late_at:
            running.token = next(self._tokens) & 0xFF
            not_ready = self._not_ready(running)
            if running.in_chunks is not None:
                # It answers the large request, never CHUNK_SEND itself (10.27.3).
                not_ready = running.in_chunks.acknowledge(not_ready, self.connection.context)
                running.in_chunks = None
            self._send(not_ready, running.carrier)
        for session in list(self.connection.sessions.values()):
            if now >= self._expiry(session):
                self.connection.end_session(session, "no heartbeat for two periods")

    def next_deadline(self) -> float | None:
        """The earliest of what `on_time` looks after."""
        times = [
            self._expiry(session)
            for session in self.connection.sessions.values()
            if session.heartbeat_period and session.established
        ]
        if self._running is not None and self._running.token is None:
            times.append(self._running.late_at)
        return min(times, default=None)

    def outgoing(self) -> list[Frame]:
        """Frames to send now."""
        frames, self._outgoing = self._outgoing, []
        return frames

    def work(self) -> list[Job]:
        """Jobs to start now."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def complete(self, token: int, outcome: Any | BaseException, now: float) -> None:
        """A handler's job is done; that of an abandoned request is ignored."""
        running = self._running
        if running is None or running.job != token or running.steps is None:
            return
        try:
            if isinstance(outcome, BaseException):
                step = running.steps.throw(outcome)
            else:
                step = running.steps.send(outcome)
        except StopIteration as stop:
            self._finished(running, stop.value, now)
        except Exception as error:  # noqa: BLE001  # a handler's failure is the peer's ERROR, never ours
            failed, carrier = error, running.carrier
            refusal = Outcome(
                self._error_for(failed, carrier), lambda: self._after_refusal(failed, carrier)
            )
            self._finished(running, refusal, now)
        else:
            running.job = self._start_job(step)

    def _expiry(self, session: Session) -> float:
        running = self._running
        if running is not None and running.carrier is session and running.outcome is None:
            return float("inf")  # it is we who keep the requester waiting
        return session.expiry()

    # -- what a device starts itself -------------------------------------------------------------

    def ask(self, starter: Starter, session: Session | None = None) -> None:
        """Have an exchange of ours run when the requester next asks for encapsulated requests."""
        flow_of(session or self.connection).add(starter)

    def update_keys(self, session: Session) -> None:
        """New keys for what we send in a session, once the requester asks what we want (10.22)."""
        self.ask(own_key_update, session)

    def end(self, session: Session) -> None:
        """END_SESSION of ours, once the requester asks what we want (1.4).

        Raises:
            ProtocolViolation: before 1.4 only the requester ends a session in good order.
        """
        if self.connection.version < V14:
            raise ProtocolViolation("END_SESSION of a responder needs SPDM 1.4")
        self.ask(own_session_end, session)

    def tell(self, session: Session, data: bytes, message_type: int = 0) -> None:
        """Send application data in an established session without being asked.

        Raises:
            ProtocolViolation: the session is not established, or the data does not fit a record.
        """
        if not session.established:
            raise ProtocolViolation("application data needs an established session")
        record = session.sender.application(data, message_type)
        self._outgoing.append(Frame(FrameKind.SECURED, record))

    def measurements_changed(self) -> None:
        """The device's measured code or configuration is not what it was (SessionPolicy).

        A session ends with its next request then, unless its requester left that to us
        (TerminationPolicy): we go on. Outside of sessions the requester must begin anew (10.2). May
        be called from any thread.
        """
        if self.connection.phase is not Phase.NOT_STARTED:
            self.connection.must_resynch = True
        for session in tuple(self.connection.sessions.values()):
            if not session.policy & TERMINATION_POLICY:
                session.terminated = "what the device measures has changed"

    # -- records --------------------------------------------------------------------------------

    def _record(self, record: bytes, now: float) -> None:
        connection = self.connection
        session: Session | None = None
        try:
            session = connection.sessions.get(record_session_id(record))
            if session is None:
                raise AuthenticationError("record", "no session has this Session ID")
            content = session.opened(record, now)
        except SpdmError as error:
            # Any record that fails ends its session (DSP0277; DSP0274 11.1). The peer is told
            # in the clear: the keys that would protect the answer are gone.
            if session is not None:
                connection.end_session(session, str(error))
            self._send(self._no_session(record, known=session is not None), None)
            return
        if isinstance(content, ApplicationData):
            self._application_data(session, content)
        else:
            self._request(content, session, now)
        if self.connection.states is not None:
            self._remember(session)

    def _application_data(self, session: Session, content: ApplicationData) -> None:
        if not session.established:
            self.connection.end_session(session, "application data in the handshake")
            self._send(self._error(ErrorCode.UNEXPECTED_REQUEST), None)
            return
        try:
            answer = self.device.application_data(content.data, self._peer(session))
        except Exception as error:  # noqa: BLE001  # a device's failure is the peer's ERROR, never ours
            self._send(self._error_for(error, session), session)
            return
        if answer is not None:
            record = session.sender.application(answer, content.message_type)
            self._outgoing.append(Frame(FrameKind.SECURED, record))

    # -- requests -------------------------------------------------------------------------------

    def _request(self, raw: bytes, carrier: Session | None, now: float) -> None:
        """Answer one whole request that came in `carrier` (None: in the clear)."""
        try:
            if self.connection.phase is Phase.NOT_STARTED or self._presumed:
                self._resume(raw, carrier)
            code = self._recognised(raw)
            self._check_size(raw)
            # GET_VERSION goes ahead of everything; what is under way ends when it proves valid.
            if code != R.GET_VERSION and self._resumed(code, raw, carrier, now):
                return
            if code == R.CHUNK_SEND:
                self._chunk_received(raw, carrier, now)
                return
            if code == R.CHUNK_GET:
                self._send(self._next_chunk(raw, carrier), carrier)
                return
            self._begin(code, raw, carrier, now, None)
        except Exception as error:  # noqa: BLE001  # whatever happens, the peer gets an ERROR
            self._send(self._error_for(error, carrier), carrier)
            self._after_refusal(error, carrier)

    def _resume(self, raw: bytes, carrier: Session | None) -> None:
        """A request before GET_VERSION presumes that we remember the requester (CACHE_CAP).

        Only PSK_EXCHANGE says whose state it means, by its hint; until its session stands nothing
        else is answered.

        Raises:
            ProtocolViolation: we remember nothing (RequestResynch).
            DecodeError: PSK_EXCHANGE is malformed.
        """
        connection = self.connection
        code = raw[1] if len(raw) >= 4 else R.GET_VERSION
        if carrier is not None or code == R.GET_VERSION or code not in HANDLERS:
            return
        fresh = connection.phase is Phase.NOT_STARTED
        if code == R.PSK_EXCHANGE and connection.states is not None:
            request, _ = PskExchange.parse(raw, Context(version=raw[0]))
            identity = psk_identity(request.psk_hint)
            state = connection.states.recall(identity) if fresh else None
            if state is not None and state.version == raw[0]:
                connection.restore(state)
                self._presumed = identity
            if self._presumed == identity:
                return
        elif not fresh and code in _PIECES:
            return
        raise ProtocolViolation(
            "nothing is negotiated, and nothing of this requester is remembered",
            error_code=ErrorCode.REQUEST_RESYNCH,
        )

    def _remember(self, session: Session) -> None:
        """Keep what was negotiated with a requester that proved to hold its pre-shared key."""
        connection = self.connection
        identity = session.cache_identity
        proved = session.established and session.proof.kind == "psk"
        if connection.states is None or not proved or connection.cached_state_cleared:
            return
        self._presumed = ""
        if self._remembered != identity:
            self._remembered = identity
            connection.states.remember(identity, connection.snapshot())

    def _recognised(self, raw: bytes) -> RequestCode:
        """The request's code, when its version byte is the right one for it."""
        if len(raw) < 4:
            raise ProtocolViolation("shorter than an SPDM header")
        version, number = raw[0], raw[1]
        try:
            code = RequestCode(number)
        except ValueError:
            raise ProtocolViolation(
                f"request code 0x{number:02x} does not exist",
                error_code=ErrorCode.UNSUPPORTED_REQUEST,
                error_data=number,
            ) from None
        connection = self.connection
        if code == R.GET_VERSION:
            right = version == V10
        elif connection.phase is Phase.VERSION:
            # The first request after VERSION fixes the version (DSP0274 10.4).
            right = version in connection.settings.versions
        else:
            right = version == connection.version
        if not right:
            raise ProtocolViolation(
                f"version byte 0x{version:02x}", error_code=ErrorCode.VERSION_MISMATCH
            )
        return code

    def _check_size(self, raw: bytes) -> None:
        """Refuse what came in one piece and is larger than we said we take in one (10.3)."""
        connection = self.connection
        known = connection.phase in (Phase.CAPABILITIES, Phase.NEGOTIATED)
        if (
            known
            and connection.version >= V12
            and len(raw) > connection.own.data_transfer_size
            and any(raw[connection.own.data_transfer_size :])
        ):
            raise ProtocolViolation(
                f"{len(raw)} bytes exceed our DataTransferSize",
                error_code=ErrorCode.REQUEST_TOO_LARGE,
            )

    def _resumed(self, code: RequestCode, raw: bytes, carrier: Session | None, now: float) -> bool:
        """Deal with what is already under way; True when the request is answered by that."""
        running = self._running
        if code == R.RESPOND_IF_READY:
            self._respond_if_ready(running, raw, carrier, now)
            return True
        if running is not None and running.steps is not None:
            self._send(self._error(ErrorCode.BUSY), carrier)
            return True
        # A finished answer that nobody fetched gives way to the next request.
        self._running = None
        interrupts = (self._incoming is not None and code != R.CHUNK_SEND) or (
            self._large is not None and self._large.under_way and code != R.CHUNK_GET
        )
        if interrupts:
            # The transfer goes on afterwards (10.27): only GET_VERSION ends it.
            raise ProtocolViolation(
                "another request in the middle of a large message",
                error_code=ErrorCode.UNEXPECTED_REQUEST,
            )
        if code != R.CHUNK_GET:
            # Kept for a retry of its last chunk only, or never asked for.
            self._large = None
        return False

    def _begin(
        self,
        code: RequestCode,
        raw: bytes,
        carrier: Session | None,
        now: float,
        in_chunks: ChunkedRequest | None,
    ) -> None:
        """Check a whole request and run its handler."""
        connection = self.connection
        entry = HANDLERS[code]
        session = carrier
        if carrier is None and code in _BELONGS_TO_CLEAR_HANDSHAKE:
            session = connection.clear_handshake
        self._check(code, entry, carrier, session)
        reading = for_request(connection.context, None, requester_side=False)
        if connection.phase is Phase.VERSION:
            reading.version = raw[0]
        request, consumed = entry.message.parse(raw, reading)
        if consumed != len(raw):
            if any(raw[consumed:]):
                raise ProtocolViolation(f"{len(raw) - consumed} bytes follow {code.name}")
            raw = raw[:consumed]
        if code == R.GET_VERSION:
            self._abandon()
        self._reset_transcripts(code, carrier)
        call = Call(
            connection=connection,
            session=session,
            request=request,
            raw=raw,
            context=for_request(connection.context, request, requester_side=False),
            credentials=self.device.credentials,
            device=self.device,
            peer=self._peer(session),
        )
        answer = entry.handler(call)
        if isinstance(answer, Outcome):
            self._answer(answer, carrier, in_chunks)
            return
        running = _Running(code, carrier, answer, 0, float("inf"), in_chunks=in_chunks)
        try:
            step = next(answer)
        except StopIteration as stop:
            self._answer(stop.value, carrier, in_chunks)
            return
        if code not in _NEVER_DELAYED:
            running.late_at = now + 0.9 * (1 << connection.settings.ct_exponent) * 1e-6
        running.job = self._start_job(step)
        self._running = running

    def _check(
        self, code: RequestCode, entry: Entry, carrier: Session | None, session: Session | None
    ) -> None:
        """Capability and state, in this order."""
        connection = self.connection
        negotiated = connection.phase is Phase.NEGOTIATED or code in _CHUNKS
        if negotiated and code != R.GET_VERSION:
            missing = missing_capability(entry, connection)
            if missing:
                raise ProtocolViolation(
                    missing, error_code=ErrorCode.UNSUPPORTED_REQUEST, error_data=code
                )
        self._check_flow(code, carrier)
        if connection.must_resynch and carrier is None and code not in (R.GET_VERSION, *_PIECES):
            raise ProtocolViolation(
                "what is measured has changed since VERSION", error_code=ErrorCode.REQUEST_RESYNCH
            )
        if carrier is not None and carrier.terminated:
            told = ErrorCode.REQUEST_SESSION_TERMINATED
            error = told if connection.version >= V14 else ErrorCode.DECRYPT_ERROR
            raise SessionOver(carrier, ProtocolViolation(carrier.terminated, error_code=error))
        if carrier is None:
            version = connection.version
            verdict: object = in_connection(connection.phase, code, version)
            if not isinstance(verdict, Refusal) and code == R.FINISH:
                clear = connection.flag(RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP, both=True)
                verdict = finish_outside(
                    None if session is None else session.phase, version, clear=clear
                )
        elif carrier.in_the_clear:
            # Its handshake goes on outside of it, and nothing inside before that is over.
            verdict = Refusal(ErrorCode.UNEXPECTED_REQUEST, ends_session=True)
        else:
            verdict = in_session(carrier.phase, code, connection.version)
        if isinstance(verdict, Refusal):
            if verdict.ends_session and session is not None:
                reason = ProtocolViolation(
                    f"{code.name} is not legal in the handshake", error_code=verdict.error
                )
                raise SessionOver(session, reason)
            raise ProtocolViolation(
                f"{code.name} is not legal now", error_code=verdict.error, error_data=verdict.data
            )

    def _check_flow(self, code: RequestCode, carrier: Session | None) -> None:
        """While an encapsulated request waits, only its response is wanted (10.22)."""
        if code in _WITHIN_FLOW:
            return
        session = carrier or self.connection.clear_handshake
        owners = (session,) if carrier is not None else (session, self.connection)
        for owner in owners:
            if owner is None or not isinstance(owner.flow, Flow) or not owner.flow.open:
                continue
            reason = ProtocolViolation(
                f"{code.name} while an encapsulated request waits for its response",
                error_code=ErrorCode.REQUEST_IN_FLIGHT,
            )
            if session is not None and not session.established:
                raise SessionOver(session, reason)
            raise reason

    def _reset_transcripts(self, code: RequestCode, carrier: Session | None) -> None:
        """Forget what this request does not belong to (DSP0274, M1/M2 and L1/L2)."""
        connection = self.connection
        if carrier is not None:
            if code != R.GET_MEASUREMENTS:
                carrier.l1l2.reset()
            return
        if connection.m1m2 is None or connection.l1l2 is None:
            return
        if code not in (R.GET_DIGESTS, R.GET_CERTIFICATE, R.CHALLENGE):
            connection.m1m2.reset()
        if code != R.GET_DIGESTS:
            connection.exchanged_since_vca = True
        if code != R.GET_MEASUREMENTS:
            connection.l1l2.reset()

    def _peer(self, session: Session | None) -> Peer:
        if session is None:
            return Peer(connection=self.name, version=self.connection.version)
        proof = session.proof
        if self._last_peer is not None and self._last_peer[0] == (session.session_id, proof):
            return self._last_peer[1]
        peer = Peer(
            session_id=session.session_id,
            authenticated=session.authenticated_peer,
            identity=proof.identity,
            identity_kind=proof.kind,
            connection=self.name,
            version=self.connection.version,
        )
        self._last_peer = (session.session_id, proof), peer
        return peer

    # -- slow work, RESPOND_IF_READY ------------------------------------------------------------

    def _start_job(self, step: Work) -> int:
        token = next(self._tokens)
        self._jobs.append(Job(token, step.call))
        return token

    def _finished(self, running: _Running, outcome: Outcome, now: float) -> None:  # noqa: ARG002  # same shape as its callers
        running.steps = None
        if running.token is None:
            self._running = None
            self._answer(outcome, running.carrier, running.in_chunks)
        else:
            running.outcome = outcome

    def _respond_if_ready(
        self,
        running: _Running | None,
        raw: bytes,
        carrier: Session | None,
        now: float,  # noqa: ARG002  # same shape as its callers
    ) -> None:
        # The token counts only where it was given: this connection, this session, this request.
        if (
            running is None
            or running.token is None
            or running.carrier is not carrier
            or raw[2] != running.code
            or raw[3] != running.token
        ):
            raise ProtocolViolation(
                "nothing waits under this token", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        if running.outcome is None:
            self._send(self._not_ready(running), carrier)
            return
        self._running = None
        self._answer(running.outcome, carrier, None)

    def _not_ready(self, running: _Running) -> bytes:
        exponent = max(self.connection.settings.ct_exponent - 3, 1)
        extended = bytes((exponent, running.code, running.token or 0, 64))
        return self._error(ErrorCode.RESPONSE_NOT_READY, extended=extended)

    def _abandon(self) -> None:
        """GET_VERSION or the end of the connection: whatever was under way is over."""
        if self._running is not None and self._running.steps is not None:
            self._running.steps.close()
        self._running = self._incoming = self._large = None
        self._presumed = self._remembered = ""

    # -- answers --------------------------------------------------------------------------------

    def _answer(
        self, outcome: Outcome, carrier: Session | None, in_chunks: ChunkedRequest | None
    ) -> None:
        """Send a response whole, in chunks, or inside the last CHUNK_SEND_ACK."""
        connection = self.connection
        limit = min(connection.peer.data_transfer_size, connection.settings.transmit_size)
        response = outcome.response
        if in_chunks is not None:
            acknowledged = in_chunks.acknowledge(response, connection.context)
            if len(acknowledged) <= limit:
                response = acknowledged
        if len(response) > limit and connection.version >= V12:
            response = self._too_large(response, carrier)
        self._send(response, carrier)
        if outcome.then is not None:
            outcome.then()

    def _too_large(self, response: bytes, carrier: Session | None) -> bytes:
        """Keep a large response for CHUNK_GET, or refuse it (DSP0274 10.24.2)."""
        connection = self.connection
        limit = min(connection.peer.data_transfer_size, connection.settings.transmit_size)
        countable = chunks_of(len(response), limit) <= connection.most_chunks
        chunks = connection.chunks_negotiated and countable
        if not chunks or len(response) > connection.peer.max_message_size:
            size = len(response).to_bytes(4, "little")
            return self._error(ErrorCode.RESPONSE_TOO_LARGE, extended=size)
        self._large = ChunkedResponse(connection.next_handle(), response, carrier)
        return self._error(ErrorCode.LARGE_RESPONSE, extended=bytes((self._large.handle,)))

    def _next_chunk(self, raw: bytes, carrier: Session | None) -> bytes:
        connection = self.connection
        self._check(R.CHUNK_GET, HANDLERS[R.CHUNK_GET], carrier, carrier)
        large = self._large
        if large is None or large.carrier is not carrier:
            raise ProtocolViolation(
                "no large response waits", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        limit = min(connection.peer.data_transfer_size, connection.settings.transmit_size)
        return large.next(raw, connection.context, limit)

    def _chunk_received(self, raw: bytes, carrier: Session | None, now: float) -> None:
        connection = self.connection
        self._check(R.CHUNK_SEND, HANDLERS[R.CHUNK_SEND], carrier, carrier)
        transfer = self._incoming or ChunkedRequest(carrier)
        self._incoming = None
        acknowledgement = transfer.take(raw, carrier, connection)
        if not transfer.complete:
            self._incoming = transfer
            self._send(acknowledgement, carrier)
            return
        message = transfer.message()
        try:
            code = self._recognised(message)
            if code in _NEVER_IN_CHUNKS:
                raise ProtocolViolation(
                    f"{code.name} may not travel in chunks", error_code=ErrorCode.UNEXPECTED_REQUEST
                )
            self._begin(code, message, carrier, now, transfer)
        except Exception as error:  # noqa: BLE001  # the ERROR travels in the acknowledgement
            self._answer(Outcome(self._error_for(error, carrier)), carrier, transfer)
            self._after_refusal(error, carrier)

    def _send(self, message: bytes, carrier: Session | None) -> None:
        if carrier is None:
            self._outgoing.append(Frame(FrameKind.MESSAGE, message))
            return
        if not carrier.alive:
            # The session ended while its request was answered: its keys cannot protect this.
            self._outgoing.append(Frame(FrameKind.MESSAGE, self._error(ErrorCode.DECRYPT_ERROR)))
            return
        try:
            record = carrier.sender.message(message)
        except SpdmError as error:
            self.connection.end_session(carrier, str(error))
            record = b""
        if record:
            self._outgoing.append(Frame(FrameKind.SECURED, record))
        else:
            self._outgoing.append(Frame(FrameKind.MESSAGE, self._error(ErrorCode.DECRYPT_ERROR)))

    # -- errors ---------------------------------------------------------------------------------

    def _error(self, code: int, data: int = 0, extended: bytes = b"") -> bytes:
        return Error(error_code=code, error_data=data, extended=extended).encode(
            for_request(self.connection.context, None, requester_side=False)
        )

    def _no_session(self, record: bytes, *, known: bool) -> bytes:
        """What answers a record that cannot be opened; InvalidSession exists in 1.1 only."""
        if known or self.connection.version != V11:
            return self._error(ErrorCode.DECRYPT_ERROR)
        return self._error(ErrorCode.INVALID_SESSION, record[0] if record else 0)

    def _error_for(self, error: Exception, carrier: Session | None) -> bytes:  # noqa: ARG002  # same shape as its callers
        """The ERROR that tells the peer what went wrong; why is for our own log only."""
        data, extended = 0, b""
        code: int = ErrorCode.UNSPECIFIED
        if isinstance(error, ProtocolViolation):
            code, data, extended = error.error_code, error.error_data, error.extended
        elif isinstance(error, DecodeError):
            code = ErrorCode.INVALID_REQUEST
        elif isinstance(error, AuthenticationError):
            code = ErrorCode.DECRYPT_ERROR
        self.connection.events(RequestRefused(code, str(error) or type(error).__name__))
        return self._error(code, data, extended)

    def _after_refusal(self, error: Exception, carrier: Session | None) -> None:
        connection = self.connection
        if isinstance(error, SessionOver):
            connection.end_session(error.session, str(error))
        elif isinstance(error, ProtocolViolation) and error.error_code == ErrorCode.BUSY:
            return  # nothing was looked at: the request may come again, and its transcript goes on
        elif carrier is not None:
            carrier.l1l2.reset()
        elif connection.l1l2 is not None:
            connection.l1l2.reset()

    @property
    def credentials(self) -> Credentials:
        """Our slots and signers, as they are now."""
        return self.device.credentials
