"""`spdm bench proxy`: what the proxy adds to a round trip, beside what a bare relay adds.

Three ways to a device that answers at once, each a process of its own: straight, through a relay
that passes on bytes (spdm-emu's framing on both hops), and through `spdm proxy` (DSP0287 on the
first hop). What a way adds is its median less that of the straight way. Rounds of the three take
turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from spdmkit.errors import TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports.emu import CLIENT_HELLO, HEADER, HEADER_SIZE, EmuCommand
from spdmkit.transports.framing import Dialect
from spdmkit.transports.tcp import HEADER_SIZE as TCP_HEADER_SIZE
from spdmkit.transports.tcp import encode_frame

__all__ = ["ProxyFigures", "measure_proxy"]

_WARM_UP = 200
_ROUND = 5
_MCTP = 1


@dataclass(frozen=True, slots=True)
class ProxyFigures:
    """What was measured; times are medians of round trips, in microseconds.

    Attributes:
        count: round trips on each way.
        size: bytes of the message, there and back.
        straight: to the device without anything between.
        relay: through the bare relay.
        proxy: through the proxy.
        serial: through the proxy to a device on a pseudo terminal, in packets of 64 bytes; there
            is no bar for it.
    """

    count: int
    size: int
    straight: float
    relay: float
    proxy: float
    serial: float

    @property
    def relay_adds(self) -> float:
        """What the relay adds, in microseconds."""
        return self.relay - self.straight

    @property
    def proxy_adds(self) -> float:
        """What the proxy adds, in microseconds."""
        return self.proxy - self.straight

    @property
    def ratio(self) -> float:
        """What the proxy adds over what the relay adds."""
        return self.proxy_adds / self.relay_adds


def measure_proxy(count: int = 2000, size: int = 300) -> ProxyFigures:
    """Measure round trips of a clear message of `size` bytes."""
    with ExitStack() as stack:
        device = stack.enter_context(_running("-m", "spdmkit.bench.peers", "device"))
        relay = stack.enter_context(
            _running("-m", "spdmkit.bench.peers", "relay", "127.0.0.1", str(device))
        )
        proxy = stack.enter_context(
            _running(
                *("-m", "spdmkit", "proxy", "--listen", "tcp://127.0.0.1:0"),
                *("--to", f"emu+mctp://127.0.0.1:{device}"),
            )
        )
        path = f"{stack.enter_context(tempfile.TemporaryDirectory(prefix='spdm-bench-'))}/tty"
        stack.enter_context(_started("-m", "spdmkit.bench.peers", "line", path))
        serial = stack.enter_context(
            _running(
                *("-m", "spdmkit", "proxy", "--listen", "tcp://127.0.0.1:0"),
                *("--to", f"mctp+serial://{path}"),
            )
        )
        message = b"\x12\xfe\x00\x00" + bytes(max(size - 4, 0))
        ways = [
            stack.enter_context(_emulated(device, message)),
            stack.enter_context(_emulated(relay, message)),
            stack.enter_context(_bound(proxy, message)),
            stack.enter_context(_bound(serial, message)),
        ]
        for way in ways:
            for _ in range(_WARM_UP):
                way()
        times: list[list[float]] = [[] for _ in ways]
        for _ in range(max(count // _ROUND, 1)):
            for way, taken in zip(ways, times, strict=True):
                taken += [_timed(way) for _ in range(_ROUND)]
        medians = (statistics.median(taken) * 1e6 for taken in times)
        return ProxyFigures(len(times[0]), len(message), *medians)


def _timed(way: Callable[[], None]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


@contextmanager
def _running(*arguments: str) -> Iterator[int]:
    """A program of ours that says which port it listens on."""
    with _started(*arguments) as line:
        # "PORT", or "listening on tcp://HOST:PORT for DEVICE".
        yield int(line.partition(" for ")[0].split()[-1].rpartition(":")[2])


@contextmanager
def _started(*arguments: str) -> Iterator[str]:
    """A program of ours, and its first line."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise TransportError(f"{arguments[1]} did not start")
            yield line
        finally:
            process.terminate()


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


@contextmanager
def _emulated(port: int, message: bytes) -> Iterator[Callable[[], None]]:
    """Round trips in spdm-emu's framing."""
    with _connected(port) as sock:
        hello = HEADER.pack(EmuCommand.TEST, _MCTP, len(CLIENT_HELLO)) + CLIENT_HELLO
        sock.sendall(hello)
        _read(sock, HEADER_SIZE + len(CLIENT_HELLO))
        body = b"\x05" + message
        request = HEADER.pack(EmuCommand.NORMAL, _MCTP, len(body)) + body
        yield _round_trip(sock, request, len(request))


@contextmanager
def _bound(port: int, message: bytes) -> Iterator[Callable[[], None]]:
    """Round trips in the framing of DSP0287; the first message is one that tells its own size."""
    with _connected(port) as sock:
        opening = encode_frame(Frame(FrameKind.MESSAGE, b"\x10\x84\x00\x00"), Dialect.STRICT)
        sock.sendall(opening)
        _read(sock, len(opening))
        request = encode_frame(Frame(FrameKind.MESSAGE, message), Dialect.STRICT)
        yield _round_trip(sock, request, TCP_HEADER_SIZE + len(message))


def _round_trip(sock: socket.socket, request: bytes, size: int) -> Callable[[], None]:
    def way() -> None:
        sock.sendall(request)
        _read(sock, size)

    return way


def _read(sock: socket.socket, size: int) -> None:
    while size > 0:
        data = sock.recv(size)
        if not data:
            raise TransportError("the other end closed the connection")
        size -= len(data)
