"""Classic pcap files: a 24-byte header, then packets with 16-byte headers.

Both byte orders, microsecond and nanosecond stamps are read. The format has one link type a
file and says nothing of directions; new captures are better written as pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from spdmkit.capture.packets import Packet
from spdmkit.errors import DecodeError

__all__ = ["MAGICS", "MAX_PACKET", "PcapWriter", "read_pcap"]

MAX_PACKET = 16 * 1024 * 1024
"""Largest packet or block that is believed, in bytes; a larger length is a broken file."""

MAGICS: dict[bytes, tuple[str, int]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""The first four bytes of a file: its byte order, and how many nanoseconds its fraction counts."""

_FILE_HEADER = "HHiIII"
_RECORD_HEADER = "IIII"


def read_pcap(stream: BinaryIO, magic: bytes) -> Iterator[Packet]:
    """Read the packets of a classic pcap file one by one, in constant memory.

    Args:
        stream: the file, placed behind its first four bytes; `read` must return what was asked
            for except at the end, as buffered streams do.
        magic: those four bytes, one of `MAGICS`.

    Raises:
        DecodeError: the file is not what its layout says, or ends inside a packet; the packets
            before that place have been returned. Offsets count from the start of the file.
    """
    order, unit = MAGICS[magic]
    header = struct.Struct(order + _FILE_HEADER)
    raw = stream.read(header.size)
    if len(raw) < header.size:
        raise DecodeError("pcap header", "network", 4 + len(raw), "the file ends in its header")
    major, minor, _, _, _, network = header.unpack(raw)
    if major != 2:
        raise DecodeError("pcap header", "version", 4, f"version {major}.{minor} is not 2.x")
    link_type = network & 0xFFFF  # the upper half tells the length of a frame check sequence
    record = struct.Struct(order + _RECORD_HEADER)
    offset = 4 + header.size
    while raw := stream.read(record.size):
        if len(raw) < record.size:
            raise DecodeError("pcap packet", "header", offset, "the file ends in a packet header")
        seconds, fraction, captured, original = record.unpack(raw)
        if captured > MAX_PACKET:
            raise DecodeError("pcap packet", "captured length", offset + 8, f"{captured} bytes")
        data = stream.read(captured)
        if len(data) < captured:
            raise DecodeError(
                "pcap packet",
                "data",
                offset + record.size,
                f"the file ends after {len(data)} of {captured} bytes of this packet",
            )
        offset += record.size + captured
        yield Packet(seconds * 1_000_000_000 + fraction * unit, link_type, data, original)


class PcapWriter:
    """Writes a little-endian classic pcap file with microsecond stamps."""

    def __init__(self, stream: BinaryIO, link_type: int) -> None:
        """Write the file header; every packet must then be of `link_type`."""
        self.stream = stream
        self.link_type = link_type
        header = struct.pack("<" + _FILE_HEADER, 2, 4, 0, 0, MAX_PACKET, link_type)
        stream.write(b"\xd4\xc3\xb2\xa1" + header)

    def write(self, packet: Packet) -> None:
        """Append one packet; its time is cut to microseconds."""
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        head = struct.pack(
            "<" + _RECORD_HEADER, seconds, rest // 1000, len(packet.data), packet.original_length
        )
        self.stream.write(head + packet.data)
