"""`spdm verifier`: a requester that provides services to devices (DSP0287 clause 7)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.cli import failure
from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.options import common, example

if TYPE_CHECKING:
    from collections.abc import Callable

    from spdmkit.transports.server import Listener, ListenerEvent

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

_OPTIONS = (
    click.option("--trust-anchor", "anchors", type=_FILE, multiple=True, help="A device root."),
    click.option("--public-key", type=_FILE, help="The one device's own key, instead of a root."),
    click.option(
        "--reference", "references", type=_FILE, multiple=True, help="Reference values to judge by."
    ),
    click.option(
        "--reference-anchor", type=_FILE, multiple=True, help="Root of signers of references."
    ),
    click.option(
        "--reference-store",
        type=_FOLDER,
        help="Folder of reference values to choose from by identity; see `spdm reference`.",
    ),
    click.option("--policy", type=_FILE, help="What is demanded, as TOML."),
    click.option("--crl", "crls", type=_FILE, multiple=True, help="A revocation list."),
    click.option("--ocsp", type=_FILE, multiple=True, help="An OCSP response."),
    click.option(
        "--no-chain-cache", is_flag=True, help="Verify each certificate chain every time anew."
    ),
    click.option(
        "--give-reference",
        type=_FILE,
        multiple=True,
        help="Reference values for devices; those of --reference by default.",
    ),
    click.option(
        "--give-policy", type=_FILE, help="A policy for devices; that of --policy by default."
    ),
    click.option(
        "--expect-identity",
        "identities",
        multiple=True,
        help="SAN, serial:HEX or spki-sha256:HEX, one of which each device must have.",
    ),
    click.option("--ca", type=_FOLDER, help="The authority that issues certificates."),
    click.option(
        "--passphrase-file",
        type=_FILE,
        help="First line: the passphrase of the authority's keys; else as for `spdm ca`.",
    ),
    click.option(
        "--trusted-environment",
        is_flag=True,
        help="Write certificates without a session too: on a production line only.",
    ),
    click.option("--mutual", type=_FOLDER, help="Our own identity, for mutual authentication."),
    click.option("--psk", "psks", type=_FILE, multiple=True, help="A pre-shared key."),
    click.option(
        "--services",
        multiple=True,
        help="Services to provide, like verify,mel; by default all there are means for.",
    ),
    click.option(
        "--default-service",
        default="measurements",
        show_default=True,
        help='For devices that know no services, and for "any"; none: nothing.',
    ),
    click.option("--session-each", is_flag=True, help="Give each service a session of its own."),
    click.option("--versions", help="SPDM versions to allow, 1.2 and newer by default."),
    click.option("--algorithms", help="Short names of the algorithms to allow."),
    click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for a result and the evidence of each device.",
    ),
    click.option(
        "--collector-key",
        type=_FILE,
        help="Our private key: signs the evidence in --results and its time.",
    ),
)


def _options(function: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group(name="verifier")
def command() -> None:
    """Verify devices, and provide what they ask for."""


@command.command(
    name="serve",
    epilog=example(
        "spdm verifier serve --listen tcp://:4194 --trust-anchor root.pem --reference fw.corim",
        "spdm verifier serve --listen tcp://:4194 --trust-anchor root.pem --mutual me --json",
    ),
)
@click.option("--listen", "uris", multiple=True, required=True, help="Where; port 0: any.")
@_options
@click.option(
    "--device",
    type=_FOLDER,
    help="Answer requesters that connect here too, as this device.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 10_000),
    default=32,
    show_default=True,
    help="Devices served at a time; the others wait their turn.",
)
@click.option(
    "--watch",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help='Seconds to wait for events of a device that asks for "any" in a session.',
)
@capture_option
@common
def serve(
    uris: tuple[str, ...], capture: Capture, as_json: bool, verbose: bool, **given: Any
) -> int:
    """Serve devices that dial in, until SIGINT or SIGTERM: ask each what it wants, and do it.

    One line for each device: with --json a JSON document in each line.
    """
    from spdmkit.cli import verifying

    watch, at_once, device = given.pop("watch"), given.pop("at_once"), given.pop("device")
    options = verifying.Options(**given)
    recorder = verifying.Recorder(options.results, as_json=as_json, verbose=verbose)

    def ready(listener: Listener) -> None:
        if as_json:
            click.echo(json.dumps({"listening": str(listener.uri)}))
        else:
            click.echo(f"listening on {listener.uri}")

    def happened(event: ListenerEvent) -> None:
        if event.error is not None and verbose:
            failure.say(f"{event.peer}: {event.what.value}: {event.error}")

    async def run() -> None:
        service = verifying.service(options, recorder, watch=watch, at_once=at_once)
        await verifying.serve(
            service, uris, device=device, ready=ready, happened=happened, tap=capture.accepted
        )

    try:
        asyncio.run(run())
    finally:
        recorder.close()
    return 0


@command.command(
    name="dial",
    epilog=example(
        "spdm verifier dial tcp://192.0.2.7 --trust-anchor root.pem --mutual me --do verify"
    ),
)
@click.argument("uris", nargs=-1, required=True)
@_options
@click.option(
    "--do",
    "doing",
    multiple=True,
    help="A service to perform before the device is asked what it wants.",
)
@click.option("--session", help="For --do: any, key or psk; by default what the service needs.")
@capture_option
@common
def dial(
    uris: tuple[str, ...],
    doing: tuple[str, ...],
    session: str | None,
    capture: Capture,
    as_json: bool,
    verbose: bool,
    **given: Any,
) -> int:
    """Connect to the devices at URIS, do what is to be done, and ask each what it wants."""
    from spdmkit.cli import verifying
    from spdmkit.cli.wanting import wishes

    options = verifying.Options(**given)
    recorder = verifying.Recorder(options.results, as_json=False, verbose=verbose, quiet=as_json)
    unasked = wishes(doing, session)

    async def run() -> list[Any]:
        service = verifying.service(options, recorder, watch=0.0)
        return await asyncio.gather(
            *(service.dial(uri, unasked, tap=capture.dialled) for uri in uris),
            return_exceptions=len(uris) > 1,
        )

    try:
        reports = asyncio.run(run())
    finally:
        recorder.close()
    if as_json:
        shown = [verifying.as_document(each, uri) for each, uri in zip(reports, uris, strict=True)]
        click.echo(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2))
    return max(verifying.exit_code(each) for each in reports)
