"""Many devices at once: the file of targets, the files of results, and one exit code."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from spdmkit.cli.attest import command as attest
from spdmkit.cli.root import run
from spdmkit.device.initialise import initialise
from spdmkit.errors import ConfigurationError

from .support import serving


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three devices."""
    folder = tmp_path_factory.mktemp("rack")
    for name in ("a", "b", "c"):
        initialise(folder / name, algorithm="ecdsa-p256")
    return folder


@pytest.fixture(scope="module")
def uris(rack: Path) -> Iterator[dict[str, str]]:
    """The devices a and b at an address each, and b at another one too."""
    with ExitStack() as stack:
        served = {"a": "a", "b": "b", "b again": "b"}
        yield {name: stack.enter_context(serving(rack / folder)) for name, folder in served.items()}


def target(uri: str, name: str, **more: str) -> str:
    lines = {"uri": uri, "name": name, "trust_anchor": f"{name[0]}/trust-anchor.pem", **more}
    return "[[target]]\n" + "".join(f'{key} = "{value}"\n' for key, value in lines.items())


def attest_all(
    capsys: pytest.CaptureFixture[str], rack: Path, text: str, *more: str | Path, code: int
) -> dict[str, dict[str, object]]:
    """Attest the targets of a file; gives their rows by name."""
    (rack / "rack.toml").write_text(text)
    arguments = ["attest", "--targets", rack / "rack.toml", "--output", rack / "out", *more]
    found = run([*map(str, arguments), "--json"])
    out = capsys.readouterr()
    assert found == code, out
    assert "trusted" not in out.err, "a verdict before all of them were looked at"
    document = json.loads(out.out)
    return {row["name"]: row for row in document["targets"]} if "targets" in document else document


def result_of(rack: Path, name: str) -> dict[str, object]:
    document: dict[str, object] = json.loads((rack / "out" / f"{name}.json").read_bytes())
    return document


def test_each_target_has_its_own_settings_and_file(
    capsys: pytest.CaptureFixture[str], rack: Path, uris: dict[str, str]
) -> None:
    text = target(uris["a"], "a", reference="a/reference.json", expect_identity="spdmkit:*")
    text += target(uris["b"], "b") + target("tcp://127.0.0.1:1", "c")
    text = text.replace('expect_identity = "spdmkit:*"\n', "session = true\n")
    rows = attest_all(
        capsys, rack, text, "--evidence", rack / "kept", "--capture", rack / "all.pcapng", code=3
    )
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "a": "trusted",
        "b": "not-appraised",
        "c": "not-done",
    }
    assert result_of(rack, "a")["verdict"] == "trusted"
    steps = {step["name"]: step for step in result_of(rack, "a")["steps"]}  # type: ignore[attr-defined] # a document
    assert steps["session"]["outcome"] == "passed"
    assert result_of(rack, "b")["verdict"] == "not-appraised"
    assert "cannot connect" in str(result_of(rack, "c")["error"])
    assert {path.name for path in (rack / "kept").iterdir()} == {"a.cbor", "b.cbor"}
    anchor, reference = rack / "a" / "trust-anchor.pem", rack / "a" / "reference.json"
    again = [
        "appraise",
        rack / "kept" / "a.cbor",
        "--trust-anchor",
        anchor,
        "--reference",
        reference,
    ]
    assert run([*map(str, again), "--json"]) == 0
    capsys.readouterr()
    assert run(["decode", str(rack / "all.pcapng"), "--json", "--summary"]) == 0


def test_one_identity_at_two_targets_is_a_failure(
    capsys: pytest.CaptureFixture[str], rack: Path, uris: dict[str, str]
) -> None:
    text = target(uris["b"], "b-1", reference="b/reference.json")
    text += target(uris["b again"], "b-2", reference="b/reference.json")
    text += target(uris["a"], "a", reference="a/reference.json")
    rows = attest_all(capsys, rack, text, code=1)
    assert [rows[name]["verdict"] for name in ("b-1", "b-2", "a")] == [
        *("untrusted", "untrusted", "trusted")
    ]
    document = result_of(rack, "b-1")
    assert document["verdict"] == "untrusted"
    failed = [step for step in document["steps"] if step["outcome"] == "failed"]  # type: ignore[attr-defined] # a document
    assert [step["name"] for step in failed] == ["identity"]
    assert uris["b again"] in failed[0]["detail"]


def test_identities_are_expected_by_target_and_remembered(
    capsys: pytest.CaptureFixture[str], rack: Path, uris: dict[str, str]
) -> None:
    name = json.loads((rack / "a" / "reference.json").read_bytes())["id"].rpartition(":")[2]
    expected = {"expect_identity": f"spdmkit:software-device:{name}"}
    known = ("--known-devices", rack / "known", "--remember")
    text = target(uris["a"], "a", **expected) + target(uris["b"], "b", **expected)
    rows = attest_all(capsys, rack, text, *known, code=1)
    assert (rows["a"]["verdict"], rows["b"]["verdict"]) == ("not-appraised", "untrusted")
    lines = (rack / "known").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [uris["a"]]  # not the one that is untrusted
    moved = target(uris["b"], "b") + target(uris["a"], "a")
    (rack / "known").write_text((rack / "known").read_text().replace(uris["a"], "tcp://gone:1"))
    rows = attest_all(capsys, rack, moved, *known, code=1)
    assert (rows["a"]["verdict"], rows["b"]["verdict"]) == ("untrusted", "not-appraised")
    assert "tcp://gone:1" in str(rows["a"]["reason"])


