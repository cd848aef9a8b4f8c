"""The words of a result: verdicts, results of measurements, and the result itself."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from spdmkit.identity import Outcome, Step

__all__ = ["AttestationResult", "MeasurementOutcome", "MeasurementResult", "Verdict"]


class Verdict(enum.StrEnum):
    """What a result says about a device."""

    TRUSTED = "trusted"
    """Authentic, and every required component was shown to be as it should."""
    UNTRUSTED = "untrusted"
    """A check failed."""
    NOT_APPRAISED = "not-appraised"
    """Authentic, but there are no reference values to judge its measurements by."""


class MeasurementOutcome(enum.StrEnum):
    """How one measurement compares with what it should be."""

    MATCH = "match"
    MISMATCH = "mismatch"
    NO_REFERENCE = "no-reference"
    NOT_REQUIRED = "not-required"
    STALE = "stale"
    """The only reference values for it are past their validity, or before it."""
    MALFORMED = "malformed"
    MISSING = "missing"
    """Required, and the device did not report it."""


@dataclass(frozen=True, slots=True)
class MeasurementResult:
    """One measurement, appraised.

    Attributes:
        index: measurement index.
        type: kind of measurement ("mutable-firmware"), or empty when it is missing.
        value: what the device reported: hexadecimal, or a number or text where the kind has one.
        result: how it compares.
        detail: why, for people.
        name: what the reference values or the policy call it.
        reference: the reference values it was compared with, or empty.
        expected: what they allow, for people; left out where the value is a match.
        digest: the value is a digest and not a raw bit stream.
        required: its match is needed for a verdict of trusted.
    """

    index: int
    type: str
    value: str
    result: MeasurementOutcome
    detail: str = ""
    name: str = ""
    reference: str = ""
    expected: tuple[str, ...] = ()
    digest: bool = False
    required: bool = False


EXIT_CODES: Final = {Verdict.TRUSTED: 0, Verdict.UNTRUSTED: 1, Verdict.NOT_APPRAISED: 4}


@dataclass(frozen=True, slots=True)
class AttestationResult:
    """What an appraisal found.

    Attributes:
        verdict: the decision.
        reasons: why it is not `trusted`, most weighty first; empty when it is.
        steps: what was checked, in order.
        measurements: one for each measurement, by index.
        spdm_version: "1.2", or empty when the evidence could not be read.
        algorithms: short names by kind.
        identity: claims of the device, or empty.
        chain_steps: what the check of the certificate chain consisted of.
        references: reference values that were used, as lines for people.
        facts: what a vendor profile read from the evidence.
        device_mode: states of the device mode block, or empty.
        policy: identifier of the policy.
        appraised_at: the time it was judged at, seconds since 1970.
        collected_at: when the evidence says it was collected, or None.
        target: address the evidence was collected from.
        transport: how.
        nonces: the verifier's nonces that signatures cover, hexadecimal.
        timings: seconds by part, where they were measured.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    steps: tuple[Step, ...]
    measurements: tuple[MeasurementResult, ...] = ()
    spdm_version: str = ""
    algorithms: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, object] = field(default_factory=dict)
    chain_steps: tuple[Step, ...] = ()
    references: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    device_mode: Mapping[str, list[str]] = field(default_factory=dict)
    policy: str = ""
    appraised_at: int = 0
    collected_at: int | None = None
    target: str = ""
    transport: str = ""
    nonces: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def exit_code(self, *, authenticate_only: bool = False) -> int:
        """What a command exits with.

        Args:
            authenticate_only: that the device is authentic is enough; a failed check still is none.
        """
        if authenticate_only and self.verdict is Verdict.NOT_APPRAISED:
            return 0
        return EXIT_CODES[self.verdict]

    def counts(self) -> dict[str, int]:
        """How many measurements have which result, those that occur."""
        found: dict[str, int] = {}
        for outcome in MeasurementOutcome:
            number = sum(each.result is outcome for each in self.measurements)
            if number:
                found[str(outcome)] = number
        return found

    def failed_steps(self) -> tuple[Step, ...]:
        """The steps that failed."""
        return tuple(step for step in self.steps if step.outcome is Outcome.FAILED)
