"""Both sides prove who they are: every variant of KEY_EXCHANGE_RSP, and the basic one of CHALLENGE.

The variants of DSP0274 10.16 are MutAuthRequested bit 0 (a key known beforehand), bit 1
(encapsulated requests) and bit 2 (encapsulated requests whose first is implied).
"""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.identity import Purpose, TrustAnchors, TrustedPublicKey
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    ErrorCode,
    GetDigests,
    GetMeasurements,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.protocol.actions import Exchange, perform
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, ProvisionedKey, Slot
from spdmkit.protocol.events import RequesterAuthenticated
from spdmkit.protocol.requester import sessions
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.encapsulated import authenticate_basic
from spdmkit.protocol.requester.measurements import get_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, key_exchange, psk_exchange
from spdmkit.protocol.session import MutualAuth

from .support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair, chain
from .test_attestation_flow import verified

CLEAR = RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP
VERSIONS = [V11, V12, V13, V14]
REQUESTER = "ecdsa-p256"
VARIANTS = {
    "without-encapsulation": MutualAuth.WITHOUT_ENCAPSULATION,
    "encapsulated": MutualAuth.ENCAPSULATED,
    "get-digests": MutualAuth.GET_DIGESTS,
}


def identity(slot_id: int = 0) -> tuple[Credentials, bytes]:
    """A requester with a chain, and its root."""
    key, certificates = chain(REQUESTER, b"requester", requester=True)
    return Credentials([Slot(slot_id, certificates, LocalSigner(key))]), certificates[0]


def bare_key() -> Credentials:
    """A requester with a key and no certificates."""
    key, _ = chain(REQUESTER, b"requester", requester=True)
    return Credentials(provisioned_key=ProvisionedKey(LocalSigner(key), key.public_key))


def mutual_pair(
    mutual: MutualAuth,
    *,
    version: int = V13,
    clear: bool = False,
    credentials: Credentials | None = None,
    slot_id: int = 0,
    **responder: Any,
) -> Pair:
    """A responder that asks for `mutual` and knows the requester that comes."""
    theirs, root = identity(slot_id)
    credentials = credentials or theirs
    extra = int(CLEAR) if clear else 0
    by_key = credentials.provisioned_key is not None
    capabilities = requester_capabilities(
        sessions=True, psk=True, mutual=not by_key, provisioned_key=by_key
    )
    pair = Pair(
        versions=(version,),
        credentials=credentials,
        requester={"capabilities": capabilities | extra},
        responder={
            "capabilities": EVERYTHING | extra,
            "mutual_auth": mutual,
            "requester_slot": slot_id,
            **responder,
        },
    )
    pair.device.requester_anchors = TrustAnchors([root], Purpose.REQUESTER)
    key, _ = chain(REQUESTER, b"requester", requester=True)
    trusted = TrustedPublicKey.from_bytes(key.public_key.spki(), Purpose.REQUESTER)
    pair.device.known = {0xF: trusted}
    return pair


