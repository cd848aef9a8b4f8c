"""pcapng files: sections of typed blocks (draft-ietf-opsawg-pcapng).

Read are the Enhanced, Simple and obsolete Packet Blocks of any number of sections and
interfaces, with any resolution of time; other blocks are stepped over. Written is one section,
one interface for each link type, nanosecond stamps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from spdmkit.capture.packets import Direction, Packet
from spdmkit.capture.pcap import MAX_PACKET
from spdmkit.errors import DecodeError

__all__ = ["SECTION_HEADER", "PcapngWriter", "read_pcapng"]

SECTION_HEADER = b"\x0a\x0d\x0d\x0a"
"""The first four bytes of a pcapng file, the same in both byte orders."""

_SHB = 0x0A0D0D0A
_IDB = 1
_OLD_PACKET = 2
_SIMPLE_PACKET = 3
_ENHANCED_PACKET = 6
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_MAX_INTERFACES = 4096
_CHUNK = 1 << 16
"""Bytes read at a time."""

_OPT_END = 0
_OPT_SHB_USERAPPL = 4
_OPT_IF_NAME = 2
_OPT_IF_TSRESOL = 9
_OPT_IF_TSOFFSET = 14
_OPT_EPB_FLAGS = 2
_FLAGS_ONLY = b"\x02\x00\x04\x00"
"""How the options begin when epb_flags is the first, in little-endian order."""


@dataclass(slots=True)
class _Interface:
    """What an Interface Description Block says: time in ns is ticks * multiplier // divisor."""

    link_type: int
    snap_length: int
    multiplier: int = 1000
    divisor: int = 1
    offset_ns: int = 0

    def time_ns(self, ticks: int) -> int:
        """A timestamp as nanoseconds since 1970 UTC."""
        return ticks * self.multiplier // self.divisor + self.offset_ns


def _options(
    body: bytes, at: int, order: str, block: str, start: int
) -> Iterator[tuple[int, bytes]]:
    """The options of a block from offset `at` of its body on."""
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        if code == _OPT_END:
            return
        if at + 4 + length > len(body):
            raise DecodeError(
                block, "options", start + at, f"option {code} is longer than the block"
            )
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + length + (-length & 3)


def _interface(body: bytes, order: str, start: int) -> _Interface:
    if len(body) < 8:
        raise DecodeError("Interface Description Block", "SnapLen", start, "the block is too short")
    link_type, _, snap_length = struct.unpack_from(order + "HHI", body)
    interface = _Interface(link_type, snap_length)
    for code, value in _options(body, 8, order, "Interface Description Block", start):
        if code == _OPT_IF_TSRESOL and len(value) == 1:
            exponent = value[0] & 0x7F
            if exponent > 64:
                raise DecodeError(
                    "Interface Description Block", "if_tsresol", start, f"10^-{exponent} seconds"
                )
            unit = 2**exponent if value[0] & 0x80 else 10**exponent
            interface.multiplier, interface.divisor = 1_000_000_000, unit
            if 1_000_000_000 % unit == 0:
                interface.multiplier, interface.divisor = 1_000_000_000 // unit, 1
        elif code == _OPT_IF_TSOFFSET and len(value) == 8:
            interface.offset_ns = struct.unpack(order + "q", value)[0] * 1_000_000_000
    return interface


