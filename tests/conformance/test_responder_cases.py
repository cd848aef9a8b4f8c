"""Every case passes against our responder, and fails against one that breaks just its rule."""

from __future__ import annotations

import pytest

from spdmkit.conformance.case import Case
from spdmkit.conformance.outcome import CaseResult, Outcome
from spdmkit.conformance.responder import responder_cases
from spdmkit.conformance.runner import run_case, run_cases
from spdmkit.messages import V10, V11, V12, V13, V14

from .support import CAPABLE, MemoryTarget

VERSIONS = (V14, V13, V12, V11, V10)


def failures(results: list[CaseResult]) -> list[str]:
    return [
        f"{result.name} {result.version:#x}: {result.detail or [f.words for f in result.failures]}"
        for result in results
        if result.outcome in (Outcome.FAILED, Outcome.ERROR)
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_our_responder_passes(version: int) -> None:
    results = list(run_cases(MemoryTarget(), responder_cases(), versions=[version]))
    assert failures(results) == []
    assert results[0].name == "sanity.first"
    assert results[-1].name == "sanity.last"


def version_for(case: Case) -> int:
    return case.until if case.until < V14 else max(case.since, V13)


@pytest.mark.parametrize(
    "case", [c for c in responder_cases() if c.breaks is not None], ids=lambda c: c.name
)
def test_each_case_finds_the_peer_that_breaks_its_rule(case: Case) -> None:
    version = version_for(case)
    found = run_case(MemoryTarget(misbehaviour=case.breaks), case, version, int(CAPABLE))
    assert found.outcome is Outcome.FAILED, found
    assert found.failures, "it fails by an assertion, not by an accident"


def test_every_case_says_how_it_is_broken() -> None:
    assert [case.name for case in responder_cases() if case.breaks is None] == []


def test_names_are_unique_and_clauses_named() -> None:
    names = [case.name for case in responder_cases()]
    assert len(names) == len(set(names))
    assert all(case.clause.startswith("DSP0") for case in responder_cases())
