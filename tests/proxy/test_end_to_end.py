"""Verifier, proxy and device, each a process of its own, MCTP in packets over a serial line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spdmkit.device.initialise import initialise
from spdmkit.protocol.link import Link
from spdmkit.transports.blocking import connect

from ..cli.support import SPDM, serving, spdm
from .real import attesting, by_psk, everything, trust_in, verifier_factory

CHUNKED = "[limits]\ndata_transfer_size = 1024\ntransmit_size = 1024\nmax_message_size = 100000\n"


@dataclass
class Chain:
    """A device, and a proxy before it."""

    device: Path
    uri: str
    journal: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]


@contextmanager
def proxy(folder: Path, to: str, *more: str) -> Iterator[tuple[str, Path]]:
    journal = folder / "journal.jsonl"
    with (
        journal.open("w") as out,
        subprocess.Popen(
            [*SPDM, "proxy", "--listen", "tcp://127.0.0.1:0", "--to", to, *more],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on tcp://"), journal.read_text()
            yield line.split()[2], journal
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    initialise(folder / "device")
    path = folder / "device" / "device.toml"
    path.write_text(path.read_text().replace("may_provision = []", 'may_provision = ["psk:*"]'))
    with ExitStack() as stack:
        line = f"mctp+serial://{folder}/line"
        stack.enter_context(serving(folder / "device", f"{line}?pty=create"))
        uri, journal = stack.enter_context(proxy(folder, line))
        yield Chain(folder / "device", uri, journal)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """ML-DSA-87, and a device that takes and sends little at a time."""
    folder = tmp_path_factory.mktemp("large")
    initialise(folder / "device", algorithm="ml-dsa-87")
    path = folder / "device" / "device.toml"
    path.write_text(path.read_text().replace("[limits]\n", CHUNKED))
    with ExitStack() as stack:
        line = f"mctp+serial://{folder}/line"
        stack.enter_context(serving(folder / "device", f"{line}?pty=create"))
        uri, journal = stack.enter_context(proxy(folder, line))
        yield Chain(folder / "device", uri, journal)


def judged(device: Path) -> tuple[str | Path, ...]:
    return (
        *("--trust-anchor", device / "trust-anchor.pem"),
        *("--reference", device / "reference.json"),
    )


def test_attestation_and_challenge(chain: Chain) -> None:
    document = json.loads(spdm("attest", chain.uri, *judged(chain.device), "--json").stdout)
    assert document["verdict"] == "trusted"
    assert {"name": "challenge", "outcome": "passed"}.items() <= next(
        step for step in document["steps"] if step["name"] == "challenge"
    ).items()


@pytest.mark.parametrize("records", ["mctp", "auto"])
def test_a_session_with_measurements_inside(chain: Chain, records: str) -> None:
    uri = f"{chain.uri}?records={records}"
    document = json.loads(spdm("attest", uri, *judged(chain.device), "--session", "--json").stdout)
    assert document["verdict"] == "trusted"


def test_key_updates_and_pre_shared_keys(chain: Chain) -> None:
    uri = f"{chain.uri}?records=mctp"
    with connect(uri, verifier_factory()) as verifier:
        link = Link(verifier.endpoint.connection)
        trust = trust_in(chain.device)
        verifier.run(attesting(link, trust, session=True, then=everything)).verified(trust)
    with connect(uri, verifier_factory(psk=True)) as verifier:
        verifier.run(by_psk(Link(verifier.endpoint.connection), chain.device))


def test_a_certificate_is_provisioned(chain: Chain, tmp_path: Path) -> None:
    passphrase = "correct horse"
    spdm("ca", "init", tmp_path / "ca", SPDM_CA_PASSPHRASE=passphrase)
    done = spdm(
        *("provision", f"{chain.uri}?records=mctp", "--ca", tmp_path / "ca", "--slot", "1"),
        *("--trust-anchor", chain.device / "trust-anchor.pem"),
        *("--psk", chain.device / "psk.toml", "--json"),
        SPDM_CA_PASSPHRASE=passphrase,
    )
    found = json.loads(done.stdout)
    assert {step["outcome"] for step in found["steps"]} == {"passed"}


@pytest.mark.parametrize("session", [(), ("--session",)])
def test_chunks_and_ml_dsa_87(large: Chain, session: tuple[str, ...]) -> None:
    uri = f"{large.uri}?records=mctp"
    document = json.loads(spdm("attest", uri, *judged(large.device), *session, "--json").stdout)
    assert document["verdict"] == "trusted"
    assert document["algorithms"]["signature"] == "ml-dsa-87"
    leases = large.events("lease-ended")
    # A chain of three ML-DSA-87 certificates is more than 20 KiB: in chunks of 1 KiB at most.
    assert leases[-1]["requests"] > 30
    assert leases[-1]["reason"] == "client"


def test_the_journal_has_nothing_of_what_was_carried(chain: Chain) -> None:
    fields = {"time", "event", "device", "client", "reason", "why", "seconds", "requests", "bytes"}
    ended = chain.events("lease-ended")
    assert ended
    assert all(set(line) == fields for line in ended)
