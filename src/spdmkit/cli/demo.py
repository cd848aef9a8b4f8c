"""`spdm demo`: a device, its verifier, and nothing but this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.options import common, example
from spdmkit.errors import TransportError

__all__ = ["command"]

_START = 20.0


@click.command(name="demo", epilog=example("spdm demo", "spdm demo --capture demo.pcapng"))
@capture_option
@common
def command(capture: Capture, as_json: bool, verbose: bool) -> int:
    """Make a software device and its root, serve it on loopback, attest it twice: in the clear
    and inside a session."""  # noqa: D205, D209 - click shows the first paragraph whole
    from spdmkit.device.initialise import initialise

    with tempfile.TemporaryDirectory(prefix="spdm-demo-") as name:
        folder = Path(name) / "device"
        click.echo("making a device and its root of trust ...", err=True)
        initialise(folder)
        server = subprocess.Popen(  # noqa: S603 - our own program
            [
                *(sys.executable, "-m", "spdmkit", "device", "serve", str(folder)),
                *("--listen", "tcp://127.0.0.1:0"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            uri = _listening(server)
            click.echo(f"it listens on {uri}", err=True)
            return _attest_twice(uri, folder, capture, as_json=as_json, verbose=verbose)
        finally:
            server.terminate()
            server.wait(timeout=_START)
            if server.stdout is not None:
                server.stdout.close()


def _listening(server: subprocess.Popen[str]) -> str:
    line = server.stdout.readline() if server.stdout is not None else ""
    if not line.startswith("listening on "):
        raise TransportError("the device did not start", hint="try: spdm device serve")
    return line.removeprefix("listening on ").strip()


def _attest_twice(uri: str, folder: Path, capture: Capture, *, as_json: bool, verbose: bool) -> int:
    from spdmkit.cli.attest import command as attest

    common_arguments = [
        uri,
        "--trust-anchor",
        str(folder / "trust-anchor.pem"),
        "--reference",
        str(folder / "reference.json"),
        *(["--json"] if as_json else []),
        *(["-v"] if verbose else []),
    ]
    codes: list[int] = []
    # In JSON there is one document: the attestation inside a session.
    for title, extra in (("in the clear", []), ("inside a session", ["--session"])):
        if as_json and not extra:
            continue
        click.echo(f"\nattesting it {title}\n", err=True)
        arguments = [*common_arguments, *extra]
        codes.append(int(attest.main(arguments, standalone_mode=False, obj=capture)))
    return max(codes)
