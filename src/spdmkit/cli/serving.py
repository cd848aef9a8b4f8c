"""Serving a device's folder on listeners, for `device serve` and `demo`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spdmkit.cli.connecting import key_log
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.transports.server import Listener, listen

if TYPE_CHECKING:
    from spdmkit.device.folder import FolderDevice
    from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory, TapFactory
    from spdmkit.transports.server import ListenerEvent

__all__ = ["responder_factory", "serve"]


def responder_factory(device: FolderDevice) -> EndpointFactory:
    """Makes a responder for each connection; the device is shared, nothing else is.

    Secrets go to SPDMKEYLOGFILE when that is set.
    """
    settings = device.configuration.settings()
    events = key_log()

    def make(info: ConnectionInfo) -> ResponderEndpoint:
        connection = Connection(
            Role.RESPONDER,
            settings,
            clock=time.monotonic,
            random=os.urandom,
            record_profile=info.record_profile,
            events=events,
            log_keys=events is not None,
        )
        endpoint = ResponderEndpoint(connection, device, name=info.name)
        device.watch(endpoint)
        return endpoint

    return make


async def serve(
    device: FolderDevice,
    uris: Sequence[str],
    *,
    ready: Callable[[Listener], None],
    report: Callable[[ListenerEvent], None] | None = None,
    tap: TapFactory | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; what is in flight is finished within a few seconds.

    Args:
        device: what to serve.
        uris: where to listen.
        ready: told of each listener once it listens, with its real port.
        report: told of what happens to connections.
        tap: sees all bytes, for a capture.
    """
    factory = responder_factory(device)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listeners: list[Listener] = []
    try:
        for uri in uris:
            listener = await listen(uri, factory, on_event=report, tap=tap)
            listeners.append(listener)
            ready(listener)
        await stop.wait()
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))
