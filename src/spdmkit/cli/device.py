"""`spdm device`: make and serve a software device."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.options import common, example
from spdmkit.cli.passphrase import passphrase_from

__all__ = ["command"]

_PASSPHRASE = "SPDM_PASSPHRASE"  # noqa: S105 - the name of a variable
_NAMES = (
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


@click.group(name="device")
def command() -> None:
    """Make and serve a software device."""


_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"First line: the passphrase of the keys. Else {_PASSPHRASE}, else no passphrase.",
)


@command.command(name="init", epilog=example("spdm device init mydevice --algorithm ml-dsa-65"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice(_NAMES),
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
@_passphrase_option
@capture_option
@common
def serve(
    folder: Path,
    uris: tuple[str, ...],
    passphrase_file: Path | None,
    capture: Capture,
    as_json: bool,
    verbose: bool,
) -> int:
    """Serve the device in FOLDER until SIGINT or SIGTERM."""
    from spdmkit.cli import serving
    from spdmkit.device.folder import FolderDevice
    from spdmkit.transports.server import Listener

    device = FolderDevice.load(folder, passphrase_from(passphrase_file, _PASSPHRASE))

    def ready(listener: Listener) -> None:
        if as_json:
            click.echo(json.dumps({"listening": str(listener.uri)}))
        else:
            click.echo(f"listening on {listener.uri}")

    asyncio.run(serving.serve(device, uris, ready=ready, narrate=verbose, tap=capture.accepted))
    return 0
