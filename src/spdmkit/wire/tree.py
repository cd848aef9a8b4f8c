"""The field tree: a second reader of the same declarations, made for people.

It walks the elements one by one and keeps names, offsets and clauses. It shares no code with the
compiled decoders, so that each can be tested against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from spdmkit.errors import DecodeError
from spdmkit.wire import kinds
from spdmkit.wire.display import Format, show
from spdmkit.wire.kinds import Role
from spdmkit.wire.layout import Layout, valued

__all__ = ["Node", "WholeMessage", "walk"]

WholeMessage = Callable[[bytes, tuple[int, int], Any], "Node"]
"""(data, span, context) -> the tree of whatever message is there."""


@dataclass(slots=True)
class Node:
    """One field, with what it holds.

    Attributes:
        name: name in the specification.
        offset: of its first byte, from the start of the message.
        length: in bytes; a bit field has the length of the word it is in.
        value: what decoding gives for it: int, bool, bytes, list; None for a structure.
        display: the value for people. Bytes come from a peer: they are shown in hex.
        clause: where it is defined, "" when the parent says it.
        children: fields inside.
        attribute: name of the attribute in Python, "" when it has none.
        doc: what it means.
        bits: (lowest bit, number of bits) of a bit field, else None.
    """

    name: str
    offset: int
    length: int
    value: Any = None
    display: str = ""
    clause: str = ""
    children: list[Node] = field(default_factory=list)
    attribute: str = ""
    doc: str = ""
    bits: tuple[int, int] | None = None

    def find(self, name: str) -> Node | None:
        """The first node of this name below, in wire order."""
        return next((node for node in self.walk() if node.name == name), None)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, in wire order."""
        yield self
        for child in self.children:
            yield from child.walk()


def walk(
    layout: Layout, data: bytes, span: tuple[int, int], ctx: Any, whole: WholeMessage | None = None
) -> Node:
    """Walk one structure.

    Args:
        layout: its declaration.
        data: the message.
        span: its first byte, and the first byte that does not belong to what surrounds it.
        ctx: the negotiated context.
        whole: makes the tree of a message embedded in this one.

    Raises:
        DecodeError: the bytes are not what the layout says.
    """
    walker = _Walker(layout, data, span, ctx, whole)
    for element in layout.of_version(ctx.version):
        if element.when is None or element.when.holds(walker.values, ctx):
            walker.take(element)
    return walker.finish()


class _Walker:
    """Where the walk through one structure stands."""

    def __init__(
        self,
        layout: Layout,
        data: bytes,
        span: tuple[int, int],
        ctx: Any,
        whole: WholeMessage | None,
    ) -> None:
        self.layout = layout
        self.data = data
        self.start, self.end = span
        self.position = self.start
        self.exact = False
        self.ctx = ctx
        self.whole = whole
        self.values: dict[str, Any] = dict.fromkeys(
            (part.attribute for part in valued(layout.elements)), 0
        )
        self.node = Node(layout.name, self.start, 0, clause=layout.clause)

    def take(self, element: kinds.Element) -> None:
        handler: Callable[[_Walker, Any], None] = _HANDLERS[type(element)]
        handler(self, element)

    def finish(self) -> Node:
        if self.exact and self.position != self.end:
            raise self.error("Length", f"{self.end - self.position} bytes too many")
        self.node.length = self.position - self.start
        return self.node

    def error(self, name: str, reason: str) -> DecodeError:
        return DecodeError(self.layout.name, name, self.position, reason)

    def room(self, element: kinds.Element, size: int) -> None:
        if size > self.end - self.position:
            raise self.error(element.name, f"{size} bytes, but {self.end - self.position} are left")

    def add(self, element: kinds.Element, size: int, value: Any, **more: Any) -> Node:
        self.values[element.attribute] = value
        node = Node(
            element.name,
            self.position,
            size,
            value,
            show(value, element.display),
            element.clause,
            attribute="" if element.attribute.startswith("_") else element.attribute,
            doc=element.doc,
            **more,
        )
        self.node.children.append(node)
        self.position += size
        return node

    def integer(self, element: kinds.Element, size: int) -> int:
        self.room(element, size)
        return int.from_bytes(self.data[self.position : self.position + size], "little")


def _uint(walker: _Walker, element: kinds.Uint) -> None:
    value = walker.integer(element, element.size)
    if value < element.minimum or (element.maximum is not None and value > element.maximum):
        raise walker.error(element.name, f"{value} is out of bounds")
    if element.role.role is Role.VERSION and element.maximum is None:
        if value != walker.ctx.version:
            raise walker.error(element.name, f"{value:#x} is not the negotiated version")
    elif element.role.role is Role.TOTAL_LENGTH:
        total = value + element.uncounted
        if total > walker.end - walker.start:
            raise walker.error(element.name, f"{value} bytes, but fewer are there")
        if walker.start + total < walker.position + element.size:
            raise walker.error(element.name, f"{value} bytes are too few")
        walker.end, walker.exact = walker.start + total, True
    walker.add(element, element.size, value)


