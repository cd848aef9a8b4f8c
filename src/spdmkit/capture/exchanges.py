"""What one exchange means for the proofs of a connection: identity, measurements, endpoint info.

Each handler takes a request and its response, extends or cuts the transcripts (DSP0274, M1/M2,
L1/L2, IL1/IL2), and adds to the response's event what could be checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from spdmkit.capture.events import Check, CheckKind, ConversationEvent, Party, Verdict
from spdmkit.capture.negotiated import Negotiation
from spdmkit.capture.proofs import Proofs, compare
from spdmkit.capture.sessions import SessionFollower
from spdmkit.crypto.signing import SigningContext
from spdmkit.messages import (
    V12,
    Certificate,
    ChallengeAuth,
    Digests,
    EndpointInfo,
    GetCertificate,
    MeasurementOperation,
    Measurements,
    MeasurementSummaryHashType,
    Message,
    RequestCode,
)
from spdmkit.protocol.transcript import Transcript

__all__ = ["Assertions", "Request"]

_KEEPS_M1M2 = frozenset(
    (RequestCode.GET_DIGESTS, RequestCode.GET_CERTIFICATE, RequestCode.CHALLENGE)
)
_MAX_SUMMARIES = 16
_RECORD_OFFSET = 8
"""Where MeasurementRecord begins in MEASUREMENTS; its length is in the three bytes before."""


@dataclass(slots=True)
class Request:
    """A request that waits for its response.

    Attributes:
        code: its code.
        message: it; None when it was malformed.
        raw: its bytes, without what followed it.
        session: the session it is in.
    """

    code: int
    message: Message | None
    raw: bytes
    session: SessionFollower | None


class Assertions:
    """What the two sides assert about themselves outside of handshakes."""

    def __init__(self, proofs: Proofs, negotiation: Negotiation) -> None:
        """Nothing was asserted yet."""
        self._proofs = proofs
        self._verify = proofs.evidence.verify
        self._negotiation = negotiation
        self._blocks: tuple[bytes, int] | None = None
        self._summaries: list[tuple[bytes, int]] = []
        self._m1m2: Transcript | None = None
        self._l1l2: Transcript | None = None
        self._encapsulated: Transcript | None = None

    def begin(self) -> None:
        """Start transcripts anew: algorithms were negotiated, or everything was voided."""
        self._blocks = None
        self._summaries.clear()
        self._encapsulated = None
        self._m1m2 = self.transcript(vca=True)
        self._l1l2 = self.measurement_transcript()

    def transcript(self, *, vca: bool) -> Transcript | None:
        """A transcript that begins with VCA or with nothing; None when what it takes is missing."""
        selection = self._negotiation.selection
        prefix = self._negotiation.vca if vca else b""
        if selection is None or prefix is None or not self._verify:
            return None
        return Transcript(selection.base_hash, prefix)

    def measurement_transcript(self) -> Transcript | None:
        """A new L1/L2: VCA comes first from 1.2 on."""
        return self.transcript(vca=self._negotiation.context.version >= V12)

    # -- what cuts transcripts ------------------------------------------------------------------

    def asked(self, code: int, session: SessionFollower | None) -> None:
        """A request comes: transcripts of which it is no part end."""
        if code == RequestCode.GET_ENCAPSULATED_REQUEST and session is None:
            self._encapsulated = self.measurement_transcript()  # VCA by the same rule
        if session is not None:
            if session.l1l2 is not None and code != RequestCode.GET_MEASUREMENTS:
                session.l1l2.reset()
            return
        if self._l1l2 is not None and code != RequestCode.GET_MEASUREMENTS:
            self._l1l2.reset()
        if self._m1m2 is not None and (code not in _KEEPS_M1M2 or code == RequestCode.GET_DIGESTS):
            self._m1m2.reset()

    def refused(self, request: Request) -> None:
        """A request was answered with ERROR."""
        if request.code == RequestCode.GET_MEASUREMENTS:
            transcript = request.session.l1l2 if request.session is not None else self._l1l2
            if transcript is not None:
                transcript.reset()

    # -- identity -------------------------------------------------------------------------------

    def digests(self, request: Request, message: Digests, event: ConversationEvent) -> None:
        """DIGESTS of the responder."""
        self._proofs.stores[Party.RESPONDER].digests = message.by_slot()
        if request.session is None and self._m1m2 is not None:
            self._m1m2.append(request.raw, event.raw)

    def certificate(self, request: Request, message: Certificate, event: ConversationEvent) -> None:
        """CERTIFICATE of the responder."""
        if request.session is None and self._m1m2 is not None:
            self._m1m2.append(request.raw, event.raw)
        self._portion(request, message, event)

    def _portion(self, request: Request, message: Certificate, event: ConversationEvent) -> None:
        asked = request.message
        selection = self._negotiation.selection
        if not isinstance(asked, GetCertificate) or selection is None:
            return
        if asked.slot_size_requested or not message.cert_chain:
            return
        chain = self._proofs.stores[event.sender].portion(
            message.slot_id,
            asked.offset,
            message.cert_chain,
            message.remainder_length,
            selection.base_hash,
        )
        if chain is not None and self._verify:
            event.checks += self._proofs.chain_completed(
                event.sender, message.slot_id, chain, event.time_ns
            )

    def encapsulated(
        self, request: Request | None, message: Message, event: ConversationEvent
    ) -> None:
        """A response of the requester to an encapsulated request."""
        if isinstance(message, Digests):
            self._proofs.stores[Party.REQUESTER].digests = message.by_slot()
        if request is None or request.message is None:
            return
        if isinstance(message, Certificate):
            self._portion(request, message, event)
        transcript = self._encapsulated
        if request.session is not None or transcript is None:
            return
        if isinstance(message, ChallengeAuth):
            self._challenge_auth(request, message, event, transcript)
        elif isinstance(message, (Digests, Certificate)):
            transcript.append(request.raw, event.raw)

    def challenge_auth(
        self, request: Request, message: ChallengeAuth, event: ConversationEvent
    ) -> None:
        """CHALLENGE_AUTH of the responder."""
        if self._verify:
            self._challenge_auth(request, message, event, self._m1m2)
            self.summary(request, message.measurement_summary_hash, event)

    def _challenge_auth(
        self,
        request: Request,
        message: ChallengeAuth,
        event: ConversationEvent,
        transcript: Transcript | None,
    ) -> None:
        """CHALLENGE_AUTH of either side: its chain, and its signature over M1/M2."""
        party, slot = event.sender, message.slot_id
        digest = None
        if transcript is not None:
            cut = message.signature_offset(len(event.raw))
            digest = transcript.digest(request.raw, event.raw[:cut])
            transcript.reset()
            if party is Party.RESPONDER:
                self._proofs.transcript_hash("m1m2_hash", digest, event)
        known = self._proofs.chain_digest(party, slot)
        if known is None:
            reason = f"the certificate chain of slot {slot} is not in the capture"
            event.checks.append(
                Check(CheckKind.HASH, "CertChainHash", Verdict.UNVERIFIABLE, reason)
            )
        else:
            event.checks.append(
                compare("CertChainHash", message.cert_chain_hash, known, f"slot {slot}")
            )
        context = SigningContext.RESPONDER_CHALLENGE_AUTH
        if party is Party.REQUESTER:
            context = SigningContext.REQUESTER_CHALLENGE_AUTH
        event.checks.append(self._proofs.signature(party, slot, message.signature, context, digest))

    # -- measurements ---------------------------------------------------------------------------

    def measurements(
        self, request: Request, message: Measurements, event: ConversationEvent
    ) -> None:
        """MEASUREMENTS, signed or not."""
        if not self._verify:
            return
        asked: Any = request.message
        session = request.session
        transcript = session.l1l2 if session is not None else self._l1l2
        if asked.signature_requested:
            digest = None
            if transcript is not None:
                cut = message.signature_offset(len(event.raw))
                digest = transcript.digest(request.raw, event.raw[:cut])
                transcript.reset()
                self._proofs.transcript_hash("l1l2_hash", digest, event)
            context = SigningContext.RESPONDER_MEASUREMENTS
            event.checks.append(
                self._proofs.signature(
                    Party.RESPONDER, message.slot_id, message.signature, context, digest
                )
            )
        elif transcript is not None:
            transcript.append(request.raw, event.raw)
        everything = asked.measurement_operation == MeasurementOperation.ALL
        if everything and not asked.raw_bit_stream_requested:
            size = int.from_bytes(event.raw[_RECORD_OFFSET - 3 : _RECORD_OFFSET], "little")
            blocks = event.raw[_RECORD_OFFSET : _RECORD_OFFSET + size]
            self._blocks = (blocks, event.number)
            for told, number in self._summaries:
                self._compare_summary(told, f"MeasurementSummaryHash of message {number}", event)
            self._summaries.clear()

    def summary(self, request: Request, told: bytes, event: ConversationEvent) -> None:
        """A MeasurementSummaryHash over all measurements, against the blocks that were read."""
        kind = getattr(request.message, "measurement_summary_hash_type", 0)
        if kind != MeasurementSummaryHashType.ALL or not told:
            return
        if self._blocks is not None:
            self._compare_summary(told, "MeasurementSummaryHash", event)
        else:
            self._summaries.append((told, event.number))
            del self._summaries[:-_MAX_SUMMARIES]

    def _compare_summary(self, told: bytes, name: str, event: ConversationEvent) -> None:
        selection = self._negotiation.selection
        if selection is None or self._blocks is None:
            return
        blocks, number = self._blocks
        check = compare(
            name, told, selection.base_hash.digest(blocks), f"the blocks in message {number}"
        )
        if check.verdict is Verdict.FAILED and self._negotiation.context.version < V12:
            # 1.0 and 1.1 leave open what exactly is hashed.
            check = replace(check, verdict=Verdict.UNVERIFIABLE)
        event.checks.append(check)

    def endpoint_info(
        self, request: Request, message: EndpointInfo, event: ConversationEvent
    ) -> None:
        """ENDPOINT_INFO of either side; its signature covers VCA and this exchange."""
        asked: Any = request.message
        if not self._verify or not asked.signature_requested:
            return
        transcript = self.transcript(vca=True)
        digest = None
        if transcript is not None:
            cut = message.signature_offset(len(event.raw))
            digest = transcript.digest(request.raw, event.raw[:cut])
        party = event.sender
        context = SigningContext.RESPONDER_ENDPOINT_INFO
        if party is Party.REQUESTER:
            context = SigningContext.REQUESTER_ENDPOINT_INFO
        event.checks.append(
            self._proofs.signature(party, message.slot_id, message.signature, context, digest)
        )
