"""The evidence of a real GPU against its two real manifests, index by index."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from spdmkit.attestation.appraiser import appraise, refused
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.evidence_export import export_redfish
from spdmkit.attestation.evidence_import import import_bare, import_redfish
from spdmkit.attestation.outcome import AttestationResult, MeasurementOutcome, Verdict
from spdmkit.attestation.policy import Policy, ProtocolRule, ReferenceRule
from spdmkit.attestation.reference.json_format import from_json, to_json
from spdmkit.attestation.reference.loader import Reference, load_references
from spdmkit.attestation.reference.model import AllowedDigest
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.attestation.verification import (
    DeviceTrust,
    EvidenceError,
    VerifiedEvidence,
    verify_evidence,
)
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.errors import DecodeError
from spdmkit.identity import ChainCache, Outcome, Purpose, TrustAnchors

H100 = Path(__file__).parent.parent / "data" / "nvidia-h100"
IN_2024 = int(dt.datetime(2024, 8, 1, tzinfo=dt.UTC).timestamp())
REPORT = (H100 / "attestation_report.hex").read_bytes()
CHAIN = (H100 / "certificate_chain.pem").read_bytes()
NONCE = bytes.fromhex(REPORT.decode()[8:72])
M = MeasurementOutcome

# Counted from 0, as the manifests count; measurement blocks count from 1.
MATCH = {0, 4, 5, 6, 8, 10, 12} | {23, 24, 28, 33, 35, 38}
DIFFER = {1, 2, 3, 9, 11} | {7, 21, 22, 25, 26, 27, 29, 30, 31, 32, 34, 36, 37, 39, 40}
NOTHING = set(range(13, 21)) | set(range(41, 64))

LENIENT = Policy(
    protocol=ProtocolRule(minimum_version=0x11, accept_uncovered_negotiation=True),
    references=ReferenceRule(check_release=False),
)


@cache
def trust() -> DeviceTrust:
    return DeviceTrust(IN_2024, TrustAnchors.from_files([H100 / "device_root.pem"], Purpose.DEVICE))


@cache
def verified() -> VerifiedEvidence:
    return verify_evidence(import_bare(REPORT, certificates=CHAIN), trust())


@cache
def references() -> tuple[Reference, ...]:
    anchors = TrustAnchors.from_files([H100 / "rim_root.pem"], Purpose.REFERENCE_SIGNER)
    check = SignerCheck(anchors, IN_2024)
    names = ("driver_rim.swidtag", "vbios_rim.swidtag")
    return tuple(each for name in names for each in load_references(H100 / name, check))


def run(given: tuple[Reference, ...], policy: Policy = LENIENT) -> AttestationResult:
    return appraise(verified(), Expectations(IN_2024), policy=policy, references=given)


def by_result(result: AttestationResult) -> dict[MeasurementOutcome, set[int]]:
    found: dict[MeasurementOutcome, set[int]] = {}
    for each in result.measurements:
        found.setdefault(each.result, set()).add(each.index - 1)
    return found


def test_every_index_is_accounted_for() -> None:
    result = run(references())
    assert by_result(result) == {M.MATCH: MATCH, M.MISMATCH: DIFFER, M.NO_REFERENCE: NOTHING}
    assert len(result.measurements) == 64
    assert result.verdict is Verdict.UNTRUSTED
    (failed,) = result.failed_steps()
    assert failed.name == "measurements"
    assert failed.detail.startswith("13 match, 20 mismatch, 31 no-reference; index 2, 3, 4, 8,")


def test_the_releases_differ_and_the_default_policy_says_so() -> None:
    result = run(references(), Policy())
    assert [step.name for step in result.failed_steps()] == ["version", "release", "measurements"]
    release = next(step for step in result.steps if step.name == "release")
    assert "driver 550.90.07 is reported, the values are for 545.00" in release.detail
    assert "vbios 96.00.9F.00.01 is reported, the values are for 96.00.5E.00.01" in release.detail
    assert result.facts["chip_sku"] == "882"
    assert result.facts["nvdec0"] == "disabled"


def test_the_report_of_spdm_1_1_does_not_cover_its_negotiation() -> None:
    outcomes = {step.name: step.outcome for step in verified().steps}
    assert outcomes["negotiation"] is Outcome.NOT_COVERED
    assert outcomes["signature"] is Outcome.PASSED
    assert outcomes["chain"] is Outcome.PASSED
    assert verified().nonces == (NONCE,)
    assert verified().claims.describe() == "NVIDIA:GH100:48B02D92494BADF4"


def test_a_match_by_an_alternative_says_which() -> None:
    found = {each.index - 1: each for each in run(references()).measurements}
    assert found[35].detail == "alternative 2 of 2"
    assert not found[35].required  # the video decoder is off, so this index does not count
    assert found[12].detail.endswith("of 4")
    assert found[4].name == "HashedMeasurement_4_FSP"
    assert found[4].reference == "GH100 vbios 96.00.5E.00.01"


def tampered(index: int) -> tuple[Reference, ...]:
    """The references with one golden value of an index altered (all its alternatives)."""
    changed = []
    for reference in references():
        entries = tuple(
            replace(entry, digests=tuple(_other(each) for each in entry.digests))
            if entry.index == index
            else entry
            for entry in reference.manifest.measurements
        )
        manifest = replace(reference.manifest, measurements=entries)
        changed.append(replace(reference, manifest=manifest, signer=None))
    return tuple(changed)


def _other(digest: AllowedDigest) -> AllowedDigest:
    return AllowedDigest(digest.algorithm, bytes([digest.value[0] ^ 1]) + digest.value[1:])


@pytest.mark.parametrize("number", sorted(MATCH))
def test_one_altered_golden_value_changes_that_index_and_nothing_else(number: int) -> None:
    before = {each.index: each.result for each in run(references()).measurements}
    after = {each.index: each.result for each in run(tampered(number + 1)).measurements}
    differing = {index for index in before if before[index] is not after[index]}
    assert differing == {number + 1}
    # Index 35 of the manifest counts only while the video decoder is on, which it is not.
    assert after[number + 1] is (M.NOT_REQUIRED if number == 35 else M.MISMATCH)


def test_values_that_all_agree_make_it_trusted() -> None:
    """Manifests of the device's own release, as the vendor would publish them."""
    blocks = {block.index: block for block in verified().blocks}
    own = []
    for reference in references():
        manifest = reference.manifest
        entries = tuple(
            replace(entry, digests=(AllowedDigest("sha-384", blocks[entry.index].value),))
            for entry in manifest.measurements
        )
        release = {"driver": "550.90.07", "vbios": "96.00.9F.00.01"}[manifest.component]
        own.append(
            replace(reference, manifest=replace(manifest, measurements=entries, release=release))
        )
    policy = Policy(protocol=LENIENT.protocol)
    result = run(tuple(own), policy)
    assert (result.verdict, result.reasons) == (Verdict.TRUSTED, ())
    assert by_result(result)[M.NO_REFERENCE] == NOTHING  # declared inactive by the manifests
    # with both releases at hand, each part takes the manifest that fits
    assert run((*references(), *own), policy).verdict is Verdict.TRUSTED
    assert run(tuple(own), Policy()).verdict is Verdict.UNTRUSTED


