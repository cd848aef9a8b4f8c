"""Hearing of the peer's events, and telling it of ours (DSP0274 10.29, from 1.3, in a session).

Over TCP a responder cannot speak first: its events come when it is asked for encapsulated requests,
which `await_events` does, or the connection by itself when `Settings.poll_interval` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    V13,
    CertificateChanged,
    Context,
    DmtfEventType,
    EventGroup,
    EventGroupAttributes,
    EventType,
    GetSupportedEventTypes,
    MeasurementChanged,
    MeasurementPreUpdate,
    Registry,
    SubscribeEventTypes,
    SubscribeEventTypesAck,
    SupportedEventTypes,
)
from spdmkit.protocol.actions import sleep
from spdmkit.protocol.notifier import DMTF_EVENT_GROUP_VERSION, send_pending
from spdmkit.protocol.requester.measurements import get_signed_measurements
from spdmkit.protocol.requester.sessions import end_session
from spdmkit.protocol.requester.upkeep import poll

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.events import PeerNotification
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.protocol.requester.measurements import SignedMeasurements
    from spdmkit.protocol.session import Session

__all__ = [
    "await_events",
    "await_measurement_change",
    "changed_measurements",
    "changed_slots",
    "dmtf_event_group",
    "get_supported_event_types",
    "send_events",
    "subscribe_event_types",
]

_SOURCES: dict[int, tuple[type[MeasurementChanged | MeasurementPreUpdate], str]] = {
    DmtfEventType.MEASUREMENT_CHANGED: (MeasurementChanged, "changed_measurements"),
    DmtfEventType.MEASUREMENT_PRE_UPDATE: (MeasurementPreUpdate, "pre_update_measurement_changes"),
}
_HIGHEST_INDEX = 0xFE
_PLAIN = Context(version=V13)


def dmtf_event_group(types: Iterable[int] | None = None) -> EventGroup:
    """DMTF's event group for a subscription: some `DmtfEventType`, or None for all there are."""
    listed = [] if types is None else [EventType(event_type_id=int(each)) for each in types]
    return EventGroup(
        registry=Registry.DMTF,
        event_group_ver=DMTF_EVENT_GROUP_VERSION,
        attributes=EventGroupAttributes.ALL_EVENT_TYPES if types is None else 0,
        event_types=listed,
    )


def get_supported_event_types(link: Link) -> Exchange[list[EventGroup]]:
    """GET_SUPPORTED_EVENT_TYPES: what the peer can tell of.

    Raises:
        ProtocolViolation: an event group comes twice, or is empty.
        SpdmError: as `Link.ask`.
    """
    groups = (yield from link.ask(GetSupportedEventTypes(), SupportedEventTypes)).message
    names = [(each.registry, each.vendor_id) for each in groups.event_groups]
    if len(set(names)) != len(names) or not names:
        raise ProtocolViolation("SUPPORTED_EVENT_TYPES lists no event group, or one twice")
    if not all(each.event_types for each in groups.event_groups):
        raise ProtocolViolation("SUPPORTED_EVENT_TYPES lists an event group without types")
    return groups.event_groups


def subscribe_event_types(link: Link, groups: Iterable[EventGroup]) -> Exchange[None]:
    """SUBSCRIBE_EVENT_TYPES: hear of these events from now on, and of no others.

    Args:
        link: the way through the session.
        groups: `dmtf_event_group()`, or others; none ends the subscription.

    Raises:
        PeerError: InvalidRequest: the peer does not have one of the event types.
        SpdmError: as `Link.ask`.
    """
    session = _session(link)
    wanted = list(groups)
    yield from link.ask(SubscribeEventTypes(event_groups=wanted), SubscribeEventTypesAck)
    session.subscribed = bool(wanted)


