"""Small rules that compose: what a policy demands beyond its tables, in Python.

    Policy(rules=(AnyOf(SvnAtLeast(7, 4), VersionIn(8, ("7.2.0",))), IdentityIs("ACME:NIC:*")))

A rule looks at a `Case` (verified evidence and the measurements compared) and gives a `Finding`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from spdmkit.attestation.blocks import Block
from spdmkit.attestation.outcome import MeasurementOutcome, MeasurementResult
from spdmkit.attestation.verification import VerifiedEvidence
from spdmkit.identity import IdentityExpectation, Outcome

__all__ = [
    "AllOf",
    "AnyOf",
    "Case",
    "Custom",
    "Finding",
    "IdentityIs",
    "Matches",
    "Rule",
    "SecurityAtLeast",
    "SvnAtLeast",
    "VersionAtLeast",
    "VersionIn",
]


class Finding(NamedTuple):
    """What a rule found.

    Attributes:
        outcome: only `Outcome.PASSED` is a pass.
        detail: what was found, for people.
    """

    outcome: Outcome
    detail: str

    @property
    def passed(self) -> bool:
        """Whether it is a pass."""
        return self.outcome is Outcome.PASSED


@dataclass(frozen=True, slots=True)
class Case:
    """What rules look at.

    Attributes:
        evidence: the verified evidence.
        blocks: its measurement blocks by index.
        measurements: how they compare, by index.
        facts: what a vendor profile read from the evidence.
    """

    evidence: VerifiedEvidence
    blocks: Mapping[int, Block]
    measurements: Mapping[int, MeasurementResult]
    facts: Mapping[str, str]


class Rule(Protocol):
    """Something that is demanded."""

    @property
    def name(self) -> str:
        """What the step in the report is called."""
        ...

    def judge(self, case: Case) -> Finding:
        """Whether the case meets the demand."""
        ...


def _finding(good: bool, detail: str) -> Finding:
    return Finding(Outcome.PASSED if good else Outcome.FAILED, detail)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of the rules has to pass; without any, nothing does."""

    rules: Sequence[Rule]
    name: str = "all-of"

    def judge(self, case: Case) -> Finding:
        """The first that does not pass, or all."""
        found = [rule.judge(case) for rule in self.rules]
        for each in found:
            if not each.passed:
                return Finding(Outcome.FAILED, each.detail)
        return _finding(bool(found), "; ".join(each.detail for each in found) or "no rule at all")


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the rules has to pass; without any, nothing does."""

    rules: Sequence[Rule]
    name: str = "any-of"

    def judge(self, case: Case) -> Finding:
        """The first that passes, or why none does."""
        found = [rule.judge(case) for rule in self.rules]
        for each in found:
            if each.passed:
                return each
        return Finding(Outcome.FAILED, "; ".join(each.detail for each in found) or "no rule at all")


@dataclass(frozen=True, slots=True)
class Custom:
    """A rule made of a function.

    Attributes:
        name: what the step is called.
        check: returns what is wrong, or an empty string.
    """

    name: str
    check: Callable[[Case], str]

    def judge(self, case: Case) -> Finding:
        """The function's word."""
        wrong = self.check(case)
        return _finding(not wrong, wrong or "as demanded")


@dataclass(frozen=True, slots=True)
class VersionAtLeast:
    """The SPDM version is this version byte or a later one."""

    minimum: int
    name: str = "version"

    def judge(self, case: Case) -> Finding:
        """Compare the negotiated version."""
        negotiated = case.evidence.negotiated
        least = f"{self.minimum >> 4}.{self.minimum & 0xF}"
        return _finding(
            negotiated.version >= self.minimum,
            f"SPDM {negotiated.version_text}, {least} or later is demanded",
        )


