"""Base64url without padding (RFC 4648 5), as JSON carries bytes here."""

from __future__ import annotations

import base64
import binascii

from spdmkit.errors import DecodeError

__all__ = ["from_base64url", "to_base64url"]


def to_base64url(data: bytes) -> str:
    """The text for bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str, *, what: str, field: str) -> bytes:
    """The bytes of a text, which has to be the one text that stands for them.

    Args:
        text: without padding.
        what: what it is a part of, for errors.
        field: which part.

    Raises:
        DecodeError: another alphabet, padding, or bits left over that are not zero.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        decoded = base64.b64decode(padded, b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(what, field, 0, "not base64url") from None
    if to_base64url(decoded) != text:
        raise DecodeError(what, field, 0, "not base64url without padding")
    return decoded
