"""Trust anchors from files, one purpose each."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import signature_algorithm
from spdmkit.errors import AuthenticationError, ConfigurationError
from spdmkit.identity import Certificate, Purpose, TrustAnchors, TrustedPublicKey

from .helpers import ISSUER, LEAF, ROOT, forge_all, key

DERS = forge_all(ROOT, ISSUER, LEAF)


def pem(der: bytes) -> bytes:
    return Certificate(der).x509.public_bytes(Encoding.PEM)


def test_files_pem_and_der_several_in_one(tmp_path: Path) -> None:
    one = tmp_path / "one.pem"
    one.write_bytes(pem(DERS[0]) + pem(DERS[1]))
    two = tmp_path / "two.der"
    two.write_bytes(DERS[2])
    trusted = TrustAnchors.from_files([one, str(two)], Purpose.DEVICE)
    assert [item.der for item in trusted] == list(DERS)
    assert len(trusted) == 3
    assert Certificate(DERS[1]) in trusted
    assert trusted.by_subject(Certificate(DERS[0]).subject_der) == (Certificate(DERS[0]),)
    assert trusted.by_subject(b"") == ()


def test_the_same_certificate_counts_once() -> None:
    assert len(TrustAnchors([DERS[0], Certificate(DERS[0])], Purpose.DEVICE)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "neither PEM nor DER"),
        (b"hello", "neither PEM nor DER"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "no readable PEM"),
        (b"\x30\x03\x02\x01\x00", "cannot be read"),
    ],
)
def test_files_refused_by_name(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "anchor.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        TrustAnchors.from_files([path], Purpose.DEVICE)
    assert "anchor.pem" in str(caught.value)


def test_no_anchor_at_all() -> None:
    with pytest.raises(ConfigurationError, match="no trust anchor"):
        TrustAnchors([], Purpose.DEVICE)
    with pytest.raises(ConfigurationError, match="no trust anchor"):
        TrustAnchors.from_files([], Purpose.REQUESTER)


def test_an_anchor_that_is_no_certificate() -> None:
    with pytest.raises(ConfigurationError, match="trust anchor 2"):
        TrustAnchors([DERS[0], b"\x30\x00"], Purpose.DEVICE)


def test_fingerprint_names_set_and_purpose() -> None:
    base = TrustAnchors([DERS[0], DERS[1]], Purpose.DEVICE).fingerprint
    assert TrustAnchors([DERS[1], DERS[0]], Purpose.DEVICE).fingerprint == base
    others = {
        TrustAnchors([DERS[0]], Purpose.DEVICE).fingerprint,
        TrustAnchors([DERS[0], DERS[1]], Purpose.REQUESTER).fingerprint,
        TrustAnchors([DERS[0], DERS[1]], Purpose.DEVICE, accept_leaf=True).fingerprint,
    }
    assert len(others) == 3
    assert base not in others


class TestPublicKey:
    @pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ed25519", "ml-dsa-65"])
    def test_pem_and_der(self, tmp_path: Path, algorithm: str) -> None:
        public = key("provisioned", algorithm).public_key
        for name, data in (("k.pem", public.to_pem()), ("k.der", public.spki())):
            path = tmp_path / name
            path.write_bytes(data)
            trusted = TrustedPublicKey.from_file(path)
            assert trusted.public_key == public
            assert trusted.spki == public.spki()
            assert trusted.spki_sha256 == public.spki_sha256()
            assert trusted.purpose is Purpose.DEVICE

    def test_fits_its_algorithm_alone(self) -> None:
        trusted = TrustedPublicKey(key("provisioned").public_key)
        trusted.check_algorithm(signature_algorithm("ecdsa-p256"))
        with pytest.raises(AuthenticationError, match="ec-p256") as caught:
            trusted.check_algorithm(signature_algorithm("ecdsa-p384"))
        assert caught.value.step == "public-key"

    def test_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="No such file"):
            TrustedPublicKey.from_file(tmp_path / "none.pem")
        for data in (b"", b"hello", DERS[0], pem(DERS[0]), PrivateKey.generate("ed25519").to_pem()):
            with pytest.raises(ConfigurationError, match=r"k\.pem"):
                TrustedPublicKey.from_bytes(data, source="k.pem")

    def test_key_that_spdm_has_no_algorithm_for(self) -> None:
        handle = ec.generate_private_key(ec.SECP256K1()).public_key()
        spki = handle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(ConfigurationError, match="no algorithm for"):
            TrustedPublicKey.from_bytes(spki)
