"""TCG reference integrity manifests: the real ones of a GPU, and attacks on XML signatures."""

from __future__ import annotations

import datetime as dt
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from lxml import etree  # type: ignore[import-untyped] # lxml has no types
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from spdmkit.attestation.reference.json_format import from_json, to_json
from spdmkit.attestation.reference.loader import Reference, load_references, read_references
from spdmkit.attestation.reference.signers import SignerCheck, VerifiedSigner
from spdmkit.attestation.vendor import NVIDIA_GPU, profile_by_name
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError, SpdmError
from spdmkit.identity import Purpose, TrustAnchors

from .pki import NOW, Party, make_party

H100 = Path(__file__).parent.parent / "data" / "nvidia-h100"
IN_2024 = int(dt.datetime(2024, 8, 1, tzinfo=dt.UTC).timestamp())

DRIVER_ACTIVE = {7, *range(21, 41)}
VBIOS_ACTIVE = {*range(7), *range(8, 13)}


def nvidia(**rules: Any) -> SignerCheck:
    anchors = TrustAnchors.from_files([H100 / "rim_root.pem"], Purpose.REFERENCE_SIGNER)
    return SignerCheck(anchors, **{"time": IN_2024, **rules})


def load(name: str, check: SignerCheck | None = None) -> Reference:
    (reference,) = load_references(H100 / name, check or nvidia())
    return reference


@pytest.mark.parametrize(
    ("name", "component", "release", "active"),
    [
        ("driver_rim.swidtag", "driver", "545.00", DRIVER_ACTIVE),
        ("vbios_rim.swidtag", "vbios", "96.00.5E.00.01", VBIOS_ACTIVE),
    ],
)
def test_the_real_manifests(name: str, component: str, release: str, active: set[int]) -> None:
    reference = load(name)
    manifest = reference.manifest
    assert manifest.profile == "nvidia-gpu"
    assert (manifest.component, manifest.release) == (component, release)
    assert manifest.indexes == {index + 1 for index in active}
    assert manifest.inactive == {index + 1 for index in set(range(64)) - active}
    assert manifest.applies_to.describe() == "manufacturer NVIDIA, product GH100"
    assert manifest.publisher == "NVIDIA Corporation"
    assert reference.signer is not None
    assert reference.signer.subject.startswith("CN=HCC RIM L4 Signer,")
    assert reference.signer.anchor.startswith("CN=NVIDIA CoRIM signing Root CA,")
    assert reference.signer.checked_at == IN_2024


def test_alternatives_and_the_vendors_condition() -> None:
    driver = {entry.index: entry for entry in load("driver_rim.swidtag").manifest.measurements}
    vbios = {entry.index: entry for entry in load("vbios_rim.swidtag").manifest.measurements}
    several = {index - 1: len(e.digests) for index, e in driver.items() if len(e.digests) > 1}
    assert several == {23: 2, 24: 2, 35: 2}
    assert {i - 1: len(e.digests) for i, e in vbios.items() if len(e.digests) > 1} == {12: 4}
    assert vbios[1].digests[0].value == bytes(48)  # an all-zero value is an ordinary one
    conditions = {index: e.condition for index, e in (driver | vbios).items() if e.condition}
    assert list(conditions) == [36]
    assert conditions[36] is not None
    assert not conditions[36].excuses({"nvdec0": "enabled"})
    assert conditions[36].excuses({"nvdec0": "disabled"})
    assert not conditions[36].excuses({})


def test_our_json_keeps_everything_of_them() -> None:
    manifest = load("driver_rim.swidtag").manifest
    read = from_json(to_json(manifest))
    assert read.measurements == manifest.measurements
    assert (read.inactive, read.profile, read.component) == (
        manifest.inactive,
        manifest.profile,
        manifest.component,
    )


def test_the_signers_ended_in_2025_and_today_needs_a_stated_rule() -> None:
    with pytest.raises(AuthenticationError, match="ended 20") as caught:
        load("driver_rim.swidtag", nvidia(time=NOW))
    assert caught.value.step == "reference-signature"
    reference = load("driver_rim.swidtag", nvidia(time=NOW, ignore_expiry=True))
    assert reference.signer is not None
    assert reference.signer.checked_at is None


def test_a_device_root_is_no_anchor_for_signers() -> None:
    anchors = TrustAnchors.from_files([H100 / "rim_root.pem"], Purpose.DEVICE)
    with pytest.raises(ConfigurationError, match="not for signers"):
        load("driver_rim.swidtag", SignerCheck(anchors, IN_2024))


