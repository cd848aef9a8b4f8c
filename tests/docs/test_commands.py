"""Every `spdm` command of the README and the pages is run, page by page, in the order they stand.

What cannot be run here is parsed, and named in `PARSED` with the reason.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import click
import pytest

from spdmkit.cli.man import walk
from spdmkit.cli.root import spdm as group

from .lab import Pantry, stock
from .pages import PAGES, ROOT, Program, Shown, commands, script

T = TypeVar("T")
NOT_APPRAISED = 4
"""Whoever gives no reference values gets this."""

PARSED: dict[str, str] = {
    "spdm probe mctp://1/9": "needs a kernel with MCTP and a device behind it",
    "spdm proxy --status 127.0.0.1:9494": "needs the proxy of the BMC; tests/cli/test_proxy.py",
    "spdm conformance --listen tcp://127.0.0.1:4194": "waits for a person's requester",
    "--run 'spdm attest {uri}": "runs each case in a process; tests/cli/test_conformance.py",
}
"""Beginnings of commands that are only parsed -> why."""

PROGRAMS = ("README.md", "docs/how-to/sessions.md", "docs/how-to/ask-a-device.md")
"""Pages whose Python is run as well; that of others shows calls without what surrounds them."""

CODES: dict[str, int] = {
    # The second device of the file has no reference values.
    "spdm attest --targets rack.toml": 4,
    "spdm verifier dial tcp://192.0.2.7": 4,
}
"""Beginnings of commands that end otherwise than with 0."""


@pytest.fixture(scope="module")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pantry]:
    made = stock(tmp_path_factory.mktemp("pantry"))
    yield made
    made.stop()


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


SCRIPTS = {named(page): script(page) for page in PAGES}
WITH_COMMANDS = [
    name
    for name, steps in SCRIPTS.items()
    if name in PROGRAMS or any(isinstance(step, Shown) for step in steps)
]


@pytest.mark.parametrize("page", WITH_COMMANDS)
@pytest.mark.timeout(300)
def test_commands_of_a_page(
    page: str, pantry: Pantry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = pantry.lab(tmp_path)
    failed = []
    try:
        for step in SCRIPTS[page]:
            if isinstance(step, Shown):
                parse(step)
                if find(PARSED, step.line) is not None:
                    continue
                code = lab.perform(step)
                out, err = capsys.readouterr()
                if step.output:
                    (tmp_path / step.output).write_text(out)
                wanted = expected(step)
                if code != wanted:
                    failed.append(
                        f"{step.line}\n  exit {code}, not {wanted}\n{out[-600:]}{err[-900:]}"
                    )
            elif not isinstance(step, Program) or page in PROGRAMS:
                lab.perform(step)
    finally:
        lab.stop()
    assert not failed, "\n".join(failed)


def expected(shown: Shown) -> int:
    """The exit code that a command has to end with."""
    if shown.code is not None:
        return shown.code
    code = find(CODES, shown.line)
    if code is not None:
        return code
    judged = {"--reference", "--authenticate-only", "--targets"} & set(shown.words)
    return 0 if judged or shown.words[0] not in ("attest", "appraise") else NOT_APPRAISED


def find(table: dict[str, T], line: str) -> T | None:
    """What the table has for a command, by its beginning."""
    return next((value for start, value in table.items() if start in line), None)


def parse(shown: Shown) -> None:
    """Commands, options and arguments are such that `spdm` takes them."""
    words = list(shown.words)
    command: click.Command = group
    context = click.Context(group, info_name="spdm")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, shown.line
        command, context = found, click.Context(found, context, info_name=words.pop(0))
    parser = command.make_parser(context)
    try:
        parser.parse_args(words)
    except click.UsageError as error:
        pytest.fail(f"{shown.line}: {error}")


@pytest.mark.parametrize("name", [name for name, _ in walk()])
def test_examples_of_help_are_such_that_they_parse(name: str) -> None:
    command = dict(walk())[name]
    text = "\n".join(filter(None, [command.help, command.epilog])).replace("\b", "")
    shown = [step for step in commands(text) if isinstance(step, Shown)]
    assert shown or isinstance(command, click.Group), "--help has no example"
    for step in shown:
        parse(step)


def test_pages_say_it_the_same_way() -> None:
    """Commands stand in fenced blocks, where this test finds them."""
    for page in PAGES:
        for line in page.read_text().splitlines():
            assert not line.startswith("    spdm "), f"{named(page)}: {line}"


def test_tables_name_what_stands_on_pages() -> None:
    lines = [step.line for steps in SCRIPTS.values() for step in steps if isinstance(step, Shown)]
    for start in (*PARSED, *CODES):
        assert any(start in line for line in lines), start
    assert all(shlex.split(line) for line in lines)


def test_the_readme_names_every_command() -> None:
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    for name, command in walk():
        words = name.split()
        # Of what is in a group one has its own line, and the others are named there.
        if not isinstance(command, click.Group) and "bench" not in words:
            assert name in table or f"`{words[-1]}`" in table, name


def test_the_index_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        kind = page.parent.name
        if kind in ("how-to", "explanation", "tutorial"):
            assert named(page) in readme
