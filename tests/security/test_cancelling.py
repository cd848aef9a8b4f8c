"""An exchange cancelled at every point where it waits (no request is ever retried over TCP).

Once a request is on the wire, giving it up closes the connection: the late answer must never meet
the next request. Before that, nothing has happened and the connection goes on.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest

from spdmkit.errors import SpdmError, TransportError
from spdmkit.messages import V13
from spdmkit.protocol.actions import Exchange, Send, Sleep
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.endpoint import Ticket
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.transports import aio
from spdmkit.transports.server import listen

from ..protocol.support import MemoryDevice, Pair
from ..transports.test_protocol_over_sockets import endpoints, everything


def whole(connection: Connection, device: MemoryDevice) -> Exchange[object]:
    return everything(connection, device)


def steps_of(pair: Pair, ticket: Ticket[object], steps: int) -> None:
    """Carry single frames and jobs, `steps` of them."""
    for _ in range(steps):
        if ticket.done:
            return
        for job in pair.requester.work():
            pair.requester.complete(job.token, job.call(), pair.clock.now)
            break
        else:
            pair.step()


@pytest.fixture(scope="module")
def length() -> int:
    """How many steps the whole conversation takes."""
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    ticket = pair.requester.submit(whole(pair.requester.connection, pair.device))
    for count in itertools.count(1):
        steps_of(pair, ticket, 1)
        if ticket.done:
            ticket.result()
            return count
    raise AssertionError


def test_at_every_step_of_the_protocol(length: int) -> None:
    seen: set[str] = set()
    for steps in range(length):
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        ticket = pair.requester.submit(whole(pair.requester.connection, pair.device))
        steps_of(pair, ticket, steps)
        waiting = pair.requester._waiting
        seen.add(type(waiting).__name__)
        ticket.cancel()
        with pytest.raises(TransportError):
            ticket.result()
        on_the_wire = isinstance(waiting, Send)
        assert pair.requester.close_wanted is on_the_wire
        if on_the_wire:
            assert not pair.requester.connection.sessions
            # Whatever still comes answers nothing any more.
            while pair.step():
                pass
            with pytest.raises(SpdmError):
                pair.run(negotiate(pair.link))
        else:
            assert isinstance(waiting, (int, Sleep))
            pair.run(negotiate(pair.link))
    assert {"Send", "int"} <= seen


def test_a_ticket_cancelled_in_the_queue_costs_nothing() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    first = pair.requester.submit(negotiate(pair.link))
    second = pair.requester.submit(negotiate(pair.link))
    second.cancel()
    while not first.done:
        pair.step()
    first.result()
    with pytest.raises(TransportError):
        second.result()
    second.cancel()
    assert not pair.requester.close_wanted


async def test_at_every_await_point_over_a_socket() -> None:
    device = MemoryDevice("ecdsa-p256")
    make = endpoints(device)
    finished = 0
    async with await listen("tcp://127.0.0.1:0", make) as listener:
        for turns in (*range(24), *range(24, 600, 9)):
            connection = await aio.connect(listener.uri, make)
            state = connection.endpoint.connection
            task = asyncio.create_task(connection.run(everything(state, device)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert not state.sessions or not connection.closed
            else:
                finished += 1
            if connection.closed:
                with pytest.raises(SpdmError):
                    await connection.run(negotiate(Link(state)))
            else:
                await connection.run(negotiate(Link(state)))
            await connection.close()
        # The listener has seen every kind of end, and serves.
        async with await aio.connect(listener.uri, make) as connection:
            await connection.run(everything(connection.endpoint.connection, device))


def test_what_a_handler_waits_for_is_given_up_with_its_connection() -> None:
    """The responder's side: the connection ends while a signature is being made."""
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))
    ticket = pair.requester.submit(whole(pair.requester.connection, pair.device))
    job = None
    while job is None and not ticket.done:
        for each in pair.requester.work():
            pair.requester.complete(each.token, each.call(), pair.clock.now)
        for frame in pair.requester.outgoing():
            pair.responder.receive(frame, pair.clock.now)
        job = next(iter(pair.responder.work()), None)
        for frame in pair.responder.outgoing():
            pair.requester.receive(frame, pair.clock.now)
    assert job is not None
    pair.responder.connection_lost(TransportError("gone"))
    pair.responder.complete(job.token, job.call(), pair.clock.now)
    assert not pair.responder.outgoing()
    assert not pair.responder.connection.sessions