class _Section:
    """One section of a file: its byte order, its interfaces, and the layouts of its blocks."""

    def __init__(self, order: str) -> None:
        self.interfaces: list[_Interface] = []
        self.order = order
        self.head = struct.Struct(order + "II")
        self.word = struct.Struct(order + "I")
        self.enhanced_head = struct.Struct(order + "IIIIIII")
        self._old_head = struct.Struct(order + "HHIIII")

    def add_interface(self, body: bytes, start: int) -> None:
        if len(self.interfaces) >= _MAX_INTERFACES:
            raise DecodeError(
                "Interface Description Block",
                "type",
                start,
                f"more than {_MAX_INTERFACES} interfaces",
            )
        self.interfaces.append(_interface(body, self.order, start))

    def enhanced(self, body: bytes, start: int) -> Packet:
        """An Enhanced Packet Block, whole, from its type on."""
        if len(body) < 32:
            raise DecodeError("Enhanced Packet Block", "header", start, "the block is too short")
        _, _, index, high, low, captured, original = self.enhanced_head.unpack_from(body)
        where = ("Enhanced Packet Block", start)
        packet = self._packet(where, body, index, high << 32 | low, slice(28, 28 + captured))
        packet.original_length = original
        padded = 28 + captured + (-captured & 3)
        for code, value in _options(body[:-4], padded, self.order, *where):
            if code == _OPT_EPB_FLAGS and len(value) == 4:
                packet.direction = self.word.unpack(value)[0] & 3
        return packet

    def old(self, body: bytes, start: int) -> Packet:
        """A Packet Block, which Enhanced Packet Blocks have replaced."""
        if len(body) < 32:
            raise DecodeError("Packet Block", "header", start, "the block is too short")
        index, _, high, low, captured, original = self._old_head.unpack_from(body, 8)
        where = ("Packet Block", start)
        packet = self._packet(where, body, index, high << 32 | low, slice(28, 28 + captured))
        packet.original_length = original
        return packet

    def simple(self, body: bytes, start: int) -> Packet:
        """A Simple Packet Block: the first interface, no time, and no captured length."""
        if len(body) < 16:
            raise DecodeError("Simple Packet Block", "length", start, "the block is too short")
        (original,) = self.word.unpack_from(body, 8)
        snap_length = self.interfaces[0].snap_length if self.interfaces else 0
        captured = min(original, snap_length or original, len(body) - 16)
        where = ("Simple Packet Block", start)
        packet = self._packet(where, body, 0, 0, slice(12, 12 + captured))
        packet.original_length = original
        return packet

    def _packet(
        self, where: tuple[str, int], body: bytes, index: int, ticks: int, span: slice
    ) -> Packet:
        block, start = where
        if index >= len(self.interfaces):
            raise DecodeError(block, "interface", start, f"interface {index} was never described")
        captured = span.stop - span.start
        if span.stop > len(body) - 4:
            raise DecodeError(
                block, "captured length", start, f"{captured} bytes do not fit into the block"
            )
        interface = self.interfaces[index]
        return Packet(interface.time_ns(ticks), interface.link_type, body[span], captured, index)


class _Blocks:
    """The bytes of a file, as many at a time as are needed."""

    def __init__(self, stream: BinaryIO, start: bytes) -> None:
        self._stream = stream
        self.data = start
        self.at = 0
        self.before = 0
        """Offset in the file of the first byte of `data`."""

    @property
    def offset(self) -> int:
        """Offset in the file of the block at hand."""
        return self.before + self.at

    def need(self, count: int) -> bool:
        """Have that many bytes of the block at hand; False when the file ends before them."""
        missing = count - (len(self.data) - self.at)
        if missing > 0:
            self.before += self.at
            more = self._stream.read(max(missing, _CHUNK))
            self.data = self.data[self.at :] + more
            self.at = 0
        return len(self.data) - self.at >= count

    def require(self, count: int) -> None:
        """The same, where a file that ends is an error."""
        if not self.need(count):
            raise DecodeError(
                "pcapng block",
                "body",
                self.offset,
                f"the file ends after {len(self.data) - self.at} of {count} bytes",
            )


def _section(blocks: _Blocks) -> _Section:
    """Read the Section Header Block at hand."""
    blocks.require(28)
    data, at, offset = blocks.data, blocks.at, blocks.offset
    magic = data[at + 8 : at + 12]
    order = _BYTE_ORDERS.get(magic)
    if order is None:
        raise DecodeError(
            "Section Header Block",
            "byte-order magic",
            offset + 8,
            f"{magic.hex()} is neither order",
        )
    length, major = struct.unpack_from(order + "I4xH", data, at + 4)
    if length < 28 or length % 4 or length > MAX_PACKET:
        raise DecodeError("Section Header Block", "length", offset + 4, f"{length} bytes")
    if major != 1:
        raise DecodeError(
            "Section Header Block", "version", offset + 12, f"version {major} is not 1"
        )
    blocks.require(length)
    blocks.at += length
    return _Section(order)


