"""Our JSON form of reference values."""

from __future__ import annotations

import json

import pytest

from spdmkit.attestation.reference.json_format import from_json, to_json
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AllowedRaw,
    AppliesTo,
    Condition,
    DeviceClaims,
    Manifest,
    ReferenceMeasurement,
    SvnRule,
)
from spdmkit.errors import ConfigurationError
from spdmkit.messages import MeasurementKind

FULL = Manifest(
    "acme-nic-7.2",
    (
        ReferenceMeasurement(
            1,
            "boot loader",
            MeasurementKind.MUTABLE_FIRMWARE,
            (AllowedDigest("sha-384", bytes(48)), AllowedDigest("sha-256", bytes(range(32)))),
        ),
        ReferenceMeasurement(2, raw_values=(AllowedRaw(b"\x01\x02", b"\xff\x00"), AllowedRaw(b""))),
        ReferenceMeasurement(7, "svn", svn=(SvnRule(3), SvnRule(1, exact=True))),
        ReferenceMeasurement(
            8, versions=("7.2.0",), required=False, condition=Condition("mode", "normal")
        ),
    ),
    name="ACME network card",
    publisher="ACME Corporation",
    revision=4,
    component="firmware",
    release="7.2",
    applies_to=AppliesTo(("ACME",), ("NIC-*",), (), ("ab" * 32,)),
    not_before=1767225600,
    not_after=1924992000,
    inactive=frozenset({9, 10}),
)


def test_full_manifest_comes_back_equal() -> None:
    assert from_json(to_json(FULL)) == FULL


def test_it_is_readable_json_with_hexadecimal_values() -> None:
    document = json.loads(to_json(FULL))
    assert document["spdm_reference"] == 1
    assert document["measurements"][0]["type"] == "mutable-firmware"
    assert document["measurements"][0]["digests"][0] == {
        "algorithm": "sha-384",
        "value": "00" * 48,
    }
    assert document["valid"]["not_after"] == "2031-01-01T00:00:00Z"


def test_specification_names_of_hashes_are_understood() -> None:
    document = json.loads(to_json(FULL))
    document["measurements"][0]["digests"][0]["algorithm"] = "TPM_ALG_SHA_384"
    assert from_json(json.dumps(document).encode()) == FULL


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.pop("measurements"), "missing required field `measurements`"),
        (lambda d: d.update(mesurements=[]), "unknown field `mesurements`"),
        (lambda d: d.update(spdm_reference=2), "this reads 1"),
        (lambda d: d["measurements"][0].update(index=0), "measurements[0].index"),
        (lambda d: d["measurements"][0].update(index=255), "measurements[0].index"),
        (lambda d: d["measurements"][1].update(index=1), "listed twice"),
        (lambda d: d["measurements"][0].update(type="firmware"), "is called 'firmware'"),
        (lambda d: d["measurements"][0].update(optional=True), "unknown field `optional`"),
        (lambda d: d["measurements"][0]["digests"][0].update(value="00"), "48 bytes, this one 1"),
        (lambda d: d["measurements"][0]["digests"][0].update(value="0g"), "digests[0].value"),
        (lambda d: d["measurements"][0]["digests"][0].update(algorithm="md5"), "md5"),
        (lambda d: d["measurements"][0].pop("digests"), "index 1 allows no value"),
        (lambda d: d["measurements"][1]["raw"][0].update(mask="ff"), "differ in length"),
        (lambda d: d["measurements"][2]["svn"][0].update(value=-1), "svn[0].value"),
        (lambda d: d["valid"].update(not_after="soon"), "'soon' is not a time"),
        (lambda d: d["valid"].update(not_after="2030-01-01T00:00:00"), "has no offset"),
        (lambda d: d["inactive"].append(1), "listed as inactive"),
    ],
)
def test_mistakes_are_refused_with_their_place(change, complaint: str) -> None:  # type: ignore[no-untyped-def]
    document = json.loads(to_json(FULL))
    change(document)
    with pytest.raises(ConfigurationError) as caught:
        from_json(json.dumps(document).encode(), "reference.json")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("reference.json: ")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}" * 2, b'{"a":' * 5000, b"\xff{"])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        from_json(data)


def test_too_large_a_file_is_refused_unread() -> None:
    with pytest.raises(ConfigurationError, match="bytes, more than"):
        from_json(b" " * ((4 << 20) + 1))


CLAIMS = DeviceClaims("ACME", "NIC-X1", "123", "ab" * 32, "cd" * 32)


@pytest.mark.parametrize(
    ("applies_to", "claim"),
    [
        (AppliesTo(("ACME",)), ""),
        (AppliesTo(("OTHER", "ACME"), ("NIC-*",)), ""),
        (AppliesTo(root_sha256=("AB" * 32,)), ""),
        (AppliesTo(serial=("12?",)), ""),
        (AppliesTo(("acme",)), "manufacturer"),
        (AppliesTo(("ACME",), ("GPU",)), "product"),
        (AppliesTo(serial=("124",)), "serial"),
        (AppliesTo(root_sha256=("00" * 32,)), "root_sha256"),
        (AppliesTo(root_sha256=("*",)), "root_sha256"),
        (AppliesTo(spki_sha256=("ab" * 32,)), "spki_sha256"),
    ],
)
def test_claims_decide_which_devices_values_are_for(applies_to: AppliesTo, claim: str) -> None:
    disagreement = applies_to.disagreement(CLAIMS)
    assert bool(disagreement) == bool(claim)
    assert claim in disagreement


def test_a_wildcard_does_not_agree_with_a_claim_that_is_not_made() -> None:
    assert AppliesTo(manufacturer=("*",)).disagreement(DeviceClaims()) != ""


def test_masked_values_compare_only_where_the_mask_says() -> None:
    value = AllowedRaw(b"\x10\x20", b"\xf0\x0f")
    assert value.matches(b"\x1f\xf0")
    assert not value.matches(b"\x20\x20")
    assert not value.matches(b"\x10\x21")
    assert not value.matches(b"\x10")


def test_manifests_refuse_an_order_that_hides_duplicates() -> None:
    entry = ReferenceMeasurement(3, versions=("1",))
    with pytest.raises(ConfigurationError, match="each once"):
        Manifest("m", (entry, entry))
    with pytest.raises(ConfigurationError, match="allows no value"):
        Manifest("m", (ReferenceMeasurement(3),))
    with pytest.raises(ConfigurationError, match="is not 1 to 254"):
        Manifest("m", (ReferenceMeasurement(255, versions=("1",)),))


def test_joining_keeps_both_sets_and_refuses_contradictions() -> None:
    first = ReferenceMeasurement(3, versions=("1",))
    joined = first.joined(ReferenceMeasurement(3, "late name", versions=("1", "2")))
    assert joined.versions == ("1", "2")
    assert joined.name == "late name"
    with pytest.raises(ConfigurationError):
        first.joined(ReferenceMeasurement(3, versions=("3",), required=False))
