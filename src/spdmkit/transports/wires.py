"""asyncio over a `Wire` that is no TCP socket: a tty, a datagram socket, an MCTP socket."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from spdmkit.transports.registry import Wire

__all__ = ["WireTransport"]

HIGH_WATER = 0x2_0000
"""Bytes waiting to be sent at which the protocol is told to pause."""
READ_SIZE = 0x1_0010


class WireTransport(asyncio.Transport):
    """What `AsyncConnection` uses of an asyncio transport, over `add_reader` and `add_writer`.

    Each write stays one `send`, so that datagrams keep their bounds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wire: Wire, protocol: asyncio.BufferedProtocol
    ) -> None:
        super().__init__()
        self._loop = loop
        self._wire = wire
        self._protocol = protocol
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0
        self._paused = False
        self._reading = False
        self._closing = False
        self._lost = False
        self._descriptor = wire.fileno()
        protocol.connection_made(self)
        self.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The wire, where a TCP transport has its socket."""
        return self._wire if name == "socket" else default

    def is_closing(self) -> bool:
        """True once `close` or `abort` was called or the wire broke."""
        return self._closing

    def can_write_eof(self) -> bool:
        """A wire has no half-close."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes accepted and not sent yet."""
        return self._queued

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Take what comes again."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now, or when the wire takes it."""
        if self._closing:
            return
        self._queue.append(bytes(data))
        self._queued += len(data)
        if len(self._queue) == 1:
            self._flush()
        if self._queue and not self._lost:
            self._loop.add_writer(self._descriptor, self._flush)
            if self._queued > HIGH_WATER and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    def close(self) -> None:
        """Send what is queued, then close."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            if not self._queue:
                self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        """Close now."""
        self._break(None)

    def _readable(self) -> None:
        try:
            data = self._wire.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        if not data:
            self.pause_reading()
            if not self._protocol.eof_received():
                self.close()
            return
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._lost:
            buffer = memoryview(self._protocol.get_buffer(len(view)))
            size = min(len(view), len(buffer))
            buffer[:size] = view[:size]
            self._protocol.buffer_updated(size)
            view = view[size:]

    def _flush(self) -> None:
        while self._queue:
            head = self._queue[0]
            try:
                sent = self._wire.send(head)
            except BlockingIOError:
                break
            except OSError as error:
                self._break(error)
                return
            self._queued -= sent
            if sent == len(head):
                self._queue.popleft()
            else:
                self._queue[0] = memoryview(head)[sent:]
        if self._paused and self._queued <= HIGH_WATER // 4:
            self._paused = False
            self._protocol.resume_writing()
        if not self._queue:
            self._loop.remove_writer(self._descriptor)
            if self._closing:
                self._end(None)

    def _break(self, error: OSError | None) -> None:
        self.pause_reading()
        self._closing = True
        self._queue.clear()
        self._queued = 0
        self._loop.remove_writer(self._descriptor)
        self._loop.call_soon(self._end, error)

    def _end(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = True
        try:
            self._protocol.connection_lost(error)
        finally:
            self._wire.close()
