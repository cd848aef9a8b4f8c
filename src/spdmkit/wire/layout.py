"""Declaring a layout: the functions that stand in the body of a structure's class.

    @structure(clause="10.13.1")
    class StandardsBodyHeader(Struct):
        registry: int = u8("ID", display=Registry)
        vendor_id: bytes = prefixed(1, length_name="VendorIDLen")

What stands first is first on the wire. Annotated names are attributes; names without annotation
(`_reserved = reserved(2)`, `_param1 = word()`, `_length = length_of("chain", 4)`) take part in the
layout only. Names of the specification are derived (`slot_id` is `SlotID`) unless given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from spdmkit.wire.kinds import (
    Align,
    Bits,
    Counted,
    Element,
    Fixed,
    Inner,
    Items,
    Nested,
    Reserved,
    Rest,
    Role,
    RoleOf,
    Sized,
    Uint,
    Word,
)

__all__ = [
    "Layout",
    "align",
    "bits",
    "collect",
    "count_of",
    "counted",
    "fixed",
    "flag",
    "items",
    "length_of",
    "nested",
    "one_of",
    "prefixed",
    "reserved",
    "rest",
    "sized",
    "total_length",
    "u8",
    "u16",
    "u24",
    "u32",
    "u64",
    "valued",
    "word",
]

_KEY = "spdmkit.wire"
_ACRONYMS = {"id", "psk", "spdm", "csr", "ct", "rdt", "dmtf", "svh", "dsp", "mel", "ep", "pqc"}


@dataclass(frozen=True, slots=True)
class Layout:
    """The declared elements of a structure, in wire order.

    Attributes:
        name: name of the structure in the specification.
        clause: where it is defined.
        elements: the elements of all versions.
    """

    name: str
    clause: str
    elements: tuple[Element, ...]

    def of_version(self, version: int) -> tuple[Element, ...]:
        """The elements that one SPDM version has; what it reserves has become `Reserved`."""
        return tuple(
            _in_version(element, version)
            for element in self.elements
            if element.since <= version <= element.until
        )

    def attributes(self) -> tuple[str, ...]:
        """Names of all attributes that the layout fills, in wire order."""
        names = [part.attribute for part in valued(self.elements)]
        return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


def valued(elements: Iterable[Element]) -> list[Any]:
    """The pieces of elements that have a value, bit fields one by one."""
    parts: list[Any] = []
    for element in elements:
        if isinstance(element, Word):
            parts += element.bits
        elif not isinstance(element, (Reserved, Align)):
            parts.append(element)
    return parts


def _in_version(element: Element, version: int) -> Element:
    if isinstance(element, Word):
        alive = tuple(bit for bit in element.bits if bit.since <= version <= bit.until)
        return replace(element, bits=alive)
    if isinstance(element, Uint) and version < element.reserved_before:
        return Reserved(
            attribute="_" + element.attribute,
            name=element.name,
            when=element.when,
            size=element.size,
        )
    return element


# --- what stands in a class body -----------------------------------------------------------------


def _field(*elements: Element | Bits, default: Any = None, factory: Any = None) -> Any:
    metadata = {_KEY: elements}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _uint(size: int, name: str, default: int, options: dict[str, Any]) -> Any:
    return _field(Uint(name=name, size=size, **options), default=default)


def u8(name: str = "", *, default: int = 0, **options: Any) -> Any:
    """One byte. Options: those of `Element` and `minimum`, `maximum`."""
    return _uint(1, name, default, options)


def u16(name: str = "", *, default: int = 0, **options: Any) -> Any:
    """A 16-bit integer. Options as `u8`."""
    return _uint(2, name, default, options)


def u24(name: str = "", *, default: int = 0, **options: Any) -> Any:
    """A 24-bit integer. Options as `u8`."""
    return _uint(3, name, default, options)


def u32(name: str = "", *, default: int = 0, **options: Any) -> Any:
    """A 32-bit integer. Options as `u8`."""
    return _uint(4, name, default, options)


def u64(name: str = "", *, default: int = 0, **options: Any) -> Any:
    """A 64-bit integer. Options as `u8`."""
    return _uint(8, name, default, options)


def word(name: str = "", *, size: int = 1, **options: Any) -> Word:
    """An integer that `bits`, `flag` and roles divide up; without any it is reserved."""
    return Word(name=name, size=size, **options)


def bits(holder: Word, low: int, width: int, name: str = "", **options: Any) -> Any:
    """Bits `low` to `low + width - 1` of a word. Options: `since`, `until`, `doc`, `display`."""
    part = Bits(name=name, low=low, width=width, **options)
    holder.bits += (part,)
    return _field(part, default=0)


def flag(holder: Word, low: int, name: str = "", **options: Any) -> Any:
    """One bit of a word, as a bool. Options as `bits`."""
    part = Bits(name=name, low=low, boolean=True, **options)
    holder.bits += (part,)
    return _field(part, default=False)


def reserved(size: int, name: str = "", **options: Any) -> Reserved:
    """Bytes without meaning."""
    return Reserved(name=name, size=size, **options)


def align(to: int) -> Align:
    """Padding with zero bytes to a multiple of `to` bytes."""
    return Align(to=to)


def fixed(size: int, name: str = "", **options: Any) -> Any:
    """`size` bytes."""
    return _field(Fixed(name=name, size=size, **options), default=b"")


def sized(size: str, name: str = "", **options: Any) -> Any:
    """As many bytes as the attribute `size` of the context says."""
    return _field(Sized(name=name, size=size, **options), default=b"")


def length_of(target: str, size: int, name: str = "", **options: Any) -> Any:
    """The number of bytes of attribute `target`, in `size` bytes.

    With the options `within` (a word) and `low` it takes `size` bits of that word instead.
    """
    return _counter(RoleOf(Role.LENGTH_OF, target), size, name, options)


def count_of(target: str, size: int, name: str = "", **options: Any) -> Any:
    """The number of entries of attribute `target`; arguments as `length_of`."""
    return _counter(RoleOf(Role.COUNT_OF, target), size, name, options)


def _counter(role: RoleOf, size: int, name: str, options: dict[str, Any]) -> Uint | Bits:
    holder: Word | None = options.pop("within", None)
    if holder is None:
        return Uint(name=name, size=size, role=role, **options)
    part = Bits(name=name, width=size, role=role, **options)
    holder.bits += (part,)
    return part


def total_length(size: int, name: str = "Length", **options: Any) -> Uint:
    """The bytes of the whole structure; reading stops there and must have used all of them."""
    return Uint(name=name, size=size, role=RoleOf(Role.TOTAL_LENGTH), **options)


def counted(
    length: str,
    name: str = "",
    *,
    maximum: int | None = None,
    inner: Inner | None = None,
    **options: Any,
) -> Any:
    """Bytes whose length the element `length`, declared earlier, holds."""
    element = Counted(name=name, length=length, maximum=maximum, inner=inner, **options)
    return _field(element, default=b"")


def prefixed(
    size: int,
    name: str = "",
    *,
    length_name: str = "",
    maximum: int | None = None,
    inner: Inner | None = None,
    **options: Any,
) -> Any:
    """Bytes behind their own length of `size` bytes."""
    length = Uint(name=length_name, size=size, **options)
    content = Counted(name=name, length="?", maximum=maximum, inner=inner, **options)
    return _field(length, content, default=b"")


def rest(
    name: str = "", *, maximum: int | None = None, inner: Inner | None = None, **options: Any
) -> Any:
    """All bytes up to the end."""
    return _field(Rest(name=name, maximum=maximum, inner=inner, **options), default=b"")


def nested(struct: type[Any], name: str = "", **options: Any) -> Any:
    """A structure inside this one; None when it is absent."""
    return _field(Nested(name=name, struct=struct, **options), default=None)


def one_of(*fields: Any) -> Any:
    """One attribute that different versions or conditions lay out differently; one holds."""
    elements = [element for field in fields for element in field.metadata[_KEY]]
    return _field(*elements, default=fields[0].default)


def items(item: Any, name: str = "", **options: Any) -> Any:
    """A list. Options: those of `Items`; `item` is a `Struct` class, a `Uint` or a `Sized`."""
    return _field(Items(name=name, item=item, **options), factory=list)


# --- collecting ----------------------------------------------------------------------------------


def spec_name(attribute: str) -> str:
    """`provisioned_slot_mask` as the specification writes it: `ProvisionedSlotMask`."""
    parts = attribute.strip("_").split("_")
    return "".join(part.upper() if part in _ACRONYMS else part.capitalize() for part in parts)


def collect(cls: type[Any], name: str, clause: str, header: tuple[Element, ...]) -> Layout:
    """Read the class body, take what is layout only out of it, and return the layout."""
    elements: list[Element] = list(header)
    for key, value in list(cls.__dict__.items()):
        if isinstance(value, (Element, Bits)):
            delattr(cls, key)
            parts: tuple[Element | Bits, ...] = (value,)
        elif isinstance(value, dataclasses.Field):
            parts = value.metadata.get(_KEY, ())
        else:
            continue
        _name(parts, key)
        elements += [part for part in parts if isinstance(part, Element)]
    return Layout(name, clause, tuple(elements))


def _name(parts: tuple[Element | Bits, ...], key: str) -> None:
    for part, following in zip(parts, (*parts[1:], None), strict=True):
        if isinstance(following, Counted) and following.length == "?":
            part.attribute = following.length = f"_{key}_length"
            part.role = RoleOf(Role.LENGTH_OF, key)
            part.name = part.name or (following.name or spec_name(key)) + "Length"
        else:
            part.attribute = key
            part.name = part.name or spec_name(key)
