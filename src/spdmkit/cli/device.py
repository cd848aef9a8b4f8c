"""`spdm device`: make and serve a software device."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.options import KEY_KINDS, common, example
from spdmkit.cli.passphrase import passphrase_from
from spdmkit.cli.text import escaped

__all__ = ["command"]

_PASSPHRASE = "SPDM_PASSPHRASE"  # noqa: S105 - the name of a variable


@click.group(name="device")
def command() -> None:
    """Make and serve a software device, or have it dial."""


_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"First line: the passphrase of the keys. Else {_PASSPHRASE}, else no passphrase.",
)


@command.command(name="init", epilog=example("spdm device init mydevice --algorithm ml-dsa-65"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice(KEY_KINDS),
    default="ecdsa-p384",
    show_default=True,
    help="Kind of the device's keys.",
)
@click.option(
    "--requester",
    is_flag=True,
    help="Its certificate is for asking too: it can be the --mutual identity of a verifier.",
)
@_passphrase_option
@common
def init(
    folder: Path,
    algorithm: str,
    requester: bool,
    passphrase_file: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Make a device in FOLDER: keys, a chain of three certificates, measurements."""
    from spdmkit.device.initialise import initialise

    initialise(
        folder,
        algorithm=algorithm,
        passphrase=passphrase_from(passphrase_file, _PASSPHRASE),
        requester=requester,
    )
    made = {
        "device": str(folder),
        "trust_anchor": str(folder / "trust-anchor.pem"),
        "reference": str(folder / "reference.json"),
        "configuration": str(folder / "device.toml"),
        "psk": str(folder / "psk.toml"),
    }
    if as_json:
        click.echo(json.dumps(made, indent=2))
    else:
        for name, value in made.items():
            click.echo(f"{name.replace('_', ' '):14} {value}")
    return 0


@command.command(
    name="serve",
    epilog=example("spdm device serve mydevice --listen tcp://127.0.0.1:4194"),
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--listen", "uris", multiple=True, required=True, help="Where; port 0: any.")
@click.option(
    "--want",
    "words",
    multiple=True,
    help="A service to ask requesters for that ask what it wants; may be given several times.",
)
@click.option("--session", help="The session for it: none, any, key or psk.")
@click.option(
    "--misbehave",
    default="",
    metavar="RULE",
    help="Break one rule on purpose, one of `spdm conformance --list`: to test requesters.",
)
@_passphrase_option
@capture_option
@common
def serve(
    folder: Path,
    uris: tuple[str, ...],
    words: tuple[str, ...],
    session: str | None,
    misbehave: str,
    passphrase_file: Path | None,
    capture: Capture,
    as_json: bool,
    verbose: bool,
) -> int:
    """Serve the device in FOLDER until SIGINT or SIGTERM."""
    from spdmkit.cli import serving
    from spdmkit.cli.wanting import wishes
    from spdmkit.device.folder import FolderDevice
    from spdmkit.services.desk import Received, ServiceDesk

    device = FolderDevice.load(folder, passphrase_from(passphrase_file, _PASSPHRASE))

    def received(what: Received) -> None:
        if verbose:
            given = f"{escaped(what.given_by)}: {escaped(what.detail)}"
            click.echo(f"{what.what.name} by {given}", err=True)

    device.register_vendor(ServiceDesk(device, wishes(words, session), on_received=received))

    def ready(uri: str) -> None:
        if as_json:
            click.echo(json.dumps({"listening": uri}))
        else:
            click.echo(f"listening on {uri}")

    asyncio.run(
        serving.serve(
            device,
            uris,
            ready=ready,
            narrate=verbose,
            misbehave=misbehave,
            tap=capture.accepted,
        )
    )
    return 0


@command.command(
    name="dial",
    epilog=example(
        "spdm device dial mydevice tcp://192.0.2.10 --want verify",
        "spdm device dial mydevice tcp://192.0.2.10 --want reference --want measurements --stay",
    ),
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("uri")
@click.option(
    "--want",
    "words",
    multiple=True,
    required=True,
    help="A service, SERVICE or SERVICE=PARAMETER: any, session, certificate, verify, "
    "measurements, mel, reference or policy; may be given several times.",
)
@click.option("--session", help="The session for it: none, any, key or psk.")
@click.option(
    "--session-slot",
    type=click.IntRange(0, 15),
    default=0,
    show_default=True,
    help="The slot suggested with --session key; 15: the provisioned public key.",
)
@click.option("--stay", is_flag=True, help="Ask again and again, for ever.")
@click.option(
    "--interval",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds between two times, with --stay.",
)
@click.option(
    "--tries",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="How often to dial when the requester is away; with --stay there is no limit.",
)
@_passphrase_option
@capture_option
@common
def dial(
    folder: Path, uri: str, capture: Capture, as_json: bool, verbose: bool, **options: Any
) -> int:
    """Connect the device in FOLDER to the requester at URI, and ask it for services.

    Exit code 1: the requester found that a measurement is not as it should be.
    """
    from spdmkit.cli import wanting

    passphrase = passphrase_from(options.pop("passphrase_file"), _PASSPHRASE)
    return wanting.dial(folder, uri, passphrase, options, capture, as_json=as_json, verbose=verbose)


@command.command(name="status", epilog=example("spdm device status mydevice --json"))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_passphrase_option
@common
def status(folder: Path, passphrase_file: Path | None, as_json: bool, verbose: bool) -> int:
    """Show what the device in FOLDER was given, by whom, and how it judges itself by it."""
    from spdmkit.cli import wanting

    passphrase = passphrase_from(passphrase_file, _PASSPHRASE)
    return wanting.status(folder, passphrase, as_json=as_json, verbose=verbose)
