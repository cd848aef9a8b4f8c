"""`spdm conformance` and `device serve --misbehave` over real sockets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from spdmkit.cli.root import spdm as group
from spdmkit.device.initialise import initialise

from .support import serving, spdm


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conformance") / "device"
    initialise(folder)
    return folder


@contextmanager
def served(device: Path, *more: str) -> Iterator[str]:
    with serving(device, "tcp://127.0.0.1:0", *more) as uri:
        yield uri


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, list(map(str, arguments)), standalone_mode=False)


def test_our_device_passes_and_says_what_did_not_apply(device: Path, tmp_path: Path) -> None:
    junit = tmp_path / "results.xml"
    with served(device) as uri:
        done = run("conformance", uri, "--junit", junit, "--json")
    assert done.return_value == 0, done.output
    document = json.loads(done.stdout)
    assert document["summary"]["failed"] == document["summary"]["error"] == 0
    assert document["summary"]["assertions"] > 1000
    names = [case["name"] for case in document["cases"]]
    assert names[0].startswith("binding.")
    assert names[-1] == "sanity.last"
    suites = ET.parse(junit).getroot()
    assert [suite.get("name") for suite in suites][1:] == [f"SPDM 1.{n}" for n in (4, 3, 2, 1, 0)]
    assert sum(int(suite.get("tests", "0")) for suite in suites) == len(names)


def test_a_device_that_breaks_a_rule_is_found(device: Path, tmp_path: Path) -> None:
    junit = tmp_path / "results.xml"
    with served(device, "--misbehave", "digests.digest") as uri:
        done = run(
            *("conformance", uri, "--case", "digests.*", "--versions", "1.2"), "--junit", junit
        )
    assert done.return_value == 1
    assert "digests.digest" in done.output
    assert "DSP0274 10.8" in done.output
    failures = ET.parse(junit).getroot().findall(".//failure")
    assert failures


def test_lists_and_mistakes() -> None:
    listed = json.loads(run("conformance", "--list", "--json").stdout)["cases"]
    assert {"name", "clause", "title"} == set(listed[0])
    assert "see --list" in spdm("conformance", "--list", "--case", "nothing.*", code=2).stderr
    assert "whom to test" in spdm("conformance", code=2).stderr


def test_an_unknown_rule_is_named(device: Path) -> None:
    listen = ("--listen", "tcp://127.0.0.1:0")
    done = spdm("device", "serve", device, *listen, "--misbehave", "digests.digst", code=2)
    assert "did you mean digests.digest?" in done.stderr


def test_a_listener_that_breaks_the_binding_is_found(device: Path) -> None:
    with served(device, "--misbehave", "binding.binding-version") as uri:
        done = run("conformance", uri, "--case", "binding.*", "--answer-timeout", "0.5", "--json")
    assert done.return_value == 1
    failed = [c["name"] for c in json.loads(done.stdout)["cases"] if c["outcome"] == "failed"]
    assert failed == ["binding.binding-version"]


def test_a_requester_run_as_a_command(device: Path) -> None:
    anchor = device / "trust-anchor.pem"
    requester = f"{sys.executable} -m spdmkit attest {{uri}}?dialect=strict --trust-anchor {anchor}"
    cases = ("--case", "challenge.signature", "--case", "psk.verify-data")
    done = run(
        *("conformance", "--listen", "tcp://127.0.0.1:0", "--device", device),
        *("--run", requester, *cases, "--json"),
    )
    assert done.return_value == 0, done.output
    outcomes = {c["name"]: c["outcome"] for c in json.loads(done.stdout)["cases"]}
    assert outcomes == {
        "sanity.first": "passed",
        "challenge.signature": "passed",
        "psk.verify-data": "not-applicable",
        "sanity.last": "passed",
    }
