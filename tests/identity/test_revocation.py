"""CRLs and OCSP responses: believed when authentic and fresh, refused otherwise."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from spdmkit.errors import ConfigurationError
from spdmkit.identity import (
    Authority,
    Certificate,
    CertificateChain,
    CertificateModel,
    ChainCache,
    ChainError,
    ChainPolicy,
    Issuance,
    Outcome,
    Profile,
    Purpose,
    RevocationData,
    RevokedCertificate,
    Step,
    TimePolicy,
    TrustAnchors,
    VerifiedChain,
    oids,
)
from spdmkit.identity.issue import AUTHORITY

from .helpers import NOW, SHA384, key, key_purposes, refused, verify

DAY = dt.timedelta(days=1)
LEAF_SERIAL, ISSUER_SERIAL = 0x300, 0x200
DEMANDED = ChainPolicy(demand_revocation=True)


@dataclass(frozen=True)
class Pki:
    root: Authority
    issuer: Authority
    leaf: Certificate

    @property
    def trusted(self) -> TrustAnchors:
        return TrustAnchors([self.root.certificate], Purpose.DEVICE)

    @property
    def chain(self) -> CertificateChain:
        certificates = (self.root.certificate, self.issuer.certificate, self.leaf)
        return CertificateChain.from_certificates((item.der for item in certificates), SHA384)

    def verify(
        self, *crls: bytes, responses: tuple[bytes, ...] = (), **options: Any
    ) -> VerifiedChain:
        data = RevocationData(crls, responses)
        return verify(self.chain, self.trusted, revocation=data, **options)


def make(algorithm: str = "ecdsa-p256", profile: Profile = AUTHORITY) -> Pki:
    root = Authority.root("Root", key("root", algorithm))
    issuer = root.subordinate(
        "Issuer",
        key("issuer", algorithm),
        profile=profile,
        issuance=Issuance(serial_number=ISSUER_SERIAL),
    )
    leaf = issuer.issue(
        "Leaf",
        key("leaf", algorithm).public_key,
        Profile.leaf(CertificateModel.DEVICE, "M:W:1"),
        Issuance(serial_number=LEAF_SERIAL),
    )
    return Pki(root, issuer, leaf)


PKI = make()


def crl(
    authority: Authority,
    *serials: int,
    number: int = 1,
    issued: dt.datetime = NOW - DAY,
    until: dt.datetime = NOW + DAY,
) -> bytes:
    revoked = [RevokedCertificate(serial, NOW - DAY) for serial in serials]
    return authority.revocation_list(revoked, number=number, issued=issued, until=until)


ROOT_CRL, ISSUER_CRL = crl(PKI.root), crl(PKI.issuer)


def step(verified: VerifiedChain) -> Step:
    return next(step for step in verified.steps if step.name == "revocation")


class TestCrl:
    def test_nothing_given_is_said(self) -> None:
        found = step(PKI.verify())
        assert found.outcome is Outcome.NOT_CHECKED
        assert "no CRL" in found.detail

    def test_all_covered(self) -> None:
        verified = PKI.verify(ROOT_CRL, ISSUER_CRL)
        assert step(verified) == Step("revocation", Outcome.PASSED, "2 not revoked")
        assert {statement.source for statement in verified.statements} == {"CRL"}

    def test_pem(self) -> None:
        pem = x509.load_der_x509_crl(ISSUER_CRL).public_bytes(Encoding.PEM)
        assert step(PKI.verify(ROOT_CRL, pem)).outcome is Outcome.PASSED

    def test_some_covered_is_said(self) -> None:
        found = step(PKI.verify(ISSUER_CRL))
        assert found.outcome is Outcome.NOT_CHECKED
        assert found.detail == "1 not revoked; nothing given covers certificate 1"

    @pytest.mark.parametrize(
        ("crls", "link"),
        [
            ((ROOT_CRL, crl(PKI.issuer, 5, LEAF_SERIAL)), 2),
            ((crl(PKI.root, ISSUER_SERIAL), ISSUER_CRL), 1),
            ((ROOT_CRL, ISSUER_CRL, crl(PKI.issuer, LEAF_SERIAL, number=2)), 2),
            ((ROOT_CRL, crl(PKI.issuer, LEAF_SERIAL), ISSUER_CRL), 2),
        ],
        ids=["leaf", "issuer", "in the second list", "in the first list"],
    )
    def test_revoked(self, crls: tuple[bytes, ...], link: int) -> None:
        with pytest.raises(ChainError) as caught:
            PKI.verify(*crls)
        refused(caught.value, "revocation", link, "revoked since 2026-11-23")

    def test_serials_of_other_authorities_mean_nothing(self) -> None:
        PKI.verify(crl(PKI.root, LEAF_SERIAL), crl(PKI.issuer, ISSUER_SERIAL))

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (crl(PKI.issuer, until=NOW - dt.timedelta(seconds=1)), "ended 2026-11-24"),
            (crl(PKI.issuer, issued=NOW + dt.timedelta(seconds=1)), "after"),
            (crl(Authority(PKI.issuer.certificate, key("stranger"))), "does not verify"),
        ],
        ids=["stale", "from the future", "forged"],
    )
    def test_not_to_be_believed(self, bad: bytes, words: str) -> None:
        with pytest.raises(ChainError) as caught:
            PKI.verify(ROOT_CRL, bad)
        refused(caught.value, "revocation", 2, words)
        assert step(PKI.verify(ROOT_CRL, bad, ISSUER_CRL)).outcome is Outcome.PASSED

    def test_a_partial_list_is_not_enough(self) -> None:
        name = PKI.issuer.certificate.x509.subject
        handle = key("issuer").handle
        assert isinstance(handle, ec.EllipticCurvePrivateKey)
        bad = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name)
            .last_update(NOW - DAY)
            .next_update(NOW + DAY)
            .add_extension(
                x509.IssuingDistributionPoint(None, None, True, False, None, False, False), True
            )
            .sign(handle, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        with pytest.raises(ChainError) as caught:
            PKI.verify(bad)
        refused(caught.value, "revocation", 2, "partial or indirect")

    def test_issuer_that_may_not_sign_lists(self) -> None:
        usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        pki = make()
        handle = key("root").handle
        assert isinstance(handle, ec.EllipticCurvePrivateKey)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(pki.issuer.certificate.x509.subject)
            .issuer_name(pki.root.certificate.x509.subject)
            .public_key(pki.issuer.certificate.public_key)
            .serial_number(ISSUER_SERIAL)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(usage, True)
            .sign(handle, hashes.SHA256())
        )
        issuer = Authority(Certificate(certificate.public_bytes(Encoding.DER)), key("issuer"))
        pki = Pki(pki.root, issuer, pki.leaf)
        with pytest.raises(ChainError) as caught:
            pki.verify(ISSUER_CRL)
        refused(caught.value, "revocation", 2, "may not sign a CRL")

    def test_age_is_not_looked_at_when_validity_is_ignored(self) -> None:
        stale = crl(PKI.issuer, until=NOW - dt.timedelta(hours=1))
        PKI.verify(ROOT_CRL, stale, time=TimePolicy.ignoring_validity())
        revoked = crl(PKI.issuer, LEAF_SERIAL, until=NOW - dt.timedelta(hours=1))
        with pytest.raises(ChainError):
            PKI.verify(ROOT_CRL, revoked, time=TimePolicy.ignoring_validity())

    @pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ed25519", "ml-dsa-44"])
    def test_other_algorithms(self, algorithm: str) -> None:
        pki = make(algorithm)
        assert step(pki.verify(crl(pki.root), crl(pki.issuer))).outcome is Outcome.PASSED
        with pytest.raises(ChainError):
            pki.verify(crl(pki.root), crl(pki.issuer, LEAF_SERIAL))

    @pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN X509 CRL-----\n", ISSUER_CRL[:-1]])
    def test_unreadable(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="CRL 2"):
            RevocationData([ROOT_CRL, data])

    def test_fingerprint(self) -> None:
        assert RevocationData([ROOT_CRL]).fingerprint != RevocationData([ISSUER_CRL]).fingerprint
        assert RevocationData([ROOT_CRL]).fingerprint == RevocationData([ROOT_CRL]).fingerprint
        assert not RevocationData()


class TestDemanded:
    def test_nothing_given(self) -> None:
        with pytest.raises(ChainError) as caught:
            PKI.verify(policy=DEMANDED)
        refused(caught.value, "revocation", 1, "one is demanded")

    def test_one_missing(self) -> None:
        with pytest.raises(ChainError) as caught:
            PKI.verify(ROOT_CRL, policy=DEMANDED)
        refused(caught.value, "revocation", 2, "one is demanded")

    def test_all_there(self) -> None:
        PKI.verify(ROOT_CRL, ISSUER_CRL, policy=DEMANDED)

    def test_not_below_the_devices_own_certificate(self) -> None:
        device = PKI.issuer.subordinate(
            "Device", key("device"), profile=Profile.device_authority("M:W:1")
        )
        leaf = device.issue("L", key("leaf").public_key, Profile.leaf(CertificateModel.ALIAS))
        certificates = (PKI.root.certificate, PKI.issuer.certificate, device.certificate, leaf)
        chain = CertificateChain.from_certificates((item.der for item in certificates), SHA384)
        data = RevocationData([ROOT_CRL, ISSUER_CRL])
        verified = verify(chain, PKI.trusted, revocation=data, policy=DEMANDED)
        assert step(verified).outcome is Outcome.NOT_CHECKED
        assert "certificate 3" in step(verified).detail


def test_the_cache_judges_the_age_of_lists_anew() -> None:
    cache = ChainCache()
    PKI.verify(ROOT_CRL, ISSUER_CRL, cache=cache)
    assert len(cache) == 1
    with pytest.raises(ChainError) as caught:
        PKI.verify(ROOT_CRL, ISSUER_CRL, cache=cache, time=NOW + 2 * DAY)
    refused(caught.value, "revocation", 1, "ended")
    PKI.verify(cache=cache)
    assert len(cache) == 2


def ocsp_response(
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    signer: Certificate | None = None,
    signer_key: str = "issuer",
    by_hash: bool = True,
    attach: bool = False,
    issued: dt.datetime = NOW - DAY,
    until: dt.datetime | None = NOW + DAY,
    subject: Certificate | None = None,
    pki: Pki = PKI,
    algorithm: str = "ecdsa-p256",
    forged: bool = False,
    name_hash: hashes.HashAlgorithm | None = None,
) -> bytes:
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    responder = signer or pki.issuer.certificate
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            (subject or pki.leaf).x509,
            pki.issuer.certificate.x509,
            name_hash or hashes.SHA256(),
            status,
            issued,
            until,
            NOW - DAY if revoked else None,
            x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(
            ocsp.OCSPResponderEncoding.HASH if by_hash else ocsp.OCSPResponderEncoding.NAME,
            responder.x509,
        )
    )
    if attach:
        builder = builder.certificates([responder.x509])
    handle = key(signer_key, algorithm).handle
    chooses = isinstance(handle, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    response = builder.sign(handle, hashes.SHA256() if chooses else None)  # type: ignore[arg-type] # no SLH-DSA here
    der, signature = response.public_bytes(Encoding.DER), response.signature
    return der.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1])) if forged else der


def delegate(
    *purposes: str, authority: Authority = PKI.issuer, issuance: Issuance | None = None
) -> Certificate:
    extra = ((oids.EXTENDED_KEY_USAGE, *key_purposes(*purposes)),) if purposes else ()
    profile = Profile(extra=tuple(extra))
    return authority.issue("OCSP", key("ocsp").public_key, profile, issuance)


OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string


class TestOcsp:
    @pytest.mark.parametrize("by_hash", [True, False])
    @pytest.mark.parametrize("name_hash", [hashes.SHA1(), hashes.SHA256(), hashes.SHA512()])
    def test_good(self, by_hash: bool, name_hash: hashes.HashAlgorithm) -> None:
        response = ocsp_response(by_hash=by_hash, name_hash=name_hash)
        verified = PKI.verify(ROOT_CRL, responses=(response,))
        assert step(verified).outcome is Outcome.PASSED
        assert [item.source for item in verified.statements] == ["CRL", "OCSP response"]

    @pytest.mark.parametrize("algorithm", ["ecdsa-p384", "rsassa-2048", "ed25519", "ml-dsa-44"])
    def test_other_algorithms(self, algorithm: str) -> None:
        pki = make(algorithm)
        good = ocsp_response(pki=pki, algorithm=algorithm)
        verified = pki.verify(crl(pki.root), responses=(good,))
        assert step(verified).outcome is Outcome.PASSED
        forged = ocsp_response(pki=pki, algorithm=algorithm, forged=True)
        with pytest.raises(ChainError) as caught:
            pki.verify(crl(pki.root), responses=(forged,))
        refused(caught.value, "revocation", 2, "does not verify")

    def test_good_by_a_delegate(self) -> None:
        response = ocsp_response(signer=delegate(OCSP_SIGNING), signer_key="ocsp", attach=True)
        assert step(PKI.verify(ROOT_CRL, responses=(response,))).outcome is Outcome.PASSED

    def test_about_another_certificate(self) -> None:
        other = PKI.issuer.issue(
            "Other", key("other").public_key, Profile.leaf(CertificateModel.NONE)
        )
        response = ocsp_response(subject=other)
        assert step(PKI.verify(ROOT_CRL, responses=(response,))).outcome is Outcome.NOT_CHECKED

    def test_a_stale_one_beside_a_fresh_one(self) -> None:
        stale = ocsp_response(until=NOW - dt.timedelta(hours=1))
        PKI.verify(ROOT_CRL, responses=(stale, ocsp_response()))

    @pytest.mark.parametrize(
        ("response", "words"),
        [
            (ocsp_response(status=ocsp.OCSPCertStatus.REVOKED), "revoked since"),
            (ocsp_response(status=ocsp.OCSPCertStatus.UNKNOWN), "does not know"),
            (ocsp_response(until=NOW - dt.timedelta(hours=1)), "ended"),
            (ocsp_response(until=None), "when it ends"),
            (ocsp_response(issued=NOW + dt.timedelta(hours=1)), "after"),
            (ocsp_response(forged=True), "does not verify"),
            (ocsp_response(signer=delegate(OCSP_SIGNING), signer_key="ocsp"), "not signed by"),
            (ocsp_response(signer=delegate(), signer_key="ocsp", attach=True), "may not sign OCSP"),
            (
                ocsp_response(
                    signer=delegate(OCSP_SIGNING, authority=PKI.root),
                    signer_key="ocsp",
                    attach=True,
                ),
                "not appointed",
            ),
            (
                ocsp_response(
                    signer=delegate(OCSP_SIGNING, issuance=Issuance(not_after=NOW - DAY)),
                    signer_key="ocsp",
                    attach=True,
                ),
                "not valid now",
            ),
            (
                ocsp_response(
                    signer=delegate(OCSP_SIGNING), signer_key="ocsp", attach=True, forged=True
                ),
                "does not verify",
            ),
        ],
        ids=[
            "revoked",
            "unknown",
            "stale",
            "no end",
            "from the future",
            "forged",
            "signer missing",
            "signer without purpose",
            "signer of another authority",
            "signer ended",
            "forged in a delegate's name",
        ],
    )
    def test_refused(self, response: bytes, words: str) -> None:
        with pytest.raises(ChainError) as caught:
            PKI.verify(ROOT_CRL, responses=(response,))
        refused(caught.value, "revocation", 2, words)

    def test_weak_signature(self) -> None:
        good, weak = (bytes.fromhex(oid) for oid in ("2a8648ce3d040302", "2a8648ce3d040301"))
        response = ocsp_response().replace(good, weak)  # ECDSA with SHA-224
        with pytest.raises(ChainError) as caught:
            PKI.verify(ROOT_CRL, responses=(response,))
        refused(caught.value, "revocation", 2, "not accepted here")

    def test_unreadable_or_unsuccessful(self) -> None:
        failure = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
        for data, words in (
            (b"x", "cannot be read"),
            (failure.public_bytes(Encoding.DER), "TRY_LATER"),
        ):
            with pytest.raises(ConfigurationError, match=words):
                RevocationData(ocsp_responses=[data])
