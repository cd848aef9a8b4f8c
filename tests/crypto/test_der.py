"""The small DER reader and writer: what it takes, and all it refuses."""

from __future__ import annotations

import pytest

from spdmkit.crypto import der
from spdmkit.errors import DecodeError


@pytest.mark.parametrize(
    ("dotted", "encoded"),
    [
        ("1.2.840.10045.2.1", "06072a8648ce3d0201"),
        ("1.2.156.10197.1.301", "06082a811ccf5501822d"),
        ("2.16.840.1.101.3.4.3.20", "0609608648016503040314"),
        ("2.999", "06028837"),
    ],
)
def test_object_identifiers(dotted: str, encoded: str) -> None:
    assert der.oid(dotted).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100"), (65537, "0203010001")],
)
def test_integers(value: int, encoded: str) -> None:
    assert der.integer(value).hex() == encoded
    assert der.Reader(bytes.fromhex(encoded), "x").integer("n") == value


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths(size: int) -> None:
    reader = der.Reader(der.tlv(der.OCTET_STRING, bytes(size)) + b"\x05\x00", "x")
    assert reader.content(der.OCTET_STRING, "field") == bytes(size)
    assert reader.element(der.NULL, "null") == b"\x05\x00"
    assert reader.peek() == -1
    reader.finish("x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "found the end"),
        ("05", "expected tag 0x04, found tag 0x05"),
        ("04", "length is missing"),
        ("0480", "definite length"),
        ("04810001", "shortest form"),
        ("04817f", "shortest form"),
        ("0482007f", "shortest form"),
        ("0482", "definite length"),
        ("048500000000010000", "definite length"),
        ("0402aa", "2 bytes announced, 1 left"),
        ("0484ffffffff", "announced"),
    ],
)
def test_lengths_that_are_not_der(data: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        der.Reader(bytes.fromhex(data), "x").content(der.OCTET_STRING, "field")


@pytest.mark.parametrize("data", ["0200", "0201ff", "02020001", "0202007f"])
def test_integers_that_are_not_der_or_negative(data: str) -> None:
    with pytest.raises(DecodeError, match="INTEGER"):
        der.Reader(bytes.fromhex(data), "x").integer("n")


@pytest.mark.parametrize("data", ["0300", "030101", "030207ff"])
def test_bit_strings_of_odd_bits(data: str) -> None:
    with pytest.raises(DecodeError, match="whole bytes"):
        der.Reader(bytes.fromhex(data), "x").bits("b")


def test_error_names_structure_field_and_place() -> None:
    reader = der.Reader(b"\x05\x00\x01", "Thing")
    reader.content(der.NULL, "nothing")
    with pytest.raises(DecodeError) as caught:
        reader.finish("Thing")
    assert (caught.value.message, caught.value.field, caught.value.offset) == ("Thing", "Thing", 2)
    assert "1 bytes left over" in caught.value.reason
