"""Bytes on a TCP connection, for cases about the binding itself; and relays that spoil them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from spdmkit.conformance.talk import Finding, Stopped
from spdmkit.errors import TransportError
from spdmkit.transports.dial import dial
from spdmkit.transports.uri import Host

__all__ = ["Reply", "Spoiler", "Wire", "WireMisbehaviour", "relay"]

HEADER = 4
LARGEST = 0xFFFF + HEADER


@dataclass(frozen=True, slots=True)
class Reply:
    """A binding header and what follows it, as far as it came.

    Attributes:
        length: PayloadLen.
        version: BindingVer.
        message_type: MessageType.
        body: the bytes after the header, as many as came in time.
    """

    length: int
    version: int
    message_type: int
    body: bytes


@dataclass(slots=True)
class Wire:
    """A fresh TCP connection to a listener.

    Attributes:
        host: where.
        patience: seconds to wait for bytes.
        clause: where the rules stand.
        findings: what was asserted.
    """

    host: Host
    patience: float
    clause: str
    findings: list[Finding] = field(default_factory=list)
    _socket: socket.socket | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Wire:
        self._socket = dial(self.host, self.patience)
        self._socket.setblocking(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    @property
    def _open(self) -> socket.socket:
        if self._socket is None:
            raise TransportError("the connection is not open")
        return self._socket

    def send(self, data: bytes) -> None:
        """Write bytes in one go."""
        with contextlib.suppress(OSError):  # a peer that closed already shows in what it answers
            self._open.sendall(data)

    def send_slowly(self, data: bytes) -> None:
        """Write bytes one by one, each in a segment of its own."""
        self._open.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(data)):
            self.send(data[index : index + 1])
            time.sleep(0.002)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer when no more come in time, or the peer closes."""
        data = b""
        until = time.monotonic() + self.patience
        while len(data) < size:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._open.settimeout(left)
            try:
                part = self._open.recv(size - len(data))
            except OSError:
                break
            if not part:
                break
            data += part
        return data

    def reply(self, body: int = 0) -> Reply | None:
        """A header and `body` bytes after it; None when not even a header came."""
        head = self.read(HEADER)
        if len(head) < HEADER:
            return None
        rest = self.read(body) if body else b""
        return Reply(int.from_bytes(head[:2], "little"), head[2], head[3], rest)

    def closed(self) -> bool:
        """Whether the peer closes the connection in time; what it still sends is passed over."""
        until = time.monotonic() + self.patience
        while (left := until - time.monotonic()) > 0:
            self._open.settimeout(left)
            try:
                if not self._open.recv(LARGEST):
                    return True
            except ConnectionError:
                return True
            except OSError:
                return False
        return False

    # -- assertions -----------------------------------------------------------------------------

    def check(self, holds: bool, words: str) -> bool:
        """Assert something."""
        self.findings.append(Finding(bool(holds), words, self.clause))
        return bool(holds)

    def need(self, holds: bool, words: str) -> None:
        """Assert something without which the rest makes no sense."""
        if not self.check(holds, words):
            raise Stopped


Spoiler: TypeAlias = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class WireMisbehaviour:
    """How a listener breaks a rule of the binding.

    Attributes:
        to_peer: changes what the listener sends, read by read.
        from_peer: changes what it receives.
        stays: it does not close when it should.
    """

    to_peer: Spoiler = bytes
    from_peer: Spoiler = bytes
    stays: bool = False


async def relay(misbehaviour: WireMisbehaviour, behind: Host, front: Host) -> asyncio.Server:
    """Listen in front of another listener and spoil what passes.

    Args:
        misbehaviour: how.
        behind: the listener that is to be spoiled.
        front: where to listen; port 0 takes any.
    """

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(behind.name, behind.port)
        forth = asyncio.ensure_future(_pump(reader, far_writer, misbehaviour.from_peer))
        try:
            await _pump(far_reader, writer, misbehaviour.to_peer)
            if misbehaviour.stays:
                await forth
        finally:
            forth.cancel()
            for each in (writer, far_writer):
                each.close()

    return await asyncio.start_server(carry, front.name or None, front.port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoil: Spoiler) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(LARGEST):
            writer.write(spoil(data))
            await writer.drain()
