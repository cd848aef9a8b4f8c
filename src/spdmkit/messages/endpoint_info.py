"""ENDPOINT_INFO: what an endpoint says it is (DSP0274 10.30)."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import Registry, RequestCode, ResponseCode
from spdmkit.messages.context import V13
from spdmkit.wire import Struct, structure
from spdmkit.wire.kinds import Embedded
from spdmkit.wire.layout import (
    bits,
    count_of,
    fixed,
    flag,
    items,
    prefixed,
    reserved,
    sized,
    total_length,
    u8,
    word,
)
from spdmkit.wire.predicates import Present, Requested

__all__ = [
    "DeviceClassIdentifier",
    "DeviceClassList",
    "EndpointInfo",
    "EndpointInfoSubCode",
    "GetEndpointInfo",
    "SubordinateIdentifier",
]


class EndpointInfoSubCode(enum.IntEnum):
    """SubCodes of GET_ENDPOINT_INFO (DSP0274 table 129)."""

    DEVICE_CLASS_IDENTIFIER = 0x01


@structure(clause="10.30")
class SubordinateIdentifier(Struct):
    """A subordinate identifier (DSP0274 table 134)."""

    identifier: bytes = prefixed(1, "SubIdentifier", length_name="SubIDLen")


@structure(clause="10.30")
class DeviceClassIdentifier(Struct):
    """An element of the device class list (DSP0274 table 133)."""

    _length = total_length(1, "IDElemLength", uncounted=1)
    registry: int = u8("ID", display=Registry)
    vendor_id: bytes = prefixed(1, length_name="VendorIDLen")
    _num_sub_ids = count_of("subordinate_ids", 1, "NumSubIDs")
    subordinate_ids: list[SubordinateIdentifier] = items(
        SubordinateIdentifier, "SubordinateID", count="_num_sub_ids"
    )


@structure(clause="10.30")
class DeviceClassList(Struct):
    """The EPInfo of DEVICE_CLASS_IDENTIFIER (DSP0274 table 132)."""

    _num_identifiers = count_of("identifiers", 1, "NumIdentifiers")
    _reserved = reserved(3)
    identifiers: list[DeviceClassIdentifier] = items(
        DeviceClassIdentifier, "IdentifierElements", count="_num_identifiers"
    )


@message(RequestCode.GET_ENDPOINT_INFO, clause="10.30", since=V13)
class GetEndpointInfo(Message):
    """GET_ENDPOINT_INFO.

    Attributes:
        slot_id: the key to sign with, 0xF for the provisioned one.
        nonce: only when a signature is requested.
    """

    sub_code: int = u8(display=EndpointInfoSubCode)
    _param2 = word("Param2")
    slot_id: int = bits(_param2, 0, 4)
    _attributes = word("RequestAttributes")
    signature_requested: bool = flag(_attributes, 0)
    _reserved = reserved(3)
    nonce: bytes = fixed(32, when=Present("signature_requested"))


@message(ResponseCode.ENDPOINT_INFO, clause="10.30", since=V13)
class EndpointInfo(Message):
    """ENDPOINT_INFO.

    Attributes:
        nonce: only when the GET_ENDPOINT_INFO in the context asked for a signature.
        ep_info: for DEVICE_CLASS_IDENTIFIER a `DeviceClassList`.
        signature: as `nonce`.
    """

    _param1 = reserved(1)
    _param2 = word("Param2")
    slot_id: int = bits(_param2, 0, 4)
    _reserved = reserved(4)
    nonce: bytes = fixed(32, when=Requested("signature_requested"))
    ep_info: bytes = prefixed(4, "EPInfo", length_name="EPInfoLen", inner=Embedded(DeviceClassList))
    signature: bytes = sized("answer_signature_size", when=Requested("signature_requested"))
