"""`spdm attest --targets`: many devices, a progress bar, a table, one result file each."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.attestation.files import write_atomic
from spdmkit.attestation.fleet import (
    CONCURRENCY,
    PATIENCE,
    Delivery,
    Order,
    attest_all,
    one_identity_twice,
)
from spdmkit.attestation.targets import load_targets
from spdmkit.cli import failure
from spdmkit.cli.keeping import Keeper
from spdmkit.cli.ordering import Conversation, Orders, judging_for
from spdmkit.cli.results import Form, Output
from spdmkit.cli.text import escaped
from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.cli.judging import Judging

__all__ = ["attest_targets"]

_WORST_FIRST = (1, 2, 3, 4, 0)
"""Exit codes of single devices; that of all is the first that occurs."""
_FOLDER = Path("results")
_COULD_NOT = "not-done"


def attest_targets(judging: Judging, output: Output, options: dict[str, Any]) -> int:
    """Attest all devices of a file; returns the exit code for all of them.

    That is 1 when any is untrusted, else 3 when any could not be attested, else 4 when any was not
    appraised, else 0.

    Raises:
        ConfigurationError: something is wrong with the file, an option, or what a target names;
            nothing is sent before all of it is read.
    """
    orders = _orders(judging, output, options)
    keeper = Keeper.of({**options, "passphrase_file": output.passphrase_file})
    report = _Report(orders, output, keeper, _folder(options["output"] or _FOLDER))
    if keeper.evidence is not None:
        _folder(keeper.evidence)
    with report.progress() as on_delivery:
        asyncio.run(
            attest_all(
                orders,
                known_keys=keeper.known_keys,
                concurrency=options["concurrency"] or CONCURRENCY,
                patience=options["patience"] or PATIENCE,
                tap=options["capture"].dialled,
                on_delivery=on_delivery,
            )
        )
    report.finish()
    keeper.close()
    report.show()
    return report.exit_code(authenticate_only=judging.authenticate_only)


def _orders(judging: Judging, output: Output, options: dict[str, Any]) -> list[Order]:
    conversation = Conversation.of(options)
    make = Orders(output.passphrase_file).make
    orders = []
    for target in load_targets(options["targets"]):
        try:
            orders.append(
                make(
                    target.uri,
                    judging_for(judging, target),
                    conversation.for_target(target),
                    target.name,
                )
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"target {target.name}: {error}", hint=error.hint) from error
    return orders


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    return path


class _Report:
    """Result files as devices answer, and the table when all have."""

    def __init__(self, orders: list[Order], output: Output, keeper: Keeper, folder: Path) -> None:
        self.orders = orders
        self.form = output.form
        self.output = output
        self.keeper = keeper
        self.folder = folder
        self.deliveries: dict[str, Delivery] = {}
        # A result of an earlier run must not pass for one of this run.
        for order in orders:
            for each in Form:
                (folder / (order.name + each.suffix)).unlink(missing_ok=True)

    # --- while it runs -------------------------------------------------------------------------

    @contextmanager
    def progress(self) -> Iterator[Callable[[Delivery], None]]:
        """A bar on standard error, if that is a terminal; else nothing until the end."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            TextColumn("attesting"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("attesting", total=len(self.orders), said="")

            def on_delivery(delivery: Delivery) -> None:
                self._take(delivery)
                # No verdicts yet: the end may still find one identity at two targets.
                failed = self.verdicts()[_COULD_NOT]
                bar.update(task, advance=1, said=f"{failed} {_COULD_NOT}" if failed else "")

            yield on_delivery

    def _take(self, delivery: Delivery) -> None:
        self.deliveries[delivery.order.name] = delivery
        self._write(delivery)
        if delivery.attested is not None and self.keeper.evidence is not None:
            path = self.keeper.evidence / f"{delivery.order.name}.cbor"
            self.keeper.keep(delivery.attested, path)

    def _write(self, delivery: Delivery) -> None:
        path = self.file(delivery)
        if delivery.attested is not None:
            write_atomic(path, self.output.render(delivery.attested.result, self.form))
            return
        document = {"target": str(delivery.order.uri), **failure.as_json(_error(delivery))}
        write_atomic(path, json.dumps(document, indent=2).encode() + b"\n")

    def file(self, delivery: Delivery) -> Path:
        """The result file of a device; what could not be done is always told in JSON."""
        form = self.form if delivery.attested is not None else Form.JSON
        return self.folder / (delivery.order.name + form.suffix)

    # --- at the end ----------------------------------------------------------------------------

    def finish(self) -> None:
        """Judge what only all of them together show, and remember the devices."""
        for name, result in one_identity_twice(tuple(self.deliveries.values())).items():
            delivery = self.deliveries[name]
            if delivery.attested is not None:
                attested = replace(delivery.attested, result=result)
                self.deliveries[name] = replace(delivery, attested=attested)
                self._write(self.deliveries[name])
        for delivery in self.deliveries.values():
            if delivery.attested is not None:
                self.keeper.note(delivery.attested)

    def verdicts(self) -> Counter[str]:
        """How many devices have which verdict."""
        return Counter(_verdict(each) for each in self.deliveries.values())

    def exit_code(self, *, authenticate_only: bool) -> int:
        """The exit code for all of them."""
        codes = {
            each.exit_code
            if each.attested is None
            else each.attested.result.exit_code(authenticate_only=authenticate_only)
            for each in self.deliveries.values()
        }
        return next((code for code in _WORST_FIRST if code in codes), 0)

    def show(self) -> None:
        """The table, or one JSON document, on standard output."""
        ordered = [self.deliveries[order.name] for order in self.orders]
        if self.output.as_json:
            document = {
                "output": str(self.folder),
                "verdicts": dict(self.verdicts()),
                "targets": [self._row(each) for each in ordered],
            }
            click.echo(json.dumps(document, indent=2))
            return
        from rich.table import Table
        from rich.text import Text

        from spdmkit.cli.report import VERDICT_STYLES, console

        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for column in ("name", "device", "verdict", "seconds", "why"):
            table.add_column(column, overflow="fold")
        for delivery in ordered:
            row = self._row(delivery)
            verdict = str(row["verdict"])
            table.add_row(
                delivery.order.name,
                Text(escaped(str(row["device"]))),
                Text(verdict, style=VERDICT_STYLES.get(verdict, "bold red")),
                f"{delivery.seconds:.2f}",
                Text(escaped(str(row["reason"]))),
            )
        out = console()
        out.print(table)
        out.print()
        out.print(f"{_counted(self.verdicts())}; one file each in {self.folder}")

    def _row(self, delivery: Delivery) -> dict[str, object]:
        row: dict[str, object] = {
            "name": delivery.order.name,
            "target": str(delivery.order.uri),
            "verdict": _verdict(delivery),
            "device": "",
            "reason": "",
            "file": str(self.file(delivery)),
            "seconds": round(delivery.seconds, 3),
        }
        if delivery.attested is None:
            row["reason"] = escaped(str(_error(delivery)))
            return row
        result = delivery.attested.result
        names = (result.identity.get(key) for key in ("san", "subject", "psk_hint", "spki_sha256"))
        row["device"] = next((str(name) for name in names if name), "")
        row["reason"] = result.reasons[0] if result.reasons else ""
        return row


def _verdict(delivery: Delivery) -> str:
    return _COULD_NOT if delivery.attested is None else str(delivery.attested.result.verdict)


def _error(delivery: Delivery) -> Exception:
    return delivery.error or RuntimeError("neither a result nor an error")


def _counted(verdicts: Counter[str]) -> str:
    return (
        ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items())) or "none"
    )
