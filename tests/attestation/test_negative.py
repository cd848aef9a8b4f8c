"""One change to good evidence, values or circumstances each, and the step that catches it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from spdmkit.attestation.checks import CHECKS, Expectations
from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.evidence import Evidence, ExchangeKind, SignedExchange
from spdmkit.attestation.outcome import AttestationResult, MeasurementOutcome, Verdict
from spdmkit.attestation.policy import (
    Component,
    EvidenceRule,
    FreshnessRule,
    IdentityRule,
    Policy,
    ProtocolRule,
    ReferenceRule,
    WhenMissing,
)
from spdmkit.attestation.policy_file import read_policy
from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.attestation.reference.loader import read_references
from spdmkit.attestation.reference.model import Manifest
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.attestation.reference.store import RejectedReference
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import DecodeError, SpdmError
from spdmkit.identity import (
    CertificateChain,
    CertificateModel,
    ChainCache,
    KeyPurposeRule,
    Outcome,
    Purpose,
    RevocationData,
    TimePolicy,
    TrustAnchors,
    VerifiedChain,
    verify_chain,
)
from spdmkit.identity.issue import RevokedCertificate
from spdmkit.messages import (
    V10,
    V11,
    V12,
    V13,
    V14,
    VERSIONS,
    Context,
    MeasurementKind,
    MeasurementLog,
    MeasurementLogEntry,
)
from spdmkit.protocol.responder.device import Measurement
from tests.protocol.support import MemoryDevice, Pair

from .lab import (
    DAY,
    EVERYTHING,
    EXTENDED,
    FIRMWARE,
    MODE,
    NOW,
    ROM,
    SETTINGS,
    SVN,
    VERSION,
    Trial,
    authority,
    changed,
    collect_from,
    good_evidence,
    good_manifest,
    make_device,
    mode,
    reference,
    trust,
    without,
)
from .pki import make_party

U, N = Verdict.UNTRUSTED, Verdict.NOT_APPRAISED
M = MeasurementOutcome


def failed(result: AttestationResult) -> list[str]:
    return [step.name for step in result.steps if step.outcome is Outcome.FAILED]


@pytest.mark.parametrize("version", [V12, V13, V14])
def test_good_evidence_is_trusted(version: int) -> None:
    result = Trial.good(version).run()
    assert (result.verdict, result.reasons) == (Verdict.TRUSTED, ())
    assert failed(result) == []
    assert {each.index for each in result.measurements if each.result is M.MATCH} >= {ROM, MODE}
    assert result.exit_code() == 0


# --- edits of recorded evidence -------------------------------------------------------------------


def edited(
    evidence: Evidence, kind: ExchangeKind, change: Callable[[list[bytes]], object]
) -> Evidence:
    exchanges = []
    for exchange in evidence.exchanges:
        messages = list(exchange.messages)
        if exchange.kind is kind:
            change(messages)
        exchanges.append(exchange._replace(messages=tuple(messages)))
    return replace(evidence, exchanges=tuple(exchanges))


def edit(trial: Trial, kind: ExchangeKind, change: Callable[[list[bytes]], object]) -> None:
    assert trial.evidence is not None
    trial.evidence = edited(trial.evidence, kind, change)


def flip(message: bytes, at: int) -> bytes:
    broken = bytearray(message)
    broken[at] ^= 1
    return bytes(broken)


def exchange(evidence: Evidence | None, kind: ExchangeKind) -> SignedExchange:
    assert evidence is not None
    return next(each for each in evidence.exchanges if each.kind is kind)


def swap_signatures(trial: Trial) -> None:
    """The signature of CHALLENGE_AUTH where that of MEASUREMENTS belongs."""
    other = exchange(trial.evidence, ExchangeKind.CHALLENGE).messages[-1][-64:]
    edit(trial, ExchangeKind.MEASUREMENTS, lambda m: m.append(m.pop()[:-64] + other))


def foreign_signature(trial: Trial) -> None:
    """The signature of the same device's other MEASUREMENTS."""
    again = collect_from(make_device(), version=trial.version)
    other = exchange(again, ExchangeKind.MEASUREMENTS).messages[-1][-64:]
    edit(trial, ExchangeKind.MEASUREMENTS, lambda m: m.append(m.pop()[:-64] + other))


