"""`spdm provision`: put a certificate of our authority into a device's slot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.cli.ca import open_authority, passphrase_option
from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.connecting import (
    algorithms_option,
    pre_shared_key,
    requester_factory,
    versions_option,
)
from spdmkit.cli.options import common, example
from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    ResetRequired,
    SpdmError,
    TransportError,
)
from spdmkit.protocol.settings import requester_settings

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.identity import Step
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.provisioning.authority import CertificateAuthority
    from spdmkit.provisioning.flow import Job
    from spdmkit.provisioning.install import Installation, Order

__all__ = ["command"]

T = TypeVar("T")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_PAUSE = 1.0
"""Seconds between two attempts to reach a device that is being reset."""


@click.command(
    name="provision",
    epilog=example(
        "spdm provision tcp://192.0.2.7 --ca myca --slot 1 --trust-anchor root.pem --mutual me",
        "spdm provision tcp://192.0.2.7 --ca myca --slot 1 --trust-anchor root.pem --erase",
    ),
)
@click.argument("uri")
@click.option("--ca", "folder", type=_FOLDER, required=True, help="The authority that issues.")
@click.option("--slot", type=click.IntRange(0, 7), required=True, help="The slot.")
@click.option(
    "--trust-anchor", "anchors", type=_FILE, multiple=True, required=True, help="A device root."
)
@click.option("--mutual", type=_FOLDER, help="Our own identity, for the device to check.")
@click.option("--psk", type=_FILE, help="A pre-shared key to open the session by.")
@click.option(
    "--trusted-environment", is_flag=True, help="Without a session: on a production line only."
)
@click.option("--reference", "references", type=_FILE, multiple=True, help="Reference values.")
@click.option("--policy", type=_FILE, help="What is demanded of the device, as TOML.")
@click.option(
    "--expect-identity",
    "identities",
    multiple=True,
    help="SAN, serial:HEX or spki-sha256:HEX that the device must have.",
)
@click.option("--profile", default="", help="Issue by this profile of ca.toml.")
@click.option("--key-pair", type=click.IntRange(0, 255), default=0, help="KeyPairID (1.3).")
@click.option(
    "--overwrite-slot-0", is_flag=True, help="Consent to replace what the device came with."
)
@click.option("--erase", is_flag=True, help="Empty the slot instead (1.3).")
@click.option("--no-wishes", is_flag=True, help="Send GET_CSR without RequesterInfo.")
@click.option("--versions", help="SPDM versions to allow, 1.2 and newer by default.")
@click.option("--algorithms", help="Short names of the algorithms to allow.")
@click.option(
    "--reset-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a device that needs a reset.",
)
@passphrase_option
@capture_option
@common
def command(
    uri: str,
    as_json: bool,
    verbose: bool,
    capture: Capture,
    **options: Any,
) -> int:
    """Put a certificate into a slot of the device at URI.

    Attests slot 0, has the device make a signing request in a session with it, issues, stores the
    chain, reads it back, and challenges the new slot.
    """
    from spdmkit.provisioning.install import Order

    job = _job(options)
    reach = _Reach(uri, options, capture)
    if options["erase"]:  # nothing is issued, so no passphrase is needed
        return _erase(reach, job, options["slot"], as_json=as_json, verbose=verbose)
    authority = open_authority(options["folder"], options["passphrase_file"])
    order = Order(
        options["slot"],
        consent_to_slot_0=options["overwrite_slot_0"],
        profile=options["profile"],
        key_pair_id=options["key_pair"],
        wishes=not options["no_wishes"],
        target=uri,
    )
    result, made = _install(reach, authority, order, job)
    _show(result, made.steps, _about(made), as_json=as_json, verbose=verbose)
    return 0


class _Reach:
    """Connections to one device, a new one for each call."""

    def __init__(self, uri: str, options: dict[str, Any], capture: Capture) -> None:
        credentials = None
        if options["mutual"] is not None:
            from spdmkit.device.folder import FolderDevice

            credentials = FolderDevice.load(options["mutual"]).credentials
        settings = requester_settings(
            versions=versions_option(options["versions"]),
            algorithms=algorithms_option(options["algorithms"]),
            sessions=not options["trusted_environment"],
            psk=options["psk"] is not None,
            credentials=credentials,
        )
        self.uri = uri
        self.patience: float = options["reset_timeout"]
        self._factory = requester_factory(settings, credentials=credentials)
        self._capture = capture

    def run(self, exchange: Callable[[Link], Exchange[T]]) -> T:
        """Connect, run an exchange, and close."""
        from spdmkit.protocol.link import Link
        from spdmkit.transports.blocking import connect

        with connect(self.uri, self._factory, tap=self._capture.dialled) as connection:
            return connection.run(exchange(Link(connection.endpoint.connection)))

    def after_reset(self, exchange: Callable[[Link], Exchange[T]], *, shows: bool = False) -> T:
        """As `run`, as soon as the device is there again.

        Args:
            exchange: what to run.
            shows: it reads back what the device may show only once it was reset.
        """
        click.echo(f"waiting for {self.uri} to be reset ...", err=True)
        until = time.monotonic() + self.patience
        while True:
            time.sleep(_PAUSE)
            try:
                return self.run(exchange)
            except (TransportError, ResetRequired, AuthenticationError) as error:
                if isinstance(error, AuthenticationError) and (
                    not shows or error.step != "read-back"
                ):
                    raise
                if time.monotonic() < until:
                    continue
                raise DeadlineExceeded(
                    f"the device was not reset within {self.patience:g} seconds: {error}",
                    hint="reset it and run the same command again",
                ) from error


def _job(options: dict[str, Any]) -> Job:
    from spdmkit.attestation.verifier import Sources, Verifier
    from spdmkit.provisioning.flow import Access, Job

    ways = (options["psk"], options["mutual"], options["trusted_environment"] or None)
    if sum(way is not None for way in ways) > 1:
        raise ConfigurationError("give one of --mutual, --psk and --trusted-environment")
    sources = Sources(
        policy=options["policy"],
        trust_anchors=options["anchors"],
        references=options["references"],
        identities=options["identities"],
    )
    access = Access.SESSION
    if options["psk"] is not None:
        access = Access.PSK
    elif options["trusted_environment"]:
        access = Access.TRUSTED_ENVIRONMENT
    return Job(
        Verifier.from_files(sources),
        access,
        None if options["psk"] is None else pre_shared_key(options["psk"]),
        strict=bool(options["references"] or options["policy"]),
    )


def _install(
    reach: _Reach, authority: CertificateAuthority, order: Order, job: Job
) -> tuple[AttestationResult, Installation]:
    from spdmkit.provisioning.flow import provision, resume

    try:
        result, made = reach.run(lambda link: provision(link, authority, order, job))
    except ResetRequired as error:
        again = replace(order, tracking_tag=error.tracking_tag)
        result, made = reach.after_reset(lambda link: provision(link, authority, again, job))
    if made.awaits_reset:
        try:
            reach.after_reset(lambda link: resume(link, authority, made, job), shows=True)
        except SpdmError as error:
            authority.failed(made.issued, str(error))
            raise
    return result, made


def _erase(reach: _Reach, job: Job, slot: int, *, as_json: bool, verbose: bool) -> int:
    from spdmkit.provisioning.flow import erase_slot

    try:
        result, steps = reach.run(lambda link: erase_slot(link, slot, job, reach.uri))
    except ResetRequired as error:
        error.hint = "the device takes it; the slot is empty after its next reset"
        raise
    _show(result, steps, {"slot": slot, "erased": True}, as_json=as_json, verbose=verbose)
    return 0


def _about(made: Installation) -> dict[str, Any]:
    certificate = made.issued.certificate
    return {
        "slot": made.order.slot_id,
        "serial": f"{made.issued.serial:X}",
        "subject": certificate.subject,
        "profile": made.issued.profile.name,
        "spki_sha256": certificate.spki_sha256.hex(),
        "not_after": certificate.not_after.isoformat(),
        "chain_sha256": None
        if made.chain is None
        else made.chain.identity.certificate_sha256.hex(),
    }


def _show(
    result: AttestationResult,
    steps: list[Step] | tuple[Step, ...],
    about: dict[str, Any],
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    if as_json:
        from spdmkit.attestation.results.json_result import to_json

        done = [
            {"name": s.name, "outcome": str(s.outcome.value), "detail": s.detail} for s in steps
        ]
        document = {**about, "steps": done, "attestation": json.loads(to_json(result))}
        click.echo(json.dumps(document, indent=2))
        return
    from spdmkit.cli.report import show_pairs, show_result, show_table

    if verbose:
        show_result(result, verbose=True)
    pairs = {"attestation": str(result.verdict), **about}
    show_pairs((name.replace("_", " "), str(value)) for name, value in pairs.items())
    click.echo()
    rows = [(s.name, str(s.outcome.value), s.detail) for s in steps]
    show_table(("step", "outcome", "detail"), rows)
