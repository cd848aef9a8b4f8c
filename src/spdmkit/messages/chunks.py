"""Large messages in chunks (DSP0274 10.27). ChunkSeqNo has two bytes until 1.3, then four."""

from __future__ import annotations

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V12, V13, V14
from spdmkit.wire.kinds import Embedded
from spdmkit.wire.layout import counted, flag, length_of, one_of, reserved, rest, u8, u16, u32, word
from spdmkit.wire.predicates import Equals

__all__ = ["ChunkGet", "ChunkResponse", "ChunkSend", "ChunkSendAck"]


@message(RequestCode.CHUNK_SEND, clause="10.27.1", since=V12)
class ChunkSend(Message):
    """CHUNK_SEND: one chunk of a large request."""

    _param1 = word("Param1")
    last_chunk: bool = flag(_param1, 0)
    handle: int = u8()
    chunk_seq_no: int = one_of(u16(until=V13), u32(since=V14))
    _reserved = reserved(2, until=V13)
    _chunk_size = length_of("chunk", 4, "ChunkSize")
    large_message_size: int = u32(when=Equals("chunk_seq_no", 0))
    chunk: bytes = counted("_chunk_size", "SPDMchunk")


@message(ResponseCode.CHUNK_SEND_ACK, clause="10.27.1", since=V12)
class ChunkSendAck(Message):
    """CHUNK_SEND_ACK: takes a chunk; with the last one comes the response to the large request.

    From 1.4 on the response begins at byte 8. The table of 1.4.0 still says 6, which does not
    agree with the four bytes of its own ChunkSeqNo.
    """

    _param1 = word("Param1")
    early_error_detected: bool = flag(_param1, 0)
    handle: int = u8()
    chunk_seq_no: int = one_of(u16(until=V13), u32(since=V14))
    response: bytes = rest("ResponseToLargeRequest", inner=Embedded())


@message(RequestCode.CHUNK_GET, clause="10.27.2", since=V12)
class ChunkGet(Message):
    """CHUNK_GET: asks for a chunk of a large response."""

    _param1 = reserved(1)
    handle: int = u8()
    chunk_seq_no: int = one_of(u16(until=V13), u32(since=V14))


@message(ResponseCode.CHUNK_RESPONSE, clause="10.27.2", since=V12)
class ChunkResponse(Message):
    """CHUNK_RESPONSE: one chunk of a large response."""

    _param1 = word("Param1")
    last_chunk: bool = flag(_param1, 0)
    handle: int = u8()
    chunk_seq_no: int = one_of(u16(until=V13), u32(since=V14))
    _reserved = reserved(2, until=V13)
    _chunk_size = length_of("chunk", 4, "ChunkSize")
    large_message_size: int = u32(when=Equals("chunk_seq_no", 0))
    chunk: bytes = counted("_chunk_size", "SPDMchunk")
