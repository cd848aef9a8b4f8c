"""`spdm bench verifier`: many devices dial one verifier at once, and each is verified.

The devices share a process of their own; time and memory are the verifier's. Memory is the growth
of its resident set from before the first connection to the highest that was seen, so that kernel
buffers do not count.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.bench import callers
from spdmkit.device.initialise import initialise
from spdmkit.errors import TransportError
from spdmkit.identity import ChainCache
from spdmkit.services.listening import Report, VerifierService
from spdmkit.services.provider import Provider
from spdmkit.transports.loops import raise_descriptor_limit
from spdmkit.transports.server import Happening, ListenerEvent

__all__ = ["VerifierFigures", "measure_verifier"]


@dataclass(frozen=True, slots=True)
class VerifierFigures:
    """What was measured.

    Attributes:
        devices: connections that dialled at once.
        identities: different devices among them.
        trusted: reports with the verdict "trusted".
        lost: calls that were not fulfilled.
        retries: connections beyond one for each call.
        seconds: from the first connection to the last report.
        cpu: CPU seconds of the verifier meanwhile.
        memory: bytes that its resident set grew by.
        most_open: connections that were open at once.
    """

    devices: int
    identities: int
    trusted: int
    lost: int
    retries: int
    seconds: float
    cpu: float
    memory: int
    most_open: int

    @property
    def rate(self) -> float:
        """Devices a second."""
        return self.trusted / self.seconds if self.seconds else 0.0


def measure_verifier(
    devices: int = 500, *, identities: int = 8, algorithm: str = "ecdsa-p384", at_once: int = 32
) -> VerifierFigures:
    """Have devices dial a verifier over loopback, all at the same moment.

    Args:
        devices: how many connections.
        identities: how many different devices take turns.
        algorithm: kind of their keys.
        at_once: devices that the verifier serves at a time.
    """
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="spdm-bench-") as name:
        folders = [Path(name) / f"device-{number}" for number in range(identities)]
        for folder in folders:
            initialise(folder, algorithm=algorithm)
        verifier = Verifier.from_files(
            Sources(
                trust_anchors=[folder / "trust-anchor.pem" for folder in folders],
                references=[folder / "reference.json" for folder in folders],
            ),
            cache=ChainCache(),
        )
        return asyncio.run(_measure(verifier, devices, folders, at_once))


async def _measure(
    verifier: Verifier, devices: int, folders: list[Path], at_once: int
) -> VerifierFigures:
    verdicts: list[str] = []
    started = ended = 0.0
    most_open = highest = 0

    def note(report: Report) -> None:
        nonlocal ended, most_open, highest
        verdicts.append(report.verdict)
        ended = time.monotonic()
        most_open = max(most_open, len(listener.connections))
        highest = max(highest, _resident())

    def happened(event: ListenerEvent) -> None:
        nonlocal started
        if event.what is Happening.OPENED and not started:
            started = time.monotonic()

    service = VerifierService(Provider(verifier), on_report=note, at_once=at_once)
    listener = await service.listen("tcp://127.0.0.1:0", on_event=happened)
    async with listener:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", callers.__name__, str(listener.uri), str(devices)),
            *map(str, folders),
            stdout=asyncio.subprocess.PIPE,
        )
        gc.collect()
        before = _resident()
        cpu = time.process_time()
        output, _ = await process.communicate()
        cpu = time.process_time() - cpu
    if process.returncode:
        raise TransportError("the devices' process failed")
    told = json.loads(output)
    return VerifierFigures(
        devices=devices,
        identities=len(folders),
        trusted=verdicts.count("trusted"),
        lost=devices - told["fulfilled"],
        retries=told["connections"] - devices,
        seconds=max(ended - started, 0.0),
        cpu=cpu,
        memory=max(highest - before, 0),
        most_open=most_open,
    )


def _resident() -> int:
    """Bytes of our resident set."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