def await_events(
    link: Link, *, interval: float = 1.0, until: float = float("inf")
) -> Exchange[list[PeerNotification]]:
    """Ask the responder for its requests again and again, until it has told of events.

    Args:
        link: the way through the session.
        interval: seconds between two questions.
        until: when to give up, monotonic seconds of the driver.

    Returns:
        The events, oldest first; none when the time is over. Each event is returned once.

    Raises:
        ProtocolViolation: nothing is subscribed to, or the two sides have no ENCAP_CAP.
        SpdmError: as `Link.ask`.
    """
    session, clock = _session(link), link.connection.clock
    if not session.subscribed:
        raise ProtocolViolation("no events are subscribed to in this session")
    if not session.polls:
        raise ProtocolViolation("without ENCAP_CAP on both sides no events can come over TCP")
    while True:
        found = session.take_notifications()
        if found:
            return found
        yield from poll(link)
        found = session.take_notifications()
        if found or clock() >= until:
            return found
        yield from sleep(min(clock() + interval, until))


def await_measurement_change(
    link: Link,
    key: ProvenKey,
    *,
    slot_id: int = 0,
    interval: float = 1.0,
    until: float = float("inf"),
    others: Callable[[PeerNotification], None] = lambda _event: None,
) -> Exchange[SignedMeasurements | None]:
    """Wait for MeasurementChanged, then have all measurements taken anew and signed.

    Args:
        link: the way through a session with a subscription to MeasurementChanged. Its opener should
            have set TerminationPolicy: else the change itself ends the session.
        key: the verified chain of the slot, or the provisioned key for slot 0xF.
        slot_id: whose key signs.
        interval: seconds between two questions.
        until: when to give up, monotonic seconds of the driver.
        others: told of events of other types that come meanwhile.

    Returns:
        The new measurements; None when the time is over.

    Raises:
        SpdmError: as `await_events` and `get_signed_measurements`.
    """
    while True:
        events = yield from await_events(link, interval=interval, until=until)
        changed = False
        for event in events:
            if changed_measurements(event) or _is(event, DmtfEventType.EVENT_LOST):
                changed = True
            else:
                others(event)
        if changed:
            return (yield from get_signed_measurements(link, key, slot_id=slot_id, fresh=True))
        if not events:
            return None


def changed_measurements(event: PeerNotification) -> frozenset[int]:
    """The measurement indices that MeasurementChanged or MeasurementPreUpdate tells of.

    Empty for other events.

    Raises:
        DecodeError: its detail is malformed.
    """
    for number, (struct, name) in _SOURCES.items():
        if _is(event, number):
            mask = int.from_bytes(getattr(struct.decode(event.detail, _PLAIN), name), "little")
            return frozenset(each for each in range(1, _HIGHEST_INDEX + 1) if mask >> each & 1)
    return frozenset()


def changed_slots(event: PeerNotification) -> frozenset[int]:
    """The slots that CertificateChanged tells of; empty for other events.

    Raises:
        DecodeError: its detail is malformed.
    """
    if not _is(event, DmtfEventType.CERTIFICATE_CHANGED):
        return frozenset()
    mask = CertificateChanged.decode(event.detail, _PLAIN).certificate_changed
    return frozenset(slot for slot in range(8) if mask >> slot & 1)


def send_events(link: Link) -> Exchange[int]:
    """SEND_EVENT: tell the responder what it subscribed to of our own events.

    Returns:
        How many events it acknowledged.

    Raises:
        ProtocolViolation: the connection has no source of events.
        SpdmError: as `Link.ask`.
    """
    session, source = _session(link), link.connection.event_source
    if source is None:
        raise ProtocolViolation("this side has no source of events")
    notifier = session.notifier
    if notifier is None or not notifier.wanted:
        return 0
    notifier.take(source.events_since(notifier.place))
    count = yield from send_pending(link, session)
    if notifier.exhausted:
        yield from end_session(link)
    return count


def _is(event: PeerNotification, event_type: int) -> bool:
    ours = event.registry_id == Registry.DMTF and not event.vendor_id
    return ours and event.event_type == event_type


def _session(link: Link) -> Session:
    if link.session is None or not link.session.established:
        raise ProtocolViolation("events need an established session")
    return link.session