def renewed_leaf(trial: Trial) -> None:
    """Another genuine chain for the same key: the slot that answered has a different one."""
    assert trial.evidence is not None
    other = collect_from(make_device(number=4), version=trial.version)
    trial.evidence = replace(trial.evidence, chain=other.chain)


def unoffered_selection(trial: Trial) -> None:
    """ALGORITHMS selects a hash that NEGOTIATE_ALGORITHMS did not offer."""
    assert trial.evidence is not None
    vca = list(trial.evidence.vca)
    vca[4] = vca[4][:12] + (1 << 1).to_bytes(4, "little") + vca[4][16:]
    trial.evidence = replace(trial.evidence, vca=tuple(vca))


def unordered_selection(trial: Trial) -> None:
    """The algorithm structures of ALGORITHMS do not ascend."""
    assert trial.evidence is not None
    vca = list(trial.evidence.vca)
    size = 4 * vca[5][2]
    vca[5] = vca[5][:-size] + vca[5][-4:] + vca[5][-size:-4]
    trial.evidence = replace(trial.evidence, vca=tuple(vca))


def downgraded_offer(trial: Trial) -> None:
    """The offer is changed afterwards to look as if nothing better had been offered."""
    assert trial.evidence is not None
    vca = list(trial.evidence.vca)
    selected = vca[5][16:20]
    vca[4] = vca[4][:12] + selected + vca[4][16:]
    trial.evidence = replace(trial.evidence, vca=tuple(vca))


def version_not_offered(trial: Trial) -> None:
    assert trial.evidence is not None
    vca = list(trial.evidence.vca)
    vca[1] = vca[1][:6] + b"\x00\x10"
    trial.evidence = replace(trial.evidence, vca=tuple(vca))


def mixed_connections(trial: Trial) -> None:
    """MEASUREMENTS of another connection of the same device, with its own VCA gone."""
    other = collect_from(make_device(), version=trial.version, requester={"ct_exponent": 19})
    moved = exchange(other, ExchangeKind.MEASUREMENTS)
    edit(trial, ExchangeKind.MEASUREMENTS, lambda m: m.__setitem__(slice(None), moved.messages))


def older_measurements(trial: Trial) -> None:
    """Measurements of the device before it was changed, in new evidence."""
    trial.device.values = trial.device.values[:-1]
    older = collect_from(trial.device, version=trial.version)
    moved = exchange(older, ExchangeKind.MEASUREMENTS)
    edit(trial, ExchangeKind.MEASUREMENTS, lambda m: m.__setitem__(slice(None), moved.messages))


def cut_block(trial: Trial) -> None:
    edit(trial, ExchangeKind.MEASUREMENTS, lambda m: m.append(m.pop()[:30]))


def other_slot_in_response(trial: Trial) -> None:
    edit(trial, ExchangeKind.CHALLENGE, lambda m: m.append(flip(m.pop(), 2)))


def context_not_repeated(trial: Trial) -> None:
    edit(trial, ExchangeKind.MEASUREMENTS, lambda m: m.append(flip(m.pop(), -70)))


def without_challenge_request(trial: Trial) -> None:
    edit(trial, ExchangeKind.CHALLENGE, lambda m: m.pop(-2))


def challenge_of_another_version(trial: Trial) -> None:
    edit(trial, ExchangeKind.CHALLENGE, lambda m: m.__setitem__(0, b"\x12" + m[0][1:]))


