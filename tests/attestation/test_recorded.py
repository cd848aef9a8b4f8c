"""Recorded conversations are evidence too: every signed answer in the clear verifies again."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from spdmkit.attestation.appraiser import appraise
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.evidence import Evidence, ExchangeKind
from spdmkit.attestation.policy import Policy, ProtocolRule
from spdmkit.attestation.verification import DeviceTrust, EvidenceError, verify_evidence
from spdmkit.identity import ChainCache, Outcome

from .recorded import VECTORS, anchors, evidence_of, load

NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))
NOW = int(time.time())
WITH_SIGNATURES = [name for name in NAMES if evidence_of(load(name))]


def test_most_recordings_have_something_signed() -> None:
    assert len(WITH_SIGNATURES) >= 12
    kinds = {
        exchange.kind
        for name in WITH_SIGNATURES
        for each in evidence_of(load(name))
        for exchange in each.exchanges
    }
    assert kinds == {ExchangeKind.CHALLENGE, ExchangeKind.MEASUREMENTS}


@pytest.mark.parametrize("name", WITH_SIGNATURES)
def test_recorded_signatures_verify_and_hash_as_recorded(name: str) -> None:
    recording = load(name)
    trust = DeviceTrust(NOW, anchors(recording), cache=ChainCache())
    wanted = {
        kind: [bytes.fromhex(value) for label, value in recording["derived"] if label == what]
        for kind, what in (
            (ExchangeKind.CHALLENGE, "m1m2_hash"),
            (ExchangeKind.MEASUREMENTS, "l1l2_hash"),
        )
    }
    for evidence in evidence_of(recording):
        verified = verify_evidence(evidence, trust)
        (statement,) = verified.statements
        digest = verified.negotiated.selection.base_hash.digest(statement.covered)
        assert digest in wanted[statement.kind]
        assert Evidence.read(evidence.to_cbor()) == evidence
        broken = evidence.exchanges[0]._replace(
            messages=(
                *evidence.exchanges[0].messages[:-1],
                evidence.exchanges[0].messages[-1][:-1] + b"\0",
            ),
        )
        if broken != evidence.exchanges[0]:
            with pytest.raises(EvidenceError):
                verify_evidence(replace(evidence, exchanges=(broken,)), trust)


def joined(name: str) -> Evidence:
    """One piece of evidence out of all clear answers of a conversation's first slot."""
    pieces = evidence_of(load(name))
    slot = next(each.slot for each in pieces if each.exchanges[0].kind is ExchangeKind.CHALLENGE)
    same = [each for each in pieces if each.slot == slot]
    return replace(same[0], exchanges=tuple(each.exchanges[0] for each in same))


SIGNED = {ExchangeKind.CHALLENGE, ExchangeKind.MEASUREMENTS}
BOTH = [
    name
    for name in WITH_SIGNATURES
    if {each.exchanges[0].kind for each in evidence_of(load(name))} == SIGNED
]


@pytest.mark.parametrize("name", BOTH)
def test_the_summary_hash_is_that_of_the_measurements(name: str) -> None:
    evidence = joined(name)
    verified = verify_evidence(evidence, DeviceTrust(NOW, anchors(load(name))))
    policy = Policy(protocol=ProtocolRule(minimum_version=0x10))
    result = appraise(verified, Expectations(NOW), policy=policy)
    found = {step.name: step for step in result.steps}
    # One recording reads index by index, and each index that does not exist begins L1/L2 anew.
    whole = name != "v10_measurements_one_by_one"
    assert verified.summaries
    assert verified.blocks
    expected = Outcome.PASSED if whole else Outcome.NOT_CHECKED
    assert found["measurement-summary"].outcome is expected
    assert found["negotiation"].outcome is Outcome.PASSED


def test_unsigned_measurements_are_covered_by_the_signature_that_follows() -> None:
    evidence = max(
        evidence_of(load("v10_measurements_one_by_one")),
        key=lambda each: (
            each.exchanges[0].kind is ExchangeKind.MEASUREMENTS,
            len(each.exchanges[0].messages),
        ),
    )
    assert len(evidence.exchanges[0].messages) > 2
    trust = DeviceTrust(NOW, anchors(load("v10_measurements_one_by_one")))
    verified = verify_evidence(evidence, trust)
    assert len(verified.blocks) > 1
    changed = list(evidence.exchanges[0].messages)
    changed[1] = changed[1][:20] + bytes([changed[1][20] ^ 1]) + changed[1][21:]
    with pytest.raises(EvidenceError) as caught:
        verify_evidence(
            replace(evidence, exchanges=(evidence.exchanges[0]._replace(messages=tuple(changed)),)),
            trust,
        )
    assert caught.value.step == "signature"
