"""MEASUREMENTS, measurement blocks, and the measurement extension log."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

from spdmkit.messages.base import Message, message
from spdmkit.messages.certificates import OPAQUE_DATA_LIMIT
from spdmkit.messages.codes import Registry, RequestCode, ResponseCode
from spdmkit.messages.context import V10, V11, V12, V13
from spdmkit.wire import Format, Struct, structure
from spdmkit.wire.kinds import Alternatives, Embedded
from spdmkit.wire.layout import (
    bits,
    count_of,
    counted,
    fixed,
    flag,
    items,
    length_of,
    prefixed,
    reserved,
    rest,
    sized,
    u8,
    u32,
    u64,
    word,
)
from spdmkit.wire.predicates import Present, Requested

__all__ = [
    "MEASUREMENT_KIND_SINCE",
    "ContentChanged",
    "DeviceMode",
    "DmtfMeasurement",
    "GetMeasurementExtensionLog",
    "GetMeasurements",
    "MeasurementBlock",
    "MeasurementExtensionLog",
    "MeasurementKind",
    "MeasurementLog",
    "MeasurementLogEntry",
    "MeasurementOperation",
    "Measurements",
    "SecurityVersionNumber",
    "StructuredManifest",
]


class MeasurementOperation(enum.IntEnum):
    """Values of MeasurementOperation that are no index (DSP0274 table 55)."""

    TOTAL_NUMBER = 0x00
    ALL = 0xFF


class MeasurementKind(enum.IntEnum):
    """DMTFSpecMeasurementValueType bits 6:0 (DSP0274 table 61)."""

    IMMUTABLE_ROM = 0
    MUTABLE_FIRMWARE = 1
    HARDWARE_CONFIGURATION = 2
    FIRMWARE_CONFIGURATION = 3
    MEASUREMENT_MANIFEST = 4
    DEVICE_MODE = 5
    MUTABLE_FIRMWARE_VERSION = 6
    MUTABLE_FIRMWARE_SVN = 7
    HASH_EXTEND = 8
    INFORMATIONAL = 9
    STRUCTURED_MANIFEST = 10


MEASUREMENT_KIND_SINCE: Final = MappingProxyType(
    {
        MeasurementKind.IMMUTABLE_ROM: V10,
        MeasurementKind.MUTABLE_FIRMWARE: V10,
        MeasurementKind.HARDWARE_CONFIGURATION: V10,
        MeasurementKind.FIRMWARE_CONFIGURATION: V10,
        MeasurementKind.MEASUREMENT_MANIFEST: V11,
        MeasurementKind.DEVICE_MODE: V12,
        MeasurementKind.MUTABLE_FIRMWARE_VERSION: V12,
        MeasurementKind.MUTABLE_FIRMWARE_SVN: V12,
        MeasurementKind.HASH_EXTEND: V13,
        MeasurementKind.INFORMATIONAL: V13,
        MeasurementKind.STRUCTURED_MANIFEST: V13,
    }
)
"""The SPDM version that brought each kind; connections of earlier ones are not shown it."""


class ContentChanged(enum.IntEnum):
    """Whether measurements changed while they were read (DSP0274 table 58, Param2)."""

    NOT_DETECTED = 0
    CHANGED = 1
    NOT_CHANGED = 2


class OperationalMode(enum.IntFlag):
    """Operational modes of a device (DSP0274 table 62)."""

    MANUFACTURING = 1 << 0
    VALIDATION = 1 << 1
    NORMAL = 1 << 2
    RECOVERY = 1 << 3
    RMA = 1 << 4
    DECOMMISSIONED = 1 << 5


class DebugMode(enum.IntFlag):
    """Debug modes of a device (DSP0274 table 62)."""

    NON_INVASIVE_ACTIVE = 1 << 0
    INVASIVE_ACTIVE = 1 << 1
    NON_INVASIVE_THIS_RESET = 1 << 2
    INVASIVE_THIS_RESET = 1 << 3
    INVASIVE_EVER = 1 << 4


@structure(clause="10.12", name="DeviceMode")
class DeviceMode(Struct):
    """The device mode field of a measurement block (DSP0274 table 62)."""

    operational_mode_capabilities: int = u32(display=OperationalMode)
    operational_mode_state: int = u32(display=OperationalMode)
    device_mode_capabilities: int = u32(display=DebugMode)
    device_mode_state: int = u32(display=DebugMode)


@structure(clause="10.12", name="SecurityVersionNumber")
class SecurityVersionNumber(Struct):
    """The security version number of mutable firmware."""

    svn: int = u64("SVN")


@structure(clause="10.12", name="ManifestMeasurement")
class StructuredManifest(Struct):
    """A manifest whose format a standards body or vendor defines (DSP0274 table 63)."""

    registry: int = u8("ID", display=Registry)
    vendor_id: bytes = prefixed(1, length_name="VendorIDLen")
    manifest: bytes = rest()


@structure(clause="10.12", name="DMTFMeasurement")
class DmtfMeasurement(Struct):
    """A measurement in DMTF's format (DSP0274 table 60).

    Attributes:
        raw: the value is the raw bit stream, not a digest.
        kind: what was measured.
    """

    _value_type = word("DMTFSpecMeasurementValueType")
    kind: int = bits(_value_type, 0, 7, "Kind", display=MeasurementKind)
    raw: bool = flag(_value_type, 7, "RawBitStream")
    value: bytes = prefixed(
        2,
        "DMTFSpecMeasurementValue",
        length_name="DMTFSpecMeasurementValueSize",
        inner=Alternatives(
            "kind",
            {
                MeasurementKind.DEVICE_MODE: DeviceMode,
                MeasurementKind.MUTABLE_FIRMWARE_SVN: SecurityVersionNumber,
                MeasurementKind.STRUCTURED_MANIFEST: StructuredManifest,
            },
        ),
    )


@structure(clause="10.12")
class MeasurementBlock(Struct):
    """A measurement block (DSP0274 table 59).

    Attributes:
        index: 1 to 0xFE.
        measurement_specification: bit 0: `measurement` is a `DmtfMeasurement`.
    """

    index: int = u8()
    measurement_specification: int = u8(display=Format.HEX)
    measurement: bytes = prefixed(
        2,
        length_name="MeasurementSize",
        inner=Alternatives("measurement_specification", {1: DmtfMeasurement}),
    )


@message(RequestCode.GET_MEASUREMENTS, clause="10.12")
class GetMeasurements(Message):
    """GET_MEASUREMENTS: the number of measurements, one, or all, signed or not.

    Attributes:
        nonce: only when a signature is requested.
        slot_id: the key to sign with; only when a signature is requested, and from 1.1.
    """

    _param1 = word("Param1")
    signature_requested: bool = flag(_param1, 0)
    raw_bit_stream_requested: bool = flag(_param1, 1, since=V12)
    new_measurement_requested: bool = flag(_param1, 2, since=V13)
    measurement_operation: int = u8(display=MeasurementOperation)
    nonce: bytes = fixed(32, when=Present("signature_requested"))
    _slot = word("SlotIDParam", since=V11, when=Present("signature_requested"))
    slot_id: int = bits(_slot, 0, 4)
    context: bytes = fixed(8, since=V13)


@message(ResponseCode.MEASUREMENTS, clause="10.12")
class Measurements(Message):
    """MEASUREMENTS.

    Attributes:
        number_of_indices: how many there are; only meaningful for operation TOTAL_NUMBER.
        nonce: in unsigned responses too, in every version.
        signature: only when the GET_MEASUREMENTS in the context asked for it.
    """

    number_of_indices: int = u8("TotalNumberOfMeasurement")
    _param2 = word("Param2")
    slot_id: int = bits(_param2, 0, 4)
    content_changed: int = bits(_param2, 4, 2, since=V12, display=ContentChanged)
    _number_of_blocks = count_of("measurement_record", 1, "NumberOfBlocks")
    _record_length = length_of("measurement_record", 3, "MeasurementRecordLength")
    measurement_record: list[MeasurementBlock] = items(
        MeasurementBlock, count="_number_of_blocks", length="_record_length"
    )
    nonce: bytes = fixed(32)
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT)
    requester_context: bytes = fixed(8, since=V13)
    signature: bytes = sized("answer_signature_size", when=Requested("signature_requested"))


@structure(clause="10.31.2", name="MELEntry")
class MeasurementLogEntry(Struct):
    """An entry of DMTF's measurement extension log (DSP0274 table 138).

    Attributes:
        meas_index: index of the hash-extend measurement it extends, 0 for none.
    """

    mel_index: int = u32()
    meas_index: int = u8()
    _reserved = reserved(3)
    _value_type = word("DMTFSpecMeasurementValueType")
    kind: int = bits(_value_type, 0, 7, "Kind", display=MeasurementKind)
    raw: bool = flag(_value_type, 7, "RawBitStream")
    value: bytes = prefixed(
        2, "DMTFSpecMeasurementValue", length_name="DMTFSpecMeasurementValueSize"
    )


@structure(clause="10.31.2", name="MeasurementExtensionLog")
class MeasurementLog(Struct):
    """DMTF's measurement extension log, complete (DSP0274 table 137)."""

    _number_of_entries = count_of("entries", 4, "NumberOfEntries")
    _entries_length = length_of("entries", 4, "MELEntriesLength")
    _reserved = reserved(8)
    entries: list[MeasurementLogEntry] = items(
        MeasurementLogEntry, "MELEntries", count="_number_of_entries", length="_entries_length"
    )


@message(RequestCode.GET_MEASUREMENT_EXTENSION_LOG, clause="10.31", since=V13)
class GetMeasurementExtensionLog(Message):
    """GET_MEASUREMENT_EXTENSION_LOG: `length` bytes of the log from `offset`."""

    _param1 = reserved(1, "Param1")
    _param2 = reserved(1, "Param2")
    offset: int = u32()
    length: int = u32()


@message(ResponseCode.MEASUREMENT_EXTENSION_LOG, clause="10.31", since=V13)
class MeasurementExtensionLog(Message):
    """MEASUREMENT_EXTENSION_LOG: a portion of the log, and how many bytes are after it."""

    _param1 = reserved(1, "Param1")
    _param2 = reserved(1, "Param2")
    _portion = length_of("mel", 4, "PortionLength")
    remainder_length: int = u32()
    mel: bytes = counted("_portion", inner=Embedded(MeasurementLog))
