"""The example programs do what they say, each as a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spdmkit.cli.root import spdm as spdm_group
from spdmkit.device.initialise import initialise

from .support import SPDM, serving

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(example: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / example, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device, a requester that it lets provision it, and an authority."""
    root = tmp_path_factory.mktemp("examples")
    initialise(root / "device", algorithm="ecdsa-p256")
    initialise(root / "me", algorithm="ecdsa-p256", requester=True)
    shutil.copy(root / "me" / "trust-anchor.pem", root / "device" / "requesters.pem")
    path = root / "device" / "device.toml"
    text = path.read_text().replace("# requester_trust_anchors", "requester_trust_anchors")
    allowed = 'may_provision = ["certificate:CN=spdmkit device *"]'
    path.write_text(text.replace("may_provision = []", allowed))
    arguments = ["ca", "init", str(root / "ca"), "--algorithm", "ecdsa-p256"]
    spdm_group.main(arguments, standalone_mode=False)
    return root


@pytest.mark.parametrize("driver", [[], ["--async"]], ids=["blocking", "async"])
def test_attest_client(folder: Path, driver: list[str]) -> None:
    device = folder / "device"
    files = (device / "trust-anchor.pem", device / "reference.json")
    with serving(device) as uri:
        done = run("attest_client.py", uri, *files, *driver)
        stranger = run("attest_client.py", uri, folder / "me" / "trust-anchor.pem", files[1])
    assert done.returncode == 0, done.stderr
    assert "verdict  trusted" in done.stdout
    assert stranger.returncode == 1
    assert "untrusted" in stranger.stdout


def test_data_centre(folder: Path) -> None:
    device = folder / "device"
    with subprocess.Popen(
        [
            *(sys.executable, str(EXAMPLES / "data_centre.py"), "tcp://127.0.0.1:0"),
            *map(str, (folder / "me", device / "trust-anchor.pem", device / "reference.json")),
            *("--stop-after", "2"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        uri = server.stdout.readline().removeprefix("listening on ").strip()
        for service in ("verify", "measurements"):
            code = spdm_group.main(
                ["device", "dial", str(device), uri, "--want", service], standalone_mode=False
            )
            assert code == 0
        output, _ = server.communicate(timeout=20)
    assert server.returncode == 0
    assert output.count("trusted  ") == 2
    assert "1 trusted, 0 in quarantine" in output


def test_certificate_client(folder: Path) -> None:
    shutil.copytree(folder / "device", folder / "fresh")
    with subprocess.Popen(
        [
            *(*SPDM, "verifier", "serve", "--listen", "tcp://127.0.0.1:0"),
            *("--trust-anchor", str(folder / "fresh" / "trust-anchor.pem")),
            *("--mutual", str(folder / "me"), "--ca", str(folder / "ca")),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            uri = server.stdout.readline().removeprefix("listening on ").strip()
            done = run("certificate_client.py", folder / "fresh", uri, "1")
        finally:
            server.terminate()
            server.wait(timeout=20)
    assert done.returncode == 0, done.stderr
    assert "certificate: fulfilled" in done.stdout
    assert done.stdout.count("issued by") == 3
    assert (folder / "fresh" / "slots" / "1.pem").exists()


def test_offline_appraisal(folder: Path) -> None:
    device = folder / "device"
    anchor = device / "trust-anchor.pem"
    with serving(device) as uri:
        arguments = ["attest", uri, "--trust-anchor", str(anchor), "--evidence", str(folder / "e")]
        assert spdm_group.main(arguments, standalone_mode=False) == 4
    (folder / "torn").write_bytes((folder / "e").read_bytes()[:-9])
    files = (anchor, device / "reference.json", folder / "e")
    done = run("offline_appraisal.py", *files)
    assert (done.returncode, "trusted" in done.stdout) == (0, True), done.stderr
    torn = run("offline_appraisal.py", *files, folder / "torn")
    assert torn.returncode == 1
    assert torn.stdout.count("trusted") == 2
    assert "torn: untrusted" in torn.stdout


def test_session_client(folder: Path, tmp_path: Path) -> None:
    device = folder / "device"
    (tmp_path / "file").write_bytes(bytes(range(256)) * 200)
    with serving(device) as uri:
        # This device asks who we are, and takes anybody.
        done = run("session_client.py", uri, device / "trust-anchor.pem", tmp_path / "file")
        stranger = run("session_client.py", uri, folder / "me" / "trust-anchor.pem", __file__)
    assert done.returncode == 0, done.stderr
    assert "51200 bytes, as they went" in done.stdout
    assert stranger.returncode == 1
