"""The steps of an appraisal after authenticity: one function each, in the order of `CHECKS`.

A check looks at the `Matter` and gives a `Finding`; it changes nothing. `appraiser` says what the
steps mean together.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from spdmkit.attestation.blocks import Block, ModeStates, flag_names
from spdmkit.attestation.conversation import Statement, Summary
from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.evidence import ExchangeKind
from spdmkit.attestation.measurement_log import check_log
from spdmkit.attestation.outcome import MeasurementOutcome, MeasurementResult
from spdmkit.attestation.policy import DeviceModeRule, Policy
from spdmkit.attestation.reference.loader import Reference
from spdmkit.attestation.reference.model import DeviceClaims
from spdmkit.attestation.reference.store import RejectedReference
from spdmkit.attestation.resolution import Resolution
from spdmkit.attestation.rules import (
    Case,
    Finding,
    IdentityIs,
    SecurityAtLeast,
    SvnAtLeast,
    VersionAtLeast,
)
from spdmkit.attestation.verification import VerifiedEvidence
from spdmkit.crypto.keys import PublicKey
from spdmkit.errors import AuthenticationError, DecodeError
from spdmkit.identity import Outcome, safe_text
from spdmkit.messages import V12, MeasurementKind, MeasurementSummaryHashType

__all__ = ["CHECKS", "Expectations", "Matter", "check_device_mode"]

M: Final = MeasurementOutcome


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the caller knows about this one device and this one piece of evidence.

    Attributes:
        time: the time of the appraisal, seconds since 1970.
        nonces: nonces of ours, of which the signed answers must carry no others; empty when they
            are not known.
        identities: identities, one of which the device must have; those of the policy likewise.
        target: the address the device was reached at; for `known_keys`.
        known_keys: target -> SHA-256 of the public key that answered there before, lower-case hex
            (`KnownDevices.keys`). Another key at this target fails, and so does this key at
            another.
        collectors: keys of verifiers that are trusted to say when they collected evidence.
    """

    time: int
    nonces: frozenset[bytes] = frozenset()
    identities: tuple[str, ...] = ()
    target: str = ""
    known_keys: Mapping[str, str] = field(default_factory=dict)
    collectors: tuple[PublicKey, ...] = ()


@dataclass(slots=True)
class Matter:
    """Everything an appraisal looks at.

    Attributes:
        evidence: verified evidence.
        claims: who the device is, as reference values are chosen by.
        expectations: what is known about this device and this evidence.
        policy: what is demanded.
        references: reference values, their signatures verified.
        rejected: reference values that were to be used and may not be.
        resolution: which of the references are for this device.
        blocks: its measurement blocks by index.
        modes: what its device mode blocks say, by index.
        results: how they compare, by index; filled before the checks run.
    """

    evidence: VerifiedEvidence
    claims: DeviceClaims
    expectations: Expectations
    policy: Policy
    references: tuple[Reference, ...]
    rejected: tuple[RejectedReference, ...]
    resolution: Resolution
    blocks: dict[int, Block]
    modes: dict[int, ModeStates]
    results: dict[int, MeasurementResult] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        """What rules look at."""
        return Case(self.evidence, self.blocks, self.results, self.resolution.facts)

    @property
    def measured(self) -> Statement | None:
        """The signed MEASUREMENTS."""
        return self.evidence.statement(ExchangeKind.MEASUREMENTS)


def _passed(detail: str) -> Finding:
    return Finding(Outcome.PASSED, detail)


def _failed(detail: str) -> Finding:
    return Finding(Outcome.FAILED, detail)


def _identity(matter: Matter) -> Finding:
    claims, expectations = matter.claims, matter.expectations
    hint = safe_text(matter.evidence.psk_hint.decode("utf-8", "backslashreplace"))
    who = f"whoever holds the pre-shared key {hint!r}" if hint else claims.describe()
    rule = matter.policy.identity
    if matter.evidence.chain is None and (rule.demand_revocation or rule.demand_hardware_identity):
        what = "revocation data" if rule.demand_revocation else "a hardware identity"
        return _failed(f"the policy demands {what}, and {who} has no certificates")
    known = expectations.known_keys.get(expectations.target, "")
    if known and not hmac.compare_digest(known, claims.spki_sha256):
        return _failed(
            f"{expectations.target} had the key spki-sha256:{known} before, now {who} answers "
            f"with spki-sha256:{claims.spki_sha256}"
        )
    elsewhere = [
        target
        for target, key in expectations.known_keys.items()
        if key == claims.spki_sha256 and target != expectations.target
    ]
    if elsewhere:
        return _failed(f"{who} is known at {elsewhere[0]}: one device cannot be at two addresses")
    for expected in (expectations.identities, matter.policy.identity.expected):
        if expected:
            found = IdentityIs(expected).judge(matter.case)
            if not found.passed:
                return found
    if expectations.identities or matter.policy.identity.expected or known:
        return _passed(f"{who} is expected")
    return Finding(Outcome.UNPINNED, f"{who} answered; nothing says which device was expected")


