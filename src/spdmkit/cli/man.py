"""`spdm man`: manual pages, made of what `--help` says."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import click

from spdmkit import __version__
from spdmkit.cli.options import common

__all__ = ["command", "manual_page", "walk"]

_EXIT_CODES = (
    ("0", "done, and for an attestation: trusted"),
    ("1", "untrusted: a check failed"),
    ("2", "usage or configuration error"),
    ("3", "could not be done: network, protocol, peer"),
    ("4", "authentic, but not appraised: there are no reference values to judge by"),
)


@click.command("man")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the pages of all commands to this folder.",
)
@common
def command(words: tuple[str, ...], output: Path | None, as_json: bool, verbose: bool) -> None:  # noqa: ARG001 - every command has -v
    r"""Print the manual page of a command, or of spdm.

    \b
    Example:
      spdm man attest | man -l -
      spdm man --output ~/.local/share/man/man1
    """
    pages = dict(walk())
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        written = []
        for name, found in pages.items():
            path = output / f"{name.replace(' ', '-')}.1"
            path.write_text(manual_page(name, found, list(pages)))
            written.append(str(path))
        if as_json:
            click.echo(json.dumps({"written": written}, indent=2))
        return
    name = " ".join(["spdm", *words])
    if name not in pages:
        raise click.UsageError(f"there is no command {name!r}")
    page = manual_page(name, pages[name], list(pages))
    if as_json:
        page = json.dumps({"name": name, "page": page}, indent=2) + "\n"
    click.echo(page, nl=False)


def walk() -> Iterator[tuple[str, click.Command]]:
    """All commands by their whole names, groups before what is in them."""
    from spdmkit.cli.root import spdm

    return _walk("spdm", spdm, click.Context(spdm, info_name="spdm"))


def _walk(
    name: str, found: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    yield name, found
    if isinstance(found, click.Group):
        for each in found.list_commands(context):
            child = found.get_command(context, each)
            if child is not None and not child.hidden:
                inner = click.Context(child, context, info_name=each)
                yield from _walk(f"{name} {each}", child, inner)


def manual_page(name: str, found: click.Command, names: list[str]) -> str:
    """One page in the language of man (troff with the macros of man(7)).

    Args:
        name: whole name of the command, "spdm device serve".
        found: the command.
        names: whole names of all commands, for what to see also.
    """
    context = click.Context(found, info_name=name)
    title = name.replace(" ", "-")
    synopsis = " ".join(found.collect_usage_pieces(context))
    lines = [
        f'.TH "{title.upper()}" 1 "" "spdmkit {__version__}" "spdmkit"',
        ".SH NAME",
        f"{_plain(title)} \\- {_plain(found.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_plain(name)}\\fR {_plain(synopsis)}",
        ".SH DESCRIPTION",
        *_description(found.help or ""),
    ]
    if found.epilog:
        lines += [".PP", *_description(found.epilog)]
    records = [each.get_help_record(context) for each in found.get_params(context)]
    shown = [record for record in records if record is not None and record[1]]
    if shown:
        lines.append(".SH OPTIONS")
        for option, words in shown:
            lines += [".TP", f"\\fB{_plain(option)}\\fR", _plain(words)]
    lines.append(".SH EXIT STATUS")
    for code, words in _EXIT_CODES:
        lines += [".TP", f"\\fB{code}\\fR", _plain(words)]
    others = [each for each in names if _related(each, name)]
    if others:
        lines.append(".SH SEE ALSO")
        lines.append(",\n".join(f"\\fB{_plain(each.replace(' ', '-'))}\\fR(1)" for each in others))
    return "\n".join(lines) + "\n"


def _related(other: str, name: str) -> bool:
    """The group that a command is in, and what is in a group."""
    return name == other.rpartition(" ")[0] or other == name.rpartition(" ")[0]


def _description(text: str) -> Iterator[str]:
    r"""Paragraphs; one that begins with `\b` keeps its lines."""
    for at, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if at:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *map(_plain, paragraph.splitlines()[1:]), ".fi")
        else:
            yield _plain(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """Text of which troff takes nothing for a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("\b", "")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
