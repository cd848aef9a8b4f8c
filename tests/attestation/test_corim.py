"""CoRIM: what is written comes back, what cannot be judged is refused, signatures are believed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from spdmkit.attestation import cbor
from spdmkit.attestation.reference.corim import manifests_from_corim
from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.attestation.reference.loader import read_references
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AllowedRaw,
    AppliesTo,
    Condition,
    Manifest,
    ReferenceMeasurement,
    SvnRule,
)
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import Purpose
from spdmkit.messages import MeasurementKind

from .pki import NOW, YEAR, Party, make_party

MANIFEST = Manifest(
    "acme-nic",
    (
        ReferenceMeasurement(
            1,
            "boot loader",
            digests=(
                AllowedDigest("sha-384", bytes(48)),
                AllowedDigest("sha-256", bytes(32)),
                AllowedDigest("sha-384", b"\1" * 48),
                AllowedDigest("sm3-256", b"\2" * 32),
            ),
        ),
        ReferenceMeasurement(
            2, raw_values=(AllowedRaw(b"\x01\x02", b"\xff\x00"), AllowedRaw(b"x"))
        ),
        ReferenceMeasurement(7, svn=(SvnRule(3), SvnRule(1, exact=True))),
        ReferenceMeasurement(8, versions=("7.2.0", "7.2.1")),
    ),
    name="ACME NIC",
    publisher="ACME Corporation",
    revision=2,
    component="layer 1 index 4",
    applies_to=AppliesTo(("ACME",), ("NIC",), ("123",), ("ab" * 32,)),
    not_before=NOW - YEAR,
    not_after=NOW + YEAR,
    format="corim",
)
OPTIONAL = replace(
    MANIFEST,
    measurements=(
        ReferenceMeasurement(
            1, kind=MeasurementKind.MUTABLE_FIRMWARE, versions=("1",), required=False
        ),
    ),
)


@pytest.fixture(scope="module")
def root() -> Party:
    return make_party("reference root", ca=True)


@pytest.fixture(scope="module")
def signer(root: Party) -> Party:
    return make_party("reference signer", root)


def check(anchor: Party | None, *, time: int = NOW, **rules: Any) -> SignerCheck:
    anchors = anchor.anchors(Purpose.REFERENCE_SIGNER) if anchor else None
    return SignerCheck(anchors, time, **rules)


@pytest.mark.parametrize("manifest", [MANIFEST, OPTIONAL], ids=["standard", "with-our-additions"])
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    (read,) = manifests_from_corim(to_corim([manifest], corim_id="release"))
    assert {e.index: set(e.digests) for e in read.measurements} == {
        e.index: set(e.digests) for e in manifest.measurements
    }
    same_order = tuple(
        replace(entry, digests=original.digests)
        for entry, original in zip(read.measurements, manifest.measurements, strict=True)
    )
    assert replace(read, measurements=same_order) == replace(
        manifest, manifest_id="release/acme-nic"
    )


def test_several_manifests_share_a_document() -> None:
    other = replace(MANIFEST, manifest_id="acme-gpu", applies_to=AppliesTo(("ACME",), ("GPU",)))
    read = manifests_from_corim(to_corim([MANIFEST, other]))
    assert [m.applies_to.product for m in read] == [("NIC",), ("GPU",)]


def test_a_document_without_additions_names_no_profile() -> None:
    assert 3 not in cbor.decode(to_corim([MANIFEST]), what="", limit=9999).value
    assert 3 in cbor.decode(to_corim([OPTIONAL]), what="", limit=9999).value


def test_alternatives_stand_in_triples_of_their_own() -> None:
    corim = cbor.decode(to_corim([MANIFEST]), what="", limit=9999).value
    comid = cbor.decode(corim[1][0].value, what="", limit=9999)
    for _, claims in comid[4][0]:
        keys = [claim[0] for claim in claims]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"inactive": frozenset({9})}, "inactive"),
        ({"profile": "nvidia-gpu"}, "vendor profiles"),
        ({"applies_to": AppliesTo(("AC*",))}, "without wildcards"),
        ({"applies_to": AppliesTo(("A", "B"))}, "one manufacturer"),
        ({"component": "driver"}, "component 'driver'"),
        ({"not_after": None}, "beginning of validity without an end"),
        (
            {
                "measurements": (
                    ReferenceMeasurement(1, versions=("1",), condition=Condition("a", "b")),
                )
            },
            "condition",
        ),
    ],
)
def test_what_corim_cannot_say_is_not_written(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        to_corim([replace(MANIFEST, **change)])


# --- documents of others -----------------------------------------------------------------------

UUID = cbor.Tag(37, bytes(range(16)))


def document(
    values: object = None,
    *,
    key: object = 5,
    environment: object = None,
    corim: dict[Any, Any] | None = None,
    comid: dict[Any, Any] | None = None,
    authority: object = None,
) -> bytes:
    """A CoRIM with one measured value, in the draft's own terms."""
    claim: dict[Any, Any] = {0: key, 1: values if values is not None else {2: [[1, bytes(32)]]}}
    if authority is not None:
        claim[2] = authority
    triple = [environment or {0: {0: UUID, 1: "ACME", 2: "RoadRunner"}}, [claim]]
    body = {1: {0: bytes(16)}, 4: {0: [triple]}, **(comid or {})}
    whole = {0: "an id", 1: [cbor.Tag(506, cbor.encode(body))], **(corim or {})}
    return cbor.encode(cbor.Tag(501, whole))


