"""spdm-emu's socket protocol at both ends, and the bodies it carries: MCTP, DOE, TCP, bare."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.errors import PeerError, ProtocolViolation, SpdmError, TransportError
from spdmkit.protocol import records
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports import doe, mctp_body, tcp
from spdmkit.transports.emu import (
    CLIENT_HELLO,
    HEADER,
    SERVER_HELLO,
    EmuCommand,
    EmuFraming,
    EmuTransport,
)
from spdmkit.transports.framing import (
    BindingError,
    Dialect,
    FramingEvent,
    Goodbye,
    PlatformCommand,
    Reply,
    Role,
    RoleInquiry,
    Side,
)

GET_VERSION = Frame(FrameKind.MESSAGE, bytes.fromhex("10840000"))
RECORD = Frame(FrameKind.SECURED, b"\xff\xff\xff\xff" + (21).to_bytes(2, "little") + bytes(21))
BOTH = (Role.REQUESTER, Role.RESPONDER)


def command(number: int, transport: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(number, transport, len(payload)) + payload


def client(transport: EmuTransport, **options: object) -> EmuFraming:
    return EmuFraming(transport, Side.INITIATOR, [Role.REQUESTER], **options)  # type: ignore[arg-type]  # options of many types


def server(transport: EmuTransport, **options: object) -> EmuFraming:
    return EmuFraming(transport, Side.LISTENER, [Role.RESPONDER], **options)  # type: ignore[arg-type]  # options of many types


def failure(events: list[FramingEvent]) -> BindingError:
    assert len(events) == 1, events
    assert isinstance(events[0], BindingError), events
    return events[0]


def converse(one: EmuFraming, other: EmuFraming) -> None:
    """Let the framings talk until both are silent."""
    to_other, to_one = one.start(), other.start()
    while to_other or to_one:
        replies = [event for event in other.feed(to_other) if isinstance(event, Reply)]
        answers = [event for event in one.feed(to_one) if isinstance(event, Reply)]
        to_one = b"".join(event.data for event in replies)
        to_other = b"".join(event.data for event in answers)


# -- the opening ----------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", list(EmuTransport))
def test_both_ends_open_and_carry_messages(transport: EmuTransport) -> None:
    requester, responder = client(transport), server(transport)
    converse(requester, responder)
    assert requester.ready
    assert responder.role in (Role.RESPONDER, None)
    kinds = [GET_VERSION] if transport is EmuTransport.NONE else [GET_VERSION, RECORD]
    for frame in kinds:
        assert responder.feed(requester.pack(frame)) == [frame]
        assert requester.feed(responder.pack(frame)) == [frame]


def test_the_hello_is_that_of_the_emulator() -> None:
    assert client(EmuTransport.MCTP).start() == bytes.fromhex(
        "0000dead000000010000000e436c69656e742048656c6c6f2100"
    )
    assert server(EmuTransport.MCTP).feed(command(0xDEAD, 1, CLIENT_HELLO)) == [
        Reply(command(0xDEAD, 1, SERVER_HELLO))
    ]


def test_a_client_may_skip_the_hello() -> None:
    quiet = client(EmuTransport.MCTP, hello=False)
    assert quiet.start() == b""
    assert quiet.ready
    assert server(EmuTransport.MCTP).feed(quiet.pack(GET_VERSION)) == [GET_VERSION]
    assert client(EmuTransport.NONE).start() == b""


def test_a_wrong_hello_closes() -> None:
    requester = client(EmuTransport.MCTP)
    requester.start()
    assert not requester.ready
    assert failure(requester.feed(command(0xDEAD, 1, b"Hello?"))).reply == b""
    responder_talks_first = client(EmuTransport.MCTP)
    responder_talks_first.start()
    error = failure(responder_talks_first.feed(command(1, 1, mctp_body.encode(GET_VERSION))))
    assert isinstance(error.error, ProtocolViolation)


def test_roles_follow_who_dialled_unless_there_is_a_role_inquiry() -> None:
    for transport in (EmuTransport.MCTP, EmuTransport.DOE, EmuTransport.NONE):
        with pytest.raises(ValueError, match="who dials"):
            EmuFraming(transport, Side.LISTENER, [Role.REQUESTER])
        with pytest.raises(ValueError, match="who dials"):
            EmuFraming(transport, Side.INITIATOR, [Role.RESPONDER])
    with pytest.raises(ValueError, match="one role"):
        EmuFraming(EmuTransport.TCP, Side.INITIATOR, BOTH)


def test_reach_out_over_the_emulators_tcp() -> None:
    """The Role-Inquiry is bare; everything after it is in the socket protocol."""
    device = EmuFraming(EmuTransport.TCP, Side.INITIATOR, [Role.RESPONDER])
    verifier = EmuFraming(EmuTransport.TCP, Side.LISTENER, BOTH)
    assert device.start() == tcp.ROLE_INQUIRY
    events: list[FramingEvent] = []
    for byte in tcp.ROLE_INQUIRY:
        events += verifier.feed(bytes((byte,)))
    assert events[0] == RoleInquiry()
    assert isinstance(events[1], Reply)
    assert device.feed(events[1].data) == [Reply(command(0xDEAD, 3, SERVER_HELLO))]
    assert verifier.feed(command(0xDEAD, 3, SERVER_HELLO)) == []
    assert verifier.ready
    assert device.feed(verifier.pack(GET_VERSION)) == [GET_VERSION]


def test_a_refused_role_is_told_bare() -> None:
    only_responder = EmuFraming(EmuTransport.TCP, Side.LISTENER, [Role.RESPONDER])
    assert failure(only_responder.feed(tcp.ROLE_INQUIRY)).reply.hex() == "000001c2"
    only_requester = EmuFraming(EmuTransport.TCP, Side.LISTENER, [Role.REQUESTER])
    assert failure(only_requester.feed(command(0xDEAD, 3, CLIENT_HELLO))).reply.hex() == "000001c3"
    device = EmuFraming(EmuTransport.TCP, Side.INITIATOR, [Role.RESPONDER])
    device.start()
    error = failure(device.feed(bytes.fromhex("000001c2"))).error
    assert isinstance(error, PeerError)
    assert error.code == 0xC2


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13])
def test_commands_come_out_whatever_the_cuts(size: int) -> None:
    responder = server(EmuTransport.MCTP)
    requester = client(EmuTransport.MCTP, hello=False)
    wire = requester.pack(GET_VERSION) + requester.pack(RECORD) + requester.end()
    events: list[FramingEvent] = []
    for at in range(0, len(wire), size):
        events += responder.feed(wire[at : at + size])
    assert events == [GET_VERSION, RECORD, Goodbye(command(0xFFFD, 1))]


@pytest.mark.parametrize("ending", [EmuCommand.CONTINUE, EmuCommand.SHUTDOWN])
def test_the_end_is_answered_and_awaited(ending: EmuCommand) -> None:
    requester, responder = client(EmuTransport.MCTP, ending=ending), server(EmuTransport.MCTP)
    converse(requester, responder)
    wire = requester.end()
    assert requester.end() == b""
    assert bool(requester.awaits_goodbye)
    [goodbye] = responder.feed(wire)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.shutdown is (ending is EmuCommand.SHUTDOWN)
    assert requester.feed(goodbye.reply) == [Goodbye(b"", goodbye.shutdown)]
    assert not requester.awaits_goodbye
    with pytest.raises(TransportError):
        requester.pack(GET_VERSION)
    assert responder.end() == b""


@pytest.mark.parametrize("number", [0x8001, 0x8002])
def test_out_of_band_commands_are_told_and_answered(number: int) -> None:
    requester, responder = client(EmuTransport.MCTP), server(EmuTransport.MCTP)
    converse(requester, responder)
    events = responder.feed(requester.pack_command(number, b"\xff\xff\xff\xff"))
    assert events == [PlatformCommand(number, b"\xff\xff\xff\xff"), Reply(command(number, 1))]
    assert requester.feed(command(number, 1)) == [PlatformCommand(number, b"")]


def test_an_unknown_command_is_answered_by_unknown() -> None:
    error = failure(server(EmuTransport.MCTP).feed(command(0x1234, 1)))
    assert error.reply == command(0xFFFF, 1)
    assert "0x1234" in str(error.error)
    assert failure(server(EmuTransport.MCTP).feed(b"GET / HTTP/1.1\r\n")).reply[:4] == bytes(
        (0, 0, 0xFF, 0xFF)
    )
    requester = client(EmuTransport.MCTP, hello=False)
    requester.start()
    assert "does not know" in str(failure(requester.feed(command(0xFFFF, 1))).error)


@pytest.mark.parametrize("transport", [0, 2, 3, 77])
def test_another_transport_type_is_named(transport: int) -> None:
    error = failure(server(EmuTransport.MCTP).feed(command(0xDEAD, transport, CLIENT_HELLO)))
    assert "not MCTP" in str(error.error)


def test_the_size_is_checked_before_the_payload_comes() -> None:
    responder = server(EmuTransport.MCTP, max_frame=100)
    error = failure(responder.feed(HEADER.pack(1, 1, 0xFFFFFFFF)))
    assert "more than we take" in str(error.error)
    body = Frame(FrameKind.MESSAGE, bytes(100))
    assert server(EmuTransport.MCTP, max_frame=100).feed(command(1, 1, mctp_body.encode(body))) == [
        body
    ]
    longer = mctp_body.encode(Frame(FrameKind.MESSAGE, bytes(101)))
    error = failure(server(EmuTransport.MCTP, max_frame=100).feed(command(1, 1, longer)))
    assert "101 bytes" in str(error.error)


def test_the_transport_none_carries_no_records() -> None:
    with pytest.raises(TransportError, match="no secured"):
        client(EmuTransport.NONE).pack(RECORD)


def test_records_are_those_of_the_binding_inside() -> None:
    profiles = {transport: client(transport).record_profile for transport in EmuTransport}
    assert profiles == {
        EmuTransport.NONE: records.NONE,
        EmuTransport.MCTP: records.MCTP,
        EmuTransport.DOE: records.DOE,
        EmuTransport.TCP: records.TCP_LIBSPDM,
    }


# -- the TCP transport ----------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", list(Dialect))
def test_either_dialect_inside_is_understood_and_answered(dialect: Dialect) -> None:
    responder = server(EmuTransport.TCP)
    wire = command(1, 3, tcp.encode_frame(GET_VERSION, dialect))
    assert responder.feed(wire) == [GET_VERSION]
    assert responder.dialect is dialect
    assert responder.pack(GET_VERSION) == wire


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("0500010510840000", "PayloadLen 5"),
        ("0400020510840000", "BindingVer 2"),
        ("0400018510840000", "0x85"),
        ("040001", "no whole header"),
        ("000001c0", "0xC0"),
    ],
)
def test_a_wrong_frame_inside_closes(inner: str, words: str) -> None:
    responder = server(EmuTransport.TCP)
    error = failure(responder.feed(command(1, 3, bytes.fromhex(inner))))
    assert words in str(error.error)


# -- MCTP bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["", "0410840000", "8510840000", "7e"])
def test_what_is_not_spdm_over_mctp_is_refused(body: str) -> None:
    with pytest.raises(TransportError, match="MCTP"):
        mctp_body.decode(bytes.fromhex(body))


def test_mctp_bodies_have_a_type_byte() -> None:
    assert mctp_body.encode(GET_VERSION).hex() == "0510840000"
    assert mctp_body.decode(mctp_body.encode(RECORD)) == RECORD


# -- DOE objects ----------------------------------------------------------------------------------


def test_doe_objects_are_whole_words() -> None:
    assert doe.encode(GET_VERSION).hex() == "010001000300000010840000"
    version = Frame(FrameKind.MESSAGE, bytes.fromhex("1004000000020011" + "0012"))
    assert doe.encode(version).hex() == "0100010005000000" + version.body.hex() + "0000"
    assert doe.decode(doe.encode(version), requester=True) == version
    assert doe.decode(doe.encode(RECORD), requester=True) == RECORD


def test_padding_stays_where_nothing_tells_the_end() -> None:
    unknown = Frame(FrameKind.MESSAGE, b"\x12\x60\0\0\0\1")
    padded = doe.decode(doe.encode(unknown), requester=True)
    assert padded == Frame(FrameKind.MESSAGE, unknown.body + bytes(2))
    record = doe.encode(RECORD)
    dirty = record[:-1] + b"\1"
    assert doe.decode(dirty, requester=True) == Frame(FrameKind.SECURED, dirty[8:])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("0100010003", "no whole header"),
        ("0200010003000000" + "10840000", "vendor 0x0002"),
        ("0100010004000000" + "10840000", "says 16"),
        ("0100010002000000" + "10840000", "says 8"),
        ("0100010000000000" + "10840000", "says 1048576"),
        ("0100030003000000" + "10840000", "type 3"),
        ("0100000002000000", "0 bytes instead of 4"),
    ],
)
def test_a_wrong_doe_object_is_refused(data: str, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        doe.decode(bytes.fromhex(data), requester=True)


def test_reserved_bits_of_the_doe_length_are_ignored() -> None:
    data = bytearray(doe.encode(GET_VERSION))
    data[7] = 0xFC
    assert doe.decode(bytes(data), requester=False) == GET_VERSION


def test_a_doe_object_has_a_largest_size() -> None:
    largest = Frame(FrameKind.MESSAGE, bytes((1 << 20) - 8))
    assert doe.encode(largest)[4:8] == bytes(4)
    with pytest.raises(TransportError, match="do not fit"):
        doe.encode(Frame(FrameKind.MESSAGE, bytes((1 << 20) - 7)))


def test_discovery_lists_what_the_responder_takes() -> None:
    requester, responder = client(EmuTransport.DOE), server(EmuTransport.DOE)
    converse(requester, responder)
    assert [feature.object_type for feature in requester.features] == [0, 1, 2]
    assert responder.feed(command(1, 2, doe.encode_discovery_request(2))) == [
        Reply(command(1, 2, bytes.fromhex("0100000003000000" + "01000200")))
    ]


def test_discovery_beyond_the_list_closes() -> None:
    error = failure(server(EmuTransport.DOE).feed(command(1, 2, doe.encode_discovery_request(3))))
    assert "index 3" in str(error.error)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["01000000"], "does not take SPDM"),
        (["01000002"], "jumps to index 2"),
        (["01000001", "01000101"], "jumps to index 1"),
    ],
)
def test_a_peer_with_a_wrong_discovery_is_left(answers: list[str], words: str) -> None:
    requester = client(EmuTransport.DOE, hello=False)
    requester.start()
    events: list[FramingEvent] = []
    for answer in answers:
        response = bytes.fromhex("0100000003000000" + answer)
        events = requester.feed(command(1, 2, response))
    assert words in str(failure(events).error)


def test_a_discovery_response_that_nobody_asked_for_closes() -> None:
    requester, responder = client(EmuTransport.DOE), server(EmuTransport.DOE)
    converse(requester, responder)
    events = requester.feed(command(1, 2, bytes.fromhex("010000000300000001000000")))
    assert isinstance(failure(events).error, ProtocolViolation)


# -- any bytes, any split -------------------------------------------------------------------------

_piece = st.one_of(
    st.binary(max_size=30),
    st.builds(
        command,
        st.sampled_from([*EmuCommand, 0x1234]),
        st.integers(0, 4),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda transport, frame: EmuFraming(transport, Side.LISTENER, [Role.RESPONDER]).pack(frame),
        st.sampled_from([EmuTransport.MCTP, EmuTransport.DOE, EmuTransport.TCP]),
        st.sampled_from([GET_VERSION, RECORD]),
    ),
    st.just(tcp.ROLE_INQUIRY),
)


@settings(deadline=None)
@given(
    transport=st.sampled_from(list(EmuTransport)),
    listener=st.booleans(),
    pieces=st.lists(_piece, max_size=8),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_any_bytes_in_any_split_give_events_or_one_clean_error(
    transport: EmuTransport, listener: bool, pieces: list[bytes], cuts: list[int]
) -> None:
    make = server if listener else client
    whole, cut = make(transport), make(transport)
    whole.start()
    cut.start()
    wire = b"".join(pieces)
    expected = whole.feed(wire)
    events: list[FramingEvent] = []
    at = 0
    for size in itertools.cycle(cuts):
        if at >= len(wire):
            break
        events += cut.feed(wire[at : at + size])
        at += size
    assert [str(event) for event in events] == [str(event) for event in expected]
    assert not any(isinstance(event, BindingError) for event in expected[:-1])
    for event in expected:
        if isinstance(event, BindingError):
            assert isinstance(event.error, SpdmError)