EDITS: list[tuple[str, Callable[[Trial], None], str]] = [
    ("swapped signature", swap_signatures, "signature"),
    ("signature of another answer", foreign_signature, "signature"),
    (
        "flipped bit in a measurement",
        lambda t: edit(t, ExchangeKind.MEASUREMENTS, lambda m: m.append(flip(m.pop(), 20))),
        "signature",
    ),
    (
        "flipped bit in the signature",
        lambda t: edit(t, ExchangeKind.MEASUREMENTS, lambda m: m.append(flip(m.pop(), -1))),
        "signature",
    ),
    (
        "flipped bit in CHALLENGE_AUTH's signature",
        lambda t: edit(t, ExchangeKind.CHALLENGE, lambda m: m.append(flip(m.pop(), -1))),
        "challenge",
    ),
    (
        "flipped bit in an earlier DIGESTS",
        lambda t: edit(t, ExchangeKind.CHALLENGE, lambda m: m.__setitem__(1, flip(m[1], -1))),
        "challenge",
    ),
    (
        "nonce exchanged in the request",
        lambda t: edit(t, ExchangeKind.MEASUREMENTS, lambda m: m.__setitem__(-2, flip(m[-2], 4))),
        "signature",
    ),
    (
        "chain hash not that of the slot",
        lambda t: edit(t, ExchangeKind.CHALLENGE, lambda m: m.append(flip(m.pop(), 4))),
        "chain-hash",
    ),
    ("another chain for the same key", renewed_leaf, "chain-hash"),
    ("selection that was not offered", unoffered_selection, "negotiation"),
    ("offer changed afterwards", downgraded_offer, "challenge"),
    ("version that was not offered", version_not_offered, "negotiation"),
    ("selections in a wrong order", unordered_selection, "negotiation"),
    ("measurements of another connection", mixed_connections, "signature"),
    ("truncated block", cut_block, "decode"),
    ("answer for another slot", other_slot_in_response, "decode"),
    ("context not repeated", context_not_repeated, "decode"),
    ("a request is missing", without_challenge_request, "decode"),
    ("messages of two versions", challenge_of_another_version, "negotiation"),
    (
        "nothing signed at all",
        lambda t: setattr(t, "evidence", replace(t.evidence or Evidence(()), exchanges=())),
        "decode",
    ),
    (
        "no chain",
        lambda t: setattr(t, "evidence", replace(t.evidence or Evidence(()), chain=b"")),
        "decode",
    ),
    (
        "chain cut short",
        lambda t: setattr(
            t, "evidence", replace(t.evidence or Evidence(()), chain=good_evidence().chain[:-1])
        ),
        "decode",
    ),
    (
        "a negotiation message is missing",
        lambda t: setattr(
            t, "evidence", replace(t.evidence or Evidence(()), vca=good_evidence().vca[:5])
        ),
        "decode",
    ),
]


@pytest.mark.parametrize(("change", "step"), [row[1:] for row in EDITS], ids=[r[0] for r in EDITS])
def test_evidence_that_was_altered(change: Callable[[Trial], None], step: str) -> None:
    trial = Trial.good()
    change(trial)
    result = trial.run()
    assert result.verdict is U
    assert result.exit_code() == result.exit_code(authenticate_only=True) == 1
    assert failed(result) == [step]
    assert result.measurements == ()


@pytest.mark.parametrize("version", [V12, V13])
def test_no_bit_that_matters_can_be_flipped_in_a_file(version: int) -> None:
    """Bits from all over it: each is noticed in a named step, or says only how it was collected."""
    original = good_evidence(version)
    file = original.to_cbor()
    cache = ChainCache()
    harmless = 0
    for bit in range(0, 8 * len(file), 8 * len(file) // 150):
        broken = bytearray(file)
        broken[bit // 8] ^= 1 << bit % 8
        trial = Trial.good(version)
        trial.believed = trust(cache=cache)
        try:
            trial.evidence = Evidence.read(bytes(broken))
        except DecodeError:
            continue
        result = trial.run()
        if result.verdict is U:
            assert result.exit_code() == 1
            assert len(failed(result)) == 1
            continue
        same = {
            name: getattr(original, name) for name in ("target", "transport", "collected_at")
        } | {"measurement_log": original.measurement_log}
        assert replace(trial.evidence, **same) == original, f"bit {bit}"
        assert read_log(trial.evidence) == read_log(original), f"bit {bit}"
        harmless += 1
    assert harmless < 20


def read_log(evidence: Evidence) -> list[MeasurementLogEntry]:
    """What the log extends; its remarks and its reserved bits are nobody's."""
    if not evidence.measurement_log:
        return []
    log = MeasurementLog.decode(evidence.measurement_log, Context(version=V13))
    return [entry for entry in log.entries if entry.meas_index]


# --- who ------------------------------------------------------------------------------------------


def wrong_root(trial: Trial) -> None:
    trial.believed = trust("Elsewhere")


def expired_link(trial: Trial) -> None:
    trial.believed = trust(time=NOW + 2000 * DAY)


def wrong_eku(trial: Trial) -> None:
    device = make_device("ACME:Widget:0002", responder=False, requester=True)
    trial.evidence = _collected_blindly(device)


def _collected_blindly(device: MemoryDevice) -> Evidence:
    """Evidence of a device whose chain no honest verifier would have accepted."""

    def blind(
        chain: CertificateChain, anchors: TrustAnchors, *, time: TimePolicy, **_: object
    ) -> VerifiedChain:
        as_requester = TrustAnchors(anchors.certificates, Purpose.REQUESTER)
        return verify_chain(chain, as_requester, purpose=Purpose.REQUESTER, time=time)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spdmkit.attestation.collect.verify_chain", blind)
        return collect_from(device)


def revoked(trial: Trial) -> None:
    _, middle = authority()
    at = dt.datetime.fromtimestamp(NOW, dt.UTC)
    day = dt.timedelta(days=1)
    crl = middle.revocation_list(
        [RevokedCertificate(3, at - day)], number=1, issued=at - day, until=at + day
    )
    trial.believed = trust(revocation=RevocationData([crl]))


def revocation_demanded(trial: Trial) -> None:
    trial.believed = trust(demand_revocation=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wrong_root, "none of our 1 trust anchors"),
        (expired_link, "ended"),
        (wrong_eku, "other role"),
        (revoked, "revoked"),
        (revocation_demanded, "demanded"),
    ],
)
def test_chains_that_are_not_believed(change: Callable[[Trial], None], words: str) -> None:
    trial = Trial.good()
    change(trial)
    result = trial.run()
    assert (result.verdict, failed(result)) == (U, ["chain"])
    assert words in result.reasons[0]


