"""Serial lines with a bridge at the other end: several devices, told apart by endpoint id.

A tty has one reader. Where several devices are behind one, their conversations share it: each gets
the packets that come from its endpoint, and writes whole packets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from spdmkit.errors import ConfigurationError
from spdmkit.transports.mctp import serial
from spdmkit.transports.mctp.packets import HEADER_SIZE
from spdmkit.transports.mctp.tty import open_tty
from spdmkit.transports.uri import EndpointUri, SerialLine
from spdmkit.transports.wires import WireTransport

__all__ = ["SerialBuses"]

READ_SIZE = 0x1000
_SOURCE = 2
"""Where a packet has its source (DSP0236 8.1)."""


class _Seat(asyncio.Transport):
    """What a conversation sees of the line."""

    def __init__(self, bus: _SerialBus, eid: int, sitter: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._bus = bus
        self.eid = eid
        self.sitter = sitter
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002  # asyncio's signature
        """Nothing: there is no socket."""
        return default

    def is_closing(self) -> bool:
        """True once it was closed."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Whole packets, for one write."""
        if not self._closing:
            self._bus.write(bytes(data))

    def close(self) -> None:
        """Leave the line, which stays open for the others."""
        self.lost(None)

    def abort(self) -> None:
        """The same."""
        self.lost(None)

    def hand_over(self, data: bytes) -> None:
        """A packet came for this conversation; no packet is larger than any buffer."""
        buffer = memoryview(self.sitter.get_buffer(len(data)))
        buffer[: len(data)] = data
        self.sitter.buffer_updated(len(data))

    def lost(self, error: Exception | None) -> None:
        """The conversation is over."""
        if self._closing:
            return
        self._closing = True
        self._bus.leave(self)
        asyncio.get_running_loop().call_soon(self.sitter.connection_lost, error)


class _SerialBus(asyncio.BufferedProtocol):
    """One open tty and who sits on it."""

    def __init__(self, address: SerialLine) -> None:
        self._seats: dict[int, _Seat] = {}
        self._decoder = serial.SerialDecoder()
        self._buffer = memoryview(bytearray(READ_SIZE))
        self.gone = False
        tty = open_tty(address.device, address.baud)
        self._transport = WireTransport(asyncio.get_running_loop(), tty, self)

    def sit(self, eid: int, sitter: asyncio.BufferedProtocol) -> None:
        if eid in self._seats:
            raise ConfigurationError(f"endpoint {eid} has a conversation on this line already")
        seat = self._seats[eid] = _Seat(self, eid, sitter)
        sitter.connection_made(seat)

    def leave(self, seat: _Seat) -> None:
        self._seats.pop(seat.eid, None)
        if not self._seats and not self.gone:
            self.gone = True
            # A line that takes nothing must not keep what nobody waits for, nor the tty.
            self._transport.abort()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        for packet in self._decoder.feed(bytes(self._buffer[:nbytes])):
            seat = self._seats.get(packet[_SOURCE]) if len(packet) >= HEADER_SIZE else None
            if seat is not None:
                seat.hand_over(serial.encode(packet))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        for seat in list(self._seats.values()):
            seat.lost(exc or OSError("the line was closed"))


class SerialBuses:
    """The lines that are shared; each is open while somebody sits on it."""

    def __init__(self, paths: Collection[str] = ()) -> None:
        """Share the ttys at these paths."""
        self._paths = frozenset(paths)
        self._open: dict[str, _SerialBus] = {}

    def shares(self, uri: EndpointUri) -> bool:
        """Whether an address is one of several on its line."""
        return isinstance(uri.address, SerialLine) and uri.address.device in self._paths

    def sit(self, uri: EndpointUri, sitter: asyncio.BufferedProtocol) -> None:
        """Begin a conversation with the endpoint that an address names.

        Raises:
            ConfigurationError: it names none, or has one already.
            TransportError: the tty cannot be opened.
        """
        address = uri.address
        if not isinstance(address, SerialLine) or address.peer is None:
            raise ConfigurationError(f"{uri}: several devices on one line need peer=")
        bus = self._open.get(address.device)
        if bus is None or bus.gone:
            bus = self._open[address.device] = _SerialBus(replace(address, peer=None))
        bus.sit(address.peer, sitter)
