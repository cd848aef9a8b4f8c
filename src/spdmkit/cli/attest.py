"""`spdm attest`: who is this device, and does it run what it should?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit import __version__
from spdmkit.attestation.collect import Wanted, collect, collect_psk
from spdmkit.attestation.files import write_atomic
from spdmkit.attestation.known_devices import KnownDevices
from spdmkit.attestation.verification import EvidenceError
from spdmkit.cli.capturing import capture_option
from spdmkit.cli.connecting import (
    algorithms_option,
    pre_shared_key,
    requester_factory,
    requester_settings,
    versions_option,
)
from spdmkit.cli.judging import Judging, finish, judging_options
from spdmkit.cli.options import common, example
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.protocol.link import Link
from spdmkit.transports.blocking import connect

if TYPE_CHECKING:
    from spdmkit.attestation.collect import Collected
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.attestation.verification import DeviceTrust

__all__ = ["command"]

PROVISIONED_KEY = 0xFF
_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command(
    name="attest",
    epilog=example(
        "spdm attest tcp://192.0.2.7 --trust-anchor root.pem --reference reference.json",
        "spdm attest tcp://[2001:db8::7]:4194 --trust-anchor root.pem --session",
    ),
)
@click.argument("uri")
@judging_options
@click.option("--slot", type=click.IntRange(0, 7), default=0, show_default=True, help="The slot.")
@click.option("--versions", help="SPDM versions to allow, 1.2 and newer by default.")
@click.option("--algorithms", help="Short names of the algorithms to allow.")
@click.option("--session", is_flag=True, help="Read the measurements inside a session.")
@click.option("--mutual", type=click.Path(exists=True, path_type=Path), help="Our own identity.")
@click.option("--psk", type=_PATH, help="A pre-shared key to open a session by.")
@click.option("--raw", is_flag=True, help="Ask for raw measurements instead of digests.")
@click.option("--known-devices", type=_PATH, help="Keys that targets had before.")
@click.option("--remember", is_flag=True, help="Add a new target to --known-devices.")
@click.option("--evidence", type=_PATH, help="Keep the evidence in this file.")
@capture_option
@common
def command(uri: str, as_json: bool, verbose: bool, **options: Any) -> int:
    """Attest the device at URI: who it is, what it runs, and whether that is what it should be."""
    judging = Judging(**{name: options.pop(name) for name in Judging.__dataclass_fields__})
    if options["psk"] is not None:
        return _by_pre_shared_key(uri, judging, options, as_json=as_json)
    trust = judging.trust()
    known = KnownDevices.load(options["known_devices"]) if options["known_devices"] else None
    started = time.perf_counter()
    try:
        collected = _collect(uri, trust, options, by_key=judging.public_key is not None)
        verified = collected.verified(trust)
    except (EvidenceError, AuthenticationError) as error:
        return finish(judging.refused(error, uri), judging, as_json=as_json, verbose=verbose)
    except DecodeError:
        raise  # a malformed live message says nothing of the device's trustworthiness
    if options["evidence"] is not None:
        _keep(options["evidence"], collected)
    result = judging.appraise(
        verified,
        nonces=frozenset(verified.nonces),
        target=uri,
        known_keys=known.keys if known else {},
    )
    if known is not None and options["remember"] and uri not in known.keys:
        known.remember(uri, collected.proof.key.public_key.spki_sha256().hex())
        known.save(options["known_devices"])
    result = _timed(result, time.perf_counter() - started)
    return finish(result, judging, as_json=as_json, verbose=verbose)


def _collect(
    uri: str,
    trust: DeviceTrust,
    options: dict[str, Any],
    *,
    by_key: bool,
) -> Collected:
    credentials = None
    if options["mutual"] is not None:
        from spdmkit.device.folder import FolderDevice

        credentials = FolderDevice.load(options["mutual"]).credentials
    settings = requester_settings(
        versions=versions_option(options["versions"]),
        algorithms=algorithms_option(options["algorithms"]),
        sessions=options["session"] or credentials is not None,
        credentials=credentials,
    )
    wanted = Wanted(
        slot=PROVISIONED_KEY if by_key else options["slot"],
        session=options["session"] or credentials is not None,
        raw=options["raw"],
        target=uri,
        transport=uri.partition(":")[0],
        collector=f"spdmkit {__version__}",
        now=int(time.time()),
    )
    factory = requester_factory(settings, credentials=credentials)
    with connect(uri, factory, tap=options["capture"].dialled) as connection:
        link = Link(connection.endpoint.connection)
        return connection.run(collect(link, trust, wanted))


def _keep(path: Path, collected: Collected) -> None:
    evidence = collected.evidence
    as_text = path.suffix == ".json"
    write_atomic(path, evidence.to_json() if as_text else evidence.to_cbor())


def _timed(result: AttestationResult, seconds: float) -> AttestationResult:
    from dataclasses import replace

    return replace(result, timings={**result.timings, "total": round(seconds, 6)})


def _by_pre_shared_key(
    uri: str, judging: Judging, options: dict[str, Any], *, as_json: bool
) -> int:
    """A session by pre-shared key: authentic by the key, named by its hint and nothing else."""
    import json

    from spdmkit.attestation.blocks import Block
    from spdmkit.cli.report import show_pairs

    if judging.anchors or judging.public_key is not None:
        raise ConfigurationError("give one of --trust-anchor, --public-key and --psk")
    psk = pre_shared_key(options["psk"])
    settings = requester_settings(
        versions=versions_option(options["versions"]),
        algorithms=algorithms_option(options["algorithms"]),
        psk=True,
    )
    with connect(uri, requester_factory(settings), tap=options["capture"].dialled) as connection:
        state = connection.endpoint.connection
        found = connection.run(collect_psk(Link(state), psk, Wanted(raw=options["raw"])))
        version = f"{state.version >> 4}.{state.version & 0xF}"
        algorithms = state.algorithms.names()
    hint = found.hint.decode("utf-8", "backslashreplace")
    blocks = [Block.read(each) for each in found.blocks]
    document = {
        "verdict": "not-appraised",
        "spdm_version": version,
        "algorithms": algorithms,
        "identity": {"psk_hint": hint},
        "measurements": [
            {
                "index": block.index,
                "type": block.label,
                "value": block.value.hex(),
                "result": "no-reference",
            }
            for block in blocks
        ],
        "steps": [
            {"name": "session", "outcome": "passed", "detail": f"pre-shared key {hint!r}"},
            {"name": "chain", "outcome": "skipped", "detail": "a PSK proves no certificate"},
        ],
        "timings": {},
    }
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        show_pairs(
            [("target", uri), ("SPDM", version), ("pre-shared key", hint)]
            + [
                (f"measurement {block.index}", f"{block.label} {block.value.hex()}")
                for block in blocks
            ]
            + [("verdict", "not-appraised: authentic by the pre-shared key")]
        )
    return 0 if judging.authenticate_only else 4
