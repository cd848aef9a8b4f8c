"""The page of commands: what `--help` says of each, from the command line itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from spdmkit.cli.root import spdm


def page() -> str:
    """Each command with its synopsis, arguments and options."""
    return "\n\n".join(_sections("spdm", spdm, None))


def every_command() -> Iterator[tuple[str, click.Command]]:
    """All commands with their whole names, groups included."""
    yield from _walk("spdm", spdm, None)


def _walk(
    name: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command, parent, info_name=name.rpartition(" ")[2])
    yield name, command
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from _walk(f"{name} {child}", found, context)


def _sections(
    name: str, command: click.Command, parent: click.Context | None
) -> Iterator[str]:
    for full, found in _walk(name, command, parent):
        context = click.Context(found, info_name=full)
        title = f"## {full}" if full.count(" ") < 2 else f"### {full}"
        lines = [title, "", _words(found.help or ""), "", "```text"]
        lines += [" ".join([full, *found.collect_usage_pieces(context)]), "```", ""]
        lines += [line for each in found.params for line in _option(each, context)]
        yield "\n".join(lines)


def _words(help_text: str) -> str:
    r"""Paragraphs as they are; those after `\b` keep their lines."""
    parts = []
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph.removeprefix("\b\n").splitlines()
            if lines[0].rstrip().endswith(":"):
                parts.append(lines.pop(0))
            parts.append("\n".join(["```text", *inspect.cleandoc("\n".join(lines)).splitlines(), "```"]))
        else:
            parts.append(_escape(paragraph))
    return "\n\n".join(parts)


def _option(parameter: click.Parameter, context: click.Context) -> Iterator[str]:
    record = parameter.get_help_record(context)
    if record is None or isinstance(parameter, click.Option) and parameter.hidden:
        return
    names, words = record
    yield f"- `{names}`: {_escape(words)}"


def _escape(text: str) -> str:
    return " ".join(text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[").split())
