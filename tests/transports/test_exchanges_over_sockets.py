"""The later exchanges over TCP, with both drivers: cached state, events, provisioning, slots."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest

from spdmkit.messages import ResponderExtendedFlags, ResponderFlags
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.cache import NegotiatedStates, psk_identity
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.endpoint import Endpoint, RequesterEndpoint
from spdmkit.protocol.exchanges import (
    Link,
    await_events,
    changed_measurements,
    dmtf_event_group,
    end_session,
    get_bank_info,
    get_digests,
    get_endpoint_info,
    get_key_pairs,
    negotiate,
    resume_by_psk,
    set_certificate,
    subscribe_event_types,
)
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.settings import Settings
from spdmkit.transports import aio, blocking
from spdmkit.transports.conduit import ConnectionInfo
from spdmkit.transports.framing import Role
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.server import listen
from spdmkit.transports.uri import EndpointUri

from ..protocol.support import EVERYTHING, PSK, PSK_HINT, MemoryDevice
from ..protocol.test_events import measurement_changed
from ..protocol.test_key_pairs import PAIR
from ..protocol.test_slot_management import banked

F = ResponderFlags
KEY = PreSharedKey(PSK_HINT, PSK)
FLAGS = EVERYTHING | F.CACHE_CAP | F.EVENT_CAP | F.GET_KEY_PAIR_INFO_CAP
URIS = [
    "tcp://127.0.0.1:0?dialect=strict",
    "tcp://127.0.0.1:0?dialect=libspdm",
    "emu+tcp://127.0.0.1:0",
]


def endpoints(device: MemoryDevice) -> Callable[[ConnectionInfo], Endpoint]:
    """Both roles; all responders remember together."""
    states = NegotiatedStates()

    def make(info: ConnectionInfo) -> Endpoint:
        asks = info.role is Role.REQUESTER
        settings = Settings(
            capabilities=requester_capabilities(sessions=True, psk=True) if asks else FLAGS,
            extended_capabilities=0 if asks else int(ResponderExtendedFlags.SLOT_MGMT_CAP),
            cache_negotiated_state=True,
        )
        connection = Connection(
            info.role,
            settings,
            clock=time.monotonic,
            random=os.urandom,
            record_profile=info.record_profile,
        )
        if asks:
            return RequesterEndpoint(connection)
        connection.states = states
        return ResponderEndpoint(connection, device)

    return make


def visit(connection: Connection, device: MemoryDevice, states: NegotiatedStates) -> Exchange[bool]:
    """Open a session, use it, end it; True when a negotiation was remembered for it."""
    link = Link(connection)
    remembered = states.recall(psk_identity(PSK_HINT)) is not None
    opened = yield from resume_by_psk(link, KEY, states)
    inside = opened.link
    yield from subscribe_event_types(inside, [dmtf_event_group()])
    device.happened.append(measurement_changed(7))
    (event,) = yield from await_events(inside, interval=0.05)
    assert changed_measurements(event) == {7}
    yield from set_certificate(inside, 5, device.certificates)
    assert 5 in (yield from get_digests(inside)).slots
    assert len((yield from get_bank_info(inside))) == 3
    assert set((yield from get_key_pairs(inside))) == {1}
    yield from get_endpoint_info(inside)
    yield from end_session(inside)
    return remembered


def a_device() -> MemoryDevice:
    device = banked()
    device.pairs = [PAIR]
    return device


@pytest.mark.parametrize("uri", URIS)
async def test_asyncio(uri: str) -> None:
    device, states = a_device(), NegotiatedStates()
    make = endpoints(device)
    async with await listen(uri, make) as listener:
        for again in (False, True):
            async with await aio.connect(listener.uri, make) as connection:
                inner = connection.endpoint.connection
                assert await connection.run(visit(inner, device, states)) is again
    assert states.recall(psk_identity(PSK_HINT)) is not None


@pytest.mark.parametrize("uri", URIS)
async def test_blocking(uri: str) -> None:
    device, states = a_device(), NegotiatedStates()
    make = endpoints(device)

    def client(where: EndpointUri) -> list[bool]:
        found = []
        for _ in range(2):
            with blocking.connect(where, make) as connection:
                inner = connection.endpoint.connection
                found.append(connection.run(visit(inner, device, states)))
        return found

    async with await listen(uri, make) as listener:
        found = await asyncio.to_thread(client, listener.uri)
    assert found == [False, True]


async def test_a_dialect_that_was_learned_is_right_for_the_next_connection() -> None:
    """The first answer is PSK_EXCHANGE_RSP then, whose size only the negotiation tells."""
    device, states, memory = a_device(), NegotiatedStates(), DialectMemory()
    make = endpoints(device)
    async with await listen("tcp://127.0.0.1:0", make) as listener:
        uri = str(listener.uri).partition("?")[0]
        for again in (False, True):
            async with await aio.connect(uri, make, memory=memory) as connection:
                inner = connection.endpoint.connection
                assert await connection.run(visit(inner, device, states)) is again


async def test_a_server_that_has_forgotten() -> None:
    """A first frame that presumes too much is understood and refused, in the dialect it came in."""
    device, states = a_device(), NegotiatedStates()
    for uri in URIS[:2]:
        async with await listen(uri, endpoints(device)) as listener:
            make = endpoints(device)
            async with await aio.connect(listener.uri, make) as connection:
                await connection.run(visit(connection.endpoint.connection, device, states))
        async with await listen(uri, endpoints(device)) as listener:
            async with await aio.connect(listener.uri, make) as connection:
                inner = connection.endpoint.connection
                await connection.run(visit(inner, device, states))
            async with await aio.connect(listener.uri, make) as connection:
                link = Link(connection.endpoint.connection)
                await connection.run(negotiate(link))
