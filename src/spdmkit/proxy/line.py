"""The side of the device: a conversation over whatever transport reaches it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, cast

from spdmkit.errors import DeadlineExceeded, SpdmError, TransportError
from spdmkit.protocol.frames import Frame
from spdmkit.proxy.bus import SerialBuses
from spdmkit.proxy.watching import watched
from spdmkit.transports.conduit import TapFactory
from spdmkit.transports.dial import cannot_connect, reason_of, resolve, tune
from spdmkit.transports.framing import (
    BindingError,
    Framing,
    Goodbye,
    Reply,
    Role,
    Side,
)
from spdmkit.transports.mctp.messages import MctpMessageFraming
from spdmkit.transports.mctp.transport import requester_framing
from spdmkit.transports.registry import framing_for, is_socket_scheme, transport_for
from spdmkit.transports.uri import EndpointUri, Host, SerialLine
from spdmkit.transports.wires import WireTransport

__all__ = ["DeviceLine", "open_line", "open_socket"]

READ_SIZE = 0x4000
"""Bytes read at once; longer messages come in several reads."""
DATAGRAM = 0x1_0010
GOODBYE = 2.0
"""Seconds that the emulator has to answer our goodbye."""


class DeviceLine(asyncio.BufferedProtocol):
    """An open conversation with a device, in which we are the requester.

    Attributes:
        framing: its framing.
        on_frame: called with each frame that comes.
        on_lost: called once when the conversation cannot go on.
        error: why it cannot.
    """

    def __init__(self, framing: Framing, *, read_size: int = READ_SIZE) -> None:
        """A conversation over a transport that is about to be connected.

        Args:
            framing: nothing sent or received yet.
            read_size: bytes taken at once; of datagrams, all that one can have.
        """
        self.framing = framing
        framing.secured_allowed = True
        self.on_frame: Callable[[Frame], None] = lambda _frame: None
        self.on_lost: Callable[[SpdmError], None] = lambda _error: None
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        # Most framings know no time, and are not asked with every request.
        self._timed = type(framing).next_deadline is not Framing.next_deadline
        self._buffer = memoryview(bytearray(read_size))
        self._transport: asyncio.Transport | None = None
        self._over = False
        self.error: SpdmError | None = None

    # -- what the proxy calls -------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        """Send a request.

        Raises:
            TransportError: it does not fit, or the conversation is over.
        """
        if self._over or self._transport is None:
            raise TransportError("the device's line is closed")
        self._transport.write(self.framing.pack(frame))

    def next_deadline(self) -> float | None:
        """When `on_time` has something to do."""
        return self.framing.next_deadline() if self._timed and not self._over else None

    def on_time(self, now: float) -> None:
        """Time has passed: a request may have to be sent again."""
        due = self.next_deadline()
        if due is not None and now >= due:
            self.framing.on_time(now)
            self._process()

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        counts = getattr(getattr(self.framing, "station", None), "counts", None)
        return int(counts["retried"]) if counts is not None else 0

    @property
    def eid(self) -> int | None:
        """The device's endpoint id, where the line's opening told it."""
        found = getattr(self.framing, "found", None)
        return None if found is None else int(found.eid)

    async def open(self, patience: float) -> None:
        """Wait until the opening is over (the emulator's hello, MCTP's control protocol).

        Raises:
            SpdmError: the device does not answer, or is no SPDM device.
        """
        deadline = time.monotonic() + patience
        while not self.opened.done():
            due = self.next_deadline()
            now = time.monotonic()
            if now >= deadline:
                raise DeadlineExceeded("the device did not open the conversation")
            await asyncio.wait(
                [self.opened], timeout=min(deadline, deadline if due is None else due) - now
            )
            self.on_time(time.monotonic())
        self.opened.result()

    async def close(self) -> None:
        """End the conversation in good order, and wait until its descriptor is closed."""
        if self._transport is not None and not self._transport.is_closing():
            ending = b"" if self._over else self.framing.end()
            if ending:
                self._transport.write(ending)
            if ending and self.framing.awaits_goodbye:
                await asyncio.wait([self.closed], timeout=GOODBYE)
            self._over = True
            self._transport.close()
            await asyncio.wait([self.closed], timeout=GOODBYE)
            if not self.closed.done():
                self._transport.abort()
        if self._transport is not None:
            await self.closed

    def abort(self) -> None:
        """Close at once."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    # -- what asyncio calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport stands."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if isinstance(sock, socket.socket):
            tune(sock)
        self._send_bytes(self.framing.start())
        self._process()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Something was read."""
        data = bytes(self._buffer[:nbytes])
        frame = self.framing.whole(data)
        if frame is not None:
            self.on_frame(frame)
        else:
            self.framing.receive(data)
            self._process()

    def eof_received(self) -> bool:
        """The device sends nothing more."""
        self._lost(self.framing.closed())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        if exc is None:
            self._lost(TransportError("the device's line was closed"))
        else:
            self._lost(TransportError(f"the device's line broke: {exc}"))
        if not self.closed.done():
            self.closed.set_result(None)

    # -- inside ---------------------------------------------------------------------------------

    def _process(self) -> None:
        framing = self.framing
        while not self._over and (event := framing.next_event()) is not None:
            if isinstance(event, Frame):
                self.on_frame(event)
            elif isinstance(event, Reply):
                self._send_bytes(event.data)
            elif isinstance(event, BindingError):
                self._send_bytes(event.reply)
                self._lost(event.error)
            elif isinstance(event, Goodbye):
                self._send_bytes(event.reply)
                self._lost(TransportError("the device ended the conversation"))
        if framing.ready and not self.opened.done():
            self.opened.set_result(None)

    def _send_bytes(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _lost(self, error: SpdmError) -> None:
        if self._over:
            return
        self._over = True
        self.error = error
        if not self.opened.done():
            self.opened.set_exception(error)
            # Whoever opens looks at it; if nobody does, it is nobody's mistake.
            self.opened.exception()
        if self._transport is not None:
            self._transport.close()
        self.on_lost(error)


async def open_socket(host: Host, patience: float) -> socket.socket:
    """Connect to a host.

    Raises:
        DeadlineExceeded: no answer in time.
        TransportError: refused, or the name does not resolve.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            if host.is_literal:
                addresses = resolve(host)
            else:
                addresses = await loop.run_in_executor(None, resolve, host)
            return await _connected(loop, addresses)
    except TimeoutError:
        raise DeadlineExceeded(f"no answer from {host} when connecting") from None
    except OSError as error:
        raise cannot_connect(host, reason_of(error)) from error


