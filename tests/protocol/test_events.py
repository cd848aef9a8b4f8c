"""Events from either side to the other, through the encapsulated flow and directly."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from spdmkit.errors import PeerError, ProtocolViolation
from spdmkit.messages import (
    V12,
    V13,
    V14,
    DmtfEventType,
    ErrorCode,
    Event,
    EventAck,
    EventGroup,
    EventType,
    GetSupportedEventTypes,
    RequesterFlags,
    ResponderFlags,
    SendEvent,
    SubscribeEventTypes,
    SubscribeEventTypesAck,
    SupportedEventTypes,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.events import PeerNotification
from spdmkit.protocol.link import Link
from spdmkit.protocol.notifier import (
    MOST_PENDING,
    EventKind,
    EventsSince,
    Notifier,
    Occurrence,
    SupportedEvents,
    dmtf_events,
)
from spdmkit.protocol.requester.events import (
    await_events,
    await_measurement_change,
    changed_measurements,
    changed_slots,
    dmtf_event_group,
    get_supported_event_types,
    send_events,
    subscribe_event_types,
)
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, key_exchange, psk_exchange
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.responder.flow import EncapsulatedLink

from .support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair, ask, psk_session, refusal
from .test_attestation_flow import verified

VERSIONS = [V13, V14]
E, F, Q = ErrorCode, ResponderFlags, RequesterFlags
MEASUREMENT, CERTIFICATE = DmtfEventType.MEASUREMENT_CHANGED, DmtfEventType.CERTIFICATE_CHANGED
LOST = DmtfEventType.EVENT_LOST
UNKNOWN = b"\xff" * 8


def measurement_changed(*indices: int) -> Occurrence:
    mask = sum(1 << index for index in indices).to_bytes(32, "little")
    return Occurrence(EventKind(0, b"", MEASUREMENT), mask)


def certificate_changed(*slots: int) -> Occurrence:
    mask = bytes((sum(1 << slot for slot in slots),))
    return Occurrence(EventKind(0, b"", CERTIFICATE), mask)


def pair_with(version: int, **options: Any) -> Pair:
    options.setdefault("responder", {})
    options["responder"].setdefault("capabilities", EVERYTHING | F.EVENT_CAP)
    return Pair(versions=(version,), **options)


def heard(pair: Pair) -> list[PeerNotification]:
    return [event for who, event in pair.events if isinstance(event, PeerNotification)]


@pytest.mark.parametrize("version", VERSIONS)
class TestFromAResponder:
    def test_what_there_is(self, version: int) -> None:
        pair = pair_with(version)
        (group,) = pair.run(get_supported_event_types(psk_session(pair)))
        assert (group.registry, group.event_group_ver, group.attributes) == (0, 1, 0)
        assert [each.event_type_id for each in group.event_types] == [1, 2, 4]

    def test_subscribed_events_come_in_order(self, version: int) -> None:
        pair = pair_with(version)
        link = psk_session(pair)
        pair.device.happened.append(measurement_changed(9))  # before anybody asked
        pair.run(subscribe_event_types(link, [dmtf_event_group([MEASUREMENT])]))
        assert not pair.run(poll(link))
        pair.device.happened += [measurement_changed(1, 3), certificate_changed(0)]
        assert pair.run(poll(link))
        pair.device.happened.append(measurement_changed(254))
        assert pair.run(poll(link))
        assert not pair.run(poll(link))
        first, second = heard(pair)
        assert (first.instance, second.instance) == (0, 1)
        assert changed_measurements(first) == {1, 3}
        assert changed_measurements(second) == {254}
        assert first.missing == second.missing == 0

    def test_many_at_once(self, version: int) -> None:
        pair = pair_with(version, requester={"data_transfer_size": 256})
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group()]))
        pair.device.happened += [measurement_changed(1 + n % 250) for n in range(100)]
        assert pair.run(poll(link))
        assert [event.instance for event in heard(pair)] == list(range(100))
        sent = [frame for who, frame in pair.wire if who == "responder" and len(frame.body) > 300]
        assert not sent, "events are divided so that nothing needs chunks"

    def test_unsubscribed(self, version: int) -> None:
        pair = pair_with(version)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group()]))
        pair.run(subscribe_event_types(link, []))
        pair.device.happened.append(measurement_changed(1))
        assert not pair.run(poll(link))
        with pytest.raises(ProtocolViolation, match="subscribed"):
            pair.run(await_events(link))

    def test_another_subscription_takes_the_place_of_the_first(self, version: int) -> None:
        pair = pair_with(version)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group([MEASUREMENT])]))
        pair.device.happened.append(measurement_changed(1))
        pair.run(subscribe_event_types(link, [dmtf_event_group([CERTIFICATE])]))
        pair.device.happened.append(certificate_changed(2))
        pair.run(poll(link))
        (event,) = heard(pair)
        assert changed_slots(event) == {2}
        assert changed_measurements(event) == frozenset()

    def test_each_session_by_itself(self, version: int) -> None:
        pair = pair_with(version)
        one, other = psk_session(pair), None
        other = pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK))).link
        pair.run(subscribe_event_types(one, [dmtf_event_group()]))
        pair.device.happened.append(measurement_changed(1))
        assert not pair.run(poll(other))
        pair.run(subscribe_event_types(other, [dmtf_event_group()]))
        pair.device.happened.append(measurement_changed(2))
        assert pair.run(poll(one))
        assert pair.run(poll(other))
        assert one.session is not None
        assert other.session is not None
        assert [e.instance for e in one.session.take_notifications()] == [0, 1]
        assert [e.instance for e in other.session.take_notifications()] == [0]

    @pytest.mark.parametrize("opener", ["key exchange", "psk"])
    def test_policy_of_the_opener(self, version: int, opener: str) -> None:
        pair = pair_with(version)
        if opener == "psk":
            pair.run(negotiate(pair.link))
            psk = PreSharedKey(PSK_HINT, PSK)
            link = pair.run(psk_exchange(pair.link, psk, event_all_policy=True)).link
        else:
            proven = verified(pair)
            link = pair.run(key_exchange(pair.link, proven, event_all_policy=True)).link
        pair.device.happened.append(certificate_changed(1))
        (event,) = pair.run(await_events(link))
        assert changed_slots(event) == {1}

    def test_waiting(self, version: int) -> None:
        pair = pair_with(version)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group()]))
        start = pair.clock.now
        assert pair.run(await_events(link, interval=5.0, until=start + 12)) == []
        assert pair.clock.now == start + 12
        polls = [f for who, f in pair.wire if who == "requester"][-4:]
        assert len(polls) == 4

    def test_measurements_are_read_again_when_they_change(self, version: int) -> None:
        pair = pair_with(version)
        proven = verified(pair)
        link = pair.run(key_exchange(pair.link, proven, event_all_policy=True)).link
        others: list[PeerNotification] = []
        pair.device.happened += [certificate_changed(1), measurement_changed(2)]
        signed = pair.run(await_measurement_change(link, proven, others=others.append))
        assert signed is not None
        assert signed.session_id == link.session.session_id if link.session else None
        assert [changed_slots(each) for each in others] == [{1}]
        until = pair.clock.now + 1
        assert pair.run(await_measurement_change(link, proven, until=until)) is None

    def test_forgotten_events_are_told_as_lost(self, version: int) -> None:
        pair = pair_with(version)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group([MEASUREMENT, LOST])]))
        pair.device.events_lost = True
        pair.device.happened.append(measurement_changed(1))
        pair.run(poll(link))
        lost, changed = heard(pair)
        assert (lost.event_type, lost.detail) == (LOST, UNKNOWN)
        assert changed_measurements(changed) == {1}


class TestRefused:
    @pytest.mark.parametrize(
        "groups",
        [
            [EventGroup(registry=3, vendor_id=b"\x01\x02", event_group_ver=1, attributes=1)],
            [EventGroup(event_group_ver=2, attributes=1)],
            [EventGroup(event_group_ver=1, attributes=0)],
            [dmtf_event_group([3])],
            [dmtf_event_group([2, 2])],
            [dmtf_event_group([2]), dmtf_event_group([4])],
            [EventGroup(event_group_ver=1, attributes=1, event_types=[EventType(event_type_id=2)])],
        ],
        ids=["group", "version", "nothing", "type", "type twice", "group twice", "all and some"],
    )
    def test_a_subscription(self, groups: list[EventGroup]) -> None:
        pair = pair_with(V13)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group([MEASUREMENT])]))
        assert refusal(pair, subscribe_event_types(link, groups)) is E.INVALID_REQUEST
        pair.device.happened.append(measurement_changed(1))
        assert pair.run(poll(link)), "what was subscribed to before still is"

    def test_outside_a_session(self) -> None:
        pair = pair_with(V13)
        pair.run(negotiate(pair.link))
        for request, expected in (
            (GetSupportedEventTypes(), SupportedEventTypes),
            (SubscribeEventTypes(), SubscribeEventTypesAck),
        ):
            with pytest.raises(ProtocolViolation, match="not legal outside a session"):
                pair.run(ask(pair.link, request, expected))
            raw = request.encode(pair.requester.connection.context)
            assert pair.raw(raw)[1:3] == bytes((0x7F, E.SESSION_REQUIRED))
        with pytest.raises(ProtocolViolation, match="session"):
            pair.run(subscribe_event_types(pair.link, []))
        with pytest.raises(ProtocolViolation, match="session"):
            pair.run(await_events(pair.link))

    def test_without_the_capability(self) -> None:
        pair = pair_with(V13, responder={"capabilities": EVERYTHING})
        link = psk_session(pair)
        assert refusal(pair, get_supported_event_types(link)) is E.UNSUPPORTED_REQUEST
        assert refusal(pair, subscribe_event_types(link, [])) is E.UNSUPPORTED_REQUEST
        opener = psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK), event_all_policy=True)
        assert refusal(pair, opener) is E.INVALID_REQUEST

    def test_before_1_3(self) -> None:
        pair = pair_with(V12)
        link = psk_session(pair)
        with pytest.raises(ProtocolViolation, match="not legal"):
            pair.run(get_supported_event_types(link))

    def test_without_encapsulation_nothing_can_come(self) -> None:
        pair = pair_with(V13, responder={"capabilities": (EVERYTHING | F.EVENT_CAP) & ~F.ENCAP_CAP})
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group()]))
        with pytest.raises(ProtocolViolation, match="ENCAP_CAP"):
            pair.run(await_events(link))


# --- a responder that tells too much -------------------------------------------------------------


def told(pair: Pair, link: Link, request: SendEvent) -> int | None:
    """The error code with which the requester answers a SEND_EVENT, None when it takes it."""
    codes: list[int | None] = []

    def starter(inside: EncapsulatedLink) -> Exchange[int | None]:
        try:
            yield from inside.ask(request, EventAck)
        except PeerError as error:
            codes.append(error.code)
        else:
            codes.append(None)
        return None

    sessions = pair.responder.connection.sessions
    session = None if link.session is None else sessions[link.session.session_id]
    pair.responder.ask(starter, session)
    pair.run(poll(link))
    return codes[0]


def event(instance: int, event_type: int = 99) -> Event:
    return Event(event_instance_id=instance, event_type_id=event_type, event_detail=b"")


class TestToAResponderThatMisbehaves:
    def test_nobody_subscribed(self) -> None:
        pair = pair_with(V13)
        assert told(pair, psk_session(pair), SendEvent(events=[event(0)])) == E.UNEXPECTED_REQUEST
        assert not heard(pair)

    def test_no_events(self) -> None:
        pair = pair_with(V13)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group()]))
        assert told(pair, link, SendEvent()) == E.INVALID_REQUEST

    def test_in_the_clear(self) -> None:
        pair = pair_with(V13)
        pair.run(negotiate(pair.link))
        code = told(pair, pair.link, SendEvent(events=[event(0)]))
        assert code == E.SESSION_REQUIRED

    def test_a_responder_without_events(self) -> None:
        pair = pair_with(V13, responder={"capabilities": EVERYTHING})
        code = told(pair, psk_session(pair), SendEvent(events=[event(0)]))
        assert code == E.UNSUPPORTED_REQUEST

    def test_gaps_repetitions_and_types_nobody_knows(self) -> None:
        pair = pair_with(V13)
        link = psk_session(pair)
        pair.run(subscribe_event_types(link, [dmtf_event_group()]))
        assert told(pair, link, SendEvent(events=[event(4), event(2)])) is None
        assert told(pair, link, SendEvent(events=[event(4), event(5)])) is None
        assert [(e.instance, e.missing) for e in heard(pair)] == [(2, 2), (4, 1), (5, 0)]


# --- a requester that tells ----------------------------------------------------------------------


class Source:
    """A requester's own events."""

    def __init__(self) -> None:
        self.happened: list[Occurrence] = []

    def supported_events(self, version: int) -> list[SupportedEvents]:
        return [dmtf_events([MEASUREMENT])]

    def event_place(self) -> int:
        return len(self.happened)

    def events_since(self, place: int) -> EventsSince:
        return EventsSince(len(self.happened), self.happened[place:])


