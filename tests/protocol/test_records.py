"""Secured messages: DSP0277 records of every profile, and that nothing altered is ever opened."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.crypto import registry
from spdmkit.errors import AuthenticationError, ProtocolViolation, SpdmError
from spdmkit.protocol.records import (
    DOE,
    MAX_PLAINTEXT,
    MCTP,
    NONE,
    TCP_LIBSPDM,
    TCP_STRICT,
    ApplicationData,
    Inner,
    RecordProfile,
    RecordReceiver,
    RecordSender,
    record_session_id,
)

SESSION_ID = 0xFFFDFFFE
AES = registry.AEAD.by_name("aes-256-gcm")
KEY = bytes.fromhex("422419d1ba314a0bafd6ad39d234a2db69bbd045bb4156f11e05af71aa1bb68a")
IV = bytes.fromhex("62852224a2bcc5003071a17d")
HEARTBEAT = bytes.fromhex("12e80000")
PROFILES = [TCP_STRICT, TCP_LIBSPDM, MCTP, DOE, NONE]


def pair(
    profile: RecordProfile, *, encrypt: bool = True, limit: int = 1 << 64, aead: str = "aes-256-gcm"
) -> tuple[RecordSender, RecordReceiver]:
    algorithm = registry.AEAD.by_name(aead)
    sender = RecordSender(algorithm, SESSION_ID, profile, encrypt=encrypt, random=os.urandom)
    receiver = RecordReceiver(algorithm, SESSION_ID, profile, encrypt=encrypt)
    key = KEY[: algorithm.key_size]
    sender.rekey(key, IV, limit)
    receiver.rekey(key, IV, limit)
    return sender, receiver


def test_published_strict_record() -> None:
    sender, _ = pair(TCP_STRICT)
    expected = "fefffdff1600e01739ddf611278bc2f82bb9a981bf7144525f284138"
    assert sender.message(HEARTBEAT).hex() == expected


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.inner.value}")
@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypt", "mac-only"])
@pytest.mark.parametrize("aead", ["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"])
def test_round_trip(profile: RecordProfile, encrypt: bool, aead: str) -> None:
    sender, receiver = pair(profile, encrypt=encrypt, aead=aead)
    for number in range(5):
        message = bytes((0x12, 0xE8, number, 0)) * (number + 1)
        record = sender.message(message)
        assert record_session_id(record) == SESSION_ID
        assert receiver.message(record) == message
        assert (message in record) is not encrypt


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.inner.value}")
def test_application_data_is_told_apart(profile: RecordProfile) -> None:
    if profile.name not in ("tcp", "mctp"):
        pytest.skip("no application data in this binding's tests")
    from spdmkit.protocol.records import wrap_application

    sender, receiver = pair(profile)
    sender_type = 1 if profile is MCTP else 0
    receiver.message(sender.message(HEARTBEAT))
    got = receiver.message(sender.seal(wrap_application(profile, b"hello", sender_type)))
    assert got == ApplicationData(b"hello", sender_type)


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "mac-only"])
@pytest.mark.parametrize("size", [0, 1, 0x3FFF, 0x4000, 60_000])
@pytest.mark.parametrize("profile", [TCP_STRICT, TCP_LIBSPDM, MCTP], ids=lambda p: p.inner.value)
def test_application_data_of_any_size_comes_out_as_bytes(
    profile: RecordProfile, size: int, encrypt: bool
) -> None:
    sender, receiver = pair(profile, encrypt=encrypt)
    receiver.message(sender.message(HEARTBEAT))
    data = bytes(size) if size < 2 else b"\x07" * size
    if profile is TCP_LIBSPDM and not data:
        return  # nothing at all is no application data
    got = receiver.message(sender.application(data, 1 if profile is MCTP else 0))
    assert isinstance(got, ApplicationData)
    assert type(got.data) is bytes
    assert got.data == data


def test_application_data_that_would_deceive_is_refused() -> None:
    from spdmkit.protocol.records import wrap_application, wrap_message

    with pytest.raises(ProtocolViolation):
        wrap_application(TCP_LIBSPDM, wrap_message(TCP_LIBSPDM, HEARTBEAT))
    with pytest.raises(ProtocolViolation):
        wrap_application(MCTP, b"x", 5)


@pytest.mark.parametrize(
    ("sends", "expects"), [(TCP_STRICT, TCP_LIBSPDM), (TCP_LIBSPDM, TCP_STRICT)]
)
def test_inner_form_is_adopted_from_the_first_record(
    sends: RecordProfile, expects: RecordProfile
) -> None:
    sender, _ = pair(sends)
    _, receiver = pair(expects)
    assert receiver.message(sender.message(HEARTBEAT)) == HEARTBEAT
    assert receiver.profile.inner is sends.inner
    assert not receiver.profile.detect_inner
    # From then on the form is fixed: the other one is no SPDM message any more.
    other, _ = pair(expects)
    other.seal(b"skip one number")
    if expects.inner is Inner.TCP_HEADER:
        assert receiver.message(other.message(HEARTBEAT)) != HEARTBEAT
    else:
        assert isinstance(receiver.message(other.message(HEARTBEAT)), ApplicationData)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.inner.value}")
@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypt", "mac-only"])
def test_any_flipped_bit_is_refused(profile: RecordProfile, encrypt: bool) -> None:
    sender, _ = pair(profile, encrypt=encrypt)
    record = sender.message(HEARTBEAT)
    for position in range(len(record)):
        for bit in (0, 7):
            _, receiver = pair(profile, encrypt=encrypt)
            altered = bytearray(record)
            altered[position] ^= 1 << bit
            with pytest.raises((AuthenticationError, ProtocolViolation)):
                receiver.message(bytes(altered))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.inner.value}")
def test_every_truncation_is_refused(profile: RecordProfile) -> None:
    sender, _ = pair(profile)
    record = sender.message(HEARTBEAT)
    for cut in range(len(record)):
        _, receiver = pair(profile)
        with pytest.raises(SpdmError):
            receiver.message(record[:cut])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.inner.value}")
def test_replayed_and_reordered_records_are_refused(profile: RecordProfile) -> None:
    sender, receiver = pair(profile)
    first, second = sender.message(HEARTBEAT), sender.message(HEARTBEAT)
    with pytest.raises(AuthenticationError):
        receiver.message(second)
    assert receiver.message(first) == HEARTBEAT
    with pytest.raises(AuthenticationError):
        receiver.message(first)


def test_zero_padding_after_a_record_is_ignored_and_other_bytes_are_not() -> None:
    sender, receiver = pair(DOE)
    record = sender.message(HEARTBEAT)
    assert receiver.message(record + bytes(3)) == HEARTBEAT
    with pytest.raises(ProtocolViolation):
        receiver.message(sender.message(HEARTBEAT) + b"\x00\x01")


def test_the_nonce_counts_all_64_bits_even_when_none_is_on_the_wire() -> None:
    sender, _ = pair(TCP_STRICT, encrypt=False)
    tags = {sender.message(HEARTBEAT)[-16:] for _ in range(300)}
    assert len(tags) == 300


def test_limit_of_records_per_key() -> None:
    sender, receiver = pair(TCP_STRICT, limit=2)
    for _ in range(2):
        receiver.message(sender.message(HEARTBEAT))
    with pytest.raises(ProtocolViolation, match="limit"):
        sender.message(HEARTBEAT)
    extra, _ = pair(TCP_STRICT)
    for _ in range(2):
        extra.message(HEARTBEAT)
    with pytest.raises(ProtocolViolation, match="limit"):
        receiver.message(extra.message(HEARTBEAT))


def test_the_all_ones_sequence_number_is_never_used() -> None:
    sender, _ = pair(TCP_STRICT)
    state = sender._state
    assert state is not None
    state.sequence = (1 << 64) - 2
    sender.message(HEARTBEAT)
    with pytest.raises(ProtocolViolation, match="limit"):
        sender.message(HEARTBEAT)


def test_no_sequence_number_comes_twice_even_when_sealing_fails() -> None:
    sender, _ = pair(TCP_STRICT)

    class Broken:
        def seal(self, *arguments: object) -> bytes:
            if arguments:
                raise RuntimeError("cipher failed")
            return b""

    state = sender._state
    assert state is not None
    state.cipher = cast("Any", Broken())
    failed = False
    try:
        sender.message(HEARTBEAT)
    except RuntimeError:
        failed = True
    assert failed
    assert state.sequence == 1


def test_key_update_window() -> None:
    sender, receiver = pair(TCP_STRICT)
    new_key = bytes(32)
    receiver.announce(new_key, IV)
    # The old key serves until the new one is seen.
    assert receiver.message(sender.message(HEARTBEAT)) == HEARTBEAT
    pending = receiver.update_pending
    assert pending
    updated = RecordSender(AES, SESSION_ID, TCP_STRICT, encrypt=True, random=os.urandom)
    updated.rekey(new_key, IV)
    assert receiver.message(updated.message(HEARTBEAT)) == HEARTBEAT
    still_pending = receiver.update_pending
    assert not still_pending
    with pytest.raises(AuthenticationError):
        receiver.message(sender.message(HEARTBEAT))


def test_dropped_keys_neither_seal_nor_open() -> None:
    sender, receiver = pair(TCP_STRICT)
    record = sender.message(HEARTBEAT)
    sender.drop()
    receiver.drop()
    with pytest.raises(ProtocolViolation):
        sender.message(HEARTBEAT)
    with pytest.raises(ProtocolViolation):
        receiver.message(record)


def test_another_sessions_record_is_refused() -> None:
    sender, _ = pair(TCP_STRICT)
    receiver = RecordReceiver(AES, SESSION_ID + 1, TCP_STRICT, encrypt=True)
    receiver.rekey(KEY, IV)
    with pytest.raises(AuthenticationError, match="Session ID"):
        receiver.message(sender.message(HEARTBEAT))


def test_sizes() -> None:
    sender, receiver = pair(TCP_STRICT)
    assert len(receiver.open(sender.seal(bytes(MAX_PLAINTEXT)))) == MAX_PLAINTEXT
    with pytest.raises(ProtocolViolation, match="fit"):
        sender.seal(bytes(MAX_PLAINTEXT + 1))
    with pytest.raises(ProtocolViolation):
        record_session_id(bytes(21))


@given(st.binary(max_size=200))
def test_garbage_only_ever_gives_our_errors(data: bytes) -> None:
    for profile in PROFILES:
        _, receiver = pair(profile)
        with pytest.raises(SpdmError):
            receiver.message(data)
