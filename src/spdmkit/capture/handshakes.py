"""The handshakes of sessions, as a listener verifies them (DSP0274 10.16 to 10.19; TH, TH1, TH2).

Signature and verify data of a message are checked when it comes, over the transcript so far, and
then join it. The first verify data also shows which of several secrets is the session's.
"""

from __future__ import annotations

from spdmkit.capture.channels import Channel
from spdmkit.capture.events import Check, CheckKind, ConversationEvent, Party, Verdict
from spdmkit.capture.exchanges import Assertions, Request
from spdmkit.capture.keylog import SessionRandom
from spdmkit.capture.negotiated import Negotiation
from spdmkit.capture.proofs import Proofs
from spdmkit.capture.sessions import SessionFollower
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    Digests,
    Finish,
    FinishRsp,
    KeyExchange,
    KeyExchangeRsp,
    Message,
    PskExchange,
    PskExchangeRsp,
    PskFinish,
    PskFinishRsp,
)
from spdmkit.protocol.transcript import Transcript

__all__ = ["Handshakes"]

_MAX_SESSIONS = 256


class Handshakes:
    """The sessions of one connection, from their first message to their end.

    Attributes:
        sessions: sessions by id, as far as they were seen to begin.
        clear: the session whose handshake goes on outside of it.
        multi_key_digests: the DIGESTS response that joins their transcripts ("D"), or empty.
        count: how many sessions were seen to begin.
    """

    def __init__(
        self, proofs: Proofs, negotiation: Negotiation, assertions: Assertions, channel: Channel
    ) -> None:
        """No session yet."""
        self.sessions: dict[int, SessionFollower] = {}
        self.clear: SessionFollower | None = None
        self.multi_key_digests = b""
        self.count = 0
        self._proofs = proofs
        self._evidence = proofs.evidence
        self._verify = proofs.evidence.verify
        self._negotiation = negotiation
        self._assertions = assertions
        self._channel = channel

    def begin(self) -> None:
        """GET_VERSION voids all sessions (DSP0274 10.2)."""
        self.sessions.clear()
        self.clear = None
        self.multi_key_digests = b""

    def end(self, session: SessionFollower) -> None:
        """A session is over."""
        self.sessions.pop(session.session_id, None)
        session.drop_keys()
        if self.clear is session:
            self.clear = None

    def encapsulated(self, message: Message, raw: bytes, session: SessionFollower | None) -> None:
        """A response of the requester to an encapsulated request; a first DIGESTS is "ED"."""
        owner = session or self.clear
        if owner is None or owner.established or owner.encapsulated_seen:
            return
        owner.encapsulated_seen = True
        if isinstance(message, Digests) and self._negotiation.context.multi_key_conn_req:
            owner.encapsulated_digests = raw

    # -- by key exchange ------------------------------------------------------------------------

    def key_exchange(
        self, request: Request, message: KeyExchangeRsp, event: ConversationEvent
    ) -> None:
        """KEY_EXCHANGE_RSP: its signature, and verify data unless the handshake is in the clear."""
        asked = request.message
        if not isinstance(asked, KeyExchange):
            return
        session = self._new(
            asked.req_session_id,
            message.rsp_session_id,
            SessionRandom(asked.random_data, message.random_data),
            event,
        )
        if session.clear_handshake:
            self.clear = session
        digest, th1 = self._begin_transcript(session, request, asked.slot_id, message, event)
        if self._verify:
            event.checks.append(
                self._proofs.signature(
                    Party.RESPONDER,
                    asked.slot_id,
                    message.signature,
                    SigningContext.RESPONDER_KEY_EXCHANGE_RSP,
                    digest,
                )
            )
            self._assertions.summary(request, message.measurement_summary_hash, event)
        session.find_secrets(self._evidence.secrets, th1)
        if not session.clear_handshake:
            self._verify_data(session, Party.RESPONDER, message.verify_data, event)

    def _begin_transcript(
        self,
        session: SessionFollower,
        request: Request,
        slot: int,
        message: KeyExchangeRsp,
        event: ConversationEvent,
    ) -> tuple[bytes | None, bytes | None]:
        """Start TH; gives what the signature covers and TH1, None where the capture misses some."""
        selection, vca = self._negotiation.selection, self._negotiation.vca
        chain = self._proofs.chain_digest(Party.RESPONDER, slot)
        if selection is None or vca is None or chain is None:
            return None, None
        transcript = session.transcript = Transcript(selection.base_hash, vca)
        cut = message.signature_offset(len(event.raw))
        transcript.append(self.multi_key_digests, chain, request.raw, event.raw[:cut])
        digest = transcript.digest()
        self._proofs.transcript_hash("th_curr_hash", digest, event)
        transcript.append(message.signature)
        th1 = transcript.digest()
        self._proofs.transcript_hash("th1_hash", th1, event)
        return digest, th1

    def finish(
        self, message: Finish, event: ConversationEvent, session: SessionFollower | None
    ) -> None:
        """FINISH proves the requester, before its response comes."""
        session = session or self.clear
        if session is None:
            event.notes.append("the beginning of this session is not in the capture")
            return
        event.session_id = session.session_id
        raw, transcript = event.raw, session.transcript
        digest = None
        slot = message.req_slot_id
        if transcript is not None and message.signature_included:
            chain = self._proofs.chain_digest(Party.REQUESTER, slot)
            if chain is None:
                session.transcript = None
            else:
                cut = message.signature_offset(len(raw))
                transcript.append(session.encapsulated_digests, chain, raw[:cut])
                digest = transcript.digest()
                transcript.append(message.signature)
        elif transcript is not None:
            transcript.append(raw[: message.verify_data_offset(len(raw))])
        self._verify_data(session, Party.REQUESTER, message.verify_data, event)
        if digest is not None:
            self._proofs.transcript_hash("th_curr_hash", digest, event)
        if message.signature_included and self._verify:
            context = SigningContext.REQUESTER_FINISH
            event.checks.append(
                self._proofs.signature(Party.REQUESTER, slot, message.signature, context, digest)
            )

    def finish_rsp(self, request: Request, message: FinishRsp, event: ConversationEvent) -> None:
        """FINISH_RSP ends the handshake, with verify data when it went in the clear."""
        session = request.session or self.clear
        if session is None:
            return
        event.session_id = session.session_id
        if session.transcript is not None:
            cut = message.verify_data_offset(len(event.raw))
            session.transcript.append(event.raw[:cut])
        if session.clear_handshake:
            self._verify_data(session, Party.RESPONDER, message.verify_data, event)
            self.clear = None
        self._establish(session, event)

    # -- by pre-shared key ----------------------------------------------------------------------

    def psk_exchange(
        self, request: Request, message: PskExchangeRsp, event: ConversationEvent
    ) -> None:
        """PSK_EXCHANGE_RSP: its verify data; without a context the handshake is over."""
        asked = request.message
        if not isinstance(asked, PskExchange):
            return
        session = self._new(
            asked.req_session_id,
            message.rsp_session_id,
            SessionRandom(asked.requester_context, message.responder_context),
            event,
            psk=True,
        )
        selection, vca = self._negotiation.selection, self._negotiation.psk_vca
        th1 = None
        if selection is not None and vca is not None:
            cut = message.verify_data_offset(len(event.raw))
            session.transcript = Transcript(selection.base_hash, vca)
            session.transcript.append(request.raw, event.raw[:cut])
            th1 = session.transcript.digest()
            self._proofs.transcript_hash("th1_hash", th1, event)
        session.find_secrets(self._evidence.secrets, th1)
        self._verify_data(session, Party.RESPONDER, message.verify_data, event)
        if self._verify:
            self._assertions.summary(request, message.measurement_summary_hash, event)
        if not message.responder_context:
            self._establish(session, event)  # there is no PSK_FINISH (DSP0274 10.18)

    def psk_finish(
        self, message: PskFinish, event: ConversationEvent, session: SessionFollower | None
    ) -> None:
        """PSK_FINISH proves the requester, before its response comes."""
        if session is None:
            event.notes.append("PSK_FINISH outside of a session")
            return
        if session.transcript is not None:
            cut = message.verify_data_offset(len(event.raw))
            session.transcript.append(event.raw[:cut])
        self._verify_data(session, Party.REQUESTER, message.verify_data, event)

    def psk_finish_rsp(
        self,
        request: Request,
        message: PskFinishRsp,  # noqa: ARG002  # handlers have one shape
        event: ConversationEvent,
    ) -> None:
        """PSK_FINISH_RSP ends the handshake."""
        session = request.session
        if session is None:
            return
        if session.transcript is not None:
            session.transcript.append(event.raw)
        self._establish(session, event)

    # -- both -----------------------------------------------------------------------------------

    def _new(
        self,
        requester_half: int,
        responder_half: int,
        random: SessionRandom,
        event: ConversationEvent,
        *,
        psk: bool = False,
    ) -> SessionFollower:
        session = SessionFollower(
            requester_half | responder_half << 16,
            self._negotiation,
            self._channel,
            random=random,
            psk=psk,
            derived=self._evidence.sink,
            keys=self._evidence.keys,
        )
        self.count += 1
        event.session_id = session.session_id
        self.sessions[session.session_id] = session
        while len(self.sessions) > _MAX_SESSIONS:
            del self.sessions[next(iter(self.sessions))]
        session.l1l2 = self._assertions.measurement_transcript()
        return session

    def _verify_data(
        self, session: SessionFollower, party: Party, told: bytes, event: ConversationEvent
    ) -> None:
        """Verify data of one side over the transcript so far, which it then joins."""
        transcript = session.transcript
        name = "ResponderVerifyData" if party is Party.RESPONDER else "RequesterVerifyData"
        verdict, reason = Verdict.UNVERIFIABLE, "not all that it covers is in the capture"
        if transcript is not None:
            if self._verify or not session.settled:
                verdict, reason = session.confirm(
                    party, transcript.digest(), told, self._evidence.secrets
                )
            transcript.append(told)
        if self._verify:
            event.checks.append(Check(CheckKind.MAC, name, verdict, reason))

    def _establish(self, session: SessionFollower, event: ConversationEvent) -> None:
        """The handshake is over."""
        th2 = None
        if session.transcript is not None:
            th2 = session.transcript.digest()
            self._proofs.transcript_hash("th2_hash", th2, event)
        try:
            session.start_application(th2)
        except SpdmError as error:
            session.problem = str(error)
