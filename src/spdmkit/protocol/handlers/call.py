"""One request being answered, and what a handler may use to answer it.

A handler is a function of a `Call`. It returns an `Outcome`, or, when it needs slow work such as a
signature, it is a generator that yields `Work` and receives the result. The same handlers answer
requests on the wire (the responder) and encapsulated ones (the requester, DSP0274 10.21).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import Context, ErrorCode, Message
from spdmkit.protocol.actions import Work

if TYPE_CHECKING:
    from spdmkit.crypto.registry import SignatureAlgorithm
    from spdmkit.crypto.signing import SigningContext
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.credentials import Credentials, Signer, Slot
    from spdmkit.protocol.responder.device import Device, Peer
    from spdmkit.protocol.session import Session

__all__ = ["Call", "Handler", "Outcome", "Steps"]

T = TypeVar("T")


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
    return replace(context, request=request, requester_side=requester_side)
