"""Which line of a TOML file says what, so that a complaint about a value can name its line.

`tomllib` reads the values; this scans the same text, already known to be valid, for table headers
and keys. What stands inside a multi-line string or array is passed over.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from spdmkit.errors import ConfigurationError

__all__ = ["LineMap", "parse_toml"]

_BARE: Final = r"[A-Za-z0-9_-]+"
_KEY: Final = rf"(?:{_BARE}|\"[^\"\\]*\"|'[^']*')"
_PATH: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*(\[\[?)\s*({_PATH})\s*\]\]?")
_ASSIGNMENT: Final = re.compile(rf"\s*({_PATH})\s*=(.*)")
_INLINE_KEY: Final = re.compile(rf"({_KEY})\s*=")
_STRINGS: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)

Path = tuple[str | int, ...]


class LineMap:
    """Line numbers of tables and keys, by their path ("component", 1, "index")."""

    def __init__(self, text: str) -> None:
        """Scan a text that `tomllib` has accepted."""
        self._lines: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        self._table: Path = ()
        depth = 0
        # Strings become blanks of the same shape, so that brackets and "=" in them mislead nobody.
        shape = _STRINGS.sub(_blank, text)
        for number, (line, shaped) in enumerate(
            zip(text.split("\n"), shape.split("\n"), strict=True), 1
        ):
            outline = shaped.partition("#")[0]
            if depth == 0 and outline.strip():
                self._see(number, line, outline)
            header = depth == 0 and _HEADER.match(outline) is not None
            if not header:
                depth += sum(outline.count(c) for c in "[{") - sum(outline.count(c) for c in "]}")
                depth = max(depth, 0)

    def line(self, path: Path) -> int:
        """The line that says a value, or the nearest table or key around it."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _see(self, number: int, line: str, outline: str) -> None:
        header = _HEADER.match(line)
        if header is not None and _HEADER.match(outline) is not None:
            self._table = self._enter(_parts(header[2]), array=header[1] == "[[")
            self._lines.setdefault(self._table, number)
            return
        assignment = _ASSIGNMENT.match(line)
        if assignment is None or "=" not in outline:
            return
        path = (*self._table, *_parts(assignment[1]))
        for length in range(len(self._table) + 1, len(path) + 1):
            self._lines.setdefault(path[:length], number)
        if assignment[2].lstrip().startswith("{"):
            for inner in _INLINE_KEY.finditer(assignment[2]):
                self._lines.setdefault((*path, *_parts(inner[1])), number)

    def _enter(self, parts: tuple[str, ...], *, array: bool) -> Path:
        """The path of a table header, with the number of each array element on its way."""
        path: Path = ()
        for position, part in enumerate(parts):
            path = (*path, part)
            if array and position == len(parts) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path


def parse_toml(data: bytes, source: str) -> tuple[dict[str, Any], LineMap]:
    """The values of a TOML file, and where they stand.

    Raises:
        ConfigurationError: not UTF-8, or not TOML; the message begins with "source:line:".
    """
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{source}:{line}: not UTF-8") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = f"(at line {text.count(chr(10)) + 1}, column 1)"
        complaint = str(error).replace("(at end of document)", last)
        raise ConfigurationError(_at_line(source, complaint)) from None
    return values, LineMap(text)


def _at_line(source: str, complaint: str) -> str:
    found = re.search(r"\(at line (\d+), column \d+\)$", complaint)
    if found is None:
        return f"{source}: {complaint}"
    return f"{source}:{found[1]}: {complaint[: found.start()].strip()}"


def _blank(match: re.Match[str]) -> str:
    return "".join("\n" if character == "\n" else "_" for character in match[0])


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(_KEY, path))
