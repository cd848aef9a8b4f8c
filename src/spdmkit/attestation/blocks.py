"""What a measurement block says (DSP0274 10.12.1.1): kind of value, device mode, manifest.

The message layer delivers a block as index, value type and bytes; this module gives those bytes
their meaning, and says so when they have none (`malformed`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from spdmkit.errors import DecodeError

__all__ = [
    "DEVICE_MODE_INDEX",
    "MANIFEST_INDEX",
    "Block",
    "BlockKind",
    "DebugState",
    "DeviceMode",
    "ManifestHeader",
    "OperationalState",
    "kind_from_name",
    "security_version",
    "version_text",
]

MANIFEST_INDEX = 0xFD
"""Index of the measurement manifest (DSP0274 table 57)."""
DEVICE_MODE_INDEX = 0xFE
"""Index of the device mode (DSP0274 table 57)."""


class BlockKind(enum.IntEnum):
    """DMTFSpecMeasurementValueType bits 6:0 (DSP0274 table 61)."""

    IMMUTABLE_ROM = 0x0
    MUTABLE_FIRMWARE = 0x1
    HARDWARE_CONFIGURATION = 0x2
    FIRMWARE_CONFIGURATION = 0x3
    FREEFORM_MANIFEST = 0x4
    DEVICE_MODE = 0x5
    FIRMWARE_VERSION = 0x6
    FIRMWARE_SVN = 0x7
    HASH_EXTEND = 0x8
    INFORMATIONAL = 0x9
    STRUCTURED_MANIFEST = 0xA

    @property
    def label(self) -> str:
        """The name reports and files use: "mutable-firmware"."""
        return self.name.lower().replace("_", "-")


KINDS_BY_LABEL = {kind.label: kind for kind in BlockKind}

RAW_ONLY = frozenset({BlockKind.DEVICE_MODE, BlockKind.INFORMATIONAL})
"""Kinds whose representation shall be the raw bit stream."""
DIGEST_ONLY = frozenset({BlockKind.HASH_EXTEND})
"""Kinds whose representation shall be a digest."""


def kind_from_name(label: str) -> BlockKind | None:
    """The kind with that label ("firmware-svn"), or None."""
    return KINDS_BY_LABEL.get(label)


class OperationalState(enum.IntFlag):
    """OperationalModeState (DSP0274 table 62)."""

    MANUFACTURING = 1 << 0
    VALIDATION = 1 << 1
    NORMAL = 1 << 2
    RECOVERY = 1 << 3
    RMA = 1 << 4
    DECOMMISSIONED = 1 << 5


class DebugState(enum.IntFlag):
    """DeviceModeState (DSP0274 table 62)."""

    NON_INVASIVE_ACTIVE = 1 << 0
    INVASIVE_ACTIVE = 1 << 1
    NON_INVASIVE_THIS_RESET = 1 << 2
    INVASIVE_THIS_RESET = 1 << 3
    INVASIVE_SINCE_MANUFACTURING = 1 << 4


@dataclass(frozen=True, slots=True)
class DeviceMode:
    """The device mode field of a measurement block (DSP0274 table 62); reserved bits are dropped.

    Attributes:
        operational_capabilities: states the device can report.
        operational: states it is in.
        debug_capabilities: debug states it can report.
        debug: debug states that hold.
    """

    operational_capabilities: OperationalState
    operational: OperationalState
    debug_capabilities: DebugState
    debug: DebugState

    @classmethod
    def parse(cls, value: bytes) -> DeviceMode:
        """The 16 bytes of a device mode.

        Raises:
            DecodeError: another size.
        """
        if len(value) != 16:
            raise DecodeError("device mode", "size", 0, f"{len(value)} bytes instead of 16")
        words = [int.from_bytes(value[at : at + 4], "little") for at in (0, 4, 8, 12)]
        operational, debug = int(~OperationalState(0)), int(~DebugState(0))
        return cls(
            OperationalState(words[0] & operational),
            OperationalState(words[1] & operational),
            DebugState(words[2] & debug),
            DebugState(words[3] & debug),
        )

    def words(self) -> dict[str, list[str]]:
        """Names of the states, for reports."""
        return {
            "operational": _flag_names(self.operational),
            "debug": _flag_names(self.debug),
            "operational_reported": _flag_names(self.operational_capabilities),
            "debug_reported": _flag_names(self.debug_capabilities),
        }


def _flag_names(flags: Iterable[OperationalState | DebugState]) -> list[str]:
    return [str(flag.name).lower().replace("_", "-") for flag in flags]


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """A structured measurement manifest (DSP0274 table 63): who defines its format, and the data.

    Attributes:
        registry: ID of the standards body or vendor header (DSP0274 table 72).
        vendor_id: VendorID, possibly empty.
        data: the manifest itself.
    """

    registry: int
    vendor_id: bytes
    data: bytes

    @classmethod
    def parse(cls, value: bytes) -> ManifestHeader:
        """The content of a raw block of kind 0xA.

        Raises:
            DecodeError: shorter than its own header says.
        """
        if len(value) < 2 or len(value) < 2 + value[1]:
            raise DecodeError("structured manifest", "SVH", 0, "shorter than its header says")
        end = 2 + value[1]
        return cls(value[0], value[2:end], value[end:])


@dataclass(frozen=True, slots=True)
class Block:
    """One measurement block in DMTF format (DSP0274 table 60).

    Attributes:
        index: 1 to 0xFE.
        value_type: DMTFSpecMeasurementValueType as received.
        value: DMTFSpecMeasurementValue.
        encoded: the whole block as received, its 4-byte header included; the measurement summary
            hash covers this (DSP0274, CHALLENGE_AUTH).
    """

    index: int
    value_type: int
    value: bytes
    encoded: bytes = b""

    @property
    def is_raw(self) -> bool:
        """Bit 7: the value is the raw bit stream and not a digest."""
        return bool(self.value_type & 0x80)

    @property
    def kind(self) -> BlockKind | None:
        """What is being measured, or None where DSP0274 reserves the number."""
        try:
            return BlockKind(self.value_type & 0x7F)
        except ValueError:
            return None

    @property
    def kind_label(self) -> str:
        """Name of the kind, for reports."""
        kind = self.kind
        return kind.label if kind is not None else f"reserved-0x{self.value_type & 0x7F:02x}"

    def fault(self, digest_size: int) -> str:
        """What is wrong with the block's form, or an empty string.

        Args:
            digest_size: bytes of a digest by the negotiated measurement hash; 0 when it is not
                known (evidence without the negotiation).
        """
        kind = self.kind
        if kind is None:
            return f"kind 0x{self.value_type & 0x7F:02x} is reserved"
        if self.is_raw and kind in DIGEST_ONLY:
            return "a hash-extend measurement cannot be a raw bit stream"
        if not self.is_raw:
            if kind in RAW_ONLY:
                return f"{kind.label} must be a raw bit stream"
            if digest_size and len(self.value) != digest_size:
                return f"digest of {len(self.value)} bytes, the measurement hash has {digest_size}"
            return "" if self.value else "empty digest"
        parse = _PARSERS.get(kind)
        if parse is None:
            return ""
        try:
            parse(self.value)
        except DecodeError as error:
            return error.reason
        return ""


def version_text(value: bytes) -> str:
    """A firmware version as text; the specification leaves its encoding to the vendor.

    A zero-filled tail is dropped. Bytes that are no printable UTF-8 give their hexadecimal form, so
    that two versions are equal only when their bytes are.
    """
    trimmed = value.rstrip(b"\0")
    try:
        text = trimmed.decode("utf-8")
    except UnicodeDecodeError:
        return "0x" + value.hex()
    return text if text.isprintable() else "0x" + value.hex()


def security_version(value: bytes) -> int:
    """The security version number of a raw block of kind 0x7: 8 bytes, little endian.

    Raises:
        DecodeError: another size.
    """
    if len(value) != 8:
        raise DecodeError("security version number", "size", 0, f"{len(value)} bytes instead of 8")
    return int.from_bytes(value, "little")


_PARSERS = {
    BlockKind.DEVICE_MODE: DeviceMode.parse,
    BlockKind.FIRMWARE_SVN: security_version,
    BlockKind.STRUCTURED_MANIFEST: ManifestHeader.parse,
}
