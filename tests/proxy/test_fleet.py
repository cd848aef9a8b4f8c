"""Many devices behind one proxy, many verifiers, packets lost and late.

A few of each here. The size that is promised, 200 devices and 20 verifiers, takes some minutes:

    SPDM_FLEET=200x20 python -m pytest tests/proxy/test_fleet.py --timeout 900 -s
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from spdmkit.attestation.verification import DeviceTrust
from spdmkit.cli.connecting import requester_factory
from spdmkit.device.initialise import initialise
from spdmkit.errors import SpdmError
from spdmkit.protocol.deadlines import Timing
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports.aio import connect

from ..cli.support import SPDM
from ..transports.support import (
    dial_bytes,
    peers_are_closed,  # noqa: F401 - a fixture that closes what a test leaves
)
from .real import attesting, trust_in

REPOSITORY = Path(__file__).parents[2]
DEVICES, VERIFIERS = map(int, os.environ.get("SPDM_FLEET", "12x5").split("x"))
ROUNDS = 2
LOSS = float(os.environ.get("SPDM_FLEET_LOSS", "0.003"))
LIMITS = "[limits]\nwaiting = 64\nwait = 120\nidle = 10\nlease = 60\nanswer = 8\nopening = 10\n"


@contextmanager
def program(*arguments: str, stderr: Any = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*arguments], stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=REPOSITORY
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    return line


@dataclass
class Fleet:
    """Addresses of the devices, the proxy's process, and its status page."""

    uris: list[str]
    pid: int
    page: tuple[str, int]
    trust: DeviceTrust

    async def status(self) -> Any:
        peer = await dial_bytes(*self.page)
        peer.write(b"GET /status HTTP/1.0\r\n\r\n")
        return json.loads((await peer.read_all()).partition(b"\r\n\r\n")[2])

    def memory(self) -> int:
        """Resident bytes of the proxy's process."""
        words = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Any
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    initialise(folder / "device", algorithm="ecdsa-p256")
    path = folder / "device" / "device.toml"
    path.write_text(path.read_text().replace("[limits]\n", "[limits]\nct_exponent = 17\n"))
    tables = "".join(
        f'[[device]]\nname = "d{number}"\nto = "mctp+serial://{folder}/{number}.tty"\n'
        'listen = "tcp://127.0.0.1:0"\n'
        for number in range(DEVICES)
    )
    port = unused_tcp_port_factory()
    configuration = folder / "proxy.toml"
    configuration.write_text(f'[proxy]\nmetrics = "127.0.0.1:{port}"\n{LIMITS}{tables}')
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        devices = stack.enter_context(
            program(
                *(sys.executable, "-m", "tests.proxy.fleet"),
                *(str(folder / "device"), str(folder), str(DEVICES), str(LOSS)),
            )
        )
        assert line_of(devices) == "ready\n"
        proxy = stack.enter_context(
            program(*SPDM, "proxy", "--config", str(configuration), stderr=log)
        )
        uris = [line_of(proxy).split()[2] for _ in range(DEVICES)]
        yield Fleet(uris, proxy.pid, ("127.0.0.1", port), trust_in(folder / "device"))


async def attest(uri: str, trust: DeviceTrust, *, session: bool) -> str:
    """One attestation: its result, or the kind of its clear error."""
    settings = requester_settings(sessions=session)
    # Waiting for the device behind others counts as well: the proxy leaves us unread meanwhile.
    settings = replace(settings, timing=Timing(slack=30.0))
    try:
        uri += "?dialect=strict" + ("&records=mctp" if session else "")
        async with await connect(uri, requester_factory(settings), timeout=30) as connection:
            link = Link(connection.endpoint.connection)
            collected = await connection.run(attesting(link, trust, session=session))
        assert collected.verified(trust).nonces
    except SpdmError as error:
        return f"{type(error).__name__}: {error}"
    return "verified"


async def test_every_attestation_ends(fleet: Fleet) -> None:
    trust = fleet.trust
    for uri in fleet.uris[:3]:
        await attest(uri, trust, session=True)
    await asyncio.sleep(0.2)
    before, memory = await fleet.status(), fleet.memory()
    chance = random.Random(5)
    work = [(uri, chance.random() < 0.5) for uri in fleet.uris * ROUNDS]
    chance.shuffle(work)
    outcomes: Counter[str] = Counter()

    async def verifier() -> None:
        while work:
            uri, session = work.pop()
            outcomes[await attest(uri, trust, session=session)] += 1

    began = time.monotonic()
    await asyncio.gather(*(verifier() for _ in range(VERIFIERS)))
    seconds = time.monotonic() - began
    assert outcomes.total() == DEVICES * ROUNDS
    # Clear messages survive losses; a lost record ends its session, as it must.
    assert outcomes["verified"] >= 0.7 * outcomes.total()
    await asyncio.sleep(0.3)
    after = await fleet.status()
    growth = fleet.memory() - memory
    print(f"\n{DEVICES} devices, {VERIFIERS} verifiers, {seconds:.1f} s: {dict(outcomes)}")
    print(f"sent again {sum(device['retries'] for device in after['devices'])}")
    print(f"memory {memory >> 10} KiB and {growth >> 10} more, tasks {after['tasks']}")
    assert all(not device["leased_by"] and not device["waiting"] for device in after["devices"])
    assert after["tasks"] <= before["tasks"]
    assert after["descriptors"] <= before["descriptors"]
    # Room for each device's figures and for what the allocator keeps; a leak is per message.
    assert growth < (4 << 20) + DEVICES * (100 << 10)


async def test_who_vanishes_leaves_nothing_behind(fleet: Fleet) -> None:
    before = await fleet.status()
    for uri in fleet.uris[:6]:
        port = int(uri.rpartition(":")[2])
        for data in (b"", b"\x04\x00\x01\x05\x10\x84\x00\x00", b"\x04\x00\x01"):
            peer = await dial_bytes("127.0.0.1", port)
            peer.write(data)
            await asyncio.sleep(0.01)
            peer.abort()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        after = await fleet.status()
        if not any(device["leased_by"] or device["waiting"] for device in after["devices"]):
            break
        await asyncio.sleep(0.1)
    assert after["tasks"] <= before["tasks"]
    assert after["descriptors"] <= before["descriptors"]
