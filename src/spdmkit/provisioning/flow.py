"""Provisioning as one conversation: attest slot 0, open a session, install, prove.

The session in which the certificate is asked for and stored is that with the device that was just
attested: whoever stands between can neither put another device's key into the certificate nor see
another certificate into the slot.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spdmkit import __version__
from spdmkit.attestation.collect import Collected, Wanted, collect
from spdmkit.attestation.outcome import AttestationResult, Verdict
from spdmkit.errors import AuthenticationError, ConfigurationError, TransportError
from spdmkit.identity import Step, VerifiedChain
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.sessions import PreSharedKey, end_session, psk_exchange
from spdmkit.provisioning.install import (
    Installation,
    Order,
    certify,
    confirm,
    erase,
    order_for,
)

if TYPE_CHECKING:
    from spdmkit.attestation.verifier import Verifier
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.requester.sessions import OpenedSession
    from spdmkit.provisioning.authority import CertificateAuthority

__all__ = ["Access", "Attested", "Job", "erase_slot", "provision", "resume"]


class Access(enum.Enum):
    """Through what the device is written to."""

    SESSION = "session"
    """A session by KEY_EXCHANGE with the attested key; mutually authenticated where both can."""
    PSK = "psk"
    """A session by pre-shared key, on the connection on which the device was attested."""
    TRUSTED_ENVIRONMENT = "trusted-environment"
    """No session: on a production line, where nobody else is on the wire."""


@dataclass(frozen=True, slots=True)
class Job:
    """How to provision.

    Attributes:
        verifier: whom to believe, and what the device should be.
        access: through what to write.
        psk: the key for `Access.PSK`.
        strict: the device has to be trusted; otherwise authentic is enough.
        clock: the time.
        known_keys: target -> key that answered there before.
    """

    verifier: Verifier
    access: Access = Access.SESSION
    psk: PreSharedKey | None = None
    strict: bool = False
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)

    def __post_init__(self) -> None:
        if (self.access is Access.PSK) != (self.psk is not None):
            raise ConfigurationError("a pre-shared key goes with access by pre-shared key")


@dataclass(slots=True)
class Attested:
    """A device that was attested in slot 0, and the way to write to it.

    Attributes:
        result: the appraisal.
        chain: its verified chain.
        key_pair_id: KeyPairID of slot 0, where the connection has several keys; else 0.
        inside: where to write: the session's link, or the connection's own.
        collected: the evidence.
    """

    result: AttestationResult
    chain: VerifiedChain
    key_pair_id: int
    inside: Link
    collected: Collected


def provision(
    link: Link, authority: CertificateAuthority, order: Order, job: Job
) -> Exchange[tuple[AttestationResult, Installation]]:
    """Attest a device, and put a certificate of the authority into a slot.

    Args:
        link: a fresh connection, whose settings keep messages.
        authority: who issues.
        order: what is wanted.
        job: how.

    Returns:
        The appraisal of slot 0, and the installation; `awaits_reset` when the device shows the
        chain only after its next reset (`resume` then does what is left).

    Raises:
        ResetRequired: GET_CSR has to be repeated with this tag after a reset.
        AuthenticationError: the device is not who it should be, not what it should be (step
            "appraisal"), or a step of `certify` and `confirm` failed.
        SpdmError: as `Link.ask`.
    """
    device = yield from _attest(link, job, order.target)
    named = order_for(order, link, device.collected.digests)
    made = yield from certify(
        device.inside, authority, device.chain, named, attested_key_pair=device.key_pair_id
    )
    try:
        yield from _leave(device)
    except TransportError:
        if not made.awaits_reset:  # else it may well have begun to reset itself
            raise
    if not made.awaits_reset:
        yield from confirm(link, authority, made, job.clock())
    return device.result, made


def resume(
    link: Link, authority: CertificateAuthority, made: Installation, job: Job
) -> Exchange[None]:
    """After the reset that a device wanted: attest it again, and see that it uses the chain.

    Raises:
        AuthenticationError: as `provision`.
        SpdmError: as `Link.ask`.
    """
    device = yield from _attest(link, job, made.order.target)
    yield from _leave(device)
    yield from confirm(link, authority, made, job.clock())


def erase_slot(
    link: Link, slot_id: int, job: Job, target: str = ""
) -> Exchange[tuple[AttestationResult, tuple[Step, ...]]]:
    """Attest a device, and empty one of its slots 1 to 7 (1.3).

    Raises:
        ResetRequired: it takes effect with the next reset.
        AuthenticationError, SpdmError: as `provision`.
    """
    if not 1 <= slot_id <= 7:
        raise ConfigurationError(f"slot {slot_id} is not to be erased; 1 to 7 can be")
    device = yield from _attest(link, job, target)
    steps = yield from erase(device.inside, slot_id)
    yield from _leave(device)
    return device.result, steps


_NEEDED: Final = {True: (Verdict.TRUSTED,), False: (Verdict.TRUSTED, Verdict.NOT_APPRAISED)}


def _attest(link: Link, job: Job, target: str) -> Exchange[Attested]:
    now = int(job.clock().timestamp())
    wanted = Wanted(
        session=job.access is Access.SESSION,
        target=target,
        transport=target.partition(":")[0],
        collector=f"spdmkit {__version__}",
        now=now,
    )
    trust = job.verifier.trust(now)
    collected = yield from collect(link, trust, wanted, keep_session=True)
    verified = collected.verified(trust)
    result = job.verifier.appraise(verified, now, nonces=verified.nonces, target=target)
    if result.verdict not in _NEEDED[job.strict]:
        why = "; ".join(result.reasons) or "there is nothing to judge it by"
        raise AuthenticationError("appraisal", f"the device is {result.verdict}: {why}")
    chain = collected.proof.key
    if not isinstance(chain, VerifiedChain):
        raise AuthenticationError("chain", "a provisioned key has no identity to certify")
    opened: OpenedSession | None = collected.session
    if job.psk is not None:
        opened = yield from psk_exchange(link, job.psk)
    digests = collected.digests
    slot_0 = digests.slots.get(0) if digests is not None else None
    key_pair_id = (slot_0.key_pair_id or 0) if slot_0 is not None else 0
    inside = link if opened is None else opened.link
    return Attested(result, chain, key_pair_id, inside, collected)


def _leave(device: Attested) -> Exchange[None]:
    if device.inside.session is not None:
        yield from end_session(device.inside)