def test_the_forms_of_the_draft_are_read() -> None:
    (manifest,) = manifests_from_corim(
        document(
            {
                0: {0: "1.0.0", 1: 16384},
                1: cbor.Tag(553, 4),
                2: [[1, bytes(32)], ["sha-384", bytes(48)]],
                4: cbor.Tag(560, b"\0\0\0\0"),
                5: b"\xff\xff\0\0",
                11: "kernel",
            },
            corim={
                3: cbor.Tag(111, b"\x60"),
                4: {1: cbor.Tag(1, NOW)},
                5: [{0: "ACME Ltd", 2: [1]}],
            },
        )
    )
    (entry,) = manifest.measurements
    assert entry == ReferenceMeasurement(
        5,
        "kernel",
        None,
        (AllowedDigest("sha-256", bytes(32)), AllowedDigest("sha-384", bytes(48))),
        (AllowedRaw(bytes(4), b"\xff\xff\0\0"),),
        (SvnRule(4),),
        ("1.0.0",),
    )
    assert manifest.publisher == "ACME Ltd"
    assert manifest.not_after == NOW
    assert manifest.applies_to == AppliesTo(("ACME",), ("RoadRunner",))


@pytest.mark.parametrize("svn", [7, cbor.Tag(552, 7)])
def test_a_plain_svn_is_exact(svn: object) -> None:
    (manifest,) = manifests_from_corim(document({1: svn}))
    assert manifest.measurements[0].svn == (SvnRule(7, exact=True),)


def test_wrappers_of_older_drafts_are_taken_off() -> None:
    inner = cbor.decode(document(), what="", limit=9999)
    assert manifests_from_corim(cbor.encode(cbor.Tag(500, inner)))


def test_keys_that_are_no_indexes_are_left_out_and_noted() -> None:
    triples = [
        [{0: {1: "ACME"}}, [{0: UUID, 1: {2: [[1, bytes(32)]]}}, {0: 3, 1: {2: [[1, bytes(32)]]}}]]
    ]
    (manifest,) = manifests_from_corim(document(comid={4: {0: triples, 2: []}}))
    assert manifest.indexes == {3}
    assert len(manifest.notes) == 2