def test_one_manifest_alone_leaves_the_rest_open() -> None:
    driver = references()[:1]
    found = by_result(run(driver))
    assert found[M.NO_REFERENCE] == set(range(64)) - {7, *range(21, 41)}


def test_two_parts_with_one_index_are_a_conflict() -> None:
    driver, vbios = references()
    overlapping = replace(vbios.manifest, measurements=driver.manifest.measurements)
    result = run((driver, replace(vbios, manifest=overlapping)))
    assert "both have values for index 8" in next(
        step.detail for step in result.steps if step.name == "references"
    )
    assert result.verdict is Verdict.UNTRUSTED


def test_exported_values_judge_alike() -> None:
    kept = tuple(
        replace(each, manifest=from_json(to_json(each.manifest)), signer=None)
        for each in references()
    )
    assert by_result(run(kept)) == by_result(run(references()))


def test_values_for_another_product_are_not_used() -> None:
    driver, vbios = references()
    other = replace(
        vbios.manifest, applies_to=replace(vbios.manifest.applies_to, product=("GB100",))
    )
    result = run((driver, replace(vbios, manifest=other)))
    step = next(step for step in result.steps if step.name == "references")
    assert "is for product GB100, the device says GH100" in step.detail
    assert by_result(result)[M.MATCH] == MATCH - set(range(13))


