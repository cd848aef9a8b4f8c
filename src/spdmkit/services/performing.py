"""Each service as the requester performs it (DSP0287 table 15)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spdmkit import __version__
from spdmkit.attestation.blocks import Block
from spdmkit.attestation.collect import Collected, Wanted, collect_more, read_psk
from spdmkit.attestation.evidence import PROVISIONED_KEY
from spdmkit.attestation.measurement_log import check_log
from spdmkit.attestation.results.dsp0287 import pack_results
from spdmkit.attestation.verification import EvidenceError, VerifiedEvidence, device_claims
from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.messages import ErrorCode, MeasurementKind, ResponderFlags
from spdmkit.messages.dsp0287 import ServiceId, ServiceRequest, ServiceState, SessionMethod
from spdmkit.protocol.actions import Exchange, perform
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.session import SessionKind
from spdmkit.services import content
from spdmkit.services.requests import (
    is_mutual,
    send_verification_results,
    set_policy,
    set_reference,
)
from spdmkit.services.rooms import Inapplicable

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.messages.opaque import OpaqueElement
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.services.provider import Gift
    from spdmkit.services.visit import ServiceOutcome, Visit

__all__ = ["PERFORMERS", "Performer", "attest_again"]

Performer: TypeAlias = "Callable[[Visit, ServiceRequest, ServiceOutcome], Exchange[None]]"

_OUT_OF_BAND: Final = 0xE


# --- attesting -----------------------------------------------------------------------------------


def _attest(
    visit: Visit, outcome: ServiceOutcome, *, slot_id: int | None = None
) -> Exchange[AttestationResult]:
    """Read the measurements where we are, and judge them."""
    rooms = visit.rooms
    opened = rooms.opened
    by_psk = opened is not None and opened.session.kind is SessionKind.PSK
    signs = visit.link.connection.peer.flags & ResponderFlags.MEAS_CAP_MASK
    unsigned = signs == ResponderFlags.MEAS_CAP_NO_SIG
    try:
        if opened is not None and by_psk and (not rooms.has_chain or unsigned):
            found = yield from read_psk(opened, rooms.hint, _wanted(visit, rooms.default_slot))
            now = visit.provider.now()
            evidence = found.verified(_wanted(visit, rooms.default_slot), now)
            result = yield from perform(lambda: _judge(visit, evidence))
        else:
            where = rooms.default_slot if slot_id is None else slot_id
            collected = yield from _collect(visit, where)
            outcome.evidence = yield from perform(lambda: _kept(visit, collected))
            result = yield from perform(lambda: _appraise(visit, collected))
    except AuthenticationError as error:
        outcome.result = visit.provider.verifier.refused(
            error, visit.provider.now(), target=visit.target
        )
        visit.outcomes.append(outcome)
        raise
    outcome.result = result
    return result


def attest_again(visit: Visit, outcome: ServiceOutcome) -> Exchange[None]:
    """Attest a device once more, in the session at hand.

    Raises:
        AuthenticationError: a proof does not hold; the outcome says so too.
        SpdmError: as `Link.ask`.
    """
    result = yield from _attest(visit, outcome)
    outcome.detail = {**outcome.detail, "results": result.counts()}


def _collect(visit: Visit, slot_id: int) -> Exchange[Collected]:
    rooms, provider = visit.rooms, visit.provider
    key = yield from rooms.prove(slot_id)
    demanded = provider.verifier.policy.evidence
    # In a session its handshake has proven the key already.
    challenge = rooms.opened is None or demanded.demand_challenge
    wanted = replace(_wanted(visit, slot_id), challenge=challenge)
    return (yield from collect_more(visit.link, key, wanted, opened=rooms.opened))


def _kept(visit: Visit, collected: Collected) -> bytes:
    """The evidence as it is kept, with our signature over its time if we have a key for that."""
    key, evidence = visit.provider.collector_key, collected.evidence
    return (evidence if key is None else evidence.signed_by_collector(key)).to_cbor()


def _wanted(visit: Visit, slot_id: int) -> Wanted:
    return Wanted(
        slot=slot_id,
        target=visit.target,
        transport="tcp",
        collector=f"spdmkit {__version__}",
        now=visit.provider.now(),
    )


def _appraise(visit: Visit, collected: Collected) -> AttestationResult:
    try:
        verified = collected.verified(visit.rooms.trust)
    except EvidenceError as error:
        return visit.provider.verifier.refused(error, visit.provider.now(), target=visit.target)
    return _judge(visit, verified)


def _judge(visit: Visit, verified: VerifiedEvidence) -> AttestationResult:
    return visit.provider.verifier.appraise(
        verified, visit.provider.now(), nonces=verified.nonces, target=visit.target
    )


# --- the services --------------------------------------------------------------------------------


def _any_request(visit: Visit, request: ServiceRequest, outcome: ServiceOutcome) -> Exchange[None]:
    """ANY_REQUEST: the service that was agreed out of band, which is our default one.

    Where we wait for events afterwards, it is done in the session that they come in.
    """
    rooms = visit.rooms
    able = rooms.has_events and (rooms.can_key or rooms.can_psk)
    if visit.provider.watch != 0 and able and not request.session_method:
        request.session_method = SessionMethod.SESSION
    yield from rooms.enter(request, mutual=False)
    service = visit.provider.default_service
    if service is None or service is ServiceId.ANY_REQUEST:
        outcome.detail = {"performed": None}
        return
    asked = replace_service(request, service)
    yield from PERFORMERS[service](visit, asked, outcome)
    outcome.detail = {"performed": service.name, **outcome.detail}


def replace_service(request: ServiceRequest, service: ServiceId) -> ServiceRequest:
    """The same wishes for a session, for another service."""
    parameter = _OUT_OF_BAND if service is ServiceId.GET_MEASUREMENTS else 0
    return ServiceRequest(
        session_method=request.session_method,
        slot_id=request.slot_id,
        service_id=service,
        service_param=parameter,
    )


def _session_only(visit: Visit, request: ServiceRequest, outcome: ServiceOutcome) -> Exchange[None]:
    """SESSION_ONLY: a session as the device suggests, and what we want to do in it."""
    rooms = visit.rooms
    if request.session_method == 0 and rooms.current.session is None:
        # "No preference whether": for this service it can only mean how.
        request.session_method = SessionMethod.SESSION
    room = yield from rooms.enter(request, mutual=False)
    session = room.session
    if session is None:
        raise ProtocolViolation("SESSION_ONLY without a session")
    outcome.detail = {"session_id": f"{session.session_id:#010x}"}
    if visit.provider.converse is not None:
        outcome.detail = {**outcome.detail, **(yield from visit.provider.converse(room))}


def _provision_certificate(
    visit: Visit, request: ServiceRequest, outcome: ServiceOutcome
) -> Exchange[None]:
    """PROVISION_CERTIFICATE: attested in slot 0, in one session, by the authority's rules."""
    provisioner = visit.provider.provisioner
    if provisioner is None:
        raise Inapplicable(ServiceState.SERVICE_ID_NOT_AVAILABLE, "there is no authority here")
    parameter = request.service_param
    if not provisioner.accepts(parameter & 0xF):
        raise Inapplicable(
            ServiceState.SERVICE_PARAM_INVALID, f"slot {parameter & 0xF} is not to be written"
        )
    room = yield from visit.rooms.enter(request, mutual=False, prefer=True)
    key: ProvenKey = yield from visit.rooms.prove(visit.rooms.default_slot)
    opened = visit.rooms.opened
    holder = None if opened is None else opened.key
    if holder is not None and holder.public_key.spki() != key.public_key.spki():
        raise Inapplicable(
            ServiceState.SLOT_ID_INVALID, "the session has to be with the device attested in slot 0"
        )
    result = yield from _attest(visit, outcome)
    outcome.detail = yield from provisioner.provision(
        room,
        visit.link,
        key,
        result,
        slot_id=parameter & 0xF,
        model=parameter >> 4 & 0x7,
        erase=bool(parameter & 0x80),
    )
    visit.rooms.forget_slots()


