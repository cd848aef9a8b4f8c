"""The authority as a service: a device that dialled in asks for a certificate (DSP0287 table 15).

`ServiceProvisioner` is what `services.provider.Provider` takes as its provisioner. The visit has
attested the device on this very connection, and opened the session in which it is written to.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from spdmkit.attestation.outcome import AttestationResult, Verdict
from spdmkit.errors import AuthenticationError, ResetRequired, SpdmError, TransportError
from spdmkit.identity import VerifiedChain
from spdmkit.protocol.actions import perform
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.provisioning.install import (
    Installation,
    Order,
    certify,
    confirm,
    erase,
    order_for,
)

if TYPE_CHECKING:
    from spdmkit.identity import Step
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.provisioning.authority import CertificateAuthority

__all__ = ["ServiceProvisioner"]

MOST_WAITING: Final = 10_000
"""Devices whose next reset is waited for; the oldest are forgotten, and asked anew."""


@dataclass(frozen=True, slots=True)
class ServiceProvisioner:
    """Puts certificates of an authority into the slots of devices that ask for them.

    Attributes:
        authority: who issues, and to whom.
        strict: devices have to be trusted; otherwise authentic is enough.
        consent_to_slot_0: slot 0 may be written.
        trusted_environment: devices may be written to without a session: on a production line.
        clock: the time.
        waiting: (key, slot) -> what waits for the device's next reset: an installation to be
            confirmed, or the tag of a signing request. It lasts as long as this object.
    """

    authority: CertificateAuthority
    strict: bool = False
    consent_to_slot_0: bool = False
    trusted_environment: bool = False
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    waiting: OrderedDict[tuple[bytes, int], Installation | int] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )

    def accepts(self, slot_id: int) -> bool:
        """Whether a slot may be written at all."""
        return 1 <= slot_id <= 7 or (slot_id == 0 and self.consent_to_slot_0)

    def provision(
        self,
        link: Link,
        outside: Link,
        key: ProvenKey,
        result: AttestationResult,
        *,
        slot_id: int,
        model: int = 0,
        erase: bool = False,
    ) -> Exchange[Mapping[str, Any]]:
        """As `services.provider.Provisioner.provision`; the model is that of the profile.

        Raises:
            AuthenticationError: the device may not be issued anything, and the step says why.
            SpdmError: as `install.certify` and `install.confirm`.
        """
        del model  # the profile of the authority decides, whatever the device would like
        device = self._checked(link, key, result)
        place = (device.public_key.spki_sha256(), slot_id)
        if erase:
            self.waiting.pop(place, None)
            return (yield from _erase(link, slot_id))
        waits = self.waiting.get(place, 0)
        if isinstance(waits, Installation):
            return (yield from self._resume(outside, place, waits))
        order = Order(slot_id, consent_to_slot_0=self.consent_to_slot_0, tracking_tag=waits)
        digests = None
        if link.connection.context.multi_key_conn_rsp:
            digests = yield from get_digests(outside)
        order = order_for(replace(order, target=result.target), link, digests)
        try:
            made = yield from certify(
                link, self.authority, device, order, attested_key_pair=order.key_pair_id
            )
        except ResetRequired as error:
            self._remember(place, error.tracking_tag)
            return {"slot": slot_id, "awaits_reset": True, "steps": []}
        except TransportError:
            raise  # what is waited for still is
        except SpdmError:
            self.waiting.pop(place, None)
            raise
        self.waiting.pop(place, None)
        if made.awaits_reset:
            self._remember(place, made)
        else:
            yield from confirm(outside, self.authority, made, self.clock())
        return _told(made)

    def _resume(
        self, outside: Link, place: tuple[bytes, int], made: Installation
    ) -> Exchange[Mapping[str, Any]]:
        """The device was given its certificate before its reset: see that it uses it now."""
        try:
            yield from confirm(outside, self.authority, made, self.clock())
        except (ResetRequired, TransportError):
            raise  # it is waited for still
        except SpdmError as error:
            words = str(error)
            self.waiting.pop(place, None)
            yield from perform(lambda: self.authority.failed(made.issued, words))
            raise
        self.waiting.pop(place, None)
        made.awaits_reset = False
        return _told(made)

    def _remember(self, place: tuple[bytes, int], what: Installation | int) -> None:
        self.waiting[place] = what
        if len(self.waiting) > MOST_WAITING:
            self.waiting.popitem(last=False)

    def _checked(self, link: Link, key: ProvenKey, result: AttestationResult) -> VerifiedChain:
        needed = (Verdict.TRUSTED,) if self.strict else (Verdict.TRUSTED, Verdict.NOT_APPRAISED)
        if result.verdict not in needed:
            why = "; ".join(result.reasons) or "there is nothing to judge it by"
            raise AuthenticationError("appraisal", f"the device is {result.verdict}: {why}")
        if not isinstance(key, VerifiedChain):
            raise AuthenticationError("chain", "a provisioned key has no identity to certify")
        if link.session is None and not self.trusted_environment:
            raise AuthenticationError(
                "session",
                "outside a trusted environment a slot is written in a session only",
                hint="give a --mutual identity or a --psk that the device knows",
            )
        return key


def _erase(link: Link, slot_id: int) -> Exchange[Mapping[str, Any]]:
    try:
        steps = yield from erase(link, slot_id)
    except ResetRequired:
        return {"slot": slot_id, "erased": True, "awaits_reset": True, "steps": []}
    return {"slot": slot_id, "erased": True, "awaits_reset": False, "steps": _shown(steps)}


def _told(made: Installation) -> Mapping[str, Any]:
    return {
        "slot": made.order.slot_id,
        "serial": f"{made.issued.serial:X}",
        "subject": made.issued.certificate.subject,
        "profile": made.issued.profile.name,
        "awaits_reset": made.awaits_reset,
        "steps": _shown(made.steps),
    }


def _shown(steps: list[Step] | tuple[Step, ...]) -> list[dict[str, str]]:
    return [
        {"name": each.name, "outcome": str(each.outcome), "detail": each.detail} for each in steps
    ]
