"""What `spdm verifier` does: options to a service, reports to lines and files, signals."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.attestation.files import write_atomic
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.cli import failure
from spdmkit.cli.connecting import (
    algorithms_option,
    key_log,
    pre_shared_key,
    versions_option,
)
from spdmkit.cli.keys import load_private_key
from spdmkit.cli.serving import responder_factory
from spdmkit.cli.text import escaped
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError, SpdmError
from spdmkit.identity import ChainCache
from spdmkit.messages.dsp0287 import ServiceId
from spdmkit.protocol.settings import requester_settings
from spdmkit.services.catalogue import service_named, services_named
from spdmkit.services.listening import Report, VerifierService
from spdmkit.services.provider import Provider, gifts_from

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey
    from spdmkit.services.provider import Gift, Provisioner
    from spdmkit.transports.conduit import TapFactory
    from spdmkit.transports.server import Listener, ListenerEvent

__all__ = ["Options", "Recorder", "as_document", "exit_code", "serve", "service"]

_VERDICT_CODES = {"trusted": 0, "none": 0, "not-appraised": 4, "untrusted": 1}


@dataclass(slots=True)
class Options:
    """The options of `spdm verifier`."""

    anchors: tuple[Path, ...]
    public_key: Path | None
    references: tuple[Path, ...]
    reference_anchor: tuple[Path, ...]
    reference_store: Path | None
    policy: Path | None
    crls: tuple[Path, ...]
    ocsp: tuple[Path, ...]
    no_chain_cache: bool
    give_reference: tuple[Path, ...]
    give_policy: Path | None
    identities: tuple[str, ...]
    ca: Path | None
    mutual: Path | None
    psks: tuple[Path, ...]
    services: tuple[str, ...]
    default_service: str
    session_each: bool
    versions: str | None
    algorithms: str | None
    results: Path | None
    collector_key: Path | None
    passphrase_file: Path | None
    trusted_environment: bool

    def provider(self, *, watch: float | None) -> Provider:
        """What devices are offered.

        Raises:
            ConfigurationError: an option or a file is wrong.
        """
        verifier = Verifier.from_files(
            Sources(
                policy=self.policy,
                trust_anchors=self.anchors,
                public_key=self.public_key,
                references=self.references,
                reference_anchors=self.reference_anchor,
                store=self.reference_store,
                crls=self.crls,
                ocsp=self.ocsp,
                identities=self.identities,
            ),
            cache=None if self.no_chain_cache else ChainCache(),
        )
        policy = self.give_policy or self.policy
        word = self.default_service
        provider = Provider(
            verifier,
            services=(
                services_named(self.services)
                if self.services
                else frozenset(ServiceId) - {ServiceId.NONE}
            ),
            psks=tuple(pre_shared_key(path) for path in self.psks),
            gifts=self._gifts(),
            policy_document=b"" if policy is None else Provider.policy_file(policy),
            collector_key=self._collector_key(),
            provisioner=self._provisioner(),
            default_service=None if word == "none" else service_named(word),
            keep_session=not self.session_each,
            watch=watch,
        )
        provider.check()
        return provider

    def _collector_key(self) -> PrivateKey | None:
        if self.collector_key is None:
            return None
        if self.results is None:
            raise ConfigurationError("--collector-key signs evidence: give --results too")
        return load_private_key(self.collector_key)

    def _provisioner(self) -> Provisioner | None:
        """The authority in a folder, as `spdm ca init` makes it."""
        if self.ca is None:
            return None
        from spdmkit.cli.ca import open_authority
        from spdmkit.provisioning.serving import ServiceProvisioner

        return ServiceProvisioner(
            open_authority(self.ca, self.passphrase_file),
            trusted_environment=self.trusted_environment,
        )

    def _gifts(self) -> tuple[Gift, ...]:
        """What is to be given has to be giveable; what only judges may be in any format."""
        if self.give_reference:
            return gifts_from(self.give_reference)
        found: list[Gift] = []
        for path in self.references:
            try:
                found += gifts_from([path])
            except (ConfigurationError, DecodeError, AuthenticationError) as error:
                failure.say(f"not given to devices: {error}")
        return tuple(found)


def service(
    options: Options, recorder: Recorder, *, watch: float | None, at_once: int = 32
) -> VerifierService:
    """The service that the options describe.

    Raises:
        ConfigurationError: an option or a file is wrong.
    """
    credentials = None
    if options.mutual is not None:
        from spdmkit.device.folder import FolderDevice

        credentials = FolderDevice.load(options.mutual).credentials
    settings = requester_settings(
        sessions=True,
        credentials=credentials,
        psk=bool(options.psks),
        versions=versions_option(options.versions),
        algorithms=algorithms_option(options.algorithms),
    )
    events = key_log()
    return VerifierService(
        options.provider(watch=watch),
        settings,
        credentials=credentials,
        on_report=recorder,
        at_once=at_once,
        events=events,
        log_keys=events is not None,
    )


@dataclass(slots=True)
class Recorder:
    """Takes reports: a line each on stdout, and files, which a thread of its own writes.

    Attributes:
        results: folder for a file of each device, or None.
        as_json: lines are JSON.
        verbose: say more on stderr.
        quiet: no lines.
    """

    results: Path | None
    as_json: bool
    verbose: bool
    quiet: bool = False
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    # Whoever is being served must not wait for a disk.
    _writer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "spdm-results")
    )

    def close(self) -> None:
        """Wait until every file is written."""
        self._writer.shutdown()

    def __call__(self, report: Report) -> None:
        """A device's connection is over."""
        if self.results is not None:
            self._writer.submit(self._store, report)
        if self.as_json:
            click.echo(json.dumps(report.as_dict()))
        elif not self.quiet:
            click.echo(line(report))
        if self.verbose:
            for correction in report.corrections:
                failure.say(f"{report.peer}: sent back: {escaped(correction)}")

    def _store(self, report: Report) -> None:
        folder = self.results
        if folder is None:
            return
        try:
            self._write(report, folder)
        except (SpdmError, OSError) as error:
            failure.say(f"a result was not kept: {error}")

    def _write(self, report: Report, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(report.began))
        peer = re.sub(r"[^0-9A-Za-z.]+", "-", report.peer).strip("-")
        stem = f"{moment}-{peer}-{next(self._numbers)}"
        document = json.dumps(report.as_dict(whole=True), indent=2)
        write_atomic(folder / f"{stem}.json", document.encode())
        if report.evidence:
            write_atomic(folder / f"{stem}.cbor", report.evidence)


