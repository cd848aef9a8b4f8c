"""The DSP0287 binding: frames, dialects, roles, error frames; any bytes in any split."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.errors import PeerError, ProtocolViolation, SpdmError, TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.records import TCP_LIBSPDM, TCP_STRICT
from spdmkit.transports.framing import (
    BindingError,
    Dialect,
    FramingEvent,
    Role,
    RoleInquiry,
    Side,
)
from spdmkit.transports.tcp import (
    HEADER,
    ROLE_INQUIRY,
    TRANSITIONS,
    Input,
    MessageType,
    Phase,
    TcpBinding,
    encode_frame,
    error_frame,
)

GET_VERSION = bytes.fromhex("10840000")
VERSION = bytes.fromhex("100400000003001100120013")
ERROR = bytes.fromhex("107f0100")
BOTH = (Role.REQUESTER, Role.RESPONDER)


def message(body: bytes) -> Frame:
    return Frame(FrameKind.MESSAGE, body)


def record(length: int, sequence: bytes = b"") -> bytes:
    return b"\xff\xff\xff\xff" + sequence + length.to_bytes(2, "little") + bytes(length)


def responder(**options: object) -> TcpBinding:
    return TcpBinding(Side.LISTENER, [Role.RESPONDER], **options)  # type: ignore[arg-type]  # options of many types


def requester(**options: object) -> TcpBinding:
    return TcpBinding(Side.INITIATOR, [Role.REQUESTER], **options)  # type: ignore[arg-type]  # options of many types


def in_pieces(binding: TcpBinding, data: bytes, size: int = 1) -> list[FramingEvent]:
    events: list[FramingEvent] = []
    for start in range(0, len(data), size):
        events += binding.feed(data[start : start + size])
    return events


def failure(events: list[FramingEvent]) -> BindingError:
    assert len(events) == 1, events
    assert isinstance(events[0], BindingError), events
    return events[0]


# -- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "frame", "wire"),
    [
        (Dialect.STRICT, message(GET_VERSION), "0400010510840000"),
        (Dialect.LIBSPDM, message(GET_VERSION), "0600010510840000"),
        (Dialect.STRICT, Frame(FrameKind.SECURED, record(16)), "16000106" + record(16).hex()),
        (Dialect.LIBSPDM, Frame(FrameKind.SECURED, record(16)), "18000106" + record(16).hex()),
    ],
)
def test_encodes_as_the_two_readings_say(dialect: Dialect, frame: Frame, wire: str) -> None:
    assert encode_frame(frame, dialect).hex() == wire


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_largest_frame_fits_and_one_byte_more_does_not(dialect: Dialect) -> None:
    largest = 0xFFFF - dialect.extra
    assert encode_frame(message(bytes(largest)), dialect)[:2] == b"\xff\xff"
    with pytest.raises(TransportError, match="do not fit"):
        encode_frame(message(bytes(largest + 1)), dialect)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("dialect", list(Dialect))
def test_frames_come_out_whatever_the_cuts(dialect: Dialect, size: int) -> None:
    binding = responder()
    binding.secured_allowed = True
    frames = [message(GET_VERSION), Frame(FrameKind.SECURED, record(40)), message(bytes(300))]
    wire = b"".join(encode_frame(frame, dialect) for frame in frames)
    assert in_pieces(binding, wire, size) == frames
    assert binding.pending() == 0
    assert binding.dialect is dialect


def test_bodies_are_immutable_bytes() -> None:
    [frame] = in_pieces(responder(), encode_frame(message(GET_VERSION), Dialect.STRICT))
    assert isinstance(frame, Frame)
    assert type(frame.body) is bytes


def test_an_initiator_has_exactly_one_role() -> None:
    for side, roles in ((Side.INITIATOR, BOTH), (Side.INITIATOR, ()), (Side.LISTENER, ())):
        with pytest.raises(ValueError, match="role"):
            TcpBinding(side, roles)


# -- dialect detection ----------------------------------------------------------------------------


def first_frame(length: int, body: bytes) -> bytes:
    return HEADER.pack(length, 1, 5) + body


@pytest.mark.parametrize(
    ("length", "body", "dialect"),
    [
        (4, GET_VERSION, Dialect.STRICT),
        (5, GET_VERSION + b"\0", Dialect.STRICT),
        (6, GET_VERSION, Dialect.LIBSPDM),
        (len(VERSION), VERSION, Dialect.STRICT),
        (len(VERSION) + 2, VERSION, Dialect.LIBSPDM),
        (4, ERROR, Dialect.STRICT),
        (6, ERROR, Dialect.LIBSPDM),
    ],
)
@pytest.mark.parametrize("make", [responder, requester])
def test_the_first_frame_shows_the_dialect(
    make: object, length: int, body: bytes, dialect: Dialect
) -> None:
    assert callable(make)
    binding: TcpBinding = make()
    assert in_pieces(binding, first_frame(length, body)) == [message(body)]
    assert binding.dialect is dialect
    assert binding.pack(message(ERROR)) == encode_frame(message(ERROR), dialect)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_first_message_shorter_than_a_header_closes(length: int) -> None:
    error = failure(in_pieces(responder(), first_frame(length, bytes(length))))
    assert error.reply == b""


@pytest.mark.parametrize("length", [7, 8, 9, 40, 4000])
def test_a_length_that_fits_neither_reading_closes(length: int) -> None:
    binding = responder()
    error = failure(binding.feed(first_frame(length, GET_VERSION + bytes(length))))
    assert "neither dialect" in str(error.error)
    assert binding.next_event() is None


def test_a_message_that_does_not_tell_its_size_closes() -> None:
    error = failure(responder().feed(first_frame(8, b"\x10\x01" + bytes(6))))
    assert "does not tell its size" in str(error.error)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_decides_without_a_byte_that_only_one_reading_promises(dialect: Dialect) -> None:
    """A peer of the other dialect would wait for us while we wait for it."""
    wire = encode_frame(message(VERSION), dialect)
    binding = requester()
    assert in_pieces(binding, wire[:-1]) == []
    assert binding.feed(wire[-1:]) == [message(VERSION)]


def test_a_message_cut_in_its_header_is_nothing_yet() -> None:
    for cut in range(8):
        binding = responder()
        assert binding.feed(encode_frame(message(GET_VERSION), Dialect.STRICT)[:cut]) == []
        assert binding.pending() == cut
        expected = f"{cut} bytes into a frame" if cut else "closed the connection"
        assert expected in str(binding.closed())


def test_a_configured_dialect_is_not_found_out() -> None:
    binding = responder(dialect=Dialect.LIBSPDM)
    assert binding.dialect is Dialect.LIBSPDM
    # In this reading the message has two bytes; what is wrong with it is the endpoint's to say.
    assert binding.feed(first_frame(4, GET_VERSION)[:6]) == [message(GET_VERSION[:2])]
    error = failure(responder(dialect=Dialect.LIBSPDM).feed(first_frame(1, b"")))
    assert "libspdm dialect" in str(error.error)


def test_the_dialect_is_fixed_for_the_connection() -> None:
    binding = responder()
    binding.feed(encode_frame(message(GET_VERSION), Dialect.STRICT))
    assert binding.feed(encode_frame(message(GET_VERSION), Dialect.LIBSPDM)) == []
    assert binding.dialect is Dialect.STRICT


def test_a_requester_guesses_until_the_peer_answers() -> None:
    for guess in Dialect:
        binding = requester(guess=guess)
        assert binding.dialect is None
        assert binding.sending_dialect is guess
        assert binding.pack(message(GET_VERSION)) == encode_frame(message(GET_VERSION), guess)
        binding.feed(encode_frame(message(VERSION), guess.other))
        assert binding.dialect is guess.other


def test_records_go_with_the_dialect() -> None:
    assert requester(guess=Dialect.STRICT).record_profile is TCP_STRICT
    assert requester(guess=Dialect.LIBSPDM).record_profile is TCP_LIBSPDM


def test_hints_at_the_other_dialect_when_two_bytes_are_missing() -> None:
    binding = requester(dialect=Dialect.STRICT)
    assert binding.hint() == ""
    assert binding.feed(encode_frame(message(VERSION), Dialect.LIBSPDM)) == []
    assert "dialect=libspdm" in binding.hint()
    binding.feed(b"\0")
    assert binding.hint() == ""


# -- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("off_by", [-3, -2, -1, 1, 2, 3])
def test_a_record_must_agree_with_payload_len(dialect: Dialect, off_by: int) -> None:
    binding = responder(dialect=dialect)
    binding.secured_allowed = True
    body = record(40)
    good = encode_frame(Frame(FrameKind.SECURED, body), dialect)
    assert binding.feed(good) == [Frame(FrameKind.SECURED, body)]
    wrong = HEADER.pack(len(body) + dialect.extra + off_by, 1, 6) + body[:6]
    error = failure(binding.feed(wrong))
    assert "contradicts" in str(error.error)
    assert error.reply == b""


@pytest.mark.parametrize("length", range(8))
def test_a_record_too_short_for_its_head_closes(length: int) -> None:
    binding = responder(dialect=Dialect.LIBSPDM)
    binding.secured_allowed = True
    error = failure(binding.feed(HEADER.pack(length, 1, 6)))
    assert "too short" in str(error.error)


@pytest.mark.parametrize("sizes", [(2,), (0, 2)])
@pytest.mark.parametrize("dialect", list(Dialect))
def test_records_of_mctp_travel_in_tcp_frames(dialect: Dialect, sizes: tuple[int, ...]) -> None:
    body = record(30, b"\x07\x00")
    frame = Frame(FrameKind.SECURED, body)
    binding = responder(dialect=dialect, sequence_sizes=sizes)
    binding.secured_allowed = True
    assert in_pieces(binding, encode_frame(frame, dialect)) == [frame]
    plain = responder(dialect=dialect)
    plain.secured_allowed = True
    assert "contradicts" in str(failure(plain.feed(encode_frame(frame, dialect))).error)


def test_a_record_can_show_the_dialect_too() -> None:
    for dialect in Dialect:
        binding = responder()
        binding.secured_allowed = True
        frame = Frame(FrameKind.SECURED, record(30))
        assert in_pieces(binding, encode_frame(frame, dialect)) == [frame]
        assert binding.dialect is dialect


def test_a_record_before_any_session_closes() -> None:
    wire = encode_frame(Frame(FrameKind.SECURED, record(30)), Dialect.STRICT)
    for binding in (responder(), requester(), responder(dialect=Dialect.STRICT)):
        error = failure(binding.feed(wire))
        assert isinstance(error.error, ProtocolViolation)
        assert error.reply == b""


def test_what_one_frame_brings_about_counts_for_the_next() -> None:
    """Both frames come in one read; the session begins with the first."""
    binding = responder()
    frame = Frame(FrameKind.SECURED, record(30))
    wire = encode_frame(message(GET_VERSION), Dialect.STRICT)
    binding.receive(wire + encode_frame(frame, Dialect.STRICT))
    assert binding.next_event() == message(GET_VERSION)
    binding.secured_allowed = True
    assert binding.next_event() == frame


# -- roles ----------------------------------------------------------------------------------------


def test_a_responder_that_dials_inquires_first() -> None:
    binding = TcpBinding(Side.INITIATOR, [Role.RESPONDER])
    assert binding.start() == ROLE_INQUIRY == bytes.fromhex("000001bf")
    assert not binding.ready
    assert binding.feed(encode_frame(message(GET_VERSION), Dialect.LIBSPDM)) == [
        message(GET_VERSION)
    ]
    assert requester().start() == responder().start() == b""


def test_a_listener_learns_its_role_from_the_first_frame() -> None:
    assert TcpBinding(Side.LISTENER, BOTH).role is None
    binding = TcpBinding(Side.LISTENER, BOTH)
    assert in_pieces(binding, ROLE_INQUIRY) == [RoleInquiry()]
    assert binding.role is Role.REQUESTER
    assert binding.ready
    binding = TcpBinding(Side.LISTENER, BOTH)
    binding.feed(encode_frame(message(GET_VERSION), Dialect.STRICT))
    assert binding.role is Role.RESPONDER
    assert not binding.ready


def test_an_inquiry_and_what_follows_in_one_read() -> None:
    binding = TcpBinding(Side.LISTENER, BOTH)
    wire = ROLE_INQUIRY + encode_frame(message(VERSION), Dialect.STRICT)
    assert binding.feed(wire) == [RoleInquiry(), message(VERSION)]


@pytest.mark.parametrize(
    ("roles", "wire", "reply"),
    [
        ([Role.RESPONDER], ROLE_INQUIRY, "000001c2"),
        ([Role.REQUESTER], first_frame(4, GET_VERSION), "000001c3"),
        ([Role.REQUESTER], HEADER.pack(46, 1, 6) + record(40), "000001c3"),
    ],
)
def test_a_refused_role_is_told(roles: list[Role], wire: bytes, reply: str) -> None:
    binding = TcpBinding(Side.LISTENER, roles)
    error = failure(in_pieces(binding, wire))
    assert error.reply.hex() == reply
    with pytest.raises(TransportError, match="over"):
        binding.pack(message(ERROR))


def test_a_second_inquiry_closes() -> None:
    binding = TcpBinding(Side.LISTENER, BOTH)
    events = binding.feed(ROLE_INQUIRY * 2)
    assert events[0] == RoleInquiry()
    assert failure(events[1:]).reply == b""


def test_an_inquiry_after_spdm_is_refused() -> None:
    binding = TcpBinding(Side.LISTENER, BOTH)
    events = binding.feed(first_frame(4, GET_VERSION) + ROLE_INQUIRY)
    assert events[0] == message(GET_VERSION)
    assert failure(events[1:]).reply == error_frame(MessageType.CANNOT_BE_REQUESTER)


@pytest.mark.parametrize("role", list(Role))
def test_an_inquiry_from_a_listener_closes(role: Role) -> None:
    error = failure(TcpBinding(Side.INITIATOR, [role]).feed(ROLE_INQUIRY))
    assert isinstance(error.error, ProtocolViolation)
    assert error.reply == b""


def test_an_inquiry_with_a_length_closes() -> None:
    error = failure(TcpBinding(Side.LISTENER, BOTH).feed(bytes.fromhex("020001bf")))
    assert "PayloadLen 2" in str(error.error)


def test_every_pair_that_can_occur_is_in_the_table() -> None:
    for side, phase, kind in itertools.product(Side, Phase, Input):
        possible = phase is not Phase.CLOSED and (side, phase) != (Side.INITIATOR, Phase.OPENING)
        assert ((side, phase, kind) in TRANSITIONS) is possible


# -- error frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 0x10, 0xFF])
@pytest.mark.parametrize("message_type", [0x05, 0x06, 0x42, 0xBF])
def test_another_binding_version_gets_ours(version: int, message_type: int) -> None:
    wire = HEADER.pack(0xFFFF, version, message_type)
    error = failure(in_pieces(TcpBinding(Side.LISTENER, BOTH), wire))
    assert error.reply == bytes.fromhex("000001c1")


@pytest.mark.parametrize("message_type", [0x00, 0x04, 0x07, 0x7E, 0x85, 0xBE])
def test_a_reserved_message_type_closes_without_an_answer(message_type: int) -> None:
    error = failure(responder().feed(HEADER.pack(0xFFFF, 1, message_type)))
    assert error.reply == b""
    assert "reserved" in str(error.error)


@pytest.mark.parametrize("message_type", [5, 6])
def test_a_frame_beyond_the_limit_is_refused_by_its_header(message_type: int) -> None:
    binding = responder(max_frame=100)
    binding.secured_allowed = True
    error = failure(binding.feed(HEADER.pack(103, 1, message_type)))
    assert error.reply == bytes.fromhex("000001c0")


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_limit_counts_the_message_in_either_dialect(dialect: Dialect) -> None:
    exact = Frame(FrameKind.SECURED, record(94))
    binding = responder(max_frame=100, dialect=dialect)
    binding.secured_allowed = True
    assert binding.feed(encode_frame(exact, dialect)) == [exact]
    more = encode_frame(Frame(FrameKind.SECURED, record(95)), dialect)
    assert failure(binding.feed(more)).reply == error_frame(MessageType.TOO_LARGE)


def test_the_limit_holds_while_the_dialect_is_open() -> None:
    body = bytes((0x10, 0x04, 0, 0, 0, 48)) + bytes(96)
    assert responder(max_frame=102).feed(first_frame(102, body)) == [message(body)]
    assert "more than we take" in str(
        failure(responder(max_frame=100).feed(first_frame(102, body))).error
    )
    libspdm = responder(max_frame=102)
    assert libspdm.feed(first_frame(104, body)) == [message(body)]


@pytest.mark.parametrize("make", [responder, requester])
@pytest.mark.parametrize("version", [0, 1, 2, 9])
@pytest.mark.parametrize("message_type", [0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xFF])
def test_an_error_frame_is_understood_and_never_answered(
    make: object, message_type: int, version: int
) -> None:
    assert callable(make)
    error = failure(make().feed(HEADER.pack(0, version, message_type)))
    assert error.reply == b""
    peer = error.error
    assert isinstance(peer, PeerError)
    assert (peer.code, peer.data, peer.frame) == (message_type, version, True)
    assert f"0x{message_type:X}" in str(peer)


def test_the_version_that_the_peer_supports_is_named() -> None:
    error = failure(requester().feed(bytes.fromhex("000002c1")))
    assert "supports version 2" in str(error.error)


def test_nothing_comes_after_the_end() -> None:
    binding = responder()
    failure(binding.feed(HEADER.pack(0, 9, 5)))
    assert binding.phase is Phase.CLOSED
    assert binding.feed(encode_frame(message(GET_VERSION), Dialect.STRICT)) == []
    assert binding.pending() == 0


# -- any bytes, any split -------------------------------------------------------------------------

_header = st.builds(
    HEADER.pack,
    st.integers(0, 64),
    st.sampled_from([1, 1, 1, 1, 0, 2]),
    st.sampled_from([5, 5, 5, 6, 6, 0xBF, 0xC0, 0xC1, 0x00, 0x81]),
)
_piece = st.one_of(
    st.binary(max_size=40),
    _header,
    st.builds(lambda head, body: head + body, _header, st.binary(max_size=70)),
    st.sampled_from(list(Dialect)).map(lambda d: encode_frame(message(GET_VERSION), d)),
    st.sampled_from(list(Dialect)).map(lambda d: encode_frame(message(VERSION), d)),
    st.builds(
        lambda d, n: encode_frame(Frame(FrameKind.SECURED, record(n)), d),
        st.sampled_from(list(Dialect)),
        st.integers(16, 60),
    ),
)


def outcome(events: list[FramingEvent]) -> list[object]:
    """Events in a form that compares: errors by their text."""
    return [
        (str(event.error), event.reply) if isinstance(event, BindingError) else event
        for event in events
    ]


@settings(deadline=None)
@given(
    pieces=st.lists(_piece, max_size=8),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    side=st.sampled_from(list(Side)),
    roles=st.sampled_from([[Role.REQUESTER], [Role.RESPONDER]]),
    secured=st.booleans(),
)
def test_any_bytes_in_any_split_give_frames_or_one_clean_error(
    pieces: list[bytes], cuts: list[int], side: Side, roles: list[Role], secured: bool
) -> None:
    wire = b"".join(pieces)
    whole, cut = TcpBinding(side, roles), TcpBinding(side, roles)
    whole.secured_allowed = cut.secured_allowed = secured
    expected = whole.feed(wire)
    events: list[FramingEvent] = []
    at = 0
    for size in itertools.cycle(cuts):
        if at >= len(wire):
            break
        events += cut.feed(wire[at : at + size])
        at += size
    assert outcome(events) == outcome(expected)
    for event in expected[:-1]:
        assert isinstance(event, Frame | RoleInquiry)
    if expected and isinstance(expected[-1], BindingError):
        assert isinstance(expected[-1].error, SpdmError)
        assert len(expected[-1].reply) in (0, 4)
    assert cut.pending() <= 0xFFFF + 4


def test_feeding_byte_by_byte_is_not_quadratic() -> None:
    """A frame of 60,000 bytes arrives in 60,004 reads; each costs what it brings."""
    binding = responder(dialect=Dialect.STRICT)
    body = bytes(60_000)
    wire = encode_frame(message(body), Dialect.STRICT)
    for index in range(len(wire) - 1):
        binding.receive(wire[index : index + 1])
        assert binding.next_event() is None
    assert binding.feed(wire[-1:]) == [message(body)]


def test_the_header_is_little_endian() -> None:
    assert encode_frame(message(bytes(0x1234)), Dialect.STRICT)[:4] == struct.pack(
        "<HBB", 0x1234, 1, 5
    )


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_first_answer_that_does_not_tell_its_size(dialect: Dialect) -> None:
    """PSK_EXCHANGE_RSP after cached state: the peer understood us, so that our guess is right."""
    answer = bytes.fromhex("1366") + bytes(60)
    binding = requester(guess=dialect)
    binding.pack(message(bytes.fromhex("13e6") + bytes(20)))
    (event,) = in_pieces(binding, encode_frame(message(answer), dialect), 7)
    assert event == message(answer)
    assert binding.dialect is dialect


@pytest.mark.parametrize("start", ["1355", "5566", "13e6"], ids=["code", "version", "request"])
def test_nothing_else_that_does_not_tell_its_size(start: str) -> None:
    binding = requester()
    binding.pack(message(GET_VERSION))
    garbage = bytes.fromhex(start) + bytes(60)
    failure(in_pieces(binding, encode_frame(message(garbage), Dialect.STRICT), 7))
    failure(in_pieces(responder(), encode_frame(message(b"\x13\x66" + garbage), Dialect.STRICT), 7))
