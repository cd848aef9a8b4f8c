"""GET_KEY_PAIR_INFO and SET_KEY_PAIR_INFO, answered (DSP0274 10.28)."""

from __future__ import annotations

from collections.abc import Sequence

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    GetKeyPairInfo,
    KeyPairCapabilities,
    KeyPairInfo,
    KeyPairOperation,
    SetKeyPairInfo,
    SetKeyPairInfoAck,
)
from spdmkit.protocol.handlers.call import Call, Outcome, Steps, slow
from spdmkit.protocol.responder.device import KeyPair

__all__ = ["PQC_MASK_SIZE", "get_key_pair_info", "set_key_pair_info"]

PQC_MASK_SIZE = 4
"""Bytes of a mask of post-quantum algorithms; the specification leaves it open."""

C = KeyPairCapabilities


def get_key_pair_info(call: Call) -> Outcome:
    """GET_KEY_PAIR_INFO -> KEY_PAIR_INFO: one key pair, whatever was negotiated (10.28.1)."""
    request = call.typed(GetKeyPairInfo)
    pairs = call.the_device().key_pairs()
    pair = _pair(pairs, request.key_pair_id)
    return call.answer(
        KeyPairInfo(
            total_key_pairs=len(pairs),
            key_pair_id=pair.key_pair_id,
            capabilities=pair.capabilities,
            key_usage_capabilities=pair.usage_capabilities,
            current_key_usage=pair.current_usage,
            asym_algo_capabilities=pair.asym_capabilities,
            current_asym_algo=pair.current_asym,
            assoc_cert_slot_mask=pair.slot_mask,
            public_key_info=pair.public_key_info,
            pqc_asym_algo_capabilities=pair.pqc_capabilities.to_bytes(PQC_MASK_SIZE, "little"),
            current_pqc_asym_algo=pair.current_pqc.to_bytes(PQC_MASK_SIZE, "little"),
        )
    )


def set_key_pair_info(call: Call) -> Steps:
    """SET_KEY_PAIR_INFO -> SET_KEY_PAIR_INFO_ACK: change, erase or generate a pair (10.28.2)."""
    request = call.typed(SetKeyPairInfo)
    device, peer = call.the_device(), call.peer
    pair = _pair(device.key_pairs(), request.key_pair_id)
    pqc = int.from_bytes(request.desired_pqc_asym_algo, "little")
    _check(pair, request, pqc)
    supported = call.credentials.supported_mask
    if request.desired_assoc_cert_slot_mask & ~supported:
        raise ProtocolViolation("DesiredAssocCertSlotMask names a slot that does not exist")
    yield from slow(
        lambda: device.set_key_pair(
            request.key_pair_id,
            request.operation,
            request.desired_key_usage,
            request.desired_asym_algo,
            pqc,
            request.desired_assoc_cert_slot_mask,
            peer,
        )
    )
    return call.answer(SetKeyPairInfoAck())


def _pair(pairs: Sequence[KeyPair], key_pair_id: int) -> KeyPair:
    for pair in pairs:
        if pair.key_pair_id == key_pair_id:
            return pair
    raise ProtocolViolation(f"there is no key pair {key_pair_id}")


def _check(pair: KeyPair, request: SetKeyPairInfo, pqc: int) -> None:
    """Refuse what the pair's own capabilities rule out, whoever asks.

    Raises:
        ProtocolViolation: InvalidRequest.
    """
    able = C(pair.capabilities)
    operation = request.operation
    if operation == KeyPairOperation.ERASE:
        _needs(able, C.ERASABLE_CAP)
        return
    if operation == KeyPairOperation.GENERATE:
        _needs(able, C.GEN_KEY_CAP)
    elif operation != KeyPairOperation.CHANGE:
        raise ProtocolViolation(f"operation {operation} is reserved")
    if request.desired_key_usage:
        _needs(able, C.KEY_USAGE_CAP)
        if request.desired_key_usage & ~pair.usage_capabilities:
            raise ProtocolViolation("DesiredKeyUsage is beyond KeyUsageCapabilities")
    if request.desired_asym_algo or pqc:
        _needs(able, C.ASYM_ALGO_CAP)
        if request.desired_asym_algo.bit_count() + pqc.bit_count() > 1:
            raise ProtocolViolation("more than one algorithm for one key pair")
        if request.desired_asym_algo & ~pair.asym_capabilities or pqc & ~pair.pqc_capabilities:
            raise ProtocolViolation("an algorithm that this key pair cannot have")
    slots = request.desired_assoc_cert_slot_mask
    if slots != pair.slot_mask:
        _needs(able, C.CERT_ASSOC_CAP)
    if slots.bit_count() > 1 and slots != pair.slot_mask:
        _needs(able, C.SHAREABLE_CAP)


def _needs(able: KeyPairCapabilities, wanted: KeyPairCapabilities) -> None:
    if not able & wanted:
        raise ProtocolViolation(f"this key pair lacks {wanted.name}")
