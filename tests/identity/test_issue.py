"""Certificates, lists and signing requests that we make ourselves."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.crypto.der import (
    OCTET_STRING,
    SET,
    UTF8_STRING,
    context,
    encode_integer,
    encode_object_identifier,
    encode_time,
    sequence,
    tlv,
)
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import signature_algorithm
from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    SpdmError,
    UnsupportedAlgorithm,
)
from spdmkit.identity import (
    NO_END,
    Attribute,
    Authority,
    Certificate,
    CertificateChain,
    CertificateModel,
    ChainError,
    ChainPolicy,
    Issuance,
    Profile,
    Purpose,
    RequesterInfo,
    RevocationData,
    RevokedCertificate,
    TrustAnchors,
    build_csr,
    distinguished_name,
    oids,
    verify_csr,
)
from spdmkit.identity.claims import read_device_names
from spdmkit.identity.csr import EXTENSION_REQUEST, MAX_CSR

from .helpers import NOW, SHA384, key, refused, verify

ROOT = Authority.root("Root", key("root"))
DAY = dt.timedelta(days=1)
OWN = Profile.leaf(CertificateModel.DEVICE, "M:W:1")


def issue(profile: Profile, issuance: Issuance | None = None) -> Certificate:
    return ROOT.issue("CN=Leaf,O=Tests", key("leaf").public_key, profile, issuance)


class TestProfiles:
    def test_device_leaf(self) -> None:
        leaf = issue(Profile.leaf(CertificateModel.DEVICE, "M:W:1", requester=True))
        assert leaf.basic_constraints == x509.BasicConstraints(False, None)
        assert leaf.key_usage is not None
        assert leaf.key_usage.digital_signature
        assert not leaf.key_usage.key_cert_sign
        assert leaf.extended_key_usage == (oids.RESPONDER_AUTH, oids.REQUESTER_AUTH)
        assert leaf.spdm_oids == (oids.HARDWARE_IDENTITY,)
        assert [name.text for name in read_device_names(leaf)] == ["M:W:1"]
        assert leaf.extensions[oids.SPDM_EXTENSION] is False
        assert leaf.not_after == NO_END
        assert b"99991231235959Z" in leaf.der
        assert leaf.serial_number > 0
        assert leaf.version == 3

    def test_alias_leaf(self) -> None:
        leaf = issue(Profile.leaf(CertificateModel.ALIAS, responder=False))
        assert leaf.spdm_oids == (oids.MUTABLE_CERTIFICATE,)
        assert leaf.extended_key_usage is None
        assert read_device_names(leaf) == ()

    def test_generic_leaf(self) -> None:
        leaf = issue(Profile.leaf(CertificateModel.GENERIC))
        assert leaf.spdm_oids == ()
        assert oids.SPDM_EXTENSION not in leaf.extensions

    def test_device_authority(self) -> None:
        authority = issue(Profile.device_authority("M:W:1", path_length=1))
        assert authority.basic_constraints == x509.BasicConstraints(True, 1)
        assert authority.key_usage is not None
        assert authority.key_usage.key_cert_sign
        assert authority.hardware_identity

    def test_alias_authority(self) -> None:
        assert issue(Profile.alias_authority()).mutable

    def test_extra_extensions(self) -> None:
        leaf = issue(Profile(extra=(("1.2.3.4", True, b"\x05\x00"),)))
        assert leaf.extensions["1.2.3.4"] is True
        assert leaf.extension_value("1.2.3.4") == b"\x05\x00"

    @pytest.mark.parametrize("text", ["M:W", "M:W:1:2", "::", "M::1", "M:W:\n", "plain"])
    def test_device_names_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="MANUFACTURER:PRODUCT:SERIAL"):
            issue(Profile(device_name=text))


def test_a_whole_alias_chain_verifies() -> None:
    issuer = ROOT.subordinate("Issuer", key("issuer"))
    device = issuer.subordinate("Dev", key("device"), profile=Profile.device_authority("M:W:1"))
    layer = device.subordinate("Layer 0", key("layer"), profile=Profile.alias_authority())
    leaf = layer.issue("Layer 1", key("leaf").public_key, Profile.leaf(CertificateModel.ALIAS))
    authorities = (ROOT, issuer, device, layer)
    ders = [*(item.certificate.der for item in authorities), leaf.der]
    chain = CertificateChain.from_certificates(ders, SHA384)
    trusted = TrustAnchors([ROOT.certificate], Purpose.DEVICE)
    verified = verify(chain, trusted, policy=ChainPolicy(model=CertificateModel.ALIAS))
    assert str(verified.identity) == "M:W:1"


def test_the_same_again_when_time_and_number_are_given() -> None:
    issuance = Issuance(NOW, NO_END, serial_number=7)
    roots = [
        Authority.root("Root", key("root"), issuance=issuance, deterministic=True) for _ in range(2)
    ]
    assert roots[0].certificate == roots[1].certificate
    leaves = {root.issue("L", key("leaf").public_key, Profile(), issuance).der for root in roots}
    assert len(leaves) == 1
    assert roots[0].certificate.serial_number == 7
    assert roots[0].certificate.not_before == NOW


def test_numbers_are_drawn_when_none_is_given() -> None:
    numbers = {issue(Profile()).serial_number for _ in range(8)}
    assert len(numbers) == 8
    assert min(numbers) > 2**64


@pytest.mark.parametrize(
    ("issuance", "words"),
    [
        (Issuance(dt.datetime(2026, 1, 1)), "no time zone"),
        (Issuance(NOW, NOW - DAY), "before the beginning"),
        (Issuance(serial_number=0), "serial number"),
        (Issuance(serial_number=-1), "serial number"),
        (Issuance(serial_number=1 << 159), "serial number"),
    ],
)
def test_impossible_certificates(issuance: Issuance, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        issue(Profile(), issuance)


def test_names() -> None:
    assert distinguished_name("Device 7") == distinguished_name("CN=Device 7")
    assert distinguished_name("CN=a,O=b").rfc4514_string() == "CN=a,O=b"
    name = distinguished_name("CN=x")
    assert distinguished_name(name) is name
    for text in ("", "CN", "=x", "FOO=bar"):
        if text == "CN":
            continue
        with pytest.raises(ConfigurationError):
            distinguished_name(text)


@pytest.mark.parametrize("name", ["md5", "sha1", "sha224", "nonsense"])
def test_weak_hashes_are_not_used(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Authority.root("Root", key("root"), hash_name=name)


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha3-384"])
def test_hash_of_choice(name: str) -> None:
    assert Authority.root("Root", key("root"), hash_name=name).certificate.signature_hash == name


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("ecdsa-p256", "ECDSA with SHA-256"),
        ("ecdsa-p384", "ECDSA with SHA-384"),
        ("ecdsa-p521", "ECDSA with SHA-512"),
        ("rsassa-2048", "RSA with SHA-256"),
        ("rsassa-3072", "RSA with SHA-384"),
        ("ed25519", "Ed25519"),
        ("ml-dsa-44", "ML-DSA-44"),
    ],
)
def test_hash_that_fits_the_key(algorithm: str, name: str) -> None:
    assert Authority.root("Root", key("root", algorithm)).certificate.signature_name == name


def test_pss_is_named_by_its_parameters() -> None:
    root = Authority.root("Root", key("root", "rsassa-2048"), pss=True)
    assert root.certificate.signature_name == "RSASSA-PSS"
    assert root.certificate.signature_hash == "sha256"


@pytest.mark.parametrize(
    ("moment", "encoded"),
    [
        (dt.datetime(1949, 12, 31, 23, 59, 59, tzinfo=dt.UTC), b"\x18\x0f19491231235959Z"),
        (dt.datetime(1950, 1, 1, tzinfo=dt.UTC), b"\x17\x0d500101000000Z"),
        (dt.datetime(2049, 12, 31, 23, 59, 59, 999, tzinfo=dt.UTC), b"\x17\x0d491231235959Z"),
        (dt.datetime(2050, 1, 1, tzinfo=dt.UTC), b"\x18\x0f20500101000000Z"),
        (dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(DAY / 12)), b"\x17\x0d251231230000Z"),
    ],
)
def test_dates_are_written_as_rfc_5280_wants(moment: dt.datetime, encoded: bytes) -> None:
    assert encode_time(moment) == encoded


@pytest.mark.parametrize(
    ("module", "algorithm", "name"),
    [("pqcrypto", "slh-dsa-sha2-128f", "SLH-DSA-SHA2-128F"), ("gmssl_pyx", "sm2-p256", "SM2 with")],
)
class TestKeysThatCryptographyDoesNotKnow:
    @pytest.fixture(autouse=True)
    def _package(self, module: str) -> None:
        pytest.importorskip(module)

    def test_issue_and_verify(self, algorithm: str, name: str) -> None:
        root = Authority.root("Root", key("root", algorithm))
        leaf = root.issue("L", key("root", algorithm).public_key, OWN)
        assert leaf.signature_name.startswith(name)
        chain = CertificateChain.from_certificates([root.certificate.der, leaf.der], SHA384)
        trusted = TrustAnchors([root.certificate], Purpose.DEVICE)
        entry = signature_algorithm(algorithm)
        assert verify(chain, trusted, algorithm=entry).public_key.key_type == entry.key_type
        outside = CertificateChain.from_certificates([leaf.der], SHA384, root=root.certificate.der)
        assert verify(outside, trusted).anchor_position == -1

        broken = leaf.der[:-1] + bytes([leaf.der[-1] ^ 1])
        chain = CertificateChain.from_certificates([root.certificate.der, broken], SHA384)
        with pytest.raises(ChainError) as caught:
            verify(chain, trusted)
        refused(caught.value, "signatures", 1, "does not hold")

    def test_signature_of_another_kind(self, algorithm: str, name: str) -> None:
        root = Authority.root("Root", key("root", algorithm))
        stranger = Authority(root.certificate, key("stranger"))
        leaf = stranger.issue("L", key("leaf").public_key, OWN)
        chain = CertificateChain.from_certificates([root.certificate.der, leaf.der], SHA384)
        with pytest.raises(ChainError) as caught:
            verify(chain, TrustAnchors([root.certificate], Purpose.DEVICE))
        refused(caught.value, "signatures", 1, "cannot be verified (ECDSA with SHA-256 by a key of")

    def test_lists(self, algorithm: str, name: str) -> None:
        root = Authority.root("Root", key("root", algorithm))
        leaf = root.issue("L", key("leaf").public_key, OWN, Issuance(serial_number=7))
        chain = CertificateChain.from_certificates([root.certificate.der, leaf.der], SHA384)
        trusted = TrustAnchors([root.certificate], Purpose.DEVICE)
        until = NOW + DAY
        good = root.revocation_list([], number=1, issued=NOW, until=until)
        verified = verify(chain, trusted, revocation=RevocationData([good]))
        assert verified.steps[-1].outcome == "passed"
        revoked = root.revocation_list(
            [RevokedCertificate(7, NOW)], number=2, issued=NOW, until=until
        )
        forged = good[:-1] + bytes([good[-1] ^ 1])
        for der, words in ((revoked, "revoked since"), (forged, "does not verify")):
            with pytest.raises(ChainError) as caught:
                verify(chain, trusted, revocation=RevocationData([der]))
            refused(caught.value, "revocation", 1, words)

    def test_requests(self, algorithm: str, name: str) -> None:
        private = key("root", algorithm)
        der = build_csr(private, subject="D", profile=OWN)
        assert verify_csr(der, expected_key=private.public_key).hardware_identity
        with pytest.raises(AuthenticationError, match="not signed by the key"):
            verify_csr(der[:-1] + bytes([der[-1] ^ 1]))


def test_without_the_package_the_key_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pqcrypto")
    private = key("root", "slh-dsa-sha2-128f")
    root = Authority.root("Root", private)
    leaf = root.issue("L", key("leaf").public_key, OWN)
    chain = CertificateChain.from_certificates([root.certificate.der, leaf.der], SHA384)

    def missing(*_: object) -> None:
        raise UnsupportedAlgorithm("SLH-DSA-SHA2-128f", hint="install spdmkit[pq]")

    monkeypatch.setattr("spdmkit.identity.certificate.verify_certificate", missing)
    with pytest.raises(ChainError) as caught:
        verify(chain, TrustAnchors([root.certificate], Purpose.DEVICE))
    refused(caught.value, "signatures", 1, "SLH-DSA-SHA2-128f is not available here")
    assert caught.value.hint == "install spdmkit[pq]"


class TestKeyInAModule:
    """A key that never leaves its module signs through cryptography's interface."""

    class Module(ec.EllipticCurvePrivateKey):
        def __init__(self, inner: ec.EllipticCurvePrivateKey) -> None:
            self._inner = inner
            self.signed = 0

        def exchange(self, *_: Any) -> bytes:
            raise NotImplementedError

        def public_key(self) -> ec.EllipticCurvePublicKey:
            return self._inner.public_key()

        @property
        def curve(self) -> ec.EllipticCurve:
            return self._inner.curve

        @property
        def key_size(self) -> int:
            return self._inner.key_size

        def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
            self.signed += 1
            return self._inner.sign(data, signature_algorithm)

        def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
            raise NotImplementedError

        def private_bytes(self, *_: Any) -> bytes:
            raise NotImplementedError

        def __copy__(self) -> TestKeyInAModule.Module:
            return self

        def __deepcopy__(self, memo: object) -> TestKeyInAModule.Module:
            return self

    def test_issues_lists_and_requests(self) -> None:
        inner = key("module", "ecdsa-p384").handle
        assert isinstance(inner, ec.EllipticCurvePrivateKey)
        module = self.Module(inner)
        handle = PrivateKey.from_pyca(module)
        root = Authority.root("Root", handle)
        root.certificate.x509.verify_directly_issued_by(root.certificate.x509)
        root.revocation_list([], number=1, issued=NOW, until=NOW + DAY)
        verify_csr(build_csr(handle, subject="X", profile=Profile()))
        assert module.signed == 3


