"""The status page: a local port with `/metrics` for Prometheus and `/status` as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from spdmkit.errors import TransportError

__all__ = ["StatusPage"]

LONGEST_REQUEST = 4096
PATIENCE = 5.0
CALLERS = 16

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class StatusPage:
    """Answers GET of two paths over HTTP/1.0, to a few callers at a time."""

    def __init__(self, metrics: Callable[[], str], status: Callable[[], dict[str, Any]]) -> None:
        """A page with these two contents."""
        self._contents: dict[str, tuple[str, Callable[[], str]]] = {
            "/metrics": (_PLAIN, metrics),
            "/status": ("application/json", lambda: json.dumps(status(), indent=2) + "\n"),
        }
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; where it really is.

        Raises:
            TransportError: the address is in use, or not ours.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, host, port, limit=LONGEST_REQUEST
            )
        except OSError as error:
            raise TransportError(
                f"cannot listen on {host}:{port} for metrics: {error.strerror}"
            ) from error
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def close(self) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for caller in list(self._callers):
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._callers) >= CALLERS:
            writer.close()
            return
        self._callers.add(task)
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked badly, or left, gets nothing.
            pass
        finally:
            self._callers.discard(task)
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split()
        if len(words) != 3 or words[0] != b"GET":
            return _response("405 Method Not Allowed", "text/plain", "only GET\n")
        path = words[1].decode("ascii", "replace").partition("?")[0]
        found = self._contents.get(path)
        if found is None:
            return _response("404 Not Found", "text/plain", "/metrics and /status\n")
        return _response("200 OK", found[0], found[1]())


def _response(status: str, kind: str, text: str) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
