"""CHUNK_SEND and CHUNK_GET (DSP0274 10.27)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Bend, Misbehaviour, Scene, answering, putting
from spdmkit.conformance.talk import Talk
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V12,
    V14,
    ChunkGet,
    ChunkResponse,
    ChunkSend,
    Error,
    ErrorCode,
    GetCertificate,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.certificates import get_certificate

CASES = Cases("chunks", "DSP0274 10.27")
R = RequestCode
E = ErrorCode
F = ResponderFlags
CHUNKS = F.CHUNK_CAP | F.CERT_CAP
SMALL = 256
"""Our DataTransferSize: smaller than any chain."""
RESPONSE = ResponseCode.CHUNK_RESPONSE


def _large(talk: Talk) -> Exchange[int]:
    """Ask for more than fits one transfer; the handle of the large response."""
    answer = yield from talk.ask(GetCertificate(slot_id=0, offset=0, length=0xFFFF))
    error, _ = Error.parse(answer, talk.connection.context)
    large = answer[1] == ResponseCode.ERROR and error.error_code == E.LARGE_RESPONSE
    talk.need(large, "what does not fit DataTransferSize is announced as LargeResponse")
    talk.need(len(error.extended) == 1, "LargeResponse brings a handle")
    return error.extended[0]


@CASES.case(
    "large-response",
    "a large response can be fetched in chunks, and is whole",
    needs=CHUNKS,
    since=V12,
    transfer_size=SMALL,
    breaks=answering(RESPONSE, lambda sent, _r, scene: _lost(sent, scene)),
)
def large_response(talk: Talk) -> Exchange[None]:
    try:
        chain = yield from get_certificate(talk.outside, 0)
    except SpdmError as error:
        talk.need(False, f"the chain can be fetched: {error}")
        return
    talk.check(len(chain.raw) > SMALL, "the chain does not fit one transfer")


def _lost(sent: bytearray, scene: Scene) -> bytearray:
    if scene.count == 2:
        sent[-1] ^= 1
        sent[3] ^= 1
    return sent


def _first(change: Bend) -> Misbehaviour:
    return answering(RESPONSE, lambda s, r, scene: change(s, r, scene) if scene.count == 1 else s)


@CASES.case(
    "first-chunk",
    "the first chunk has the handle, number 0, and the size of the whole",
    needs=CHUNKS,
    since=V12,
    transfer_size=SMALL,
    breaks=_first(putting(3, 0xEE)),
)
def first_chunk(talk: Talk) -> Exchange[None]:
    handle = yield from _large(talk)
    message = yield from talk.expect(ChunkGet(handle=handle, chunk_seq_no=0), ChunkResponse)
    talk.equal(message.handle, handle, "Handle")
    talk.equal(message.chunk_seq_no, 0, "ChunkSeqNo")
    talk.check(message.large_message_size > len(message.chunk), "there is more than one chunk")
    fits = len(message.encode(talk.connection.context)) <= SMALL
    talk.check(fits, "CHUNK_RESPONSE fits DataTransferSize")


@CASES.case(
    "sizes",
    "the chunks add up to the size that the first one gives, and the last one says so",
    needs=CHUNKS,
    since=V12,
    transfer_size=SMALL,
    breaks=_first(putting(2, 1)),
)
def sizes(talk: Talk) -> Exchange[None]:
    handle = yield from _large(talk)
    total, have, number = 0, 0, 0
    while number < 4096:
        asked = ChunkGet(handle=handle, chunk_seq_no=number)
        message = yield from talk.expect(asked, ChunkResponse)
        talk.equal(message.chunk_seq_no, number, "ChunkSeqNo")
        total = message.large_message_size if number == 0 else total
        have += len(message.chunk)
        talk.need(bool(message.chunk) and have <= total, "the chunks do not exceed the size")
        talk.equal(bool(message.last_chunk), have == total, "LastChunk")
        if message.last_chunk or have == total:
            break
        number += 1
    talk.equal(have, total, "the size of all chunks")


def _number(version: int) -> int:
    return 4 if version >= V14 else 2


def _any_chunk(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    """A chunk for whoever asks."""
    if sent[1] == ResponseCode.ERROR and asked[1] == R.CHUNK_GET:
        return bytes((asked[0], RESPONSE, 1, asked[3])) + bytes(16)
    return sent


def _wrong(name: str, title: str, handle_change: int, number: int) -> None:
    def script(talk: Talk) -> Exchange[None]:
        handle = yield from _large(talk)
        asked = ChunkGet(handle=(handle + handle_change) & 0xFF, chunk_seq_no=number)
        yield from talk.expect_refusal(asked)

    CASES.case(
        name,
        title,
        needs=CHUNKS,
        since=V12,
        transfer_size=SMALL,
        breaks=Misbehaviour(response=_any_chunk),
    )(script)


_wrong("wrong-handle", "CHUNK_GET with another handle is refused", 1, 0)
_wrong("skipped-chunk", "CHUNK_GET with a number that is not the next is refused", 0, 3)


@CASES.case(
    "nothing-waits",
    "CHUNK_GET when nothing waits is refused",
    needs=CHUNKS,
    since=V12,
    breaks=Misbehaviour(response=_any_chunk),
)
def nothing_waits(talk: Talk) -> Exchange[None]:
    yield from talk.expect_refusal(ChunkGet(handle=1, chunk_seq_no=0))


@CASES.case(
    "interrupted",
    "another request in the middle of a transfer is refused, and the transfer goes on",
    needs=CHUNKS,
    since=V12,
    transfer_size=SMALL,
    breaks=Misbehaviour(response=lambda sent, asked, _s: _distracted(sent, asked)),
)
def interrupted(talk: Talk) -> Exchange[None]:
    handle = yield from _large(talk)
    yield from talk.expect(ChunkGet(handle=handle, chunk_seq_no=0), ChunkResponse)
    answer = yield from talk.ask(talk.header(R.GET_DIGESTS))
    talk.refused(answer, E.UNEXPECTED_REQUEST)
    message = yield from talk.expect(ChunkGet(handle=handle, chunk_seq_no=1), ChunkResponse)
    talk.equal(message.chunk_seq_no, 1, "ChunkSeqNo")


def _distracted(sent: bytearray, asked: bytes) -> bytes | bytearray:
    """The transfer does not survive."""
    if asked[1] != R.CHUNK_GET or not any(asked[4:]):
        return sent
    return bytes((asked[0], ResponseCode.ERROR, E.UNEXPECTED_REQUEST, 0))


def _taken(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    """Take any chunk."""
    if asked[1] != R.CHUNK_SEND:
        return sent
    number = asked[4 : 4 + _number(asked[0])]
    return bytes((asked[0], ResponseCode.CHUNK_SEND_ACK, 0, asked[3])) + number


def _refused(
    name: str, title: str, *, number: int = 0, size: int = 600, chunk: bytes = bytes(200)
) -> None:
    def script(talk: Talk) -> Exchange[None]:
        whole = size if number == 0 else 0
        sent = ChunkSend(handle=1, chunk_seq_no=number, large_message_size=whole, chunk=chunk)
        answer = yield from talk.ask(sent)
        early = answer[1] == ResponseCode.CHUNK_SEND_ACK and bool(answer[2] & 1)
        if early:
            talk.check(True, "the chunk is refused by EarlyErrorDetected")
        else:
            talk.refused(answer)

    CASES.case(name, title, needs=CHUNKS, since=V12, breaks=Misbehaviour(response=_taken))(script)


_refused("first-number", "a first chunk whose number is not 0 is refused", number=1)
_refused(
    "more-than-said",
    "a chunk longer than the whole message is refused",
    size=100,
)
_refused(
    "too-large",
    "a message larger than MaxSPDMmsgSize is refused",
    size=0xFFFF_FFF0,
)
_refused("empty", "a chunk of nothing is refused", chunk=b"")
