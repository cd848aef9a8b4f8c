"""Results of a conformance run as JSON and as JUnit XML; counts for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from spdmkit.conformance.outcome import CaseResult, Outcome
from spdmkit.identity import safe_text

if TYPE_CHECKING:
    from spdmkit.conformance.talk import Finding

__all__ = ["counts", "failed", "to_json", "to_junit", "version_text"]


def version_text(version: int) -> str:
    """An SPDM version as people write it; empty for rules that no version has."""
    return f"{version >> 4}.{version & 0xF}" if version else ""


def counts(results: Iterable[CaseResult]) -> dict[str, int]:
    """How many cases ended how, and how many assertions were made and failed."""
    found: Counter[str] = Counter()
    for result in results:
        found[result.outcome.value] += 1
        found["assertions"] += len(result.findings)
        found["assertions_failed"] += len(result.failures)
    names = (*(outcome.value for outcome in Outcome), "assertions", "assertions_failed")
    return {name: found[name] for name in names}


def failed(results: Iterable[CaseResult]) -> bool:
    """Whether any case failed, or could not be run."""
    return any(result.outcome in (Outcome.FAILED, Outcome.ERROR) for result in results)


def to_json(results: Sequence[CaseResult], target: str) -> str:
    """One JSON document: summary, and each case with its assertions."""
    document = {
        "target": target,
        "summary": counts(results),
        "cases": [_case(result) for result in results],
    }
    return json.dumps(document, indent=2)


def to_junit(results: Sequence[CaseResult], target: str) -> bytes:
    """JUnit XML: a test suite for each SPDM version."""
    root = ET.Element("testsuites", name=f"spdm conformance {safe_text(target)}")
    versions = list(dict.fromkeys(result.version for result in results))
    for version in versions:
        members = [result for result in results if result.version == version]
        number = counts(members)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"SPDM {version_text(version)}" if version else "binding",
            tests=str(len(members)),
            failures=str(number["failed"]),
            errors=str(number["error"]),
            skipped=str(number["not-applicable"]),
            time=f"{sum(result.seconds for result in members):.3f}",
        )
        for result in members:
            _junit_case(suite, result)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "clause": result.clause,
        "spdm_version": version_text(result.version),
        "outcome": result.outcome.value,
        "detail": safe_text(result.detail),
        "assertions": [_finding(finding) for finding in result.findings],
        "seconds": round(result.seconds, 6),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {"holds": finding.holds, "words": safe_text(finding.words), "clause": finding.clause}


def _junit_case(suite: ET.Element, result: CaseResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=result.name.partition(".")[0],
        name=result.name,
        time=f"{result.seconds:.3f}",
    )
    said = [f"{f.clause}: {f.words}" for f in result.failures]
    words = safe_text("; ".join(said) or result.detail)
    if result.outcome is Outcome.FAILED:
        ET.SubElement(case, "failure", message=words).text = f"{result.clause}: {result.title}"
    elif result.outcome is Outcome.ERROR:
        ET.SubElement(case, "error", message=words)
    elif result.outcome is Outcome.NOT_APPLICABLE:
        ET.SubElement(case, "skipped", message=safe_text(result.detail))
