"""The cases about the TCP binding: our listener passes, a spoiled one is found out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spdmkit.conformance.binding import BINDING_CASES, BindingCase, run_binding_case
from spdmkit.conformance.outcome import Outcome
from spdmkit.conformance.wire import WireMisbehaviour, relay
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.responders import responder_factory
from spdmkit.transports.server import listen
from spdmkit.transports.uri import Host

PATIENCE = 0.5


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> FolderDevice:
    folder = tmp_path_factory.mktemp("binding") / "device"
    initialise(folder, algorithm="ecdsa-p256")
    return FolderDevice.load(folder)


@contextmanager
def served(device: FolderDevice, misbehaviour: WireMisbehaviour | None = None) -> Iterator[Host]:
    """A listener in a thread, spoiled if need be."""
    ready: list[int] = []
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        listener = await listen("tcp://127.0.0.1:0", responder_factory(device))
        port = listener.uri.host.port
        front = None
        if misbehaviour is not None:
            front = await relay(misbehaviour, listener.uri.host, Host("127.0.0.1", 0))
            port = front.sockets[0].getsockname()[1]
        ready.append(port)
        started.set()
        while not stop.is_set():
            await asyncio.sleep(0.01)
        if front is not None:
            front.close()
        await listener.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(10)
    try:
        yield Host("127.0.0.1", ready[0])
    finally:
        stop.set()
        thread.join()


def test_our_listener_passes(device: FolderDevice) -> None:
    with served(device) as host:
        for case in BINDING_CASES:
            result = run_binding_case(case, host, PATIENCE)
            assert result.outcome is Outcome.PASSED, (case.name, result.failures, result.detail)


@pytest.mark.parametrize("case", BINDING_CASES, ids=lambda case: case.name)
def test_each_case_finds_the_listener_that_breaks_its_rule(
    device: FolderDevice, case: BindingCase
) -> None:
    with served(device, case.breaks) as host:
        result = run_binding_case(case, host, PATIENCE)
    assert result.outcome is Outcome.FAILED, result
