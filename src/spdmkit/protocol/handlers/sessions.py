"""Sessions, answered: KEY_EXCHANGE to END_SESSION (DSP0274 10.16 to 10.23)."""

from __future__ import annotations

import hmac
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spdmkit.crypto import signing
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import AuthenticationError, ProtocolViolation
from spdmkit.messages import (
    V13,
    EndSession,
    EndSessionAck,
    ErrorCode,
    Finish,
    FinishRsp,
    Heartbeat,
    HeartbeatAck,
    KeyExchange,
    KeyExchangeRsp,
    KeyUpdate,
    KeyUpdateAck,
    KeyUpdateOperation,
    KeyUsage,
    PskExchange,
    PskExchangeRsp,
    PskFinish,
    PskFinishRsp,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.protocol import opaque
from spdmkit.protocol.cache import psk_identity
from spdmkit.protocol.credentials import PROVISIONED_KEY_NIBBLE, PROVISIONED_KEY_SLOT
from spdmkit.protocol.handlers.call import Call, Outcome, Steps, slow
from spdmkit.protocol.handlers.events import subscribe_to_all
from spdmkit.protocol.handlers.measurements import summary_hash
from spdmkit.protocol.proofs import identity_of, key_digest
from spdmkit.protocol.session import MutualAuth, PeerProof, Session, SessionKind, SessionRandoms
from spdmkit.protocol.transcript import Transcript

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Work
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.proofs import ProvenKey

__all__ = [
    "end_session",
    "finish",
    "heartbeat",
    "key_exchange",
    "key_update",
    "psk_exchange",
    "psk_finish",
]

_SHORTEST_CONTEXT = 32
"""Bytes of nonce that a PSK context holds at least (10.18)."""


# --- opening -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Opening:
    """What both openers settle before they differ."""

    session_id: int
    heartbeat_period: int
    secured_version: int
    limit: int
    opaque_data: bytes


def key_exchange(call: Call) -> Steps:
    """KEY_EXCHANGE -> KEY_EXCHANGE_RSP (10.16)."""
    request = call.typed(KeyExchange)
    connection = call.connection
    selection = connection.algorithms
    if connection.clear_handshake is not None:
        raise ProtocolViolation(
            "a handshake in the clear is under way", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    exchange = selection.dhe or selection.kem
    if exchange is None:
        raise ProtocolViolation(
            "no key exchange was negotiated", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    opening = _open(call, request.req_session_id, request.opaque_data, request.event_all_policy)
    signer, chain_hash = call.signing_key(request.slot_id, KeyUsage.KEY_EX)
    summary = summary_hash(call, request.measurement_summary_hash_type)
    mutual, requester_slot, known = _mutual_authentication(call)
    peer_data = request.exchange_data

    def agree() -> tuple[bytes, bytes]:
        if selection.dhe is not None:
            ours = selection.dhe.generate()
            return ours.exchange_data, bytes(ours.shared_secret(peer_data))
        kem = selection.kem
        if kem is None:
            raise ProtocolViolation("no key exchange was negotiated")
        ciphertext, secret = kem.encapsulate(peer_data)
        return ciphertext, bytes(secret)

    exchange_data, secret = yield from slow(agree)
    response = KeyExchangeRsp(
        heartbeat_period=opening.heartbeat_period,
        rsp_session_id=opening.session_id >> 16,
        mut_auth_requested=mutual,
        req_slot_id=requester_slot if mutual is MutualAuth.WITHOUT_ENCAPSULATION else 0,
        random_data=connection.random(32),
        exchange_data=exchange_data,
        measurement_summary_hash=summary,
        opaque_data=opening.opaque_data,
    )
    covered = response.encode_before("signature", call.context)
    transcript = Transcript(selection.base_hash, connection.vca)
    transcript.append(connection.multi_key_digests, chain_hash, call.raw, covered)
    signature = yield from call.sign(
        signer, SigningContext.RESPONDER_KEY_EXCHANGE_RSP, transcript.digest()
    )
    transcript.append(signature)
    session = Session(
        connection,
        opening.session_id,
        SessionKind.KEY_EXCHANGE,
        transcript=transcript,
        randoms=SessionRandoms(request.random_data, response.random_data),
        clear_handshake=call.context.handshake_in_the_clear,
    )
    _configure(session, opening, request.termination_policy, request.event_all_policy)
    if request.event_all_policy:
        session.notifier = subscribe_to_all(call)
    session.mutual = mutual
    session.local_slot = requester_slot if mutual else None
    session.peer_key = known
    th1 = transcript.digest()
    session.start_handshake(secret, th1=th1)
    verify_data = b""
    if not session.clear_handshake:
        verify_data = session.finished(requester=False, digest=th1)
        transcript.append(verify_data)
    connection.sessions[session.session_id] = session
    if session.clear_handshake:
        connection.clear_handshake = session
    return Outcome(covered + signature + verify_data)


def psk_exchange(call: Call) -> Outcome:
    """PSK_EXCHANGE -> PSK_EXCHANGE_RSP (10.18).

    A hint nobody knows is answered like one that is known: only who holds the key can tell.
    """
    request = call.typed(PskExchange)
    connection = call.connection
    selection = connection.algorithms
    if len(request.requester_context) < _SHORTEST_CONTEXT:
        raise ProtocolViolation("a RequesterContext shorter than 32 bytes")
    opening = _open(call, request.req_session_id, request.opaque_data, request.event_all_policy)
    summary = summary_hash(call, request.measurement_summary_hash_type)
    known = call.the_device().pre_shared_key(request.psk_hint)
    if known is not None and len(known) < connection.settings.shortest_psk:
        known = None
    secret = known or connection.random(32)
    with_context = (
        connection.own.flags & ResponderFlags.PSK_CAP_MASK == ResponderFlags.PSK_CAP_CONTEXT
    )
    response = PskExchangeRsp(
        heartbeat_period=opening.heartbeat_period,
        rsp_session_id=opening.session_id >> 16,
        measurement_summary_hash=summary,
        responder_context=connection.random(_SHORTEST_CONTEXT) if with_context else b"",
        opaque_data=opening.opaque_data,
    )
    covered = response.encode_before("verify_data", call.context)
    transcript = Transcript(selection.base_hash, connection.vca)
    transcript.append(call.raw, covered)
    session = Session(
        connection,
        opening.session_id,
        SessionKind.PSK,
        transcript=transcript,
        randoms=SessionRandoms(request.requester_context, response.responder_context),
    )
    _configure(session, opening, request.termination_policy, request.event_all_policy)
    if request.event_all_policy:
        session.notifier = subscribe_to_all(call)
    # Whoever sends the first record that holds, PSK_FINISH or another, has the key.
    session.cache_identity = psk_identity(request.psk_hint)
    session.claim = PeerProof("psk", request.psk_hint.decode("utf-8", "backslashreplace"))
    th1 = transcript.digest()
    session.start_handshake(secret, th1=th1)
    verify_data = session.finished(requester=False, digest=th1)
    transcript.append(verify_data)
    connection.sessions[session.session_id] = session
    if with_context:
        return Outcome(covered + verify_data)
    # Without a responder context there is no PSK_FINISH: the first record proves the requester.
    return Outcome(
        covered + verify_data, lambda: session.start_application(th2=transcript.digest())
    )


def _open(call: Call, req_session_id: int, opaque_data: bytes, event_all: bool) -> _Opening:
    """Session id, heartbeat and secured message version of a session to be."""
    connection = call.connection
    selection, settings = connection.algorithms, connection.settings
    if selection.aead is None or not selection.key_schedule:
        raise ProtocolViolation(
            "no AEAD or key schedule was negotiated", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    if len(connection.sessions) >= settings.max_sessions:
        raise ProtocolViolation("too many sessions", error_code=ErrorCode.SESSION_LIMIT_EXCEEDED)
    if event_all and not connection.own.flags & ResponderFlags.EVENT_CAP:
        raise ProtocolViolation("EventAllPolicy, but this responder sends no events")
    offer = opaque.read_offer(connection.version, opaque_data)
    version = opaque.choose_version(offer.versions, settings.secured_versions)
    exponent = min(offer.limit_exponent, settings.aead_limit_exponent)
    beats = connection.own.flags & connection.peer.flags & ResponderFlags.HBEAT_CAP
    return _Opening(
        session_id=_fresh_session_id(connection, req_session_id),
        heartbeat_period=settings.heartbeat_period if beats else 0,
        secured_version=version,
        limit=1 << exponent,
        opaque_data=opaque.write_selection(
            connection.version, version, settings.aead_limit_exponent
        ),
    )


def _fresh_session_id(connection: Connection, req_session_id: int) -> int:
    while True:
        half = int.from_bytes(connection.random(2), "little")
        session_id = req_session_id | half << 16
        if session_id not in connection.sessions:
            return session_id


def _configure(session: Session, opening: _Opening, termination: bool, event_all: bool) -> None:
    session.heartbeat_period = opening.heartbeat_period
    session.limit = opening.limit
    session.policy = int(termination) | int(event_all) << 1


# --- mutual authentication -----------------------------------------------------------------------


def _mutual_authentication(call: Call) -> tuple[MutualAuth, int, ProvenKey | None]:
    """Which mutual authentication to ask for, the requester's slot, and its key if known (10.16).

    Raises:
        ProtocolViolation: it is demanded, and this requester cannot (InvalidPolicy; before 1.3,
            which has no such code, Unspecified).
    """
    connection = call.connection
    settings = connection.settings
    able = connection.flag(RequesterFlags.MUT_AUTH_CAP, both=True)
    if settings.mutual_auth and able and connection.algorithms.req_signature is not None:
        slot_id, wanted = settings.requester_slot, settings.mutual_auth
        if connection.peer.flags & RequesterFlags.PUB_KEY_ID_CAP:
            # It has no certificates that could be asked for: only a key known beforehand will do.
            slot_id, wanted = PROVISIONED_KEY_NIBBLE, MutualAuth.WITHOUT_ENCAPSULATION
        if wanted is MutualAuth.WITHOUT_ENCAPSULATION:
            known = call.the_device().known_requester(slot_id, connection.algorithms.base_hash)
            if known is not None:
                return wanted, slot_id, known
        elif connection.flag(RequesterFlags.ENCAP_CAP, both=True):
            return wanted, slot_id, None
    if settings.mutual_auth_required:
        version = connection.version
        code = ErrorCode.INVALID_POLICY if version >= V13 else ErrorCode.UNSPECIFIED
        raise ProtocolViolation("the requester cannot prove who it is", error_code=code)
    return MutualAuth.NONE, 0, None


# --- finishing -----------------------------------------------------------------------------------


def finish(call: Call) -> Steps:
    """FINISH -> FINISH_RSP (10.17). Whatever is wrong with it ends the session."""
    request = call.typed(Finish)
    session = call.the_session()
    connection = call.connection
    with call.ending_session_on_failure(session):
        transcript = session.handshake_transcript()
        end = request.verify_data_offset(len(call.raw))
        if bool(session.mutual) != request.signature_included:
            raise ProtocolViolation(
                "the signature of FINISH is there when it should not be, or not"
            )
        if session.mutual:
            yield from _verify_requester(call, session, request, transcript)
        else:
            transcript.append(call.raw[:end])
        _check_finished(session, transcript, request.verify_data)
        transcript.append(request.verify_data)
        response = FinishRsp()
        if session.clear_handshake:
            covered = response.encode_before("verify_data", call.context)
            transcript.append(covered)
            verify_data = session.finished(requester=False, digest=transcript.digest())
            transcript.append(verify_data)
            encoded = covered + verify_data
        else:
            encoded = response.encode(call.context)
            transcript.append(encoded)
        th2 = transcript.digest()

    def then() -> None:
        session.start_application(th2=th2)
        if connection.clear_handshake is session:
            connection.clear_handshake = None

    return Outcome(encoded, then)


def _verify_requester(
    call: Call, session: Session, request: Finish, transcript: Transcript
) -> Generator[Work, Any, None]:
    """The requester's signature in FINISH, by the key its chain proved."""
    connection = call.connection
    selection = connection.algorithms
    provisioned = request.req_slot_id == PROVISIONED_KEY_SLOT
    slot = PROVISIONED_KEY_NIBBLE if provisioned else request.req_slot_id
    if slot != (session.local_slot or 0):
        raise ProtocolViolation(f"FINISH is signed by slot {slot}, asked for was another")
    key = session.peer_key
    if key is None or selection.req_signature is None:
        why = getattr(session.flow, "failure", "") or "no key of the requester is known"
        raise AuthenticationError("mutual", why)
    begin = request.signature_offset(len(call.raw))
    transcript.append(
        session.encapsulated_digests, key_digest(key, selection.base_hash), call.raw[:begin]
    )
    digest, algorithm = transcript.digest(), selection.req_signature
    yield from slow(
        lambda: signing.verify(
            algorithm,
            key.public_key,
            request.signature,
            version=connection.version,
            context=SigningContext.REQUESTER_FINISH,
            hash=selection.base_hash,
            digest=digest,
        )
    )
    transcript.append(request.signature)
    session.proof = identity_of(key)


def psk_finish(call: Call) -> Outcome:
    """PSK_FINISH -> PSK_FINISH_RSP (10.19). Whatever is wrong with it ends the session."""
    request = call.typed(PskFinish)
    session = call.the_session()
    with call.ending_session_on_failure(session):
        transcript = session.handshake_transcript()
        transcript.append(call.raw[: request.verify_data_offset(len(call.raw))])
        _check_finished(session, transcript, request.verify_data)
        transcript.append(request.verify_data)
        encoded = PskFinishRsp().encode(call.context)
        transcript.append(encoded)
        th2 = transcript.digest()
    return Outcome(encoded, lambda: session.start_application(th2=th2))


def _check_finished(session: Session, transcript: Transcript, verify_data: bytes) -> None:
    expected = session.finished(requester=True, digest=transcript.digest())
    if not hmac.compare_digest(expected, verify_data):
        raise AuthenticationError("handshake", "RequesterVerifyData does not hold")


# --- in a session --------------------------------------------------------------------------------


def heartbeat(call: Call) -> Outcome:
    """HEARTBEAT -> HEARTBEAT_ACK (10.20); that it came is what counts."""
    call.typed(Heartbeat)
    return call.answer(HeartbeatAck())


def key_update(call: Call) -> Outcome:
    """KEY_UPDATE -> KEY_UPDATE_ACK (10.22), from either side.

    The old receiving key serves until a record proves that the peer has the new one. Over a
    reliable transport there are no retries, so an operation out of order is a violation.
    """
    request = call.typed(KeyUpdate)
    session = call.the_session()
    pending = session.receiver.update_pending
    operation = request.operation
    if operation == KeyUpdateOperation.VERIFY_NEW_KEY:
        if pending or not session.update_unverified:
            raise ProtocolViolation("VerifyNewKey, but not under a new key")
        session.update_unverified = False
    elif operation in (KeyUpdateOperation.UPDATE_KEY, KeyUpdateOperation.UPDATE_ALL_KEYS):
        if session.update_unverified:
            raise ProtocolViolation("a key update before the last one was verified")
        if operation == KeyUpdateOperation.UPDATE_ALL_KEYS and call.encapsulated:
            raise ProtocolViolation("UpdateAllKeys is the requester's alone")
        session.announce_receiving()
        session.update_unverified = True
        if operation == KeyUpdateOperation.UPDATE_ALL_KEYS:
            session.update_sending()
    else:
        raise ProtocolViolation(f"KeyOperation {operation} is reserved")
    return call.answer(KeyUpdateAck(operation=operation, tag=request.tag))


def end_session(call: Call) -> Outcome:
    """END_SESSION -> END_SESSION_ACK (10.23); the keys go once the answer is sealed."""
    request = call.typed(EndSession)
    session = call.the_session()
    connection = call.connection
    if request.clear_negotiated_state:
        connection.cached_state_cleared = True
        if connection.states is not None and session.proof.kind == "psk":
            connection.states.forget(session.cache_identity)
    return Outcome(
        EndSessionAck().encode(call.context),
        lambda: connection.end_session(session, "END_SESSION"),
    )