def _verify_measurements(
    visit: Visit, request: ServiceRequest, outcome: ServiceOutcome
) -> Exchange[None]:
    """VERIFY_MEASUREMENTS: judged in a mutually authenticated session, and the device is told."""
    room = yield from visit.rooms.enter(request, mutual=True)
    result = yield from _attest(visit, outcome)
    yield from send_verification_results(room, pack_results(result))
    outcome.detail = {"results": result.counts()}


def _get_measurements(
    visit: Visit, request: ServiceRequest, outcome: ServiceOutcome
) -> Exchange[None]:
    """GET_MEASUREMENTS: judged, and the device is not told."""
    rooms = visit.rooms
    yield from rooms.enter(request, mutual=False)
    nibble = request.service_param & 0xF
    try:
        slot_id = rooms.default_slot if nibble == _OUT_OF_BAND else rooms.slot_of(nibble)
        if rooms.has_chain or slot_id == PROVISIONED_KEY:
            yield from rooms.prove(slot_id)
    except Inapplicable as error:
        raise Inapplicable(ServiceState.SERVICE_PARAM_INVALID, str(error)) from error
    result = yield from _attest(visit, outcome, slot_id=slot_id)
    outcome.detail = {"results": result.counts()}


def _get_mel(visit: Visit, request: ServiceRequest, outcome: ServiceOutcome) -> Exchange[None]:
    """GET_MEL: the log, and the hash-extend measurements that it leads to."""
    connection = visit.link.connection
    if not connection.flag(ResponderFlags.MEL_CAP):
        raise Inapplicable(ServiceState.SERVICE_ID_NOT_AVAILABLE, "the device has no log (MEL_CAP)")
    yield from visit.rooms.enter(request, mutual=False)
    blocks, log = yield from _blocks_and_log(visit, outcome)
    checked = check_log(log, blocks, connection.algorithms.measurement_hash)
    outcome.detail = {
        "log": log.hex(),
        "hash_extended": [b.index for b in blocks if b.kind == MeasurementKind.HASH_EXTEND],
        "leads_to_measurements": not checked.fault,
        **({"fault": checked.fault} if checked.fault else {}),
    }