def test_a_stranger_is_refused() -> None:
    stranger = make_party("stranger", ca=True).anchors(Purpose.REFERENCE_SIGNER)
    with pytest.raises(AuthenticationError, match="none of our 1 trust anchors"):
        load("driver_rim.swidtag", SignerCheck(stranger, IN_2024))


def test_only_the_module_that_verifies_makes_a_signer() -> None:
    signer = load("driver_rim.swidtag").signer
    assert signer is not None
    with pytest.raises(TypeError):
        VerifiedSigner(
            signer.subject,
            signer.public_key,
            signer.certificate,
            signer.anchor,
            signer.algorithm,
            None,
            0,
            object(),
        )


RAW = (H100 / "driver_rim.swidtag").read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'Hash0="0e0ee161', b'Hash0="0e0ee162'),
        (b'index="7" active="True"', b'index="7" active="False"'),
        (b'index="8" active="False"', b'index="8" active="True"'),
        (b'colloquialVersion="545.00"', b'colloquialVersion="550.90.07"'),
        (b'product="GH100"', b'product="GH200"'),
        (b"<ds:DigestValue>Dc2C", b"<ds:DigestValue>Dc2D"),
        (b"</ns0:Payload>", b'<ns0:Resource type="Measurement" index="99"/></ns0:Payload>'),
    ],
)
def test_one_changed_character_is_noticed(old: bytes, new: bytes) -> None:
    assert old in RAW
    with pytest.raises(AuthenticationError, match="verify") as caught:
        read_references(RAW.replace(old, new, 1), nvidia())
    assert caught.value.step == "reference-signature"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'<!DOCTYPE x [<!ENTITY e "v">]>' + RAW, "document type"),
        (RAW.replace(b'name="GH100"', b'name="&e;"', 1), "not well-formed"),
        (b'<?xml-stylesheet href="x.xsl"?>' + RAW, "processing instruction"),
        (RAW.replace(b"<ns0:Meta", b"<?php x?><ns0:Meta", 1), "processing instruction"),
        (RAW.decode().encode("utf-16"), "not reference values|UTF-8"),
        (b'<?xml version="1.0" encoding="utf-7"?>' + RAW, "another encoding"),
        (b"<a/>", "no SoftwareIdentity"),
        (b"<SoftwareIdentity/>", "no SoftwareIdentity"),
        (b"<" + b"a" * 500, "not well-formed"),
        (b"<a>" * 3000, "not well-formed"),
        (RAW[:5000], "not well-formed"),
        (RAW + b"<a/>", "not well-formed"),
        (RAW + b"\xff", "not UTF-8"),
        (b"<" + b" " * (4 << 20), "more than"),
    ],
)
def test_xml_that_could_do_harm_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises((DecodeError, ConfigurationError), match=complaint):
        read_references(data, nvidia())


# --- documents signed by a signer that is trusted ------------------------------------------------

SWID = """<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
 xmlns:h="http://www.w3.org/2001/04/xmlenc#sha256" name="Widget" tagId="t1" tagVersion="3">
 <Entity name="ACME" role="tagCreator"/>
 <Meta xmlns:t="urn:t" colloquialVersion="1.0" t:PlatformManufacturerStr="ACME"
  t:PlatformModel="Widget"/>
 <Payload>
  <Resource type="Measurement" index="1" active="True" alternatives="2" h:Hash0="{a}" h:Hash1="{b}"
   name="boot" size="32"/>
  <Resource type="Measurement" index="2" active="False" alternatives="1" h:Hash0="{a}" size="32"/>
 </Payload>
</SoftwareIdentity>""".format(a="11" * 32, b="22" * 32)


@pytest.fixture(scope="module")
def root() -> Party:
    return make_party("rim root", ca=True)


@pytest.fixture(scope="module")
def signer(root: Party) -> Party:
    return make_party("rim signer", root)


@pytest.fixture(scope="module")
def acme(root: Party) -> SignerCheck:
    return SignerCheck(root.anchors(Purpose.REFERENCE_SIGNER), NOW)


def sign(party: Party, text: str = SWID, **options: Any) -> bytes:
    settings: dict[str, Any] = {
        "signature_algorithm": SignatureMethod.ECDSA_SHA256,
        "digest_algorithm": DigestAlgorithm.SHA256,
        "c14n_algorithm": CanonicalizationMethod.CANONICAL_XML_1_1,
        **options,
    }
    signed = XMLSigner(**settings).sign(
        etree.fromstring(text), key=party.key.to_pem(), cert=[party.pem.decode()]
    )
    return bytes(etree.tostring(signed))


