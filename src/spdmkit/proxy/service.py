"""All devices of one process: start, look for more, tell how it goes, stop."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from spdmkit.attestation.files import write_atomic
from spdmkit.errors import SpdmError, TransportError
from spdmkit.proxy.bus import SerialBuses
from spdmkit.proxy.configuration import Bus, ProxyConfiguration
from spdmkit.proxy.device import DeviceRoute, ProxiedDevice
from spdmkit.proxy.discovery import discover
from spdmkit.proxy.figures import prometheus
from spdmkit.proxy.journal import Journal
from spdmkit.proxy.page import StatusPage
from spdmkit.transports.loops import raise_descriptor_limit

__all__ = ["Proxy"]

STATUS_INTERVAL = 5.0
AT_ONCE = 8
"""Endpoints asked at the same time."""


class Proxy:
    """A running proxy.

    Attributes:
        devices: those that are carried for, by name.
        page: (host, port) of the status page, or None.
    """

    def __init__(
        self,
        configuration: ProxyConfiguration,
        journal: Journal,
        *,
        on_listening: Callable[[ProxiedDevice], None] = lambda _device: None,
    ) -> None:
        """Nothing is started yet.

        Args:
            configuration: what to carry.
            journal: where to write what happens.
            on_listening: told of each device that is listened for or called for.
        """
        self.devices: dict[str, ProxiedDevice] = {}
        self.page: tuple[str, int] | None = None
        self._configuration = configuration
        self._journal = journal
        self._on_listening = on_listening
        self._buses = SerialBuses(configuration.shared_lines())
        self._started = time.time()
        self._status_page: StatusPage | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen for every device, and begin to look for those that are not named.

        Raises:
            TransportError: an address cannot be listened on.
        """
        raise_descriptor_limit()
        configuration = self._configuration
        loop = asyncio.get_running_loop()
        try:
            if configuration.metrics is not None:
                self._status_page = StatusPage(self.metrics, self.status)
                self.page = await self._status_page.start(*configuration.metrics)
            for route in configuration.devices:
                await self._add(route)
        except BaseException:
            await self.close()
            raise
        self._tasks.append(loop.create_task(self._look_once()))
        self._tasks += [loop.create_task(self._look_for(bus)) for bus in configuration.buses]
        if configuration.status_file is not None:
            self._tasks.append(loop.create_task(self._keep_status(configuration.status_file)))

    async def close(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(device.close() for device in self.devices.values()))
        if self._status_page is not None:
            await self._status_page.close()
        self._journal.write("stopped")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    def metrics(self) -> str:
        """For Prometheus."""
        return prometheus(
            (device.figures for device in self.devices.values()), started=self._started
        )

    def status(self) -> dict[str, Any]:
        """Everything, for people and programs."""
        return {
            "uptime": round(time.time() - self._started, 3),
            "tasks": len(asyncio.all_tasks()),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "devices": [
                {
                    **device.figures.status(),
                    "listening": [str(uri) for uri in device.uris],
                    "calls": [str(uri) for uri in device.route.dial],
                }
                for device in self.devices.values()
            ],
        }

    async def _add(self, route: DeviceRoute) -> ProxiedDevice:
        device = ProxiedDevice(route, self._journal, self._buses)
        self.devices[route.name] = device
        try:
            await device.start()
        except BaseException:
            del self.devices[route.name]
            await device.close()
            raise
        self._on_listening(device)
        return device

    # -- discovery ------------------------------------------------------------------------------

    async def _look_once(self) -> None:
        """See which of the named devices are there; they are carried for in any case."""
        asked = asyncio.Semaphore(AT_ONCE)

        async def look(device: ProxiedDevice) -> None:
            async with asked:
                await device.look()

        await asyncio.gather(*(look(device) for device in list(self.devices.values())))

    async def _look_for(self, bus: Bus) -> None:
        """Ask every endpoint of a bus, again and again; whoever announces SPDM is a device."""
        while True:
            for eid in bus.eids:
                route = bus.route(eid)
                if route.name not in self.devices:
                    await self._try(route)
            await asyncio.sleep(bus.rescan)

    async def _try(self, route: DeviceRoute) -> None:
        try:
            found = await discover(route.to, route.limits.opening, buses=self._buses)
        except TransportError:
            return
        except SpdmError as error:
            self._journal.write("not-spdm", to=str(route.to), why=str(error))
            return
        self._journal.write(
            "discovered",
            device=route.name,
            to=str(route.to),
            types=" ".join(f"0x{each:02X}" for each in sorted(found.types)),
        )
        try:
            await self._add(route)
        except TransportError as error:
            self._journal.write("cannot-listen", device=route.name, why=str(error))

    async def _keep_status(self, path: Path) -> None:
        while True:
            try:
                write_atomic(path, json.dumps(self.status(), indent=2).encode() + b"\n")
            except (OSError, SpdmError) as error:
                self._journal.write("cannot-write-status", why=str(error))
            await asyncio.sleep(STATUS_INTERVAL)
