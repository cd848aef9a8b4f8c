"""Shell completion and manual pages: made of the commands, complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from spdmkit.cli.man import manual_page, walk
from spdmkit.cli.root import COMMANDS, spdm

PAGES = dict(walk())


def test_every_command_has_a_page(tmp_path: Path) -> None:
    done = CliRunner().invoke(spdm, ["man", "--output", str(tmp_path / "man1")])
    assert done.exit_code == 0
    written = {path.stem for path in (tmp_path / "man1").iterdir()}
    assert written == {name.replace(" ", "-") for name in PAGES}
    assert {f"spdm-{name}" for name in COMMANDS} < written


def test_every_command_answers_in_json_and_explains_more() -> None:
    for name, found in PAGES.items():
        if not isinstance(found, click.Group):
            assert {"as_json", "verbose"} <= {each.name for each in found.params}, name


@pytest.mark.parametrize(
    ("arguments", "key"), [(["man", "attest"], "page"), (["completion", "bash"], "script")]
)
def test_what_shells_and_man_read_in_json(arguments: list[str], key: str) -> None:
    plain = CliRunner().invoke(spdm, arguments).output
    document = json.loads(CliRunner().invoke(spdm, [*arguments, "--json"]).output)
    assert document[key].strip() == plain.strip()


@pytest.mark.parametrize("name", ["spdm", "spdm attest", "spdm device serve"])
def test_a_page_says_what_help_says(name: str) -> None:
    page = manual_page(name, PAGES[name], list(PAGES))
    plain = page.replace("\\-", "-")
    for option in PAGES[name].params:
        assert all(each in plain for each in option.opts if each.startswith("--"))
    assert "spdm" in plain.partition(".SH SYNOPSIS")[2].splitlines()[1]
    assert "Example" in plain
    assert "not appraised" in plain
    # Nothing but our own macros begins a line with a dot.
    macros = set(re.findall(r"^\.(\w+)", page, re.MULTILINE))
    assert macros <= {"TH", "SH", "PP", "TP", "nf", "fi"}


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
def test_man_understands_it(tmp_path: Path) -> None:
    path = tmp_path / "spdm-attest.1"
    path.write_text(manual_page("spdm attest", PAGES["spdm attest"], list(PAGES)))
    done = subprocess.run(
        ["man", "--warnings=w", "-l", str(path)], capture_output=True, text=True, check=False
    )
    assert "--trust-anchor" in done.stdout
    assert "warning" not in done.stderr


def test_no_such_page() -> None:
    done = CliRunner().invoke(spdm, ["man", "nonsense"])
    assert done.exit_code == 2
    assert "nonsense" in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = CliRunner().invoke(spdm, ["completion", shell])
    assert done.exit_code == 0
    assert f"_SPDM_COMPLETE={shell}_complete" in done.output
    syntax = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "-n"]}[shell]
    if shutil.which(shell):
        subprocess.run(syntax, input=done.output, text=True, check=True)


def test_completion_knows_commands_and_options() -> None:
    complete = BashComplete(spdm, {}, "spdm", "_SPDM_COMPLETE")
    assert {each.value for each in complete.get_completions([], "ev")} == {"evidence"}
    options = {each.value for each in complete.get_completions(["device", "serve"], "--l")}
    assert "--listen" in options


def test_completion_of_an_unknown_shell() -> None:
    done = CliRunner().invoke(spdm, ["completion", "csh"])
    assert done.exit_code == 2
