"""The protocol's own endpoints over every framing: attestation, then a session, both drivers."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from spdmkit.identity import Purpose, TrustAnchors, verify_chain
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.endpoint import Endpoint, RequesterEndpoint
from spdmkit.protocol.link import Link
from spdmkit.protocol.records import Inner
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.measurements import get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import end_session, key_exchange
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.settings import Settings
from spdmkit.transports import aio, blocking
from spdmkit.transports.conduit import ConnectionInfo
from spdmkit.transports.framing import Role
from spdmkit.transports.loops import run
from spdmkit.transports.server import listen

from ..protocol.support import EVERYTHING, NOW, MemoryDevice

URIS = [
    "tcp://127.0.0.1:0?dialect=strict",
    "tcp://127.0.0.1:0?dialect=libspdm",
    "tcp://[::1]:0?records=mctp",
    "emu+tcp://127.0.0.1:0",
    "emu+mctp://127.0.0.1:0",
    "emu+doe://127.0.0.1:0",
]
INNER = {
    "tcp://127.0.0.1:0?dialect=strict": Inner.NOTHING,
    "tcp://127.0.0.1:0?dialect=libspdm": Inner.TCP_HEADER,
    "tcp://[::1]:0?records=mctp": Inner.MCTP_TYPE,
    "emu+tcp://127.0.0.1:0": Inner.TCP_HEADER,
    "emu+mctp://127.0.0.1:0": Inner.MCTP_TYPE,
    "emu+doe://127.0.0.1:0": Inner.NOTHING,
}
"""What stands before the SPDM message in the records of each."""


def endpoints(device: MemoryDevice) -> Callable[[ConnectionInfo], Endpoint]:
    """A factory for both roles."""

    def make(info: ConnectionInfo) -> Endpoint:
        asks = info.role is Role.REQUESTER
        capabilities = requester_capabilities(sessions=True) if asks else EVERYTHING
        connection = Connection(
            info.role,
            Settings(capabilities=capabilities),
            clock=time.monotonic,
            random=os.urandom,
            record_profile=info.record_profile,
        )
        return RequesterEndpoint(connection) if asks else ResponderEndpoint(connection, device)

    return make


def everything(connection: Connection, device: MemoryDevice) -> Exchange[Inner]:
    """Attest a device, then read a measurement and echo data in a session."""
    link = Link(connection)
    yield from negotiate(link)
    digests = yield from get_digests(link)
    chain = yield from get_certificate(link, 0, expected_digest=digests.slots[0].digest)
    proven = verify_chain(
        chain,
        TrustAnchors([device.certificates[0]], Purpose.DEVICE),
        purpose=Purpose.DEVICE,
        time=NOW,
        algorithm=link.peer_signature,
    )
    yield from challenge(link, proven)
    yield from get_signed_measurements(link, proven)
    opened = yield from key_exchange(link, proven)
    signed = yield from get_signed_measurements(opened.link, proven)
    assert signed.blocks
    payload = bytes(range(256)) * 100
    answer = yield from opened.link.converse(payload)
    assert answer.data == payload
    inner = opened.session.sender.profile.inner
    yield from end_session(opened.link)
    return inner


@pytest.mark.parametrize("uri", URIS)
async def test_asyncio_both_ends(uri: str) -> None:
    device = MemoryDevice()
    make = endpoints(device)
    async with await listen(uri, make) as listener:
        for _ in range(2):
            async with await aio.connect(listener.uri, make) as connection:
                exchange = everything(connection.endpoint.connection, device)
                assert await connection.run(exchange) is INNER[uri]
    assert len(device.received) == 2


@pytest.mark.parametrize("uri", URIS)
def test_a_blocking_requester(uri: str) -> None:
    device = MemoryDevice()
    make = endpoints(device)
    address: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with await listen(uri, make) as listener:
            address.append(str(listener.uri))
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        with blocking.connect(address[0], make) as connection:
            exchange = everything(connection.endpoint.connection, device)
            assert connection.run(exchange) is INNER[uri]
    finally:
        done.set()
        thread.join(10)


@pytest.mark.parametrize("uri", ["tcp://127.0.0.1:0", "emu+tcp://127.0.0.1:0"])
async def test_a_device_that_dials_in_is_attested(uri: str) -> None:
    device = MemoryDevice()
    make = endpoints(device)
    results: list[Any] = []

    async def handler(connection: aio.AsyncConnection) -> None:
        results.append(await connection.run(everything(connection.endpoint.connection, device)))

    async with await listen(uri, make, roles=list(Role), handler=handler) as listener:
        dialled = await aio.connect(listener.uri, make, role=Role.RESPONDER)
        await dialled.wait_closed()
    assert results == [Inner.NOTHING if uri.startswith("tcp") else Inner.TCP_HEADER]


async def test_many_devices_dial_one_verifier() -> None:
    device = MemoryDevice("ecdsa-p256")
    make = endpoints(device)
    verified: list[str] = []

    async def handler(connection: aio.AsyncConnection) -> None:
        await connection.run(everything(connection.endpoint.connection, device))
        verified.append(connection.info.peer)

    async def dial(uri: str) -> None:
        connection = await aio.connect(uri, make, role=Role.RESPONDER)
        await connection.wait_closed()

    async with await listen(
        "tcp://127.0.0.1:0", make, roles=[Role.REQUESTER], handler=handler
    ) as listener:
        await asyncio.gather(*(dial(str(listener.uri)) for _ in range(20)))
    assert len(set(verified)) == 20
