"""From TOML to typed values, with complaints that name the line, the key and what may be meant."""

from __future__ import annotations

import difflib
import re
import threading
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from spdmkit.attestation.toml_lines import LineMap, parse_toml
from spdmkit.errors import ConfigurationError

__all__ = ["Strict", "TomlFile"]

T = TypeVar("T", bound="Strict")
R = TypeVar("R")
_PLACE = re.compile(r" - at `\$(.*?)`$")
_UNKNOWN = re.compile(r"unknown field `(.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


# msgspec reads a declaration at its first use, and two threads that meet there crash the process.
_ONE_AT_A_TIME = threading.Lock()


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML table in which an unknown key is an error."""


class TomlFile:
    """A TOML file that was parsed, and where its values stand.

    Attributes:
        source: what to call it in errors.
        values: what it says.
    """

    def __init__(self, data: bytes, source: str) -> None:
        """Parse the file's bytes.

        Raises:
            ConfigurationError: not UTF-8 or not TOML; the message begins with "source:line:".
        """
        self.source = source
        self.values: dict[str, Any]
        self._lines: LineMap
        self.values, self._lines = parse_toml(data, source)

    def convert(self, kind: type[T]) -> T:
        """The whole file as a `Strict` table.

        Raises:
            ConfigurationError: a key is unknown or missing, or a value is of the wrong kind.
        """
        try:
            with _ONE_AT_A_TIME:
                return msgspec.convert(self.values, kind, strict=True)
        except msgspec.ValidationError as error:
            raise self._complaint(str(error), kind) from None

    def wrong(
        self, path: tuple[str | int, ...], reason: str, *, hint: str = ""
    ) -> ConfigurationError:
        """The error for a value at `path`, with its line."""
        return ConfigurationError(f"{self.where(path)}: {_dotted(path)}: {reason}", hint=hint)

    def where(self, path: tuple[str | int, ...]) -> str:
        """The place of a value as "source:line"."""
        return f"{self.source}:{self._lines.line(path)}"

    def at(self, path: tuple[str | int, ...], check: Callable[[], R]) -> R:
        """Run a check; a complaint of its gets the line of `path`."""
        try:
            return check()
        except ConfigurationError as error:
            raise self.wrong(path, str(error), hint=error.hint) from None

    def _complaint(self, text: str, kind: type[Strict]) -> ConfigurationError:
        place = _PLACE.search(text)
        reason = text[: place.start()] if place else text
        path: tuple[str | int, ...] = tuple(
            int(number) if number else name
            for name, number in (_STEP.findall(place[1]) if place else [])
        )
        unknown = _UNKNOWN.search(reason)
        if unknown is None:
            return self.wrong(path, reason)
        known = [field.name for field in msgspec.structs.fields(_table_at(kind, path))]
        close = difflib.get_close_matches(unknown[1], known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return self.wrong((*path, unknown[1]), "unknown key", hint=hint)


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the file"


def _table_at(kind: type[Strict], path: tuple[str | int, ...]) -> type[Strict]:
    """The table type at a path below `kind`."""
    for part in path:
        if isinstance(part, str):
            annotation = typing.get_type_hints(kind)[part]
            kind = _table_in(annotation) or kind
    return kind


def _table_in(annotation: Any) -> type[Strict] | None:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return annotation
    for part in typing.get_args(annotation):
        found = _table_in(part)
        if found is not None:
            return found
    return None
