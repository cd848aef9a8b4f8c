"""Captures that other tools read."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from spdmkit.capture.files import read_packets
from spdmkit.capture.layers import DoeObject, MctpPacket, TcpSegment, dissect
from spdmkit.capture.packets import Direction, LinkType, Packet
from spdmkit.capture.reassembly import TcpReassembler
from spdmkit.capture.writer import CaptureWriter
from spdmkit.errors import ConfigurationError

from .support import TSHARK, needs_tshark

ASK = bytes.fromhex("0400010510840000")
ANSWER = bytes.fromhex("08000105100400000001 0012".replace(" ", ""))


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000_123_456_789

    def __call__(self) -> int:
        self.time += 1_000
        return self.time


def packets(path: Path) -> list[Packet]:
    return list(read_packets(io.BytesIO(path.read_bytes())))


def streams(path: Path) -> tuple[bytes, bytes, int]:
    """What went each way, and how many connections were opened and closed whole."""
    reassembler = TcpReassembler()
    sides = {True: b"", False: b""}
    ended = 0
    for packet in packets(path):
        segment = dissect(packet.link_type, packet.data)
        assert isinstance(segment, TcpSegment)
        for event in reassembler.feed(segment):
            assert event.lost == 0
            sides[event.from_initiator] += event.data
            ended += event.ended
    assert not reassembler.finish()
    return sides[True], sides[False], ended


@pytest.mark.parametrize("addresses", [("10.0.0.1", "10.0.0.2"), ("::1", "fe80::2%eth0")])
@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_a_connection_reads_back(tmp_path: Path, suffix: str, addresses: tuple[str, str]) -> None:
    path = tmp_path / f"c.{suffix}"
    with CaptureWriter(path, clock=Clock()) as writer:
        connection = writer.tcp((addresses[0], 40000), (addresses[1], 4194), initiator=True)
        connection.sent(ASK)
        connection.received(ANSWER)
        connection.sent(bytes(100_000))
        connection.received(b"\1" * 70_000)
        connection.sent(b"")
        connection.closed()
        connection.closed()
        connection.sent(b"too late")
    assert streams(path) == (ASK + bytes(100_000), ANSWER + b"\1" * 70_000, 1)


def test_the_listener_sees_the_same_connection(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with CaptureWriter(path, clock=Clock()) as writer:
        connection = writer.tcp(("::ffff:10.0.0.2", 4194), ("10.0.0.1", 40000), initiator=False)
        connection.received(ASK)
        connection.sent(ANSWER)
        connection.closed(by_peer=True)
    assert streams(path) == (ASK, ANSWER, 1)
    first, *_, data, answer, _, _, _ = packets(path)
    assert first.direction == data.direction == Direction.INBOUND
    assert answer.direction == Direction.OUTBOUND
    assert answer.time_ns - first.time_ns == 2_000  # nanoseconds survive
    assert first.time_ns % 1000 == 789


def test_mctp_and_doe_in_pcapng(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with CaptureWriter(path, clock=Clock()) as writer:
        mctp = writer.mctp(8, 9)
        mctp.sent(b"\x05\x10\x84\x00\x00", owner=True)
        mctp.received(b"\x05\x10\x04", owner=False)
        mctp.sent(b"\x05\x10\x84\x00\x00", owner=True)
        doe = writer.doe()
        doe.sent(ASK * 2)
        doe.received(ASK)
    found = packets(path)
    assert [packet.link_type for packet in found] == [LinkType.LINUX_SLL] * 3 + [
        LinkType.UPPER_PDU
    ] * 2
    assert [packet.direction for packet in found] == [2, 1, 2, 2, 1]
    assert [dissect(packet.link_type, packet.data) for packet in found] == [
        MctpPacket(bytes.fromhex("010908c8 0510840000")),
        MctpPacket(bytes.fromhex("010809c0 051004")),
        MctpPacket(bytes.fromhex("010908c9 0510840000")),
        DoeObject(ASK * 2),
        DoeObject(ASK),
    ]


def test_classic_files_are_those_of_spdm_emu(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "m.pcap") as writer:
        writer.mctp(8, 9).sent(b"\x05\x10\x84\x00\x00", owner=True)
        with pytest.raises(ConfigurationError, match="one kind"):
            writer.doe().sent(ASK)
    with CaptureWriter(tmp_path / "d.pcap") as writer:
        writer.doe().sent(ASK)
    assert [p.link_type for p in packets(tmp_path / "m.pcap")] == [291]
    assert [p.link_type for p in packets(tmp_path / "d.pcap")] == [292]


def test_each_packet_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with CaptureWriter(path) as writer:
        connection = writer.tcp(("127.0.0.1", 40000), ("127.0.0.1", 4194), initiator=True)
        connection.sent(ASK)
        assert len(packets(path)) == 4
    connection.sent(ASK)
    assert len(packets(path)) == 4


def test_a_file_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        CaptureWriter(tmp_path / "none" / "c.pcapng")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_a_configuration_error() -> None:
    with (
        CaptureWriter("/dev/full") as writer,
        pytest.raises(ConfigurationError, match="No space left"),
    ):
        writer.tcp(("127.0.0.1", 1), ("127.0.0.1", 2), initiator=True)


@needs_tshark
def test_tshark_finds_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with CaptureWriter(path, clock=Clock()) as writer:
        for local, remote in ((("10.0.0.1", 40000), ("10.0.0.2", 4194)), (("::1", 9), ("::2", 10))):
            connection = writer.tcp(local, remote, initiator=True)
            connection.sent(ASK)
            connection.received(bytes(100_001))
            connection.closed()
    fields = ["tcp.checksum.status", "ip.checksum.status", "tcp.analysis.flags"]
    command = [TSHARK, "-r", str(path), "-o", "tcp.check_checksum:TRUE"]
    command += ["-o", "ip.check_checksum:TRUE", "-T", "fields"]
    command += [part for field in fields for part in ("-e", field)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(packets(path))
    # Status 1 is "good"; IPv6 has no header checksum; no TCP analysis flag is set anywhere.
    assert {tuple(line.split("\t")) for line in lines} == {("1", "1", ""), ("1", "", "")}
