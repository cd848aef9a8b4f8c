"""Text that came from a peer, made safe to show.

A certificate may name its subject with line breaks, terminal escapes or right-to-left marks. What
reports and errors show goes through `safe_text`; comparisons use the text as it came.
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import Final

__all__ = ["moment_text", "safe_text"]

_LONGEST: Final = 512


def safe_text(text: str, *, longest: int = _LONGEST) -> str:
    r"""`text` with everything unprintable, and the backslash, written as an escape.

    Args:
        text: what the peer said.
        longest: characters of it that are kept; a longer text ends in "...".
    """
    if text.isprintable() and len(text) <= longest and "\\" not in text:
        return text
    shown = text[:longest]
    escaped = "".join(
        character if character.isprintable() and character != "\\" else _escape(character)
        for character in shown
    )
    return escaped if len(text) <= longest else escaped + "..."


def moment_text(moment: dt.datetime) -> str:
    """A moment to the second, in its own time zone: quicker than strftime."""
    return _utc_text(moment) if moment.tzinfo is dt.UTC else _text(moment)


def _text(moment: dt.datetime) -> str:
    return moment.isoformat(" ", "seconds")[:19]


# Moments of one zone alone: the same moment of two zones is equal, and its texts are not.
_utc_text = functools.lru_cache(maxsize=256)(_text)


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
