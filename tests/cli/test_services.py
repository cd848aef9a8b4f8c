"""The rows of the service table between two processes, by the commands a person types.

One side is a process of its own; the other runs in this one, which is quicker than starting it.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spdmkit.cli.root import spdm as spdm_group
from spdmkit.device.initialise import initialise
from spdmkit.errors import ConfigurationError

from .support import SPDM, serving

POLICY = """\
[policy]
name = "rack"
version = 3
"""

ROWS = {
    "session by KEY_EXCHANGE": ("session", "key"),
    "session by PSK_EXCHANGE": ("session", "psk"),
    "provision certificate": ("certificate=1", None),
    "verify measurements": ("verify", None),
    "retrieve measurements": ("measurements", None),
    "retrieve MEL": ("mel", None),
    "provision reference measurements": ("reference", None),
    "provision verification policy": ("policy", None),
}

SESSIONS = {"key": "key-exchange", "psk": "psk"}
"""Words for --session, and what the verifier calls such a session."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device, a verifier that it trusts, an authority, a policy."""
    root = tmp_path_factory.mktemp("services")
    initialise(root / "device", algorithm="ecdsa-p256")
    initialise(root / "me", algorithm="ecdsa-p256", requester=True)
    shutil.copy(root / "me" / "trust-anchor.pem", root / "device" / "requesters.pem")
    path = root / "device" / "device.toml"
    text = path.read_text()
    for old, new in (
        ("# requester_trust_anchors", "requester_trust_anchors"),
        ("may_provision = []", 'may_provision = ["certificate:*"]'),
        ("may_set_reference = []", 'may_set_reference = ["certificate:*"]'),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    (root / "policy.toml").write_text(POLICY)
    run("ca", "init", root / "ca", "--algorithm", "ecdsa-p256")
    return root


def run(*arguments: str | Path) -> int:
    """A command in this process."""
    code = spdm_group.main([*map(str, arguments)], standalone_mode=False)
    assert isinstance(code, int)
    return code


def judging(folder: Path) -> list[str | Path]:
    device = folder / "device"
    return [
        *("--trust-anchor", device / "trust-anchor.pem"),
        *("--reference", device / "reference.json"),
        *("--policy", folder / "policy.toml"),
    ]


def everything(folder: Path) -> list[str | Path]:
    psk = folder / "device" / "psk.toml"
    return [*judging(folder), "--mutual", folder / "me", "--psk", psk, "--ca", folder / "ca"]


@contextmanager
def verifier(*options: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [
            *(*SPDM, "verifier", "serve", "--listen", "tcp://127.0.0.1:0", "--json"),
            *map(str, options),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["listening"], server
        finally:
            server.terminate()
            server.wait(timeout=20)


@pytest.fixture(scope="module")
def able(folder: Path) -> Iterator[str]:
    with verifier(*everything(folder)) as (uri, _):
        yield uri


@pytest.fixture(scope="module")
def reporting(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """As `able`, with the process, whose lines are read one for each device."""
    with verifier(*everything(folder)) as found:
        yield found


@pytest.fixture(scope="module")
def unable(folder: Path) -> Iterator[str]:
    """A verifier without an identity of its own, without keys and without an authority."""
    with verifier(*judging(folder)) as (uri, _):
        yield uri


def dial(
    folder: Path, uri: str, row: str, capsys: pytest.CaptureFixture[str], code: int = 0
) -> Any:
    word, session = ROWS[row]
    options = [] if session is None else ["--session", session]
    capsys.readouterr()
    found = run("device", "dial", folder / "device", uri, "--want", word, *options, "--json")
    document = json.loads(capsys.readouterr().out)
    assert found == code, document
    return document


@pytest.mark.parametrize("row", ROWS)
def test_reach_out(
    folder: Path,
    reporting: tuple[str, subprocess.Popen[str]],
    row: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, server = reporting
    document = dial(folder, uri, row, capsys)
    assert [each["fate"] for each in document["services"]] == ["fulfilled"]
    assert server.stdout is not None
    (done,) = json.loads(server.stdout.readline())["services"]
    # What was asked for: a session that cannot be would be corrected to another one.
    wanted = ROWS[row][1]
    assert wanted is None or done["session"] == SESSIONS[wanted]
    assert row.startswith("retrieve") or done["session"] != "none"
    if row == "verify measurements":
        assert set(document["results"].values()) == {"passed"}
    if row == "provision certificate":
        (certificate,) = document["certificates"]
        assert certificate["slot"] == 1
        assert "issuing" in certificate["issuer"].lower()
    if row.startswith("provision reference"):
        assert document["self_evaluation"]["verdict"] == "trusted"


@pytest.mark.parametrize("row", ROWS)
def test_refused_where_it_is_prohibited(
    folder: Path, unable: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a mutually authenticated session table 9 allows no results, references, policies."""
    # A session by a key that the verifier lacks is corrected to one by KEY_EXCHANGE.
    allowed = row.startswith(("session", "retrieve"))
    document = dial(folder, unable, row, capsys, 0 if allowed else 3)
    assert [each["fate"] for each in document["services"]] == [
        "fulfilled" if allowed else "refused"
    ]


@pytest.fixture(scope="module")
def device(folder: Path) -> Iterator[str]:
    with serving(folder / "device") as uri:
        yield uri


@pytest.mark.parametrize("row", ROWS)
def test_reach_down(
    folder: Path, device: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    word, session = ROWS[row]
    options = [] if session is None else ["--session", session]
    capsys.readouterr()
    done = run("verifier", "dial", device, *everything(folder), "--do", word, *options, "--json")
    document = json.loads(capsys.readouterr().out)
    assert done == 0, document
    assert [each["service"] for each in document["services"]] == [word.partition("=")[0]]
    if session is not None:
        assert document["services"][0]["session"] == SESSIONS[session]


def test_status(folder: Path, able: str, capsys: pytest.CaptureFixture[str]) -> None:
    for row in ("verify measurements", "provision reference measurements"):
        dial(folder, able, row, capsys)
    assert run("device", "status", folder / "device", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["references"][0]["given_by"].startswith("certificate:CN=spdmkit device")
    assert set(document["results"][-1]["results"].values()) == {"passed"}
    assert document["self_evaluation"]["verdict"] == "trusted"
    assert run("device", "status", folder / "device") == 0
    assert "judges itself  trusted" in capsys.readouterr().out


def test_reports_and_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    key = folder / "me" / "keys" / "1.pem"
    signing = ("--results", results, "--collector-key", key)
    with verifier(*judging(folder), *signing) as (uri, server):
        dial(folder, uri, "retrieve measurements", capsys)
        assert server.stdout is not None
        line = json.loads(server.stdout.readline())
        assert line["verdict"] == "trusted"
        assert [each["service"] for each in line["services"]] == ["measurements"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    stored = next(iter(results.glob("*.json")))
    assert json.loads(stored.read_text())["result"]["verdict"] == "trusted"
    evidence = stored.with_suffix(".cbor")
    anchor = folder / "device" / "trust-anchor.pem"
    reference = folder / "device" / "reference.json"
    capsys.readouterr()
    code = run("appraise", evidence, "--trust-anchor", anchor, "--reference", reference)
    assert code == 0
    capsys.readouterr()
    assert run("evidence", "show", evidence, "--json") == 0
    assert json.loads(capsys.readouterr().out)["signed_by"]


def test_the_device_says_what_it_refused(
    folder: Path, tmp_path: Path, able: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "device", tmp_path / "device")
    configuration = tmp_path / "device" / "device.toml"
    lines = configuration.read_text().splitlines(keepends=True)
    configuration.write_text("".join(x for x in lines if not x.startswith("may_set_reference")))
    shutil.copytree(folder / "me", tmp_path / "me")
    capsys.readouterr()
    arguments = ("--want", "reference", "--tries", "1")
    assert run("device", "dial", tmp_path / "device", able, *arguments) == 3
    out = capsys.readouterr().out
    assert "nothing was received" in out
    assert "we refused: SET_REFERENCE by certificate:" in out


def test_changed_firmware_is_told_to_the_device(
    folder: Path, tmp_path: Path, able: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "device", tmp_path / "device")
    (tmp_path / "device" / "firmware" / "main.bin").write_bytes(b"something else")
    document = dial(tmp_path, able, "verify measurements", capsys, 1)
    assert document["results"]["2"] == "failed"


def test_a_device_stays_and_comes_back(folder: Path, able: str) -> None:
    with subprocess.Popen(
        [
            *(*SPDM, "device", "dial", str(folder / "device"), able, "--want", "measurements"),
            *("--stay", "--interval", "0.05", "--json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            document = json.loads(process.stdout.readline())
            assert document["services"][0]["fate"] == "fulfilled"
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["device", "dial", "{device}", "tcp://127.0.0.1:1", "--want", "tea"], "tea"),
        (["device", "dial", "{device}", "tcp://127.0.0.1:1", "--want", "mel",
          "--session", "tea"], "tea"),
        (["device", "dial", "{device}", "tcp://127.0.0.1:1", "--want", "mel=300"], "255"),
        (["verifier", "serve", "--listen", "tcp://127.0.0.1:0"], "roots"),
        (["verifier", "serve", "--listen", "tcp://127.0.0.1:0", "--trust-anchor", "{anchor}",
          "--services", "mel"], "default service"),
        (["verifier", "serve", "--listen", "tcp://127.0.0.1:0", "--trust-anchor", "{anchor}",
          "--give-policy", "{anchor}"], "policy"),
    ],
)  # fmt: skip
def test_what_is_asked_for_wrongly(folder: Path, arguments: list[str], complaint: str) -> None:
    names = {
        "device": str(folder / "device"),
        "anchor": str(folder / "device" / "trust-anchor.pem"),
    }
    with pytest.raises(ConfigurationError, match=complaint):
        run(*(each.format(**names) for each in arguments))


def test_a_verifier_takes_a_store_and_may_remember_no_chains(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    run("reference", "import", folder / "device" / "reference.json", "--store", store)
    anchor = folder / "device" / "trust-anchor.pem"
    options = ("--trust-anchor", anchor, "--reference-store", store, "--no-chain-cache")
    with verifier(*options) as (uri, server):
        for _ in range(2):
            dial(folder, uri, "retrieve measurements", capsys)
            assert server.stdout is not None
            assert json.loads(server.stdout.readline())["verdict"] == "trusted"


def test_one_port_for_both_kinds_of_peers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = folder / "device"
    with verifier(*judging(folder), "--device", device) as (uri, _):
        dial(folder, uri, "retrieve measurements", capsys)
        judged = judging(folder)[:4]
        assert run("attest", uri, *judged) == 0


def test_a_listening_device_says_what_it_wants(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        [
            *(*SPDM, "device", "serve", str(folder / "device"), "--listen", "tcp://127.0.0.1:0"),
            *("--want", "verify", "--want", "mel"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            uri = server.stdout.readline().removeprefix("listening on ").strip()
            capsys.readouterr()
            assert run("verifier", "dial", uri, *everything(folder), "--json") == 0
        finally:
            server.terminate()
            server.wait(timeout=20)
    document = json.loads(capsys.readouterr().out)
    assert [(s["service"], s["asked"]) for s in document["services"]] == [
        ("verify", True),
        ("mel", True),
    ]


def test_signed_references_and_policies_need_no_session(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the guide says it, with files."""
    device, signer = tmp_path / "device", tmp_path / "signer"
    shutil.copytree(folder / "device", device)
    shutil.rmtree(device / "received", ignore_errors=True)
    initialise(signer, algorithm="ecdsa-p256")
    toml = device / "device.toml"
    root = '["../signer/trust-anchor.pem"]'
    roots = f"[trust]\nreference_signers = {root}\npolicy_signers = {root}"
    toml.write_text(toml.read_text().replace("[trust]", roots))
    (tmp_path / "policy.toml").write_text(POLICY + "not_after = 2199-01-01\n")
    keys = (
        *("--signing-key", signer / "keys" / "1.pem"),
        *("--certificates", signer / "slots" / "0.pem"),
    )
    reference = device / "reference.json"
    until = ("--valid-until", "2199-01-01T00:00:00Z")
    assert run("reference", "convert", reference, tmp_path / "fw.corim", *until, *keys) == 0
    assert run("policy", "sign", tmp_path / "policy.toml", tmp_path / "policy.cose", *keys) == 0
    giving = ("--give-reference", tmp_path / "fw.corim", "--give-policy", tmp_path / "policy.cose")
    with verifier("--trust-anchor", device / "trust-anchor.pem", *giving) as (uri, _):
        capsys.readouterr()
        wanted = ("--want", "reference", "--want", "policy", "--json")
        assert run("device", "dial", device, uri, *wanted) == 0
    document = json.loads(capsys.readouterr().out)
    assert {each["given_by"] for each in document["received"]} == {"nobody in particular"}
    assert document["self_evaluation"]["verdict"] == "trusted"
    assert run("device", "status", device, "--json") == 0
    held = json.loads(capsys.readouterr().out)
    assert held["policy"][0]["signed_by"].startswith("CN=spdmkit device")
    wrong = (*keys[:2], "--certificates", device / "slots" / "0.pem")
    with pytest.raises(ConfigurationError, match="has another"):
        run("policy", "sign", tmp_path / "policy.toml", tmp_path / "x", *wrong)
