"""A verifier made of files."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.attestation.collect import Wanted
from spdmkit.attestation.outcome import Verdict
from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.attestation.reference.json_format import to_json
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.attestation.reference.store import ReferenceStore
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import ConfigurationError
from spdmkit.identity import ChainCache, Purpose
from spdmkit.messages import V10, V11, V12, V13
from spdmkit.protocol.requester.sessions import PreSharedKey
from tests.protocol.support import PSK, PSK_HINT, Pair

from .lab import (
    DAY,
    NOW,
    authority,
    collect_from,
    good_evidence,
    good_manifest,
    make_device,
    trust,
)
from .pki import YEAR, make_party


def pem(der: bytes) -> bytes:
    return (
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a root, reference values in two forms, and their signer's root."""
    (tmp_path / "root.pem").write_bytes(pem(authority()[0].certificate.der))
    (tmp_path / "widget.json").write_bytes(to_json(good_manifest()))
    root = make_party("site rim root", ca=True)
    signer = make_party("site rim signer", root, end=NOW + 10 * DAY)
    corim = sign_corim(
        to_corim([good_manifest()]), signer.key, signer="ACME", certificates=signer.chain
    )
    (tmp_path / "widget.corim").write_bytes(corim)
    (tmp_path / "rim-root.pem").write_bytes(root.pem)
    return tmp_path


def test_files_make_a_verifier(site: Path) -> None:
    verifier = Verifier.from_files(
        Sources(trust_anchors=[site / "root.pem"], references=[site / "widget.json"]),
        cache=ChainCache(),
    )
    for _ in range(2):
        assert verifier.appraise_evidence(good_evidence(), NOW).verdict is Verdict.TRUSTED
    assert verifier.cache is not None
    assert len(verifier.cache) == 1


def test_a_policy_names_what_it_needs(site: Path) -> None:
    ReferenceStore(site / "store").add(
        (site / "widget.corim").read_bytes(),
        SignerCheck(make_party("site rim root", ca=True).anchors(Purpose.REFERENCE_SIGNER), NOW),
        source="widget.corim",
        now=NOW,
    )
    (site / "policy.toml").write_text(
        '[identity]\ntrust_anchors = ["root.pem"]\n'
        '[references]\nsigners = ["rim-root.pem"]\nstore = "store"\n'
    )
    verifier = Verifier.from_files(Sources(policy=site / "policy.toml"))
    result = verifier.appraise_evidence(good_evidence(), NOW)
    assert (result.verdict, result.reasons) == (Verdict.TRUSTED, ())
    assert "signed by CN=site rim signer" in result.references[0]


def test_a_signer_that_ends_while_the_verifier_runs(site: Path) -> None:
    sources = Sources(
        trust_anchors=[site / "root.pem"],
        references=[site / "widget.corim"],
        reference_anchors=[site / "rim-root.pem"],
    )
    verifier = Verifier.from_files(sources)
    assert verifier.appraise_evidence(good_evidence(), NOW).verdict is Verdict.TRUSTED
    late = verifier.appraise_evidence(good_evidence(), NOW + 11 * DAY)
    assert late.verdict is Verdict.UNTRUSTED
    assert [step.name for step in late.failed_steps()] == ["reference-signature"]
    lenient = Verifier.from_files(replace(sources, ignore_reference_expiry=True))
    result = lenient.appraise_evidence(good_evidence(), NOW + 11 * DAY)
    assert result.verdict is Verdict.TRUSTED
    step = next(step for step in result.steps if step.name == "reference-signature")
    assert "a rule says to accept" in step.detail


def test_unsigned_values_where_signers_are_named(site: Path) -> None:
    verifier = Verifier.from_files(
        Sources(
            trust_anchors=[site / "root.pem"],
            references=[site / "widget.json"],
            reference_anchors=[site / "rim-root.pem"],
        )
    )
    result = verifier.appraise_evidence(good_evidence(), NOW)
    assert [step.name for step in result.failed_steps()] == ["reference-signature"]


