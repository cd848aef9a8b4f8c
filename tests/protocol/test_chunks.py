"""Large messages in chunks, both ways, and every limit (DSP0274 10.27)."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import PeerError, ProtocolViolation, SpdmError
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    ChunkGet,
    ChunkResponse,
    ChunkSend,
    ChunkSendAck,
    Context,
    Error,
    ErrorCode,
    GetCertificate,
    GetVersion,
    MeasurementSummaryHashType,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    ResponseCode,
    VendorDefinedRequest,
)
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.chunking import chunks_of
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.measurements import get_measurements, get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import key_exchange
from spdmkit.protocol.requester.vendor import vendor_defined
from spdmkit.protocol.session import MutualAuth

from .support import EVERYTHING, MemoryDevice, Pair, chain, psk_session, refusal
from .test_attestation_flow import verified

VERSIONS = [V12, V13, V14]
E, F, Q = ErrorCode, ResponderFlags, RequesterFlags
SMALLEST = 42
IANA, VENDOR = 4, b"\x01\x02\x03\x04"


def small(version: int, size: int = SMALLEST, **options: Any) -> Pair:
    for side in ("requester", "responder"):
        options.setdefault(side, {}).setdefault("data_transfer_size", size)
    return Pair(versions=(version,), **options)


def largest(pair: Pair) -> int:
    return max(len(frame.body) for _, frame in pair.wire if frame.kind is FrameKind.MESSAGE)


# --- everything through the smallest hole --------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [SMALLEST, 43, 64, 1000])
def test_attestation(version: int, size: int) -> None:
    pair = small(version, size)
    proven = verified(pair)
    pair.run(challenge(pair.link, proven, summary=MeasurementSummaryHashType.ALL))
    blocks = pair.run(get_measurements(pair.link))
    signed = pair.run(get_signed_measurements(pair.link, proven))
    assert len(signed.blocks) == len(blocks)
    assert largest(pair) <= size
    assert pair.requester.connection.vca == pair.responder.connection.vca


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mutual", [MutualAuth.ENCAPSULATED, MutualAuth.GET_DIGESTS])
@pytest.mark.parametrize("clear", [False, True], ids=["encrypted", "in-the-clear"])
def test_a_session_with_mutual_authentication(
    version: int, mutual: MutualAuth, clear: bool
) -> None:
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    extra = int(Q.HANDSHAKE_IN_THE_CLEAR_CAP) if clear else 0
    pair = small(
        version,
        credentials=Credentials([Slot(0, certificates, LocalSigner(key))]),
        requester={"capabilities": requester_capabilities(sessions=True, mutual=True) | extra},
        responder={"capabilities": EVERYTHING | extra, "mutual_auth": mutual},
    )
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    proven = verified(pair)
    opened = pair.run(key_exchange(pair.link, proven))
    (session,) = pair.responder.connection.sessions.values()
    assert session.authenticated_peer
    pair.run(get_signed_measurements(opened.link, proven))
    assert largest(pair) <= SMALLEST


def test_mutual_authentication_without_chunks() -> None:
    """A requester's chain in portions that fit: the encapsulation takes its part of the room."""
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    flags = int(requester_capabilities(sessions=True, mutual=True)) & ~Q.CHUNK_CAP
    pair = small(
        V12,
        600,
        credentials=Credentials([Slot(0, certificates, LocalSigner(key))]),
        requester={"capabilities": flags},
        responder={
            "capabilities": EVERYTHING & ~F.CHUNK_CAP,
            "mutual_auth": MutualAuth.ENCAPSULATED,
        },
    )
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    pair.run(key_exchange(pair.link, verified(pair)))
    (session,) = pair.responder.connection.sessions.values()
    assert session.authenticated_peer


@pytest.mark.parametrize("version", [V13, V14])
@pytest.mark.parametrize("in_session", [False, True])
def test_the_measurement_log(version: int, in_session: bool) -> None:
    class Logging(MemoryDevice):
        def measurement_log(self, algorithm: Any) -> bytes:
            return bytes(range(256)) * 9

    pair = small(version, device=Logging())
    pair.run(negotiate(pair.link))
    link = psk_session(pair) if in_session else pair.link
    assert pair.run(get_measurement_log(link)) == bytes(range(256)) * 9
    lonely = Pair(
        Logging(),
        versions=(version,),
        requester={"data_transfer_size": 500, "capabilities": 0},
    )
    lonely.run(negotiate(lonely.link))
    assert lonely.run(get_measurement_log(lonely.link)) == bytes(range(256)) * 9
    assert largest(lonely) <= 500


