"""`spdm probe`: what a responder supports."""

from __future__ import annotations

import json
from typing import Any

import click

from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.connecting import requester_factory
from spdmkit.cli.options import common, example
from spdmkit.errors import PeerError
from spdmkit.messages import ResponderFlags
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import SlotDigests, get_digests
from spdmkit.protocol.requester.negotiate import get_version, negotiate
from spdmkit.protocol.settings import ALL_VERSIONS, requester_settings
from spdmkit.transports.blocking import connect

__all__ = ["command"]


@click.command(name="probe", epilog=example("spdm probe tcp://192.0.2.7"))
@click.argument("uri")
@capture_option
@common
def command(uri: str, capture: Capture, as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """Show what the responder at URI supports; nothing is verified."""
    settings = requester_settings(versions=ALL_VERSIONS, sessions=True)
    with connect(uri, requester_factory(settings), tap=capture.dialled) as connection:
        link = Link(connection.endpoint.connection)
        found = connection.run(_probe(link))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        from spdmkit.cli.report import show_pairs

        show_pairs((name.replace("_", " "), _text(value)) for name, value in found.items())
    return 0


def _probe(link: Link) -> Exchange[dict[str, Any]]:
    yield from get_version(link)
    yield from negotiate(link)
    connection = link.connection
    digests = SlotDigests({}, 0)
    if connection.flag(ResponderFlags.CERT_CAP):
        try:
            digests = yield from get_digests(link)
        except PeerError:
            digests = SlotDigests({}, 0)
    peer = connection.peer
    return {
        "spdm_version": f"{connection.version >> 4}.{connection.version & 0xF}",
        "versions": [f"{entry >> 12}.{entry >> 8 & 0xF}" for entry in connection.offered_versions],
        "capabilities": _flags(peer.flags),
        "ct_exponent": peer.ct_exponent,
        "data_transfer_size": peer.data_transfer_size,
        "max_message_size": peer.max_message_size,
        "algorithms": connection.algorithms.names(),
        "slots": {str(slot): entry.digest.hex() for slot, entry in digests.slots.items()},
        "supported_slots": [slot for slot in range(8) if digests.supported >> slot & 1],
    }


def _flags(flags: int) -> list[str]:
    """Names of the flags that are set, those of two-bit fields included."""
    return [
        name
        for name, flag in ResponderFlags.__members__.items()
        if not name.endswith("_MASK") and flags & flag == flag
    ]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
