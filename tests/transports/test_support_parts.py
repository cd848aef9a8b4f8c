"""The smaller parts the drivers rest on: receive buffer, work pool, event loops, descriptors."""

from __future__ import annotations

import asyncio
import builtins
import errno
import resource
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.transports import loops
from spdmkit.transports.aio import connect
from spdmkit.transports.buffer import ReceiveBuffer
from spdmkit.transports.server import Happening, ListenerEvent, listen
from spdmkit.transports.workpool import WorkPool

from .support import VERSION, Responders, ask_version, requester

# -- the receive buffer ---------------------------------------------------------------------------


@settings(deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=5000), max_size=12),
    takes=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 10)), max_size=12),
)
def test_the_buffer_is_a_queue_of_bytes(pieces: list[bytes], takes: list[tuple[int, int]]) -> None:
    buffer, model = ReceiveBuffer(), b""
    for piece, (size, skip) in zip(pieces, takes, strict=False):
        buffer.append(piece)
        model += piece
        assert len(buffer) == len(model)
        assert buffer.peek(size, skip) == model[skip : skip + size]
        if skip + size <= len(model):
            taken = buffer.take(size, skip)
            assert type(taken) is bytes
            assert taken == model[skip : skip + size]
            model = model[skip + size :]
    assert buffer.take(len(buffer)) == model
    assert len(buffer) == 0


@settings(deadline=None)
@given(
    reads=st.lists(
        st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 1500), st.integers(0, 70_000)),
        max_size=12,
    )
)
def test_what_is_left_of_lent_memory_is_kept(reads: list[tuple[bytes, int, int]]) -> None:
    memory = bytearray(60_000)
    buffer, model = ReceiveBuffer(), b""
    for pattern, times, size in reads:
        data = pattern * times
        memory[: len(data)] = data
        buffer.lend(memoryview(memory)[: len(data)])
        model += data
        if size <= len(model):
            assert buffer.peek(size) == buffer.take(size) == model[:size]
            model = model[size:]
        assert len(buffer) == len(model)
        buffer.settle()
        memory[:] = bytes(len(memory))
        assert buffer.peek(len(model)) == model
        assert not any(isinstance(part, memoryview) for part in buffer._parts)
    assert buffer.take(len(buffer)) == model


def test_single_bytes_do_not_cost_an_object_each() -> None:
    buffer = ReceiveBuffer()
    for number in range(5000):
        buffer.append(bytes((number & 0xFF, 1)))
    assert len(buffer._parts) <= 2
    buffer.clear()
    assert (len(buffer), buffer.peek(4)) == (0, b"")


def test_a_small_rest_does_not_hold_on_to_a_large_read() -> None:
    buffer = ReceiveBuffer()
    buffer.append(bytes(range(256)) * 1024)
    whole = len(buffer)
    assert buffer.take(whole - 3) == (bytes(range(256)) * 1024)[:-3]
    assert sum(map(len, buffer._parts)) == len(buffer) == 3
    buffer.append(b"next")
    assert buffer.take(5, 2) == b"\xffnext"
    assert len(buffer) == 0


# -- the work pool --------------------------------------------------------------------------------


async def outcome_of(pool: WorkPool, call: Any) -> Any:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    pool.start(call, done.set_result)
    assert not done.done()
    return await asyncio.wait_for(done, 5)


@pytest.mark.parametrize("workers", [0, 1, None])
async def test_a_pool_runs_calls_and_waits_for_awaitables(workers: int | None) -> None:
    async def later() -> int:
        await asyncio.sleep(0.001)
        return 3

    async def failing() -> int:
        raise LookupError

    def broken() -> None:
        raise KeyError("no key")

    pool = WorkPool(workers)
    assert await outcome_of(pool, lambda: 2) == 2
    assert await outcome_of(pool, later) == 3
    assert isinstance(await outcome_of(pool, broken), KeyError)
    assert isinstance(await outcome_of(pool, failing), LookupError)
    assert pool.pending == 0
    pool.close()


async def test_threads_leave_the_loop_free_and_are_bounded() -> None:
    pool = WorkPool(2, limit=3)
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return threading.current_thread().name

    assert pool.pending == 0
    names = asyncio.gather(*(outcome_of(pool, work) for _ in range(6)))
    await asyncio.sleep(0)
    assert pool.full
    assert len(set(await names)) == most == 2
    assert pool.pending == 0
    pool.close()


async def test_closing_a_pool_forgets_what_waits() -> None:
    pool = WorkPool(1)
    release = threading.Event()
    outcomes: list[Any] = []

    async def endless() -> None:
        await asyncio.sleep(60)

    pool.start(endless, outcomes.append)
    await asyncio.sleep(0.02)
    for _ in range(3):
        pool.start(lambda: release.wait(5), outcomes.append)
    await asyncio.sleep(0.02)
    pool.close()
    release.set()
    await asyncio.sleep(0.05)
    assert len(outcomes) <= 1


# -- event loops and descriptors ------------------------------------------------------------------


def test_run_uses_the_fastest_loop_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    uvloop = pytest.importorskip("uvloop")
    assert loops.run(module()).startswith(uvloop.__name__)
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "uvloop":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert loops.loop_factory() is None
    assert loops.run(module()).startswith("asyncio")


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        ((1024, 4096), (4096, 4096), 4096),
        ((4096, 4096), None, 4096),
        ((1024, resource.RLIM_INFINITY), (1 << 20, resource.RLIM_INFINITY), 1 << 20),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, 1 << 20),
    ],
)
def test_the_soft_limit_of_descriptors_is_raised(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, int],
    after: tuple[int, int] | None,
    answer: int,
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limit: limits.append(limit))
    assert loops.raise_descriptor_limit() == answer
    assert limits == ([] if after is None else [after])


def test_a_refused_limit_is_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_what: int, _limit: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert loops.raise_descriptor_limit() == 256


class NoDescriptors:
    """A listening socket on a system without free descriptors, a few times."""

    def __init__(self, real: socket.socket, times: int, number: int) -> None:
        self.real, self.times, self.number = real, times, number

    def accept(self) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(self.number, "too many")
        return self.real.accept()

    def fileno(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        self.real.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
async def test_a_listener_survives_a_system_without_descriptors(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("spdmkit.transports.server.ACCEPT_PAUSE", 0.05)
    events: list[ListenerEvent] = []
    async with await listen("tcp://127.0.0.1:0", Responders(), on_event=events.append) as listener:
        loop = asyncio.get_running_loop()
        [real] = listener._sockets
        poor = NoDescriptors(real, 2, number)
        listener._sockets[:] = [poor]  # type: ignore[list-item]  # stands in for the kernel
        loop.remove_reader(real.fileno())
        listener._watch(poor)  # type: ignore[arg-type]  # stands in for the kernel
        async with await connect(listener.uri, requester) as connection:
            assert await connection.run(ask_version()) == VERSION
    assert [event.what for event in events].count(Happening.FAILED) == 2


async def test_a_connection_that_is_gone_before_it_is_accepted() -> None:
    async with await listen("tcp://127.0.0.1:0", Responders()) as listener:
        [real] = listener._sockets
        aborted = NoDescriptors(real, 1, errno.ECONNABORTED)
        asyncio.get_running_loop().remove_reader(real.fileno())
        listener._watch(aborted)  # type: ignore[arg-type]  # stands in for the kernel
        async with await connect(listener.uri, requester) as connection:
            assert await connection.run(ask_version()) == VERSION
