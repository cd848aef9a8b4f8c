"""The opaque data of session messages: secured message versions and AEAD limits (DSP0277 8).

Both formats carry the same elements: the general form of SPDM 1.2 and later, and the table of 1.1
that begins with the letters DMTF. What we do not know in it is skipped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from spdmkit.errors import DecodeError, ProtocolViolation
from spdmkit.messages import V12

__all__ = [
    "SecuredMessageOffer",
    "choose_version",
    "read_offer",
    "read_selection",
    "write_offer",
    "write_selection",
]

_TABLE_HEADER = b"FTMD\x01"
"""SpecID 0x444D5446 and OpaqueVersion 1 of the 1.1 form, as they stand on the wire."""
_DATA_VERSION = 1
_VERSION_SELECTION, _SUPPORTED_VERSIONS, _AEAD_LIMIT = 0, 1, 2
_DMTF = 0
_MAX_ELEMENTS = 32
MAX_LIMIT_EXPONENT = 64


@dataclass(frozen=True, slots=True)
class SecuredMessageOffer:
    """What one side said about secured messages.

    Attributes:
        versions: DSP0277 versions it supports, or the one it selected.
        limit_exponent: its AEAD limit is 2 to this many records.
    """

    versions: tuple[int, ...]
    limit_exponent: int = MAX_LIMIT_EXPONENT


def write_offer(spdm_version: int, versions: tuple[int, ...], limit_exponent: int) -> bytes:
    """Opaque data of KEY_EXCHANGE or PSK_EXCHANGE: every version, lowest first."""
    listed = sorted(versions)
    data = bytes((_DATA_VERSION, _SUPPORTED_VERSIONS, len(listed)))
    data += b"".join(version.to_bytes(2, "little") for version in listed)
    return _encode(spdm_version, [data, *_limit(limit_exponent)])


def write_selection(spdm_version: int, version: int, limit_exponent: int) -> bytes:
    """Opaque data of the response: the version chosen."""
    data = bytes((_DATA_VERSION, _VERSION_SELECTION)) + version.to_bytes(2, "little")
    return _encode(spdm_version, [data, *_limit(limit_exponent)])


def read_offer(spdm_version: int, opaque: bytes) -> SecuredMessageOffer:
    """What the requester supports.

    Raises:
        DecodeError: the layout is wrong.
        ProtocolViolation: it names no version.
    """
    elements = _elements(spdm_version, opaque)
    data = elements.get(_SUPPORTED_VERSIONS, b"")
    if not data or len(data) != 1 + 2 * data[0] or data[0] == 0:
        raise ProtocolViolation("the opaque data offers no secured message version")
    versions = struct.unpack(f"<{data[0]}H", data[1:])
    return SecuredMessageOffer(versions, _read_limit(elements))


def read_selection(spdm_version: int, opaque: bytes) -> SecuredMessageOffer:
    """What the responder chose.

    Raises:
        DecodeError: the layout is wrong.
        ProtocolViolation: it names no version.
    """
    elements = _elements(spdm_version, opaque)
    data = elements.get(_VERSION_SELECTION, b"")
    if len(data) != 2:
        raise ProtocolViolation("the opaque data selects no secured message version")
    return SecuredMessageOffer((int.from_bytes(data, "little"),), _read_limit(elements))


def choose_version(offered: tuple[int, ...], own: tuple[int, ...]) -> int:
    """The highest version of DSP0277 that both sides have, by major and minor number.

    Raises:
        ProtocolViolation: none (InvalidRequest, DSP0277 8.1).
    """
    ours = {version >> 8: version for version in own}
    common = [version for version in offered if version >> 8 in ours and not version & 0xF]
    if not common:
        raise ProtocolViolation("no secured message version in common")
    return max(common)


def _limit(exponent: int) -> list[bytes]:
    if exponent >= MAX_LIMIT_EXPONENT:
        return []
    return [bytes((_DATA_VERSION, _AEAD_LIMIT, exponent))]


def _read_limit(elements: dict[int, bytes]) -> int:
    data = elements.get(_AEAD_LIMIT)
    if data is None:
        return MAX_LIMIT_EXPONENT
    if len(data) != 1 or data[0] > MAX_LIMIT_EXPONENT:
        raise ProtocolViolation("an AEAD limit exponent above 64")
    return data[0]


def _encode(spdm_version: int, datas: list[bytes]) -> bytes:
    count = len(datas)
    if spdm_version >= V12:
        parts = [bytes((count, 0, 0, 0))]
    else:
        parts = [_TABLE_HEADER + bytes((count, 0, 0))]
    for data in datas:
        element = bytes((_DMTF, 0)) + len(data).to_bytes(2, "little") + data
        parts.append(element + bytes(-len(element) % 4))
    return b"".join(parts)


def _elements(spdm_version: int, opaque: bytes) -> dict[int, bytes]:
    """SMDataID -> data of every secured message element; the rest is checked and skipped."""
    if spdm_version >= V12:
        start, count = 4, opaque[0] if opaque else 0
        whole = len(opaque) >= start
    else:
        start, count = 8, opaque[5] if len(opaque) > 5 else 0
        whole = len(opaque) >= start and opaque.startswith(_TABLE_HEADER)
    if not whole:
        raise DecodeError("OpaqueData", "TotalElements", 0, "no list of elements")
    if count > _MAX_ELEMENTS:
        raise DecodeError("OpaqueData", "TotalElements", 0, f"{count} elements")
    found: dict[int, bytes] = {}
    offset = start
    for _ in range(count):
        offset, registry, vendor, data = _element(opaque, offset)
        if registry == _DMTF and not vendor and len(data) >= 2 and data[0] == _DATA_VERSION:
            if data[1] in found:
                raise DecodeError("OpaqueData", "SMDataID", offset, "an element comes twice")
            found[data[1]] = data[2:]
    if offset != len(opaque):
        raise DecodeError("OpaqueData", "Elements", offset, "the elements do not fill the field")
    return found


def _element(opaque: bytes, offset: int) -> tuple[int, int, bytes, bytes]:
    """The element at an offset: where the next begins, registry, vendor id, data."""
    if offset + 2 > len(opaque):
        raise DecodeError("OpaqueData", "ID", offset, "the element is cut off")
    registry, vendor_length = opaque[offset], opaque[offset + 1]
    data_at = offset + 2 + vendor_length + 2
    if data_at > len(opaque):
        raise DecodeError("OpaqueData", "VendorLen", offset + 1, "exceeds the field")
    length = int.from_bytes(opaque[data_at - 2 : data_at], "little")
    end = data_at + length
    padded = offset + (end - offset + 3) // 4 * 4
    if padded > len(opaque):
        raise DecodeError("OpaqueData", "OpaqueElementDataLen", data_at - 2, "exceeds the field")
    return padded, registry, opaque[offset + 2 : data_at - 2], opaque[data_at:end]
