"""One request being answered, and what a handler may use to answer it.

A handler is a function of a `Call`. It returns an `Outcome`, or, when it needs slow work such as a
signature, it is a generator that yields `Work` and receives the result. The same handlers answer
requests on the wire (the responder) and encapsulated ones (the requester, DSP0274 10.21).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import AuthenticationError, ProtocolViolation, SpdmError
from spdmkit.messages import Context, ErrorCode, KeyUsage, Message
from spdmkit.protocol.actions import Work
from spdmkit.protocol.credentials import PROVISIONED_KEY_SLOT

if TYPE_CHECKING:
    from spdmkit.crypto.registry import SignatureAlgorithm
    from spdmkit.crypto.signing import Signer
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.credentials import Credentials, Slot
    from spdmkit.protocol.responder.device import Device, Peer
    from spdmkit.protocol.session import Session
    from spdmkit.protocol.transcript import Transcript

__all__ = ["Call", "Handler", "Outcome", "SessionOver", "Steps"]

_ENCAPSULATION = 4
"""Bytes of DELIVER_ENCAPSULATED_RESPONSE before the response that it carries."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(slots=True)
class Outcome:
    """A response, encoded, and what happens once it is on its way.

    Attributes:
        response: the SPDM message.
        then: run after the response was sealed with the keys of its own phase: switching keys,
            ending a session.
    """

    response: bytes
    then: Callable[[], None] | None = None


class SessionOver(ProtocolViolation):
    """A request so wrong that its session ends with the ERROR that answers it.

    Attributes:
        session: the session.
    """

    def __init__(self, session: Session, reason: SpdmError) -> None:
        if isinstance(reason, ProtocolViolation):
            code, data = reason.error_code, reason.error_data
        elif isinstance(reason, AuthenticationError):
            code, data = int(ErrorCode.DECRYPT_ERROR), 0
        else:
            code, data = int(ErrorCode.INVALID_REQUEST), 0
        super().__init__(str(reason), error_code=code, error_data=data)
        self.session = session


Steps: TypeAlias = Generator[Work, Any, Outcome]
Handler: TypeAlias = Callable[["Call"], "Outcome | Steps"]


