"""MCTP packets: what is cut comes together again, and nothing else ever does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.errors import TransportError
from spdmkit.transports.mctp.packets import MAX_MESSAGE, Message, Packet, Reassembler, fragment


def cut(body: bytes, *, tag: int = 3, owner: bool = True, unit: int = 64) -> list[bytes]:
    return list(fragment(body, destination=9, source=8, owner=owner, tag=tag, unit=unit))


def put(reassembler: Reassembler, packets: list[bytes], now: float = 0.0) -> list[Message]:
    messages = (reassembler.add(Packet.decode(packet), now) for packet in packets)
    return [message for message in messages if message is not None]


def test_by_hand() -> None:
    """A request of 70 bytes in the baseline unit: two packets."""
    body = b"\x05" + bytes(range(69))
    first, second = cut(body)
    assert first == bytes.fromhex("010908 8b") + body[:64]
    assert second == bytes.fromhex("010908 5b") + body[64:]
    [whole] = cut(b"\x05\x10\x84\x00\x00", owner=False, tag=7)
    assert whole == bytes.fromhex("010908c7 0510840000")


@given(st.binary(min_size=1, max_size=3000), st.integers(64, 251), st.booleans())
def test_what_is_cut_comes_together(body: bytes, unit: int, owner: bool) -> None:
    packets = cut(body, unit=unit, owner=owner)
    assert len(packets) == -(-len(body) // unit)
    assert all(len(packet) == unit + 4 for packet in packets[:-1])
    reassembler = Reassembler()
    assert put(reassembler, packets) == [Message(9, 8, owner, 3, body)]
    assert not reassembler.dropped
    assert reassembler.pending == len(reassembler) == 0


@given(
    st.binary(min_size=65, max_size=1500),
    st.lists(st.tuples(st.sampled_from(["drop", "repeat", "swap"]), st.integers(0, 30))),
)
def test_packets_lost_repeated_and_reordered(body: bytes, faults: list[tuple[str, int]]) -> None:
    """Whatever the medium does, a message comes whole or not at all."""
    packets = cut(body)
    for fault, place in faults:
        if not packets:
            break
        at = place % len(packets)
        if fault == "drop":
            del packets[at]
        elif fault == "repeat":
            packets.insert(at, packets[at])
        else:
            other = (at + 1) % len(packets)
            packets[at], packets[other] = packets[other], packets[at]
    reassembler = Reassembler(max_message=2000)
    messages = put(reassembler, packets)
    # Four packets lost in a row are not seen by a sequence of two bits (DSP0236 8.1).
    assert all(len(message.body) <= len(body) + 4 * 64 * len(faults) for message in messages)
    lost_four = sum(fault != "swap" for fault, _at in faults) >= 4
    if not lost_four:
        assert all(message.body == body for message in messages)
    assert reassembler.pending <= 2000


@given(st.lists(st.binary(max_size=80), max_size=60))
def test_garbage(packets: list[bytes]) -> None:
    reassembler = Reassembler(max_message=200, max_open=2)
    for data in packets:
        try:
            packet = Packet.decode(b"\x01" + data)
        except TransportError:
            continue
        assert Packet.decode(packet.encode()) == packet
        message = reassembler.add(packet, 0.0)
        assert message is None or len(message.body) <= 200
    assert len(reassembler) <= 2
    assert reassembler.pending <= 400


def test_a_request_and_a_response_of_equal_tags() -> None:
    request, response = cut(b"\x05" + bytes(100)), cut(b"\x05" + b"x" * 100, owner=False)
    reassembler = Reassembler()
    mixed = [packet for pair in zip(request, response, strict=True) for packet in pair]
    assert [message.owner for message in put(reassembler, mixed)] == [True, False]


def test_a_beginning_begins_again() -> None:
    old, new = cut(b"\x05" + bytes(100)), cut(b"\x05" + b"n" * 100)
    reassembler = Reassembler()
    [message] = put(reassembler, [old[0], *new])
    assert message.body[1:] == b"n" * 100
    assert reassembler.dropped == {"began again": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda packets: packets[1:], "no beginning"),
        (lambda packets: [packets[0], packets[2]], "out of sequence"),
        (lambda packets: [packets[0], packets[1][:-1], packets[2]], "wrong size"),
        (lambda packets: [packets[0], packets[1] + b"x", packets[2]], "wrong size"),
    ],
)
def test_what_is_dropped(change: object, reason: str) -> None:
    packets = cut(b"\x05" + bytes(150))
    reassembler = Reassembler()
    assert put(reassembler, change(packets)) == []  # type: ignore[operator]  # a table of lambdas
    assert reassembler.dropped[reason] >= 1


def test_time_and_room_are_bounded() -> None:
    reassembler = Reassembler(max_message=128, max_open=2, patience=6.0)
    packets = cut(b"\x05" + bytes(127))
    put(reassembler, packets[:1], now=0.0)
    assert reassembler.next_deadline() == 6.0
    assert put(reassembler, packets[1:], now=6.0) == []
    assert reassembler.dropped == {"timed out": 1, "no beginning": 1}
    for tag in range(3):
        put(reassembler, cut(bytes(100), tag=tag)[:1], now=7.0)
    assert len(reassembler) == 2
    assert reassembler.dropped["gave way"] == 1
    put(reassembler, cut(bytes(129)), now=8.0)
    assert reassembler.dropped["too large"] == 1


def test_what_no_packet_is() -> None:
    for data in (b"", b"\x01\x09\x08\xc0", b"\x02\x09\x08\xc0x", b"\x01\x09\xff\xc0x"):
        with pytest.raises(TransportError):
            Packet.decode(data)
    for body in (b"", bytes(MAX_MESSAGE + 1)):
        with pytest.raises(TransportError):
            cut(body)


def test_sequences_wrap() -> None:
    flags = [packet[3] >> 4 & 3 for packet in cut(bytes(64 * 6))]
    assert flags == list(itertools.islice(itertools.cycle(range(4)), 6))
