"""The tables against DSP0274's, and what they answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spdmkit.crypto import availability
from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.crypto.availability import Missing, Package, PycaFeature
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import (
    AEAD,
    BASE_ASYM,
    BASE_HASH,
    DHE,
    KEM,
    KEY_SCHEDULE,
    MEASUREMENT_HASH,
    PQC_ASYM,
    RAW_BIT_STREAM,
    signature_algorithm,
)
from spdmkit.errors import ConfigurationError, ProtocolViolation, UnsupportedAlgorithm

TABLES: list[Table[Algorithm]] = [
    BASE_HASH,
    MEASUREMENT_HASH,
    BASE_ASYM,
    PQC_ASYM,
    DHE,
    KEM,
    AEAD,
    KEY_SCHEDULE,
]

# Transcribed from DSP0274 1.4.0 table 17 (BaseAsymAlgo, PqcAsymAlgo), apart from the code.
ASYM_SIZES = [
    ("TPM_ALG_RSASSA_2048", 256),
    ("TPM_ALG_RSAPSS_2048", 256),
    ("TPM_ALG_RSASSA_3072", 384),
    ("TPM_ALG_RSAPSS_3072", 384),
    ("TPM_ALG_ECDSA_ECC_NIST_P256", 64),
    ("TPM_ALG_RSASSA_4096", 512),
    ("TPM_ALG_RSAPSS_4096", 512),
    ("TPM_ALG_ECDSA_ECC_NIST_P384", 96),
    ("TPM_ALG_ECDSA_ECC_NIST_P521", 132),
    ("TPM_ALG_SM2_ECC_SM2_P256", 64),
    ("EdDSA ed25519", 64),
    ("EdDSA ed448", 114),
]
PQC_SIZES = [
    ("ML-DSA-44", 2420),
    ("ML-DSA-65", 3309),
    ("ML-DSA-87", 4627),
    ("SLH-DSA-SHA2-128s", 7856),
    ("SLH-DSA-SHAKE-128s", 7856),
    ("SLH-DSA-SHA2-128f", 17088),
    ("SLH-DSA-SHAKE-128f", 17088),
    ("SLH-DSA-SHA2-192s", 16224),
    ("SLH-DSA-SHAKE-192s", 16224),
    ("SLH-DSA-SHA2-192f", 35664),
    ("SLH-DSA-SHAKE-192f", 35664),
    ("SLH-DSA-SHA2-256s", 29792),
    ("SLH-DSA-SHAKE-256s", 29792),
    ("SLH-DSA-SHA2-256f", 49856),
    ("SLH-DSA-SHAKE-256f", 49856),
]
HASHES = [
    ("TPM_ALG_SHA_256", 32),
    ("TPM_ALG_SHA_384", 48),
    ("TPM_ALG_SHA_512", 64),
    ("TPM_ALG_SHA3_256", 32),
    ("TPM_ALG_SHA3_384", 48),
    ("TPM_ALG_SHA3_512", 64),
    ("TPM_ALG_SM3_256", 32),
]


def test_signature_tables_are_those_of_the_specification() -> None:
    assert [(e.name, e.signature_size) for e in BASE_ASYM] == ASYM_SIZES
    assert [(e.name, e.signature_size) for e in PQC_ASYM] == PQC_SIZES
    assert [e.bit for e in BASE_ASYM] == list(range(12))
    assert [e.bit for e in PQC_ASYM] == list(range(15))
    assert not any(e.pqc for e in BASE_ASYM)
    assert all(e.pqc for e in PQC_ASYM)


def test_hash_tables_are_those_of_the_specification() -> None:
    assert [(e.name, e.size) for e in BASE_HASH] == HASHES
    # MeasurementHashAlgo has the raw bit stream first, so every hash sits one bit higher.
    assert [(e.name, e.size) for e in MEASUREMENT_HASH] == [(RAW_BIT_STREAM.name, 0), *HASHES]
    assert [e.bit for e in MEASUREMENT_HASH] == list(range(8))


def test_exchange_tables_are_those_of_the_specification() -> None:
    assert [(e.name, e.exchange_size) for e in DHE] == [
        ("ffdhe2048", 256),
        ("ffdhe3072", 384),
        ("ffdhe4096", 512),
        ("secp256r1", 64),
        ("secp384r1", 96),
        ("secp521r1", 132),
        ("SM2_P256", 64),
    ]
    assert [(e.name, e.encapsulation_key_size, e.ciphertext_size, e.secret_size) for e in KEM] == [
        ("ML-KEM-512", 800, 768, 32),
        ("ML-KEM-768", 1184, 1088, 32),
        ("ML-KEM-1024", 1568, 1568, 32),
    ]
    assert [(e.name, e.key_size, e.iv_size, e.tag_size) for e in AEAD] == [
        ("AES-128-GCM", 16, 12, 16),
        ("AES-256-GCM", 32, 12, 16),
        ("CHACHA20_POLY1305", 32, 12, 16),
        ("AEAD_SM4_GCM", 16, 12, 16),
    ]
    assert [(e.bit, e.name) for e in KEY_SCHEDULE] == [(0, "SPDM Key Schedule")]


def test_versions_in_which_algorithms_appeared() -> None:
    assert {e.short for e in BASE_ASYM if e.since == 0x12} == {"sm2-p256", "ed25519", "ed448"}
    assert {e.since for e in PQC_ASYM} == {0x14} == {e.since for e in KEM}
    assert {e.short for t in (BASE_HASH, DHE, AEAD) for e in t if e.since == 0x12} == {
        "sm3-256",
        "sm2-p256",
        "sm4-gcm",
    }
    assert {e.since for e in DHE if e.short != "sm2-p256"} == {0x11}


@pytest.mark.parametrize("table", TABLES, ids=repr)
def test_every_entry_is_found_by_bit_mask_and_both_names(table: Table[Algorithm]) -> None:
    for entry in table:
        assert table.by_bit(entry.bit) is entry
        assert table.by_mask(entry.mask) is entry
        assert table.by_name(entry.name) is entry
        assert table.by_name(entry.short.upper().replace("-", "_")) is entry
        assert table.selected(entry.mask) is entry
        assert entry in table
        assert str(entry) == entry.short
        assert entry.short in repr(entry)
    assert table.known_mask == (1 << len(table)) - 1
    assert sorted(table.by_strength, key=lambda e: e.bit) == list(table)


@pytest.mark.parametrize("table", TABLES, ids=repr)
def test_reserved_bits_and_wrong_masks_are_refused(table: Table[Algorithm]) -> None:
    with pytest.raises(UnsupportedAlgorithm, match=f"{table.field_name} bit 31"):
        table.by_bit(31)
    with pytest.raises(UnsupportedAlgorithm, match="bit 31"):
        table.by_mask(1 << 31)
    with pytest.raises(ProtocolViolation, match="no bit"):
        table.by_mask(0)
    with pytest.raises(ProtocolViolation, match="more than one bit"):
        table.by_mask(0b101 << 29)
    with pytest.raises(ProtocolViolation, match="more than one bit"):
        table.selected(0b11 << 30)
    assert table.selected(0) is None
    assert table.in_mask(1 << 31) == ()
    assert table.field_name not in table
    assert Algorithm(0, "X", "x", 0x10, 0) not in table


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="sha-1") as caught:
        BASE_HASH.by_name("sha-1")
    assert "sha-384" in caught.value.hint
    with pytest.raises(ConfigurationError, match="BaseAsymAlgo"):
        signature_algorithm("dsa-1024")
    with pytest.raises(ConfigurationError, match="PqcAsymAlgo"):
        signature_algorithm("ml-dsa-66")


def test_signature_algorithms_by_name_in_either_table() -> None:
    assert signature_algorithm("ecdsa-p384") is BASE_ASYM.by_bit(7)
    assert signature_algorithm("ML_DSA_65") is PQC_ASYM.by_bit(1)
    assert signature_algorithm("slh-dsa-shake-256f") is PQC_ASYM.by_bit(14)


def test_masks_to_entries_and_back() -> None:
    entries = BASE_ASYM.in_mask(0x0000_0090)
    assert [e.short for e in entries] == ["ecdsa-p384", "ecdsa-p256"]
    assert BASE_ASYM.mask(entries) == 0x90
    assert BASE_ASYM.in_mask(0xFFFF_0090) == entries


@pytest.mark.parametrize(
    ("table", "mine", "theirs", "expected"),
    [
        (BASE_ASYM, 0xFFFF, 0xFFFF, "ecdsa-p521"),
        (BASE_ASYM, 0x0090, 0xFFFF, "ecdsa-p384"),
        (BASE_ASYM, 0x000F, 0x0003, "rsapss-2048"),
        (BASE_ASYM, 0x0060, 0x006F, "rsapss-4096"),
        (BASE_HASH, 0x7F, 0x7F, "sha-512"),
        (BASE_HASH, 0x12, 0x12, "sha-384"),
        (BASE_HASH, 0x49, 0x48, "sha3-256"),
        (PQC_ASYM, 0x7FFF, 0x7FFF, "ml-dsa-87"),
        (PQC_ASYM, 0x7FF8, 0x7FFF, "slh-dsa-sha2-256s"),
        (DHE, 0x3F, 0x3F, "secp521r1"),
        (DHE, 0x07, 0x3F, "ffdhe4096"),
        (DHE, 0x0A, 0x0A, "secp256r1"),
        (KEM, 0b111, 0b011, "ml-kem-768"),
        (AEAD, 0b1111, 0b1101, "chacha20-poly1305"),
        (AEAD, 0b1111, 0b1001, "aes-128-gcm"),
    ],
)
def test_strongest_that_both_allow(
    table: Table[Algorithm], mine: int, theirs: int, expected: str
) -> None:
    found = table.strongest(mine, theirs)
    assert found is not None
    assert found.short == expected
    assert table.strongest(theirs, mine) is found


def test_strongest_of_nothing_in_common() -> None:
    assert BASE_ASYM.strongest(0x10, 0x80) is None
    assert BASE_ASYM.strongest(0xFFFF_0000, 0xFFFF_0000) is None


def test_what_is_usable_depends_on_the_version() -> None:
    assert {e.short for e in BASE_ASYM.usable(0x11)} == {
        e.short for e in BASE_ASYM if e.since == 0x10
    }
    assert "ed25519" in {e.short for e in BASE_ASYM.usable(0x12)}
    assert PQC_ASYM.usable_mask(0x13) == 0
    assert KEM.usable_mask(0x14) & KEM.by_name("ml-kem-768").mask


def test_naming_algorithms_loads_no_library() -> None:
    code = (
        "import sys\n"
        "from spdmkit.crypto import registry as r\n"
        "r.BASE_ASYM.by_name('ecdsa-p384').available\n"
        "r.PQC_ASYM.by_name('slh-dsa-sha2-128s').why_unavailable\n"
        "r.BASE_HASH.by_name('sha-384').hkdf_expand(b'k', b'', 48)\n"
        "loaded = {'cryptography', 'pqcrypto', 'gmssl_pyx', 'Crypto', 'gmpy2'} & set(sys.modules)\n"
        "print(','.join(sorted(loaded)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


# --- availability --------------------------------------------------------------------------------


def test_sm2_key_exchange_is_unavailable_by_name() -> None:
    group = DHE.by_name("sm2-p256")
    assert not group.available
    with pytest.raises(UnsupportedAlgorithm, match="SM2_P256 is not available here") as caught:
        group.generate()
    assert "GB/T 32918.3" in caught.value.hint
    assert group not in DHE.usable(0x14)


@pytest.mark.parametrize(
    ("algorithm", "package", "extra"),
    [
        ("slh-dsa-sha2-128s", "pqcrypto", "pq"),
        ("sm2-p256", "gmssl_pyx", "sm"),
        ("ed448", "Crypto", "ed448"),
    ],
)
def test_absent_package_is_refused_by_name_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, package: str, extra: str
) -> None:
    real = availability._spec_exists
    monkeypatch.setattr(availability, "_spec_exists", lambda name: name != package and real(name))
    entry = signature_algorithm(algorithm)
    assert not entry.available
    assert "is not installed" in entry.why_unavailable
    with pytest.raises(UnsupportedAlgorithm) as caught:
        entry.require()
    assert caught.value.algorithm == entry.name
    assert f"pip install 'spdmkit[{extra}]'" in caught.value.hint
    assert entry not in (PQC_ASYM if entry.pqc else BASE_ASYM).usable(0x14)
    if algorithm != "ed448":  # making an Ed448 key needs cryptography alone
        with pytest.raises(UnsupportedAlgorithm, match=entry.name):
            PrivateKey.generate(algorithm)


def test_ml_kem_512_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_spec_exists", lambda _name: False)
    kem = KEM.by_name("ml-kem-512")
    with pytest.raises(UnsupportedAlgorithm, match="ML-KEM-512"):
        kem.generate()
    with pytest.raises(UnsupportedAlgorithm, match="ML-KEM-512"):
        kem.encapsulate(bytes(800))


def test_package_that_cannot_be_imported_is_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with open(f"{tmp_path}/broken_wheel.py", "w", encoding="ascii") as file:
        file.write("raise ImportError('needs another libc')\n")
    package = Package("broken_wheel", "broken-wheel", "pq")
    monkeypatch.setattr(availability, "_failed_imports", {})
    assert package.missing() == ""
    with pytest.raises(UnsupportedAlgorithm, match="broken-wheel") as caught:
        package.load()
    assert "needs another libc" in caught.value.hint
    assert "cannot be imported" in package.missing()


def test_feature_of_an_old_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.backends.openssl.backend import backend

    assert PycaFeature("mldsa_supported", "ML-DSA").missing() == ""
    monkeypatch.setattr(type(backend), "mlkem_supported", lambda _self: False)
    feature = PycaFeature("mlkem_supported", "another label")
    assert "without another label" in feature.missing()
    assert "wheel" in feature.hint


def test_missing_has_no_hint() -> None:
    entry = Algorithm(0, "X", "x", 0x10, 0, needs=Missing("nobody wrote it"))
    with pytest.raises(UnsupportedAlgorithm) as caught:
        entry.require()
    assert caught.value.hint == "nobody wrote it"
    Algorithm(0, "Y", "y", 0x10, 0).require()
