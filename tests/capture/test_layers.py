"""From link layers up to TCP, MCTP and DOE."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.capture.layers import DoeObject, MctpPacket, TcpSegment, dissect, endpoints
from spdmkit.capture.packets import LinkType

TCP = (
    struct.pack("!HHIIBBHHH", 40000, 4194, 1000, 2000, 0x60, 0x18, 65535, 0, 0)
    + bytes(4)
    + b"hello"
)
V4 = (
    struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(TCP), 1, 0x4000, 64, 6, 0)
    + bytes((10, 0, 0, 1, 10, 0, 0, 2))
    + TCP
)
V6 = struct.pack("!IHBB", 6 << 28, len(TCP), 6, 64) + bytes(15) + b"\1" + bytes(15) + b"\2" + TCP
V6_OPTIONS = (
    struct.pack("!IHBB", 6 << 28, 8 + len(TCP), 60, 64)
    + V6[8:40]
    + bytes((6, 0, 1, 4, 0, 0, 0, 0))
    + TCP
)
MACS = bytes(12)


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (LinkType.ETHERNET, MACS + b"\x08\x00" + V4),
        (LinkType.ETHERNET, MACS + b"\x08\x00" + V4 + bytes(6)),  # padding of short frames
        (LinkType.ETHERNET, MACS + b"\x81\x00\x00\x05\x08\x00" + V4),
        (LinkType.ETHERNET, MACS + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00" + V4),
        (LinkType.RAW, V4),
        (LinkType.RAW_OLD, V4),
        (LinkType.IPV4, V4),
        (LinkType.NULL, b"\x02\0\0\0" + V4),
        (LinkType.NULL, b"\0\0\0\x02" + V4),
        (LinkType.LOOP, b"\0\0\0\x02" + V4),
        (LinkType.LINUX_SLL, bytes(14) + b"\x08\x00" + V4),
        (LinkType.LINUX_SLL2, b"\x08\x00" + bytes(18) + V4),
    ],
)
def test_ipv4_under_every_link(link: LinkType, data: bytes) -> None:
    segment = dissect(link, data)
    assert isinstance(segment, TcpSegment)
    assert (segment.sequence, segment.acknowledged, segment.flags) == (1000, 2000, 0x18)
    assert (segment.payload, segment.length) == (b"hello", 5)
    source, destination = endpoints(segment.flow)
    assert (str(source), str(destination)) == ("10.0.0.1:40000", "10.0.0.2:4194")


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (LinkType.ETHERNET, MACS + b"\x86\xdd" + V6),
        (LinkType.ETHERNET, MACS + b"\x86\xdd" + V6_OPTIONS),
        (LinkType.RAW, V6),
        (LinkType.IPV6, V6),
        (LinkType.NULL, b"\x1e\0\0\0" + V6),
    ],
)
def test_ipv6_under_every_link(link: LinkType, data: bytes) -> None:
    segment = dissect(link, data)
    assert isinstance(segment, TcpSegment)
    assert segment.payload == b"hello"
    assert [str(end) for end in endpoints(segment.flow)] == ["[::1]:40000", "[::2]:4194"]


def test_a_length_of_zero_is_segmentation_offload() -> None:
    segment = dissect(LinkType.RAW, V4[:2] + b"\0\0" + V4[4:])
    assert isinstance(segment, TcpSegment)
    assert segment.payload == b"hello"


def test_what_the_capture_cut_off_is_counted() -> None:
    segment = dissect(LinkType.RAW, V4[:-2])
    assert isinstance(segment, TcpSegment)
    assert (segment.payload, segment.length) == (b"hel", 5)


@pytest.mark.parametrize(
    "data",
    [
        V4[:30],  # cut off in the TCP header
        V4[:9] + b"\x11" + V4[10:],  # UDP
        V4[:6] + b"\x20\x00" + V4[8:],  # a first fragment
        V4[:6] + b"\x00\x10" + V4[8:],  # a later fragment
        b"\x44" + V4[1:],  # a header of 16 bytes
        V4[:32] + b"\x40" + V4[33:],  # a TCP header of 16 bytes
        V4[:32] + b"\xf0" + V4[33:],  # a TCP header longer than the segment
        V6[:6] + b"\x11" + V6[7:],
        V6[:6] + b"\x2c" + V6[7:],
        V6[:20],
        b"",
    ],
)
def test_other_traffic_is_none(data: bytes) -> None:
    assert dissect(LinkType.RAW, data) is None


def test_mctp_under_every_link() -> None:
    packet = bytes.fromhex("010908c00510840000")
    for link, data in [
        (LinkType.EMU_MCTP, packet),
        (LinkType.LINUX_SLL, bytes(14) + b"\x00\xfa" + packet),
        (LinkType.LINUX_SLL2, b"\x00\xfa" + bytes(18) + packet),
    ]:
        assert dissect(link, data) == MctpPacket(packet)
    assert dissect(LinkType.EMU_MCTP, packet[:4]) is None


def test_doe_objects() -> None:
    data = bytes.fromhex("010001000300000010840000")
    named = b"\x00\x0c\x00\x08spdm.doe\x00\x00\x00\x00" + data
    assert dissect(LinkType.EMU_DOE, data) == DoeObject(data)
    assert dissect(LinkType.UPPER_PDU, named) == DoeObject(data)
    assert dissect(LinkType.UPPER_PDU, named.replace(b"spdm.doe", b"http\0\0\0\0")) is None
    assert dissect(LinkType.UPPER_PDU, named[:14]) is None
    assert dissect(LinkType.EMU_DOE, data[:7]) is None


def test_unknown_link_types_are_none() -> None:
    assert dissect(147, V4) is None


@given(st.sampled_from(LinkType), st.binary(max_size=80))
def test_nothing_raises(link: LinkType, data: bytes) -> None:
    dissect(link, data)


@given(st.data())
def test_bent_packets_do_not_raise(data: st.DataObject) -> None:
    packet = bytearray(data.draw(st.sampled_from((V4, V6, V6_OPTIONS))))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    dissect(LinkType.RAW, bytes(packet[: data.draw(st.integers(0, len(packet)))]))
