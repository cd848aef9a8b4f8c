"""Compiling a declaration into a decoder for one SPDM version.

The decoder is Python source, written once per (structure, version) on first use. Neighbouring
elements of fixed size are read by one precompiled `struct.Struct`; attributes are set directly on
a new object. It is an order of magnitude faster than walking the declaration each time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from struct import Struct as Packed
from typing import Any

from spdmkit.errors import DecodeError
from spdmkit.wire import kinds
from spdmkit.wire.kinds import Element, Role
from spdmkit.wire.layout import Layout, valued
from spdmkit.wire.source import (
    FORMATS,
    Source,
    blocks,
    fixed_size,
    halves,
    runs,
)

__all__ = ["Decoder", "compile_decoder"]

Decoder = Callable[[bytes, int, int, Any], tuple[Any, int]]
"""(data, first byte, end of what surrounds it, context) -> (object, first byte behind it)."""


def compile_decoder(cls: type[Any], layout: Layout, version: int) -> Decoder:
    """Compile the decoder of a structure for one version."""
    writer = _Writer(cls, layout, version)
    decoder: Decoder = writer.build()
    return decoder


class _Writer:
    """Writes the source of one decoder."""

    def __init__(self, cls: type[Any], layout: Layout, version: int) -> None:
        self.layout = layout
        self.version = version
        self.elements = layout.of_version(version)
        self.source = Source(f"decode_{cls.__name__}", "data, pos, end, ctx")
        self.source.names.update(cls=cls, new=object.__new__, DecodeError=DecodeError)
        self.exact = False

    def build(self) -> Any:
        source = self.source
        source.line("start = pos")
        self.defaults()
        for when, elements in blocks(self.elements):
            if when is None:
                self.block(elements)
            else:
                self.conditional(when.source(), elements)
        if self.exact:
            self.check("pos != end", "Length", "pos", 'f"{end - pos} bytes too many"')
        self.assign()
        source.line("return obj, pos")
        return source.build()

    def conditional(self, condition: str, elements: Sequence[Element]) -> None:
        self.source.line(f"if {condition}:")
        with self.source.indented():
            self.block(elements)

    def defaults(self) -> None:
        """Give a value to everything that may not be there."""
        unconditional = [element for element in self.elements if element.when is None]
        always = {part.attribute for part in valued(unconditional)}
        for part in valued(self.layout.elements):
            if part.attribute not in always:
                always.add(part.attribute)
                self.source.line(f"f_{part.attribute} = {_absent(part)}")

    def block(self, elements: Sequence[Element]) -> None:
        for run in runs(elements):
            if fixed_size(run[0]) is not None:
                self.run(run)
            else:
                _DYNAMIC[type(run[0])](self, run[0])

    def check(self, condition: str, field: str, position: str, reason: str) -> None:
        """Raise DecodeError when `condition` holds; all but `field` are expressions."""
        error = f"DecodeError({self.layout.name!r}, {field!r}, {position}, {reason})"
        self.source.line(f"if {condition}:")
        self.source.line(f"    raise {error}")

    # --- elements of fixed size ------------------------------------------------------------------

    def run(self, run: Sequence[Element]) -> None:
        source = self.source
        packed = Packed("<" + "".join(_format(element) for element in run))
        short = source.constant("short", _shortage(self.layout.name, run))
        source.line(f"if end - pos < {packed.size}:")
        source.line(f"    raise {short}(pos, end)")
        targets = [target for element in run for target in _targets(element)]
        if targets:
            unpack = source.constant("unpack", packed.unpack_from)
            source.line(f"{', '.join(targets)}, = {unpack}(data, pos)")
        offset = 0
        for element in run:
            if isinstance(element, kinds.Uint):
                self.uint(element, offset)
            elif isinstance(element, kinds.Word):
                self.word(element)
            offset += fixed_size(element) or 0
        source.line(f"pos += {packed.size}")

    def uint(self, element: kinds.Uint, offset: int) -> None:
        name, source = f"f_{element.attribute}", self.source
        if element.size == 3:
            source.line(f"{name} = {name}_low | {name}_high << 16")
        position = f"pos + {offset}" if offset else "pos"
        if element.role.role is Role.VERSION and element.maximum is None:
            self.refuse(f"{name} != {self.version}", element.name, position, name)
        elif element.minimum and element.minimum == element.maximum:
            self.refuse(f"{name} != {element.minimum}", element.name, position, name)
        else:
            if element.minimum:
                self.refuse(f"{name} < {element.minimum}", element.name, position, name)
            if element.maximum is not None:
                self.refuse(f"{name} > {element.maximum}", element.name, position, name)
        if element.role.role is Role.TOTAL_LENGTH:
            total = f"{name} + {element.uncounted}" if element.uncounted else name
            after = f"start + {total} < {position} + {element.size}"
            self.refuse(f"{total} > end - start or {after}", element.name, position, name)
            source.line(f"end = start + {total}")
            self.exact = True

    def refuse(self, condition: str, field: str, position: str, value: str) -> None:
        """Raise when `condition` holds, saying the value."""
        self.check(condition, field, position, f'f"{{{value}:#x}} is out of bounds"')

    def word(self, element: kinds.Word) -> None:
        for bit in element.bits:
            mask = (1 << bit.width) - 1
            if bit.boolean:
                value = f"w_{element.attribute} & {mask << bit.low} != 0"
            elif bit.low:
                value = f"w_{element.attribute} >> {bit.low} & {mask}"
            else:
                value = f"w_{element.attribute} & {mask}"
            self.source.line(f"f_{bit.attribute} = {value}")

    # --- elements of other sizes -----------------------------------------------------------------

    def take(self, element: Element, size: str, target: str) -> None:
        """Read `size` bytes (an expression) into `target`."""
        self.room(element, size)
        self.source.line(f"{target} = data[pos:pos + {size}]")
        self.source.line(f"pos += {size}")

    def room(self, element: Element, size: str, limit: str = "end") -> None:
        reason = f'f"{{{size}}} bytes, but {{{limit} - pos}} are left"'
        self.check(f"{size} > {limit} - pos", element.name, "pos", reason)

    def limit(self, element: Any, size: str) -> None:
        if element.maximum is not None:
            reason = f'f"{{{size}}} is more than {element.maximum}"'
            self.check(f"{size} > {element.maximum}", element.name, "pos", reason)

    def align(self, element: kinds.Align) -> None:
        self.source.line(f"n = (start - pos) % {element.to}")
        self.take(element, "n", "padding")
        self.check("any(padding)", element.name, "pos - n", repr("padding is not zero"))

    def sized(self, element: kinds.Sized) -> None:
        self.source.line(f"n = ctx.{element.size}")
        self.take(element, "n", f"f_{element.attribute}")

    def counted(self, element: kinds.Counted) -> None:
        self.limit(element, f"f_{element.length}")
        self.take(element, f"f_{element.length}", f"f_{element.attribute}")

    def rest(self, element: kinds.Rest) -> None:
        self.limit(element, "(end - pos)")
        self.source.line(f"f_{element.attribute} = data[pos:end]")
        self.source.line("pos = end")

    def nested(self, element: kinds.Nested) -> None:
        inner = self.source.constant("inner", element.struct.decoder(self.version))
        self.source.line(f"f_{element.attribute}, pos = {inner}(data, pos, end, ctx)")

    def items(self, element: kinds.Items) -> None:
        source, target = self.source, f"f_{element.attribute}"
        limit = "end"
        if element.length:
            limit = "limit"
            self.room(element, f"f_{element.length}")
            source.line(f"limit = pos + f_{element.length}")
        count = ""
        if element.count or element.popcount:
            of = f"f_{element.count or element.popcount}"
            source.line(f"n = {of}.bit_count()" if element.popcount else f"n = {of}")
            self.limit(element, "n")
            count = "n"
        if isinstance(element.item, type):
            self.structures(element, target, count, limit)
        else:
            self.scalars(element, target, count, limit)
        if element.length:
            reason = 'f"{limit - pos} bytes too many"'
            self.check("pos != limit", element.name, "pos", reason)

    def structures(self, element: kinds.Items, target: str, count: str, limit: str) -> None:
        inner = self.source.constant("inner", element.item.decoder(self.version))
        self.source.line(f"{target} = []")
        self.source.line(f"for _ in range({count}):" if count else f"while pos < {limit}:")
        self.source.line(f"    item, pos = {inner}(data, pos, {limit}, ctx)")
        self.source.line(f"    {target}.append(item)")

    def scalars(self, element: kinds.Items, target: str, count: str, limit: str) -> None:
        source, item = self.source, element.item
        size = str(item.size) if isinstance(item, kinds.Uint) else f"ctx.{item.size}"
        source.line(f"size = {size}")
        if count:
            source.line("n *= size")
        else:
            source.line(f"n = {limit} - pos")
        reason = f'f"{{n}} bytes, but {{{limit} - pos}} are left"'
        condition = f"n > {limit} - pos or not size or n % size"
        self.check(condition, element.name, "pos", reason)
        piece = "data[p:p + size]"
        if isinstance(item, kinds.Uint):
            piece = f"int.from_bytes({piece}, 'little')"
        source.line(f"{target} = [{piece} for p in range(pos, pos + n, size)]")
        source.line("pos += n")

    def assign(self) -> None:
        """Make the object; what the version does not have keeps its default."""
        source = self.source
        source.line("obj = new(cls)")
        for attribute in self.layout.attributes():
            source.line(f"obj.{attribute} = f_{attribute}")


_DYNAMIC: dict[type[Element], Callable[[_Writer, Any], None]] = {
    kinds.Align: _Writer.align,
    kinds.Sized: _Writer.sized,
    kinds.Counted: _Writer.counted,
    kinds.Rest: _Writer.rest,
    kinds.Nested: _Writer.nested,
    kinds.Items: _Writer.items,
}


def _absent(part: Any) -> str:
    """Source of the value of something that is not there."""
    if isinstance(part, kinds.Bits):
        return "False" if part.boolean else "0"
    if isinstance(part, kinds.Uint):
        return "0"
    if isinstance(part, kinds.Items):
        return "[]"
    return "None" if isinstance(part, kinds.Nested) else 'b""'


def _format(element: Element) -> str:
    if isinstance(element, kinds.Fixed):
        return f"{element.size}s"
    if isinstance(element, kinds.Reserved):
        return f"{element.size}x"
    if isinstance(element, kinds.Word) and not element.bits:
        return f"{element.size}x"
    size = fixed_size(element)
    return "HB" if size == 3 else FORMATS[size or 0]


def _targets(element: Element) -> tuple[str, ...]:
    """Locals that one element's part of the format fills."""
    if isinstance(element, kinds.Word):
        return (f"w_{element.attribute}",) if element.bits else ()
    if isinstance(element, kinds.Reserved):
        return ()
    if isinstance(element, kinds.Uint) and element.size == 3:
        return halves(element)
    return (f"f_{element.attribute}",)


def _shortage(message: str, run: Sequence[Element]) -> Callable[[int, int], DecodeError]:
    """Tells which element of a run the bytes do not reach."""
    sizes = [fixed_size(element) or 0 for element in run]
    ends = list(accumulate(sizes))

    def short(position: int, end: int) -> DecodeError:
        first = bisect_right(ends, end - position)
        begin = position + ends[first] - sizes[first]
        reason = f"{sizes[first]} bytes, but {end - begin} are left"
        return DecodeError(message, run[first].name, begin, reason)

    return short
