"""`spdm bench session`: application data through a session, one way, in records of nearly 64 KiB.

The figure is the CPU time of both ends together for one record. The floor is what it would cost
without SPDM: sealing and opening the same bytes, and the same bytes over a bare socket between two
processes. Beside it: how much goes through in a second, and what a small request with its response
costs.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.bench.device import bench_device
from spdmkit.bench.measuring import Result, Round, cpu, median, result_of
from spdmkit.bench.peer import Served, bare_socket, served
from spdmkit.crypto.registry import AEAD
from spdmkit.errors import DeadlineExceeded, TransportError
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import AlgorithmSet, Settings
from spdmkit.transports import blocking
from spdmkit.transports.requesters import requester_factory

__all__ = ["BAR", "measure_session"]

BAR: Final = 1.5
ROUNDS: Final = 5
CIPHER: Final = "aes-256-gcm"
RECORD: Final = 65_000
"""Bytes of application data in one record."""
SMALL: Final = 64
_PATIENCE: Final = 30.0
_HEADER: Final = bytes(10)
_ASKED: Final = 50


@dataclass(slots=True)
class _Found:
    rounds: list[Round]
    seconds: list[float]
    aead: list[float]
    bare: list[float]
    small: list[float]


def measure_session(count: int = 10_000) -> Result:
    """Stream records to a software device over loopback, with the blocking driver.

    Args:
        count: how many records, at least one in each round.
    """
    each = max(1, round(count / ROUNDS))
    settings = Settings(
        capabilities=requester_capabilities(sessions=True),
        algorithms=AlgorithmSet.available().narrowed(aead=AEAD.by_name(CIPHER).mask),
        keep_messages=True,
    )
    with (
        bench_device("ecdsa-p384") as device,
        served(device.folder, sink=True) as sink,
        served(device.folder) as echo,
        bare_socket() as bare,
        blocking.connect(sink.uri, requester_factory(settings)) as connection,
        blocking.connect(echo.uri, requester_factory(settings)) as asking,
    ):
        sending, link = _session(connection, device.trust), _session(asking, device.trust)
        found = _measure(connection, sending, sink, bare, each)
        small = os.urandom(SMALL)
        for _ in range(ROUNDS * _ASKED):
            found.small.append(cpu(lambda: asking.run(link.converse(small))))
    megabytes = [each * RECORD / 1e6 / seconds for seconds in found.seconds]
    return result_of(
        "session",
        found.rounds,
        bar=BAR,
        what=f"one record of {RECORD} bytes, both ends together (blocking to asyncio)",
        of_what=f"{CIPHER} at both ends, and the same bytes over a bare socket",
        details={
            "count": each * ROUNDS,
            "aead_ms": round(median(found.aead), 4),
            "bare_socket_ms": round(median(found.bare), 4),
            "throughput_megabytes_per_second": round(median(megabytes), 1),
            f"request_and_response_of_{SMALL}_bytes_ms": round(median(found.small), 4),
        },
    )


def _session(connection: blocking.BlockingConnection, trust: DeviceTrust) -> Link:
    link = Link(connection.endpoint.connection)
    wanted = Wanted(session=True, challenge=False)
    opened = connection.run(collect(link, trust, wanted, keep_session=True)).session
    if opened is None:
        raise TransportError("the session was not kept")
    return opened.link


def _measure(
    connection: blocking.BlockingConnection, link: Link, sink: Served, bare: Served, each: int
) -> _Found:
    data = os.urandom(RECORD)
    aead = _aead(data)
    found = _Found([], [], [], [], [])
    host, port = bare.uri.split(":")
    with socket.create_connection((host, int(port))) as plain:

        def stream() -> None:
            connection.run(link.stream(itertools.repeat(data, each)))

        def push() -> None:
            for _ in range(each):
                plain.sendall(data)

        _both(stream, sink, each)
        _both(push, bare, each)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            figure = _both(stream, sink, each)
            found.seconds.append(time.perf_counter() - started)
            found.bare.append(_both(push, bare, each))
            found.aead.append(median([cpu(aead) for _ in range(max(each, 20))]))
            found.rounds.append(Round([figure], [found.bare[-1] + found.aead[-1]]))
    return found


def _both(send: Callable[[], None], peer: Served, each: int) -> float:
    """Milliseconds of CPU time at both ends for one record, until the last byte has arrived."""
    expected = peer.ask("received") + each * RECORD
    before = peer.ask("cpu")
    ours = cpu(send)
    deadline = time.monotonic() + _PATIENCE
    while peer.ask("received") < expected:
        if time.monotonic() > deadline:
            raise DeadlineExceeded("the other end did not receive everything")
        time.sleep(0.005)
    return (ours + peer.ask("cpu") - before) / each


def _aead(data: bytes) -> Callable[[], None]:
    """A function that seals and opens one record's worth of bytes."""
    algorithm = AEAD.by_name(CIPHER)
    key = os.urandom(algorithm.key_size)
    sealing, opening = algorithm.new(key), algorithm.new(key)
    nonce = bytes(algorithm.iv_size)

    def work() -> None:
        opening.open(nonce, sealing.seal(nonce, data, _HEADER), _HEADER)

    return work
