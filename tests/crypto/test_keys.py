"""Keys in and out: every form, every passphrase mistake, hostile bytes."""

from __future__ import annotations

import hashlib
import pickle
import random
import warnings

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from spdmkit.crypto import availability, der, keys, pkcs8
from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.crypto.rawkeys import SM2_G, SM2_N, RawPrivate, RawPublic
from spdmkit.crypto.registry import BASE_ASYM, signature_algorithm
from spdmkit.errors import ConfigurationError, DecodeError, UnsupportedAlgorithm

from .support import flip, need, recorded

QUICK = [
    "rsapss-2048",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "sm2-p256",
    "ed25519",
    "ed448",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
    "slh-dsa-sha2-128f",
    "slh-dsa-shake-192f",
]


@pytest.fixture(scope="module", params=QUICK)
def key(request: pytest.FixtureRequest) -> PrivateKey:
    entry = signature_algorithm(request.param)
    need(entry)
    return PrivateKey.generate(entry)


@pytest.fixture
def quick_kdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """600,000 iterations are for keys at rest, not for a test of each kind of key."""
    monkeypatch.setattr(pkcs8, "ITERATIONS", 1000)


def pkcs8_of(handle: object) -> bytes:
    made: bytes = handle.private_bytes(  # type: ignore[attr-defined] # any private key has it
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    return made


def spki_of(handle: object) -> bytes:
    made: bytes = handle.public_bytes(  # type: ignore[attr-defined] # any public key has it
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return made


# --- storing and loading -------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_kdf")
def test_private_key_comes_back_from_every_form(key: PrivateKey) -> None:
    for again in (
        PrivateKey.load(key.to_pkcs8()),
        PrivateKey.load(key.to_pem()),
        PrivateKey.load(b"\n# a comment\n" + key.to_pem()),
        PrivateKey.load(key.to_pkcs8("pass"), "pass"),
        PrivateKey.load(key.to_pem(b"pass"), b"pass"),
    ):
        assert again.public_key == key.public_key
        assert again.to_pkcs8() == key.to_pkcs8()
        assert again.algorithms == key.algorithms != ()


def test_public_key_comes_back_from_every_form(key: PrivateKey) -> None:
    public = key.public_key
    for again in (
        PublicKey.from_spki(public.spki()),
        PublicKey.from_spki(bytearray(public.spki())),
        PublicKey.load(public.spki()),
        PublicKey.load(public.to_pem()),
    ):
        assert again == public
        assert hash(again) == hash(public)
        assert again.key_type == public.key_type == key.key_type
        assert again.spki() == public.spki()
    assert public.spki_sha256() == hashlib.sha256(public.spki()).digest()
    assert public.spki_sha256().hex() in repr(public)
    assert public != PrivateKey.generate(key.algorithms[0]).public_key
    assert public != public.spki()


@pytest.mark.usefixtures("quick_kdf")
def test_passphrase_mistakes_say_what_is_wrong(key: PrivateKey) -> None:
    clear, sealed = key.to_pem(), key.to_pem("right")
    assert b"ENCRYPTED PRIVATE KEY" in sealed
    with pytest.raises(ConfigurationError, match="encrypted and there is no passphrase"):
        PrivateKey.load(sealed)
    with pytest.raises(ConfigurationError, match="not encrypted"):
        PrivateKey.load(clear, "right")
    with pytest.raises(ConfigurationError, match="not encrypted"):
        PrivateKey.load(key.to_pkcs8(), "right")
    with pytest.raises(ConfigurationError, match="wrong passphrase"):
        PrivateKey.load(sealed, "wrong")
    with pytest.raises(ConfigurationError, match="passphrase is empty"):
        key.to_pem("")
    with pytest.raises(ConfigurationError, match="passphrase is empty"):
        PrivateKey.load(sealed, "")


def test_encryption_is_what_other_tools_read() -> None:
    key = PrivateKey.generate("ecdsa-p384")
    sealed = key.to_pkcs8("pass phrase ü")
    other = serialization.load_der_private_key(sealed, "pass phrase ü".encode())
    assert pkcs8_of(other) == key.to_pkcs8()
    assert der.encode_integer(600_000) in sealed


@pytest.mark.parametrize("version", ["PBESv1SHA1And3KeyTripleDESCBC", "best"])
def test_encryption_of_other_tools_is_read(version: str) -> None:
    handle = ec.generate_private_key(ec.SECP256R1())
    sealed = handle.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pass")
    )
    if version != "best":
        sealed = handle.private_bytes(
            Encoding.PEM,
            PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"pass"),
        )
    assert PrivateKey.load(sealed, "pass").to_pkcs8() == pkcs8_of(handle)
    with pytest.raises(ConfigurationError, match="wrong passphrase"):
        PrivateKey.load(sealed, "other")
    with pytest.raises(ConfigurationError, match="no passphrase"):
        PrivateKey.load(sealed)


