"""How a case ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from spdmkit.conformance.talk import Finding

__all__ = ["CaseResult", "Outcome"]


class Outcome(enum.Enum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not-applicable"
    """The peer lacks what the rule is about; no statement."""
    ERROR = "error"
    """The peer could not be brought to where the case begins."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case ended in one SPDM version.

    Attributes:
        name, title, clause: of the case.
        version: SPDM version, as the version byte.
        outcome: how it ended.
        findings: every assertion.
        detail: why it is not applicable, or what went wrong.
        seconds: how long it took.
        gone: the peer could not be reached; the case before may be what ended it.
    """

    name: str
    title: str
    clause: str
    version: int
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    detail: str = ""
    seconds: float = 0.0
    gone: bool = False

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The assertions that do not hold."""
        return tuple(finding for finding in self.findings if not finding.holds)
