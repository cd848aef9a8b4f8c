"""Streams out of segments, messages out of packets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spdmkit.capture.layers import ACK, FIN, RST, SYN, MctpPacket, TcpSegment
from spdmkit.capture.reassembly import MctpAssembler, MctpMessage, StreamEvent, TcpReassembler

CLIENT = b"\x0a\0\0\1\x0a\0\0\2\x9c\x40\x10\x62"
SERVER = b"\x0a\0\0\2\x0a\0\0\1\x10\x62\x9c\x40"


def segment(
    sequence: int,
    data: bytes = b"",
    *,
    flow: bytes = CLIENT,
    ack: int = 0,
    flags: int = ACK,
    cut: int = 0,
) -> TcpSegment:
    payload = data[: len(data) - cut]
    return TcpSegment(flow, sequence & 0xFFFFFFFF, ack, flags, payload, len(data))


def run(streams: TcpReassembler, *segments: TcpSegment) -> list[tuple[bool, bytes, int]]:
    events = [event for one in segments for event in streams.feed(one)]
    return [(e.from_initiator, e.data, e.lost) for e in events if not e.ended]


def joined(events: list[StreamEvent], *, from_initiator: bool = True) -> bytes:
    return b"".join(bytes(e.lost) + e.data for e in events if e.from_initiator is from_initiator)


def test_in_order_both_ways() -> None:
    streams = TcpReassembler()
    found = run(
        streams,
        segment(99, flags=SYN),
        segment(499, flow=SERVER, flags=SYN | ACK, ack=100),
        segment(100, b"ab"),
        segment(500, b"xy", flow=SERVER, ack=102),
        segment(102, b"cd"),
    )
    assert found == [(True, b"ab", 0), (False, b"xy", 0), (True, b"cd", 0)]


def test_out_of_order_waits() -> None:
    streams = TcpReassembler()
    assert run(streams, segment(99, flags=SYN), segment(102, b"cd")) == []
    assert run(streams, segment(100, b"ab")) == [(True, b"ab", 0), (True, b"cd", 0)]


def test_retransmissions_and_overlaps_come_once_and_the_first_counts() -> None:
    streams = TcpReassembler()
    found = run(
        streams,
        segment(100, b"abcd"),
        segment(100, b"abcd"),
        segment(102, b"XXef"),
        segment(99, b"?abcdef"),
    )
    assert found == [(True, b"abcd", 0), (True, b"ef", 0)]


def test_a_longer_copy_of_what_waits_adds_only_its_tail() -> None:
    streams = TcpReassembler()
    found = run(
        streams, segment(100, b"a"), segment(103, b"d"), segment(103, b"Xe"), segment(101, b"bc")
    )
    assert found == [(True, b"a", 0), (True, b"bc", 0), (True, b"de", 0)]


def test_a_hole_the_receiver_acknowledged_is_a_gap() -> None:
    streams = TcpReassembler()
    assert run(streams, segment(100, b"ab"), segment(105, b"fg")) == [(True, b"ab", 0)]
    assert run(streams, segment(500, flow=SERVER, ack=102)) == []
    assert run(streams, segment(500, b"ok", flow=SERVER, ack=107)) == [
        (False, b"ok", 0),
        (True, b"fg", 3),
    ]


def test_too_much_waiting_opens_the_hole() -> None:
    streams = TcpReassembler(max_pending=100)
    found = run(streams, segment(100, b"ab"), segment(110, b"x" * 90), segment(200, b"y" * 90))
    assert found == [(True, b"ab", 0), (True, b"x" * 90, 8), (True, b"y" * 90, 0)]


def test_what_the_capture_cut_off_is_a_gap() -> None:
    streams = TcpReassembler()
    assert run(streams, segment(100, b"abcd", cut=2), segment(104, b"ef")) == [(True, b"ab", 0)]
    events = streams.finish()
    assert [(e.data, e.lost, e.ended) for e in events] == [(b"ef", 2, False), (b"", 0, True)]


def test_sequence_numbers_wrap() -> None:
    streams = TcpReassembler()
    found = run(
        streams,
        segment(0xFFFFFFFD, flags=SYN),
        segment(1, b"cd"),
        segment(0xFFFFFFFE, b"ab."),
    )
    assert found == [(True, b"ab.", 0), (True, b"cd", 0)]


def test_fins_end_the_connection_when_all_is_handed_out() -> None:
    streams = TcpReassembler()
    run(streams, segment(100, b"a"), segment(500, b"x", flow=SERVER))
    assert not streams.feed(segment(102, b"", flags=FIN | ACK))  # a byte is missing yet
    assert not streams.feed(segment(501, flow=SERVER, flags=FIN | ACK))
    events = list(streams.feed(segment(101, b"b")))
    assert [(e.data, e.ended) for e in events] == [(b"b", False), (b"", True)]
    assert not streams.feed(segment(103, flags=ACK))  # the last ACK opens nothing new
    assert not streams.finish()


def test_a_reset_ends_it_at_once() -> None:
    streams = TcpReassembler()
    run(streams, segment(100, b"a"), segment(105, b"z"))
    events = streams.feed(segment(500, flow=SERVER, flags=RST))
    assert [(e.data, e.lost, e.ended) for e in events] == [(b"z", 4, False), (b"", 0, True)]


def test_ports_used_again_are_another_connection() -> None:
    streams = TcpReassembler()
    first = streams.feed(segment(99, flags=SYN))
    assert not first
    (one,) = streams.feed(segment(100, b"a"))
    again = streams.feed(segment(7000, flags=SYN))
    assert [event.ended for event in again] == [True]
    (two,) = streams.feed(segment(7001, b"b"))
    assert (one.connection.number, two.connection.number) == (1, 2)
    assert not streams.feed(segment(7000, flags=SYN))  # a SYN sent twice opens nothing


def test_who_opened_the_connection() -> None:
    for first in (
        segment(1, flags=SYN),
        segment(1, flow=SERVER, flags=SYN | ACK),
        segment(1, b"x", flow=SERVER),  # no handshake: the lower port is the service
        segment(1, b"x"),
    ):
        streams = TcpReassembler()
        events = [*streams.feed(first), *streams.finish()]
        connection = events[-1].connection
        assert (connection.initiator.port, connection.listener.port) == (40000, 4194)


def test_the_connection_idle_longest_is_given_up() -> None:
    streams = TcpReassembler(max_connections=2)
    flows = [bytes((10, 0, 0, n)) + CLIENT[4:] for n in range(3)]
    for flow in flows[:2]:
        streams.feed(segment(1, b"x", flow=flow))
    streams.feed(segment(2, b"y", flow=flows[0]))
    events = streams.feed(segment(1, b"z", flow=flows[2]))
    ended = [event.connection.number for event in events if event.ended]
    assert ended == [2]


@given(st.data())
def test_any_order_of_segments_gives_the_stream(data: st.DataObject) -> None:
    stream = data.draw(st.binary(min_size=1, max_size=60))
    start = data.draw(st.sampled_from((0, 1, 0xFFFFFFF0)))
    cuts = data.draw(
        st.lists(st.tuples(st.integers(0, len(stream) - 1), st.integers(1, 20)), max_size=12)
    )
    whole = [(at, 1) for at in range(len(stream))]
    pieces = data.draw(st.permutations(cuts + whole))
    streams = TcpReassembler()
    events = list(streams.feed(segment(start - 1, flags=SYN)))
    for at, size in pieces:
        events += streams.feed(segment(start + at, stream[at : at + size]))
    assert b"".join(event.data for event in events) == stream
    assert not any(event.lost for event in events)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=20))
def test_lost_bytes_are_counted_exactly(pieces: list[tuple[int, int]]) -> None:
    stream = bytes(range(1, 60))
    streams = TcpReassembler()
    events = list(streams.feed(segment(999, flags=SYN)))
    for at, size in pieces:
        events += streams.feed(segment(1000 + at, stream[at : at + size]))
    events += streams.finish()
    seen = joined(events)
    covered = {at + i for at, size in pieces for i in range(size)}
    expected = bytes(stream[i] if i in covered else 0 for i in range(max(covered, default=-1) + 1))
    assert seen == expected


def mctp(flags: int, body: bytes, source: int = 8, destination: int = 9) -> MctpPacket:
    return MctpPacket(bytes((1, destination, source, flags)) + body)


def test_mctp_single_packet() -> None:
    message = MctpAssembler().feed(mctp(0xC8, b"\x05\x10\x84\x00\x00"))
    assert message == MctpMessage(8, 9, True, 5, b"\x10\x84\x00\x00")


def test_mctp_packets_join_by_tag() -> None:
    assembler = MctpAssembler()
    assert assembler.feed(mctp(0x88 | 0x30, b"\x05ab")) is None
    assert assembler.feed(mctp(0x89 | 0x10, b"\x06xy")) is None  # another tag, interleaved
    assert assembler.feed(mctp(0x08 | 0x00, b"cd")) is None  # sequence 3 is followed by 0
    assert assembler.feed(mctp(0x49 | 0x20, b"z")) == MctpMessage(8, 9, True, 6, b"xyz")
    assert assembler.feed(mctp(0x48 | 0x10, b"e")) == MctpMessage(8, 9, True, 5, b"abcde")


def test_mctp_packet_out_of_sequence_drops_the_message() -> None:
    assembler = MctpAssembler()
    assembler.feed(mctp(0x80, b"\x05ab"))
    assert assembler.feed(mctp(0x60, b"cd")) is None
    assert assembler.feed(mctp(0x50, b"cd")) is None  # dropped, so that 1 has no start either


def test_mctp_integrity_check_is_cut_off() -> None:
    message = MctpAssembler().feed(mctp(0xC8, b"\x85abcd1234"))
    assert message is not None
    assert (message.type, message.body) == (5, b"abcd")


def test_mctp_memory_is_bounded() -> None:
    assembler = MctpAssembler(max_message=8, max_open=2)
    assembler.feed(mctp(0x80, b"\x05abc"))
    assert assembler.feed(mctp(0x50, b"defgh")) is None
    for source in range(3):
        assembler.feed(mctp(0x80, b"\x05", source=source))
    assert assembler.feed(mctp(0x50, b"x", source=0)) is None
    assert assembler.feed(mctp(0x50, b"x", source=2)) is not None