def telling(version: int, *, capable: bool = True) -> tuple[Pair, Source, Link]:
    flags = requester_capabilities(sessions=True, psk=True, events=capable)
    pair = pair_with(version, requester={"capabilities": flags})
    source = pair.requester.connection.event_source = Source()
    return pair, source, psk_session(pair)


def responder_subscribes(pair: Pair, link: Link, groups: Iterable[EventGroup]) -> list[Any]:
    (session,) = pair.responder.connection.sessions.values()
    found: list[Any] = []

    def starter(inside: EncapsulatedLink) -> Exchange[int | None]:
        try:
            found.append((yield from get_supported_event_types(inside)))
            yield from subscribe_event_types(inside, groups)
        except PeerError as error:
            found.append(error.code)
        return None

    pair.responder.ask(starter, session)
    pair.run(poll(link))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_requester_tells_its_responder(version: int) -> None:
    pair, source, link = telling(version)
    assert pair.run(send_events(link)) == 0
    (groups,) = responder_subscribes(pair, link, [dmtf_event_group([MEASUREMENT])])
    assert [each.event_type_id for each in groups[0].event_types] == [1, 2]
    source.happened += [measurement_changed(5), certificate_changed(1)]
    assert pair.run(send_events(link)) == 1
    ((who, notification),) = [
        (who, each) for who, each in pair.events if isinstance(each, PeerNotification)
    ]
    assert who == "responder"
    assert changed_measurements(notification) == {5}


