"""The kinds of field a layout is made of.

These are plain data. The compiler turns them into decoders and encoders, the walker into a field
tree, a generator into a Wireshark dissector; none of them is told anything that is not here.
All integers are little endian (DSP0274 2.2.3). Sizes and offsets are in bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias

from spdmkit.wire.predicates import Predicate

__all__ = [
    "Align",
    "Alternatives",
    "Bits",
    "Counted",
    "Element",
    "Embedded",
    "Fixed",
    "Inner",
    "Items",
    "Nested",
    "Reserved",
    "Rest",
    "Role",
    "RoleOf",
    "Sized",
    "Uint",
    "Word",
]

NEWEST = 0xFF
"""`until` of an element that is still there in the newest version."""


class Role(enum.Enum):
    """What an integer that is no attribute of its own is there for."""

    VALUE = "value"
    """An attribute of the message."""
    LENGTH_OF = "length of"
    """The bytes another element takes."""
    COUNT_OF = "count of"
    """The entries another element has."""
    TOTAL_LENGTH = "total length"
    """The bytes of the whole structure, from its first byte."""
    VERSION = "SPDM version"
    """The version byte of a message header."""
    CODE = "code"
    """The request or response code of a message header."""


@dataclass(frozen=True, slots=True)
class RoleOf:
    """A role, and the attribute it speaks of."""

    role: Role = Role.VALUE
    target: str = ""


@dataclass(slots=True, kw_only=True)
class Element:
    """What all elements of a layout have.

    Attributes:
        attribute: name in Python; begins with an underscore when it is not an attribute.
        name: name in the specification.
        since: first SPDM version that has these bytes.
        until: last SPDM version that has these bytes.
        reserved_before: first SPDM version in which the bytes, there before, mean something.
        when: condition under which the bytes are there.
        clause: where the specification defines it, when not where its structure is defined.
        doc: one line for people.
        display: how to show the value: an enum, or one of the formats of `wire.display`.
        role: what an integer is there for when it is no attribute.
    """

    attribute: str = ""
    name: str = ""
    since: int = 0
    until: int = NEWEST
    reserved_before: int = 0
    when: Predicate | None = None
    clause: str = ""
    doc: str = ""
    display: Any = None
    role: RoleOf = RoleOf()


@dataclass(slots=True, kw_only=True)
class Uint(Element):
    """An unsigned integer of 1, 2, 3, 4 or 8 bytes; values outside the bounds are refused.

    Attributes:
        uncounted: bytes at the start of a structure that its total length does not count.
    """

    size: int
    minimum: int = 0
    maximum: int | None = None
    uncounted: int = 0


@dataclass(slots=True, kw_only=True)
class Bits:
    """A run of bits inside a `Word`; bit 0 is the least significant."""

    attribute: str = ""
    name: str = ""
    low: int = 0
    width: int = 1
    boolean: bool = False
    since: int = 0
    until: int = NEWEST
    role: RoleOf = RoleOf()
    doc: str = ""
    display: Any = None


@dataclass(slots=True, kw_only=True)
class Word(Element):
    """An integer made of bit fields; bits that no field claims are reserved."""

    size: int
    bits: tuple[Bits, ...] = ()


@dataclass(slots=True, kw_only=True)
class Reserved(Element):
    """Bytes written as zero and ignored on reading (DSP0274 2.2.2)."""

    size: int


@dataclass(slots=True, kw_only=True)
class Align(Element):
    """Zero bytes up to the next multiple of `to`, counted from the start of the structure."""

    to: int


@dataclass(slots=True, kw_only=True)
class Fixed(Element):
    """Bytes of a size that never changes."""

    size: int


@dataclass(slots=True, kw_only=True)
class Sized(Element):
    """Bytes of a negotiated size; `size` names the attribute of the context that holds it."""

    size: str


@dataclass(slots=True, kw_only=True)
class Counted(Element):
    """Bytes whose length another element holds; `length` is that element's attribute."""

    length: str
    maximum: int | None = None
    inner: Inner | None = None


@dataclass(slots=True, kw_only=True)
class Rest(Element):
    """All bytes up to the end of the structure."""

    maximum: int | None = None
    inner: Inner | None = None


@dataclass(slots=True, kw_only=True)
class Nested(Element):
    """One structure inside another; None when its condition does not hold."""

    struct: type[Any]


@dataclass(slots=True, kw_only=True)
class Items(Element):
    """A list.

    Exactly one of the following says where it ends; when `length` is given too, the entries must
    fill these bytes exactly. Without any, the list goes to the end of the structure.

    Attributes:
        item: what is listed: a structure, a `Uint` or a `Sized` without name.
        count: attribute of the element that holds the number of entries.
        popcount: attribute whose number of set bits is the number of entries.
        length: attribute of the element that holds the number of bytes.
        maximum: most entries.
    """

    item: Any
    count: str = ""
    popcount: str = ""
    length: str = ""
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Alternatives:
    """What the bytes of a field hold, by the value of another field; for display only.

    Attributes:
        selector: the attribute that selects.
        structs: its value -> the structure found in the bytes.
    """

    selector: str
    structs: dict[int, type[Any]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The bytes of a field hold this structure, or with None a whole message; for display only."""

    struct: type[Any] | None = None


Inner: TypeAlias = Alternatives | Embedded
