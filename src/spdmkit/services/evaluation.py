"""A device judges itself by the reference values and the policy it was given.

It is attested as any other device would be, by a requester in the same process, so that what is
judged is what it would tell a verifier. Its own root is the trust anchor: a device believes itself.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from spdmkit.attestation.appraiser import appraise, refused
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.collect import Wanted, collect, collect_psk
from spdmkit.attestation.policy import DEFAULT_POLICY, FreshnessRule, IdentityRule, Policy
from spdmkit.attestation.reference.store import RejectedReference
from spdmkit.attestation.verification import DeviceTrust, VerifiedEvidence
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError, TransportError
from spdmkit.identity import Certificate, Purpose, TrustAnchors
from spdmkit.messages import ResponderFlags
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.endpoint import RequesterEndpoint
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.settings import Settings, requester_settings
from spdmkit.services import content

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.attestation.reference.loader import Reference
    from spdmkit.device.folder import FolderDevice
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.endpoint import Endpoint
    from spdmkit.services.holdings import Holdings

__all__ = ["evaluate_itself", "run_in_process"]

T = TypeVar("T")

_MOST_STEPS: Final = 100_000


def evaluate_itself(device: FolderDevice, holdings: Holdings, now: int) -> AttestationResult:
    """The result of a device's judgement of itself.

    Args:
        device: the device.
        holdings: what it was given; without reference values the verdict is "not-appraised".
        now: seconds since 1970.

    Raises:
        ConfigurationError: the device can prove itself neither by a certificate nor by a key.
        SpdmError: it does not answer its own questions.
    """
    policy = _policy(holdings, now)
    references, rejected = _references(device, holdings, now)
    expectations = Expectations(now)
    try:
        evidence = _evidence(device, now)
    except (AuthenticationError, DecodeError) as error:
        return refused(error, expectations, policy=policy)
    expectations = replace(expectations, nonces=frozenset(evidence.nonces))
    return appraise(evidence, expectations, policy=policy, references=references, rejected=rejected)


def _evidence(device: FolderDevice, now: int) -> VerifiedEvidence:
    flags = device.configuration.flags
    if flags & ResponderFlags.CERT_CAP and device.credentials.slots:
        slot_id, slot = min(device.credentials.slots.items())
        root = Certificate(slot.certificates[0])
        trust = DeviceTrust(now, TrustAnchors([root], Purpose.DEVICE))
        wanted = Wanted(slot=slot_id, target="itself", now=now)
        collected = run_in_process(device, lambda link: collect(link, trust, wanted))
        return collected.verified(trust)
    shared = next(iter(device.shared_keys()), None)
    if shared is None:
        raise ConfigurationError("the device has neither a certificate nor a pre-shared key")
    psk, wanted = PreSharedKey(shared.hint, shared.key), Wanted(target="itself")
    found = run_in_process(device, lambda link: collect_psk(link, psk, wanted))
    return found.verified(wanted, now)


def _policy(holdings: Holdings, now: int) -> Policy:
    entry = holdings.policy
    if entry is None:
        return DEFAULT_POLICY
    # Its signer was verified when it was taken; whether it is still valid the appraisal says.
    policy = content.read_given_policy(entry.data, None, now, {}).policy
    # What is judged is collected this very moment, and the device needs no proof of its own chain.
    rule = IdentityRule(expected=policy.identity.expected)
    return replace(policy, freshness=FreshnessRule(), identity=rule)


def _references(
    device: FolderDevice, holdings: Holdings, now: int
) -> tuple[tuple[Reference, ...], tuple[RejectedReference, ...]]:
    trust = device.configuration.trust
    files = [device.folder / name for name in trust.reference_signers]
    anchors = TrustAnchors.from_files(files, Purpose.REFERENCE_SIGNER) if files else None
    references: list[Reference] = []
    rejected: list[RejectedReference] = []
    for entry in holdings.references:
        believed = anchors if entry.signer else None
        try:
            given = content.read_given_reference(entry.data, believed, now, {})
        except AuthenticationError as error:
            rejected.append(RejectedReference(", ".join(entry.versions), error))
            continue
        references += given.references
    return tuple(references), tuple(rejected)


def run_in_process(device: FolderDevice, make: Callable[[Link], Exchange[T]]) -> T:
    """Run an exchange against a device in this process, without a socket.

    Args:
        device: the device.
        make: makes the exchange for the link to it.

    Raises:
        SpdmError: what the exchange raised.
    """
    requester = RequesterEndpoint(
        _connection(
            Role.REQUESTER,
            requester_settings(sessions=True, psk=True),
        )
    )
    responder = ResponderEndpoint(
        _connection(Role.RESPONDER, device.settings), device, name="itself"
    )
    ticket = requester.submit(make(Link(requester.connection)))
    for _ in range(_MOST_STEPS):
        if ticket.done:
            return ticket.result()
        _carry(requester, responder)
        _carry(responder, requester)
        deadline = requester.next_deadline()
        if deadline is not None and time.monotonic() >= deadline:
            requester.on_time(time.monotonic())
    raise TransportError("the device does not answer itself")


def _carry(sender: Endpoint, receiver: Endpoint) -> None:
    for job in sender.work():
        try:
            outcome: Any = job.call()
            if inspect.isawaitable(outcome):
                raise TransportError("a device that signs elsewhere cannot judge itself here")
        except Exception as error:  # noqa: BLE001 - the exchange that asked for it decides
            outcome = error
        sender.complete(job.token, outcome, time.monotonic())
    for frame in sender.outgoing():
        receiver.receive(frame, time.monotonic())


def _connection(role: Role, settings: Settings) -> Connection:
    return Connection(role, settings, clock=time.monotonic, random=os.urandom)