def _nonce(matter: Matter) -> Finding:
    nonces = matter.evidence.nonces
    if any(nonce == bytes(len(nonce)) for nonce in nonces):
        return _failed("a nonce is all zero, so the answer may be an old one")
    ours = matter.expectations.nonces
    if not ours:
        if matter.policy.freshness.demand_nonce:
            return _failed("the policy demands a nonce, and none is expected")
        return Finding(Outcome.NOT_CHECKED, "no nonce is expected")
    measured = matter.measured
    answer = (measured.nonce if measured is not None else b"") or (nonces[-1] if nonces else b"")
    if answer not in ours:
        return _failed(f"answers the nonce {answer.hex()}, which is not ours")
    return _passed(f"answers our nonce {answer.hex()}")


def _freshness(matter: Matter) -> Finding:
    evidence, limit = matter.evidence.evidence, matter.policy.freshness.max_age
    try:
        vouched: PublicKey | None = None
        if matter.expectations.collectors:
            vouched = evidence.verify_collector(matter.expectations.collectors)
    except (AuthenticationError, DecodeError) as error:
        return _failed(str(error))
    if limit is None:
        if evidence.collected_at is None or vouched is None:
            return Finding(Outcome.NOT_CHECKED, "no limit on its age is set")
        return _passed(f"collected at {describe_time(evidence.collected_at)}, which is vouched for")
    if evidence.collected_at is None:
        return _failed("an age limit is set, and the evidence does not say when it was collected")
    age = matter.expectations.time - evidence.collected_at
    when = f"collected {age} s ago at {describe_time(evidence.collected_at)}"
    if vouched is None and not matter.expectations.nonces:
        return _failed(f"{when}, which no verifier that is trusted vouches for")
    if age < 0:
        return _failed(f"collected in the future, at {describe_time(evidence.collected_at)}")
    return (_passed if age <= limit else _failed)(f"{when}, {limit} s are allowed")


def _content(matter: Matter) -> Finding:
    measured = matter.measured
    if measured is None:
        return Finding(Outcome.SKIPPED, "no measurements")
    if measured.changed:
        return _failed("measurements changed while they were read; collect them again")
    read = len(measured.blocks)
    if measured.indexes is not None and not measured.all_requested and read != measured.indexes:
        return _failed(f"{read} measurements were read, the device has {measured.indexes}")
    return _passed(f"{read} measurements, unchanged while they were read")


def _summary(matter: Matter) -> Finding:
    summaries = [each for each in matter.evidence.summaries if each.kind]
    if not summaries:
        if matter.policy.evidence.demand_summary:
            return _failed("the policy demands a measurement summary hash")
        return Finding(Outcome.SKIPPED, "none was asked for")
    measured = matter.measured
    if measured is None:
        return Finding(Outcome.NOT_CHECKED, "no measurements to compare it with")
    found = [_compare_summary(matter, measured, each) for each in summaries]
    worst = [each for each in found if each.outcome is Outcome.FAILED]
    checked = [each for each in found if each.passed]
    if not worst and not checked and matter.policy.evidence.demand_summary:
        return _failed(f"the policy demands a comparison; {found[0].detail}")
    return (worst or checked or found)[0]


def _compare_summary(matter: Matter, measured: Statement, summary: Summary) -> Finding:
    """The hash over whole blocks in ascending order (DSP0274 10.10)."""
    algorithm = matter.evidence.negotiated.selection.base_hash
    blocks = matter.blocks.values()
    if measured.raw_requested:
        return Finding(Outcome.NOT_CHECKED, "raw bit streams were read, the hash covers digests")
    if not measured.all_requested and measured.indexes != len(blocks):
        return Finding(Outcome.NOT_CHECKED, "not all measurements were read")
    if summary.kind == MeasurementSummaryHashType.ALL:
        inputs = [b"".join(block.encoded for block in blocks)]
        if matter.evidence.negotiated.version < V12:
            # 1.0 and 1.1 can be read as covering the measurements without their block headers.
            inputs.append(b"".join(block.encoded[4:] for block in blocks))
        if any(hmac.compare_digest(algorithm.digest(each), summary.value) for each in inputs):
            return _passed(f"{summary.where} sums up the {len(blocks)} measurements at hand")
        return _failed(f"the summary in {summary.where} is not that of the measurements at hand")
    if summary.value == bytes(len(summary.value)):
        return Finding(Outcome.NOT_CHECKED, "the device has no trusted computing base to sum up")
    rom = b"".join(block.encoded for block in blocks if block.kind == MeasurementKind.IMMUTABLE_ROM)
    if hmac.compare_digest(algorithm.digest(rom), summary.value):
        return _passed(f"{summary.where} sums up the immutable measurements at hand")
    return Finding(
        Outcome.NOT_CHECKED, "which measurements are the trusted computing base is not known"
    )


