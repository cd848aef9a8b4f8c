"""What a driver drives: frames, time and finished work go in; frames, deadlines and work come out.

An endpoint is one end of one connection. Both roles have the same face, so that one asyncio
driver and one blocking driver serve both, whichever side dialled. Nothing here waits: a driver
calls `receive`, `on_time` and `complete`, then takes `outgoing`, `work`, `next_deadline` and
`close_wanted`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from spdmkit.errors import DeadlineExceeded, ProtocolViolation, SpdmError, TransportError
from spdmkit.protocol.actions import (
    Closed,
    DeadlinePassed,
    Done,
    Event,
    Exchange,
    Post,
    Send,
    Sleep,
    Wait,
    Woken,
    Work,
)
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.link import Link, is_decrypt_error
from spdmkit.protocol.records import ApplicationData, record_session_id
from spdmkit.protocol.requester.upkeep import keep_alive, upkeep_due

__all__ = ["Endpoint", "Job", "RequesterEndpoint", "Ticket"]

T = TypeVar("T")

_MESSAGE: Final = FrameKind.MESSAGE
_FOR_A_FRAME: Final = (Send, Wait)
"""Looked up for every frame, and names of a module are found faster."""


@dataclass(slots=True)
class Job:
    """Slow work to run somewhere else; its outcome comes back through `complete(token, ...)`."""

    token: int
    call: Callable[[], Any | Awaitable[Any]]


class Endpoint(Protocol):
    """The face of both roles."""

    connection: Connection
    close_wanted: bool
    """The driver should send what is outgoing and close the connection."""

    def receive(self, frame: Frame, now: float) -> None:
        """A whole frame arrived."""
        ...

    def connection_lost(self, error: TransportError) -> None:
        """The transport is gone; everything on it ends."""
        ...

    def on_time(self, now: float) -> None:
        """A deadline may have passed; called only when a read found nothing more."""
        ...

    def next_deadline(self) -> float | None:
        """When to call `on_time` next, monotonic seconds; None: no need."""
        ...

    def outgoing(self) -> list[Frame]:
        """Frames to send now, in order; each is handed out once."""
        ...

    def work(self) -> list[Job]:
        """Jobs to start now; each is handed out once."""
        ...

    def complete(self, token: int, outcome: Any | BaseException, now: float) -> None:
        """A job is done: what it returned, or the exception it raised."""
        ...


class Ticket(Generic[T]):
    """An exchange in the queue of an endpoint, and later its outcome.

    Attributes:
        done: the outcome is there.
    """

    __slots__ = ("_callback", "_endpoint", "_error", "_result", "done", "exchange", "sent")

    def __init__(self, endpoint: RequesterEndpoint, exchange: Exchange[T]) -> None:
        self._endpoint = endpoint
        self.exchange = exchange
        self.done = False
        self.sent = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._callback: Callable[[Ticket[T]], None] | None = None

    def result(self) -> T:
        """What the exchange returned.

        Raises:
            SpdmError: what it raised.
            TransportError: it is not done.
        """
        if self._error is not None:
            raise self._error
        if not self.done:
            raise TransportError("the exchange is not done yet")
        return self._result  # type: ignore[return-value]  # set together with `done`

    def on_done(self, callback: Callable[[Ticket[T]], None]) -> None:
        """Call this once when the outcome is there (at once when it is already)."""
        if self.done:
            callback(self)
        else:
            self._callback = callback

    def cancel(self) -> None:
        """Give the exchange up.

        When its request is on the wire the connection closes with it: the late answer must never
        meet the next request.
        """
        self._endpoint._cancel(self)  # the two are one mechanism in two classes

    def _finish(self, result: T | None, error: BaseException | None) -> None:
        if self.done:
            return
        self.done = True
        self._result, self._error = result, error
        self.exchange.close()
        if self._callback is not None:
            self._callback(self)


class RequesterEndpoint:
    """The requester's end: exchanges in a queue, one at a time on the wire.

    DSP0274 8.4 allows one outstanding request per connection, however many sessions it has.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.close_wanted = False
        self._queue: deque[Ticket[Any]] = deque()
        self._current: Ticket[Any] | None = None
        self._waiting: Send | Wait | Sleep | int | None = None
        self._asked_in = b""
        self._beside: int | None = None
        """The job to be done beside the request on the wire, while it is not done."""
        self._held: Frame | None = None
        """The answer that came before that job was done."""
        self._outgoing: list[Frame] = []
        self._jobs: list[Job] = []
        self._tokens = itertools.count(1)
        self._lost: TransportError | None = None

    def submit(self, exchange: Exchange[T]) -> Ticket[T]:
        """Queue an exchange; it starts at once when nothing is under way."""
        ticket: Ticket[T] = Ticket(self, exchange)
        if self._lost is not None:
            ticket._finish(None, self._lost)  # see Ticket.cancel
            return ticket
        self._queue.append(ticket)
        self._advance()
        return ticket

    @property
    def idle(self) -> bool:
        """No exchange is under way or waits for its turn."""
        return self._current is None and not self._queue

    # -- what drivers call ----------------------------------------------------------------------

    def receive(self, frame: Frame, now: float) -> None:
        """The answer that the current exchange waits for, or application data in a session."""
        waiting = self._held is None and isinstance(self._waiting, _FOR_A_FRAME)
        if waiting and (frame.kind is _MESSAGE or not self._of_another_session(frame)):
            if self._beside is None:
                self._resume(frame)
            else:
                self._held = frame
            return
        try:
            self._unasked(frame, now)
        except SpdmError as error:
            self._fail(TransportError(f"the peer sent a frame that nothing asked for: {error}"))

    def _of_another_session(self, frame: Frame) -> bool:
        """A record of a session that the request on the wire does not go through."""
        session_id = frame.body[:4]
        return (
            session_id != self._asked_in
            and int.from_bytes(session_id, "little") in self.connection.sessions
        )

    def _unasked(self, frame: Frame, now: float) -> None:
        """Application data, or the news that a session is over; nothing else comes by itself."""
        connection = self.connection
        sessions = connection.sessions
        if frame.kind is _MESSAGE:
            # A record of ours was refused: the peer has ended the session, and says so in the
            # clear. Which one it was is sure only when there is one.
            if len(sessions) == 1 and is_decrypt_error(frame.body):
                (session,) = sessions.values()
                connection.end_session(session, "the peer could not open a record")
                return
            raise ProtocolViolation("a message")
        found = sessions.get(record_session_id(frame.body))
        if found is None:
            return  # a record of a session that ended here while it was on its way
        try:
            content = found.opened(frame.body, now)
            if not isinstance(content, ApplicationData):
                raise ProtocolViolation("an SPDM message that nothing asked for came in it")
            if not found.established:
                raise ProtocolViolation("application data came in the handshake")
            found.keep(content)
        except SpdmError as error:
            connection.end_session(found, str(error))

    def connection_lost(self, error: TransportError) -> None:
        """End every exchange and session."""
        if self._lost is not None:
            return
        self._lost = error
        # Taken out first: what waits must not start when the current exchange makes room for it.
        waiting, self._queue = self._queue, deque()
        if self._current is not None:
            self._resume(Closed(error))
        for ticket in waiting:
            ticket._finish(None, error)  # see Ticket.cancel
        self.connection.lost(f"connection lost: {error}")

    def on_time(self, now: float) -> None:
        """Wake or time out the current exchange."""
        waiting = self._waiting
        if isinstance(waiting, _FOR_A_FRAME):
            if now >= waiting.deadline and self._held is None:
                self._resume(DeadlinePassed())
        elif isinstance(waiting, Sleep):
            if now >= waiting.until:
                self._resume(Woken())
        elif self._current is None:
            self._upkeep(now)

    def next_deadline(self) -> float | None:
        """When the current exchange must be woken, or a session needs a sign of life."""
        waiting = self._waiting
        if isinstance(waiting, _FOR_A_FRAME):
            return waiting.deadline if self._held is None else None
        if isinstance(waiting, Sleep):
            return waiting.until
        if self._current is not None or not self.connection.sessions:
            return None
        settings = self.connection.settings
        times = [upkeep_due(session, settings) for session in self.connection.sessions.values()]
        return min((time for time in times if time != float("inf")), default=None)

    def _upkeep(self, now: float) -> None:
        """While nothing else happens: heartbeats, polls, and the end of sessions gone silent."""
        connection = self.connection
        for session in list(connection.sessions.values()):
            if now >= session.expiry():
                connection.end_session(session, "no traffic for two heartbeat periods")
            elif now >= upkeep_due(session, connection.settings):
                self.submit(keep_alive(Link(connection, session)))

    def outgoing(self) -> list[Frame]:
        """Frames to send now."""
        frames = self._outgoing
        if frames:
            self._outgoing = []
        return frames

    def work(self) -> list[Job]:
        """Jobs to start now."""
        jobs = self._jobs
        if jobs:
            self._jobs = []
        return jobs

    def complete(self, token: int, outcome: Any | BaseException, now: float) -> None:  # noqa: ARG002  # the roles share a face
        """A job of the current exchange is done; one of a cancelled exchange is ignored."""
        if self._beside == token:
            self._beside = None
            if self._held is not None:
                self._resume(self._held)
            return
        if self._waiting != token:
            return
        self._resume(outcome if isinstance(outcome, BaseException) else Done(outcome))

    # -- the current exchange -------------------------------------------------------------------

    def _advance(self) -> None:
        while self._current is None and self._queue:
            self._current = self._queue.popleft()
            self._step(self._current, None)

    def _resume(self, event: Event | BaseException) -> None:
        ticket = self._current
        if ticket is not None:
            self._step(ticket, event)
            if self._current is None:
                self._advance()

    def _step(self, ticket: Ticket[Any], event: Event | BaseException | None) -> None:
        """Run the exchange to its next wait, and note what it waits for.

        Args:
            ticket: the exchange.
            event: what to resume it with: None to begin, an exception to raise in it.
        """
        exchange = ticket.exchange
        self._waiting = self._beside = self._held = None
        try:
            if event is None:
                action = next(exchange)
            elif isinstance(event, BaseException):
                action = exchange.throw(event)
            else:
                action = exchange.send(event)
            while isinstance(action, Post):
                self._outgoing.append(action.frame)
                ticket.sent = True
                action = exchange.send(Done(None))
        except StopIteration as stop:
            self._end(ticket, stop.value, None)
            return
        except SpdmError as error:
            self._end(ticket, None, error)
            return
        except BaseException as error:
            self._end(ticket, None, error)
            self._fail(TransportError(f"an exchange failed: {type(error).__name__}"))
            raise
        if isinstance(action, Send):
            frame = action.frame
            self._asked_in = b"" if frame.kind is _MESSAGE else frame.body[:4]
            self._outgoing.append(frame)
            ticket.sent = True
            self._waiting = action
            if action.meanwhile is not None:
                self._beside = next(self._tokens)
                self._jobs.append(Job(self._beside, action.meanwhile.run))
        elif isinstance(action, Work):
            self._waiting = token = next(self._tokens)
            self._jobs.append(Job(token, action.call))
        else:
            self._waiting = action

    def _end(
        self, ticket: Ticket[Any], result: Any, error: SpdmError | BaseException | None
    ) -> None:
        self._current = None
        # The next exchange must not start on a connection whose answer may still come.
        if isinstance(error, DeadlineExceeded):
            self._fail(error)
        ticket._finish(result, error)  # see Ticket.cancel

    def _fail(self, error: TransportError) -> None:
        self.close_wanted = True
        self.connection_lost(error)

    def _cancel(self, ticket: Ticket[Any]) -> None:
        if ticket.done:
            return
        cancelled = TransportError("the exchange was cancelled")
        if ticket is not self._current:
            self._queue.remove(ticket)
            ticket._finish(None, cancelled)  # see Ticket.cancel
            return
        waited_for_answer = isinstance(self._waiting, _FOR_A_FRAME)
        self._waiting = self._beside = self._held = None
        self._current = None
        ticket._finish(None, cancelled)  # see Ticket.cancel
        if waited_for_answer:
            self._fail(TransportError("a request was cancelled after it was sent"))
        else:
            self._advance()
