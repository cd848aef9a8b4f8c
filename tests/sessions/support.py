"""A device that echoes, served on a socket for blocking and asynchronous tests alike."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from spdmkit.attestation.verification import DeviceTrust
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.events import ProtocolEvent
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.settings import Settings
from spdmkit.sessions import Terms
from spdmkit.transports.aio import AsyncConnection
from spdmkit.transports.conduit import ConnectionInfo
from spdmkit.transports.server import Listener, ListenerEvent, listen

from ..protocol.support import EVERYTHING, NOW, PSK, PSK_HINT, MemoryDevice

BY_PSK = PreSharedKey(PSK_HINT, PSK)


@dataclass
class Served:
    """A device on a socket.

    Attributes:
        loop: the event loop it is served on, in another thread when the test blocks.
    """

    device: MemoryDevice
    settings: dict[str, Any]
    uri: str = ""
    loop: asyncio.AbstractEventLoop | None = None
    events: list[ProtocolEvent] = field(default_factory=list)
    endpoints: list[ResponderEndpoint] = field(default_factory=list)
    connections: list[AsyncConnection] = field(default_factory=list)

    def make(self, info: ConnectionInfo) -> ResponderEndpoint:
        options: dict[str, Any] = {"capabilities": EVERYTHING, **self.settings}
        connection = Connection(
            Role.RESPONDER,
            Settings(**options),
            clock=time.monotonic,
            random=os.urandom,
            events=self.events.append,
            record_profile=info.record_profile,
        )
        endpoint = ResponderEndpoint(connection, self.device, name=info.name)
        self.endpoints.append(endpoint)
        return endpoint

    async def listen(self, uri: str = "tcp://127.0.0.1:0") -> Listener:
        def happened(event: ListenerEvent) -> None:
            if event.connection is not None and event.connection not in self.connections:
                self.connections.append(event.connection)

        listener = await listen(uri, self.make, on_event=happened)
        self.uri = str(listener.uri)
        return listener

    @property
    def trust(self) -> DeviceTrust:
        anchors = TrustAnchors([self.device.certificates[0]], Purpose.DEVICE)
        return DeviceTrust(int(NOW.timestamp()), anchors)

    @property
    def terms(self) -> Terms:
        return Terms(self.trust)


def a_device(**settings: Any) -> Served:
    return Served(MemoryDevice("ecdsa-p256"), settings)


def with_heartbeat(period: int = 1, **settings: Any) -> Served:
    return a_device(heartbeat_period=period, **settings)


@contextmanager
def in_a_thread(served: Served) -> Iterator[Served]:
    """Serve it on a loop of its own while the test blocks."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        served.loop = asyncio.get_running_loop()
        listener = await served.listen()
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.01)
        await listener.close(grace=0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield served
    finally:
        done.set()
        thread.join(10)
