"""Which endpoints on MCTP announce SPDM."""

from __future__ import annotations

import asyncio

from spdmkit.errors import DeadlineExceeded, TransportError
from spdmkit.proxy.bus import SerialBuses
from spdmkit.proxy.line import open_line
from spdmkit.transports.mctp import control
from spdmkit.transports.mctp.framing import (
    CONTROL_TRIES,
    CONTROL_WAIT,
    Discovered,
    MctpSerialFraming,
)
from spdmkit.transports.mctp.kernel import Calls, KernelRequester
from spdmkit.transports.uri import EndpointUri, MctpAddress

__all__ = ["discover"]


async def discover(
    uri: EndpointUri,
    patience: float,
    *,
    calls: Calls | None = None,
    buses: SerialBuses | None = None,
) -> Discovered:
    """Ask an endpoint what it is.

    Args:
        uri: its address.
        patience: seconds for it.
        calls: system calls on MCTP sockets; the real ones by default.
        buses: serial lines that several devices share.

    Raises:
        SpdmError: nobody answers, or it does not announce SPDM.
    """
    if isinstance(uri.address, MctpAddress):
        return await _over_sockets(uri.address, calls)
    line = await open_line(uri, patience, buses=buses)
    try:
        if isinstance(line.framing, MctpSerialFraming) and line.framing.found is not None:
            return line.framing.found
        # The emulator's socket protocol has no control messages: it opened, and that is that.
        return Discovered(0, frozenset({control.SPDM, control.SECURED}))
    finally:
        await line.close()


async def _over_sockets(address: MctpAddress, calls: Calls | None) -> Discovered:
    """Get Message Type Support through the kernel, which has routes and ids already."""
    wire = KernelRequester(address, calls)
    try:
        request = control.get_message_types(1)
        for _ in range(CONTROL_TRIES):
            try:
                wire.send(request)
            except OSError as error:
                raise TransportError(f"endpoint {address}: {error.strerror or error}") from error
            response = await _received(wire, CONTROL_WAIT)
            if response is not None:
                types = control.read_message_types(control.read_response(request, response))
                if control.SPDM not in types:
                    raise TransportError(f"endpoint {address} does not announce SPDM")
                return Discovered(address.eid, types)
        raise DeadlineExceeded(f"endpoint {address} does not answer")
    finally:
        wire.close()


async def _received(wire: KernelRequester, patience: float) -> bytes | None:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        try:
            data = wire.recv(0)
        except BlockingIOError:
            return
        except OSError as error:
            if not came.done():
                came.set_exception(TransportError(f"the MCTP socket broke: {error}"))
            return
        if not came.done():
            came.set_result(data)

    loop.add_reader(wire.fileno(), readable)
    try:
        async with asyncio.timeout(patience):
            return await came
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(wire.fileno())