def read_pcapng(stream: BinaryIO) -> Iterator[Packet]:
    """Read the packets of a pcapng file one by one, in constant memory.

    Args:
        stream: the file, placed behind its first four bytes (`SECTION_HEADER`); `read` must
            return what was asked for except at the end, as buffered streams do.

    Raises:
        DecodeError: the file is not what its layout says, or ends inside a block; the packets
            before that place have been returned. Offsets count from the start of the file.
    """
    blocks = _Blocks(stream, SECTION_HEADER)
    section = _section(blocks)
    while blocks.need(1):
        if not blocks.need(12):
            raise DecodeError(
                "pcapng block", "header", blocks.offset, "the file ends in a block header"
            )
        at, data = blocks.at, blocks.data
        kind, length = section.head.unpack_from(data, at)
        if kind == _SHB:
            section = _section(blocks)
            continue
        if length < 12 or length % 4 or length > MAX_PACKET:
            raise DecodeError("pcapng block", "length", blocks.offset + 4, f"{length} bytes")
        if at + length > len(data):
            blocks.require(length)
            at, data = blocks.at, blocks.data
        end = at + length
        if data[end - 4 : end] != data[at + 4 : at + 8]:
            raise DecodeError(
                "pcapng block",
                "trailing length",
                blocks.offset + length - 4,
                "differs from the first one",
            )
        if kind == _ENHANCED_PACKET:
            yield _plain(section, data, at, end) or section.enhanced(data[at:end], blocks.offset)
        elif kind == _IDB:
            section.add_interface(data[at + 8 : end - 4], blocks.offset)
        elif kind == _SIMPLE_PACKET:
            yield section.simple(data[at:end], blocks.offset)
        elif kind == _OLD_PACKET:
            yield section.old(data[at:end], blocks.offset)
        blocks.at = end


def _plain(section: _Section, data: bytes, at: int, end: int) -> Packet | None:
    """The packet of an Enhanced Packet Block in order, with no option but epb_flags.

    Nearly all packets are of this kind; everything else, and every error, goes the long way.
    """
    if end - at < 32:
        return None
    _, _, index, high, low, captured, original = section.enhanced_head.unpack_from(data, at)
    padded = at + 28 + captured + (-captured & 3)
    direction = 0
    if end == padded + 16 and data.startswith(_FLAGS_ONLY, padded):
        direction = data[padded + 4] & 3
    elif end != padded + 4:
        return None
    if index >= len(section.interfaces):
        return None
    interface = section.interfaces[index]
    return Packet(
        interface.time_ns(high << 32 | low),
        interface.link_type,
        data[at + 28 : at + 28 + captured],
        original,
        index,
        direction,
    )


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


class PcapngWriter:
    """Writes a little-endian pcapng file: one section, an interface for each link type."""

    def __init__(self, stream: BinaryIO, *, application: str = "spdmkit") -> None:
        """Write the section header.

        Args:
            stream: where the file goes.
            application: what the file says it was written by.
        """
        self.stream = stream
        self._interfaces: dict[int, int] = {}
        body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
        body += _option(_OPT_SHB_USERAPPL, application.encode()) + bytes(4)
        stream.write(_block(_SHB, body))

    def _interface(self, link_type: int) -> int:
        index = self._interfaces.get(link_type)
        if index is None:
            index = self._interfaces[link_type] = len(self._interfaces)
            body = struct.pack("<HHI", link_type, 0, 0)
            body += _option(_OPT_IF_NAME, f"spdm{index}".encode())
            body += _option(_OPT_IF_TSRESOL, b"\x09") + bytes(4)
            self.stream.write(_block(_IDB, body))
        return index

    def write(self, packet: Packet) -> None:
        """Append one packet, in the interface of its link type."""
        data = packet.data
        head = struct.pack(
            "<IIIII",
            self._interface(packet.link_type),
            packet.time_ns >> 32,
            packet.time_ns & 0xFFFFFFFF,
            len(data),
            packet.original_length,
        )
        body = head + data + bytes(-len(data) & 3)
        if packet.direction != Direction.UNKNOWN:
            body += _option(_OPT_EPB_FLAGS, struct.pack("<I", packet.direction)) + bytes(4)
        self.stream.write(_block(_ENHANCED_PACKET, body))