def test_purposes_of_other_standards_can_be_refused() -> None:
    assert (
        trust().chain_policy(V12, CertificateModel.NONE).key_purpose
        is KeyPurposeRule.NOT_THE_OTHER_ROLE
    )
    demanding = trust(demand_spdm_purpose=True).chain_policy(V12, CertificateModel.NONE)
    assert demanding.key_purpose is KeyPurposeRule.IF_PRESENT


OTHER = "ACME:Widget:0002"


@pytest.mark.parametrize(
    "expectations",
    [
        Expectations(NOW, identities=("ACME:Widget:0001",)),
        Expectations(NOW, identities=("ACME:Widget:000[1]", "serial:03")),
        Expectations(NOW, identities=("spki-sha256:" + "00" * 32,)),
        Expectations(NOW, target="tcp://device", known_keys={"tcp://device": "00" * 32}),
    ],
)
def test_another_genuine_device_behind_the_address(expectations: Expectations) -> None:
    trial = Trial.good()
    trial.device = make_device(OTHER, number=9)
    trial.recollect()
    unpinned = trial.run()
    assert unpinned.verdict is Verdict.TRUSTED
    assert [s.outcome for s in unpinned.steps if s.name == "identity"] == [Outcome.UNPINNED]
    trial.expectations = expectations
    result = trial.run()
    assert (result.verdict, failed(result)) == (U, ["identity"])


def test_one_device_at_two_addresses() -> None:
    trial = Trial.good()
    key = trial.device.key.public_key.spki_sha256().hex()
    trial.expectations = Expectations(NOW, target="tcp://a", known_keys={"tcp://a": key})
    assert trial.run().verdict is Verdict.TRUSTED
    trial.expectations = Expectations(NOW, target="tcp://b", known_keys={"tcp://a": key})
    result = trial.run()
    assert failed(result) == ["identity"]
    assert "known at tcp://a" in result.reasons[0]


# --- the device, the values, the policy -----------------------------------------------------------


def add_block(trial: Trial) -> None:
    trial.device.values.insert(-1, Measurement(0x30, MeasurementKind.MUTABLE_FIRMWARE, raw=b"new"))
    trial.recollect()


def drop_block(trial: Trial) -> None:
    trial.device.values = [each for each in trial.device.values if each.index != FIRMWARE]
    trial.recollect()


def bad_log(trial: Trial) -> None:
    assert trial.evidence is not None
    log = trial.evidence.measurement_log
    trial.evidence = replace(trial.evidence, measurement_log=log.replace(b"kernel", b"rootkt"))


