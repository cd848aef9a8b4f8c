"""One conversation of a requester with one device: what does it want, is it valid, do it, again.

    visit = Visit(link, provider)
    await connection.run(visit.run())

`run` is an exchange, so that any driver runs it. What was done stands in `visit.outcomes`, also
when the conversation fails in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from spdmkit.errors import PeerError, ProtocolViolation
from spdmkit.identity import safe_text
from spdmkit.messages import DmtfEventType, ErrorCode, Registry
from spdmkit.messages.dsp0287 import ServiceId, ServiceRequest, ServiceState, SessionMethod
from spdmkit.protocol.requester.events import (
    await_events,
    changed_measurements,
    changed_slots,
    dmtf_event_group,
    subscribe_event_types,
)
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.services.catalogue import SERVICES
from spdmkit.services.performing import PERFORMERS, attest_again
from spdmkit.services.requests import get_service_request
from spdmkit.services.rooms import Inapplicable, Rooms
from spdmkit.services.wishes import Wish

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.events import PeerNotification
    from spdmkit.protocol.link import Link
    from spdmkit.services.provider import Provider

__all__ = ["ServiceOutcome", "Visit"]

MOST_CHANGES: Final = 16
"""Changes of a watched device that are kept; each was told when it came."""


@dataclass(slots=True)
class ServiceOutcome:
    """A service that was performed.

    Attributes:
        service: what commands call it.
        service_id: its number.
        asked: the device asked for it; otherwise we did it by ourselves.
        session: "none", "key-exchange" or "psk".
        detail: what was done, as plain data.
        result: the attestation's result, where the service has one.
        evidence: the evidence for it, CBOR, where there is some.
    """

    service: str
    service_id: int
    asked: bool
    session: str = "none"
    detail: Mapping[str, Any] = field(default_factory=dict)
    result: AttestationResult | None = None
    evidence: bytes = b""

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        shown: dict[str, Any] = {
            "service": self.service,
            "asked": self.asked,
            "session": self.session,
            **self.detail,
        }
        if self.result is not None:
            shown["verdict"] = str(self.result.verdict)
        return shown


class Visit:
    """See the module.

    Attributes:
        link: the way to the device outside of any session.
        provider: what we offer.
        target: the device's address, for reports and pinning.
        rooms: the session, and what the device proved.
        outcomes: the services that were performed, in order.
        corrections: invalid requests of the device that were sent back.
        speaks_services: whether the device knows GET_SERVICE_REQUEST; None before it was asked.
        on_outcome: told of each outcome when it is there.
    """

    def __init__(self, link: Link, provider: Provider, *, target: str = "") -> None:
        """A conversation of which nothing was said.

        Args:
            link: a fresh connection, whose settings keep messages.
            provider: what we offer.
            target: the device's address.
        """
        self.link = link
        self.provider = provider
        self.target = target
        self.rooms = Rooms(link, provider)
        self.outcomes: list[ServiceOutcome] = []
        self.corrections: list[str] = []
        self.speaks_services: bool | None = None
        self.on_outcome: Callable[[ServiceOutcome], None] = lambda _outcome: None

    def run(self, unasked: Sequence[Wish] = ()) -> Exchange[None]:
        """Negotiate, do what the device wants, and end the session.

        The session stays open when `will_watch` is set: `watch` is to follow then.

        Args:
            unasked: services to perform before the device is asked; in the reach-down model the
                requester has reasons of its own to come.

        Raises:
            AuthenticationError: the device could not prove something.
            ProtocolViolation: it asks for what cannot be, again and again.
            SpdmError: as `Link.ask`.
        """
        yield from self.negotiate()
        yield from self.serve(unasked)

    def negotiate(self) -> Exchange[None]:
        """GET_VERSION to ALGORITHMS: cheap, so that a listener does it for everybody at once."""
        yield from negotiate(self.link)

    def serve(self, unasked: Sequence[Wish] = ()) -> Exchange[None]:
        """What follows negotiation; arguments and errors as `run`."""
        for wish in unasked:
            try:
                yield from self._perform(wish.message(), asked=False)
            except Inapplicable as error:
                raise ProtocolViolation(str(error)) from error
        yield from self._serve_requests()
        if not self.outcomes and not self.speaks_services:
            yield from self._default()
        if not self.will_watch:
            yield from self.rooms.leave()

    def watch(self) -> Exchange[None]:
        """Wait for events of the device as long as the provider says, then end the session.

        Raises:
            SpdmError: as `Link.ask`.
        """
        provider, clock = self.provider, self.link.connection.clock
        until = float("inf") if provider.watch is None else clock() + provider.watch
        yield from subscribe_event_types(self.rooms.current, [dmtf_event_group()])
        while True:
            events = yield from await_events(
                self.rooms.current, interval=provider.poll, until=until
            )
            if not events:
                break
            yield from self._heard(events)
        yield from self.rooms.leave()

    @property
    def will_watch(self) -> bool:
        """Whether there is anything to wait for: a device that said "any", with events, in a
        session (table 15)."""  # noqa: D205, D209 - one sentence
        ready = any(each.asked and each.service == "any" for each in self.outcomes)
        wants = self.provider.watch is None or self.provider.watch > 0
        in_session = self.rooms.current.session is not None
        return ready and wants and in_session and self.rooms.has_events

    def _heard(self, events: Sequence[PeerNotification]) -> Exchange[None]:
        """Attest again when measurements changed, and forget chains that did."""
        indexes: set[int] = set()
        slots: set[int] = set()
        lost = False
        for event in events:
            indexes |= changed_measurements(event)
            slots |= changed_slots(event)
            lost |= event.event_type == DmtfEventType.EVENT_LOST
        if slots or lost:
            self.rooms.forget_slots()
        if not (indexes or slots or lost):
            return
        detail = {"measurements_changed": sorted(indexes), "slots_changed": sorted(slots)}
        outcome = ServiceOutcome("event", ServiceId.ANY_REQUEST, False, self.rooms.kind, detail)
        yield from attest_again(self, outcome)
        self._note(outcome)
        # A device may be watched for years: what was told of its changes is not kept that long.
        told = [each for each in self.outcomes if each.service == outcome.service]
        for old in told[:-MOST_CHANGES]:
            self.outcomes.remove(old)

    def _note(self, outcome: ServiceOutcome) -> None:
        self.outcomes.append(outcome)
        self.on_outcome(outcome)

    @property
    def result(self) -> AttestationResult | None:
        """The last attestation result, or None."""
        return next((each.result for each in reversed(self.outcomes) if each.result), None)

    @property
    def identity(self) -> Mapping[str, object]:
        """Who the device proved to be on this connection, or empty."""
        return self.rooms.who if self.result is None else self.result.identity

    # -- what the device wants ------------------------------------------------------------------

    def _serve_requests(self) -> Exchange[None]:
        provider = self.provider
        state, invalid = ServiceState.NEXT, 0
        for _ in range(provider.most_services * (provider.most_invalid + 1)):
            request = yield from self._next_request(state)
            if request is None or _is_none(request):
                return
            if len(self.outcomes) >= provider.most_services:
                raise ProtocolViolation(
                    f"the device wants more than {provider.most_services} services"
                )
            problem = self._problem(request)
            if problem is None:
                try:
                    yield from self._perform(request, asked=True)
                except Inapplicable as error:
                    problem = error
            if problem is None:
                state, invalid = ServiceState.NEXT, 0
                continue
            state, invalid = problem.state, invalid + 1
            self.corrections.append(str(problem))
            if invalid > provider.most_invalid:
                raise ProtocolViolation(
                    f"the device corrected its service request {provider.most_invalid} times, and "
                    f"it is still wrong: {problem}"
                )

    def _next_request(self, state: ServiceState) -> Exchange[ServiceRequest | None]:
        """The next SERVICE_REQUEST; None from a device that knows no services."""
        try:
            request = yield from get_service_request(
                self.rooms.current, self.provider.offered, state
            )
        except PeerError as error:
            if self.speaks_services or error.frame or error.code not in _KNOWS_NO_SERVICES:
                raise
            self.speaks_services = False
            return None
        self.speaks_services = True
        return request

    def _problem(self, request: ServiceRequest) -> Inapplicable | None:
        """What is wrong with a request by itself."""
        if request.session_method not in SessionMethod.__members__.values():
            return Inapplicable(
                ServiceState.SESSION_METHOD_INVALID,
                f"SessionMethod {request.session_method:#05b} is reserved",
            )
        if not _is_dmtf(request):
            if (request.registry, request.vendor_id) in self.provider.bodies:
                return None
            return Inapplicable(
                ServiceState.SERVICE_ID_NOT_AVAILABLE,
                f"nobody here performs services of registry {request.registry:#04x}",
            )
        if request.service_id not in self.provider.offered:
            return Inapplicable(
                ServiceState.SERVICE_ID_NOT_AVAILABLE,
                f"service {request.service_id:#04x} is not provided",
            )
        return _parameter_problem(request)

    # -- doing it -------------------------------------------------------------------------------

    def _perform(self, request: ServiceRequest, *, asked: bool) -> Exchange[None]:
        if _is_dmtf(request):
            service = SERVICES[ServiceId(request.service_id)]
            outcome = ServiceOutcome(service.word, request.service_id, asked)
            yield from PERFORMERS[service.service_id](self, request, outcome)
        else:
            outcome = ServiceOutcome(_label(request), request.service_id, asked)
            handler = self.provider.bodies[request.registry, request.vendor_id]
            room = yield from self.rooms.enter(request, mutual=False)
            outcome.detail = yield from handler(room, request)
        outcome.session = self.rooms.kind
        if self.rooms.hint:
            hint = self.rooms.hint.decode("utf-8", "backslashreplace")
            outcome.detail = {"psk_hint": safe_text(hint), **outcome.detail}
        self._note(outcome)
        if not self.provider.keep_session:
            yield from self.rooms.leave()

    def _default(self) -> Exchange[None]:
        """What a device gets that does not say what it wants."""
        service = self.provider.default_service
        if service is None or service is ServiceId.ANY_REQUEST:
            return
        try:
            yield from self._perform(Wish.of(service).message(), asked=False)
        except Inapplicable as error:
            raise ProtocolViolation(f"the default service is not possible: {error}") from error


_KNOWS_NO_SERVICES = (ErrorCode.UNSUPPORTED_REQUEST, ErrorCode.INVALID_REQUEST)
"""What devices say to a vendor's request that they do not know; the second is the reference's."""


def _is_dmtf(request: ServiceRequest) -> bool:
    return request.registry == Registry.DMTF and not request.vendor_id


def _is_none(request: ServiceRequest) -> bool:
    return request.service_id == ServiceId.NONE


def _label(request: ServiceRequest) -> str:
    vendor = request.vendor_id.hex() or "-"
    return f"{request.registry:#04x}/{vendor}/{request.service_id:#04x}"


def _parameter_problem(request: ServiceRequest) -> Inapplicable | None:
    """ServiceParam, where table 15 gives it a meaning; reserved ones are not looked at."""
    parameter = request.service_param
    wrong = False
    if request.service_id == ServiceId.GET_MEASUREMENTS:
        wrong = parameter & 0xF0 != 0 or 8 <= parameter < 0xE
    elif request.service_id == ServiceId.PROVISION_CERTIFICATE:
        wrong = parameter & 0xF > 7
    if not wrong:
        return None
    return Inapplicable(
        ServiceState.SERVICE_PARAM_INVALID, f"ServiceParam {parameter:#04x} is invalid"
    )


def words_of(services: Iterable[int]) -> list[str]:
    """Services as commands call them."""
    return [SERVICES[ServiceId(each)].word for each in sorted(services)]
