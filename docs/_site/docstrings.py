"""Docstrings as reStructuredText: what is indented is code, as a reader of the source takes it."""

from __future__ import annotations

import re

_SECTION = re.compile(r"(Args|Arguments|Attributes|Raises|Returns|Yields|Example|Note)s?:$")


def mark_code(
    _app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Put `::` before each indented block that is not part of a Google section."""
    marked: list[str] = []
    in_section = in_code = False
    for line in lines:
        indented = line.startswith("  ")
        if line and not indented:
            in_section, in_code = bool(_SECTION.match(line)), False
        elif indented and not in_section and not in_code and marked and not marked[-1]:
            if not marked[-2:-1] or not marked[-2].lstrip().startswith(("-", "*")):
                marked += ["::", ""]
            in_code = True
        marked.append(line)
    lines[:] = marked