def test_revocation_list() -> None:
    revoked = [
        RevokedCertificate(5, NOW, x509.ReasonFlags.key_compromise),
        RevokedCertificate(9, NOW),
    ]
    der = ROOT.revocation_list(revoked, number=42, issued=NOW, until=NOW + 7 * DAY)
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(key("root").public_key.handle)  # type: ignore[arg-type] # an EC key
    assert [item.serial_number for item in crl] == [5, 9]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 42
    assert (crl.last_update_utc, crl.next_update_utc) == (NOW, NOW + 7 * DAY)
    with pytest.raises(ConfigurationError):
        ROOT.revocation_list([], number=1, issued=NOW, until=NOW - DAY)


VENDOR = Attribute("1.3.6.1.4.1.99999.1", (tlv(UTF8_STRING, b"board 7"),))


class TestCsr:
    @pytest.mark.parametrize(
        "algorithm",
        [
            "ecdsa-p256",
            "ecdsa-p384",
            "ecdsa-p521",
            "ed25519",
            "ed448",
            "rsassa-2048",
            "ml-dsa-44",
            "ml-dsa-65",
            "ml-dsa-87",
        ],
    )
    def test_every_algorithm(self, algorithm: str) -> None:
        private = key("leaf", algorithm)
        der = build_csr(private, subject="CN=Device", profile=OWN)
        request = verify_csr(der, expected_key=private.public_key)
        assert request.subject == "CN=Device"
        assert request.public_key == private.public_key
        assert request.spki_sha256 == private.public_key.spki_sha256()
        assert request.hardware_identity
        assert not request.is_ca
        assert [name.text for name in read_device_names(request)] == ["M:W:1"]
        assert x509.load_der_x509_csr(der).is_signature_valid

    @pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
    def test_pss(self, hash_name: str) -> None:
        private = key("root", "rsassa-2048")
        der = build_csr(private, subject="D", profile=OWN, pss=True, hash_name=hash_name)
        assert verify_csr(der).public_key == private.public_key
        loaded = x509.load_der_x509_csr(der)
        assert isinstance(loaded.signature_hash_algorithm, hashes.HashAlgorithm)
        assert loaded.signature_hash_algorithm.name == hash_name

    def test_alias_model_asks_for_a_certificate_authority(self) -> None:
        der = build_csr(key("leaf"), subject="D", profile=Profile.device_authority("M:W:1"))
        assert verify_csr(der).is_ca

    def test_flipped_anywhere(self) -> None:
        der = build_csr(key("leaf"), subject="D", profile=OWN)
        for position in range(0, len(der), 7):
            broken = bytearray(der)
            broken[position] ^= 0x01
            with pytest.raises(SpdmError):
                verify_csr(bytes(broken))

    def test_signed_by_another_key(self) -> None:
        der = bytearray(build_csr(key("leaf"), subject="D", profile=OWN))
        der[-1] ^= 1
        with pytest.raises(AuthenticationError, match="not signed by the key") as caught:
            verify_csr(der)
        assert caught.value.step == "csr"

    def test_for_another_key(self) -> None:
        der = build_csr(key("leaf"), subject="D", profile=OWN)
        with pytest.raises(AuthenticationError, match="the attested one") as caught:
            verify_csr(der, expected_key=key("other").public_key)
        assert caught.value.step == "csr"

    @pytest.mark.parametrize("data", [b"", b"x", b"\x30\x00", bytes(MAX_CSR + 1)])
    def test_unreadable(self, data: bytes) -> None:
        with pytest.raises(DecodeError):
            verify_csr(data)

    def test_too_long_to_send(self) -> None:
        extra = (("1.2.3.4", False, bytes(0x10000)),)
        with pytest.raises(ConfigurationError, match="65535"):
            build_csr(key("leaf"), subject="D", profile=Profile(extra=extra))

    def test_a_certificate_from_a_request(self) -> None:
        request = verify_csr(build_csr(key("leaf"), subject="CN=D,O=T", profile=OWN))
        leaf = ROOT.issue(request.name, request.public_key, OWN)
        assert leaf.subject_der == request.info.subject
        assert leaf.spki == request.spki


