"""`spdm bench attest`: what one attestation costs the verifier.

The floor is four signature verifications with the key of the device: two links of its chain (the
root is the anchor), CHALLENGE_AUTH and MEASUREMENTS. Each attestation is a connection of its own
and verifies all four; no chain is remembered. Only our own process's CPU time counts; the device
runs in another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.bench.device import bench_device
from spdmkit.bench.measuring import Result, Round, cpu, median, result_of, verifier, woken
from spdmkit.bench.peer import served
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings
from spdmkit.transports import aio, blocking, loops
from spdmkit.transports.requesters import requester_factory

__all__ = ["BARS", "VERIFICATIONS", "measure_attest"]

VERIFICATIONS: Final = 4
BARS: Final = {"blocking": 1.5, "asyncio": 1.6}
"""What the ratio is to stay below, by driver."""
ROUNDS: Final = 5
_WARM_UP: Final = 10


def measure_attest(
    algorithm: str = "ecdsa-p384",
    count: int = 100,
    *,
    driver: str = "blocking",
    in_flight: int = 64,
) -> Result:
    """Attest a software device again and again over loopback.

    Args:
        algorithm: of the device's keys.
        count: how often, at least once in each round.
        driver: "blocking" or "asyncio".
        in_flight: attestations under way at once, with asyncio.
    """
    verify = verifier(algorithm)
    with bench_device(algorithm) as device, served(device.folder) as peer:
        each = max(1, round(count / ROUNDS))
        if driver == "blocking":
            rounds, tight = _blocking(peer.uri, device.trust, verify, each)
        else:
            rounds, tight = _asyncio(peer.uri, device.trust, verify, each, in_flight)
            driver = f"asyncio, {in_flight} in flight"
    return result_of(
        "attest",
        rounds,
        times=VERIFICATIONS,
        bar=BARS[driver.partition(",")[0]],
        what=f"one attestation on a connection of its own ({driver})",
        of_what=f"{VERIFICATIONS} {algorithm} verifications",
        details={
            "algorithm": algorithm,
            "driver": driver,
            "count": each * ROUNDS,
            "verify_ms": round(median([one for found in rounds for one in found.floors]), 4),
            "verify_in_a_loop_ms": round(median(tight), 4),
        },
    )


_SETTINGS: Final = Settings(capabilities=requester_capabilities(), keep_messages=True)


def _blocking(
    uri: str, trust: DeviceTrust, verify: Callable[[], None], each: int
) -> tuple[list[Round], list[float]]:
    factory = requester_factory(_SETTINGS)

    def attest() -> None:
        with blocking.connect(uri, factory) as connection:
            link = Link(connection.endpoint.connection)
            connection.run(collect(link, trust, Wanted(measurement_log=False))).verified(trust)

    for _ in range(_WARM_UP):
        attest()
        verify()
    rounds, tight = [], []
    for _ in range(ROUNDS):
        figures, floors = [], []
        for _ in range(each):
            figures.append(cpu(attest))
            floors.append(woken(verify))
            tight.append(cpu(verify))
        rounds.append(Round(figures, floors))
    return rounds, tight


def _asyncio(
    uri: str, trust: DeviceTrust, verify: Callable[[], None], each: int, in_flight: int
) -> tuple[list[Round], list[float]]:
    """Batches: with many under way at once, only their sum can be measured."""
    factory = requester_factory(_SETTINGS)

    async def attest(gate: asyncio.Semaphore) -> None:
        async with gate, await aio.connect(uri, factory) as connection:
            link = Link(connection.endpoint.connection)
            (await connection.run(collect(link, trust, Wanted(measurement_log=False)))).verified(
                trust
            )

    async def batch(count: int) -> None:
        gate = asyncio.Semaphore(in_flight)
        await asyncio.gather(*(attest(gate) for _ in range(count)))

    loop_factory = loops.loop_factory()
    with contextlib.closing(asyncio.Runner(loop_factory=loop_factory)) as runner:
        runner.run(batch(in_flight))
        rounds = []
        for _ in range(ROUNDS):
            before = [cpu(verify) for _ in range(20)]
            figure = cpu(lambda: runner.run(batch(each))) / each
            rounds.append(Round([figure], before + [cpu(verify) for _ in range(20)]))
    return rounds, [floor for found in rounds for floor in found.floors]
