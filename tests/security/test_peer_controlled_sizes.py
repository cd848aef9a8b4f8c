"""Sizes, offsets and exponents that a peer chooses: none is used before it is checked.

CVE-2023-32690 (exponents as shift counts), GHSA-m4wc-xmvg-369f (offset + length beyond 32 bits),
GHSA-j54w-759w-xj3m (a subject string before its bounds check), and the bounds series of 2026.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from spdmkit.errors import DecodeError, PeerError, ProtocolViolation, SpdmError
from spdmkit.messages import (
    V12,
    V13,
    V14,
    Capabilities,
    Context,
    Error,
    ErrorCode,
    GetCertificate,
    GetMeasurementExtensionLog,
    ResponseCode,
)
from spdmkit.protocol.deadlines import Timing, ready_delay, ready_limit
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.negotiate import get_version, negotiate

from ..protocol.support import MemoryDevice, Pair
from ..protocol.test_attestation_flow import verified
from .support import deliver

E = ErrorCode
EDGES_32 = [0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


def pair(version: int = V13, **options: Any) -> Pair:
    made = Pair(MemoryDevice("ecdsa-p256"), versions=(version,), **options)
    made.run(negotiate(made.link))
    return made


def answer(pair: Pair, message: bytes) -> bytes:
    (frame,) = deliver(pair, Frame(FrameKind.MESSAGE, message))
    return frame.body


# --- CVE-2023-32690 ------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", range(256))
def test_cve_2023_32690_ct_exponent_of_the_responder(exponent: int) -> None:
    made = Pair(MemoryDevice("ecdsa-p256"), versions=(V12,))

    def bend(who: str, frame: Frame) -> Frame:
        if who == "responder" and frame.body[1] == ResponseCode.CAPABILITIES:
            return Frame(frame.kind, frame.body[:5] + bytes((exponent,)) + frame.body[6:])
        return frame

    made.bend = bend
    if exponent > 31:
        with pytest.raises(DecodeError):
            made.run(negotiate(made.link))
        return
    made.run(negotiate(made.link))
    # Even an exponent that exists cannot park us: 2^31 us are more than half an hour.
    assert max(made.requester.connection.patience) <= Timing().longest


@pytest.mark.parametrize("exponent", range(256))
def test_cve_2023_32690_ct_exponent_of_the_requester(exponent: int) -> None:
    made = Pair(MemoryDevice("ecdsa-p256"), versions=(V12,))
    made.run(get_version(made.link))
    flags = (0).to_bytes(4, "little")
    sizes = (0x1000).to_bytes(4, "little") * 2
    request = b"\x12\xe1\0\0\0" + bytes((exponent,)) + b"\0\0" + flags + sizes
    response = answer(made, request)
    wanted = ResponseCode.CAPABILITIES if exponent <= 31 else ResponseCode.ERROR
    assert response[1] == wanted


@pytest.mark.parametrize("exponent", range(256))
def test_cve_2023_32690_rdt_exponent(exponent: int) -> None:
    """ResponseNotReady: whatever it says, the wait is bounded by our own patience."""
    made = pair()
    extended = bytes((exponent, 0x81, 1, 255))
    error = b"\x13\x7f\x42\0" + extended

    def bend(who: str, frame: Frame) -> Frame:
        return Frame(frame.kind, error) if who == "responder" else frame

    made.bend = bend
    start = made.clock.now
    with pytest.raises((PeerError, DecodeError, ProtocolViolation)):
        made.run(get_digests(made.link))
    if exponent > 31:
        assert made.clock.now == start
    assert ready_delay(exponent) <= 2**31 * 1e-6
    assert ready_limit(exponent, 255, longest=60.0) <= 60.0


# --- offsets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, *EDGES_32])
@pytest.mark.parametrize("offset", EDGES_32)
def test_ghsa_m4wc_offset_and_length_of_the_log(offset: int, length: int) -> None:
    made = pair()
    request = GetMeasurementExtensionLog(offset=offset, length=length)
    response = answer(made, request.encode(made.requester.connection.context))
    assert response[1:3] == bytes((ResponseCode.ERROR, E.INVALID_REQUEST))


@pytest.mark.parametrize("length", [1, *EDGES_32])
@pytest.mark.parametrize("offset", EDGES_32)
def test_offset_and_length_of_a_large_chain(offset: int, length: int) -> None:
    made = pair(V14)
    request = GetCertificate(slot_id=0, large=True, offset=offset, length=length)
    response = answer(made, request.encode(made.requester.connection.context))
    assert response[1:3] == bytes((ResponseCode.ERROR, E.INVALID_REQUEST))


@pytest.mark.parametrize("length", [1, 0xFFFF])
@pytest.mark.parametrize("offset", [0x7FFF, 0x8000, 0xFFFF])
def test_offset_and_length_of_a_chain(offset: int, length: int) -> None:
    made = pair()
    request = GetCertificate(slot_id=0, offset=offset, length=length)
    response = answer(made, request.encode(made.requester.connection.context))
    assert response[1:3] == bytes((ResponseCode.ERROR, E.INVALID_REQUEST))


# --- what comes in portions ----------------------------------------------------------------------


def portions(portion: int, remainder: int, data: bytes) -> bytes:
    return b"\x13\x02\0\0" + portion.to_bytes(2, "little") + remainder.to_bytes(2, "little") + data


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        (portions(0, 100, b""), b"", "portion"),
        (portions(16, 0xFFFF, bytes(16)), b"", "limit"),
        (portions(16, 100, bytes(16)), portions(16, 100, bytes(16)), "length"),
        (portions(16, 100, bytes(16)), portions(101, 0, bytes(101)), "portion"),
        (portions(16, 100, bytes(15)), b"", "exceeds|remain|left|bytes"),
        (b"\x13\x02\x01\0" + bytes(4), b"", "another slot|portion"),
    ],
)
def test_portions_of_a_chain_that_do_not_add_up(
    first: bytes, second: bytes, complaint: str
) -> None:
    """59dead38: portion and remainder."""
    made = pair()
    answers = iter([first, second])

    def bend(who: str, frame: Frame) -> Frame:
        return Frame(frame.kind, next(answers)) if who == "responder" else frame

    made.bend = bend
    with pytest.raises((ProtocolViolation, DecodeError), match=complaint):
        made.run(get_certificate(made.link, 0))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 100, b""), None),
        ((16, 0xFFFFFFFF, bytes(16)), None),
        ((16, 100, bytes(16)), (101, 0, bytes(101))),
    ],
)
def test_portions_of_the_log_that_do_not_add_up(
    first: tuple[int, int, bytes], second: tuple[int, int, bytes] | None
) -> None:
    made = pair()

    def message(portion: int, remainder: int, data: bytes) -> bytes:
        lengths = portion.to_bytes(4, "little") + remainder.to_bytes(4, "little")
        return b"\x13\x6f\0\0" + lengths + data

    answers = iter([message(*first), message(*(second or first))])

    def bend(who: str, frame: Frame) -> Frame:
        return Frame(frame.kind, next(answers)) if who == "responder" else frame

    made.bend = bend
    with pytest.raises((ProtocolViolation, DecodeError)):
        made.run(get_measurement_log(made.link))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_large_response_of_any_size_allocates_nothing(size: int) -> None:
    made = pair()
    chunk = b"\x13\x06\0\x01" + bytes(4) + (16).to_bytes(4, "little")
    chunk += size.to_bytes(4, "little") + bytes(16)

    def bend(who: str, frame: Frame) -> Frame:
        if who == "requester":
            return frame
        first = b"\x13\x7f\x0f\0\x01"
        return Frame(frame.kind, chunk if made.wire[-2][1].body[1] == 0x86 else first)

    made.bend = bend
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolation):
            made.run(get_digests(made.link))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 41, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_large_request_of_any_size_allocates_nothing(size: int) -> None:
    """7927a923: ChunkSize and LargeMessageSize."""
    made = pair()
    request = b"\x13\x85\0\x01" + bytes(4) + (64).to_bytes(4, "little")
    request += size.to_bytes(4, "little") + bytes(64)
    tracemalloc.start()
    try:
        response = answer(made, request)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert response[1] == ResponseCode.ERROR
    assert response[2] in (E.INVALID_REQUEST, E.REQUEST_TOO_LARGE)


@pytest.mark.parametrize("length", [0, 15, 16, 0xFFFF])
def test_4975ccc3_lengths_in_a_record(length: int) -> None:
    """ApplicationDataLength above the ciphertext, and Length against the frame."""
    from ..protocol.test_session_life import opened, theirs

    made, one = opened()
    sender = one.session.sender
    assert sender._state is not None
    inner = length.to_bytes(2, "little") + bytes(8)
    header = one.session.session_id.to_bytes(4, "little")
    header += (len(inner) + 16).to_bytes(2, "little")
    record = header + sender._state.cipher.seal(sender._state.nonce(), inner, header)
    session = theirs(made, one)
    deliver(made, Frame(FrameKind.SECURED, record))
    assert not session.alive
    made, one = opened()
    good = one.session.sender.message(b"\x13\xe8\0\0")
    record = good[:4] + length.to_bytes(2, "little") + good[6:]
    session = theirs(made, one)
    deliver(made, Frame(FrameKind.SECURED, record))
    assert not session.alive


@pytest.mark.parametrize("extra", [b"\0" * 8, b"\0" * 7 + b"\1"])
def test_what_follows_a_message(extra: bytes) -> None:
    """libspdm#2610: padding is tolerated and never hashed; anything else is refused."""
    made = pair()
    response = answer(made, b"\x13\x81\0\0" + extra)
    assert response[1] == (ResponseCode.DIGESTS if not any(extra) else ResponseCode.ERROR)


