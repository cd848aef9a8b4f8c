"""What the pages show as examples is read by the code they describe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from spdmkit.attestation.policy_file import read_policy
from spdmkit.attestation.reference.json_format import from_json, to_json
from spdmkit.attestation.targets import load_targets
from spdmkit.crypto.pkcs8 import armour
from tests.attestation.lab import NOW, authority, good_evidence, good_manifest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [
    DOCS.parent / name
    for name in ("README.md", "CHANGELOG.md", "examples/README.md", "vectors/README.md")
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_policy_with_everything_in_it() -> None:
    (text,) = blocks(DOCS / "reference" / "policy.md", "toml")
    policy = read_policy(text.encode())
    assert policy.components[0].minimum_svn == 4
    (code,) = blocks(DOCS / "reference" / "policy.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["policy"].rules[0].name == "patched"


def test_reference_values() -> None:
    (text,) = blocks(DOCS / "how-to" / "reference-values.md", "json")
    manifest = from_json(text.encode())
    assert [each.index for each in manifest.measurements] == [1, 4, 5, 9]


def test_targets(tmp_path: Path) -> None:
    (text,) = blocks(DOCS / "how-to" / "appraise.md", "toml")
    (tmp_path / "rack.toml").write_text(text)
    targets = load_targets(tmp_path / "rack.toml")
    assert [each.name for each in targets] == ["nic-7", "tcp-192.0.2.8_4194"]
    assert (targets[0].psk, targets[1].trust_anchor) == (None, None)


def test_appraising_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(DOCS / "how-to" / "appraise.md", "python")
    (tmp_path / "root.pem").write_bytes(armour(authority()[0].certificate.der, "CERTIFICATE"))
    (tmp_path / "nic.json").write_bytes(to_json(good_manifest()))
    (tmp_path / "nic.cbor").write_bytes(good_evidence().to_cbor())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: NOW)
    exec(code, {})
    assert capsys.readouterr().out == "trusted ()\n"


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_decisions_are_numbered_once() -> None:
    files = [path for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md"]
    for path in files:
        number = int(path.name.partition("-")[0])
        assert path.read_text().startswith(f"# {number}. "), path.name
    assert sorted(int(path.name[:4]) for path in files) == list(range(1, len(files) + 1))
