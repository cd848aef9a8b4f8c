"""`spdm wireshark`: the dissector for Wireshark and tshark."""

from __future__ import annotations

import json
from pathlib import Path

import click

from spdmkit.cli.options import common, example

__all__ = ["command"]


@click.group(name="wireshark")
def command() -> None:
    """The dissector for Wireshark and tshark."""


@command.command(
    name="install",
    epilog=example(
        "spdm wireshark install",
        "spdm wireshark install --dir /usr/lib/x86_64-linux-gnu/wireshark/plugins",
    ),
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where; by default the folder for your own plugins.",
)
@common
def install(folder: Path | None, as_json: bool, verbose: bool) -> int:
    """Write the dissector to where Wireshark looks for plugins."""
    from spdmkit.capture.wireshark import dissector

    path = dissector.install(folder or dissector.plugin_folder())
    if as_json:
        click.echo(json.dumps({"installed": str(path)}, indent=2))
    else:
        click.echo(f"installed {path}")
    if verbose:
        click.echo("Wireshark: Analyze > Reload Lua Plugins, or start it again", err=True)
        click.echo("filter: spdm; key log: preferences, protocol SPDM, or SPDMKEYLOGFILE", err=True)
    return 0


@command.command(
    name="show",
    epilog=example(
        "spdm wireshark show > spdm.lua && tshark -X lua_script:spdm.lua -r capture.pcapng -Y spdm"
    ),
)
@common
def show(as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """Print the dissector, a file in Lua."""
    from spdmkit.capture.wireshark.dissector import FILE_NAME, dissector

    source = dissector()
    if as_json:
        click.echo(json.dumps({"name": FILE_NAME, "source": source}))
    else:
        click.echo(source, nl=False)
    return 0
