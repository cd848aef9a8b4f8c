"""The other end of a benchmark: a device in a process of its own, which tells what it costs.

`python -m spdmkit.bench.peer FOLDER [--sink] [--awake]` serves the device in FOLDER and prints
`listening on URI`. Then each line on its standard input is a question, answered by one number:
`cpu` the CPU time used so far, in milliseconds; `memory` what is resident after a collection of
garbage, in bytes; `received` the bytes of application data that came; `sessions` how many stand.

`python -m spdmkit.bench.peer` without a folder is a bare socket that takes whatever comes and
answers the same questions: what an application without SPDM would cost.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spdmkit.device.folder import FolderDevice
from spdmkit.errors import TransportError
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.responder.device import Peer
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.transports import loops
from spdmkit.transports.conduit import ConnectionInfo
from spdmkit.transports.server import listen

__all__ = ["Served", "bare_socket", "served"]


class Served:
    """A device that another process serves.

    Attributes:
        uri: where.
    """

    def __init__(self, uri: str, process: subprocess.Popen[str]) -> None:
        self.uri = uri
        self._process = process

    def ask(self, question: str) -> float:
        """The answer to one of the questions of the module.

        Raises:
            TransportError: the process is gone.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise TransportError("the device's process cannot be asked")
        stdin.write(f"{question}\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise TransportError("the device's process is gone")
        return float(answer)


@contextmanager
def served(folder: Path, *, sink: bool = False, awake: bool = False) -> Iterator[Served]:
    """Serve the device of a folder while the block runs.

    Args:
        folder: the device.
        sink: it swallows application data instead of sending it back.
        awake: it looks for requests all the time, if there is a processor for it, instead of
            sleeping until one comes. Whoever sends to a process that sleeps on the same machine
            pays for waking it; a device is elsewhere.

    Raises:
        TransportError: it did not start.
    """
    options = ["--sink"] * sink + ["--awake"] * (awake and (os.cpu_count() or 1) > 1)
    with _process(str(folder), *options) as peer:
        yield peer


@contextmanager
def bare_socket() -> Iterator[Served]:
    """A process that takes bytes on a socket and does nothing with them; `uri` is HOST:PORT.

    Raises:
        TransportError: it did not start.
    """
    with _process() as peer:
        yield peer


@contextmanager
def _process(*arguments: str) -> Iterator[Served]:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "spdmkit.bench.peer", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line.startswith("listening on "):
                raise TransportError("the device did not start")
            yield Served(line.removeprefix("listening on ").strip(), process)
        finally:
            process.terminate()


class _Device(FolderDevice):
    """Counts application data, and may swallow it."""

    def __init__(self, folder: Path, *, sink: bool = False) -> None:
        super().__init__(folder)
        self.sink = sink
        self.received = 0
        self.endpoints: weakref.WeakSet[ResponderEndpoint] = weakref.WeakSet()

    @property
    def sessions(self) -> int:
        """Sessions that are established now."""
        return sum(len(each.connection.sessions) for each in self.endpoints)

    def application_data(self, data: bytes, peer: Peer) -> bytes | None:
        self.received += len(data)
        return None if self.sink else super().application_data(data, peer)


async def _serve(device: _Device, *, awake: bool) -> None:
    def make(info: ConnectionInfo) -> ResponderEndpoint:
        connection = Connection(
            Role.RESPONDER,
            device.settings,
            clock=time.monotonic,
            random=os.urandom,
            record_profile=info.record_profile,
        )
        endpoint = ResponderEndpoint(connection, device, name=info.name)
        device.watch(endpoint)
        device.endpoints.add(endpoint)
        return endpoint

    done = asyncio.Event()

    def question() -> None:
        line = sys.stdin.readline()
        if not line:
            done.set()
            return
        _say(_ANSWERS[line.strip()](device))

    async with await listen("tcp://127.0.0.1:0", make) as listener:
        _say(f"listening on {listener.uri}")
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), question)
        if awake:
            _stay_awake(asyncio.get_running_loop())
        await done.wait()


def _stay_awake(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop look for work again at once, whenever it has done what there was."""
    loop.call_soon(_stay_awake, loop)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _resident() -> int:
    """Resident memory in bytes, without what waits to be collected."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class _Bare:
    """A bare socket."""

    sessions = 0

    def __init__(self) -> None:
        self.received = 0

    def take(self, listening: socket.socket) -> None:
        """One connection after the other, until each ends."""
        buffer = bytearray(1 << 16)
        while True:
            connection, _ = listening.accept()
            with connection:
                while count := connection.recv_into(buffer):
                    self.received += count


def _drain() -> None:
    bare = _Bare()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        _say(f"listening on {host}:{port}")
        threading.Thread(target=bare.take, args=(listening,), daemon=True).start()
        for line in sys.stdin:
            _say(_ANSWERS[line.strip()](bare))


_ANSWERS: dict[str, Callable[[_Device | _Bare], float]] = {
    "cpu": lambda _one: time.process_time_ns() / 1e6,
    "memory": lambda _one: _resident(),
    "received": lambda one: one.received,
    "sessions": lambda one: one.sessions,
}


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    if not arguments:
        _drain()
        return
    device = _Device(Path(arguments[0]), sink="--sink" in arguments)
    loops.run(_serve(device, awake="--awake" in arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
