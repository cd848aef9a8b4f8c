"""A result as plain data, and as JSON with a stable shape.

verdict        "trusted", "untrusted" or "not-appraised"
reasons        why it is not trusted, most weighty first
spdm_version   "1.2"
algorithms     {"hash": "sha-384", "signature": "ecdsa-p384", ...}
identity       claims of the device: subject, san, spki_sha256, ...
measurements   [{index, type, value, result, detail, name, reference, expected, digest,
required}]
summary        {"match": 5, ...}: how many measurements have which result
steps          [{name, outcome, detail}]
chain_steps    likewise, of the certificate chain
references     reference values that were used
facts          what a vendor profile read from the evidence
device_mode    states of the device mode block
policy         identifier of the policy
appraised_at   RFC 3339
collected_at   RFC 3339, or null
target         address the evidence was collected from
transport      how
nonces         hexadecimal
timings        seconds by part
"""

from __future__ import annotations

import json
from typing import Any

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.outcome import AttestationResult, MeasurementResult
from spdmkit.identity import Step

__all__ = ["to_dict", "to_json"]


def to_dict(result: AttestationResult) -> dict[str, Any]:
    """The result as plain data, in the order of the module's list."""
    collected = result.collected_at
    return {
        "verdict": str(result.verdict),
        "reasons": list(result.reasons),
        "spdm_version": result.spdm_version or None,
        "algorithms": dict(result.algorithms),
        "identity": dict(result.identity),
        "measurements": [_measurement(each) for each in result.measurements],
        "summary": result.counts(),
        "steps": [_step(each) for each in result.steps],
        "chain_steps": [_step(each) for each in result.chain_steps],
        "references": list(result.references),
        "facts": dict(result.facts),
        "device_mode": dict(result.device_mode),
        "policy": result.policy,
        "appraised_at": describe_time(result.appraised_at),
        "collected_at": None if collected is None else describe_time(collected),
        "target": result.target,
        "transport": result.transport,
        "nonces": list(result.nonces),
        "timings": dict(result.timings),
    }


def to_json(result: AttestationResult) -> str:
    """One JSON document, indented."""
    return json.dumps(to_dict(result), indent=2, ensure_ascii=False)


def _measurement(each: MeasurementResult) -> dict[str, Any]:
    return {
        "index": each.index,
        "type": each.type,
        "value": each.value,
        "result": str(each.result),
        "detail": each.detail,
        "name": each.name,
        "reference": each.reference,
        "expected": list(each.expected),
        "digest": each.digest,
        "required": each.required,
    }


def _step(step: Step) -> dict[str, str]:
    return {"name": step.name, "outcome": str(step.outcome), "detail": step.detail}
