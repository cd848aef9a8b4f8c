"""The short way of a framing, `whole`, takes what the long way takes, as the same frame."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports.emu import EmuFraming, EmuTransport
from spdmkit.transports.framing import BindingError, Dialect, Framing, Role, Side
from spdmkit.transports.tcp import TcpBinding

VERSION = bytes.fromhex("100400000003001100120013")
NEARLY_TCP = st.builds(
    lambda length, version, kind, body: struct.pack("<HBB", length, version, kind) + body,
    st.integers(0, 40),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0x05, 0x06, 0xBF, 0xC0, 0x07]),
    st.binary(max_size=36),
)
NEARLY_EMU = st.builds(
    lambda command, transport, size, body: struct.pack(">III", command, transport, size) + body,
    st.sampled_from([1, 0xDEAD, 0xFFFE, 0xFFFD, 2]),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 40),
    st.binary(max_size=36) | st.binary(max_size=36).map(lambda body: b"\x05" + body),
)


MESSAGES = st.builds(
    lambda extra, message, tail: (
        struct.pack("<HBB", max(len(message + tail) + extra, 0), 1, 0x05) + message + tail
    ),
    st.sampled_from([-2, -1, 0, 1, 2, 3]),
    st.sampled_from(
        [VERSION, VERSION[:8], VERSION[:4], bytes.fromhex("107f0100"), b"\x14\xe0\x01"]
    ),
    st.sampled_from([b"", b"\0\0", b"\0"]),
)
"""A first answer in either dialect, or in neither, with and without what does not belong to it."""


def tcp(dialect: Dialect | None) -> TcpBinding:
    binding = TcpBinding(Side.INITIATOR, [Role.REQUESTER], dialect=dialect, max_frame=32)
    binding.secured_allowed = True
    return binding


def emu() -> EmuFraming:
    framing = EmuFraming(
        EmuTransport.MCTP, Side.INITIATOR, [Role.REQUESTER], hello=False, max_frame=32
    )
    framing.start()
    return framing


def compare(short: Framing, long: Framing, data: bytes) -> None:
    frame = short.whole(data)
    if frame is None:
        # Nothing was taken: the long way has it all.
        assert [type(each) for each in short.feed(data)] == [type(each) for each in long.feed(data)]
    else:
        assert long.feed(data) == [frame]
        assert short.pending() == long.pending() == 0
    assert short.dialect is long.dialect


@given(NEARLY_TCP | st.binary(max_size=40), st.sampled_from(list(Dialect)))
def test_tcp(data: bytes, dialect: Dialect) -> None:
    compare(tcp(dialect), tcp(dialect), data)


@given(NEARLY_TCP | MESSAGES | st.binary(max_size=40))
def test_tcp_in_a_dialect_that_is_to_be_found(data: bytes) -> None:
    compare(tcp(None), tcp(None), data)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_first_answer_shows_the_dialect(dialect: Dialect) -> None:
    undecided = tcp(None)
    frame = Frame(FrameKind.MESSAGE, VERSION)
    assert undecided.whole(tcp(dialect).pack(frame)) == frame
    assert undecided.dialect is dialect


@given(NEARLY_EMU | st.binary(max_size=40))
def test_emu(data: bytes) -> None:
    compare(emu(), emu(), data)


@pytest.mark.parametrize("kind", list(FrameKind))
def test_frames_of_one_write(kind: FrameKind) -> None:
    frame = Frame(kind, VERSION)
    assert emu().whole(emu().pack(frame)) == frame
    if kind is FrameKind.MESSAGE:
        for dialect in Dialect:
            assert tcp(dialect).whole(tcp(dialect).pack(frame)) == frame


def test_what_stands_before_goes_first() -> None:
    for framing in (tcp(Dialect.STRICT), emu()):
        data = framing.pack(Frame(FrameKind.MESSAGE, VERSION))
        framing.receive(data[:3])
        assert framing.whole(data) is None


def test_not_before_the_dialect_is_known_nor_after_the_end() -> None:
    undecided = TcpBinding(Side.LISTENER, [Role.RESPONDER])
    request = b"\x04\x00\x01\x05\x10\x84\x00\x00"
    assert undecided.whole(request) is None
    assert len(undecided.feed(request)) == 1
    assert undecided.whole(request) is not None
    assert isinstance(undecided.feed(b"\xff\xff\xff\xff")[0], BindingError)
    assert undecided.whole(request) is None
    other = EmuFraming(EmuTransport.NONE, Side.INITIATOR, [Role.REQUESTER])
    other.start()
    assert other.whole(other.pack(Frame(FrameKind.MESSAGE, VERSION))) is None