@dataclass(frozen=True, slots=True)
class SecurityAtLeast:
    """Base hash, measurement hash and signature are at least that strong, and of the named ones.

    Attributes:
        bits: least strength against classical attack.
        hashes, signatures, measurement_hashes: short names that are accepted; empty for all.
    """

    bits: int
    hashes: Sequence[str] = ()
    signatures: Sequence[str] = ()
    measurement_hashes: Sequence[str] = ()
    name: str = "algorithms"

    def judge(self, case: Case) -> Finding:
        """Look at what was negotiated; digests decide whether the measurement hash counts."""
        selection = case.evidence.negotiated.selection
        used = [
            ("hash", selection.base_hash, self.hashes),
            ("signature", selection.signature, self.signatures),
        ]
        if selection.measurement_hash is not None and selection.measurement_hash.size:
            used.append(("measurement hash", selection.measurement_hash, self.measurement_hashes))
        for what, entry, accepted in used:
            if entry is None:
                return Finding(Outcome.FAILED, f"no {what} was negotiated")
            if entry.security < self.bits:
                return Finding(
                    Outcome.FAILED,
                    f"{what} {entry.short} has {entry.security} bits, {self.bits} are demanded",
                )
            if accepted and entry.short not in accepted:
                return Finding(Outcome.FAILED, f"{what} {entry.short} is not accepted")
        return Finding(Outcome.PASSED, ", ".join(str(entry) for _, entry, _ in used))


@dataclass(frozen=True, slots=True)
class IdentityIs:
    """The device has one of the identities.

    Attributes:
        expected: as `IdentityExpectation` reads them; SPDM names may hold `*` and `?`.
    """

    expected: Sequence[str]
    name: str = "identity"

    def judge(self, case: Case) -> Finding:
        """Compare the verified identity."""
        identity = case.evidence.identity
        claims = case.evidence.claims
        for text in self.expected:
            expectation = IdentityExpectation.parse(text)
            if expectation.kind == "spki-sha256":
                good = expectation.value == claims.spki_sha256
            elif identity is None:
                good = False
            elif expectation.kind == "san":
                names = [each.text for each in identity.device_names]
                good = any(fnmatch.fnmatchcase(each, expectation.value) for each in names)
            else:
                good = expectation.matches(identity)
            if good:
                return Finding(Outcome.PASSED, f"{claims.describe()} is expected")
        return Finding(
            Outcome.FAILED,
            f"{claims.describe()} (spki-sha256:{claims.spki_sha256}) answered, expected was "
            f"{' or '.join(self.expected) or 'nobody'}",
        )


@dataclass(frozen=True, slots=True)
class Matches:
    """An index matches its reference values."""

    index: int

    @property
    def name(self) -> str:
        """Names the index."""
        return f"measurement-{self.index}"

    def judge(self, case: Case) -> Finding:
        """Look at the comparison."""
        found = case.measurements.get(self.index)
        if found is None:
            return Finding(Outcome.FAILED, f"index {self.index} is not there")
        good = found.result is MeasurementOutcome.MATCH
        return _finding(good, f"index {self.index}: {found.result}")


@dataclass(frozen=True, slots=True)
class SvnAtLeast:
    """The security version number in an index is this or a higher one."""

    index: int
    minimum: int
    name: str = "security-version"

    def judge(self, case: Case) -> Finding:
        """Read the number out of the block."""
        block = case.blocks.get(self.index)
        if block is None:
            return Finding(Outcome.FAILED, f"index {self.index} is not there")
        number = block.security_version
        if number is None:
            return Finding(Outcome.FAILED, f"index {self.index} holds no security version number")
        return _finding(
            number >= self.minimum,
            f"index {self.index}: security version {number}, {self.minimum} or higher is demanded",
        )


@dataclass(frozen=True, slots=True)
class VersionIn:
    """The firmware version in an index is one of these texts."""

    index: int
    versions: Sequence[str]
    name: str = "firmware-version"

    def judge(self, case: Case) -> Finding:
        """Read the text out of the block."""
        block = case.blocks.get(self.index)
        version = block.version if block is not None else None
        if version is None:
            return Finding(Outcome.FAILED, f"index {self.index} holds no firmware version")
        return _finding(
            version in self.versions,
            f"index {self.index}: version {version}, accepted: {', '.join(self.versions)}",
        )
