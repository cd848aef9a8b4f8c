"""A proxy that flips, drops, repeats, reorders or withholds can only make an attestation fail.

SPDM_EVERY_BYTE=1 flips every byte of the conversation instead of some of each frame.
"""

from __future__ import annotations

import os
import random

import pytest

from spdmkit.attestation.blocks import Block
from spdmkit.device.initialise import initialise
from spdmkit.errors import DeadlineExceeded, SpdmError
from spdmkit.transports.framing import Dialect

from .hostile import DOWN, UP, Harm, Rig, Run
from .real import trust_in

Frames = list[bytes]
MEASUREMENTS_HEAD = b"\x05\x14\x60"
"""How a MEASUREMENTS response begins inside a record of MCTP."""
EVERY_BYTE = bool(os.environ.get("SPDM_EVERY_BYTE"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    folder = tmp_path_factory.mktemp("hostile") / "device"
    initialise(folder, algorithm="ecdsa-p256")
    return Rig(folder, trust_in(folder))


@pytest.fixture(scope="module")
def honest(rig: Rig) -> Run:
    run = rig.run()
    assert run.collected is not None, run.error
    return run


def judge(run: Run, what: str) -> None:
    """Harm was done, nothing was believed, and the error is one of ours that says why."""
    assert run.harmed, what
    assert run.collected is None, f"{what}: believed all the same"
    assert isinstance(run.error, SpdmError), f"{what}: {run.error!r}"
    assert str(run.error)


def at(number: int, *instead: bytes) -> Harm:
    return lambda _run, this, data: list(instead) if this == number else [data]


def before(number: int, extra: bytes) -> Harm:
    return lambda _run, this, data: [extra, data] if this == number else [data]


def cutting(number: int, keep: int) -> Harm:
    return lambda _run, this, data: [data[:keep] if this == number else data]


def flipping(number: int, place: int, bit: int) -> Harm:
    def harm(_run: Run, this: int, data: bytes) -> list[bytes]:
        if this != number or place >= len(data):
            return [data]
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        return [bytes(changed)]

    return harm


def places(size: int, chance: random.Random) -> list[int]:
    """The binding's header, the SPDM header, and some of the rest; or everything."""
    if EVERY_BYTE:
        return list(range(size))
    rest = range(8, size)
    return [*range(min(size, 8)), *chance.sample(rest, min(len(rest), 3))]


# The last request ends the session; whoever meddles with it or its answer changes nothing that
# was proven. Whether the session ended is then all that is not known, and that is an error too.


def test_flipped_bits(rig: Rig, honest: Run) -> None:
    chance = random.Random(1)
    for number, (_direction, data) in enumerate(honest.log):
        for place in places(len(data), chance):
            what = f"write {number}, byte {place}"
            run = rig.run(flipping(number, place, chance.randrange(8)))
            if not run.harmed:
                continue  # this time the message was shorter: certificates and nonces vary
            judge(run, what)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_frames_dropped_or_withheld(rig: Rig, honest: Run, dialect: Dialect) -> None:
    for number in range(len(honest.log)):
        run = rig.run(at(number), dialect)
        judge(run, f"write {number} dropped")
        assert isinstance(run.error, DeadlineExceeded)
        run = rig.run(lambda _run, this, data, n=number: [data] if this < n else [], dialect)  # type: ignore[misc]  # mypy knows no default in a lambda
        judge(run, f"from write {number} on withheld")


def test_bytes_withheld(rig: Rig, honest: Run) -> None:
    """Of one frame the last byte, or all but the header, never comes."""
    for number in range(len(honest.log)):
        for keep in (-1, 4, 1):
            judge(rig.run(cutting(number, keep)), f"write {number}, {keep}")


@pytest.mark.parametrize("dialect", list(Dialect))
def test_bytes_one_by_one_are_no_harm(rig: Rig, dialect: Dialect) -> None:
    run = rig.run(lambda _run, _this, data: [data[at : at + 1] for at in range(len(data))], dialect)
    assert run.collected is not None, run.error


def test_frames_repeated(rig: Rig, honest: Run) -> None:
    """Two answers to one question: the second one is one too many, or the request failed."""
    last = len(honest.log) - 1
    for number in range(len(honest.log)):
        run = rig.run(lambda _run, this, data, n=number: [data] * (1 + (this == n)))  # type: ignore[misc]  # mypy knows no default in a lambda
        if number >= last - 1 and run.error is None:
            continue  # the session had ended already, and all that was proven with it
        judge(run, f"write {number} repeated")


def test_frames_replaced_by_earlier_ones(rig: Rig, honest: Run) -> None:
    for number, (direction, _data) in enumerate(honest.log):

        def harm(run: Run, this: int, data: bytes, n: int = number, d: int = direction) -> Frames:
            earlier = [seen for each, seen in run.log[:-1] if each == d and seen != data]
            return [data] if this != n else earlier[-1:]

        judge(rig.run(harm), f"write {number} replaced by the one before")


def test_frames_of_another_conversation(rig: Rig, honest: Run) -> None:
    """All of it recorded, genuine, and played back."""
    for number, (_direction, data) in enumerate(honest.log):
        run = rig.run(at(number, data))
        if not run.harmed:
            assert run.collected is not None  # VCA is the same each time
        else:
            judge(run, f"write {number} from another conversation")

    def playback(_run: Run, this: int, data: bytes) -> list[bytes]:
        direction, recorded = honest.log[this]
        return [recorded] if direction == DOWN else [data]

    judge(rig.run(playback), "the device's side played back")


def test_frames_cut_lengthened_and_retyped(rig: Rig, honest: Run) -> None:
    for number, (_direction, data) in enumerate(honest.log):
        length = int.from_bytes(data[:2], "little")
        shorter = (length - 1).to_bytes(2, "little") + data[2:-1]
        longer = (length + 1).to_bytes(2, "little") + data[2:] + b"\x01"
        retyped = data[:3] + bytes((data[3] ^ 3,)) + data[4:]
        for name, change in (("cut", shorter), ("longer", longer), ("retyped", retyped)):
            # Recorded messages differ from today's; the shape is what is changed here.
            judge(rig.run(at(number, change)), f"write {number} {name}")


def test_messages_put_in(rig: Rig, honest: Run) -> None:
    """An ERROR of the proxy's own, an answer from nowhere, garbage."""
    chance = random.Random(2)
    for number, (direction, _data) in enumerate(honest.log):
        if direction == UP:
            continue
        for name, extra in (
            ("ERROR", b"\x04\x00\x01\x05\x14\x7f\x01\x00"),
            ("ERROR DecryptError", b"\x04\x00\x01\x05\x14\x7f\x06\x00"),
            ("garbage", chance.randbytes(40)),
        ):
            judge(rig.run(at(number, extra)), f"write {number}: {name} instead")
            run = rig.run(before(number, extra))
            judge(run, f"write {number}: {name} before")


def test_nothing_of_the_session_can_be_read(rig: Rig) -> None:
    run = rig.run()
    assert run.collected is not None
    assert run.collected.proof.measurements is not None
    seen = b"".join(data for _direction, data in run.log)
    inside = [data for _direction, data in run.log if data[3] == 6]
    assert len(inside) >= 8
    values = [Block.read(block).value for block in run.collected.proof.measurements.blocks]
    long_enough = [value for value in values if len(value) >= 8]
    assert len(long_enough) >= 3
    assert not any(value in seen for value in long_enough)
    assert run.collected.proof.measurements.nonce not in seen
    for data in inside:
        assert MEASUREMENTS_HEAD not in data
