"""Compiling a declaration into an encoder for one SPDM version.

Lengths and counts are computed from the values; a value that does not fit is refused with
`EncodeError`. The compiled code only notices that something is wrong; `_explain` then looks for
what it is, at leisure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spdmkit.wire import kinds
from spdmkit.wire.errors import EncodeError
from spdmkit.wire.kinds import Element, Role
from spdmkit.wire.layout import Layout, valued
from spdmkit.wire.source import FORMATS, Source, blocks, fixed_size, runs

__all__ = ["Encoder", "compile_encoder"]

Encoder = Callable[[Any, Any], bytes]
"""(object, context) -> its bytes."""


def compile_encoder(cls: type[Any], layout: Layout, version: int, stop: str = "") -> Encoder:
    """Compile the encoder of a structure for one version.

    Args:
        cls: the class, for its name.
        layout: its declaration.
        version: the SPDM version.
        stop: attribute before which to stop, for what a signature or MAC covers.
    """
    encoder: Encoder = _Writer(cls, layout, version, stop).build()
    return encoder


class _Writer:
    """Writes the source of one encoder."""

    def __init__(self, cls: type[Any], layout: Layout, version: int, stop: str) -> None:
        self.layout = layout
        self.version = version
        elements = layout.of_version(version)
        names = [element.attribute for element in elements]
        self.elements = elements[: names.index(stop)] if stop in names else elements
        self.source = Source(f"encode_{cls.__name__}", "obj, ctx")
        self.offset: int | None = 0
        self.total: tuple[int, kinds.Uint] | None = None
        self.twice = _twice(elements)

    def build(self) -> Any:
        source = self.source
        source.names.update(
            wrong=(struct.error, TypeError, AttributeError, ValueError, OverflowError),
            explain=_explainer(self.layout, self.elements, self.version),
        )
        source.line("try:")
        with source.indented():
            self.values()
            self.roles()
            source.line("out = []")
            for when, elements in blocks(self.elements):
                if when is None:
                    self.block(elements)
                else:
                    self.conditional(when.source(), elements)
            self.finish()
        source.line("except wrong as error:")
        source.line("    raise explain(obj, ctx, error) from None")
        return source.build()

    def values(self) -> None:
        """Load attributes; encode lists whose length is needed before they are."""
        alive = {part.attribute for part in valued(self.elements)}
        for part in valued(self.layout.elements):
            if part.attribute not in alive:
                self.source.line(f"f_{part.attribute} = 0")
        for attribute in self.layout.attributes():
            if attribute in alive:
                self.source.line(f"f_{attribute} = obj.{attribute}")
        for part in valued(self.elements):
            if isinstance(part, kinds.Items):
                self.items_value(part)

    def items_value(self, element: kinds.Items) -> None:
        target, item = element.attribute, element.item
        if isinstance(item, type):
            encode = self.source.constant("encode", item.encoder(self.version))  # type: ignore[attr-defined]  # every Struct has one
            piece = f"{encode}(item, ctx)"
        elif isinstance(item, kinds.Uint):
            piece = f"item.to_bytes({item.size}, 'little')"
        else:
            piece = "item"
            self.check(f"any(len(item) != ctx.{item.size} for item in f_{target})")
        self.source.line(f"e_{target} = b''.join([{piece} for item in f_{target}])")

    def roles(self) -> None:
        items = {part.attribute for part in self.elements if isinstance(part, kinds.Items)}
        for part in valued(self.elements):
            role, target = part.role.role, part.role.target
            value = None
            if role is Role.LENGTH_OF:
                value = f"len({'e' if target in items else 'f'}_{target})"
            elif role is Role.COUNT_OF:
                value = f"len(f_{target})"
            elif role is Role.TOTAL_LENGTH:
                value = "0"
            if value is not None:
                self.source.line(f"f_{part.attribute} = {value}")

    def check(self, condition: str) -> None:
        """Refuse when `condition` holds."""
        self.source.line(f"if {condition}: raise ValueError")

    def conditional(self, condition: str, elements: Sequence[Element]) -> None:
        self.offset = None
        self.source.line(f"if {condition}:")
        with self.source.indented():
            self.block(elements)
        values = [
            part.attribute
            for part in valued(elements)
            if not part.attribute.startswith("_") and part.attribute not in self.twice
        ]
        if values:
            self.source.line("else:")
            with self.source.indented():
                self.check(" or ".join(f"f_{value}" for value in values))

    def block(self, elements: Sequence[Element]) -> None:
        for run in runs(elements):
            if fixed_size(run[0]) is not None:
                self.run(run)
            else:
                _DYNAMIC[type(run[0])](self, run[0])
                self.offset = None

    def run(self, run: Sequence[Element]) -> None:
        form, arguments = "<", []
        for element in run:
            code, values = self.static(element)
            form += code
            arguments += values
            if self.offset is not None:
                self.offset += fixed_size(element) or 0
        pack = self.source.constant("pack", struct.Struct(form).pack)
        self.source.line(f"out.append({pack}({', '.join(arguments)}))")

    def static(self, element: Element) -> tuple[str, list[str]]:
        """Format and arguments for an element of fixed size, after its checks."""
        name = f"f_{element.attribute}"
        if isinstance(element, kinds.Fixed):
            self.check(f"len({name}) != {element.size}")
            return f"{element.size}s", [name]
        if isinstance(element, kinds.Word):
            return self.word(element)
        if isinstance(element, kinds.Uint):
            return self.uint(element)
        return f"{fixed_size(element)}x", []

    def uint(self, element: kinds.Uint) -> tuple[str, list[str]]:
        """Format and arguments for an integer, after its checks."""
        name, role = f"f_{element.attribute}", element.role.role
        if role in (Role.VERSION, Role.CODE):
            largest = element.maximum or self.version
            return "B", [str(max(element.minimum, min(self.version, largest)))]
        if role is Role.TOTAL_LENGTH:
            if self.offset is None:
                raise TypeError(f"{self.layout.name}.{element.name} has no fixed offset")
            self.total = self.offset, element
        elif element.maximum is not None:
            self.check(f"not {element.minimum} <= {name} <= {element.maximum}")
        elif element.minimum:
            self.check(f"{name} < {element.minimum}")
        if element.size == 3:
            self.check(f"{name} >> 24")
            return "HB", [f"{name} & 65535", f"{name} >> 16"]
        return FORMATS[element.size], [name]

    def word(self, element: kinds.Word) -> tuple[str, list[str]]:
        if not element.bits:
            return f"{element.size}x", []
        terms = []
        for bit in element.bits:
            self.check(f"f_{bit.attribute} & ~{(1 << bit.width) - 1}")
            terms.append(f"f_{bit.attribute} << {bit.low}" if bit.low else f"f_{bit.attribute}")
        return FORMATS[element.size], [" | ".join(terms)]

    def align(self, element: kinds.Align) -> None:
        self.source.line(f"out.append(bytes(-sum(map(len, out)) % {element.to}))")

    def sized(self, element: kinds.Sized) -> None:
        self.check(f"len(f_{element.attribute}) != ctx.{element.size}")
        self.source.line(f"out.append(f_{element.attribute})")

    def content(self, element: Any) -> None:
        if element.maximum is not None:
            self.check(f"len(f_{element.attribute}) > {element.maximum}")
        if isinstance(element, kinds.Items):
            if element.popcount:
                self.check(f"len(f_{element.attribute}) != f_{element.popcount}.bit_count()")
            self.source.line(f"out.append(e_{element.attribute})")
        else:
            self.source.line(f"out.append(f_{element.attribute})")

    def nested(self, element: kinds.Nested) -> None:
        encode = self.source.constant("encode", element.struct.encoder(self.version))
        struct = self.source.constant("struct", element.struct)
        self.check(f"not isinstance(f_{element.attribute}, {struct})")
        self.source.line(f"out.append({encode}(f_{element.attribute}, ctx))")

    def finish(self) -> None:
        if self.total is None:
            self.source.line("return b''.join(out)")
            return
        offset, element = self.total
        self.source.line("body = b''.join(out)")
        self.source.line(f"length = len(body) - {element.uncounted}")
        if element.maximum is not None:
            self.check(f"length > {element.maximum}")
        end = offset + element.size
        length = f"length.to_bytes({element.size}, 'little')"
        self.source.line(f"return body[:{offset}] + {length} + body[{end}:]")


_DYNAMIC: dict[type[Element], Callable[[_Writer, Any], None]] = {
    kinds.Align: _Writer.align,
    kinds.Sized: _Writer.sized,
    kinds.Counted: _Writer.content,
    kinds.Rest: _Writer.content,
    kinds.Nested: _Writer.nested,
    kinds.Items: _Writer.content,
}


def _twice(elements: Sequence[Element]) -> set[str]:
    """Attributes that have several layouts, of which one holds."""
    names = [part.attribute for part in valued(elements)]
    return {name for name in names if names.count(name) > 1}


# --- saying what is wrong ------------------------------------------------------------------------


def _explainer(
    layout: Layout, elements: Sequence[Element], version: int
) -> Callable[[Any, Any, Exception], EncodeError]:
    """Finds the value that the compiled encoder could not encode."""
    twice = _twice(elements)

    def explain(obj: Any, ctx: Any, error: Exception) -> EncodeError:
        values = dict.fromkeys((part.attribute for part in valued(layout.elements)), 0)
        values |= _computed(elements, obj)
        for element in elements:
            for part in element.bits if isinstance(element, kinds.Word) else (element,):
                reason = _reason(part, element.when, values, ctx, part.attribute in twice)
                if reason:
                    return EncodeError(layout.name, part.name, reason)
        return EncodeError(layout.name, "", f"cannot be encoded for {version:#x} ({error})")

    return explain


def _computed(elements: Sequence[Element], obj: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in valued(elements):
        value = getattr(obj, part.attribute, 0)
        if part.role.role in (Role.LENGTH_OF, Role.COUNT_OF):
            content = getattr(obj, part.role.target, b"")
            value = len(content) if isinstance(content, (bytes, bytearray, list)) else 0
        values[part.attribute] = value
    return values


def _reason(part: Any, when: Any, values: Mapping[str, Any], ctx: Any, twice: bool) -> str:
    """Why a value cannot be encoded, "" when it can; `twice`: it may stand elsewhere."""
    if isinstance(part, (kinds.Reserved, kinds.Align)):
        return ""
    value = values[part.attribute]
    if when is not None and not when.holds(values, ctx):
        if value and not twice and not part.attribute.startswith("_"):
            return "has a value, but the field is absent in this message"
        return ""
    if isinstance(part, (kinds.Uint, kinds.Bits)):
        return _bad_integer(part, value)
    if isinstance(part, kinds.Nested):
        return "" if isinstance(value, part.struct) else f"is no {part.struct.__name__}"
    return _bad_content(part, value, values, ctx)


def _bad_integer(part: Any, value: Any) -> str:
    if part.role.role in (Role.VERSION, Role.CODE, Role.TOTAL_LENGTH):
        return ""
    if not isinstance(value, int):
        return f"is a {type(value).__name__}, not an integer"
    largest = (1 << (part.width if isinstance(part, kinds.Bits) else 8 * part.size)) - 1
    smallest = 0
    if isinstance(part, kinds.Uint):
        smallest = part.minimum
        largest = largest if part.maximum is None else part.maximum
    if smallest <= value <= largest:
        return ""
    return f"{value} is not between {smallest} and {largest}"


def _bad_content(part: Any, value: Any, values: Mapping[str, Any], ctx: Any) -> str:
    if isinstance(part, kinds.Items) and not isinstance(value, list):
        return f"is a {type(value).__name__}, not a list"
    if not isinstance(part, kinds.Items) and not isinstance(value, (bytes, bytearray)):
        return f"is a {type(value).__name__}, not bytes"
    size = None
    if isinstance(part, kinds.Fixed):
        size = part.size
    elif isinstance(part, kinds.Sized):
        size = getattr(ctx, part.size)
    elif part.maximum is not None and len(value) > part.maximum:
        return f"has {len(value)}, at most {part.maximum} fit"
    if size is not None and len(value) != size:
        return f"has {len(value)} bytes, must have {size}"
    return _bad_items(part, value, values, ctx) if isinstance(part, kinds.Items) else ""


def _bad_items(part: kinds.Items, value: Any, values: Mapping[str, Any], ctx: Any) -> str:
    if part.popcount and len(value) != int(values[part.popcount]).bit_count():
        return f"has {len(value)} entries, which its mask does not say"
    item = part.item
    for entry in value:
        if isinstance(item, kinds.Sized) and len(entry) != getattr(ctx, item.size):
            return f"has an entry of {len(entry)} bytes, must have {getattr(ctx, item.size)}"
        if isinstance(item, kinds.Uint) and _bad_integer(item, entry):
            return "has an entry that " + _bad_integer(item, entry)
    return ""
