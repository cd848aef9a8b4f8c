"""What a device wants of a requester, one service at a time, and how it corrects itself (7.1).

A `WishList` belongs to one connection. Each GET_SERVICE_REQUEST gets the next wish, or, when its
State says that the last one was wrong, the same wish corrected. What cannot be corrected is given
up, with the reason.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from spdmkit.messages import Registry
from spdmkit.messages.dsp0287 import ServiceId, ServiceRequest, ServiceState, SessionMethod
from spdmkit.services.catalogue import SERVICES, MutualSession

__all__ = ["Abilities", "Ending", "Fate", "Wish", "WishList"]

OUT_OF_BAND: Final = 0xE
"""ServiceParam of GET_MEASUREMENTS: the requester decides about the slot (table 15)."""
PROVISIONED_KEY: Final = 0xF
_SLOTS: Final = range(8)


@dataclass(frozen=True, slots=True)
class Wish:
    """A service that a device wants.

    Attributes:
        service_id: the service, for DMTF's own a `ServiceId`.
        session_method: the session wanted for it.
        slot_id: slot suggested for KEY_EXCHANGE.
        parameter: ServiceParam.
        registry, vendor_id: whose service it is.
        vendor_parameters: the bytes after ServiceParam, of services that are not DMTF's.
    """

    service_id: int
    session_method: SessionMethod = SessionMethod.NO_PREFERENCE
    slot_id: int = 0
    parameter: int = 0
    registry: int = Registry.DMTF
    vendor_id: bytes = b""
    vendor_parameters: bytes = bytes(5)

    @classmethod
    def of(
        cls,
        service_id: ServiceId,
        *,
        session_method: SessionMethod | None = None,
        slot_id: int = 0,
        parameter: int | None = None,
    ) -> Wish:
        """A DMTF service, with what its row of table 15 needs where nothing is said."""
        if session_method is None:
            needs = SERVICES[service_id].session is MutualSession.YES
            wants = needs or service_id is ServiceId.SESSION_ONLY
            session_method = SessionMethod.SESSION if wants else SessionMethod.NO_PREFERENCE
        if parameter is None:
            parameter = _PARAMETERS.get(service_id, 0)
        return cls(service_id, session_method, slot_id, parameter)

    @property
    def is_dmtf(self) -> bool:
        """It is one of the services of DSP0287."""
        return self.registry == Registry.DMTF and not self.vendor_id

    @property
    def label(self) -> str:
        """What commands call it."""
        if self.is_dmtf and self.service_id in SERVICES:
            return SERVICES[ServiceId(self.service_id)].word
        return f"{self.registry:#04x}/{self.vendor_id.hex() or '-'}/{self.service_id:#04x}"

    def message(self) -> ServiceRequest:
        """SERVICE_REQUEST that asks for it."""
        return ServiceRequest(
            session_method=self.session_method,
            slot_id=self.slot_id if self.session_method is SessionMethod.KEY_EXCHANGE else 0,
            registry=self.registry,
            vendor_id=self.vendor_id,
            service_id=self.service_id,
            service_param=self.parameter,
            vendor_parameters=b"" if self.is_dmtf else self.vendor_parameters,
        )


_PARAMETERS: Final = {ServiceId.PROVISION_CERTIFICATE: 1, ServiceId.GET_MEASUREMENTS: OUT_OF_BAND}
"""ServiceParam where nothing is said: slot 1; the requester decides."""


_RECEIVED: Final = frozenset(
    {
        ServiceId.VERIFY_MEASUREMENTS,
        ServiceId.PROVISION_REFERENCE_MEASUREMENTS,
        ServiceId.PROVISION_VERIFICATION_POLICY,
    }
)
"""Services by which the device receives something: it knows when they are done."""


class Fate(enum.Enum):
    """What became of a wish."""

    FULFILLED = "fulfilled"
    REFUSED = "refused"
    """The requester said that it cannot be, and nothing we could correct helped."""
    UNANSWERED = "unanswered"
    """The conversation ended before it was known."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A wish and its fate.

    Attributes:
        wish: as it was wanted, before any correction.
        fate: what became of it.
        reason: why it was refused.
    """

    wish: Wish
    fate: Fate
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device has to make a corrected request from.

    Attributes:
        slots: certificate slots that are provisioned.
        key_exchange, psk: how it can set up a session.
    """

    slots: tuple[int, ...] = ()
    key_exchange: bool = False
    psk: bool = False


