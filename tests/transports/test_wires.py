"""Transports that later modules add: both drivers over a wire of datagrams that is no TCP."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import tty
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spdmkit.errors import SpdmError, TransportError
from spdmkit.protocol.frames import Frame
from spdmkit.transports import aio, blocking, mctp_body
from spdmkit.transports.framing import BindingError, Framing, FramingEvent, Role
from spdmkit.transports.registry import Line, register_transport
from spdmkit.transports.server import Happening, Limits, ListenerEvent, listen
from spdmkit.transports.uri import EndpointUri, MctpAddress

from .support import (
    ECHO,
    SILENT,
    VERSION,
    Responders,
    ask,
    ask_all,
    ask_version,
    request,
    requester,
    soon,
)


class OneMessage(Framing):
    """Each datagram is one MCTP message body."""

    name = "mctp"

    def __init__(self, role: Role) -> None:
        super().__init__(role)
        self._datagrams: deque[bytes] = deque()

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        self._datagrams.append(bytes(data))

    def next_event(self) -> FramingEvent | None:
        if not self._datagrams:
            return None
        try:
            return mctp_body.decode(self._datagrams.popleft())
        except TransportError as error:
            return BindingError(error)

    def pack(self, frame: Frame) -> bytes:
        return mctp_body.encode(frame)

    def pending(self) -> int:
        return 0


class Acceptor:
    """Accepts on a local socket that keeps the bounds of what is sent."""

    def __init__(self, uri: EndpointUri, path: str) -> None:
        self.uri = replace(uri, address=MctpAddress(1, 9))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(path)
        self._socket.listen(8)
        self._socket.setblocking(False)
        self.broken = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> Line | None:
        try:
            sock, _address = self._socket.accept()
        except BlockingIOError:
            return None
        sock.setblocking(False)
        if self.broken:
            self.broken -= 1
            sock.close()
            raise TransportError("a device that is out of order")
        return Line(sock, OneMessage(Role.RESPONDER), "mctp:9", "mctp:20")

    def close(self) -> None:
        self._socket.close()


class Local:
    """The transport: one path, whatever the address says."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.acceptor: Acceptor | None = None

    def dial(self, uri: EndpointUri, *, role: Role, timeout: float) -> Line:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(self.path)
        except OSError as error:
            sock.close()
            raise TransportError(f"cannot connect: {error.strerror}") from error
        sock.setblocking(False)
        return Line(sock, OneMessage(role), "mctp:20", "mctp:9")

    def listen(self, uri: EndpointUri, *, roles: Collection[Role]) -> Acceptor:
        self.acceptor = Acceptor(uri, self.path)
        return self.acceptor


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    monkeypatch.setattr("spdmkit.transports.registry._factories", {})
    transport = Local(str(tmp_path / "bus"))
    register_transport("mctp", transport)
    return transport


@pytest.fixture
async def served(local: Local) -> AsyncIterator[tuple[Any, list[ListenerEvent], Local]]:
    events: list[ListenerEvent] = []
    listener = await listen(
        "mctp://1/any", Responders(), on_event=events.append, limits=Limits(connections=3)
    )
    yield listener, events, local
    await listener.close(grace=0)


Served = tuple[Any, list[ListenerEvent], Local]


async def test_asyncio_over_a_wire(served: Served) -> None:
    listener, events, _local = served
    assert str(listener.uri) == "mctp://1/9"
    async with await aio.connect(listener.uri, requester) as connection:
        answers = await connection.run(ask_all(ECHO, ECHO))
        assert answers[0] == VERSION
        body = bytes(60_000)
        assert (await connection.run(ask(request(ECHO, body))))[4:] == body
        assert connection.info.peer == "mctp:9"
    await soon(lambda: not listener.connections)
    assert [event.what for event in events] == [Happening.OPENED, Happening.ENDED]


async def test_blocking_over_a_wire(served: Served) -> None:
    listener, _events, _local = served

    def converse() -> list[bytes]:
        with blocking.connect(listener.uri, requester) as connection:
            return connection.run(ask_all(ECHO))

    assert (await asyncio.to_thread(converse))[0] == VERSION


