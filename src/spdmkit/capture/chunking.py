"""Large messages out of their chunks (DSP0274 10.24), as a listener puts them together."""

from __future__ import annotations

from spdmkit.capture.events import ConversationEvent
from spdmkit.messages import ChunkResponse, ChunkSend

__all__ = ["MAX_LARGE_MESSAGE", "ChunkAssembler"]

MAX_LARGE_MESSAGE = 1 << 21
"""Bytes of a message that is put together."""


class ChunkAssembler:
    """The large message of one direction that is on its way."""

    def __init__(self) -> None:
        self._buffer: bytearray | None = None
        self._handle = 0
        self._size = 0
        self._expected = 0

    def reset(self) -> None:
        """Forget what is on its way."""
        self._buffer = None

    def take(self, message: ChunkSend | ChunkResponse, event: ConversationEvent) -> bytes | None:
        """Take a chunk; gives the large message when it was the last.

        Args:
            message: the chunk.
            event: its event, which is told what is wrong with it.
        """
        number, data = message.chunk_seq_no, message.chunk
        if number == 0:
            self._buffer = bytearray()
            self._handle, self._size = message.handle, message.large_message_size
            self._expected = 0
        buffer = self._buffer
        if buffer is None:
            event.notes.append("the first chunk is not in the capture")
            return None
        if number == self._expected - 1:
            event.notes.append("sent again")
            return None
        total = len(buffer) + len(data)
        problem = ""
        if message.handle != self._handle:
            problem = f"handle {message.handle} instead of {self._handle}"
        elif number != self._expected:
            problem = f"chunk {number} instead of {self._expected}"
        elif total > min(self._size, MAX_LARGE_MESSAGE):
            problem = f"the chunks are longer than LargeMessageSize, {self._size} bytes"
        elif message.last_chunk and total != self._size:
            problem = f"the last chunk ends at {total} of {self._size} bytes"
        if problem:
            event.error = problem
            self._buffer = None
            return None
        self._expected += 1
        buffer += data
        if not message.last_chunk:
            return None
        self._buffer = None
        return bytes(buffer)
