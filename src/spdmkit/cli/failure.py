"""How a command ends when it cannot do what was asked: words for a person, JSON for a program.

An error says what failed, in which step, with the peer's words, and what to try.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence

import click

from spdmkit.cli.text import escaped
from spdmkit.errors import AuthenticationError, ConfigurationError, PeerError, SpdmError

__all__ = [
    "INTERRUPTED",
    "NOT_APPRAISED",
    "NOT_DONE",
    "UNTRUSTED",
    "USAGE",
    "as_json",
    "say",
    "show",
]

UNTRUSTED = 1
USAGE = 2
NOT_DONE = 3
NOT_APPRAISED = 4
INTERRUPTED = 130
"""What shells give a program that SIGINT ended."""


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    click.echo(f"spdm: {text}", err=True)


def show_usage(error: click.ClickException, arguments: Sequence[str]) -> None:
    """A usage error: what is wrong, and where the help is."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"see: {error.ctx.command_path} --help"
        if isinstance(error, click.NoSuchOption) and error.ctx.parent is None:
            hint = f"options stand after the command: spdm COMMAND ... {error.option_name}"
    if "--json" in arguments:
        _print_json("UsageError", error.format_message(), hint=hint)
    say(error.format_message())
    if hint:
        click.echo(f"  {hint}", err=True)


def show(error: Exception, arguments: Sequence[str]) -> int:
    """Tell what `error` means; returns the exit code of the program."""
    if isinstance(error, OSError) and not isinstance(error, SpdmError):
        error = _from_system(error)
    if not isinstance(error, SpdmError):
        return _show_defect(error, arguments)
    if "--json" in arguments:
        click.echo(json.dumps(as_json(error), indent=2))
    say(escaped(str(error)))
    for line in _more(error):
        click.echo(f"  {line}", err=True)
    if "-v" in arguments or "--verbose" in arguments:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    return error.exit_code


def as_json(error: Exception) -> dict[str, object]:
    """An error for programs: its kind and message, and what else is known of it."""
    details: dict[str, object] = {}
    if isinstance(error, SpdmError):
        details["hint"] = error.hint
    if isinstance(error, AuthenticationError):
        details["step"] = escaped(error.step)
    if isinstance(error, PeerError):
        details["peer"] = {
            "code": error.code,
            "data": error.data,
            "extended": error.extended.hex(),
            "frame": error.frame,
        }
    return _document(type(error).__name__, escaped(str(error)), details)


def _document(kind: str, message: str, details: dict[str, object]) -> dict[str, object]:
    kept = {name: value for name, value in details.items() if value}
    return {"error": {"kind": kind, "message": message, **kept}}


def _more(error: SpdmError) -> list[str]:
    lines = []
    if isinstance(error, PeerError):
        what = "error frame" if error.frame else "SPDM ERROR"
        lines.append(f"the peer answered: {what} 0x{error.code:02X}, data 0x{error.data:02X}")
        if error.extended:
            lines.append(f"its extended data: {error.extended.hex()}")
    cause = str(getattr(error.__cause__, "reason", error.__cause__ or ""))
    if cause and cause not in str(error):
        lines.append(f"because: {escaped(str(error.__cause__))}")
    if error.hint:
        lines.append(f"try: {error.hint}")
    return lines


def _from_system(error: OSError) -> ConfigurationError:
    where = f"{error.filename}: " if error.filename else ""
    return ConfigurationError(f"{where}{error.strerror or error}")


def _show_defect(error: Exception, arguments: Sequence[str]) -> int:
    """An error that nobody foresaw is a defect of ours; say so, and keep the exit code honest."""
    if "--json" in arguments:
        _print_json(type(error).__name__, escaped(str(error)))
    say(f"this is a defect in spdmkit: {type(error).__name__}: {escaped(str(error))}")
    if "-v" in arguments or os.environ.get("SPDMKIT_TRACEBACK"):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    else:
        click.echo("  try: again with -v, and report what it shows", err=True)
    return NOT_DONE


def _print_json(kind: str, message: str, **details: object) -> None:
    click.echo(json.dumps(_document(kind, message, details), indent=2))
