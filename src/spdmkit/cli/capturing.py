"""`--capture FILE` for every command that talks: one line to declare it, one to use it.

@capture_option
def command(..., capture: Capture) -> int:
    connect(uri, factory, tap=capture.dialled)
    listen(uri, factory, tap=capture.accepted)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.cli import failure

if TYPE_CHECKING:
    from spdmkit.capture.writer import CaptureWriter, MctpCapture, TcpCapture
    from spdmkit.transports.conduit import Tap, TapFactory

__all__ = ["Capture", "capture_option"]

F = TypeVar("F", bound=Callable[..., Any])

_NAMED_ENDPOINT = re.compile(r"(?:eid|mctp)\b\D*(?:\d+/)?(\d+)$", re.IGNORECASE)
"""How transports without TCP name their ends: `eid:8`, `mctp:1/8`, `mctp://1/8`."""


class Capture:
    """Where the connections of a command are written to; one file for all of them.

    The file is made when a command first asks for a tap, before anything is connected, so that a
    path that cannot be written is an error of usage and not one of a connection.
    """

    def __init__(self, path: Path | None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            path: the file, overwritten; None when nothing is to be captured.
        """
        self._path = path
        self._writer: CaptureWriter | None = None
        self._failed = False

    @property
    def dialled(self) -> TapFactory | None:
        """For connections that the command makes; None when nothing is captured."""
        return self._factory(initiator=True)

    @property
    def accepted(self) -> TapFactory | None:
        """For connections that the command accepts; None when nothing is captured."""
        return self._factory(initiator=False)

    def close(self) -> None:
        """Close the file; what passes afterwards is not captured."""
        if self._writer is not None:
            self._writer.close()

    def stopped(self, error: Exception) -> None:
        """The file cannot be written any more: say so once, and let the conversation go on."""
        if not self._failed:
            self._failed = True
            failure.say(f"the capture ends here: {error}")

    def _factory(self, *, initiator: bool) -> TapFactory | None:
        if self._path is None:
            return None
        if self._writer is None:
            from spdmkit.capture.writer import CaptureWriter

            self._writer = CaptureWriter(self._path)
        writer = self._writer

        def make(local: str, peer: str) -> Tap:
            return _Guarded(self, lambda: _tap(writer, local, peer, initiator=initiator))

        return make


class _Guarded:
    """A tap that never ends the conversation it listens to."""

    def __init__(self, capture: Capture, make: Callable[[], Tap]) -> None:
        self._capture = capture
        self._inner: Tap | None = None
        self._try(lambda: setattr(self, "_inner", make()))

    def sent(self, data: bytes) -> None:
        """One write."""
        inner = self._inner
        if inner is not None:
            self._try(lambda: inner.sent(data))

    def received(self, data: bytes) -> None:
        """One read."""
        inner = self._inner
        if inner is not None:
            self._try(lambda: inner.received(data))

    def closed(self, *, by_peer: bool = False) -> None:
        """The connection ended."""
        inner = self._inner
        if inner is not None:
            self._try(lambda: inner.closed(by_peer=by_peer))

    def _try(self, write: Callable[[], None]) -> None:
        from spdmkit.errors import SpdmError

        try:
            write()
        except SpdmError as error:
            self._inner = None
            self._capture.stopped(error)


class _MctpTap:
    """MCTP messages as a tap: whoever opened the conversation owns the tags of its requests."""

    def __init__(self, capture: MctpCapture, *, initiator: bool) -> None:
        self._capture = capture
        self._initiator = initiator

    def sent(self, data: bytes) -> None:
        """One message, from its type byte on."""
        self._capture.sent(data, owner=self._initiator)

    def received(self, data: bytes) -> None:
        """One message, from its type byte on."""
        self._capture.received(data, owner=not self._initiator)

    def closed(self, *, by_peer: bool = False) -> None:
        """MCTP has no connections."""


class _SerialTap:
    """The bytes of a serial line (DSP0253) as a tap: each packet is one of the capture."""

    def __init__(self, capture: MctpCapture) -> None:
        from spdmkit.transports.mctp.serial import SerialDecoder

        self._capture = capture
        self._out, self._in = SerialDecoder(), SerialDecoder()

    def sent(self, data: bytes) -> None:
        """Bytes that went over the line."""
        for packet in self._out.feed(data):
            self._capture.packet(packet, outbound=True)

    def received(self, data: bytes) -> None:
        """Bytes that came over the line."""
        for packet in self._in.feed(data):
            self._capture.packet(packet, outbound=False)

    def closed(self, *, by_peer: bool = False) -> None:
        """MCTP has no connections."""


def _tap(writer: CaptureWriter, local: str, peer: str, *, initiator: bool) -> Tap:
    """The tap of a connection between two ends: TCP where they are addresses with ports."""
    if local.startswith("/") or peer.startswith("/"):
        return _SerialTap(writer.mctp(0, 0))
    ours, theirs = _NAMED_ENDPOINT.search(local), _NAMED_ENDPOINT.search(peer)
    if ours or theirs:
        eids = [int(each[1]) & 0xFF if each else 0 for each in (ours, theirs)]
        return _MctpTap(writer.mctp(eids[0], eids[1]), initiator=initiator)
    capture: TcpCapture = writer.tcp(_address(local), _address(peer), initiator=initiator)
    return capture


def _address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT`; what is neither becomes a host without a port."""
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else (text, 0)


def capture_option(function: F) -> F:
    """`--capture FILE`; the command gets a `Capture` as `capture`, closed when it ends.

    A command that runs other commands hands its own on as `obj`, so that all write to one file.
    """
    return click.option(
        "--capture",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_open,
        help="Record what passes in this file, as pcapng.",
    )(function)


def _open(context: click.Context, _parameter: click.Parameter, path: Path | None) -> Capture:
    if path is None and isinstance(context.obj, Capture):
        return context.obj
    capture = Capture(path)
    context.call_on_close(capture.close)
    return capture
