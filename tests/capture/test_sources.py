"""Inputs of every form."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from spdmkit.capture.channels import Sender, WireKind
from spdmkit.capture.packets import LinkType, Packet
from spdmkit.capture.pcap import PcapWriter
from spdmkit.capture.pcapng import PcapngWriter
from spdmkit.capture.sources import Recording, open_recording, read_recording
from spdmkit.capture.writer import CaptureWriter
from spdmkit.errors import ConfigurationError, DecodeError

GET_VERSION = bytes.fromhex("10840000")
VERSION = bytes.fromhex("1004000000010012")
ASK, ANSWER = b"\x04\0\1\5" + GET_VERSION, b"\x08\0\1\5" + VERSION
DOE_ASK = bytes.fromhex("0100010003000000") + GET_VERSION
MESSAGE = WireKind.MESSAGE


def events(recording: Recording) -> list[tuple[int, Sender, WireKind, bytes]]:
    return [
        (event.channel.number, event.sender, event.kind, event.body) for event in recording.events
    ]


def read(data: bytes) -> Recording:
    return read_recording(io.BytesIO(data))


def capture(path: Path, *ports: int, data: bytes = ASK) -> None:
    with CaptureWriter(path) as writer:
        for number, port in enumerate(ports):
            connection = writer.tcp(
                ("10.0.0.1", 40000 + number), ("10.0.0.2", port), initiator=True
            )
            connection.sent(data)
            connection.received(ANSWER)
            connection.closed()


def test_a_capture_of_tcp_connections(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    capture(path, 4194, 5555)
    recording = open_recording(str(path))
    expected = [
        (number, sender, kind, body)
        for number in (1, 2)
        for sender, kind, body in (
            (Sender.INITIATOR, MESSAGE, GET_VERSION),
            (Sender.LISTENER, MESSAGE, VERSION),
            (Sender.UNKNOWN, WireKind.CLOSED, b""),
        )
    ]
    found = list(recording.events)
    recording.close()
    assert [(e.channel.number, e.sender, e.kind, e.body) for e in found] == expected
    channel = found[0].channel
    assert (channel.initiator, channel.listener) == ("10.0.0.1:40000", "10.0.0.2:4194")
    assert found[0].time_ns is not None
    assert found[0].time_ns > 1_600_000_000_000_000_000


def test_other_traffic_is_left_alone_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    capture(path, 80, data=b"GET / HTTP/1.1\r\n\r\n")
    recording = open_recording(str(path))
    assert events(recording) == []
    assert recording.notes == ["no SPDM in 8 packets; --port names another TCP port"]
    recording.close()
    asked = open_recording(str(path), ports=[80])
    assert [kind for _, _, kind, _ in events(asked)] == [
        WireKind.LOST,
        MESSAGE,
        WireKind.CLOSED,
    ]
    asked.close()


@pytest.mark.parametrize("pieces", [(4, 4, 4), (1, 1, 2, 4, 4), (4, 8)])
def test_an_emulator_that_writes_its_header_in_pieces(
    tmp_path: Path, pieces: tuple[int, ...]
) -> None:
    path = tmp_path / "c.pcapng"
    command = struct.pack(">III", 1, 1, 5) + b"\5" + GET_VERSION
    with CaptureWriter(path) as writer:
        connection = writer.tcp(("10.0.0.1", 40000), ("10.0.0.2", 51234), initiator=True)
        at = 0
        for size in pieces:
            connection.sent(command[at : at + size])
            at += size
        connection.sent(command[at:])
        connection.closed()
        other = writer.tcp(("10.0.0.1", 40001), ("10.0.0.2", 51235), initiator=True)
        other.sent(b"\0\0\0\1")
        other.sent(b"something else")
        other.sent(b"\0\0\0\1")
        other.closed()
    recording = open_recording(str(path))
    assert [event[2:] for event in events(recording)] == [
        (MESSAGE, GET_VERSION),
        (WireKind.CLOSED, b""),
    ]
    recording.close()


def test_ports_that_were_asked_for_exclude_others(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    capture(path, 4194, 5555)
    recording = open_recording(str(path), ports=[5555])
    assert [event.channel.listener for event in recording.events] == ["10.0.0.2:5555"] * 3
    recording.close()


def test_a_capture_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    capture(path, 4194)
    data = path.read_bytes()
    recording = read(data[: len(data) - 20])
    assert [kind for _, _, kind, _ in events(recording)] == [MESSAGE, MESSAGE, WireKind.CLOSED]
    assert len(recording.notes) == 1
    assert "the capture is broken" in recording.notes[0]


def test_mctp_and_doe_of_our_captures(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with CaptureWriter(path) as writer:
        mctp, doe = writer.mctp(8, 9), writer.doe()
        mctp.sent(b"\x05" + GET_VERSION, owner=True)
        mctp.received(b"\x05" + VERSION, owner=False)
        mctp.sent(b"\x01\x02", owner=True)  # PLDM
        doe.sent(DOE_ASK)
        doe.received(DOE_ASK)
        doe.sent(b"12345678")
    recording = open_recording(str(path))
    found = events(recording)
    recording.close()
    assert found == [
        (1, Sender.INITIATOR, MESSAGE, GET_VERSION),
        (1, Sender.LISTENER, MESSAGE, VERSION),
        (2, Sender.INITIATOR, MESSAGE, GET_VERSION),
        (2, Sender.LISTENER, MESSAGE, GET_VERSION),
        (2, Sender.INITIATOR, WireKind.LOST, b"12345678"),
    ]


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (LinkType.EMU_MCTP, bytes.fromhex("000000c005") + GET_VERSION),
        (LinkType.EMU_DOE, DOE_ASK),
    ],
)
def test_captures_of_spdm_emu_do_not_tell_who_sends(link: LinkType, data: bytes) -> None:
    stream = io.BytesIO()
    PcapWriter(stream, link).write(Packet(1, link, data, len(data)))
    assert events(read(stream.getvalue())) == [(1, Sender.UNKNOWN, MESSAGE, GET_VERSION)]


def test_mctp_endpoints_are_channels(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    for ends in ("0908", "0809", "0a08"):
        data = bytes.fromhex(f"01{ends}c805") + GET_VERSION
        writer.write(Packet(1, LinkType.EMU_MCTP, data, len(data)))
    recording = read(stream.getvalue())
    found = [(e.channel.number, e.channel.initiator, e.sender) for e in recording.events]
    assert found == [
        (1, "EID 8", Sender.INITIATOR),
        (1, "EID 8", Sender.LISTENER),
        (2, "EID 8", Sender.INITIATOR),
    ]


def document(transport: str = "tcp", frame: bytes = ASK, **more: Any) -> bytes:
    messages = [
        {"from": "requester", "frame": frame.hex()},
        {"from": "responder", "frame": ANSWER.hex()},
    ]
    return json.dumps({"name": "x", "transport": transport, "messages": messages, **more}).encode()


def test_a_recorded_conversation() -> None:
    recording = read(
        document(
            trust_anchors={"root": "3000"},
            derived=[["th1_hash", "aa"], ["dhe_secret", "0102"], ["psk", "03"], ["psk", "03"]],
        )
    )
    assert recording.trust_anchors == [b"\x30\0"]
    assert recording.derived[0] == ("th1_hash", b"\xaa")
    assert [entry.secret for entry in recording.secrets.loose] == [b"\1\2", b"\3"]
    assert events(recording) == [
        (1, Sender.REQUESTER, MESSAGE, GET_VERSION),
        (1, Sender.RESPONDER, MESSAGE, VERSION),
    ]


@pytest.mark.parametrize(
    ("transport", "frame", "kind", "body"),
    [
        ("tcp", ASK + ASK[:5], WireKind.LOST, ASK[:5]),
        ("tcp", b"junk", WireKind.LOST, b"junk"),
        ("mctp", b"\x05" + GET_VERSION, MESSAGE, GET_VERSION),
        ("mctp", b"\x06" + bytes(30), WireKind.RECORD, bytes(30)),
        ("mctp", b"", WireKind.LOST, b""),
        ("pci-doe", DOE_ASK, MESSAGE, GET_VERSION),
        ("pci-doe", b"1234", WireKind.LOST, b"1234"),
        ("none", GET_VERSION, WireKind.MESSAGES, GET_VERSION),
    ],
)
def test_recorded_frames_of_every_transport(
    transport: str, frame: bytes, kind: WireKind, body: bytes
) -> None:
    found = [
        event for event in events(read(document(transport, frame))) if event[1] is Sender.REQUESTER
    ]
    assert found[-1][2:] == (kind, body)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{", "JSON"),
        (b'{"transport": "tcp"}', "JSON"),
        (b'{"transport": "tcp", "messages": [{"from": "requester", "frame": "0"}]}', "JSON"),
        (b'{"transport": "tcp", "messages": [{"from": "me", "frame": "00"}]}', "messages"),
        (b'{"transport": "udp", "messages": []}', "transport"),
        (document(derived=[["a"]]), "JSON"),
        (document(trust_anchors={"a": "xx"}), "JSON"),
    ],
)
def test_broken_conversations(data: bytes, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read(data)
    assert caught.value.field == field


REQUESTER, RESPONDER, UNKNOWN = Sender.REQUESTER, Sender.RESPONDER, Sender.UNKNOWN
MESSAGES = WireKind.MESSAGES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10840000", [(UNKNOWN, MESSAGES, GET_VERSION)]),
        ("0x10840000\n", [(UNKNOWN, MESSAGES, GET_VERSION)]),
        ("10 84 00 00  # GET_VERSION", [(UNKNOWN, MESSAGES, GET_VERSION)]),
        (
            f"# a conversation\n> {GET_VERSION.hex()}\n< {VERSION.hex(' ')}\n\n",
            [(REQUESTER, MESSAGES, GET_VERSION), (RESPONDER, MESSAGES, VERSION)],
        ),
        (
            f"requester: {ASK.hex()}\nrsp: {ANSWER.hex()}",
            [(REQUESTER, MESSAGE, GET_VERSION), (RESPONDER, MESSAGE, VERSION)],
        ),
        ("10840000\n10040000\n00010012", [(UNKNOWN, MESSAGES, GET_VERSION + VERSION)]),
        ("05" + GET_VERSION.hex(), [(UNKNOWN, MESSAGE, GET_VERSION)]),
        (DOE_ASK.hex(), [(UNKNOWN, MESSAGE, GET_VERSION)]),
        ("00000001 00000001 00000005 05 10840000", [(UNKNOWN, MESSAGE, GET_VERSION)]),
        ("06" + "00" * 30, [(UNKNOWN, WireKind.RECORD, bytes(30))]),
    ],
)
def test_hex(text: str, expected: list[tuple[Sender, WireKind, bytes]]) -> None:
    recording = read(text.encode())
    assert recording.format == "hex"
    assert [event[1:] for event in events(recording)] == expected


def test_binary() -> None:
    recording = read(GET_VERSION + VERSION)
    assert recording.format == "binary"
    assert events(recording) == [(1, UNKNOWN, MESSAGES, GET_VERSION + VERSION)]
    assert [event[2:] for event in events(read(ASK + ASK))] == [(MESSAGE, GET_VERSION)] * 2


@pytest.mark.parametrize(
    "data", [b"", b"hello world\n", b"\xff\xfe\xfd", b"\n\n# nothing\n", b"ffff"]
)
def test_what_is_none_of_these_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match="neither"):
        read(data)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read none"):
        open_recording(str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="Is a directory"):
        open_recording(str(tmp_path))


def test_memory_does_not_grow_with_the_capture() -> None:
    """A million packets would take long; the reader must not hold what it has handed out."""

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            stream = io.BytesIO()
            writer = PcapngWriter(stream)
            data = bytes.fromhex("010908c805") + GET_VERSION
            packet = Packet(1, LinkType.EMU_MCTP, data, len(data))
            writer.write(packet)
            self.rest = stream.getvalue()
            start = len(self.rest)
            writer.write(packet)
            self.block = stream.getvalue()[start:]
            self.given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            while len(self.rest) < len(buffer):
                self.rest += self.block * 1000
            count = len(buffer)
            buffer[:] = self.rest[:count]
            self.rest = self.rest[count:]
            self.given += count
            return count

    endless = Endless()
    recording = read_recording(io.BufferedReader(endless, 4096))
    for _, event in zip(range(3000), recording.events, strict=False):
        assert event.body == GET_VERSION
    assert endless.given < 3000 * 64 + (1 << 17)  # a chunk ahead at most
    recording.close()
