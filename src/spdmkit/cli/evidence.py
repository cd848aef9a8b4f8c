"""`spdm evidence`: look into recorded evidence, and bring it from and to other forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.cli.options import common, example
from spdmkit.cli.recorded import Recorded, recorded_options
from spdmkit.cli.text import escaped
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError

if TYPE_CHECKING:
    from spdmkit.attestation.evidence import Evidence

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)


@click.group(name="evidence")
def command() -> None:
    """Look into evidence; import and export it. Nothing here verifies it: see `spdm appraise`."""


@command.command(
    name="show",
    epilog=example(
        "spdm evidence show evidence.cbor",
        "spdm evidence show --measurements report.hex --chain chain.pem",
    ),
)
@recorded_options
@click.option("--public-key", type=_FILE, help="The device's own key, instead of --chain.")
@common
def show(as_json: bool, verbose: bool, public_key: Path | None, **options: Any) -> int:
    """Show what EVIDENCE says. Nothing of it is verified."""
    from spdmkit.attestation.inspection import inspect_evidence

    evidence = _read(Recorded.taken(options, public_key))
    found = inspect_evidence(evidence)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return 0
    _show(found, verbose=verbose)
    return 0


@command.command(
    name="convert",
    epilog=example(
        "spdm evidence convert evidence.cbor evidence.json",
        "spdm evidence convert --redfish response.json --chain chain.pem evidence.cbor",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--measurements", type=_FILE, help="Bare messages instead of evidence.")
@click.option("--redfish", type=_FILE, help="A Redfish response instead of evidence.")
@click.option("--chain", type=_FILE, help="The certificates for --measurements or --redfish.")
@click.option("--public-key", type=_FILE, help="The device's own key, instead of --chain.")
@common
def convert(
    files: tuple[Path, ...],
    public_key: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
    **options: Any,
) -> int:
    """Write evidence in another form: [EVIDENCE] OUT; a name that ends in .json asks for JSON."""
    from spdmkit.attestation.files import write_atomic

    bare = options["measurements"] is not None or options["redfish"] is not None
    if len(files) != (1 if bare else 2):
        raise ConfigurationError(
            "name what is to be written"
            if bare
            else "name the evidence, and what is to be written",
            hint="spdm evidence convert --help",
        )
    source = None if bare else files[0]
    evidence = _read(Recorded.taken({**options, "evidence": source}, public_key))
    out = files[-1]
    write_atomic(out, evidence.to_json() if out.suffix == ".json" else evidence.to_cbor())
    _said({"written": str(out)}, as_json=as_json)
    return 0


@command.command(
    name="export", epilog=example("spdm evidence export evidence.cbor --redfish response.json")
)
@click.argument("evidence", type=_FILE)
@click.option("--redfish", type=_OUT, help="As a response of SPDMGetSignedMeasurements, JSON.")
@click.option("--certificate-uri", default="", help="Redfish resource of the chain, for --redfish.")
@click.option("--measurements", type=_OUT, help="The signed messages alone, binary.")
@click.option("--chain", type=_OUT, help="The certificates, PEM, root first.")
@common
def export(
    evidence: Path,
    redfish: Path | None,
    certificate_uri: str,
    measurements: Path | None,
    chain: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Write EVIDENCE as others take it: Redfish ComponentIntegrity, bare messages, certificates."""
    from spdmkit.attestation.evidence_export import export_bare, export_chain, export_redfish
    from spdmkit.attestation.files import write_atomic

    found = _read(Recorded(evidence, None, None, None))
    made: dict[str, tuple[Path | None, Callable[[], bytes]]] = {
        "redfish": (redfish, lambda: export_redfish(found, certificate_uri=certificate_uri)),
        "measurements": (measurements, lambda: export_bare(found)),
        "chain": (chain, lambda: export_chain(found)),
    }
    wanted = {name: entry for name, entry in made.items() if entry[0] is not None}
    if not wanted:
        raise ConfigurationError("name what to write: --redfish, --measurements or --chain FILE")
    written = {name: make() for name, (_, make) in wanted.items()}
    for name, data in written.items():
        write_atomic(str(wanted[name][0]), data)
    _said({name: str(path) for name, (path, _) in wanted.items()}, as_json=as_json)
    return 0


def _read(recorded: Recorded) -> Evidence:
    """The evidence; what cannot be read is a wrong file here, and no device's fault."""
    try:
        return recorded.read()
    except (AuthenticationError, DecodeError) as error:
        raise ConfigurationError(f"{recorded.name}: {error}", hint=error.hint) from error


def _said(made: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    for name, value in made.items():
        click.echo(f"{name:14} {value}")


def _show(found: dict[str, Any], *, verbose: bool) -> None:
    from spdmkit.cli.report import show_pairs, show_table

    plain = ("collected_at", "collector", "signed_by", "target", "transport", "slot")
    pairs = [(name.replace("_", " "), str(found[name])) for name in plain if found[name] != ""]
    pairs += [("SPDM", found["spdm_version"])] if found["spdm_version"] else []
    pairs += [("algorithms", ", ".join(f"{k} {v}" for k, v in found["algorithms"].items()))]
    pairs += [("certificate", each) for each in found["certificates"]]
    if found["public_key"]:
        pairs.append(("public key", found["public_key"]))
    if found["measurement_log"]:
        pairs.append(("measurement log", f"{found['measurement_log']} bytes"))
    click.echo("Not verified: this is what the file says. `spdm appraise` verifies it.\n", err=True)
    show_pairs(pairs)
    click.echo()
    rows = [
        [exchange["kind"], message["name"], str(message["size"]), message["note"]]
        for exchange in [{"kind": "negotiation", "messages": found["vca"]}, *found["exchanges"]]
        for message in exchange["messages"]
    ]
    show_table(("part", "message", "bytes", ""), rows)
    if found["measurements"]:
        click.echo()
        long = None if verbose else 40
        show_table(
            ("index", "type", "value"),
            [
                [str(each["index"]), each["type"], escaped(each["value"])[:long]]
                for each in found["measurements"]
            ],
        )
