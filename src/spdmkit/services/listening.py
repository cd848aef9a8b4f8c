"""A requester that devices dial: many at once, each on its own, none of which can hurt another.

    service = VerifierService(provider, settings, on_report=report)
    async with await service.listen("tcp://:4194") as listener:
        await listener.serve_forever()

Negotiation is cheap and runs for everybody at once. What follows costs signatures: so many devices
are served at a time, the others wait, which costs them nothing. Addresses take turns, and a device
that lets us wait loses its turn, so that slow ones and floods do not keep the others out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.results.json_result import to_dict
from spdmkit.errors import AuthenticationError, DeadlineExceeded, SpdmError, TransportError
from spdmkit.protocol.connection import Role
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings, requester_settings
from spdmkit.services.turns import Turns
from spdmkit.services.visit import ServiceOutcome, Visit
from spdmkit.transports.aio import Patience, connect
from spdmkit.transports.requesters import requester_factory
from spdmkit.transports.server import Limits, Listener, listen

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.protocol.credentials import Credentials
    from spdmkit.protocol.endpoint import Endpoint
    from spdmkit.protocol.events import EventSink
    from spdmkit.services.provider import Provider
    from spdmkit.services.wishes import Wish
    from spdmkit.transports.aio import AsyncConnection
    from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory, TapFactory
    from spdmkit.transports.server import ListenerEvent

__all__ = ["Report", "VerifierService"]

AT_ONCE: Final = 32
"""Devices that are served at a time; the others wait their turn."""
LONGEST_VISIT: Final = 120.0
"""Seconds that the services of one device may take once it is its turn."""
PATIENCE: Final = Patience(handshake=30.0, idle=900.0)
"""Negotiation waits for nobody; a device that waits its turn says nothing meanwhile. Every answer
has its own, much shorter deadline."""


@dataclass(slots=True)
class Report:
    """What became of one device's connection.

    Attributes:
        peer: its address.
        began: seconds since 1970.
        seconds: how long it took.
        services: what was performed, in order.
        error: why it ended, where it did not end in good order.
        result: the last attestation result, or None.
        identity: who the device proved to be, or empty.
        corrections: invalid requests that were sent back to it.
        speaks_services: it knows GET_SERVICE_REQUEST; None when it was not asked.
        final: the connection is over; otherwise the device told of a change meanwhile.
    """

    peer: str
    began: float
    seconds: float = 0.0
    services: list[ServiceOutcome] = field(default_factory=list)
    error: SpdmError | None = None
    result: AttestationResult | None = None
    identity: Mapping[str, object] = field(default_factory=dict)
    corrections: list[str] = field(default_factory=list)
    speaks_services: bool | None = None
    final: bool = True

    @property
    def verdict(self) -> str:
        """The verdict of the last attestation; "untrusted" when a proof failed, "none" without."""
        if isinstance(self.error, AuthenticationError):
            return "untrusted"
        return "none" if self.result is None else str(self.result.verdict)

    @property
    def evidence(self) -> bytes:
        """The last evidence, or nothing."""
        return next((each.evidence for each in reversed(self.services) if each.evidence), b"")

    def as_dict(self, *, whole: bool = False) -> dict[str, Any]:
        """As plain data.

        Args:
            whole: with the attestation's result, which is long.
        """
        document: dict[str, Any] = {
            "peer": self.peer,
            "time": describe_time(int(self.began)),
            "verdict": self.verdict,
            "identity": dict(self.identity),
            "services": [each.as_dict() for each in self.services],
            "error": None if self.error is None else str(self.error),
            "seconds": round(self.seconds, 4),
            "final": self.final,
        }
        if self.corrections:
            document["corrections"] = list(self.corrections)
        if whole and self.result is not None:
            document["result"] = to_dict(self.result)
        return document


class VerifierService:
    """See the module.

    Attributes:
        provider: what devices are offered.
    """

    def __init__(
        self,
        provider: Provider,
        settings: Settings | None = None,
        *,
        credentials: Credentials | None = None,
        on_report: Callable[[Report], None] | None = None,
        at_once: int = AT_ONCE,
        longest_visit: float = LONGEST_VISIT,
        events: EventSink | None = None,
        log_keys: bool = False,
    ) -> None:
        """A service that does not listen yet.

        Args:
            provider: what devices are offered.
            settings: of the requester, from `requester_settings`, with sessions by default.
            credentials: our identity, for mutual authentication.
            on_report: told of each device when its connection is over.
            at_once: devices served at a time.
            longest_visit: seconds for the services of one device.
            events: told of sessions, and of their secrets when `log_keys`.
            log_keys: for a key log.
        """
        self.provider = provider
        self._make = requester_factory(
            settings
            or requester_settings(sessions=True, psk=bool(provider.psks), credentials=credentials),
            credentials=credentials,
            events=events,
            log_keys=log_keys,
        )
        self._on_report = on_report
        self._turns = Turns(at_once)
        self._longest = longest_visit

    @property
    def waiting(self) -> int:
        """Devices that wait their turn."""
        return self._turns.waiting

    def make(self, info: ConnectionInfo) -> Endpoint:
        """A requester endpoint for a connection: an `EndpointFactory`."""
        return self._make(info)

    async def listen(
        self,
        uri: str,
        *,
        responder: EndpointFactory | None = None,
        limits: Limits | None = None,
        on_event: Callable[[ListenerEvent], None] | None = None,
        tap: TapFactory | None = None,
    ) -> Listener:
        """Listen for devices that dial in (the reach-out model).

        Args:
            uri: where.
            responder: makes responders for requesters that connect to the same address (the
                reach-down model); without, they get 0xC3.
            limits: what peers may take.
            on_event: told of connections that open, end, are refused or fail.
            tap: sees all bytes, for a capture.

        Raises:
            ConfigurationError, TransportError: as `transports.server.listen`.
        """
        roles: Collection[Role] = (Role.REQUESTER,)
        if responder is not None:
            roles = (Role.REQUESTER, Role.RESPONDER)

        def make(info: ConnectionInfo) -> Endpoint:
            if info.role is Role.RESPONDER and responder is not None:
                return responder(info)
            return self.make(info)

        return await listen(
            uri,
            make,
            roles=roles,
            handler=self._handle,
            limits=limits or Limits(patience=PATIENCE),
            on_event=on_event,
            tap=tap,
        )

    async def dial(
        self, uri: str, unasked: Sequence[Wish] = (), *, tap: TapFactory | None = None
    ) -> Report:
        """Connect to a device and serve it (the reach-down model).

        Args:
            uri: its address.
            unasked: what to do before it is asked what it wants.
            tap: sees all bytes, for a capture.

        Raises:
            ConfigurationError, TransportError: it could not be reached. What goes wrong later is
                in the report.
        """
        async with await connect(uri, self.make, tap=tap) as connection:
            return await self.serve(connection, unasked, target=uri)

    async def serve(
        self, connection: AsyncConnection, unasked: Sequence[Wish] = (), *, target: str = ""
    ) -> Report:
        """Serve the device on a connection; what goes wrong with it is in the report."""
        peer = connection.info.peer
        link = Link(connection.endpoint.connection)
        visit = Visit(link, self.provider, target=target or peer)
        report = Report(peer, self.provider.clock())
        started = time.monotonic()
        try:
            await self._visit(connection, visit, unasked, report)
        except SpdmError as error:
            report.error = error
        except asyncio.CancelledError:
            report.error = TransportError("the service is stopping")
            raise
        except BaseException as error:
            report.error = TransportError(f"internal error: {type(error).__name__}: {error}")
            raise
        finally:
            report.seconds = time.monotonic() - started
            report.services, report.corrections = visit.outcomes, visit.corrections
            report.result, report.identity = visit.result, visit.identity
            report.speaks_services = visit.speaks_services
            if self._on_report is not None:
                self._on_report(report)
        return report

    async def _visit(
        self,
        connection: AsyncConnection,
        visit: Visit,
        unasked: Sequence[Wish],
        report: Report,
    ) -> None:
        await connection.run(visit.negotiate())
        turn = await self._turns.take(_host_of(connection.info.peer))
        try:
            async with asyncio.timeout(self._longest):
                await connection.run(visit.serve(unasked))
        except TimeoutError:
            raise DeadlineExceeded(
                f"the services of this device took more than {self._longest:.0f} seconds"
            ) from None
        finally:
            turn.end()
        if visit.will_watch:
            visit.on_outcome = lambda outcome: self._tell_change(visit, report, outcome)
            await connection.run(visit.watch())

    def _tell_change(self, visit: Visit, report: Report, outcome: ServiceOutcome) -> None:
        """A device that we watch has changed: that cannot wait until it is gone."""
        if self._on_report is not None:
            now = self.provider.clock()
            changed = replace(
                report,
                began=now,
                services=[outcome],
                result=outcome.result,
                identity=visit.identity,
                final=False,
            )
            self._on_report(changed)

    async def _handle(self, connection: AsyncConnection) -> None:
        report = await self.serve(connection)
        if report.error is not None:
            raise report.error


def _host_of(peer: str) -> str:
    return peer.rpartition(":")[0] or peer