def test_a_class_id_alone_applies_to_no_device_by_itself() -> None:
    (manifest,) = manifests_from_corim(document(environment={0: {0: UUID}}))
    assert manifest.applies_to.is_empty
    assert "class-id" in manifest.notes[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"values": {3: {3: True}}}, "value 3 .* cannot be judged"),
        ({"values": {15: 4}}, "value 15"),
        ({"values": {2: [[1, bytes(32)]], -1: False}}, "value -1"),
        ({"values": {2: [[2, bytes(16)]]}}, "digest algorithm 2 is not SPDM's"),
        ({"values": {2: [[1, bytes(31)]]}}, "32 bytes, this one 31"),
        ({"values": {2: [[1, bytes(32)], [1, bytes(32)]]}}, "two digests by sha-256"),
        ({"values": {2: [1, bytes(32)]}}, "no pair"),
        ({"values": {}}, "no value"),
        ({"values": {2: []}}, "no value"),
        ({"values": {1: -1}}, "no unsigned integer"),
        ({"values": {1: True}}, "no unsigned integer"),
        ({"values": {0: "1.0"}}, "version-map is no map"),
        ({"values": {4: "text"}}, "no byte string"),
        ({"values": {5: b""}}, "mask without a raw value"),
        ({"values": {4: cbor.Tag(563, [b"12", b"1"])}}, "differ in length"),
        ({"values": {2: [[1, bytes(32)]], 11: 3}}, "name is no text"),
        ({"key": 0}, "no measurement index"),
        ({"key": 255}, "no measurement index"),
        ({"key": UUID}, "no reference value for a measurement block"),
        ({"environment": {0: {1: "ACME"}, 2: UUID}}, "environment of the CoRIM has 2"),
        ({"environment": {0: {1: "ACME", 9: 1}}}, "class of the CoRIM has 9"),
        ({"environment": {0: {1: 5}}}, "no text"),
        ({"environment": {0: {3: -1}}}, "layer of the class"),
        ({"environment": {1: UUID}}, "instance in a form"),
        ({"authority": [cbor.Tag(554, "key")]}, "authorized-by"),
        ({"authority": [cbor.Tag(559, [7, bytes(48)])]}, "SHA-256 thumbprint"),
        ({"corim": {9: 1}}, "corim-map of the CoRIM has 9"),
        ({"corim": {4: {1: "later"}}}, "time is no number"),
        ({"corim": {4: {1: 1e300}}}, "beyond any calendar"),
        ({"corim": {1: []}}, "no reference value"),
        ({"corim": {1: [5]}}, "no tagged byte string"),
        ({"corim": {0: 5}}, "identifier"),
        ({"comid": {1: {0: "x", 1: -1}}}, "tag-version"),
        ({"comid": {7: 1}}, "concise-mid-tag of the CoRIM has 7"),
        ({"comid": {4: {0: [[{}]]}}}, "no pair"),
    ],
)
def test_what_cannot_be_judged_or_is_malformed_is_refused(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((ConfigurationError, DecodeError), match=complaint):
        manifests_from_corim(document(**arguments))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa0",
        cbor.encode(cbor.Tag(501, [])),
        cbor.encode(cbor.Tag(502, {})),
        document()[:-1],
        document() + b"\0",
        b"\xd9\x01\xf5" + b"\x81" * 3000,
        b"\xd9\x01\xf5\xbf\xff",
        b"\xd9\x01\xf5\xa2\x00\x61a\x00\x61b",
    ],
)
def test_broken_encodings_are_decode_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        manifests_from_corim(data)


def test_every_truncation_and_every_flipped_byte_is_survived() -> None:
    data = to_corim([MANIFEST])
    for at in range(len(data)):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]):
            with contextlib.suppress(DecodeError, ConfigurationError):
                manifests_from_corim(broken)


# --- signatures --------------------------------------------------------------------------------


def signed_by(party: Party, **options: Any) -> bytes:
    return sign_corim(
        to_corim([MANIFEST]), party.key, signer="ACME", certificates=party.chain, **options
    )


def test_a_signed_document_names_its_signer(root: Party, signer: Party) -> None:
    (reference,) = read_references(signed_by(signer), check(root), source="nic.corim")
    assert reference.signer is not None
    assert reference.signer.subject == "CN=reference signer"
    assert reference.signer.anchor == "CN=reference root"
    assert reference.signer.algorithm == "ES256"
    assert reference.manifest.indexes == {1, 2, 7, 8}


@pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ecdsa-p521", "ed25519", "ml-dsa-44"])
def test_the_key_decides_the_algorithm(root: Party, algorithm: str) -> None:
    party = make_party(f"signer {algorithm}", root, algorithm=algorithm)
    (reference,) = read_references(signed_by(party), check(root))
    assert reference.signer is not None
    assert reference.signer.public_key == party.key.public_key


def test_the_anchors_own_key_needs_no_certificate_in_the_document(signer: Party) -> None:
    data = sign_corim(to_corim([MANIFEST]), signer.key, signer="ACME")
    anchors = signer.anchors(Purpose.REFERENCE_SIGNER)
    (reference,) = read_references(data, SignerCheck(anchors, NOW))
    assert reference.signer is not None
    late = SignerCheck(anchors, NOW + 2 * YEAR)
    with pytest.raises(AuthenticationError, match="reference-signature"):
        read_references(data, late)


