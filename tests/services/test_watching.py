"""A device says that it is ready, and is attested again whenever it says that it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from spdmkit.messages.dsp0287 import ServiceId, SessionMethod
from spdmkit.services.wishes import Wish

from .support import House, Lab, verifier_listens

ANY = ServiceId.ANY_REQUEST


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def subscribed(house: House) -> bool:
    endpoints = [each.conduit.endpoint for each in house.listener.connections]
    return any(
        session.subscribed
        for endpoint in endpoints
        if endpoint is not None
        for session in endpoint.connection.sessions.values()
    )


@pytest.mark.parametrize("method", [SessionMethod.NO_PREFERENCE, SessionMethod.PSK_EXCHANGE])
async def test_a_change_is_told_and_judged(lab: Lab, method: SessionMethod) -> None:
    provider = lab.provider(watch=None, poll=0.02, psks=(lab.psk(),))
    async with verifier_listens(lab, provider) as house:
        calling = asyncio.create_task(house.call(Wish.of(ANY, session_method=method)))
        await until(lambda: subscribed(house))
        (lab.device / "firmware" / "main.bin").write_bytes(b"something else")
        await until(lambda: len(house.reports) >= 1)
        first = house.reports[0]
        assert not first.final
        assert first.verdict == "untrusted"
        assert first.services[0].detail["measurements_changed"] == [2]
        (lab.device / "firmware" / "main.bin").write_bytes(b"spdmkit sample firmware 1.0.0\n" * 256)
        await until(lambda: len(house.reports) >= 2)
        assert house.reports[1].verdict == "trusted"
        await house.listener.close(grace=0.1)
        await calling
    last = house.reports[-1]
    assert last.final
    assert [each.service for each in last.services] == ["any", "event", "event"]


async def test_what_was_told_is_not_kept_for_ever(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spdmkit.services.visit.MOST_CHANGES", 2)
    async with verifier_listens(lab, lab.provider(watch=None, poll=0.02)) as house:
        calling = asyncio.create_task(house.call(Wish.of(ANY)))
        await until(lambda: subscribed(house))
        for number in range(4):
            (lab.device / "firmware" / "main.bin").write_bytes(bytes([number]) * (number + 1))
            await until(lambda number=number: len(house.reports) == number + 1)  # type: ignore[misc]  # mypy knows no default in a lambda
        await house.listener.close(grace=0.1)
        await calling
    assert [each.service for each in house.reports[-1].services] == ["any", "event", "event"]


@pytest.mark.parametrize("reason", ["no events", "no session", "not asked"])
async def test_without_events_nobody_waits(lab: Lab, reason: str) -> None:
    provider = lab.provider(watch=None, poll=0.02)
    if reason == "no events":
        lab.edit('"EVENT_CAP", ', "")
    if reason == "no session":
        lab.edit('"KEY_EX_CAP", ', "")
    wish = Wish.of(ServiceId.GET_MEASUREMENTS if reason == "not asked" else ANY)
    async with verifier_listens(lab, provider) as house:
        call = await asyncio.wait_for(house.call(wish), 60)
    assert call.done, call.error
    assert house.reports[0].verdict == "trusted"


async def test_it_waits_no_longer_than_it_was_told(lab: Lab) -> None:
    async with verifier_listens(lab, lab.provider(watch=0.1, poll=0.02)) as house:
        call = await asyncio.wait_for(house.call(Wish.of(ANY)), 60)
    assert call.done
    assert [each.final for each in house.reports] == [True]
