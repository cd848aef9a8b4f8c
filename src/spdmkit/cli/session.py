"""`spdm session`: open a secure session and carry lines or a file to a device that sends back."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from spdmkit.cli import failure
from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.connecting import (
    algorithms_option,
    key_log,
    pre_shared_key,
    versions_option,
)
from spdmkit.cli.judging import moment_option
from spdmkit.cli.keys import VARIABLE, passphrase_option
from spdmkit.cli.options import common, example
from spdmkit.cli.passphrase import passphrase_from
from spdmkit.cli.text import escaped
from spdmkit.errors import ConfigurationError, ProtocolViolation, TransportError
from spdmkit.protocol.settings import requester_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from spdmkit.sessions import Terms
    from spdmkit.sessions.blocking import Session

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
RECORD_SIZE = 60_000
"""Bytes of application data in a record: near the 65,516 that fit, with room for any binding."""
WINDOW = 32
"""Records of a file on their way at once."""
PATIENCE = 10.0
"""Seconds to wait for what a device sends back."""


@click.command(
    name="session",
    epilog=example(
        "echo hello | spdm session tcp://192.0.2.7 --trust-anchor root.pem",
        "spdm session tcp://192.0.2.7 --psk psk.toml --file firmware.bin",
    ),
)
@click.argument("uri")
@click.option("--trust-anchor", "anchors", type=_FILE, multiple=True, help="A device root.")
@click.option("--public-key", type=_FILE, help="The device's own key, instead of a root.")
@click.option("--psk", type=_FILE, help="A pre-shared key instead of either, TOML.")
@click.option(
    "--mutual",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Our own identity, a device's folder: authenticate both sides.",
)
@click.option(
    "--expect-identity",
    "identities",
    multiple=True,
    help="SAN, serial:HEX or spki-sha256:HEX that the device must have.",
)
@click.option("--slot", type=click.IntRange(0, 7), default=0, help="The device's slot.")
@click.option("--versions", help="SPDM versions to allow, 1.2 and newer by default.")
@click.option("--algorithms", help="Short names of the algorithms to allow.")
@click.option("--time", "moment", help="Judge certificates at this time instead of now.")
@click.option("--file", "source", type=_FILE, help="Carry this file instead of lines from stdin.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Keep what comes back."
)
@click.option(
    "--record-size",
    type=click.IntRange(1, 65_000),
    default=RECORD_SIZE,
    show_default=True,
    help="With --file: bytes in one record.",
)
@click.option(
    "--poll",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Seconds after which an idle session asks what the device wants; 0 never.",
)
@passphrase_option
@capture_option
@common
def command(uri: str, capture: Capture, as_json: bool, verbose: bool, **options: Any) -> int:
    """Open a secure session with the device at URI, and carry data to it and back.

    Lines from stdin go one by one, and what comes back is printed. With --file a file goes in
    records, and what comes back must be the same. Secrets go to SPDMKEYLOGFILE when that is set.
    """
    from spdmkit.sessions import blocking

    if options["output"] is not None and options["source"] is None:
        raise ConfigurationError("--output goes with --file")
    terms = _terms(options)
    with blocking.open_session(uri, terms, tap=capture.dialled) as session:
        about = _about(uri, session)
        if verbose:
            for name, value in about.items():
                click.echo(f"{name}: {value}", err=True)
        if options["source"] is not None:
            carried = _carry_file(session, options)
        else:
            carried = _carry_lines(session, quiet=as_json)
    _show(about, carried, as_json=as_json)
    return 0 if carried.came_back is not False else failure.NOT_DONE


def _terms(options: dict[str, Any]) -> Terms:
    """What to open the session on.

    Raises:
        ConfigurationError: an option or a file is wrong, or two contradict each other.
    """
    from spdmkit.attestation.verification import DeviceTrust
    from spdmkit.identity import Purpose, TrustAnchors, TrustedPublicKey
    from spdmkit.sessions import Terms

    anchors, public_key, psk = options["anchors"], options["public_key"], options["psk"]
    if bool(anchors) + (public_key is not None) + (psk is not None) != 1:
        raise ConfigurationError(
            "give one of --trust-anchor, --public-key and --psk",
            hint="a device made by `spdm device init DIR` has DIR/trust-anchor.pem",
        )
    if psk is not None and (options["mutual"] is not None or options["identities"]):
        raise ConfigurationError("a pre-shared key proves no certificate, on neither side")
    trust = None
    if psk is None:
        trust = DeviceTrust(
            moment_option(options["moment"]),
            TrustAnchors.from_files(anchors, Purpose.DEVICE) if anchors else None,
            TrustedPublicKey.from_file(public_key) if public_key is not None else None,
        )
    credentials = None
    if options["mutual"] is not None:
        from spdmkit.device.folder import FolderDevice

        passphrase = passphrase_from(options["passphrase_file"], VARIABLE)
        credentials = FolderDevice.load(options["mutual"], passphrase).credentials
    settings = requester_settings(
        versions=versions_option(options["versions"]),
        algorithms=algorithms_option(options["algorithms"]),
        sessions=psk is None,
        psk=psk is not None,
        credentials=credentials,
    )
    return Terms(
        trust,
        None if psk is None else pre_shared_key(psk),
        credentials,
        slot=options["slot"],
        identities=options["identities"],
        settings=settings,
        poll_interval=options["poll"],
        secrets=key_log(),
    )


def _about(uri: str, session: Session) -> dict[str, Any]:
    """The session, in words."""
    state = session.opened.link.connection
    peer = session.peer
    return {
        "target": uri,
        "spdm_version": f"{state.version >> 4}.{state.version & 0xF}",
        "algorithms": state.algorithms.names(),
        "session": f"0x{session.opened.session.session_id:08x}",
        "identity": {"kind": peer.kind, "name": peer.identity},
        "mutual": bool(session.opened.session.mutual) or peer.kind == "psk",
        "heartbeat_period": session.opened.session.heartbeat_period,
    }


@dataclass(slots=True)
class _Carried:
    """What went and what came.

    Attributes:
        came_back: the device sent back what it got; None when that was not to be seen.
        lines: with lines: each, and its answer.
    """

    sent: int = 0
    received: int = 0
    records: int = 0
    seconds: float = 0.0
    came_back: bool | None = None
    lines: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Bytes a second, one way."""
        return self.sent / self.seconds if self.seconds else 0.0


