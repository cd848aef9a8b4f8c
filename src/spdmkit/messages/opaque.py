"""Opaque data: its two formats, and what secured messages put into it.

From 1.2 on, when OpaqueDataFmt1 was negotiated, opaque data is a list of elements (DSP0274 clause
14). SPDM 1.1 leaves the format free; secured messages then use a table with a header of its own.
DSP0277 says by these elements which record version a session uses.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeVar

from spdmkit.errors import DecodeError
from spdmkit.messages.codes import Registry
from spdmkit.messages.context import V12, Context
from spdmkit.wire import Format, Struct, structure
from spdmkit.wire.kinds import Uint
from spdmkit.wire.layout import align, count_of, items, prefixed, reserved, u8, u16, u32

__all__ = [
    "AeadLimit",
    "GeneralOpaqueData",
    "OpaqueDataTable",
    "OpaqueElement",
    "SecuredMessageDataId",
    "SecuredMessageParameters",
    "SelectedVersion",
    "SupportedVersions",
    "encode_opaque",
    "parse_opaque",
]

T = TypeVar("T", bound=Struct)

DMTF_SPEC_ID = 0x444D5446
"""SpecID of the table header: "DMTF" as a number."""

FMT1 = 0b10
"""OpaqueDataFmt1 of OtherParamsSelection."""

UNLIMITED_EXPONENT = 64
"""AEAD limit when nothing is said: 2^64 records."""


@structure(clause="14")
class OpaqueElement(Struct):
    """An element of opaque data (DSP0274 table 159).

    Attributes:
        registry: with `vendor_id`: whose data this is.
    """

    registry: int = u8("ID", display=Registry)
    vendor_id: bytes = prefixed(1, length_name="VendorIDLen")
    data: bytes = prefixed(2, "OpaqueElementData", length_name="OpaqueElementDataLen")
    _padding = align(4)


@structure(clause="14")
class GeneralOpaqueData(Struct):
    """Opaque data of OpaqueDataFmt1 (DSP0274 table 158)."""

    _total = count_of("elements", 1, "TotalElements")
    _reserved = reserved(3)
    elements: list[OpaqueElement] = items(OpaqueElement, "OpaqueList", count="_total")


@structure(clause="DSP0277 1.0, general opaque data table")
class OpaqueDataTable(Struct):
    """Opaque data with the table header that SPDM 1.1 sessions use."""

    spec_id: int = u32(
        default=DMTF_SPEC_ID, minimum=DMTF_SPEC_ID, maximum=DMTF_SPEC_ID, display=Format.HEX
    )
    opaque_version: int = u8(default=1, minimum=1, maximum=1)
    _total = count_of("elements", 1, "TotalElements")
    _reserved = reserved(2)
    elements: list[OpaqueElement] = items(OpaqueElement, "OpaqueList", count="_total")


def parse_opaque(data: bytes, ctx: Context) -> list[OpaqueElement]:
    """The elements of an opaque data field.

    Where no format was negotiated and the data does not start with the table's header, it is
    somebody's own and there are no elements.

    Raises:
        DecodeError: malformed, or bytes are left over.
    """
    if not data:
        return []
    if ctx.version >= V12 and ctx.opaque_format == FMT1:
        return GeneralOpaqueData.decode(data, ctx).elements
    if data.startswith(DMTF_SPEC_ID.to_bytes(4, "little")):
        return OpaqueDataTable.decode(data, ctx).elements
    return []


def encode_opaque(elements: list[OpaqueElement], ctx: Context) -> bytes:
    """An opaque data field with these elements, empty without any, in the format that is in use."""
    if not elements:
        return b""
    if ctx.version >= V12 and ctx.opaque_format == FMT1:
        return GeneralOpaqueData(elements=elements).encode(ctx)
    return OpaqueDataTable(elements=elements).encode(ctx)


# --- secured messages ----------------------------------------------------------------------------


class SecuredMessageDataId(enum.IntEnum):
    """SMDataID (DSP0277 clause 8)."""

    VERSION_SELECTION = 0
    SUPPORTED_VERSIONS = 1
    AEAD_LIMIT = 2


@structure(clause="DSP0277 8")
class SelectedVersion(Struct):
    """The secured message version a Responder selected, as a VersionNumberEntry."""

    sm_data_version: int = u8("SMDataVersion", default=1, minimum=1, maximum=1)
    sm_data_id: int = u8("SMDataID", maximum=0, display=SecuredMessageDataId)
    selected_version: int = u16(display=Format.VERSION)


@structure(clause="DSP0277 8")
class SupportedVersions(Struct):
    """The secured message versions a Requester offers, as VersionNumberEntries."""

    sm_data_version: int = u8("SMDataVersion", default=1, minimum=1, maximum=1)
    sm_data_id: int = u8("SMDataID", default=1, minimum=1, maximum=1, display=SecuredMessageDataId)
    _count = count_of("versions", 1, "SecuredMsgVersionsCount")
    versions: list[int] = items(
        Uint(name="VersionNumberEntry", size=2, display=Format.VERSION), count="_count"
    )


@structure(clause="DSP0277 1.3, AEAD limit")
class AeadLimit(Struct):
    """How many records one side takes under one key: 2^exponent."""

    sm_data_version: int = u8("SMDataVersion", default=1, minimum=1, maximum=1)
    sm_data_id: int = u8("SMDataID", default=2, minimum=2, maximum=2, display=SecuredMessageDataId)
    exponent: int = u8("AEADLimitExponent", maximum=UNLIMITED_EXPONENT)


@dataclass(slots=True)
class SecuredMessageParameters:
    """What the opaque data of KEY_EXCHANGE or PSK_EXCHANGE says about records.

    Attributes:
        supported: versions offered, in a request.
        selected: the version chosen, in a response.
        aead_limit_exponent: at most 2^exponent records under one key.
    """

    supported: tuple[int, ...] = ()
    selected: int | None = None
    aead_limit_exponent: int = UNLIMITED_EXPONENT

    def encode(self, ctx: Context) -> bytes:
        """The opaque data field that says this."""
        parts: list[Struct] = []
        if self.supported:
            parts.append(SupportedVersions(versions=list(self.supported)))
        if self.selected is not None:
            parts.append(SelectedVersion(selected_version=self.selected))
        if self.aead_limit_exponent != UNLIMITED_EXPONENT:
            parts.append(AeadLimit(exponent=self.aead_limit_exponent))
        return encode_opaque([OpaqueElement(data=part.encode(ctx)) for part in parts], ctx)

    @classmethod
    def decode(cls, data: bytes, ctx: Context) -> SecuredMessageParameters:
        """Read an opaque data field; elements of others and unknown ids are passed over.

        Raises:
            DecodeError: malformed, or one thing is said twice.
        """
        found: dict[int, bytes] = {}
        for element in parse_opaque(data, ctx):
            if element.registry != Registry.DMTF or element.vendor_id:
                continue
            if len(element.data) < 2:
                raise DecodeError("OpaqueElement", "SMDataID", 0, "is missing")
            if element.data[1] in found:
                raise DecodeError("OpaqueElement", "SMDataID", 1, f"{element.data[1]} comes twice")
            found[element.data[1]] = element.data
        supported = _read(
            SupportedVersions, found.get(SecuredMessageDataId.SUPPORTED_VERSIONS), ctx
        )
        selected = _read(SelectedVersion, found.get(SecuredMessageDataId.VERSION_SELECTION), ctx)
        limit = _read(AeadLimit, found.get(SecuredMessageDataId.AEAD_LIMIT), ctx)
        return cls(
            supported=() if supported is None else tuple(supported.versions),
            selected=None if selected is None else selected.selected_version,
            aead_limit_exponent=UNLIMITED_EXPONENT if limit is None else limit.exponent,
        )


def _read(struct: type[T], data: bytes | None, ctx: Context) -> T | None:
    return None if data is None else struct.decode(data, ctx)
