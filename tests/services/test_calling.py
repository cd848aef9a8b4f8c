"""Who dials, who listens, who is away: roles, retries, many devices, hostile ones."""

from __future__ import annotations

import asyncio
import socket
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.device.responders import responder_factory
from spdmkit.errors import ConfigurationError, PeerError, SpdmError, TransportError
from spdmkit.messages.dsp0287 import ServiceId
from spdmkit.protocol.connection import Role
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.dialling import BackOff, Caller
from spdmkit.services.wishes import Fate, Wish
from spdmkit.transports.aio import Patience, connect
from spdmkit.transports.server import Limits
from spdmkit.transports.tcp import ROLE_INQUIRY

from .support import QUICK, Lab, device_listens, verifier_listens

S = ServiceId


@pytest.mark.parametrize("query", ["", "?dialect=strict", "?dialect=libspdm"])
async def test_every_dialect(lab: Lab, query: str) -> None:
    """A verifier guesses, and adopts what the device shows."""
    async with verifier_listens(lab) as house:
        call = await house.call(Wish.of(S.VERIFY_MEASUREMENTS), uri=house.uri + query, tries=3)
    assert call.done, (call.error, house.reports)


async def test_over_the_emulators_socket_too(lab: Lab) -> None:
    """Its other framings have no Role-Inquiry: there the requester is who dials."""
    async with verifier_listens(lab, scheme="emu+tcp") as house:
        call = await house.call(Wish.of(S.VERIFY_MEASUREMENTS))
    assert call.done, (call.error, house.reports)
    with pytest.raises(ConfigurationError, match="Role-Inquiry"):
        async with verifier_listens(lab, scheme="emu+doe"):
            pass


async def test_one_listener_serves_both_models(lab: Lab) -> None:
    device = FolderDevice.load(lab.device)
    async with verifier_listens(lab, responder=responder_factory(device)) as house:
        assert (await house.call(Wish.of(S.GET_MEL))).done
        report = await house.service.dial(house.uri)
    assert report.verdict == "trusted"
    assert [each.speaks_services for each in house.reports] == [True, False]


async def test_a_verifier_is_no_responder(lab: Lab) -> None:
    async with verifier_listens(lab) as house:
        report = await house.service.dial(house.uri)
    assert isinstance(report.error, PeerError)
    assert (report.error.frame, report.error.code) == (True, 0xC3)


async def test_a_device_that_only_responds_ends_the_calls_at_once(lab: Lab) -> None:
    """0xC2 is a verdict: dialling again would be answered alike."""
    async with device_listens(lab) as (uri, _), verifier_listens(lab) as house:
        call = await house.call(Wish.of(S.GET_MEL), uri=uri, tries=5)
    assert call.tries == 1
    assert isinstance(call.error, PeerError)
    assert call.error.code == 0xC2
    assert call.endings[0].fate is Fate.UNANSWERED


# --- away -----------------------------------------------------------------------------------------


