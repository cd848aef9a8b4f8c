"""The device that a benchmark asks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spdmkit.attestation.verification import DeviceTrust
from spdmkit.device.initialise import initialise
from spdmkit.identity import Purpose, TrustAnchors

__all__ = ["Bench", "bench_device"]


@dataclass(frozen=True, slots=True)
class Bench:
    """A device made for a benchmark.

    Attributes:
        folder: where it is.
        trust: whom to believe that it is a device.
    """

    folder: Path
    trust: DeviceTrust


@contextmanager
def bench_device(algorithm: str) -> Iterator[Bench]:
    """A software device with keys of an algorithm and a chain of three certificates."""
    with tempfile.TemporaryDirectory(prefix="spdm-bench-") as name:
        folder = Path(name) / "device"
        initialise(folder, algorithm=algorithm)
        anchors = TrustAnchors.from_files([folder / "trust-anchor.pem"], Purpose.DEVICE)
        yield Bench(folder, DeviceTrust(int(time.time()), anchors))
