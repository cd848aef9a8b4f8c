"""What a requester offers to devices: which services, whom it believes, what it has to give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.policy_file import MAX_POLICY_SIZE
from spdmkit.attestation.reference.loader import MAX_FILE_SIZE, read_references
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.errors import ConfigurationError
from spdmkit.messages.dsp0287 import ServiceId, ServiceRequest
from spdmkit.services import content

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.attestation.reference.model import DeviceClaims, Manifest
    from spdmkit.attestation.verifier import Verifier
    from spdmkit.crypto.keys import PrivateKey
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.protocol.requester.sessions import PreSharedKey

__all__ = ["BodyHandler", "Conversation", "Gift", "Provider", "Provisioner", "gifts_from"]


class Provisioner(Protocol):
    """Whoever can put a certificate into a slot: a certificate authority, with its rules."""

    def accepts(self, slot_id: int) -> bool:
        """Whether a slot, 0 to 7, may be written at all."""
        ...

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
        """Have a certificate issued for a device and put it into a slot, or erase the slot.

        Args:
            link: the way to the device, in a session where there is one.
            outside: the way to it outside of any session, to challenge the new slot.
            key: what the device proved on this connection.
            result: what its attestation on this connection found.
            slot_id: 0 to 7, as the device suggested.
            model: certificate model, as the device suggested; 0 leaves it to the authority.
            erase: erase the slot instead.

        Returns:
            What was done, as plain data for reports.

        Raises:
            SpdmError: it was not done.
        """
        ...


BodyHandler: TypeAlias = "Callable[[Link, ServiceRequest], Exchange[Mapping[str, Any]]]"
"""Performs the services of another standards body or vendor; what it did, as plain data."""

Conversation: TypeAlias = "Callable[[Link], Exchange[Mapping[str, Any]]]"
"""What is done in a session that a device only wanted to have (SESSION_ONLY)."""


@dataclass(frozen=True, slots=True)
class Gift:
    """Reference values that can be given to devices.

    Attributes:
        name: the file's name.
        data: a CoRIM, signed or not.
        manifests: what is in it.
        signed: it may be sent outside a session, if the device trusts the signer.
    """

    name: str
    data: bytes
    manifests: tuple[Manifest, ...]
    signed: bool

    def suits(self, claims: DeviceClaims | None) -> bool:
        """Whether something in it is for a device; None is one that proved no claims."""
        return claims is None or any(
            not each.applies_to.disagreement(claims) for each in self.manifests
        )


def gifts_from(paths: Iterable[str | Path]) -> tuple[Gift, ...]:
    """Files of reference values as devices take them.

    Raises:
        ConfigurationError: a file cannot be read, or CoRIM has no words for what is in it.
    """
    found = []
    for path in paths:
        name, data = Path(path).name, read_bounded(path, MAX_FILE_SIZE)
        signed = data[:1] == b"\xd2"
        if signed:
            # Whether the signer is to be trusted is the device's affair.
            manifests = content.unverified_manifests(data)
        else:
            references = read_references(data, SignerCheck(None, 0, True), source=name)
            manifests = tuple(each.manifest for each in references)
        document = content.reference_document(name, data, manifests)
        found.append(Gift(name, document, manifests, signed))
    return tuple(found)


@dataclass(slots=True)
class Provider:
    """What a requester offers. Made once, shared by all conversations.

    Attributes:
        verifier: whom to believe, and how to judge.
        services: the services it provides; those it has no means for are left out by `offered`.
        psks: pre-shared keys for sessions; with several, that whose hint names the device.
        gifts: reference values for devices.
        policy_document: a policy for devices, as `content.policy_document` makes it; empty: none.
        collector_key: signs the evidence and its time, or None.
        provisioner: puts certificates into slots, or None.
        bodies: services of others: (registry, vendor id) -> who performs them.
        default_service: what a device gets that does not know services, and one that asks for
            "any"; None: nothing.
        slot_id: certificate slot where the device suggests none.
        keep_session: keep a session for the next service; otherwise each has its own.
        converse: what to do in a session that a device only wanted to have.
        watch: seconds to wait for events of a device that has any; 0 does not wait, None waits
            until the connection ends.
        poll: seconds between two looks for events.
        most_invalid: invalid requests in a row after which a device is given up.
        most_services: services of one connection.
        clock: seconds since 1970.
    """

    verifier: Verifier
    services: frozenset[ServiceId] = frozenset(ServiceId) - {ServiceId.NONE}
    psks: Sequence[PreSharedKey] = ()
    gifts: tuple[Gift, ...] = ()
    policy_document: bytes = b""
    collector_key: PrivateKey | None = None
    provisioner: Provisioner | None = None
    bodies: Mapping[tuple[int, bytes], BodyHandler] = field(default_factory=dict)
    default_service: ServiceId | None = ServiceId.GET_MEASUREMENTS
    slot_id: int = 0
    keep_session: bool = True
    converse: Conversation | None = None
    watch: float | None = 0.0
    poll: float = 5.0
    most_invalid: int = 4
    most_services: int = 32
    clock: Callable[[], float] = time.time

    @property
    def offered(self) -> frozenset[ServiceId]:
        """The services it has the means for."""
        lacking = {
            ServiceId.PROVISION_CERTIFICATE: self.provisioner is None,
            ServiceId.PROVISION_REFERENCE_MEASUREMENTS: not self.gifts,
            ServiceId.PROVISION_VERIFICATION_POLICY: not self.policy_document,
        }
        able = self.services - {service for service, lacks in lacking.items() if lacks}
        # Whoever provides services should support this one (DSP0287 table 10).
        return able | {ServiceId.ANY_REQUEST}

    @property
    def policy_signed(self) -> bool:
        """The policy may be sent outside a session, if the device trusts the signer."""
        return self.policy_document[:1] == b"\xd2"

    def now(self) -> int:
        """Seconds since 1970."""
        return int(self.clock())

    @staticmethod
    def policy_file(path: str | Path) -> bytes:
        """A policy file in the form a device takes.

        Raises:
            ConfigurationError: it cannot be read, or is no policy.
        """
        return content.policy_document(read_bounded(path, MAX_POLICY_SIZE))

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigurationError: naming them.
        """
        if self.default_service is not None and self.default_service not in self.offered:
            raise ConfigurationError(
                f"the default service {self.default_service.name} is not among those provided",
                hint="name another with --default-service, or none",
            )
