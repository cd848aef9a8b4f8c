"""GET_DIGESTS, GET_CERTIFICATE and CHALLENGE, answered (DSP0274 10.8 to 10.10)."""

from __future__ import annotations

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    V13,
    Certificate,
    Challenge,
    ChallengeAuth,
    Digests,
    ErrorCode,
    GetCertificate,
    KeyUsage,
)
from spdmkit.protocol.handlers.call import Call, Outcome, Steps
from spdmkit.protocol.handlers.measurements import summary_hash

__all__ = ["challenge", "get_certificate", "get_digests"]

_LARGEST_SMALL = 0xFFFF
_SMALL_HEADER, _LARGE_HEADER = 8, 16


def get_digests(call: Call) -> Outcome:
    """GET_DIGESTS -> DIGESTS: the hash of every slot that the negotiated algorithm can use."""
    _not_awaiting_reset(bool(call.credentials.awaiting_reset))
    hash_algorithm = call.connection.algorithms.base_hash
    algorithm = call.signature_algorithm
    slots = call.credentials.usable(algorithm)
    if call.context.multi_key_conn:
        slots = call.credentials.associated(algorithm)
    if not slots:
        raise ProtocolViolation("no slot is provisioned", error_code=ErrorCode.UNSPECIFIED)
    response = Digests(
        supported_slot_mask=call.credentials.supported_mask,
        provisioned_slot_mask=sum(1 << slot_id for slot_id in slots),
        digests=[slot.digest(hash_algorithm) for slot in slots.values()],
    )
    if call.context.multi_key_conn:
        response.key_pair_ids = [slot.key_pair_id for slot in slots.values()]
        response.certificate_info = [int(slot.model) for slot in slots.values()]
        response.key_usage_masks = [int(slot.key_usage) for slot in slots.values()]
    outcome = call.answer(response)
    call.note_digests(outcome.response)
    return outcome


def _not_awaiting_reset(waits: bool) -> None:
    """A chain that was set takes a reset to be seen (10.26.2)."""
    if waits:
        raise ProtocolViolation(
            "a new certificate chain waits for a reset", error_code=ErrorCode.RESET_REQUIRED
        )


def get_certificate(call: Call) -> Outcome:
    """GET_CERTIFICATE -> CERTIFICATE: a portion of a slot's chain (10.9)."""
    request = call.typed(GetCertificate)
    _not_awaiting_reset(request.slot_id in call.credentials.awaiting_reset)
    if request.large:
        call.refuse_large_form()
    if request.slot_size_requested:
        return _slot_size(call, request)
    slot = call.slot(request.slot_id)
    chain = slot.structure(call.connection.algorithms.base_hash)
    response = Certificate(slot_id=request.slot_id, large=request.large)
    if call.context.multi_key_conn:
        response.certificate_model = int(slot.model)
    if not request.large and len(chain) > _LARGEST_SMALL:
        raise ProtocolViolation(
            "the chain needs the large form of GET_CERTIFICATE",
            error_code=ErrorCode.DATA_TOO_LARGE,
            extended=len(chain).to_bytes(4, "little"),
        )
    if request.offset >= len(chain):
        raise ProtocolViolation("Offset is beyond the chain")
    if request.length:
        room = call.room_for_response(_LARGE_HEADER if request.large else _SMALL_HEADER)
        end = request.offset + min(request.length, room)
        response.cert_chain = chain[request.offset : end]
        response.remainder_length = len(chain) - request.offset - len(response.cert_chain)
    else:
        response.remainder_length = len(chain)
    outcome = call.answer(response)
    call.note_for_challenge(outcome.response)
    return outcome


def _slot_size(call: Call, request: GetCertificate) -> Outcome:
    """CERTIFICATE that tells the room in a slot, provisioned or not, and brings no chain (1.3)."""
    credentials = call.credentials
    slot = credentials.usable(call.signature_algorithm).get(request.slot_id)
    if request.slot_id not in credentials.supported:
        raise ProtocolViolation(f"there is no slot {request.slot_id}")
    held = 0 if slot is None else len(slot.structure(call.connection.algorithms.base_hash))
    size = max(credentials.slot_size, held)
    response = Certificate(slot_id=request.slot_id, large=request.large)
    if call.context.multi_key_conn and slot is not None:
        response.certificate_model = int(slot.model)
    response.remainder_length = size if request.large else min(size, _LARGEST_SMALL)
    outcome = call.answer(response)
    call.note_for_challenge(outcome.response)
    return outcome


def challenge(call: Call, *, basic_mutual_auth: bool = False) -> Steps:
    """CHALLENGE -> CHALLENGE_AUTH, signed over M1/M2 (10.10).

    Args:
        call: the request.
        basic_mutual_auth: tell the requester that it is to prove itself next.
    """
    request = call.typed(Challenge)
    connection = call.connection
    signer, chain_hash = call.signing_key(request.slot_id, KeyUsage.CHALLENGE)
    provisioned = call.credentials.usable(call.signature_algorithm)
    response = ChallengeAuth(
        slot_id=request.slot_id & 0xF,
        slot_mask=sum(1 << slot_id for slot_id in provisioned),
        cert_chain_hash=chain_hash,
        nonce=connection.random(32),
        measurement_summary_hash=summary_hash(call, request.measurement_summary_hash_type),
        requester_context=request.context if connection.version >= V13 else b"",
        basic_mut_auth_req=basic_mutual_auth,
    )
    covered = response.encode_before("signature", call.context)
    transcript = call.challenge_transcript
    transcript.append(call.raw, covered)
    digest = transcript.digest()
    transcript.reset()
    signature = yield from call.sign(signer, call.challenge_context, digest)
    return Outcome(covered + signature)
