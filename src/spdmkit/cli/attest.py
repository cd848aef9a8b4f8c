"""`spdm attest`: who is this device, and does it run what it should? One device, or many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from spdmkit.cli.capturing import capture_option
from spdmkit.cli.judging import Judging, judging_options
from spdmkit.cli.options import common, example
from spdmkit.cli.results import Output, output_options
from spdmkit.errors import ConfigurationError

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(dir_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_CONVERSATION = (
    click.option("--slot", type=click.IntRange(0, 7), help="The certificate slot.  [default: 0]"),
    click.option("--versions", help="SPDM versions to allow, 1.2 and newer by default."),
    click.option("--algorithms", help="Short names of the algorithms to allow."),
    click.option("--session", is_flag=True, help="Read the measurements inside a session."),
    click.option(
        "--mutual",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Our own identity, a device's folder: authenticate both sides.",
    ),
    click.option("--psk", type=_FILE, help="A pre-shared key to open a session by, TOML."),
    click.option("--raw", is_flag=True, help="Ask for raw measurements instead of digests."),
    click.option("--nonce", help="The nonce to be answered, 32 bytes in hexadecimal."),
)
_KEEPING = (
    click.option("--known-devices", type=_PATH, help="Keys that targets had before."),
    click.option("--remember", is_flag=True, help="Add new targets to --known-devices."),
    click.option(
        "--evidence",
        type=click.Path(path_type=Path),
        help="Keep the evidence in this file (.json: as JSON); with --targets, in this folder.",
    ),
    click.option(
        "--collector-key", type=_FILE, help="Our private key: signs the evidence and its time."
    ),
    capture_option,
)
_MANY = (
    click.option("--targets", type=_FILE, help="Attest all devices of this file, TOML or a list."),
    click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        help="With --targets: folder of the results, one file each.  [default: results]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 1024),
        help="With --targets: how many devices at the same time.  [default: 32]",
    ),
    click.option(
        "--patience",
        type=click.FloatRange(0, 3600, min_open=True),
        help="With --targets: seconds that one device may take.  [default: 60]",
    ),
)


def _own_options(function: F) -> F:
    for option in reversed((*_CONVERSATION, *_KEEPING, *_MANY)):
        function = option(function)
    return function


@click.command(
    name="attest",
    epilog=example(
        "spdm attest tcp://192.0.2.7 --trust-anchor root.pem --reference reference.json",
        "spdm attest tcp://[2001:db8::7]:4194 --trust-anchor root.pem --session",
        "spdm attest --targets rack.toml --trust-anchor root.pem --output results",
    ),
)
@click.argument("uri", required=False)
@judging_options
@_own_options
@output_options
@common
def command(uri: str | None, as_json: bool, verbose: bool, **options: Any) -> int:
    """Attest the device at URI: who it is, what it runs, and whether that is what it should be."""
    if (uri is None) == (options["targets"] is None):
        raise ConfigurationError(
            "give the address of a device, or --targets FILE", hint="spdm attest tcp://HOST ..."
        )
    judging = Judging.taken(options)
    output = Output.taken(options, as_json=as_json, verbose=verbose, many=uri is None)
    if uri is None:
        from spdmkit.cli.fleet import attest_targets

        return attest_targets(judging, output, options)
    for name in ("output", "concurrency", "patience"):
        if options[name] is not None:
            raise ConfigurationError(f"--{name} goes with --targets")
    return _attest(uri, judging, output, options)


def _attest(uri: str, judging: Judging, output: Output, options: dict[str, Any]) -> int:
    from spdmkit.attestation.fleet import attest_one
    from spdmkit.cli.keeping import Keeper
    from spdmkit.cli.ordering import Conversation, Orders

    conversation = Conversation.of(options)
    if conversation.psk is not None and options["evidence"] is not None:
        raise ConfigurationError(
            "nothing is signed in a session by pre-shared key: it leaves no evidence",
            hint="leave out --evidence",
        )
    order = Orders(output.passphrase_file).make(uri, judging, conversation)
    keeper = Keeper.of({**options, "passphrase_file": output.passphrase_file})
    attested = attest_one(order, known_keys=keeper.known_keys, tap=options["capture"].dialled)
    keeper.keep(attested, keeper.evidence)
    keeper.note(attested)
    keeper.close()
    output.show(attested.result)
    return attested.result.exit_code(authenticate_only=judging.authenticate_only)