class WishList:
    """The wishes of one connection, in order.

    Attributes:
        endings: what became of the wishes that are settled, in order.
    """

    __slots__ = (
        "_abilities",
        "_asked",
        "_before",
        "_corrections",
        "_slot_content",
        "_waiting",
        "_was",
        "endings",
    )

    def __init__(
        self,
        wishes: Iterable[Wish],
        abilities: Abilities,
        slot_content: Callable[[int], object] = lambda _slot: None,
    ) -> None:
        """A list of which nothing was asked yet.

        Args:
            wishes: in order.
            abilities: what corrections are made from.
            slot_content: something that differs when a certificate slot was written.
        """
        self._slot_content = slot_content
        self._before: dict[int, object] = {}
        self._waiting = list(wishes)
        self._abilities = abilities
        self._asked: Wish | None = None
        self._was: Wish | None = None
        self._corrections: list[Wish] = []
        self.endings: list[Ending] = []

    def answer(self, state: int, services: Collection[int]) -> ServiceRequest:
        """SERVICE_REQUEST for a GET_SERVICE_REQUEST.

        Args:
            state: its State.
            services: the DMTF services that the requester provides.
        """
        if self._asked is not None:
            if state == ServiceState.NEXT:
                self._completed()
            else:
                self._correct(state)
        while self._asked is None and self._waiting:
            self._begin(self._waiting.pop(0), services)
        if self._asked is None:
            return ServiceRequest(service_id=ServiceId.NONE)
        return self._asked.message()

    def received(self, service_id: ServiceId) -> None:
        """The requester has done what this service is about, which it need not say again."""
        if self._asked is not None and self._asked.is_dmtf and self._asked.service_id == service_id:
            self._end(Fate.FULFILLED)

    def close(self, *, in_good_order: bool, went_on: bool = True) -> Sequence[Ending]:
        """The conversation is over; a requester may close it once the last service is done.

        Args:
            in_good_order: it closed the connection, and nothing went wrong.
            went_on: it sent anything after it was told the last wish; otherwise it cannot have
                done it, unless the wish was for nothing in particular.

        Returns:
            The endings, with those that were not known before.
        """
        asked = self._asked
        if asked is not None and in_good_order:
            nothing = asked.is_dmtf and asked.service_id == ServiceId.ANY_REQUEST
            if went_on or nothing:
                self._completed()
        self._end(Fate.UNANSWERED)
        self.endings += [Ending(wish, Fate.UNANSWERED) for wish in self._waiting]
        self._waiting.clear()
        return self.endings

    # -- one wish -------------------------------------------------------------------------------

    def _begin(self, wish: Wish, services: Collection[int]) -> None:
        if wish.is_dmtf and wish.service_id not in services:
            reason = "the requester does not provide it"
            self.endings.append(Ending(wish, Fate.REFUSED, reason))
            return
        self._asked = self._was = wish
        self._before = {slot: self._slot_content(slot) for slot in _SLOTS}
        self._corrections = []

    def _completed(self) -> None:
        """The requester says that it has done what was asked; where we would know, we look."""
        asked = self._asked
        if asked is None:
            return
        if asked.is_dmtf and asked.service_id in _RECEIVED:
            self._end(Fate.UNANSWERED, "nothing was received")
        elif asked.is_dmtf and asked.service_id == ServiceId.PROVISION_CERTIFICATE:
            slot = asked.parameter & 0xF
            written = self._slot_content(slot) != self._before.get(slot)
            reason = "" if written else "the slot was not written"
            self._end(Fate.FULFILLED if written else Fate.UNANSWERED, reason)
        else:
            self._end(Fate.FULFILLED)

    def _end(self, fate: Fate, reason: str = "") -> None:
        if self._was is not None:
            self.endings.append(Ending(self._was, fate, reason))
        self._asked = self._was = None

    def _correct(self, state: int) -> None:
        """The last SERVICE_REQUEST was wrong: the next try, or none."""
        asked = self._asked
        if asked is None:
            return
        known = state in ServiceState.__members__.values()
        reason = _REASONS[ServiceState(state)] if known else f"State {state:#04x} is reserved"
        self._corrections.append(asked)
        for candidate in _corrected(asked, state, self._abilities):
            if candidate not in self._corrections:
                self._asked = candidate
                return
        self._end(Fate.REFUSED, reason)


def _corrected(wish: Wish, state: int, abilities: Abilities) -> list[Wish]:
    """What a wish may be corrected to, best first; some may have been tried already."""
    if state == ServiceState.SESSION_METHOD_INVALID:
        possible = [
            (abilities.psk, SessionMethod.PSK_EXCHANGE),
            (abilities.key_exchange, SessionMethod.KEY_EXCHANGE),
            (True, SessionMethod.SESSION),
            (True, SessionMethod.NO_PREFERENCE),
        ]
        return [replace(wish, session_method=method) for able, method in possible if able]
    if state == ServiceState.SLOT_ID_INVALID:
        others = [replace(wish, slot_id=slot) for slot in abilities.slots]
        return [*others, replace(wish, session_method=SessionMethod.SESSION)]
    if state == ServiceState.SERVICE_PARAM_INVALID and wish.is_dmtf:
        if wish.service_id == ServiceId.GET_MEASUREMENTS:
            return [replace(wish, parameter=OUT_OF_BAND)]
        if wish.service_id == ServiceId.PROVISION_CERTIFICATE:
            # Another slot would be another wish; the model and Erase are ours to leave out.
            return [replace(wish, parameter=wish.parameter & 0xF)]
        return [replace(wish, parameter=0)]
    # A service that is not there, or needs a session that cannot be, is not to be had.
    return []


_REASONS: Final = {
    ServiceState.NEXT: "",
    ServiceState.SESSION_METHOD_INVALID: "no session that both sides can set up",
    ServiceState.SLOT_ID_INVALID: "no slot that the requester accepts",
    ServiceState.SERVICE_ID_NOT_AVAILABLE: "the requester does not provide it",
    ServiceState.SESSION_NOT_POSSIBLE: "it needs a secure session, which is not possible",
    ServiceState.SERVICE_PARAM_INVALID: "no parameter that the requester accepts",
}
