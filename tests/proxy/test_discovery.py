"""Devices that announce SPDM are found; others are not."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from spdmkit.errors import DeadlineExceeded, SpdmError, TransportError
from spdmkit.proxy import discovery, service
from spdmkit.proxy.configuration import Bus, ProxyConfiguration
from spdmkit.proxy.discovery import discover
from spdmkit.proxy.journal import Journal
from spdmkit.proxy.leases import Limits
from spdmkit.proxy.service import Proxy
from spdmkit.transports.mctp import control
from spdmkit.transports.mctp.kernel import SocketAddress
from spdmkit.transports.server import listen
from spdmkit.transports.uri import parse_uri

from ..transports.mctp.test_kernel import Kernel
from ..transports.support import Responders, soon


class Bridge(Kernel):
    """A network whose endpoints answer control messages: EID -> message types."""

    def __init__(self, endpoints: dict[int, tuple[int, ...]]) -> None:
        super().__init__()
        self.endpoints = endpoints
        self.asked: list[int] = []

    def send(self, descriptor: int, data: bytes, address: SocketAddress) -> None:
        self.asked.append(address.eid)
        types = self.endpoints.get(address.eid)
        if types is None:
            return
        status = control.EidStatus(address.eid)
        answer = control.respond(bytes((address.type,)) + data, status, types)
        assert answer is not None
        reply = SocketAddress(1, address.eid, 0, address.tag & 7)
        self.deliver(descriptor, answer[1:], reply)


async def test_over_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CONTROL_WAIT", 0.02)
    bridge = Bridge({9: (5, 6), 10: (1,)})
    found = await discover(parse_uri("mctp://1/9"), 1.0, calls=bridge)
    assert (found.eid, set(found.types)) == (9, {5, 6})
    with pytest.raises(TransportError, match="does not announce SPDM"):
        await discover(parse_uri("mctp://1/10"), 1.0, calls=bridge)
    with pytest.raises(DeadlineExceeded, match="does not answer"):
        await discover(parse_uri("mctp://1/11"), 1.0, calls=bridge)
    assert bridge.asked == [9, 10, 11, 11, 11]
    assert not bridge.inbox


async def test_over_lines(tmp_path: Path) -> None:
    uri = f"mctp+serial://{tmp_path}/d.tty"
    async with await listen(f"{uri}?pty=create&eid=40", Responders()):
        found = await discover(parse_uri(uri), 2.0)
        assert (found.eid, found.versions) == (40, ("1.0.2",))
    async with await listen("emu+mctp://127.0.0.1:0", Responders()) as listener:
        assert (await discover(listener.uri, 2.0)).types == {5, 6}
    with pytest.raises(SpdmError):
        await discover(listener.uri, 2.0)


async def test_a_bus_is_searched_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CONTROL_WAIT", 0.01)
    bridge = Bridge({9: (5, 6), 10: (1,)})

    async def over_bridge(uri: object, patience: float, *, buses: object) -> object:
        return await discover(uri, patience, calls=bridge)  # type: ignore[arg-type]  # as it comes

    monkeypatch.setattr(service, "discover", over_bridge)
    bus = Bus(
        "bp",
        parse_uri("mctp://1/8"),
        (9, 10, 11),
        parse_uri("tcp://127.0.0.1:0", listen=True),
        0,
        0.05,
        (),
        Limits(),
    )
    # Ports of the test's choosing: the first that are free.
    monkeypatch.setattr(Bus, "route", _anywhere)
    out = io.StringIO()
    async with Proxy(ProxyConfiguration((), (bus,)), Journal(out)) as proxy:
        await soon(lambda: "bp-9" in proxy.devices)
        await asyncio.sleep(0.1)
        assert list(proxy.devices) == ["bp-9"]
        bridge.endpoints[11] = (5,)
        await soon(lambda: "bp-11" in proxy.devices)
        await soon(lambda: bool(proxy.devices["bp-11"].uris))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    found = [each for each in events if each["event"] == "discovered"]
    assert [each["device"] for each in found] == ["bp-9", "bp-11"]


def _anywhere(bus: Bus, eid: int) -> object:
    from spdmkit.proxy.device import DeviceRoute

    return DeviceRoute(f"{bus.name}-{eid}", parse_uri(f"mctp://1/{eid}"), (bus.listen,))
