"""The page of commands: what `--help` says of each, from the command line itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from spdmkit.cli.man import walk


def page() -> str:
    """Each command with its synopsis, arguments and options."""
    return "\n\n".join(_section(name, found) for name, found in walk())


def _section(name: str, found: click.Command) -> str:
    context = click.Context(found, info_name=name)
    title = f"## {name}" if name.count(" ") < 2 else f"### {name}"
    help_text = "\n\n".join(filter(None, [found.help, found.epilog]))
    lines = [title, "", _words(help_text), "", "```text"]
    lines += [" ".join([name, *found.collect_usage_pieces(context)]), "```", ""]
    lines += [line for each in found.params for line in _option(each, context)]
    return "\n".join(lines)


def _words(help_text: str) -> str:
    r"""Paragraphs as they are; those after `\b` keep their lines."""
    parts = []
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph.removeprefix("\b\n").splitlines()
            if lines[0].rstrip().endswith(":"):
                parts.append(lines.pop(0))
            parts.append(
                "\n".join(["```text", *inspect.cleandoc("\n".join(lines)).splitlines(), "```"])
            )
        else:
            parts.append(_escape(paragraph))
    return "\n\n".join(parts)


def _option(parameter: click.Parameter, context: click.Context) -> Iterator[str]:
    record = parameter.get_help_record(context)
    if (
        record is None
        or not record[1]
        or (isinstance(parameter, click.Option) and parameter.hidden)
    ):
        return
    names, words = record
    yield f"- `{names}`: {_escape(words)}"


def _escape(text: str) -> str:
    return " ".join(text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[").split())
