"""PCI DOE data objects that carry SPDM, and DOE discovery (PCI Express Base Specification 6.30).

    VendorID u16 = 1 | DataObjectType u8 | reserved u8 | Length u32 | payload, in 4-byte words

Length counts words with the 8-byte header, in bits 17:0, where zero stands for 2^18. The payload
is filled up with zero bytes to a whole word; that filling belongs to no message and no record.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from spdmkit.errors import SpdmError, TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports.sizing import message_length

__all__ = [
    "OFFERED",
    "DiscoveryRequest",
    "DiscoveryResponse",
    "Feature",
    "ObjectType",
    "answer_discovery",
    "decode",
    "encode",
    "encode_discovery_request",
    "unpad",
]

HEADER = struct.Struct("<HBBI")
HEADER_SIZE = HEADER.size
VENDOR_PCI_SIG = 0x0001
WORD = 4
LENGTH_BITS = 18
MAX_WORDS = 1 << LENGTH_BITS
DISCOVERY_VERSION = 0
"""What a requester asks with; the DOE capability's first version has this byte reserved."""
RECORD_HEAD = 6
"""Session ID and Length of a DOE record: no sequence number on the wire."""


class ObjectType(enum.IntEnum):
    """Data object types of the PCI-SIG that concern SPDM."""

    DISCOVERY = 0
    SPDM = 1
    SECURED_SPDM = 2


@dataclass(frozen=True, slots=True)
class Feature:
    """A kind of data object that a DOE instance takes."""

    vendor_id: int
    object_type: int


OFFERED = tuple(Feature(VENDOR_PCI_SIG, kind) for kind in ObjectType)
"""What our responder answers discovery with."""


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """Which data object type has this index?"""

    index: int
    version: int = DISCOVERY_VERSION


@dataclass(frozen=True, slots=True)
class DiscoveryResponse:
    """The answer; `next_index` is 0 after the last."""

    feature: Feature
    next_index: int


_TYPES = {FrameKind.MESSAGE: ObjectType.SPDM, FrameKind.SECURED: ObjectType.SECURED_SPDM}
_KINDS = {int(value): key for key, value in _TYPES.items()}


def _object(kind: ObjectType, payload: bytes) -> bytes:
    padding = -len(payload) % WORD
    words = (HEADER_SIZE + len(payload) + padding) // WORD
    if words > MAX_WORDS:
        raise TransportError(f"{len(payload)} bytes do not fit one DOE data object")
    header = HEADER.pack(VENDOR_PCI_SIG, kind, 0, words % MAX_WORDS)
    return b"".join((header, payload, bytes(padding)))


def encode(frame: Frame) -> bytes:
    """The frame as a data object.

    Raises:
        TransportError: it does not fit.
    """
    return _object(_TYPES[frame.kind], frame.body)


def encode_discovery_request(index: int) -> bytes:
    """A request for the data object type with this index."""
    return _object(ObjectType.DISCOVERY, bytes((index, DISCOVERY_VERSION, 0, 0)))


def answer_discovery(request: DiscoveryRequest) -> bytes:
    """The response to a discovery request.

    Raises:
        TransportError: there is no such index; DOE then answers nothing.
    """
    if request.index >= len(OFFERED):
        raise TransportError(f"DOE discovery asks for index {request.index}, which does not exist")
    feature = OFFERED[request.index]
    following = (request.index + 1) % len(OFFERED)
    payload = struct.pack("<HBB", feature.vendor_id, feature.object_type, following)
    return _object(ObjectType.DISCOVERY, payload)


def decode(data: bytes, *, requester: bool) -> Frame | DiscoveryRequest | DiscoveryResponse:
    """One data object.

    Args:
        data: exactly one object.
        requester: we are the requester, so that discovery objects are responses.

    Raises:
        TransportError: its header contradicts its size, or it is of a foreign type.
    """
    if len(data) < HEADER_SIZE:
        raise TransportError(f"a DOE data object of {len(data)} bytes has no whole header")
    vendor, kind, _reserved, length = HEADER.unpack_from(data)
    if vendor != VENDOR_PCI_SIG:
        raise TransportError(f"a DOE data object of vendor 0x{vendor:04X}, not of the PCI-SIG")
    words = length % MAX_WORDS or MAX_WORDS
    if words * WORD != len(data):
        raise TransportError(f"a DOE data object of {len(data)} bytes says {words * WORD}")
    payload = data[HEADER_SIZE:]
    if kind == ObjectType.DISCOVERY:
        return _decode_discovery(payload, requester=requester)
    frame = _KINDS.get(kind)
    if frame is None:
        raise TransportError(f"DOE data object type {kind} is not SPDM")
    return Frame(frame, unpad(frame, payload))


def _decode_discovery(payload: bytes, *, requester: bool) -> DiscoveryRequest | DiscoveryResponse:
    if len(payload) != WORD:
        raise TransportError(f"a DOE discovery object of {len(payload)} bytes instead of 4")
    if requester:
        vendor, kind, following = struct.unpack("<HBB", payload)
        return DiscoveryResponse(Feature(vendor, kind), following)
    return DiscoveryRequest(payload[0], payload[1])


def unpad(kind: FrameKind, payload: bytes) -> bytes:
    """The payload without the filling, where its own lengths tell where it ends.

    A message whose size depends on what was negotiated keeps up to three zero bytes; the decoder
    of the message knows its end and leaves them out of every hash.
    """
    if kind is FrameKind.SECURED:
        length = int.from_bytes(payload[RECORD_HEAD - 2 : RECORD_HEAD], "little")
        size: int | None = RECORD_HEAD + length
    else:
        try:
            size = message_length(payload)
        except SpdmError:
            size = None
    if size is None or not 0 <= len(payload) - size < WORD or any(payload[size:]):
        return payload
    return payload[:size]
