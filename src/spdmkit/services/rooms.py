"""Where a service is performed: outside a session, or in one that suits it (DSP0287 7.1, table 13).

A visit has at most one session at a time. It is kept for the next service when that can use it, and
ended otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from spdmkit.attestation.collect import authenticate
from spdmkit.errors import AuthenticationError, PeerError, SpdmError
from spdmkit.identity import VerifiedChain, safe_text
from spdmkit.messages import (
    V13,
    MeasurementSummaryHashType,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.messages.dsp0287 import ServiceRequest, ServiceState, SessionMethod
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.sessions import end_session, key_exchange, psk_exchange
from spdmkit.protocol.session import SessionKind
from spdmkit.services.requests import is_mutual

if TYPE_CHECKING:
    from spdmkit.attestation.verification import DeviceTrust
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.protocol.requester.certificates import SlotDigests
    from spdmkit.protocol.requester.sessions import OpenedSession, PreSharedKey
    from spdmkit.services.provider import Provider

__all__ = ["PROVISIONED_KEY", "Inapplicable", "Rooms"]

PROVISIONED_KEY: Final = 0xFF
_NIBBLE_KEY: Final = 0xF
MOST_PSK_TRIES: Final = 4
"""Pre-shared keys that are tried with a device whose name matches no hint."""


class Inapplicable(SpdmError):
    """A service request that cannot be performed as it stands.

    Attributes:
        state: the State that says so in the next GET_SERVICE_REQUEST.
    """

    def __init__(self, state: ServiceState, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Rooms:
    """The session of a visit, and what the device proved on its connection.

    Attributes:
        opened: the session, or None.
        hint: hint of the pre-shared key of the session, or empty.
        who: who the device proved to be by a session on this connection, or empty.
    """

    def __init__(self, link: Link, provider: Provider) -> None:
        self.opened: OpenedSession | None = None
        self.hint = b""
        self.who: Mapping[str, object] = {}
        self._link = link
        self._provider = provider
        self._keys: dict[int, ProvenKey] = {}
        self._digests: SlotDigests | None = None
        self._slot_id = 0

    @property
    def current(self) -> Link:
        """The way to the device now: through the session, if there is one."""
        if self.opened is not None and not self.opened.session.established:
            self.opened = None
        return self._link if self.opened is None else self.opened.link

    @property
    def kind(self) -> str:
        """What session there is: "none", "key-exchange" or "psk"."""
        return "none" if self.current.session is None else self.current.session.kind.value

    @property
    def trust(self) -> DeviceTrust:
        """Whom to believe, now."""
        return self._provider.verifier.trust(self._provider.now())

    @property
    def can_key(self) -> bool:
        """Both sides can set up a session by KEY_EXCHANGE."""
        return self._link.connection.flag(ResponderFlags.KEY_EX_CAP, both=True)

    @property
    def can_key_mutually(self) -> bool:
        """And authenticate mutually in it, if the device asks us to."""
        connection = self._link.connection
        able = connection.flag(RequesterFlags.MUT_AUTH_CAP, both=True)
        return self.can_key and able and connection.credentials is not None

    @property
    def can_psk(self) -> bool:
        """Both sides can set up a session by PSK_EXCHANGE, and we have a key."""
        connection = self._link.connection
        ours = connection.own.flags & RequesterFlags.PSK_CAP_MASK
        theirs = connection.peer.flags & ResponderFlags.PSK_CAP_MASK
        return bool(self._provider.psks and ours and theirs)

    @property
    def has_chain(self) -> bool:
        """The device can prove itself by a chain or key that we could believe."""
        trust = self.trust
        if trust.public_key is not None:
            return True
        return trust.anchors is not None and self._link.connection.flag(ResponderFlags.CERT_CAP)

    @property
    def has_events(self) -> bool:
        """The device has events, and both sides have the way for them to come (1.3)."""
        connection = self._link.connection
        told = connection.version >= V13 and connection.flag(ResponderFlags.EVENT_CAP)
        return told and connection.flag(ResponderFlags.ENCAP_CAP, both=True)

    # -- who ------------------------------------------------------------------------------------

    def prove(self, slot_id: int) -> Exchange[ProvenKey]:
        """The verified chain of a slot, or the provisioned key for slot 255.

        Raises:
            Inapplicable: the device has no such slot.
            AuthenticationError: step "chain".
        """
        known = self._keys.get(slot_id)
        if known is not None:
            return known
        if slot_id != PROVISIONED_KEY:
            if not self._link.connection.flag(ResponderFlags.CERT_CAP):
                raise Inapplicable(
                    ServiceState.SESSION_NOT_POSSIBLE, "the device has no certificates"
                )
            if self._digests is None:
                self._digests = yield from get_digests(self._link)
            if not self._digests.slots:
                raise Inapplicable(
                    ServiceState.SESSION_NOT_POSSIBLE, "no certificate slot is provisioned"
                )
            if slot_id not in self._digests.slots:
                raise Inapplicable(ServiceState.SLOT_ID_INVALID, f"slot {slot_id} is empty")
        _, known = yield from authenticate(self._link, self.trust, slot_id, digests=self._digests)
        self._keys[slot_id] = known
        return known

    def forget_slots(self) -> None:
        """What is known of the device's slots is out of date."""
        self._keys.clear()
        self._digests = None

    def slot_of(self, nibble: int) -> int:
        """A slot as the protocol's functions take it.

        Raises:
            Inapplicable: reserved, or a provisioned key that we do not have.
        """
        if nibble == _NIBBLE_KEY:
            if self.trust.public_key is None:
                raise Inapplicable(
                    ServiceState.SLOT_ID_INVALID, "no public key of the device was given to us"
                )
            return PROVISIONED_KEY
        if nibble > 7:
            raise Inapplicable(ServiceState.SLOT_ID_INVALID, f"slot {nibble} does not exist")
        return nibble

    @property
    def default_slot(self) -> int:
        """The slot to use where the device suggests none."""
        return PROVISIONED_KEY if self.trust.public_key is not None else self._provider.slot_id

    # -- sessions -------------------------------------------------------------------------------

    def enter(
        self, request: ServiceRequest, *, mutual: bool, prefer: bool = False
    ) -> Exchange[Link]:
        """The way to the device that suits a request: the session at hand, a new one, or none.

        Args:
            request: its SessionOption says what the device suggests.
            mutual: the service needs a mutually authenticated session.
            prefer: it is better off in one, and can do without.

        Raises:
            Inapplicable: there is no such way.
            AuthenticationError: the device does not prove what a session needs.
        """
        kind = self._choose(request.session_method, mutual=mutual, prefer=prefer)
        if kind is None and self.current.session is None:
            return self._link
        if kind is None or self._suits(request, kind, mutual=mutual):
            return self.current
        yield from self.leave()
        if kind is SessionKind.PSK:
            yield from self._open_psk()
        else:
            yield from self._open_key(request, mutual=mutual)
        return self.current

    def _choose(self, method: int, *, mutual: bool, prefer: bool) -> SessionKind | None:
        by_key = self.can_key_mutually if mutual else self.can_key
        if method == SessionMethod.PSK_EXCHANGE:
            if self.can_psk:
                return SessionKind.PSK
            raise Inapplicable(ServiceState.SESSION_METHOD_INVALID, "PSK_EXCHANGE is not possible")
        if method == SessionMethod.KEY_EXCHANGE:
            if by_key:
                return SessionKind.KEY_EXCHANGE
            what = "with mutual authentication " if mutual else ""
            raise Inapplicable(
                ServiceState.SESSION_METHOD_INVALID, f"KEY_EXCHANGE {what}is not possible"
            )
        wanted = mutual or method == SessionMethod.SESSION
        if not wanted and not prefer:
            return None
        if by_key and (not prefer or self.can_key_mutually):
            return SessionKind.KEY_EXCHANGE
        if self.can_psk:
            return SessionKind.PSK
        if not wanted:
            return None
        if by_key:
            return SessionKind.KEY_EXCHANGE
        raise Inapplicable(
            ServiceState.SESSION_NOT_POSSIBLE, "no session that would do is possible"
        )

    def _suits(self, request: ServiceRequest, kind: SessionKind, *, mutual: bool) -> bool:
        """Whether the session at hand will do."""
        session = self.current.session
        if session is None or (mutual and not is_mutual(self.current)):
            return False
        told = request.session_method
        if told not in (SessionMethod.KEY_EXCHANGE, SessionMethod.PSK_EXCHANGE):
            return True
        same_slot = kind is SessionKind.PSK or self._slot_id == self.slot_of(request.slot_id)
        return session.kind is kind and same_slot

    @property
    def _stays(self) -> bool:
        """Whether a session is to outlive a change of the measurements, to hear of it (10.16)."""
        return self._provider.watch != 0

    def _open_key(self, request: ServiceRequest, *, mutual: bool) -> Exchange[None]:
        told = request.session_method == SessionMethod.KEY_EXCHANGE
        slot_id = self.slot_of(request.slot_id) if told else self.default_slot
        key = yield from self.prove(slot_id)
        demanded = self._provider.verifier.policy.evidence.demand_summary
        summary = MeasurementSummaryHashType.ALL if demanded else MeasurementSummaryHashType.NONE
        self.opened = yield from key_exchange(
            self._link,
            key,
            slot_id=slot_id,
            summary=summary,
            termination_policy=self._stays,
        )
        self._slot_id = slot_id
        self.who = _identity(key)
        if mutual and not is_mutual(self.current):
            yield from self.leave()
            raise Inapplicable(
                ServiceState.SESSION_METHOD_INVALID,
                "the device did not ask who we are in KEY_EXCHANGE",
            )

    def _open_psk(self) -> Exchange[None]:
        problem: SpdmError | None = None
        for psk in (yield from self._candidates()):
            try:
                self.opened = yield from psk_exchange(
                    self._link, psk, termination_policy=self._stays
                )
            except (AuthenticationError, PeerError) as error:
                problem = error
                continue
            self.hint = psk.hint
            if not self.who:
                text = psk.hint.decode("utf-8", "backslashreplace")
                self.who = {"psk_hint": safe_text(text)}
            return
        raise problem or AuthenticationError("session", "no pre-shared key for this device")

    def _candidates(self) -> Exchange[list[PreSharedKey]]:
        """The keys to try: the only one, the one named like the device, else the first few."""
        keys = list(self._provider.psks)
        if len(keys) > 1 and self.has_chain:
            key = yield from self.prove(self.default_slot)
            identity = getattr(key, "identity", None)
            for name in getattr(identity, "device_names", ()):
                named = {name.text.encode(), name.serial_number.encode()}
                found = [psk for psk in keys if psk.hint in named]
                if found:
                    return found
        return keys[:MOST_PSK_TRIES]

    def leave(self) -> Exchange[None]:
        """End the session, if there is one."""
        if self.current.session is not None:
            link = self.current
            self.opened = None
            yield from end_session(link)
        self.opened = None
        self.hint = b""


def _identity(key: ProvenKey) -> Mapping[str, object]:
    if isinstance(key, VerifiedChain):
        return key.identity.as_dict()
    return {"spki_sha256": key.public_key.spki_sha256().hex()}