def _word(walker: _Walker, element: kinds.Word) -> None:
    value = walker.integer(element, element.size)
    start = walker.position
    node = walker.add(element, element.size, value)
    node.display = show(value, Format.HEX)
    for bit in sorted(element.bits, key=lambda bit: bit.low):
        part: int | bool = value >> bit.low & (1 << bit.width) - 1
        if bit.boolean:
            part = bool(part)
        walker.values[bit.attribute] = part
        node.children.append(
            Node(
                bit.name,
                start,
                element.size,
                part,
                show(part, bit.display),
                attribute="" if bit.attribute.startswith("_") else bit.attribute,
                doc=bit.doc,
                bits=(bit.low, bit.width),
            )
        )


def _reserved(walker: _Walker, element: kinds.Reserved) -> None:
    walker.room(element, element.size)
    content = walker.data[walker.position : walker.position + element.size]
    walker.add(element, element.size, content)


def _align(walker: _Walker, element: kinds.Align) -> None:
    size = -(walker.position - walker.start) % element.to
    if size:
        walker.room(element, size)
        content = walker.data[walker.position : walker.position + size]
        if any(content):
            raise walker.error(element.name, "padding is not zero")
        walker.add(element, size, content)


def _bytes(walker: _Walker, element: kinds.Element, size: int, inner: Any = None) -> None:
    walker.room(element, size)
    start = walker.position
    node = walker.add(element, size, walker.data[start : start + size])
    if inner is not None and size:
        _look_inside(walker, node, inner)


def _look_inside(walker: _Walker, node: Node, inner: kinds.Inner) -> None:
    """Show the structure in a field's bytes, when they are one; the bytes stay the value."""
    if isinstance(inner, kinds.Alternatives):
        struct = inner.structs.get(walker.values[inner.selector])
        if struct is None:
            return
    else:
        struct = inner.struct
    span = node.offset, node.offset + node.length
    try:
        if struct is not None:
            child = walk(struct.layout, walker.data, span, walker.ctx, walker.whole)
        elif walker.whole is not None:
            child = walker.whole(walker.data, span, walker.ctx)
        else:
            return
    except DecodeError:
        return
    node.children.append(child)


def _fixed(walker: _Walker, element: kinds.Fixed) -> None:
    _bytes(walker, element, element.size)


def _sized(walker: _Walker, element: kinds.Sized) -> None:
    _bytes(walker, element, getattr(walker.ctx, element.size))


def _limit(walker: _Walker, element: kinds.Counted | kinds.Rest | kinds.Items, size: int) -> None:
    if element.maximum is not None and size > element.maximum:
        raise walker.error(element.name, f"{size} is more than {element.maximum}")


def _counted(walker: _Walker, element: kinds.Counted) -> None:
    size = walker.values[element.length]
    _limit(walker, element, size)
    _bytes(walker, element, size, element.inner)


def _rest(walker: _Walker, element: kinds.Rest) -> None:
    size = walker.end - walker.position
    _limit(walker, element, size)
    _bytes(walker, element, size, element.inner)


def _nested(walker: _Walker, element: kinds.Nested) -> None:
    span = walker.position, walker.end
    child = walk(element.struct.layout, walker.data, span, walker.ctx, walker.whole)
    node = walker.add(element, child.length, True)
    node.value, node.display, node.children = None, "", child.children


def _items(walker: _Walker, element: kinds.Items) -> None:
    end = walker.end
    if element.length:
        walker.room(element, walker.values[element.length])
        end = walker.position + walker.values[element.length]
    count = None
    if element.popcount:
        count = int(walker.values[element.popcount]).bit_count()
    elif element.count:
        count = walker.values[element.count]
    if count is not None:
        _limit(walker, element, count)
    children, values, position = _entries(walker, element, end, count)
    if element.length and position != end:
        raise DecodeError(
            walker.layout.name, element.name, position, f"{end - position} bytes too many"
        )
    node = walker.add(element, position - walker.position, values)
    node.display, node.children = f"{len(children)} entries", children


def _entries(
    walker: _Walker, element: kinds.Items, end: int, count: int | None
) -> tuple[list[Node], list[Any], int]:
    children: list[Node] = []
    values: list[Any] = []
    position = walker.position
    item = element.item
    while position < end if count is None else len(children) < count:
        if isinstance(item, type):
            child = walk(item.layout, walker.data, (position, end), walker.ctx, walker.whole)  # type: ignore[attr-defined]  # every Struct has one
            value: Any = None
        else:
            size = item.size if isinstance(item, kinds.Uint) else getattr(walker.ctx, item.size)
            if size > end - position or not size:
                raise DecodeError(
                    walker.layout.name, element.name, position, f"no {size} bytes are left"
                )
            value = walker.data[position : position + size]
            if isinstance(item, kinds.Uint):
                value = int.from_bytes(value, "little")
            child = Node(item.name, position, size, value, show(value, item.display))
        children.append(child)
        values.append(value)
        position += child.length
    return children, values, position


_HANDLERS: dict[type[kinds.Element], Callable[[_Walker, Any], None]] = {
    kinds.Uint: _uint,
    kinds.Word: _word,
    kinds.Reserved: _reserved,
    kinds.Align: _align,
    kinds.Fixed: _fixed,
    kinds.Sized: _sized,
    kinds.Counted: _counted,
    kinds.Rest: _rest,
    kinds.Nested: _nested,
    kinds.Items: _items,
}
