"""The declarations of messages and structures as tables that the runtime walks.

Each kind of element becomes a table of its own shape; conditions become Lua functions of the
values read so far and the context. What the compiled decoder does with a declaration in Python,
`runtime/walker.lua` does with these tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spdmkit.capture.wireshark.fields import FieldTable, snake
from spdmkit.capture.wireshark.lua import Raw, string
from spdmkit.messages import MESSAGES
from spdmkit.wire import Format, kinds
from spdmkit.wire.kinds import NEWEST, Role
from spdmkit.wire.layout import Layout
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

__all__ = ["Layouts"]


class Layouts:
    """Every message, and every structure that one of them holds.

    Attributes:
        fields: their fields.
        messages: message tables by code.
        structures: structure tables by name of the class.
    """

    def __init__(self) -> None:
        """Read all declarations."""
        self.fields = FieldTable()
        self.messages: dict[int, dict[str, Any]] = {}
        self.structures: dict[str, dict[str, Any]] = {}
        for code, message in sorted(MESSAGES.items()):
            table = self._table(message.layout, snake(message.name))
            self.messages[code] = table | {"since": message.since}

    def _structure(self, struct: type[Any]) -> str:
        """See to it that a structure has a table; gives its name."""
        name = struct.__name__
        if name not in self.structures:
            self.structures[name] = {}  # keeps its place while what it holds is read
            self.structures[name] = self._table(struct.layout, snake(name))
        return name

    def _table(self, layout: Layout, path: str) -> dict[str, Any]:
        return {
            "name": layout.name,
            "clause": _clause(layout.clause),
            "field": self.fields.structure(path, layout.name),
            "elements": [self._element(path, element) for element in layout.elements],
        }

    def _element(self, path: str, element: kinds.Element) -> dict[str, Any]:
        made: dict[str, Any] = {
            "name": element.name,
            "key": element.attribute,
            "since": element.since or None,
            "last": None if element.until == NEWEST else element.until,
            "reserved_before": element.reserved_before or None,
            "when": None if element.when is None else Raw(condition(element.when)),
        }
        return made | _KINDS[type(element)](self, path, element)

    # -- kinds of element -----------------------------------------------------------------------

    def _uint(self, path: str, element: kinds.Uint) -> dict[str, Any]:
        field = _HEADER.get(element.role.role) or self.fields.element(path, element)
        return {
            "kind": "uint",
            "size": element.size,
            "field": field,
            "flags": self.fields.flags(field, element.size, element.display) or None,
            "minimum": element.minimum or None,
            "maximum": element.maximum,
            "role": _ROLES.get(element.role.role),
            "uncounted": element.uncounted or None,
            "shown": _SHOWN.get(element.display) if isinstance(element.display, Format) else None,
        }

    def _word(self, path: str, element: kinds.Word) -> dict[str, Any]:
        return {
            "kind": "word",
            "size": element.size,
            "field": self.fields.element(path, element),
            "bits": [
                {
                    "key": bit.attribute,
                    "low": bit.low,
                    "width": bit.width,
                    "since": bit.since or None,
                    "last": None if bit.until == NEWEST else bit.until,
                    "field": self.fields.bit(path, element, bit),
                }
                for bit in sorted(element.bits, key=lambda bit: bit.low)
            ],
        }

    def _reserved(self, path: str, element: kinds.Reserved) -> dict[str, Any]:
        field = self.fields.element(path, element)
        return {"kind": "reserved", "size": element.size, "field": field}

    def _align(self, path: str, element: kinds.Align) -> dict[str, Any]:
        field = self.fields.add(path, element.attribute, "Padding", kind="bytes")
        return {"kind": "align", "to": element.to, "field": field}

    def _bytes(self, path: str, element: kinds.Element) -> dict[str, Any]:
        made: dict[str, Any] = {"kind": "bytes", "field": self.fields.element(path, element)}
        if isinstance(element, kinds.Fixed):
            return made | {"size": element.size}
        if isinstance(element, kinds.Sized):
            return made | {"size": element.size}
        if isinstance(element, kinds.Counted):
            made["length"] = element.length
        if isinstance(element, (kinds.Counted, kinds.Rest)):
            made["maximum"] = element.maximum
            made["inner"] = None if element.inner is None else self._inner(element.inner)
        return made

    def _inner(self, inner: kinds.Inner) -> dict[str, Any]:
        if isinstance(inner, kinds.Embedded):
            if inner.struct is None:
                return {"message": True}
            return {"structure": self._structure(inner.struct)}
        structs = {int(key): self._structure(struct) for key, struct in inner.structs.items()}
        return {"selector": inner.selector, "structures": structs}

    def _nested(self, path: str, element: kinds.Nested) -> dict[str, Any]:
        field = self.fields.add(path, element.attribute, element.name, kind="none")
        return {"kind": "nested", "structure": self._structure(element.struct), "field": field}

    def _items(self, path: str, element: kinds.Items) -> dict[str, Any]:
        field = self.fields.add(path, element.attribute, element.name, kind="none")
        item: dict[str, Any]
        if isinstance(element.item, type):
            item = {"structure": self._structure(element.item)}
        elif isinstance(element.item, kinds.Uint):
            one = element.item
            entry = self.fields.element(field, one)
            item = {
                "size": one.size,
                "uint": True,
                "field": entry,
                "flags": self.fields.flags(entry, one.size, one.display) or None,
                "shown": _SHOWN.get(one.display) if isinstance(one.display, Format) else None,
            }
        else:
            item = {"size": element.item.size, "field": self.fields.element(field, element.item)}
        return {
            "kind": "items",
            "field": field,
            "item": item,
            "count": element.count or None,
            "popcount": element.popcount or None,
            "length": element.length or None,
            "maximum": element.maximum,
        }


_KINDS: dict[type[kinds.Element], Callable[[Layouts, str, Any], dict[str, Any]]] = {
    kinds.Uint: Layouts._uint,
    kinds.Word: Layouts._word,
    kinds.Reserved: Layouts._reserved,
    kinds.Align: Layouts._align,
    kinds.Fixed: Layouts._bytes,
    kinds.Sized: Layouts._bytes,
    kinds.Counted: Layouts._bytes,
    kinds.Rest: Layouts._bytes,
    kinds.Nested: Layouts._nested,
    kinds.Items: Layouts._items,
}

_HEADER = {Role.VERSION: "spdm_version", Role.CODE: "code"}
"""Fields that all messages share."""

_ROLES = {Role.TOTAL_LENGTH: "total", Role.VERSION: "version", Role.CODE: "code"}
_SHOWN = {
    Format.VERSION: "version",
    Format.SPDM_VERSION: "spdm_version",
    Format.EXPONENT_US: "exponent",
}


def condition(predicate: Predicate) -> str:
    """A condition as a Lua function of the values `v` read so far and the context `c`."""
    return f"function(v, c) return {_expression(predicate)} end"


def _expression(predicate: Predicate) -> str:
    return _EXPRESSIONS[type(predicate)](predicate)


def _joined(predicate: AllOf | AnyOf, word: str) -> str:
    return "(" + f" {word} ".join(_expression(each) for each in predicate.conditions) + ")"


_EXPRESSIONS: dict[type[Any], Callable[[Any], str]] = {
    Present: lambda p: f"S.set(v[{string(p.attribute)}])",
    Equals: lambda p: f"(v[{string(p.attribute)}] or 0) == {int(p.value)}",
    InContext: lambda p: f"S.in_context(c, {string(p.name)})",
    Requested: lambda p: f"S.set(c.request and c.request[{string(p.attribute)}])",
    Not: lambda p: f"not ({_expression(p.condition)})",
    AllOf: lambda p: _joined(p, "and"),
    AnyOf: lambda p: _joined(p, "or"),
}


def _clause(clause: str) -> str:
    return clause if clause.startswith("DSP") else f"DSP0274 {clause}"
