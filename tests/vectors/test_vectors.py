"""The published vectors: replayed by a checker that shares nothing with us, and by our decoder."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spdmkit.cli.root import run

ROOT = Path(__file__).parent.parent.parent
VECTORS = sorted((ROOT / "vectors").glob("*.json"))
CHECKER = ROOT / "tools" / "check_vectors.py"
ALLOWED = {*sys.stdlib_module_names, "cryptography"}


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    specification = importlib.util.spec_from_file_location("check_vectors", CHECKER)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "vectors" / f"{name}.json").read_text())
    return document


def test_the_checker_shares_nothing_with_us() -> None:
    names = set()
    for node in ast.walk(ast.parse(CHECKER.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").partition(".")[0])
    assert names <= ALLOWED


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_each_vector_holds(path: Path, checker: ModuleType) -> None:
    assert checker.check(path)


def test_together_they_show_everything(checker: ModuleType) -> None:
    shown = set().union(*(checker.check(path) for path in VECTORS))
    assert shown >= {
        "CHALLENGE_AUTH",
        "CSR",
        "FINISH signed",
        "KEY_EXCHANGE",
        "MEASUREMENTS",
        "MEASUREMENTS in a session",
        "PSK_EXCHANGE",
        "SET_CERTIFICATE",
        "a chain in another slot",
        "application data",
        "error: not a requester",
        "error: not a responder",
        "error: too large",
        "error: version",
        "requester's keys updated",
        "responder's keys updated",
        "role inquiry",
        "session ended",
        *(f"service {code:#04x}" for code in (0, 2, 5, 6, 0x80, 0x82, 0x85, 0x86)),
    }
    dialects = {load(path.stem)["dialect"] for path in VECTORS}
    assert dialects == {"strict", "libspdm"}


@pytest.mark.parametrize("name", ["strict_attest", "strict_session", "strict_psk_13"])
def test_the_checker_finds_a_changed_byte(name: str, checker: ModuleType) -> None:
    whole = load(name)
    # A change shows in a transcript, were it only later on. Only how a chain was asked for is in
    # none, unless a CHALLENGE follows.
    for at in range(2, len(whole["messages"]), 3):
        document = json.loads(json.dumps(whole))
        frame = bytearray.fromhex(document["messages"][at]["frame"])
        frame[-1] ^= 1
        document["messages"][at]["frame"] = frame.hex()
        if name != "strict_attest" and frame[5] in (0x81, 0x82):
            continue
        with pytest.raises(checker.Wrong):
            checker.Conversation(document).run()


def test_the_checker_finds_a_changed_value(checker: ModuleType) -> None:
    document = load("strict_session")
    for at, (name, value) in enumerate(document["derived"]):
        changed = json.loads(json.dumps(document))
        changed["derived"][at] = [name, f"{int(value, 16) ^ 1:0{len(value)}x}"]
        with pytest.raises(checker.Wrong):
            checker.Conversation(changed).run()


def test_the_checker_tells_the_dialects_apart(checker: ModuleType) -> None:
    document = load("libspdm_session")
    with pytest.raises(checker.Wrong, match="PayloadLen"):
        checker.Conversation({**document, "dialect": "strict"}).run()


def test_the_checker_knows_who_may_connect(checker: ModuleType) -> None:
    document = load("strict_reach_out")
    with pytest.raises(checker.Wrong, match="speaks first"):
        checker.Conversation({**document, "initiator": "requester"}).run()


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_our_decoder_reads_them(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decode", "--json", str(path)]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["records_decrypted"] == summary["records"]
    for kind in ("signatures", "hashes", "macs", "chains"):
        assert summary[kind]["failed"] == summary[kind]["unverifiable"] == 0
