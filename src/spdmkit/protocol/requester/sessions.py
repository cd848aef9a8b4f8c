"""Sessions as a requester: KEY_EXCHANGE to END_SESSION (DSP0274 10.16 to 10.23)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spdmkit.crypto import signing
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import (
    AuthenticationError,
    DeadlineExceeded,
    PeerError,
    ProtocolViolation,
    SpdmError,
)
from spdmkit.messages import (
    EndSession,
    EndSessionAck,
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
    MeasurementSummaryHashType,
    PskExchange,
    PskExchangeRsp,
    PskFinish,
    PskFinishRsp,
    ResponderFlags,
)
from spdmkit.protocol import opaque
from spdmkit.protocol.actions import perform
from spdmkit.protocol.credentials import (
    PROVISIONED_KEY_NIBBLE,
    PROVISIONED_KEY_SLOT,
    Credentials,
)
from spdmkit.protocol.link import Link
from spdmkit.protocol.proofs import identity_of, key_digest
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.encapsulated import authenticate_encapsulated
from spdmkit.protocol.requester.measurements import get_measurement_count
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.session import MutualAuth, PeerProof, Session, SessionKind, SessionRandoms
from spdmkit.protocol.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable

    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.proofs import ProvenKey

__all__ = [
    "BegunPskSession",
    "BegunSession",
    "OpenedSession",
    "PreSharedKey",
    "begin_key_exchange",
    "begin_psk_exchange",
    "complete_key_exchange",
    "complete_psk_exchange",
    "end_session",
    "heartbeat",
    "key_exchange",
    "key_update",
    "psk_exchange",
    "settle_records",
]

_CONTEXT_SIZE = 32


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """A key that both sides were given.

    Attributes:
        hint: names the key to the responder.
        key: 16 random bytes at least, better 32.
    """

    hint: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"PreSharedKey(hint={self.hint!r})"


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """An authenticated session, as its opener returns it.

    Attributes:
        link: the way through the session.
        session: its state.
        key: what the responder proved it holds; None for a pre-shared key.
        summary: MeasurementSummaryHash of the handshake, empty when none was asked for.
        summary_type: what it covers.
        signed: DIGESTS when it joins the transcript, KEY_EXCHANGE and KEY_EXCHANGE_RSP, whole,
            when messages are kept; for evidence.
        signature: the signature in KEY_EXCHANGE_RSP, empty for a pre-shared key.
    """

    link: Link
    session: Session
    key: ProvenKey | None
    summary: bytes
    summary_type: int
    signed: tuple[bytes, ...] = ()
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class BegunSession:
    """A session whose handshake waits for FINISH.

    Attributes:
        opened: the session as it will be.
        mutual: how the responder wants us to prove who we are.
        req_slot_id: the slot of ours that it named.
    """

    opened: OpenedSession
    mutual: MutualAuth
    req_slot_id: int


@dataclass(frozen=True, slots=True)
class BegunPskSession:
    """A session by pre-shared key whose handshake waits for PSK_FINISH.

    Attributes:
        opened: the session as it will be.
        transcript: TH so far.
        with_context: the responder has a context, so there is a PSK_FINISH.
    """

    opened: OpenedSession
    transcript: Transcript
    with_context: bool


# --- key exchange --------------------------------------------------------------------------------


def key_exchange(
    link: Link,
    key: ProvenKey,
    *,
    slot_id: int = 0,
    summary: int = MeasurementSummaryHashType.NONE,
    termination_policy: bool = False,
    event_all_policy: bool = False,
) -> Exchange[OpenedSession]:
    """Open a session by KEY_EXCHANGE and FINISH, with mutual authentication when it is asked for.

    Args:
        link: the way to the responder, outside any session.
        key: the verified chain of that slot, or the provisioned key for slot 0xFF.
        slot_id: 0 to 7, or 0xFF.
        summary: which measurements to have summed up.
        termination_policy: SessionPolicy bit 0 (1.2).
        event_all_policy: SessionPolicy bit 1 (1.3).

    Raises:
        AuthenticationError: the signature or a MAC does not hold.
        ProtocolViolation: the responder broke a rule, or wants a proof that we do not have.
        SpdmError: as `Link.ask`.
    """

    def open_once() -> Exchange[OpenedSession]:
        begun = yield from begin_key_exchange(
            link,
            key,
            slot_id=slot_id,
            summary=summary,
            termination_policy=termination_policy,
            event_all_policy=event_all_policy,
        )
        return (yield from complete_key_exchange(begun))

    return (yield from settle_records(link, open_once))


def begin_key_exchange(
    link: Link,
    key: ProvenKey,
    *,
    slot_id: int = 0,
    summary: int = MeasurementSummaryHashType.NONE,
    termination_policy: bool = False,
    event_all_policy: bool = False,
) -> Exchange[BegunSession]:
    """The first half of `key_exchange`: KEY_EXCHANGE; the session is in its handshake.

    Raises:
        AuthenticationError, ProtocolViolation, SpdmError: as `key_exchange`.
    """
    connection = link.connection
    credentials = connection.credentials
    selection = connection.algorithms
    if selection.dhe is not None:
        dhe = yield from perform(selection.dhe.generate)
        exchange_data, kem = dhe.exchange_data, None
    elif selection.kem is not None:
        kem = yield from perform(selection.kem.generate)
        exchange_data, dhe = kem.encapsulation_key, None
    else:
        raise ProtocolViolation(
            "no key exchange was negotiated",
            hint="sessions need SPDM 1.1 or later, and a peer with KEY_EX_CAP and an algorithm "
            "for it",
        )
    request = KeyExchange(
        measurement_summary_hash_type=summary,
        slot_id=slot_id,
        req_session_id=_our_half(connection),
        termination_policy=termination_policy,
        event_all_policy=event_all_policy,
        random_data=connection.random(32),
        exchange_data=exchange_data,
        opaque_data=_offer(connection),
    )
    answer = yield from link.ask(request, KeyExchangeRsp)
    message = answer.message
    if not any(message.random_data):
        raise ProtocolViolation("the responder's RandomData is all zero: it has no random numbers")
    mutual = _checked_mutual_auth(connection, message.mut_auth_requested, credentials)
    limit = _check_selection(connection, message.opaque_data)
    cut = message.signature_offset(len(answer.response))
    transcript = Transcript(selection.base_hash, connection.vca)
    transcript.append(
        connection.multi_key_digests,
        key_digest(key, selection.base_hash),
        answer.request,
        answer.response[:cut],
    )
    digest, algorithm = transcript.digest(), link.peer_signature

    def agree() -> bytes:
        # The signature first: nothing is derived from what the responder did not sign.
        signing.verify(
            algorithm,
            key.public_key,
            message.signature,
            version=connection.version,
            context=SigningContext.RESPONDER_KEY_EXCHANGE_RSP,
            hash=selection.base_hash,
            digest=digest,
        )
        if dhe is not None:
            return bytes(dhe.shared_secret(message.exchange_data))
        if kem is None:
            raise ProtocolViolation("no key exchange was negotiated")
        return bytes(kem.decapsulate(message.exchange_data))

    secret = yield from perform(agree)
    transcript.append(message.signature)
    session = Session(
        connection,
        _session_id(connection, request.req_session_id, message.rsp_session_id),
        SessionKind.KEY_EXCHANGE,
        transcript=transcript,
        randoms=SessionRandoms(request.random_data, message.random_data),
        clear_handshake=connection.context.handshake_in_the_clear,
    )
    session.heartbeat_period = message.heartbeat_period
    session.subscribed = event_all_policy
    session.limit = limit
    session.mutual = mutual
    session.peer_key = key
    session.proof = identity_of(key)
    th1 = transcript.digest()
    session.start_handshake(secret, th1=th1)
    if not session.clear_handshake:
        _check_finished(session, th1, message.verify_data)
        transcript.append(message.verify_data)
    connection.sessions[session.session_id] = session
    if session.clear_handshake:
        connection.clear_handshake = session
    inside = Link(connection, session)
    kept = (connection.multi_key_digests, answer.request, answer.response)
    opened = OpenedSession(
        inside,
        session,
        key,
        message.measurement_summary_hash,
        summary,
        tuple(each for each in kept if each) if connection.settings.keep_messages else (),
        message.signature,
    )
    return BegunSession(opened, mutual, message.req_slot_id)


def complete_key_exchange(begun: BegunSession) -> Exchange[OpenedSession]:
    """The second half of `key_exchange`: who we are, if that is asked, and FINISH.

    Raises:
        AuthenticationError, ProtocolViolation, SpdmError: as `key_exchange`; the session is over.
    """
    inside, session = begun.opened.link, begun.opened.session
    connection = inside.connection
    credentials = connection.credentials
    try:
        slot = None
        if begun.mutual:
            slot = yield from _our_slot(inside, begun.mutual, begun.req_slot_id, credentials)
        yield from _finish(inside, session, slot, credentials)
    except SpdmError as error:
        connection.end_session(session, str(error))
        raise
    return begun.opened


def _our_slot(
    inside: Link, mutual: MutualAuth, told: int, credentials: Credentials | None
) -> Exchange[int]:
    """The slot that FINISH is to be signed with; told, or settled by encapsulated requests."""
    if mutual is MutualAuth.WITHOUT_ENCAPSULATION:
        return told
    if credentials is None:
        raise ProtocolViolation("the responder wants to know who we are, and we have no keys")
    return (
        yield from authenticate_encapsulated(
            inside, credentials, digests_first=mutual is MutualAuth.GET_DIGESTS
        )
    )


def _finish(
    inside: Link, session: Session, slot: int | None, credentials: Credentials | None
) -> Exchange[None]:
    """FINISH and FINISH_RSP (10.17)."""
    connection = inside.connection
    selection = connection.algorithms
    transcript = session.handshake_transcript()
    context = connection.context
    request = Finish()
    if slot is not None:
        request.signature_included = True
        provisioned = slot == PROVISIONED_KEY_NIBBLE
        request.req_slot_id = PROVISIONED_KEY_SLOT if provisioned else slot
        signer, chain_hash = _our_signer(connection, credentials, slot)
        covered = request.encode_before("signature", context)
        transcript.append(session.encapsulated_digests, chain_hash, covered)
        digest, algorithm = transcript.digest(), selection.req_signature
        if algorithm is None:
            raise ProtocolViolation("no signature algorithm was negotiated for us")
        request.signature = yield from perform(
            lambda: signer.sign(
                algorithm,
                version=connection.version,
                context=SigningContext.REQUESTER_FINISH,
                hash=selection.base_hash,
                digest=digest,
            )
        )
        transcript.append(request.signature)
    else:
        transcript.append(request.encode_before("verify_data", context))
    request.verify_data = session.finished(requester=True, digest=transcript.digest())
    transcript.append(request.verify_data)
    answer = yield from inside.ask(request, FinishRsp)
    cut = answer.message.verify_data_offset(len(answer.response))
    transcript.append(answer.response[:cut])
    if session.clear_handshake:
        expected = session.finished(requester=False, digest=transcript.digest())
        if not hmac.compare_digest(expected, answer.message.verify_data):
            raise AuthenticationError(
                "handshake", "ResponderVerifyData of FINISH_RSP does not hold"
            )
        transcript.append(answer.message.verify_data)
    session.start_application(th2=transcript.digest())
    if connection.clear_handshake is session:
        connection.clear_handshake = None


def _our_signer(
    connection: Connection, credentials: Credentials | None, slot: int
) -> tuple[signing.Signer, bytes]:
    selection = connection.algorithms
    provisioned = None if credentials is None else credentials.provisioned_key
    if slot == PROVISIONED_KEY_NIBBLE and provisioned is not None:
        return provisioned.signer, selection.base_hash.digest(provisioned.public_key.spki())
    if credentials is not None and selection.req_signature is not None:
        ours = credentials.usable(selection.req_signature).get(slot)
        several = connection.context.multi_key_conn_req
        if ours is not None and several and not ours.key_usage & KeyUsage.KEY_EX:
            raise ProtocolViolation(f"the key of our slot {slot} is not for key exchange")
        if ours is not None:
            return ours.signer, ours.digest(selection.base_hash)
    raise ProtocolViolation(f"the responder wants slot {slot} of ours, which holds no chain")


def _checked_mutual_auth(
    connection: Connection, requested: int, credentials: Credentials | None
) -> MutualAuth:
    """MutAuthRequested, when it is one of the four values and we agreed to it."""
    if requested not in (0, 1, 2, 4):
        raise ProtocolViolation(f"MutAuthRequested 0x{requested:02x} is reserved")
    mutual = MutualAuth(requested)
    if mutual:
        if not connection.flag(ResponderFlags.MUT_AUTH_CAP, both=True):
            raise ProtocolViolation("mutual authentication was not negotiated")
        encapsulates = connection.flag(ResponderFlags.ENCAP_CAP, both=True)
        if mutual is not MutualAuth.WITHOUT_ENCAPSULATION and not encapsulates:
            raise ProtocolViolation("encapsulated requests were not negotiated (ENCAP_CAP)")
        if credentials is None:
            raise ProtocolViolation("the responder wants to know who we are, and we have no keys")
    return mutual


# --- pre-shared key ------------------------------------------------------------------------------


def psk_exchange(
    link: Link,
    psk: PreSharedKey,
    *,
    summary: int = MeasurementSummaryHashType.NONE,
    termination_policy: bool = False,
    event_all_policy: bool = False,
) -> Exchange[OpenedSession]:
    """Open a session by PSK_EXCHANGE and, when the responder has a context, PSK_FINISH.

    Raises:
        AuthenticationError: the responder does not hold the key.
        SpdmError: as `Link.ask`.
    """

    def open_once() -> Exchange[OpenedSession]:
        begun = yield from begin_psk_exchange(
            link,
            psk,
            summary=summary,
            termination_policy=termination_policy,
            event_all_policy=event_all_policy,
        )
        return (yield from complete_psk_exchange(begun))

    return (yield from settle_records(link, open_once))


def begin_psk_exchange(
    link: Link,
    psk: PreSharedKey,
    *,
    summary: int = MeasurementSummaryHashType.NONE,
    termination_policy: bool = False,
    event_all_policy: bool = False,
) -> Exchange[BegunPskSession]:
    """The first half of `psk_exchange`: PSK_EXCHANGE.

    Raises:
        AuthenticationError, SpdmError: as `psk_exchange`.
    """
    connection = link.connection
    if len(psk.key) < connection.settings.shortest_psk:
        raise ProtocolViolation(
            f"a pre-shared key has {connection.settings.shortest_psk} bytes at least"
        )
    selection = connection.algorithms
    request = PskExchange(
        measurement_summary_hash_type=summary,
        termination_policy=termination_policy,
        event_all_policy=event_all_policy,
        req_session_id=_our_half(connection),
        psk_hint=psk.hint,
        requester_context=connection.random(_CONTEXT_SIZE),
        opaque_data=_offer(connection),
    )
    answer = yield from link.ask(request, PskExchangeRsp)
    message = answer.message
    limit = _check_selection(connection, message.opaque_data)
    kind = connection.peer.flags & ResponderFlags.PSK_CAP_MASK
    with_context = kind == ResponderFlags.PSK_CAP_CONTEXT
    if bool(message.responder_context) is not with_context:
        raise ProtocolViolation("ResponderContext is there when it should not be, or not")
    transcript = Transcript(selection.base_hash, connection.vca)
    cut = message.verify_data_offset(len(answer.response))
    transcript.append(answer.request, answer.response[:cut])
    session = Session(
        connection,
        _session_id(connection, request.req_session_id, message.rsp_session_id),
        SessionKind.PSK,
        transcript=transcript,
        randoms=SessionRandoms(request.requester_context, message.responder_context),
    )
    session.heartbeat_period = message.heartbeat_period
    session.subscribed = event_all_policy
    session.limit = limit
    session.proof = PeerProof("psk", psk.hint.decode("utf-8", "backslashreplace"))
    th1 = transcript.digest()
    session.start_handshake(psk.key, th1=th1)
    _check_finished(session, th1, message.verify_data)
    transcript.append(message.verify_data)
    connection.sessions[session.session_id] = session
    opened = OpenedSession(
        Link(connection, session), session, None, message.measurement_summary_hash, summary
    )
    return BegunPskSession(opened, transcript, with_context)


def complete_psk_exchange(begun: BegunPskSession) -> Exchange[OpenedSession]:
    """The second half of `psk_exchange`: PSK_FINISH, when the responder has a context.

    Raises:
        AuthenticationError, SpdmError: as `psk_exchange`; the session is over.
    """
    inside, session = begun.opened.link, begun.opened.session
    if not begun.with_context:
        session.start_application(th2=begun.transcript.digest())
        return begun.opened
    try:
        yield from _psk_finish(inside, session, begun.transcript)
    except SpdmError as error:
        inside.connection.end_session(session, str(error))
        raise
    return begun.opened


def _psk_finish(inside: Link, session: Session, transcript: Transcript) -> Exchange[None]:
    """PSK_FINISH and PSK_FINISH_RSP (10.19)."""
    request = PskFinish()
    transcript.append(request.encode_before("verify_data", inside.connection.context))
    request.verify_data = session.finished(requester=True, digest=transcript.digest())
    transcript.append(request.verify_data)
    answer = yield from inside.ask(request, PskFinishRsp)
    transcript.append(answer.response)
    session.start_application(th2=transcript.digest())


# --- what both openers share ---------------------------------------------------------------------


def _our_half(connection: Connection) -> int:
    """A ReqSessionID that none of our sessions uses."""
    used = {session_id & 0xFFFF for session_id in connection.sessions}
    while True:
        half = int.from_bytes(connection.random(2), "little")
        if half not in used:
            return half


def _session_id(connection: Connection, ours: int, theirs: int) -> int:
    session_id = ours | theirs << 16
    if session_id in connection.sessions:
        raise ProtocolViolation("the responder gave a session id that is in use")
    return session_id


def _offer(connection: Connection) -> bytes:
    settings = connection.settings
    return opaque.write_offer(
        connection.version, settings.secured_versions, settings.aead_limit_exponent
    )


def _check_selection(connection: Connection, data: bytes) -> int:
    """The AEAD limit in records, when the secured message version is one that we offered."""
    settings = connection.settings
    selected = opaque.read_selection(connection.version, data)
    if selected.versions[0] not in settings.secured_versions:
        raise AuthenticationError(
            "negotiation", "a secured message version was selected but not offered"
        )
    return 1 << min(selected.limit_exponent, settings.aead_limit_exponent)


def _check_finished(session: Session, digest: bytes, verify_data: bytes) -> None:
    expected = session.finished(requester=False, digest=digest)
    if not hmac.compare_digest(expected, verify_data):
        session.destroy()
        raise AuthenticationError("handshake", "ResponderVerifyData does not hold")


# --- whose records? ------------------------------------------------------------------------------


def settle_records(
    link: Link, opener: Callable[[], Exchange[OpenedSession]]
) -> Exchange[OpenedSession]:
    """Open a session, and find out whose records the far end has when that is not known.

    Behind a proxy that has no keys the far end may be a device on MCTP, whose records differ from
    those of TCP (DSP0276, DSP0287 6.5). A harmless request shows whether the guess holds. When it
    does not, the session is over, and everything begins again in the other form: GET_VERSION, for
    the responder may have forgotten more than the session, and a new handshake.

    Args:
        link: the way to the responder, outside any session.
        opener: opens a session with the connection's present record profile.

    Raises:
        AuthenticationError: another negotiation than before, beside whatever `opener` raises.
    """
    connection = link.connection
    while connection.record_alternatives:
        connection.record_refused = False
        try:
            opened = yield from opener()
            yield from _probe(opened)
        except DeadlineExceeded as error:
            error.hint = f"{error.hint}; behind a proxy, try records=mctp".removeprefix("; ")
            raise
        except SpdmError:
            if not connection.record_refused:
                raise
            connection.record_profile, *others = connection.record_alternatives
            connection.record_alternatives = tuple(others)
            yield from _negotiate_again(link)
        else:
            connection.record_alternatives = ()
            return opened
    return (yield from opener())


def _probe(opened: OpenedSession) -> Exchange[None]:
    """A request that changes nothing; any answer in the session proves the records right."""
    connection = opened.link.connection
    try:
        if connection.flag(ResponderFlags.HBEAT_CAP, both=True):
            yield from heartbeat(opened.link)
        else:
            yield from get_measurement_count(opened.link)
    except PeerError:
        if connection.record_refused:
            raise


def _negotiate_again(link: Link) -> Exchange[None]:
    """The same negotiation once more: what was proven before rests on its every byte."""
    connection = link.connection
    before, digests = connection.vca, connection.multi_key_digests
    yield from negotiate(link)
    if digests:
        yield from get_digests(link)
    if (connection.vca, connection.multi_key_digests) != (before, digests):
        raise AuthenticationError(
            "negotiation", "the responder negotiates otherwise than it did a moment ago"
        )


# --- in a session --------------------------------------------------------------------------------


def heartbeat(link: Link) -> Exchange[None]:
    """HEARTBEAT: say that we are here (10.20)."""
    yield from link.ask(Heartbeat(), HeartbeatAck)


def key_update(link: Link, *, all_keys: bool = False) -> Exchange[None]:
    """Move to new keys and verify that the peer has them (10.22).

    Args:
        link: the way through the session.
        all_keys: both directions, not only ours.
    """
    session = link.session
    if session is None:
        raise ProtocolViolation("KEY_UPDATE needs a session")
    operation = KeyUpdateOperation.UPDATE_ALL_KEYS if all_keys else KeyUpdateOperation.UPDATE_KEY
    if all_keys:
        # The ACK comes under the peer's new key already; a refusal, or Busy, under the old one.
        session.announce_receiving()
    half_way = all_keys
    try:
        yield from _update_step(link, operation)
        half_way = True
        if session.receiver.update_pending:
            raise ProtocolViolation("KEY_UPDATE_ACK came under the old key")
        session.update_sending()
        yield from _update_step(link, KeyUpdateOperation.VERIFY_NEW_KEY)
    except SpdmError as error:
        if half_way:
            # There is no going back, and no telling which keys the peer has (10.22).
            link.connection.end_session(session, f"KEY_UPDATE failed: {error}")
        raise


def _update_step(link: Link, operation: KeyUpdateOperation) -> Exchange[None]:
    tag = link.connection.random(1)[0]
    answer = yield from link.ask(KeyUpdate(operation=operation, tag=tag), KeyUpdateAck)
    if (answer.message.operation, answer.message.tag) != (operation, tag):
        raise ProtocolViolation("KEY_UPDATE_ACK does not repeat the request")


def end_session(link: Link, *, clear_negotiated_state: bool = False) -> Exchange[None]:
    """END_SESSION: both sides drop the keys (10.23).

    Args:
        link: the way through the session.
        clear_negotiated_state: have the responder forget negotiated state it may cache.
    """
    session = link.session
    if session is None:
        raise ProtocolViolation("END_SESSION needs a session")
    yield from link.ask(EndSession(clear_negotiated_state=clear_negotiated_state), EndSessionAck)
    link.connection.end_session(session, "END_SESSION")
