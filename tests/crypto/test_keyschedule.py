"""The key schedule against recorded sessions and values worked out by hand."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from spdmkit.crypto.keyschedule import DirectionSecret, KeySchedule, bin_concat, nonce
from spdmkit.crypto.registry import AEAD, BASE_HASH
from spdmkit.errors import ProtocolViolation

from .support import SHA256, SHA384, recorded

AES256 = AEAD.by_name("aes-256-gcm")
TH1, TH2 = SHA256.digest(b"TH1"), SHA256.digest(b"TH2")
SECRET = bytes(range(32))


def schedule(version: int = 0x12) -> KeySchedule:
    return KeySchedule(version, SHA256, AES256)


# --- values worked out apart from this code, from the rules of clause 12 --------------------------


def test_values_of_a_1_2_session() -> None:
    keys = schedule()
    request, response = keys.start_handshake(SECRET, TH1)
    assert request.reveal().hex() == (
        "9a3fffaf69f35479f745e47b5ef7fd41670b50cfb6e56914a79857e778b7bda8"
    )
    assert response.reveal().hex() == (
        "767f098eb3e10df1906d51a612bd2e1c8ddbd27b404d19ae76b8d299a76ebcb3"
    )
    assert request.finished_key().hex() == (
        "93161ab48000d84a57e81611f3152193df8836a69d84874ec7e5c5a045dfa524"
    )
    assert request.finished(TH2) == SHA256.hmac(request.finished_key(), TH2)
    request, response = keys.start_application(TH2)
    assert request.reveal().hex() == (
        "aa2e6a9ed7f117707b1e02faf4815fa4a5b9ff2575dc48fb1ced056d3b4d9b8b"
    )
    assert response.reveal().hex() == (
        "cc588383f137f2c3f1b8cbb2662364f58e034ecc66410b34af3c027c0291da36"
    )
    assert keys.export_master_secret().hex() == (
        "49d65a4eb75308488bd8820b56f131c85ebdc6c6fd7d591cccbe5576f978d3f9"
    )
    key, iv = request.key_and_iv()
    assert key.hex() == "422419d1ba314a0bafd6ad39d234a2db69bbd045bb4156f11e05af71aa1bb68a"
    assert iv.hex() == "62852224a2bcc5003071a17d"
    assert request.updated().reveal().hex() == (
        "2e6d2fecbd1390f5c1f364025fc1539308e686f0cb5bd24aca5930dfa6d9c2c0"
    )


def test_heartbeat_record_under_these_keys() -> None:
    keys = schedule()
    keys.start_handshake(SECRET, TH1)
    key, iv = keys.start_application(TH2).request.key_and_iv()
    header = bytes.fromhex("fefffdff1600")
    sealed = AES256.new(key).seal(nonce(iv, 0), bytes.fromhex("040012e80000"), header)
    assert sealed.hex() == "e01739ddf611278bc2f82bb9a981bf7144525f284138"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((32, 0x12, "key"), "20007370646d312e32206b6579"),
        ((12, 0x12, "iv"), "0c007370646d312e32206976"),
        ((48, 0x14, "finished"), "30007370646d312e342066696e6973686564"),
        (
            (32, 0x11, "req hs data", b"\xaa\xbb"),
            "20007370646d312e31207265712068732064617461aabb",
        ),
    ],
)
def test_bin_concat(arguments: tuple[Any, ...], expected: str) -> None:
    assert bin_concat(*arguments).hex() == expected


@pytest.mark.parametrize("version", [0x10, 0x0F, 0x20, 0x1A])
def test_versions_without_sessions(version: int) -> None:
    with pytest.raises(ValueError, match="no sessions"):
        bin_concat(32, version, "key")
    with pytest.raises(ValueError, match="no sessions"):
        schedule(version).start_handshake(SECRET, TH1)


# --- recorded sessions ---------------------------------------------------------------------------

RECORDED: list[dict[str, Any]] = recorded("recorded_schedules.json")


@pytest.mark.parametrize("session", RECORDED, ids=lambda s: str(s["conversation"]))
def test_recorded_session(session: dict[str, Any]) -> None:
    """Each value the reference derived, in the order it did."""
    values = iter([(name, bytes.fromhex(text)) for name, text in session["steps"]])

    def take(name: str) -> bytes:
        found, value = next(values)
        assert found == name
        return value

    def check_keys(*secrets: DirectionSecret) -> None:
        for secret in secrets:
            key, iv = secret.key_and_iv()
            assert key == take("key")
            assert iv == take("iv")

    base_hash, aead = BASE_HASH.by_name(session["hash"]), AEAD.by_name(session["aead"])
    keys = KeySchedule(session["version"], base_hash, aead)
    psk = session["psk"]
    th1 = take("th1_hash")
    if psk:
        secret = take("psk")
        assert secret == take("psk") == b"TestPskData\0"
        request, response = keys.start_handshake(secret, th1, psk=True)
    else:
        secret = take("kem_secret" if "mlkem" in session["conversation"] else "dhe_secret")
        request, response = keys.start_handshake(secret, th1)
        assert base_hash.hkdf_extract(bytes(base_hash.size), secret) == take("handshake_secret")
        assert request.reveal() == take("request_handshake_secret")
        assert response.reveal() == take("response_handshake_secret")
    assert request.finished_key() == take("finished_key")
    assert response.finished_key() == take("finished_key")
    check_keys(request, response)

    request, response = keys.start_application(take("th2_hash"))
    if not psk:
        take("master_secret")
        assert request.reveal() == take("request_data_secret")
        assert response.reveal() == take("response_data_secret")
        assert keys.export_master_secret() == take("export_master_secret")
    check_keys(request, response)
    for name, value in values:
        old = response if name.startswith("response") else request
        new = old.updated()
        assert new.reveal() == value
        check_keys(new)


# --- Salt_0 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "psk", "salt"),
    [
        (0x11, False, b"\x00"),
        (0x11, True, b"\x00"),
        (0x12, True, b"\x00"),
        (0x13, False, b"\x00"),
        (0x13, True, b"\xff"),
        (0x14, False, b"\x00"),
        (0x14, True, b"\xff"),
    ],
)
def test_salt_0(version: int, psk: bool, salt: bytes) -> None:
    request = schedule(version).start_handshake(SECRET, TH1, psk=psk).request
    handshake_secret = SHA256.hmac(salt * 32, SECRET)
    info = bin_concat(32, version, "req hs data", TH1)
    assert request.reveal() == SHA256.hmac(handshake_secret, info + b"\x01")


def test_every_input_changes_every_secret() -> None:
    def all_secrets(**changes: Any) -> set[bytes]:
        use: dict[str, Any] = {"version": 0x12, "secret": SECRET, "th1": TH1, "th2": TH2} | changes
        keys = schedule(use["version"])
        one = keys.start_handshake(use["secret"], use["th1"])
        two = keys.start_application(use["th2"])
        values = {s.reveal() for s in (*one, *two)} | {keys.export_master_secret()}
        return values | set(one.request.key_and_iv()) | {one.response.finished_key()}

    base = all_secrets()
    assert len(base) == 8
    assert not base & all_secrets(version=0x13)
    assert not base & all_secrets(secret=SECRET[1:] + b"\x00")
    # TH1 is in the handshake secrets alone, TH2 in those of the application phase alone.
    assert len(base & all_secrets(th1=TH2)) == 3
    assert len(base & all_secrets(th2=TH1)) == 5


# --- nonces --------------------------------------------------------------------------------------


def test_nonce_example_of_dsp0277() -> None:
    assert nonce(bytes(12), 0x01FF02EE03DD04CC).hex() == "cc04dd03ee02ff0100000000"


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        (0, "62852224a2bcc5003071a17d"),
        (1, "63852224a2bcc5003071a17d"),
        (256, "62842224a2bcc5003071a17d"),
        ((1 << 64) - 1, "9d7adddb5d433aff3071a17d"),
    ],
)
def test_nonce(sequence: int, expected: str) -> None:
    assert nonce(bytes.fromhex("62852224a2bcc5003071a17d"), sequence).hex() == expected


@pytest.mark.parametrize("sequence", [-1, 1 << 64])
def test_sequence_numbers_out_of_range(sequence: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        nonce(bytes(12), sequence)


# --- order, and the end --------------------------------------------------------------------------


def test_steps_come_once_and_in_order() -> None:
    keys = schedule()
    with pytest.raises(ProtocolViolation, match="no handshake secret"):
        keys.start_application(TH2)
    with pytest.raises(ProtocolViolation, match="no export master secret"):
        keys.export_master_secret()
    keys.start_handshake(SECRET, TH1)
    with pytest.raises(ProtocolViolation, match="exist already"):
        keys.start_handshake(SECRET, TH1)
    with pytest.raises(ProtocolViolation, match="no export master secret"):
        keys.export_master_secret()
    keys.start_application(TH2)
    with pytest.raises(ProtocolViolation, match="no handshake secret"):
        keys.start_application(TH2)


@pytest.mark.parametrize("wrong", [b"", TH1[:-1], SHA384.digest(b"TH1")])
def test_transcript_hash_of_another_length_is_a_mistake(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="no TPM_ALG_SHA_256 digest"):
        schedule().start_handshake(SECRET, wrong)
    keys = schedule()
    keys.start_handshake(SECRET, TH1)
    with pytest.raises(ValueError, match="no TPM_ALG_SHA_256 digest"):
        keys.start_application(wrong)


def test_wiping_overwrites_the_buffer_in_place() -> None:
    secret = schedule().start_handshake(SECRET, TH1).request
    buffer = secret._secret
    view = bytes(buffer)
    assert view == secret.reveal()
    seen: list[bytes] = []

    class Watched(bytearray):
        def clear(self) -> None:
            seen.append(bytes(self))
            super().clear()

    secret._secret = Watched(buffer)
    secret.wipe()
    assert seen == [bytes(32)]
    assert secret.wiped
    assert not secret._secret
    secret.wipe()


def test_wiped_secrets_derive_nothing() -> None:
    keys = schedule()
    request, response = keys.start_handshake(SECRET, TH1)
    request.wipe()
    for use in (
        request.reveal,
        request.key_and_iv,
        request.finished_key,
        request.updated,
        lambda: request.finished(TH1),
    ):
        with pytest.raises(ProtocolViolation, match="secret is gone"):
            use()
    assert not response.wiped
    assert "wiped" in repr(request)
    keys.wipe()
    keys.wipe()
    with pytest.raises(ProtocolViolation):
        keys.start_application(TH2)
    with pytest.raises(ProtocolViolation):
        keys.start_handshake(SECRET, TH1)


def test_wiping_ends_the_export_master_secret() -> None:
    keys = schedule()
    keys.start_handshake(SECRET, TH1)
    keys.start_application(TH2)
    assert not keys._handshake
    assert not keys._master
    keys.wipe()
    with pytest.raises(ProtocolViolation):
        keys.export_master_secret()


def test_update_leaves_the_old_secret_until_it_is_wiped() -> None:
    keys = schedule()
    keys.start_handshake(SECRET, TH1)
    old = keys.start_application(TH2).request
    new = old.updated()
    before = new.key_and_iv()
    old.wipe()
    assert new.key_and_iv() == before
    assert new.updated().reveal() != new.reveal()


def test_secrets_are_not_shown_or_pickled() -> None:
    keys = schedule()
    secrets = keys.start_handshake(SECRET, TH1)
    shown = repr(keys) + repr(secrets)
    assert secrets.request.reveal().hex()[:16] not in shown
    for thing in (keys, secrets.request):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


@pytest.mark.parametrize("aead", list(AEAD), ids=str)
@pytest.mark.parametrize("base_hash", list(BASE_HASH), ids=str)
def test_sizes_follow_the_algorithms(base_hash: Any, aead: Any) -> None:
    keys = KeySchedule(0x14, base_hash, aead)
    request, _ = keys.start_handshake(b"secret", base_hash.digest(b""))
    assert len(request.reveal()) == base_hash.size == len(request.finished(base_hash.digest(b"")))
    key, iv = request.key_and_iv()
    assert (len(key), len(iv)) == (aead.key_size, aead.iv_size)
    aead.new(key).seal(nonce(iv, 0), b"", b"")
