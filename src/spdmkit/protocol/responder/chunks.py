"""Large messages in chunks, the responder's side (DSP0274 10.24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    ChunkGet,
    ChunkResponse,
    ChunkSend,
    ChunkSendAck,
    Context,
    ErrorCode,
)
from spdmkit.protocol.chunking import FIRST_CHUNK_HEADER, LATER_CHUNK_HEADER
from spdmkit.protocol.settings import MIN_DATA_TRANSFER_SIZE

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.session import Session

__all__ = ["ChunkedRequest", "ChunkedResponse"]


class ChunkedRequest:
    """A large request as it comes in.

    Attributes:
        carrier: the session it comes in, or None.
        complete: the last chunk is here.
    """

    __slots__ = ("_handle", "_have", "_parts", "_sequence", "_size", "carrier", "complete")

    def __init__(self, carrier: Session | None) -> None:
        self.carrier = carrier
        self.complete = False
        self._handle = 0
        self._sequence = 0
        self._size = 0
        self._have = 0
        self._parts: list[bytes] = []

    def take(self, raw: bytes, carrier: Session | None, connection: Connection) -> bytes:
        """Take one CHUNK_SEND.

        Returns:
            The CHUNK_SEND_ACK for it; empty for the last chunk, whose ACK holds a response.

        Raises:
            ProtocolViolation: out of order, too large, or not adding up; the transfer is over.
            DecodeError: its layout is wrong.
        """
        request = ChunkSend.decode(raw, connection.context)
        settings = connection.settings
        if carrier is not self.carrier:
            raise ProtocolViolation("a chunk from outside the session of its transfer")
        if len(raw) > settings.data_transfer_size:
            raise ProtocolViolation(
                "a chunk exceeds DataTransferSize", error_code=ErrorCode.REQUEST_TOO_LARGE
            )
        if not request.last_chunk and len(raw) < MIN_DATA_TRANSFER_SIZE:
            raise ProtocolViolation("a chunk before the last has fewer than 42 bytes")
        if self._sequence == 0:
            self._begin(request, connection)
        elif request.handle != self._handle:
            raise ProtocolViolation("the Handle changed within a large request")
        elif self._repeats(request):
            return self._ack(b"", connection.context)
        if request.chunk_seq_no != self._sequence:
            raise ProtocolViolation("chunks out of order")
        self._have += len(request.chunk)
        if self._have > self._size or (self._have == self._size) != bool(request.last_chunk):
            raise ProtocolViolation("the chunks do not add up to LargeMessageSize")
        if not request.chunk:
            raise ProtocolViolation("an empty chunk")
        self._parts.append(request.chunk)
        self._sequence += 1
        self.complete = bool(request.last_chunk)
        return b"" if self.complete else self._ack(b"", connection.context)

    def _repeats(self, request: ChunkSend) -> bool:
        """The same chunk as the last one: a retry, the acknowledgement was lost (10.27.3)."""
        return (
            request.chunk_seq_no == self._sequence - 1
            and not request.last_chunk
            and request.chunk == self._parts[-1]
        )

    def _begin(self, request: ChunkSend, connection: Connection) -> None:
        size = request.large_message_size
        if size > connection.own.max_message_size:
            raise ProtocolViolation(
                "LargeMessageSize exceeds MaxSPDMmsgSize", error_code=ErrorCode.REQUEST_TOO_LARGE
            )
        # It may be below DataTransferSize: the sender may have no room to send it whole (10.27).
        self._handle = request.handle
        self._size = size

    def message(self) -> bytes:
        """The whole request."""
        return b"".join(self._parts)

    def acknowledge(self, response: bytes, context: Context) -> bytes:
        """The last CHUNK_SEND_ACK, with the response to the large request in it."""
        return self._ack(response, context)

    def _ack(self, response: bytes, context: Context) -> bytes:
        return ChunkSendAck(
            handle=self._handle, chunk_seq_no=self._sequence - 1, response=response
        ).encode(context)


class ChunkedResponse:
    """A large response as it is fetched.

    Attributes:
        handle: names the transfer.
        carrier: the session it belongs to, or None.
        complete: the last chunk was handed out.
    """

    __slots__ = ("_latest", "_message", "_offset", "_sequence", "carrier", "complete", "handle")

    def __init__(self, handle: int, message: bytes, carrier: Session | None) -> None:
        self.handle = handle
        self.carrier = carrier
        self.complete = False
        self._message = message
        self._offset = 0
        self._sequence = 0
        self._latest = b""

    @property
    def under_way(self) -> bool:
        """A chunk was fetched, and not the last one."""
        return self._sequence > 0 and not self.complete

    def next(self, raw: bytes, context: Context, limit: int) -> bytes:
        """Answer one CHUNK_GET with a CHUNK_RESPONSE of at most `limit` bytes.

        Raises:
            ProtocolViolation: another handle, out of order, or beyond the last chunk.
            DecodeError: its layout is wrong.
        """
        request = ChunkGet.decode(raw, context)
        if request.handle == self.handle and request.chunk_seq_no == self._sequence - 1:
            return self._latest  # a retry: the answer was lost (10.27.3)
        if self.complete:
            raise ProtocolViolation(
                "no large response waits", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        if request.handle != self.handle or request.chunk_seq_no != self._sequence:
            raise ProtocolViolation("CHUNK_GET for another chunk than the next")
        header = FIRST_CHUNK_HEADER if self._sequence == 0 else LATER_CHUNK_HEADER
        chunk = self._message[self._offset : self._offset + limit - header]
        self._offset += len(chunk)
        self.complete = self._offset == len(self._message)
        response = ChunkResponse(
            last_chunk=self.complete,
            handle=self.handle,
            chunk_seq_no=self._sequence,
            large_message_size=len(self._message) if self._sequence == 0 else 0,
            chunk=chunk,
        )
        self._sequence += 1
        self._latest = response.encode(context)
        if self.complete:
            self._message = b""
        return self._latest
