"""Key exchange: both sides agree, known answers, and peers that cheat."""

from __future__ import annotations

import secrets
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric import dh, ec, mlkem

from spdmkit.crypto import exchange, ffdhe
from spdmkit.crypto.registry import DHE, KEM, Dhe, Kem
from spdmkit.errors import ProtocolViolation

from .support import flip, need

GROUPS = [g for g in DHE if g.short != "sm2-p256"]
FINITE = [g for g in GROUPS if g.short.startswith("ffdhe")]
CURVES = [g for g in GROUPS if g.short.startswith("secp")]


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_both_sides_agree(group: Dhe) -> None:
    one, other = group.generate(), group.generate()
    assert len(one.exchange_data) == group.exchange_size
    assert one.exchange_data != other.exchange_data
    secret = one.shared_secret(other.exchange_data)
    assert secret == other.shared_secret(memoryview(one.exchange_data))
    assert len(secret) == group.secret_size
    assert secret != group.generate().shared_secret(other.exchange_data)
    assert secret.hex() not in repr(one)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_exchange_data_of_another_length(group: Dhe) -> None:
    ours = group.generate()
    theirs = group.generate().exchange_data
    for wrong in (b"", theirs[:-1], theirs + b"\x00", b"\x04" + theirs):
        with pytest.raises(ProtocolViolation, match="bytes, not") as caught:
            ours.shared_secret(wrong)
        assert caught.value.error_code == 0x01  # InvalidRequest


# --- curves --------------------------------------------------------------------------------------


def test_ecdh_of_rfc5903() -> None:
    """RFC 5903 8.1, the 256-bit group."""
    ours = DHE.by_name("secp256r1").generate()
    assert isinstance(ours, exchange._Ecdhe)
    ours._key = ec.derive_private_key(
        0xC88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433, ec.SECP256R1()
    )
    peer = bytes.fromhex(
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"
    )
    assert ours.shared_secret(peer).hex() == (
        "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"
    )


@pytest.mark.parametrize("group", CURVES, ids=str)
def test_points_off_the_curve(group: Dhe) -> None:
    ours = group.generate()
    theirs = group.generate().exchange_data
    half = len(theirs) // 2
    for wrong in (
        flip(theirs, -1),
        flip(theirs, half - 1),
        bytes(len(theirs)),
        b"\xff" * len(theirs),
        theirs[half:] + theirs[:half],
    ):
        with pytest.raises(ProtocolViolation, match="not a point on the curve"):
            ours.shared_secret(wrong)


def test_point_of_another_curve_of_the_same_size() -> None:
    foreign = ec.generate_private_key(ec.SECP256K1()).public_key().public_numbers()
    data = foreign.x.to_bytes(32, "big") + foreign.y.to_bytes(32, "big")
    with pytest.raises(ProtocolViolation, match="not a point"):
        DHE.by_name("secp256r1").generate().shared_secret(data)


def test_coordinates_are_padded_to_the_field() -> None:
    """P-521 has 521 bits in 66 bytes: the first byte of either coordinate is 0 or 1."""
    for _ in range(8):
        data = DHE.by_name("secp521r1").generate().exchange_data
        assert data[0] < 2
        assert data[66] < 2


# --- finite fields -------------------------------------------------------------------------------

# Ends of the primes as RFC 7919 prints them.
ENDS = {
    2048: "886b423861285c97ffffffffffffffff",
    3072: "25e41d2b66c62e37ffffffffffffffff",
    4096: "c68a007e5e655f6affffffffffffffff",
}


