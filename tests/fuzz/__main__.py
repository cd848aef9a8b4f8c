"""`python -m tests.fuzz`; see the package."""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Target

CRASHES = Path("fuzz-crashes")
SLOW = 2.0
"""Seconds of CPU that one input may take; more is a hang in the making."""


class Found(Exception):
    """An input that did what no input may do."""

    def __init__(self, data: bytes, what: str) -> None:
        super().__init__(what)
        self.data = data


def feed(target: Target, data: bytes) -> None:
    """One input.

    Raises:
        Found: an exception that is not allowed, or it took too long.
    """
    started = time.process_time()
    try:
        target.run(data)
    except target.allowed:
        pass
    except Exception as error:
        raise Found(data, f"{type(error).__name__}: {error}") from error
    seconds = time.process_time() - started
    if seconds > SLOW:
        raise Found(data, f"{seconds:.1f} s for {len(data)} bytes")


def campaign(target: Target, seconds: float, seed: int, *, most: int | None = None) -> int:
    """Feed mutations of the seeds; returns how many inputs.

    Args:
        target: what to fuzz.
        seconds: how long.
        seed: of the random numbers.
        most: stop after this many inputs.

    Raises:
        Found: as `feed`.
    """
    rng = random.Random(seed)
    seeds = target.seeds()
    for each in seeds:
        feed(target, each)
    until = time.monotonic() + seconds
    count = len(seeds)
    while time.monotonic() < until and (most is None or count < most):
        data = rng.choice(seeds)
        feed(target, mutate(data, seeds, rng))
        count += 1
    return count


def guided(name: str, target: Target, seconds: float) -> None:
    """Let atheris find inputs by the code they reach."""
    atheris: Any = importlib.import_module("atheris")  # installed by hand where it exists

    CRASHES.mkdir(exist_ok=True)
    folder = CRASHES / f"corpus-{name}"
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(data)

    def one(data: bytes) -> None:
        feed(target, data)

    atheris.instrument_all()
    atheris.Setup(
        [
            *(sys.argv[0], str(folder), f"-max_total_time={int(seconds)}", "-max_len=8192"),
            *(f"-artifact_prefix={CRASHES}/{name}-", "-timeout=10"),
        ],
        one,
    )
    atheris.Fuzz()


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="guided by coverage (atheris)")
    parser.add_argument("--repeat", type=Path, help="feed this file once")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.targets or TARGETS:
        target = TARGETS[name]
        if options.repeat:
            feed(target, options.repeat.read_bytes())
            continue
        if options.coverage:
            guided(name, target, options.seconds)
            continue
        try:
            count = campaign(target, options.seconds, options.seed)
        except Found as found:
            failed += 1
            CRASHES.mkdir(exist_ok=True)
            path = CRASHES / f"{name}-{options.seed}.bin"
            path.write_bytes(found.data)
            print(f"{name}: {found}\n  {path}: python -m tests.fuzz {name} --repeat {path}")
        else:
            print(f"{name}: {count} inputs")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
