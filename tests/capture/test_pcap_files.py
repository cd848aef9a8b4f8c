"""Reading and writing capture files."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.capture.files import is_capture, read_packets
from spdmkit.capture.packets import Direction, LinkType, Packet
from spdmkit.capture.pcap import PcapWriter
from spdmkit.capture.pcapng import PcapngWriter
from spdmkit.errors import DecodeError

TIME = 1_700_000_000_123_456_789


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", link: int = 1, options: bytes = b"", snap: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def enhanced(
    ticks: int, data: bytes, order: str = "<", index: int = 0, options: bytes = b""
) -> bytes:
    head = struct.pack(
        order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)
    )
    return block(6, head + data + bytes(-len(data) % 4) + options, order)


def read(data: bytes) -> list[Packet]:
    return list(read_packets(io.BytesIO(data)))


packets = st.lists(
    st.builds(
        lambda time, data, more, direction: Packet(
            time, 1, data, len(data) + more, direction=direction
        ),
        st.integers(0, 2**63 - 1),
        st.binary(max_size=50),
        st.integers(0, 5),
        st.sampled_from(Direction),
    ),
    max_size=5,
)


@given(packets)
def test_pcapng_reads_what_it_writes(written: list[Packet]) -> None:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    for packet in written:
        writer.write(packet)
    assert read(stream.getvalue()) == written


def test_pcapng_has_an_interface_for_each_link_type() -> None:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    for link in (LinkType.ETHERNET, LinkType.LINUX_SLL, LinkType.ETHERNET):
        writer.write(Packet(TIME, link, b"x", 1))
    assert [(p.link_type, p.interface) for p in read(stream.getvalue())] == [
        (1, 0),
        (113, 1),
        (1, 0),
    ]


def test_pcap_reads_what_it_writes_in_microseconds() -> None:
    stream = io.BytesIO()
    writer = PcapWriter(stream, LinkType.EMU_MCTP)
    writer.write(Packet(TIME, LinkType.EMU_MCTP, b"12345", 9))
    assert read(stream.getvalue()) == [Packet(TIME // 1000 * 1000, 291, b"12345", 9)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_of_every_byte_order_and_resolution(order: str, magic: int, unit: int) -> None:
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 101 | 0x04000000)
    data += struct.pack(order + "IIII", 7, 5, 3, 4) + b"abc"
    assert is_capture(data)
    assert read(data) == [Packet(7_000_000_000 + 5 * unit, 101, b"abc", 4)]


@pytest.mark.parametrize(
    ("resolution", "ticks", "expected"),
    [
        (b"", 5, 5000),  # microseconds when nothing is said
        (struct.pack("<HHB3x", 9, 1, 9), 5, 5),
        (struct.pack("<HHB3x", 9, 1, 3), 5, 5_000_000),
        (struct.pack("<HHB3x", 9, 1, 12), 5999, 5),  # picoseconds are cut
        (struct.pack("<HHB3x", 9, 1, 0x8A), 1024, 1_000_000_000),  # 2^-10 seconds
        (struct.pack("<HHB3xHHq", 9, 1, 9, 14, 8, 2), 5, 2_000_000_005),
    ],
)
def test_pcapng_resolutions_of_time(resolution: bytes, ticks: int, expected: int) -> None:
    data = section() + interface(options=resolution) + enhanced(ticks, b"abc")
    assert [packet.time_ns for packet in read(data)] == [expected]


def test_pcapng_sections_have_their_own_order_and_interfaces() -> None:
    data = (
        section("<")
        + interface("<", link=1)
        + interface("<", link=113)
        + enhanced(1, b"a", "<", 1)
        + block(5, bytes(12), "<")  # interface statistics are stepped over
        + section(">")
        + interface(">", link=101)
        + enhanced(2, b"bb", ">", 0)
    )
    assert [(p.link_type, p.data, p.time_ns) for p in read(data)] == [
        (113, b"a", 1000),
        (101, b"bb", 2000),
    ]


def test_pcapng_simple_and_old_packet_blocks() -> None:
    simple = block(3, struct.pack("<I", 9) + b"abcd")
    old = block(2, struct.pack("<HHIIII", 0, 0, 0, 7, 3, 3) + b"xyz")
    found = read(section() + interface(snap=4) + simple + old)
    assert [(p.data, p.original_length, p.time_ns) for p in found] == [
        (b"abcd", 9, 0),
        (b"xyz", 3, 7000),
    ]


def test_pcapng_direction_is_read() -> None:
    flags = struct.pack("<HHI", 2, 4, 2)
    data = section() + interface() + enhanced(0, b"abc", options=flags)
    assert read(data)[0].direction == Direction.OUTBOUND


WHOLE = section() + interface() + enhanced(0, b"abcde")


@pytest.mark.parametrize(
    ("data", "structure", "field"),
    [
        (b"", "capture file", "magic"),
        (b"PK\x03\x04rest", "capture file", "magic"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "pcap header", "network"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 9, 4, 0, 0, 0, 1), "pcap header", "version"),
        (
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1) + b"1234",
            "pcap packet",
            "header",
        ),
        (
            struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1, 0, 0, 2**31, 0),
            "pcap packet",
            "captured length",
        ),
        (
            struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1, 0, 0, 5, 5) + b"1234",
            "pcap packet",
            "data",
        ),
        (WHOLE[:6], "pcapng block", "body"),
        (
            WHOLE[:8] + b"\0\0\0\0" + WHOLE[12:],
            "Section Header Block",
            "byte-order magic",
        ),
        (WHOLE[:4] + b"\x1d" + WHOLE[5:], "Section Header Block", "length"),
        (section().replace(b"\x01\0\0\0", b"\x02\0\0\0", 1), "Section Header Block", "version"),
        (section() + struct.pack("<III", 6, 10, 0), "pcapng block", "length"),
        (section() + struct.pack("<III", 6, 2**31, 0), "pcapng block", "length"),
        (section() + b"\x06\0\0", "pcapng block", "header"),
        (WHOLE[:-6], "pcapng block", "body"),
        (WHOLE[:-4] + b"\0\0\0\0", "pcapng block", "trailing length"),
        (section() + block(1, b"\0" * 4), "Interface Description Block", "SnapLen"),
        (
            section() + interface(options=struct.pack("<HHI", 9, 90, 0)),
            "Interface Description Block",
            "options",
        ),
        (
            section() + interface(options=struct.pack("<HHB3x", 9, 1, 0x7F)),
            "Interface Description Block",
            "if_tsresol",
        ),
        (section() + interface() * 4097, "Interface Description Block", "type"),
        (section() + block(6, bytes(16)), "Enhanced Packet Block", "header"),
        (section() + enhanced(0, b"x"), "Enhanced Packet Block", "interface"),
        (
            section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 9, 9) + b"1234"),
            "Enhanced Packet Block",
            "captured length",
        ),
        (section() + interface() + block(3, b""), "Simple Packet Block", "length"),
        (section() + interface() + block(2, bytes(8)), "Packet Block", "header"),
    ],
)
def test_broken_files_say_where(data: bytes, structure: str, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read(data)
    assert (caught.value.message, caught.value.field) == (structure, field)


def test_packets_before_the_break_are_given() -> None:
    reading = read_packets(io.BytesIO(WHOLE + enhanced(1, b"x" * 40)[:-20]))
    assert next(reading).data == b"abcde"
    with pytest.raises(DecodeError, match="file ends after"):
        next(reading)


class Trickle(io.RawIOBase):
    """A pipe that gives three bytes at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as callers pass it
        part, self.data = self.data[:3], self.data[3:]
        buffer[: len(part)] = part
        return len(part)


def test_a_pipe_may_give_few_bytes_at_a_time() -> None:
    assert [p.data for p in read_packets(Trickle(WHOLE))] == [b"abcde"]  # type: ignore[arg-type]  # a raw stream is what a pipe is


@given(st.binary(max_size=200))
def test_no_file_raises_anything_else(junk: bytes) -> None:
    for start in (b"", section(), section() + interface(), WHOLE):
        with contextlib.suppress(DecodeError):
            read(start + junk)
