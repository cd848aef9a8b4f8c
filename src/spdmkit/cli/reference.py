"""`spdm reference`: a folder of reference values, from which devices' identities choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.cli.judging import STORE_VARIABLE, default_store, moment_option
from spdmkit.cli.keys import passphrase_option
from spdmkit.cli.options import common, example
from spdmkit.cli.text import escaped
from spdmkit.errors import ConfigurationError, SpdmError

if TYPE_CHECKING:
    from spdmkit.attestation.reference.loader import Reference
    from spdmkit.attestation.reference.model import Manifest
    from spdmkit.attestation.reference.signers import SignerCheck
    from spdmkit.attestation.reference.store import ReferenceStore, StoreEntry
    from spdmkit.identity import Certificate

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_store_option = click.option(
    "--store",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder of the store. Default: ${STORE_VARIABLE}, else one for this user.",
)
_time_option = click.option("--time", "moment", help="As of this time (RFC 3339) instead of now.")


def _signer_options(function: F) -> F:
    for option in (
        _time_option,
        click.option(
            "--insecure-ignore-reference-expiry",
            "ignore_expiry",
            is_flag=True,
            help="Accept signers whose certificates have ended.",
        ),
        click.option(
            "--reference-anchor",
            "anchors",
            type=_FILE,
            multiple=True,
            help="Root of those who may sign reference values.",
        ),
    ):
        function = option(function)
    return function


@click.group(name="reference")
def command() -> None:
    """Keep reference values: what devices should measure."""


@command.command(
    name="import",
    epilog=example(
        "spdm reference import mydevice/reference.json",
        "spdm reference import driver_rim.swidtag --reference-anchor rim_root.pem",
    ),
)
@click.argument("files", type=_FILE, nargs=-1, required=True)
@_store_option
@_signer_options
@click.option("--profile", default="", help="Vendor profile, where a file does not show its own.")
@common
def import_(
    files: tuple[Path, ...],
    folder: Path | None,
    anchors: tuple[Path, ...],
    ignore_expiry: bool,
    moment: str | None,
    profile: str,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Import FILES: our JSON, CoRIM, or TCG RIM (SWID XML). A signature is verified first.

    It is verified again whenever the values are used, by the anchors that are given then.
    """
    from spdmkit.attestation.files import read_bounded
    from spdmkit.attestation.reference.loader import MAX_FILE_SIZE

    store = _open(folder)
    now = moment_option(moment)
    check = _check(anchors, now, ignore_expiry)
    data = [(path, read_bounded(path, MAX_FILE_SIZE)) for path in files]
    entries = [
        store.add(content, check, source=path.name, now=now, profile=profile)
        for path, content in data
    ]
    _show_entries(entries, now, as_json=as_json, store=store)
    empty = [
        each.source
        for each in entries
        if not any(any(m.applies_to.values()) for m in each.manifests)
    ]
    for source in empty:
        click.echo(
            f"spdm: {escaped(source)} says of no device that it is for it: it is never chosen, "
            "only named with --reference",
            err=True,
        )
    return 0