def test_padding_never_enters_a_transcript() -> None:
    made = pair()

    def pad(_who: str, frame: Frame) -> Frame:
        return Frame(frame.kind, frame.body + bytes(5))

    made.bend = pad
    from spdmkit.protocol.requester.challenge import challenge
    from spdmkit.protocol.requester.measurements import get_signed_measurements

    proven = verified(made)
    made.run(challenge(made.link, proven))
    made.run(get_signed_measurements(made.link, proven))


def test_more_than_32_bytes_of_extended_error_data() -> None:
    with pytest.raises(DecodeError):
        Error.decode(b"\x13\x7f\xff\0" + bytes(33), Context(version=V13))


@pytest.mark.parametrize("sizes", [(0, 0), (41, 41), (1000, 999), (0xFFFFFFFF, 41)])
def test_sizes_that_contradict_each_other(sizes: tuple[int, int]) -> None:
    made = Pair(MemoryDevice("ecdsa-p256"), versions=(V12,))
    made.run(get_version(made.link))
    both = b"".join(size.to_bytes(4, "little") for size in sizes)
    response = answer(made, b"\x12\xe1\0\0\0\x10\0\0" + bytes(4) + both)
    assert response[1:3] == bytes((ResponseCode.ERROR, E.INVALID_REQUEST))

    def bend(who: str, frame: Frame) -> Frame:
        if who == "responder" and frame.body[1] == ResponseCode.CAPABILITIES:
            return Frame(frame.kind, frame.body[:12] + both)
        return frame

    made.bend = bend
    with pytest.raises(SpdmError):
        made.run(negotiate(made.link))
    assert Capabilities.code == ResponseCode.CAPABILITIES
