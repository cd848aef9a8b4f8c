"""Serving a device's folder on listeners, for `device serve` and `demo`."""

from __future__ import annotations

import asyncio
import difflib
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spdmkit.cli.connecting import key_log
from spdmkit.cli.narrating import both, narrate_connection, narrator
from spdmkit.device import responders
from spdmkit.errors import ConfigurationError
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.transports.server import Listener, listen

if TYPE_CHECKING:
    from spdmkit.device.folder import FolderDevice
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.events import EventSink
    from spdmkit.protocol.responder.device import Device
    from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory, TapFactory

__all__ = ["responder_factory", "serve"]


def responder_factory(
    device: FolderDevice, *, narrate: bool = False, misbehave: str = ""
) -> EndpointFactory:
    """Makes a responder for each connection; the device is shared, nothing else is.

    Secrets go to SPDMKEYLOGFILE when that is set.

    Args:
        device: what to serve.
        narrate: tell on stderr what happens on each connection.
        misbehave: name of the conformance case whose rule is broken; empty to break none.
    """
    log = key_log()

    def events(info: ConnectionInfo) -> EventSink | None:
        return both(log, narrator(info.name) if narrate else None)

    make = _misbehaving(misbehave) if misbehave else ResponderEndpoint
    return responders.responder_factory(
        device, events, log_keys=log is not None, make_endpoint=make
    )


def _misbehaving(rule: str) -> responders.MakeEndpoint:
    from spdmkit.conformance.misbehaviour import MisbehavingResponder
    from spdmkit.conformance.responder import responder_cases

    found = {case.name: case.breaks for case in responder_cases() if case.breaks is not None}
    broken = found.get(rule)
    if broken is None:
        close = difflib.get_close_matches(rule, found, 1)
        raise ConfigurationError(
            f"no rule is called {rule!r}",
            hint=f"did you mean {close[0]}?" if close else "see: spdm conformance --list",
        )

    def make(connection: Connection, device: Device, *, name: str) -> MisbehavingResponder:
        return MisbehavingResponder(connection, device, broken, name=name)

    return make


async def serve(
    device: FolderDevice,
    uris: Sequence[str],
    *,
    ready: Callable[[Listener], None],
    narrate: bool = False,
    misbehave: str = "",
    tap: TapFactory | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; what is in flight is finished within a few seconds.

    Args:
        device: what to serve.
        uris: where to listen.
        ready: told of each listener once it listens, with its real port.
        narrate: tell on stderr what happens on each connection.
        misbehave: name of the conformance case whose rule is broken; empty to break none.
        tap: sees all bytes, for a capture.
    """
    factory = responder_factory(device, narrate=narrate, misbehave=misbehave)
    report = narrate_connection if narrate else None
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
