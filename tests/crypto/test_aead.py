"""Sealing and opening: known answers, in place, authenticated only, and every tampering."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from spdmkit.crypto.registry import AEAD, Aead
from spdmkit.errors import AuthenticationError

from .support import flip

ALL = list(AEAD)
NONCE = bytes(range(12))


# NIST GCM specification, test cases 1, 2, 13, 14; RFC 8439 2.8.2; RFC 8998 A.1.
KNOWN = [
    ("aes-128-gcm", "00" * 16, "00" * 12, "", "", "58e2fccefa7e3061367f1d57a4e7455a"),
    (
        "aes-128-gcm",
        "00" * 16,
        "00" * 12,
        "",
        "00" * 16,
        "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
    ),
    ("aes-256-gcm", "00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    (
        "aes-256-gcm",
        "00" * 32,
        "00" * 12,
        "",
        "00" * 16,
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    ),
    (
        "chacha20-poly1305",
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it.".hex(),
        (
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
            "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
            "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
            "3ff4def08e4b7a9de576d26586cec64b6116"
            "1ae10b594f09e26a7e902ecbd0600691"
        ),
    ),
    (
        "sm4-gcm",
        "0123456789abcdeffedcba9876543210",
        "00001234567800000000abcd",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        (
            "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
            "eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa"
        ),
        (
            "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
            "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
            "83de3541e4c2b58177e065a9bf7b62ec"
        ),
    ),
]


@pytest.mark.parametrize("case", KNOWN, ids=lambda c: c[0])
def test_known_answers(case: tuple[str, ...]) -> None:
    key, nonce, aad, plain, sealed = (bytes.fromhex(text) for text in case[1:])
    cipher = AEAD.by_name(case[0]).new(key)
    assert cipher.seal(nonce, plain, aad) == sealed
    assert cipher.open(nonce, sealed, aad) == plain


@pytest.mark.parametrize("algorithm", ALL, ids=str)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, 70_000])
def test_round_trip_whole_and_in_place(algorithm: Aead, size: int) -> None:
    cipher = algorithm.new(bytearray(os.urandom(algorithm.key_size)))
    plain, aad = os.urandom(size), b"header"
    sealed = cipher.seal(NONCE, memoryview(plain), bytearray(aad))
    assert len(sealed) == size + algorithm.tag_size
    assert cipher.open(memoryview(NONCE), memoryview(sealed), aad) == plain

    buffer = bytearray(plain) + bytes(algorithm.tag_size)
    view = memoryview(buffer)
    assert cipher.seal_into(NONCE, view[:size], aad, view) == len(sealed)
    assert buffer == sealed
    assert cipher.open_into(NONCE, view, aad, view[:size]) == size
    assert buffer[:size] == plain

    elsewhere = bytearray(len(sealed))
    assert cipher.seal_into(NONCE, plain, aad, elsewhere) == len(sealed)
    assert elsewhere == sealed
    back = bytearray(size)
    assert cipher.open_into(NONCE, sealed, aad, back) == size
    assert back == plain


@pytest.mark.parametrize("algorithm", ALL, ids=str)
def test_authentication_only(algorithm: Aead) -> None:
    """MAC-only sessions: the message is associated data, the record ends in the bare tag."""
    cipher = algorithm.new(os.urandom(algorithm.key_size))
    tag = cipher.seal(NONCE, b"", b"header and message")
    assert len(tag) == 16
    assert cipher.open(NONCE, tag, b"header and message") == b""
    for wrong in (flip(tag), tag[:-1], b"", bytes(16)):
        with pytest.raises(AuthenticationError):
            cipher.open(NONCE, wrong, b"header and message")
    with pytest.raises(AuthenticationError):
        cipher.open(NONCE, tag, b"header and massage")


@pytest.mark.parametrize("algorithm", ALL, ids=str)
def test_every_tampering_is_noticed(algorithm: Aead) -> None:
    cipher = algorithm.new(bytes(range(algorithm.key_size)))
    sealed = cipher.seal(NONCE, b"SPDM message", b"header")
    other = algorithm.new(bytes(algorithm.key_size))
    attempts = [(cipher, NONCE, flip(sealed, at), b"header") for at in range(len(sealed))]
    attempts += [
        (cipher, NONCE, sealed[:-1], b"header"),
        (cipher, NONCE, sealed[1:], b"header"),
        (cipher, NONCE, sealed + b"\x00", b"header"),
        (cipher, NONCE, sealed[:15], b"header"),
        (cipher, NONCE, b"", b"header"),
        (cipher, NONCE, sealed, b"Header"),
        (cipher, NONCE, sealed, b""),
        (cipher, flip(NONCE), sealed, b"header"),
        (other, NONCE, sealed, b"header"),
    ]
    for by, nonce, wrong, aad in attempts:
        with pytest.raises(AuthenticationError) as caught:
            by.open(nonce, wrong, aad)
        assert caught.value.step == "record"
        with pytest.raises(AuthenticationError) as caught:
            by.open_into(nonce, wrong, aad, bytearray(max(0, len(wrong) - 16)))
        assert caught.value.step == "record"


@pytest.mark.parametrize("algorithm", ALL, ids=str)
def test_wrong_sizes_are_mistakes(algorithm: Aead) -> None:
    for size in (0, algorithm.key_size - 1, algorithm.key_size + 1, 24):
        with pytest.raises(ValueError, match=f"a key of {algorithm.key_size}"):
            algorithm.new(bytes(size))
    cipher = algorithm.new(bytes(algorithm.key_size))
    sealed = cipher.seal(NONCE, b"message", b"")
    for nonce in (b"", bytes(11), bytes(13), bytes(16)):
        with pytest.raises(ValueError, match="a nonce of 12"):
            cipher.seal(nonce, b"message", b"")
        with pytest.raises(ValueError, match="a nonce of 12"):
            cipher.open(nonce, sealed, b"")
        with pytest.raises(ValueError, match="a nonce of 12"):
            cipher.seal_into(nonce, b"message", b"", bytearray(23))
        with pytest.raises(ValueError, match="a nonce of 12"):
            cipher.open_into(nonce, sealed, b"", bytearray(7))
    for size in (6, 22, 24):
        with pytest.raises(ValueError, match="buffer"):
            cipher.seal_into(NONCE, b"message", b"", bytearray(size))
    for size in (6, 8, 23):
        with pytest.raises(ValueError, match="buffer"):
            cipher.open_into(NONCE, sealed, b"", bytearray(size))


def test_ciphers_are_those_of_cryptography() -> None:
    key = os.urandom(32)
    assert AEAD.by_name("aes-256-gcm").new(key).seal(NONCE, b"x", b"y") == AESGCM(key).encrypt(
        NONCE, b"x", b"y"
    )
    assert AEAD.by_name("chacha20-poly1305").new(key).seal(NONCE, b"x", b"y") == ChaCha20Poly1305(
        key
    ).encrypt(NONCE, b"x", b"y")


@pytest.mark.parametrize("algorithm", ALL, ids=str)
def test_repr_shows_no_key(algorithm: Aead) -> None:
    key = os.urandom(algorithm.key_size)
    cipher = algorithm.new(key)
    assert repr(cipher) == f"<Cipher {algorithm.short}>"
    assert cipher.algorithm is algorithm
