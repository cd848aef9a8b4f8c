"""Frames out of streams that somebody else's endpoints made."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.capture.channels import Channel, Sender, WireEvent, WireKind
from spdmkit.capture.framing import MAX_EMU_PAYLOAD, StreamFramer

GET_VERSION = bytes.fromhex("10840000")
VERSION = bytes.fromhex("1004000000010012")
CHALLENGE = bytes.fromhex("1283 00ff") + bytes(32)  # its layout tells nothing about the dialect
ONE, OTHER = Sender.INITIATOR, Sender.LISTENER
MESSAGE, RECORD, LOST = WireKind.MESSAGE, WireKind.RECORD, WireKind.LOST


def frame(body: bytes, kind: int = 5, extra: int = 0, version: int = 1) -> bytes:
    return struct.pack("<HBB", len(body) + extra, version, kind) + body


def record(size: int, *, sequence: bytes = b"") -> bytes:
    return b"\xff" * 4 + sequence + struct.pack("<H", size) + bytes(size)


def emu(payload: bytes, command: int = 1, transport: int = 1) -> bytes:
    return struct.pack(">III", command, transport, len(payload)) + payload


class Listener:
    def __init__(self) -> None:
        self.events: list[WireEvent] = []
        self.channel = Channel(1)
        self.framer = StreamFramer(self.channel, self.events.append)

    def feed(self, *parts: tuple[Sender, bytes]) -> list[tuple[Sender, WireKind, bytes]]:
        self.events.clear()
        for sender, data in parts:
            self.framer.feed(7, sender, data)
        return [(event.sender, event.kind, event.body) for event in self.events]


@pytest.mark.parametrize(("extra", "dialect"), [(0, "strict"), (2, "libspdm")])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_both_dialects_however_they_are_cut(extra: int, dialect: str, step: int) -> None:
    listener = Listener()
    request = (
        frame(GET_VERSION, extra=extra)
        + frame(record(22), 6, extra)
        + frame(CHALLENGE, extra=extra)
    )
    answer = frame(VERSION, extra=extra)
    parts = [(ONE, request[at : at + step]) for at in range(0, len(request), step)]
    parts += [(OTHER, answer[at : at + step]) for at in range(0, len(answer), step)]
    assert listener.feed(*parts) == [
        (ONE, MESSAGE, GET_VERSION),
        (ONE, RECORD, record(22)),
        (ONE, MESSAGE, CHALLENGE),
        (OTHER, MESSAGE, VERSION),
    ]
    assert (listener.channel.transport, listener.channel.dialect) == ("tcp", dialect)
    listener.feed()
    listener.framer.end(9)
    assert [event.kind for event in listener.events] == [WireKind.CLOSED]


@pytest.mark.parametrize("extra", [0, 2])
def test_a_first_message_that_does_not_tell_its_size(extra: int) -> None:
    first = frame(CHALLENGE, extra=extra)
    assert Listener().feed((ONE, first)) == [(ONE, MESSAGE, CHALLENGE)]
    following = first + frame(GET_VERSION, extra=extra)
    assert Listener().feed((ONE, following)) == [
        (ONE, MESSAGE, CHALLENGE),
        (ONE, MESSAGE, GET_VERSION),
    ]


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("number", [0, 24, 26, 28, 30])
def test_records_with_a_sequence_number_keep_the_dialect(extra: int, number: int) -> None:
    """Records of an MCTP device carried over TCP: any sequence number may look like a Length."""
    listener = Listener()
    listener.feed((ONE, frame(GET_VERSION, extra=extra)))
    body = record(22, sequence=struct.pack("<H", number))
    assert listener.feed((ONE, frame(body, 6, extra)), (ONE, frame(GET_VERSION, extra=extra))) == [
        (ONE, RECORD, body),
        (ONE, MESSAGE, GET_VERSION),
    ]


def test_a_capture_that_begins_with_a_record() -> None:
    for extra in (0, 2):
        assert Listener().feed((ONE, frame(record(22), 6, extra))) == [(ONE, RECORD, record(22))]
        body = record(22, sequence=b"\x07\x00")
        assert Listener().feed((ONE, frame(body, 6, extra))) == [(ONE, RECORD, body)]


def test_each_direction_may_have_its_dialect() -> None:
    listener = Listener()
    assert listener.feed((ONE, frame(GET_VERSION)), (OTHER, frame(VERSION, extra=2))) == [
        (ONE, MESSAGE, GET_VERSION),
        (OTHER, MESSAGE, VERSION),
    ]


def test_role_inquiry_and_error_frames() -> None:
    listener = Listener()
    assert listener.feed(
        (ONE, b"\0\0\1"),
        (ONE, b"\xbf"),
        (OTHER, frame(GET_VERSION)),
        (ONE, b"\0\0\2\xc1"),
        (OTHER, b"\0\0\1\xc2\0\0\1\xff"),
    ) == [
        (ONE, WireKind.ROLE_INQUIRY, b"\xbf\1"),
        (OTHER, MESSAGE, GET_VERSION),
        (ONE, WireKind.BINDING_ERROR, b"\xc1\2"),
        (OTHER, WireKind.BINDING_ERROR, b"\xc2\1"),
        (OTHER, WireKind.BINDING_ERROR, b"\xff\1"),
    ]


@pytest.mark.parametrize("answer", [b"\0\0\1\xc2", b"\0\0\1\xc3"])
def test_a_refused_role_inquiry_is_a_whole_conversation(answer: bytes) -> None:
    """Four bytes that begin with zeros are no header of spdm-emu that is still to come."""
    assert Listener().feed((ONE, b"\0\0\1\xbf"), (OTHER, answer)) == [
        (ONE, WireKind.ROLE_INQUIRY, b"\xbf\1"),
        (OTHER, WireKind.BINDING_ERROR, bytes((answer[3], 1))),
    ]


@pytest.mark.parametrize(
    "junk",
    [
        frame(GET_VERSION, version=2),
        frame(GET_VERSION, kind=7),
        b"\x04\0\1\xbf",
        b"\0\0\2\xbf",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_junk_is_shown_and_reading_goes_on_behind_it(junk: bytes) -> None:
    listener = Listener()
    good = frame(GET_VERSION)
    found = listener.feed((ONE, good), (ONE, junk), (ONE, b"more"), (ONE, b"and more"), (ONE, good))
    assert found == [
        (ONE, MESSAGE, GET_VERSION),
        (ONE, LOST, junk),
        (ONE, LOST, b""),
        (ONE, MESSAGE, GET_VERSION),
    ]
    assert junk[:4].hex() in listener.events[1].note
    assert listener.events[2].note.startswith("12 bytes")


@pytest.mark.parametrize("cut", [1, 100])
def test_a_frame_whose_contents_are_wrong_is_still_a_frame(cut: int) -> None:
    listener = Listener()
    good = frame(GET_VERSION)
    stream = good + frame(b"\x20\x84\0\0") + frame(b"\x10") + frame(bytes(10), kind=6) + good
    assert listener.feed(*((ONE, stream[at : at + cut]) for at in range(0, len(stream), cut))) == [
        (ONE, MESSAGE, GET_VERSION),
        (ONE, MESSAGE, b"\x20\x84\0\0"),
        (ONE, MESSAGE, b"\x10"),
        (ONE, RECORD, bytes(10)),
        (ONE, MESSAGE, GET_VERSION),
    ]


def test_what_the_capture_misses_is_said() -> None:
    listener = Listener()
    whole = frame(GET_VERSION)
    listener.feed((ONE, whole), (ONE, whole[:3]))
    listener.framer.feed(8, ONE, b"rest of a frame", 100)
    listener.framer.feed(9, ONE, whole)
    listener.framer.feed(9, ONE, whole[:6])
    listener.framer.end(9)
    assert [(event.kind, event.body) for event in listener.events[1:]] == [
        (LOST, whole[:3]),
        (LOST, b""),
        (MESSAGE, GET_VERSION),
        (LOST, whole[:6]),
        (WireKind.CLOSED, b""),
    ]
    notes = [event.note for event in listener.events]
    assert "misses 100 bytes" in notes[1]
    assert "ends 6 bytes into" in notes[4]


def test_emu_with_every_transport() -> None:
    doe = struct.pack("<HBBI", 1, 1, 0, 3) + GET_VERSION
    discovery = struct.pack("<HBBI", 1, 0, 0, 3) + bytes(4)
    for transport, payload, expected in [
        (0, GET_VERSION, (MESSAGE, GET_VERSION)),
        (1, b"\x05" + GET_VERSION, (MESSAGE, GET_VERSION)),
        (1, b"\x06" + record(20), (RECORD, record(20))),
        (1, b"\x01\x00", (LOST, b"\x01\x00")),
        (2, doe, (MESSAGE, GET_VERSION)),
        (2, discovery, (WireKind.PLATFORM, bytes(4))),
        (2, doe[:-1], (LOST, doe[:-1])),
        (3, frame(GET_VERSION, extra=2), (MESSAGE, GET_VERSION)),
        (3, frame(record(20), 6), (RECORD, record(20))),
        (3, b"\0\0\1\xc0", (WireKind.BINDING_ERROR, b"\xc0\1")),
        (3, b"\0\0\1\xbf", (WireKind.ROLE_INQUIRY, b"\xbf\1")),
        (3, GET_VERSION, (LOST, GET_VERSION)),
    ]:
        listener = Listener()
        hello = emu(b"Client Hello!\0", 0xDEAD, transport)
        stream = hello + emu(payload, 1, transport) + emu(b"", 0xFFFD, transport)
        found = listener.feed(*((ONE, stream[at : at + 5]) for at in range(0, len(stream), 5)))
        assert [event[1:] for event in found] == [
            (WireKind.PLATFORM, b"Client Hello!\0"),
            expected,
            (WireKind.PLATFORM, b""),
        ]
        assert listener.events[0].note == "spdm-emu TEST"
        assert listener.channel.framing == "emu"
        assert listener.channel.transport == ("none", "mctp", "doe", "tcp")[transport]


def test_emu_behind_a_bare_role_inquiry() -> None:
    listener = Listener()
    assert listener.feed(
        (ONE, b"\0\0\1\xbf"),
        (OTHER, emu(b"Client Hello!\0", 0xDEAD, 3)),
        (OTHER, emu(frame(GET_VERSION, extra=2), 1, 3)),
    ) == [
        (ONE, WireKind.ROLE_INQUIRY, b"\xbf\1"),
        (OTHER, WireKind.PLATFORM, b"Client Hello!\0"),
        (OTHER, MESSAGE, GET_VERSION),
    ]


@pytest.mark.parametrize(
    "junk", [emu(b"", 77), emu(b"", 1, 4), struct.pack(">III", 1, 1, MAX_EMU_PAYLOAD + 1)]
)
def test_emu_junk_is_shown(junk: bytes) -> None:
    listener = Listener()
    good = emu(b"\x05" + GET_VERSION)
    assert listener.feed((ONE, good), (ONE, junk), (ONE, good)) == [
        (ONE, MESSAGE, GET_VERSION),
        (ONE, LOST, junk),
        (ONE, MESSAGE, GET_VERSION),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ONE, OTHER]),
            st.one_of(
                st.binary(max_size=30),
                st.sampled_from(
                    [
                        frame(GET_VERSION),
                        frame(VERSION, extra=2),
                        emu(b"\x05"),
                        frame(record(22), 6),
                    ]
                ),
            ),
            st.sampled_from([0, 0, 0, 9]),
        ),
        max_size=20,
    )
)
def test_no_stream_raises_and_memory_stays_with_what_may_come(
    parts: list[tuple[Sender, bytes, int]],
) -> None:
    listener = Listener()
    for sender, data, lost in parts:
        listener.framer.feed(1, sender, data, lost)
    listener.framer.end(2)
    assert listener.events[-1].kind is WireKind.CLOSED
