"""Nonces, verified values, and what is never said: rules 1 to 10 of the security history."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.identity import TrustedPublicKey, VerifiedChain
from spdmkit.messages import V12, V13, ResponseCode
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.events import KeyLogged
from spdmkit.protocol.frames import Frame
from spdmkit.protocol.requester.challenge import VerifiedChallenge, challenge
from spdmkit.protocol.requester.measurements import SignedMeasurements, get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    PreSharedKey,
    end_session,
    key_exchange,
    key_update,
    psk_exchange,
)

from ..protocol.support import PSK, PSK_HINT, MemoryDevice, Pair
from ..protocol.test_attestation_flow import verified
from ..protocol.test_session_life import opened, theirs
from .test_cve_2023_31127 import plain_pair


def everything(pair: Pair) -> None:
    """Whatever takes a nonce or random data."""
    proven = verified(pair)
    pair.run(challenge(pair.link, proven))
    pair.run(get_signed_measurements(pair.link, proven))
    one = pair.run(key_exchange(pair.link, proven))
    pair.run(get_signed_measurements(one.link, proven))
    two = pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)))
    for each in (one, two):
        pair.run(key_update(each.link))
        pair.run(end_session(each.link))


def test_nonces_are_drawn_anew_each_time() -> None:
    drawn: list[bytes] = []
    pair = plain_pair(V13)
    for endpoint in (pair.requester, pair.responder):
        connection = endpoint.connection
        original = connection.random

        def random(size: int, original: Any = original) -> bytes:
            value: bytes = original(size)
            if size >= 32:
                drawn.append(value)
            return value

        connection.random = random
    everything(pair)
    everything(pair)
    # CHALLENGE 2, MEASUREMENTS 4, KEY_EXCHANGE 2, PSK_EXCHANGE 2; and twice.
    assert len(drawn) == len(set(drawn)) >= 2 * 10


def test_random_is_the_operating_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import os

    from spdmkit.cli.connecting import requester_factory
    from spdmkit.protocol.records import TCP_STRICT
    from spdmkit.protocol.settings import requester_settings
    from spdmkit.transports.conduit import ConnectionInfo
    from spdmkit.transports.framing import Role, Side

    from ..protocol.support import Pair as _  # noqa: F401  # the same machinery

    make = requester_factory(requester_settings())
    info = ConnectionInfo("x", "tcp", Role.REQUESTER, Side.INITIATOR, "", "", TCP_STRICT)
    assert make(info).connection.random is os.urandom


@pytest.mark.parametrize("code", [ResponseCode.CHALLENGE_AUTH, ResponseCode.KEY_EXCHANGE_RSP])
def test_an_all_zero_nonce_of_the_responder_is_refused(code: int) -> None:
    pair = plain_pair(V12)
    proven = verified(pair)
    pair.responder.connection.random = bytes
    exchange: Any = challenge(pair.link, proven)
    if code == ResponseCode.KEY_EXCHANGE_RSP:
        exchange = key_exchange(pair.link, proven)
    with pytest.raises(ProtocolViolation, match="zero"):
        pair.run(exchange)


def test_a_replayed_answer_does_not_verify() -> None:
    """The nonce of the request is in what is signed."""
    pair = plain_pair(V12)
    proven = verified(pair)
    pair.run(challenge(pair.link, proven))
    old = next(f for w, f in pair.wire if w == "responder" and f.body[1] == 3)
    pair.bend = lambda who, frame: old if who == "responder" else frame
    with pytest.raises(AuthenticationError) as caught:
        pair.run(challenge(pair.link, proven))
    assert caught.value.step == "signature"


@pytest.mark.parametrize("kind", [VerifiedChain, VerifiedChallenge, SignedMeasurements])
def test_verified_values_cannot_be_made_by_hand(kind: type[Any]) -> None:
    """A stale "verified" flag has been a bypass elsewhere: here only verifying makes the value."""
    fields = list(getattr(kind, "__dataclass_fields__", {}))
    with pytest.raises(TypeError):
        kind(**dict.fromkeys(fields))
    with pytest.raises(TypeError):
        kind()


def test_a_value_that_was_verified_cannot_be_changed() -> None:
    pair = plain_pair(V12)
    proven = verified(pair)
    signed = pair.run(get_signed_measurements(pair.link, proven))
    for value, name in ((signed, "blocks"), (signed, "key"), (proven, "chain")):
        with pytest.raises(AttributeError):
            setattr(value, name, None)


SIGNED: dict[int, SigningContext] = {
    ResponseCode.CHALLENGE_AUTH: SigningContext.RESPONDER_CHALLENGE_AUTH,
    ResponseCode.MEASUREMENTS: SigningContext.RESPONDER_MEASUREMENTS,
    ResponseCode.KEY_EXCHANGE_RSP: SigningContext.RESPONDER_KEY_EXCHANGE_RSP,
}


@pytest.mark.parametrize("wrong", SigningContext)
@pytest.mark.parametrize("code", SIGNED)
def test_rule_5_a_signature_made_for_something_else(code: int, wrong: SigningContext) -> None:
    from spdmkit.protocol.handlers.call import Call

    pair = plain_pair(V12)
    proven = verified(pair)
    original = Call.sign
    exchanges: dict[int, Callable[[], Any]] = {
        ResponseCode.CHALLENGE_AUTH: lambda: challenge(pair.link, proven),
        ResponseCode.MEASUREMENTS: lambda: get_signed_measurements(pair.link, proven),
        ResponseCode.KEY_EXCHANGE_RSP: lambda: key_exchange(pair.link, proven),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Call, "sign", lambda self, signer, _, d: original(self, signer, wrong, d))
        if wrong is SIGNED[code]:
            pair.run(exchanges[code]())
            return
        with pytest.raises(AuthenticationError) as caught:
            pair.run(exchanges[code]())
    assert caught.value.step == "signature"


def test_rule_2_what_a_session_is_does_not_change() -> None:
    """A renegotiation leaves no session behind whose version or algorithms would be others."""
    pair, one = opened()
    before = (one.session.kind, pair.requester.connection.version)
    pair.run(negotiate(pair.link))
    assert not one.session.alive
    assert (one.session.kind, pair.requester.connection.version) == before


@pytest.mark.parametrize("end", ["END_SESSION", "GET_VERSION", "record", "lost"])
def test_d53e360_keys_are_wiped_whichever_way_a_session_ends(end: str) -> None:
    from spdmkit.errors import TransportError
    from spdmkit.protocol.frames import FrameKind

    pair, one = opened()
    session = theirs(pair, one)
    secrets = [
        secret
        for side in (one.session, session)
        for secret in (side._request_secret, side._response_secret)
    ]
    if end == "END_SESSION":
        pair.run(end_session(one.link))
    elif end == "GET_VERSION":
        pair.run(negotiate(pair.link))
    elif end == "record":
        record = bytearray(one.session.sender.message(b"\x13\xe8\0\0"))
        record[-1] ^= 1
        pair.responder.receive(Frame(FrameKind.SECURED, bytes(record)), pair.clock.now)
        pair.requester.receive(pair.responder.outgoing()[0], pair.clock.now)
    else:
        for endpoint in (pair.requester, pair.responder):
            endpoint.connection_lost(TransportError("gone"))
    for secret in secrets:
        assert secret is not None
        with pytest.raises(ProtocolViolation, match="gone"):
            secret.reveal()
    for side in (one.session, session):
        assert not side.alive
        assert side._request_secret is side._response_secret is None


class TestNothingIsLeaked:
    def words(self, pair: Pair) -> str:
        """Everything that is printed of a conversation: events, reprs, errors."""
        gc.collect()
        told = [repr(event) for _, event in pair.events if not isinstance(event, KeyLogged)]
        for endpoint in (pair.requester, pair.responder):
            for session in endpoint.connection.sessions.values():
                told += [repr(session), repr(session.sender), repr(session.receiver)]
                told += [repr(session._request_secret), repr(session._schedule)]
        return " ".join(told)

    def test_secrets_are_in_no_text(self) -> None:
        pair, one = opened()
        secrets = [
            bytes(secret.reveal())
            for secret in (one.session._request_secret, one.session._response_secret)
            if secret is not None
        ]
        text = self.words(pair) + repr(PreSharedKey(PSK_HINT, PSK))
        for secret in (*secrets, PSK):
            assert secret.hex() not in text
            assert repr(secret) not in text

    def test_no_key_log_unless_asked_for(self) -> None:
        pair, _ = opened()
        assert not any(isinstance(event, KeyLogged) for _, event in pair.events)
        assert not pair.requester.connection.log_keys

    def test_an_unknown_hint_and_a_wrong_key_are_answered_alike(self) -> None:
        answers = []
        for hint, key in ((b"nobody", PSK), (PSK_HINT, bytes(32))):
            pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
            pair.run(negotiate(pair.link))
            with pytest.raises(AuthenticationError) as caught:
                pair.run(psk_exchange(pair.link, PreSharedKey(hint, key)))
            response = next(f for w, f in reversed(pair.wire) if w == "responder")
            answers.append((str(caught.value), response.body[:4], len(response.body)))
        assert answers[0] == answers[1]

    def test_a_hint_proves_nothing_by_itself(self) -> None:
        """Until a record holds, nobody has shown that they have the key."""
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        pair.run(negotiate(pair.link))
        with pytest.raises(AuthenticationError):
            pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, bytes(32))))
        (session,) = pair.responder.connection.sessions.values()
        assert not session.authenticated_peer

    def test_errors_name_no_more_than_a_code(self) -> None:
        pair = plain_pair(V13)
        verified(pair)
        with pytest.raises(PeerError) as caught:
            pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK), summary=7))
        assert caught.value.extended == b""


class TestConnectionsDoNotMeet:
    """caliptra-mcu-sw#1950, libspdm#1074: one peer's GET_VERSION ended another's session."""

    def test_one_device_two_connections(self) -> None:
        device = MemoryDevice("ecdsa-p256")
        pairs = [Pair(device, versions=(V13,)) for _ in range(2)]
        sessions = []
        for pair in pairs:
            pair.run(negotiate(pair.link))
            sessions.append(pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK))))
        pairs[0].run(negotiate(pairs[0].link))
        assert not sessions[0].session.alive
        assert sessions[1].session.alive
        assert pairs[1].run(sessions[1].link.converse(b"x")).data == b"x"

    def test_interleaved_step_by_step(self) -> None:
        """wolfTPM: static buffers. Two conversations advance in turn, frame by frame."""
        device = MemoryDevice("ecdsa-p256")
        pairs = [Pair(device, versions=(version,)) for version in (V12, V13)]
        for pair in pairs:
            pair.proven = verified(pair)
        tickets = [pair.requester.submit(challenge(pair.link, pair.proven)) for pair in pairs]
        while not all(ticket.done for ticket in tickets):
            for pair in pairs:
                pair.step()
        for ticket in tickets:
            assert ticket.result().slot_id == 0

    def test_a_record_of_another_connection(self) -> None:
        from spdmkit.protocol.frames import FrameKind

        one, first = opened()
        two, second = opened()
        record = first.session.sender.message(b"\x13\xe8\0\0")
        forged = second.session.session_id.to_bytes(4, "little") + record[4:]
        two.responder.receive(Frame(FrameKind.SECURED, forged), 0.0)
        assert not two.responder.connection.sessions
        assert one.responder.connection.sessions


def test_trust_is_per_purpose() -> None:
    """A key believed as a requester's verifies no responder's signature, and the other way."""
    from spdmkit.identity import Purpose

    key = TrustedPublicKey.from_bytes(
        MemoryDevice("ecdsa-p256").key.public_key.spki(), Purpose.REQUESTER
    )
    assert key.purpose is Purpose.REQUESTER
    assert Connection is not None
