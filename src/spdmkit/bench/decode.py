"""`spdm bench decode`: how many messages a second the decoder reads, and with how much memory.

Two real conversations, one in the clear and one inside a session, are captured over loopback and
written again and again as connections of their own into one capture file. The decoder reads it in
summary mode without checking signatures, digests and MACs; records are decrypted with the key log.
Only our own process's CPU time counts.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.bench.peer import served
from spdmkit.capture.decode import Decoder, Summary
from spdmkit.capture.files import read_packets
from spdmkit.capture.keylog import KeyLog
from spdmkit.capture.layers import TcpSegment, dissect
from spdmkit.capture.reassembly import TcpReassembler
from spdmkit.capture.secretfiles import load_secrets
from spdmkit.capture.sources import open_recording
from spdmkit.capture.writer import CaptureWriter
from spdmkit.device.initialise import initialise
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.events import KeyLogged, ProtocolEvent
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings
from spdmkit.transports.blocking import connect
from spdmkit.transports.conduit import EndpointFactory, Tap
from spdmkit.transports.requesters import requester_factory

__all__ = ["DecodeFigures", "measure_decode"]

_GROWTH = 4
"""The second file is as many times as long as the first: memory must not show it."""
_ADDRESS = "127.0.0.1"

Stream = list[tuple[bool, bytes]]
"""What one connection carried: whether its initiator sent it, and the bytes."""


@dataclass(frozen=True, slots=True)
class DecodeFigures:
    """What was measured.

    Attributes:
        messages: SPDM messages decoded, those inside records included.
        records: those of them that came as records, and were decrypted.
        mean_size: bytes of a message on the wire, framing included.
        seconds: CPU time.
        memory_growth: bytes by which a file four times as long raised the most memory used.
    """

    messages: int
    records: int
    mean_size: float
    seconds: float
    memory_growth: int

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


def measure_decode(count: int = 20_000) -> DecodeFigures:
    """Decode a capture of at least `count` messages, and then one four times as long."""
    with tempfile.TemporaryDirectory(prefix="spdm-bench-") as name:
        folder = Path(name)
        keys = folder / "keys.log"
        streams = _record(folder, keys)
        short, long = folder / "short.pcapng", folder / "long.pcapng"
        _write(short, streams, 1)
        per_copy = _decode(short, keys)[0].messages
        copies = -(-count // per_copy)
        _write(short, streams, copies)
        _write(long, streams, copies * _GROWTH)
        # The first run compiles the layouts it meets, and takes what memory decoding takes.
        _decode(short, keys)
        before = _most_memory()
        summary, seconds = _decode(long, keys)
        growth = _most_memory() - before
    size = sum(len(data) for stream in streams for _, data in stream) / per_copy
    return DecodeFigures(summary.messages, summary.records_decrypted, size, seconds, max(growth, 0))


def _most_memory() -> int:
    """The most memory this process has used so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _decode(path: Path, keys: Path) -> tuple[Summary, float]:
    started = time.process_time()
    recording = open_recording(str(path))
    with Decoder(recording, secrets=load_secrets(keys), verify=False) as decoder:
        summary = decoder.run()
    return summary, time.process_time() - started


def _record(folder: Path, keys: Path) -> list[Stream]:
    """Attest a device twice, with a key log; gives what the connections carried."""
    device = folder / "device"
    initialise(device)
    anchors = TrustAnchors.from_files([device / "trust-anchor.pem"], Purpose.DEVICE)
    trust = DeviceTrust(int(time.time()), anchors)
    capture, log = folder / "recorded.pcapng", KeyLog(keys)
    try:
        with served(device) as peer, CaptureWriter(capture) as writer:
            for session in (False, True):
                with connect(
                    peer.uri, _factory(log, session=session), tap=_tap(writer)
                ) as connection:
                    link = Link(connection.endpoint.connection)
                    connection.run(collect(link, trust, Wanted(session=session)))
    finally:
        log.close()
    return list(_streams(capture))


def _factory(log: KeyLog, *, session: bool) -> EndpointFactory:
    settings = Settings(capabilities=requester_capabilities(sessions=session), keep_messages=True)

    def sink(event: ProtocolEvent) -> None:
        if isinstance(event, KeyLogged):
            log(event)

    return requester_factory(settings, events=sink, log_keys=True)


def _tap(writer: CaptureWriter) -> Callable[[str, str], Tap]:
    return lambda _local, _peer: writer.tcp((_ADDRESS, 40000), (_ADDRESS, 4194), initiator=True)


def _streams(capture: Path) -> Iterator[Stream]:
    """What each connection of a capture carried."""
    streams: dict[int, Stream] = {}
    reassembler = TcpReassembler()
    with capture.open("rb") as stream:
        for packet in read_packets(stream):
            segment = dissect(packet.link_type, packet.data)
            if not isinstance(segment, TcpSegment):
                continue
            for event in reassembler.feed(segment):
                if event.data:
                    carried = streams.setdefault(event.connection.number, [])
                    carried.append((event.from_initiator, event.data))
    yield from streams.values()


def _write(path: Path, streams: list[Stream], copies: int) -> None:
    """The same conversations, each as a connection of its own."""
    port = 0
    with CaptureWriter(path) as writer:
        for _ in range(copies):
            for stream in streams:
                port = (port + 1) % 50_000
                connection = writer.tcp(
                    ("10.0.0.1", 10_000 + port), ("10.0.0.2", 4194), initiator=True
                )
                for from_initiator, data in stream:
                    (connection.sent if from_initiator else connection.received)(data)
                connection.closed()