@pytest.mark.parametrize("version", VERSIONS)
def test_signatures_larger_than_a_transfer(version: int) -> None:
    pair = small(version, 100, device=MemoryDevice("ecdsa-p521"))
    pair.run(challenge(pair.link, verified(pair)))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_only_the_sender_cannot_hold(version: int) -> None:
    pair = Pair(
        versions=(version,),
        requester={"transmit_size": 50},
        responder={"transmit_size": 60},
    )
    proven = verified(pair)
    pair.run(challenge(pair.link, proven))
    sent = [len(frame.body) for who, frame in pair.wire if who == "requester"]
    assert max(sent) <= 50


@pytest.mark.parametrize("version", VERSIONS)
def test_handles_go_by_one_and_wrap(version: int) -> None:
    pair = small(version, 64)
    pair.run(negotiate(pair.link))
    pair.requester.connection._handle = pair.responder.connection._handle = 253
    for _ in range(4):
        pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(100)))
    sends = [f.body for who, f in pair.wire if who == "requester"]
    handles = [b[3] for b in sends if b[1] == RequestCode.CHUNK_SEND and not any(b[4:6])]
    assert handles == [254, 255, 0, 1]
    gets = [b[3] for b in sends if b[1] == RequestCode.CHUNK_GET and not any(b[4:6])]
    assert gets == [254, 255, 0, 1]


# --- by hand -------------------------------------------------------------------------------------


def context(pair: Pair) -> Context:
    return pair.requester.connection.context


def chunk(pair: Pair, **fields: Any) -> bytes:
    return pair.raw(ChunkSend(**fields).encode(context(pair)))


def request(pair: Pair, size: int = 100) -> bytes:
    whole = VendorDefinedRequest(standard_id=IANA, vendor_id=VENDOR, payload=b"")
    room = size - len(whole.encode(context(pair)))
    whole.payload = b"U" * room
    return whole.encode(context(pair))


def is_error(answer: bytes, code: int) -> bool:
    return answer[1:3] == bytes((ResponseCode.ERROR, code))


@pytest.fixture(params=VERSIONS)
def pair(request: pytest.FixtureRequest) -> Pair:
    made = small(request.param, 64)
    made.run(negotiate(made.link))
    return made


def begin(pair: Pair, message: bytes, handle: int = 7, size: int = 48) -> bytes:
    """The first chunk of a message, taken; what comes after it."""
    answer = chunk(
        pair,
        handle=handle,
        chunk_seq_no=0,
        large_message_size=len(message),
        chunk=message[:size],
    )
    ack, _ = ChunkSendAck.parse(answer, context(pair))
    assert (ack.handle, ack.chunk_seq_no, ack.response) == (handle, 0, b"")
    return message[size:]


