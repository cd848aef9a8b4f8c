"""`spdm appraise`: the same verdict from recorded evidence, with no device at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spdmkit.attestation.evidence import MAX_EVIDENCE_SIZE, Evidence
from spdmkit.attestation.evidence_import import import_bare
from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.verification import EvidenceError, verify_evidence
from spdmkit.cli.judging import Judging, finish, judging_options
from spdmkit.cli.options import common, example
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    name="appraise",
    epilog=example(
        "spdm appraise evidence.cbor --trust-anchor root.pem --reference reference.json",
        "spdm appraise --measurements report.hex --chain chain.pem --trust-anchor root.pem",
    ),
)
@click.argument("evidence", type=_FILE, required=False)
@judging_options
@click.option("--measurements", type=_FILE, help="GET_MEASUREMENTS and its signed MEASUREMENTS.")
@click.option("--chain", type=_FILE, help="The certificates for --measurements, PEM.")
@click.option("--nonce", "nonces", multiple=True, help="The nonce we sent, hexadecimal.")
@common
def command(
    evidence: Path | None,
    measurements: Path | None,
    chain: Path | None,
    nonces: tuple[str, ...],
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Judge recorded evidence, offline."""
    judging = Judging(**options)
    trust = judging.trust()
    try:
        found = _read(evidence, measurements, chain, judging)
        verified = verify_evidence(found, trust)
    except (EvidenceError, AuthenticationError, DecodeError) as error:
        return finish(judging.refused(error), judging, as_json=as_json, verbose=verbose)
    result = judging.appraise(
        verified, nonces=frozenset(map(_nonce, nonces)), bare=measurements is not None
    )
    return finish(result, judging, as_json=as_json, verbose=verbose)


def _read(
    evidence: Path | None, measurements: Path | None, chain: Path | None, judging: Judging
) -> Evidence:
    if (evidence is None) == (measurements is None):
        raise ConfigurationError("give an evidence file, or --measurements with --chain")
    if evidence is not None:
        return Evidence.read(read_bounded(evidence, MAX_EVIDENCE_SIZE))
    if measurements is None or (chain is None) == (judging.public_key is None):
        raise ConfigurationError("--measurements goes with one of --chain and --public-key")
    data = read_bounded(measurements, 2 * MAX_EVIDENCE_SIZE)
    if chain is not None:
        certificates = read_bounded(chain, MAX_EVIDENCE_SIZE)
        return import_bare(data, certificates=certificates, target=str(measurements))
    key = judging.public_key
    content = key.read_bytes() if key is not None else b""
    return import_bare(data, public_key=content, target=str(measurements))


def _nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError(f"--nonce {text!r} is not hexadecimal") from None
