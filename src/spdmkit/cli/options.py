"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["common", "example"]

F = TypeVar("F", bound=Callable[..., Any])


def common(function: F) -> F:
    """`--json` and `-v`, which every command has."""
    json_option = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, nothing else."
    )
    verbose = click.option("-v", "--verbose", is_flag=True, help="Explain more, on stderr.")
    return verbose(json_option(function))


def example(*lines: str) -> str:
    """The epilogue of a command's help: how it is used."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExample:\n{body}"
