"""`mctp+serial://` over pseudo terminals, with both drivers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spdmkit.errors import ConfigurationError, DeadlineExceeded, TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.records import MCTP
from spdmkit.transports import aio, blocking
from spdmkit.transports.framing import BindingError, Role
from spdmkit.transports.mctp.control import EidStatus
from spdmkit.transports.mctp.framing import MctpSerialFraming
from spdmkit.transports.mctp.retry import RetryRule
from spdmkit.transports.mctp.station import Station
from spdmkit.transports.mctp.tty import create_pty, open_tty
from spdmkit.transports.server import listen

from ..support import (
    ECHO,
    SILENT,
    VERSION,
    Responders,
    ask,
    ask_all,
    ask_version,
    request,
    requester,
)
from .lines import losing, medium, unharmed

Served = Callable[..., Any]


@asynccontextmanager
async def device(path: str, query: str = "") -> AsyncIterator[tuple[Any, Responders]]:
    responders = Responders()
    listener = await listen(f"mctp+serial://{path}{query}", responders)
    try:
        yield listener, responders
    finally:
        await listener.close(grace=0)


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[str]:
    path = str(tmp_path / "device.tty")
    async with device(path, "?pty=create"):
        yield f"mctp+serial://{path}"


async def test_asyncio(line: str) -> None:
    for number in range(3):
        async with await aio.connect(line, requester) as connection:
            answers = await connection.run(ask_all(ECHO, ECHO))
            assert answers[0] == VERSION
            body = bytes((number,)) * 30_000
            assert (await connection.run(ask(request(ECHO, body))))[4:] == body
            assert connection.info.record_profile is MCTP


async def test_blocking(line: str) -> None:
    def converse() -> bytes:
        with blocking.connect(line, requester) as connection:
            assert connection.run(ask_all(ECHO))[0] == VERSION
            return connection.run(ask(request(ECHO, bytes(5000))))

    assert (await asyncio.to_thread(converse))[4:] == bytes(5000)


async def test_secured_messages_pass_as_type_6(line: str) -> None:
    async with await aio.connect(line, requester) as connection:
        await connection.run(ask_version())
        record = Frame(FrameKind.SECURED, bytes(range(60)))
        assert await connection.run(ask(record)) == record.body


async def test_ids_learned_assigned_and_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "d.tty")

    async def found(query: str = "") -> int:
        connection = await aio.connect(f"mctp+serial://{path}{query}", requester)
        framing = connection.conduit.framing
        assert isinstance(framing, MctpSerialFraming)
        assert framing.found is not None
        assert framing.found.types == {5, 6}
        assert framing.found.versions == ("1.0.2",)
        await connection.close()
        await asyncio.sleep(0.05)
        return framing.found.eid

    async with device(path, "?pty=create"):
        assert await found() == 9
        assert await found("?peer=20") == 20
        # It keeps what it was assigned while the line lasts.
        assert await found() == 20
        assert await found("?eid=20") == 9
    async with device(path, "?pty=create&eid=33"):
        assert await found() == 33


async def test_packets_lost_and_repeated(tmp_path: Path) -> None:
    """Every request is answered, once: what is lost is sent again."""
    with medium(tmp_path, losing(0.15, 1), losing(0.15, 2)) as (ours, theirs):
        async with device(theirs) as (_listener, responders):
            uri = f"mctp+serial://{ours}"
            async with await aio.connect(uri, requester, timeout=20) as connection:
                framing = connection.conduit.framing
                assert isinstance(framing, MctpSerialFraming)
                framing.rule.round_trip = framing.rule.crypto_time = 0.05
                framing.rule.tries = 20
                for number in range(30):
                    body = bytes((number,)) * 20
                    assert (await connection.run(ask(request(ECHO, body))))[4:] == body
                assert framing.station.dropped["retried"] > 3
            served = [frame.body[4:5] for each in responders.made for frame in each.received]
            assert served == [bytes((number,)) for number in range(30)]


async def test_packets_lost_with_the_blocking_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RetryRule(round_trip=0.05, crypto_time=0.05, tries=20)
    monkeypatch.setattr("spdmkit.transports.mctp.transport._rule", lambda _address: rule)

    def converse(uri: str) -> None:
        with blocking.connect(uri, requester, timeout=20) as connection:
            for number in range(10):
                body = bytes((number,)) * 100
                assert connection.run(ask(request(ECHO, body)))[4:] == body

    with medium(tmp_path, losing(0.1, 5), losing(0.1, 6)) as (ours, theirs):
        async with device(theirs) as (_listener, responders):
            await asyncio.to_thread(converse, f"mctp+serial://{ours}")
            served = [frame.body[4] for each in responders.made for frame in each.received]
            assert served == list(range(10))


async def test_a_lost_record_is_not_sent_again(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def losing_records(packet: bytes) -> list[bytes]:
        seen.append(packet)
        return [] if packet[4] == 6 else [packet]

    with medium(tmp_path, losing_records) as (ours, theirs):
        async with (
            device(theirs),
            await aio.connect(f"mctp+serial://{ours}", requester) as connection,
        ):
            framing = connection.conduit.framing
            assert isinstance(framing, MctpSerialFraming)
            framing.rule.round_trip = framing.rule.crypto_time = 0.02
            await connection.run(ask_version())
            with pytest.raises(DeadlineExceeded):
                await connection.run(ask(Frame(FrameKind.SECURED, bytes(30)), patience=0.3))
    assert sum(packet[4] == 6 for packet in seen) == 1


async def test_nobody_at_the_other_end(tmp_path: Path) -> None:
    with medium(tmp_path) as (ours, _theirs):
        with pytest.raises(DeadlineExceeded, match="nobody answers"):
            await aio.connect(f"mctp+serial://{ours}", requester)
        with pytest.raises(DeadlineExceeded, match="nobody answers"):
            await asyncio.to_thread(blocking.connect, f"mctp+serial://{ours}", requester)


async def test_a_silent_device_says_what_the_line_dropped(tmp_path: Path) -> None:
    with medium(tmp_path, unharmed, unharmed) as (ours, theirs):
        async with device(theirs):
            connection = await aio.connect(f"mctp+serial://{ours}", requester)
            framing = connection.conduit.framing
            assert isinstance(framing, MctpSerialFraming)
            framing.rule.round_trip = framing.rule.crypto_time = 0.02
            with pytest.raises(DeadlineExceeded) as caught:
                await connection.run(ask(request(SILENT), patience=0.8))
            assert "retried 3" in caught.value.hint
            await connection.close()


async def test_a_conversation_ends_and_the_next_begins(line: str) -> None:
    """Closing the tty tells the device nothing: the next GET_VERSION begins anew."""
    first = await aio.connect(line, requester)
    await first.run(ask_version())
    await first.close()
    async with await aio.connect(line, requester) as second:
        assert await second.run(ask_version()) == VERSION


async def test_a_tty_has_one_user(tmp_path: Path) -> None:
    with medium(tmp_path) as (ours, _theirs):
        tty = open_tty(ours)
        with pytest.raises(TransportError, match="in use by another program"):
            open_tty(ours)
        tty.close()
        tty.close()
        open_tty(ours).close()


def test_what_is_no_tty(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(TransportError, match="is not a tty"):
        open_tty(str(plain))
    with pytest.raises(TransportError, match="cannot open"):
        open_tty(str(tmp_path / "nothing"))
    with pytest.raises(TransportError, match="not a link"):
        create_pty(str(plain))
    with pytest.raises(TransportError, match="cannot make"):
        create_pty(str(tmp_path / "no" / "folder"))
    with medium(tmp_path) as (ours, _theirs), pytest.raises(TransportError, match="12345 baud"):
        open_tty(ours, 12345)


def test_a_link_left_over_is_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "d.tty"
    path.symlink_to("/dev/pts/does-not-exist")
    tty = create_pty(str(path))
    assert os.path.realpath(path).startswith("/dev/")
    open_tty(str(path), 115200).close()
    tty.close()
    assert not path.is_symlink()


async def test_roles(tmp_path: Path) -> None:
    for uri in (f"mctp+serial://{tmp_path}/x", "mctp://1/9"):
        with pytest.raises(ConfigurationError, match="requester is who dials"):
            await aio.connect(uri, requester, role=Role.RESPONDER)


def _packet(framing: MctpSerialFraming, data: bytes) -> None:
    framing.receive(data)


def test_an_endpoint_without_spdm_is_refused() -> None:
    framing = MctpSerialFraming(Role.REQUESTER, clock=lambda: 0.0)
    other = Station(9, types=(1, 4))
    from spdmkit.transports.mctp.serial import SerialDecoder, encode

    data = framing.start()
    for _ in range(2):
        packets = SerialDecoder().feed(data)
        for packet in packets:
            other.receive(packet, 0.0)
        framing.receive(b"".join(map(encode, other.outgoing())))
        event = framing.next_event()
        data = event.data if event is not None and hasattr(event, "data") else b""
    assert isinstance(event, BindingError)
    assert "does not announce SPDM; its types: 0x01, 0x04" in str(event.error)


def test_a_responder_answers_and_nothing_else() -> None:
    framing = MctpSerialFraming(Role.RESPONDER, status=EidStatus(9))
    with pytest.raises(TransportError, match="nothing but answers"):
        framing.pack(request(ECHO))
    assert framing.start() == b""
    assert framing.hint() == ""
    assert framing.next_deadline() is None


def test_a_second_requester_waits_for_the_first() -> None:
    from spdmkit.transports.mctp.serial import encode

    framing = MctpSerialFraming(Role.RESPONDER, status=EidStatus(9))
    one, other = Station(8), Station(10)
    for station in (one, other):
        station.request(9, b"\x05\x10\x84\x00\x00", 0.0, interval=1.0)
        framing.receive(b"".join(map(encode, station.outgoing())))
    assert isinstance(framing.next_event(), Frame)
    assert framing.next_event() is None
    assert "another requester 1" in framing.hint()
    framing.pack(request(ECHO))
    other.request(9, b"\x05\x10\x84\x00\x00", 0.0, interval=1.0)
    framing.receive(b"".join(map(encode, other.outgoing())))
    assert isinstance(framing.next_event(), Frame)
