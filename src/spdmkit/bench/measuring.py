"""What all benchmarks share: measuring CPU time, and how a result is kept and shown."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.backends.openssl import backend

from spdmkit.crypto import signing
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_HASH, signature_algorithm
from spdmkit.crypto.signing import SigningContext
from spdmkit.messages import V12

__all__ = ["Result", "Round", "cpu", "machine", "median", "result_of", "verifier", "woken"]

_WAIT: Final = 0.0005
"""Seconds that a device's answer takes, about."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a benchmark found.

    Attributes:
        name: which benchmark.
        unit: of figure and floor.
        figure: our cost.
        floor: the cost of what it cannot do without.
        bar: what the ratio of the two is to stay below; 0 where there is no floor.
        spread: the lowest and the highest ratio of the rounds.
        what: what the figure is the cost of, in words.
        of_what: what the floor is made of, in words.
        details: further figures by name, the unit in the name.
    """

    name: str
    unit: str
    figure: float
    floor: float
    bar: float
    spread: tuple[float, float]
    what: str
    of_what: str
    details: dict[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Our cost over the floor."""
        return self.figure / self.floor

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "benchmark": self.name,
            "unit": self.unit,
            "figure": round(self.figure, 4),
            "floor": round(self.floor, 4),
            "ratio": round(self.ratio, 3),
            "ratio_spread": [round(each, 3) for each in self.spread],
            "bar": self.bar,
            "figure_is": self.what,
            "floor_is": self.of_what,
            **self.details,
            "machine": machine(),
        }


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured: each cost by itself."""

    figures: Sequence[float]
    floors: Sequence[float]

    @property
    def ratio(self) -> float:
        """The medians' quotient."""
        return median(self.figures) / median(self.floors)


def result_of(
    name: str,
    rounds: Sequence[Round],
    *,
    unit: str = "ms",
    times: int = 1,
    bar: float,
    what: str,
    of_what: str,
    details: dict[str, object] | None = None,
) -> Result:
    """The result of several rounds: that of the one whose ratio is the median.

    A shared processor changes its speed now and then. Within a round that changes figure and floor
    alike; medians of all rounds together may come from different speeds. Rounds of a single figure
    each say too little by themselves, and are taken together.

    Args:
        name: which benchmark.
        rounds: what they measured.
        unit: of what they measured.
        times: how often the floor's operation is part of the figure's.
        bar: what the ratio is to stay below.
        what: see `Result`.
        of_what: see `Result`.
        details: see `Result`.
    """
    ordered = sorted(rounds, key=lambda each: each.ratio)
    typical = ordered[(len(ordered) - 1) // 2]
    if any(len(each.figures) == 1 for each in rounds):
        typical = Round(
            [figure for each in rounds for figure in each.figures],
            [floor for each in rounds for floor in each.floors],
        )
    return Result(
        name,
        unit,
        median(typical.figures),
        median(typical.floors) * times,
        bar,
        (ordered[0].ratio / times, ordered[-1].ratio / times),
        what,
        of_what,
        details or {},
    )


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def cpu(call: Callable[[], object]) -> float:
    """Milliseconds of CPU time that a call takes, in the kernel and outside, all threads."""
    started = time.process_time_ns()
    call()
    return (time.process_time_ns() - started) / 1e6


def woken(call: Callable[[], object]) -> float:
    """As `cpu`, of a call that comes after a short wait, as what follows a device's answer does.

    A processor that waited has lost part of its caches; a floor measured in a tight loop would be
    that of a program that never waits for anybody.
    """
    time.sleep(_WAIT)
    return cpu(call)


def verifier(name: str) -> Callable[[], None]:
    """A function that verifies one signature by an algorithm ("ecdsa-p384"), as the protocol does.

    Raises:
        ConfigurationError: no algorithm has that name.
    """
    algorithm = signature_algorithm(name)
    key = PrivateKey.generate(algorithm)
    hash_algorithm = BASE_HASH.by_name("sha-384")
    digest = bytes(hash_algorithm.size)
    version = max(V12, algorithm.since)
    context = SigningContext.RESPONDER_MEASUREMENTS
    signature = signing.sign(
        algorithm, key, version=version, context=context, hash=hash_algorithm, digest=digest
    )

    def verify() -> None:
        signing.verify(
            algorithm,
            key.public_key,
            signature,
            version=version,
            context=context,
            hash=hash_algorithm,
            digest=digest,
        )

    return verify


def machine() -> dict[str, object]:
    """On what this runs: figures mean little without it."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": backend.openssl_version_text(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
