"""Serial lines for tests: a pseudo terminal, and a medium between two of them that does damage."""

from __future__ import annotations

import os
import random
import select
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spdmkit.transports.mctp.serial import SerialDecoder, encode

Damage = Callable[[bytes], list[bytes]]
"""What becomes of one packet on its way."""


def unharmed(packet: bytes) -> list[bytes]:
    return [packet]


def losing(share: float, seed: int) -> Damage:
    """Drop packets, and repeat as many."""
    chance = random.Random(seed)

    def damage(packet: bytes) -> list[bytes]:
        drawn = chance.random()
        if drawn < share:
            return []
        return [packet, packet] if drawn > 1 - share else [packet]

    return damage


@contextmanager
def medium(
    folder: Path, there: Damage = unharmed, back: Damage = unharmed
) -> Iterator[tuple[str, str]]:
    """Two ttys joined by a thread that passes packets on, or does not; gives their paths."""
    masters, paths, slaves = [], [], []
    for name in ("owner", "device"):
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        path = folder / f"{name}.tty"
        path.symlink_to(os.ttyname(theirs))
        masters.append(ours)
        slaves.append(theirs)
        paths.append(str(path))
    stop_read, stop_write = os.pipe()
    thread = threading.Thread(target=_pass_on, args=(masters, (there, back), stop_read))
    thread.start()
    try:
        yield paths[0], paths[1]
    finally:
        os.write(stop_write, b"x")
        thread.join()
        for descriptor in (*masters, *slaves, stop_read, stop_write):
            os.close(descriptor)


def _pass_on(masters: list[int], damages: tuple[Damage, Damage], stop: int) -> None:
    decoders = [SerialDecoder(), SerialDecoder()]
    while True:
        readable, _, _ = select.select([*masters, stop], [], [])
        if stop in readable:
            return
        for side, master in enumerate(masters):
            if master not in readable:
                continue
            for packet in decoders[side].feed(os.read(master, 4096)):
                for copy in damages[side](packet):
                    _write(masters[1 - side], encode(copy))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [], 1.0)
