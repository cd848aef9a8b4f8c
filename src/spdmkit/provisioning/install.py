"""The way of a certificate into a device's slot (DSP0274 10.26).

    1  GET_CSR                the device makes a signing request for one of its keys
    2  request                it is signed by that key, and the key is the attested one
    3  issue                  the authority's policy allows it; a serial number is written down
    4  SET_CERTIFICATE        the chain goes into the slot
    5  read back              GET_DIGESTS and GET_CERTIFICATE show that chain, and it verifies
    6  CHALLENGE              the device proves that it uses the key

1 to 4 run on one link, best a session whose other end is the device that was attested in slot 0;
5 and 6 run outside of it, since CHALLENGE is not allowed in sessions. What was known of the
device's digests and chains before 4 is of no use after it: 5 reads them again.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    PeerError,
    ResetRequired,
    SpdmError,
)
from spdmkit.identity import (
    CertificateModel,
    ChainPolicy,
    Outcome,
    Purpose,
    RequesterInfo,
    Step,
    VerifiedChain,
    verify_chain,
    verify_csr,
)
from spdmkit.messages import ErrorCode, ResponderFlags
from spdmkit.protocol.actions import Exchange, perform
from spdmkit.protocol.requester.certificates import SlotDigests, get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.provisioning import erase_certificate, get_csr, set_certificate
from spdmkit.provisioning.profile import Subject

if TYPE_CHECKING:
    from spdmkit.protocol.link import Link
    from spdmkit.provisioning.authority import CertificateAuthority, Issued

__all__ = ["Installation", "Order", "certify", "confirm", "erase", "order_for"]

SLOT_0: Final = 0
_MAY_PROVISION: Final = "does the device let us provision it? (may_provision in its device.toml)"
_REFUSALS: Final = {
    int(ErrorCode.SESSION_REQUIRED): "give --mutual or --psk; without a session the device would "
    "have to be in a trusted environment (trusted_environment and may_provision in its device.toml)"
}
"""Hints by the ERROR that SET_CERTIFICATE was refused with."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be put where.

    Attributes:
        slot_id: 0 to 7.
        consent_to_slot_0: the default slot may be written; it holds what the device came with.
        profile: name of the authority's profile; empty for the first that fits.
        key_pair_id: the key; 0 for the attested one.
        wishes: send RequesterInfo, which asks for the subject that the certificate will have.
        opaque_data: OpaqueData of GET_CSR.
        tracking_tag: tag of a GET_CSR that waited for a reset (1.3).
        overwrite: give up what earlier requests wait for (1.3).
        target: the address, for the ledger.
    """

    slot_id: int
    consent_to_slot_0: bool = False
    profile: str = ""
    key_pair_id: int = 0
    wishes: bool = True
    opaque_data: bytes = b""
    tracking_tag: int = 0
    overwrite: bool = False
    target: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.slot_id <= 7:
            raise ConfigurationError(f"there is no slot {self.slot_id}; slots are 0 to 7")
        if self.slot_id == SLOT_0 and not self.consent_to_slot_0:
            raise ConfigurationError(
                "slot 0 holds the certificates that the device came with",
                hint="say --overwrite-slot-0 if it is to be replaced",
            )


@dataclass(slots=True)
class Installation:
    """A certificate on its way into a device.

    Attributes:
        order: what was asked for.
        issued: the certificate and its chain.
        awaits_reset: the device stored it and uses it after its next reset.
        steps: what was done.
        chain: the new chain as the device shows it, verified; None until it was read back.
    """

    order: Order
    issued: Issued
    awaits_reset: bool = False
    steps: list[Step] = field(default_factory=list)
    chain: VerifiedChain | None = None


def order_for(order: Order, link: Link, digests: SlotDigests | None) -> Order:
    """An order with the key pair that a connection with several keys wants named.

    Args:
        order: what was asked for.
        link: the way to the device, after the negotiation.
        digests: what DIGESTS said; slot 0's key pair is the attested one.
    """
    if order.key_pair_id or not link.connection.context.multi_key_conn_rsp or digests is None:
        return order
    default = digests.slots.get(SLOT_0)
    return replace(order, key_pair_id=default.key_pair_id or 0) if default else order


def certify(
    link: Link,
    authority: CertificateAuthority,
    device: VerifiedChain,
    order: Order,
    *,
    attested_key_pair: int = 0,
) -> Exchange[Installation]:
    """Steps 1 to 4: have the device ask for a certificate, issue it, and put it into the slot.

    Args:
        link: the way to the device; a session with the device that holds `device`.
        authority: who issues.
        device: the attested chain of the device.
        order: what is wanted.
        attested_key_pair: KeyPairID of the attested key, where the connection has several.

    Raises:
        ResetRequired: GET_CSR has to be repeated with this tag after a reset.
        AuthenticationError: step "csr": the request does not hold or is for another key; step
            "ca-policy": the authority's profiles do not name the device.
        PeerError: the device refused.
        ConfigurationError: the ledger cannot be written, or a key pair is named that cannot be.
        SpdmError: as `Link.ask`.
    """
    steps: list[Step] = []
    subject = Subject.of(device)
    profile = authority.configuration.profile_for(subject, order.slot_id, order.profile)
    model = profile.certificate_model
    named = link.connection.context.multi_key_conn_rsp
    if order.key_pair_id and not named:
        raise ConfigurationError(
            f"key pair {order.key_pair_id} cannot be asked for: on this connection the device has "
            "one key (MULTI_KEY_CAP)"
        )
    wishes = b""
    if order.wishes:
        asked = RequesterInfo.make(profile.subject_for(subject), device.public_key)
        wishes = asked.encode()
    told = model if named else CertificateModel.NONE  # with one key, the device knows its model
    der = yield from get_csr(
        link,
        key_pair_id=order.key_pair_id if named else 0,
        model=told,
        requester_info=wishes,
        opaque_data=order.opaque_data,
        tracking_tag=order.tracking_tag,
        overwrite=order.overwrite,
    )
    steps.append(Step("get-csr", Outcome.PASSED, f"{len(der)} bytes"))
    same_key = not named or order.key_pair_id == attested_key_pair
    request = verify_csr(der, expected_key=device.public_key if same_key else None)
    steps.append(_key_step(link, same_key=same_key))
    note = {"target": order.target}
    issued = yield from perform(
        lambda: authority.issue(request, subject, order.slot_id, profile=order.profile, note=note)
    )
    steps.append(Step("issue", Outcome.PASSED, f"serial:{issued.serial:X} by {profile.name}"))
    made = Installation(order, issued, steps=steps)
    try:
        yield from set_certificate(
            link,
            order.slot_id,
            issued.chain,
            key_pair_id=order.key_pair_id if named else 0,
            model=told,
        )
    except ResetRequired:
        made.awaits_reset = True
    except SpdmError as error:
        words = str(error)
        yield from perform(lambda: authority.failed(issued, words))
        if isinstance(error, PeerError) and not error.hint:
            error.hint = _REFUSALS.get(error.code, _MAY_PROVISION)
        raise
    after = ", used after the next reset" if made.awaits_reset else ""
    steps.append(Step("set-certificate", Outcome.PASSED, f"slot {order.slot_id}{after}"))
    return made


def confirm(
    link: Link, authority: CertificateAuthority, made: Installation, moment: dt.datetime
) -> Exchange[None]:
    """Steps 5 and 6: see that the device shows the chain and uses its key; note it down.

    That it does not yet is no failure to be noted while it `awaits_reset`: the caller knows when it
    has had its reset.

    Args:
        link: the way to the device outside any session, after the negotiation.
        authority: who issued.
        made: what `certify` returned; gets the steps and the verified chain.
        moment: the time to judge validity at.

    Raises:
        AuthenticationError: step "read-back": the slot shows another chain; or the chain or the
            challenge does not hold.
        SpdmError: as `Link.ask`.
    """
    slot_id = made.order.slot_id
    try:
        chain = yield from _read_back(link, authority, made, moment)
        made.chain = chain
        if link.connection.flag(ResponderFlags.CHAL_CAP):
            yield from challenge(link, chain, slot_id=slot_id)
            made.steps.append(Step("challenge", Outcome.PASSED, f"by the key of slot {slot_id}"))
        else:
            why = "the device cannot be challenged (CHAL_CAP)"
            made.steps.append(Step("challenge", Outcome.SKIPPED, why))
    except SpdmError as error:
        words = str(error)
        if not made.awaits_reset:
            yield from perform(lambda: authority.failed(made.issued, words))
        raise
    digest = chain.chain.digest(link.peer_hash).hex()
    yield from perform(lambda: authority.installed(made.issued, slot=slot_id, chain_digest=digest))


def erase(link: Link, slot_id: int) -> Exchange[tuple[Step, ...]]:
    """Empty a slot, and see that it is empty (1.3).

    Args:
        link: the way to the device, best a session.
        slot_id: 1 to 7.

    Raises:
        ResetRequired: it takes effect with the next reset.
        AuthenticationError: step "read-back": DIGESTS still shows a chain there.
        SpdmError: as `Link.ask`.
    """
    yield from erase_certificate(link, slot_id)
    digests = yield from get_digests(link)
    if slot_id in digests.slots and any(digests.slots[slot_id].digest):
        raise AuthenticationError("read-back", f"slot {slot_id} still holds a chain")
    return (
        Step("set-certificate", Outcome.PASSED, f"slot {slot_id} erased"),
        Step("read-back", Outcome.PASSED, f"slot {slot_id} is empty"),
    )


def _key_step(link: Link, *, same_key: bool) -> Step:
    if same_key:
        return Step("csr", Outcome.PASSED, "signed by the attested key")
    how = "in the attested device's session" if link.session is not None else "in the clear"
    return Step("csr", Outcome.NOT_COVERED, f"signed by another of the device's keys, {how}")


def _read_back(
    link: Link, authority: CertificateAuthority, made: Installation, moment: dt.datetime
) -> Exchange[VerifiedChain]:
    """The chain of the slot, if it is the one that was put there."""
    slot_id = made.order.slot_id
    digests = yield from get_digests(link)
    slot = digests.slots.get(slot_id)
    if slot is None:
        raise AuthenticationError("read-back", f"DIGESTS does not show slot {slot_id}")
    chain = yield from get_certificate(link, slot_id, expected_digest=slot.digest)
    expected = made.issued.chain
    # In the alias model the device goes on below what it was given.
    alias = made.issued.profile.certificate_model is CertificateModel.ALIAS
    shown = chain.certificates[: len(expected)] if alias else chain.certificates
    if shown != expected:
        raise AuthenticationError("read-back", f"slot {slot_id} shows another chain")
    algorithm = link.peer_signature
    verified = yield from perform(
        lambda: verify_chain(
            chain,
            authority.anchors,
            purpose=Purpose.DEVICE,
            time=moment,
            algorithm=algorithm,
            policy=ChainPolicy(model=made.issued.profile.certificate_model),
        )
    )
    made.steps.append(
        Step("read-back", Outcome.PASSED, f"{len(chain.raw)} bytes in slot {slot_id}")
    )
    return verified
