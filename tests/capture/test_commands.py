"""`spdm decode` and `spdm explain`, and a live conversation captured and read again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spdmkit.cli.root import run

from .support import DATA, load_vector, vector_names, write_capture

VECTOR = str(DATA / "vectors" / "v12_session_p384.json")


def decoded(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["decode", "--json", *arguments]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", vector_names())
def test_every_recorded_conversation_from_its_derived_values_alone(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = decoded(capsys, str(DATA / "vectors" / f"{name}.json"))
    summary = found["summary"]
    assert len(found["messages"]) == len(load_vector(name)["messages"])
    assert summary["undecoded"] == 0
    assert summary["records_decrypted"] == summary["records"]
    for kind in ("signatures", "hashes"):
        assert summary[kind]["failed"] == summary[kind]["unverifiable"] == 0


def test_json_has_fields_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert "fields" not in decoded(capsys, VECTOR)["messages"][0]
    assert decoded(capsys, VECTOR, "-v")["messages"][0]["fields"][0]["name"] == "SPDMVersion"


def test_the_summary_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = decoded(capsys, VECTOR, "--summary", "--no-verify")
    assert found["messages"] == []
    assert found["summary"]["messages"] == 46
    assert found["summary"]["signatures"]["verified"] == 0


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decode", VECTOR]) == 0
    text = capsys.readouterr().out
    assert "#1 --> GET_VERSION\n" in text
    assert "20 records, 20 decrypted" in text


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--name", "key_update"], 4),
        (["--session", "0xffffffff", "--from", "requester"], 12),
        (["--connection", "2"], 0),
        (["--failed"], 0),
    ],
)
def test_filters(options: list[str], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = decoded(capsys, VECTOR, *options)
    assert len(found["messages"]) == count
    assert found["summary"]["messages"] == 46  # what is not shown is counted


def test_filters_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.pcapng"
    write_capture(load_vector("v12_attest_p384"), path)
    found = decoded(capsys, str(path), "--after", "0.0045", "--before", "0.0105")
    assert [message["number"] for message in found["messages"]] == [6, 7, 8, 9, 10, 11]


def test_a_failed_check_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = load_vector("v12_attest_p384")
    document["derived"][0][1] = "00" * 48
    path = tmp_path / "v.json"
    path.write_text(json.dumps(document))
    found = decoded(capsys, str(path), code=1)
    assert found["summary"]["hashes"]["failed"] == 1
    assert run(["decode", str(path), "--failed"]) == 1
    assert "FAILED: m1m2_hash" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.pcapng"], "cannot read none.pcapng"),
        ([VECTOR, "--session", "xyz"], "--session"),
        ([VECTOR, "--algorithms", "sha-384,rot13"], "'rot13' is no algorithm"),
        ([VECTOR, "--algorithms", "ecdsa-p384"], "names no hash"),
        ([VECTOR, "--trust-anchor", VECTOR], "neither PEM nor DER"),
        ([VECTOR, "--port", "0"], "0"),
        ([VECTOR, "--from", "me"], "me"),
    ],
)
def test_mistakes_are_usage_errors(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["decode", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_what_is_no_recording_could_not_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    path.write_text("nothing of the kind")
    assert run(["decode", str(path)]) == 3
    assert "neither a capture nor frames of SPDM" in capsys.readouterr().err


def test_a_capture_with_secrets_and_anchors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = load_vector("v12_psk")
    path, secret = tmp_path / "c.pcapng", tmp_path / "psk.toml"
    write_capture(document, path)
    secret.write_text(f'hint = "x"\nkey = "{b"TestPskData".hex()}00"\n')
    found = decoded(capsys, str(path), "--keylog", str(secret))
    assert found["summary"]["records_decrypted"] == found["summary"]["records"] == 10
    attest = load_vector("v12_attest_p384")
    capture, root = tmp_path / "a.pcapng", tmp_path / "root.der"
    write_capture(attest, capture)
    root.write_bytes(b"".join(bytes.fromhex(v) for v in attest["trust_anchors"].values()))
    found = decoded(capsys, str(capture), "--trust-anchor", str(root), "--port", "4194")
    assert found["summary"]["chains"] == {"verified": 4, "failed": 0, "unverifiable": 0}
    found = decoded(capsys, str(capture), "--port", "4195")
    assert found["summary"]["messages"] == 0


def test_algorithms_may_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = load_vector("v11_session_p256_aes128")
    document["messages"] = document["messages"][6:22]
    document["derived"] = []
    path = tmp_path / "v.json"
    path.write_text(json.dumps(document))
    found = decoded(capsys, str(path), "--algorithms", "sha-256, ecdsa-p256,secp256r1")
    assert found["summary"]["signatures"]["verified"] == 1  # MEASUREMENTS of 1.1 stand alone
    assert found["summary"]["undecoded"] == 0


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "error", "0x41"]) == 0
    assert capsys.readouterr().out.startswith("error VersionMismatch  [DSP0274 10.13, table 65]\n")
    assert run(["explain", "0x04", "--json"]) == 0
    assert [each["kind"] for each in json.loads(capsys.readouterr().out)] == ["response", "error"]
    assert run(["explain", "10", "84", "00", "00"]) == 0
    assert "message GET_VERSION" in capsys.readouterr().out
    assert run(["explain", "GET_DIGEST"]) == 2
    assert "did you mean GET_DIGESTS" in capsys.readouterr().err


# --- live -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A software device that serves on loopback: its folder and address."""
    folder = tmp_path_factory.mktemp("device") / "d"
    assert run(["device", "init", str(folder)]) == 0
    command = [sys.executable, "-m", "spdmkit", "device", "serve", str(folder)]
    with subprocess.Popen(
        [*command, "--listen", "tcp://127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield folder, server.stdout.readline().removeprefix("listening on ").strip()
        finally:
            server.terminate()


def test_what_an_attestation_captured_decrypts_with_its_key_log(
    device: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, uri = device
    capture, log = tmp_path / "c.pcapng", tmp_path / "keys.log"
    anchor = str(folder / "trust-anchor.pem")
    attest = ["attest", uri, "--trust-anchor", anchor, "--session", "--capture", str(capture)]
    subprocess.run(
        [sys.executable, "-m", "spdmkit", *attest, "--reference", str(folder / "reference.json")],
        check=True,
        capture_output=True,
        env={**os.environ, "SPDMKEYLOGFILE": str(log)},
        timeout=60,
    )
    found = decoded(capsys, str(capture), "--keylog", str(log), "--trust-anchor", anchor)
    summary = found["summary"]
    assert summary["records"] == summary["records_decrypted"] > 0
    assert (summary["undecoded"], summary["sessions"], summary["notes"]) == (0, 1, [])
    for kind in ("signatures", "hashes", "macs", "chains"):
        assert summary[kind]["verified"] > 0
        assert summary[kind]["failed"] == summary[kind]["unverifiable"] == 0
    assert not [message for message in found["messages"] if "notes" in message]
    shutil.copy(capture, tmp_path / "other.pcapng")
    without = decoded(capsys, str(tmp_path / "other.pcapng"))
    assert without["summary"]["records_decrypted"] == 0


def test_what_decrypts_a_recording_is_written_as_a_key_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, keys, capture = "v12_key_update_by_responder", tmp_path / "k", tmp_path / "c.pcapng"
    vector = str(DATA / "vectors" / f"{name}.json")
    decoded(capsys, vector, "--write-keylog", str(keys))
    assert keys.stat().st_mode & 0o077 == 0
    write_capture(load_vector(name), capture)
    summary = decoded(capsys, str(capture), "--keylog", str(keys))["summary"]
    assert summary["records_decrypted"] == summary["records"] == 16


@pytest.mark.parametrize(
    ("name", "count"), [("get_digests", 3), ("secured message", 0), ("Application Data", 4)]
)
def test_a_filter_by_name(name: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    vector = VECTOR.replace("v12_session_p384", "v12_mctp_session")
    assert len(decoded(capsys, vector, "--name", name)["messages"]) == count


def test_a_filter_by_a_name_that_nothing_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decode", VECTOR, "--name", "CHALENGE"]) == 2
    assert "CHALLENGE" in capsys.readouterr().err
