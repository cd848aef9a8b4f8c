"""From a packet's link layer up to TCP, or to an MCTP packet or a DOE object.

Checksums are not judged: captures taken on the sending machine rarely have valid ones.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from spdmkit.capture.packets import LinkType

__all__ = [
    "ACK",
    "DOE_DISSECTOR",
    "FIN",
    "PSH",
    "RST",
    "SYN",
    "UPPER_PDU_DISSECTOR",
    "UPPER_PDU_END",
    "DoeObject",
    "Endpoint",
    "MctpPacket",
    "TcpSegment",
    "dissect",
    "endpoints",
]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
"""Bits of the TCP flags (RFC 9293 3.1)."""

_ETHERTYPE_IPV4 = 0x0800
_ETHERTYPE_IPV6 = 0x86DD
_ETHERTYPE_MCTP = 0x00FA  # Linux's ETH_P_MCTP; MCTP has no Ethernet type of its own
_ETHERTYPES_VLAN = frozenset((0x8100, 0x88A8, 0x9100))
_PROTOCOL_TCP = 6
_IPV6_EXTENSIONS = frozenset((0, 43, 60, 135, 139, 140))  # all count 8-byte units after the first
_IPV6_FRAGMENT = 44
_AF_INET = 2
_AF_INET6 = frozenset((10, 23, 24, 28, 30))

_TCP = struct.Struct("!HHIIBBH")
_U16 = struct.Struct("!H")


class Endpoint(NamedTuple):
    """One end of a connection, as a person reads it."""

    address: str
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else f"{self.address}:{self.port}"
        )


@dataclass(slots=True)
class TcpSegment:
    """One TCP segment.

    Attributes:
        flow: source address, destination address, source port, destination port, as on the wire.
        sequence: sequence number of the first payload byte (of the SYN in a SYN).
        acknowledged: the next byte its sender expects.
        flags: the TCP flags.
        payload: the payload bytes captured.
        length: how many payload bytes the segment had; more than `payload` when the capture was
            cut short.
    """

    flow: bytes
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes
    length: int


@dataclass(slots=True)
class MctpPacket:
    """One MCTP packet, from its 4-byte transport header on (DSP0236 8.1)."""

    data: bytes


@dataclass(slots=True)
class DoeObject:
    """One PCI DOE data object, from its 8-byte header on."""

    data: bytes


Dissected = TcpSegment | MctpPacket | DoeObject | None


def endpoints(flow: bytes) -> tuple[Endpoint, Endpoint]:
    """Source and destination of a `TcpSegment.flow`."""
    size = (len(flow) - 4) // 2
    source, destination = struct.unpack("!HH", flow[-4:])
    return (
        Endpoint(str(ipaddress.ip_address(flow[:size])), source),
        Endpoint(str(ipaddress.ip_address(flow[size : 2 * size])), destination),
    )


def _tcp(data: bytes, at: int, end: int, addresses: bytes) -> TcpSegment | None:
    """TCP between `at` and `end`; `end` may lie behind the captured bytes."""
    if at + 20 > len(data):
        return None
    _, _, sequence, acknowledged, offset, flags, _ = _TCP.unpack_from(data, at)
    start = at + (offset >> 4) * 4
    if start < at + 20 or start > end:
        return None
    return TcpSegment(
        addresses + data[at : at + 4], sequence, acknowledged, flags, data[start:end], end - start
    )


def _ipv4(data: bytes, at: int) -> TcpSegment | None:
    if at + 20 > len(data) or data[at] >> 4 != 4 or data[at + 9] != _PROTOCOL_TCP:
        return None
    header = (data[at] & 0x0F) * 4
    total = data[at + 2] << 8 | data[at + 3]
    if total == 0:  # segmentation offload: the card was to fill it in
        total = len(data) - at
    if header < 20 or total < header or (data[at + 6] & 0x3F) or data[at + 7]:
        return None  # broken, or a fragment of an IP packet, which TCP does not send
    return _tcp(data, at + header, at + total, data[at + 12 : at + 20])


def _ipv6(data: bytes, at: int) -> TcpSegment | None:
    if at + 40 > len(data) or data[at] >> 4 != 6:
        return None
    end = at + 40 + (data[at + 4] << 8 | data[at + 5])
    if end == at + 40:
        end = len(data)
    protocol, place = data[at + 6], at + 40
    while protocol in _IPV6_EXTENSIONS:
        if place + 8 > len(data):
            return None
        protocol, place = data[place], place + 8 * (data[place + 1] + 1)
    if protocol != _PROTOCOL_TCP:
        return None
    return _tcp(data, place, end, data[at + 8 : at + 40])


def _by_ethertype(ethertype: int, data: bytes, at: int) -> Dissected:
    while ethertype in _ETHERTYPES_VLAN and at + 4 <= len(data):
        (ethertype,) = _U16.unpack_from(data, at + 2)
        at += 4
    if ethertype == _ETHERTYPE_IPV4:
        return _ipv4(data, at)
    if ethertype == _ETHERTYPE_IPV6:
        return _ipv6(data, at)
    if ethertype == _ETHERTYPE_MCTP and at + 5 <= len(data):
        return MctpPacket(data[at:])
    return None


def _ethernet(data: bytes) -> Dissected:
    if len(data) >= 54 and data.startswith(_PLAIN_IPV4, 12) and data[23] == _PROTOCOL_TCP:
        segment = _plain_ipv4_tcp(data)
        if segment is not None:
            return segment
    return _by_ethertype(_U16.unpack_from(data, 12)[0], data, 14) if len(data) >= 14 else None


_PLAIN_IPV4 = b"\x08\x00\x45"
"""Ethernet type IPv4, and a header without options."""
_PLAIN = struct.Struct("!HxxH16xIIBB")
"""Total length and fragment of an IPv4 header; numbers, offset and flags of the TCP header."""


def _plain_ipv4_tcp(data: bytes) -> TcpSegment | None:
    """The common case of `_ipv4`, at once; None for what takes a closer look."""
    total, fragment, sequence, acknowledged, offset, flags = _PLAIN.unpack_from(data, 16)
    if fragment & 0x3FFF or total < 40:
        return None
    start, end = 34 + (offset >> 4) * 4, 14 + total
    if offset < 0x50 or start > end:
        return None
    return TcpSegment(data[26:38], sequence, acknowledged, flags, data[start:end], end - start)


def _raw_ip(data: bytes) -> Dissected:
    if not data:
        return None
    return _ipv6(data, 0) if data[0] >> 4 == 6 else _ipv4(data, 0)


def _loopback(data: bytes) -> Dissected:
    """NULL and LOOP: the address family is below 256, so that one of its ends is not zero."""
    family = max(data[0], data[3]) if len(data) >= 4 else 0
    if family == _AF_INET:
        return _ipv4(data, 4)
    return _ipv6(data, 4) if family in _AF_INET6 else None


def _cooked(data: bytes) -> Dissected:
    return _by_ethertype(_U16.unpack_from(data, 14)[0], data, 16) if len(data) >= 16 else None


def _cooked2(data: bytes) -> Dissected:
    return _by_ethertype(_U16.unpack_from(data, 0)[0], data, 20) if len(data) >= 20 else None


def _mctp(data: bytes) -> Dissected:
    return MctpPacket(data) if len(data) >= 5 else None


def _doe(data: bytes) -> Dissected:
    return DoeObject(data) if len(data) >= 8 else None


UPPER_PDU_END = 0
UPPER_PDU_DISSECTOR = 12
"""Tags of an exported PDU: the end of the tags, and the name of the dissector of what follows."""

DOE_DISSECTOR = b"spdm.doe"
"""The dissector this package names for a DOE object; its Wireshark dissector has that name."""


def _upper_pdu(data: bytes) -> Dissected:
    """An exported PDU of ours; those of other dissectors are other traffic."""
    at, dissector = 0, b""
    while at + 4 <= len(data):
        tag, length = struct.unpack_from("!HH", data, at)
        value = data[at + 4 : at + 4 + length]
        at += 4 + length
        if tag == UPPER_PDU_END:
            return _doe(data[at:]) if dissector == DOE_DISSECTOR else None
        if tag == UPPER_PDU_DISSECTOR:
            dissector = value.rstrip(b"\0")
    return None


_LINKS: dict[int, Callable[[bytes], Dissected]] = {
    LinkType.NULL: _loopback,
    LinkType.ETHERNET: _ethernet,
    LinkType.RAW_OLD: _raw_ip,
    LinkType.RAW_OPENBSD: _raw_ip,
    LinkType.RAW: _raw_ip,
    LinkType.LOOP: _loopback,
    LinkType.LINUX_SLL: _cooked,
    LinkType.IPV4: _raw_ip,
    LinkType.IPV6: _raw_ip,
    LinkType.UPPER_PDU: _upper_pdu,
    LinkType.LINUX_SLL2: _cooked2,
    LinkType.EMU_MCTP: _mctp,
    LinkType.EMU_DOE: _doe,
}


def dissect(link_type: int, data: bytes) -> Dissected:
    """What a packet carries for us.

    Args:
        link_type: what `data` starts with.
        data: the bytes captured.

    Returns:
        The TCP segment, MCTP packet or DOE object in it; None for other traffic, for packets
        cut off before their TCP header ends, and for link types that are not known here.
    """
    link = _LINKS.get(link_type)
    return link(data) if link is not None else None
