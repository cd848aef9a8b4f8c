"""Sessions for event loops, over sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.messages import Registry
from spdmkit.protocol.events import KeysUpdated, SessionEnded
from spdmkit.protocol.requester.measurements import get_measurements
from spdmkit.sessions import SessionOver, Terms, aio

from .support import BY_PSK, a_device, with_heartbeat
from .test_blocking import ended


async def test_send_and_receive() -> None:
    served = a_device()
    async with await served.listen():
        async with await aio.open_session(served.uri, served.terms) as session:
            assert session.alive
            assert session.peer.kind == "certificate"
            for number in range(5):
                await session.send(b"%d" % number)
            got = [await session.receive(5) for _ in range(5)]
            assert got == [b"0", b"1", b"2", b"3", b"4"]
            assert await session.receive(0.01) is None
            assert await session.request(b"and now") == b"and now"
            assert await session.run(get_measurements)
            vendor = (0x1234).to_bytes(4, "little")
            assert await session.vendor_defined(Registry.IANA, vendor, b"payload") == b"payload"
            with pytest.raises(PeerError):
                await session.vendor_defined(Registry.PCI_SIG, b"\x34\x12", b"?")
            with pytest.raises(ProtocolViolation):
                await session.send(bytes(1 << 17))
        assert session.ended == "END_SESSION"
        with pytest.raises(SessionOver):
            await session.send(b"x")
        with pytest.raises(SessionOver):
            await session.receive()
        await session.close()


async def test_a_device_on_mctp() -> None:
    served = a_device()
    async with (
        await served.listen("emu+mctp://127.0.0.1:0"),
        await aio.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):
        assert await session.request(b"pci", message_type=0x7E) == b"pci"
        await session.send(b"iana", message_type=0x7F)
        assert await session.receive(5) == b"iana"
        with pytest.raises(ProtocolViolation, match="SPDM"):
            await session.send(b"x", message_type=5)
        assert await session.request(b"x") == b"x"


async def test_both_ways_at_once() -> None:
    """One task sends, another receives; far more than any buffer holds."""
    served = a_device()
    data = bytes(range(256)) * 200
    async with (
        await served.listen(),
        await aio.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):

        async def send() -> None:
            for _ in range(200):
                await session.send(data)

        async def receive() -> int:
            count = 0
            while count < 200:
                assert await session.receive(10) == data
                count += 1
            return count

        _, count = await asyncio.gather(send(), receive())
        assert count == 200


async def test_heartbeats() -> None:
    served = with_heartbeat(2)
    async with (
        await served.listen(),
        await aio.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):
        await asyncio.sleep(4.4)
        assert session.alive
        assert await session.request(b"x") == b"x"


async def test_a_device_that_falls_silent() -> None:
    """Who waits for data learns that the session is over, and why."""
    served = with_heartbeat(1)
    async with await served.listen():
        session = await aio.open_session(served.uri, Terms(psk=BY_PSK))
        waiting = asyncio.create_task(session.receive())
        await asyncio.sleep(0.05)
        endpoint = served.endpoints[0]
        (theirs,) = endpoint.connection.sessions.values()
        endpoint.connection.end_session(theirs, "a test")
        with pytest.raises(SessionOver):
            await asyncio.wait_for(waiting, 10)
        await session.close()


async def test_more_than_one_session_and_keys() -> None:
    served = a_device(aead_limit_exponent=6)
    async with (
        await served.listen(),
        await aio.open_session(served.uri, Terms(psk=BY_PSK)) as one,
    ):
        two = await one.another()
        for _ in range(100):
            assert await one.request(b"1") == b"1"
            assert await two.request(b"2") == b"2"
        await two.update_keys(all_keys=False)
        await two.heartbeat()
        assert not await two.poll()
        await two.close(clear_negotiated_state=True)
        assert await one.request(b"3") == b"3"
    assert sum(isinstance(e, KeysUpdated) for e in served.events) > 8
    assert sum(isinstance(e, SessionEnded) for e in served.events) == 2


async def test_polling_finds_what_the_device_wants() -> None:
    served = a_device()
    terms = Terms(psk=BY_PSK, poll_interval=0.1)
    async with await served.listen(), await aio.open_session(served.uri, terms) as session:
        endpoint = served.endpoints[0]
        (theirs,) = endpoint.connection.sessions.values()
        endpoint.update_keys(theirs)
        for _ in range(100):
            await asyncio.sleep(0.02)
            if any(isinstance(e, KeysUpdated) for e in served.events):
                break
        assert await session.request(b"x") == b"x"
        assert any(isinstance(e, KeysUpdated) for e in served.events)


async def test_a_cancelled_request_closes_and_a_cancelled_receive_does_not() -> None:
    served = a_device()
    async with await served.listen():
        session = await aio.open_session(served.uri, Terms(psk=BY_PSK))
        waiting = asyncio.create_task(session.receive())
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await session.request(b"x") == b"x"
        served.device.application_data = lambda data, peer: None  # type: ignore[method-assign]  # a device that answers nothing
        asking = asyncio.create_task(session.request(b"x"))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not session.alive
        with pytest.raises(SessionOver):
            await session.request(b"x")
        await session.close()


async def test_the_connection_breaks() -> None:
    served = a_device()
    async with await served.listen():
        session = await aio.open_session(served.uri, Terms(psk=BY_PSK))
        waiting = asyncio.create_task(session.receive())
        await asyncio.sleep(0.02)
        served.connections[0].abort()
        with pytest.raises(SessionOver, match="connection"):
            await asyncio.wait_for(waiting, 5)
        await session.close()
    assert ended(served)


async def test_refused() -> None:
    served = a_device()
    async with await served.listen():
        terms = replace(served.terms, identities=("nobody",))
        with pytest.raises(AuthenticationError):
            await aio.open_session(served.uri, terms)
