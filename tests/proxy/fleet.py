"""Many devices on lossy lines, in a process of their own.

    python -m tests.proxy.fleet FOLDER LINES COUNT LOSS

FOLDER is a device's, LINES where the pseudo terminals appear (0.tty, 1.tty, ...). Of the packets
in either direction the share LOSS is lost, and as many come late. Prints "ready".
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Collection
from pathlib import Path

from spdmkit.transports.framing import Role
from spdmkit.transports.loops import raise_descriptor_limit, run
from spdmkit.transports.mctp.control import EidStatus
from spdmkit.transports.mctp.framing import MctpSerialFraming
from spdmkit.transports.mctp.serial import SerialDecoder, encode
from spdmkit.transports.mctp.single import SingleLineAcceptor
from spdmkit.transports.mctp.tty import Tty, create_pty
from spdmkit.transports.registry import Line, Wire, register_transport
from spdmkit.transports.server import listen
from spdmkit.transports.uri import EndpointUri, SerialLine

LATEST = 0.05


class LossyTty:
    """A tty on which packets get lost, or overtake each other."""

    def __init__(self, tty: Tty, loss: float, seed: int) -> None:
        self._tty = tty
        self._loss = loss
        self._chance = random.Random(seed)
        self._in, self._out = SerialDecoder(), SerialDecoder()

    def fileno(self) -> int:
        return self._tty.fileno()

    def recv(self, size: int, /) -> bytes:
        packets = self._in.feed(self._tty.recv(size))
        kept = [packet for packet in packets if self._chance.random() >= self._loss]
        if not kept:
            raise BlockingIOError
        return b"".join(map(encode, kept))

    def send(self, data: bytes | memoryview, /) -> int:
        for packet in self._out.feed(data):
            drawn = self._chance.random()
            if drawn < self._loss:
                continue
            if drawn < 2 * self._loss:
                loop = asyncio.get_running_loop()
                loop.call_later(self._chance.random() * LATEST, self._write, encode(packet))
            else:
                self._write(encode(packet))
        return len(data)

    def close(self) -> None:
        self._tty.close()

    def _write(self, data: bytes) -> None:
        if self.fileno() >= 0:
            try:
                os.write(self.fileno(), data)
            except BlockingIOError:
                return  # a line that takes nothing loses packets, too


class LossyTransport:
    """`mctp+serial://`, with losses."""

    def __init__(self, loss: float) -> None:
        self._loss = loss
        self._seed = 0

    def dial(self, uri: EndpointUri, *, role: Role, timeout: float) -> Line:
        raise NotImplementedError

    def listen(self, uri: EndpointUri, *, roles: Collection[Role]) -> SingleLineAcceptor:
        assert isinstance(uri.address, SerialLine)
        device = uri.address.device
        self._seed += 1
        status = EidStatus(0)

        def line(wire: Wire) -> Line:
            framing = MctpSerialFraming(Role.RESPONDER, status=status)
            return Line(wire, framing, device, f"{device}:mctp")

        return SingleLineAcceptor(uri, LossyTty(create_pty(device), self._loss, self._seed), line)


async def serve(folder: Path, lines: Path, count: int, loss: float) -> None:
    from .real import device_factory

    raise_descriptor_limit()
    register_transport("mctp+serial", LossyTransport(loss))
    factory = device_factory(folder)
    for number in range(count):
        await listen(f"mctp+serial://{lines}/{number}.tty", factory)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
