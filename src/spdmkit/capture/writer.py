"""Writing down a conversation as packets that any tool reads.

What an endpoint sends and receives over a socket has no packets to be seen; so they are made up:
Ethernet, IP and TCP headers with a handshake, sequence and acknowledgement numbers, checksums and
the closing FINs, each packet with the time at which its bytes passed. MCTP messages become single
MCTP packets, DOE objects stay what they are.
"""

from __future__ import annotations

import io
import ipaddress
import itertools
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from spdmkit.capture.layers import (
    ACK,
    DOE_DISSECTOR,
    FIN,
    PSH,
    SYN,
    UPPER_PDU_DISSECTOR,
    UPPER_PDU_END,
    Endpoint,
)
from spdmkit.capture.packets import Direction, LinkType, Packet
from spdmkit.capture.pcap import PcapWriter
from spdmkit.capture.pcapng import PcapngWriter
from spdmkit.errors import ConfigurationError

__all__ = ["CaptureWriter", "DoeCapture", "MctpCapture", "TcpCapture"]

_SEGMENT = 1440
"""Payload bytes of a segment: what fits an Ethernet frame over IPv6 as well."""
_ACKNOWLEDGE_EVERY = 32768
"""Bytes that go one way before an acknowledgement is made up: less than the window."""


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _address(text: str) -> bytes:
    """An IP address in wire form; a name or a scope that cannot be one becomes 192.0.2.x."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return bytes((192, 0, 2, zlib.crc32(text.encode()) % 254 + 1))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).packed


class _Side:
    """One side of a made-up TCP connection."""

    __slots__ = ("address", "identification", "mac", "port", "sequence", "unacknowledged")

    def __init__(self, endpoint: Endpoint, mac: bytes) -> None:
        self.address = _address(endpoint.address)
        self.port = endpoint.port
        self.mac = mac
        # A plausible first sequence number that is the same for the same endpoints.
        self.sequence = zlib.crc32(f"{endpoint.address} {endpoint.port}".encode())
        self.identification = self.sequence & 0xFFFF
        self.unacknowledged = 0


def _ip(source: _Side, destination: _Side, payload: bytes) -> bytes:
    if len(source.address) == 4:
        source.identification = source.identification + 1 & 0xFFFF
        header = struct.pack(
            "!BBHHHBBH", 0x45, 0, 20 + len(payload), source.identification, 0x4000, 64, 6, 0
        )
        header += source.address + destination.address
        return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + payload
    header = struct.pack("!IHBB", 6 << 28, len(payload), 6, 64)
    return header + source.address + destination.address + payload


def _tcp_frame(source: _Side, destination: _Side, flags: int, payload: bytes) -> bytes:
    """One Ethernet frame; advances the sender's sequence number."""
    options = struct.pack("!BBH", 2, 4, _SEGMENT) if flags & SYN else b""
    acknowledged = destination.sequence if flags & ACK else 0
    header = struct.pack(
        "!HHIIBBHHH",
        source.port,
        destination.port,
        source.sequence,
        acknowledged,
        (20 + len(options)) // 4 << 4,
        flags,
        65535,
        0,
        0,
    )
    segment = header + options + payload
    pseudo = source.address + destination.address
    if len(source.address) == 4:
        pseudo += struct.pack("!BBH", 0, 6, len(segment))
    else:
        pseudo += struct.pack("!II", len(segment), 6)
    checksum = _checksum(pseudo + segment)
    segment = segment[:16] + struct.pack("!H", checksum) + segment[18:]
    advance = len(payload) + (1 if flags & (SYN | FIN) else 0)
    source.sequence = source.sequence + advance & 0xFFFFFFFF
    source.unacknowledged += advance
    destination.unacknowledged = 0
    ethertype = 0x0800 if len(source.address) == 4 else 0x86DD
    return (
        destination.mac
        + source.mac
        + struct.pack("!H", ethertype)
        + _ip(source, destination, segment)
    )


