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
from spdmkit.protocol import exchanges
from spdmkit.protocol.states import Phase, SessionPhase

ROOT = Path(__file__).parents[2]


def build(out: Path) -> Path:
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
def test_the_site(tmp_path: Path) -> None:
    """One test: building costs more than all that is looked at, and is done once."""
    site = build(tmp_path)
    for check in (
        every_page,
        every_message_with_its_fields,
        state_machines,
        diagrams_of_flows,
        every_command,
        public_names,
        nothing_is_loaded_from_elsewhere,
    ):
        check(site)


def every_page(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page.with_suffix(".html")).exists()} == set()


def every_message_with_its_fields(site: Path) -> None:
    page = (site / "reference" / "messages.html").read_text()
    for struct in MESSAGES.values():
        assert f"code 0x{struct.code:02X}" in page
        named = [each.name for each in struct.layout.elements if each.name]
        section = page[page.index(f">{struct.layout.name}<") :]
        assert all(f">{name}<" in section for name in named), struct.name
    assert "generated:" not in page


def state_machines(site: Path) -> None:
    page = (site / "reference" / "states.html").read_text()
    assert page.count("<svg") == 3
    for phase in (*Phase, *SessionPhase):
        assert f">{phase.value}</text>" in page
    assert "UnexpectedRequest, session ends" in page


def diagrams_of_flows(site: Path) -> None:
    source = (ROOT / "docs" / "explanation" / "flows.md").read_text()
    page = (site / "explanation" / "flows.html").read_text()
    assert page.count("<svg") == source.count("```mermaid")
    assert "sequenceDiagram" not in page


def every_command(site: Path) -> None:
    page = text(site / "reference" / "commands.html")
    for name in COMMANDS:
        assert f"spdm {name}" in page
    assert "--trust-anchor" in page


def public_names(site: Path) -> None:
    page = (site / "reference" / "api" / "exchanges.html").read_text()
    for name in exchanges.__all__:
        assert f'id="spdmkit.protocol.exchanges.{name}"' in page, name


def nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for source in re.findall(r'(?:src|href)="(https?:[^"]+)"[^>]*>', page.read_text()):
            tag = page.read_text().partition(source)[0].rpartition("<")[2]
            assert tag.startswith("a "), f"{page.name}: {source}"
