"""Text that came from a peer, made harmless for a terminal."""

from __future__ import annotations

__all__ = ["escaped"]

_LONGEST = 400


def escaped(text: str, *, limit: int = _LONGEST) -> str:
    r"""`text` with everything that is not printable as \xNN, \uNNNN or \UNNNNNNNN, cut to `limit`.

    A peer's words (error strings, names in certificates, URIs) could otherwise move the cursor,
    recolour what stands above, or turn the direction of writing. Spaces stay; line breaks do not,
    so that a peer cannot add lines that look like ours.
    """
    whole = "".join(
        character if character.isprintable() and character != "\\" else _code(character)
        for character in text[: limit + 1]
    )
    return whole if len(text) <= limit else whole[:limit] + "..."


def _code(character: str) -> str:
    number = ord(character)
    if character == "\\":
        return "\\\\"
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
