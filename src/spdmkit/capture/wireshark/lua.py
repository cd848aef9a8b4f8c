"""Python values as Lua source that versions 5.1 to 5.4 read alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Raw", "literal", "string", "table"]


@dataclass(frozen=True, slots=True)
class Raw:
    """Lua source that stands for itself: a name, a call, a function."""

    source: str


def string(text: str) -> str:
    """A quoted string; everything that is not printable ASCII is escaped."""
    parts = []
    for each in text.encode():
        character = chr(each)
        if character in '"\\':
            parts.append("\\" + character)
        elif 32 <= each < 127:
            parts.append(character)
        else:
            parts.append(f"\\{each:03d}")
    return '"' + "".join(parts) + '"'


def literal(value: Any) -> str:
    """A value as a Lua expression.

    Raises:
        TypeError: Lua source has nothing for it.
    """
    if isinstance(value, Raw):
        return value.source
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str):
        return string(value)
    if isinstance(value, Mapping):
        return table(value)
    if isinstance(value, Sequence):
        return "{ " + ", ".join(literal(each) for each in value) + " }" if value else "{}"
    raise TypeError(f"{type(value).__name__} has no form in Lua")


def table(entries: Mapping[Any, Any]) -> str:
    """A table; entries whose value is None are left out."""
    parts = []
    for key, value in entries.items():
        if value is None:
            continue
        plain = isinstance(key, str) and key.isidentifier() and key not in _RESERVED
        name = key if plain else f"[{literal(key)}]"
        parts.append(f"{name} = {literal(value)}")
    return "{ " + ", ".join(parts) + " }" if parts else "{}"


_RESERVED = frozenset(
    {
        *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if"),
        *("in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"),
    }
)
