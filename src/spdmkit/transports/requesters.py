"""Requester endpoints for connections, with the clock and the randomness of this machine."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.endpoint import RequesterEndpoint

if TYPE_CHECKING:
    from spdmkit.protocol.credentials import Credentials
    from spdmkit.protocol.events import EventSink
    from spdmkit.protocol.settings import Settings
    from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory

__all__ = ["requester_factory"]


def requester_factory(
    settings: Settings,
    *,
    credentials: Credentials | None = None,
    events: EventSink | None = None,
    log_keys: bool = False,
) -> EndpointFactory:
    """Makes a requester endpoint for each connection.

    Args:
        settings: what may be negotiated.
        credentials: our own identity, for responders that want to know who asks.
        events: told of what happens to sessions.
        log_keys: tell it the secrets too.
    """

    def make(info: ConnectionInfo) -> RequesterEndpoint:
        return RequesterEndpoint(
            Connection(
                Role.REQUESTER,
                settings,
                clock=time.monotonic,
                random=os.urandom,
                record_profile=info.record_profile,
                credentials=credentials,
                events=events,
                log_keys=log_keys,
            )
        )

    return make
