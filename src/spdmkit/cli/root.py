"""The group `spdm`: which commands there are, and how an error ends one."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from spdmkit import __version__
from spdmkit.cli import failure

__all__ = ["LazyGroup", "main", "spdm"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when a command is asked for.

    The help of the group needs one sentence of each command; it stands in the table, so that
    `--help` imports nothing.

    Args:
        name: name of the group.
        table: command name -> (module below `spdmkit.cli`, one sentence of help). The module
            holds the click command as `command`.
        help: what the group is for.
    """

    def __init__(self, name: str, table: dict[str, tuple[str, str]], *, help: str) -> None:  # noqa: A002 - click's name
        super().__init__(name, help=help, context_settings=_CONTEXT)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands in the order of the table, which is the order of use."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command."""
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(f"spdmkit.cli.{entry[0]}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"spdmkit.cli.{entry[0]}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])


COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Make a device, serve it and attest it, all on this machine."),
    "attest": ("attest", "Attest a device: who it is and what it runs."),
    "appraise": ("appraise", "Judge recorded evidence, offline."),
    "evidence": ("evidence", "Look into recorded evidence; import and export it."),
    "reference": ("reference", "Keep reference values: what devices should measure."),
    "policy": ("policy", "Check what is demanded of devices, and sign it for them."),
    "session": ("session", "Open a secure session and carry lines or a file through it."),
    "probe": ("probe", "Show what a device supports: versions, algorithms, slots."),
    "device": ("device", "Make a software device, serve it, or have it dial."),
    "verifier": ("verifier", "Verify devices, and provide what they ask for."),
    "ca": ("ca", "Make and keep a certificate authority for devices."),
    "provision": ("provision", "Put a certificate of our authority into a device."),
    "decode": ("decode", "Show a capture message by message, decrypted and verified."),
    "wireshark": ("wireshark", "Install the dissector for Wireshark and tshark."),
    "explain": ("explain", "Say what a code, a field or a message means."),
    "proxy": ("proxy", "Carry SPDM between verifiers on TCP and devices on MCTP."),
    "conformance": ("conformance", "Judge a device by the specification."),
    "bench": ("bench", "Measure what things cost beside the cryptography in them."),
    "completion": ("completion", "Print what a shell needs to complete commands."),
    "man": ("man", "Print manual pages."),
}

spdm = LazyGroup(
    "spdm",
    COMMANDS,
    help="""Attest, provision and debug devices that speak SPDM over TCP (DMTF DSP0287).

    \b
    Example:
      spdm attest tcp://192.0.2.7 --trust-anchor root.pem

    \b
    Exit codes:
      0 done, for an attestation: trusted    1 untrusted: a check failed
      2 usage or configuration error         3 could not be done
      4 authentic, but not appraised
    """,
)
spdm.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=lambda ctx, _, wanted: wanted and _print_version(ctx),
        help="Show the version and exit.",
    )
)


def _print_version(ctx: click.Context) -> NoReturn:
    click.echo(f"spdm {__version__}")
    ctx.exit()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `spdm` with these arguments, or those of the process, and exit."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run `spdm`; returns the exit code and never raises for what users or peers do wrong."""
    try:
        result = spdm.main(arguments, prog_name="spdm", standalone_mode=False)
    except click.exceptions.Abort:
        failure.say("interrupted")
        return failure.INTERRUPTED
    except click.ClickException as error:
        failure.show_usage(error, arguments)
        return failure.USAGE
    except BrokenPipeError:
        # The reader of our output has gone (`spdm ... | head`): nobody is left to tell. Python
        # flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failure.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort, which shows what it can
        return failure.show(error, arguments)
    return result if isinstance(result, int) else 0
