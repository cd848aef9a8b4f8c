"""Mutations of seeds, the same ones from the same random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["mutate"]

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
LARGEST = 1 << 16


def mutate(seed: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """A few random changes to a seed."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_CHANGES)(data, seeds, rng)
    return bytes(data[:LARGEST])


def _flip(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _interesting(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(INTERESTING)


def _random(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        at = rng.randrange(len(data))
        data[at : at + rng.randint(1, 4)] = rng.randbytes(rng.randint(1, 4))


def _number(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    """A length or a count, a little off or far off."""
    size = rng.choice((1, 2, 4))
    if len(data) >= size:
        at = rng.randrange(len(data) - size + 1)
        order = rng.choice(("little", "big"))
        old = int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type] # one of two
        new = (old + rng.choice((-1, 1, 2, 256, -256, 1 << (8 * size - 1)))) % (1 << 8 * size)
        data[at : at + size] = new.to_bytes(size, order)  # type: ignore[arg-type] # likewise


def _cut(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        at = rng.randrange(len(data))
        del data[at : at + rng.choice((1, 2, 4, 16, len(data)))]


def _insert(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 32)))


def _repeat(data: bytearray, _seeds: Sequence[bytes], rng: random.Random) -> None:
    if data:
        at = rng.randrange(len(data))
        part = data[at : at + rng.choice((1, 4, 32))]
        data[at:at] = part * rng.choice((1, 2, 16))


def _splice(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(seeds)
    at = rng.randint(0, len(data))
    data[at:] = other[rng.randint(0, len(other)) :]


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip,
    _flip,
    _interesting,
    _random,
    _number,
    _number,
    _cut,
    _insert,
    _repeat,
    _splice,
)