def _blocks_and_log(
    visit: Visit, outcome: ServiceOutcome
) -> Exchange[tuple[tuple[Block, ...], bytes]]:
    """Blocks that a signature or a session vouches for, and the log."""
    rooms = visit.rooms
    opened = rooms.opened
    if opened is not None and not rooms.has_chain:
        found = yield from read_psk(opened, rooms.hint, _wanted(visit, rooms.default_slot))
        log = yield from get_measurement_log(opened.link)
        return tuple(Block.read(each) for each in found.blocks), log
    collected = yield from _collect(visit, rooms.default_slot)
    outcome.evidence = yield from perform(lambda: _kept(visit, collected))
    outcome.result = yield from perform(lambda: _appraise(visit, collected))
    verified = yield from perform(lambda: collected.verified(rooms.trust))
    return verified.blocks, collected.evidence.measurement_log


def _provision_reference(
    visit: Visit, request: ServiceRequest, outcome: ServiceOutcome
) -> Exchange[None]:
    """PROVISION_REFERENCE_MEASUREMENTS: values that are for this device."""
    provider = visit.provider
    claims = yield from _claims(visit)
    gifts: list[Gift] = [each for each in provider.gifts if each.suits(claims)]
    if not gifts:
        raise Inapplicable(
            ServiceState.SERVICE_ID_NOT_AVAILABLE, "there are no reference values for this device"
        )
    guaranteed = all(each.signed for each in gifts)
    elements = content.elements_of([each.data for each in gifts])
    yield from _give(visit, request, elements, set_reference, guaranteed=guaranteed)
    outcome.detail = {"given": [each.name for each in gifts]}


def _provision_policy(
    visit: Visit, request: ServiceRequest, outcome: ServiceOutcome
) -> Exchange[None]:
    """PROVISION_VERIFICATION_POLICY."""
    provider = visit.provider
    elements = content.elements_of([provider.policy_document])
    guaranteed = provider.policy_signed
    yield from _give(visit, request, elements, set_policy, guaranteed=guaranteed)
    outcome.detail = {"given": content.describe_policy(provider.policy_document)}


def _give(
    visit: Visit,
    request: ServiceRequest,
    elements: Sequence[OpaqueElement],
    send: Callable[..., Exchange[None]],
    *,
    guaranteed: bool,
) -> Exchange[None]:
    """Give data in a mutually authenticated session, or anywhere if it guarantees itself.

    What it guarantees is for the device to say: its signers, its clock, what it holds already.
    """
    room: Link = yield from visit.rooms.enter(request, mutual=not guaranteed)
    try:
        yield from send(room, elements, guaranteed=guaranteed)
    except PeerError as error:
        if is_mutual(room) or error.code not in _WANTS_SESSION:
            raise
        room = yield from visit.rooms.enter(request, mutual=True)
        yield from send(room, elements, guaranteed=guaranteed)


_WANTS_SESSION: Final = frozenset({ErrorCode.SESSION_REQUIRED, ErrorCode.UNSPECIFIED})
"""How a device answers data that does not convince it where it came."""


def _claims(visit: Visit) -> Exchange[Any]:
    """Who the device is, as reference values are chosen by; None when it has no chain."""
    rooms = visit.rooms
    if not rooms.has_chain:
        return None
    try:
        key = yield from rooms.prove(rooms.default_slot)
    except Inapplicable:
        return None
    return device_claims(key)


PERFORMERS: Final[dict[ServiceId, Performer]] = {
    ServiceId.ANY_REQUEST: _any_request,
    ServiceId.SESSION_ONLY: _session_only,
    ServiceId.PROVISION_CERTIFICATE: _provision_certificate,
    ServiceId.VERIFY_MEASUREMENTS: _verify_measurements,
    ServiceId.GET_MEASUREMENTS: _get_measurements,
    ServiceId.GET_MEL: _get_mel,
    ServiceId.PROVISION_REFERENCE_MEASUREMENTS: _provision_reference,
    ServiceId.PROVISION_VERIFICATION_POLICY: _provision_policy,
}
