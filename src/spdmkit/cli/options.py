"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["KEY_KINDS", "common", "example"]

F = TypeVar("F", bound=Callable[..., Any])

KEY_KINDS = (
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "ed25519",
    "ed448",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
)
"""Kinds of keys that devices and authorities can be made with."""


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
