"""What holds for every message and structure in every version, drawn from the declarations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spdmkit.errors import DecodeError
from spdmkit.messages import MESSAGES, V14, VERSIONS, Context, Message, parse_message
from spdmkit.messages import message_tree as tree_of
from spdmkit.wire import EncodeError, Node, Struct, kinds
from spdmkit.wire.kinds import Role

from .generate import ALL_MESSAGES, ALL_STRUCTS, EVERY_MESSAGE, contexts, structures

few = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
CASES = [pytest.param(cls, v, id=f"{cls.name}-{v:x}") for cls, v in EVERY_MESSAGE]
STRUCTS = [pytest.param(cls, V14, id=cls.__name__) for cls in ALL_STRUCTS]
NEWEST = [pytest.param(cls, V14, id=cls.name) for cls in ALL_MESSAGES]


@st.composite
def drawn(draw: Any, cls: type[Struct], version: int) -> tuple[Any, Context]:
    ctx = draw(contexts(version))
    return draw(structures(cls, ctx)), ctx


@pytest.mark.parametrize(("cls", "version"), CASES + STRUCTS)
def test_round_trip_and_tree(cls: type[Struct], version: int) -> None:
    @few
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = original.encode(ctx)
        decoded, consumed = cls.parse(data, ctx)
        assert consumed == len(data)
        assert decoded == original
        assert decoded.encode(ctx) == data
        tree = cls.tree(data, ctx)
        assert tree.offset == 0
        assert tree.length == len(data)
        assert_tiles(tree)
        assert_same(tree, decoded)

    check()


def assert_tiles(node: Node) -> None:
    """The fields of a structure follow each other without gap or overlap."""
    fields = [child for child in node.children if child.bits is None]
    if isinstance(node.value, bytes):  # a look inside: it may stop early
        assert all(child.offset == node.offset for child in fields)
    elif fields:
        position = node.offset
        for child in fields:
            assert child.offset == position
            position += child.length
        assert position == node.offset + node.length
    for child in node.children:
        assert_tiles(child)


def assert_same(node: Node, decoded: Any) -> None:
    """The tree says of every attribute what decoding says."""
    seen: dict[str, Node] = {}
    for child in node.children:
        for field in (child, *child.children) if child.children else (child,):
            if field.attribute and (field is child or field.bits is not None):
                seen[field.attribute] = field
    for attribute in type(decoded).layout.attributes():
        value = getattr(decoded, attribute)
        if attribute not in seen:
            assert not value  # absent in this version or under this condition
            continue
        field = seen[attribute]
        if isinstance(value, Struct):
            assert_same(field, value)
        elif isinstance(value, list) and value and isinstance(value[0], Struct):
            assert len(field.children) == len(value)
            for child, item in zip(field.children, value, strict=True):
                assert_same(child, item)
        else:
            assert field.value == value, attribute
            assert type(field.value) is type(value), attribute


def outcome(decode: Any) -> Any:
    try:
        return decode()
    except DecodeError:
        return None


@pytest.mark.parametrize(("cls", "version"), CASES + STRUCTS)
def test_truncation(cls: type[Struct], version: int) -> None:
    """Whatever is cut off is missed, but for bytes that go up to the end anyway."""

    @settings(few, max_examples=3)
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = original.encode(ctx)
        for size in range(len(data)):
            short = data[:size]
            decoded = outcome(lambda short=short: cls.decode(short, ctx))
            tree = outcome(lambda short=short: cls.tree(short, ctx))
            assert (decoded is None) == (tree is None)
            if decoded is not None:
                assert open_ended(cls, ctx)
                assert decoded.encode(ctx) == short

    check()


def open_ended(cls: type[Struct], ctx: Context) -> bool:
    """Whether the structure goes to the end of what there is."""
    return any(isinstance(element, kinds.Rest) for element in cls.layout.of_version(ctx.version))


def counters(cls: type[Struct], version: int) -> list[Any]:
    """The elements that hold a length or a count."""
    return [
        element
        for element in cls.layout.of_version(version)
        if isinstance(element, kinds.Uint)
        and element.role.role in (Role.LENGTH_OF, Role.COUNT_OF, Role.TOTAL_LENGTH)
    ]


@pytest.mark.parametrize(
    ("cls", "version"),
    [case for case in CASES + STRUCTS if counters(case.values[0], case.values[1])],  # type: ignore[arg-type]  # parameters of our own
)
def test_lengths_that_lie(cls: type[Struct], version: int) -> None:
    """Every length field: one more, one fewer, the largest. Read differently or not at all."""

    @settings(few, max_examples=6)
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = original.encode(ctx)
        fields = cls.tree(data, ctx).children
        for element in counters(cls, version):
            node = next((child for child in fields if child.name == element.name), None)
            if node is None:
                continue
            for value in {node.value + 1, node.value - 1, (1 << 8 * node.length) - 1}:
                if not 0 <= value < 1 << 8 * node.length or value == node.value:
                    continue
                lie = (
                    data[: node.offset]
                    + value.to_bytes(node.length, "little")
                    + data[node.offset + node.length :]
                )
                decoded = outcome(lambda lie=lie: cls.decode(lie, ctx))
                tree = outcome(lambda lie=lie: cls.tree(lie, ctx))
                assert decoded is None or tree.length == len(lie)
                # What is left may by chance be another message; then it is that one altogether.
                assert decoded is None or cls.decode(decoded.encode(ctx), ctx) == decoded

    check()


@pytest.mark.parametrize(
    ("cls", "version"),
    [case for case in NEWEST + STRUCTS if counters(case.values[0], case.values[1])],  # type: ignore[arg-type]  # parameters of our own
)
def test_largest_length_is_refused(cls: type[Struct], version: int) -> None:
    """With nothing behind it, a length field of all ones is always an error."""

    @settings(few, max_examples=1, derandomize=True)
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = original.encode(ctx)
        tree = cls.tree(data, ctx)
        for element in counters(cls, version):
            node = next((child for child in tree.children if child.name == element.name), None)
            if node is not None:
                ones = b"\xff" * node.length
                lie = data[: node.offset] + ones + data[node.offset + node.length :]
                with pytest.raises(DecodeError):
                    cls.decode(lie, ctx)
                with pytest.raises(DecodeError):
                    cls.tree(lie, ctx)

    check()


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.data(),
    st.sampled_from(VERSIONS),
    st.sampled_from(sorted(MESSAGES)),
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(b"\0\0\0\1\2\4\x10\xff"), max_size=120).map(bytes),
    ),
)
def test_random_bytes(data: st.DataObject, version: int, code: int, tail: bytes) -> None:
    """Random bytes are a message or a DecodeError, and decoder and tree agree which."""
    ctx = data.draw(contexts(version))
    body = bytes([version, code]) + tail
    parsed = outcome(lambda: parse_message(body, ctx))
    tree = outcome(lambda: tree_of(body, ctx))
    assert (parsed is None) == (tree is None)
    if parsed is None:
        return
    message, consumed = parsed
    assert 0 < consumed <= len(body)
    assert tree.length == consumed
    again = type(message).decode(message.encode(ctx), ctx)
    assert again == message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_at_all(body: bytes) -> None:
    for version in VERSIONS:
        outcome(lambda version=version: parse_message(body, Context(version=version)))


@pytest.mark.parametrize("cls", ALL_MESSAGES, ids=lambda cls: cls.name)
def test_versions_without_the_message(cls: type[Message]) -> None:
    """A message younger than the version is refused both ways."""
    for version in (*VERSIONS, 0x0F, 0x15):
        if version in VERSIONS and version >= cls.since:
            continue
        ctx = Context(version=version)
        with pytest.raises(DecodeError):
            cls.parse(bytes([version, cls.code]) + bytes(300), ctx)
        with pytest.raises(DecodeError):
            cls.tree(bytes([version, cls.code]) + bytes(300), ctx)
        with pytest.raises(EncodeError):
            cls().encode(ctx)


@pytest.mark.parametrize(("cls", "version"), NEWEST)
def test_header(cls: type[Message], version: int) -> None:
    """Version byte and code are checked, even when the class is already known."""

    @settings(few, max_examples=2)
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = original.encode(ctx)
        for wrong in (bytes([0x15]) + data[1:], bytes([data[0], data[1] ^ 1]) + data[2:]):
            with pytest.raises(DecodeError):
                cls.parse(wrong, ctx)
            with pytest.raises(DecodeError):
                cls.tree(wrong, ctx)

    check()


@pytest.mark.parametrize(("cls", "version"), NEWEST)
def test_reserved_bytes_are_ignored_and_written_zero(cls: type[Message], version: int) -> None:
    """DSP0274 2.2.2: what stands in reserved fields changes nothing."""

    @settings(few, max_examples=3)
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = bytearray(original.encode(ctx))
        for node in cls.tree(bytes(data), ctx).children:
            element = next(e for e in cls.layout.elements if e.name == node.name)
            if isinstance(element, kinds.Reserved):
                span = slice(node.offset, node.offset + node.length)
                assert not any(data[span])
                data[span] = b"\xff" * node.length
        assert cls.decode(bytes(data), ctx) == original

    check()


@pytest.mark.parametrize(("cls", "version"), CASES)
def test_decoding_takes_any_buffer(cls: type[Message], version: int) -> None:
    @settings(few, max_examples=1)
    @given(drawn(cls, version))
    def check(case: tuple[Any, Context]) -> None:
        original, ctx = case
        data = original.encode(ctx)
        for buffer in (bytearray(data), memoryview(data)):
            decoded = cls.decode(buffer, ctx)
            assert decoded == original
            assert cls.tree(buffer, ctx).length == len(data)

    check()