class TestLargeRequests:
    def test_the_response_comes_with_the_last_chunk(self, pair: Pair) -> None:
        rest = begin(pair, request(pair, 80))
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=rest, last_chunk=True)
        # The echo and the acknowledgement together exceed one transfer.
        assert is_error(answer, E.LARGE_RESPONSE)

    def test_a_retry_of_the_chunk_just_sent(self, pair: Pair) -> None:
        message = request(pair, 150)
        rest = begin(pair, message)
        begin(pair, message)
        assert not is_error(
            chunk(pair, handle=7, chunk_seq_no=1, chunk=rest[:52]), E.INVALID_REQUEST
        )
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=rest[:52])
        assert answer[1] == ResponseCode.CHUNK_SEND_ACK
        answer = chunk(pair, handle=7, chunk_seq_no=2, chunk=rest[52:], last_chunk=True)
        assert is_error(answer, E.LARGE_RESPONSE)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"handle": 8, "chunk_seq_no": 1},
            {"handle": 7, "chunk_seq_no": 2},
            {"handle": 7, "chunk_seq_no": 0, "large_message_size": 150},
        ],
        ids=["handle", "a gap", "backwards with other content"],
    )
    def test_out_of_order(self, pair: Pair, wrong: dict[str, int]) -> None:
        rest = begin(pair, request(pair, 150))
        assert is_error(chunk(pair, **wrong, chunk=rest[:48]), E.INVALID_REQUEST)
        # The transfer is over: its next chunk belongs to nothing.
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=rest[:52])
        assert is_error(answer, E.INVALID_REQUEST)
        pair.run(get_digests(pair.link))

    @pytest.mark.parametrize(
        ("sizes", "last"),
        [((48, 43), True), ((48, 41), True), ((48, 42), False), ((48, 30), True)],
        ids=["too much", "too little", "whole and not last", "last and not whole"],
    )
    def test_sizes_that_do_not_add_up(self, pair: Pair, sizes: tuple[int, int], last: bool) -> None:
        message = request(pair, 90)
        begin(pair, message, size=sizes[0])
        part = (message + bytes(9))[sizes[0] : sum(sizes)]
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=part, last_chunk=last)
        assert is_error(answer, E.INVALID_REQUEST)

    def test_a_chunk_that_is_too_large(self, pair: Pair) -> None:
        message = request(pair, 150)
        answer = chunk(pair, handle=7, chunk_seq_no=0, large_message_size=150, chunk=message[:49])
        assert is_error(answer, E.REQUEST_TOO_LARGE)

    def test_a_chunk_that_is_too_small(self, pair: Pair) -> None:
        message = request(pair, 150)
        answer = chunk(pair, handle=7, chunk_seq_no=0, large_message_size=150, chunk=message[:25])
        assert is_error(answer, E.INVALID_REQUEST)

    def test_a_chunk_that_is_empty(self, pair: Pair) -> None:
        answer = chunk(pair, handle=7, chunk_seq_no=0, large_message_size=150, last_chunk=True)
        assert is_error(answer, E.INVALID_REQUEST)

    @pytest.mark.parametrize("size", [0, 0x10_0001, 0xFFFF_FFFF])
    def test_large_message_size(self, pair: Pair, size: int) -> None:
        answer = chunk(pair, handle=7, chunk_seq_no=0, large_message_size=size, chunk=bytes(48))
        wanted = E.REQUEST_TOO_LARGE if size else E.INVALID_REQUEST
        assert is_error(answer, wanted)

    def test_a_first_chunk_that_is_not_the_first(self, pair: Pair) -> None:
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=bytes(48))
        assert is_error(answer, E.INVALID_REQUEST)

    @pytest.mark.parametrize(
        "inner",
        [RequestCode.GET_VERSION, RequestCode.GET_CAPABILITIES, RequestCode.CHUNK_GET],
    )
    def test_what_chunks_may_not_carry(self, pair: Pair, inner: RequestCode) -> None:
        version = 0x10 if inner is RequestCode.GET_VERSION else context(pair).version
        rest = begin(pair, bytes((version, inner)) + bytes(78))
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=rest, last_chunk=True)
        ack, _ = ChunkSendAck.parse(answer, context(pair))
        assert is_error(ack.response, E.UNEXPECTED_REQUEST)

    def test_what_is_wrong_inside_is_answered_inside(self, pair: Pair) -> None:
        rest = begin(pair, bytes((context(pair).version, 0x55)) + bytes(78))
        answer = chunk(pair, handle=7, chunk_seq_no=1, chunk=rest, last_chunk=True)
        ack, _ = ChunkSendAck.parse(answer, context(pair))
        assert is_error(ack.response, E.UNSUPPORTED_REQUEST)

    @pytest.mark.parametrize("code", ["digests", "chunk get"])
    def test_another_request_in_between(self, pair: Pair, code: str) -> None:
        rest = begin(pair, request(pair, 80))
        if code == "digests":
            answer = pair.raw(bytes((context(pair).version, 0x81, 0, 0)))
        else:
            answer = pair.raw(ChunkGet(handle=1).encode(context(pair)))
        assert is_error(answer, E.UNEXPECTED_REQUEST)
        # It does not interrupt the transfer (10.27).
        late = chunk(pair, handle=7, chunk_seq_no=1, chunk=rest, last_chunk=True)
        assert is_error(late, E.LARGE_RESPONSE)
        pair.run(get_digests(pair.link))

    def test_get_version_ends_a_transfer(self, pair: Pair) -> None:
        begin(pair, request(pair, 80))
        raw = GetVersion().encode(Context(version=0x10))
        assert pair.raw(raw)[1] == ResponseCode.VERSION
        assert pair.responder._incoming is None

    def test_from_another_session(self, pair: Pair) -> None:
        link = psk_session(pair)
        begin(pair, request(pair, 80))
        assert link.session is not None
        exchange = vendor_defined(link, IANA, VENDOR, bytes(100))
        assert refusal(pair, exchange) is E.INVALID_REQUEST

    def test_in_one_piece_and_too_large(self, pair: Pair) -> None:
        assert is_error(pair.raw(request(pair, 65)), E.REQUEST_TOO_LARGE)
        # Zeros after a message are a transport's padding and no part of it.
        assert not is_error(
            pair.raw(GetCertificate().encode(context(pair)) + bytes(64)), E.REQUEST_TOO_LARGE
        )

    def test_not_ready_comes_inside(self, pair: Pair) -> None:
        """ResponseNotReady answers the large request, never CHUNK_SEND (10.27.3)."""
        rest = begin(pair, request(pair, 80))
        last = ChunkSend(handle=7, chunk_seq_no=1, chunk=rest, last_chunk=True)
        frame = Frame(FrameKind.MESSAGE, last.encode(context(pair)))
        pair.responder.receive(frame, pair.clock.now)
        (job,) = pair.responder.work()
        pair.responder.on_time(pair.clock.now + 2)
        (answer,) = pair.responder.outgoing()
        ack, _ = ChunkSendAck.parse(answer.body, context(pair))
        assert is_error(ack.response, E.RESPONSE_NOT_READY)
        error, _ = Error.parse(ack.response, context(pair))
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        token = error.not_ready().token
        ready = bytes((context(pair).version, 0xFF, RequestCode.VENDOR_DEFINED_REQUEST, token))
        assert is_error(pair.raw(ready), E.LARGE_RESPONSE)


