"""The matrix against the reference emulator, as far as it goes without the emulator."""

from __future__ import annotations

import datetime as dt
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in ("SPDM_EMU", "SPDM_EMU_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return runpy.run_path(str(TOOLS / "interop.py"), run_name="interop")


def test_without_the_emulator_it_says_skipped(
    tool: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", ["interop.py"])
    assert tool["main"]() == 0
    assert capsys.readouterr().err.startswith("skipped: ")
    monkeypatch.setattr(sys, "argv", ["interop.py", str(tmp_path)])
    assert tool["main"]() == 0
    assert "holds no program spdm_requester_emu" in capsys.readouterr().err


def test_each_case_has_a_name_of_its_own(tool: dict[str, Any]) -> None:
    names = [case.name for case in tool["select"]([])]
    assert len(set(names)) == len(names) > 500
    chosen = tool["select"](["requester/tcp/1.4", "responder/doe/1.0"])
    assert {case.name.rsplit("/", 2)[0] for case in chosen} == {
        "requester/tcp/1.4",
        "responder/doe/1.0",
    }


def test_chance_is_the_same_for_the_same_seed(tool: dict[str, Any]) -> None:
    one, again, other = (list(tool["random_cases"](20, seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_the_page_shows_what_failed(tool: dict[str, Any]) -> None:
    results = [
        SimpleNamespace(
            ours=ours, transport=transport, version="1.2", group="g", what="w", passed=passed
        )
        for ours, transport, passed in (
            ("requester", "mctp", True),
            ("requester", "tcp", False),
            ("responder", "doe", True),
        )
    ]
    page = tool["page"](results, "emulator 1", dt.date(2026, 1, 2))
    assert "| g | w |  |  | M T **failed** |  |  |" in page
    assert "| g | w |  |  | D |  |  |" in page
    assert "2 of 3 passed" in page
