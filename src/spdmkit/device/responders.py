"""Responders for a device, one for each connection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from spdmkit.protocol.cache import NegotiatedStates
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.responder.endpoint import ResponderEndpoint

if TYPE_CHECKING:
    from spdmkit.device.folder import FolderDevice
    from spdmkit.protocol.events import EventSink
    from spdmkit.protocol.responder.device import Device
    from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory

__all__ = ["MakeEndpoint", "responder_factory"]


class MakeEndpoint(Protocol):
    """Makes the responder of one connection."""

    def __call__(self, connection: Connection, device: Device, *, name: str) -> ResponderEndpoint:
        """An endpoint that waits for GET_VERSION."""
        ...


def responder_factory(
    device: FolderDevice,
    events: Callable[[ConnectionInfo], EventSink | None] = lambda _info: None,
    *,
    log_keys: bool = False,
    make_endpoint: MakeEndpoint = ResponderEndpoint,
) -> EndpointFactory:
    """Makes a responder for each connection; the device is shared, nothing else is.

    Args:
        device: the device.
        events: makes what is told of a connection's sessions, or None.
        log_keys: tell it their secrets too, for a key log.
        make_endpoint: what answers, given connection, device and name; for responders that are
            wrong on purpose.
    """
    settings = device.configuration.settings()
    states = NegotiatedStates() if settings.cache_negotiated_state else None

    def make(info: ConnectionInfo) -> ResponderEndpoint:
        connection = Connection(
            Role.RESPONDER,
            settings,
            clock=time.monotonic,
            random=os.urandom,
            record_profile=info.record_profile,
            events=events(info),
            log_keys=log_keys,
        )
        connection.states = states
        endpoint = make_endpoint(connection, device, name=info.name)
        device.watch(endpoint)
        return endpoint

    return make
