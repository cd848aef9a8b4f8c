"""Large messages in chunks (DSP0274 10.24). ChunkSeqNo has two bytes until 1.3, then four."""

from __future__ import annotations

from typing import Any

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V12, V13, V14
from spdmkit.wire.kinds import Embedded, Uint
from spdmkit.wire.layout import counted, declare, flag, length_of, reserved, rest, u8, u32, word
from spdmkit.wire.predicates import Equals

__all__ = ["ChunkGet", "ChunkResponse", "ChunkSend", "ChunkSendAck"]


def _sequence_number() -> Any:
    return declare(
        Uint(attribute="chunk_seq_no", name="ChunkSeqNo", size=2, until=V13),
        Uint(attribute="chunk_seq_no", name="ChunkSeqNo", size=4, since=V14),
        default=0,
    )


@message(RequestCode.CHUNK_SEND, clause="10.24.1", since=V12)
class ChunkSend(Message):
    """One chunk of a large request."""

    _param1 = word("Param1")
    last_chunk: bool = flag(_param1, 0)
    handle: int = u8()
    chunk_seq_no: int = _sequence_number()
    _reserved = reserved(2, until=V13)
    _chunk_size = length_of("chunk", 4, "ChunkSize")
    large_message_size: int = u32(when=Equals("chunk_seq_no", 0))
    chunk: bytes = counted("_chunk_size", "SPDMchunk")


@message(ResponseCode.CHUNK_SEND_ACK, clause="10.24.1", since=V12)
class ChunkSendAck(Message):
    """Takes a chunk; with the last one comes the response to the large request."""

    _param1 = word("Param1")
    early_error_detected: bool = flag(_param1, 0)
    handle: int = u8()
    chunk_seq_no: int = _sequence_number()
    response: bytes = rest("ResponseToLargeRequest", inner=Embedded())


@message(RequestCode.CHUNK_GET, clause="10.24.2", since=V12)
class ChunkGet(Message):
    """Asks for a chunk of a large response."""

    _param1 = reserved(1)
    handle: int = u8()
    chunk_seq_no: int = _sequence_number()


@message(ResponseCode.CHUNK_RESPONSE, clause="10.24.2", since=V12)
class ChunkResponse(Message):
    """One chunk of a large response."""

    _param1 = word("Param1")
    last_chunk: bool = flag(_param1, 0)
    handle: int = u8()
    chunk_seq_no: int = _sequence_number()
    _reserved = reserved(2, until=V13)
    _chunk_size = length_of("chunk", 4, "ChunkSize")
    large_message_size: int = u32(when=Equals("chunk_seq_no", 0))
    chunk: bytes = counted("_chunk_size", "SPDMchunk")