def _log(matter: Matter) -> Finding:
    data = matter.evidence.evidence.measurement_log
    blocks = matter.blocks.values()
    if not data:
        if matter.policy.evidence.demand_log:
            return _failed("the policy demands a measurement extension log")
        extended = [str(b.index) for b in blocks if b.kind == MeasurementKind.HASH_EXTEND]
        if extended:
            return Finding(Outcome.NOT_CHECKED, f"no log at hand for index {', '.join(extended)}")
        return Finding(Outcome.SKIPPED, "no log, and nothing it would lead to")
    if matter.measured is None:
        return Finding(Outcome.NOT_COVERED, "no measurement that is vouched for leads to the log")
    found = check_log(data, blocks, matter.evidence.negotiated.selection.measurement_hash)
    if found.fault:
        return _failed(found.fault)
    if not found.indexes:
        return Finding(Outcome.NOT_COVERED, "nothing that is signed vouches for the log")
    indexes = ", ".join(map(str, found.indexes))
    return _passed(f"{found.entries} entries lead to the value of index {indexes}")


def _policy(matter: Matter) -> Finding:
    staleness = matter.policy.staleness(matter.expectations.time)
    if staleness:
        return _failed(f"{matter.policy.identifier}: {staleness}")
    return _passed(matter.policy.identifier)


def _version(matter: Matter) -> Finding:
    return VersionAtLeast(matter.policy.protocol.minimum_version).judge(matter.case)


def _algorithms(matter: Matter) -> Finding:
    rule = matter.policy.protocol
    return SecurityAtLeast(
        rule.minimum_security, rule.hashes, rule.signatures, rule.measurement_hashes
    ).judge(matter.case)


def _evidence(matter: Matter) -> Finding:
    challenged = matter.evidence.statement(ExchangeKind.CHALLENGE) is not None
    if matter.policy.evidence.demand_challenge and not challenged:
        return _failed("the policy demands a CHALLENGE")
    if matter.measured is None:
        return Finding(Outcome.NOT_COVERED, "the device signed no measurements")
    statements = matter.evidence.statements
    signed = ", ".join(str(each.kind) for each in statements if each.signature)
    witnessed = ", ".join(str(each.kind) for each in statements if not each.signature)
    parts = [f"signed: {signed}"] if signed else []
    parts += [f"in a session that only we witnessed: {witnessed}"] if witnessed else []
    return _passed("; ".join(parts))


def _reference_signature(matter: Matter) -> Finding:
    if matter.rejected:
        return _failed("; ".join(map(_refusal, matter.rejected)))
    unsigned = [each.source for each in matter.references if each.signer is None]
    if unsigned and matter.policy.references.wants_signature:
        return _failed(f"not signed, and the policy demands it: {', '.join(unsigned)}")
    if not matter.references:
        return Finding(Outcome.SKIPPED, "no reference values")
    signed = [each for each in matter.references if each.signer is not None]
    if not signed:
        return Finding(Outcome.UNPINNED, "reference values without signature, as they were given")
    late = any(each.signer is not None and each.signer.checked_at is None for each in signed)
    rule = "; a rule says to accept signers whose certificates have ended" if late else ""
    return _passed(f"{len(signed)} of {len(matter.references)} signed by trusted signers{rule}")


def _refusal(rejected: RejectedReference) -> str:
    """Why, with the document's name once."""
    error = rejected.error
    why = error.reason if isinstance(error, AuthenticationError) else str(error)
    return why if why.startswith(rejected.source) else f"{rejected.source}: {why}"


def _references(matter: Matter) -> Finding:
    found = matter.resolution
    if found.conflict:
        return _failed(found.conflict)
    if found.facts_fault:
        return _failed(f"the opaque data cannot be read: {found.facts_fault}")
    over = f"; not used: {'; '.join(found.passed_over)}" if found.passed_over else ""
    if not found.used:
        return Finding(Outcome.SKIPPED, f"no reference values for this device{over}")
    return _passed("; ".join(each.describe() for each in found.used) + over)


