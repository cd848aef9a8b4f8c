"""What `attest` and `appraise` share: whom to believe, what to demand, what to compare with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.attestation.verifier import Sources

__all__ = ["STORE_VARIABLE", "Judging", "default_store", "judging_options", "moment_option"]

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

STORE_VARIABLE = "SPDM_REFERENCE_STORE"
"""Environment variable with the folder of the reference store."""
_NO_STORE = "none"

_OPTIONS = (
    click.option("--trust-anchor", "anchors", type=_FILE, multiple=True, help="A device root."),
    click.option("--public-key", type=_FILE, help="The device's own key, instead of a root."),
    click.option(
        "--expect-identity",
        "identities",
        multiple=True,
        help="SAN, serial:HEX or spki-sha256:HEX that the device must have.",
    ),
    click.option("--reference", "references", type=_FILE, multiple=True, help="Reference values."),
    click.option(
        "--reference-store",
        help="Folder of reference values to choose from by identity, or `none`. Default: "
        f"${STORE_VARIABLE}, else that of `spdm reference`, when no --reference is given.",
    ),
    click.option(
        "--reference-anchor", type=_FILE, multiple=True, help="Root of signers of references."
    ),
    click.option(
        "--insecure-ignore-reference-expiry",
        is_flag=True,
        help="Accept references whose signers' certificates have ended.",
    ),
    click.option("--policy", type=_FILE, help="What is demanded, as TOML."),
    click.option("--max-age", help="How old evidence may be, like 10m or 24h."),
    click.option("--crl", "crls", type=_FILE, multiple=True, help="A revocation list."),
    click.option("--ocsp", type=_FILE, multiple=True, help="An OCSP response."),
    click.option("--time", "moment", help="Judge at this time (RFC 3339) instead of now."),
    click.option(
        "--authenticate-only", is_flag=True, help="That the device is authentic is enough."
    ),
)


def judging_options(function: F) -> F:
    """The options of `Judging`, passed on as one keyword each."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def default_store() -> Path:
    """The folder of reference values of this user, whether it exists or not."""
    named = os.environ.get(STORE_VARIABLE)
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "spdmkit" / "references"


def moment_option(text: str | None) -> int:
    """`--time` as seconds since 1970; now, when it is not given.

    Raises:
        ConfigurationError: it is no time.
    """
    from spdmkit.attestation.dates import parse_time

    if text is None:
        return int(time.time())
    try:
        return parse_time(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"--time: {error}", hint=error.hint) from None


@dataclass(slots=True)
class Judging:
    """Whom and what a verdict goes by; the attributes are the options."""

    anchors: tuple[Path, ...]
    public_key: Path | None
    identities: tuple[str, ...]
    references: tuple[Path, ...]
    reference_store: str | None
    reference_anchor: tuple[Path, ...]
    insecure_ignore_reference_expiry: bool
    policy: Path | None
    max_age: str | None
    crls: tuple[Path, ...]
    ocsp: tuple[Path, ...]
    moment: str | None
    authenticate_only: bool

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Judging:
        """Take our options out of those of a command."""
        return cls(**{each.name: options.pop(each.name) for each in fields(cls)})

    def now(self) -> int:
        """The time of the appraisal, seconds since 1970."""
        return moment_option(self.moment)

    def sources(
        self,
        *,
        psk: bool = False,
        bare: bool = False,
        collectors: tuple[Path, ...] = (),
        minimum_version: int | None = None,
    ) -> Sources:
        """What a `Verifier` is made of.

        Args:
            psk: devices are known by a pre-shared key.
            bare: messages without their negotiation are at hand.
            collectors: public keys of verifiers whose word on time counts.
            minimum_version: lowest SPDM version that `--versions` names.

        Raises:
            ConfigurationError: an option is malformed.
        """
        from spdmkit.attestation.dates import duration_seconds
        from spdmkit.attestation.verifier import Sources

        store, fallback = self.reference_store, default_store()
        return Sources(
            policy=self.policy,
            trust_anchors=self.anchors,
            public_key=self.public_key,
            pre_shared_key=psk,
            references=self.references,
            reference_anchors=self.reference_anchor,
            store=None if store in (None, _NO_STORE) else Path(str(store)),
            fallback_store=fallback if store is None and fallback.is_dir() else None,
            crls=self.crls,
            ocsp=self.ocsp,
            collectors=collectors,
            identities=self.identities,
            ignore_reference_expiry=self.insecure_ignore_reference_expiry,
            max_age=None if self.max_age is None else duration_seconds(self.max_age),
            minimum_version=minimum_version,
            bare=bare,
        )