def log_of_another_index(trial: Trial) -> None:
    entries = [MeasurementLogEntry(mel_index=1, meas_index=ROM, kind=1, raw=True, value=b"x")]
    trial.device = make_device(log=MeasurementLog(entries=entries))
    trial.recollect()


def log_cut_short(trial: Trial) -> None:
    assert trial.evidence is not None
    cut = trial.evidence.measurement_log[:-1]
    trial.evidence = replace(trial.evidence, measurement_log=cut)


def summary_of_others(trial: Trial) -> None:
    """A device whose CHALLENGE_AUTH sums up other measurements than it then reports."""
    device = trial.device
    honest, calls = device.values, []

    def shifting(*, fresh: bool) -> list[Measurement]:
        calls.append(fresh)
        return honest if len(calls) == 1 else [replace(honest[0], raw=b"evil rom"), *honest[1:]]

    device.measurements = shifting  # type: ignore[method-assign] # a device that lies
    trial.recollect()
    trial.references = [
        reference(
            changed(trial.references[0].manifest, ROM, digests=(), raw_values=(), versions=("x",))
        )
    ]


def stranger_signed(trial: Trial) -> None:
    stranger = make_party("a stranger", ca=True)
    data = sign_corim(
        to_corim([plain(trial)]), stranger.key, signer="x", certificates=stranger.chain
    )
    known = make_party("the known signer", ca=True).anchors(Purpose.REFERENCE_SIGNER)
    try:
        read_references(data, SignerCheck(known, NOW), source="widget.corim")
    except SpdmError as error:
        trial.references, trial.rejected = [], [RejectedReference("widget.corim", error)]


def plain(trial: Trial) -> Manifest:
    return trial.references[0].manifest


def conflict(trial: Trial) -> None:
    trial.references = [
        reference(replace(plain(trial), component="a")),
        reference(replace(plain(trial), component="b")),
    ]


def policy(trial: Trial, **changes: object) -> None:
    trial.policy = replace(trial.policy, **changes)  # type: ignore[arg-type] # a test's own table


def no_reference_is_a_failure(trial: Trial) -> None:
    trial.references.clear()
    policy(trial, references=ReferenceRule(when_none=WhenMissing.UNTRUSTED))


def extra_block_is_a_failure(trial: Trial) -> None:
    add_block(trial)
    policy(trial, references=ReferenceRule(when_unlisted=WhenMissing.UNTRUSTED))


def required_without_reference(trial: Trial) -> None:
    trial.references = [reference(without(plain(trial), FIRMWARE))]
    policy(
        trial,
        components=(Component(FIRMWARE),),
        references=ReferenceRule(when_unlisted=WhenMissing.ACCEPT),
    )


