"""A tap between an asyncio transport and its protocol, for a capture of both sides of the proxy."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from spdmkit.transports.conduit import Tap, TapFactory
from spdmkit.transports.dial import address_text

__all__ = ["watched"]


def watched(
    protocol: asyncio.BufferedProtocol, make: TapFactory | None, names: tuple[str, str] = ("", "")
) -> asyncio.BufferedProtocol:
    """The protocol, with a tap on all that it reads and writes; itself when there is no tap.

    Args:
        protocol: whose bytes to see.
        make: makes the tap when the connection stands.
        names: our end and the other, where the transport has no socket addresses.
    """
    return protocol if make is None else _Watched(protocol, make, names)


class _Watched(asyncio.BufferedProtocol):
    """Hands everything on, and shows it to the tap."""

    def __init__(
        self, inner: asyncio.BufferedProtocol, make: TapFactory, names: tuple[str, str]
    ) -> None:
        self._inner = inner
        self._make = make
        self._names = names
        self._tap: Tap | None = None
        self._buffer: Any = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport stands."""
        ours, theirs = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        local, peer = self._names
        if isinstance(ours, tuple) and isinstance(theirs, tuple):
            local, peer = address_text(ours), address_text(theirs)
        self._tap = self._make(local, peer)
        shown = _ShowingTransport(cast("asyncio.Transport", transport), self._tap)
        self._inner.connection_made(cast("asyncio.Transport", shown))

    def get_buffer(self, sizehint: int) -> Any:
        """Where to read to."""
        self._buffer = self._inner.get_buffer(sizehint)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Something was read."""
        if self._tap is not None:
            self._tap.received(bytes(self._buffer[:nbytes]))
        self._inner.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        """The other end sends nothing more."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """What was written waits."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It was taken."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        if self._tap is not None:
            self._tap.closed()
        self._inner.connection_lost(exc)


class _ShowingTransport:
    """A transport whose writes a tap sees."""

    def __init__(self, transport: asyncio.Transport, tap: Tap) -> None:
        self._transport = transport
        self._tap = tap

    def write(self, data: bytes) -> None:
        """Write, and show."""
        self._tap.sent(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
