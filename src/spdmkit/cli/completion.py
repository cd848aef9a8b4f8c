"""`spdm completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import json

import click
from click.shell_completion import get_completion_class

from spdmkit.cli.options import common
from spdmkit.errors import ConfigurationError

__all__ = ["command"]

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@common
def command(shell: str, as_json: bool, verbose: bool) -> None:  # noqa: ARG001 - every command has -v
    r"""Print the completion script of a shell.

    It asks spdm itself what can follow, and knows every command and option.

    \b
    Example:
      spdm completion bash > ~/.local/share/bash-completion/completions/spdm
      spdm completion zsh > ~/.zfunc/_spdm
      spdm completion fish > ~/.config/fish/completions/spdm.fish
    """
    from spdmkit.cli.root import spdm

    kind = get_completion_class(shell)
    if kind is None:
        raise ConfigurationError(f"no completion for {shell}")
    script = kind(spdm, {}, "spdm", "_SPDM_COMPLETE")
    # `source` would first look which bash is installed; the script may be for another machine.
    source = script.source_template % script.source_vars()
    click.echo(json.dumps({"shell": shell, "script": source}, indent=2) if as_json else source)
