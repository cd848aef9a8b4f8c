"""Which structures stand inside which, as the declarations say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spdmkit.wire import kinds

if TYPE_CHECKING:
    from spdmkit.wire.base import Struct

__all__ = ["inside", "reachable"]


def inside(element: kinds.Element) -> list[type[Struct]]:
    """The structures that the bytes of an element hold; more than one where a field selects."""
    if isinstance(element, kinds.Nested):
        return [element.struct]
    if isinstance(element, kinds.Items) and isinstance(element.item, type):
        return [element.item]
    inner = getattr(element, "inner", None)
    if isinstance(inner, kinds.Alternatives):
        return list(inner.structs.values())
    if isinstance(inner, kinds.Embedded) and inner.struct is not None:
        return [inner.struct]
    return []


def reachable(structs: Iterable[type[Struct]]) -> list[type[Struct]]:
    """These structures and all inside them, each once."""
    found: dict[type[Struct], None] = {}
    waiting = list(structs)
    while waiting:
        struct = waiting.pop(0)
        if struct not in found:
            found[struct] = None
            for element in struct.layout.elements:
                waiting += inside(element)
    return list(found)
