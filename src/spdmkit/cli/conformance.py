"""`spdm conformance`: does a device do what the specification says?"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.connecting import pre_shared_key, versions_option
from spdmkit.cli.options import common, example
from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spdmkit.conformance.binding import BindingCase
    from spdmkit.conformance.case import Case
    from spdmkit.conformance.outcome import CaseResult
    from spdmkit.conformance.requester import RequesterCase

__all__ = ["command"]

_FAILED = 1
_OUT = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    name="conformance",
    epilog=example(
        "spdm conformance tcp://192.0.2.7 --junit results.xml",
        "spdm conformance tcp://192.0.2.7 --case 'challenge.*' --versions 1.2",
        "spdm conformance --listen tcp://127.0.0.1:4194 --device mydevice",
        "spdm conformance --listen tcp://127.0.0.1:0 --device mydevice"
        " --run 'spdm attest {uri} --trust-anchor mydevice/trust-anchor.pem'",
        "spdm conformance --list",
    ),
)
@click.argument("uri", required=False)
@click.option("--listen", "listen_uri", help="Test the requester that connects here instead.")
@click.option("--device", "folder", type=_FOLDER, help="The device to serve to it.")
@click.option(
    "--run", "run_command", help="Run this for each case, {uri} being the address to connect to."
)
@click.option("--case", "patterns", multiple=True, help="Only cases with this name; * matches.")
@click.option("--list", "only_list", is_flag=True, help="List the cases and their clauses.")
@click.option("--versions", help="SPDM versions to test; all that the device has by default.")
@click.option("--psk", type=_FILE, help="A pre-shared key of the device, for the cases about them.")
@click.option("--junit", type=_OUT, help="Write the results as JUnit XML.")
@click.option(
    "--answer-timeout",
    type=click.FloatRange(0.01),
    default=2.0,
    show_default=True,
    help="Seconds after which no answer is silence.",
)
@click.option(
    "--restart-timeout",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds to wait for a device that went away to come back.",
)
@capture_option
@common
def command(
    uri: str | None,
    listen_uri: str | None,
    folder: Path | None,
    run_command: str | None,
    patterns: tuple[str, ...],
    only_list: bool,
    versions: str | None,
    psk: Path | None,
    junit: Path | None,
    answer_timeout: float,
    restart_timeout: float,
    capture: Capture,
    as_json: bool,
    verbose: bool,
) -> int:
    """Judge the responder at URI by the specification; exit 1 when a case fails.

    Each case is a short conversation about one rule, on a connection of its own. Rules about what
    the device lacks are not applicable, and never count as passed.

    With --listen a requester is judged: it connects once for each case, to a device that is wrong
    in one way a time, and must not go on as if nothing were wrong.
    """
    if listen_uri is not None:
        return _judge_requester(
            listen_uri,
            folder,
            run_command,
            patterns,
            only_list=only_list,
            junit=junit,
            capture=capture,
            as_json=as_json,
            verbose=verbose,
        )
    from spdmkit.conformance.binding import BINDING_CASES
    from spdmkit.conformance.responder import responder_cases

    cases = [case for case in responder_cases() if _chosen(case.name, patterns)]
    wires = [case for case in BINDING_CASES if _chosen(case.name, patterns)]
    if not cases and not wires:
        raise ConfigurationError(f"no case is called {' or '.join(patterns)}", hint="see --list")
    if only_list:
        _list([*cases, *wires], as_json=as_json)
        return 0
    if uri is None:
        raise ConfigurationError("whom to test?", hint="spdm conformance tcp://HOST")
    from spdmkit.conformance.runner import Target, run_binding_cases, run_cases
    from spdmkit.conformance.talk import Facts
    from spdmkit.protocol.settings import ALL_VERSIONS

    target = Target(
        uri,
        Facts(psk=None if psk is None else pre_shared_key(psk)),
        answer_timeout=answer_timeout,
        restart_timeout=restart_timeout,
        tap=capture.dialled,
    )
    tell = _tell if verbose else None
    found = list(run_binding_cases(target, wires, progress=tell))
    if cases:
        allowed = versions_option(versions) or ALL_VERSIONS
        found += run_cases(target, cases, versions=allowed, progress=tell)
    return _report(found, uri, junit, as_json=as_json)


def _judge_requester(
    uri: str,
    folder: Path | None,
    run_command: str | None,
    patterns: tuple[str, ...],
    *,
    only_list: bool,
    junit: Path | None,
    capture: Capture,
    as_json: bool,
    verbose: bool,
) -> int:
    """The other way round: who connects is judged."""
    import asyncio
    import shlex

    from spdmkit.conformance.requester import requester_cases
    from spdmkit.conformance.watching import watch
    from spdmkit.device.folder import FolderDevice

    cases = [case for case in requester_cases() if _chosen(case.name, patterns)]
    if not cases:
        raise ConfigurationError(f"no case is called {' or '.join(patterns)}", hint="see --list")
    if only_list:
        _list(cases, as_json=as_json)
        return 0
    if folder is None:
        raise ConfigurationError(
            "a requester is tested with a device that it takes for genuine",
            hint="--device DIR, made by: spdm device init DIR",
        )
    found = asyncio.run(
        watch(
            FolderDevice.load(folder),
            uri,
            cases,
            command=shlex.split(run_command or ""),
            ready=lambda address: click.echo(f"listening on {address}", err=True),
            progress=_tell if verbose else lambda _result: None,
            tap=capture.accepted,
        )
    )
    return _report(found, uri, junit, as_json=as_json)


def _report(found: Sequence[CaseResult], uri: str, junit: Path | None, *, as_json: bool) -> int:
    from spdmkit.conformance import results as reports

    if junit is not None:
        junit.write_bytes(reports.to_junit(found, uri))
    if as_json:
        click.echo(reports.to_json(found, uri))
    else:
        _show(found)
    return _FAILED if reports.failed(found) else 0


def _chosen(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _list(cases: Sequence[Case | BindingCase | RequesterCase], *, as_json: bool) -> None:
    if as_json:
        import json

        rows = [{"name": c.name, "clause": c.clause, "title": c.title} for c in cases]
        click.echo(json.dumps({"cases": rows}, indent=2))
        return
    from spdmkit.cli.report import show_table

    show_table(("case", "clause", "rule"), [(c.name, c.clause, c.title) for c in cases])


def _tell(result: CaseResult) -> None:
    from spdmkit.cli.text import escaped
    from spdmkit.conformance.results import version_text

    click.echo(
        f"{version_text(result.version)} {result.name}: {result.outcome.value} "
        f"{escaped(result.detail)}".rstrip(),
        err=True,
    )


def _show(found: Sequence[CaseResult]) -> None:
    from spdmkit.cli.report import show_pairs, show_table
    from spdmkit.conformance.outcome import Outcome
    from spdmkit.conformance.results import counts, version_text

    bad = [r for r in found if r.outcome in (Outcome.FAILED, Outcome.ERROR)]
    rows = []
    for result in bad:
        reasons = [f"{f.clause}: {f.words}" for f in result.failures] or [result.detail]
        version = version_text(result.version)
        rows += [(version, result.name, result.outcome.value, reason) for reason in reasons]
    if rows:
        show_table(("SPDM", "case", "outcome", "what should hold, and what was seen"), rows)
        click.echo()
    show_pairs((name.replace("_", " "), str(number)) for name, number in counts(found).items())
