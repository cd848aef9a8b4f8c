"""Who waits for a device: a bounded queue, first come, first served, with a deadline for each.

A device has one conversation at a time: a second verifier's GET_VERSION would reset the first
one's connection and end its sessions. So a TCP connection leases the device until it closes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Limits", "Waiting", "WaitingRoom"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take of a device; times in seconds.

    Attributes:
        waiting: clients that may wait for it.
        wait: how long one of them waits at most.
        first: until a client's first request.
        idle: without a frame in either direction, after which a lease ends.
        lease: how long a lease lasts at most.
        answer: how long the device may take for one answer.
        opening: how long reaching the device or a verifier may take.
    """

    waiting: int = 16
    wait: float = 60.0
    first: float = 10.0
    idle: float = 60.0
    lease: float = 600.0
    answer: float = 60.0
    opening: float = 10.0


@dataclass(slots=True)
class Waiting(Generic[T]):
    """One who waits.

    Attributes:
        who: the client.
        since, until: monotonic seconds.
    """

    who: T
    since: float
    until: float


class WaitingRoom(Generic[T]):
    """The queue of one device."""

    def __init__(self, limits: Limits) -> None:
        """Nobody waits."""
        self._limits = limits
        self._queue: deque[Waiting[T]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def enter(self, who: T, now: float) -> bool:
        """Wait; False when there is no room."""
        if len(self._queue) >= self._limits.waiting:
            return False
        self._queue.append(Waiting(who, now, now + self._limits.wait))
        return True

    def call(self) -> T | None:
        """Whose turn it is, or None; the caller drops those whose time is over before."""
        return self._queue.popleft().who if self._queue else None

    def expired(self, now: float) -> list[T]:
        """Those who have waited for too long; they wait no more."""
        gone: list[T] = []
        # All wait equally long, so that the first to come is the first to go.
        while self._queue and self._queue[0].until <= now:
            gone.append(self._queue.popleft().who)
        return gone

    def visitors(self) -> list[T]:
        """Those who wait, in order."""
        return [each.who for each in self._queue]

    def leave(self, who: T) -> None:
        """Wait no more."""
        self._queue = deque(each for each in self._queue if each.who is not who)

    def next_deadline(self) -> float | None:
        """When `expired` has somebody to name."""
        return self._queue[0].until if self._queue else None

    def clear(self) -> list[T]:
        """Everybody, who all wait no more."""
        everybody = [each.who for each in self._queue]
        self._queue.clear()
        return everybody