def test_signed_values_where_nobody_is_trusted(site: Path) -> None:
    verifier = Verifier.from_files(
        Sources(trust_anchors=[site / "root.pem"], references=[site / "widget.corim"])
    )
    result = verifier.appraise_evidence(good_evidence(), NOW)
    assert result.verdict is Verdict.UNTRUSTED
    assert "nobody is trusted to sign" in result.reasons[0]


def test_strangers_give_a_result(site: Path) -> None:
    (site / "other.pem").write_bytes(pem(authority("Elsewhere")[0].certificate.der))
    verifier = Verifier.from_files(Sources(trust_anchors=[site / "other.pem"]))
    result = verifier.appraise_evidence(good_evidence(), NOW)
    assert [step.name for step in result.failed_steps()] == ["chain"]
    assert result.target == "tcp://device"


def test_collectors_and_identities(site: Path) -> None:
    collector = PrivateKey.from_seed("ecdsa-p256", b"site collector")
    (site / "collector.pem").write_bytes(collector.public_key.to_pem())
    (site / "policy.toml").write_text('[freshness]\nmax_age = "1h"\n')
    verifier = Verifier.from_files(
        Sources(
            policy=site / "policy.toml",
            trust_anchors=[site / "root.pem"],
            references=[site / "widget.json"],
            collectors=[site / "collector.pem"],
            identities=["ACME:Widget:0001"],
        )
    )
    signed = good_evidence().signed_by_collector(collector)
    assert verifier.appraise_evidence(signed, NOW + 60).verdict is Verdict.TRUSTED
    for evidence, time in ((good_evidence(), NOW), (signed, NOW + 3601)):
        result = verifier.appraise_evidence(evidence, time)
        assert [step.name for step in result.failed_steps()] == ["freshness"]
    assert verifier.trust(NOW + YEAR).time == NOW + YEAR


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"trust_anchors": []}, "either roots"),
        ({"public_key": "root.pem"}, "either roots"),
        ({"trust_anchors": ["absent.pem"]}, "absent.pem"),
        ({"references": ["absent.json"]}, "absent.json"),
        ({"policy": "widget.json"}, "widget.json:1"),
        ({"crls": ["root.pem"]}, "no CRL"),
        ({"collectors": ["root.pem"]}, "root.pem|public key"),
    ],
)
def test_wrong_files_are_named(
    site: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], complaint: str
) -> None:
    monkeypatch.chdir(site)
    with pytest.raises(ConfigurationError, match=complaint):
        Verifier.from_files(replace(Sources(trust_anchors=["root.pem"]), **change))  # type: ignore[arg-type] # a test's own table


def test_what_is_said_tightens_the_policy_and_never_loosens_it(site: Path) -> None:
    (site / "policy.toml").write_text(
        '[freshness]\nmax_age = "60s"\n[protocol]\nminimum_version = "1.3"\n'
    )
    for given, kept in ((None, 60), (30, 30), (90, 60)):
        demands = Sources(policy=site / "policy.toml", max_age=given).demands()
        assert demands.freshness.max_age == kept
    named = Sources(policy=site / "policy.toml", minimum_version=V10, bare=True).demands()
    assert (named.protocol.minimum_version, named.protocol.accept_uncovered_negotiation) == (
        V13,
        False,
    )
    assert Sources(max_age=30).demands().freshness.max_age == 30
    assert Sources(minimum_version=V11).demands().protocol.minimum_version == V11
    assert Sources().demands().protocol.minimum_version == V12


def test_the_fallback_store_is_for_when_nothing_else_is_named(site: Path) -> None:
    known = make_party("site rim root", ca=True).anchors(Purpose.REFERENCE_SIGNER)
    ReferenceStore(site / "store").add(
        (site / "widget.corim").read_bytes(), SignerCheck(known, NOW), source="widget", now=NOW
    )
    sources = Sources(
        trust_anchors=[site / "root.pem"],
        reference_anchors=[site / "rim-root.pem"],
        fallback_store=site / "store",
    )
    result = Verifier.from_files(sources).appraise_evidence(good_evidence(), NOW)
    assert result.verdict is Verdict.TRUSTED
    named = replace(sources, references=[site / "widget.json"])
    assert Verifier.from_files(named).store is None