def is_prime(number: int) -> bool:
    """Miller-Rabin with a few random bases; enough to notice a wrong digit."""
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    odd = (number - 1) >> twos
    for _ in range(3):
        value = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if value in {1, number - 1}:
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_primes_are_those_of_rfc7919(bits: int) -> None:
    group = ffdhe.group(bits)
    text = f"{group.prime:x}"
    assert len(text) == bits // 4
    assert text.startswith("ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1")
    assert text.endswith(ENDS[bits])
    assert group.prime % 8 == 7  # so that 2 generates the squares
    if bits < 4096:
        assert is_prime(group.prime)
        assert is_prime(group.prime // 2)


@pytest.mark.parametrize("group", FINITE, ids=str)
def test_finite_fields_agree_with_cryptography(group: Dhe) -> None:
    parameters = ffdhe.group(group.exchange_size * 8)
    ours = group.generate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography 50 deprecates DH, which is why we have ours
        numbers = dh.DHParameterNumbers(parameters.prime, 2, parameters.prime // 2)
        theirs = numbers.parameters().generate_private_key()
        value = theirs.public_key().public_numbers().y
        our_value = int.from_bytes(ours.exchange_data, "big")
        expected = theirs.exchange(dh.DHPublicNumbers(our_value, numbers).public_key())
    assert ours.shared_secret(value.to_bytes(parameters.size, "big")) == expected


@pytest.mark.parametrize("group", FINITE, ids=str)
def test_values_outside_of_the_group(group: Dhe) -> None:
    parameters = ffdhe.group(group.exchange_size * 8)
    p = parameters.prime
    ours = group.generate()
    good = int.from_bytes(group.generate().exchange_data, "big")
    # p - good is not a square, because -1 is none modulo a prime that is 3 modulo 4.
    for value in (0, 1, p - 1, p, p + 4, p - good, (1 << (8 * parameters.size)) - 1):
        with pytest.raises(ProtocolViolation, match="not in the group"):
            ours.shared_secret(value.to_bytes(parameters.size, "big"))


def test_secret_keeps_its_leading_zeros() -> None:
    ours = DHE.by_name("ffdhe2048").generate()
    assert isinstance(ours, exchange._Ffdhe)
    ours._exponent = 1
    assert ours.shared_secret((4).to_bytes(256, "big")) == (4).to_bytes(256, "big")


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_secret_exponents_are_of_full_length(bits: int) -> None:
    group = ffdhe.group(bits)
    drawn = {group.random_exponent() for _ in range(50)}
    assert len(drawn) == 50
    assert {e.bit_length() for e in drawn} == {group.exponent_bits}


@pytest.mark.parametrize("modulus", [3, 7, 11, 101, 65537])
def test_jacobi_symbol_by_eulers_criterion(modulus: int) -> None:
    for value in range(min(modulus, 400)):
        euler = pow(value, (modulus - 1) // 2, modulus)
        assert ffdhe.jacobi(value, modulus) == (-1 if euler == modulus - 1 else euler)
    assert ffdhe.jacobi(6, 9) == 0


def test_gmpy2_gives_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gmpy2", reason="gmpy2 is not installed (extra ffdhe)")
    group = ffdhe.group(2048)
    exponent = group.random_exponent()
    with_library = ffdhe.power(4, exponent, group.prime)
    monkeypatch.setattr(ffdhe, "_gmpy2", lambda: None)
    assert ffdhe.power(4, exponent, group.prime) == with_library == pow(4, exponent, group.prime)


# --- key encapsulation ---------------------------------------------------------------------------


@pytest.mark.parametrize("kem", list(KEM), ids=str)
def test_encapsulated_secret_comes_out_again(kem: Kem) -> None:
    need(kem)
    private = kem.generate()
    assert len(private.encapsulation_key) == kem.encapsulation_key_size
    ciphertext, secret = kem.encapsulate(memoryview(private.encapsulation_key))
    assert (len(ciphertext), len(secret)) == (kem.ciphertext_size, kem.secret_size)
    assert private.decapsulate(bytearray(ciphertext)) == secret
    assert kem.encapsulate(private.encapsulation_key)[1] != secret
    assert secret.hex() not in repr(private)


@pytest.mark.parametrize("kem", list(KEM), ids=str)
def test_changed_ciphertext_yields_another_secret(kem: Kem) -> None:
    """FIPS 203 rejects implicitly; the handshake's MAC is what fails (12.2)."""
    need(kem)
    private = kem.generate()
    ciphertext, secret = kem.encapsulate(private.encapsulation_key)
    wrong = private.decapsulate(flip(ciphertext, 5))
    assert wrong != secret
    assert private.decapsulate(flip(ciphertext, 5)) == wrong
    assert kem.generate().decapsulate(ciphertext) != secret


@pytest.mark.parametrize("kem", list(KEM), ids=str)
def test_kem_values_of_another_length(kem: Kem) -> None:
    need(kem)
    private = kem.generate()
    ciphertext, _ = kem.encapsulate(private.encapsulation_key)
    for wrong in (b"", ciphertext[:-1], ciphertext + b"\x00"):
        with pytest.raises(ProtocolViolation, match=f"{kem.name} ciphertext has"):
            private.decapsulate(wrong)
    for wrong in (b"", private.encapsulation_key[:-1], private.encapsulation_key + b"\x00"):
        with pytest.raises(ProtocolViolation, match=f"{kem.name} encapsulation key has"):
            kem.encapsulate(wrong)


@pytest.mark.parametrize("kem", list(KEM), ids=str)
def test_encapsulation_key_that_is_not_reduced(kem: Kem) -> None:
    """FIPS 203 7.2, the modulus check: a coefficient of 0xFFF is above q."""
    need(kem)
    key = b"\xff\xff\xff" + kem.generate().encapsulation_key[3:]
    with pytest.raises(ProtocolViolation, match="is not valid"):
        kem.encapsulate(key)


def test_ml_kem_of_two_libraries_agrees() -> None:
    module = pytest.importorskip("pqcrypto.kem.ml_kem_768", reason="extra pq is not installed")
    kem = KEM.by_name("ml-kem-768")
    public, secret_key = module.keygen()
    ciphertext, secret = kem.encapsulate(public)
    assert module.decaps(secret_key, ciphertext) == secret
    private = kem.generate()
    ciphertext, secret = module.encaps(private.encapsulation_key)
    assert private.decapsulate(ciphertext) == secret


def test_ml_kem_key_is_what_cryptography_reads() -> None:
    key = KEM.by_name("ml-kem-1024").generate().encapsulation_key
    assert mlkem.MLKEM1024PublicKey.from_public_bytes(key).public_bytes_raw() == key
