"""AF_MCTP with a kernel of our own: the real one has it in few places."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import itertools
import os
import socket
from collections import deque
from typing import Any

import pytest

from spdmkit.errors import TransportError
from spdmkit.protocol.frames import FrameKind
from spdmkit.transports import aio
from spdmkit.transports.framing import Reply, Role
from spdmkit.transports.mctp.kernel import (
    TAG_OWNER,
    KernelRequester,
    KernelResponder,
    SocketAddress,
    SystemCalls,
)
from spdmkit.transports.mctp.messages import MctpMessageFraming
from spdmkit.transports.mctp.transport import KernelTransport
from spdmkit.transports.server import listen
from spdmkit.transports.uri import MctpAddress

from ..support import ECHO, VERSION, Responders, ask, ask_all, request, requester

ME, DEVICE = 8, 9


class Kernel:
    """Routes messages between sockets of one network; an eventfd makes each one pollable."""

    def __init__(self) -> None:
        self.inbox: dict[int, deque[tuple[bytes, SocketAddress]]] = {}
        self.bound: dict[tuple[int, int], int] = {}
        self.tags: dict[int, set[int]] = {}
        self.sent: list[tuple[bytes, int, int]] = []
        self.refuse: int | None = None
        self.lose = 0

    def socket(self) -> int:
        if self.refuse is not None:
            raise OSError(self.refuse, os.strerror(self.refuse))
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self.inbox[descriptor] = deque()
        self.tags[descriptor] = set()
        return descriptor

    def bind(self, descriptor: int, address: SocketAddress) -> None:
        key = (address.eid, address.type)
        if key in self.bound:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.bound[key] = descriptor

    def send(self, descriptor: int, data: bytes, address: SocketAddress) -> None:
        self.sent.append((data, address.type, address.tag))
        if self.lose:
            self.lose -= 1
            return
        if address.tag & TAG_OWNER:
            target = self.bound.get((address.eid, address.type))
            source, tag = ME, address.tag & 7 | TAG_OWNER
        else:
            target = next(
                (each for each, tags in self.tags.items() if address.tag & 7 in tags), None
            )
            source, tag = DEVICE, address.tag & 7
        if target is not None:
            self.deliver(target, data, SocketAddress(1, source, address.type, tag))

    def deliver(self, target: int, data: bytes, address: SocketAddress) -> None:
        self.inbox[target].append((data, address))
        os.eventfd_write(target, 1)

    def receive(self, descriptor: int) -> tuple[bytes, SocketAddress]:
        os.eventfd_read(descriptor)
        return self.inbox[descriptor].popleft()

    def allocate_tag(self, descriptor: int, network: int, eid: int) -> int:
        free = min(set(range(8)) - self.tags[descriptor], default=None)
        if free is None:
            raise OSError(errno.EBUSY, "Device or resource busy")
        self.tags[descriptor].add(free)
        return free | 0x18

    def drop_tag(self, descriptor: int, network: int, eid: int, tag: int) -> None:
        self.tags[descriptor].remove(tag & 7)

    def close(self, descriptor: int) -> None:
        del self.inbox[descriptor]
        self.tags.pop(descriptor)
        self.bound = {key: each for key, each in self.bound.items() if each != descriptor}
        os.close(descriptor)


def test_addresses_as_the_kernel_has_them() -> None:
    packed = SocketAddress(1, 9, 5, 8).pack()
    assert packed == b"\x2d\x00\x00\x00\x01\x00\x00\x00\x09\x05\x08\x00"
    again = SocketAddress.unpack(packed)
    assert (again.network, again.eid, again.type, again.tag) == (1, 9, 5, 8)


async def test_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    monkeypatch.setattr("spdmkit.transports.registry._factories", {"mctp": KernelTransport(kernel)})
    async with await listen("mctp://1/9", Responders()) as listener:
        for _ in range(2):
            async with await aio.connect("mctp://1/9", requester) as connection:
                answers = await connection.run(ask_all(ECHO, ECHO))
                assert answers[0] == VERSION
                body = bytes(40_000)
                assert (await connection.run(ask(request(ECHO, body))))[4:] == body
            await asyncio.sleep(0.05)
        assert str(listener.uri) == "mctp://1/9"
    assert not kernel.inbox
    tags = [tag & 7 for _data, _type, tag in kernel.sent if tag & TAG_OWNER]
    assert all(one != other for one, other in itertools.pairwise(tags))


def test_the_type_is_not_in_the_data() -> None:
    kernel = Kernel()
    device = KernelResponder(MctpAddress(1, DEVICE), kernel)
    wire = KernelRequester(MctpAddress(1, DEVICE), kernel)
    assert wire.send(b"\x06record") == 7
    assert kernel.sent == [(b"record", 6, 0x18)]
    assert device.recv(100) == b"\x06record"
    device.send(b"\x06answer")
    assert wire.recv(100) == b"\x06answer"
    with pytest.raises(OSError, match="no request waits"):
        device.send(b"\x06again")
    with pytest.raises(BlockingIOError):
        device.recv(100)
    device.close()
    wire.close()
    wire.close()
    assert not kernel.inbox


def test_a_repetition_has_the_same_tag_and_a_new_request_another() -> None:
    kernel = Kernel()
    wire = KernelRequester(MctpAddress(1, DEVICE), kernel)
    wire.send(b"\x05one")
    wire.send(b"\x05one")
    wire.send(b"\x05two")
    tags = [tag for _data, _type, tag in kernel.sent]
    assert tags[0] == tags[1] != tags[2]
    # The tag of what had no answer is kept for a while, so that nothing late meets the next.
    wire.send(b"\x05three")
    assert kernel.sent[-1][2] not in tags
    for number in range(20):
        wire.send(bytes((5, number)))
    assert len(next(iter(kernel.tags.values()))) <= 8
    wire.close()


def test_what_is_no_answer_is_passed_over() -> None:
    kernel = Kernel()
    wire = KernelRequester(MctpAddress(1, DEVICE), kernel)
    with pytest.raises(BlockingIOError):
        wire.recv(10)
    wire.send(b"\x05one")
    for eid, message_type, tag in ((10, 5, 0), (DEVICE, 1, 0), (DEVICE, 5, 1), (DEVICE, 5, 8)):
        kernel.deliver(wire.fileno(), b"x", SocketAddress(1, eid, message_type, tag))
    kernel.deliver(wire.fileno(), b"y", SocketAddress(1, DEVICE, 5, 0))
    assert wire.recv(10) == b"\x05y"
    wire.close()


def test_no_tag_is_free() -> None:
    kernel = Kernel()
    wire = KernelRequester(MctpAddress(1, DEVICE), kernel)
    kernel.tags[wire.fileno()] = set(range(8))
    with pytest.raises(OSError, match="busy"):
        wire.send(b"\x05one")
    wire.close()


def test_a_second_requester_is_not_served_meanwhile() -> None:
    kernel = Kernel()
    device = KernelResponder(MctpAddress(1, DEVICE), kernel)
    spdm = kernel.bound[DEVICE, 5]
    kernel.deliver(spdm, b"one", SocketAddress(1, 20, 5, TAG_OWNER))
    kernel.deliver(spdm, b"two", SocketAddress(1, 21, 5, TAG_OWNER))
    kernel.deliver(spdm, b"answer", SocketAddress(1, 21, 5, 0))
    assert device.recv(10) == b"\x05one"
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            device.recv(10)
    device.close()


def test_refusals() -> None:
    kernel = Kernel()
    device = KernelResponder(MctpAddress(1, DEVICE), kernel)
    with pytest.raises(TransportError, match="cannot listen for MCTP message type 5"):
        KernelResponder(MctpAddress(1, DEVICE), kernel)
    device.close()
    assert not kernel.inbox
    kernel.refuse = errno.EMFILE
    with pytest.raises(TransportError, match="no MCTP socket"):
        KernelRequester(MctpAddress(1, DEVICE), kernel)
    kernel.refuse = errno.EAFNOSUPPORT
    with pytest.raises(TransportError, match="has no MCTP sockets") as caught:
        KernelResponder(MctpAddress(1, DEVICE), kernel)
    assert "CONFIG_MCTP" in caught.value.hint


def test_the_real_kernel() -> None:
    """With MCTP, a socket; without, an error that says so."""
    try:
        socket.socket(45, socket.SOCK_DGRAM).close()
    except OSError:
        with pytest.raises(TransportError, match="has no MCTP sockets"):
            KernelRequester(MctpAddress(1, DEVICE))
        return
    calls = SystemCalls()
    wire = KernelRequester(MctpAddress(1, DEVICE), calls)
    with pytest.raises(BlockingIOError):
        wire.recv(10)
    wire.close()


def test_system_calls_report_errno() -> None:
    """Through ctypes, on a socket of another family, so that every kernel can run it."""
    calls = SystemCalls()
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.setblocking(False)
    address = SocketAddress(1, 9, 5, 8)
    with plain:
        for call in (
            lambda: calls.bind(plain.fileno(), address),
            lambda: calls.send(plain.fileno(), b"x", address),
            lambda: calls.allocate_tag(plain.fileno(), 1, 9),
            lambda: calls.drop_tag(plain.fileno(), 1, 9, 0),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno
        with pytest.raises(BlockingIOError):
            calls.receive(plain.fileno())


def test_an_older_kernel_allocates_tags_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = SystemCalls()
    requests: list[int] = []

    class OldLibc:
        @staticmethod
        def ioctl(_descriptor: int, request_: ctypes.c_ulong, argument: ctypes.Array[Any]) -> int:
            requests.append(request_.value)
            if request_.value in (0x89E2, 0x89E3):
                ctypes.set_errno(errno.ENOTTY)
                return -1
            assert argument.raw[0] == 9
            if request_.value == 0x89E0:
                argument[1] = b"\x1b"
            return 0

    monkeypatch.setattr(calls, "_libc", OldLibc)
    assert calls.allocate_tag(3, 1, 9) == 0x1B
    calls.drop_tag(3, 1, 9, 0x1B)
    assert requests == [0x89E2, 0x89E0, 0x89E1]


def test_messages_are_asked_again_by_time() -> None:
    now = [0.0]
    framing = MctpMessageFraming(Role.REQUESTER, clock=lambda: now[0])
    body = framing.pack(request(ECHO))
    due = framing.next_deadline()
    assert due is not None
    framing.on_time(due - 0.01)
    assert framing.next_event() is None
    framing.on_time(due)
    event = framing.next_event()
    assert isinstance(event, Reply)
    assert event.data == body
    framing.receive(b"\x05" + VERSION)
    frame = framing.next_event()
    assert frame is not None
    assert framing.next_deadline() is None
    # Nothing was asked: nothing is delivered.
    framing.receive(b"\x05" + VERSION)
    assert framing.next_event() is None
    record = request(ECHO)
    record.kind = FrameKind.SECURED
    framing.pack(record)
    assert framing.next_deadline() is None
    framing.receive(b"\x01pldm")
    framing.receive(b"\x06" + bytes(0x1_0000))
    assert framing.next_event() is None
    assert framing.pending() == 0
