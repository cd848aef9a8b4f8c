"""The report for people: one HTML file, nothing fetched from anywhere, fit for paper.

Everything that came from a peer or a file passes Jinja's escaping; control characters were made
visible before (`identity.safe_text`).
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from typing import Any, Final

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.outcome import AttestationResult, MeasurementOutcome, Verdict
from spdmkit.errors import ConfigurationError
from spdmkit.identity import Outcome

__all__ = ["to_html"]

_HEADLINES: Final = {
    Verdict.TRUSTED: (
        "Trusted",
        "The device proved who it is, and everything that is required of it is as it should be.",
    ),
    Verdict.UNTRUSTED: (
        "Not trusted",
        "At least one check failed. Do not rely on this device before the cause is known.",
    ),
    Verdict.NOT_APPRAISED: (
        "Not appraised",
        "The device proved who it is, but there is nothing to judge its measurements by.",
    ),
}

_WORDS: Final = {
    MeasurementOutcome.MATCH: "as expected",
    MeasurementOutcome.MISMATCH: "different",
    MeasurementOutcome.NO_REFERENCE: "no reference value",
    MeasurementOutcome.NOT_REQUIRED: "not required",
    MeasurementOutcome.STALE: "reference value out of date",
    MeasurementOutcome.MALFORMED: "malformed",
    MeasurementOutcome.MISSING: "missing",
}

_TONES: Final = {
    MeasurementOutcome.MATCH: "good",
    MeasurementOutcome.MISMATCH: "bad",
    MeasurementOutcome.NO_REFERENCE: "open",
    MeasurementOutcome.NOT_REQUIRED: "calm",
    MeasurementOutcome.STALE: "open",
    MeasurementOutcome.MALFORMED: "bad",
    MeasurementOutcome.MISSING: "bad",
    Outcome.PASSED: "good",
    Outcome.FAILED: "bad",
    Outcome.SKIPPED: "calm",
    Outcome.NOT_CHECKED: "open",
    Outcome.UNPINNED: "open",
    Outcome.NOT_COVERED: "open",
    Verdict.TRUSTED: "good",
    Verdict.UNTRUSTED: "bad",
    Verdict.NOT_APPRAISED: "open",
}

_STEP_WORDS: Final = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.SKIPPED: "does not apply",
    Outcome.NOT_CHECKED: "not checked",
    Outcome.UNPINNED: "not pinned",
    Outcome.NOT_COVERED: "not covered by a signature",
}

_BRIEF: Final = 32

_IDENTITY_LABELS: Final = {
    "san": "SPDM name",
    "manufacturer": "Manufacturer",
    "product": "Product",
    "device_serial": "Serial number",
    "subject": "Certificate subject",
    "issuer": "Certificate issuer",
    "serial": "Certificate serial number",
    "key_type": "Key",
    "spki_sha256": "Key fingerprint (SHA-256)",
    "psk_hint": "Pre-shared key",
}


def to_html(result: AttestationResult, *, title: str = "") -> str:
    """The report.

    Args:
        result: what was found.
        title: heading of the report; default the device's name or address.

    Raises:
        ConfigurationError: jinja2 is not installed.
    """
    headline, explanation = _HEADLINES[result.verdict]
    text: str = _template().render(
        result=result,
        title=title or _device_name(result) or result.target or "Device",
        headline=headline,
        explanation=explanation,
        identity=_identity(result),
        about=_about(result),
        bars=_bars(result),
        time=describe_time,
    )
    return text


@cache
def _template() -> Any:
    try:
        import jinja2  # noqa: PLC0415 - loaded when a report is written
    except ImportError:
        raise ConfigurationError(
            "HTML reports need jinja2, which is not installed",
            hint="install it with: pip install jinja2",
        ) from None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tone"] = lambda outcome: _TONES[outcome]
    environment.filters["word"] = lambda outcome: _WORDS[outcome]
    environment.filters["brief"] = _brief
    environment.filters["step_word"] = lambda outcome: _STEP_WORDS[outcome]
    source = importlib.resources.files(__package__).joinpath("report.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8"))


def _brief(value: str) -> str:
    """The beginning of a long value; all of it stands in the JSON result."""
    return value if len(value) <= _BRIEF else f"{value[:_BRIEF]}…"


def _device_name(result: AttestationResult) -> str:
    for key in ("san", "subject", "psk_hint"):
        value = result.identity.get(key)
        if isinstance(value, str) and value:
            return value
    return ""


def _identity(result: AttestationResult) -> list[tuple[str, str]]:
    return [
        (label, str(result.identity[key]))
        for key, label in _IDENTITY_LABELS.items()
        if result.identity.get(key)
    ]


def _about(result: AttestationResult) -> list[tuple[str, str]]:
    """What the report is about, in rows; empty ones are left out."""
    collected = "" if result.collected_at is None else describe_time(result.collected_at)
    algorithms = ", ".join(
        f"{kind.replace('_', ' ')} {name}" for kind, name in result.algorithms.items()
    )
    rows = [
        ("Address", result.target),
        ("Reached by", result.transport),
        ("Evidence collected", collected),
        ("Appraised", describe_time(result.appraised_at)),
        ("SPDM version", result.spdm_version),
        ("Algorithms", algorithms),
        ("Policy", result.policy),
        ("Reference values", "; ".join(result.references) or "none"),
        ("Device mode", ", ".join(result.device_mode.get("operational", []))),
        ("Debug states", ", ".join(result.device_mode.get("debug", []))),
    ]
    return [row for row in rows if row[1]]


def _bars(result: AttestationResult) -> list[tuple[str, str, int, float]]:
    """The measurements by result: tone, word, number, share in percent."""
    total = len(result.measurements)
    return [
        (
            _TONES[MeasurementOutcome(outcome)],
            _WORDS[MeasurementOutcome(outcome)],
            number,
            round(100 * number / total, 2),
        )
        for outcome, number in result.counts().items()
    ]
