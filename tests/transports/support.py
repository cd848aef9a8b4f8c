"""A small responder of our own, so that the drivers are tested without the protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from spdmkit.errors import DeadlineExceeded, TransportError
from spdmkit.protocol.actions import Closed, DeadlinePassed, Exchange, Send, perform
from spdmkit.protocol.endpoint import Endpoint, Job, RequesterEndpoint
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports.conduit import ConnectionInfo
from spdmkit.transports.framing import Role

GET_VERSION = bytes.fromhex("10840000")
VERSION = bytes.fromhex("100400000003001100120013")
ECHO, SLOW, SILENT, BROKEN, LAST, TWICE, BUSY, OPENS = (
    0x60,
    0x61,
    0x62,
    0x63,
    0x64,
    0x65,
    0x66,
    0x67,
)
"""What the test responder does with a request of this code."""


def state() -> Any:
    """What the drivers look at of a connection's state."""
    return SimpleNamespace(
        sessions={}, selection=None, record_profile=None, lost=lambda _reason: None
    )


def request(code: int, data: bytes = b"") -> Frame:
    return Frame(FrameKind.MESSAGE, bytes((0x12, code, 0, 0)) + data)


class TestResponder:
    """Answers GET_VERSION, echoes, and misbehaves on request."""

    __test__ = False

    def __init__(self, info: ConnectionInfo) -> None:
        self.info = info
        self.connection = state()
        self.close_wanted = False
        self.lost: TransportError | None = None
        self.completed: list[Any] = []
        self.received: list[Frame] = []
        self._outgoing: list[Frame] = []
        self._jobs: list[Job] = []
        self._token = 0

    def receive(self, frame: Frame, now: float) -> None:
        self.received.append(frame)
        if frame.kind is FrameKind.SECURED:
            self._outgoing.append(frame)
            return
        code = frame.body[1]
        answer = VERSION if frame.body == GET_VERSION else frame.body
        if code == 0x84:
            self.connection.selection = object()
        if code in (SLOW, BUSY):
            self._token += 1
            delay = frame.body[4] / 100 if len(frame.body) > 4 else 0
            self._jobs.append(Job(self._token, partial(_slowly, delay, answer)))
            return
        if code == BROKEN:
            raise RuntimeError("a fault of ours")
        if code == OPENS:
            self.connection.sessions[1] = SimpleNamespace(established=False)
        if code != SILENT:
            self._outgoing.append(Frame(FrameKind.MESSAGE, answer))
        if code == TWICE:
            self._outgoing.append(Frame(FrameKind.MESSAGE, answer))
        self.close_wanted = code == LAST

    def connection_lost(self, error: TransportError) -> None:
        self.lost = self.lost or error

    def on_time(self, now: float) -> None:
        raise AssertionError("the test responder has no deadlines")

    def next_deadline(self) -> float | None:
        return None

    def outgoing(self) -> list[Frame]:
        frames, self._outgoing = self._outgoing, []
        return frames

    def work(self) -> list[Job]:
        jobs, self._jobs = self._jobs, []
        return jobs

    def complete(self, token: int, outcome: Any, now: float) -> None:
        self.completed.append(outcome)
        body = outcome if isinstance(outcome, bytes) else b"\x12\x7f\x03\x00"
        self._outgoing.append(Frame(FrameKind.MESSAGE, body))


def _slowly(delay: float, answer: bytes) -> bytes:
    time.sleep(delay)
    return answer


def requester(info: ConnectionInfo) -> Endpoint:
    """The protocol's own requester, over a connection that has no state."""
    assert info.role is Role.REQUESTER
    return RequesterEndpoint(cast("Any", state()))


class Responders:
    """Makes test responders and keeps them."""

    def __init__(self) -> None:
        self.made: list[TestResponder] = []

    def __call__(self, info: ConnectionInfo) -> Endpoint:
        responder = TestResponder(info)
        self.made.append(responder)
        return cast("Endpoint", responder)


def both(responders: Responders) -> Callable[[ConnectionInfo], Endpoint]:
    """A factory for a listener that can be either."""
    return lambda info: requester(info) if info.role is Role.REQUESTER else responders(info)


def ask(frame: Frame, patience: float = 5.0) -> Exchange[bytes]:
    """Send a frame, return the body of its answer."""
    event = yield Send(frame, time.monotonic() + patience)
    if isinstance(event, Frame):
        return event.body
    if isinstance(event, DeadlinePassed):
        raise DeadlineExceeded("no answer in time")
    if isinstance(event, Closed):
        raise event.error
    raise AssertionError(event)


def ask_version(patience: float = 5.0) -> Exchange[bytes]:
    return ask(Frame(FrameKind.MESSAGE, GET_VERSION), patience)


def ask_all(*codes: int) -> Exchange[list[bytes]]:
    """GET_VERSION, then one request of each code, with a job in between."""
    answers = [(yield from ask_version())]
    for code in codes:
        answers.append((yield from perform(lambda code=code: bytes((code,)))))  # type: ignore[misc]  # mypy knows no default in a lambda
        answers.append((yield from ask(request(code, b"\1dat"))))
    return answers


class Peer:
    """The other end as plain bytes, played by the test."""

    open: ClassVar[list[Peer]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.open.append(self)

    async def read(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), 5)

    async def read_all(self) -> bytes:
        """Everything until the other side closes; a broken connection counts as that."""
        try:
            return await asyncio.wait_for(self.reader.read(), 5)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        if not self.writer.transport.is_closing():
            self.writer.write(data)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


@pytest.fixture(autouse=True)
async def peers_are_closed() -> AsyncIterator[None]:
    """Modules that make peers import this: one that is left over fails another test."""
    yield
    left = [*Peer.open]
    Peer.open.clear()
    for peer in left:
        peer.abort()
    await asyncio.sleep(0)


async def dial_bytes(host: str, port: int) -> Peer:
    return Peer(*await asyncio.open_connection(host, port))


@asynccontextmanager
async def serve_bytes(
    *play: Callable[[Peer], Any], host: str = "127.0.0.1"
) -> AsyncIterator[tuple[int, list[Peer]]]:
    """A listener that plays these scripts, one for each connection in turn (the last one again)."""
    peers: list[Peer] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        script = play[min(len(peers), len(play) - 1)]
        peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(peer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], peers
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def silent(peer: Peer) -> None:
    await peer.read_all()


async def soon(condition: Callable[[], bool], patience: float = 5.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.005)
