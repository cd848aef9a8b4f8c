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
from typing import Any, Generic, Protocol, TypeVar

from spdmkit.errors import DeadlineExceeded, SpdmError, TransportError
from spdmkit.protocol.actions import (
    Closed,
    DeadlinePassed,
    Done,
    Event,
    Exchange,
    Post,
    Send,
    Sleep,
    Woken,
    Work,
)
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.frames import Frame

__all__ = ["Endpoint", "Job", "RequesterEndpoint", "Ticket"]

T = TypeVar("T")


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
        self._waiting: Send | Sleep | int | None = None
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

    # -- what drivers call ----------------------------------------------------------------------

    def receive(self, frame: Frame, now: float) -> None:  # noqa: ARG002  # the roles share a face
        """The answer that the current exchange waits for; anything else is a violation."""
        if isinstance(self._waiting, Send):
            self._resume(frame)
        else:
            self.connection_lost(TransportError("the peer sent a frame that nothing asked for"))
            self.close_wanted = True

    def connection_lost(self, error: TransportError) -> None:
        """End every exchange and session."""
        if self._lost is not None:
            return
        self._lost = error
        if self._current is not None:
            self._resume(Closed(error))
        while self._queue:
            self._queue.popleft()._finish(None, error)  # see Ticket.cancel
        self.connection.reset(f"connection lost: {error}")

    def on_time(self, now: float) -> None:
        """Wake or time out the current exchange."""
        waiting = self._waiting
        if isinstance(waiting, Send) and now >= waiting.deadline:
            self._resume(DeadlinePassed())
        elif isinstance(waiting, Sleep) and now >= waiting.until:
            self._resume(Woken())

    def next_deadline(self) -> float | None:
        """When the current exchange must be woken."""
        waiting = self._waiting
        if isinstance(waiting, Send):
            return waiting.deadline
        return waiting.until if isinstance(waiting, Sleep) else None

    def outgoing(self) -> list[Frame]:
        """Frames to send now."""
        frames, self._outgoing = self._outgoing, []
        return frames

    def work(self) -> list[Job]:
        """Jobs to start now."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def complete(self, token: int, outcome: Any | BaseException, now: float) -> None:  # noqa: ARG002  # the roles share a face
        """A job of the current exchange is done; one of a cancelled exchange is ignored."""
        if self._waiting != token:
            return
        if isinstance(outcome, BaseException):
            self._throw(outcome)
        else:
            self._resume(Done(outcome))

    # -- the current exchange -------------------------------------------------------------------

    def _advance(self) -> None:
        while self._current is None and self._queue:
            self._current = self._queue.popleft()
            self._step(self._current, next)

    def _resume(self, event: Event) -> None:
        ticket = self._current
        if ticket is not None:
            self._step(ticket, lambda exchange: exchange.send(event))
            self._advance()

    def _throw(self, error: BaseException) -> None:
        ticket = self._current
        if ticket is not None:
            self._step(ticket, lambda exchange: exchange.throw(error))
            self._advance()

    def _step(self, ticket: Ticket[Any], resume: Callable[[Exchange[Any]], Any]) -> None:
        """Run the exchange to its next wait, and note what it waits for."""
        self._waiting = None
        try:
            action = resume(ticket.exchange)
            while isinstance(action, Post):
                self._outgoing.append(action.frame)
                ticket.sent = True
                action = ticket.exchange.send(Done(None))
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
            self._outgoing.append(action.frame)
            ticket.sent = True
            self._waiting = action
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
        waited_for_answer = isinstance(self._waiting, Send)
        self._waiting = None
        self._current = None
        ticket._finish(None, cancelled)  # see Ticket.cancel
        if waited_for_answer:
            self._fail(TransportError("a request was cancelled after it was sent"))
        else:
            self._advance()
