#!/usr/bin/env python3
"""Prove spdmkit against DMTF's spdm-emu, both ways.

    SPDM_EMU=/path/to/its/programs tools/interop.py [--only TEXT ...] [--json FILE]

See docs/how-to/interop.md. Without the emulator nothing runs, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from emulator import commands, proxied, reach_out, requester, responder, resumption
from emulator.case import Case, Ours, version_text
from emulator.cases import all_cases
from emulator.chance import random_cases
from emulator.programs import Emulator, NotAvailable
from emulator.report import page


def _runner(case: Case) -> Callable[[Case, Emulator], None]:
    if case.proxied:
        return proxied.run_proxied
    if case.command:
        return commands.run_command
    if case.served:
        return commands.run_served
    if case.resumes and case.ours is Ours.REQUESTER:
        return resumption.run_requester
    if case.resumes:
        return resumption.run_responder
    if case.reach_out and case.ours is Ours.REQUESTER:
        return reach_out.run_requester
    if case.reach_out:
        return reach_out.run_responder
    return requester.run if case.ours is Ours.REQUESTER else responder.run


@dataclass(frozen=True, slots=True)
class Result:
    """How one case went.

    Attributes:
        passed: everything in it went as it should.
        seconds: how long it took.
        why: what went wrong, empty when it passed.
    """

    name: str
    ours: str
    transport: str
    version: str
    group: str
    what: str
    passed: bool
    seconds: float
    why: str


def run_case(case: Case, emulator: Emulator, *, trace: bool = False) -> Result:
    """Run one case; whatever happens in it is its result."""
    began = time.monotonic()
    why = ""
    try:
        _runner(case)(case, emulator)
    except Exception as error:  # noqa: BLE001  # a failure of any kind is what is reported
        if trace:
            traceback.print_exc()
        why = str(error) or type(error).__name__
    return Result(
        case.name,
        case.ours.value,
        f"proxy+{case.transport}" if case.proxied else case.transport,
        version_text(case.version),
        case.group,
        case.what,
        not why,
        round(time.monotonic() - began, 2),
        why,
    )


def select(wanted: list[str]) -> list[Case]:
    """The cases whose names contain one of the texts; all when there are none."""
    return [case for case in all_cases() if not wanted or any(text in case.name for text in wanted)]


def table(results: Iterable[Result]) -> str:
    """One line a group: what passed in which versions."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for each in results:
        key = (f"our {each.ours}", each.transport, each.group, each.what)
        rows.setdefault(key, []).append(each.version + ("" if each.passed else " FAILED"))
    cells = [(*key, ", ".join(versions)) for key, versions in rows.items()]
    widths = [max(len(row[i]) for row in cells) for i in range(4)] if cells else []
    lines = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:4], widths, strict=True)), row[4]])
        for row in cells
    ]
    return "\n".join(lines)


def main() -> int:
    """Run what was asked for; 1 when a case failed."""
    parser = argparse.ArgumentParser(description="Prove spdmkit against DMTF's spdm-emu.")
    parser.add_argument("emulator", nargs="?", help="folder of its programs (else SPDM_EMU)")
    parser.add_argument("--keys", help="folder of its sample keys (else SPDM_EMU_KEYS, or beside)")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases by name")
    parser.add_argument("--random", type=int, metavar="N", help="N cases by chance instead")
    parser.add_argument("--seed", type=int, default=0, help="makes the same ones again")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--json", metavar="FILE", help="write the results there ('-': stdout)")
    parser.add_argument("--report", metavar="FILE", help="write the page of the documentation")
    parser.add_argument("--peer", default="spdm-emu", help="what the page calls the emulator")
    parser.add_argument("--trace", action="store_true", help="print where failures arose")
    arguments = parser.parse_args()
    chosen = select(arguments.only)
    if arguments.random:
        chosen = list(random_cases(arguments.random, arguments.seed))
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return 0
    try:
        emulator = Emulator.locate(arguments.emulator, arguments.keys)
    except NotAvailable as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    results = []
    for case in chosen:
        result = run_case(case, emulator, trace=arguments.trace)
        results.append(result)
        mark = "ok    " if result.passed else "FAILED"
        print(f"{mark} {result.seconds:5.1f} s  {result.name}  {result.why[:300]}", file=sys.stderr)
    failed = sum(not each.passed for each in results)
    if arguments.json:
        text = json.dumps({"results": [asdict(each) for each in results]}, indent=1)
        if arguments.json == "-":
            print(text)
        else:
            Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    if arguments.report:
        today = dt.datetime.now(dt.UTC).date()
        Path(arguments.report).write_text(page(results, arguments.peer, today), encoding="utf-8")
    if arguments.json != "-":
        print(table(results))
    print(f"{len(results) - failed} of {len(results)} passed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