def fetch(pair: Pair, **fields: Any) -> bytes:
    return pair.raw(ChunkGet(**fields).encode(context(pair)))


@pytest.fixture
def waiting(pair: Pair) -> tuple[Pair, int]:
    """A large response that waits, and its handle."""
    answer = pair.raw(GetCertificate(length=300).encode(context(pair)))
    assert is_error(answer, E.LARGE_RESPONSE)
    error, _ = Error.parse(answer, context(pair))
    return pair, error.handle()


class TestLargeResponses:
    def test_chunk_by_chunk_with_retries(self, waiting: tuple[Pair, int]) -> None:
        pair, handle = waiting
        whole, sequence = b"", 0
        while True:
            answer = fetch(pair, handle=handle, chunk_seq_no=sequence)
            assert fetch(pair, handle=handle, chunk_seq_no=sequence) == answer
            assert len(answer) <= 64
            part, _ = ChunkResponse.parse(answer, context(pair))
            whole += part.chunk
            if part.last_chunk:
                break
            assert len(answer) >= SMALLEST
            sequence += 1
        assert (whole[1], len(whole)) == (ResponseCode.CERTIFICATE, 308)
        pair.run(get_digests(pair.link))
        assert is_error(fetch(pair, handle=handle, chunk_seq_no=0), E.UNEXPECTED_REQUEST)

    @pytest.mark.parametrize("wrong", [{"chunk_seq_no": 1}, {"handle": 99}])
    def test_mistakes_do_not_end_it(self, waiting: tuple[Pair, int], wrong: dict[str, int]) -> None:
        pair, handle = waiting
        answer = fetch(pair, **{"handle": handle, "chunk_seq_no": 0, **wrong})
        assert is_error(answer, E.INVALID_REQUEST)
        assert fetch(pair, handle=handle)[1] == ResponseCode.CHUNK_RESPONSE

    def test_never_backwards(self, waiting: tuple[Pair, int]) -> None:
        pair, handle = waiting
        fetch(pair, handle=handle, chunk_seq_no=0)
        fetch(pair, handle=handle, chunk_seq_no=1)
        answer = fetch(pair, handle=handle, chunk_seq_no=0)
        assert is_error(answer, E.INVALID_REQUEST)

    @pytest.mark.parametrize("code", ["digests", "chunk send"])
    def test_another_request_in_between(self, waiting: tuple[Pair, int], code: str) -> None:
        pair, handle = waiting
        fetch(pair, handle=handle, chunk_seq_no=0)
        if code == "digests":
            answer = pair.raw(bytes((context(pair).version, 0x81, 0, 0)))
        else:
            answer = chunk(pair, handle=1, chunk_seq_no=0, large_message_size=99, chunk=bytes(48))
        assert is_error(answer, E.UNEXPECTED_REQUEST)
        # It does not interrupt the transfer (10.27).
        assert fetch(pair, handle=handle, chunk_seq_no=1)[1] == ResponseCode.CHUNK_RESPONSE

    def test_a_large_response_that_nobody_fetches_gives_way(
        self, waiting: tuple[Pair, int]
    ) -> None:
        pair, handle = waiting
        digests = pair.raw(bytes((context(pair).version, 0x81, 0, 0)))
        assert not is_error(digests, E.UNEXPECTED_REQUEST)
        assert fetch(pair, handle=handle)[1] == ResponseCode.ERROR

    def test_from_another_session(self, waiting: tuple[Pair, int]) -> None:
        pair, _ = waiting
        link = psk_session(pair)
        answer = pair.raw(bytes((context(pair).version, 0x81, 0, 0)))
        error, _ = Error.parse(answer, context(pair))

        def inside() -> Any:
            message = ChunkGet(handle=error.handle())
            yield from link.ask(message, ChunkResponse)

        assert refusal(pair, inside()) is E.UNEXPECTED_REQUEST

    def test_nothing_waits(self, pair: Pair) -> None:
        assert is_error(fetch(pair, handle=0), E.UNEXPECTED_REQUEST)


