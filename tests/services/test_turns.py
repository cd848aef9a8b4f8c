"""Turns: so many at once, fair between addresses, given on by the clock and when one leaves."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from spdmkit.services.turns import Turns

from .support import Lab, verifier_listens


async def _take(turns: Turns, address: str, order: list[str]) -> None:
    turn = await turns.take(address)
    order.append(address)
    await asyncio.sleep(0)
    turn.end()
    turn.end()


async def test_addresses_take_turns() -> None:
    turns, order = Turns(1), list[str]()
    first = await turns.take("a")
    tasks = [asyncio.create_task(_take(turns, name, order)) for name in "aaaabbc"]
    await asyncio.sleep(0)
    assert turns.waiting == 7
    first.end()
    await asyncio.gather(*tasks)
    assert order == list("abcabaa")
    assert turns.waiting == 0
    assert turns._free == 1


async def test_a_turn_ends_by_the_clock() -> None:
    turns = Turns(1, longest=0.01)
    slow = await turns.take("a")
    second = await asyncio.wait_for(turns.take("a"), 60)
    slow.end()
    third = asyncio.create_task(turns.take("a"))
    await asyncio.wait_for(third, 60)
    second.end()
    third.result().end()
    assert turns._free == 1


@pytest.mark.parametrize("already", [False, True], ids=["waiting", "just given"])
async def test_who_leaves_the_queue_takes_no_turn_along(already: bool) -> None:
    turns = Turns(1)
    first = await turns.take("a")
    leaving = asyncio.create_task(turns.take("a"))
    staying = asyncio.create_task(turns.take("b"))
    await asyncio.sleep(0)
    if already:
        first.end()
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    if not already:
        first.end()
    (await asyncio.wait_for(staying, 60)).end()
    assert turns._free == 1


async def test_slow_devices_do_not_keep_the_others_out(lab: Lab) -> None:
    """Two devices answer the negotiation and then nothing, and there are two turns."""
    from spdmkit.device.folder import FolderDevice
    from spdmkit.device.responders import responder_factory
    from spdmkit.messages.dsp0287 import ServiceId
    from spdmkit.protocol.connection import Role
    from spdmkit.services.wishes import Wish
    from spdmkit.transports.aio import connect

    device = FolderDevice.load(lab.device)

    async def never() -> None:
        await asyncio.sleep(60)

    device.vendor_defined = lambda *_: never()  # type: ignore[assignment,method-assign] # never answers
    async with verifier_listens(lab, at_once=2, longest_visit=30) as house:
        house.service._turns._longest = 0.05
        slow = [
            await connect(house.uri, responder_factory(device), role=Role.RESPONDER)
            for _ in range(2)
        ]
        await asyncio.sleep(0.1)
        call = await asyncio.wait_for(house.call(Wish.of(ServiceId.GET_MEL)), 60)
        assert call.done
        for connection in slow:
            connection.abort()