def test_a_manifest_of_no_known_vendor_counts_from_one(acme: SignerCheck, signer: Party) -> None:
    (reference,) = read_references(sign(signer), acme)
    manifest = reference.manifest
    assert manifest.profile == ""
    assert manifest.indexes == {1}
    assert manifest.inactive == {2}
    assert [d.value[0] for d in manifest.measurements[0].digests] == [0x11, 0x22]
    assert manifest.applies_to.describe() == "manufacturer ACME, product Widget"
    assert manifest.revision == 3


def test_a_vendor_profile_can_be_named(acme: SignerCheck, signer: Party) -> None:
    (reference,) = read_references(sign(signer), acme, profile="nvidia-gpu")
    assert reference.manifest.indexes == {2}
    with pytest.raises(ConfigurationError, match="unknown vendor profile"):
        read_references(sign(signer), acme, profile="acme")


def test_taking_the_signature_away_does_not_help(acme: SignerCheck) -> None:
    with pytest.raises(AuthenticationError, match="without a signature"):
        read_references(SWID.encode(), acme)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('alternatives="2"', 'alternatives="3"', "3 alternatives are announced, 2 stand"),
        ("h:Hash1", "h:Hash2", "2 alternatives are announced"),
        ('name="boot" size="32"', 'name="boot" size="48"', "not the size"),
        ("2222", "22", "32 bytes, this one"),
        ("2222", "zz22", "not hexadecimal"),
        ('index="2"', 'index="1"', "listed twice"),
        ('index="2"', 'index="255"', "no measurement's"),
        ('index="2"', 'index="0"', "no measurement's"),
        ('index="2"', 'index="-2"', "no number"),
        ('active="True"', 'active="maybe"', "active is 'maybe'"),
        ('active="True"', 'active="False"', "no active measurement"),
        ("xmlenc#sha256", "xmldsig#md5", "is not accepted"),
        ("<Payload>", "<Payload/><Payload>", "one Meta and one Payload"),
        ("t:PlatformModel", "PlatformManufacturerStr='x' t:PlatformModel", "stands twice"),
    ],
)
def test_odd_content_is_refused_though_it_is_signed(
    acme: SignerCheck, signer: Party, old: str, new: str, complaint: str
) -> None:
    assert old in SWID
    with pytest.raises((DecodeError, ConfigurationError), match=complaint):
        read_references(sign(signer, SWID.replace(old, new, 1)), acme)


def edited(data: bytes, pattern: str, replacement: str) -> bytes:
    text, count = re.subn(pattern, replacement, data.decode(), count=1)
    assert count == 1, pattern
    return text.encode()


XSLT = (
    '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116">'
    '<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform" version="1.0"/></ds:Transform>'
)
XPATH = '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"/>'
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        ("</ds:Transforms>", XSLT + "</ds:Transforms>", "transforms other than"),
        ("</ds:Transforms>", XPATH + "</ds:Transforms>", "transforms other than"),
        ("<ds:Transforms>", "<ds:Transforms>" + XSLT, "transforms other than"),
        ('URI=""', 'URI="#part"', "whole document"),
        ('URI=""', 'URI="http://example.org/"', "whole document"),
        (' URI=""', "", "whole document"),
        (r"(<ds:Reference.*</ds:Reference>)", r"\1\1", "2 Reference elements"),
        (r"(<ds:Signature .*</ds:Signature>)", r"\1\1", "one signature"),
        (r"(<ds:Signature .*</ds:Signature>)", r"<Link>\1</Link>", "directly under the root"),
        (r'DigestMethod Algorithm="[^"]*"', f'DigestMethod Algorithm="{SHA1}"', "digest algorithm"),
        (
            r'SignatureMethod Algorithm="[^"]*"',
            'SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"',
            "signature algorithm",
        ),
        (
            r'CanonicalizationMethod Algorithm="[^"]*"',
            'CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11#WithComments"',
            "canonicalisation",
        ),
        ("</ds:Signature>", "<ds:Object/></ds:Signature>", "objects of its own"),
        (r"<ds:X509Certificate>.*</ds:X509Certificate>", "", "no certificate"),
        (r"<ds:X509Certificate>", "<ds:X509Certificate>!", "not base64"),
        (r"<ds:KeyInfo>.*</ds:KeyInfo>", "", "0 KeyInfo elements"),
        (r"<ds:SignatureValue>..", "<ds:SignatureValue>AA", "verify"),
        (r"<ds:SignatureValue>[^<]*", "<ds:SignatureValue>AAAA", "verify"),
        (r"</ds:SignedInfo>", "<ds:Extra/></ds:SignedInfo>", "schema|verify"),
    ],
)
def test_odd_signatures_are_refused(
    acme: SignerCheck, signer: Party, pattern: str, replacement: str, complaint: str
) -> None:
    data = edited(sign(signer).replace(b"\n", b""), pattern, replacement)
    with pytest.raises((AuthenticationError, DecodeError), match=complaint):
        read_references(data, acme)


