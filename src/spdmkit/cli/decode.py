"""`spdm decode`: what went over the wire, message by message."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.capture.conversation import OTHER_NAMES
from spdmkit.capture.convert import SteppingClock, written
from spdmkit.capture.decode import Decoder, EventFilter, Summary
from spdmkit.capture.events import EventKind, Party
from spdmkit.capture.keylog import KeyLog
from spdmkit.capture.secretfiles import Secrets, load_secrets
from spdmkit.capture.sources import Recording, open_recording
from spdmkit.capture.text import event_lines, summary_lines
from spdmkit.capture.writer import CaptureWriter
from spdmkit.cli import failure
from spdmkit.cli.options import common, example
from spdmkit.errors import ConfigurationError
from spdmkit.messages import MESSAGES

if TYPE_CHECKING:
    from spdmkit.capture.events import ConversationEvent
    from spdmkit.crypto.keys import PublicKey
    from spdmkit.protocol.algorithms import Selection

__all__ = ["command"]

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    name="decode",
    epilog=example(
        "spdm decode capture.pcapng --keylog keys.log --trust-anchor root.pem",
        "spdm decode capture.pcapng --summary --no-verify",
        "spdm decode capture.pcapng --name MEASUREMENTS -v",
    ),
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--keylog", multiple=True, type=_FILE, help="Secrets: a key log, a debug log, a PSK.")
@click.option("--trust-anchor", multiple=True, type=_FILE, help="Verify chains up to these.")
@click.option("--chain", multiple=True, type=_FILE, help="A chain that was not captured.")
@click.option("--public-key", multiple=True, type=_FILE, help="A key known beforehand.")
@click.option("--algorithms", help="Algorithms, when their negotiation was not captured.")
@click.option("--port", multiple=True, type=click.IntRange(1, 65535), help="Only these TCP ports.")
@click.option("--write-keylog", type=_NEW_FILE, help="Write what decrypts it to a key log.")
@click.option("--write-capture", type=_NEW_FILE, help="Write it as a capture, whatever it is.")
@click.option("--no-verify", is_flag=True, help="Check no signatures, hashes and MACs.")
@click.option("--summary", "only_summary", is_flag=True, help="Print the summary alone.")
@click.option("--name", multiple=True, help="Show messages of this name.")
@click.option("--connection", multiple=True, type=int, help="Show this connection, by its number.")
@click.option("--session", multiple=True, help="Show this session, by its id in hex.")
@click.option("--from", "sender", type=click.Choice(["requester", "responder"]))
@click.option("--failed", is_flag=True, help="Show what is malformed or failed a check.")
@click.option("--after", type=float, help="Show from this second on, counted from the first.")
@click.option("--before", type=float, help="Show up to this second.")
@common
def command(file: str, as_json: bool, verbose: bool, **options: Any) -> int:
    """Decode FILE: a capture, a recorded conversation, or frames in hex; - is stdin.

    Exits with 1 when something that was checked does not hold.
    """
    # Everything that may be wrong with the options is found before anything is read.
    chosen = _filter(options)
    secrets = _secrets(options["keylog"])
    anchors = [der for path in options["trust_anchor"] for der in _certificates(path)]
    chains = [_chain(path) for path in options["chain"]]
    keys = [_public_key(path) for path in options["public_key"]]
    assume = _selection(options["algorithms"])
    log = KeyLog(options["write_keylog"]) if options["write_keylog"] else None
    with contextlib.ExitStack() as stack:
        if log is not None:
            stack.callback(log.close)
        recording = open_recording(file, ports=options["port"])
        if options["write_capture"]:
            stack.enter_context(_copying(recording, Path(file), options["write_capture"]))
        decoder = stack.enter_context(
            Decoder(
                recording,
                secrets=secrets,
                anchors=anchors,
                chains=chains,
                public_keys=keys,
                assume=assume,
                verify=not options["no_verify"],
                keys=log.record if log else None,
            )
        )
        if options["only_summary"]:
            decoder.run()
        if as_json:
            _print_json(decoder, chosen, options, verbose=verbose)
        else:
            _print_text(decoder, chosen, options, verbose=verbose)
    return failure.UNTRUSTED if decoder.summary.failed else 0


def _copying(recording: Recording, source: Path, target: Path) -> CaptureWriter:
    """Have everything that is read written to a capture too."""
    if target.exists() and source.exists() and target.samefile(source):
        recording.close()
        raise ConfigurationError("--write-capture would overwrite what is being read")
    clock = SteppingClock()
    writer = CaptureWriter(target, clock=clock)
    recording.events = written(recording.events, writer, clock)
    return writer


class _Chosen:
    """The filter, whose times count from the first event."""

    def __init__(self, wanted: EventFilter, after: float | None, before: float | None) -> None:
        self._filter = wanted
        self._after = after
        self._before = before
        self.start_ns: int | None = None

    def __call__(self, event: ConversationEvent) -> bool:
        if self.start_ns is None and event.time_ns is not None:
            self.start_ns = event.time_ns
            self._filter = replace(
                self._filter, since_ns=self._at(self._after), until_ns=self._at(self._before)
            )
        if event.kind is EventKind.CLOSED and self._filter.names:
            return False
        return self._filter(event)

    def _at(self, seconds: float | None) -> int | None:
        if seconds is None or self.start_ns is None:
            return None
        return self.start_ns + round(seconds * 1e9)


def _filter(options: dict[str, Any]) -> _Chosen:
    try:
        sessions = frozenset(int(text, 16) for text in options["session"])
    except ValueError as error:
        raise ConfigurationError("--session takes a session id in hex") from error
    wanted = EventFilter(
        names=frozenset(_name(text) for text in options["name"]),
        connections=frozenset(options["connection"]),
        sessions=sessions,
        sender=Party(options["sender"]) if options["sender"] else None,
        failed=options["failed"],
    )
    return _Chosen(wanted, options["after"], options["before"])


def _name(text: str) -> str:
    """A name to filter by, as events have it."""
    known = {message.name for message in MESSAGES.values()} | OTHER_NAMES
    names = {name.casefold(): name for name in known}
    found = names.get(text.casefold().replace(" ", "_")) or names.get(text.casefold())
    if found is None:
        close = difflib.get_close_matches(text.casefold(), names, n=3)
        hint = " or ".join(names[name] for name in close) or "for example GET_VERSION"
        raise ConfigurationError(f"--name: nothing is called {text!r}", hint=hint)
    return found


def _print_text(
    decoder: Decoder, chosen: _Chosen, options: dict[str, Any], *, verbose: bool
) -> None:
    write = sys.stdout.write
    if not options["only_summary"]:
        for event in decoder:
            if chosen(event):
                for line in event_lines(event, start_ns=chosen.start_ns, verbose=verbose):
                    write(f"{line}\n")
        write("\n")
    for line in summary_lines(decoder.summary):
        write(f"{line}\n")


def _print_json(
    decoder: Decoder, chosen: _Chosen, options: dict[str, Any], *, verbose: bool
) -> None:
    """One document, written as it is decoded: memory does not grow with the recording."""
    write = sys.stdout.write
    write('{"messages": [')
    separator = "\n"
    if not options["only_summary"]:
        for event in decoder:
            if chosen(event):
                write(separator + json.dumps(event.to_json(fields=verbose)))
                separator = ",\n"
    summary: Summary = decoder.summary
    write(f'],\n"summary": {json.dumps(summary.to_json())}}}\n')


def _secrets(paths: tuple[Path, ...]) -> Secrets:
    secrets = Secrets()
    for path in paths:
        secrets.update(load_secrets(path))
    return secrets


def _certificates(path: Path) -> list[bytes]:
    from spdmkit.identity import load_certificates

    return [item.der for item in load_certificates(path.read_bytes(), source=str(path))]


def _chain(path: Path) -> list[bytes]:
    from spdmkit.identity import load_certificates, order_certificates

    loaded = load_certificates(path.read_bytes(), source=str(path))
    return [item.der for item in order_certificates(loaded, source=str(path))]


def _public_key(path: Path) -> PublicKey:
    from spdmkit.crypto.keys import PublicKey

    return PublicKey.load(path.read_bytes())


def _selection(names: str | None) -> Selection | None:
    """The algorithms that a recording without ALGORITHMS is to be read by."""
    if not names:
        return None
    from spdmkit.crypto import registry
    from spdmkit.protocol.algorithms import Selection

    tables = {
        "base_hash": (registry.BASE_HASH,),
        "signature": (registry.BASE_ASYM, registry.PQC_ASYM),
        "dhe": (registry.DHE,),
        "kem": (registry.KEM,),
        "aead": (registry.AEAD,),
    }
    found: dict[str, Any] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        for field, candidates in tables.items():
            for table in candidates:
                try:
                    found[field] = table.by_name(name)
                except ConfigurationError:
                    continue
        if not any(name in (entry.short, entry.name) for entry in found.values()):
            raise ConfigurationError(f"--algorithms: {name!r} is no algorithm of SPDM")
    if "base_hash" not in found:
        raise ConfigurationError("--algorithms names no hash", hint="for example sha-384")
    return Selection(**found)
