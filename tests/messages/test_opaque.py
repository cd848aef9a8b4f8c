"""Opaque data in both formats, and the elements of secured messages (DSP0274 14, DSP0277 8)."""

from __future__ import annotations

import pytest

from spdmkit.errors import DecodeError
from spdmkit.messages import (
    V11,
    V12,
    AeadLimit,
    Context,
    OpaqueElement,
    SecuredMessageParameters,
    encode_opaque,
    parse_opaque,
)
from spdmkit.wire import EncodeError

FMT1 = Context(version=V12, opaque_format=2)
TABLE = Context(version=V11)

ONE_VERSION = bytes.fromhex("01000000 0000 0500 0101010011 000000")
SELECTION = bytes.fromhex("01000000 0000 0400 01000011")
TABLE_SELECTION = bytes.fromhex("46544d44 01 01 0000 0000 0400 01000011")


def test_wire_examples() -> None:
    assert SecuredMessageParameters(supported=(0x1100,)).encode(FMT1) == ONE_VERSION
    assert SecuredMessageParameters(selected=0x1100).encode(FMT1) == SELECTION
    assert SecuredMessageParameters(selected=0x1100).encode(TABLE) == TABLE_SELECTION
    assert SecuredMessageParameters.decode(ONE_VERSION, FMT1).supported == (0x1100,)
    assert SecuredMessageParameters.decode(SELECTION, FMT1).selected == 0x1100
    assert SecuredMessageParameters.decode(TABLE_SELECTION, TABLE).selected == 0x1100


def test_limit_comes_along() -> None:
    offer = SecuredMessageParameters((0x1000, 0x1100, 0x1200, 0x1300), aead_limit_exponent=20)
    data = offer.encode(FMT1)
    assert len(data) == 28
    assert data[0] == 2
    assert SecuredMessageParameters.decode(data, FMT1) == offer


def test_elements_in_any_order_and_of_others() -> None:
    elements = [
        OpaqueElement(data=AeadLimit(exponent=10).encode(FMT1)),
        OpaqueElement(registry=3, vendor_id=b"\xde\x10", data=b"theirs"),
        OpaqueElement(data=b"\x01\x63unknown"),
        OpaqueElement(data=bytes.fromhex("01000012")),
    ]
    data = encode_opaque(elements, FMT1)
    assert len(data) % 4 == 0
    assert parse_opaque(data, FMT1) == elements
    assert SecuredMessageParameters.decode(data, FMT1) == SecuredMessageParameters(
        selected=0x1200, aead_limit_exponent=10
    )


def test_nothing_said() -> None:
    assert encode_opaque([], FMT1) == b""
    assert SecuredMessageParameters().encode(FMT1) == b""
    assert SecuredMessageParameters.decode(b"", FMT1) == SecuredMessageParameters()
    assert SecuredMessageParameters().aead_limit_exponent == 64


def test_a_format_of_their_own() -> None:
    """Without a negotiated format anything may stand there."""
    assert parse_opaque(b"whatever", TABLE) == []
    assert parse_opaque(b"whatever", Context(version=V12)) == []
    with pytest.raises(DecodeError):
        parse_opaque(b"whatever", FMT1)


@pytest.mark.parametrize(
    "data",
    [
        ONE_VERSION[:-1],
        ONE_VERSION + b"\0",
        ONE_VERSION[:-1] + b"\1",
        b"\2" + ONE_VERSION[1:],
        b"\0" + ONE_VERSION[1:],
        bytes.fromhex("01000000 0000 ffff 0101010011 000000"),
        bytes.fromhex("01000000 0000 0100 01 000000"),
        bytes.fromhex("01000000 0000 0500 0201010011 000000"),
        bytes.fromhex("01000000 0000 0500 0101020011 000000"),
        bytes.fromhex("01000000 0000 0300 010241 00"),
        ONE_VERSION.replace(b"\1\0\0\0", b"\2\0\0\0", 1) + ONE_VERSION[4:],
    ],
    ids=[
        "padding cut",
        "one more byte",
        "padding not zero",
        "an element too few",
        "an element too many",
        "element longer than the rest",
        "no id",
        "data version 2",
        "count longer than the element",
        "exponent 65",
        "said twice",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SecuredMessageParameters.decode(data, FMT1)


@pytest.mark.parametrize(
    "data",
    [TABLE_SELECTION[:4] + b"\2" + TABLE_SELECTION[5:], TABLE_SELECTION[:-1], TABLE_SELECTION[:6]],
    ids=["table version", "cut", "header only"],
)
def test_malformed_table(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_opaque(data, TABLE)


def test_limit_that_is_none() -> None:
    with pytest.raises(EncodeError, match="65 is not between 0 and 64"):
        SecuredMessageParameters(aead_limit_exponent=65).encode(FMT1)