async def test_many_messages_that_wait_to_be_sent(served: Served) -> None:
    """More than the socket takes at once: writing stops, goes on, and keeps every bound."""
    listener, _events, _local = served
    async with await aio.connect(listener.uri, requester) as connection:
        await connection.run(ask_version())
        for number in range(30):
            body = bytes((number,)) * 50_000
            assert (await connection.run(ask(request(ECHO, body))))[4:] == body


async def test_a_peer_that_takes_nothing_stops_our_reading(served: Served) -> None:
    listener, _events, local = served
    line = local.dial(listener.uri, role=Role.REQUESTER, timeout=1)
    message = mctp_body.encode(request(ECHO, bytes(30_000)))
    sent = 0
    for _ in range(200):
        with suppress(BlockingIOError):
            line.wire.send(message)
            sent += 1
        await asyncio.sleep(0.001)
    assert sent < 200
    [connection] = listener.connections
    assert connection.endpoint is not None
    got = 0
    while got < sent:
        try:
            assert line.wire.recv(0x1_0000) == message
            got += 1
        except BlockingIOError:
            await asyncio.sleep(0.001)
    line.wire.close()
    await soon(lambda: not listener.connections)


async def test_what_is_not_spdm_ends_the_connection(served: Served) -> None:
    listener, events, local = served
    line = local.dial(listener.uri, role=Role.REQUESTER, timeout=1)
    line.wire.send(b"\x7e\x80\x86")
    await soon(lambda: len(events) == 2)
    assert "not SPDM" in str(events[1].error)
    line.wire.close()


async def test_limits_and_faults_in_accepting(served: Served) -> None:
    listener, events, local = served
    lines = [local.dial(listener.uri, role=Role.REQUESTER, timeout=1) for _ in range(3)]
    await soon(lambda: len(listener.connections) == 3)
    assert local.acceptor is not None
    local.acceptor.broken = 1
    lines.append(local.dial(listener.uri, role=Role.REQUESTER, timeout=1))
    await soon(lambda: events[-1].what is Happening.FAILED)
    # Nobody has negotiated: the oldest gives way to the newcomer.
    lines.append(local.dial(listener.uri, role=Role.REQUESTER, timeout=1))
    await soon(lambda: any(event.what is Happening.EVICTED for event in events))
    for line in lines:
        line.wire.close()
    await soon(lambda: not listener.connections)


async def test_nobody_on_the_bus(local: Local) -> None:
    with pytest.raises(TransportError, match="cannot connect"):
        await aio.connect("mctp://1/9", requester)
    with pytest.raises(TransportError, match="cannot connect"):
        blocking.connect("mctp://1/9", requester)


async def test_cancelling_over_a_wire(served: Served) -> None:
    listener, _events, _local = served
    connection = await aio.connect(listener.uri, requester)
    await connection.run(ask_version())
    task = asyncio.create_task(connection.run(ask(request(SILENT))))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connection.closed
    await connection.wait_closed()
    await soon(lambda: not listener.connections)


class Tty:
    """A pseudo terminal's file descriptor as a wire: read and write instead of recv and send."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor

    def recv(self, size: int, /) -> bytes:
        return os.read(self.descriptor, size)

    def send(self, data: bytes | memoryview, /) -> int:
        return os.write(self.descriptor, data)

    def close(self) -> None:
        os.close(self.descriptor)


async def test_a_wire_that_breaks() -> None:
    """The other end of a terminal is gone: EIO, not an orderly end."""
    master, slave = os.openpty()
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray(16)

        def buffer_updated(self, nbytes: int) -> None:
            raise AssertionError

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    from spdmkit.transports.wires import WireTransport

    transport = WireTransport(asyncio.get_running_loop(), Tty(master), Protocol())
    assert not transport.is_closing()
    os.close(slave)
    assert isinstance(await asyncio.wait_for(lost, 5), OSError)
    assert transport.is_closing()
    transport.write(b"nothing comes of it")
    transport.close()


def test_blocking_over_a_wire_that_breaks(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)

    def dial(uri: EndpointUri, *, role: Role, timeout: float) -> Line:
        return Line(Tty(master), OneMessage(role), "us", "them")

    monkeypatch.setattr(local, "dial", dial)
    connection = blocking.connect("mctp://1/9", requester)
    timer = threading.Timer(0.05, os.close, (slave,))
    timer.start()
    with pytest.raises(SpdmError, match="broke"):
        connection.run(ask_version())
    timer.join()
    assert connection.closed
