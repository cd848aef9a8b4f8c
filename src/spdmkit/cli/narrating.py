"""What happens on connections, as lines for `-v`: who came, what was refused, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from spdmkit.cli.text import escaped
from spdmkit.messages import ErrorCode
from spdmkit.protocol import events as e

if TYPE_CHECKING:
    from spdmkit.protocol.events import EventSink, ProtocolEvent
    from spdmkit.transports.server import ListenerEvent

__all__ = ["both", "narrate_connection", "narrator"]


def narrator(peer: str) -> EventSink:
    """A sink that tells on stderr what happens on one connection.

    Args:
        peer: what to call the connection.
    """

    def tell(event: ProtocolEvent) -> None:
        line = _line(event)
        if line:
            click.echo(f"{escaped(peer)}: {line}", err=True)

    return tell


def narrate_connection(event: ListenerEvent) -> None:
    """Tell on stderr that a connection began, ended, or was turned away."""
    why = "" if event.error is None else f": {escaped(str(event.error))}"
    click.echo(f"{escaped(event.peer)}: {event.what.value}{why}", err=True)


def both(first: EventSink | None, second: EventSink | None) -> EventSink | None:
    """One sink for two."""
    if first is None or second is None:
        return first or second

    def sink(event: ProtocolEvent) -> None:
        first(event)
        second(event)

    return sink


def _line(event: ProtocolEvent) -> str:
    for kind, say in _LINES.items():
        if isinstance(event, kind):
            return say(event)
    return ""


def _refused(event: e.RequestRefused) -> str:
    known = event.error_code in ErrorCode.__members__.values()
    name = ErrorCode(event.error_code).name if known else f"0x{event.error_code:02x}"
    return f"answered ERROR {name}: {escaped(event.reason)}"


_LINES: dict[type[ProtocolEvent], Callable[..., str]] = {
    e.RequestRefused: _refused,
    e.ConnectionReset: lambda event: f"started over: {escaped(event.reason)}",
    e.SessionEstablished: lambda event: (
        f"session 0x{event.session_id:08x} by {event.kind}"
        f"{', mutually authenticated' if event.mutual else ''}"
    ),
    e.SessionEnded: lambda event: (
        f"session 0x{event.session_id:08x} is over: {escaped(event.reason)}"
    ),
    e.KeysUpdated: lambda event: f"session 0x{event.session_id:08x} has new keys",
}