class CaptureWriter:
    """A capture file that conversations are written to while they happen.

    The name says the format: `.pcap` is a classic pcap file, anything else pcapng. A classic file
    holds one kind of conversation, and holds MCTP and DOE the way spdm-emu and spdm-dump do. One
    writer serves many connections and threads. Each packet is in the file when the call returns.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        """Create the file, over one of the same name.

        Args:
            path: where to.
            clock: gives nanoseconds since 1970 UTC.

        Raises:
            ConfigurationError: it cannot be created.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._classic = Path(path).suffix == ".pcap"
        self._buffer = io.BytesIO()
        self._writer: PcapWriter | PcapngWriter | None = None
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115  # closed by close()
        except OSError as error:
            raise ConfigurationError(
                f"cannot write the capture {path}: {error.strerror}"
            ) from error
        if not self._classic:
            self._writer = PcapngWriter(self._buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what is written afterwards is dropped."""
        with self._lock:
            if not self._file.closed:
                self._flush()  # a capture without packets has its header still waiting
                self._file.close()

    def tcp(
        self, local: tuple[str, int], remote: tuple[str, int], *, initiator: bool
    ) -> TcpCapture:
        """A TCP connection that has just been made.

        Args:
            local: our address and port.
            remote: the peer's.
            initiator: we connected, rather than accepted.
        """
        return TcpCapture(self, Endpoint(*local), Endpoint(*remote), initiator=initiator)

    def mctp(self, local_eid: int, remote_eid: int) -> MctpCapture:
        """Messages exchanged with an MCTP endpoint."""
        return MctpCapture(self, local_eid, remote_eid)

    def doe(self) -> DoeCapture:
        """Data objects exchanged with a PCI DOE mailbox."""
        return DoeCapture(self)

    def now(self) -> int:
        """The time for packets that pass now, nanoseconds since 1970 UTC."""
        return self._clock()

    def write(self, packets: list[Packet]) -> None:
        """Append packets; nothing else comes between them.

        Raises:
            ConfigurationError: the disk is full, or a classic file already holds another kind of
                conversation.
        """
        with self._lock:
            if self._file.closed:
                return
            for packet in packets:
                self._append(packet)
            self._flush()

    def _flush(self) -> None:
        pending = memoryview(self._buffer.getvalue())
        self._buffer = io.BytesIO()
        if self._writer is not None:
            self._writer.stream = self._buffer
        try:
            while pending:
                pending = pending[self._file.write(pending) :]
        except OSError as error:
            raise ConfigurationError(f"cannot write the capture: {error.strerror}") from error

    def _append(self, packet: Packet) -> None:
        writer = self._writer
        if writer is None:
            writer = self._writer = PcapWriter(self._buffer, packet.link_type)
        if isinstance(writer, PcapWriter) and writer.link_type != packet.link_type:
            raise ConfigurationError(
                "a .pcap file holds one kind of conversation", hint="capture to a .pcapng file"
            )
        writer.write(packet)

    @property
    def classic(self) -> bool:
        """Is it a classic pcap file?"""
        return self._classic


class TcpCapture:
    """One TCP connection in a capture file, seen from one of its ends."""

    def __init__(
        self, writer: CaptureWriter, local: Endpoint, remote: Endpoint, *, initiator: bool
    ) -> None:
        """Write the handshake."""
        self._writer = writer
        self._local = _Side(local, b"\x02spdm\x01")  # locally administered addresses
        self._remote = _Side(remote, b"\x02spdm\x02")
        if len(self._local.address) != len(self._remote.address):
            for side in (self._local, self._remote):
                side.address = (b"\xff\xff" + side.address).rjust(16, b"\0")[-16:]
        if self._local.sequence == self._remote.sequence:
            self._remote.sequence ^= 0x5A5A5A5A
        self._closed = False
        opener, other = self._local, self._remote
        if not initiator:
            opener, other = other, opener
        now = writer.now()
        writer.write(
            [
                self._packet(now, opener, other, SYN),
                self._packet(now, other, opener, SYN | ACK),
                self._packet(now, opener, other, ACK),
            ]
        )

    def sent(self, data: bytes) -> None:
        """We wrote these bytes to the connection."""
        self._data(self._local, self._remote, data)

    def received(self, data: bytes) -> None:
        """We read these bytes from the connection."""
        self._data(self._remote, self._local, data)

    def closed(self, *, by_peer: bool = False) -> None:
        """The connection is closed; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        first, second = self._local, self._remote
        if by_peer:
            first, second = second, first
        now = self._writer.now()
        self._writer.write(
            [
                self._packet(now, first, second, FIN | ACK),
                self._packet(now, second, first, FIN | ACK),
                self._packet(now, first, second, ACK),
            ]
        )

    def _data(self, source: _Side, destination: _Side, data: bytes) -> None:
        if self._closed or not data:
            return
        now = self._writer.now()
        packets = []
        for start in range(0, len(data), _SEGMENT):
            part = data[start : start + _SEGMENT]
            last = start + _SEGMENT >= len(data)
            packets.append(self._packet(now, source, destination, ACK | (PSH if last else 0), part))
            if source.unacknowledged >= _ACKNOWLEDGE_EVERY:
                packets.append(self._packet(now, destination, source, ACK))
        self._writer.write(packets)

    def _packet(
        self, now: int, source: _Side, destination: _Side, flags: int, payload: bytes = b""
    ) -> Packet:
        frame = _tcp_frame(source, destination, flags, payload)
        direction = Direction.OUTBOUND if source is self._local else Direction.INBOUND
        return Packet(now, LinkType.ETHERNET, frame, len(frame), direction=direction)


class MctpCapture:
    """Messages between two MCTP endpoints in a capture file, each as one packet."""

    def __init__(self, writer: CaptureWriter, local_eid: int, remote_eid: int) -> None:
        self._writer = writer
        self._local = local_eid
        self._remote = remote_eid
        self._tags = itertools.cycle(range(8))
        self._tag = 0

    def sent(self, message: bytes, *, owner: bool) -> None:
        """We sent a message.

        Args:
            message: it, from the message type byte on.
            owner: it starts an exchange (a request), rather than answers one.
        """
        self._write(message, self._local, self._remote, Direction.OUTBOUND, owner)

    def received(self, message: bytes, *, owner: bool) -> None:
        """We received a message; arguments as for `sent`."""
        self._write(message, self._remote, self._local, Direction.INBOUND, owner)

    def packet(self, data: bytes, *, outbound: bool) -> None:
        """One packet as it is on the medium, from its transport header on (DSP0236 8.1)."""
        if len(data) >= 4:
            self._append(data, Direction.OUTBOUND if outbound else Direction.INBOUND)

    def _write(
        self, message: bytes, source: int, destination: int, direction: Direction, owner: bool
    ) -> None:
        if owner:
            self._tag = next(self._tags)
        # Version 1, one packet that starts and ends the message (DSP0236 8.1).
        head = bytes((1, destination, source, 0xC0 | (0x08 if owner else 0) | self._tag))
        self._append(head + message, direction)

    def _append(self, data: bytes, direction: Direction) -> None:
        link_type = LinkType.EMU_MCTP
        if not self._writer.classic:
            link_type = LinkType.LINUX_SLL
            kind = 4 if direction is Direction.OUTBOUND else 0
            # ARPHRD_MCTP is 290, the address an endpoint ID, the protocol ETH_P_MCTP.
            data = struct.pack("!HHH8sH", kind, 290, 1, data[2:3], 0x00FA) + data
        packet = Packet(self._writer.now(), link_type, data, len(data), direction=direction)
        self._writer.write([packet])


class DoeCapture:
    """PCI DOE data objects in a capture file."""

    def __init__(self, writer: CaptureWriter) -> None:
        self._writer = writer

    def sent(self, data_object: bytes) -> None:
        """We wrote a data object, header and padding included."""
        self._write(data_object, Direction.OUTBOUND)

    def received(self, data_object: bytes) -> None:
        """We read a data object, header and padding included."""
        self._write(data_object, Direction.INBOUND)

    def _write(self, data: bytes, direction: Direction) -> None:
        link_type = LinkType.EMU_DOE
        if not self._writer.classic:
            link_type = LinkType.UPPER_PDU
            name = DOE_DISSECTOR + bytes(-len(DOE_DISSECTOR) & 3)
            head = struct.pack("!HH", UPPER_PDU_DISSECTOR, len(name)) + name
            data = head + struct.pack("!HH", UPPER_PDU_END, 0) + data
        packet = Packet(self._writer.now(), link_type, data, len(data), direction=direction)
        self._writer.write([packet])