@pytest.mark.parametrize("believed", ["roots", "stranger", "psk", "wrong psk"])
def test_attest_is_one_exchange(site: Path, believed: str) -> None:
    factory = "Elsewhere" if believed == "stranger" else "Lab"
    (site / "root.pem").write_bytes(pem(authority(factory)[0].certificate.der))
    by_psk = believed.endswith("psk")
    verifier = Verifier.from_files(
        Sources(
            trust_anchors=[] if by_psk else [site / "root.pem"],
            pre_shared_key=by_psk,
            references=[site / "widget.json"],
        )
    )
    pair = Pair(make_device(), versions=(V13,))
    secret = PreSharedKey(PSK_HINT, bytes(32) if believed == "wrong psk" else PSK)
    attested = pair.run(
        verifier.attest(
            pair.link, Wanted(now=NOW, target="tcp://device"), psk=secret if by_psk else None
        )
    )
    result = attested.result
    assert result.target == "tcp://device"
    expected = {
        "roots": (Verdict.TRUSTED, [], True),
        "stranger": (Verdict.UNTRUSTED, ["chain"], False),
        "psk": (Verdict.NOT_APPRAISED, [], False),
        "wrong psk": (Verdict.UNTRUSTED, ["handshake"], False),
    }[believed]
    found = [step.name for step in result.failed_steps()]
    assert (result.verdict, found, attested.evidence is not None) == expected
    assert bool(attested.key) == (believed == "roots")
    assert result.spdm_version == "1.3"
    if believed == "stranger":
        assert [step.name for step in result.chain_steps][-1] == "anchor"


def test_attest_answers_the_nonce_of_a_relying_party(site: Path) -> None:
    verifier = Verifier.from_files(Sources(trust_anchors=[site / "root.pem"]))
    pair = Pair(make_device(), versions=(V13,))
    nonce = bytes(range(32))
    attested = pair.run(verifier.attest(pair.link, Wanted(now=NOW, nonce=nonce)))
    assert attested.result.nonces[-1] == nonce.hex()
    with pytest.raises(ConfigurationError, match="time"):
        pair.run(verifier.attest(pair.link, Wanted()))


def test_a_changed_policy_finds_no_chain_of_the_old_one(site: Path) -> None:
    cache = ChainCache(capacity=2)
    verifier = Verifier.from_files(Sources(trust_anchors=[site / "root.pem"]), cache=cache)
    for _ in range(2):
        assert verifier.appraise_evidence(good_evidence(), NOW).exit_code() == 4
    assert len(cache) == 1
    (site / "policy.toml").write_text("[identity]\ndemand_revocation = true\n")
    strict = Verifier.from_files(
        Sources(policy=site / "policy.toml", trust_anchors=[site / "root.pem"]), cache=cache
    )
    refused = strict.appraise_evidence(good_evidence(), NOW)
    assert [step.name for step in refused.failed_steps()] == ["chain"]
    for factory in ("Lab", "Other", "Third"):
        (site / "root.pem").write_bytes(pem(authority(factory)[0].certificate.der))
        each = Verifier.from_files(Sources(trust_anchors=[site / "root.pem"]), cache=cache)
        each.appraise_evidence(
            collect_from(make_device(factory=factory), believed=trust(factory)), NOW
        )
    assert len(cache) == 2
    off = Verifier.from_files(Sources(trust_anchors=[site / "root.pem"]))
    assert off.cache is None


def test_references_in_no_known_format(site: Path) -> None:
    for name in ("root.pem", "broken.corim"):
        (site / "broken.corim").write_bytes(b"\xd9\x01\xf5\x00")
        verifier = Verifier.from_files(
            Sources(trust_anchors=[site / "root.pem"], references=[site / name])
        )
        with pytest.raises(ConfigurationError):
            verifier.appraise_evidence(good_evidence(), NOW)
