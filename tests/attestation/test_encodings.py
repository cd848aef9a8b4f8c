"""CBOR as it may arrive, COSE_Sign1, times and durations."""

from __future__ import annotations

import cbor2
import pytest

from spdmkit.attestation import cbor
from spdmkit.attestation.cose import Sign1, make_sign1
from spdmkit.attestation.dates import describe_time, duration_seconds, parse_time
from spdmkit.crypto.documents import (
    DOCUMENT_ALGORITHMS,
    algorithm_by_cose,
    algorithm_for,
    sign_document,
    verify_document,
)
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    UnsupportedAlgorithm,
)


def read(text: str, **options: bool) -> object:
    return cbor.decode(bytes.fromhex(text), what="item", limit=4096, **options)


def test_tags_stay_tags() -> None:
    assert read("c11a514b67b0") == cbor.Tag(1, 1363896240)
    assert read("c249010000000000000000") == cbor.Tag(2, b"\1" + bytes(8))
    assert read("d9d9f7a0") == cbor.Tag(55799, {})
    assert read("d825500102030405060708090a0b0c0d0e0f10").value[0] == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not CBOR"),
        ("8201", "not CBOR"),
        ("9bffffffffffffffff", "not CBOR"),
        ("5bffffffffffffffff", "not CBOR"),
        ("9f01ff", "indefinite"),
        ("a201010102", "Duplicate"),
        ("d81c81d81d00", "shared references"),
        ("d90100826161d81900", "shared references"),
        ("0000", "1 bytes after the end"),
        ("81" * 100 + "00", "depth"),
        ("62ffff", "not CBOR"),
        ("f800", "not CBOR"),
        ("00" * 5000, "more than the 4096"),
    ],
)
def test_hostile_encodings_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(DecodeError, match=complaint):
        read(text)


@pytest.mark.parametrize("text", ["1800", "1900ff", "a2026101016102", "fb3ff8000000000000"])
def test_one_value_has_one_deterministic_encoding(text: str) -> None:
    read(text)
    with pytest.raises(DecodeError, match="deterministic"):
        read(text, deterministic=True)


KEYS = [PrivateKey.from_seed(name, b"x") for name in ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521")] + [
    PrivateKey.from_seed(name, b"x") for name in ("ed25519", "ed448", "ml-dsa-65")
]


@pytest.fixture(scope="module")
def rsa_key() -> PrivateKey:
    return PrivateKey.generate("rsapss-2048")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.key_type)
def test_documents_are_signed_by_the_keys_algorithm(key: PrivateKey) -> None:
    algorithm = algorithm_for(key)
    signature = sign_document(key, b"message")
    verify_document(key.public_key, algorithm, b"message", signature)
    flipped = signature[:-1] + bytes([signature[-1] ^ 1])
    for message, broken in ((b"massage", signature), (b"message", flipped), (b"message", b"")):
        with pytest.raises(AuthenticationError):
            verify_document(key.public_key, algorithm, message, broken)


def test_rsa_signs_with_pss(rsa_key: PrivateKey) -> None:
    algorithm = algorithm_for(rsa_key)
    assert algorithm.name.startswith("PS")
    verify_document(rsa_key.public_key, algorithm, b"m", sign_document(rsa_key, b"m"))
    with pytest.raises(AuthenticationError):
        verify_document(rsa_key.public_key, algorithm, b"n", sign_document(rsa_key, b"m"))


def test_a_document_cannot_choose_an_algorithm_for_a_foreign_key() -> None:
    p256, ed25519 = KEYS[0], KEYS[3]
    signature = sign_document(p256, b"m")
    for algorithm in DOCUMENT_ALGORITHMS:
        if p256.key_type not in algorithm.key_types:
            with pytest.raises(AuthenticationError, match="does not go with"):
                verify_document(p256.public_key, algorithm, b"m", signature)
    with pytest.raises(AuthenticationError):
        verify_document(ed25519.public_key, algorithm_for(p256), b"m", signature)


def test_numbers_of_cose() -> None:
    for algorithm in DOCUMENT_ALGORITHMS:
        assert algorithm_by_cose(algorithm.cose) is algorithm
    assert algorithm_by_cose(-51) is algorithm_by_cose(-35)  # ESP384, fully specified
    for odd in (0, True, -16, "ES256", None, -7.0):
        assert algorithm_by_cose(odd) is None


def test_a_key_that_cose_has_no_algorithm_for() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = PrivateKey.from_pyca(ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(UnsupportedAlgorithm):
        sign_document(key, b"m")


def test_sign1_verifies_as_rfc_9052_says() -> None:
    key = KEYS[1]
    item = make_sign1(key, b"payload", protected={3: "text/plain"}, unprotected={4: b"kid"})
    # the Sig_structure, written out by hand
    protected = item.value[0]
    structure = cbor2.dumps(["Signature1", protected, b"", b"payload"])
    verify_document(key.public_key, algorithm_for(key), structure, item.value[3])
    signed = Sign1.read(cbor.decode(cbor.encode(item), what="x", limit=999), what="x")
    assert signed.verify(key.public_key) == "ES384"
    assert signed.payload == b"payload"


def test_sign1_with_a_detached_payload() -> None:
    key = KEYS[0]
    signed = Sign1.read(make_sign1(key, b"payload", detached=True), what="x")
    assert signed.payload is None
    signed.verify(key.public_key, payload=b"payload")
    for payload in (None, b"other"):
        with pytest.raises(AuthenticationError):
            signed.verify(key.public_key, payload=payload)


def test_sign1_refuses_two_payloads_and_foreign_keys() -> None:
    signed = Sign1.read(make_sign1(KEYS[0], b"payload"), what="x")
    with pytest.raises(AuthenticationError, match="exactly one payload"):
        signed.verify(KEYS[0].public_key, payload=b"payload")
    with pytest.raises(AuthenticationError):
        signed.verify(KEYS[1].public_key)
    with pytest.raises(AuthenticationError):
        signed.verify(PrivateKey.from_seed("ecdsa-p256", b"y").public_key)


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        cbor.Tag(98, []),
        ["text", {}, b"", b""],
        [b"", [], b"", b""],
        [b"", {}, 5, b""],
        [b"", {}, b"", None],
        [b"\x01", {}, b"", b""],
        [b"\xa0\x00", {}, b"", b""],
        [b"\xa1\x02\x05", {}, b"", b""],
    ],
)
def test_what_is_no_sign1(item: object) -> None:
    with pytest.raises(DecodeError):
        Sign1.read(item, what="x")


def test_times() -> None:
    assert parse_time("2026-11-24T10:00:00Z") == parse_time("2026-11-24T11:00:00+01:00")
    assert describe_time(parse_time("2026-11-24")) == "2026-11-24T00:00:00Z"
    assert describe_time(parse_time("9999-12-31T23:59:59Z")) == "9999-12-31T23:59:59Z"
    assert "since 1970" in describe_time(10**15)
    for bad in ("", "tomorrow", "2026-11-24T10:00:00", "2026-13-01", "20261124T10"):
        with pytest.raises(ConfigurationError):
            parse_time(bad)


def test_durations() -> None:
    assert [duration_seconds(text) for text in ("90s", "5m", "24h", "7d", "2w")] == [
        90,
        300,
        86400,
        604800,
        1209600,
    ]
    for bad in ("", "5", "h", "-5m", "1y", "1.5h", "5 minutes"):
        with pytest.raises(ConfigurationError):
            duration_seconds(bad)
