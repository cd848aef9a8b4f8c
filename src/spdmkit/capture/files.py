"""Capture files of either format, told apart by their first bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from spdmkit.capture import pcap, pcapng
from spdmkit.capture.packets import Packet
from spdmkit.errors import DecodeError

__all__ = ["is_capture", "read_packets"]

_BUFFER = 1 << 20


def is_capture(start: bytes) -> bool:
    """Do these first bytes of a file begin a pcap or pcapng file?"""
    return start[:4] == pcapng.SECTION_HEADER or start[:4] in pcap.MAGICS


def read_packets(stream: BinaryIO) -> Iterator[Packet]:
    """Read the packets of a pcap or pcapng file, whichever it is, in constant memory.

    Raises:
        DecodeError: it is neither, or breaks off; packets before that place have been returned.
    """
    if not isinstance(stream, io.BufferedReader | io.BytesIO):
        stream = io.BufferedReader(stream, _BUFFER)  # type: ignore[type-var]  # any readable does
    magic = stream.read(4)
    if magic == pcapng.SECTION_HEADER:
        return pcapng.read_pcapng(stream)
    if magic in pcap.MAGICS:
        return pcap.read_pcap(stream, magic)
    raise DecodeError("capture file", "magic", 0, f"{magic.hex()} begins neither pcap nor pcapng")
