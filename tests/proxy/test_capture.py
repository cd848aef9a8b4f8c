"""What passes a proxy, captured on both of its sides."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spdmkit.capture.decode import Decoder
from spdmkit.capture.events import ConversationEvent, EventKind
from spdmkit.capture.sources import open_recording
from spdmkit.cli.capturing import Capture
from spdmkit.proxy.watching import watched
from spdmkit.transports.aio import connect

from ..transports.support import ask_version, requester, soon
from .lab import lab


def names(path: Path) -> dict[str, list[str]]:
    """The messages of each connection, by what carried them."""
    with Decoder(open_recording(str(path)), verify=False) as decoder:
        events = [event for event in decoder if event.kind is EventKind.MESSAGE]
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(_carrier(event), []).append(event.name)
    return found


def _carrier(event: ConversationEvent) -> str:
    return f"{event.channel.framing} {event.channel.transport}".strip()


@pytest.mark.parametrize("serial", [False, True])
async def test_both_sides(tmp_path: Path, *, serial: bool) -> None:
    path = tmp_path / "c.pcapng"
    capture = Capture(path)
    behind = f"mctp+serial://{tmp_path}/d.tty?pty=create" if serial else "emu+mctp://127.0.0.1:0"
    async with lab(behind=behind, taps=(capture.accepted, capture.dialled)) as lab_:
        async with await connect(lab_.uri, requester) as client:
            await client.run(ask_version())
        await soon(lambda: not lab_.device.figures.leased_by)
    capture.close()
    exchange = ["GET_VERSION", "VERSION"]
    assert names(path) == {"tcp": exchange, "mctp" if serial else "emu mctp": exchange}


async def test_without_a_capture_nothing_stands_between() -> None:
    protocol = asyncio.BufferedProtocol()
    assert watched(protocol, None) is protocol