def test_a_requester_that_has_no_events() -> None:
    pair, _, link = telling(V13, capable=False)
    found = responder_subscribes(pair, link, [dmtf_event_group()])
    assert found == [E.UNSUPPORTED_REQUEST]
    request = SendEvent(events=[event(0)])
    assert refusal(pair, ask(link, request, EventAck)) is E.UNSUPPORTED_REQUEST
    pair, _, link = telling(V13)
    pair.requester.connection.event_source = None
    assert responder_subscribes(pair, link, [dmtf_event_group()]) == [E.UNSUPPORTED_REQUEST]
    with pytest.raises(ProtocolViolation, match="source"):
        pair.run(send_events(link))


def test_a_responder_that_did_not_subscribe() -> None:
    pair, _, link = telling(V13)
    request = SendEvent(events=[event(0)])
    assert refusal(pair, ask(link, request, EventAck)) is E.UNEXPECTED_REQUEST


def test_a_requester_ends_the_session_with_its_last_instance() -> None:
    pair, source, link = telling(V13)
    responder_subscribes(pair, link, [dmtf_event_group()])
    assert link.session is not None
    assert link.session.notifier is not None
    link.session.notifier._instance = 0xFFFF_FFFF
    source.happened += [measurement_changed(1), measurement_changed(2)]
    assert pair.run(send_events(link)) == 1
    assert not link.session.alive


