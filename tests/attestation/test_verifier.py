"""A verifier made of files."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.attestation.outcome import Verdict
from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.attestation.reference.json_format import to_json
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.attestation.reference.store import ReferenceStore
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import ConfigurationError
from spdmkit.identity import ChainCache, Purpose

from .lab import DAY, NOW, authority, good_evidence, good_manifest
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


def test_references_in_no_known_format(site: Path) -> None:
    for name in ("root.pem", "broken.corim"):
        (site / "broken.corim").write_bytes(b"\xd9\x01\xf5\x00")
        verifier = Verifier.from_files(
            Sources(trust_anchors=[site / "root.pem"], references=[site / name])
        )
        with pytest.raises(ConfigurationError):
            verifier.appraise_evidence(good_evidence(), NOW)
