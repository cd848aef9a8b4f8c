"""Whose turn it is: so many at a time, fair between addresses, and nobody keeps it by being slow.

A turn is for the work of serving a device, not for waiting on it. Whoever has not finished when its
time is over goes on without one, and the next gets it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

__all__ = ["Turn", "Turns"]


class Turn:
    """A turn that somebody has; `end` gives it on, and is called by the clock if nobody does."""

    __slots__ = ("_timer", "_turns")

    def __init__(self, turns: Turns, longest: float) -> None:
        self._turns: Turns | None = turns
        self._timer = asyncio.get_running_loop().call_later(longest, self.end)

    def end(self) -> None:
        """Give the turn on; once is enough."""
        turns, self._turns = self._turns, None
        self._timer.cancel()
        if turns is not None:
            turns._next()


class Turns:
    """Gives out turns, in the order of asking, and by turns between the addresses that ask.

    Attributes:
        waiting: how many wait.
    """

    def __init__(self, at_once: int, *, longest: float = 2.0) -> None:
        """Nobody has a turn yet.

        Args:
            at_once: turns that are given out at a time.
            longest: seconds that a turn lasts at most.
        """
        self.waiting = 0
        self._free = at_once
        self._longest = longest
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, address: str) -> Turn:
        """Wait for a turn.

        Args:
            address: who asks; many from one address wait behind each other, not before others.
        """
        if self._free > 0:
            self._free -= 1
            return Turn(self, self._longest)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(address, deque()).append(mine)
        self.waiting += 1
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._next()
            raise
        finally:
            self.waiting -= 1
        return Turn(self, self._longest)

    def _next(self) -> None:
        """A turn is free: whoever waits longest at the address whose turn it is gets it."""
        while self._queues:
            address, queue = self._queues.popitem(last=False)
            mine = queue.popleft()
            if queue:
                self._queues[address] = queue
            if not mine.done():
                mine.set_result(None)
                return
        self._free += 1