APPRAISALS: list[tuple[str, Callable[[Trial], None], str, Verdict]] = [
    ("missing required block", drop_block, "components", U),
    ("changed firmware", lambda t: t.measure(FIRMWARE, raw=b"firmware 6"), "measurements", U),
    ("changed setting", lambda t: t.measure(SETTINGS, raw=b"open"), "measurements", U),
    ("changed version", lambda t: t.measure(VERSION, raw=b"7.1.0"), "measurements", U),
    (
        "security version too low",
        lambda t: policy(t, components=(Component(SVN, minimum_svn=6),)),
        "security-version",
        U,
    ),
    ("truncated security version", lambda t: t.measure(SVN, raw=bytes(7)), "measurements", U),
    ("debug mode on", lambda t: t.measure(MODE, raw=mode(debug=0b10)), "device-mode", U),
    ("recovery mode", lambda t: t.measure(MODE, raw=mode(operational=0b1000)), "device-mode", U),
    ("log that leads elsewhere", bad_log, "measurement-log", U),
    ("log that extends what is not signed", log_of_another_index, "measurement-log", U),
    ("log cut short", log_cut_short, "measurement-log", U),
    ("summary of other measurements", summary_of_others, "measurement-summary", U),
    (
        "replayed nonce",
        lambda t: setattr(t, "expectations", Expectations(NOW, nonces=frozenset({b"n" * 32}))),
        "nonce",
        U,
    ),
    (
        "a nonce is demanded",
        lambda t: policy(t, freshness=FreshnessRule(demand_nonce=True)),
        "nonce",
        U,
    ),
    (
        "an age is demanded and nobody vouches for it",
        lambda t: policy(t, freshness=FreshnessRule(max_age=60)),
        "freshness",
        U,
    ),
    (
        "algorithm below the floor",
        lambda t: policy(t, protocol=ProtocolRule(minimum_security=192)),
        "algorithms",
        U,
    ),
    (
        "algorithm not accepted",
        lambda t: policy(t, protocol=ProtocolRule(signatures=("ecdsa-p384",))),
        "algorithms",
        U,
    ),
    (
        "version below the floor",
        lambda t: policy(t, protocol=ProtocolRule(minimum_version=V14)),
        "version",
        U,
    ),
    ("policy out of date", lambda t: policy(t, not_after=NOW - 1), "policy", U),
    (
        "identity not in the policy",
        lambda t: policy(t, identity=IdentityRule(expected=("ACME:Gadget:*",))),
        "identity",
        U,
    ),
    ("reference signed by a stranger", stranger_signed, "reference-signature", U),
    (
        "reference not signed, and a signature demanded",
        lambda t: policy(t, references=ReferenceRule(demand_signature=True)),
        "reference-signature",
        U,
    ),
    ("two parts with values for one index", conflict, "references", U),
    ("extra block", add_block, "", N),
    ("no reference", lambda t: t.references.clear(), "", N),
    (
        "empty reference",
        lambda t: setattr(t, "references", [reference(replace(plain(t), measurements=()))]),
        "",
        N,
    ),
    (
        "reference for another product",
        lambda t: setattr(
            t,
            "references",
            [reference(replace(plain(t), applies_to=replace(plain(t).applies_to, product=("X",))))],
        ),
        "",
        N,
    ),
    (
        "reference out of date",
        lambda t: setattr(t, "references", [reference(replace(plain(t), not_after=NOW - 1))]),
        "",
        N,
    ),
    (
        "no reference, and the policy wants a failure",
        no_reference_is_a_failure,
        "",
        U,
    ),
    (
        "extra block, and the policy wants a failure",
        extra_block_is_a_failure,
        "",
        U,
    ),
    (
        "a required component without reference",
        required_without_reference,
        "",
        N,
    ),
    (
        "a required component of another kind",
        lambda t: policy(t, components=(Component(FIRMWARE, kind=MeasurementKind.IMMUTABLE_ROM),)),
        "measurements",
        U,
    ),
    (
        "a required component that is not there",
        lambda t: policy(t, components=(Component(0x55),)),
        "components",
        U,
    ),
]


@pytest.mark.parametrize(
    ("change", "step", "verdict"), [row[1:] for row in APPRAISALS], ids=[r[0] for r in APPRAISALS]
)
def test_devices_and_circumstances(
    change: Callable[[Trial], None], step: str, verdict: Verdict
) -> None:
    trial = Trial.good()
    change(trial)
    result = trial.run()
    assert result.verdict is verdict
    assert result.exit_code() == {U: 1, N: 4}[verdict]
    assert result.reasons
    if step:
        assert step in failed(result)
        # a debug mode or a low version shows in the block's own comparison too
        assert set(failed(result)) <= {step, "measurements"}
    else:
        assert failed(result) == []


def test_authenticate_only_excuses_missing_values_and_nothing_else() -> None:
    trial = Trial.good()
    trial.references.clear()
    result = trial.run()
    assert (result.exit_code(), result.exit_code(authenticate_only=True)) == (4, 0)
    # Without values or a policy nobody judges what the device measures, its mode included.
    trial.measure(MODE, raw=mode(debug=1))
    result = trial.run()
    assert (result.exit_code(), result.exit_code(authenticate_only=True)) == (4, 0)
    found = {step.name: step for step in result.steps}["device-mode"]
    assert (found.outcome, "non-invasive-active" in found.detail) == (Outcome.NOT_CHECKED, True)
    for policy in (
        Policy(components=(Component(SVN, minimum_svn=1),)),
        read_policy(b"[policy]\nname = 'ours'\n"),
    ):
        trial.policy = policy
        assert trial.run().exit_code(authenticate_only=True) == 1


# --- old versions and missing capabilities --------------------------------------------------------


