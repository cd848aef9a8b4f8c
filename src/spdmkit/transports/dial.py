"""Opening a TCP connection to a name or address within a deadline, without an event loop."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

from spdmkit.errors import DeadlineExceeded, TransportError
from spdmkit.transports.uri import Host, address_of

__all__ = [
    "address_text",
    "cannot_connect",
    "dial",
    "interleave",
    "reason_of",
    "resolve",
    "tune",
]

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside the first (RFC 8305, "happy eyeballs")."""

_INTERNET = (int(socket.AF_INET), int(socket.AF_INET6))

Address = tuple[int, tuple[Any, ...]]
"""(address family, socket address)"""


def tune(sock: socket.socket, family: int | None = None) -> None:
    """Send small frames at once: every one waits for an answer.

    Args:
        sock: connected.
        family: its address family, when it is known; asking the socket takes longer.
    """
    if (sock.family if family is None else family) in _INTERNET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def reason_of(error: OSError) -> str:
    """What the system says, without the words that asyncio puts in its place."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)


def cannot_connect(host: Host, reason: str) -> TransportError:
    """The error for a host that refuses, or that nothing leads to."""
    return TransportError(
        f"cannot connect to {host}: {reason}",
        hint=f"see that it serves there, at port {host.port}, and that nothing between refuses",
    )


def address_text(address: object) -> str:
    """A socket address as text, for example "[::1]:4194"."""
    if isinstance(address, tuple) and len(address) >= 2:
        return address_of(address[0], address[1])
    return str(address)


def resolve(host: Host) -> list[Address]:
    """All addresses of a host, families alternating, the resolver's first choice first.

    Raises:
        TransportError: the name does not resolve.
    """
    if host.is_literal and ":" not in host.name:
        return [(socket.AF_INET, (host.name, host.port))]
    try:
        found = socket.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TransportError(f"{host.name} does not resolve: {error.strerror}") from error
    return interleave([(entry[0], entry[4]) for entry in found])


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """The same addresses, families alternating (RFC 8305 clause 4)."""
    unique = list(dict.fromkeys(addresses))
    if not unique:
        return []
    first = [entry for entry in unique if entry[0] == unique[0][0]]
    others = [entry for entry in unique if entry[0] != unique[0][0]]
    mixed: list[Address] = []
    while first or others:
        mixed += first[:1] + others[:1]
        first, others = first[1:], others[1:]
    return mixed


def dial(host: Host, timeout: float) -> socket.socket:
    """Connect to the first address that answers; non-blocking and tuned.

    Raises:
        DeadlineExceeded: none answered in time.
        TransportError: the name does not resolve, or every address refused.
    """
    addresses = resolve(host)
    if len(addresses) == 1:
        return _connect(host, *addresses[0], timeout)
    race = _Race(host, addresses, time.monotonic() + timeout)
    try:
        return race.run()
    finally:
        race.close()


def _connect(host: Host, family: int, address: tuple[Any, ...], timeout: float) -> socket.socket:
    """Connect where there is no other address to try."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise cannot_connect(host, reason_of(error)) from error
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.setblocking(False)
        tune(sock, family)
    except TimeoutError:
        sock.close()
        raise DeadlineExceeded(f"no answer from {host} when connecting") from None
    except OSError as error:
        sock.close()
        raise cannot_connect(host, reason_of(error)) from error
    return sock


class _Race:
    """Attempts to connect, started one after another, of which the first to stand wins."""

    def __init__(self, host: Host, addresses: list[Address], deadline: float) -> None:
        self._host = host
        self._waiting = addresses
        self._deadline = deadline
        self._pending: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._failures: list[str] = []

    def run(self) -> socket.socket:
        while self._waiting or self._pending:
            if self._waiting:
                winner = self._start(*self._waiting.pop(0))
                if winner is not None:
                    return winner
            winner = self._wait()
            if winner is not None:
                return winner
            if time.monotonic() >= self._deadline:
                raise DeadlineExceeded(f"no answer from {self._host} when connecting")
        reasons = "; ".join(dict.fromkeys(self._failures))
        raise cannot_connect(self._host, reasons)

    def _start(self, family: int, address: tuple[Any, ...]) -> socket.socket | None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._failures.append(str(error.strerror))
            return None
        sock.setblocking(False)
        number = sock.connect_ex(address)
        if number == 0:
            tune(sock)
            return sock
        if number != errno.EINPROGRESS:
            sock.close()
            self._failures.append(os.strerror(number))
            return None
        self._pending[sock.fileno()] = sock
        self._poll.register(sock, select.POLLOUT)
        return None

    def _wait(self) -> socket.socket | None:
        """Wait for an attempt to end; with more addresses to try, not for long."""
        if not self._pending:
            return None
        patience = max(self._deadline - time.monotonic(), 0.0)
        if self._waiting:
            patience = min(patience, ATTEMPT_DELAY)
        for descriptor, _events in self._poll.poll(patience * 1000):
            sock = self._pending.pop(descriptor)
            self._poll.unregister(descriptor)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number == 0:
                tune(sock)
                return sock
            sock.close()
            self._failures.append(os.strerror(number))
        return None

    def close(self) -> None:
        for sock in self._pending.values():
            sock.close()
