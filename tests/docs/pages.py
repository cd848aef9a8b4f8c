"""What stands on a page, as a script: commands to run and files to write, in order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "vectors" / "README.md")

_FENCE = re.compile(r"^```(\w*)$")
_ADDED = re.compile(r'(?:\$ )?echo "([^"]*)" >> (\S+)$')
_PATH = re.compile(r"# ((?:[\w-]+/)*[\w-]+\.toml)\b")


@dataclass(slots=True)
class Shown:
    """A command as a page shows it.

    Attributes:
        line: as it stands there, on one line.
        words: what follows `spdm`.
        environment: variables set before it.
        stdin: what is piped into it by `echo`.
        output: file that its output goes to.
        background: it goes on while the next ones run.
        code: exit code that a comment behind it names.
    """

    line: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    output: str = ""
    background: bool = False
    code: int | None = None


@dataclass(slots=True)
class Copied:
    """A file that a page copies with `cp`."""

    source: str
    target: str


@dataclass(slots=True)
class Appended:
    """A line that a page adds to a file with `echo`."""

    line: str
    path: str


@dataclass(slots=True)
class Written:
    """A TOML file that a page shows; its first line says which."""

    path: str
    text: str


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Fenced blocks: language and text."""
    language, lines = None, list[str]()
    for line in page.read_text().splitlines():
        fence = _FENCE.match(line)
        if fence and language is None:
            language, lines = fence[1], []
        elif line == "```" and language is not None:
            yield language, "\n".join(lines)
            language = None
        elif language is not None:
            lines.append(line)


@dataclass(slots=True)
class Program:
    """A piece of Python that a page shows; what comes later on the page goes on from it."""

    text: str


Step: TypeAlias = Shown | Copied | Appended | Written | Program


def script(page: Path) -> list[Step]:
    """What to do, in order; files of their own are there before the first command."""
    steps: list[Step] = []
    for language, text in blocks(page):
        if language in ("sh", "console", ""):
            steps += commands(text)
        elif language == "python":
            steps.append(Program(text))
        elif language == "toml" and (named := _PATH.match(text)):
            step = Written(named[1], text)
            steps.insert(len(steps) if step.path.endswith("device.toml") else 0, step)
    return steps


def commands(text: str) -> Iterator[Shown | Copied | Appended]:
    """The `spdm` commands of a block, and the files it copies and changes."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.removeprefix("$ ").split()
        found = _command(" ".join(words))
        if found is not None:
            yield found
        elif words[:1] == ["cp"]:
            yield Copied(*words[1:])
        elif added := _ADDED.match(line):
            yield Appended(added[1], added[2])


def _command(line: str) -> Shown | None:
    told, _, comment = line.partition(" #")
    background = told.endswith("&")
    told, _, output = told.removesuffix("&").strip().partition(" > ")
    piped = re.match(r"echo (?:'([^']*)'|(\S+)) \| ", told)
    words = shlex.split(told[piped.end() :] if piped else told)
    environment = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    if words[:3] == ["python3", "run.py", "spdm"]:
        words = words[2:]
    if not words or words[0] not in ("spdm", ".venv/bin/spdm"):
        return None
    if "|" in words:
        del words[words.index("|") :]
    code = re.search(r"exit (\d)", comment)
    return Shown(
        line=line,
        words=words[1:],
        environment=environment,
        stdin=(piped[1] or piped[2]) if piped else "",
        output=output,
        background=background,
        code=int(code[1]) if code else None,
    )
