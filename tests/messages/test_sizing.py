"""How long a message is, told from its first bytes (what a listener knows before a dialect)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spdmkit.messages import (
    V10,
    V11,
    V12,
    V13,
    V14,
    AlgorithmStructure,
    AlgType,
    Capabilities,
    ChunkSend,
    Context,
    Csr,
    Error,
    ErrorCode,
    Event,
    GetCapabilities,
    GetVersion,
    KeyExchange,
    Message,
    NegotiateAlgorithms,
    PskExchange,
    SendEvent,
    SetCertificate,
    SupportedAlgorithmsBlock,
    VendorDefinedRequest,
    Version,
)
from spdmkit.messages.sizing import Unsized, message_size

from .generate import EVERY_MESSAGE, contexts, structures

TABLE = AlgorithmStructure.of(AlgType.DHE, 16)

CASES: list[tuple[Message, int]] = [
    (GetVersion(), V10),
    (Version(version_number_entries=[0x1200, 0x1300]), V10),
    (GetCapabilities(), V10),
    (GetCapabilities(), V11),
    (GetCapabilities(), V12),
    (Capabilities(), V12),
    (
        Capabilities(
            supported_algorithms_included=True,
            supported_algorithms=SupportedAlgorithmsBlock(algorithm_structures=[TABLE]),
        ),
        V14,
    ),
    (NegotiateAlgorithms(algorithm_structures=[TABLE, TABLE]), V12),
    (VendorDefinedRequest(standard_id=3, vendor_id=b"xy", payload=b"abc"), V12),
    (VendorDefinedRequest(payload=b"abc", large=True), V14),
    (PskExchange(psk_hint=b"hint", requester_context=bytes(32)), V12),
    (ChunkSend(chunk=bytes(50), large_message_size=60), V13),
    (ChunkSend(chunk=bytes(50), chunk_seq_no=1), V14),
    (Csr(csr_data=b"der"), V12),
    (SetCertificate(slot_id=1, erase=True), V13),
    (SetCertificate(slot_id=1, cert_chain=b"\x08\0\0\0abcd"), V12),
    (SendEvent(events=[Event(event_detail=b"xyz"), Event()]), V13),
    (Error(error_code=ErrorCode.BUSY), V12),
    (Error.response_not_ready(rdt_exponent=1, request_code=0x83, token=1, rdtm=2), V12),
    (Error.large_response(3), V12),
    (Error.too_large(ErrorCode.DATA_TOO_LARGE, 70000), V14),
]


@pytest.mark.parametrize(("message", "version"), CASES)
def test_whole_message(message: Message, version: int) -> None:
    data = message.encode(Context(version=version))
    assert message_size(data) == len(data)
    assert message_size(data + b"more") == len(data)


@pytest.mark.parametrize(("message", "version"), CASES)
def test_beginning(message: Message, version: int) -> None:
    """A beginning tells the size, or that more is needed, and never another size."""
    data = message.encode(Context(version=version))
    told = [message_size(data[:size]) for size in range(len(data))]
    assert told[:2] == [Unsized.MORE, Unsized.MORE]
    assert set(told) <= {Unsized.MORE, len(data)}
    known = [answer is not Unsized.MORE for answer in told]
    assert known == sorted(known)


def test_two_bytes_short_of_a_first_request() -> None:
    """The reader has PayloadLen - 2 bytes when it must decide between the two dialects."""
    for message, version in CASES:
        data = message.encode(Context(version=version))
        if data[1] in (0xE1, 0xE3, 0xFE) and len(data) > 6:
            assert message_size(data[:-2]) == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x84\x00\x00",
        b"\x15\x84\x00\x00",
        b"\x12\x55\x00\x00",
        b"\x12\x7f\xff\x00\x02",
        KeyExchange(random_data=bytes(32)).encode(Context(version=V12)),
        b"\x12\x6a\x00\x00\x12\x81\x00\x00",
        b"\x12\x03" + bytes(100),
        b"\x12\x01\x00\x03" + bytes(100),
    ],
    ids=[
        "version 0",
        "version 1.5",
        "code",
        "vendor error",
        "exchange",
        "rest",
        "sized",
        "digests",
    ],
)
def test_never(data: bytes) -> None:
    assert message_size(data) is Unsized.NEVER


@pytest.mark.parametrize(
    ("cls", "version"),
    [pytest.param(cls, version, id=f"{cls.name}-{version:x}") for cls, version in EVERY_MESSAGE],
)
def test_never_a_wrong_size(cls: type[Message], version: int) -> None:
    """Whatever the message: its size is told rightly or not at all."""

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def check(data: Any) -> None:
        ctx = data.draw(contexts(version))
        original = data.draw(structures(cls, ctx))
        if isinstance(original, Error):
            original.extended = b""
            original.error_code = ErrorCode.BUSY
        if isinstance(original, SetCertificate):
            original.cert_chain = b"" if original.erase else b"\x06\0\0\0ab"
        body = original.encode(ctx)
        assert message_size(body) in (len(body), Unsized.NEVER)
        for size in range(len(body)):
            assert message_size(body[:size]) in (len(body), Unsized.NEVER, Unsized.MORE)

    check()


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    size = message_size(data)
    assert isinstance(size, (int, Unsized))
