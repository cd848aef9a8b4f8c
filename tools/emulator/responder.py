"""The emulator's requester against our software device, served as `spdm device serve` does."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from emulator import samples
from emulator.case import Case
from emulator.device import SampleDevice, make_folder, settings
from emulator.failed import Failed
from emulator.programs import Emulator, problems_of_requester
from emulator.record import Record
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.cache import NegotiatedStates
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.connection import Role as ProtocolRole
from spdmkit.protocol.endpoint import Endpoint
from spdmkit.protocol.requester.endpoint_info import get_endpoint_info
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.responder.flow import EncapsulatedLink
from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory
from spdmkit.transports.emu import EmuCommand
from spdmkit.transports.framing import PlatformCommand
from spdmkit.transports.server import listen

__all__ = ["refused", "responder_factory", "run", "serve"]

_SCANNED = "GET_MEASUREMENTS"
"""The emulator looks for measurements by asking for every index."""


def run(case: Case, emulator: Emulator) -> None:
    """Run a case.

    Raises:
        Failed, SpdmError: it failed.
    """
    with emulator.working_directory() as folder:
        make_folder(folder / "device", case, emulator.keys)
        record = Record(folder)
        status, log = asyncio.run(serve(case, emulator, folder, record, case.options()))
        problems = problems_of_requester(status, log)
        wrong = refused(record, case, emulator)
        if problems or wrong:
            raise Failed("; ".join([*problems[:4], *wrong[:4]]))
        missing = [name for name in case.steps if not record.asked[name]]
        if missing:
            raise Failed(f"the emulator did not ask: {', '.join(missing)}")


def refused(record: Record, case: Case, emulator: Emulator) -> list[str]:
    """Judge the record, and say what was refused that should not have been."""
    wrong = record.judge(*samples.believed(emulator.keys, case.suite.asym, case.suite.req_asym))
    expected = {_SCANNED, *case.refused}
    return wrong + [f"{name}: {text}" for name, text in record.errors if name not in expected]


async def serve(
    case: Case,
    emulator: Emulator,
    folder: Path,
    record: Record,
    options: list[str],
    states: NegotiatedStates | None = None,
) -> tuple[int, str]:
    """Serve the device in `folder` to a run of the emulator's requester.

    Args:
        case: what it is for.
        emulator: the emulator.
        folder: its working directory, with our "device" in it.
        record: sees what passes.
        options: the requester's.
        states: what our device remembers of earlier connections.

    Returns:
        The requester's exit status and what it printed.
    """
    device = SampleDevice(folder / "device")
    factory = responder_factory(device, case, record, states)
    uri = f"emu+{case.transport}://127.0.0.1:0"
    listener = await listen(uri, factory, tap=record.listening, on_command=_command)
    port = listener.uri.host.port
    try:
        return await asyncio.to_thread(emulator.requester, port, options, folder)
    finally:
        await listener.close()


def responder_factory(
    device: SampleDevice, case: Case, record: Record, states: NegotiatedStates | None = None
) -> EndpointFactory:
    """Makes our responder for a connection."""
    allowed = settings(device, case)

    def endpoint(info: ConnectionInfo) -> ResponderEndpoint:
        connection = Connection(
            ProtocolRole.RESPONDER,
            allowed,
            clock=time.monotonic,
            random=os.urandom,
            events=record.sink,
            record_profile=info.record_profile,
            log_keys=True,
        )
        connection.states = states
        return ResponderEndpoint(connection, device, name=info.name)

    return endpoint


def _command(endpoint: Endpoint, command: PlatformCommand) -> None:
    """What the emulator orders out of band: that we begin something in a session."""
    if not isinstance(endpoint, ResponderEndpoint):
        return
    if command.command == EmuCommand.OOB_ENCAP_KEY_UPDATE:
        session_id = int.from_bytes(command.payload, "little")
        session = endpoint.connection.sessions.get(session_id)
        if session is not None:
            endpoint.update_keys(session)
    elif command.command == EmuCommand.OOB_ENCAP_ENDPOINT_INFO:
        newest = next(reversed(endpoint.connection.sessions.values()), None)
        endpoint.ask(_ask_endpoint_info, newest)


def _ask_endpoint_info(link: EncapsulatedLink) -> Exchange[int | None]:
    yield from get_endpoint_info(link)
    return None
