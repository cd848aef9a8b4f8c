"""How long a message is by its own lengths: what dialect detection and DOE's padding rest on."""

from __future__ import annotations

from spdmkit.errors import DecodeError
from spdmkit.messages import VERSIONS, ResponseCode
from spdmkit.messages.sizing import Unsized, message_size

__all__ = ["is_response", "message_length"]


def message_length(data: bytes) -> int | None:
    """The size in bytes of the message that `data` begins, or None while more bytes must tell.

    Raises:
        DecodeError: it is no message that tells its own size.
    """
    size = message_size(data)
    if size is Unsized.NEVER:
        raise DecodeError("message", "code", 1, "it does not tell its own size")
    return None if isinstance(size, Unsized) else size


def is_response(data: bytes) -> bool:
    """Whether a message begins as an SPDM response does: a known version, a known code."""
    return len(data) > 1 and data[0] in VERSIONS and data[1] in ResponseCode.__members__.values()
