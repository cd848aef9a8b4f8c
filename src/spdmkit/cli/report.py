"""Results as a person reads them: tables, colour where a terminal allows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.outcome import MeasurementOutcome, Verdict
from spdmkit.cli.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spdmkit.attestation.outcome import AttestationResult

__all__ = ["VERDICT_STYLES", "console", "show_pairs", "show_result", "show_table"]

VERDICT_STYLES: dict[str, str] = {
    Verdict.TRUSTED: "bold green",
    Verdict.UNTRUSTED: "bold red",
    Verdict.NOT_APPRAISED: "bold yellow",
}
"""How a verdict looks on a terminal."""
_RESULTS = {
    MeasurementOutcome.MATCH: "green",
    MeasurementOutcome.MISMATCH: "red",
    MeasurementOutcome.MALFORMED: "red",
    MeasurementOutcome.MISSING: "red",
    MeasurementOutcome.STALE: "yellow",
    MeasurementOutcome.NO_REFERENCE: "yellow",
    MeasurementOutcome.NOT_REQUIRED: "dim",
}
_STEPS = {"passed": "green", "failed": "red"}
_VALUE = 40
_WIDE = 1000
"""Columns where there is no terminal: lines for other programs are not to be cut or wrapped."""


def console() -> Console:
    """Standard output; without colour and cursor movements when it is no terminal."""
    terminal = sys.stdout.isatty()
    width = None if terminal else _WIDE
    return Console(file=sys.stdout, highlight=False, soft_wrap=not terminal, width=width)


def show_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one below the other."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        table.add_row(Text(name, style="dim"), Text(escaped(value)))
    console().print(table)


def show_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Rows below a line of names; values are escaped."""
    table = Table(*columns, box=None, header_style="dim", padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(escaped(value)) for value in row))
    console().print(table)


def show_result(result: AttestationResult, *, verbose: bool = False) -> None:
    """A verdict and what it rests on."""
    out = console()
    show_pairs(pair for pair in _about(result) if pair[1])
    steps = Table("step", "outcome", "detail", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for step in (*result.steps, *(result.chain_steps if verbose else ())):
        outcome = str(step.outcome.value)
        steps.add_row(
            step.name, Text(outcome, style=_STEPS.get(outcome, "yellow")), escaped(step.detail)
        )
    out.print()
    out.print(steps)
    if result.measurements:
        out.print()
        out.print(_measurements(result, verbose=verbose))
    out.print()
    out.print(Text(f"verdict: {result.verdict}", style=VERDICT_STYLES[result.verdict]))
    for reason in result.reasons:
        out.print(Text(f"  {escaped(reason)}"))


def _measurements(result: AttestationResult, *, verbose: bool) -> Table:
    table = Table(
        "index", "type", "value", "result", box=None, header_style="dim", padding=(0, 2, 0, 0)
    )
    for each in result.measurements:
        value = escaped(each.value)
        shown = value if verbose or len(value) <= _VALUE else f"{value[:_VALUE]}..."
        outcome = Text(str(each.result), style=_RESULTS[each.result])
        table.add_row(str(each.index), each.type, Text(shown), outcome)
    return table


def _about(result: AttestationResult) -> Iterable[tuple[str, str]]:
    yield "target", result.target
    yield "reached by", result.transport
    yield "SPDM", result.spdm_version
    yield "algorithms", ", ".join(f"{k} {v}" for k, v in result.algorithms.items())
    yield from _flat("device", result.identity)
    if result.collected_at is not None:
        yield "collected", describe_time(result.collected_at)
    yield "appraised as of", describe_time(result.appraised_at)
    yield "policy", result.policy
    yield "references", "; ".join(result.references) or "none"


def _flat(prefix: str, values: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, (str, int)) and value not in ("", None):
            yield f"{prefix} {name.removeprefix('device_').replace('_', ' ')}", str(value)
