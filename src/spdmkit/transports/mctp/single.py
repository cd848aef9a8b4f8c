"""Listening on what can carry one conversation at a time: a serial line, a pair of MCTP sockets."""

from __future__ import annotations

import select
from collections.abc import Callable

from spdmkit.transports.registry import Line, Wire
from spdmkit.transports.uri import EndpointUri

__all__ = ["LentWire", "SingleLineAcceptor"]


class LentWire:
    """The one wire, lent to a conversation; closing gives it back."""

    def __init__(self, wire: Wire, returned: Callable[[bool], None]) -> None:
        """Lend it; `returned` is told once, with whether the wire broke."""
        self._wire = wire
        self._returned: Callable[[bool], None] | None = returned
        self._broken = False

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._wire.fileno()

    def recv(self, size: int, /) -> bytes:
        """What came."""
        try:
            data = self._wire.recv(size)
        except BlockingIOError:
            raise
        except OSError:
            self._broken = True
            raise
        self._broken = self._broken or not data
        return data

    def send(self, data: bytes | memoryview, /) -> int:
        """Send."""
        return self._wire.send(data)

    def close(self) -> None:
        """Give it back."""
        returned, self._returned = self._returned, None
        if returned is not None:
            returned(self._broken)


class SingleLineAcceptor:
    """A conversation begins with the first bytes that come, and the next one when it has ended.

    The descriptor to wait on is an epoll that watches the wire only while nobody converses.
    A wire that broke is not listened on again.
    """

    def __init__(
        self,
        uri: EndpointUri,
        wire: Wire,
        line: Callable[[Wire], Line],
    ) -> None:
        """Listen.

        Args:
            uri: where.
            wire: what came to us; closed with the acceptor.
            line: makes the conversation over a lent wire.
        """
        self._uri = uri
        self._wire = wire
        self._line = line
        self._epoll = select.epoll()
        self._lent = False
        self._closed = False
        self._epoll.register(wire.fileno(), select.EPOLLIN)

    @property
    def uri(self) -> EndpointUri:
        """Where it listens."""
        return self._uri

    def fileno(self) -> int:
        """Readable when somebody speaks and no conversation is under way."""
        return self._epoll.fileno()

    def accept(self) -> Line | None:
        """The conversation that has begun, or None."""
        if self._lent or self._closed or not self._epoll.poll(0):
            return None
        self._epoll.unregister(self._wire.fileno())
        self._lent = True
        return self._line(LentWire(self._wire, self._returned))

    def close(self) -> None:
        """Stop listening; a conversation under way keeps the wire until it ends."""
        if self._closed:
            return
        self._closed = True
        self._epoll.close()
        if not self._lent:
            self._wire.close()

    def _returned(self, broken: bool) -> None:
        self._lent = False
        if self._closed:
            self._wire.close()
        elif not broken:
            self._epoll.register(self._wire.fileno(), select.EPOLLIN)
