"""`spdm bench hostile`: what honest clients notice of a crowd of hostile ones.

The device, the crowd and the honest clients are three processes. All honest clients attest at the
same moment, first alone, then beside the crowd; latencies are from connecting to the last answer.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.bench import crowd
from spdmkit.device.initialise import initialise
from spdmkit.errors import SpdmError, TransportError
from spdmkit.identity import ChainCache
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings
from spdmkit.transports.aio import connect
from spdmkit.transports.loops import raise_descriptor_limit
from spdmkit.transports.requesters import requester_factory

__all__ = ["HostileFigures", "measure_hostile"]


@dataclass(frozen=True, slots=True)
class HostileFigures:
    """What was measured.

    Attributes:
        honest: honest clients.
        hostile: hostile ones.
        alone: their latencies without the crowd, seconds, ascending.
        beside: their latencies beside it.
        failed: honest attestations that did not succeed beside the crowd.
    """

    honest: int
    hostile: int
    alone: tuple[float, ...]
    beside: tuple[float, ...]
    failed: int

    @property
    def ratio(self) -> float:
        """Median latency beside the crowd over that alone."""
        return statistics.median(self.beside) / statistics.median(self.alone)

    @property
    def worst_ratio(self) -> float:
        """The same of the 95th percentiles."""
        return _percentile(self.beside, 0.95) / _percentile(self.alone, 0.95)


def measure_hostile(
    hostile: int = 4900, honest: int = 100, *, rounds: int = 3, algorithm: str = "ecdsa-p384"
) -> HostileFigures:
    """Attest a device beside a crowd.

    Args:
        hostile: connections of the crowd.
        honest: clients that attest, all at the same moment.
        rounds: how often, each time alone and then beside the crowd.
        algorithm: kind of the device's keys.

    Raises:
        TransportError: the device or the crowd did not start.
    """
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="spdm-bench-") as name:
        folder = Path(name) / "device"
        initialise(folder, algorithm=algorithm)
        return asyncio.run(_measure(folder, hostile, honest, rounds))


async def _measure(folder: Path, hostile: int, honest: int, rounds: int) -> HostileFigures:
    verifier = Verifier.from_files(
        Sources(trust_anchors=[folder / "trust-anchor.pem"]), cache=ChainCache()
    )
    device = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "spdmkit", "device", "serve", str(folder)),
        *("--listen", "tcp://127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        uri = await _line(device, "listening on ")
        await _round(uri, verifier, honest)  # warms both ends up
        alone = [await _round(uri, verifier, honest) for _ in range(rounds)]
        around = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", crowd.__name__, uri.rpartition(":")[2], str(hostile)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await _line(around, "ready")
            beside = [await _round(uri, verifier, honest) for _ in range(rounds)]
        finally:
            around.kill()
            await around.wait()
    finally:
        device.terminate()
        await device.wait()
    good = [each for one in beside for each in one if each is not None]
    if not good:
        raise TransportError("no honest client was served beside the crowd")
    return HostileFigures(
        honest,
        hostile,
        tuple(sorted(each for one in alone for each in one if each is not None)),
        tuple(sorted(good)),
        rounds * honest - len(good),
    )


async def _round(uri: str, verifier: Verifier, honest: int) -> list[float | None]:
    """Latencies of attestations that begin at the same moment; None for one that failed."""
    return await asyncio.gather(*(_attest(uri, verifier) for _ in range(honest)))


async def _attest(uri: str, verifier: Verifier) -> float | None:
    started = time.perf_counter()
    now = int(time.time())
    try:
        async with await connect(f"{uri}?dialect=strict", _FACTORY) as connection:
            link = Link(connection.endpoint.connection)
            await connection.run(collect(link, verifier.trust(now), Wanted()))
    except SpdmError:
        return None
    return time.perf_counter() - started


_FACTORY = requester_factory(Settings(capabilities=requester_capabilities(), keep_messages=True))


async def _line(process: asyncio.subprocess.Process, beginning: str) -> str:
    if process.stdout is None:
        raise TransportError("a process without output")
    line = (await process.stdout.readline()).decode()
    if not line.startswith(beginning):
        raise TransportError(f"a process of the benchmark did not start: {line!r}")
    return line.removeprefix(beginning).strip()


def _percentile(ascending: tuple[float, ...], share: float) -> float:
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]
