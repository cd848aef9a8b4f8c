"""`spdm policy`: what is demanded of devices."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

import click

from spdmkit.cli.keys import passphrase_option
from spdmkit.cli.options import common, example
from spdmkit.errors import ConfigurationError

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(name="policy")
def command() -> None:
    """Check what is demanded of devices, and sign it for them."""


@command.command(name="check", epilog=example("spdm policy check site.toml"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common
def check(file: Path, as_json: bool, verbose: bool) -> int:
    """Check the policy FILE, and the files it names; a mistake is told with its line.

    Shows what the policy comes to; -v shows the defaults too.
    """
    from spdmkit.attestation.policy import DEFAULT_POLICY
    from spdmkit.attestation.policy_file import check_policy

    policy = check_policy(file)
    said = _plain(policy)
    if as_json:
        click.echo(json.dumps({"file": str(file), "valid": True, "policy": said}, indent=2))
        return 0
    from spdmkit.cli.report import show_pairs

    usual = _plain(DEFAULT_POLICY)
    pairs = [
        (name, value)
        for (name, value), (_, default) in zip(_flat(said), _flat(usual), strict=True)
        if verbose or value != default
    ]
    show_pairs(pairs)
    click.echo(f"{file}: valid", err=True)
    return 0


@command.command(
    name="sign",
    epilog=example(
        "spdm policy sign site.toml site.cose --signing-key policy.pem --certificates chain.pem"
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--signing-key", type=_FILE, required=True, help="Private key, PEM, that signs the policy."
)
@click.option(
    "--certificates", type=_FILE, required=True, help="Its certificates, PEM, in any order."
)
@passphrase_option
@common
def sign(
    file: Path,
    out: Path,
    signing_key: Path,
    certificates: Path,
    passphrase_file: Path | None,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Sign the policy FILE for devices, which then take it from anyone (SET_POLICY).

    A device wants it to have an end of validity, and a version above that of the one it holds.
    """
    from spdmkit.attestation.files import read_bounded, write_atomic
    from spdmkit.attestation.policy_file import MAX_POLICY_SIZE, read_policy
    from spdmkit.cli.keys import load_private_key
    from spdmkit.identity import load_certificates, order_certificates
    from spdmkit.services.content import sign_policy

    text = read_bounded(file, MAX_POLICY_SIZE)
    policy = read_policy(text, str(file))
    key = load_private_key(signing_key, passphrase_file)
    content = read_bounded(certificates, 1 << 20)
    chain = order_certificates(load_certificates(content, source=str(certificates)))
    if chain[-1].spki != key.public_key.spki():
        raise ConfigurationError(
            f"{certificates} is not for the key {signing_key}: {chain[-1].subject} has another"
        )
    if policy.not_after is None:
        click.echo(f"{file} has no not_after: devices take it in a session only", err=True)
    write_atomic(out, sign_policy(text, key, [each.der for each in reversed(chain)]))
    made = {"written": str(out), "policy": policy.identifier, "signer": chain[-1].subject}
    click.echo(json.dumps(made, indent=2) if as_json else f"written {out}")
    return 0


_TABLES = ("identity", "protocol", "freshness", "references", "evidence", "device_mode")


def _plain(policy: Any) -> dict[str, Any]:
    """A policy as its file would say it, with everything it leaves to the defaults."""
    from spdmkit.attestation.dates import describe_time

    def moment(seconds: int | None) -> str | None:
        return None if seconds is None else describe_time(seconds)

    return {
        "policy": {
            "name": policy.name,
            "version": policy.version,
            "not_before": moment(policy.not_before),
            "not_after": moment(policy.not_after),
            "sha256": policy.sha256,
        },
        **{table: _table(getattr(policy, table)) for table in _TABLES},
        "component": [_table(each) for each in policy.components],
    }


def _table(rule: Any) -> dict[str, Any]:
    return {
        field.name: _value(field.name, getattr(rule, field.name))
        for field in dataclasses.fields(rule)
    }


def _value(name: str, value: Any) -> Any:
    from spdmkit.attestation.blocks import flag_names, kind_label
    from spdmkit.messages.measurements import DebugMode, OperationalMode

    if name == "minimum_version":
        return f"{value >> 4}.{value & 0xF}"
    if name == "kind" and value is not None:
        return kind_label(value)
    if isinstance(value, OperationalMode | DebugMode):
        return flag_names(value)
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return str(value) if isinstance(value, (Path, enum.Enum)) else value


def _flat(said: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for table, values in said.items():
        if isinstance(values, dict):
            pairs += [(f"{table}.{name}", _text(value)) for name, value in values.items()]
        else:
            pairs.append((table, "; ".join(_component(each) for each in values)))
    return pairs


def _component(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items() if value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "any"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
