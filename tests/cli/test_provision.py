"""`spdm ca` and `spdm provision` as a person types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spdmkit.cli import provision as provisioning
from spdmkit.cli.root import spdm as group
from spdmkit.device.initialise import initialise
from spdmkit.errors import AuthenticationError, TransportError

from .support import serving, spdm

PASSPHRASE = {"SPDM_CA_PASSPHRASE": "correct horse"}


def run(*arguments: str | Path) -> Any:
    """A command that needs no process of its own; returns its JSON."""
    done = CliRunner().invoke(
        group, [*map(str, arguments), "--json"], env=PASSPHRASE, standalone_mode=False
    )
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with a device `dev`, a requester `me` it knows, an authority `ca`; and a URI."""
    folder = tmp_path_factory.mktemp("provision")
    initialise(folder / "dev")
    initialise(folder / "me", requester=True)
    run("ca", "init", folder / "ca")
    path = folder / "dev" / "device.toml"
    text = path.read_text().replace(
        "may_provision = []",
        'may_provision = ["psk:*", "certificate:*"]\n'
        'requester_trust_anchors = ["../me/trust-anchor.pem"]',
    )
    path.write_text(text)
    with serving(folder / "dev") as uri:
        yield folder, uri


def provision(world: tuple[Path, str], *more: str | Path) -> Any:
    folder, uri = world
    anchor = folder / "dev" / "trust-anchor.pem"
    return run("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, *more)


def test_by_pre_shared_key(world: tuple[Path, str]) -> None:
    found = provision(world, "--slot", "1", "--psk", world[0] / "dev" / "psk.toml")
    assert found["slot"] == 1
    assert [step["name"] for step in found["steps"]][-2:] == ["read-back", "challenge"]
    assert {step["outcome"] for step in found["steps"]} == {"passed"}
    assert found["attestation"]["verdict"] == "not-appraised"
    listed = run("ca", "show", world[0] / "ca")["certificates"]
    (entry,) = [row for row in listed if row["serial"].lstrip("0") == found["serial"].lstrip("0")]
    assert entry["state"] == "installed"
    assert entry["target"] == world[1]


def test_by_mutual_authentication_then_attest_then_erase(world: tuple[Path, str]) -> None:
    folder, uri = world
    reference = ("--reference", folder / "dev" / "reference.json")
    found = provision(world, "--slot", "2", "--mutual", folder / "me", *reference)
    assert found["attestation"]["verdict"] == "trusted"
    root = folder / "ca" / "root.pem"
    attested = run("attest", uri, "--slot", "2", "--trust-anchor", root, *reference)
    assert attested["verdict"] == "trusted"
    serial = found["serial"]
    assert run("ca", "revoke", folder / "ca", serial)["crl_number"] == "1"
    crl = folder / "ca" / "crl.der"
    refused = spdm(
        "attest", uri, "--slot", "2", "--trust-anchor", root, *reference, "--crl", crl, code=1
    )
    assert "revoked" in refused.stdout
    erased = provision(world, "--slot", "2", "--mutual", folder / "me", "--erase")
    assert erased["erased"] is True
    spdm("attest", uri, "--slot", "2", "--trust-anchor", root, *reference, code=1)


def test_who_is_not_permitted_is_refused_with_a_hint(world: tuple[Path, str]) -> None:
    folder, uri = world
    anchor = folder / "dev" / "trust-anchor.pem"
    arguments = ("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, "--slot", "3")
    done = spdm(*arguments, "--trusted-environment", code=3, **PASSPHRASE)
    assert "may_provision" in done.stderr


def test_slot_0_wants_consent(world: tuple[Path, str]) -> None:
    folder, uri = world
    anchor = folder / "dev" / "trust-anchor.pem"
    arguments = ("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, "--slot", "0")
    done = spdm(*arguments, code=2, **PASSPHRASE)
    assert "--overwrite-slot-0" in done.stderr


def test_a_stranger_is_not_certified(world: tuple[Path, str], tmp_path: Path) -> None:
    folder, uri = world
    initialise(tmp_path / "other")
    anchor = tmp_path / "other" / "trust-anchor.pem"
    arguments = ("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, "--slot", "3")
    before = run("ca", "show", folder / "ca")
    done = spdm(*arguments, "--psk", folder / "dev" / "psk.toml", code=1, **PASSPHRASE)
    assert "anchor" in done.stderr or "root" in done.stderr
    assert run("ca", "show", folder / "ca") == before


def test_wrong_measurements_stop_it(world: tuple[Path, str], tmp_path: Path) -> None:
    folder, uri = world
    wrong = tmp_path / "reference.json"
    document = json.loads((folder / "dev" / "reference.json").read_text())
    document["measurements"][0]["digests"][0]["value"] = "00" * 48
    wrong.write_text(json.dumps(document))
    anchor = folder / "dev" / "trust-anchor.pem"
    arguments = ("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, "--slot", "3")
    psk = ("--psk", folder / "dev" / "psk.toml")
    done = spdm(*arguments, *psk, "--reference", wrong, code=1, **PASSPHRASE)
    assert "appraisal" in done.stderr


def test_a_passphrase_is_needed_and_kept_apart(tmp_path: Path) -> None:
    made = spdm("ca", "init", tmp_path / "ca")
    kept = tmp_path / "ca" / "passphrase"
    assert str(kept) in made.stderr
    assert kept.stat().st_mode & 0o077 == 0
    spdm("ca", "crl", tmp_path / "ca")
    secret = kept.read_text()
    kept.unlink()
    assert "--passphrase-file" in spdm("ca", "crl", tmp_path / "ca", code=2).stderr
    (tmp_path / "secret").write_text(secret)
    spdm("ca", "crl", tmp_path / "ca", "--passphrase-file", tmp_path / "secret")


def test_only_one_way_to_authenticate(world: tuple[Path, str]) -> None:
    folder, uri = world
    anchor = folder / "dev" / "trust-anchor.pem"
    ways = ("--psk", folder / "dev" / "psk.toml", "--trusted-environment")
    arguments = ("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, "--slot", "3")
    assert "give one of" in spdm(*arguments, *ways, code=2, **PASSPHRASE).stderr


def test_a_folder_that_is_no_authority_is_said_to_be_none(world: tuple[Path, str]) -> None:
    folder, uri = world
    anchor = folder / "dev" / "trust-anchor.pem"
    arguments = ("--trust-anchor", anchor, "--slot", "3", "--trusted-environment")
    done = spdm("provision", uri, "--ca", folder / "dev", *arguments, code=2)
    assert "not an authority" in done.stderr
    assert "not an authority" in spdm("ca", "show", folder / "dev", code=2).stderr


def test_a_passphrase_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    done = spdm("ca", "init", tmp_path / "ca", "--passphrase-file", tmp_path / "secret", code=2)
    assert "UTF-8" in done.stderr


def test_a_device_without_its_session_says_what_to_give(world: tuple[Path, str]) -> None:
    folder, uri = world
    anchor = folder / "dev" / "trust-anchor.pem"
    arguments = ("provision", uri, "--ca", folder / "ca", "--trust-anchor", anchor, "--slot", "3")
    done = spdm(*arguments, "--trusted-environment", code=3, **PASSPHRASE)
    assert "--mutual" in done.stderr


@pytest.mark.parametrize(
    ("step", "shows", "tries"),
    [("read-back", True, 3), ("read-back", False, 1), ("chain", True, 1)],
)
def test_a_reset_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, step: str, shows: bool, tries: int
) -> None:
    """A device that was not reset yet shows the old chain: that is no reason to give up."""
    seen = []

    def attempt(_exchange: object) -> str:
        seen.append(1)
        if len(seen) == 1:
            raise AuthenticationError(step, "slot 1 shows another chain")
        if len(seen) == 2:
            raise TransportError("it is being reset")
        return "done"

    monkeypatch.setattr(provisioning, "_PAUSE", 0.0)
    reach = object.__new__(provisioning._Reach)
    reach.uri, reach.patience = "tcp://192.0.2.7", 10.0
    monkeypatch.setattr(provisioning._Reach, "run", lambda _self, exchange: attempt(exchange))
    if tries == 1:
        with pytest.raises(AuthenticationError):
            reach.after_reset(lambda _link: iter(()), shows=shows)  # type: ignore[arg-type, return-value] # not run
    else:
        assert reach.after_reset(lambda _link: iter(()), shows=shows) == "done"  # type: ignore[arg-type, return-value] # not run
    assert len(seen) == tries
