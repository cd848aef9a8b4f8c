"""One MCTP endpoint: a request has one answer, whatever the medium loses or repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.errors import TransportError
from spdmkit.transports.mctp.packets import Packet, fragment
from spdmkit.transports.mctp.retry import RetryRule
from spdmkit.transports.mctp.station import Answered, Arrived, Station, StationEvent, Unanswered

CHALLENGE = b"\x05\x12\x83" + bytes(200)
GET_VERSION = b"\x05\x10\x84\x00\x00"
RECORD = b"\x06" + bytes(40)


def bus_owner() -> Station:
    return Station(8)


def device(eid: int = 9) -> Station:
    return Station(eid, types=(5, 6))


def carry(sender: Station, receiver: Station, now: float = 0.0) -> list[StationEvent]:
    return [event for packet in sender.outgoing() for event in receiver.receive(packet, now)]


def arrived(events: list[StationEvent]) -> Arrived:
    [event] = events
    assert isinstance(event, Arrived)
    return event


def test_request_and_response() -> None:
    ours, theirs = bus_owner(), device()
    asked = ours.request(9, CHALLENGE, 0.0, interval=1.0)
    message = arrived(carry(ours, theirs)).message
    assert (message.body, message.source, message.owner) == (CHALLENGE, 8, True)
    theirs.respond(message, b"\x05" + b"r" * 500)
    [event] = carry(theirs, ours)
    assert isinstance(event, Answered)
    assert event.request is asked
    assert event.message.body == b"\x05" + b"r" * 500
    assert ours.next_deadline() is None


def test_the_control_protocol_by_itself() -> None:
    ours, theirs = bus_owner(), device(0)
    ours.request(0, bytes.fromhex("0081010009"), 0.0, interval=1.0)
    assert carry(ours, theirs) == []
    [event] = carry(theirs, ours)
    assert isinstance(event, Answered)
    assert event.message.body.hex() == "00010100000900"
    assert theirs.status.eid == 9
    assert event.message.source == 9


def test_a_lost_request_goes_again_bit_for_bit_and_is_served_once() -> None:
    ours, theirs = bus_owner(), device()
    ours.request(9, GET_VERSION, 0.0, interval=1.0, tries=3)
    first = ours.outgoing()
    assert ours.on_time(0.9) == []
    assert ours.on_time(1.0) == []
    assert ours.outgoing() == first
    assert ours.next_deadline() == 2.0
    # Both arrive after all: one request.
    [event] = [e for _ in range(2) for packet in first for e in theirs.receive(packet, 1.0)]
    assert isinstance(event, Arrived)
    theirs.respond(event.message, b"\x05answer")
    answer = theirs.outgoing()
    # A third copy brings the same answer again, and our side takes one.
    assert theirs.receive(first[0], 1.5) == []
    assert theirs.outgoing() == answer
    events = [e for _ in range(2) for packet in answer for e in ours.receive(packet, 1.5)]
    assert [type(each) for each in events] == [Answered]
    assert ours.dropped["answers nothing"] == 1
    assert theirs.dropped["repeated"] == 2


def test_nobody_answers() -> None:
    ours = bus_owner()
    asked = ours.request(9, GET_VERSION, 0.0, interval=1.0, tries=2)
    assert ours.on_time(1.0) == []
    assert ours.on_time(2.0) == [Unanswered(asked)]
    assert ours.next_deadline() is None
    assert ours.dropped == {"retried": 1}


def test_a_secured_message_is_never_sent_or_done_twice() -> None:
    rule = RetryRule()
    assert rule.tries_for(RECORD) == 1
    assert rule.tries_for(GET_VERSION) == 4
    ours, theirs = bus_owner(), device()
    ours.request(9, RECORD, 0.0, interval=1.0, tries=rule.tries_for(RECORD))
    [packet] = ours.outgoing()
    message = arrived(theirs.receive(packet, 0.0)).message
    theirs.respond(message, RECORD)
    theirs.outgoing()
    # The medium repeats it: it is dropped, and no record goes out a second time.
    assert theirs.receive(packet, 0.1) == []
    assert theirs.outgoing() == []


def test_the_same_bytes_long_after_are_a_new_request() -> None:
    theirs = device()
    [packet] = list(fragment(GET_VERSION, destination=9, source=8, owner=True, tag=0))
    assert len(theirs.receive(packet, 0.0)) == 1
    assert theirs.receive(packet, 5.9) == []
    assert len(theirs.receive(packet, 12.0)) == 1


def test_a_partial_answer_postpones_the_next_try() -> None:
    ours, theirs = bus_owner(), device()
    ours.request(9, GET_VERSION, 0.0, interval=1.0, tries=2)
    message = arrived(carry(ours, theirs)).message
    theirs.respond(message, b"\x05" + bytes(300))
    for number, packet in enumerate(theirs.outgoing()[:-1]):
        ours.receive(packet, number * 0.9)
    assert ours.on_time(3.6) == []
    assert ours.outgoing() == []
    assert ours.next_deadline() == pytest.approx(3.7)


def test_tags_rest_when_a_late_answer_may_come() -> None:
    ours = bus_owner()
    tags = set()
    for number in range(8):
        asked = ours.request(9, bytes((5, number)), 0.0, interval=1.0)
        tags.add(asked.tag)
        ours.give_up(asked, 0.0)
        ours.outgoing()
    assert tags == set(range(8))
    with pytest.raises(TransportError, match="no MCTP tag"):
        ours.request(9, GET_VERSION, 5.9, interval=1.0)
    ours.request(10, GET_VERSION, 5.9, interval=1.0)
    ours.request(9, GET_VERSION, 6.0, interval=1.0)


def test_an_answer_to_nothing_asked() -> None:
    ours = bus_owner()
    asked = ours.request(9, GET_VERSION, 0.0, interval=1.0)
    for source, tag, body in (
        (10, asked.tag, GET_VERSION),
        (9, (asked.tag + 1) % 8, GET_VERSION),
        (9, asked.tag, b"\x01pldm"),
    ):
        [packet] = list(fragment(body, destination=8, source=source, owner=False, tag=tag))
        assert ours.receive(packet, 0.0) == []
    assert ours.dropped["answers nothing"] == 3


def test_a_secured_message_answered_in_the_clear() -> None:
    """ERROR DecryptError: the session is gone, and its keys with it."""
    ours, theirs = bus_owner(), device()
    ours.request(9, RECORD, 0.0, interval=1.0)
    message = arrived(carry(ours, theirs)).message
    theirs.respond(message, b"\x05\x12\x7f\x06\x00")
    [event] = carry(theirs, ours)
    assert isinstance(event, Answered)


def test_what_is_not_for_us() -> None:
    theirs = device()
    cases = ((10, GET_VERSION), (255, GET_VERSION), (9, b"\x01pldm"), (9, b"\x85x"))
    for destination, body in cases:
        [packet] = list(fragment(body, destination=destination, source=8, owner=True, tag=0))
        assert theirs.receive(packet, 0.0) == []
    assert theirs.dropped == {"not for us": 1, "type not served": 3}
    assert theirs.receive(b"\x01", 0.0) == []


def test_requests_to_the_null_eid_have_a_tag_of_their_own() -> None:
    ours = bus_owner()
    used = {ours.request(eid, GET_VERSION, 0.0, interval=1.0).tag for eid in range(9, 16)}
    assert len(used) == 7
    lone = ours.request(0, GET_VERSION, 0.0, interval=1.0)
    assert lone.tag not in used
    with pytest.raises(TransportError):
        ours.request(0, GET_VERSION, 0.0, interval=1.0)


def test_outgoing_is_bounded() -> None:
    ours = Station(8)
    for eid in range(8, 13):
        ours.request(eid, bytes((5,)) * 60_000, 0.0, interval=1.0)
    with pytest.raises(TransportError, match="takes nothing"):
        ours.request(13, bytes((5,)), 0.0, interval=1.0)


def test_many_requesters_are_remembered_up_to_a_limit() -> None:
    theirs = device()
    for source in range(8, 200):
        [packet] = list(fragment(GET_VERSION, destination=9, source=source, owner=True, tag=0))
        assert len(theirs.receive(packet, 0.0)) == 1
    assert len(theirs._served) == 16


@given(st.lists(st.binary(max_size=70), max_size=50), st.floats(0, 100))
def test_garbage(packets: list[bytes], now: float) -> None:
    station = device()
    station.request(8, GET_VERSION, 0.0, interval=1.0, tries=2)
    for packet in packets:
        for event in station.receive(b"\x01\x09" + packet, now):
            assert isinstance(event, (Arrived, Answered))
        station.outgoing()
    station.on_time(now)


def test_crypto_time_is_learned_from_capabilities() -> None:
    rule = RetryRule(round_trip=0.5)
    assert rule.interval(CHALLENGE) == pytest.approx(1.5)
    assert rule.interval(GET_VERSION) == pytest.approx(0.6)
    rule.observe(b"\x05" + bytes.fromhex("12610000 00 15 0000 00000000"))
    assert rule.interval(CHALLENGE) == pytest.approx(0.5 + 2.097152)
    rule.observe(b"\x05" + bytes.fromhex("12610000 00 ff 0000 00000000"))
    assert rule.interval(CHALLENGE) == 20.0
    assert Packet.decode(b"\x01\x09\x08\xc0\x05").payload == b"\x05"
