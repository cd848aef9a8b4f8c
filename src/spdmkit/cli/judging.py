"""What `attest` and `appraise` share: whom to believe, what to compare with, how to say it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.messages.context import V10

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.attestation.verification import DeviceTrust, VerifiedEvidence

__all__ = ["Judging", "finish", "judging_options"]

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)

_OPTIONS = (
    click.option("--trust-anchor", "anchors", type=_FILE, multiple=True, help="A device root."),
    click.option("--public-key", type=_FILE, help="The device's own key, instead of a root."),
    click.option("--reference", "references", type=_FILE, multiple=True, help="Reference values."),
    click.option(
        "--reference-anchor", type=_FILE, multiple=True, help="Root of signers of references."
    ),
    click.option(
        "--insecure-ignore-reference-expiry",
        is_flag=True,
        help="Accept references whose signers' certificates have ended.",
    ),
    click.option("--policy", type=_FILE, help="What is demanded, as TOML."),
    click.option(
        "--expect-identity",
        "identities",
        multiple=True,
        help="SAN, serial:HEX or spki-sha256:HEX that the device must have.",
    ),
    click.option("--crl", "crls", type=_FILE, multiple=True, help="A revocation list."),
    click.option("--ocsp", type=_FILE, multiple=True, help="An OCSP response."),
    click.option("--time", "moment", help="Judge at this time (ISO 8601) instead of now."),
    click.option(
        "--authenticate-only", is_flag=True, help="That the device is authentic is enough."
    ),
    click.option("--html", type=_OUT, help="Write a report for people."),
)


def judging_options(function: F) -> F:
    """The options of `Judging`, passed on as one keyword each."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(slots=True)
class Judging:
    """Whom and what a verdict goes by; the attributes are the options."""

    anchors: tuple[Path, ...]
    public_key: Path | None
    references: tuple[Path, ...]
    reference_anchor: tuple[Path, ...]
    insecure_ignore_reference_expiry: bool
    policy: Path | None
    identities: tuple[str, ...]
    crls: tuple[Path, ...]
    ocsp: tuple[Path, ...]
    moment: str | None
    authenticate_only: bool
    html: Path | None

    def now(self) -> int:
        """The time of the appraisal, seconds since 1970."""
        if self.moment is None:
            return int(time.time())
        try:
            at = dt.datetime.fromisoformat(self.moment)
        except ValueError:
            raise ConfigurationError(f"--time {self.moment!r} is not ISO 8601") from None
        return int((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp())

    def trust(self) -> DeviceTrust:
        """Whose keys are believed.

        Raises:
            ConfigurationError: neither an anchor nor a key is given, or both; or a file is wrong.
        """
        from spdmkit.attestation.policy_file import load_policy
        from spdmkit.attestation.verification import DeviceTrust
        from spdmkit.identity import Purpose, RevocationData, TrustAnchors, TrustedPublicKey

        policy_anchors: tuple[Path, ...] = ()
        if self.policy is not None:
            policy_anchors = load_policy(self.policy).identity.trust_anchors
        anchors = (*self.anchors, *policy_anchors)
        if bool(anchors) == (self.public_key is not None):
            raise ConfigurationError(
                "give one of --trust-anchor and --public-key",
                hint="a device made by `spdm device init DIR` has DIR/trust-anchor.pem",
            )
        revocation = RevocationData(
            crls=tuple(path.read_bytes() for path in self.crls),
            ocsp_responses=tuple(path.read_bytes() for path in self.ocsp),
        )
        return DeviceTrust(
            time=self.now(),
            anchors=TrustAnchors.from_files(anchors, Purpose.DEVICE) if anchors else None,
            public_key=TrustedPublicKey.from_file(self.public_key) if self.public_key else None,
            revocation=revocation,
        )

    def appraise(
        self,
        evidence: VerifiedEvidence,
        *,
        nonces: frozenset[bytes] = frozenset(),
        target: str = "",
        known_keys: Mapping[str, str] | None = None,
        bare: bool = False,
    ) -> AttestationResult:
        """The verdict.

        Args:
            evidence: verified.
            nonces: ours, when they are known.
            target: the address it came from.
            known_keys: target -> key that answered there before.
            bare: a pair of messages without its negotiation, as some devices' tools store it.
        """
        from spdmkit.attestation.appraiser import Expectations, appraise
        from spdmkit.attestation.policy import DEFAULT_POLICY
        from spdmkit.attestation.policy_file import load_policy
        from spdmkit.attestation.reference.loader import load_references
        from spdmkit.attestation.reference.signers import SignerCheck
        from spdmkit.identity import Purpose, TrustAnchors

        signers = None
        if self.reference_anchor:
            signers = TrustAnchors.from_files(self.reference_anchor, Purpose.REFERENCE_SIGNER)
        check = SignerCheck(
            signers, self.now(), ignore_expiry=self.insecure_ignore_reference_expiry
        )
        references = tuple(
            each for path in self.references for each in load_references(path, check)
        )
        expectations = Expectations(
            self.now(),
            nonces=nonces,
            identities=self.identities,
            target=target,
            known_keys=known_keys or {},
        )
        policy = load_policy(self.policy) if self.policy is not None else DEFAULT_POLICY
        if bare and self.policy is None:
            # Whoever hands over a bare pair of messages knows that no negotiation comes with it.
            rule = replace(policy.protocol, minimum_version=V10, accept_uncovered_negotiation=True)
            policy = replace(policy, protocol=rule)
        return appraise(evidence, expectations, policy=policy, references=references)

    def refused(
        self, error: AuthenticationError | DecodeError, target: str = ""
    ) -> AttestationResult:
        """The verdict on what is not authentic."""
        from spdmkit.attestation.appraiser import Expectations, refused

        return refused(error, Expectations(self.now()), target=target)


def finish(result: AttestationResult, judging: Judging, *, as_json: bool, verbose: bool) -> int:
    """Show a result, write what was asked for, and give the exit code."""
    from spdmkit.attestation.results.html import to_html
    from spdmkit.attestation.results.json_result import to_json
    from spdmkit.cli.report import show_result

    if judging.html is not None:
        judging.html.write_text(to_html(result), encoding="utf-8")
    if as_json:
        click.echo(to_json(result))
    else:
        show_result(result, verbose=verbose)
    return result.exit_code(authenticate_only=judging.authenticate_only)