def _release(matter: Matter) -> Finding:
    releases = matter.resolution.releases
    if not releases:
        return Finding(Outcome.SKIPPED, "no release to compare")
    if not matter.policy.references.check_release:
        return Finding(Outcome.SKIPPED, "the policy does not ask for it")
    wrong = [
        f"{each.component} {each.reported or 'nothing'} is reported, the values are for "
        f"{each.described}"
        for each in releases
        if each.described != each.reported
    ]
    return (
        _failed("; ".join(wrong))
        if wrong
        else _passed(", ".join(f"{each.component} {each.reported}" for each in releases))
    )


def _measurements(matter: Matter) -> Finding:
    if not matter.results:
        return Finding(Outcome.SKIPPED, "no measurements")
    counts = Counter(each.result for each in matter.results.values())
    words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in M if counts[outcome])
    bad = [
        str(each.index)
        for each in matter.results.values()
        if each.result in (M.MISMATCH, M.MALFORMED)
    ]
    if bad:
        return _failed(f"{words}; index {', '.join(bad)}")
    return _passed(words) if counts[M.MATCH] else Finding(Outcome.NOT_CHECKED, words)


def _components(matter: Matter) -> Finding:
    missing = [str(each.index) for each in matter.results.values() if each.result is M.MISSING]
    if missing:
        return _failed(f"required, and not reported: index {', '.join(missing)}")
    required = [each for each in matter.results.values() if each.required]
    matching = sum(each.result is M.MATCH for each in required)
    if not required:
        return Finding(Outcome.SKIPPED, "nothing is required")
    if matching == len(required):
        return _passed(f"all {matching} required measurements match")
    return Finding(Outcome.NOT_CHECKED, f"{matching} of {len(required)} required ones match")


def check_device_mode(matter: Matter) -> Finding:
    """Whether the device mode block says what the policy accepts."""
    rule = matter.policy.device_mode
    modes = list(matter.modes.values())
    if not modes:
        if rule.demand:
            return _failed("the policy demands a device mode, and none is reported")
        return Finding(Outcome.SKIPPED, "the device does not report its mode")
    for mode in modes:
        refused = _refused_states(mode, rule)
        if refused and _nothing_to_judge_by(matter):
            return Finding(Outcome.NOT_CHECKED, f"{refused}; no reference values, no policy")
        if refused:
            return _failed(refused)
    state = ", ".join(flag_names(modes[0].operational)) or "no operational state"
    return _passed(f"{state}, no debug mode that is refused")


def _refused_states(mode: ModeStates, rule: DeviceModeRule) -> str:
    """What a rule refuses of a device's states, in words; empty when nothing."""
    debug = flag_names(mode.debug & rule.refuse_debug)
    if debug:
        return f"debug mode: {', '.join(debug)}"
    if rule.operational and mode.operational & ~rule.operational:
        return f"operational state: {', '.join(flag_names(mode.operational))}"
    return ""


def _nothing_to_judge_by(matter: Matter) -> bool:
    """Nobody said what is expected of this device: it can be authentic, and no more is claimed."""
    policy = matter.policy
    written = policy.source or policy.sha256 or policy.components or policy.rules
    own = written or policy.device_mode != DeviceModeRule()
    return not (own or matter.references or matter.rejected)


def _security_version(matter: Matter) -> Finding:
    floors = [each for each in matter.policy.components if each.minimum_svn is not None]
    found = [SvnAtLeast(each.index, each.minimum_svn or 0).judge(matter.case) for each in floors]
    wrong = [each.detail for each in found if not each.passed]
    if wrong:
        return _failed("; ".join(wrong))
    if not found:
        return Finding(Outcome.SKIPPED, "the policy names no floor")
    return _passed("; ".join(each.detail for each in found))


CHECKS: Final[tuple[tuple[str, Callable[[Matter], Finding]], ...]] = (
    ("identity", _identity),
    ("nonce", _nonce),
    ("freshness", _freshness),
    ("content", _content),
    ("measurement-summary", _summary),
    ("measurement-log", _log),
    ("policy", _policy),
    ("version", _version),
    ("algorithms", _algorithms),
    ("evidence", _evidence),
    ("reference-signature", _reference_signature),
    ("references", _references),
    ("release", _release),
    ("measurements", _measurements),
    ("components", _components),
    ("device-mode", check_device_mode),
    ("security-version", _security_version),
)
