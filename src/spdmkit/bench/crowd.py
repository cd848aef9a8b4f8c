"""A crowd of hostile clients, a process of its own, for `spdm bench hostile`.

    python -m spdmkit.bench.crowd PORT COUNT

Each client is hostile in its own way and comes back when it is thrown out. The program prints a
line when all have been connected once, and goes on until its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from spdmkit.transports.loops import raise_descriptor_limit

__all__ = ["SHARES", "main"]

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET_VERSION: Final = b"\x04\x00\x01\x05\x10\x84\x00\x00"
AGAIN: Final = 1.0
"""Seconds before a client that was thrown out comes back."""
AT_ONCE: Final = 200


async def _silent(streams: Streams) -> None:
    await streams[0].read()


async def _slow(streams: Streams) -> None:
    """One byte a second of a request that never gets whole."""
    while True:
        for value in GET_VERSION[:-1]:
            streams[1].write(bytes((value,)))
            await asyncio.sleep(1.0)


async def _garbage(streams: Streams) -> None:
    streams[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await streams[0].read()


async def _oversize(streams: Streams) -> None:
    streams[1].write(b"\xff\xff\x01\x05" + bytes(1000))
    await streams[0].read()


async def _half_open(streams: Streams) -> None:
    streams[1].write(GET_VERSION[:6])
    await streams[0].read()


async def _abandoned(streams: Streams) -> None:
    """A negotiation that stops after VERSION."""
    streams[1].write(GET_VERSION)
    await streams[0].read()


SHARES: Final[dict[str, tuple[float, Callable[[Streams], Awaitable[None]]]]] = {
    "silent": (0.40, _silent),
    "one byte a second": (0.20, _slow),
    "garbage": (0.10, _garbage),
    "oversize": (0.10, _oversize),
    "half-open": (0.10, _half_open),
    "abandoned handshake": (0.10, _abandoned),
}
"""What part of the crowd does what."""


async def _client(
    port: int,
    conduct: Callable[[Streams], Awaitable[None]],
    gate: asyncio.Semaphore,
    stood: asyncio.Event,
) -> None:
    while True:
        with contextlib.suppress(OSError):
            async with gate:
                streams = await asyncio.open_connection("127.0.0.1", port)
            stood.set()
            try:
                await conduct(streams)
            finally:
                streams[1].close()
        await asyncio.sleep(AGAIN)


async def _crowd(port: int, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    tasks: list[asyncio.Task[None]] = []
    events: list[asyncio.Event] = []
    for number in range(count):
        stood = asyncio.Event()
        conduct = _conduct(number / count)
        tasks.append(asyncio.create_task(_client(port, conduct, gate, stood)))
        events.append(stood)
    await asyncio.gather(*(event.wait() for event in events))
    print("ready", flush=True)  # noqa: T201 - read by the benchmark
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _conduct(place: float) -> Callable[[Streams], Awaitable[None]]:
    """What a client does, by its place between 0 and 1 in the crowd."""
    reached = 0.0
    for share, conduct in SHARES.values():
        reached += share
        if place < reached:
            return conduct
    return _silent


def main() -> int:
    """Run the crowd; returns the exit code."""
    raise_descriptor_limit()
    asyncio.run(_crowd(int(sys.argv[1]), int(sys.argv[2])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
