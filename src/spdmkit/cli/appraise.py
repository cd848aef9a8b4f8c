"""`spdm appraise`: the same verdict from recorded evidence, with no device at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spdmkit.attestation.verifier import Verifier
from spdmkit.cli.connecting import versions_option
from spdmkit.cli.judging import Judging, judging_options
from spdmkit.cli.options import common, example
from spdmkit.cli.recorded import Recorded, recorded_options
from spdmkit.cli.results import Output, output_options
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    name="appraise",
    epilog=example(
        "spdm appraise evidence.cbor --trust-anchor root.pem --reference reference.json",
        "spdm appraise --measurements report.hex --chain chain.pem --trust-anchor root.pem",
        "spdm appraise --redfish response.json --chain chain.pem --trust-anchor root.pem",
    ),
)
@recorded_options
@judging_options
@click.option("--nonce", "nonces", multiple=True, help="A nonce that we sent, hexadecimal.")
@click.option(
    "--collector",
    "collectors",
    type=_FILE,
    multiple=True,
    help="Public key of a verifier that is believed when it says when it collected evidence.",
)
@click.option("--versions", help="SPDM versions to accept, 1.2 and newer by default.")
@output_options
@common
def command(as_json: bool, verbose: bool, **options: Any) -> int:
    """Judge recorded EVIDENCE, offline: the verdict that attesting the device would have given."""
    judging = Judging.taken(options)
    output = Output.taken(options, as_json=as_json, verbose=verbose)
    recorded = Recorded.taken(options, judging.public_key)
    versions = versions_option(options["versions"])
    verifier = Verifier.from_files(
        judging.sources(
            bare=recorded.bare,
            collectors=options["collectors"],
            minimum_version=min(versions) if versions else None,
        )
    )
    nonces = frozenset(map(parse_nonce, options["nonces"]))
    try:
        evidence = recorded.read()
    except (AuthenticationError, DecodeError) as error:
        result = verifier.refused(error, judging.now(), target=recorded.name)
    else:
        result = verifier.appraise_evidence(evidence, judging.now(), nonces=nonces)
    output.show(result)
    return result.exit_code(authenticate_only=judging.authenticate_only)


def parse_nonce(text: str) -> bytes:
    """`--nonce`: 32 bytes in hexadecimal.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if len(nonce) != 32:
        raise ConfigurationError("--nonce is not 32 bytes in hexadecimal")
    return nonce
