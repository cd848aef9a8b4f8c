"""Work that is done while the peer works on its answer."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.errors import AuthenticationError, TransportError
from spdmkit.protocol.actions import (
    DeadlinePassed,
    Event,
    Exchange,
    Meanwhile,
    Send,
    perform,
    settled,
)
from spdmkit.protocol.endpoint import Job, RequesterEndpoint, Ticket
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.proofs import ProvenKey
from spdmkit.protocol.requester.challenge import VerifiedChallenge, challenge_answered
from spdmkit.protocol.requester.negotiate import negotiate

from .support import Pair
from .test_attestation_flow import verified

REQUEST = Frame(FrameKind.MESSAGE, b"\x12\xe0\x00\x00")
ANSWER = Frame(FrameKind.MESSAGE, b"\x12\x60\x00\x00")
DEADLINE = 10.0


def begun(work: Meanwhile[Any]) -> tuple[RequesterEndpoint, Ticket[Event], Job]:
    """A request on the wire, with work to do beside it."""
    endpoint = Pair().requester

    def exchange() -> Exchange[Event]:
        return (yield Send(REQUEST, DEADLINE, work))

    ticket = endpoint.submit(exchange())
    assert endpoint.outgoing() == [REQUEST]
    (job,) = endpoint.work()
    return endpoint, ticket, job


def test_is_done_once_and_keeps_what_came_of_it() -> None:
    calls: list[int] = []

    def once() -> str:
        calls.append(1)
        return "done"

    work = Meanwhile(once)
    work.run()
    assert work.done
    assert [work.result(), work.result()] == ["done", "done"]
    assert calls == [1]


def test_what_it_raises_is_raised_for_whoever_asks() -> None:
    def fail() -> None:
        raise AuthenticationError("chain", "a test")

    work = Meanwhile(fail)
    work.run()
    for _ in range(2):
        with pytest.raises(AuthenticationError, match="a test"):
            work.result()


def test_what_nobody_did_is_done_when_it_is_asked_for() -> None:
    assert Meanwhile(lambda: 7).result() == 7


def test_settling_hands_out_what_is_left_to_do() -> None:
    work = Meanwhile(lambda: 7)
    assert Pair().run(settled(work)) == 7
    assert Pair().run(settled(work)) == 7


def test_the_answer_after_the_work() -> None:
    work = Meanwhile(lambda: 7)
    endpoint, ticket, job = begun(work)
    endpoint.complete(job.token, job.call(), 0.0)
    assert not ticket.done
    endpoint.receive(ANSWER, 0.0)
    assert ticket.result() is ANSWER
    assert work.done


def test_the_answer_before_the_work_waits_and_is_not_late() -> None:
    endpoint, ticket, job = begun(Meanwhile(lambda: 7))
    endpoint.receive(ANSWER, 0.0)
    assert not ticket.done
    assert endpoint.next_deadline() is None
    endpoint.on_time(DEADLINE + 1)
    assert not ticket.done
    endpoint.complete(job.token, job.call(), 0.0)
    assert ticket.result() is ANSWER


def test_a_second_answer_ends_the_connection() -> None:
    endpoint, ticket, _job = begun(Meanwhile(lambda: 7))
    endpoint.receive(ANSWER, 0.0)
    endpoint.receive(ANSWER, 0.0)
    assert endpoint.close_wanted
    assert ticket.done


def test_no_answer_in_time_while_the_work_goes_on() -> None:
    endpoint, ticket, job = begun(Meanwhile(lambda: 7))
    endpoint.on_time(DEADLINE)
    assert isinstance(ticket.result(), DeadlinePassed)
    endpoint.complete(job.token, None, DEADLINE)  # too late for anything


def test_a_lost_connection_ends_both() -> None:
    endpoint, ticket, job = begun(Meanwhile(lambda: 7))
    endpoint.connection_lost(TransportError("a test"))
    assert ticket.done
    endpoint.complete(job.token, None, 0.0)


def test_cancelling_closes_the_connection() -> None:
    endpoint, ticket, job = begun(Meanwhile(lambda: 7))
    endpoint.receive(ANSWER, 0.0)
    ticket.cancel()
    assert endpoint.close_wanted
    endpoint.complete(job.token, None, 0.0)


def test_a_challenge_is_answered_while_the_chain_is_verified() -> None:
    pair = Pair()
    key: ProvenKey = verified(pair)
    order: list[str] = []

    def exchange() -> Exchange[VerifiedChallenge]:
        def verify() -> ProvenKey:
            order.append("verified")
            return key

        answered = yield from challenge_answered(pair.link, Meanwhile(verify))
        order.append("answered")
        assert not answered.done
        return (yield from settled(answered))

    assert pair.run(exchange()).key is key
    assert order == ["verified", "answered"]


@pytest.mark.parametrize("slot", [0, 5], ids=["an answer", "an ERROR"])
def test_what_was_wrong_before_is_told_first(slot: int) -> None:
    pair = Pair()
    verified(pair)

    def verify() -> ProvenKey:
        raise AuthenticationError("chain", "not to be believed")

    with pytest.raises(AuthenticationError, match="not to be believed"):
        pair.run(challenge_answered(pair.link, Meanwhile(verify), slot_id=slot))


def test_the_next_request_has_nothing_beside_it() -> None:
    pair = Pair()
    key = verified(pair)
    pair.run(challenge_answered(pair.link, Meanwhile(lambda: key)))

    def exchange() -> Exchange[int]:
        yield from negotiate(pair.link)
        return (yield from perform(lambda: 1))

    assert pair.run(exchange()) == 1
