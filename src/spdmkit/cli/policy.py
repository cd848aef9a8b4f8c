"""`spdm policy`: what is demanded of devices."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

import click

from spdmkit.cli.options import common, example

__all__ = ["command"]


@click.group(name="policy")
def command() -> None:
    """Check what is demanded of devices."""


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