# --- lines ---------------------------------------------------------------------------------------


def _carry_lines(session: Session, *, quiet: bool) -> _Carried:
    """Each line of stdin to the device, and what it sends back to stdout."""
    carried = _Carried()
    started = time.perf_counter()
    for line in sys.stdin.buffer:
        data = line.rstrip(b"\r\n")
        session.send(data)
        answer = session.receive(PATIENCE)
        carried.records += 1
        carried.sent += len(data)
        carried.received += len(answer or b"")
        shown = None if answer is None else escaped(answer.decode("utf-8", "backslashreplace"))
        if quiet:
            said = escaped(data.decode("utf-8", "backslashreplace"))
            carried.lines.append({"sent": said, "received": shown})
        elif shown is None:
            failure.say(f"no answer within {PATIENCE:g} s")
        else:
            click.echo(shown)
    carried.seconds = time.perf_counter() - started
    return carried


# --- a file --------------------------------------------------------------------------------------


def _carry_file(session: Session, options: dict[str, Any]) -> _Carried:
    """A file to the device in records, a window of them on their way at once."""
    source: Path = options["source"]
    carried = _Carried()
    went, came = hashlib.sha256(), hashlib.sha256()
    with ExitStack() as stack:
        file = stack.enter_context(source.open("rb"))
        output: BinaryIO | None = None
        if options["output"] is not None:
            output = stack.enter_context(options["output"].open("wb"))
        bar = _progress(source)
        stack.enter_context(bar)

        def take() -> None:
            data = session.receive(PATIENCE)
            if data is None:
                raise TransportError(
                    f"the device sent nothing back for {PATIENCE:g} s",
                    hint="does it echo? `spdm device serve` does",
                )
            if carried.received + len(data) > carried.sent:
                raise ProtocolViolation("the device sent back more than it got")
            came.update(data)
            carried.received += len(data)
            bar.advance(len(data))
            if output is not None:
                output.write(data)

        started = time.perf_counter()
        for data in _records(file, options["record_size"]):
            session.send(data)
            went.update(data)
            carried.sent += len(data)
            carried.records += 1
            while carried.sent - carried.received > WINDOW * options["record_size"]:
                take()
        while carried.received < carried.sent:
            take()
        carried.seconds = time.perf_counter() - started
    carried.came_back = went.digest() == came.digest()
    return carried


def _records(file: BinaryIO, size: int) -> Iterator[bytes]:
    while data := file.read(size):
        yield data


class _Bar:
    """A progress bar on stderr, in bytes, with the rate."""

    def __init__(self, progress: Progress, total: int, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(escaped(name, limit=40), total=total)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, count: int) -> None:
        """So many more bytes came back."""
        self._progress.advance(self._task, count)


def _progress(source: Path) -> _Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    return _Bar(progress, source.stat().st_size, source.name)


# --- what is said of it --------------------------------------------------------------------------


def _show(about: dict[str, Any], carried: _Carried, *, as_json: bool) -> None:
    if as_json:
        document = {
            **about,
            "bytes_sent": carried.sent,
            "bytes_received": carried.received,
            "records": carried.records,
            "seconds": round(carried.seconds, 6),
            "bytes_per_second": round(carried.rate),
            "came_back_unchanged": carried.came_back,
        }
        if carried.lines:
            document["lines"] = carried.lines
        click.echo(json.dumps(document, indent=2))
        return
    if carried.came_back is not None:
        verdict = "came back unchanged" if carried.came_back else "did NOT come back as it went"
        click.echo(
            f"{carried.sent} bytes in {carried.records} records {verdict}: "
            f"{carried.rate / 1e6:.1f} MB/s",
        )
