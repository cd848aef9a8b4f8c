"""The site builds without a warning, and has what is generated from the code."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spdmkit.cli.root import COMMANDS
from spdmkit.messages import MESSAGES
from spdmkit.protocol.states import Phase, SessionPhase

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, "-d", str(out / "doctrees"), "docs", str(out / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


@pytest.mark.timeout(600)
def test_builds_without_a_warning(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page.with_suffix(".html")).exists()} == set()


def test_every_message_with_its_fields(site: Path) -> None:
    page = (site / "reference" / "messages.html").read_text()
    for struct in MESSAGES.values():
        assert f"code 0x{struct.code:02X}" in page
        named = [each.name for each in struct.layout.elements if each.name]
        section = page[page.index(f">{struct.layout.name}<") :]
        assert all(f">{name}<" in section for name in named), struct.name
    assert "generated:" not in page


def test_state_machines(site: Path) -> None:
    page = (site / "reference" / "states.html").read_text()
    assert page.count("<svg") == 3
    for phase in (*Phase, *SessionPhase):
        assert f">{phase.value}</text>" in page
    assert "UnexpectedRequest, session ends" in page


def test_diagrams_of_flows(site: Path) -> None:
    source = (ROOT / "docs" / "explanation" / "flows.md").read_text()
    page = (site / "explanation" / "flows.html").read_text()
    assert page.count("<svg") == source.count("```mermaid")
    assert "sequenceDiagram" not in page


def test_every_command(site: Path) -> None:
    page = text(site / "reference" / "commands.html")
    for name in COMMANDS:
        assert f"spdm {name}" in page
    assert "--trust-anchor" in page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for source in re.findall(r'(?:src|href)="(https?:[^"]+)"[^>]*>', page.read_text()):
            tag = page.read_text().partition(source)[0].rpartition("<")[2]
            assert tag.startswith("a "), f"{page.name}: {source}"