def test_the_period_of_the_signature_narrows_validity(root: Party, signer: Party) -> None:
    data = signed_by(signer, not_before=NOW - 5, not_after=NOW + 5)
    (reference,) = read_references(data, check(root))
    assert (reference.manifest.not_before, reference.manifest.not_after) == (NOW - 5, NOW + 5)
    assert reference.manifest.staleness(NOW) == ""
    assert "ended" in reference.manifest.staleness(NOW + 6)
    assert "not begun" in reference.manifest.staleness(NOW - 6)


def test_a_stranger_is_refused(signer: Party) -> None:
    stranger = make_party("another root", ca=True)
    with pytest.raises(AuthenticationError) as caught:
        read_references(signed_by(signer), check(stranger), source="nic.corim")
    assert caught.value.step == "reference-signature"
    assert "nic.corim" in str(caught.value)


def test_nobody_is_trusted_by_default(signer: Party) -> None:
    with pytest.raises(AuthenticationError, match="nobody is trusted"):
        read_references(signed_by(signer), check(None))


def test_an_unsigned_document_is_refused_where_a_signature_is_demanded(root: Party) -> None:
    data = to_corim([MANIFEST])
    assert read_references(data, check(root))[0].signer is None
    with pytest.raises(AuthenticationError, match="demands a signature"):
        read_references(data, check(root, demand_signature=True))


def test_an_expired_signer_is_refused_unless_a_rule_says_so(root: Party) -> None:
    expired = make_party("expired signer", root, begin=NOW - 300, end=NOW - 100)
    data = signed_by(expired)
    with pytest.raises(AuthenticationError, match="ended"):
        read_references(data, check(root))
    read_references(data, check(root, time=NOW - 200))
    (reference,) = read_references(data, check(root, ignore_expiry=True))
    assert reference.signer is not None
    assert reference.signer.checked_at is None


def test_every_flipped_byte_of_a_signed_document_is_noticed(root: Party, signer: Party) -> None:
    data = signed_by(signer)
    good = read_references(data, check(root))[0].manifest
    for at in range(0, len(data), 3):
        broken = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        try:
            (reference,) = read_references(broken, check(root))
        except (AuthenticationError, DecodeError, ConfigurationError):
            continue
        # A change that goes unnoticed may only be in the wrapping, never in what was signed.
        assert reference.manifest == good
        assert reference.signer is not None


def resigned(signer: Party, change: Any) -> bytes:
    """A signed document whose COSE structure was changed and, where possible, signed again."""
    from spdmkit.attestation.cose import make_sign1

    corim = to_corim([MANIFEST])
    header: dict[Any, Any] = {
        3: "application/rim+cbor",
        8: cbor.encode({0: {0: "x"}}),
        33: list(signer.chain),
    }
    change(header)
    return cbor.encode(make_sign1(signer.key, corim, protected=header))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda h: h.pop(8), "names no signer"),
        (lambda h: h.update({8: 5}), "corim-meta"),
        (lambda h: h.update({3: "application/json"}), "signed content is not"),
        (lambda h: h.update({2: [99]}), "critical header parameter"),
        (lambda h: h.update({33: [b"junk"]}), "signer's certificates"),
        (lambda h: h.update({33: "chain"}), "neither a certificate nor an array"),
        (lambda h: h.update({1: -16}), "algorithm -16 is not accepted"),
        (lambda h: h.update({1: -35}), "does not go with a key"),
        (lambda h: h.update({1: -7.0}), "is not accepted"),
    ],
)
def test_odd_headers_are_refused(root: Party, signer: Party, change: Any, complaint: str) -> None:
    with pytest.raises((AuthenticationError, DecodeError), match=complaint):
        read_references(resigned(signer, change), check(root))


def test_detached_content_is_refused(root: Party, signer: Party) -> None:
    item = cbor.decode(signed_by(signer), what="", limit=9999)
    protected, unprotected, _, signature = item.value
    data = cbor.encode(cbor.Tag(18, [protected, unprotected, None, signature]))
    with pytest.raises(DecodeError, match="detached"):
        read_references(data, check(root))


def test_a_parameter_in_both_headers_is_refused(root: Party, signer: Party) -> None:
    item = cbor.decode(signed_by(signer), what="", limit=9999)
    protected, _, payload, signature = item.value
    data = cbor.encode(cbor.Tag(18, [protected, {1: -35}, payload, signature]))
    with pytest.raises(DecodeError, match="both headers"):
        read_references(data, check(root))
