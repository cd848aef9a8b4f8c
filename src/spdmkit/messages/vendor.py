"""VENDOR_DEFINED requests and responses (DSP0274 10.15, 10.16)."""

from __future__ import annotations

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import Registry, RequestCode, ResponseCode
from spdmkit.messages.context import V14
from spdmkit.messages.dsp0287 import ServicePayload
from spdmkit.wire.kinds import Alternatives
from spdmkit.wire.layout import (
    counted,
    flag,
    length_of,
    one_of,
    prefixed,
    reserved,
    u16,
    word,
)
from spdmkit.wire.predicates import Not, Present

__all__ = ["VendorDefinedRequest", "VendorDefinedResponse"]

LARGE = Present("large")
SMALL = Not(LARGE)
DMTF = Alternatives("standard_id", {Registry.DMTF: ServicePayload})
"""Of DMTF's own payloads, only the services of DSP0287 are shown field by field."""


@message(RequestCode.VENDOR_DEFINED_REQUEST, clause="10.15")
class VendorDefinedRequest(Message):
    """VENDOR_DEFINED_REQUEST.

    Attributes:
        large: the form of 1.4 with a 32-bit length.
        standard_id: whose vendor IDs these are, a `Registry`.
        vendor_id: little endian; empty when the registry's owner defines the payload.
    """

    _param1 = word("Param1")
    large: bool = flag(_param1, 7, "UseLargePayload", since=V14)
    _param2 = reserved(1)
    standard_id: int = u16(display=Registry)
    vendor_id: bytes = prefixed(1, length_name="Len")
    _length = length_of("payload", 2, "ReqLength", when=SMALL)
    _reserved = reserved(2, when=LARGE)
    _large_length = length_of("payload", 4, "LargeReqLength", when=LARGE)
    payload: bytes = one_of(
        counted("_length", "VendorDefinedReqPayload", when=SMALL, inner=DMTF),
        counted("_large_length", "LargeVendorDefinedReqPayload", when=LARGE, inner=DMTF),
    )


@message(ResponseCode.VENDOR_DEFINED_RESPONSE, clause="10.16")
class VendorDefinedResponse(Message):
    """VENDOR_DEFINED_RESPONSE; its fields are those of the request."""

    _param1 = word("Param1")
    large: bool = flag(_param1, 7, "UseLargePayload", since=V14)
    _param2 = reserved(1)
    standard_id: int = u16(display=Registry)
    vendor_id: bytes = prefixed(1, length_name="Len")
    _length = length_of("payload", 2, "RespLength", when=SMALL)
    _reserved = reserved(2, when=LARGE)
    _large_length = length_of("payload", 4, "LargeRespLength", when=LARGE)
    payload: bytes = one_of(
        counted("_length", "VendorDefinedRespPayload", when=SMALL, inner=DMTF),
        counted("_large_length", "LargeVendorDefinedRespPayload", when=LARGE, inner=DMTF),
    )