def chain_known(pair: Pair, slot_id: int) -> None:
    """The device knows the requester's chain beforehand."""
    from spdmkit.identity import CertificateChain, verify_chain

    from .support import NOW

    _, certificates = chain(REQUESTER, b"requester", requester=True)
    algorithm = pair.requester.connection.algorithms.base_hash
    anchors = pair.device.requester_anchors
    assert anchors is not None
    pair.device.known = {
        slot_id: verify_chain(
            CertificateChain.from_certificates(certificates, algorithm),
            anchors,
            purpose=Purpose.REQUESTER,
            time=NOW,
        )
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("clear", [False, True], ids=["encrypted", "in-the-clear"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_of_key_exchange(version: int, clear: bool, variant: str) -> None:
    mutual = VARIANTS[variant]
    by_key = mutual is MutualAuth.WITHOUT_ENCAPSULATION
    pair = mutual_pair(
        mutual, version=version, clear=clear, credentials=bare_key() if by_key else None
    )
    opened = pair.run(key_exchange(pair.link, verified(pair)))
    (session,) = pair.responder.connection.sessions.values()
    assert session.mutual is mutual
    assert session.proof.kind == ("public-key" if by_key else "certificate")
    assert pair.run(opened.link.converse(b"hello")).data == b"hello"
    _, peer = pair.device.received[0]
    assert peer.authenticated
    assert peer.identity_kind == session.proof.kind


@pytest.mark.parametrize("slot_id", [0, 3, 7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_slot_that_the_responder_names(slot_id: int, variant: str) -> None:
    pair = mutual_pair(VARIANTS[variant], slot_id=slot_id)
    proven = verified(pair)
    chain_known(pair, slot_id)
    pair.run(key_exchange(pair.link, proven))
    (session,) = pair.responder.connection.sessions.values()
    assert session.proof.kind == "certificate"


def test_a_requester_without_the_slot_asked_for_does_not_get_in() -> None:
    pair = mutual_pair(MutualAuth.ENCAPSULATED)
    pair.responder.connection.settings = pair.responder.connection.settings.__class__(
        versions=(V13,),
        capabilities=EVERYTHING,
        mutual_auth=MutualAuth.ENCAPSULATED,
        requester_slot=5,
    )
    proven = verified(pair)
    with pytest.raises(PeerError):
        pair.run(key_exchange(pair.link, proven))
    assert not pair.responder.connection.sessions
    assert not pair.requester.connection.sessions


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_requester_than_the_device_trusts(variant: str) -> None:
    mutual = VARIANTS[variant]
    by_key = mutual is MutualAuth.WITHOUT_ENCAPSULATION
    pair = mutual_pair(mutual, credentials=bare_key() if by_key else None)
    other, certificates = chain(REQUESTER, b"stranger", requester=True)
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    stranger = TrustedPublicKey.from_bytes(other.public_key.spki(), Purpose.REQUESTER)
    pair.device.known = {0xF: stranger}
    proven = verified(pair)
    with pytest.raises(PeerError) as caught:
        pair.run(key_exchange(pair.link, proven))
    assert caught.value.code == ErrorCode.DECRYPT_ERROR
    assert not pair.responder.connection.sessions
    assert not pair.requester.connection.sessions


def test_a_chain_that_was_not_fetched_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """FINISH with a signature, without the encapsulated flow that was asked for."""

    def skipping(*_: object, **__: object) -> Exchange[int]:
        yield from perform(lambda: None)
        return 0

    pair = mutual_pair(MutualAuth.ENCAPSULATED)
    proven = verified(pair)
    monkeypatch.setattr(sessions, "_our_slot", skipping)
    with pytest.raises(PeerError):
        pair.run(key_exchange(pair.link, proven))
    assert not pair.responder.connection.sessions


@pytest.mark.parametrize("version", VERSIONS)
def test_who_cannot_prove_itself_is_refused_where_that_is_demanded(version: int) -> None:
    pair = Pair(
        versions=(version,),
        requester={"capabilities": requester_capabilities(sessions=True, psk=True)},
        responder={
            "capabilities": EVERYTHING,
            "mutual_auth": MutualAuth.GET_DIGESTS,
            "mutual_auth_required": True,
        },
    )
    proven = verified(pair)
    with pytest.raises(PeerError) as caught:
        pair.run(key_exchange(pair.link, proven))
    demanded = ErrorCode.INVALID_POLICY if version >= V13 else ErrorCode.UNSPECIFIED
    assert caught.value.code == demanded
    assert not pair.responder.connection.sessions
    # A pre-shared key is proof.
    opened = pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)))
    pair.run(opened.link.converse(b"hello"))
    _, peer = pair.device.received[0]
    assert (peer.authenticated, peer.identity_kind, peer.identity) == (True, "psk", "hint")


def test_an_unknown_key_is_refused_where_proof_is_demanded() -> None:
    pair = mutual_pair(
        MutualAuth.WITHOUT_ENCAPSULATION, credentials=bare_key(), mutual_auth_required=True
    )
    pair.device.known = {}
    proven = verified(pair)
    with pytest.raises(PeerError) as caught:
        pair.run(key_exchange(pair.link, proven))
    assert caught.value.code == ErrorCode.INVALID_POLICY
    assert str(caught.value) == "the peer answered KEY_EXCHANGE with ERROR InvalidPolicy"
    assert "mutual authentication" in caught.value.hint


def test_an_unknown_key_proves_nothing_where_proof_is_welcome() -> None:
    pair = mutual_pair(MutualAuth.WITHOUT_ENCAPSULATION, credentials=bare_key())
    pair.device.known = {}
    pair.run(key_exchange(pair.link, verified(pair)))
    (session,) = pair.responder.connection.sessions.values()
    assert not session.authenticated_peer


def test_without_encapsulated_requests_the_responder_asks_for_none() -> None:
    pair = mutual_pair(MutualAuth.GET_DIGESTS)
    pair.responder.connection.settings = _without(pair, ResponderFlags.ENCAP_CAP)
    pair.run(key_exchange(pair.link, verified(pair)))
    (session,) = pair.responder.connection.sessions.values()
    assert session.mutual is MutualAuth.NONE


def _without(pair: Pair, flag: int) -> Any:
    from dataclasses import replace

    settings = pair.responder.connection.settings
    return replace(settings, capabilities=settings.capabilities & ~flag)


@pytest.mark.parametrize("wrong", [3, 5, 6, 8, 0x80])
def test_reserved_values_of_mut_auth_requested_are_refused(wrong: int) -> None:
    from spdmkit.protocol.requester.sessions import _checked_mutual_auth

    pair = mutual_pair(MutualAuth.ENCAPSULATED)
    verified(pair)
    with pytest.raises(ProtocolViolation, match="reserved"):
        _checked_mutual_auth(pair.requester.connection, wrong, identity()[0])


@pytest.mark.parametrize(
    ("missing", "requested"),
    [
        (ResponderFlags.MUT_AUTH_CAP, MutualAuth.WITHOUT_ENCAPSULATION),
        (ResponderFlags.ENCAP_CAP, MutualAuth.ENCAPSULATED),
        (ResponderFlags.ENCAP_CAP, MutualAuth.GET_DIGESTS),
    ],
)
def test_mutual_authentication_that_was_not_negotiated_is_refused(
    missing: ResponderFlags, requested: MutualAuth
) -> None:
    from spdmkit.protocol.requester.sessions import _checked_mutual_auth

    pair = mutual_pair(MutualAuth.ENCAPSULATED)
    pair.responder.connection.settings = _without(pair, missing)
    verified(pair)
    with pytest.raises(ProtocolViolation, match="negotiated"):
        _checked_mutual_auth(pair.requester.connection, requested, identity()[0])


def test_a_requester_without_keys_does_not_pretend() -> None:
    from spdmkit.protocol.requester.sessions import _checked_mutual_auth

    pair = mutual_pair(MutualAuth.ENCAPSULATED)
    verified(pair)
    with pytest.raises(ProtocolViolation, match="no keys"):
        _checked_mutual_auth(pair.requester.connection, 1, None)


class TestBasicMutualAuthentication:
    """CHALLENGE_AUTH with BasicMutAuthReq (10.15), deprecated but in use with 1.1 and 1.2."""

    def pair(self, version: int, **settings: Any) -> Pair:
        options: dict[str, Any] = {"basic_mutual_auth": True, **settings}
        return mutual_pair(MutualAuth.NONE, version=version, **options)

    def authenticated(self, pair: Pair) -> list[RequesterAuthenticated]:
        return [e for who, e in pair.events if isinstance(e, RequesterAuthenticated)]

    @pytest.mark.parametrize("version", [V11, V12])
    def test_the_requester_is_challenged_in_turn(self, version: int) -> None:
        pair = self.pair(version)
        challenged = pair.run(challenge(pair.link, verified(pair)))
        assert challenged.basic_mutual_auth
        credentials = pair.requester.connection.credentials
        assert credentials is not None
        pair.run(authenticate_basic(pair.link, credentials))
        (event,) = self.authenticated(pair)
        assert event.kind == "certificate"
        assert pair.responder.connection.requester_proof.kind == "certificate"
        pair.run(get_measurements(pair.link))

    @pytest.mark.parametrize("version", [V13, V14])
    def test_newer_versions_do_not_ask(self, version: int) -> None:
        pair = self.pair(version)
        assert not pair.run(challenge(pair.link, verified(pair))).basic_mutual_auth

    def test_nothing_else_may_come_before_it(self) -> None:
        pair = self.pair(V12)
        pair.run(challenge(pair.link, verified(pair)))
        for request in (GetDigests(), GetMeasurements()):
            answer = pair.raw(request.encode(pair.requester.connection.context))
            assert answer[1:3] == bytes((0x7F, ErrorCode.REQUEST_IN_FLIGHT))
        credentials = pair.requester.connection.credentials
        assert credentials is not None
        pair.run(authenticate_basic(pair.link, credentials))
        assert self.authenticated(pair)

    def test_a_stranger_is_not_authenticated(self) -> None:
        pair = self.pair(V12)
        _, certificates = chain(REQUESTER, b"stranger", requester=True)
        pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
        pair.run(challenge(pair.link, verified(pair)))
        credentials = pair.requester.connection.credentials
        assert credentials is not None
        pair.run(authenticate_basic(pair.link, credentials))
        assert not self.authenticated(pair)
        assert pair.responder.connection.requester_proof.kind == ""

    def test_a_signature_of_another_key_is_not_accepted(self) -> None:
        pair = self.pair(V12)
        pair.run(challenge(pair.link, verified(pair)))
        other, _ = chain(REQUESTER, b"stranger", requester=True)
        _, certificates = chain(REQUESTER, b"requester", requester=True)
        forged = Credentials([Slot(0, certificates, LocalSigner(other))])
        pair.run(authenticate_basic(pair.link, forged))
        assert not self.authenticated(pair)

    def test_it_is_not_asked_of_a_requester_that_cannot(self) -> None:
        pair = Pair(
            versions=(V12,),
            requester={"capabilities": requester_capabilities()},
            responder={"capabilities": EVERYTHING, "basic_mutual_auth": True},
        )
        assert not pair.run(challenge(pair.link, verified(pair))).basic_mutual_auth

    def test_a_requester_refuses_it_when_it_was_not_negotiated(self) -> None:
        pair = self.pair(V12)
        proven = verified(pair)
        pair.requester.connection.own.flags &= ~int(RequesterFlags.MUT_AUTH_CAP)
        with pytest.raises(ProtocolViolation, match="BasicMutAuthReq"):
            pair.run(challenge(pair.link, proven))


class TestProvisionedKeyOfTheResponder:
    """SlotID 0xFF: the requester was given the responder's key, and there are no certificates."""

    def pair(self, version: int) -> tuple[Pair, TrustedPublicKey]:
        device = MemoryDevice("ecdsa-p256")
        key = device.key
        device.credentials = Credentials(
            provisioned_key=ProvisionedKey(LocalSigner(key), key.public_key)
        )
        flags = EVERYTHING & ~(
            ResponderFlags.CERT_CAP | ResponderFlags.SET_CERT_CAP | ResponderFlags.CSR_CAP
        )
        pair = Pair(
            device,
            versions=(version,),
            responder={"capabilities": flags | ResponderFlags.PUB_KEY_ID_CAP},
        )
        pair.run(negotiate(pair.link))
        return pair, TrustedPublicKey.from_bytes(key.public_key.spki())

    @pytest.mark.parametrize("version", VERSIONS)
    def test_challenge_measurements_and_key_exchange(self, version: int) -> None:
        from spdmkit.protocol.requester.measurements import get_signed_measurements

        pair, key = self.pair(version)
        assert pair.run(challenge(pair.link, key, slot_id=0xFF)).slot_id == 0xFF
        assert pair.run(get_signed_measurements(pair.link, key, slot_id=0xF)).blocks
        opened = pair.run(key_exchange(pair.link, key, slot_id=0xFF))
        assert opened.session.proof.kind == "public-key"
        assert pair.run(opened.link.converse(b"x")).data == b"x"

    def test_another_key_does_not_verify(self) -> None:
        pair, _ = self.pair(V12)
        other, _ = chain("ecdsa-p256", b"another")
        wrong = TrustedPublicKey.from_bytes(other.public_key.spki())
        with pytest.raises(AuthenticationError):
            pair.run(challenge(pair.link, wrong, slot_id=0xFF))
        with pytest.raises(AuthenticationError):
            pair.run(key_exchange(pair.link, wrong, slot_id=0xFF))
        assert not pair.requester.connection.sessions

    def test_a_slot_is_refused(self) -> None:
        pair, key = self.pair(V12)
        with pytest.raises(PeerError) as caught:
            pair.run(key_exchange(pair.link, key, slot_id=0))
        assert caught.value.code == ErrorCode.INVALID_REQUEST
