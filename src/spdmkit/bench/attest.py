"""`spdm bench attest`: what one attestation costs the verifier.

The floor is four signature verifications with the key of the device: two links of its chain (the
root is the anchor), CHALLENGE_AUTH and MEASUREMENTS. Each attestation is a connection of its own.
Only our own process's CPU time counts; the device runs in another one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.crypto import signing
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_HASH, signature_algorithm
from spdmkit.crypto.signing import SigningContext
from spdmkit.device.initialise import initialise
from spdmkit.errors import TransportError
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import V12
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.endpoint import RequesterEndpoint
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings
from spdmkit.transports.blocking import connect
from spdmkit.transports.conduit import ConnectionInfo

__all__ = ["AttestFigures", "measure_attest", "serving"]

VERIFICATIONS = 4
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class AttestFigures:
    """What was measured; times are medians of CPU time in milliseconds.

    Attributes:
        count: attestations measured.
        attest: one attestation.
        verify: one signature verification.
    """

    algorithm: str
    count: int
    attest: float
    verify: float

    @property
    def floor(self) -> float:
        """What the cryptography alone costs, in milliseconds."""
        return VERIFICATIONS * self.verify

    @property
    def ratio(self) -> float:
        """Our cost over the floor."""
        return self.attest / self.floor


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A device served by a process of its own; gives its address."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "spdmkit", "device", "serve", str(folder)),
            *("--listen", "tcp://127.0.0.1:0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            line = server.stdout.readline() if server.stdout is not None else ""
            if not line.startswith("listening on "):
                raise TransportError("the device did not start")
            yield line.removeprefix("listening on ").strip()
        finally:
            server.terminate()


def measure_attest(algorithm: str = "ecdsa-p384", count: int = 100) -> AttestFigures:
    """Attest a software device again and again over loopback, with the blocking driver."""
    with tempfile.TemporaryDirectory(prefix="spdm-bench-") as name:
        folder = Path(name) / "device"
        initialise(folder, algorithm=algorithm)
        anchors = TrustAnchors.from_files([folder / "trust-anchor.pem"], Purpose.DEVICE)
        trust = DeviceTrust(int(time.time()), anchors)
        with serving(folder) as uri:
            return _measure(uri, trust, algorithm, count)


def _measure(uri: str, trust: DeviceTrust, algorithm: str, count: int) -> AttestFigures:
    settings = Settings(capabilities=requester_capabilities(), keep_messages=True)

    def factory(info: ConnectionInfo) -> RequesterEndpoint:
        return RequesterEndpoint(
            Connection(
                Role.REQUESTER,
                settings,
                clock=time.monotonic,
                random=os.urandom,
                record_profile=info.record_profile,
            )
        )

    def attest() -> None:
        with connect(uri, factory) as connection:
            link = Link(connection.endpoint.connection)
            connection.run(collect(link, trust, Wanted())).verified(trust)

    verify = _verifier(algorithm)
    for _ in range(_WARM_UP):
        attest()
        verify()
    ours, floor = [], []
    for _ in range(count):
        ours.append(_cpu(attest))
        floor.append(min(_cpu(verify), _cpu(verify)))
    return AttestFigures(algorithm, count, statistics.median(ours), statistics.median(floor))


def _cpu(call: Callable[[], None]) -> float:
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1000


def _verifier(name: str) -> Callable[[], None]:
    """A function that verifies one signature, as the protocol does."""
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
