"""Serving a device's folder on listeners, for `device serve` and `demo`."""

from __future__ import annotations

import asyncio
import difflib
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from spdmkit.cli.connecting import key_log
from spdmkit.cli.narrating import both, narrate_connection, narrator
from spdmkit.device import responders
from spdmkit.errors import ConfigurationError
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.transports.server import Listener, listen
from spdmkit.transports.uri import Host, parse_uri

if TYPE_CHECKING:
    from spdmkit.conformance.wire import WireMisbehaviour
    from spdmkit.device.folder import FolderDevice
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.events import EventSink
    from spdmkit.protocol.responder.device import Device
    from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory, TapFactory

__all__ = ["responder_factory", "serve"]

T = TypeVar("T")


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

    broken = _named(
        rule, {case.name: case.breaks for case in responder_cases() if case.breaks is not None}
    )

    def make(connection: Connection, device: Device, *, name: str) -> MisbehavingResponder:
        return MisbehavingResponder(connection, device, broken, name=name)

    return make


def _named(rule: str, known: dict[str, T]) -> T:
    found = known.get(rule)
    if found is None:
        close = difflib.get_close_matches(rule, known, 1)
        raise ConfigurationError(
            f"no rule is called {rule!r}",
            hint=f"did you mean {close[0]}?" if close else "see: spdm conformance --list",
        )
    return found


async def serve(
    device: FolderDevice,
    uris: Sequence[str],
    *,
    ready: Callable[[str], None],
    narrate: bool = False,
    misbehave: str = "",
    tap: TapFactory | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; what is in flight is finished within a few seconds.

    Args:
        device: what to serve.
        uris: where to listen.
        ready: told the address of each listener once it listens, with its real port.
        narrate: tell on stderr what happens on each connection.
        misbehave: name of the conformance case whose rule is broken; empty to break none.
        tap: sees all bytes, for a capture.
    """
    spoiled = _spoiled(misbehave)
    rule = "" if spoiled is not None else misbehave
    factory = responder_factory(device, narrate=narrate, misbehave=rule)
    report = narrate_connection if narrate else None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listeners: list[Listener] = []
    fronts: list[asyncio.Server] = []
    try:
        for uri in uris:
            behind = uri if spoiled is None else _BEHIND
            listener = await listen(behind, factory, on_event=report, tap=tap)
            listeners.append(listener)
            if spoiled is None:
                ready(str(listener.uri))
                continue
            front, address = await _front(spoiled, uri, listener)
            fronts.append(front)
            ready(address)
        await stop.wait()
    finally:
        for front in fronts:
            front.close()
        await asyncio.gather(*(listener.close() for listener in listeners))


_BEHIND = "tcp://127.0.0.1:0"
"""Where a device listens whose binding is spoiled by a relay in front of it."""


def _spoiled(rule: str) -> WireMisbehaviour | None:
    """How the binding is to be spoiled; None when the rule is not one of the binding."""
    if not rule.startswith("binding."):
        return None
    from spdmkit.conformance.binding import BINDING_CASES

    return _named(rule, {case.name: case.breaks for case in BINDING_CASES})


async def _front(
    spoiled: WireMisbehaviour, uri: str, listener: Listener
) -> tuple[asyncio.Server, str]:
    """Listen at an address in front of a listener; also the address with its real port."""
    from spdmkit.conformance.wire import relay

    wanted = parse_uri(uri, listen=True)
    if wanted.scheme != "tcp":
        raise ConfigurationError(f"{wanted.scheme} is not the TCP binding, which {uri} would break")
    front = await relay(spoiled, listener.uri.host, wanted.host)
    port = front.sockets[0].getsockname()[1]
    return front, str(replace(wanted, address=Host(wanted.host.name, port)))