def test_every_wrong_passphrase_is_noticed(
    quick_kdf: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding that comes out right by chance must not pass for a key."""
    monkeypatch.setattr(pkcs8, "ITERATIONS", 1)
    sealed = PrivateKey.generate("ed25519").to_pkcs8("right")
    for number in range(1500):
        with pytest.raises(ConfigurationError):
            PrivateKey.load(sealed, f"wrong {number}")


@pytest.mark.usefixtures("quick_kdf")
def test_iterations_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = PrivateKey.generate("ed25519").to_pkcs8("right")
    monkeypatch.setattr(pkcs8, "MAX_ITERATIONS", 999)
    with pytest.raises(ConfigurationError, match="1000 iterations"):
        PrivateKey.load(sealed, "right")


def test_older_pem_forms() -> None:
    curve = ec.generate_private_key(ec.SECP384R1())
    modulus = rsa.generate_private_key(65537, 2048)
    for handle in (curve, modulus):
        pem = handle.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert PrivateKey.load(pem).to_pkcs8() == pkcs8_of(handle)
    parameters = b"-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"
    pem = curve.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert PrivateKey.load(parameters + pem).key_type == "ec-p384"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        b"not a key at all",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_private_key_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        PrivateKey.load(data)
    with pytest.raises(ConfigurationError):
        PrivateKey.load(data, "passphrase")


def test_keys_that_do_not_sign_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not sign"):
        PrivateKey.load(pkcs8_of(x25519.X25519PrivateKey.generate()))
    with pytest.raises(DecodeError, match="does not verify signatures"):
        PublicKey.from_pyca(x25519.X25519PrivateKey.generate().public_key())
    with pytest.raises(DecodeError, match="does not verify signatures"):
        PublicKey.from_spki(spki_of(x25519.X25519PrivateKey.generate().public_key()))
    with pytest.raises(DecodeError):
        PublicKey.from_pyca(object())


def test_private_keys_do_not_leak_through_repr_or_pickle(key: PrivateKey) -> None:
    secret = key.to_pkcs8().hex()
    for text in (repr(key), str(key), repr(key.handle)):
        assert not any(secret[at : at + 24] in text for at in range(0, len(secret) - 24, 8))
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("ecdsa-p384", "301006072a8648ce3d020106052b81040022"),
        ("rsapss-2048", "300d06092a864886f70d0101010500"),
        ("ed25519", "300506032b6570"),
        ("ml-dsa-65", "300b0609608648016503040312"),
    ],
)
def test_algorithm_identifier(name: str, identifier: str) -> None:
    assert PrivateKey.generate(name).public_key.algorithm_identifier().hex() == identifier


# --- other implementations' files ----------------------------------------------------------------


@pytest.mark.parametrize(
    "vector", recorded("openssl_signatures.json"), ids=lambda v: str(v["algorithm"])
)
def test_private_keys_written_by_openssl(vector: dict[str, str]) -> None:
    entry = signature_algorithm(vector["algorithm"])
    if entry.key_type == "sm2":
        need(entry)
    key = PrivateKey.load(bytes.fromhex(vector["pkcs8"]))
    assert key.key_type == entry.key_type
    assert key.public_key.spki().hex() == vector["spki"]


def ml_dsa_from_openssl() -> tuple[bytes, bytes]:
    """A key with its seed and expanded, as OpenSSL writes it unless told otherwise."""
    vector = next(v for v in recorded("openssl_signatures.json") if v["algorithm"] == "ML-DSA-87")
    return bytes.fromhex(vector["pkcs8"]), bytes.fromhex(vector["spki"])


def test_ml_dsa_with_seed_and_expanded_key_that_disagree() -> None:
    whole, _ = ml_dsa_from_openssl()
    expanded = pkcs8.expanded_key(whole)
    assert expanded is not None
    start = whole.index(expanded)
    for position in (start, start + 64, start + 127):
        with pytest.raises(ConfigurationError, match="do not belong together"):
            PrivateKey.load(flip(whole, position))
    with pytest.raises(ConfigurationError, match="do not belong together"):
        PrivateKey.load(flip(whole, start - 20))  # in the seed


def test_ml_dsa_expanded_without_its_seed() -> None:
    whole, _ = ml_dsa_from_openssl()
    expanded = pkcs8.expanded_key(whole)
    assert expanded is not None
    lone = der.tlv(
        der.SEQUENCE,
        der.encode_integer(0),
        der.tlv(der.SEQUENCE, der.encode_object_identifier("2.16.840.1.101.3.4.3.19")),
        der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, expanded)),
    )
    with pytest.raises(ConfigurationError, match="without its seed"):
        PrivateKey.load(lone)


def test_sm2_key_without_its_public_half() -> None:
    secret = der.tlv(
        der.SEQUENCE, der.encode_integer(1), der.tlv(der.OCTET_STRING, b"\x01".rjust(32, b"\x00"))
    )
    with pytest.raises(ConfigurationError, match="without its public half"):
        PrivateKey.load(sm2_pkcs8(secret))


def sm2_pkcs8(key: bytes) -> bytes:
    algorithm = der.tlv(
        der.SEQUENCE,
        der.encode_object_identifier("1.2.840.10045.2.1"),
        der.encode_object_identifier("1.2.156.10197.1.301"),
    )
    return der.tlv(der.SEQUENCE, der.encode_integer(0), algorithm, der.tlv(der.OCTET_STRING, key))


def test_sm2_halves_that_do_not_belong_together() -> None:
    need(BASE_ASYM.by_name("sm2-p256"))
    one = PrivateKey.generate("sm2-p256").handle
    other = PrivateKey.generate("sm2-p256").handle
    assert isinstance(one, RawPrivate)
    assert isinstance(other, RawPrivate)
    mixed = RawPrivate("sm2", one.raw, other.raw_public)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        PrivateKey.load(mixed.to_pkcs8())


@pytest.mark.parametrize("number", [0, SM2_N - 1, SM2_N, (1 << 256) - 1])
def test_sm2_private_numbers_out_of_range(number: int) -> None:
    raw = RawPrivate("sm2", number.to_bytes(32, "big"), SM2_G)
    with pytest.raises(ConfigurationError, match="not a number of SM2's order"):
        PrivateKey.load(raw.to_pkcs8())


def test_sm2_private_key_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawPrivate("sm2", (1).to_bytes(32, "big"), SM2_G)
    monkeypatch.setattr(availability, "_spec_exists", lambda _name: False)
    with pytest.raises(UnsupportedAlgorithm) as caught:
        PrivateKey.load(raw.to_pkcs8())
    assert "spdmkit[sm]" in caught.value.hint


def test_public_keys_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_spec_exists", lambda _name: False)
    assert PublicKey.from_spki(RawPublic("sm2", SM2_G).spki()).key_type == "sm2"
    spki = RawPublic("slh-dsa-shake-256s", bytes(64)).spki()
    assert PublicKey.from_spki(spki).key_type == "slh-dsa-shake-256s"


def test_sm2_public_key_that_names_the_curve_twice() -> None:
    """As OpenSSL 3.0 writes it into certificates."""
    curve = der.encode_object_identifier("1.2.156.10197.1.301")
    spki = der.tlv(
        der.SEQUENCE,
        der.tlv(der.SEQUENCE, curve, curve),
        der.tlv(der.BIT_STRING, b"\x00\x04", SM2_G),
    )
    key = PublicKey.from_spki(spki)
    assert key.key_type == "sm2"
    assert key.spki() == spki


def test_slh_dsa_sets_are_told_apart_by_their_numbers() -> None:
    """RFC 9814: id-slh-dsa-sha2-128s is sigAlgs 20, id-slh-dsa-shake-256f is sigAlgs 31."""
    for arc, name, size in (
        (20, "slh-dsa-sha2-128s", 32),
        (21, "slh-dsa-sha2-128f", 32),
        (22, "slh-dsa-sha2-192s", 48),
        (25, "slh-dsa-sha2-256f", 64),
        (26, "slh-dsa-shake-128s", 32),
        (31, "slh-dsa-shake-256f", 64),
    ):
        algorithm = der.tlv(
            der.SEQUENCE, der.encode_object_identifier(f"2.16.840.1.101.3.4.3.{arc}")
        )
        good = der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, bytes(1 + size)))
        assert PublicKey.from_spki(good).key_type == name
        short = der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, bytes(size)))
        with pytest.raises(DecodeError, match=f"{name} has {size}"):
            PublicKey.from_spki(short)


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-87"],
)
def test_keys_from_seeds(name: str) -> None:
    one = PrivateKey.from_seed(name, b"seed")
    assert one.key_type == signature_algorithm(name).key_type
    assert PrivateKey.from_seed(signature_algorithm(name), b"seed").to_pkcs8() == one.to_pkcs8()
    assert PrivateKey.from_seed(name, b"seee").public_key != one.public_key


def test_keys_from_seeds_do_not_change() -> None:
    """Fixtures depend on it."""
    key = PrivateKey.from_seed("ecdsa-p384", b"fixture")
    assert key.public_key.spki_sha256().hex() == (
        "8f4d0bd55604f8f85cc7d34cda4c9f4094562cce733b22deb5e1c74c0375a9ff"
    )
    key = PrivateKey.from_seed("ml-dsa-65", b"fixture")
    assert key.public_key.spki_sha256().hex() == (
        "f4dfc5ea284dfcc410b4e3eed64fe78c6da980c06ea9f49e02a4b8d5f1f44f63"
    )


@pytest.mark.parametrize("name", ["rsassa-3072", "sm2-p256", "slh-dsa-sha2-128s"])
def test_keys_that_no_seed_makes(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be made from a seed"):
        PrivateKey.from_seed(name, b"seed")


def test_unknown_algorithm_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="ecdsa-p192"):
        PrivateKey.generate("ecdsa-p192")


# --- hostile bytes -------------------------------------------------------------------------------


def test_kinds_of_keys() -> None:
    assert [e.short for e in PrivateKey.generate("rsassa-2048").algorithms] == [
        "rsapss-2048",
        "rsassa-2048",
    ]
    foreign = PublicKey.from_pyca(ec.generate_private_key(ec.SECP256K1()).public_key())
    assert foreign.key_type == "ec-secp256k1"
    assert foreign.algorithms == ()
    odd = PublicKey.from_pyca(rsa.generate_private_key(65537, 1024).public_key())
    assert odd.key_type == "rsa-1024"
    assert odd.algorithms == ()


def rsa_spki(modulus: int, exponent: int) -> bytes:
    key = der.tlv(der.SEQUENCE, der.encode_integer(modulus), der.encode_integer(exponent))
    algorithm = der.tlv(
        der.SEQUENCE, der.encode_object_identifier("1.2.840.113549.1.1.1"), der.tlv(der.NULL)
    )
    return der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, b"\x00", key))


@pytest.fixture(scope="module")
def modulus() -> int:
    return rsa.generate_private_key(65537, 2048).public_key().public_numbers().n


@pytest.mark.parametrize("exponent", [1, 2, 4, 65536, (1 << 64) + 1, (1 << 2000) + 1])
def test_rsa_exponents_that_cost_or_mean_nothing(modulus: int, exponent: int) -> None:
    with pytest.raises(DecodeError):
        PublicKey.from_spki(rsa_spki(modulus, exponent))


@pytest.mark.parametrize("exponent", [3, 65537, (1 << 64) - 1])
def test_rsa_exponents_that_serve(modulus: int, exponent: int) -> None:
    assert PublicKey.from_spki(rsa_spki(modulus, exponent)).key_type == "rsa-2048"


def test_rsa_modulus_is_capped() -> None:
    with pytest.raises(DecodeError, match="more than 8192"):
        PublicKey.from_spki(rsa_spki((1 << 8199) + 1, 65537))


def test_key_longer_than_any_is_not_looked_at() -> None:
    with pytest.raises(DecodeError, match="more than the 8192"):
        PublicKey.from_spki(bytes(8193))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x85\x00\x00\x00\x00\x00",
        b"\x31\x00",
        b"\x30\x00",
        b"\x30\x02\x30\x00",
        b"\x30\x04\x30\x00\x03\x00",
        b"\x30\x05\x30\x00\x03\x01\x07",
        b"\xff" * 64,
    ],
)
def test_bytes_that_are_no_public_key(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        PublicKey.from_spki(data)
    assert caught.value.message == "SubjectPublicKeyInfo"


def test_bare_rsa_key_is_not_a_subject_public_key_info(modulus: int) -> None:
    """cryptography would take PKCS #1 as well."""
    with pytest.raises(DecodeError):
        PublicKey.from_spki(
            der.tlv(der.SEQUENCE, der.encode_integer(modulus), der.encode_integer(65537))
        )


@pytest.mark.parametrize(
    "point",
    [
        b"\x04" + SM2_G[:-1] + b"\x00",
        b"\x04" + b"\xff" * 64,
        b"\x04" + bytes(64),
        b"\x02" + SM2_G[:32],
        b"\x00",
        b"",
    ],
)
def test_sm2_points_off_the_curve(point: bytes) -> None:
    spki = der.tlv(
        der.SEQUENCE,
        der.tlv(
            der.SEQUENCE,
            der.encode_object_identifier("1.2.840.10045.2.1"),
            der.encode_object_identifier("1.2.156.10197.1.301"),
        ),
        der.tlv(der.BIT_STRING, b"\x00", point),
    )
    with pytest.raises(DecodeError):
        PublicKey.from_spki(spki)


def test_ec_point_off_the_curve() -> None:
    spki = PrivateKey.generate("ecdsa-p256").public_key.spki()
    with pytest.raises(DecodeError):
        PublicKey.from_spki(flip(spki, -1))


def test_trailing_bytes_are_refused(key: PrivateKey) -> None:
    with pytest.raises(DecodeError, match="bytes left over"):
        PublicKey.from_spki(key.public_key.spki() + b"\x00")


def test_mutated_public_keys_end_in_decode_errors(key: PrivateKey) -> None:
    spki = key.public_key.spki()
    chance = random.Random(key.key_type)
    for _ in range(300):
        changed = bytearray(spki)
        for _ in range(chance.randint(1, 4)):
            match chance.randrange(3):
                case 0:
                    changed[chance.randrange(min(64, len(changed)))] = chance.randrange(256)
                case 1:
                    del changed[chance.randrange(len(changed))]
                case _:
                    changed.insert(chance.randrange(len(changed)), chance.randrange(256))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cryptography warns of some keys it still reads
            try:
                PublicKey.from_spki(changed)
            except DecodeError:
                continue


def test_mutated_private_keys_end_in_our_errors(key: PrivateKey) -> None:
    content = key.to_pkcs8()
    chance = random.Random(key.key_type)
    for _ in range(60):
        changed = bytearray(content)
        changed[chance.randrange(min(80, len(changed)))] ^= 1 << chance.randrange(8)
        if chance.randrange(3) == 0:
            del changed[chance.randrange(len(changed)) :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                PrivateKey.load(bytes(changed))
            except (ConfigurationError, UnsupportedAlgorithm):
                continue


def test_what_cryptography_reads_and_does_not_sign() -> None:
    """DSA and DH keys parse, and are no keys for SPDM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = dsa.generate_private_key(1024).public_key()
        with pytest.raises(DecodeError, match="does not verify signatures"):
            PublicKey.from_spki(spki_of(other))


def test_caps_leave_room_for_every_key_of_the_registry() -> None:
    assert keys.MAX_SPKI_SIZE > 2592 + 64
    assert keys.MAX_RSA_BITS >= 4096