def test_content_moved_out_of_the_signature_is_not_read(acme: SignerCheck, signer: Party) -> None:
    """Signature wrapping: the signed document is kept inside, another one stands around it."""
    good = sign(signer).decode()
    evil = SWID.replace("11" * 32, "66" * 32)
    wrapped = evil.replace("</SoftwareIdentity>", good + "</SoftwareIdentity>")
    with pytest.raises(AuthenticationError, match="directly under the root"):
        read_references(wrapped.encode(), acme)
    signature = re.search(r"<ds:Signature .*</ds:Signature>", good, re.DOTALL)
    assert signature is not None
    moved = evil.replace("</SoftwareIdentity>", signature[0] + "</SoftwareIdentity>")
    with pytest.raises(AuthenticationError, match="does not verify"):
        read_references(moved.encode(), acme)


def test_comments_do_not_cut_values_short(acme: SignerCheck, signer: Party) -> None:
    """A comment is not covered by the signature, so it must change nothing that is read."""
    data = sign(signer).replace(b"<Payload>", b"<!-- <Payload> --><Payload><!---->", 1)
    (reference,) = read_references(data, acme)
    assert reference.manifest == read_references(sign(signer), acme)[0].manifest


def test_a_key_of_another_kind_than_the_method_is_refused(acme: SignerCheck, root: Party) -> None:
    other = make_party("p384 signer", root, algorithm="ecdsa-p384")
    data = sign(other, signature_algorithm=SignatureMethod.ECDSA_SHA384)
    read_references(data, acme)
    swapped = edited(
        data.replace(b"\n", b""),
        r'SignatureMethod Algorithm="[^"]*"',
        'SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"',
    )
    with pytest.raises(AuthenticationError, match="does not verify"):
        read_references(swapped, acme)


def test_the_certificate_of_another_signer_does_not_help(acme: SignerCheck, root: Party) -> None:
    mine, theirs = make_party("one", root), make_party("two", root)
    data = XMLSigner(
        signature_algorithm=SignatureMethod.ECDSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
    ).sign(etree.fromstring(SWID), key=mine.key.to_pem(), cert=[theirs.pem.decode()])
    with pytest.raises(AuthenticationError, match="does not verify"):
        read_references(bytes(etree.tostring(data)), acme)


@pytest.mark.parametrize("missing", ["lxml.etree", "signxml"])
def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError) as caught:
        read_references(RAW, nvidia())
    assert caught.value.hint == "install it with: pip install 'spdmkit[rim]'"


def test_mutated_manifests_raise_only_our_errors() -> None:
    check = nvidia()
    for at in range(0, len(RAW), 97):
        for broken in (RAW[:at] + RAW[at + 1 :], RAW[:at] + b"<" + RAW[at + 1 :]):
            try:
                (reference,) = read_references(broken, check)
            except SpdmError:
                continue
            assert reference.signer is not None


# --- the vendor's profile ------------------------------------------------------------------------


def entry(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value


def test_facts_of_the_opaque_data() -> None:
    opaque = (
        entry(3, b"550.90.07\0")
        + entry(6, bytes.fromhex("009f009601000000"))
        + entry(11, b"\x55")
        + entry(999, b"later")
        + entry(12, (5).to_bytes(4, "little") + (130).to_bytes(4, "little"))
    )
    facts = NVIDIA_GPU.facts(opaque)
    assert facts["driver_version"] == "550.90.07"
    assert facts["vbios_version"] == "96.00.9F.00.01"
    assert facts["nvdec0"] == "disabled"
    assert facts["measurement_counts"] == "5,130"
    assert NVIDIA_GPU.facts(entry(11, b"\xaa"))["nvdec0"] == "enabled"
    assert NVIDIA_GPU.facts(entry(11, b"\xaa\xaa"))["nvdec0"] == "unknown"
    assert NVIDIA_GPU.facts(entry(6, b"\x01"))["vbios_version"] == "01"


@pytest.mark.parametrize(
    "opaque", [b"\x03", b"\x03\x00\x05", b"\x03\x00\x05\x00abc", entry(3, b"a") + entry(3, b"b")]
)
def test_facts_that_run_past_the_end_or_stand_twice_are_refused(opaque: bytes) -> None:
    with pytest.raises(DecodeError):
        NVIDIA_GPU.facts(opaque)


def test_profiles_are_found_by_name() -> None:
    assert profile_by_name("nvidia-gpu") is NVIDIA_GPU
    assert profile_by_name("") is None
    importlib.import_module("spdmkit.attestation.vendor")
