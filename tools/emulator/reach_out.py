"""The reach-out model over TCP: the responder dials and sends Role-Inquiry (DSP0287 6.2)."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TypeVar

from emulator.case import Case
from emulator.device import SampleDevice, make_folder
from emulator.failed import Failed
from emulator.programs import Emulator, free_port, problems_of_requester
from emulator.record import Record
from emulator.requester import Visit, endpoint_factory, judge, take_steps
from emulator.responder import refused, responder_factory
from spdmkit.errors import TransportError
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.endpoint import RequesterEndpoint
from spdmkit.transports.aio import AsyncConnection, connect
from spdmkit.transports.framing import Role
from spdmkit.transports.server import listen

__all__ = ["run_requester", "run_responder"]

T = TypeVar("T")

_SECONDS = 30.0


class _FromThread:
    """An asynchronous connection, for steps that run in a thread of their own."""

    def __init__(self, connection: AsyncConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop

    @property
    def endpoint(self) -> RequesterEndpoint:
        """Our end."""
        endpoint = self._connection.endpoint
        if not isinstance(endpoint, RequesterEndpoint):
            raise Failed("the listener did not become the requester")
        return endpoint

    def run(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end."""
        running = asyncio.run_coroutine_threadsafe(self._connection.run(exchange), self._loop)
        return running.result(_SECONDS)

    def command(self, command: int, payload: bytes = b"") -> bytes:
        """Have the emulator do something out of band."""
        running = asyncio.run_coroutine_threadsafe(
            self._connection.command(command, payload), self._loop
        )
        return running.result(_SECONDS)


def run_requester(case: Case, emulator: Emulator) -> None:
    """Our requester listens, the emulator's responder dials it.

    Raises:
        Failed, SpdmError: it failed.
    """
    asyncio.run(_listen_as_requester(case, emulator))


async def _listen_as_requester(case: Case, emulator: Emulator) -> None:
    loop = asyncio.get_running_loop()
    port = free_port()
    done: asyncio.Future[None] = loop.create_future()
    started = threading.Event()
    with emulator.working_directory() as scratch:
        record = Record(scratch)

        async def visited(connection: AsyncConnection) -> None:
            await asyncio.to_thread(started.wait, _SECONDS)
            visit = Visit(case, emulator.keys, _FromThread(connection, loop), record.events)
            try:
                await asyncio.to_thread(take_steps, visit, responder)
            except Exception as error:  # noqa: BLE001  # what failed is reported where it is awaited
                done.set_exception(error)
            else:
                done.set_result(None)

        uri = f"emu+{case.transport}://127.0.0.1:{port}"
        listener = await listen(
            uri,
            endpoint_factory(case, emulator.keys, record),
            roles=(Role.REQUESTER,),
            handler=visited,
            tap=record.listening,
        )
        try:
            with emulator.responder(case.options(), port=port) as responder:
                started.set()
                async with asyncio.timeout(_SECONDS):
                    await done
        finally:
            await listener.close()
        judge(case, emulator, record)


def run_responder(case: Case, emulator: Emulator) -> None:
    """The emulator's requester listens, our device dials it.

    Raises:
        Failed, SpdmError: it failed.
    """
    with emulator.working_directory() as folder:
        make_folder(folder / "device", case, emulator.keys)
        record = Record(folder)
        status, log = asyncio.run(_dial_as_responder(case, emulator, folder, record))
        problems = problems_of_requester(status, log) + refused(record, case, emulator)
        if problems:
            raise Failed("; ".join(problems[:4]))
        missing = [name for name in case.steps if not record.asked[name]]
        if missing:
            raise Failed(f"the emulator did not ask: {', '.join(missing)}")


async def _dial_as_responder(
    case: Case, emulator: Emulator, folder: Path, record: Record
) -> tuple[int, str]:
    port = free_port()
    running = asyncio.create_task(
        asyncio.to_thread(emulator.requester, port, case.options(), folder)
    )
    device = SampleDevice(folder / "device")
    factory = responder_factory(device, case, record)
    uri = f"emu+{case.transport}://127.0.0.1:{port}"
    give_up = time.monotonic() + _SECONDS
    while True:
        try:
            connection = await connect(uri, factory, role=Role.RESPONDER, tap=record.dialling)
            break
        except TransportError:
            if running.done() or time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.05)
    try:
        return await running
    finally:
        await connection.close()