class TestWishes:
    def wishes(self, **changes: Any) -> RequesterInfo:
        values: dict[str, Any] = {
            "subject": "CN=Wished,O=Requester",
            "public_key": key("requesters idea of it").public_key,
        }
        return RequesterInfo.parse(RequesterInfo.make(**(values | changes)).encode())

    def answer(self, wishes: RequesterInfo, profile: Profile = OWN) -> Any:
        der = build_csr(key("leaf"), subject="CN=Own", profile=profile, requester_info=wishes)
        return verify_csr(der, expected_key=key("leaf").public_key)

    def test_subject_is_taken_and_the_key_is_not(self) -> None:
        request = self.answer(self.wishes())
        assert request.subject == "CN=Wished,O=Requester"
        assert request.public_key == key("leaf").public_key

    def test_no_subject_leaves_the_devices_own(self) -> None:
        wishes = self.wishes(subject=x509.Name([]))
        assert not wishes.has_subject
        assert self.answer(wishes).subject == "CN=Own"

    def test_attributes_are_taken(self) -> None:
        request = self.answer(self.wishes(attributes=(VENDOR,)))
        assert VENDOR in request.info.attributes

    def test_extensions_are_taken_unless_the_device_knows_better(self) -> None:
        wished = Profile(
            authority=True,
            requester=True,
            hardware_identity=True,
            mutable=True,
            device_name="Not:The:Device",
            extra=(("1.2.3.4", False, b"\x05\x00"),),
        )
        request = self.answer(
            self.wishes(profile=wished), Profile(device_name="M:W:1", responder=True)
        )
        assert not request.is_ca
        assert request.spdm_oids == ()
        assert [name.text for name in read_device_names(request)] == ["M:W:1"]
        assert request.extended_key_usage == (oids.RESPONDER_AUTH,)
        assert request.extension_value("1.2.3.4") == b"\x05\x00"
        assert request.key_usage is not None
        assert not request.key_usage.key_cert_sign

    def test_round_trip(self) -> None:
        wishes = self.wishes(profile=OWN, attributes=(VENDOR,))
        assert {item.oid for item in wishes.attributes} == {EXTENSION_REQUEST, VENDOR.oid}
        assert RequesterInfo.parse(memoryview(wishes.encode())) == wishes

    def test_an_absent_attribute_set_is_an_empty_one(self) -> None:
        der = sequence(encode_integer(0), sequence(), key("leaf").public_key.spki())
        assert RequesterInfo.parse(der).attributes == ()


