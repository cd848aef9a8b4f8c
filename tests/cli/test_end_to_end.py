"""The commands of the contract, typed as a person types them, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spdmkit.cli.root import run

from .support import serving, spdm

H100 = Path(__file__).parent.parent / "data" / "nvidia-h100"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "device"
    spdm("device", "init", folder)
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "stranger"
    spdm("device", "init", folder, "--algorithm", "ecdsa-p256")
    return folder


def judged(device: Path) -> tuple[str | Path, ...]:
    return (
        *("--trust-anchor", device / "trust-anchor.pem"),
        *("--reference", device / "reference.json"),
    )


def test_demo() -> None:
    done = spdm("demo")
    assert done.stdout.count("verdict: trusted") == 2


@pytest.mark.parametrize("scheme", ["tcp", "emu+tcp", "emu+mctp", "emu+doe"])
def test_attest(device: Path, scheme: str) -> None:
    with serving(device, f"{scheme}://127.0.0.1:0") as uri:
        document = json.loads(spdm("attest", uri, *judged(device), "--json").stdout)
        session = json.loads(spdm("attest", uri, *judged(device), "--session", "--json").stdout)
    for found in (document, session):
        assert found["verdict"] == "trusted"
        assert found["spdm_version"] == "1.4"
        assert {"index", "type", "value", "result"} <= set(found["measurements"][0])
        assert {"name", "outcome", "detail"} <= set(found["steps"][0])
        assert {"identity", "algorithms", "timings"} <= set(found)


@pytest.mark.parametrize("dialect", ["strict", "libspdm", "auto"])
def test_dialects(device: Path, dialect: str) -> None:
    with serving(device) as uri:
        spdm("attest", f"{uri}?dialect={dialect}", *judged(device), "--session")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.4"])
def test_versions(device: Path, version: str) -> None:
    with serving(device) as uri:
        done = spdm(
            *("attest", uri, "--trust-anchor", device / "trust-anchor.pem"),
            *("--versions", version, "--json", "--authenticate-only"),
        )
    assert json.loads(done.stdout)["spdm_version"] == version


def test_without_reference_values_it_is_not_appraised(device: Path) -> None:
    with serving(device) as uri:
        anchor = ("--trust-anchor", device / "trust-anchor.pem")
        assert "not-appraised" in spdm("attest", uri, *anchor, code=4).stdout
        spdm("attest", uri, *anchor, "--authenticate-only")


def test_a_device_of_somebody_else_is_untrusted(device: Path, stranger: Path) -> None:
    with serving(stranger) as uri:
        done = spdm("attest", uri, *judged(device), "--json", code=1)
    found = json.loads(done.stdout)
    assert found["verdict"] == "untrusted"
    assert [step["name"] for step in found["steps"] if step["outcome"] == "failed"] == ["chain"]


def test_changed_firmware_is_untrusted(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    spdm("device", "init", folder)
    (folder / "firmware" / "main.bin").write_bytes(b"something else")
    with serving(folder) as uri:
        found = json.loads(spdm("attest", uri, *judged(folder), "--json", code=1).stdout)
    results = {each["index"]: each["result"] for each in found["measurements"]}
    assert results.pop(2) == "mismatch"
    assert set(results.values()) == {"match"}


def test_another_genuine_device_behind_the_address(tmp_path: Path, device: Path) -> None:
    known = tmp_path / "known"
    with serving(device) as uri:
        spdm("attest", uri, *judged(device), "--known-devices", known, "--remember")
        pinned = json.loads(
            spdm("attest", uri, *judged(device), "--known-devices", known, "--json").stdout
        )
        key = next(line.split()[1] for line in known.read_text().splitlines() if uri in line)
        wrong = key[:-4] + ("0000" if not key.endswith("0000") else "1111")
        known.write_text(known.read_text().replace(key, wrong))
        spdm("attest", uri, *judged(device), "--known-devices", known, code=1)
    outcomes = {step["name"]: step["outcome"] for step in pinned["steps"]}
    assert outcomes["identity"] == "passed"


def test_evidence_is_judged_again_offline(tmp_path: Path, device: Path) -> None:
    for name in ("evidence.cbor", "evidence.json"):
        with serving(device) as uri:
            spdm("attest", uri, *judged(device), "--evidence", tmp_path / name)
        spdm("appraise", tmp_path / name, *judged(device))
    data = bytearray((tmp_path / "evidence.cbor").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "altered.cbor").write_bytes(data)
    spdm("appraise", tmp_path / "altered.cbor", *judged(device), code=1)


def test_pre_shared_key(tmp_path: Path, device: Path) -> None:
    other = tmp_path / "psk.toml"
    text = (device / "psk.toml").read_text().splitlines()
    other.write_text("\n".join(f'key = "{"00" * 32}"' if s.startswith("key") else s for s in text))
    other.chmod(0o600)
    with serving(device) as uri:
        found = json.loads(
            spdm("attest", uri, "--psk", device / "psk.toml", "--json", code=4).stdout
        )
        assert found["identity"]["psk_hint"]
        assert len(found["measurements"]) == 7
        assert {each["result"] for each in found["measurements"]} == {"no-reference", "match"}
        spdm("attest", uri, "--psk", other, code=1)
        other.chmod(0o644)
        spdm("attest", uri, "--psk", other, code=2)


def test_probe(device: Path) -> None:
    with serving(device) as uri:
        found = json.loads(spdm("probe", uri, "--json").stdout)
    assert found["versions"] == ["1.0", "1.1", "1.2", "1.3", "1.4"]
    assert "MEAS_CAP_SIG" in found["capabilities"]
    assert list(found["slots"]) == ["0"]


def test_a_real_gpus_report() -> None:
    arguments = (
        *("appraise", "--measurements", H100 / "attestation_report.hex"),
        *("--chain", H100 / "certificate_chain.pem", "--trust-anchor", H100 / "device_root.pem"),
    )
    found = json.loads(spdm(*arguments, "--json", code=4).stdout)
    assert len(found["measurements"]) == 64


@pytest.mark.parametrize("position", [4, 36, 60, 3000, 3570, 3600, 4116])
def test_a_flipped_bit_in_a_real_report_is_found(tmp_path: Path, position: int) -> None:
    report = bytearray.fromhex((H100 / "attestation_report.hex").read_text())
    report[position] ^= 0x10
    (tmp_path / "report.bin").write_bytes(report)
    found = json.loads(
        spdm(
            *("appraise", "--measurements", tmp_path / "report.bin", "--json"),
            *("--chain", H100 / "certificate_chain.pem"),
            *("--trust-anchor", H100 / "device_root.pem"),
            code=1,
        ).stdout
    )
    failed = [step["name"] for step in found["steps"] if step["outcome"] == "failed"]
    assert failed in (["signature"], ["decode"])


def test_garbage_beside_an_honest_client(device: Path) -> None:
    with serving(device) as uri:
        port = int(uri.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as garbage:
            garbage.sendall(b"\x09\x00")
            spdm("attest", uri, *judged(device))
            garbage.sendall(b"\x63\x05")
            garbage.settimeout(10)
            assert garbage.recv(16)[3:4] == b"\xc1"
            assert garbage.recv(16) == b""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["attest", "nowhere://x", "--trust-anchor", "{anchor}"], 2),
        (["attest", "tcp://127.0.0.1:1", "--trust-anchor", "{anchor}"], 3),
        (["attest", "tcp://127.0.0.1:1"], 2),
        (["attest"], 2),
        (["appraise", "{anchor}", "--trust-anchor", "{anchor}"], 1),
        (["device", "init", "{folder}"], 2),
        (["device", "serve", "{parent}", "--listen", "tcp://127.0.0.1:0"], 2),
        (["nonsense"], 2),
    ],
)
def test_what_goes_wrong_is_said(device: Path, arguments: list[str], code: int) -> None:
    names = {
        "anchor": str(device / "trust-anchor.pem"),
        "folder": str(device),
        "parent": str(device.parent),
    }
    done = spdm(*(each.format(**names) for each in arguments), code=code)
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    assert done.stderr or done.stdout


def test_where_options_stand_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "demo"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["hint"] == "options stand after the command: spdm COMMAND ... --json"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, time, spdmkit.cli\n"
        "started = time.process_time()\n"
        "try: spdmkit.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'asyncio', 'cryptography'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert time.process_time() < 0.3, time.process_time()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "spdm attest" in done.stdout


def test_mutual_authentication(tmp_path: Path) -> None:
    device, verifier = tmp_path / "device", tmp_path / "verifier"
    spdm("device", "init", device, "--algorithm", "ecdsa-p256")
    spdm("device", "init", verifier, "--algorithm", "ecdsa-p256", "--requester")
    settings = (device / "device.toml").read_text()
    roots = (verifier / "trust-anchor.pem").read_text()
    (device / "requesters.pem").write_text(roots)
    (device / "device.toml").write_text(settings.replace("# requester_trust", "requester_trust"))
    with serving(device) as uri:
        spdm("attest", uri, *judged(device), "--mutual", verifier)
        spdm("attest", uri, *judged(device), "--session")
        spdm("attest", uri, *judged(device), "--mutual", device, code=3)