@contextmanager
def nobody() -> Iterator[str]:
    """An address that is taken, so that nobody else takes it, and where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{sock.getsockname()[1]}"


async def test_a_device_calls_until_somebody_is_there(lab: Lab) -> None:
    device = FolderDevice.load(lab.device)
    desk = ServiceDesk(device)
    device.register_vendor(desk)
    pauses: list[float] = []
    caller = Caller(
        device, desk, back_off=QUICK, on_failure=lambda _error, pause: pauses.append(pause)
    )
    with nobody() as uri:
        calling = asyncio.create_task(caller.call(uri, [Wish.of(S.GET_MEL)], tries=None))
        while len(pauses) < 3:
            await asyncio.sleep(0.01)
    async with verifier_listens(lab) as house:
        listener = await house.service.listen(uri)
        call = await asyncio.wait_for(calling, 60)
        await listener.close()
    assert call.done
    assert call.tries > 3


async def test_it_gives_up_when_told_to(lab: Lab) -> None:
    async with verifier_listens(lab) as house:
        with nobody() as uri:
            call = await house.call(Wish.of(S.GET_MEL), uri=uri, tries=3)
        assert (call.tries, call.done) == (3, False)
        assert isinstance(call.error, TransportError)
        with pytest.raises(ConfigurationError):
            await house.call(Wish.of(S.GET_MEL), uri="nowhere://x")


async def test_what_was_left_is_asked_again(lab: Lab) -> None:
    """The connection breaks after the first service; the next one has only the rest."""
    async with verifier_listens(lab, lab.provider(most_services=1)) as house:
        call = await house.call(Wish.of(S.GET_MEL), Wish.of(S.SESSION_ONLY), tries=4)
    assert call.done, call.error
    assert call.tries == 2
    assert [[s.service for s in r.services] for r in house.reports] == [["mel"], ["session"]]


async def test_a_silent_requester_is_left(lab: Lab) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(4) == ROLE_INQUIRY
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, verifier_listens(lab) as house:
        call = await house.call(
            Wish.of(S.GET_MEL),
            uri=f"tcp://127.0.0.1:{port}",
            patience=Patience(handshake=0.1),
        )
    assert isinstance(call.error, SpdmError)
    assert call.endings[0].fate is Fate.UNANSWERED


def test_pauses_grow_and_differ() -> None:
    back_off = BackOff(first=1.0, factor=2.0, longest=10.0, jitter=0.5)
    assert [back_off.pause(n, 0.0) for n in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 8, 10, 10]
    assert back_off.pause(5, 1.0) == 5.0
    spread = [back_off.pause(3, chance / 100) for chance in range(100)]
    assert 2.0 < statistics.fmean(spread) < 4.0


# --- many, and hostile ----------------------------------------------------------------------------


async def test_many_at_once_take_turns(lab: Lab) -> None:
    device = FolderDevice.load(lab.device)
    desk = ServiceDesk(device)
    device.register_vendor(desk)
    caller = Caller(device, desk, back_off=QUICK)
    async with verifier_listens(lab, at_once=4) as house:
        calls = await asyncio.gather(
            *(caller.call(house.uri, [Wish.of(S.GET_MEASUREMENTS)], tries=1) for _ in range(40))
        )
    assert all(call.done for call in calls)
    assert len(house.reports) == 40
    assert {report.verdict for report in house.reports} == {"trusted"}
    assert house.service.waiting == 0


async def test_hostile_devices_hurt_nobody_else(lab: Lab) -> None:
    """Silent before and after Role-Inquiry, garbage, half a frame, gone at once."""
    limits = Limits(patience=Patience(handshake=20.0, idle=20.0))
    async with verifier_listens(lab, limits=limits, at_once=2) as house:
        host, _, port = house.uri.removeprefix("tcp://").rpartition(":")
        openings = [
            b"",
            ROLE_INQUIRY,
            b"\xff" * 64,
            ROLE_INQUIRY + b"\x04\x00\x01",
            ROLE_INQUIRY * 2,
        ]
        writers = []
        for opening in openings * 4:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(opening)
            writers.append(writer)
        for _ in range(4):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(ROLE_INQUIRY)
            writer.transport.abort()
        calls = await asyncio.gather(*(house.call(Wish.of(S.GET_MEASUREMENTS)) for _ in range(3)))
        assert all(call.done for call in calls)
        for writer in writers:
            writer.close()
    assert sum(report.verdict == "trusted" for report in house.reports) == 3


async def test_a_device_that_stops_in_the_middle_is_reported(lab: Lab) -> None:
    async with verifier_listens(lab, longest_visit=0.3) as house:
        device = FolderDevice.load(lab.device)

        def stuck(*_: Any) -> Any:
            async def never() -> None:
                await asyncio.sleep(60)

            return never()

        device.vendor_defined = stuck  # type: ignore[assignment] # a device that never answers
        connection = await connect(house.uri, responder_factory(device), role=Role.RESPONDER)
        await connection.wait_closed()
        house.service._longest = 30
        assert (await house.call(Wish.of(S.GET_MEL))).done
    assert "more than 0 seconds" in str(house.reports[0].error)


async def test_a_report_sink_that_fails_hurts_one_device(lab: Lab) -> None:
    seen: list[Any] = []

    def sink(report: Any) -> None:
        seen.append(report)
        if len(seen) == 1:
            raise RuntimeError("a fault of ours")

    async with verifier_listens(lab) as house:
        house.service._on_report = sink
        await house.call(Wish.of(S.GET_MEL))
        assert (await house.call(Wish.of(S.GET_MEL))).done
    assert len(seen) == 2


async def test_stopping_finishes_what_is_under_way(lab: Lab) -> None:
    async with verifier_listens(lab) as house:
        calls = [asyncio.create_task(house.call(Wish.of(S.GET_MEASUREMENTS))) for _ in range(4)]
        while not house.listener.connections:
            await asyncio.sleep(0.001)
        await house.listener.close()
        done = await asyncio.gather(*calls)
    assert [call.done for call in done].count(True) >= 1
    assert len(house.reports) == house.listener.accepted


@pytest.mark.parametrize("version", [0x11, 0x12, 0x13, 0x14])
async def test_every_version_that_has_sessions(lab: Lab, version: int) -> None:
    async with verifier_listens(lab, versions=(version,)) as house:
        call = await house.call(Wish.of(S.VERIFY_MEASUREMENTS), Wish.of(S.GET_MEASUREMENTS))
    assert call.done, house.reports[0].error
    assert [each.session for each in house.reports[0].services] == ["key-exchange"] * 2
    # The default policy wants SPDM 1.2.
    assert house.reports[0].verdict == ("untrusted" if version < 0x12 else "trusted")


async def test_post_quantum_on_both_sides(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path, algorithm="ml-dsa-44")
    async with verifier_listens(lab) as house:
        call = await house.call(
            Wish.of(S.VERIFY_MEASUREMENTS), Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS)
        )
    assert call.done, house.reports[0].error
    (report,) = house.reports
    assert report.verdict == "trusted"
    assert report.result is not None
    assert "ml-dsa-44" in report.result.algorithms.values()
