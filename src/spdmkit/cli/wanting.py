"""What `spdm device` wants of requesters, and what it was given by them."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.results.dsp0287 import IndexVerification, unpack_results
from spdmkit.attestation.results.json_result import to_dict
from spdmkit.cli import failure
from spdmkit.cli.connecting import key_log
from spdmkit.cli.narrating import both, narrator
from spdmkit.cli.text import escaped
from spdmkit.device.folder import FolderDevice
from spdmkit.errors import ConfigurationError, SpdmError
from spdmkit.identity import Certificate
from spdmkit.messages.dsp0287 import SessionMethod, SubId
from spdmkit.protocol.events import RequestRefused
from spdmkit.services.catalogue import service_named
from spdmkit.services.desk import Received, ServiceDesk
from spdmkit.services.dialling import Call, Caller
from spdmkit.services.evaluation import evaluate_itself
from spdmkit.services.wishes import Fate, Wish

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.cli.capturing import Capture
    from spdmkit.protocol.events import ProtocolEvent
    from spdmkit.services.holdings import Entry, Holdings

__all__ = ["dial", "status", "wishes"]

SESSIONS = {
    "none": SessionMethod.NO_PREFERENCE,
    "any": SessionMethod.SESSION,
    "psk": SessionMethod.PSK_EXCHANGE,
    "key": SessionMethod.KEY_EXCHANGE,
}
"""Words for SessionMethod on the command line."""


def wishes(words: Sequence[str], session: str | None) -> list[Wish]:
    """`--do verify --session psk`, or `--want certificate=2`, as wishes.

    Raises:
        ConfigurationError: a word names no service or no session.
    """
    method = None
    if session is not None:
        method = SESSIONS.get(session)
        if method is None:
            raise ConfigurationError(
                f"no session is called {session!r}", hint=f"known: {', '.join(SESSIONS)}"
            )
    found = []
    for text in words:
        word, equals, parameter = text.partition("=")
        number = None
        if equals:
            try:
                number = int(parameter, 0)
            except ValueError:
                number = -1
            if not 0 <= number <= 0xFF:
                raise ConfigurationError(f"{text!r}: the parameter is a number from 0 to 255")
        found.append(Wish.of(service_named(word), session_method=method, parameter=number))
    return found


# --- spdm device dial ----------------------------------------------------------------------------


def dial(
    folder: Path,
    uri: str,
    passphrase: str | None,
    options: dict[str, Any],
    capture: Capture,
    *,
    as_json: bool,
    verbose: bool,
) -> int:
    """Dial a requester, once or for ever; the exit code."""
    wanted = [
        replace(each, slot_id=options["session_slot"])
        for each in wishes(options["words"], options["session"])
    ]
    device = FolderDevice.load(folder, passphrase)
    received: list[Received] = []
    refused: list[str] = []
    desk = ServiceDesk(device, on_received=received.append)
    device.register_vendor(desk)

    def failed(error: SpdmError, pause: float) -> None:
        failure.say(f"{error}; again in {pause:.1f} seconds")

    def watch(event: ProtocolEvent) -> None:
        if isinstance(event, RequestRefused) and event.reason not in refused:
            refused.append(event.reason)

    log = key_log()
    watching = both(watch, narrator(uri) if verbose else None)
    caller = Caller(
        device,
        desk,
        on_failure=failed,
        tap=capture.dialled,
        events=both(log, watching),
        log_keys=log is not None,
    )

    before = _slots(device)

    def show(call: Call) -> int:
        nonlocal before
        document = _document(uri, call, received, device, desk.holdings)
        document["refused"] = refused.copy()
        received.clear()
        refused.clear()
        written = {n: c for n, c in _slots(device).items() if before.get(n) != c}
        if written:
            document["certificates"] = [_certificate(*each) for each in sorted(written.items())]
        before = _slots(device)
        if as_json:
            click.echo(json.dumps(document, indent=None if options["stay"] else 2))
        else:
            _print(document)
        if call.error is not None and verbose:
            failure.say(str(call.error))
        return _code(call, document)

    async def once() -> int:
        return show(await caller.call(uri, wanted, tries=options["tries"]))

    async def for_ever() -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: task is not None and task.cancel())
        with suppress(asyncio.CancelledError):
            while True:
                show(await caller.call(uri, wanted, tries=None))
                await asyncio.sleep(options["interval"])
        return 0

    return asyncio.run(for_ever() if options["stay"] else once())


def _document(
    uri: str, call: Call, received: Sequence[Received], device: FolderDevice, holdings: Holdings
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "requester": uri,
        "services": [
            {"service": each.wish.label, "fate": each.fate.value, "reason": each.reason}
            for each in call.endings
        ],
        "received": [
            {"what": each.what.name, "given_by": each.given_by, "detail": each.detail}
            for each in received
        ],
        "tries": call.tries,
        "error": None if call.error is None else str(call.error),
    }
    told = {each.what for each in received}
    if SubId.VERIFICATION_RESULTS in told:
        document["results"] = _results(holdings.results[-1].results)
    if told & {SubId.SET_REFERENCE, SubId.SET_POLICY}:
        result = evaluate_itself(device, holdings, int(time.time()))
        document["self_evaluation"] = {
            "verdict": str(result.verdict),
            "reasons": list(result.reasons),
        }
    return document


def _slots(device: FolderDevice) -> dict[int, tuple[bytes, ...]]:
    """Slot -> its chain, root first."""
    return {number: slot.certificates for number, slot in device.credentials.slots.items()}


def _certificate(slot_id: int, chain: tuple[bytes, ...]) -> dict[str, Any]:
    leaf = Certificate(chain[-1])
    return {
        "slot": slot_id,
        "subject": leaf.subject,
        "issuer": leaf.issuer,
        "sha256": leaf.sha256.hex(),
    }


def _results(packed: bytes) -> dict[str, str]:
    """Index -> word; JSON has no numbers as keys."""
    return {str(index): _word(value) for index, value in unpack_results(packed).items()}


def _word(value: IndexVerification) -> str:
    return value.name.lower().replace("_", "-")


def _print(document: dict[str, Any]) -> None:
    for each in document["services"]:
        reason = f"  {each['reason']}" if each["reason"] else ""
        click.echo(f"{each['service']:14}{each['fate']}{reason}")
    for each in document["received"]:
        click.echo(
            f"received {each['what']} by {escaped(each['given_by'])}: {escaped(each['detail'])}"
        )
    for reason in document["refused"]:
        click.echo(f"we refused: {escaped(reason)}")
    for each in document.get("certificates", ()):
        about = f"{each['subject']}, issued by {each['issuer']}"
        click.echo(f"  slot {each['slot']}  {escaped(about)}")
    for index, word in document.get("results", {}).items():
        click.echo(f"  measurement {index:>3}  {word}")
    if "self_evaluation" in document:
        click.echo(f"judges itself: {document['self_evaluation']['verdict']}")
    if document["error"] is not None:
        click.echo(f"the connection ended: {escaped(document['error'])}")


def _code(call: Call, document: dict[str, Any]) -> int:
    """0 when every wish was fulfilled, 1 when a measurement failed, else that it could not be."""
    if "failed" in document.get("results", {}).values():
        return failure.UNTRUSTED
    if call.done and all(each.fate is Fate.FULFILLED for each in call.endings):
        return 0
    return failure.NOT_DONE


# --- spdm device status --------------------------------------------------------------------------


def status(folder: Path, passphrase: str | None, *, as_json: bool, verbose: bool) -> int:
    """Show what a device holds, and its judgement of itself; the exit code is always 0."""
    device = FolderDevice.load(folder, passphrase)
    holdings = ServiceDesk(device).holdings
    result = evaluate_itself(device, holdings, int(time.time()))
    document = _status(device, holdings, result)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return 0
    from spdmkit.cli.report import show_pairs, show_result

    rows = [("device", document["device"])]
    for kind in ("references", "policy"):
        rows += [(kind, _line(each)) for each in document[kind]]
    rows += [
        ("results", f"{each['received_at']} by {each['given_by']}: {_tally(each['results'])}")
        for each in document["results"]
    ]
    show_pairs(rows if len(rows) > 1 else [*rows, ("received", "nothing")])
    if verbose:
        show_result(result, verbose=True)
    else:
        show_pairs(
            [("judges itself", str(result.verdict)), *(("because", r) for r in result.reasons)]
        )
    return 0


def _status(device: FolderDevice, holdings: Holdings, result: AttestationResult) -> dict[str, Any]:
    policy = [] if holdings.policy is None else [holdings.policy]
    return {
        "device": device.configuration.device.name,
        "slots": sorted(device.credentials.slots),
        "references": [_entry(each) for each in holdings.references],
        "policy": [_entry(each) for each in policy],
        "results": [
            {
                "given_by": each.given_by,
                "received_at": describe_time(each.received_at),
                "results": _results(each.results),
            }
            for each in holdings.results
        ],
        "self_evaluation": to_dict(result),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "versions": dict(entry.versions),
        "given_by": entry.given_by,
        "signed_by": entry.signer or None,
        "received_at": describe_time(entry.received_at),
        "sha256": entry.sha256,
        "size": len(entry.data),
    }


def _line(entry: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} version {number}" for name, number in entry["versions"].items())
    signed = f", signed by {entry['signed_by']}" if entry["signed_by"] else ""
    return f"{versions}, {entry['received_at']} by {entry['given_by']}{signed}"


def _tally(results: dict[str, str]) -> str:
    words = sorted(set(results.values()))
    return ", ".join(f"{list(results.values()).count(word)} {word}" for word in words) or "none"
