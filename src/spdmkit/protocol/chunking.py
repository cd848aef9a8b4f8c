"""Sizes of chunks, the same in both directions (DSP0274 10.27)."""

from __future__ import annotations

__all__ = ["FIRST_CHUNK_HEADER", "LATER_CHUNK_HEADER", "chunks_of"]

FIRST_CHUNK_HEADER = 16
"""Bytes before the chunk in the first CHUNK_SEND and CHUNK_RESPONSE."""
LATER_CHUNK_HEADER = 12
"""The same in those that follow: they have no LargeMessageSize."""


def chunks_of(size: int, limit: int) -> int:
    """How many chunks a message takes.

    Args:
        size: of the message, bytes.
        limit: most bytes of one CHUNK_SEND or CHUNK_RESPONSE.
    """
    rest = size - (limit - FIRST_CHUNK_HEADER)
    return 1 + max(0, -(-rest // (limit - LATER_CHUNK_HEADER)))