# --- the report itself -------------------------------------------------------------------------


def test_binary_and_hexadecimal_are_the_same() -> None:
    binary = bytes.fromhex(REPORT.decode().strip())
    assert import_bare(binary, certificates=CHAIN) == import_bare(REPORT, certificates=CHAIN)


@pytest.mark.parametrize("at", [*range(0, 50, 3), *range(3565, 4117, 23)])
def test_a_flipped_bit_is_caught_in_a_named_step(at: int) -> None:
    broken = bytearray(bytes.fromhex(REPORT.decode().strip()))
    broken[at] ^= 1
    try:
        evidence = import_bare(bytes(broken), certificates=CHAIN)
        verify_evidence(evidence, trust())
    except (EvidenceError, DecodeError) as error:
        result = refused(error, Expectations(IN_2024))
    else:
        pytest.fail(f"byte {at} may be changed")
    assert result.exit_code() == 1
    assert result.failed_steps()[0].name in ("decode", "signature")


def test_no_bit_of_the_report_can_be_flipped() -> None:
    """Five hundred bits from all over it, each with exit code 1 and a step that says why."""
    report = bytes.fromhex(REPORT.decode().strip())
    sources = Sources(trust_anchors=[H100 / "device_root.pem"], bare=True)
    verifier = Verifier.from_files(sources, cache=ChainCache())
    steps = Counter[str]()
    for bit in range(0, 8 * len(report), 8 * len(report) // 500):
        broken = bytearray(report)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            evidence = import_bare(bytes(broken), certificates=CHAIN)
        except DecodeError as error:
            result = verifier.refused(error, IN_2024)
        else:
            result = verifier.appraise_evidence(evidence, IN_2024)
        assert result.exit_code() == result.exit_code(authenticate_only=True) == 1, bit
        (failed,) = result.failed_steps()
        steps[failed.name] += 1
    assert set(steps) == {"decode", "signature"}
    assert steps["signature"] > 400


def test_freshness_by_the_nonce() -> None:
    def nonce_step(nonces: frozenset[bytes]) -> Outcome:
        result = appraise(verified(), Expectations(IN_2024, nonces=nonces))
        return next(step.outcome for step in result.steps if step.name == "nonce")

    assert nonce_step(frozenset()) is Outcome.NOT_CHECKED
    assert nonce_step(frozenset({NONCE})) is Outcome.PASSED
    assert nonce_step(frozenset({bytes(32)})) is Outcome.FAILED


def test_the_file_form_keeps_everything() -> None:
    evidence = verified().evidence
    for data in (evidence.to_cbor(), evidence.to_json()):
        assert Evidence.read(data) == evidence
        assert verify_evidence(Evidence.read(data), trust()).blocks == verified().blocks


def test_redfish_and_back() -> None:
    response = export_redfish(verified().evidence, certificate_uri="/redfish/v1/Certificates/1")
    evidence = import_redfish(response, certificates=CHAIN)
    assert evidence.transport == "redfish"
    assert evidence.target == "/redfish/v1/Certificates/1"
    assert dict(evidence.stated) == {"hash": "sha-384", "signature": "ecdsa-p384"}
    assert verify_evidence(evidence, trust()).blocks == verified().blocks


def test_the_page_says_what_is_found() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "h100.md"
    row = r"^\| (\d+) \| (\d+) \| (\w+) \| (\w+) \| (\w+) \|"
    rows = re.findall(row, page.read_text(), re.MULTILINE)
    said = {int(index): (name, part, result) for index, _, name, part, result in rows}
    found = {
        each.index: (each.name, each.reference.split()[1], str(each.result))
        for each in run(references()).measurements
        if each.reference
    }
    assert said == found
    assert all(int(index) == int(counted) + 1 for index, counted, *_ in rows)
