"""What only a live conversation can vouch for; and devices that are known from before."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spdmkit.attestation.appraiser import appraise
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.collect import Collected, Wanted, collect, collect_psk
from spdmkit.attestation.known_devices import KnownDevices
from spdmkit.attestation.outcome import AttestationResult, Verdict
from spdmkit.attestation.policy import IdentityRule, Policy, ReferenceRule
from spdmkit.attestation.reference.loader import Reference
from spdmkit.attestation.reference.model import AppliesTo
from spdmkit.attestation.revocation import load_revocation
from spdmkit.attestation.verification import (
    EvidenceError,
    LiveProof,
    VerifiedEvidence,
    verify_evidence,
    witness_psk,
)
from spdmkit.errors import ConfigurationError
from spdmkit.identity import ChainCache, Outcome
from spdmkit.messages import V13
from spdmkit.protocol.requester.sessions import PreSharedKey
from tests.protocol.support import PSK, PSK_HINT, MemoryDevice, Pair

from .lab import (
    DAY,
    EVERYTHING,
    EXTENDED,
    NOW,
    authority,
    good_evidence,
    good_manifest,
    log_bytes,
    make_device,
    reference,
    trust,
)

NO_SIGNATURE = (EVERYTHING & ~0x18) | 0x08


def gather(device: MemoryDevice, capabilities: int = EVERYTHING, **wanted: Any) -> Collected:
    pair = Pair(device, versions=(V13,), responder={"capabilities": capabilities})
    return pair.run(collect(pair.link, trust(), Wanted(now=NOW, **wanted)))


def judge(verified: VerifiedEvidence, references: tuple[Reference, ...] = ()) -> AttestationResult:
    given = references or (reference(good_manifest()),)
    return appraise(verified, Expectations(NOW), references=given)


def outcomes(result: AttestationResult) -> dict[str, Outcome]:
    return {step.name: step.outcome for step in result.steps}


def test_signed_measurements_in_a_session_are_trusted_and_can_be_kept() -> None:
    collected = gather(make_device(), session=True)
    live = judge(collected.verified(trust()))
    kept = judge(verify_evidence(collected.evidence, trust()))
    assert live.verdict is kept.verdict is Verdict.TRUSTED
    assert outcomes(live)["session"] is outcomes(kept)["session"] is Outcome.PASSED


def test_unsigned_measurements_in_a_session_convince_only_who_was_there() -> None:
    collected = gather(make_device(), NO_SIGNATURE, session=True)
    live = judge(collected.verified(trust()))
    assert live.verdict is Verdict.TRUSTED
    assert outcomes(live)["signature"] is Outcome.NOT_COVERED
    kept = judge(verify_evidence(collected.evidence, trust()))
    assert kept.verdict is Verdict.NOT_APPRAISED
    assert kept.measurements == ()


def test_unsigned_measurements_in_the_clear_convince_nobody() -> None:
    collected = gather(make_device(), NO_SIGNATURE)
    assert collected.unsigned
    live = judge(collected.verified(trust()))
    assert live.verdict is Verdict.NOT_APPRAISED
    assert live.measurements == ()


def test_the_proof_of_another_conversation_does_not_count() -> None:
    mine = gather(make_device())
    other = gather(make_device())
    broken = mine.evidence.exchanges[-1].messages[-1][:-1] + b"\0"
    exchanges = (
        *mine.evidence.exchanges[:-1],
        mine.evidence.exchanges[-1]._replace(
            messages=(*mine.evidence.exchanges[-1].messages[:-1], broken),
        ),
    )
    altered = replace(mine.evidence, exchanges=exchanges)
    for proof in (mine.proof, other.proof, replace(mine.proof, vca=b"")):
        with pytest.raises(EvidenceError):
            verify_evidence(altered, trust(), live=proof)
    other_vca = replace(mine.evidence, vca=other.evidence.vca[:4] + mine.evidence.vca[4:])
    if other_vca != mine.evidence:
        with pytest.raises(EvidenceError):
            verify_evidence(other_vca, trust(), live=mine.proof)


def test_a_live_proof_saves_the_second_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    collected = gather(make_device())
    calls: list[object] = []
    monkeypatch.setattr(
        "spdmkit.attestation.verification.signing.verify", lambda *a, **k: calls.append(a)
    )
    collected.verified(trust())
    assert calls == []
    verify_evidence(collected.evidence, trust(), live=LiveProof(collected.proof.key))
    assert len(calls) == 2


@pytest.mark.parametrize("session", [False, True], ids=["clear", "session"])
@pytest.mark.parametrize("raw", [False, True], ids=["digests", "raw"])
@pytest.mark.parametrize("challenge", [False, True], ids=["unchallenged", "challenged"])
def test_what_was_read_live_is_what_the_evidence_says(
    challenge: bool, raw: bool, session: bool
) -> None:
    collected = gather(make_device(), challenge=challenge, raw=raw, session=session)
    live = collected.verified(trust())
    kept = verify_evidence(collected.evidence, trust())
    assert live.statements == kept.statements
    assert [step.name for step in live.steps] == [step.name for step in kept.steps]


def test_a_log_that_is_not_wanted_is_not_read() -> None:
    assert gather(make_device(), measurement_log=False).evidence.measurement_log == b""


def test_a_chain_known_before_is_not_verified_again() -> None:
    cache = ChainCache()
    first = verify_evidence(good_evidence(), trust(cache=cache))
    again = verify_evidence(good_evidence(), trust(cache=cache))
    assert len(cache) == 1
    assert first.chain is not None
    assert again.chain is not None
    assert again.chain.anchor is first.chain.anchor
    with pytest.raises(EvidenceError):  # time is judged each time
        verify_evidence(good_evidence(), trust(cache=cache, time=NOW + 2000 * DAY))
    with pytest.raises(EvidenceError):  # and other anchors are other entries
        verify_evidence(good_evidence(), trust("Elsewhere", cache=cache))


# --- the log -----------------------------------------------------------------------------------


def test_the_log_is_in_the_evidence_and_leads_to_what_is_signed() -> None:
    collected = gather(make_device())
    assert collected.evidence.measurement_log == log_bytes()
    result = judge(verify_evidence(collected.evidence, trust()))
    assert outcomes(result)["measurement-log"] is Outcome.PASSED


def test_a_log_that_grows_is_read_again_with_the_measurements() -> None:
    from spdmkit.attestation.measurement_log import replay
    from spdmkit.crypto.registry import BASE_HASH
    from spdmkit.messages import MeasurementLog, MeasurementLogEntry

    device = make_device()
    grown = MeasurementLog(
        entries=[
            MeasurementLogEntry(mel_index=n, meas_index=EXTENDED, kind=1, raw=True, value=b"x")
            for n in range(1, 4)
        ]
    )
    old_values = device.values
    reads: list[int] = []

    def log(_algorithm: object) -> bytes:
        if not reads:  # it grows after the measurements were read for the first time
            digests = tuple((h.name, replay(grown, h)[EXTENDED]) for h in BASE_HASH if h.available)
            device.values = [
                replace(each, digests=digests) if each.index == EXTENDED else each
                for each in old_values
            ]
        reads.append(1)
        return log_bytes(grown)

    device.measurement_log = log  # type: ignore[method-assign, assignment] # a device that grows
    collected = gather(device)
    result = judge(verify_evidence(collected.evidence, trust()))
    assert outcomes(result)["measurement-log"] is Outcome.PASSED
    assert len(reads) == 2


# --- pre-shared keys ---------------------------------------------------------------------------


def by_key(device: MemoryDevice) -> VerifiedEvidence:
    pair = Pair(device, versions=(V13,))
    wanted = Wanted(target="tcp://device")
    collected = pair.run(collect_psk(pair.link, PreSharedKey(PSK_HINT, PSK), wanted))
    return collected.verified(wanted, NOW)


def test_a_pre_shared_key_names_the_key_and_no_identity() -> None:
    verified = by_key(make_device())
    named = reference(replace(good_manifest(), applies_to=AppliesTo()))
    result = judge(verified, (named,))
    assert result.verdict is Verdict.TRUSTED
    assert result.identity == {"psk_hint": "hint"}
    assert outcomes(result)["chain"] is Outcome.SKIPPED
    assert outcomes(result)["identity"] is Outcome.UNPINNED
    assert outcomes(result)["measurement-summary"] is Outcome.PASSED
    assert outcomes(result)["measurement-log"] is Outcome.PASSED
    step = next(step for step in result.steps if step.name == "evidence")
    assert step.detail == "in a session that only we witnessed: measurements"


def test_values_for_a_product_are_not_for_whoever_holds_a_key() -> None:
    result = judge(by_key(make_device()))
    assert result.verdict is Verdict.NOT_APPRAISED


def test_an_identity_cannot_be_expected_of_a_key() -> None:
    verified = by_key(make_device())
    expectations = Expectations(NOW, identities=("ACME:Widget:0001",))
    result = appraise(verified, expectations, policy=Policy(references=ReferenceRule()))
    assert [step.name for step in result.failed_steps()] == ["identity"]


@pytest.mark.parametrize(
    "rule", [IdentityRule(demand_revocation=True), IdentityRule(demand_hardware_identity=True)]
)
def test_demands_on_certificates_are_not_met_by_having_none(rule: IdentityRule) -> None:
    named = reference(replace(good_manifest(), applies_to=AppliesTo()))
    policy = Policy(identity=rule)
    result = appraise(by_key(make_device()), Expectations(NOW), policy=policy, references=(named,))
    assert [step.name for step in result.failed_steps()] == ["identity"]


def test_only_a_session_by_pre_shared_key_is_one() -> None:
    pair = Pair(make_device(), versions=(V13,))
    collected = pair.run(collect(pair.link, trust(), Wanted(session=True), keep_session=True))
    assert collected.session is not None
    with pytest.raises(ConfigurationError, match="not opened by a pre-shared key"):
        witness_psk(collected.session, (), hint=b"x", time=NOW)


# --- known devices -----------------------------------------------------------------------------

KEY, OTHER = "ab" * 32, "cd" * 32


def test_known_devices_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "known"
    known = KnownDevices.load(path)
    assert known.keys == {}
    known.remember("tcp://b", OTHER.upper(), "ACME:Widget:0002")
    known.remember("tcp://a", KEY, "evil\nname # and more")
    known.save(path)
    assert path.read_text().splitlines() == [
        f"tcp://a spki-sha256:{KEY} evil\\x0aname  and more",
        f"tcp://b spki-sha256:{OTHER} ACME:Widget:0002",
    ]
    again = KnownDevices.load(path)
    assert again.keys == {"tcp://a": KEY, "tcp://b": OTHER}
    assert again.names["tcp://b"] == "ACME:Widget:0002"


@pytest.mark.parametrize(
    "text",
    [
        "tcp://a\n",
        f"tcp://a {KEY}\n",
        "tcp://a spki-sha256:abcd\n",
        f"# fine\ntcp://a spki-sha256:{KEY}\ntcp://a spki-sha256:{OTHER}\n",
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"known:{text.count(chr(10))}: "):
        KnownDevices.load(path)


def test_odd_targets_cannot_be_remembered(tmp_path: Path) -> None:
    known = KnownDevices()
    for target, key in (("a b", KEY), ("", KEY), ("a#b", KEY), ("a", "xyz")):
        with pytest.raises(ConfigurationError):
            known.remember(target, key)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        KnownDevices.load(tmp_path / "binary")


# --- revocation --------------------------------------------------------------------------------


def test_revocation_lists_come_from_files(tmp_path: Path) -> None:
    _, middle = authority()
    at = dt.datetime.fromtimestamp(NOW, dt.UTC)
    day = dt.timedelta(days=1)
    path = tmp_path / "lab.crl"
    path.write_bytes(middle.revocation_list([], number=1, issued=at - day, until=at + day))
    data = load_revocation([path])
    verified = verify_evidence(good_evidence(), trust(revocation=data))
    step = next(step for step in verified.steps if step.name == "revocation")
    assert "1 not revoked" in step.detail
    assert "certificate 1" in step.detail  # nothing covers the authority itself
    without = verify_evidence(good_evidence(), trust(revocation=load_revocation()))
    step = next(step for step in without.steps if step.name == "revocation")
    assert (step.outcome, step.detail) == (
        Outcome.NOT_CHECKED,
        "no CRL or OCSP response given",
    )


def test_files_that_are_no_lists_are_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.crl"
    path.write_bytes(b"not a list")
    for arguments in ({"crls": [path]}, {"ocsp_responses": [path]}):
        with pytest.raises(ConfigurationError, match=r"odd\.crl"):
            load_revocation(**arguments)
    with pytest.raises(ConfigurationError):
        load_revocation([tmp_path / "absent"])
