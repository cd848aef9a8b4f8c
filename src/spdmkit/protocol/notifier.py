"""Who wants to hear of which events in a session, and what was not heard yet (DSP0274 10.29).

Either side may be the Event Notifier. Where events come from is an `EventSource`: a journal that
both sides of a device's life write to and all sessions read, each from its own place. Reading is
done when there is a chance to deliver, so that nothing here runs by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spdmkit.errors import PeerError, ProtocolViolation
from spdmkit.messages import (
    DmtfEventType,
    Event,
    EventAck,
    EventGroup,
    EventGroupAttributes,
    EventType,
    Registry,
    SendEvent,
)

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.session import Session

__all__ = [
    "DMTF_EVENT_GROUP_VERSION",
    "EventKind",
    "EventSource",
    "EventsSince",
    "Notifier",
    "Occurrence",
    "SupportedEvents",
    "as_groups",
    "dmtf_events",
    "everything",
    "send_pending",
    "subscription",
]

DMTF_EVENT_GROUP_VERSION = 1
UNKNOWN_INSTANCE = 0xFFFF_FFFF
LAST_INSTANCE = 0xFFFF_FFFF
MOST_PENDING = 256
"""Events of one session that wait to be delivered; of more, the oldest are lost."""
MOST_IN_ONE_REQUEST = 16
_HEADER, _EVENT_HEADER, _ENCAPSULATION = 8, 14, 16
ALL_TYPES = EventGroupAttributes.ALL_EVENT_TYPES


@dataclass(frozen=True, slots=True)
class EventKind:
    """A type of event, and whose it is."""

    registry: int
    vendor_id: bytes
    event_type: int

    @property
    def group(self) -> tuple[int, bytes]:
        """EventGroupId."""
        return self.registry, self.vendor_id


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something happened.

    Attributes:
        kind: what.
        detail: EventDetail, encoded.
    """

    kind: EventKind
    detail: bytes


@dataclass(frozen=True, slots=True)
class SupportedEvents:
    """The types of one event group that a source can tell of.

    Attributes:
        registry, vendor_id: EventGroupId.
        version: EventGroupVer.
        types: EventTypeIds, each once.
    """

    registry: int
    vendor_id: bytes
    version: int
    types: tuple[int, ...]

    def kinds(self) -> frozenset[EventKind]:
        """The same one by one."""
        return frozenset(EventKind(self.registry, self.vendor_id, each) for each in self.types)


@dataclass(frozen=True, slots=True)
class EventsSince:
    """What a source recorded after a place in its journal.

    Attributes:
        place: where to go on reading.
        occurrences: oldest first.
        lost: some between the place given and the first of these are forgotten already.
    """

    place: int
    occurrences: Sequence[Occurrence] = ()
    lost: bool = False


class EventSource(Protocol):
    """What events come from; called from several threads."""

    def supported_events(self, version: int) -> Sequence[SupportedEvents]:
        """The event groups, each once; DMTF's has EventLost.

        Args:
            version: the SPDM version of the connection.
        """
        ...

    def event_place(self) -> int:
        """The end of the journal now."""
        ...

    def events_since(self, place: int) -> EventsSince:
        """What was recorded after a place; may look first whether there is anything new."""
        ...


def dmtf_events(types: Iterable[int]) -> SupportedEvents:
    """DMTF's event group with some types; EventLost is always among them."""
    return SupportedEvents(
        Registry.DMTF,
        b"",
        DMTF_EVENT_GROUP_VERSION,
        tuple(sorted({int(DmtfEventType.EVENT_LOST), *map(int, types)})),
    )


@dataclass(slots=True)
class _Pending:
    """An event that waits; its instance id is given when it is first sent."""

    occurrence: Occurrence
    instance: int | None = None


