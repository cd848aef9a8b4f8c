"""Layouts of every kind of field, apart from any message: bytes in hand, both directions."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import pytest

from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.wire import EncodeError, Format, Node, Struct, structure
from spdmkit.wire.kinds import Alternatives, Embedded, Sized, Uint
from spdmkit.wire.layout import (
    align,
    bits,
    count_of,
    counted,
    fixed,
    flag,
    items,
    length_of,
    nested,
    one_of,
    prefixed,
    reserved,
    rest,
    sized,
    spec_name,
    total_length,
    u8,
    u16,
    u24,
    u32,
    u64,
    word,
)
from spdmkit.wire.predicates import (
    AllOf,
    AnyOf,
    Equals,
    InContext,
    Not,
    Predicate,
    Present,
    Requested,
)


@dataclass(slots=True)
class Env:
    """The least that layouts ask of a context."""

    version: int = 0x12
    request: Any = None
    hash_size: int = 4
    on: bool = False


class Colour(enum.IntEnum):
    RED = 1


class Traits(enum.IntFlag):
    OLD = 1
    NEW = 2


@structure(clause="1.1")
class Pair(Struct):
    first: int = u8(display=Colour)
    second: int = u16(display=Format.HEX)


@structure(clause="1.2", name="AllKinds")
class Everything(Struct):
    _word = word("Flags", size=2)
    low: int = bits(_word, 0, 3, display=Traits)
    high: int = bits(_word, 8, 8)
    lone: bool = flag(_word, 4)
    one: int = u8(minimum=1, maximum=9, default=1)
    three: int = u24()
    four: int = u32()
    eight: int = u64()
    _gap = reserved(3)
    nonce: bytes = fixed(4)
    digest: bytes = sized("hash_size")
    name: bytes = prefixed(1, maximum=5)
    _pair_count = count_of("pairs", 1)
    _pair_bytes = length_of("pairs", 2)
    pairs: list[Pair] = items(Pair, count="_pair_count", length="_pair_bytes", maximum=3)
    mask: int = u8()
    by_mask: list[int] = items(Uint(name="Entry", size=3), popcount="mask")
    digests: list[bytes] = items(Sized(name="Digest", size="hash_size"), popcount="mask")
    pair: Pair = nested(Pair)
    _padding = align(8)
    tail: bytes = rest(maximum=6)


DATA = bytes.fromhex(
    "12 7f"  # low 2, lone, high 0x7f
    "05"
    "563412"
    "efbeadde"
    "0807060504030201"
    "000000"
    "6e6f6e63"
    "68617368"
    "03 616263"
    "02 0600 01 0200 03 0400"
    "05 010000 020000 aaaaaaaa bbbbbbbb"
    "01 0300"
    "00000000"
    "7a7a"
)


def value() -> Everything:
    return Everything(
        low=2,
        high=0x7F,
        lone=True,
        one=5,
        three=0x123456,
        four=0xDEADBEEF,
        eight=0x0102030405060708,
        nonce=b"nonc",
        digest=b"hash",
        name=b"abc",
        pairs=[Pair(first=1, second=2), Pair(first=3, second=4)],
        mask=5,
        by_mask=[1, 2],
        digests=[b"\xaa" * 4, b"\xbb" * 4],
        pair=Pair(first=1, second=3),
        tail=b"zz",
    )


def test_by_hand() -> None:
    assert value().encode(Env()) == DATA
    assert Everything.decode(DATA, Env()) == value()


def test_tree_by_hand() -> None:
    tree = Everything.tree(DATA, Env())
    assert tree.length == len(DATA)
    assert tree.clause == "1.2"
    three = tree.find("Three")
    assert three is not None
    assert (three.offset, three.length, three.value, three.attribute) == (3, 3, 0x123456, "three")
    high = tree.find("High")
    assert high is not None
    assert (high.offset, high.length, high.bits, high.display) == (0, 2, (8, 8), "127")
    low = tree.find("Low")
    assert low is not None
    assert low.display == "0x2 (NEW)"
    first = tree.find("First")
    assert first is not None
    assert first.display == "RED (0x01)"
    assert [node.display for node in tree.walk() if node.name == "First"][1] == "0x03 (reserved)"
    assert tree.find("Nowhere") is None
    assert tree.find("AllKinds") is tree


def test_every_cut_is_noticed() -> None:
    """Only the tail may be shorter; both readers agree at every byte."""
    for size in range(len(DATA)):
        whole = size >= len(DATA) - 2
        for read in (Everything.decode, Everything.tree):
            if whole:
                read(DATA[:size], Env())
            else:
                with pytest.raises(DecodeError):
                    read(DATA[:size], Env())


def test_error_names_the_field() -> None:
    with pytest.raises(DecodeError) as caught:
        Everything.parse(DATA[:12], Env())
    assert (caught.value.message, caught.value.field, caught.value.offset) == (
        "AllKinds",
        "Eight",
        10,
    )
    assert "8 bytes, but 2 are left" in str(caught.value)


def mutated(offset: int, new: str) -> bytes:
    change = bytes.fromhex(new)
    return DATA[:offset] + change + DATA[offset + len(change) :]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (mutated(2, "00"), "One"),
        (mutated(2, "0a"), "One"),
        (mutated(29, "06"), "Name"),
        (mutated(33, "04"), "Pairs"),
        (mutated(33, "03"), ""),
        (mutated(33, "01"), "Pairs"),
        (mutated(34, "0700"), "Pairs"),
        (mutated(34, "0500"), ""),
        (mutated(34, "ffff"), "Pairs"),
        (mutated(42, "ff"), ""),
        (mutated(60, "01"), "Padding"),
        (DATA + b"12345", "Tail"),
    ],
    ids=[
        "below the minimum",
        "above the maximum",
        "longer than its limit",
        "more entries than the limit",
        "more entries than bytes",
        "fewer entries than bytes",
        "more bytes than entries",
        "fewer bytes than entries",
        "more bytes than there are",
        "more bits than entries",
        "padding not zero",
        "tail over its limit",
    ],
)
def test_refused(data: bytes, field: str) -> None:
    for read in (Everything.decode, Everything.tree):
        with pytest.raises(DecodeError) as caught:
            read(data, Env())
        assert not field or caught.value.field == field


def test_only_a_minimum() -> None:
    @structure(clause="1")
    class Positive(Struct):
        number: int = u8(minimum=2, default=2)

    assert Positive.decode(b"\xff", Env()).number == 255
    for read in (Positive.decode, Positive.tree):
        with pytest.raises(DecodeError, match="Number"):
            read(b"\1", Env())
    with pytest.raises(EncodeError, match="1 is not between 2 and 255"):
        Positive(number=1).encode(Env())


def test_left_over() -> None:
    assert Pair.parse(b"\1\2\3rest", Env()) == (Pair(first=1, second=0x302), 3)
    with pytest.raises(DecodeError, match="4 bytes are left over"):
        Pair.decode(b"\1\2\3rest", Env())


# --- what encoding refuses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "bad", "reason"),
    [
        ("low", 8, "8 is not between 0 and 7"),
        ("low", -1, "-1 is not between"),
        ("lone", 2, "2 is not between 0 and 1"),
        ("one", 0, "0 is not between 1 and 9"),
        ("one", 10, "10 is not between 1 and 9"),
        ("three", 1 << 24, "not between"),
        ("four", 1 << 32, "not between"),
        ("four", -1, "not between"),
        ("four", None, "is a NoneType, not an integer"),
        ("eight", "x", "is a str, not an integer"),
        ("nonce", b"abc", "has 3 bytes, must have 4"),
        ("nonce", None, "is a NoneType, not bytes"),
        ("nonce", "text", "is a str, not bytes"),
        ("digest", b"12345", "has 5 bytes, must have 4"),
        ("name", b"123456", "has 6, at most 5"),
        ("name", [1], "is a list, not bytes"),
        ("pairs", None, "is a NoneType, not a list"),
        ("pairs", [Pair()] * 4, "has 4, at most 3"),
        ("by_mask", [1], "has 1 entries, which its mask does not say"),
        ("digests", [], "has 0 entries, which its mask does not say"),
        ("by_mask", [1, 1 << 24], "has an entry that 16777216 is not between"),
        ("digests", [b"1234", b"12345"], "has an entry of 5 bytes, must have 4"),
        ("pair", None, "is no Pair"),
        ("tail", b"1234567", "has 7, at most 6"),
    ],
)
def test_encoding_refuses(attribute: str, bad: Any, reason: str) -> None:
    wrong = value()
    setattr(wrong, attribute, bad)
    with pytest.raises(EncodeError, match=reason) as caught:
        wrong.encode(Env())
    assert caught.value.field == spec_name(attribute)
    assert isinstance(caught.value, ConfigurationError)


def test_encoding_refuses_what_nobody_can_explain() -> None:
    wrong = value()
    wrong.pairs = ["no pair"]  # type: ignore[list-item]  # the mistake under test
    with pytest.raises(EncodeError, match="Pair"):
        wrong.encode(Env())


def test_a_nested_mistake_is_named_where_it_is() -> None:
    wrong = value()
    wrong.pairs = [Pair(first=256)]
    with pytest.raises(EncodeError, match=r"Pair\.First: 256"):
        wrong.encode(Env())


# --- versions and conditions ---------------------------------------------------------------------


@structure(clause="2")
class Changing(Struct):
    old: int = u8(until=0x11)
    kept: int = u8(reserved_before=0x12)
    _word = word("Word")
    always: bool = flag(_word, 0)
    later: bool = flag(_word, 1, since=0x12)
    number: int = one_of(u16(until=0x12), u32(since=0x13))
    new: bytes = fixed(2, since=0x13)


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (0x11, "01 00 01 0200"),
        (0x12, "07 03 0200"),
        (0x13, "07 03 02000000 6162"),
    ],
)
def test_versions(version: int, data: str) -> None:
    full = Changing(old=1, kept=7, always=True, later=True, number=2, new=b"ab")
    body = bytes.fromhex(data)
    ctx = Env(version=version)
    assert full.encode(ctx) == body
    decoded = Changing.decode(body, ctx)
    assert decoded.encode(ctx) == body
    assert decoded.old == (1 if version == 0x11 else 0)
    assert decoded.kept == (7 if version > 0x11 else 0)
    assert decoded.later is (version > 0x11)
    assert decoded.new == (b"ab" if version == 0x13 else b"")
    assert Changing.tree(body, ctx).length == len(body)


def test_reserved_bits_and_bytes_are_ignored() -> None:
    decoded = Changing.decode(bytes.fromhex("01 ff ff 0200"), Env(version=0x11))
    assert (decoded.kept, decoded.later, decoded.always) == (0, False, True)


CONDITIONS: list[tuple[Predicate, dict[str, int], Env, bool]] = [
    (Present("kind"), {"kind": 1}, Env(), True),
    (Present("kind"), {"kind": 0}, Env(), False),
    (Equals("kind", 2), {"kind": 2}, Env(), True),
    (Equals("kind", 2), {"kind": 3}, Env(), False),
    (InContext("on"), {}, Env(on=True), True),
    (InContext("on"), {}, Env(), False),
    (Requested("hash_size"), {}, Env(request=Env()), True),
    (Requested("hash_size"), {}, Env(request=Env(hash_size=0)), False),
    (Requested("other"), {}, Env(request=Env()), False),
    (Requested("hash_size"), {}, Env(), False),
    (Not(Present("kind")), {"kind": 0}, Env(), True),
    (AllOf((Present("kind"), InContext("on"))), {"kind": 1}, Env(on=True), True),
    (AllOf((Present("kind"), InContext("on"))), {"kind": 1}, Env(), False),
    (AnyOf((Present("kind"), InContext("on"))), {"kind": 0}, Env(on=True), True),
    (AnyOf((Present("kind"), InContext("on"))), {"kind": 0}, Env(), False),
]


@pytest.mark.parametrize(("condition", "values", "ctx", "holds"), CONDITIONS)
def test_conditions(condition: Predicate, values: dict[str, int], ctx: Env, holds: bool) -> None:
    """Decoder, encoder and walker see a condition alike."""

    @structure(clause="3")
    class Conditional(Struct):
        kind: int = u8()
        _gap = reserved(1, when=condition)
        _word = word("Word", when=condition)
        part: bool = flag(_word, 0)
        number: int = u16(when=condition)
        content: bytes = prefixed(1, when=condition)
        entries: list[Pair] = items(Pair, count="kind", when=AllOf((condition, Present("kind"))))
        inside: Pair | None = nested(Pair, when=condition)

    kind = values.get("kind", 0)
    original = Conditional(kind=kind)
    if holds:
        original = Conditional(
            kind=kind,
            part=True,
            number=5,
            content=b"xy",
            entries=[Pair(first=n) for n in range(kind)],
            inside=Pair(second=3),
        )
    data = original.encode(ctx)
    assert len(data) == (11 + 3 * kind if holds else 1)
    assert Conditional.decode(data, ctx) == original
    tree = Conditional.tree(data, ctx)
    assert tree.length == len(data)
    assert (tree.find("Number") is not None) is holds
    if not holds:
        for attribute, wrong in (
            ("part", True),
            ("number", 1),
            ("content", b"x"),
            ("inside", Pair()),
        ):
            setattr(original, attribute, wrong)
            with pytest.raises(EncodeError, match="absent in this message"):
                original.encode(ctx)
            setattr(original, attribute, getattr(Conditional(), attribute))


# --- lengths of a whole structure ----------------------------------------------------------------


@structure(clause="4")
class Whole(Struct):
    kind: int = u8()
    _length = total_length(2, maximum=8)
    body: bytes = rest()


@structure(clause="4")
class AfterItself(Struct):
    _length = total_length(1, uncounted=1)
    body: bytes = rest()


@structure(clause="4")
class Exact(Struct):
    _length = total_length(1)
    number: int = u16()


@structure(clause="4")
class Several(Struct):
    parts: list[AfterItself] = items(AfterItself)


def test_total_length() -> None:
    assert Whole(kind=1, body=b"abc").encode(Env()) == bytes.fromhex("01 0600 616263")
    assert Whole.parse(bytes.fromhex("01 0600 616263 ff"), Env())[1] == 6
    with pytest.raises(EncodeError):
        Whole(body=b"123456").encode(Env())
    assert AfterItself(body=b"abc").encode(Env()) == b"\3abc"
    assert AfterItself.parse(b"\3abcd", Env()) == (AfterItself(body=b"abc"), 4)


def test_lists_to_the_end() -> None:
    several = Several(parts=[AfterItself(body=b"a"), AfterItself(), AfterItself(body=b"bc")])
    data = several.encode(Env())
    assert data == b"\1a\0\2bc"
    assert Several.decode(data, Env()) == several
    assert [child.length for child in Several.tree(data, Env()).children[0].children] == [2, 1, 3]


@pytest.mark.parametrize(
    ("struct", "data"),
    [
        (Whole, b"\1\7\0abc"),
        (Whole, b"\1\2\0abc"),
        (Whole, b"\1\x09\0abcdef"),
        (Exact, b"\2\1\2"),
        (Exact, b"\4\1\2\3"),
        (Exact, b"\0\1\2"),
        (AfterItself, b"\5abc"),
        (Several, b"\1a\2b"),
    ],
)
def test_total_length_that_lies(struct: type[Struct], data: bytes) -> None:
    for read in (struct.decode, struct.tree):
        with pytest.raises(DecodeError):
            read(data, Env())


def test_total_length_must_stand_at_a_fixed_place() -> None:
    @structure(clause="5")
    class Misplaced(Struct):
        first: bytes = prefixed(1)
        _length = total_length(2)

    with pytest.raises(TypeError, match="no fixed offset"):
        Misplaced.encoder(0x12)


def test_scalar_lists_to_the_end() -> None:
    @structure(clause="6")
    class Numbers(Struct):
        numbers: list[int] = items(Uint(name="Number", size=2))

    @structure(clause="6")
    class Hashes(Struct):
        _bytes = length_of("hashes", 1)
        hashes: list[bytes] = items(Sized(name="Hash", size="hash_size"), length="_bytes")

    assert Numbers.decode(b"\1\0\2\0", Env()).numbers == [1, 2]
    assert Hashes.decode(b"\x08aaaabbbb", Env()).hashes == [b"aaaa", b"bbbb"]
    bad: list[tuple[type[Struct], bytes, Env]] = [
        (Numbers, b"\1\0\2", Env()),
        (Hashes, b"\x07aaaabbb", Env()),
        (Hashes, b"\x04aaaa", Env(hash_size=0)),
    ]
    for struct, data, ctx in bad:
        for read in (struct.decode, struct.tree):
            with pytest.raises(DecodeError):
                read(data, ctx)


# --- a look inside -------------------------------------------------------------------------------


@structure(clause="7")
class Outer(Struct):
    kind: int = u8()
    content: bytes = prefixed(1, inner=Alternatives("kind", {1: Pair}))
    other: bytes = rest(inner=Embedded(Pair))


def test_looking_inside() -> None:
    tree = Outer.tree(b"\1\3\1\2\3" + b"\1\2\3", Env())
    pairs = [node for node in tree.walk() if node.name == "Pair"]
    assert [(node.offset, node.length) for node in pairs] == [(2, 3), (5, 3)]
    assert tree.children[2].value == b"\1\2\3"


def test_what_does_not_fit_inside_stays_bytes() -> None:
    for data in (b"\1\2\1\2x", b"\2\3\1\2\3", b"\1\0"):
        tree = Outer.tree(data, Env())
        assert tree.length == len(data)
        assert not any(node.name == "Pair" for node in tree.walk())
        assert Outer.decode(data, Env()).content == tree.children[2].value


def test_without_a_reader_for_messages_they_stay_bytes() -> None:
    @structure(clause="8")
    class Carrier(Struct):
        content: bytes = rest(inner=Embedded())

    assert Carrier.tree(b"\x10\x84\0\0", Env()).children[0].children == []


# --- names, values, text -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("slot_id", "SlotID"),
        ("_psk_hint_length", "PSKHintLength"),
        ("measurement_summary_hash", "MeasurementSummaryHash"),
        ("ct_exponent", "CTExponent"),
    ],
)
def test_names(attribute: str, name: str) -> None:
    assert spec_name(attribute) == name


@pytest.mark.parametrize(
    ("display", "number", "text"),
    [
        (None, 5, "5"),
        (Format.HEX, 255, "0xff"),
        (Format.VERSION, 0x1230, "1.2.3"),
        (Format.VERSION, 0x1231, "1.2.3 alpha 1"),
        (Format.SPDM_VERSION, 0x14, "1.4"),
        (Format.EXPONENT_US, 20, "20 (2^20 us)"),
        (Colour, 1, "RED (0x01)"),
        (Traits, 3, "0x3 (OLD NEW)"),
        (Traits, 4, "0x4"),
    ],
)
def test_text_for_people(display: Any, number: int, text: str) -> None:
    @structure(clause="9")
    class Shown(Struct):
        number: int = u16(display=display)

    tree: Node = Shown.tree(number.to_bytes(2, "little"), Env())
    assert tree.children[0].display == text


def test_long_bytes_are_cut_for_people_only() -> None:
    tree = Outer.tree(b"\5\0" + bytes(100), Env())
    assert tree.children[-1].display.endswith("... (100 bytes)")
    assert tree.children[-1].value == bytes(100)


def test_objects_are_slotted_and_comparable() -> None:
    assert not hasattr(Pair(), "__dict__")
    assert Pair(first=1) == Pair(first=1)
    assert Pair(first=1) != Pair(first=2)
    with pytest.raises(TypeError):
        Pair(1, 2)  # type: ignore[call-arg]  # keywords only
    assert Pair.layout.attributes() == ("first", "second")


def test_lists_are_not_shared() -> None:
    one, other = Several(), Several()
    one.parts.append(AfterItself())
    assert other.parts == []


def test_codecs_are_compiled_once() -> None:
    assert Pair.decoder(0x12) is Pair.decoder(0x12)
    assert Pair.encoder(0x12) is Pair.encoder(0x12)


@structure(clause="10")
class Split(Struct):
    _counts = word("Counts")
    _few = count_of("numbers", 4, within=_counts, low=0)
    _size = length_of("content", 4, within=_counts, low=4)
    content: bytes = counted("_size")
    numbers: list[int] = items(Uint(name="Number", size=1), count="_few")


def test_counts_in_half_a_byte() -> None:
    split = Split(content=b"abc", numbers=[1, 2])
    assert split.encode(Env()) == b"\x32abc\1\2"
    assert Split.decode(b"\x32abc\1\2", Env()) == split
    with pytest.raises(EncodeError, match="16 is not between 0 and 15"):
        Split(content=bytes(16)).encode(Env())
    with pytest.raises(EncodeError, match="16 is not between 0 and 15"):
        Split(numbers=[0] * 16).encode(Env())