def line(report: Report) -> str:
    """A report in one line for people."""
    name = report.identity
    who = str(name.get("san") or name.get("subject") or name.get("psk_hint") or "unknown")
    done = ", ".join(each.service for each in report.services) or "nothing"
    text = f"{report.peer}  {report.verdict:13}  {escaped(who)}  {done}  {report.seconds:.2f} s"
    return text if report.error is None else f"{text}  {escaped(str(report.error))}"


def as_document(report: Report | BaseException, uri: str) -> dict[str, Any]:
    """What `verifier dial --json` prints of one device."""
    if isinstance(report, Report):
        return report.as_dict(whole=True)
    return {"peer": uri, "verdict": "none", "services": [], "error": str(report)}


def exit_code(report: Report | BaseException) -> int:
    """What a command exits with for one device."""
    if isinstance(report, SpdmError):
        failure.say(str(report))
        return report.exit_code
    if isinstance(report, BaseException):
        raise report
    if report.error is not None and not isinstance(report.error, AuthenticationError):
        return report.error.exit_code
    return _VERDICT_CODES[report.verdict]


async def serve(
    verifier: VerifierService,
    uris: Sequence[str],
    *,
    device: Path | None,
    ready: Callable[[Listener], None],
    happened: Callable[[ListenerEvent], None],
    tap: TapFactory | None,
) -> None:
    """Serve until SIGINT or SIGTERM; who is being served then is finished within a few seconds."""
    responder = None
    if device is not None:
        from spdmkit.device.folder import FolderDevice
        from spdmkit.services.desk import ServiceDesk

        served = FolderDevice.load(device)
        served.register_vendor(ServiceDesk(served))
        responder = responder_factory(served)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listeners: list[Listener] = []
    try:
        for uri in uris:
            listener = await verifier.listen(uri, responder=responder, on_event=happened, tap=tap)
            listeners.append(listener)
            ready(listener)
        await stop.wait()
    finally:
        await asyncio.gather(*(listener.close() for listener in listeners))
