"""Hashes, HMAC and HKDF against published answers and against cryptography."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.crypto.registry import BASE_HASH, MEASUREMENT_HASH, RAW_BIT_STREAM

from .support import SHA256, SM3

PYCA: dict[str, hashes.HashAlgorithm] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
    "sm3-256": hashes.SM3(),
}

# FIPS 180-4 / 202 and GB/T 32905 examples: the digest of "abc".
ABC = {
    "sha-256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha-384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
    "8086072ba1e7cc2358baeca134c825a7",
    "sha3-256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
    "sm3-256": "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
}


@pytest.mark.parametrize(("name", "digest"), ABC.items())
def test_published_digests(name: str, digest: str) -> None:
    assert BASE_HASH.by_name(name).digest(b"abc").hex() == digest


@pytest.mark.parametrize("algorithm", BASE_HASH, ids=str)
def test_running_hash_copies_and_goes_on_after_a_digest(algorithm: HashAlgorithm) -> None:
    running = algorithm.new()
    running.update(b"transcript so far")
    fork = running.copy()
    assert running.digest() == algorithm.digest(b"transcript so far")
    running.update(memoryview(b", and more"))
    assert running.digest() == algorithm.digest(b"transcript so far, and more")
    assert fork.digest() == algorithm.digest(bytearray(b"transcript so far"))
    assert len(fork.digest()) == algorithm.size


@pytest.mark.parametrize("algorithm", BASE_HASH, ids=str)
@pytest.mark.parametrize("key_size", [0, 1, 64, 128, 137, 200])
def test_hmac_equals_cryptography(algorithm: HashAlgorithm, key_size: int) -> None:
    key, data = os.urandom(key_size), os.urandom(77)
    if key:
        other = hmac.HMAC(key, PYCA[algorithm.short])
        other.update(data)
        assert algorithm.hmac(bytearray(key), memoryview(data)) == other.finalize()
    assert algorithm.hmac(key, data) == algorithm._hmac_by_definition(key, data)


@pytest.mark.parametrize("algorithm", BASE_HASH, ids=str)
@pytest.mark.parametrize("length", [1, 12, 32, 64, 65, 300])
def test_hkdf_expand_equals_cryptography(algorithm: HashAlgorithm, length: int) -> None:
    secret = os.urandom(algorithm.size)
    expected = HKDFExpand(PYCA[algorithm.short], length, b"info").derive(secret)
    assert algorithm.hkdf_expand(bytearray(secret), b"info", length) == expected


def test_hkdf_rfc5869_case_1() -> None:
    key = SHA256.hkdf_extract(bytes(range(13)), b"\x0b" * 22)
    assert key.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    okm = SHA256.hkdf_expand(key, bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_hkdf_expand_refuses_what_it_cannot_make(length: int) -> None:
    with pytest.raises(ValueError, match="HKDF-Expand"):
        SHA256.hkdf_expand(b"secret", b"", length)


def test_hkdf_expand_to_its_limit() -> None:
    assert len(SHA256.hkdf_expand(b"secret", b"", 255 * 32)) == 255 * 32


def test_raw_bit_stream_hashes_nothing() -> None:
    assert MEASUREMENT_HASH.by_mask(1) is RAW_BIT_STREAM
    with pytest.raises(ValueError, match="raw bit stream"):
        RAW_BIT_STREAM.digest(b"measurement")


def test_measurement_hashes_hash_like_base_hashes() -> None:
    for entry in BASE_HASH:
        twin = MEASUREMENT_HASH.by_name(entry.short)
        assert twin.bit == entry.bit + 1
        assert twin.digest(b"x") == entry.digest(b"x")


def test_sm3_hmac_is_not_the_bare_hash() -> None:
    assert SM3.hmac(b"", b"abc") != SM3.digest(b"abc")