def test_pre_shared_keys_and_signed_results(
    capsys: pytest.CaptureFixture[str], rack: Path, uris: dict[str, str]
) -> None:
    from spdmkit.attestation.results.ear import read_jwt
    from spdmkit.crypto.keys import PrivateKey

    key = PrivateKey.generate("ecdsa-p256")
    (rack / "key.pem").write_bytes(key.to_pem())
    (rack / "key.pem").chmod(0o600)
    text = '[defaults]\ntrust_anchor = "b/trust-anchor.pem"\n\n'
    text += f'[[target]]\nuri = "{uris["a"]}"\npsk = "a/psk.toml"\nname = "a"\n'
    text += f'[[target]]\nuri = "{uris["b"]}"\nname = "b"\n'
    (rack / "out").mkdir(exist_ok=True)
    (rack / "out" / "a.json").write_text("an older result")
    signed = ("--result-format", "ear-jwt", "--signing-key", rack / "key.pem")
    rows = attest_all(capsys, rack, text, *signed, code=4)
    assert (
        rows["a"]["device"]
        == json.loads((rack / "a" / "reference.json").read_bytes())["id"].rpartition(":")[2]
    )
    assert not (rack / "out" / "a.json").exists()
    for name in ("a", "b"):
        token = (rack / "out" / f"{name}.jwt").read_text().strip()
        assert read_jwt(token, [key.public_key], now=0)["ear_status"] == "none"
    assert run(["attest", "--targets", str(rack / "rack.toml"), "--result-format", "ear-jwt"]) == 2


def test_one_that_never_answers_keeps_nobody_waiting(
    capsys: pytest.CaptureFixture[str], rack: Path, uris: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = target(f"tcp://127.0.0.1:{silent.getsockname()[1]}", "c")
        text += target(uris["a"], "a", reference="a/reference.json")
        rows = attest_all(capsys, rack, text, "--patience", "5", "--concurrency", "1", code=3)
    assert (rows["a"]["verdict"], rows["c"]["verdict"]) == ("trusted", "not-done")
    assert "not done within 5 s" in str(rows["c"]["reason"])


def test_a_result_that_cannot_be_written_ends_the_run(
    capsys: pytest.CaptureFixture[str], rack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _data: bytes) -> None:
        raise ConfigurationError(f"{path}: No space left on device")

    monkeypatch.setattr("spdmkit.cli.fleet.write_atomic", full)
    text = target("tcp://127.0.0.1:1", "a") + target("tcp://127.0.0.1:2", "b")
    document = attest_all(capsys, rack, text, code=2)
    assert "No space left" in str(document["error"])


def test_a_list_of_addresses(
    capsys: pytest.CaptureFixture[str], rack: Path, uris: dict[str, str]
) -> None:
    text = f"# the rack\n{uris['a']}\n\n{uris['b']}  # below\n"
    anchors = [f"--trust-anchor={rack / name / 'trust-anchor.pem'}" for name in "ab"]
    rows = attest_all(capsys, rack, text, *anchors, "--authenticate-only", code=0)
    assert [row["verdict"] for row in rows.values()] == ["not-appraised"] * 2


def test_a_table_for_people(rack: Path, uris: dict[str, str]) -> None:
    (rack / "one.toml").write_text(target(uris["a"], "a", reference="a/reference.json"))
    done = CliRunner().invoke(
        attest,
        ["--targets", str(rack / "one.toml"), "--output", str(rack / "out")],
        standalone_mode=False,
    )
    assert done.return_value == 0
    assert "1 trusted; one file each in" in done.stdout
    assert "attesting" in done.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[target]]\nname = 'x'\n", "rack.toml:1"),
        ("[[target]]\nuri = 'tcp://x'\ntrust_anchr = 'y'\n", "did you mean trust_anchor"),
        ("[[target]]\nuri = 'tcp://x'\n[[target]]\nuri = 'tcp://x:4194'\n", "rack.toml:4"),
        ("[defaults]\nuri = 'tcp://x'\n", "every target has its own"),
        ("[[target]]\nuri = 'tcp://x'\nname = '../y'\n", "cannot be that of a file"),
        ("[[target]]\nuri = 'tcp://x'\npsk = 'a'\npublic_key = 'b'\n", "says already"),
        ("[[target]]\nuri = 'tcp://x'\nmax_age = '5'\n", "not a duration"),
        ("[[target]]\nuri = 'tcp://x'\nexpect_identity = ['serial:zz']\n", "not in hex"),
        ("[[target]]\nuri = 'tcp://x'\ntrust_anchor = 'absent.pem'\n", "absent.pem"),
        ("tcp://x\ntcp://x\n", "rack.toml:2"),
        ("# nothing\n", "names no target"),
        ("nowhere://x\n", "rack.toml:1"),
        ("[[target]]\nuri = 'tcp://x'\nname='a'\n[[target]]\nuri='tcp://y'\nname='a'\n", "called"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "rack.toml").write_text(text)
    assert run(["attest", "--targets", str(tmp_path / "rack.toml"), "--json"]) == 2
    out = capsys.readouterr()
    assert complaint in out.err
    assert json.loads(out.out)["error"]["kind"] == "ConfigurationError"
    assert "Traceback" not in out.err
