"""A proxy between test clients and a test device, all in one process."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from spdmkit.proxy.configuration import ProxyConfiguration, device_address, tcp_address
from spdmkit.proxy.device import DeviceRoute, ProxiedDevice
from spdmkit.proxy.journal import Journal
from spdmkit.proxy.leases import Limits
from spdmkit.proxy.service import Proxy
from spdmkit.transports.server import Listener, listen

from ..transports.support import Responders

QUICK = Limits(waiting=2, wait=5.0, idle=5.0, lease=10.0, answer=2.0, opening=2.0)


@dataclass
class Lab:
    """A running proxy, and what it says.

    Attributes:
        proxy: it.
        device: its only device.
        responders: what the device behind it was asked.
        out: its journal.
    """

    proxy: Proxy
    responders: Responders
    out: io.StringIO
    behind: Listener | None = None
    extra: list[Any] = field(default_factory=list)

    @property
    def device(self) -> ProxiedDevice:
        [device] = self.proxy.devices.values()
        return device

    @property
    def uri(self) -> str:
        return str(self.device.uris[0])

    @property
    def port(self) -> int:
        return self.device.uris[0].host.port

    def journal(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def received(self) -> list[bytes]:
        """Bodies of what the device was asked, GET_VERSION left out."""
        return [
            frame.body
            for responder in self.responders.made
            for frame in responder.received
            if frame.body[1:2] != b"\x84"
        ]


@asynccontextmanager
async def lab(
    limits: Limits = QUICK,
    *,
    to: str | None = None,
    dial: Sequence[str] = (),
    every: float = 300.0,
    allow: Sequence[Any] = (),
    messages: bool = False,
    behind: str = "emu+mctp://127.0.0.1:0",
    taps: Any = (None, None),
    **configuration: Any,
) -> AsyncIterator[Lab]:
    """A proxy before a device that it is joined to; `to` replaces that device by another."""
    responders = Responders()
    listener = await listen(behind, responders) if to is None else None
    route = DeviceRoute(
        name="nic",
        to=device_address(to or str(listener.uri if listener else "").partition("?")[0]),
        listen=(tcp_address("tcp://127.0.0.1:0", listen=True),),
        dial=tuple(tcp_address(uri, listen=False) for uri in dial),
        every=every,
        allow=tuple(allow),
        limits=limits,
        taps=taps,
    )
    out = io.StringIO()
    proxy = Proxy(ProxyConfiguration((route,), **configuration), Journal(out, messages=messages))
    try:
        async with proxy:
            yield Lab(proxy, responders, out, listener)
    finally:
        if listener is not None:
            await listener.close(grace=0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tasks() -> int:
    return len(asyncio.all_tasks())
