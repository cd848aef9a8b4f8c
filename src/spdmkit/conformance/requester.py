"""Judging a requester: a device that is wrong in one way a time, and what the requester does then.

A sane conversation comes first: it shows what the requester asks, in which order. Then each case
serves a device whose answers of one kind break one rule. A requester that believes such an answer
asks next what it asked next in the sane conversation; one that refuses it gives up, starts over,
or ends with an error. When the requester runs as a command, its exit code must tell too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spdmkit.conformance.misbehaviour import MisbehavingResponder, Misbehaviour
from spdmkit.conformance.outcome import CaseResult, Outcome
from spdmkit.conformance.responder import responder_cases
from spdmkit.conformance.talk import Finding
from spdmkit.messages import RequestCode

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.responder.device import Device
    from spdmkit.protocol.session import Session

__all__ = ["RequesterCase", "Trial", "WatchedResponder", "judge", "requester_cases", "sane_result"]

_REFUSED: Final = (
    "version.layout",
    "version.trailing",
    "capabilities.layout",
    "capabilities.trailing",
    "capabilities.flags",
    "capabilities.sizes",
    "algorithms.layout",
    "algorithms.trailing",
    "algorithms.one-hash",
    "algorithms.one-signature",
    "algorithms.measurement-hash",
    "algorithms.tables",
    "algorithms.no-hybrid",
    "algorithms.opaque-format",
    "algorithms.external",
    "digests.layout",
    "digests.trailing",
    "digests.version",
    "digests.digest",
    "certificate.layout",
    "certificate.trailing",
    "certificate.portion-length",
    "certificate.structure",
    "challenge.layout",
    "challenge.trailing",
    "challenge.complete",
    "challenge.chain-hash",
    "challenge.context",
    "challenge.signature",
    "challenge.signature-with-summary",
    "measurements.layout",
    "measurements.trailing",
    "measurements.signature",
    "measurements.signed-complete",
    "key-exchange.layout",
    "key-exchange.trailing",
    "key-exchange.complete",
    "key-exchange.signature",
    "key-exchange.verify-data",
    "key-exchange.version-selection",
    "finish.completes",
    "psk.layout",
    "psk.trailing",
    "psk.verify-data",
    "psk.completes",
    "session.measurements",
    "session.key-update",
    "mel.layout",
    "mel.trailing",
    "chunks.first-chunk",
    "chunks.sizes",
    "endpoint-info.layout",
    "endpoint-info.signature",
    "key-pairs.layout",
    "provisioning.csr-clear",
)
"""Broken rules of responders whose answers no requester may believe. The others are not here: what
is reserved is to be ignored, and what only a comparison of conversations shows is not seen."""


@dataclass(frozen=True, slots=True)
class RequesterCase:
    """One wrong answer.

    Attributes:
        name: name of the rule that the answer breaks.
        clause: where it stands.
        title: what the requester has to do.
        breaks: how the answer is wrong.
    """

    name: str
    clause: str
    title: str
    breaks: Misbehaviour


def requester_cases() -> tuple[RequesterCase, ...]:
    """All cases, in the order of a conversation."""
    known = {case.name: case for case in responder_cases()}
    return tuple(
        RequesterCase(name, known[name].clause, f"refuses where not: {known[name].title}", breaks)
        for name in _REFUSED
        if (breaks := known[name].breaks) is not None
    )


@dataclass(slots=True)
class Trial:
    """What a requester did, on one connection or several.

    Attributes:
        misbehaviour: how the device was wrong; None in a sane conversation.
        asked: request codes, in order.
        bent_at: how many requests had been asked when the first wrong answer went out; 0 when none
            did.
        version: the SPDM version of the last request.
        exit_code: of the requester's command; None when it is not run as one.
    """

    misbehaviour: Misbehaviour | None = None
    asked: list[int] = field(default_factory=list)
    bent_at: int = 0
    version: int = 0
    exit_code: int | None = None


class WatchedResponder(MisbehavingResponder):
    """A responder that notes down what it is asked, and when it first answered wrongly.

    Attributes:
        trial: where it notes that down.
    """

    def __init__(
        self, connection: Connection, device: Device, trial: Trial, *, name: str = ""
    ) -> None:
        """An endpoint that waits for GET_VERSION, as its base class."""
        super().__init__(connection, device, trial.misbehaviour or Misbehaviour(), name=name)
        self.trial = trial

    def _request(self, raw: bytes, carrier: Session | None, now: float) -> None:
        if len(raw) >= 2:
            self.trial.asked.append(raw[1])
            if raw[1] != RequestCode.GET_VERSION:
                self.trial.version = raw[0]
        super()._request(raw, carrier, now)

    def _bent(self, message: bytes) -> bytes:
        changed = super()._bent(message)
        if changed != message and not self.trial.bent_at:
            self.trial.bent_at = len(self.trial.asked)
        return changed


def judge(case: RequesterCase, sane: Trial, trial: Trial) -> CaseResult:
    """What a requester's conduct says.

    Args:
        case: the case.
        sane: its conduct with a device that is right.
        trial: its conduct with the device of the case.
    """
    result = CaseResult(case.name, case.title, case.clause, trial.version, Outcome.PASSED)
    at = trial.bent_at
    if not at:
        asked = "the requester never asked for what would have been answered wrongly"
        return _with(result, Outcome.NOT_APPLICABLE, (), asked)
    findings: list[Finding] = []
    if trial.asked[:at] == sane.asked[:at]:
        # What it takes to find out, a requester may still ask.
        while sane.asked[at : at + 1] == trial.asked[at : at + 1] and _checks(case, sane.asked, at):
            at += 1
        believed = len(sane.asked) > at and trial.asked[at : at + 1] == sane.asked[at : at + 1]
        words = "the requester does not go on"
        if believed:
            words += f"; it asked {_name(trial.asked[at])} next, as if nothing were wrong"
        findings.append(Finding(not believed, words, case.clause))
    if sane.exit_code is not None:
        told = trial.exit_code not in (sane.exit_code, 0)
        words = f"the requester's exit code tells; it was {trial.exit_code}"
        findings.append(Finding(told, words, case.clause))
    if not findings:
        why = "the conversation took another way before the wrong answer"
        return _with(result, Outcome.ERROR, (), why)
    holds = all(finding.holds for finding in findings)
    return _with(result, Outcome.PASSED if holds else Outcome.FAILED, tuple(findings), "")


_FOUND_OUT_BY: Final[dict[str, frozenset[int]]] = {
    "digests": frozenset({RequestCode.GET_CERTIFICATE, RequestCode.CHALLENGE}),
    "certificate": frozenset({RequestCode.GET_CERTIFICATE, RequestCode.CHALLENGE}),
    "challenge": frozenset({RequestCode.GET_MEASUREMENTS}),
    "chunks": frozenset({RequestCode.CHUNK_GET}),
}
"""Requests by which a requester finds out that an answer was wrong, or which it may have under way
while it verifies: they give nothing away. What it does in the end is what counts."""


def _checks(case: RequesterCase, asked: list[int], at: int) -> bool:
    allowed = _FOUND_OUT_BY.get(case.name.partition(".")[0], frozenset())
    return len(asked) > at and asked[at] in allowed


def _with(
    result: CaseResult, outcome: Outcome, findings: tuple[Finding, ...], detail: str
) -> CaseResult:
    return CaseResult(
        result.name, result.title, result.clause, result.version, outcome, findings, detail
    )


def _name(code: int) -> str:
    return RequestCode(code).name if code in set(RequestCode) else f"{code:#04x}"


def sane_result(name: str, sane: Trial) -> CaseResult:
    """The result of a sane conversation, before the cases or after them."""
    clause = "DSP0274 10"
    findings = [Finding(bool(sane.asked), "the requester starts a conversation", clause)]
    if sane.exit_code is not None:
        good = sane.exit_code in (0, 4)
        words = f"the requester is content with a sane device; its exit code is {sane.exit_code}"
        findings.append(Finding(good, words, clause))
    holds = all(finding.holds for finding in findings)
    title = "a sane conversation succeeds"
    outcome = Outcome.PASSED if holds else Outcome.FAILED
    return CaseResult(name, title, clause, sane.version, outcome, tuple(findings))
