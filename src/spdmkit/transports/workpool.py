"""Threads for slow work: signatures, chain validation, an HSM. Bounded in threads and in queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["WorkPool"]

_MOST_WORKERS = 32

Call = Callable[[], Any]
Done = Callable[[Any], None]
"""Takes what the call returned, or the exception it raised."""


class WorkPool:
    """Runs jobs of many connections, in the order in which they came.

    A connection has at most one job at a time, so that first come, first served is fair between
    connections. Cryptography by `cryptography` runs outside Python's lock, so that threads help.

    Attributes:
        limit: jobs waiting or running beyond which a server says Busy.
        pending: jobs waiting or running now.
    """

    def __init__(self, workers: int | None = None, *, limit: int = 1024) -> None:
        """A pool; no thread is started before the first job.

        Args:
            workers: threads; 0 runs every job at once in the event loop's thread; None takes one
                more than there are processors.
            limit: see the attribute.
        """
        if workers is None:
            workers = min((os.cpu_count() or 1) + 1, _MOST_WORKERS)
        self.limit = limit
        self.pending = 0
        self._executor = ThreadPoolExecutor(workers, "spdm-work") if workers else None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def full(self) -> bool:
        """No more jobs should be taken."""
        return self.pending >= self.limit

    def start(self, call: Call, done: Done) -> None:
        """Run `call`; `done` gets its outcome in the event loop's thread, never before we return.

        Must be called in a running event loop. What the call returns may be awaitable.
        """
        loop = asyncio.get_running_loop()
        self.pending += 1
        if self._executor is None:
            loop.call_soon(self._run_here, call, done)
            return
        future = loop.run_in_executor(self._executor, _outcome_of, call)
        future.add_done_callback(lambda ended: self._returned(ended, done))

    def close(self) -> None:
        """Take no more jobs and forget those that wait; those running end by themselves."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        for task in self._tasks:
            task.cancel()

    def _run_here(self, call: Call, done: Done) -> None:
        self._settle(_outcome_of(call), done)

    def _returned(self, future: asyncio.Future[Any], done: Done) -> None:
        if future.cancelled():
            self.pending -= 1
            return
        self._settle(future.result(), done)

    def _settle(self, outcome: Any, done: Done) -> None:
        if not hasattr(outcome, "__await__"):
            self._end(outcome, done)
            return

        async def wait() -> None:
            try:
                result = await outcome
            except Exception as error:  # noqa: BLE001  # the exchange that asked for it decides
                result = error
            self._end(result, done)

        task = asyncio.get_running_loop().create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, outcome: Any, done: Done) -> None:
        self.pending -= 1
        done(outcome)


def _outcome_of(call: Call) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # the exchange that asked for it decides
        return error
