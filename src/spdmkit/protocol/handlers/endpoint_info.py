"""GET_ENDPOINT_INFO, answered by a responder, or by a requester that is asked for it (10.30)."""

from __future__ import annotations

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    EndpointInfo,
    ErrorCode,
    GetEndpointInfo,
    KeyUsage,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.protocol.credentials import PROVISIONED_KEY_NIBBLE, PROVISIONED_KEY_SLOT
from spdmkit.protocol.handlers.call import Call, Outcome, Steps

__all__ = ["get_endpoint_info"]


def get_endpoint_info(call: Call) -> Outcome | Steps:
    """GET_ENDPOINT_INFO -> ENDPOINT_INFO, signed over VCA and the two when that is asked for."""
    request = call.typed(GetEndpointInfo)
    device = call.device
    info = (
        call.credentials.endpoint_info.get(request.sub_code)
        if device is None
        else device.endpoint_info(request.sub_code)
    )
    if info is None:
        raise ProtocolViolation(
            f"SubCode {request.sub_code} of GET_ENDPOINT_INFO is not supported",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=request.code,
        )
    response = EndpointInfo(ep_info=info)
    if not request.signature_requested:
        return call.answer(response)
    return _signed(call, request, response)


def _signed(call: Call, request: GetEndpointInfo, response: EndpointInfo) -> Steps:
    connection = call.connection
    mask = RequesterFlags.EP_INFO_CAP_MASK if call.encapsulated else ResponderFlags.EP_INFO_CAP_MASK
    if connection.own.flags & mask != ResponderFlags.EP_INFO_CAP_SIG:
        raise ProtocolViolation(
            "endpoint information is not signed here",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=request.code,
        )
    provisioned = request.slot_id == PROVISIONED_KEY_NIBBLE
    slot_id = PROVISIONED_KEY_SLOT if provisioned else request.slot_id
    signer, _ = call.signing_key(slot_id, KeyUsage.ENDPOINT_INFO)
    response.slot_id = request.slot_id
    response.nonce = connection.random(32)
    covered = response.encode_before("signature", call.context)
    algorithm = connection.algorithms.base_hash
    digest = algorithm.digest(connection.vca + call.raw + covered)
    signature = yield from call.sign(signer, call.endpoint_info_context, digest)
    return Outcome(covered + signature)
