"""`spdm bench attest`: what one attestation costs the verifier.

An attestation is a connection of its own: VCA, digests, chain, CHALLENGE, all measurements signed,
and evidence of it. The floor is the four signature verifications in it, with the key of the device:
two links of its chain (the root is the anchor), CHALLENGE_AUTH and MEASUREMENTS. All four are done
each time; no verdict on a chain is remembered.

Only our own process's CPU time counts. The device runs in another one and does not sleep there:
waking a process of the same machine is nothing that a device elsewhere would cost. Judging the
evidence is `appraise`; reading it, as far as this process has not verified it yet, is told beside
the figure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from spdmkit.attestation.collect import Collected, Wanted, collect
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
ROUNDS: Final = 11
"""At most, of equal length."""
_WARM_UP: Final = 10


def measure_attest(
    algorithm: str = "ecdsa-p384",
    count: int = 220,
    *,
    driver: str = "blocking",
    in_flight: int = 64,
    awake: bool = True,
) -> Result:
    """Attest a software device again and again over loopback.

    Args:
        algorithm: of the device's keys.
        count: how often, in rounds; with asyncio no round is too short to have all under way.
        driver: "blocking" or "asyncio".
        in_flight: attestations under way at once, with asyncio.
        awake: the device does not sleep between messages, so that we need not wake it.
    """
    verify = verifier(algorithm)
    with bench_device(algorithm) as device, served(device.folder, awake=awake) as peer:
        if driver == "blocking":
            rounds = min(ROUNDS, count)
            found = _blocking(peer.uri, device.trust, verify, rounds, count // rounds)
        else:
            rounds = max(1, min(ROUNDS, count // in_flight))
            found = _asyncio(peer.uri, device.trust, verify, rounds, count // rounds, in_flight)
            driver = f"asyncio, {in_flight} in flight"
    return result_of(
        "attest",
        found.rounds,
        times=VERIFICATIONS,
        bar=BARS[driver.partition(",")[0]],
        what=f"one attestation on a connection of its own ({driver})",
        of_what=f"{VERIFICATIONS} {algorithm} verifications",
        details={
            "algorithm": algorithm,
            "driver": driver,
            "device": "awake" if awake else "sleeps between messages",
            "count": count // rounds * rounds,
            "verify_ms": round(median([one for each in found.rounds for one in each.floors]), 4),
            **{name: round(median(values), 4) for name, values in found.beside.items()},
        },
    )


_SETTINGS: Final = Settings(capabilities=requester_capabilities(), keep_messages=True)
_WANTED: Final = Wanted(measurement_log=False)


@dataclass(slots=True)
class _Found:
    """What was measured.

    Attributes:
        rounds: attestations and verifications.
        beside: further costs by name, in ms.
    """

    rounds: list[Round] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)


def _blocking(
    uri: str, trust: DeviceTrust, verify: Callable[[], None], rounds: int, each: int
) -> _Found:
    factory = requester_factory(_SETTINGS)
    collected: list[Collected] = []

    def attest() -> None:
        with blocking.connect(uri, factory) as connection:
            link = Link(connection.endpoint.connection)
            collected.append(connection.run(collect(link, trust, _WANTED)))

    def read() -> None:
        collected.pop().verified(trust)

    for _ in range(_WARM_UP):
        attest()
        read()
        verify()
    found = _Found()
    tight = found.beside["verify_in_a_loop_ms"] = []
    reading = found.beside["read_evidence_ms"] = []
    for _ in range(rounds):
        figures, floors = [], []
        for _ in range(each):
            figures.append(cpu(attest))
            reading.append(cpu(read))
            floors.append(woken(verify))
            tight.append(cpu(verify))
        found.rounds.append(Round(figures, floors))
    return found


def _asyncio(
    uri: str,
    trust: DeviceTrust,
    verify: Callable[[], None],
    rounds: int,
    each: int,
    in_flight: int,
) -> _Found:
    """Batches: with many under way at once, only their sum can be measured."""
    factory = requester_factory(_SETTINGS)

    async def attest(gate: asyncio.Semaphore) -> None:
        async with gate, await aio.connect(uri, factory) as connection:
            link = Link(connection.endpoint.connection)
            await connection.run(collect(link, trust, _WANTED))

    async def batch(count: int) -> None:
        gate = asyncio.Semaphore(in_flight)
        await asyncio.gather(*(attest(gate) for _ in range(count)))

    found = _Found()
    with contextlib.closing(asyncio.Runner(loop_factory=loops.loop_factory())) as runner:
        runner.run(batch(in_flight))
        for _ in range(rounds):
            floors = [cpu(verify) for _ in range(20)]
            figure = cpu(lambda: runner.run(batch(each))) / each
            floors += [cpu(verify) for _ in range(20)]
            found.rounds.append(Round([figure], floors))
    return found
