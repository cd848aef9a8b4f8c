"""The waiting room of a device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spdmkit.proxy.leases import Limits, WaitingRoom


def test_in_order_and_bounded() -> None:
    room: WaitingRoom[str] = WaitingRoom(Limits(waiting=2, wait=10))
    assert room.next_deadline() is None
    assert room.call() is None
    assert room.enter("a", 0.0)
    assert room.enter("b", 5.0)
    assert not room.enter("c", 5.0)
    assert room.next_deadline() == 10.0
    assert room.expired(9.9) == []
    assert room.expired(10.0) == ["a"]
    assert room.visitors() == ["b"]
    assert room.call() == "b"
    room.enter("d", 0.0)
    room.leave("d")
    assert len(room) == 0
    room.enter("e", 0.0)
    assert room.clear() == ["e"]


@given(st.lists(st.tuples(st.sampled_from("ecx"), st.floats(0, 5)), max_size=60))
def test_whatever_happens(steps: list[tuple[str, float]]) -> None:
    room: WaitingRoom[int] = WaitingRoom(Limits(waiting=3, wait=4))
    now, number = 0.0, 0
    entered: list[int] = []
    out: list[int] = []
    for step, pause in steps:
        now += pause
        if step == "e":
            number += 1
            if room.enter(number, now):
                entered.append(number)
        elif step == "c":
            who = room.call()
            out += [who] if who is not None else []
        else:
            out += room.expired(now)
        assert len(room) <= 3
    assert out == entered[: len(out)]
