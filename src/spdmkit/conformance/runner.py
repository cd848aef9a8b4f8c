"""Running cases against a responder: a connection for each, a sane conversation first and last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from spdmkit.conformance.binding import BindingCase, run_binding_case
from spdmkit.conformance.case import NOTHING, Case, Stage
from spdmkit.conformance.outcome import CaseResult, Outcome
from spdmkit.conformance.talk import Facts, Finding, Stopped, Talk
from spdmkit.errors import SpdmError, TransportError
from spdmkit.messages import RequesterFlags, ResponderFlags
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.deadlines import Timing
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.measurements import get_measurements, get_signed_measurements
from spdmkit.protocol.requester.negotiate import get_version, negotiate
from spdmkit.protocol.settings import ALL_VERSIONS, Settings
from spdmkit.transports.blocking import BlockingConnection, connect
from spdmkit.transports.framing import Dialect
from spdmkit.transports.requesters import requester_factory
from spdmkit.transports.uri import EndpointUri, parse_uri

if TYPE_CHECKING:
    from spdmkit.transports.conduit import EndpointFactory, TapFactory

__all__ = ["Target", "run_binding_cases", "run_case", "run_cases"]

F = ResponderFlags
_UNKNOWN = 0xFFFF_FFFF
"""Capabilities of a peer that did not tell them: every rule applies to it."""
_PAUSE = 0.05
"""Seconds between attempts to reach a peer that went away."""


class Gone(TransportError):
    """The peer cannot be reached (any more)."""


@dataclass(slots=True)
class Target:
    """The responder that is tested.

    Attributes:
        uri: where it is.
        facts: what is known of it.
        answer_timeout: seconds after which an answer is taken for silence.
        tap: sees all bytes, for a capture.
        restart_timeout: seconds to wait for a peer that went away to come back.
    """

    uri: str
    facts: Facts = field(default_factory=Facts)
    answer_timeout: float = 2.0
    tap: TapFactory | None = None
    restart_timeout: float = 0.0
    _dialect: Dialect | None = field(default=None, init=False, repr=False)

    def converse(
        self,
        versions: Sequence[int],
        exchange: Callable[[Connection], Exchange[object]],
        *,
        without: RequesterFlags = NOTHING,
        transfer_size: int = 0,
    ) -> None:
        """Run an exchange on a connection of its own.

        Args:
            versions: SPDM versions that our side has.
            exchange: what to run.
            without: capabilities that our side leaves out.
            transfer_size: our DataTransferSize, bytes; 0 for the largest.
        """
        capabilities = requester_capabilities(sessions=True, psk=self.facts.psk is not None)
        settings = Settings(
            versions=tuple(versions),
            capabilities=capabilities & ~without,
            timing=Timing(round_trip=self.answer_timeout, slack=self.answer_timeout),
        )
        if transfer_size:
            settings = replace(settings, data_transfer_size=transfer_size)

        address = parse_uri(self.uri)
        if self._dialect is not None:
            # Known from the first conversation: a case's silence is not to be taken for a guess.
            address = replace(address, dialect=self._dialect)
        with self._connected(address, requester_factory(settings)) as open_connection:
            open_connection.run(exchange(open_connection.endpoint.connection))
            self._dialect = self._dialect or open_connection.dialect

    def _connected(self, address: EndpointUri, make: EndpointFactory) -> BlockingConnection:
        """A connection, as soon as the peer is there again."""
        until = time.monotonic() + self.restart_timeout
        while True:
            try:
                return connect(address, make, tap=self.tap)
            except TransportError as error:
                if time.monotonic() >= until:
                    raise Gone(str(error)) from error
                time.sleep(_PAUSE)


def run_cases(
    target: Target,
    cases: Iterable[Case],
    *,
    versions: Sequence[int] = ALL_VERSIONS,
    progress: Callable[[CaseResult], None] | None = None,
) -> Iterator[CaseResult]:
    """Run cases against a responder, in each SPDM version that it and we have.

    Args:
        target: the responder.
        cases: which cases.
        versions: versions to test, newest first.
        progress: told of each result as it comes.

    Raises:
        SpdmError: the responder cannot be reached, or does not answer GET_VERSION.
    """
    chosen = tuple(cases)
    for version in _offered(target, versions):
        first, flags = _sane(target, version, "sanity.first")
        yield _told(first, progress)
        for case in chosen:
            if case.since <= version <= case.until:
                result = run_case(target, case, version, flags)
                yield _told(result, progress)
                if result.gone:
                    return
        yield _told(_sane(target, version, "sanity.last")[0], progress)


def run_binding_cases(
    target: Target,
    cases: Iterable[BindingCase],
    *,
    progress: Callable[[CaseResult], None] | None = None,
) -> Iterator[CaseResult]:
    """Run the cases about the TCP binding; they do not apply to other transports."""
    address = parse_uri(target.uri)
    for case in cases:
        if address.scheme == "tcp":
            result = run_binding_case(case, address.host, target.answer_timeout)
        else:
            detail = f"{address.scheme} is not the TCP binding"
            outcome = Outcome.NOT_APPLICABLE
            result = CaseResult(case.name, case.title, case.clause, 0, outcome, detail=detail)
        yield _told(result, progress)


def _told(result: CaseResult, progress: Callable[[CaseResult], None] | None) -> CaseResult:
    if progress is not None:
        progress(result)
    return result


def _offered(target: Target, versions: Sequence[int]) -> tuple[int, ...]:
    """The versions that both sides have, newest first; all of ours if VERSION is no good."""
    found: list[int] = []

    def ask(connection: Connection) -> Exchange[None]:
        yield from get_version(Link(connection))
        found.extend(entry >> 8 for entry in connection.offered_versions)

    try:
        target.converse(versions, ask)
    except TransportError:
        raise
    except SpdmError:
        return tuple(sorted(versions, reverse=True))
    return tuple(version for version in sorted(versions, reverse=True) if version in found)


def run_case(target: Target, case: Case, version: int, flags: int) -> CaseResult:
    """Run one case.

    Args:
        target: the responder.
        case: the case; `version` must be one that has the rule.
        version: the SPDM version to test.
        flags: the responder's capabilities.
    """
    result = CaseResult(case.name, case.title, case.clause, version, Outcome.PASSED)
    lacking = case.lacking(flags)
    if not lacking and case.stage in (Stage.HANDSHAKE, Stage.SESSION):
        lacking = _no_session(flags)
    by_psk = case.stage in (Stage.PSK_HANDSHAKE, Stage.PSK_SESSION) or case.group == "psk"
    if not lacking and by_psk:
        lacking = _no_psk(target, flags)
    if lacking:
        return replace(result, outcome=Outcome.NOT_APPLICABLE, detail=lacking)
    talks: list[Talk] = []
    reached = False

    def conversation(connection: Connection) -> Exchange[None]:
        nonlocal reached
        talk = Talk(connection, version, case.clause, target.facts)
        talks.append(talk)
        yield from talk.reach(case.stage)
        reached = True
        yield from case.script(talk)

    started = time.perf_counter()
    detail = ""
    try:
        target.converse(
            (version,), conversation, without=case.without, transfer_size=case.transfer_size
        )
    except Stopped:
        pass
    except Gone as error:
        detail = f"the peer is gone, perhaps by the case before: {error}"
        return replace(result, outcome=Outcome.ERROR, detail=detail, gone=True)
    except SpdmError as error:
        detail = str(error)
    findings = tuple(talks[0].findings) if talks else ()
    outcome = Outcome.PASSED if findings and not detail else Outcome.FAILED
    if any(not finding.holds for finding in findings):
        outcome = Outcome.FAILED
    elif detail and not reached:
        outcome = Outcome.ERROR
    seconds = time.perf_counter() - started
    return replace(result, outcome=outcome, findings=findings, detail=detail, seconds=seconds)


def _no_session(flags: int) -> str:
    if not flags & F.KEY_EX_CAP or not flags & F.CERT_CAP:
        return "the peer opens no sessions with certificates (KEY_EX_CAP, CERT_CAP)"
    return ""


def _no_psk(target: Target, flags: int) -> str:
    if not flags & F.PSK_CAP_MASK:
        return "the peer opens no sessions by pre-shared key (PSK_CAP)"
    return "" if target.facts.psk is not None else "no pre-shared key was given"


def _sane(target: Target, version: int, name: str) -> tuple[CaseResult, int]:
    """Everything that a sane requester does, by the library: a peer that fails here fails.

    Returns:
        The result, and the peer's capabilities; all there are when it did not tell them.
    """
    flags = _UNKNOWN
    findings: list[Finding] = []
    clause = "DSP0274 10"

    def conversation(connection: Connection) -> Exchange[None]:
        nonlocal flags
        link = Link(connection)
        talk = Talk(connection, version, clause, target.facts)
        yield from negotiate(link)
        flags = connection.peer.flags
        findings.append(Finding(True, "a sane negotiation succeeds", clause))
        if not flags & F.CERT_CAP:
            return
        digests = yield from get_digests(link)
        key = talk.verified((yield from get_certificate(link, min(digests.slots))))
        findings.append(Finding(True, "digests and a chain can be read", clause))
        slot = min(digests.slots)
        if flags & F.CHAL_CAP:
            yield from challenge(link, key, slot_id=slot)
            findings.append(Finding(True, "a sane challenge succeeds", clause))
        if flags & F.MEAS_CAP_MASK == F.MEAS_CAP_SIG:
            yield from get_signed_measurements(link, key, slot_id=slot)
            findings.append(Finding(True, "signed measurements can be read", clause))
        elif flags & F.MEAS_CAP_MASK:
            yield from get_measurements(link)
            findings.append(Finding(True, "measurements can be read", clause))

    result = CaseResult(name, "a sane conversation succeeds", clause, version, Outcome.PASSED)
    started = time.perf_counter()
    try:
        target.converse((version,), conversation)
    except SpdmError as error:
        findings.append(Finding(False, f"a sane conversation succeeds: {error}", clause))
        result = replace(result, outcome=Outcome.FAILED, detail=str(error))
    seconds = time.perf_counter() - started
    return replace(result, findings=tuple(findings), seconds=seconds), flags
