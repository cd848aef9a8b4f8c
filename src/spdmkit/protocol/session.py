"""One secure session: its keys, its records, its transcript, its life (DSP0274 clause 11).

What a session is, its kind, version and algorithms, is fixed when it begins. Keys come from the
schedule in step with the transcript; every way out of a session leads through `destroy`.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spdmkit.crypto.keyschedule import DirectionSecret, KeySchedule
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import RequesterFlags
from spdmkit.protocol.events import (
    DataArrived,
    KeyLogged,
    KeysUpdated,
    PeerNotification,
    SessionEstablished,
)
from spdmkit.protocol.records import (
    ApplicationData,
    RecordProfile,
    RecordReceiver,
    RecordSender,
)
from spdmkit.protocol.states import Refusal, SessionPhase, in_session
from spdmkit.protocol.transcript import Transcript

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.notifier import Notifier
    from spdmkit.protocol.proofs import ProvenKey

__all__ = [
    "EVENT_ALL_POLICY",
    "TERMINATION_POLICY",
    "MutualAuth",
    "PeerProof",
    "Session",
    "SessionKind",
]


TERMINATION_POLICY, EVENT_ALL_POLICY = 1 << 0, 1 << 1
"""Bits of SessionPolicy (DSP0274 table 78)."""
UPDATE_MARGIN = 16
"""Records left under a key when it is time for KEY_UPDATE, which takes some itself."""
MOST_NOTIFICATIONS = 1024
"""Events of the peer that are kept for who asks for them."""
HEARTBEATS_MISSED = 2
"""Periods without traffic after which either side ends a session (DSP0274 10.21)."""


class SessionKind(enum.Enum):
    """How a session's secret came about; never changes."""

    KEY_EXCHANGE = "key-exchange"
    PSK = "psk"


class MutualAuth(enum.IntFlag):
    """MutAuthRequested of KEY_EXCHANGE_RSP (DSP0274 10.16); at most one bit."""

    NONE = 0
    WITHOUT_ENCAPSULATION = 1 << 0
    ENCAPSULATED = 1 << 1
    GET_DIGESTS = 1 << 2


@dataclass(frozen=True, slots=True)
class PeerProof:
    """What the other side of a session proved.

    Attributes:
        kind: "certificate", "public-key", "psk", or empty when it proved nothing.
        identity: the verified identity, or the PSK hint as text.
    """

    kind: str = ""
    identity: str = ""


NO_PROOF = PeerProof()
"""It proved nothing."""


@dataclass(frozen=True, slots=True)
class SessionRandoms:
    """The two random values that name a session in a key log."""

    request: bytes
    response: bytes