def test_a_responder_ends_the_session_with_its_last_instance() -> None:
    pair = pair_with(V14)
    link = psk_session(pair)
    pair.run(subscribe_event_types(link, [dmtf_event_group()]))
    (session,) = pair.responder.connection.sessions.values()
    assert session.notifier is not None
    session.notifier._instance = 0xFFFF_FFFF
    pair.device.happened.append(measurement_changed(1))
    assert pair.run(poll(link))
    assert refusal(pair, get_supported_event_types(link)) is E.REQUEST_SESSION_TERMINATED


# --- the queue by itself -------------------------------------------------------------------------

ALL = dmtf_events([MEASUREMENT, CERTIFICATE]).kinds()


def notifier_with(*occurrences: Occurrence) -> Notifier:
    notifier = Notifier(0)
    notifier.subscribe(ALL, 0)
    notifier.take(EventsSince(len(occurrences), occurrences))
    return notifier


class TestQueue:
    def test_only_so_many_wait(self) -> None:
        notifier = notifier_with(*[measurement_changed(1)] * (MOST_PENDING + 10))
        first = notifier.batch(1 << 16, 1 << 16)[0]
        assert (first.event_type_id, first.event_instance_id) == (LOST, 10)
        assert first.event_detail == b"\xff\xff\xff\xff" + (9).to_bytes(4, "little")

    @pytest.mark.parametrize("since_lost", [False, True])
    def test_losses_show_in_the_numbers_when_nobody_wants_to_be_told(
        self, since_lost: bool
    ) -> None:
        notifier = Notifier(0)
        notifier.subscribe(frozenset({EventKind(0, b"", MEASUREMENT)}), 0)
        count = 1 if since_lost else MOST_PENDING + 10
        happened = [measurement_changed(1)] * count
        notifier.take(EventsSince(count, happened, lost=since_lost))
        first = notifier.batch(1 << 16, 1 << 16)[0]
        assert first.event_type_id == MEASUREMENT
        assert first.event_instance_id == (1 if since_lost else 10)

    def test_what_is_not_acknowledged_comes_again_with_its_number(self) -> None:
        notifier = notifier_with(measurement_changed(1), measurement_changed(2))
        once, again = notifier.batch(60, 1000), notifier.batch(1000, 1000)
        assert [e.event_instance_id for e in once] == [0]
        assert [e.event_instance_id for e in again] == [0, 1]
        notifier.acknowledged(once)
        assert [e.event_instance_id for e in notifier.batch(1000, 1000)] == [1]

    def test_an_event_that_fits_nowhere_is_lost(self) -> None:
        notifier = notifier_with(certificate_changed(1), measurement_changed(1))
        events = notifier.batch(40, 40)
        notifier.acknowledged(events)
        events += notifier.batch(40, 40)
        lost = events[-1]
        assert (lost.event_type_id, lost.event_instance_id) == (LOST, 2)
        assert lost.event_detail == bytes(4) + (1).to_bytes(4, "little")

    def test_sent_events_survive_another_subscription(self) -> None:
        notifier = notifier_with(measurement_changed(1), measurement_changed(2))
        notifier.batch(60, 1000)
        notifier.subscribe(frozenset({EventKind(0, b"", CERTIFICATE)}), 2)
        assert [e.event_instance_id for e in notifier.batch(1000, 1000)] == [0]


