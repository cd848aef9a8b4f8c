"""VENDOR_DEFINED_REQUEST, answered by whoever the device registered for it (DSP0274 10.16)."""

from __future__ import annotations

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode, VendorDefinedRequest, VendorDefinedResponse
from spdmkit.protocol.handlers.call import Call, Steps, slow
from spdmkit.protocol.responder.device import VendorMessage

__all__ = ["vendor_defined"]

_LARGEST_SMALL = 0xFFFF


def vendor_defined(call: Call) -> Steps:
    """VENDOR_DEFINED_REQUEST -> VENDOR_DEFINED_RESPONSE."""
    request = call.typed(VendorDefinedRequest)
    device, peer = call.the_device(), call.peer
    if request.large:
        call.refuse_large_form()
    message = VendorMessage(request.standard_id, request.vendor_id, request.payload)
    answer: VendorMessage | None = yield from slow(lambda: device.vendor_defined(message, peer))
    if answer is None:
        raise ProtocolViolation(
            "nobody here understands this vendor-defined request",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=request.code,
        )
    if len(answer.payload) > _LARGEST_SMALL and not request.large:
        raise ProtocolViolation(
            "the vendor-defined response needs the large form",
            error_code=ErrorCode.DATA_TOO_LARGE,
            extended=len(answer.payload).to_bytes(4, "little"),
        )
    return call.answer(
        VendorDefinedResponse(
            large=request.large,
            standard_id=answer.standard_id,
            vendor_id=answer.vendor_id,
            payload=answer.payload,
        )
    )
