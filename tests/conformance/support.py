"""A responder in memory as the target of conformance cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from spdmkit.conformance.case import NOTHING
from spdmkit.conformance.misbehaviour import MisbehavingResponder, Misbehaviour
from spdmkit.conformance.runner import Target
from spdmkit.conformance.talk import Facts
from spdmkit.messages import RequesterFlags
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.records import TCP_STRICT
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.settings import Settings
from tests.protocol.support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair


@dataclass(slots=True)
class MemoryTarget(Target):
    """A target without a socket; misbehaves when told to."""

    uri: str = "memory:"
    device: Callable[[], Any] = MemoryDevice
    misbehaviour: Misbehaviour | None = None
    capabilities: int = EVERYTHING

    def __post_init__(self) -> None:
        self.facts = Facts(psk=PreSharedKey(PSK_HINT, PSK))

    def converse(
        self,
        versions: Sequence[int],
        exchange: Callable[[Connection], Exchange[object]],
        *,
        without: RequesterFlags = NOTHING,
    ) -> None:
        pair = Pair(self.device(), versions=tuple(versions))
        settings = pair.requester.connection.settings
        from dataclasses import replace

        wanted = replace(settings, capabilities=settings.capabilities & ~without)
        pair.requester.connection.settings = wanted
        if self.misbehaviour is not None:
            connection = pair._connection(
                Role.RESPONDER,
                Settings(versions=tuple(versions), capabilities=self.capabilities),
                TCP_STRICT,
            )
            pair.responder = MisbehavingResponder(connection, pair.device, self.misbehaviour)
        pair.run(exchange(pair.requester.connection))
