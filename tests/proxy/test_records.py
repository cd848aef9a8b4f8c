"""Whose records: a session from verifier to device, through a proxy that has no keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from spdmkit.device.initialise import initialise
from spdmkit.errors import AuthenticationError, SpdmError
from spdmkit.protocol import records
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.transports.aio import AsyncConnection, connect
from spdmkit.transports.framing import Role
from spdmkit.transports.server import listen

from ..transports.support import soon
from .lab import Lab, lab
from .real import attesting, by_psk, device_factory, everything, trust_in, verifier_factory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("records") / "device"
    initialise(made)
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device without heartbeat, which answers the other harmless request."""
    made = tmp_path_factory.mktemp("records") / "plain"
    initialise(made)
    path = made / "device.toml"
    path.write_text(path.read_text().replace('"HBEAT_CAP", ', ""))
    return made


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[Lab]:
    async with (
        await listen("emu+mctp://127.0.0.1:0", device_factory(folder)) as device,
        lab(to=str(device.uri)) as lab_,
    ):
        yield lab_


def link_of(connection: AsyncConnection) -> Link:
    return Link(connection.endpoint.connection)


@pytest.mark.parametrize("query", ["records=mctp", "records=auto", "records=auto&dialect=libspdm"])
async def test_a_session_through_the_proxy(folder: Path, query: str) -> None:
    trust = trust_in(folder)
    async with proxied(folder) as lab_:
        async with await connect(f"{lab_.uri}?{query}", verifier_factory()) as verifier:
            link = link_of(verifier)
            collected = await verifier.run(attesting(link, trust, session=True, then=everything))
            assert collected.verified(trust).nonces
            assert link.connection.record_profile is records.MCTP
            assert link.connection.record_alternatives == ()
        async with await connect(f"{lab_.uri}?{query}", verifier_factory(psk=True)) as verifier:
            await verifier.run(by_psk(link_of(verifier), folder))
        assert lab_.device.figures.messages["request", 6] >= 12


async def test_the_other_harmless_request(plain: Path) -> None:
    trust = trust_in(plain)
    async with proxied(plain) as lab_:
        uri = f"{lab_.uri}?records=auto"
        async with await connect(uri, verifier_factory()) as verifier:
            collected = await verifier.run(attesting(link_of(verifier), trust, session=True))
            assert collected.verified(trust).nonces


@pytest.mark.parametrize("dialect", ["strict", "libspdm"])
async def test_a_device_on_tcp_is_found_out_at_once(folder: Path, dialect: str) -> None:
    trust = trust_in(folder)
    async with await listen("tcp://127.0.0.1:0", device_factory(folder)) as device:
        uri = f"{device.uri}?records=auto&dialect={dialect}"
        async with await connect(uri, verifier_factory()) as verifier:
            link = link_of(verifier)
            await verifier.run(attesting(link, trust, session=True, then=everything))
            assert link.connection.record_profile.name == "tcp"


async def test_the_wrong_records_only_fail(folder: Path) -> None:
    async with proxied(folder) as lab_, await connect(lab_.uri, verifier_factory()) as verifier:
        with pytest.raises(SpdmError, match="DecryptError"):
            await verifier.run(attesting(link_of(verifier), trust_in(folder), session=True))


async def test_another_negotiation_the_second_time_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven before the first handshake rests on the first negotiation."""

    def otherwise(link: Link) -> Exchange[None]:
        yield from negotiate(link)
        link.connection.vca += b"x"

    monkeypatch.setattr("spdmkit.protocol.requester.sessions.negotiate", otherwise)
    async with proxied(folder) as lab_:
        uri = f"{lab_.uri}?records=auto"
        async with await connect(uri, verifier_factory()) as verifier:
            with pytest.raises(AuthenticationError, match="otherwise than it did"):
                await verifier.run(attesting(link_of(verifier), trust_in(folder), session=True))


async def test_a_failure_of_another_kind_is_no_reason_to_try_again(
    folder: Path, tmp_path: Path
) -> None:
    initialise(tmp_path / "other")
    (tmp_path / "psk.toml").write_bytes((tmp_path / "other" / "psk.toml").read_bytes())
    (tmp_path / "psk.toml").chmod(0o600)
    async with proxied(folder) as lab_:
        uri = f"{lab_.uri}?records=auto"
        async with await connect(uri, verifier_factory(psk=True)) as verifier:
            link = link_of(verifier)
            with pytest.raises(SpdmError):
                await verifier.run(by_psk(link, tmp_path))
            assert link.connection.record_alternatives == (records.MCTP,)


async def test_a_verifier_that_is_called_finds_out_as_well(folder: Path) -> None:
    """Reach-out: the proxy dials for the device, and the session is the verifier's idea."""
    trust = trust_in(folder)
    verified: list[int] = []

    async def verify(connection: AsyncConnection) -> None:
        link = link_of(connection)
        collected = await connection.run(attesting(link, trust, session=True, then=everything))
        verified.append(len(collected.verified(trust).nonces))

    async with (
        await listen("emu+mctp://127.0.0.1:0", device_factory(folder)) as device,
        await listen(
            "tcp://127.0.0.1:0?records=auto",
            verifier_factory(),
            roles=[Role.REQUESTER],
            handler=verify,
        ) as verifier,
        lab(to=str(device.uri), dial=[str(verifier.uri).partition("?")[0]]) as lab_,
    ):
        await soon(lambda: bool(verified))
        await soon(lambda: bool(lab_.journal("lease-ended")))
    assert verified == [3]  # challenge, measurements, key exchange
