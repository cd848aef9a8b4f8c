"""Networks that delay, split, glue, cut, reset, stall and flood: a result or a clear error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.attestation.collect import Collected, Wanted, collect
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.cli.connecting import requester_factory
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.responders import responder_factory
from spdmkit.errors import SpdmError
from spdmkit.protocol.deadlines import Timing
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports.aio import connect
from spdmkit.transports.server import Listener, listen

from .chaos import Fault, chaos

pytestmark = pytest.mark.timeout(60)
TOTAL = 12_000
"""More bytes than an attestation moves in either direction."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("faults") / "device"
    initialise(made, algorithm="ecdsa-p256")
    return made


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Listener]:
    listener = await listen("tcp://127.0.0.1:0", responder_factory(FolderDevice.load(folder)))
    try:
        yield listener
    finally:
        await listener.close()


async def attest(uri: str, folder: Path, *, session: bool = True) -> Collected:
    verifier = Verifier.from_files(Sources(trust_anchors=[folder / "trust-anchor.pem"]))
    settings = replace(
        requester_settings(sessions=session), timing=Timing(round_trip=0.5, slack=0.5)
    )
    connection = await connect(f"{uri}?dialect=strict", requester_factory(settings))
    async with connection:
        link = Link(connection.endpoint.connection)
        return await connection.run(
            collect(link, verifier.trust(1_800_000_000), Wanted(session=session))
        )


@pytest.mark.parametrize(
    ("forth", "back"),
    [
        (Fault(largest=1), Fault()),
        (Fault(), Fault(largest=7)),
        (Fault(largest=3, delay=0.001), Fault(largest=501, delay=0.002)),
        (Fault(delay=0.03), Fault(delay=0.03)),
    ],
    ids=["byte-by-byte", "small-answers", "both", "slow"],
)
async def test_what_only_delays_and_splits_changes_nothing(
    folder: Path, forth: Fault, back: Fault
) -> None:
    async with (
        serving(folder) as listener,
        chaos(listener.uri.host.port, forth=forth, back=back) as uri,
    ):
        collected = await attest(uri, folder)
    assert collected.evidence.exchanges


@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
@pytest.mark.parametrize("direction", ["forth", "back"])
@pytest.mark.parametrize("at", [0, 3, 9, 60, 400, 700])
async def test_a_connection_that_ends_is_an_error_and_nothing_worse(
    folder: Path, how: str, direction: str, at: int
) -> None:
    fault = Fault(cut_after=at) if how == "cut_after" else Fault(reset_after=at)
    async with serving(folder) as listener:
        forth, back = (fault, None) if direction == "forth" else (None, fault)
        async with chaos(listener.uri.host.port, forth=forth, back=back) as uri:
            with pytest.raises(SpdmError):
                await attest(uri, folder)
        # The listener lives, and serves the next one.
        await attest(str(listener.uri), folder)


@pytest.mark.parametrize("at", [0, 10, 700])
async def test_a_network_that_stalls_meets_a_deadline(folder: Path, at: int) -> None:
    async with (
        serving(folder) as listener,
        chaos(listener.uri.host.port, back=Fault(stall_after=at)) as uri,
    ):
        started = time.monotonic()
        with pytest.raises(SpdmError):
            await attest(uri, folder)
        assert time.monotonic() - started < 10


async def test_a_flood_in_front_of_the_answer_is_refused(folder: Path) -> None:
    flood = Fault(change=lambda data: b"\xff" * (1 << 20) + data)
    async with serving(folder) as listener, chaos(listener.uri.host.port, back=flood) as uri:
        with pytest.raises(SpdmError):
            await attest(uri, folder)


async def test_a_flood_at_the_listener_hurts_nobody_else(folder: Path) -> None:
    flood = Fault(change=lambda data: data + b"\x00" * (1 << 20))
    async with serving(folder) as listener, chaos(listener.uri.host.port, forth=flood) as uri:
        spoiled = asyncio.gather(*(attest(uri, folder) for _ in range(8)), return_exceptions=True)
        good = await asyncio.gather(*(attest(str(listener.uri), folder) for _ in range(4)))
        assert all(isinstance(each, SpdmError) for each in await spoiled)
    assert len(good) == 4


@pytest.mark.parametrize("position", range(0, 2400, 97))
async def test_a_flipped_bit_is_never_accepted(folder: Path, position: int) -> None:
    seen = 0

    def flip(data: bytes) -> bytes:
        nonlocal seen
        at = position - seen
        seen += len(data)
        if 0 <= at < len(data):
            changed = bytearray(data)
            changed[at] ^= 1
            return bytes(changed)
        return data

    async with (
        serving(folder) as listener,
        chaos(listener.uri.host.port, back=Fault(change=flip)) as uri,
    ):
        if position >= TOTAL:
            return
        with pytest.raises(SpdmError):
            await attest(uri, folder)
        assert seen > position