@command.command(
    name="list", epilog=example("spdm reference list", "spdm reference list ACME --expired")
)
@click.argument("text", default="")
@_store_option
@click.option("--expired", is_flag=True, help="Only those whose validity has ended.")
@_time_option
@common
def list_(
    text: str,
    folder: Path | None,
    expired: bool,
    moment: str | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """List what is in the store; with TEXT, where it occurs in a name, a claim or a signer."""
    store = _open(folder)
    now = moment_option(moment)
    entries, broken = store.entries()
    chosen = [each for each in entries if each.matches(text) and (each.expired(now) or not expired)]
    _show_entries(chosen, now, as_json=as_json, store=store)
    for each in broken:
        click.echo(f"spdm: cannot be read: {escaped(str(each.error))}", err=True)
    return 0


@command.command(name="show", epilog=example("spdm reference show 3f9a"))
@click.argument("entry_id", metavar="ID")
@_store_option
@_signer_options
@click.option(
    "--content",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the document here, as it was imported.",
)
@common
def show(
    entry_id: str,
    folder: Path | None,
    anchors: tuple[Path, ...],
    ignore_expiry: bool,
    moment: str | None,
    content: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Show the entry whose name begins with ID, with its values index by index."""
    from spdmkit.attestation.files import write_atomic

    store = _open(folder)
    entry = store.get(entry_id)
    if content is not None:
        write_atomic(content, entry.content)
    now = moment_option(moment)
    references, problem = _values(store, entry, _check(anchors, now, ignore_expiry))
    if as_json:
        document = {**_entry(entry, now), "refused": problem, "measurements": _rows(references)}
        click.echo(json.dumps(document, indent=2))
        return 0
    from spdmkit.attestation.reference.store import describe_entry
    from spdmkit.cli.report import show_table

    click.echo("\n".join(escaped(line) for line in describe_entry(entry)))
    if problem:
        click.echo(f"  would be refused now: {escaped(problem)}")
    rows = _rows(references)
    if rows:
        click.echo()
        show_table(
            ("index", "name", "type", "required", "allowed"),
            [
                [
                    str(row["index"]),
                    str(row["name"]),
                    str(row["type"]),
                    "yes" if row["required"] else "no",
                    "; ".join(row["allowed"]),
                ]
                for row in rows
            ],
        )
    return 0


@command.command(name="rm", epilog=example("spdm reference rm 3f9a"))
@click.argument("entry_ids", metavar="ID...", nargs=-1, required=True)
@_store_option
@common
def remove(
    entry_ids: tuple[str, ...],
    folder: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Take the entries whose names begin with ID out of the store."""
    store = _open(folder)
    names = [store.get(each).entry_id for each in entry_ids]
    gone = [store.remove(name) for name in dict.fromkeys(names)]
    _show_removed(gone, as_json=as_json)
    return 0


@command.command(name="expire", epilog=example("spdm reference expire --time 2027-01-01"))
@_store_option
@_time_option
@common
def expire(
    folder: Path | None,
    moment: str | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Take out the entries whose validity has ended."""
    _show_removed(_open(folder).expire(moment_option(moment)), as_json=as_json)
    return 0


@command.command(
    name="convert",
    epilog=example(
        "spdm reference convert nic.json nic.corim",
        "spdm reference convert nic.json nic.corim --signing-key rim.pem --certificates chain.pem",
    ),
)
@click.argument("file", type=_FILE)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@_signer_options
@click.option("--profile", default="", help="Vendor profile, where a file does not show its own.")
@click.option("--signing-key", type=_FILE, help="Private key, PEM, that signs the CoRIM.")
@click.option("--certificates", type=_FILE, help="The signer's certificates, PEM, in any order.")
@click.option("--signer", default="", help="The signer's name; its certificate's by default.")
@click.option("--valid-until", help="End of the signature's validity (RFC 3339).")
@passphrase_option
@common
def convert(
    file: Path,
    out: Path,
    anchors: tuple[Path, ...],
    ignore_expiry: bool,
    moment: str | None,
    profile: str,
    signing_key: Path | None,
    certificates: Path | None,
    signer: str,
    valid_until: str | None,
    passphrase_file: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Write the reference values of FILE in another form: OUT.json, else CoRIM, signed or not."""
    from spdmkit.attestation.files import write_atomic
    from spdmkit.attestation.reference.json_format import to_json
    from spdmkit.attestation.reference.loader import load_references

    check = _check(anchors, moment_option(moment), ignore_expiry)
    manifests = [each.manifest for each in load_references(file, check, profile=profile)]
    if out.suffix == ".json":
        if signing_key is not None:
            raise ConfigurationError("our JSON carries no signature", hint="name OUT.corim")
        if len(manifests) != 1:
            raise ConfigurationError(f"{file} holds {len(manifests)} manifests, JSON holds one")
        data = to_json(manifests[0])
    else:
        data = _corim(manifests, signing_key, certificates, signer, valid_until, passphrase_file)
    write_atomic(out, data)
    made = {"written": str(out), "signed": signing_key is not None}
    click.echo(json.dumps(made, indent=2) if as_json else f"written {out}")
    return 0


def _corim(
    manifests: list[Manifest],
    signing_key: Path | None,
    certificates: Path | None,
    signer: str,
    valid_until: str | None,
    passphrase_file: Path | None,
) -> bytes:
    from spdmkit.attestation.dates import parse_time
    from spdmkit.attestation.files import read_bounded
    from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
    from spdmkit.cli.keys import load_private_key
    from spdmkit.identity import load_certificates, order_certificates

    corim = to_corim(manifests)
    if signing_key is None:
        if certificates is not None or signer or valid_until is not None:
            raise ConfigurationError("nothing is to be signed", hint="--signing-key FILE")
        return corim
    key = load_private_key(signing_key, passphrase_file)
    chain: tuple[Certificate, ...] = ()
    if certificates is not None:
        content = read_bounded(certificates, 1 << 20)
        chain = order_certificates(load_certificates(content, source=str(certificates)))
        if chain[-1].spki != key.public_key.spki():
            raise ConfigurationError(
                f"{certificates} is not for the key {signing_key}: {chain[-1].subject} has another"
            )
    name = signer or (chain[-1].subject if chain else "")
    if not name:
        raise ConfigurationError("a signature needs a name: give --signer or --certificates")
    return sign_corim(
        corim,
        key,
        signer=name,
        certificates=[each.der for each in reversed(chain)],
        not_after=None if valid_until is None else parse_time(valid_until),
    )


# --- what they share -----------------------------------------------------------------------------


def _open(folder: Path | None) -> ReferenceStore:
    from spdmkit.attestation.reference.store import ReferenceStore

    return ReferenceStore(folder if folder is not None else default_store())


def _check(anchors: tuple[Path, ...], now: int, ignore_expiry: bool) -> SignerCheck:
    from spdmkit.attestation.reference.signers import SignerCheck
    from spdmkit.identity import Purpose, TrustAnchors

    known = TrustAnchors.from_files(anchors, Purpose.REFERENCE_SIGNER) if anchors else None
    return SignerCheck(known, now, ignore_expiry, demand_signature=known is not None)


def _values(
    store: ReferenceStore, entry: StoreEntry, check: SignerCheck
) -> tuple[tuple[Reference, ...], str]:
    """The values of an entry, or why they would be refused."""
    try:
        return store.references(entry, check), ""
    except SpdmError as error:
        if isinstance(error, ConfigurationError):
            raise
        return (), str(error)


def _entry(entry: StoreEntry, now: int) -> dict[str, Any]:
    from spdmkit.attestation.dates import describe_time

    def at(seconds: int | None) -> str | None:
        return None if seconds is None else describe_time(seconds)

    return {
        "id": entry.entry_id,
        "source": entry.source,
        "format": entry.format,
        "sha256": entry.sha256,
        "signer": entry.signer,
        "imported_at": at(entry.imported_at),
        "expired": entry.expired(now),
        "manifests": [
            {
                "title": each.title,
                "publisher": each.publisher,
                "applies_to": {name: list(values) for name, values in each.applies_to.items()},
                "indexes": each.indexes,
                "not_before": at(each.not_before),
                "not_after": at(each.not_after),
            }
            for each in entry.manifests
        ],
    }


def _rows(references: tuple[Reference, ...]) -> list[dict[str, Any]]:
    from spdmkit.attestation.blocks import kind_label
    from spdmkit.attestation.comparison import describe_allowed

    return [
        {
            "index": value.index,
            "manifest": reference.manifest.title,
            "name": value.name,
            "type": "" if value.kind is None else kind_label(value.kind),
            "required": value.required,
            "allowed": list(describe_allowed(value)),
        }
        for reference in references
        for value in reference.manifest.measurements
    ]


def _show_entries(
    entries: list[StoreEntry], now: int, *, as_json: bool, store: ReferenceStore
) -> None:
    if as_json:
        document = {
            "store": str(store.folder),
            "entries": [_entry(each, now) for each in entries],
        }
        click.echo(json.dumps(document, indent=2))
        return
    from spdmkit.attestation.reference.store import describe_entry

    for each in entries:
        click.echo("\n".join(escaped(line) for line in describe_entry(each)))
        if each.expired(now):
            click.echo("    its validity has ended")
    click.echo(f"{len(entries)} in {store.folder}", err=True)


def _show_removed(entries: tuple[StoreEntry, ...] | list[StoreEntry], *, as_json: bool) -> None:
    if as_json:
        removed = [{"id": each.entry_id, "source": each.source} for each in entries]
        click.echo(json.dumps({"removed": removed}, indent=2))
        return
    for each in entries:
        click.echo(f"removed {each.entry_id}  {escaped(each.source)}")
    click.echo(f"{len(entries)} removed", err=True)
