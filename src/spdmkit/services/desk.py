"""The device's side of the services: it says what it wants, and takes what it is given (clause 7).

    desk = ServiceDesk(device, wishes)
    device.register_vendor(desk)

Table 9 is enforced here again, whatever the requester thought; what is not guaranteed by itself is
taken only from those that `device.toml` names in `may_set_reference`. What was taken is on the disk
before it is acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spdmkit.device.permission import describe, require
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError, ProtocolViolation
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import V12, Context, ErrorCode, RequestCode, ResponderFlags
from spdmkit.messages.dsp0287 import (
    GetServiceRequest,
    ServiceId,
    ServicePayload,
    SetPolicy,
    SetReference,
    SubId,
    VerificationResults,
    is_service,
)
from spdmkit.protocol.responder.device import VendorMessage
from spdmkit.services import content
from spdmkit.services.catalogue import refusal
from spdmkit.services.holdings import Entry, Holdings, StoredResults
from spdmkit.services.wishes import Abilities, Ending, Wish, WishList

if TYPE_CHECKING:
    from spdmkit.device.folder import FolderDevice
    from spdmkit.protocol.responder.device import Peer
    from spdmkit.wire import Struct

__all__ = ["Received", "ServiceDesk"]

MOST_LISTS: Final = 4096
"""Connections whose wishes are kept; the one that was silent longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Received:
    """Something that a requester gave.

    Attributes:
        what: VERIFICATION_RESULTS, SET_REFERENCE or SET_POLICY.
        given_by: who.
        detail: for people.
    """

    what: SubId
    given_by: str
    detail: str