class Notifier:
    """The events of one session on their way to the recipient.

    Attributes:
        wanted: the subscription.
        exhausted: the last instance id was acknowledged; the session must end.
    """

    __slots__ = ("_acked", "_instance", "_pending", "_place", "exhausted", "wanted")

    def __init__(self, place: int) -> None:
        """Nobody wants anything yet.

        Args:
            place: where in the journal to begin.
        """
        self.wanted: frozenset[EventKind] = frozenset()
        self.exhausted = False
        self._place = place
        self._pending: deque[_Pending] = deque()
        self._instance = 0
        self._acked = UNKNOWN_INSTANCE

    def subscribe(self, wanted: frozenset[EventKind], place: int) -> None:
        """Replace the subscription; who wanted nothing before hears of what comes from now on."""
        if not self.wanted:
            self._place = place
        self.wanted = wanted
        # What was sent keeps its instance id and is sent again; the rest is not wanted any more.
        self._pending = deque(
            each
            for each in self._pending
            if each.instance is not None or each.occurrence.kind in wanted
        )

    @property
    def place(self) -> int:
        """How far the source was read."""
        return self._place

    @property
    def pending(self) -> bool:
        """Something waits to be delivered."""
        return bool(self._pending)

    def take(self, since: EventsSince) -> None:
        """Queue what the source recorded and the recipient wants."""
        self._place = since.place
        if since.lost and _LOST in self.wanted:
            self._pending.append(_lost(UNKNOWN_INSTANCE, UNKNOWN_INSTANCE))
        elif since.lost and self.wanted:
            self._instance += 1  # a number that never comes tells the same
        for occurrence in since.occurrences:
            if occurrence.kind in self.wanted:
                self._pending.append(_Pending(occurrence))
        excess = len(self._pending) - MOST_PENDING
        if excess > 0:
            self._drop_oldest(excess)

    def _drop_oldest(self, count: int) -> None:
        """Lose the oldest events, and say which."""
        last = UNKNOWN_INSTANCE
        for _ in range(count):
            last = self._number(self._pending.popleft())
        if _LOST in self.wanted:
            self._pending.appendleft(_lost(self._acked, last))

    def _number(self, pending: _Pending) -> int:
        if pending.instance is None:
            pending.instance = self._instance
            self._instance += 1
        return pending.instance

    def batch(self, room: int, largest: int) -> list[Event]:
        """The next events to send: as many as fit `room` bytes, at least one.

        Args:
            room: bytes of a message that travels in one piece.
            largest: bytes of the largest message that the recipient takes at all; an event beyond
                that is told as lost.
        """
        events: list[Event] = []
        size = _HEADER
        while len(events) < min(len(self._pending), MOST_IN_ONE_REQUEST):
            pending = self._pending[len(events)]
            if pending.instance is None and self._instance > LAST_INSTANCE:
                break
            kind, detail = pending.occurrence.kind, pending.occurrence.detail
            needs = _EVENT_HEADER + len(kind.vendor_id) + len(detail)
            too_large = _HEADER + needs > largest and kind != _LOST
            # What was lost is told alone (10.29.3).
            if events and (too_large or kind == _LOST or size + needs > room):
                break
            if too_large:
                self._pending[0] = _lost(self._acked, self._number(pending))
                continue
            size += needs
            events.append(_encoded(pending.occurrence, self._number(pending)))
            if kind == _LOST:
                break
        return events

    def acknowledged(self, events: Sequence[Event]) -> None:
        """The recipient has these; they were the first in the queue."""
        for event in events:
            self._pending.popleft()
            self._acked = event.event_instance_id
        self.exhausted = self.exhausted or self._acked == LAST_INSTANCE


_LOST = EventKind(Registry.DMTF, b"", DmtfEventType.EVENT_LOST)


def _lost(acked: int, last: int) -> _Pending:
    """EventLost: what comes after `acked`, up to `last`; unknown when both are the highest."""
    detail = acked.to_bytes(4, "little") + last.to_bytes(4, "little")
    return _Pending(Occurrence(_LOST, detail))


def _encoded(occurrence: Occurrence, instance: int) -> Event:
    kind = occurrence.kind
    return Event(
        event_instance_id=instance,
        registry=kind.registry,
        vendor_id=kind.vendor_id,
        event_type_id=kind.event_type,
        event_detail=occurrence.detail,
    )


def subscription(
    groups: Sequence[EventGroup], supported: Sequence[SupportedEvents]
) -> frozenset[EventKind]:
    """What a SUBSCRIBE_EVENT_TYPES wants, when all of it exists.

    Raises:
        ProtocolViolation: InvalidRequest: a group or type that is not supported or comes twice.
    """
    known = {(each.registry, each.vendor_id): each for each in supported}
    wanted: set[EventKind] = set()
    seen: set[tuple[int, bytes]] = set()
    for group in groups:
        name = (group.registry, bytes(group.vendor_id))
        offered = known.get(name)
        if offered is None or name in seen:
            raise ProtocolViolation(f"event group {name} is unknown or comes twice")
        seen.add(name)
        if group.event_group_ver != offered.version:
            raise ProtocolViolation(f"event group version {group.event_group_ver}")
        wanted |= _of_group(group, offered)
    return frozenset(wanted)


def _of_group(group: EventGroup, offered: SupportedEvents) -> frozenset[EventKind]:
    listed = [each.event_type_id for each in group.event_types]
    if group.attributes & ALL_TYPES:
        if listed:
            raise ProtocolViolation("AllEventTypes with a list of event types")
        return offered.kinds()
    if not listed or len(set(listed)) != len(listed) or not set(listed) <= set(offered.types):
        raise ProtocolViolation("event types that are unknown, come twice, or none at all")
    return frozenset(EventKind(offered.registry, offered.vendor_id, each) for each in listed)


def as_groups(supported: Sequence[SupportedEvents]) -> list[EventGroup]:
    """The groups as SUPPORTED_EVENT_TYPES lists them."""
    return [
        EventGroup(
            registry=each.registry,
            vendor_id=each.vendor_id,
            event_group_ver=each.version,
            event_types=[EventType(event_type_id=number) for number in each.types],
        )
        for each in supported
    ]


def everything(supported: Sequence[SupportedEvents]) -> frozenset[EventKind]:
    """The subscription to all there is (EventAllPolicy)."""
    return frozenset[EventKind]().union(*(each.kinds() for each in supported))


def send_pending(link: Link, session: Session) -> Exchange[int]:
    """SEND_EVENT until nothing waits; how many were acknowledged.

    What the recipient refuses stays and is tried again the next time. When `Notifier.exhausted` is
    set afterwards, the caller must end the session (10.29.4).

    Args:
        link: the way to the recipient, or through encapsulation.
        session: the session it goes through.
    """
    notifier = session.notifier
    if notifier is None:
        return 0
    connection = link.connection
    peer = connection.peer
    room = min(peer.data_transfer_size, connection.settings.transmit_size) - _ENCAPSULATION
    chunks = connection.chunks_negotiated
    largest = peer.max_message_size - _ENCAPSULATION if chunks else room
    delivered = 0
    while events := notifier.batch(room, largest):
        try:
            yield from link.ask(SendEvent(events=events), EventAck)
        except PeerError:
            break
        notifier.acknowledged(events)
        delivered += len(events)
    return delivered
