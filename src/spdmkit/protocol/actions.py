"""What an exchange asks of whoever drives it, and what it is told in return.

An exchange (`get_measurements`, `key_exchange`, ...) is a generator: it yields an `Action` and is
resumed with an `Event`. It knows no socket, no clock and no event loop, so that asyncio, a thread
or a test can drive the same code.

    action = next(exchange)
    while True:
        action = exchange.send(event_for(action))      # StopIteration carries the result
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from spdmkit.errors import TransportError
from spdmkit.protocol.frames import Frame

__all__ = [
    "Action",
    "Closed",
    "DeadlinePassed",
    "Done",
    "Event",
    "Exchange",
    "Meanwhile",
    "Post",
    "Send",
    "Sleep",
    "Wait",
    "Woken",
    "Work",
    "perform",
    "settled",
    "sleep",
]

T = TypeVar("T")


class Meanwhile(Generic[T]):
    """Work to be done while the peer works on its answer; its outcome is asked for afterwards.

    Whoever drives the exchange loses time when it takes no notice, and nothing else: `result` does
    what was not done.

    Attributes:
        done: the outcome is there.
    """

    __slots__ = ("_call", "_error", "_result", "done")

    def __init__(self, call: Callable[[], T]) -> None:
        """Work that is not done yet."""
        self._call = call
        self._result: T | None = None
        self._error: Exception | None = None
        self.done = False

    def run(self) -> None:
        """Do the work, once; what it raises is kept for `result`."""
        if self.done:
            return
        try:
            self._result = self._call()
        except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
            self._error = error
        self.done = True

    def result(self) -> T:
        """What the work returned.

        Raises:
            Exception: what it raised.
        """
        self.run()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set by `run`


@dataclass(slots=True)
class Send:
    """Send this frame, then resume with the frame that answers it, or with `DeadlinePassed`.

    Attributes:
        frame: what to send, in one write.
        deadline: when to stop waiting, in seconds of the driver's monotonic clock. It has passed
            only when a read after it found nothing.
        meanwhile: to be run before the exchange is resumed, or None.
    """

    frame: Frame
    deadline: float
    meanwhile: Meanwhile[Any] | None = None


@dataclass(slots=True)
class Wait:
    """Send nothing and resume with the next frame, or with `DeadlinePassed`.

    For the answer to what was sent before, when something else came first.
    """

    deadline: float


@dataclass(slots=True)
class Post:
    """Send this frame and resume with `Done` at once: nothing answers it (application data)."""

    frame: Frame


@dataclass(slots=True)
class Sleep:
    """Resume with `Woken` at this time, in seconds of the driver's monotonic clock."""

    until: float


@dataclass(slots=True)
class Work:
    """Run this and resume with `Done`, or throw what it raised into the exchange.

    Slow work (signatures, chain validation, an HSM) is handed out so that a server can run it in
    a thread pool. What the call returns may be awaitable; a driver that cannot wait for it refuses.
    """

    call: Callable[[], Any | Awaitable[Any]]


@dataclass(slots=True)
class DeadlinePassed:
    """No answer came in time. Over TCP the connection is of no more use (it is never retried)."""


@dataclass(slots=True)
class Woken:
    """The `Sleep` is over."""


@dataclass(slots=True)
class Done:
    """The `Work` is done.

    Attributes:
        result: what the call returned.
    """

    result: Any


@dataclass(slots=True)
class Closed:
    """The connection is gone.

    Attributes:
        error: why, when that is known.
    """

    error: TransportError


Action: TypeAlias = Send | Wait | Post | Sleep | Work
Event: TypeAlias = Frame | DeadlinePassed | Woken | Done | Closed
Exchange: TypeAlias = Generator[Action, Event, T]


def perform(call: Callable[[], T | Awaitable[T]]) -> Exchange[T]:
    """Have `call` run by the driver and return its result.

    Raises:
        TransportError: the connection went away meanwhile.
    """
    event = yield Work(call)
    if isinstance(event, Done):
        result: T = event.result
        return result
    raise _unexpected(event)


def settled(work: Meanwhile[T]) -> Exchange[T]:
    """The result of work that should have been done meanwhile; if it was not, it is done now.

    Raises:
        Exception: what the work raised.
        TransportError: the connection went away meanwhile.
    """
    if not work.done:
        yield from perform(work.run)
    return work.result()


def sleep(until: float) -> Exchange[None]:
    """Wait until `until` (seconds, the driver's monotonic clock).

    Raises:
        TransportError: the connection went away meanwhile.
    """
    event = yield Sleep(until)
    if not isinstance(event, Woken):
        raise _unexpected(event)


def _unexpected(event: Event) -> TransportError:
    if isinstance(event, Closed):
        return event.error
    return TransportError(f"the driver resumed an exchange with {type(event).__name__}")
