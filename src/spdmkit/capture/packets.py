"""What a capture file holds: packets, each with its time, its link type and its bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Direction", "LinkType", "Packet"]


class LinkType(enum.IntEnum):
    """Link types this package reads, by their number in the tcpdump.org registry.

    The last two are an exception: spdm-emu and spdm-dump use 291 and 292 for MCTP and PCI DOE,
    but the registry has since given these numbers to others (Hilscher netANALYZER NG and ZBOSS
    NCP), so that Wireshark does not open files of type 291. They are read, and written to
    classic pcap files, for the sake of these two programs; in pcapng files MCTP goes out as a
    Linux cooked packet and a DOE object as an exported PDU, which every reader accepts.
    """

    NULL = 0
    """BSD loopback: a 4-byte address family in the byte order of the capturing machine."""
    ETHERNET = 1
    RAW_OLD = 12
    """Raw IP, as some BSDs number it."""
    RAW_OPENBSD = 14
    RAW = 101
    """Raw IPv4 or IPv6."""
    LOOP = 108
    """OpenBSD loopback: a 4-byte address family, big endian."""
    LINUX_SLL = 113
    """Linux cooked capture: what `tcpdump -i any` writes, and captures of MCTP interfaces."""
    IPV4 = 228
    IPV6 = 229
    UPPER_PDU = 252
    """Wireshark's exported PDU: tags that name a dissector, then its bytes."""
    LINUX_SLL2 = 276
    EMU_MCTP = 291
    EMU_DOE = 292


class Direction(enum.IntEnum):
    """Which way a packet went as the capturing machine saw it (pcapng epb_flags bits 0-1)."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2


@dataclass(slots=True)
class Packet:
    """One captured packet.

    Attributes:
        time_ns: nanoseconds since 1970 UTC; 0 when the file has no time for it.
        link_type: what `data` starts with, a `LinkType` or another number of the registry.
        data: the bytes captured.
        original_length: how many bytes the packet had on the wire.
        interface: index of the interface in its section of the file.
        direction: which way it went, where the file says so.
    """

    time_ns: int
    link_type: int
    data: bytes
    original_length: int
    interface: int = 0
    direction: int = Direction.UNKNOWN
