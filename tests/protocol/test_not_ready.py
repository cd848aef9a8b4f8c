"""Busy, ResponseNotReady and RESPOND_IF_READY, from both sides (DSP0274 10.13, 10.14, table 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from spdmkit.errors import PeerError, ProtocolViolation
from spdmkit.messages import V13, ErrorCode, GetDigests, RequestCode, ResponseCode
from spdmkit.protocol.actions import Closed, Done, Sleep, perform, sleep
from spdmkit.protocol.endpoint import Job
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.negotiate import negotiate

from .support import MemoryDevice, Pair
from .test_attestation_flow import verified
from .test_session_life import opened

E = ErrorCode


def error(code: int, extended: bytes = b"", version: int = V13) -> bytes:
    return bytes((version, ResponseCode.ERROR, code, 0)) + extended


def not_ready(
    code: int = RequestCode.GET_DIGESTS, *, exponent: int = 10, token: int = 7, rdtm: int = 10
) -> bytes:
    return error(E.RESPONSE_NOT_READY, bytes((exponent, code, token, rdtm)))


def answering(pair: Pair, answers: Iterator[bytes | None]) -> None:
    """The responder's next answers are these; None lets its own through."""

    def bend(who: str, frame: Frame) -> Frame:
        if who != "responder":
            return frame
        replaced = next(answers, None)
        return frame if replaced is None else Frame(FrameKind.MESSAGE, replaced)

    pair.bend = bend


def ready() -> Pair:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))
    return pair


class TestRequester:
    def test_busy_is_asked_again_and_in_the_end_given_up(self) -> None:
        pair = ready()
        answering(pair, iter([error(E.BUSY)] * 3))
        start = pair.clock.now
        assert pair.run(get_digests(pair.link)).slots
        assert 0.2 < pair.clock.now - start < 2
        answering(pair, iter([error(E.BUSY)] * 100))
        with pytest.raises(PeerError) as caught:
            pair.run(get_digests(pair.link))
        assert caught.value.code == E.BUSY

    def test_not_ready_is_asked_again_after_rdt(self) -> None:
        pair = ready()
        digests = iter([not_ready(exponent=20), not_ready(exponent=20)])

        def bend(who: str, frame: Frame) -> Frame:
            if who == "requester":
                if frame.body[1] == RequestCode.RESPOND_IF_READY:
                    assert frame.body[2:4] == bytes((RequestCode.GET_DIGESTS, 7))
                    return Frame(frame.kind, GetDigests().encode(pair.link.connection.context))
                return frame
            return Frame(frame.kind, next(digests, frame.body))

        pair.bend = bend
        start = pair.clock.now
        assert pair.run(get_digests(pair.link)).slots
        assert 2 <= pair.clock.now - start <= 4

    def test_not_ready_for_ever(self) -> None:
        pair = ready()
        answering(pair, iter([not_ready(exponent=20, rdtm=4)] * 100))
        start = pair.clock.now
        with pytest.raises(PeerError, match="WTMax"):
            pair.run(get_digests(pair.link))
        assert 4 <= pair.clock.now - start <= 9

    def test_an_error_while_it_was_not_ready(self) -> None:
        pair = ready()
        answering(pair, iter([not_ready(), error(E.UNSPECIFIED)]))
        with pytest.raises(PeerError) as caught:
            pair.run(get_digests(pair.link))
        assert caught.value.code == E.UNSPECIFIED

    @pytest.mark.parametrize(
        ("answers", "complaint"),
        [
            ([not_ready(RequestCode.CHALLENGE)], "not the one sent"),
            ([not_ready(), not_ready(token=8)], "token"),
            ([not_ready(), not_ready(RequestCode.CHALLENGE)], "token"),
        ],
    )
    def test_not_ready_that_does_not_fit(self, answers: list[bytes], complaint: str) -> None:
        pair = ready()
        answering(pair, iter(answers))
        with pytest.raises(ProtocolViolation, match=complaint):
            pair.run(get_digests(pair.link))

    def test_get_version_is_never_not_ready(self) -> None:
        pair = ready()
        answering(pair, iter([not_ready(RequestCode.GET_VERSION)] * 2))
        with pytest.raises(PeerError):
            pair.run(negotiate(pair.link))