SPKI = key("leaf").public_key.spki()
NAME = distinguished_name("CN=x").public_bytes()


def info(*attributes: bytes, version: int = 0, name: bytes = NAME, spki: bytes = SPKI) -> bytes:
    return sequence(
        encode_integer(version), name, spki, tlv(context(0, constructed=True), *attributes)
    )


def attribute(oid: str, *values: bytes) -> bytes:
    return sequence(encode_object_identifier(oid), tlv(SET, *values))


REQUEST = attribute(EXTENSION_REQUEST, sequence())


@pytest.mark.parametrize(
    ("der", "words"),
    [
        (b"", "SEQUENCE|found nothing"),
        (bytes(MAX_CSR + 1), "bytes"),
        (info() + b"\0", "left over"),
        (info(version=1), "only 0"),
        (info(name=b"\x05\x00"), "not a Name"),
        (info(name=sequence(b"\x05\x00")), "subject"),
        (info(name=sequence(tlv(SET))), "empty component"),
        (info(name=sequence(tlv(SET, sequence(b"\x05\x00")))), "subject"),
        (info(spki=b"\x05\x00"), "not a SubjectPublicKeyInfo"),
        (info(b"\x05\x00"), "attribute"),
        (info(attribute("1.2.3")), "empty"),
        (info(attribute("1.2.3", b"\x05\x00"), attribute("1.2.3", b"\x05\x00")), "twice"),
        (info(*(attribute(f"1.2.{n}", b"\x05\x00") for n in range(65))), "more than 64"),
        (sequence(encode_integer(0), NAME, SPKI, b"\x05\x00"), "attributes"),
        (info()[:-1], "announced"),
    ],
)
def test_requester_info_refused(der: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        RequesterInfo.parse(der)


@pytest.mark.parametrize(
    "value",
    [
        b"\x05\x00",
        sequence(sequence()),
        sequence(sequence(encode_object_identifier("1.2.3"))),
        sequence(*(sequence(encode_object_identifier("1.2.3"), tlv(OCTET_STRING)),) * 2),
        sequence(sequence(encode_object_identifier("1.2.3"), b"\x01\x01\x07", tlv(OCTET_STRING))),
    ],
)
def test_extension_requests_refused(value: bytes) -> None:
    wishes = RequesterInfo.parse(info(attribute(EXTENSION_REQUEST, value)))
    with pytest.raises(DecodeError):
        build_csr(key("leaf"), subject="D", profile=OWN, requester_info=wishes)


def test_two_extension_requests_in_one() -> None:
    wishes = RequesterInfo.parse(info(attribute(EXTENSION_REQUEST, sequence(), sequence())))
    with pytest.raises(DecodeError, match="not one value"):
        wishes.requested_extensions()


GOOD_INFO = info(REQUEST, attribute("1.2.3", b"\x05\x00"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_requester_info_gives_our_errors_alone(data: st.DataObject) -> None:
    damaged = bytearray(GOOD_INFO)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        wishes = RequesterInfo.parse(damaged)
        der = build_csr(key("leaf"), subject="D", profile=OWN, requester_info=wishes)
        verify_csr(der)
    except SpdmError:
        pass