class Session:
    """A session at either end.

    Attributes:
        session_id: 32 bits, the requester's half low.
        kind: by key exchange or by pre-shared key.
        phase: handshake, established or ended.
        clear_handshake: its handshake messages travel outside of it.
        transcript: TH, from VCA on; dropped once the session is established.
        l1l2: what MEASUREMENTS in this session will sign.
        mutual: which mutual authentication was asked for.
        proof: what the peer proved.
        terminated: why the responder wants no more requests in it; empty while it does.
        claim: what the first record of the peer that holds will prove (pre-shared key).
        inbox: application data that came and that nobody has read yet (requester).
        heartbeat_period: seconds, 0 for none.
        last_traffic: when an authentic record last came or went, monotonic seconds.
        policy: SessionPolicy as the requester sent it.
        cache_identity: what the requester's negotiated state is remembered by, empty for none.
        notifier: events of ours that the peer wants to hear of, or None before it said so.
        subscribed: we want to hear of the peer's events.
        next_event: EventInstanceId that the peer's next event should have.
        notifications: events of the peer that nobody has taken yet, oldest first.
    """

    __slots__ = (
        "_connection",
        "_inbox_size",
        "_request_secret",
        "_response_secret",
        "_schedule",
        "cache_identity",
        "claim",
        "clear_handshake",
        "encapsulated_digests",
        "encapsulation_began",
        "flow",
        "heartbeat_period",
        "inbox",
        "kind",
        "l1l2",
        "last_poll",
        "last_traffic",
        "limit",
        "local_slot",
        "mutual",
        "next_event",
        "notifications",
        "notifier",
        "peer_key",
        "phase",
        "policy",
        "proof",
        "randoms",
        "receiver",
        "sender",
        "session_id",
        "subscribed",
        "terminated",
        "transcript",
        "update_unverified",
    )

    def __init__(
        self,
        connection: Connection,
        session_id: int,
        kind: SessionKind,
        *,
        transcript: Transcript,
        randoms: SessionRandoms,
        clear_handshake: bool = False,
        profile: RecordProfile | None = None,
    ) -> None:
        """A session in its handshake; keys come with `start_handshake`."""
        selection = connection.algorithms
        if selection.aead is None:
            raise ProtocolViolation("no AEAD was negotiated, so there are no sessions")
        self._connection = connection
        self.session_id = session_id
        self.kind = kind
        self.phase = (
            SessionPhase.HANDSHAKE_KEY_EXCHANGE
            if kind is SessionKind.KEY_EXCHANGE
            else SessionPhase.HANDSHAKE_PSK
        )
        self.clear_handshake = clear_handshake
        self.transcript: Transcript | None = transcript
        self.randoms = randoms
        self.l1l2 = connection.measurement_transcript()
        self.mutual = MutualAuth.NONE
        self.proof = self.claim = NO_PROOF
        self.inbox: deque[ApplicationData] = deque()
        self._inbox_size = 0
        self.heartbeat_period = 0
        self.last_traffic = self.last_poll = connection.clock()
        self.policy = 0
        self.cache_identity = ""
        self.terminated = ""
        self.limit = 1 << 64
        self.local_slot: int | None = None
        self.peer_key: ProvenKey | None = None
        self.update_unverified = False
        self.encapsulated_digests = b""
        self.encapsulation_began = False
        self.flow: object = None
        self.notifier: Notifier | None = None
        self.subscribed = False
        self.next_event = 0
        self.notifications: deque[PeerNotification] = deque(maxlen=MOST_NOTIFICATIONS)
        profile = profile or connection.record_profile
        encrypt = connection.encrypts_records
        self.sender = RecordSender(
            selection.aead, session_id, profile, encrypt=encrypt, random=connection.random
        )
        self.receiver = RecordReceiver(selection.aead, session_id, profile, encrypt=encrypt)
        self._schedule = KeySchedule(connection.version, selection.base_hash, selection.aead)
        self._request_secret: DirectionSecret | None = None
        self._response_secret: DirectionSecret | None = None

    # -- keys -----------------------------------------------------------------------------------

    def start_handshake(self, secret: bytes, *, th1: bytes) -> None:
        """Derive the handshake keys from the shared secret or PSK (DSP0274 12.2, 12.3)."""
        request, response = self._schedule.start_handshake(
            secret, th1, psk=self.kind is SessionKind.PSK
        )
        self._log("REQUEST_HANDSHAKE_SECRET", request)
        self._log("RESPONSE_HANDSHAKE_SECRET", response)
        self._use(request, response)

    def start_application(self, *, th2: bytes) -> None:
        """Switch both directions to the application keys (DSP0274 12.4); the handshake is over."""
        request, response = self._schedule.start_application(th2)
        self._log("REQUEST_DATA_SECRET", request)
        self._log("RESPONSE_DATA_SECRET", response)
        self._use(request, response)
        self.transcript = None
        self.phase = SessionPhase.ESTABLISHED
        self.last_traffic = self.last_poll = self._connection.clock()
        self._connection.events(
            SessionEstablished(self.session_id, self.kind.value, mutual=self.authenticated_peer)
        )

    def finished(self, *, requester: bool, digest: bytes) -> bytes:
        """The verify data of one side: an HMAC over a transcript's digest (DSP0274 12.6)."""
        secret = self._request_secret if requester else self._response_secret
        if secret is None:
            raise ProtocolViolation("the session is over: its keys are gone")
        return secret.finished(digest)

    def update_sending(self) -> None:
        """New keys for what we send, at once (KEY_UPDATE)."""
        secret = self._updated(own=True)
        self.sender.rekey(*secret.key_and_iv(), self.limit)

    def announce_receiving(self) -> None:
        """New keys for what we receive, beside the old until the peer is seen to use them."""
        secret = self._updated(own=False)
        self.receiver.announce(*secret.key_and_iv(), self.limit)

    def _updated(self, *, own: bool) -> DirectionSecret:
        requests = own is self._connection.is_requester
        old = self._request_secret if requests else self._response_secret
        if old is None:
            raise ProtocolViolation("the session is over: its keys are gone")
        new = old.updated()
        old.wipe()
        if requests:
            self._request_secret = new
        else:
            self._response_secret = new
        direction = "request" if requests else "response"
        self._log(f"{direction.upper()}_DATA_SECRET", new)
        self._connection.events(KeysUpdated(self.session_id, direction))
        return new

    def _use(self, request: DirectionSecret, response: DirectionSecret) -> None:
        for old in (self._request_secret, self._response_secret):
            if old is not None:
                old.wipe()
        self._request_secret, self._response_secret = request, response
        ours, theirs = (request, response) if self._connection.is_requester else (response, request)
        self.sender.rekey(*ours.key_and_iv(), self.limit)
        self.receiver.rekey(*theirs.key_and_iv(), self.limit)

    def _log(self, label: str, secret: DirectionSecret) -> None:
        if self._connection.log_keys:
            self._connection.events(
                KeyLogged(label, self.randoms.request, self.randoms.response, secret.reveal())
            )

    # -- life -----------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """True until the session ended."""
        return self.phase is not SessionPhase.ENDED

    @property
    def in_the_clear(self) -> bool:
        """True while its handshake messages travel outside of it."""
        return self.clear_handshake and self.phase is SessionPhase.HANDSHAKE_KEY_EXCHANGE

    @property
    def established(self) -> bool:
        """True in the application phase."""
        return self.phase is SessionPhase.ESTABLISHED

    @property
    def authenticated_peer(self) -> bool:
        """True when the peer proved who it is in this session."""
        return bool(self.proof.kind)

    def permits(self, code: int) -> SessionPhase | Refusal:
        """The phase that `code` leads to, or how it is refused (the table of `states`)."""
        return in_session(self.phase, code, self._connection.version)

    def handshake_transcript(self) -> Transcript:
        """TH while the handshake lasts.

        Raises:
            ProtocolViolation: the handshake is over.
        """
        if self.transcript is None:
            raise ProtocolViolation("the handshake of this session is over", error_code=0x04)
        return self.transcript

    # -- traffic --------------------------------------------------------------------------------

    def opened(self, record: bytes, now: float) -> bytes | ApplicationData:
        """What a record of the peer holds: an SPDM message, or application data.

        Args:
            record: as it came.
            now: monotonic seconds; the heartbeat's time starts anew.

        Raises:
            AuthenticationError, ProtocolViolation: it does not hold, and the session must end.
        """
        content = self.receiver.message(record)
        self.sender.profile = self.receiver.profile
        self.last_traffic = now
        if self.claim.kind:
            self.proof, self.claim = self.claim, NO_PROOF
        return content

    def keep(self, data: ApplicationData) -> None:
        """Put application data into the inbox until somebody takes it.

        Raises:
            ProtocolViolation: nobody has taken any for too long; the session must end.
        """
        limit = self._connection.settings.inbox_limit
        if self._inbox_size + len(data.data) > limit:
            raise ProtocolViolation(f"more than {limit} bytes of application data wait unread")
        self.inbox.append(data)
        self._inbox_size += len(data.data)
        self._connection.events(DataArrived(self.session_id))

    def take(self) -> ApplicationData | None:
        """The oldest application data of the inbox; None when it is empty."""
        if not self.inbox:
            return None
        data = self.inbox.popleft()
        self._inbox_size -= len(data.data)
        return data

    def notify(self, notification: PeerNotification) -> None:
        """Keep an event of the peer until somebody takes it, and tell who listens at once."""
        self.notifications.append(notification)
        self._connection.events(notification)

    def take_notifications(self) -> list[PeerNotification]:
        """The peer's events since the last call, oldest first; too many push out the oldest."""
        taken = list(self.notifications)
        self.notifications.clear()
        return taken

    @property
    def polls(self) -> bool:
        """Encapsulated requests were negotiated, so that the responder can be asked for its own."""
        return self._connection.flag(RequesterFlags.ENCAP_CAP, both=True)

    @property
    def update_due(self) -> bool:
        """Keys should be updated before they have protected all the records they may."""
        return self.established and min(self.sender.room, self.receiver.room) <= UPDATE_MARGIN

    def expiry(self) -> float:
        """When the session ends for want of traffic: two heartbeat periods after the last."""
        if not self.heartbeat_period or not self.established:
            return float("inf")
        return self.last_traffic + HEARTBEATS_MISSED * self.heartbeat_period

    def destroy(self) -> None:
        """Overwrite and drop every secret; nothing can be sent or received any more."""
        self.phase = SessionPhase.ENDED
        self.sender.drop()
        self.receiver.drop()
        for secret in (self._request_secret, self._response_secret):
            if secret is not None:
                secret.wipe()
        self._request_secret = self._response_secret = None
        self._schedule.wipe()
        self.transcript = None
