"""A responder in memory as the target of conformance cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spdmkit.conformance.case import NOTHING
from spdmkit.conformance.misbehaviour import MisbehavingResponder, Misbehaviour
from spdmkit.conformance.runner import Target
from spdmkit.conformance.talk import Facts
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode, RequesterFlags, ResponderFlags
from spdmkit.messages.events import DmtfEventType
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.notifier import dmtf_events
from spdmkit.protocol.records import TCP_STRICT
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.responder.device import CsrRequest
from spdmkit.protocol.settings import Settings
from tests.protocol.support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair
from tests.protocol.test_key_pairs import PAIR

CAPABLE = EVERYTHING | ResponderFlags.GET_KEY_PAIR_INFO_CAP | ResponderFlags.EVENT_CAP


class CapableDevice(MemoryDevice):
    """It has something of everything that a case can be about."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = [PAIR]
        self.events = [dmtf_events([DmtfEventType.MEASUREMENT_CHANGED])]

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        if request.tracking_tag:
            raise ProtocolViolation("nothing waits", error_code=ErrorCode.UNEXPECTED_REQUEST)
        return super().certificate_signing_request(request)


@dataclass(slots=True)
class MemoryTarget(Target):
    """A target without a socket; misbehaves when told to."""

    uri: str = "memory:"
    device: Callable[[], Any] = CapableDevice
    misbehaviour: Misbehaviour | None = None
    capabilities: int = CAPABLE

    def __post_init__(self) -> None:
        self.facts = Facts(psk=PreSharedKey(PSK_HINT, PSK))

    def converse(
        self,
        versions: Sequence[int],
        exchange: Callable[[Connection], Exchange[object]],
        *,
        without: RequesterFlags = NOTHING,
        transfer_size: int = 0,
    ) -> None:
        pair = Pair(
            self.device(), versions=tuple(versions), responder={"capabilities": self.capabilities}
        )
        settings = pair.requester.connection.settings
        wanted = replace(
            settings,
            capabilities=settings.capabilities & ~without,
            data_transfer_size=transfer_size or settings.data_transfer_size,
        )
        pair.requester.connection.settings = wanted
        if self.misbehaviour is not None:
            connection = pair._connection(
                Role.RESPONDER,
                Settings(versions=tuple(versions), capabilities=self.capabilities),
                TCP_STRICT,
            )
            pair.responder = MisbehavingResponder(connection, pair.device, self.misbehaviour)
        pair.run(exchange(pair.requester.connection))
