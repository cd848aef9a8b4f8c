"""How a value is shown to people. Closed, like everything a layout may say."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

__all__ = ["Format", "show"]

LONGEST = 64
"""Bytes of a value that are shown before the rest is only counted."""


class Format(enum.Enum):
    """Formats for integers that no enum names."""

    DECIMAL = "decimal"
    HEX = "hex"
    VERSION = "version entry"
    """VersionNumberEntry (DSP0274 table 10): major, minor, update, alpha in four bits each."""
    SPDM_VERSION = "SPDM version"
    """The version byte of a message: major and minor in four bits each."""
    EXPONENT_US = "exponent of microseconds"


def show(value: Any, display: Any) -> str:
    """The text for a field's value; `display` is a `Format`, an enum class or None."""
    if isinstance(value, bytes):
        text = value[:LONGEST].hex()
        return text if len(value) <= LONGEST else f"{text}... ({len(value)} bytes)"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    if isinstance(display, type) and issubclass(display, enum.Flag):
        return _flags(value, display)
    if isinstance(display, type) and issubclass(display, enum.IntEnum):
        try:
            return f"{display(value).name} ({value:#04x})"
        except ValueError:
            return f"{value:#04x} (reserved)"
    return _FORMATS[display or Format.DECIMAL](value)


def _flags(value: int, flags: type[enum.Flag]) -> str:
    names = [str(flag.name) for flag in flags if flag.value and flag.value & value == flag.value]
    return f"{value:#x}" + (f" ({' '.join(names)})" if names else "")


def _version_entry(value: int) -> str:
    update, alpha = value >> 4 & 15, value & 15
    text = f"{value >> 12}.{value >> 8 & 15}.{update}"
    return f"{text} alpha {alpha}" if alpha else text


_FORMATS: dict[Format, Callable[[int], str]] = {
    Format.DECIMAL: str,
    Format.HEX: hex,
    Format.VERSION: _version_entry,
    Format.SPDM_VERSION: lambda value: f"{value >> 4}.{value & 15}",
    Format.EXPONENT_US: lambda value: f"{value} (2^{value} us)",
}
