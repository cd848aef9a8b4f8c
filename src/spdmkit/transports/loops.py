"""Event loops and the process they run in: uvloop when it is there, enough file descriptors."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["loop_factory", "raise_descriptor_limit", "run"]

T = TypeVar("T")

MOST_DESCRIPTORS = 1 << 20


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop when the extra `fast` is installed; None is asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  # optional: only looked for when a loop is made
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on the fastest loop that is installed."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files as far as the hard limit lets us; the limit now in force.

    A server's connections are file descriptors, and the usual soft limit is 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):
        # Refused by the system (a container's policy): what we have must do.
        return soft
    return most
