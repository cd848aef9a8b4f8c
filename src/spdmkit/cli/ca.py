"""`spdm ca`: a certificate authority for devices."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spdmkit.cli.options import KEY_KINDS, common, example
from spdmkit.cli.passphrase import passphrase_from
from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.provisioning.authority import CertificateAuthority

__all__ = ["PASSPHRASE_VARIABLE", "command", "open_authority"]

PASSPHRASE_VARIABLE = "SPDM_CA_PASSPHRASE"  # noqa: S105 - the name of a variable
PASSPHRASE_FILE = "passphrase"  # noqa: S105 - the name of a file
_FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"First line: the passphrase of the authority's keys. Else {PASSPHRASE_VARIABLE}, else "
    f"DIR/{PASSPHRASE_FILE}, else a prompt.",
)


@click.group(name="ca")
def command() -> None:
    """Make and keep a certificate authority for devices."""


@command.command(name="init", epilog=example("spdm ca init myca --algorithm ml-dsa-65"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice(KEY_KINDS),
    default="ecdsa-p384",
    show_default=True,
    help="Kind of its keys.",
)
@click.option("--name", default="spdmkit CA", show_default=True, help="What it is called.")
@passphrase_option
@common
def init(
    folder: Path,
    algorithm: str,
    name: str,
    passphrase_file: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Make an authority in FOLDER: a root and an issuing authority, their keys encrypted.

    Without a passphrase given or typed, a random one is made and kept in FOLDER/passphrase, for
    its owner only: move it to where secrets are kept.
    """
    from spdmkit.provisioning.authority import CertificateAuthority

    given = passphrase_from(passphrase_file, PASSPHRASE_VARIABLE) or _new_passphrase()
    passphrase = given or secrets.token_urlsafe(24)
    keep = None if given else PASSPHRASE_FILE
    authority = CertificateAuthority.create(
        folder, passphrase, algorithm=algorithm, name=name, passphrase_file=keep
    )
    made = {
        "authority": str(folder),
        "trust_anchor": str(folder / "root.pem"),
        "configuration": str(folder / "ca.toml"),
        "root_sha256": authority.root.sha256.hex(),
    }
    if keep is not None:
        kept = folder / keep
        made["passphrase"] = str(kept)
        click.echo(f"spdm: the passphrase of its keys is in {kept}: move it away", err=True)
    _show(made, as_json=as_json)
    return 0


@command.command(name="show", epilog=example("spdm ca show myca"))
@_FOLDER
@common
def show(folder: Path, as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """List what the authority in FOLDER issued; no passphrase is needed."""
    from spdmkit.cli.report import show_table
    from spdmkit.provisioning.authority import check_authority
    from spdmkit.provisioning.ledger import Ledger

    check_authority(folder)
    ledger = Ledger(folder / "ledger.jsonl")
    rows = [
        {
            "serial": entry.name,
            "state": entry.state,
            "reason": entry.reason,
            "issued": entry.details.get("time", ""),
            "revoked": entry.revoked_at,
            **{
                key: entry.details.get(key, "")
                for key in ("device", "subject", "profile", "slot", "target", "spki_sha256")
            },
        }
        for entry in ledger.entries.values()
    ]
    if as_json:
        click.echo(json.dumps({"certificates": rows, "crl_number": ledger.crl_number}, indent=2))
        return 0
    columns = ("serial", "state", "device", "slot", "profile", "issued")
    show_table(columns, [[str(row[name]) for name in columns] for row in rows])
    return 0


@command.command(
    name="revoke", epilog=example("spdm ca revoke myca 3A5F... --reason key_compromise")
)
@_FOLDER
@click.argument("serial")
@click.option("--reason", default="unspecified", show_default=True, help="CRLReason of RFC 5280.")
@passphrase_option
@common
def revoke(
    folder: Path,
    serial: str,
    reason: str,
    passphrase_file: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Revoke the certificate with this SERIAL, and write a new revocation list."""
    authority = open_authority(folder, passphrase_file)
    entry = authority.revoke(serial, reason)
    authority.revocation_list()
    _show(
        {
            "revoked": entry.name,
            "reason": reason,
            "crl": str(folder / "crl.der"),
            "crl_number": str(authority.ledger.crl_number),
        },
        as_json=as_json,
    )
    return 0


@command.command(name="crl", epilog=example("spdm ca crl myca"))
@_FOLDER
@passphrase_option
@common
def crl(
    folder: Path,
    passphrase_file: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Write a new revocation list, FOLDER/crl.der."""
    authority = open_authority(folder, passphrase_file)
    authority.revocation_list()
    number = authority.ledger.crl_number
    _show({"crl": str(folder / "crl.der"), "crl_number": str(number)}, as_json=as_json)
    return 0


def open_authority(folder: Path, passphrase_file: Path | None) -> CertificateAuthority:
    """Open an authority with the passphrase from where it is kept.

    Raises:
        ConfigurationError: there is no passphrase, it is wrong, or the authority is damaged.
    """
    from spdmkit.device.files import read_secret
    from spdmkit.provisioning.authority import CertificateAuthority, check_authority

    check_authority(folder)
    passphrase = passphrase_from(passphrase_file, PASSPHRASE_VARIABLE)
    kept = folder / PASSPHRASE_FILE
    if passphrase is None and kept.exists():
        read_secret(kept, 1 << 12, "passphrase")  # refuses one that others can read
        passphrase = passphrase_from(kept, PASSPHRASE_VARIABLE)
    if passphrase is None and sys.stdin.isatty():
        passphrase = click.prompt(f"passphrase of {folder}", hide_input=True, err=True)
    if not passphrase:
        raise ConfigurationError(
            f"the keys of {folder} need a passphrase",
            hint=f"give --passphrase-file FILE, or set {PASSPHRASE_VARIABLE}",
        )
    return CertificateAuthority.load(folder, passphrase)


def _new_passphrase() -> str:
    """What a person types twice; empty when nobody is there, or types nothing."""
    if not sys.stdin.isatty():
        return ""
    answer: str = click.prompt(
        "passphrase for the authority's keys (empty: make a random one)",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt=True,
        err=True,
    )
    return answer


def _show(made: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    for name, value in made.items():
        click.echo(f"{name.replace('_', ' '):14} {value}")
