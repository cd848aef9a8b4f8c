"""The evidence file: both forms, strictly read; the collector's signature; imports."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from spdmkit.attestation import cbor
from spdmkit.attestation.base64url import from_base64url, to_base64url
from spdmkit.attestation.evidence import (
    EVIDENCE_TAG,
    Evidence,
    ExchangeKind,
    SignedExchange,
)
from spdmkit.attestation.evidence_export import export_bare, export_chain, export_redfish
from spdmkit.attestation.evidence_import import import_bare, import_redfish
from spdmkit.attestation.inspection import inspect_evidence
from spdmkit.attestation.reference.json_format import from_json
from spdmkit.attestation.verification import EvidenceError, verify_evidence
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import TrustedPublicKey
from spdmkit.messages import V10, V11, V12, V13, V14

from .lab import collect_from, good_evidence, make_device, trust

FULL = replace(
    Evidence((SignedExchange(ExchangeKind.MEASUREMENTS, (b"request", b"response"), True),)),
    slot=3,
    vca=(b"1", b"2", b"3", b"4", b"5", b"6"),
    chain=b"chain",
    measurement_log=b"log",
    collected_at=1_780_000_000,
    collector="spdmkit",
    target="tcp://host:4194",
    transport="tcp strict",
)
STATED = Evidence(FULL.exchanges, certificates=(b"a", b"b"), stated=(("hash", "sha-384"),))


@pytest.mark.parametrize("evidence", [FULL, STATED, good_evidence()], ids=["full", "bare", "real"])
def test_both_forms_come_back_equal(evidence: Evidence) -> None:
    assert Evidence.read(evidence.to_cbor()) == evidence
    assert Evidence.read(evidence.to_json()) == evidence
    assert evidence.to_cbor()[:5] == b"\xda" + EVIDENCE_TAG.to_bytes(4, "big")
    assert EVIDENCE_TAG.to_bytes(4, "big") == b"SPDE"


def test_the_twins_have_the_same_keys() -> None:
    plain = cbor.decode(FULL.to_cbor(), what="", limit=10000).value
    twin = json.loads(FULL.to_json())["spdm_evidence"]
    assert set(plain) == set(twin)
    assert twin["chain"] == to_base64url(b"chain")


def plain(evidence: Evidence = FULL) -> dict[str, Any]:
    found: dict[str, Any] = cbor.thaw(cbor.decode(evidence.to_cbor(), what="", limit=1 << 20).value)
    return found


BROKEN: list[Callable[[dict[str, Any]], object]] = [
    lambda d: d.pop("exchanges"),
    lambda d: d.pop("slot"),
    lambda d: d.update(format=2),
    lambda d: d.update(verified=True),
    lambda d: d.update(slot=256),
    lambda d: d.update(slot="0"),
    lambda d: d.update(slot=True),
    lambda d: d.update(chain="text"),
    lambda d: d.update(chain=None),
    lambda d: d.update(vca=[b"x"] * 7),
    lambda d: d.update(vca=[b""]),
    lambda d: d.update(certificates=[b"x"]),
    lambda d: d.update(public_key=b"x"),
    lambda d: d.update(collected_at=-1),
    lambda d: d.update(collected_at=1.5),
    lambda d: d.update(target="x" * 1001),
    lambda d: d["exchanges"][0].update(kind="psk"),
    lambda d: d["exchanges"][0].update(messages=[b"x"]),
    lambda d: d["exchanges"][0].update(signed=True),
    lambda d: d["exchanges"][0].pop("in_session"),
    lambda d: d.update(exchanges=d["exchanges"] * 65),
    lambda d: d.update(measurement_log=b"x" * ((4 << 20) + 1)),
]


@pytest.mark.parametrize("change", BROKEN)
def test_odd_content_is_refused_in_both_forms(change: Callable[[dict[str, Any]], object]) -> None:
    body = plain()
    change(body)
    with pytest.raises(DecodeError):
        Evidence.from_cbor(cbor.encode(cbor.Tag(EVIDENCE_TAG, body)))

    def text(value: Any) -> Any:
        if isinstance(value, bytes):
            return to_base64url(value)
        if isinstance(value, dict):
            return {key: text(each) for key, each in value.items()}
        return [text(each) for each in value] if isinstance(value, list) else value

    body = text(body)
    if body["chain"] == "text":
        body["chain"] = 7  # a text is how bytes look in JSON
    with pytest.raises(DecodeError):
        Evidence.from_json(json.dumps({"spdm_evidence": body}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"spdm_evidence": []}',
        b'{"spdm_evidence": {}, "more": 1}',
        b'{"spdm_evidence": {"vca": ["%%"]}}',
        b'{"spdm_evidence": {"chain": "QQ=="}}',
        b'{"spdm_evidence": {"chain": "QR"}}',
        b'{"a":' * 3000,
        cbor.encode(FULL.slot),
        cbor.encode(cbor.Tag(1, {})),
        FULL.to_cbor()[:-1],
        FULL.to_cbor() + b"\0",
        b"\xda" + EVIDENCE_TAG.to_bytes(4, "big") + b"\xbf\xff",
    ],
)
def test_what_is_no_evidence(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Evidence.read(data)


def test_one_evidence_has_one_encoding() -> None:
    body = plain()
    shuffled = dict(reversed(list(body.items())))
    import cbor2

    data = cbor2.dumps(cbor2.CBORTag(EVIDENCE_TAG, shuffled))
    assert data != FULL.to_cbor()
    with pytest.raises(DecodeError, match="deterministic"):
        Evidence.from_cbor(data)


def test_too_much_is_refused_unread() -> None:
    with pytest.raises(DecodeError, match="more than"):
        Evidence.read(bytes((8 << 20) + 1))
    with pytest.raises(DecodeError, match="more than"):
        Evidence.read(b"{" + b" " * (17 << 20))


def test_every_flipped_byte_is_survived() -> None:
    data = FULL.to_cbor()
    for at in range(len(data)):
        try:
            Evidence.read(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        except DecodeError:
            continue


# --- the collector's signature -----------------------------------------------------------------

COLLECTOR = PrivateKey.from_seed("ecdsa-p384", b"collector")
OTHER = PrivateKey.from_seed("ed25519", b"collector")


@pytest.mark.parametrize("key", [COLLECTOR, OTHER], ids=["p384", "ed25519"])
def test_the_collector_vouches_for_all_of_it(key: PrivateKey) -> None:
    signed = FULL.signed_by_collector(key)
    assert signed.verify_collector((COLLECTOR.public_key, OTHER.public_key)) == key.public_key
    for form in (signed.to_cbor(), signed.to_json()):
        assert Evidence.read(form).verify_collector((key.public_key,)) == key.public_key
    twice = signed.signed_by_collector(key)
    assert twice.verify_collector((key.public_key,)) == key.public_key


@pytest.mark.parametrize(
    "changed",
    [
        {"collected_at": 1_780_000_001},
        {"target": "tcp://other:4194"},
        {"slot": 4},
        {"measurement_log": b""},
        {"exchanges": ()},
        {"collector_signature": b""},
    ],
)
def test_what_the_collector_did_not_sign(changed: dict[str, Any]) -> None:
    signed = replace(FULL.signed_by_collector(COLLECTOR), **changed)
    with pytest.raises(AuthenticationError) as caught:
        signed.verify_collector((COLLECTOR.public_key,))
    assert caught.value.step == "collector"


def test_a_collector_nobody_trusts() -> None:
    signed = FULL.signed_by_collector(COLLECTOR)
    for keys in ((), (OTHER.public_key,)):
        with pytest.raises(AuthenticationError, match="no collecting verifier"):
            signed.verify_collector(keys)
    with pytest.raises(DecodeError):
        replace(FULL, collector_signature=b"\x80").verify_collector((COLLECTOR.public_key,))


# --- imports -----------------------------------------------------------------------------------


def bare(evidence: Evidence) -> bytes:
    """The bare form: VCA where it is signed, and the measurements."""
    measured = next(e for e in evidence.exchanges if e.kind is ExchangeKind.MEASUREMENTS)
    version = measured.messages[0][0]
    return b"".join((*evidence.vca, *measured.messages) if version >= V12 else measured.messages)


def pem(evidence: Evidence) -> bytes:
    """The chain in PEM, leaf first as such files are."""
    certificates = verify_evidence(evidence, trust()).chain
    assert certificates is not None
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in reversed(certificates.chain.certificates)
    )


@pytest.mark.parametrize("version", [V10, V11, V12, V13, V14])
def test_bare_messages_of_every_version(version: int) -> None:
    original = good_evidence(version)
    data = bare(original)
    for form in (data, data.hex().encode(), data.hex(" ").encode() + b"\n"):
        evidence = import_bare(form, certificates=pem(original))
        verified = verify_evidence(evidence, trust())
        assert verified.blocks == verify_evidence(original, trust()).blocks
    assert bool(evidence.vca) == (version >= V12)


@pytest.mark.parametrize("version", [V11, V12, V13])
def test_redfish_of_every_version(version: int) -> None:
    original = good_evidence(version)
    response = export_redfish(original)
    document = json.loads(response)
    assert document["Version"] == f"1.{version & 0xF}.0"
    assert document["SigningAlgorithm"] == "TPM_ALG_ECDSA_ECC_NIST_P256"
    evidence = import_redfish(response, certificates=pem(original), target="https://bmc")
    assert evidence.target == "https://bmc"
    blocks = verify_evidence(evidence, trust()).blocks
    assert blocks == verify_evidence(original, trust()).blocks


def test_new_versions_without_their_negotiation_cannot_be_verified() -> None:
    original = good_evidence(V12)
    measured = next(e for e in original.exchanges if e.kind is ExchangeKind.MEASUREMENTS)
    evidence = import_bare(b"".join(measured.messages), certificates=pem(original))
    with pytest.raises(EvidenceError) as caught:
        verify_evidence(evidence, trust())
    assert caught.value.step == "signature"
    assert "sign the negotiation too" in caught.value.hint


def test_a_provisioned_key_instead_of_a_chain() -> None:
    device = make_device()
    key = device.key.public_key
    original = collect_from(device, version=V12)
    evidence = replace(
        original,
        exchanges=tuple(e for e in original.exchanges if e.kind is ExchangeKind.MEASUREMENTS),
    )
    imported = import_bare(bare(evidence), public_key=key.to_pem())
    assert imported.slot == 0xFF
    believed = trust(public_key=TrustedPublicKey(key))
    with pytest.raises(EvidenceError) as caught:  # the device answered for slot 0
        verify_evidence(imported, believed)
    assert caught.value.step == "decode"
    with pytest.raises(ConfigurationError, match="none was given"):
        verify_evidence(imported, trust())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d[:-1], "signature|bytes"),
        (lambda d: d + b"\x13", "GET_MEASUREMENTS|version"),
        (lambda d: d[:4], "VERSION"),
        (lambda d: b"", "no SPDM message"),
        (lambda d: b"\x99" + d[1:], "VERSION|SPDM message|SPDMVersion"),
        (lambda d: b"zz" + d, "no SPDM message|SPDMVersion"),
    ],
)
def test_incomplete_bare_messages(change: Callable[[bytes], bytes], complaint: str) -> None:
    original = good_evidence(V13)
    with pytest.raises(DecodeError, match=complaint):
        import_bare(change(bare(original)), certificates=pem(original))


def test_unsigned_measurements_are_no_evidence() -> None:
    unsigned = b"\x11\xe0\x00\xff" + b"\x11\x60\x00\x00\x00\x00\x00\x00" + bytes(34)
    with pytest.raises(DecodeError, match="not signed"):
        import_bare(unsigned, certificates=pem(good_evidence()))


def test_an_import_needs_one_kind_of_key() -> None:
    original = good_evidence()
    with pytest.raises(ConfigurationError, match="either certificates or a public key"):
        import_bare(bare(original))
    key = make_device().key.public_key.to_pem()
    with pytest.raises(ConfigurationError, match="either certificates or a public key"):
        import_bare(bare(original), certificates=pem(original), public_key=key)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.update(Version="1.2.0"), DecodeError),
        (lambda d: d.update(Version="x"), DecodeError),
        (lambda d: d.update(HashingAlgorithm="OEM"), DecodeError),
        (lambda d: d.update(SigningAlgorithm="TPM_ALG_RSA"), DecodeError),
        (lambda d: d.update(SignedMeasurements="%"), DecodeError),
        (lambda d: d.pop("SignedMeasurements"), DecodeError),
        (lambda d: d.update(SignedMeasurements=5), DecodeError),
        (lambda d: d.update(PublicKey="key"), ConfigurationError),
        (lambda d: d.update(Certificate="link"), DecodeError),
    ],
)
def test_odd_responses_of_redfish(
    change: Callable[[dict[str, Any]], object], error: type[Exception]
) -> None:
    original = good_evidence(V13)
    document = json.loads(export_redfish(original))
    document["Oem"] = {"Vendor": 1}  # further properties are the service's own business
    certificates = pem(original)
    import_redfish(json.dumps(document).encode(), certificates=certificates)
    change(document)
    with pytest.raises(error):
        import_redfish(json.dumps(document).encode(), certificates=certificates)


def test_what_redfish_cannot_carry() -> None:
    original = good_evidence(V13)
    challenge_only = replace(original, exchanges=original.exchanges[:1])
    with pytest.raises(ConfigurationError, match="no MEASUREMENTS"):
        export_redfish(challenge_only)
    with pytest.raises(ConfigurationError, match="not at hand"):
        export_redfish(replace(original, vca=()))


@pytest.mark.parametrize("version", [V11, V12, V13])
def test_bare_messages_and_certificates_alone_say_the_same(version: int) -> None:
    original = good_evidence(version)
    again = import_bare(export_bare(original), certificates=export_chain(original))
    assert verify_evidence(again, trust()).blocks == verify_evidence(original, trust()).blocks


def test_a_look_inside_verifies_nothing_and_says_what_it_cannot_read() -> None:
    original = good_evidence(V13)
    found = inspect_evidence(original)
    assert (found["verified"], found["problem"]) == (False, "")
    assert found["spdm_version"] == "1.3"
    assert [each["kind"] for each in found["exchanges"]] == ["challenge", "measurements"]
    assert [each["name"] for each in found["vca"]][0::5] == ["GET_VERSION", "ALGORITHMS"]
    assert len(found["measurements"]) == 9
    assert len(found["certificates"]) == 3
    key = PrivateKey.from_seed("ecdsa-p256", b"collector")
    signed = inspect_evidence(original.signed_by_collector(key))
    assert signed["signed_by"] == f"spki-sha256:{key.public_key.spki_sha256().hex()}"
    broken = [
        replace(original, chain=b"nonsense"),
        replace(original, vca=original.vca[:5]),
        replace(original, exchanges=(original.exchanges[0]._replace(messages=(b"x", b"")),)),
        replace(original, slot=255, chain=b"", public_key=b"no key"),
        replace(original, slot=255, chain=b""),
        replace(original, vca=(), chain=b"nonsense"),
    ]
    for each in broken:
        assert inspect_evidence(each)["problem"]
    odd = inspect_evidence(replace(original, target="a\x1b[31m", collector_signature=b"x"))
    assert "\x1b" not in odd["target"]
    assert "cannot be read" in odd["signed_by"]


def test_json_that_is_no_text() -> None:
    broken = good_evidence(V13).to_json().replace(b"tcp://device", b"tcp://\x9edevice")
    with pytest.raises(DecodeError, match="not JSON"):
        Evidence.read(broken)
    with pytest.raises(ConfigurationError):
        from_json(b'{"spdm_reference": 1, "id": "\x9e"}')


def test_base64url_is_read_strictly() -> None:
    assert from_base64url(to_base64url(b"\xff\xfe"), what="x", field="y") == b"\xff\xfe"
    for bad in ("_-8=", "+/8", "_", "Ab ", "ä"):
        with pytest.raises(DecodeError):
            from_base64url(bad, what="x", field="y")