@pytest.mark.parametrize("version", VERSIONS)
class TestWithoutChunks:
    def test_a_response_that_is_too_large(self, version: int) -> None:
        flags = int(requester_capabilities()) & ~Q.CHUNK_CAP
        pair = Pair(
            versions=(version,), requester={"data_transfer_size": 64, "capabilities": flags}
        )
        pair.run(negotiate(pair.link))
        with pytest.raises(PeerError) as caught:
            pair.run(get_digests(pair.link))
        assert caught.value.code == E.RESPONSE_TOO_LARGE
        assert int.from_bytes(caught.value.extended, "little") > 64

    def test_chunks_are_refused(self, version: int) -> None:
        flags = EVERYTHING & ~F.CHUNK_CAP
        pair = Pair(versions=(version,), responder={"capabilities": flags})
        pair.run(negotiate(pair.link))
        assert is_error(fetch(pair, handle=0), E.UNSUPPORTED_REQUEST)
        answer = chunk(pair, handle=7, chunk_seq_no=0, large_message_size=99, chunk=bytes(48))
        assert is_error(answer, E.UNSUPPORTED_REQUEST)

    def test_a_request_that_is_too_large(self, version: int) -> None:
        flags = EVERYTHING & ~F.CHUNK_CAP
        pair = Pair(
            versions=(version,), responder={"capabilities": flags, "data_transfer_size": 64}
        )
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="chunks were not negotiated"):
            pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(100)))

    def test_max_message_size(self, version: int) -> None:
        limits = {"data_transfer_size": 64, "max_message_size": 400}
        pair = Pair(versions=(version,), responder=limits)
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="MaxSPDMmsgSize"):
            pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(400)))
        pair = Pair(versions=(version,), requester=limits)
        pair.run(negotiate(pair.link))
        exchange = vendor_defined(pair.link, IANA, VENDOR, bytes(400))
        assert refusal(pair, exchange) is E.RESPONSE_TOO_LARGE


def test_before_1_2_there_are_none() -> None:
    pair = Pair(versions=(V11,))
    pair.run(negotiate(pair.link))
    for code in (RequestCode.CHUNK_SEND, RequestCode.CHUNK_GET):
        assert is_error(pair.raw(bytes((V11, code)) + bytes(14)), E.UNSUPPORTED_REQUEST)