def test_polls_by_itself_after_each_exchange_and_now_and_then() -> None:
    pair = pair_with(V13, requester={"poll_interval": 10.0})
    link = psk_session(pair)
    pair.clock.now += 0.001
    pair.run(subscribe_event_types(link, [dmtf_event_group()]))
    pair.device.happened.append(measurement_changed(1))
    assert pair.requester.next_deadline() is not None
    pair.clock.now += 0.001
    for _ in range(3):
        pair.requester.on_time(pair.clock.now)
        while pair.step():
            pass
    assert len(heard(pair)) == 1
    pair.device.happened.append(measurement_changed(2))
    pair.clock.now += 10.5
    pair.requester.on_time(pair.clock.now)
    while pair.step():
        pass
    assert len(heard(pair)) == 2


class Vendors(MemoryDevice):
    def supported_events(self, version: int) -> list[SupportedEvents]:
        return [dmtf_events([]), SupportedEvents(3, b"\x01\x02", 7, (1, 2))]


def test_events_of_a_vendor() -> None:
    pair = Pair(Vendors(), responder={"capabilities": EVERYTHING | F.EVENT_CAP})
    link = psk_session(pair)
    groups = pair.run(get_supported_event_types(link))
    assert len(groups) == 2
    groups[1].attributes = 1
    groups[1].event_types = []
    pair.run(subscribe_event_types(link, groups[1:]))
    pair.device.happened.append(Occurrence(EventKind(3, b"\x01\x02", 2), b"detail"))
    pair.run(poll(link))
    (notification,) = heard(pair)
    assert (notification.registry_id, notification.vendor_id) == (3, b"\x01\x02")
    assert changed_measurements(notification) == frozenset()


def test_supported_types_that_contradict_themselves() -> None:
    for answer in (SupportedEvents(0, b"", 1, ()), dmtf_events([2])):
        pair = pair_with(V13)
        pair.device.events = list(itertools.repeat(answer, 2 if answer.types else 1))
        with pytest.raises(ProtocolViolation, match="SUPPORTED_EVENT_TYPES"):
            pair.run(get_supported_event_types(psk_session(pair)))
