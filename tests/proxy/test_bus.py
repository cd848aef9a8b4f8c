"""A serial line with a bridge at its end: several devices share it, and none hears another's."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from spdmkit.errors import ConfigurationError, DeadlineExceeded, SpdmError
from spdmkit.protocol.frames import Frame
from spdmkit.proxy.bus import SerialBuses
from spdmkit.proxy.configuration import Bus, ProxyConfiguration, parse_configuration
from spdmkit.proxy.discovery import discover
from spdmkit.proxy.journal import Journal
from spdmkit.proxy.leases import Limits
from spdmkit.proxy.line import open_line
from spdmkit.proxy.service import Proxy
from spdmkit.transports.aio import connect
from spdmkit.transports.framing import Reply, Role
from spdmkit.transports.mctp.control import EidStatus
from spdmkit.transports.mctp.framing import MctpSerialFraming
from spdmkit.transports.mctp.serial import SerialDecoder, encode
from spdmkit.transports.mctp.tty import create_pty
from spdmkit.transports.uri import parse_uri
from spdmkit.transports.wires import WireTransport

from ..transports.support import (
    ECHO,
    GET_VERSION,
    VERSION,
    ask,
    ask_version,
    request,
    requester,
    soon,
)


class Bridge(asyncio.BufferedProtocol):
    """Endpoints at the end of a line that answer with their id and the request."""

    def __init__(self, *eids: int) -> None:
        self.framings = {
            eid: MctpSerialFraming(Role.RESPONDER, status=EidStatus(eid, static=True))
            for eid in eids
        }
        self._decoder = SerialDecoder()
        self._buffer = bytearray(4096)
        self.transport: asyncio.Transport | None = None
        self.asked: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self.transport is not None
        for packet in self._decoder.feed(bytes(self._buffer[:nbytes])):
            framing = self.framings.get(packet[1])
            for event in framing.feed(encode(packet)) if framing is not None else ():
                if isinstance(event, Reply):
                    self.transport.write(event.data)
                elif isinstance(event, Frame) and framing is not None:
                    self.asked.append(packet[1])
                    answer = VERSION if event.body == GET_VERSION else event.body
                    tail = b"" if event.body == GET_VERSION else bytes((packet[1],))
                    self.transport.write(framing.pack(Frame(event.kind, answer + tail)))


@asynccontextmanager
async def bridge(path: Path, *eids: int) -> AsyncIterator[Bridge]:
    ends = Bridge(*eids)
    transport = WireTransport(asyncio.get_running_loop(), create_pty(str(path)), ends)
    try:
        yield ends
    finally:
        transport.abort()
        await asyncio.sleep(0)


def bus(path: Path, *eids: int) -> Bus:
    to, listen = parse_uri(f"mctp+serial://{path}"), parse_uri("tcp://127.0.0.1:0", listen=True)
    return Bus("riser", to, eids, listen, 0, 0.05, (), Limits(opening=3))


async def test_devices_are_found_and_served_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spdmkit.transports.mctp.framing.CONTROL_WAIT", 0.05)
    monkeypatch.setattr("spdmkit.transports.uri.EndpointUri.with_port", lambda self, port: self)
    out = io.StringIO()
    path = tmp_path / "tty"
    async with bridge(path, 20, 21, 22) as ends:
        configuration = ProxyConfiguration((), (bus(path, 19, 20, 21, 22),))
        async with Proxy(configuration, Journal(out)) as proxy:
            await soon(lambda: sum(bool(each.uris) for each in proxy.devices.values()) == 3)
            ports = {
                name: sock.getsockname()[1]
                for name, device in proxy.devices.items()
                for sock, _uri in device._sockets
            }

            async def talk(eid: int) -> None:
                port = ports[f"riser-{eid}"]
                async with await connect(f"tcp://127.0.0.1:{port}", requester) as client:
                    await client.run(ask_version())
                    for number in range(20):
                        frame = request(ECHO, bytes((number,)) * 300)
                        assert await client.run(ask(frame)) == frame.body + bytes((eid,))

            await asyncio.gather(*(talk(eid) for eid in (20, 21, 22)))
        assert len(ends.asked) == 3 * 21
        # They took turns on the line, and did not wait for one another's conversations.
        assert ends.asked != sorted(ends.asked)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [each["device"] for each in found if each["event"] == "discovered"] == [
        *("riser-20", "riser-21", "riser-22"),
    ]


async def test_no_id_is_assigned_behind_a_bridge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spdmkit.transports.mctp.framing.CONTROL_WAIT", 0.02)
    path = tmp_path / "tty"
    async with bridge(path, 20, 0) as ends:
        buses = SerialBuses([str(path)])
        with pytest.raises(DeadlineExceeded, match="endpoint 30 does not answer"):
            await discover(parse_uri(f"mctp+serial://{path}?peer=30"), 2.0, buses=buses)
        found = await discover(parse_uri(f"mctp+serial://{path}?peer=20"), 2.0, buses=buses)
        assert found.eid == 20
        assert ends.framings[20].station.status.eid == 20
        assert ends.framings[0].station.status.eid == 0


async def test_one_conversation_for_each_endpoint(tmp_path: Path) -> None:
    path = tmp_path / "tty"
    async with bridge(path, 20):
        buses = SerialBuses([str(path)])
        uri = parse_uri(f"mctp+serial://{path}?peer=20")
        line = await open_line(uri, 2.0, buses=buses)
        with pytest.raises(ConfigurationError, match="has a conversation"):
            await open_line(uri, 2.0, buses=buses)
        with pytest.raises(ConfigurationError, match="need peer="):
            await open_line(parse_uri(f"mctp+serial://{path}"), 2.0, buses=buses)
        await line.close()
        again = await open_line(uri, 2.0, buses=buses)
        await again.close()


async def test_the_line_breaks_for_all(tmp_path: Path) -> None:
    path = tmp_path / "tty"
    lost: list[SpdmError] = []
    async with bridge(path, 20, 21):
        buses = SerialBuses([str(path)])
        lines = [
            await open_line(parse_uri(f"mctp+serial://{path}?peer={eid}"), 2.0, buses=buses)
            for eid in (20, 21)
        ]
        for line in lines:
            line.on_lost = lost.append
    await soon(lambda: len(lost) == 2)
    for line in lines:
        await line.close()


async def test_a_line_that_takes_nothing_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "tty"
    uri = parse_uri(f"mctp+serial://{path}?peer=20")
    buses = SerialBuses([str(path)])
    async with bridge(path, 20) as ends:
        line = await open_line(uri, 2.0, buses=buses)
        assert ends.transport is not None
        ends.transport.pause_reading()
        line.send(request(ECHO, bytes(60_000)))
        await line.close()
        ends.transport.resume_reading()
        again = await open_line(uri, 2.0, buses=buses)
        await again.close()


def test_shared_lines_of_a_file() -> None:
    text = b'[[device]]\nto = "mctp+serial:///dev/x?peer=9"\nlisten = "tcp://:1"\n'
    buses = SerialBuses(parse_configuration(text, "x").shared_lines())
    assert not buses.shares(parse_uri("mctp+serial:///dev/x?peer=9"))
