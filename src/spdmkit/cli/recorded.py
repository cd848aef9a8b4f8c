"""Recorded evidence as commands take it: our files, bare messages, and Redfish responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.attestation.evidence import Evidence

__all__ = ["Recorded", "recorded_options"]

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_OPTIONS = (
    click.argument("evidence", type=_FILE, required=False),
    click.option(
        "--measurements",
        type=_FILE,
        help="Bare GET_MEASUREMENTS and signed MEASUREMENTS, binary or hexadecimal.",
    ),
    click.option(
        "--redfish", type=_FILE, help="A response of Redfish SPDMGetSignedMeasurements, JSON."
    ),
    click.option(
        "--chain", type=_FILE, help="The certificates for --measurements or --redfish, PEM or DER."
    ),
)


def recorded_options(function: F) -> F:
    """The argument and the options of `Recorded`, passed on as one keyword each."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where evidence is; the attributes are the options, and the device's own key if it has one."""

    evidence: Path | None
    measurements: Path | None
    redfish: Path | None
    chain: Path | None
    public_key: Path | None = None

    @classmethod
    def taken(cls, options: dict[str, Any], public_key: Path | None = None) -> Recorded:
        """Take our options out of those of a command.

        Raises:
            ConfigurationError: not exactly one source is named, or it lacks its certificates.
        """
        names = ("evidence", "measurements", "redfish", "chain")
        made = cls(**{name: options.pop(name) for name in names}, public_key=public_key)
        given = [made.evidence, made.measurements, made.redfish]
        if sum(each is not None for each in given) != 1:
            raise ConfigurationError(
                "give one of an evidence file, --measurements FILE and --redfish FILE"
            )
        if made.evidence is not None and made.chain is not None:
            raise ConfigurationError("an evidence file holds its own chain: --chain is not for it")
        if made.measurements is not None and (made.chain is None) == (public_key is None):
            raise ConfigurationError("--measurements goes with one of --chain and --public-key")
        return made

    @property
    def bare(self) -> bool:
        """The messages may come without their negotiation."""
        return self.evidence is None

    @property
    def name(self) -> str:
        """What to call it in results."""
        return str(self.evidence or self.measurements or self.redfish)

    def read(self) -> Evidence:
        """The evidence, not verified.

        Raises:
            ConfigurationError: a file cannot be read, or holds no certificates.
            DecodeError: it is malformed.
        """
        from spdmkit.attestation.evidence import MAX_EVIDENCE_SIZE, Evidence
        from spdmkit.attestation.evidence_import import import_bare, import_redfish
        from spdmkit.attestation.files import read_bounded

        def content(path: Path | None) -> bytes:
            return b"" if path is None else read_bounded(path, 2 * MAX_EVIDENCE_SIZE)

        certificates = content(self.chain)
        if self.chain is not None:
            _check_chain(certificates)
        if self.evidence is not None:
            return Evidence.read(content(self.evidence))
        if self.redfish is not None:
            return import_redfish(content(self.redfish), certificates=certificates)
        key = None if self.chain is not None else self.public_key
        return import_bare(
            content(self.measurements),
            certificates=certificates,
            public_key=content(key),
            target=self.name,
        )


def _check_chain(certificates: bytes) -> None:
    """A damaged chain is damaged evidence, and no mistake of whoever hands it over."""
    from spdmkit.errors import DecodeError
    from spdmkit.identity import load_certificates, order_certificates

    try:
        order_certificates(load_certificates(certificates))
    except ConfigurationError as error:
        raise DecodeError("evidence", "certificates", 0, str(error)) from error
