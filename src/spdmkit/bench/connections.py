"""`spdm bench connections`: memory of idle connections, each with one established session.

The responder runs in a process of its own, and what is resident there is read after a collection of
garbage, before and after. The kernel's buffers are not counted, the requesters' memory is not
either: they are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.bench.device import bench_device
from spdmkit.bench.measuring import Result
from spdmkit.bench.peer import served
from spdmkit.identity import ChainCache
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings
from spdmkit.transports import aio, loops
from spdmkit.transports.requesters import requester_factory

__all__ = ["BAR", "measure_connections"]

LIMIT: Final = 64.0
"""KiB that one connection may take."""
BAR: Final = 1.0
_AT_ONCE: Final = 32
_WARM_UP: Final = 20
"""One in so many of the connections is opened and closed before, to warm up."""
_KIBIBYTE: Final = 1024


def measure_connections(count: int = 1000) -> Result:
    """Open connections with a session to a software device, and keep them.

    Args:
        count: how many at once.
    """
    loops.raise_descriptor_limit()
    with bench_device("ecdsa-p384") as device, served(device.folder) as peer:
        trust = DeviceTrust(device.trust.time, device.trust.anchors, cache=ChainCache())
        loops.run(_open(peer.uri, trust, max(1, count // _WARM_UP), lambda: None))
        before = peer.ask("memory")
        found: dict[str, float] = {}

        def look() -> None:
            found.update({question: peer.ask(question) for question in ("memory", "sessions")})

        loops.run(_open(peer.uri, trust, count, look))
        after = peer.ask("memory")
    each = (found["memory"] - before) / count / _KIBIBYTE
    ratio = each / LIMIT
    return Result(
        "connections",
        "KiB",
        each,
        LIMIT,
        BAR,
        (ratio, ratio),
        f"resident memory of one idle connection with a session at the responder, of {count}",
        "what it may take",
        {
            "count": count,
            "sessions": int(found["sessions"]),
            "resident_before_mib": round(before / _KIBIBYTE**2, 2),
            "resident_with_all_mib": round(found["memory"] / _KIBIBYTE**2, 2),
            "resident_after_closing_mib": round(after / _KIBIBYTE**2, 2),
        },
    )


async def _open(uri: str, trust: DeviceTrust, count: int, when_open: Callable[[], None]) -> None:
    """Open connections, call back while they stand, and close them."""
    factory = requester_factory(
        Settings(capabilities=requester_capabilities(sessions=True), keep_messages=True)
    )
    wanted = Wanted(session=True, challenge=False, measurements=False)
    gate = asyncio.Semaphore(_AT_ONCE)

    async with AsyncExitStack() as stack:

        async def one() -> None:
            async with gate:
                connection = await stack.enter_async_context(await aio.connect(uri, factory))
                link = Link(connection.endpoint.connection)
                await connection.run(collect(link, trust, wanted, keep_session=True))

        await asyncio.gather(*(one() for _ in range(count)))
        when_open()
