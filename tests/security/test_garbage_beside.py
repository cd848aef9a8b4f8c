"""One client sends garbage byte by byte, another attests: it is served, the first is closed."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from spdmkit.transports import aio
from spdmkit.transports.server import Limits, listen

from ..protocol.support import MemoryDevice
from ..transports.test_protocol_over_sockets import endpoints, everything

SEED = random.Random(20287)  # the same garbage each time
GARBAGE: dict[str, tuple[bytes, bytes | None]] = {
    "another binding version": (bytes.fromhex("04000905" + "10840000"), b"\0\0\x01\xc1"),
    "a frame too large": (bytes.fromhex("ffff0105") + bytes(100), b"\0\0\x01\xc0"),
    "a role inquiry": (bytes.fromhex("000001bf"), b"\0\0\x01\xc2"),
    "a reserved type": (bytes.fromhex("04000133") + bytes(40), b""),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\0\x01\xc1"),
    "TLS": (bytes.fromhex("160301020001000101fc0303") + bytes(200), None),
    "noise": (bytes(SEED.randrange(256) for _ in range(400)), None),
    "zeros": (bytes(400), None),
    "an SPDM message that is none": (bytes.fromhex("04000105" + "ffffffff"), None),
    "a good start, then noise": (
        bytes.fromhex("0400010510840000") + bytes(SEED.randrange(256) for _ in range(400)),
        None,
    ),
    "a record before any session": (
        bytes.fromhex("0400010510840000" + "20000106") + bytes(32), None
    ),
}  # fmt: skip


async def sent_slowly(host: str, port: int, data: bytes) -> bytes:
    """Everything the listener says to this, until it closes or has had it all."""
    reader, writer = await asyncio.open_connection(host, port)
    said = b""

    async def listening() -> None:
        nonlocal said
        while chunk := await reader.read(4096):
            said += chunk

    listener = asyncio.create_task(listening())
    try:
        for value in data:
            if listener.done():
                break
            writer.write(bytes((value,)))
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.wait([listener], timeout=0.3)
    except OSError:
        pass
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        writer.close()
    return said


@pytest.mark.parametrize("name", GARBAGE)
async def test_the_other_client_is_served(name: str) -> None:
    data, expected = GARBAGE[name]
    device = MemoryDevice("ecdsa-p256")
    make = endpoints(device)
    limits = Limits(max_frame=40_000)
    async with await listen("tcp://127.0.0.1:0", make, limits=limits) as listener:
        host, port = listener.uri.host.name, listener.uri.host.port
        garbage = asyncio.create_task(sent_slowly(host, port, data))
        for _ in range(2):
            async with await aio.connect(listener.uri, make) as connection:
                await connection.run(everything(connection.endpoint.connection, device))
        said = await garbage
        if expected is not None:
            assert said == expected
        # And after it all, as before.
        async with await aio.connect(listener.uri, make) as connection:
            await connection.run(everything(connection.endpoint.connection, device))


async def test_a_crowd_of_garbage() -> None:
    device = MemoryDevice("ecdsa-p256")
    make = endpoints(device)
    async with await listen("tcp://127.0.0.1:0", make) as listener:
        host, port = listener.uri.host.name, listener.uri.host.port
        crowd = [asyncio.create_task(sent_slowly(host, port, os.urandom(60))) for _ in range(60)]

        async def honest() -> None:
            async with await aio.connect(listener.uri, make) as connection:
                await connection.run(everything(connection.endpoint.connection, device))

        await asyncio.gather(*(honest() for _ in range(8)))
        await asyncio.gather(*crowd)
    assert len(device.received) == 8
