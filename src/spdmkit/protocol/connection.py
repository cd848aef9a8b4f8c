"""The state of one SPDM connection, the same for both roles.

A connection lives as long as its transport does (DSP0287 clause 4) and shares nothing with any
other: what one peer does cannot reach another peer's sessions.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import V10, V12, V14, Context, RequesterFlags, ResponderFlags
from spdmkit.protocol.algorithms import Selection
from spdmkit.protocol.cache import NegotiatedState
from spdmkit.protocol.credentials import Credentials
from spdmkit.protocol.events import ConnectionReset, EventSink, SessionEnded
from spdmkit.protocol.negotiation import Chosen
from spdmkit.protocol.records import TCP_STRICT, RecordProfile
from spdmkit.protocol.session import NO_PROOF, Session
from spdmkit.protocol.settings import MIN_DATA_TRANSFER_SIZE, Settings
from spdmkit.protocol.states import Phase
from spdmkit.protocol.transcript import Transcript

if TYPE_CHECKING:
    from spdmkit.protocol.cache import NegotiatedStates
    from spdmkit.protocol.notifier import EventSource

__all__ = ["Announced", "Connection", "Role"]


class Role(enum.Enum):
    """Which side of SPDM an endpoint is; which side dialled does not matter."""

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    REQUESTER = "requester"
    RESPONDER = "responder"


@dataclass(slots=True)
class Announced:
    """What one side announced in GET_CAPABILITIES or CAPABILITIES.

    Attributes:
        flags: Flags; which bits exist depends on role and version.
        extended: ExtFlags (1.4).
        ct_exponent: CTExponent.
        data_transfer_size: DataTransferSize in bytes; before 1.2 what the transport carries.
        max_message_size: MaxSPDMmsgSize in bytes; before 1.2 the same.
    """

    flags: int = 0
    extended: int = 0
    ct_exponent: int = 0
    data_transfer_size: int = MIN_DATA_TRANSFER_SIZE
    max_message_size: int = MIN_DATA_TRANSFER_SIZE


def _nobody(_event: object) -> None:
    """Who is told when nobody wants to be."""


class Connection:
    """What both sides know of each other, from GET_VERSION on.

    Attributes:
        phase: how far negotiation has come; the tables of `states` move it.
        context: versions and sizes for the codec; replaced on reset.
        offered_versions: the entries of VERSION.
        vca: GET_VERSION to ALGORITHMS as exchanged, the prefix of most transcripts.
        vca_messages: the same, message by message.
        m1m2: what CHALLENGE_AUTH will sign.
        l1l2: what MEASUREMENTS outside a session will sign.
        encapsulated_m1m2: what the requester's CHALLENGE_AUTH will sign (basic mutual
            authentication).
        multi_key_digests: the DIGESTS that joins session transcripts ("D"), or empty.
        must_resynch: what a responder measures has changed since VERSION: nothing outside of
            sessions is answered before the next GET_VERSION (10.2).
        exchanged_since_vca: a request other than GET_DIGESTS came first, so there is no D.
        sessions: live sessions by id.
        states: negotiated states that a responder remembers across connections, or None.
        event_source: where a requester's own events come from, or None; a responder has its device.
        requester_proof: what basic mutual authentication showed of the requester.
        clear_handshake: the session whose handshake goes on in the clear, or None.
        record_alternatives: other record profiles that the far end may have, while a requester
            has to find out (`records=auto`).
        record_refused: a record of ours was answered in the clear, or one of the peer's could not
            be opened; the session ended by it.
    """

    def __init__(
        self,
        role: Role,
        settings: Settings,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        events: EventSink | None = None,
        record_profile: RecordProfile = TCP_STRICT,
        log_keys: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        """A connection on which nothing was said yet.

        Args:
            role: which side we are.
            settings: what we are willing to do.
            clock: monotonic seconds.
            random: cryptographic randomness, n bytes.
            events: told of sessions that begin and end; none by default.
            record_profile: how secured records of the far end look.
            credentials: what a requester proves its own identity with; a responder asks its device.
            log_keys: tell secrets to `events`, for a key log (SPDMKEYLOGFILE).
        """
        self.role = role
        self.settings = settings
        self.clock = clock
        self.random = random
        self.events: EventSink = events or _nobody
        self.record_profile = record_profile
        self.record_alternatives: tuple[RecordProfile, ...] = ()
        self.record_refused = False
        self.log_keys = log_keys
        self.credentials = credentials
        self.states: NegotiatedStates | None = None
        self.event_source: EventSource | None = None
        self.sessions: dict[int, Session] = {}
        self.clear_handshake: Session | None = None
        self._handle = 0
        self._patience_for = 0
        self._patience = settings.timing.patience(0)
        self._forget()

    def _forget(self) -> None:
        self.phase = Phase.NOT_STARTED
        self.version = V10
        self.context = Context()
        self.own = Announced()
        self.peer = Announced()
        # Before the peer said what it can take, it must take the little that VCA needs.
        self.peer.data_transfer_size = self.settings.transmit_size
        self.selection: Selection | None = None
        self.vca = b""
        self.offered_versions: list[int] = []
        self.vca_messages: list[bytes] = []
        self.m1m2: Transcript | None = None
        self.l1l2: Transcript | None = None
        self.multi_key_digests = b""
        self.exchanged_since_vca = False
        self.encapsulated_m1m2: Transcript | None = None
        self.cached_state_cleared = False
        self.must_resynch = False
        self.flow: object = None
        self.requester_proof = NO_PROOF

    def reset(self, reason: str = "GET_VERSION") -> None:
        """Forget everything: sessions, transcripts, negotiated state (DSP0274 10.3)."""
        had = self.phase is not Phase.NOT_STARTED
        for session in list(self.sessions.values()):
            self.end_session(session, reason)
        self._forget()
        if had:
            self.events(ConnectionReset(reason))

    def lost(self, reason: str) -> None:
        """The transport is gone: sessions end with it, and nothing can be asked any more."""
        for session in list(self.sessions.values()):
            self.end_session(session, reason)
        if self.phase is not Phase.NOT_STARTED:
            self.phase = Phase.NOT_STARTED
            self.events(ConnectionReset(reason))

    def end_session(self, session: Session, reason: str) -> None:
        """End one session: the only way out of one, it drops every secret."""
        self.sessions.pop(session.session_id, None)
        if self.clear_handshake is session:
            self.clear_handshake = None
        if session.alive:
            session.destroy()
            self.events(SessionEnded(session.session_id, reason))

    @property
    def algorithms(self) -> Selection:
        """What was selected.

        Raises:
            ProtocolViolation: nothing yet.
        """
        if self.selection is None:
            raise ProtocolViolation("algorithms are not negotiated yet", error_code=0x04)
        return self.selection

    # -- negotiation ----------------------------------------------------------------------------

    def set_version(self, version: int) -> None:
        """The version that the first request after VERSION fixed."""
        self.version = version
        self.context = Context(version=version)

    def adopt(self, chosen: Chosen, *, multi_key_req: bool, multi_key_rsp: bool) -> None:
        """Take the selected algorithms into use: sizes for the codec, transcripts.

        Raises:
            ProtocolViolation: there is no hash among them, so nothing can be done with this peer.
            UnsupportedAlgorithm: one of them has no number that we know.
        """
        selection = self.selection = Selection.of(chosen)
        request_size = response_size = 0
        if selection.dhe is not None:
            request_size = response_size = selection.dhe.exchange_size
        elif selection.kem is not None:
            request_size = selection.kem.encapsulation_key_size
            response_size = selection.kem.ciphertext_size
        self.context = Context(
            version=self.version,
            hash_size=selection.base_hash.size,
            signature_size=selection.signature.signature_size if selection.signature else 0,
            req_signature_size=(
                selection.req_signature.signature_size if selection.req_signature else 0
            ),
            measurement_hash_size=(
                selection.measurement_hash.size if selection.measurement_hash else 0
            ),
            exchange_request_size=request_size,
            exchange_response_size=response_size,
            opaque_format=selection.opaque_format,
            handshake_in_the_clear=self.flag(RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP, both=True),
            multi_key_conn_req=multi_key_req,
            multi_key_conn_rsp=multi_key_rsp,
        )
        self.begin_transcripts()

    def note_negotiation(self, request: bytes, response: bytes) -> None:
        """A request and response of the negotiation join VCA."""
        self.vca_messages += (request, response)
        self.vca += request + response

    @property
    def chunks_negotiated(self) -> bool:
        """Both sides can cut large messages into chunks (1.2)."""
        return self.version >= V12 and self.flag(RequesterFlags.CHUNK_CAP, both=True)

    # -- state that outlives the connection (CACHE_CAP) -----------------------------------------

    def snapshot(self) -> NegotiatedState:
        """What was negotiated, for another connection with the same peer.

        Raises:
            ProtocolViolation: algorithms are not negotiated yet.
        """
        return NegotiatedState(
            version=self.version,
            own=replace(self.own),
            peer=replace(self.peer),
            selection=self.algorithms,
            context=replace(self.context, request=None),
            messages=tuple(self.vca_messages),
            offered_versions=tuple(self.offered_versions),
        )

    def restore(self, state: NegotiatedState) -> None:
        """Go on as if this had just been negotiated; whatever there was is forgotten."""
        self.reset("cached state")
        self.version = state.version
        self.own, self.peer = replace(state.own), replace(state.peer)
        self.selection = state.selection
        self.context = replace(state.context)
        self.vca_messages = list(state.messages)
        self.vca = b"".join(state.messages)
        self.offered_versions = list(state.offered_versions)
        self.begin_transcripts()
        self.phase = Phase.NEGOTIATED

    @property
    def most_chunks(self) -> int:
        """How many chunks ChunkSeqNo can count: it has 16 bits before 1.4."""
        return 1 << (32 if self.version >= V14 else 16)

    def large_forms(self, side: Announced) -> bool:
        """Whether the large forms of 1.4 may be used with what one side answers."""
        return self.version >= V14 and bool(side.flags & ResponderFlags.LARGE_RESP_CAP)

    @property
    def patience(self) -> tuple[float, float]:
        """Seconds to wait for an answer, T1 and T2 with the CTExponent the peer announced."""
        exponent = self.peer.ct_exponent
        if exponent != self._patience_for:
            self._patience_for = exponent
            self._patience = self.settings.timing.patience(exponent)
        return self._patience

    def next_handle(self) -> int:
        """A handle for the next large message; they count up and wrap."""
        self._handle = (self._handle + 1) & 0xFF
        return self._handle

    def begin_transcripts(self) -> None:
        """Start the transcripts that follow negotiation (DSP0274, M1/M2 and L1/L2)."""
        algorithm = self.algorithms.base_hash
        keep = self.settings.keep_messages
        self.m1m2 = Transcript(algorithm, self.vca, keep=keep)
        self.l1l2 = self.measurement_transcript()
        # The requester's CHALLENGE_AUTH: the reference leaves VCA out of it before 1.2.
        prefix = self.vca if self.version >= V12 else b""
        self.encapsulated_m1m2 = Transcript(algorithm, prefix, keep=keep)

    def measurement_transcript(self) -> Transcript:
        """A new L1/L2: VCA comes first from 1.2 on."""
        prefix = self.vca if self.version >= V12 else b""
        return Transcript(self.algorithms.base_hash, prefix, keep=self.settings.keep_messages)

    def flag(self, flag: int, *, both: bool = False) -> bool:
        """Whether the peer announced a capability bit, or `both` sides did."""
        mask = int(flag)  # enum's own `&` takes twenty times as long
        return bool(self.peer.flags & mask) and (not both or bool(self.own.flags & mask))

    @property
    def is_requester(self) -> bool:
        """True when we are the requester of this connection."""
        return self.role is Role.REQUESTER

    @property
    def encrypts_records(self) -> bool:
        """Encrypt and authenticate records, or authenticate only (DSP0277 7.1.1)."""
        return self.flag(RequesterFlags.ENCRYPT_CAP, both=True)

    @property
    def requester(self) -> Announced:
        """What the requester announced, whoever of us that is."""
        return self.own if self.role is Role.REQUESTER else self.peer

    @property
    def responder(self) -> Announced:
        """What the responder announced, whoever of us that is."""
        return self.peer if self.role is Role.REQUESTER else self.own