# --- how far a sequence number counts ------------------------------------------------------------


def test_how_many_chunks() -> None:
    assert chunks_of(26, 42) == 1
    assert chunks_of(27, 42) == 2
    assert chunks_of(26 + 30, 42) == 2
    assert chunks_of(26 + 30 + 1, 42) == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_sequence_numbers_of_16_and_32_bits(version: int) -> None:
    """One chunk more than 16 bits count: nothing but 1.4 can carry it."""
    size = 26 + 0x10000 * 30
    limits = {"data_transfer_size": SMALLEST, "max_message_size": 1 << 22}
    assert chunks_of(size, SMALLEST) == 0x10001
    pair = Pair(versions=(version,), requester=limits, responder=limits)
    pair.run(negotiate(pair.link))
    for who in (pair.requester.connection, pair.responder.connection):
        assert who.most_chunks == (1 << 32 if version == V14 else 1 << 16)
    responder = pair.responder
    if version < V14:
        assert is_error(responder._too_large(bytes(size), None), E.RESPONSE_TOO_LARGE)
        exchange = pair.link._send_chunks(bytes(size), SMALLEST)
        with pytest.raises(ProtocolViolation, match="counted"):
            pair.run(exchange)
    else:
        assert is_error(responder._too_large(bytes(size), None), E.LARGE_RESPONSE)
    assert is_error(responder._too_large(bytes(size - 30), None), E.LARGE_RESPONSE)
    large = responder._large
    assert large is not None
    large._sequence, large._offset = 0xFFFF, 26 + 0xFFFE * 30
    last = fetch(pair, handle=large.handle, chunk_seq_no=0xFFFF)
    part, _ = ChunkResponse.parse(last, context(pair))
    assert part.chunk_seq_no == 0xFFFF


# --- a responder that breaks the rules -----------------------------------------------------------


class TestAResponderThatMisbehaves:
    def bent(self, code: int, change: Any, *, version: int = V13) -> Pair:
        pair = small(version, 64)
        pair.run(negotiate(pair.link))

        def bend(who: str, frame: Frame) -> Frame:
            if who == "responder" and frame.body[1] == code:
                return Frame(frame.kind, change(frame.body))
            return frame

        pair.bend = bend
        return pair

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda b: b[:3] + bytes((b[3] ^ 1,)) + b[4:], "another chunk"),
            (lambda b: b[:4] + b"\x05\x00" + b[6:], "another chunk|LargeMessageSize|byte"),
            (lambda b: b[:12] + bytes(4) + b[16:], "0 bytes"),
            (lambda b: b[:12] + b"\xff\xff\xff\x7f" + b[16:], "is refused"),
            (lambda b: b[:12] + b"\x10\0\0\0" + b[16:], "add up"),
            (lambda b: b[:2] + b"\x01" + b[3:], "add up"),
            (lambda b: b[:8] + b"\x08\0\0\0" + b[12:24], "has 24 bytes"),
            (lambda b: b[:8] + b"\x31\0\0\0" + b[12:] + b"x", "has 65 bytes"),
        ],
        ids=["handle", "sequence", "no size", "huge", "too small", "last", "tiny", "too large"],
    )
    def test_chunk_response(self, change: Any, complaint: str) -> None:
        pair = self.bent(ResponseCode.CHUNK_RESPONSE, change)
        with pytest.raises(SpdmError, match=complaint):
            pair.run(get_certificate(pair.link, 0))

    def test_chunks_that_stop(self) -> None:
        error = Error(error_code=E.UNSPECIFIED).encode(Context(version=V13))
        pair = self.bent(ResponseCode.CHUNK_RESPONSE, lambda _body: error)
        with pytest.raises(PeerError):
            pair.run(get_digests(pair.link))

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda b: b[:3] + bytes((b[3] ^ 1,)) + b[4:], "another chunk"),
            (lambda b: b[:4] + b"\x09\x00" + b[6:], "another chunk"),
            (lambda b: b + b"\x13\x01\x00\x00", "before the last chunk"),
            (lambda b: b[:2] + b"\x01" + b[3:] + b"\x13\x01\x00\x00", "without an ERROR"),
        ],
        ids=["handle", "sequence", "early response", "early error that is none"],
    )
    def test_chunk_send_ack(self, change: Any, complaint: str) -> None:
        pair = self.bent(ResponseCode.CHUNK_SEND_ACK, change)
        with pytest.raises(ProtocolViolation, match=complaint):
            pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(200)))

    def test_an_early_error_ends_the_transfer(self) -> None:
        error = Error(error_code=E.UNSPECIFIED).encode(Context(version=V13))
        pair = self.bent(ResponseCode.CHUNK_SEND_ACK, lambda b: b[:2] + b"\x01" + b[3:] + error)
        with pytest.raises(PeerError) as caught:
            pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(200)))
        assert caught.value.code == E.UNSPECIFIED
        sends = [f for who, f in pair.wire if f.body[1] == RequestCode.CHUNK_SEND]
        assert len(sends) == 1

    def test_large_response_inside_an_acknowledgement(self) -> None:
        error = Error.large_response(5).encode(Context(version=V13))
        pair = self.bent(ResponseCode.CHUNK_SEND_ACK, lambda b: b[:2] + b"\x01" + b[3:] + error)
        with pytest.raises(ProtocolViolation, match="LargeResponse inside"):
            pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(200)))

    def test_large_response_without_chunks(self) -> None:
        flags = EVERYTHING & ~F.CHUNK_CAP
        pair = Pair(versions=(V13,), responder={"capabilities": flags})
        pair.run(negotiate(pair.link))
        error = Error.large_response(5).encode(Context(version=V13))
        pair.bend = lambda who, frame: Frame(frame.kind, error) if who == "responder" else frame
        with pytest.raises(ProtocolViolation, match="chunks were not negotiated"):
            pair.run(get_digests(pair.link))


