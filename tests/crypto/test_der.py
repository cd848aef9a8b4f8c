"""The strict DER reader: what it reads, and every way it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.crypto.der import (
    INTEGER,
    Reader,
    encode_integer,
    encode_object_identifier,
    header_length,
    sequence,
    tlv,
)
from spdmkit.errors import DecodeError


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000])
def test_lengths_are_shortest_and_read_back(size: int) -> None:
    element = tlv(0x04, bytes(size))
    start, stop = header_length(element, 0, len(element))
    assert (stop - start, stop) == (size, len(element))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "cut short"),
        ("30", "cut short"),
        ("3080", "indefinite"),
        ("308500000000010000000000", "oversized"),
        ("3082", "cut short in a DER length"),
        ("308101", "shortest"),
        ("30820001ff", "shortest"),
        ("3082007f", "shortest"),
        ("3001", "1 bytes announced, 0 left"),
        ("3084ffffffff00", "announced"),
        ("1f8100", "multi-byte"),
    ],
)
def test_headers_refused(data: str, words: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(DecodeError, match=words):
        header_length(raw, 0, len(raw))


def test_a_header_stays_within_its_parent() -> None:
    data = bytes.fromhex("0401aa0401bb")
    with pytest.raises(DecodeError):
        header_length(data, 3, 5)


@given(st.integers(min_value=-(2**500), max_value=2**500))
def test_integers_round_trip(value: int) -> None:
    reader = Reader(encode_integer(value))
    assert reader.integer("x") == value
    reader.finish("x")


@pytest.mark.parametrize("content", ["", "0000", "007f", "ff80", "ffff", "00" * 65])
def test_integers_refused(content: str) -> None:
    with pytest.raises(DecodeError):
        Reader(tlv(INTEGER, bytes.fromhex(content))).integer("x")


@given(
    st.integers(0, 2).flatmap(
        lambda first: st.tuples(
            st.just(first),
            st.integers(0, 39 if first < 2 else 10**9),
            st.lists(st.integers(0, 2**63), max_size=5),
        )
    )
)
def test_object_identifiers_round_trip(arcs: tuple[int, int, list[int]]) -> None:
    dotted = ".".join(map(str, [arcs[0], arcs[1], *arcs[2]]))
    assert Reader(encode_object_identifier(dotted)).object_identifier("x") == dotted


@pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "2a" * 65])
def test_object_identifiers_refused(content: str) -> None:
    with pytest.raises(DecodeError):
        Reader(tlv(0x06, bytes.fromhex(content))).object_identifier("x")


@pytest.mark.parametrize(
    ("element", "read"),
    [
        ("010101", "boolean"),
        ("0100", "boolean"),
        ("0300", "bits"),
        ("030101", "bits"),
        ("03020801", "bits"),
        ("03020101", "bits"),
        ("0c02c328", "text"),
        ("0401aa", "text"),
    ],
)
def test_values_refused(element: str, read: str) -> None:
    with pytest.raises(DecodeError):
        getattr(Reader(bytes.fromhex(element)), read)("x")


def test_values_read() -> None:
    reader = Reader(bytes.fromhex("0101ff" + "010100" + "030206c0" + "0c02c3a4" + "0401aa"))
    assert reader.boolean("x") is True
    assert reader.boolean("x") is False
    assert reader.bits("x") == (6, b"\xc0")
    assert reader.text("x") == "ä"
    assert reader.octets("x") == b"\xaa"
    assert not reader
    assert reader.next_tag() == -1


def test_nothing_is_left_over() -> None:
    reader = Reader(sequence(encode_integer(1), encode_integer(2))).sequence("s")
    reader.integer("a")
    with pytest.raises(DecodeError, match="3 bytes left over"):
        reader.finish("s")


def test_errors_name_structure_field_and_offset() -> None:
    with pytest.raises(DecodeError) as caught:
        Reader(bytes.fromhex("02010105"), structure="Thing").sequence("field")
    assert (caught.value.message, caught.value.field, caught.value.offset) == ("Thing", "field", 0)


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
    assert encode_object_identifier(dotted).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100"), (65537, "0203010001")],
)
def test_naturals(value: int, encoded: str) -> None:
    assert encode_integer(value).hex() == encoded
    assert Reader(bytes.fromhex(encoded)).natural("n") == value


def test_what_keys_need_of_it() -> None:
    reader = Reader(bytes.fromhex("0500" + "0303000102"))
    assert reader.whole(0x05, "null") == b"\x05\x00"
    assert reader.whole_bits("key") == b"\x01\x02"
    for element, read in (
        ("0201ff", "natural"),
        ("030206c0", "whole_bits"),
        ("0300", "whole_bits"),
    ):
        with pytest.raises(DecodeError):
            getattr(Reader(bytes.fromhex(element)), read)("x")


@given(st.binary(max_size=40))
def test_garbage_raises_decode_error_alone(data: bytes) -> None:
    for read in ("integer", "bits", "text", "object_identifier", "sequence", "take_any"):
        try:
            getattr(Reader(data), read)("x")
        except DecodeError:
            continue