@pytest.mark.parametrize("version", [V10, V11])
def test_old_versions_need_a_policy_that_names_them(version: int) -> None:
    trial = Trial.good(version)
    assert failed(trial.run()) == ["version"]
    trial.policy = Policy(protocol=ProtocolRule(minimum_version=version))
    result = trial.run()
    assert result.verdict is Verdict.TRUSTED
    # CHALLENGE_AUTH signs the negotiation even in 1.0 and 1.1 (M1)
    assert [s.outcome for s in result.steps if s.name == "negotiation"] == [Outcome.PASSED]


@pytest.mark.parametrize("version", [V10, V11])
def test_a_bare_pair_of_old_versions_does_not_cover_the_negotiation(version: int) -> None:
    trial = Trial.good(version)
    trial.policy = Policy(protocol=ProtocolRule(minimum_version=version))
    trial.recollect()
    assert trial.evidence is not None
    trial.evidence = replace(
        trial.evidence, exchanges=(exchange(trial.evidence, ExchangeKind.MEASUREMENTS),)
    )
    result = trial.run()
    assert [s.outcome for s in result.steps if s.name == "negotiation"] == [Outcome.NOT_COVERED]
    assert (result.verdict, failed(result)) == (U, [])
    assert "accept_uncovered_negotiation" in result.reasons[0]
    rule = ProtocolRule(minimum_version=version, accept_uncovered_negotiation=True)
    trial.policy = Policy(protocol=rule)
    assert trial.run().verdict is Verdict.TRUSTED


def of_kinds(manifest: Manifest) -> Manifest:
    """The same values, each with its kind stated."""
    kinds = {each.index: MeasurementKind(each.kind) for each in make_device().values}
    return replace(
        manifest,
        measurements=tuple(
            replace(entry, kind=kinds[entry.index]) for entry in manifest.measurements
        ),
    )


def of_an_older_version(asked: int, spoken: tuple[int, ...]) -> Trial:
    """A Verifier that asks for one version of those a device speaks; values are those of 1.3."""
    trial = Trial.good()
    trial.evidence = collect_from(make_device(), version=asked, responder={"versions": spoken})
    trial.references = [reference(of_kinds(good_manifest()))]
    trial.policy = Policy(protocol=ProtocolRule(minimum_version=V10))
    return trial


@pytest.mark.parametrize("asked", [V10, V11, V12, V13, V14])
def test_what_the_version_asked_for_cannot_report_does_not_count(asked: int) -> None:
    result = of_an_older_version(asked, VERSIONS).run()
    assert (result.verdict, result.reasons) == (Verdict.TRUSTED, ())
    results = {each.index: each for each in result.measurements}
    assert results[ROM].result is M.MATCH
    for index, since in ((EXTENDED, V13), (MODE, V12), (SVN, V12)):
        excused = asked < since
        assert results[index].result is (M.NOT_REQUIRED if excused else M.MATCH)
        assert ("has no such measurement" in results[index].detail) is excused
        assert results[index].required is not excused


def test_a_device_that_speaks_only_an_old_version_is_not_excused() -> None:
    result = of_an_older_version(V12, (V10, V11, V12)).run()
    assert result.verdict is U
    assert {r.index for r in result.measurements if r.result is M.MISSING} == {EXTENDED}


def test_an_old_version_excuses_no_kind_that_it_has() -> None:
    trial = of_an_older_version(V12, VERSIONS)
    device = make_device()
    device.values = [each for each in device.values if each.index != SVN]
    trial.evidence = collect_from(device, version=V12, responder={"versions": VERSIONS})
    result = trial.run()
    assert result.verdict is U
    assert {r.index for r in result.measurements if r.result is M.MISSING} == {SVN}


def test_a_policy_demands_what_the_version_cannot_report() -> None:
    trial = of_an_older_version(V12, VERSIONS)
    trial.policy = Policy(components=(Component(EXTENDED, required=True),))
    result = trial.run()
    assert (result.verdict, failed(result)) == (U, ["components"])


def test_a_device_without_measurements_is_not_appraised() -> None:
    trial = Trial.good()
    capabilities = EVERYTHING & ~0x18  # MEAS_CAP
    trial.evidence = collect_from(trial.device, responder={"capabilities": capabilities})
    result = trial.run()
    assert result.verdict is N
    assert [s.outcome for s in result.steps if s.name == "signature"] == [Outcome.SKIPPED]


