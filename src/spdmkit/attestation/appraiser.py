"""Is the device as it should be? Verified evidence, reference values and a policy give a result.

The steps, after those of `verification`:

 9. identity             the device is the one that was expected
10. nonce                the evidence answers our nonce
11. freshness            it is not older than allowed, by a time somebody vouches for
12. content              measurements did not change while they were read
13. measurement-summary  the summary hash that was signed is that of the blocks at hand
14. measurement-log      the log leads to the hash-extend measurements that were signed
15. policy               the policy is valid
16. version, algorithms  what was negotiated is above the policy's floors
17. evidence             parts that the policy demands are there
18. reference-signature  whoever signed reference values may
19. references           there are values for this device, and they do not contradict each other
20. release              the values are for the release the device reports
21. measurements         every measurement compared
22. components           what is required is there and matches
23. device-mode          no debug mode, and a normal operational state
24. security-version     no component below its floor
25. the policy's own rules, if any

The verdict is `trusted` only when no step failed, the signed part covers the negotiation, at least
one measurement matches a reference value, and every measurement that is required does. It never
comes from something that is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spdmkit.attestation.blocks import Block
from spdmkit.attestation.checks import CHECKS, Expectations, Matter, check_device_mode
from spdmkit.attestation.comparison import compare, describe_allowed, describe_value
from spdmkit.attestation.outcome import (
    AttestationResult,
    MeasurementOutcome,
    MeasurementResult,
    Verdict,
)
from spdmkit.attestation.policy import DEFAULT_POLICY, Component, Policy, WhenMissing
from spdmkit.attestation.reference.loader import Reference
from spdmkit.attestation.reference.store import RejectedReference
from spdmkit.attestation.resolution import Expected, resolve
from spdmkit.attestation.rules import Finding, SvnAtLeast
from spdmkit.attestation.verification import EvidenceError, VerifiedEvidence
from spdmkit.errors import AuthenticationError, DecodeError
from spdmkit.identity import ChainError, Outcome, Step, safe_text
from spdmkit.messages import MEASUREMENT_KIND_SINCE, MeasurementKind

__all__ = ["Expectations", "appraise", "refused"]

M: Final = MeasurementOutcome


def appraise(
    evidence: VerifiedEvidence,
    expectations: Expectations,
    *,
    policy: Policy = DEFAULT_POLICY,
    references: Sequence[Reference] = (),
    rejected: Sequence[RejectedReference] = (),
) -> AttestationResult:
    """Appraise verified evidence.

    Args:
        evidence: from `verify_evidence`, or from a live connection.
        expectations: what is known about this device and this evidence.
        policy: what is demanded.
        references: reference values, their signatures verified.
        rejected: reference values that were to be used and may not be; the result says why.

    Raises:
        ConfigurationError: reference values name a vendor profile that nobody here knows.
    """
    found_blocks, claims = evidence.blocks, evidence.claims
    resolution = resolve(
        references,
        found_blocks,
        claims,
        opaque=evidence.opaque,
        measurement_hash=evidence.negotiated.selection.measurement_hash,
        time=expectations.time,
    )
    blocks = {block.index: block for block in found_blocks}
    modes = {index: found for index, block in blocks.items() if (found := block.modes) is not None}
    matter = Matter(
        evidence,
        claims,
        expectations,
        policy,
        tuple(references),
        tuple(rejected),
        resolution,
        blocks,
        modes,
    )
    return _Appraisal(matter).run()


def refused(
    error: EvidenceError | AuthenticationError | DecodeError,
    expectations: Expectations,
    *,
    policy: Policy = DEFAULT_POLICY,
    target: str = "",
) -> AttestationResult:
    """The result for evidence that is not authentic or not readable: untrusted, and in which step.

    Args:
        error: what `verify_evidence`, or reading the evidence, raised.
        expectations: for the time.
        policy: for its name.
        target: where the evidence came from.
    """
    if isinstance(error, EvidenceError):
        steps, reason = error.steps, str(error)
    elif isinstance(error, DecodeError):
        steps, reason = (Step("decode", Outcome.FAILED, str(error)),), f"decode: {error}"
    else:
        steps, reason = (Step(error.step, Outcome.FAILED, error.reason),), str(error)
    cause = error.__cause__ if isinstance(error, EvidenceError) else error
    return AttestationResult(
        Verdict.UNTRUSTED,
        (reason,),
        steps,
        chain_steps=cause.steps if isinstance(cause, ChainError) else (),
        policy=policy.identifier,
        appraised_at=expectations.time,
        target=target,
    )


class _Appraisal:
    """One appraisal: compare, check, decide."""

    def __init__(self, matter: Matter) -> None:
        self.matter = matter
        self.policy = matter.policy
        self.resolution = matter.resolution
        self.steps: list[Step] = list(matter.evidence.steps)

    def run(self) -> AttestationResult:
        self._compare()
        for name, check in CHECKS:
            self.steps.append(Step(name, *check(self.matter)))
        for rule in self.policy.rules:
            self.steps.append(Step(rule.name, *rule.judge(self.matter.case)))
        return self._result()

    # --- measurements --------------------------------------------------------------------------

    def _compare(self) -> None:
        """Fill in a result for every index that was measured, is expected, or is demanded."""
        if self.matter.measured is None:
            return
        indexes = {
            *self.matter.blocks,
            *self.resolution.expected,
            *(each.index for each in self.policy.components if each.required),
        }
        for index in sorted(indexes):
            self.matter.results[index] = self._measurement(index)

    def _measurement(self, index: int) -> MeasurementResult:
        block = self.matter.blocks.get(index)
        component = self.policy.component(index)
        expected = self.resolution.expected.get(index)
        source = expected or self.resolution.stale.get(index)
        required = self._required(component, expected)
        if block is None:
            result = M.MISSING if required else M.NOT_REQUIRED
            excuse = self._excuse(expected) if expected is not None and not required else ""
            detail = "the device does not report it" + (f"; {excuse}" if excuse else "")
        else:
            result, detail = self._judge(block, component, expected)
        name = component.name if component is not None else ""
        return MeasurementResult(
            index,
            block.label if block is not None else "",
            describe_value(block) if block is not None else "",
            result,
            detail,
            name or (source.entry.name if source else ""),
            source.reference.manifest.title if source else "",
            describe_allowed(source.entry) if source and result is not M.MATCH else (),
            digest=block is not None and not block.raw,
            required=required,
        )

    def _required(self, component: Component | None, expected: Expected | None) -> bool:
        """Whether a verdict of trusted needs this index."""
        if component is not None:
            return component.required
        return expected is not None and expected.entry.required and not self._excuse(expected)

    def _excuse(self, expected: Expected) -> str:
        """Why the index does not count here, or empty."""
        return self._excuse_of_vendor(expected) or self._excuse_of_version(expected)

    def _excuse_of_vendor(self, expected: Expected) -> str:
        """A vendor's rule says that the index does not count on this device."""
        condition = expected.entry.condition
        if condition is None or not condition.excuses(self.resolution.facts):
            return ""
        return f"does not count while {condition.fact} is {self.resolution.facts[condition.fact]}"

    def _excuse_of_version(self, expected: Expected) -> str:
        """The Verifier took an SPDM version that has no such measurement.

        The device offered a version that has it, in a VERSION that is signed. A device that speaks
        only the old version is not excused: it could be hiding what it was to show.
        """
        kind, negotiated = expected.entry.kind, self.matter.evidence.negotiated
        since = MEASUREMENT_KIND_SINCE[kind] if kind is not None else 0
        if negotiated.version >= since or max(negotiated.offered, default=0) < since:
            return ""
        return f"SPDM {negotiated.version_text}, which was asked for, has no such measurement"

    def _judge(
        self, block: Block, component: Component | None, expected: Expected | None
    ) -> tuple[MeasurementOutcome, str]:
        """How a block compares, and why; what is excused never counts against a device."""
        result, detail = self._judge_strictly(block, component, expected)
        if result is M.MATCH:
            return result, detail
        if component is not None:
            return (
                (result, detail)
                if component.required
                else (M.NOT_REQUIRED, f"{detail}; excused by the policy")
            )
        excuse = self._excuse(expected) if expected is not None else ""
        return (M.NOT_REQUIRED, f"{detail}; {excuse}") if excuse else (result, detail)

    def _judge_strictly(
        self, block: Block, component: Component | None, expected: Expected | None
    ) -> tuple[MeasurementOutcome, str]:
        negotiated = self.matter.evidence.negotiated
        fault = block.fault(negotiated.digest_size)
        if fault:
            return M.MALFORMED, fault
        if component is not None and component.kind not in (None, block.kind):
            return M.MISMATCH, f"is {block.label}, the policy demands another kind"
        if expected is not None:
            found = compare(block, expected.entry, negotiated.selection.measurement_hash)
            return _OF_COMPARISON[found.matches], found.detail
        judged = self._judge_by_policy(block, component)
        if judged is not None:
            return (M.MATCH if judged.passed else M.MISMATCH), f"by policy: {judged.detail}"
        return self._unlisted(block)

    def _judge_by_policy(self, block: Block, component: Component | None) -> Finding | None:
        """Kinds that a policy can judge without a reference value."""
        if component is not None and component.minimum_svn is not None:
            return SvnAtLeast(block.index, component.minimum_svn).judge(self.matter.case)
        if block.index not in self.matter.modes:
            return None
        found = check_device_mode(self.matter)
        return None if found.outcome is Outcome.NOT_CHECKED else found

    def _unlisted(self, block: Block) -> tuple[MeasurementOutcome, str]:
        stale = self.resolution.stale.get(block.index)
        if stale is not None:
            manifest = stale.reference.manifest
            return M.STALE, f"{manifest.title}: {manifest.staleness(self.matter.expectations.time)}"
        if block.kind == MeasurementKind.INFORMATIONAL:
            return M.NOT_REQUIRED, "informational, without security meaning (DSP0274 table 61)"
        if block.index in self.resolution.inactive:
            return M.NO_REFERENCE, "the reference values declare it not to be compared"
        return M.NO_REFERENCE, "no reference value for this index"

    # --- verdict -------------------------------------------------------------------------------

    def _result(self) -> AttestationResult:
        verified = self.matter.evidence
        evidence, negotiated = verified.evidence, verified.negotiated
        verdict, reasons = self._verdict()
        results = self.matter.results
        modes = list(self.matter.modes.values())
        return AttestationResult(
            verdict,
            tuple(reasons),
            tuple(self.steps),
            tuple(results[index] for index in sorted(results)),
            spdm_version=negotiated.version_text,
            algorithms=negotiated.selection.names(),
            identity=_identity(verified),
            chain_steps=verified.chain.steps if verified.chain is not None else (),
            references=tuple(each.describe() for each in self.resolution.used),
            facts=self.resolution.facts,
            device_mode=modes[0].as_dict() if modes else {},
            policy=self.policy.identifier,
            appraised_at=self.matter.expectations.time,
            collected_at=evidence.collected_at,
            target=evidence.target,
            transport=evidence.transport,
            nonces=tuple(nonce.hex() for nonce in verified.nonces),
        )

    def _verdict(self) -> tuple[Verdict, list[str]]:
        failed = [
            f"{step.name}: {step.detail}" for step in self.steps if step.outcome is Outcome.FAILED
        ]
        failed += self._unproven()
        if failed:
            return Verdict.UNTRUSTED, failed
        questions = self._open_questions()
        worst = [text for when, text in questions if when is WhenMissing.UNTRUSTED]
        if worst:
            return Verdict.UNTRUSTED, worst
        if questions:
            return Verdict.NOT_APPRAISED, [text for _, text in questions]
        return Verdict.TRUSTED, []

    def _unproven(self) -> list[str]:
        """What has to be proven and is not, though nothing failed."""
        outcomes = {step.name: step.outcome for step in self.matter.evidence.steps}
        covered = outcomes.get("negotiation") is Outcome.PASSED
        if covered or self.policy.protocol.accept_uncovered_negotiation:
            return []
        why = "no signature covers the negotiation"
        return [f"negotiation: {why}; accept_uncovered_negotiation in the policy accepts that"]

    def _open_questions(self) -> list[tuple[WhenMissing, str]]:
        """What cannot be judged, with what the policy wants to follow from it."""
        rule = self.policy.references
        results = self.matter.results.values()
        expected = self.resolution.expected
        if not any(each.result is M.MATCH and each.index in expected for each in results):
            why = "; ".join(self.resolution.passed_over) or "none was given for it"
            return [(rule.when_none, f"no reference value matches a measurement: {why}")]
        found: list[tuple[WhenMissing, str]] = []
        for each in results:
            if each.result is M.STALE or (each.required and each.result is not M.MATCH):
                when = rule.when_none  # these are never accepted without a match
            elif each.result is M.NO_REFERENCE and each.index not in self.resolution.inactive:
                when = rule.when_unlisted
            else:
                continue
            if when is not WhenMissing.ACCEPT:
                found.append((when, f"index {each.index}: {each.result}: {each.detail}"))
        return found


def _identity(verified: VerifiedEvidence) -> dict[str, object]:
    """Who the device is, as far as it was proven."""
    if verified.identity is not None:
        return verified.identity.as_dict()
    if verified.public_key is not None:
        return {"spki_sha256": verified.claims.spki_sha256}
    return {"psk_hint": safe_text(verified.psk_hint.decode("utf-8", "backslashreplace"))}


_OF_COMPARISON: Final = {True: M.MATCH, False: M.MISMATCH, None: M.NO_REFERENCE}
