"""Small programs for `spdm bench proxy`: a device that answers at once, and a bare relay.

    python -m spdmkit.bench.peers device
    python -m spdmkit.bench.peers line PATH
    python -m spdmkit.bench.peers relay HOST PORT

The second is the same device on a pseudo terminal, in MCTP packets. The others print the port they
listen on. The relay passes on bytes as they come, on the same event loop
as the proxy, and knows nothing of what they are.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from spdmkit.protocol.frames import Frame
from spdmkit.transports.dial import tune
from spdmkit.transports.emu import HEADER, HEADER_SIZE, EmuCommand
from spdmkit.transports.framing import Reply, Role
from spdmkit.transports.loops import run
from spdmkit.transports.mctp.framing import MctpSerialFraming
from spdmkit.transports.mctp.tty import create_pty
from spdmkit.transports.wires import WireTransport

__all__ = ["main"]


class Device(asyncio.Protocol):
    """spdm-emu's socket protocol: every command is answered with itself."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Answer every whole command."""
        self._buffer += data
        while len(self._buffer) >= HEADER_SIZE and self._transport is not None:
            command, _transport, size = HEADER.unpack_from(self._buffer)
            if len(self._buffer) < HEADER_SIZE + size:
                return
            answer = self._buffer[: HEADER_SIZE + size]
            self._buffer = self._buffer[HEADER_SIZE + size :]
            if command == EmuCommand.TEST:
                answer = answer[:HEADER_SIZE] + b"Server Hello!\0"
            self._transport.write(answer)


class Relay(asyncio.BufferedProtocol):
    """One side of a relayed connection."""

    def __init__(self, other: Relay | None = None) -> None:
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(0x4000))
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A side stands; what came for it before goes on now."""
        self._transport = cast("asyncio.Transport", transport)
        tune(transport.get_extra_info("socket"))
        if self._other is not None and self._other._other is None:
            self._other._other = self
            self._transport.write(self._other._early)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass it on."""
        data = bytes(self._buffer[:nbytes])
        if self._other is None or self._other._transport is None:
            self._early += data
        else:
            self._other._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # whatever the reason
        """The other side ends too."""
        if self._other is not None and self._other._transport is not None:
            self._other._transport.close()


class LineDevice(asyncio.BufferedProtocol):
    """DSP0253 on a pseudo terminal: every message is answered with itself."""

    def __init__(self) -> None:
        self._framing = MctpSerialFraming(Role.RESPONDER)
        self._buffer = memoryview(bytearray(0x4000))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is open."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Answer every whole message."""
        for event in self._framing.feed(bytes(self._buffer[:nbytes])):
            data = event.data if isinstance(event, Reply) else b""
            if isinstance(event, Frame):
                data = self._framing.pack(event)
            if data and self._transport is not None:
                self._transport.write(data)


async def _line(path: str) -> None:
    WireTransport(asyncio.get_running_loop(), create_pty(path), LineDevice())
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def _device() -> None:
    server = await asyncio.get_running_loop().create_server(Device, "127.0.0.1", 0)
    await _serve(server)


async def _relay(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    dialling: set[asyncio.Task[object]] = set()

    def accept() -> Relay:
        relay = Relay()
        task: asyncio.Task[object] = loop.create_task(
            loop.create_connection(lambda: Relay(relay), host, port)
        )
        dialling.add(task)
        task.add_done_callback(dialling.discard)
        return relay

    await _serve(await loop.create_server(accept, "127.0.0.1", 0))


async def _serve(server: asyncio.Server) -> None:
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> None:
    """Run one of them until the process is ended."""
    if arguments[0] == "device":
        run(_device())
    elif arguments[0] == "line":
        run(_line(arguments[1]))
    else:
        run(_relay(arguments[1], int(arguments[2])))


if __name__ == "__main__":
    main(sys.argv[1:])