# --- large forms of 1.4 --------------------------------------------------------------------------


def test_large_forms_need_the_capability() -> None:
    flags = EVERYTHING & ~F.LARGE_RESP_CAP
    pair = Pair(versions=(V14,), responder={"capabilities": flags})
    pair.run(negotiate(pair.link))
    large = GetCertificate(large=True, length=100).encode(context(pair))
    assert is_error(pair.raw(large), E.INVALID_REQUEST)
    vendor = VendorDefinedRequest(large=True, standard_id=IANA, vendor_id=VENDOR)
    assert is_error(pair.raw(vendor.encode(context(pair))), E.INVALID_REQUEST)


def big_slot(slot_id: int, key: Any, certificates: tuple[bytes, ...]) -> Slot:
    filler = b"\x30\x82\x17\x70" + bytes(6000)
    whole = (certificates[0],) + (filler,) * 14 + (certificates[-1],)
    return Slot(slot_id, whole, LocalSigner(key))


@pytest.mark.parametrize("capable", [False, True])
def test_a_chain_above_64_kib(capable: bool) -> None:
    device = MemoryDevice()
    device.credentials = Credentials([big_slot(0, device.key, device.certificates)])
    flags = EVERYTHING if capable else EVERYTHING & ~F.LARGE_RESP_CAP
    pair = Pair(device, versions=(V14,), responder={"capabilities": flags})
    pair.run(negotiate(pair.link))
    if not capable:
        assert refusal(pair, get_certificate(pair.link, 0)) is E.DATA_TOO_LARGE
        return
    digests = pair.run(get_digests(pair.link))
    read = pair.run(get_certificate(pair.link, 0, expected_digest=digests.slots[0].digest))
    assert len(read.raw) > 0xFFFF
    portions = [f for who, f in pair.wire if f.body[1] == RequestCode.GET_CERTIFICATE]
    assert [bool(f.body[2] & 0x80) for f in portions][:2] == [False, True]


@pytest.mark.parametrize("version", [V12, V13])
def test_before_1_4_a_chain_above_64_kib_cannot_be_read(version: int) -> None:
    device = MemoryDevice()
    device.credentials = Credentials([big_slot(0, device.key, device.certificates)])
    pair = Pair(device, versions=(version,))
    pair.run(negotiate(pair.link))
    assert refusal(pair, get_certificate(pair.link, 0)) is E.DATA_TOO_LARGE