class TestResponder:
    """A handler that is slow: an HSM that signs."""

    def slow(self) -> tuple[Pair, Job]:
        """CHALLENGE is under way, and its signature not made."""
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        proven = verified(pair)
        self.ticket = pair.requester.submit(challenge(pair.link, proven))
        (frame,) = pair.requester.outgoing()
        pair.responder.receive(frame, pair.clock.now)
        assert not pair.responder.outgoing()
        (job,) = pair.responder.work()
        return pair, job

    def say_not_ready(self, pair: Pair) -> bytes:
        late = pair.responder.next_deadline()
        assert late is not None
        assert late - pair.clock.now < 1.1  # CT with exponent 20
        pair.responder.on_time(late)
        pair.clock.now = late
        (frame,) = pair.responder.outgoing()
        assert frame.body[1:3] == bytes((ResponseCode.ERROR, E.RESPONSE_NOT_READY))
        assert pair.responder.next_deadline() is None
        return frame.body

    def asked(self, pair: Pair, message: bytes) -> bytes:
        pair.responder.receive(Frame(FrameKind.MESSAGE, message), pair.clock.now)
        (frame,) = pair.responder.outgoing()
        return frame.body

    def test_the_whole_way(self) -> None:
        pair, job = self.slow()
        pair.requester.receive(Frame(FrameKind.MESSAGE, self.say_not_ready(pair)), pair.clock.now)
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        assert not pair.responder.outgoing()  # nobody has asked for it yet
        while not self.ticket.done:
            if not pair.step():
                deadline = pair.requester.next_deadline()
                assert deadline is not None
                pair.clock.now = max(pair.clock.now, deadline)
                pair.requester.on_time(pair.clock.now)
        assert self.ticket.result().slot_id == 0

    def test_asked_too_early_it_is_still_not_ready(self) -> None:
        pair, job = self.slow()
        first = self.say_not_ready(pair)
        ask = bytes((V13, RequestCode.RESPOND_IF_READY, RequestCode.CHALLENGE, first[6]))
        assert self.asked(pair, ask) == first
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        assert self.asked(pair, ask)[1] == ResponseCode.CHALLENGE_AUTH
        # The answer is given once.
        assert self.asked(pair, ask)[2] == E.UNEXPECTED_REQUEST

    @pytest.mark.parametrize(("code", "token"), [(0x83, 0xEE), (0x81, None), (0xE0, None)])
    def test_another_token_or_request(self, code: int, token: int | None) -> None:
        pair, job = self.slow()
        first = self.say_not_ready(pair)
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        wrong = token if token is not None else first[6]
        ask = bytes((V13, RequestCode.RESPOND_IF_READY, code, wrong))
        assert self.asked(pair, ask)[2] == E.UNEXPECTED_REQUEST

    def test_before_it_said_so_there_is_no_token(self) -> None:
        pair, _ = self.slow()
        ask = bytes((V13, RequestCode.RESPOND_IF_READY, RequestCode.CHALLENGE, 0))
        assert self.asked(pair, ask)[2] == E.UNEXPECTED_REQUEST

    def test_meanwhile_it_is_busy(self) -> None:
        pair, job = self.slow()
        assert self.asked(pair, b"\x13\x81\0\0")[2] == E.BUSY
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        (frame,) = pair.responder.outgoing()
        assert frame.body[1] == ResponseCode.CHALLENGE_AUTH

    def test_an_answer_that_nobody_fetched_gives_way(self) -> None:
        pair, job = self.slow()
        first = self.say_not_ready(pair)
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        assert self.asked(pair, b"\x13\x81\0\0")[1] == ResponseCode.DIGESTS
        ask = bytes((V13, RequestCode.RESPOND_IF_READY, RequestCode.CHALLENGE, first[6]))
        assert self.asked(pair, ask)[2] == E.UNEXPECTED_REQUEST

    def test_get_version_goes_ahead_of_everything(self) -> None:
        pair, job = self.slow()
        assert self.asked(pair, b"\x10\x84\0\0")[1] == ResponseCode.VERSION
        pair.responder.complete(job.token, b"late", pair.clock.now)
        assert not pair.responder.outgoing()

    def test_a_get_version_that_is_refused_changes_nothing(self) -> None:
        pair, job = self.slow()
        assert self.asked(pair, b"\x10\x84\0\0\x01")[2] == E.INVALID_REQUEST
        assert self.asked(pair, b"\x12\x84\0\0")[2] == E.VERSION_MISMATCH
        pair.responder.complete(job.token, job.call(), pair.clock.now)
        (frame,) = pair.responder.outgoing()
        assert frame.body[1] == ResponseCode.CHALLENGE_AUTH

    def test_a_failure_is_fetched_like_an_answer(self) -> None:
        pair, job = self.slow()
        first = self.say_not_ready(pair)
        pair.responder.complete(job.token, RuntimeError("the HSM is gone"), pair.clock.now)
        ask = bytes((V13, RequestCode.RESPOND_IF_READY, RequestCode.CHALLENGE, first[6]))
        answer = self.asked(pair, ask)
        assert answer[1:3] == bytes((ResponseCode.ERROR, E.UNSPECIFIED))
        assert b"HSM" not in answer

    def test_a_signature_of_the_wrong_length_is_our_fault(self) -> None:
        pair, job = self.slow()
        pair.responder.complete(job.token, b"short", pair.clock.now)
        (frame,) = pair.responder.outgoing()
        assert frame.body[2] == E.UNSPECIFIED

    def test_in_a_session_it_waits_there(self) -> None:
        """da738f32: the token is of the session in which it was given."""
        pair, one = opened()
        from spdmkit.messages import GetMeasurements

        request = GetMeasurements(
            signature_requested=True, measurement_operation=1, nonce=bytes(32), context=bytes(8)
        )
        record = one.session.sender.message(request.encode(pair.link.connection.context))
        pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
        (job,) = pair.responder.work()
        late = pair.responder.next_deadline()
        assert late is not None
        pair.responder.on_time(late)
        (frame,) = pair.responder.outgoing()
        answer = one.session.receiver.message(frame.body)
        assert isinstance(answer, bytes)
        pair.responder.complete(job.token, job.call(), late)
        outside = bytes((V13, 0xFF, RequestCode.GET_MEASUREMENTS, answer[6]))
        assert self.asked(pair, outside)[2] == E.UNEXPECTED_REQUEST
        record = one.session.sender.message(outside)
        pair.responder.receive(Frame(FrameKind.SECURED, record), late)
        (frame,) = pair.responder.outgoing()
        answer = one.session.receiver.message(frame.body)
        assert isinstance(answer, bytes)
        assert answer[1] == ResponseCode.MEASUREMENTS


def test_exchanges_end_with_their_connection() -> None:
    from spdmkit.errors import TransportError

    gone = Closed(TransportError("gone"))
    for exchange in (perform(lambda: 1), sleep(1.0)):
        waiting: Any = exchange
        next(waiting)
        with pytest.raises(TransportError, match="gone"):
            waiting.send(gone)
    waiting = sleep(1.0)
    assert isinstance(next(waiting), Sleep)
    with pytest.raises(TransportError, match="Done"):
        waiting.send(Done(None))
