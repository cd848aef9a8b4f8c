"""`spdm explain`: what a code, a name, a field or a message means."""

from __future__ import annotations

import json

import click

from spdmkit.capture.explain import explain
from spdmkit.cli.options import common, example

__all__ = ["command"]


@click.command(
    name="explain",
    epilog=example(
        "spdm explain 0x84",
        "spdm explain error 0x41",
        "spdm explain MEAS_FRESH_CAP",
        "spdm explain SlotID",
        "spdm explain 10 84 00 00",
    ),
)
@click.argument("query", nargs=-1, required=True)
@common
def command(query: tuple[str, ...], as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """Explain a code, a name, a field, or a message in hex, with the clause."""
    found = explain(" ".join(query))
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found], indent=2))
        return 0
    for number, each in enumerate(found):
        if number:
            click.echo()
        clause = f"  [{each.clause}]" if each.clause else ""
        click.echo(f"{each.kind} {each.name}{clause}")
        for line in each.lines:
            click.echo(f"  {line}")
    return 0
