"""The side of the verifier: a TCP connection in either direction, in which we pass for the device.

The length dialect of DSP0287 is a matter of this hop alone and handled here; what the frames carry
is left as it is. Reading stops while a request is under way: the next one stays in the kernel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from spdmkit.errors import SpdmError, TransportError
from spdmkit.protocol.frames import Frame
from spdmkit.transports.dial import tune
from spdmkit.transports.framing import BindingError, Dialect, Role, Side
from spdmkit.transports.tcp import TcpBinding

__all__ = ["Client"]

READ_SIZE = 0x4000
_RECORD_SEQUENCES = (0, 2)
"""Sequence number bytes of records that may pass: MCTP's, and those of a verifier that finds out
which records the device has."""


class Client(asyncio.BufferedProtocol):
    """A verifier's connection.

    Attributes:
        binding: its framing.
        on_frame: told that `take` may have a frame.
        on_whole: offered a frame that came alone; when it is declined, `take` has it.
        on_gone: called once when the connection cannot go on; with the error, or None when the
            verifier closed it in good order.
        on_flushed: called when what we sent is taken again after a pause.
        congested: what we sent is not taken now.
        closed: done when the connection is gone.
        left: why the connection cannot go on, True for an end in good order, False while it can.
    """

    def __init__(self, side: Side, *, dialect: Dialect | None = None) -> None:
        """A connection that is about to be made.

        Args:
            side: who opens it; as initiator we begin with Role-Inquiry (DSP0287 6.2).
            dialect: the verifier's, None to find it out.
        """
        self.binding = TcpBinding(
            side, [Role.RESPONDER], dialect=dialect, sequence_sizes=_RECORD_SEQUENCES
        )
        # The device knows which sessions there are; we do not.
        self.binding.secured_allowed = True
        self.on_frame: Callable[[], None] = lambda: None
        self.on_whole: Callable[[Frame], bool] = lambda _frame: False
        self.on_gone: Callable[[SpdmError | None], None] = lambda _error: None
        self.on_flushed: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.congested = False
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._transport: asyncio.Transport | None = None
        self._gone = False
        self._reading = True
        self.left: SpdmError | bool = False

    # -- what the proxy calls -------------------------------------------------------------------

    def take(self) -> Frame | None:
        """The next whole frame; None while there is none, or when the connection is over."""
        if self._gone:
            return None
        event = self.binding.next_event()
        if isinstance(event, Frame):
            return event
        if isinstance(event, BindingError):
            self._write(event.reply)
            self._over(event.error)
        return None

    @property
    def idle(self) -> bool:
        """Nothing came that was not taken, and what comes is read."""
        return self._reading and not self.binding.pending()

    def send(self, frame: Frame) -> None:
        """Send the answer.

        Raises:
            TransportError: it does not fit one frame of the verifier's dialect.
        """
        if self._transport is not None:
            self._transport.write(self.binding.pack(frame))

    def rest(self) -> None:
        """Read nothing more for now."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def listen(self) -> None:
        """Read again."""
        if not self._reading and self._transport is not None and not self._gone:
            self._reading = True
            self._transport.resume_reading()

    def close(self) -> None:
        """Close once what was sent is taken; `closed` tells when."""
        self._gone = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._gone = True
        if self._transport is not None:
            self._transport.abort()

    # -- what asyncio calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            tune(cast("socket.socket", sock))
        self._write(self.binding.start())

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Something was read."""
        data = bytes(self._buffer[:nbytes])
        frame = self.binding.whole(data)
        if frame is None or not self.on_whole(frame):
            self.binding.receive(data)
            self.on_frame()

    def eof_received(self) -> bool:
        """The verifier sends nothing more: it has what it wants."""
        self._over(None if not self.binding.pending() else self.binding.closed())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._over(None if exc is None else TransportError(f"the connection broke: {exc}"))
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The verifier does not take what we send."""
        self.congested = True

    def resume_writing(self) -> None:
        """It does again."""
        self.congested = False
        self.on_flushed()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _over(self, error: SpdmError | None) -> None:
        if self._gone:
            return
        self._gone = True
        self.left = error or True
        self.on_gone(error)