@dataclass(slots=True)
class Call:
    """A request, decoded, with everything around it.

    Attributes:
        connection: the connection it came on.
        session: the session it came in (or belongs to, for a handshake in the clear), or None.
        request: the decoded request.
        raw: its bytes, exactly its own length.
        context: the codec's context for the response.
        credentials: slots and signers of our side.
        device: the device we speak for; None when a requester answers an encapsulated request.
        peer: what the other side proved so far.
    """

    connection: Connection
    session: Session | None
    request: Message
    raw: bytes
    context: Context
    credentials: Credentials
    device: Device | None
    peer: Peer

    @property
    def encapsulated(self) -> bool:
        """True when we are the requester and answer an encapsulated request."""
        return self.connection.is_requester

    def answer(self, response: Message) -> Outcome:
        """An outcome that only sends `response`."""
        return Outcome(response.encode(self.context))

    def typed(self, kind: type[M]) -> M:
        """The request as what the table says it is."""
        if not isinstance(self.request, kind):
            raise ProtocolViolation(f"{self.request.name} reached a handler of {kind.__name__}")
        return self.request

    @property
    def large_forms(self) -> bool:
        """We announced that we answer with the large forms of 1.4."""
        return self.connection.large_forms(self.connection.own)

    def refuse_large_form(self) -> None:
        """Refuse a request in a large form that we did not announce.

        Raises:
            ProtocolViolation: InvalidRequest.
        """
        if not self.large_forms:
            raise ProtocolViolation("a large form without LARGE_RESP_CAP")

    def room_for_response(self, header: int) -> int:
        """How much data fits a response with such a header, in chunks when that is possible."""
        connection = self.connection
        peer = connection.peer
        if self.encapsulated:
            header += _ENCAPSULATION
        if connection.chunks_negotiated:
            return peer.max_message_size - header
        return min(peer.data_transfer_size, connection.settings.transmit_size) - header

    # -- transcripts ----------------------------------------------------------------------------

    @property
    def challenge_transcript(self) -> Transcript:
        """M1/M2 as our CHALLENGE_AUTH signs it."""
        connection = self.connection
        transcript = connection.encapsulated_m1m2 if self.encapsulated else connection.m1m2
        if transcript is None:
            raise ProtocolViolation(
                "algorithms are not negotiated", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        return transcript

    @property
    def challenge_context(self) -> SigningContext:
        """What our CHALLENGE_AUTH is signed as."""
        if self.encapsulated:
            return SigningContext.REQUESTER_CHALLENGE_AUTH
        return SigningContext.RESPONDER_CHALLENGE_AUTH

    @property
    def endpoint_info_context(self) -> SigningContext:
        """What our ENDPOINT_INFO is signed as."""
        if self.encapsulated:
            return SigningContext.REQUESTER_ENDPOINT_INFO
        return SigningContext.RESPONDER_ENDPOINT_INFO

    @property
    def measurement_transcript(self) -> Transcript:
        """L1/L2 of the session, or of the connection outside of any."""
        transcript = self.connection.l1l2 if self.session is None else self.session.l1l2
        if transcript is None:
            raise ProtocolViolation(
                "algorithms are not negotiated", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        return transcript

    def note_digests(self, response: bytes) -> None:
        """GET_DIGESTS and DIGESTS enter M1/M2 anew, and as D the session transcripts (1.3)."""
        connection = self.connection
        if self.encapsulated:
            self._note_encapsulated(response, restart=True)
            session = self.session
            if session is not None and self.context.multi_key_conn_req:
                first = not session.encapsulated_digests and not session.encapsulation_began
                session.encapsulated_digests = response if first else session.encapsulated_digests
        elif self.session is None and connection.m1m2 is not None:
            connection.m1m2.reset()
            connection.m1m2.append(self.raw, response)
            first = not connection.exchanged_since_vca and not connection.multi_key_digests
            if first and self.context.multi_key_conn_rsp:
                connection.multi_key_digests = response

    def note_for_challenge(self, response: bytes) -> None:
        """GET_CERTIFICATE and CERTIFICATE enter M1/M2; only messages outside sessions do."""
        if self.encapsulated:
            self._note_encapsulated(response, restart=False)
        elif self.session is None and self.connection.m1m2 is not None:
            self.connection.m1m2.append(self.raw, response)

    def _note_encapsulated(self, response: bytes, *, restart: bool) -> None:
        transcript = self.connection.encapsulated_m1m2
        if self.session is None and transcript is not None:
            if restart:
                transcript.reset()
            transcript.append(self.raw, response)

    def the_session(self) -> Session:
        """The session of this request.

        Raises:
            ProtocolViolation: there is none.
        """
        if self.session is None:
            raise ProtocolViolation(
                f"{self.request.name} needs a session", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        return self.session

    def established_session(self) -> Session:
        """The session of this request, in its application phase.

        Raises:
            ProtocolViolation: there is none (SessionRequired), or it is not that far.
        """
        session = self.session
        if session is None:
            raise ProtocolViolation(
                f"{self.request.name} needs a session", error_code=ErrorCode.SESSION_REQUIRED
            )
        if not session.established:
            raise ProtocolViolation(
                f"{self.request.name} in a handshake", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        return session

    @contextlib.contextmanager
    def ending_session_on_failure(self, session: Session) -> Iterator[None]:
        """Whatever goes wrong in a finisher ends its session, with the ERROR that names it."""
        try:
            yield
        except SpdmError as error:
            raise SessionOver(session, error) from error

    def the_device(self) -> Device:
        """The device.

        Raises:
            ProtocolViolation: there is none behind this endpoint (UnsupportedRequest).
        """
        if self.device is None:
            raise ProtocolViolation(
                f"{self.request.name} is not supported here",
                error_code=ErrorCode.UNSUPPORTED_REQUEST,
                error_data=self.request.code,
            )
        return self.device

    # -- signing --------------------------------------------------------------------------------

    @property
    def signature_algorithm(self) -> SignatureAlgorithm:
        """The algorithm our side signs with.

        Raises:
            ProtocolViolation: none was negotiated (UnexpectedRequest).
        """
        selection = self.connection.algorithms
        algorithm = selection.req_signature if self.encapsulated else selection.signature
        if algorithm is None:
            raise ProtocolViolation(
                "no signature algorithm was negotiated for this side",
                error_code=ErrorCode.UNSUPPORTED_REQUEST,
                error_data=self.request.code,
            )
        return algorithm

    def slot(self, slot_id: int) -> Slot:
        """A provisioned slot whose key fits the negotiated algorithm.

        Raises:
            ProtocolViolation: there is no such slot (InvalidRequest).
        """
        slot = self.credentials.usable(self.signature_algorithm).get(slot_id)
        if slot is None:
            raise ProtocolViolation(f"slot {slot_id} holds no chain for the negotiated algorithm")
        return slot

    def signing_key(self, slot_id: int, usage: KeyUsage) -> tuple[Signer, bytes]:
        """The signer of a slot, and the hash that stands for its chain or key.

        Args:
            slot_id: 0 to 7, or 0xFF for the key that was provisioned to the peer.
            usage: what it is to be used for.

        Raises:
            ProtocolViolation: no such slot, or its key is not for that (InvalidRequest).
        """
        algorithm = self.connection.algorithms.base_hash
        if slot_id == PROVISIONED_KEY_SLOT:
            key = self.credentials.provisioned_key
            if key is None:
                raise ProtocolViolation("no public key of ours was provisioned")
            return key.signer, algorithm.digest(key.public_key.spki())
        slot = self.slot(slot_id)
        if self.context.multi_key_conn and not slot.key_usage & usage:
            raise ProtocolViolation(f"the key of slot {slot_id} is not for {usage.name}")
        return slot.signer, slot.digest(algorithm)

    def sign(
        self, signer: Signer, context: SigningContext, digest: bytes
    ) -> Generator[Work, Any, bytes]:
        """Have a transcript's digest signed (DSP0274 15); slow, so it is handed out."""
        algorithm = self.signature_algorithm
        version = self.connection.version
        hash_algorithm = self.connection.algorithms.base_hash

        def call() -> bytes | Awaitable[bytes]:
            return signer.sign(
                algorithm, version=version, context=context, hash=hash_algorithm, digest=digest
            )

        signature: bytes = yield Work(call)
        if len(signature) != algorithm.signature_size:
            raise ProtocolViolation(
                f"the signer gave {len(signature)} bytes for {algorithm.name}",
                error_code=ErrorCode.UNSPECIFIED,
            )
        return signature


def slow(call: Callable[[], T | Awaitable[T]]) -> Generator[Work, Any, T]:
    """Have any slow call run by the driver, from within a handler."""
    result: T = yield Work(call)
    return result


def for_request(context: Context, request: Message | None, *, requester_side: bool) -> Context:
    """The codec's context for answering `request` from one side."""
    return context.answering(request, requester_side=requester_side)