class ServiceDesk:
    """Answers service requests for one device; shared by its connections and threads.

    Attributes:
        holdings: what the device was given.
    """

    def __init__(
        self,
        device: FolderDevice,
        wishes: Sequence[Wish] = (),
        *,
        on_received: Callable[[Received], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A desk for a device.

        Args:
            device: the device; `register_vendor(desk)` makes it use the desk.
            wishes: what each requester is asked for that asks us.
            on_received: told of what was given, once it is on the disk; in any thread.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: a file with roots of signers, or what is held, is damaged.
        """
        self.holdings = Holdings(device.folder)
        self._device = device
        self._wishes = tuple(wishes)
        self._on_received = on_received
        self._clock = clock
        self._lock = threading.Lock()
        # What is taken depends on what is held: one after another, however long a disk takes.
        self._taking = threading.Lock()
        self._lists: OrderedDict[str, WishList] = OrderedDict()
        self._frames: dict[str, Callable[[], int]] = {}
        self._marks: dict[str, int] = {}
        trust = device.configuration.trust
        self._reference_anchors = _anchors(
            device, trust.reference_signers, Purpose.REFERENCE_SIGNER
        )
        self._policy_anchors = _anchors(device, trust.policy_signers, Purpose.POLICY_SIGNER)

    def __call__(self, message: VendorMessage, peer: Peer) -> VendorMessage | None:
        """Answer a vendor-defined request that is one of the services; None for others.

        Raises:
            ProtocolViolation: not valid here, malformed, or not permitted.
        """
        if not is_service(message.standard_id, message.vendor_id, message.payload):
            return None
        context = Context(version=peer.version or V12)
        payload = ServicePayload.decode(message.payload, context)
        try:
            sub_id = SubId(payload.sub_id)
            handler = _HANDLERS[sub_id]
        except (ValueError, KeyError):
            raise ProtocolViolation(
                f"SubRequestID {payload.sub_id:#04x} is unknown",
                error_code=ErrorCode.UNSUPPORTED_REQUEST,
                error_data=RequestCode.VENDOR_DEFINED_REQUEST,
            ) from None
        answer = handler(self, payload.content(context), peer, context)
        response = ServicePayload.of(sub_id.response, answer, context)
        return VendorMessage(message.standard_id, b"", response.encode(context))

    # -- wishes ---------------------------------------------------------------------------------

    def want(self, wishes: Sequence[Wish]) -> None:
        """What connections that begin from now on are asked for."""
        with self._lock:
            self._wishes = tuple(wishes)

    def follow(self, connection: str, frames: Callable[[], int]) -> None:
        """Have a look at how many frames a connection has received, until `close`.

        Args:
            connection: its name, as endpoints are told it.
            frames: gives their number.
        """
        with self._lock:
            self._frames[connection] = frames

    def close(self, connection: str, *, in_good_order: bool) -> Sequence[Ending]:
        """A connection is over.

        Args:
            connection: its name, as endpoints are told it.
            in_good_order: the requester closed it, and nothing went wrong.

        Returns:
            What became of the wishes.
        """
        with self._lock:
            found = self._lists.pop(connection, None) or self._new_list()
            frames, mark = self._frames.pop(connection, None), self._marks.pop(connection, 0)
            went_on = frames is None or frames() > mark
            return list(found.close(in_good_order=in_good_order, went_on=went_on))

    def _new_list(self) -> WishList:
        device = self._device
        flags = device.configuration.flags
        abilities = Abilities(
            tuple(sorted(device.credentials.slots)),
            bool(flags & ResponderFlags.KEY_EX_CAP),
            bool(flags & ResponderFlags.PSK_CAP_MASK and device.configuration.pre_shared_key),
        )
        return WishList(self._wishes, abilities, self._slot_content)

    def _slot_content(self, slot_id: int) -> object:
        slot = self._device.credentials.slots.get(slot_id)
        return None if slot is None else slot.certificates

    def _list_of(self, connection: str) -> WishList:
        found = self._lists.get(connection)
        if found is None:
            found = self._lists[connection] = self._new_list()
            if len(self._lists) > MOST_LISTS:
                self._lists.popitem(last=False)
        self._lists.move_to_end(connection)
        return found

    # -- the four requests ----------------------------------------------------------------------

    def _get_service_request(
        self,
        request: Struct | None,
        peer: Peer,
        _context: Context,
    ) -> Struct | None:
        if not isinstance(request, GetServiceRequest):
            raise ProtocolViolation("GET_SERVICE_REQUEST is empty")
        name = peer.connection
        with self._lock:
            if name in self._frames:
                self._marks[name] = self._frames[name]()
            return self._list_of(name).answer(request.state, request.services)

    def _verification_results(
        self, request: Struct | None, peer: Peer, _context: Context
    ) -> Struct | None:
        if not isinstance(request, VerificationResults):
            raise ProtocolViolation("VERIFICATION_RESULTS is empty")
        _admit(SubId.VERIFICATION_RESULTS, peer, guaranteed=False)
        stored = StoredResults(describe(peer), request.results, self._now)
        self._store(lambda: self.holdings.put_results(stored))
        self._done(peer, SubId.VERIFICATION_RESULTS, ServiceId.VERIFY_MEASUREMENTS, "results")
        return None

    def _set_reference(self, request: Struct | None, peer: Peer, context: Context) -> Struct | None:
        _demand_version(peer)
        if not isinstance(request, SetReference):
            raise ProtocolViolation("SET_REFERENCE is empty")
        documents = content.understood(request.reference, context, content.REFERENCE_TAGS)
        with self._taking:
            held = self.holdings.reference_versions
            given = [
                content.read_given_reference(data, self._reference_anchors, self._now, held)
                for data in documents
            ]
            self._admit_given(SubId.SET_REFERENCE, given, peer)
            entries = self._entries(given, peer)
            self._store(lambda: self.holdings.put_references(entries))
        names = ", ".join(name for each in given for name in each.versions)
        self._done(peer, SubId.SET_REFERENCE, ServiceId.PROVISION_REFERENCE_MEASUREMENTS, names)
        return None

    def _set_policy(self, request: Struct | None, peer: Peer, context: Context) -> Struct | None:
        _demand_version(peer)
        if not isinstance(request, SetPolicy):
            raise ProtocolViolation("SET_POLICY is empty")
        documents = content.understood(request.policy, context, content.POLICY_TAGS)
        with self._taking:
            held = self.holdings.policy_versions
            given = [
                content.read_given_policy(data, self._policy_anchors, self._now, held)
                for data in documents
            ]
            self._admit_given(SubId.SET_POLICY, given, peer)
            # Several are versions of one policy: the highest is the one to follow.
            best = max(given, key=lambda each: each.policy.version)
            entry = self._entries([best], peer)[0]
            self._store(lambda: self.holdings.put_policy(entry))
        name = best.policy.identifier
        self._done(peer, SubId.SET_POLICY, ServiceId.PROVISION_VERIFICATION_POLICY, name)
        return None

    # -- what they share ------------------------------------------------------------------------

    @property
    def _now(self) -> int:
        return int(self._clock())

    def _admit_given(self, sub_id: SubId, given: Sequence[content.Given], peer: Peer) -> None:
        """Take what guarantees itself from anyone, the rest from those who may."""
        doubts = [each.doubt for each in given if each.doubt]
        _admit(sub_id, peer, guaranteed=not doubts, doubt="; ".join(doubts))
        if doubts:
            trust = self._device.configuration.trust
            require(
                peer,
                trust.may_set_reference,
                sub_id.name,
                trusted_environment=trust.trusted_environment,
            )

    def _entries(self, given: Sequence[content.Given], peer: Peer) -> list[Entry]:
        who = describe(peer)
        return [Entry(each.data, each.versions, who, each.signer, self._now) for each in given]

    @staticmethod
    def _store(write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, ConfigurationError) as error:
            raise ProtocolViolation(
                f"could not be stored: {error}", error_code=ErrorCode.UNSPECIFIED
            ) from error

    def _done(self, peer: Peer, sub_id: SubId, service: ServiceId, detail: str) -> None:
        with self._lock:
            found = self._lists.get(peer.connection)
            if found is not None:
                found.received(service)
        if self._on_received is not None:
            self._on_received(Received(sub_id, describe(peer), detail))


_Handler = Callable[[ServiceDesk, "Struct | None", "Peer", Context], "Struct | None"]


def _refusing(handler: _Handler) -> _Handler:
    """Errors of reading what was given, as the ERROR to answer with."""

    def guarded(
        desk: ServiceDesk, request: Struct | None, peer: Peer, context: Context
    ) -> Struct | None:
        try:
            return handler(desk, request, peer, context)
        except (AuthenticationError, ConfigurationError) as error:
            raise ProtocolViolation(str(error), error_code=ErrorCode.INVALID_REQUEST) from error
        except DecodeError as error:
            raise ProtocolViolation(str(error), error_code=ErrorCode.INVALID_REQUEST) from error

    return guarded


_HANDLERS: Final[dict[SubId, _Handler]] = {
    SubId.GET_SERVICE_REQUEST: _refusing(ServiceDesk._get_service_request),
    SubId.VERIFICATION_RESULTS: _refusing(ServiceDesk._verification_results),
    SubId.SET_REFERENCE: _refusing(ServiceDesk._set_reference),
    SubId.SET_POLICY: _refusing(ServiceDesk._set_policy),
}


def _admit(sub_id: SubId, peer: Peer, *, guaranteed: bool, doubt: str = "") -> None:
    """Table 9, as the responder enforces it."""
    refused = refusal(
        sub_id,
        session=peer.session_id is not None,
        mutual=peer.authenticated,
        guaranteed=guaranteed,
    )
    if refused is None:
        return
    error = refused.error
    if error is ErrorCode.SESSION_REQUIRED and peer.version < V12:
        error = ErrorCode.UNEXPECTED_REQUEST
    why = f" ({doubt})" if doubt else ""
    raise ProtocolViolation(f"{refused.reason}{why}", error_code=error)


def _demand_version(peer: Peer) -> None:
    if peer.version < V12:
        raise ProtocolViolation(
            "SET_REFERENCE and SET_POLICY need SPDM 1.2 (DSP0287 7.3, 7.4)",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=RequestCode.VENDOR_DEFINED_REQUEST,
        )


def _anchors(device: FolderDevice, names: Sequence[str], purpose: Purpose) -> TrustAnchors | None:
    if not names:
        return None
    return TrustAnchors.from_files([device.folder / name for name in names], purpose)
