"""The fields one can filter for: `spdm.<message>.<field>`, made from the declarations.

A field has the name of its attribute; what is no attribute, such as a length, has the name the
specification gives it. Two elements of one structure that share a name share a field when they
also mean the same, as ChunkSeqNo does, which grew from two bytes to four.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any

from spdmkit.capture.wireshark.lua import Raw, literal
from spdmkit.wire import Format, kinds

__all__ = ["Field", "FieldTable", "snake"]

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake(name: str) -> str:
    """`ReqBaseAsymAlg` as `req_base_asym_alg`."""
    return re.sub(r"\W+", "_", _BOUNDARY.sub("_", name)).strip("_").lower()


@dataclass(slots=True)
class Field:
    """One field of the dissector.

    Attributes:
        path: its name without `spdm.`.
        label: what stands before its value.
        kind: "uint", "bool", "bytes" or "none".
        size: bytes of the integer, or of the word that a bit field is in.
        hex: shown as hex rather than decimal.
        values: names of values.
        mask: the bits of the word that it is, 0 for all.
    """

    path: str
    label: str
    kind: str
    size: int = 1
    hex: bool = False
    values: tuple[tuple[int, str], ...] = ()
    mask: int = 0

    def source(self) -> str:
        """The ProtoField that Wireshark is to register."""
        arguments: list[Any] = [f"spdm.{self.path}", self.label]
        if self.kind == "uint":
            names = dict(self.values) or None
            base = Raw("base.HEX" if self.hex else "base.DEC")
            arguments += [base, names, self.mask or None]
        elif self.kind == "bool":
            arguments += [8 * self.size, None, self.mask]
        while arguments[-1] is None:
            arguments.pop()
        maker = f"uint{8 * self.size}" if self.kind == "uint" else self.kind
        return f"ProtoField.{maker}({', '.join(literal(each) for each in arguments)})"

    def merge(self, other: Field) -> bool:
        """Take in an element of the same name; False when it is something else."""
        same = (self.label, self.kind, self.values, self.mask)
        if same != (other.label, other.kind, other.values, other.mask):
            return False
        self.size = max(self.size, other.size)
        return True


class FieldTable:
    """All fields, by their path.

    Attributes:
        fields: the fields in the order they were declared.
    """

    def __init__(self) -> None:
        """No field yet."""
        self.fields: dict[str, Field] = {}

    def add(self, owner: str, attribute: str, name: str, **more: Any) -> str:
        """Declare a field of a structure; gives its path.

        Args:
            owner: path of the structure.
            attribute: the attribute, with an underscore when it is none.
            name: name in the specification.
            more: the other attributes of a `Field`.

        Raises:
            ValueError: two elements of one name that mean different things.
        """
        by_name = f"{owner}.{snake(name)}"
        path = by_name if attribute.startswith("_") or not attribute else f"{owner}.{attribute}"
        for candidate in dict.fromkeys((path, by_name)):
            field = Field(candidate, name, **more)
            known = self.fields.setdefault(candidate, field)
            if known is field or known.merge(field):
                return candidate
        raise ValueError(f"spdm.{by_name} is two different things")

    def structure(self, path: str, label: str) -> str:
        """Declare the field that a whole structure is; gives its path."""
        self.fields.setdefault(path, Field(path, label, "none"))
        return path

    def element(self, owner: str, element: kinds.Element) -> str:
        """Declare the field of an element that is an integer or bytes."""
        if isinstance(element, (kinds.Uint, kinds.Word)):
            shown = _shown(element.display)
            attribute = element.attribute
            if isinstance(element, kinds.Word):
                shown["hex"] = True
                if any(bit.attribute == snake(element.name) for bit in element.bits):
                    attribute = f"{snake(element.name)}_word"  # its name is that of a part of it
            return self.add(owner, attribute, element.name, kind="uint", size=element.size, **shown)
        return self.add(owner, element.attribute, element.name, kind="bytes")

    def bit(self, owner: str, word: kinds.Word, bit: kinds.Bits) -> str:
        """Declare the field of some bits of a word."""
        mask = ((1 << bit.width) - 1) << bit.low
        if bit.boolean:
            return self.add(owner, bit.attribute, bit.name, kind="bool", size=word.size, mask=mask)
        return self.add(
            owner,
            bit.attribute,
            bit.name,
            kind="uint",
            size=word.size,
            mask=mask,
            **_shown(bit.display),
        )

    def flags(self, path: str, size: int, display: Any) -> list[str]:
        """Declare a field for each flag of an integer; those of two bits become one field."""
        if not (isinstance(display, type) and issubclass(display, enum.Flag)):
            return []
        members = {name: int(flag.value) for name, flag in display.__members__.items()}
        wide = {name: mask for name, mask in members.items() if name.endswith("_MASK")}
        paths = []
        for name, mask in wide.items():
            shift = (mask & -mask).bit_length() - 1
            named = {
                value >> shift: member
                for member, value in members.items()
                if member not in wide and value and value & ~mask == 0
            }
            values = ((0, "none"), *named.items())
            label = name.removesuffix("_MASK")
            paths.append(
                self.add(path, "", label, kind="uint", size=size, mask=mask, values=values)
            )
        for name, value in members.items():
            if not any(value & mask for mask in wide.values()):
                paths.append(self.add(path, "", name, kind="bool", size=size, mask=value))
        return paths


def _shown(display: Any) -> dict[str, Any]:
    """How an integer with this display is shown."""
    if isinstance(display, type) and issubclass(display, enum.Flag):
        return {"hex": True}
    if isinstance(display, type) and issubclass(display, enum.IntEnum):
        values = tuple((int(member.value), member.name) for member in display)
        return {"hex": True, "values": values}
    return {"hex": display in (Format.HEX, Format.VERSION, Format.SPDM_VERSION)}