async def _connected(
    loop: asyncio.AbstractEventLoop, addresses: list[tuple[int, tuple[Any, ...]]]
) -> socket.socket:
    failure = OSError("no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def open_line(
    uri: EndpointUri,
    patience: float,
    tap: TapFactory | None = None,
    buses: SerialBuses | None = None,
) -> DeviceLine:
    """Reach a device.

    Args:
        uri: its address.
        patience: seconds for connecting, and again for opening.
        tap: sees all bytes, for a capture.
        buses: serial lines that several devices share.

    Raises:
        SpdmError: it is not there, or is no SPDM device.
    """
    loop = asyncio.get_running_loop()
    if is_socket_scheme(uri.scheme):
        framing = framing_for(uri, Side.INITIATOR, [Role.REQUESTER])
        sock = await open_socket(uri.host, patience)
        line = DeviceLine(framing)
        try:
            await loop.create_connection(lambda: watched(line, tap), sock=sock)
        except OSError as error:
            sock.close()
            raise TransportError(f"the device's line broke: {error}") from error
    elif buses is not None and isinstance(uri.address, SerialLine) and buses.shares(uri):
        line = DeviceLine(requester_framing(uri.address, assigns=False))
        buses.sit(uri, watched(line, tap, ("mctp", str(uri))))
    else:
        dialled = transport_for(uri).dial(uri, role=Role.REQUESTER, timeout=patience)
        datagrams = isinstance(dialled.framing, MctpMessageFraming)
        line = DeviceLine(dialled.framing, read_size=DATAGRAM if datagrams else READ_SIZE)
        WireTransport(loop, dialled.wire, watched(line, tap, (dialled.local, dialled.peer)))
    try:
        await line.open(patience)
    except BaseException:
        line.abort()
        # A tty has one user: it must be free again before anybody tries once more.
        await line.closed
        raise
    return line
