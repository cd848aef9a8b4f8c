"""A relay that does to TCP what networks and middle boxes do, and what an attacker would."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["Fault", "chaos"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the bytes of a direction.

    Attributes:
        largest: bytes of a segment at most; 0 passes reads on as they come.
        delay: seconds before each segment, at most; drawn anew each time.
        cut_after: bytes after which the connection is cut (FIN); None never.
        reset_after: bytes after which it is reset (RST).
        stall_after: bytes after which nothing passes any more, and nothing is closed.
        change: changes a read.
    """

    largest: int = 0
    delay: float = 0.0
    cut_after: int | None = None
    reset_after: int | None = None
    stall_after: int | None = None
    change: Callable[[bytes], bytes] = bytes


class _Over(Exception):
    """The connection ends here, rudely or not."""

    def __init__(self, *, rude: bool) -> None:
        super().__init__()
        self.rude = rude


@asynccontextmanager
async def chaos(
    port: int, *, forth: Fault | None = None, back: Fault | None = None, seed: int = 1
) -> AsyncIterator[str]:
    """A relay in front of a port of this machine; gives its address.

    Args:
        port: what is behind.
        forth: what happens to what clients send.
        back: what happens to what they receive.
        seed: of the delays.
    """
    rng = random.Random(seed)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        pumps = [
            asyncio.ensure_future(_pump(reader, far_writer, forth or Fault(), rng)),
            asyncio.ensure_future(_pump(far_reader, writer, back or Fault(), rng)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                error = each.exception()
                if isinstance(error, _Over) and error.rude:
                    for end in (writer, far_writer):
                        end.transport.abort()
        finally:
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, rng: random.Random
) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            data = fault.change(data)
            size = fault.largest or len(data) or 1
            for at in range(0, len(data), size):
                part = data[at : at + size]
                if fault.delay:
                    await asyncio.sleep(rng.uniform(0, fault.delay))
                part = await _limited(part, passed, fault, writer)
                writer.write(part)
                await writer.drain()
                passed += len(part)


async def _limited(part: bytes, passed: int, fault: Fault, writer: asyncio.StreamWriter) -> bytes:
    for limit, rude in ((fault.cut_after, False), (fault.reset_after, True)):
        if limit is not None and passed + len(part) > limit:
            writer.write(part[: max(limit - passed, 0)])
            raise _Over(rude=rude)
    if fault.stall_after is not None and passed + len(part) > fault.stall_after:
        await asyncio.Event().wait()
    return part