def test_demands_on_the_evidence() -> None:
    trial = Trial.good()
    trial.collecting = {"challenge": False}
    trial.recollect()
    assert trial.run().verdict is Verdict.TRUSTED
    trial.policy = Policy(evidence=EvidenceRule(demand_challenge=True))
    assert failed(trial.run()) == ["evidence"]
    trial.policy = Policy(evidence=EvidenceRule(demand_summary=True))
    assert failed(trial.run()) == ["measurement-summary"]
    assert trial.evidence is not None
    trial.evidence = replace(trial.evidence, measurement_log=b"")
    trial.policy = Policy(evidence=EvidenceRule(demand_log=True))
    assert failed(trial.run()) == ["measurement-log"]


def test_a_zero_nonce_is_not_fresh() -> None:

    trial = Trial.good()
    pair = Pair(trial.device, versions=(V13,))
    pair.requester.connection.random = bytes
    trial.evidence = pair.run(collect(pair.link, trust(), Wanted(now=NOW))).evidence
    result = trial.run()
    assert failed(result) == ["nonce"]


# --- freshness ------------------------------------------------------------------------------------


def test_age_by_the_collectors_signature() -> None:
    trial = Trial.good()
    collector = PrivateKey.from_seed("ecdsa-p256", b"collector")
    other = PrivateKey.from_seed("ecdsa-p256", b"another collector")
    assert trial.evidence is not None
    trial.evidence = trial.evidence.signed_by_collector(collector)
    trial.policy = Policy(freshness=FreshnessRule(max_age=60))
    for age, good in ((0, True), (60, True), (61, False), (-1, False)):
        trial.expectations = Expectations(NOW + age, collectors=(collector.public_key,))
        assert failed(trial.run()) == ([] if good else ["freshness"])
    trial.expectations = Expectations(NOW, collectors=(other.public_key,))
    assert failed(trial.run()) == ["freshness"]
    younger = replace(trial.evidence, collected_at=NOW + 30)
    trial.evidence = younger
    trial.expectations = Expectations(NOW + 80, collectors=(collector.public_key,))
    assert failed(trial.run()) == ["freshness"]


def test_an_age_limit_needs_a_time() -> None:
    trial = Trial.good()
    nonce = bytes.fromhex(trial.run().nonces[-1])
    assert trial.evidence is not None
    trial.evidence = replace(trial.evidence, collected_at=None)
    trial.expectations = Expectations(NOW, nonces=frozenset({nonce}))
    trial.policy = Policy(freshness=FreshnessRule(max_age=60))
    assert failed(trial.run()) == ["freshness"]


def test_our_own_nonce_makes_it_fresh() -> None:
    trial = Trial.good()
    result = trial.run()
    nonce = bytes.fromhex(result.nonces[-1])
    trial.expectations = Expectations(NOW + 5, nonces=frozenset({nonce}))
    trial.policy = Policy(freshness=FreshnessRule(max_age=60, demand_nonce=True))
    assert trial.run().verdict is Verdict.TRUSTED


# --- what a device signs of itself ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, Outcome.PASSED),
        ({"changed": True}, Outcome.FAILED),
        ({"indexes": 3}, Outcome.FAILED),
        ({"indexes": 3, "all_requested": True}, Outcome.PASSED),
    ],
)
def test_measurements_are_whole_and_of_one_moment(
    changes: dict[str, Any], outcome: Outcome
) -> None:
    read = {"changed": False, "blocks": (1, 2), "indexes": 2, "all_requested": False}
    matter: Any = SimpleNamespace(measured=SimpleNamespace(**{**read, **changes}))
    assert dict(CHECKS)["content"](matter).outcome is outcome


@pytest.mark.parametrize(
    "rule", [IdentityRule(demand_revocation=True), IdentityRule(demand_hardware_identity=True)]
)
def test_a_key_alone_meets_no_demand_on_certificates(rule: IdentityRule) -> None:
    matter: Any = SimpleNamespace(
        claims=SimpleNamespace(describe=lambda: "a key"),
        evidence=SimpleNamespace(psk_hint=b"", chain=None),
        expectations=Expectations(NOW),
        policy=Policy(identity=rule),
    )
    found = dict(CHECKS)["identity"](matter)
    assert (found.outcome, "no certificates" in found.detail) == (Outcome.FAILED, True)
