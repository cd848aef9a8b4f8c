"""What a measurement block says, and whether it is well formed (DSP0274 10.12.1.1).

The message layer takes a block apart; this module says what its value means, and what is wrong
with it when it means nothing (`Block.fault`). A block that is not well formed is one bad
measurement, not a bad message: the others are still appraised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.messages import (
    V12,
    Context,
    DeviceMode,
    DmtfMeasurement,
    MeasurementBlock,
    MeasurementKind,
    SecurityVersionNumber,
    StructuredManifest,
)
from spdmkit.messages.measurements import DebugMode, OperationalMode

__all__ = [
    "DEVICE_MODE_INDEX",
    "MANIFEST_INDEX",
    "Block",
    "ModeStates",
    "flag_names",
    "kind_from_label",
    "kind_label",
    "version_text",
]

MANIFEST_INDEX: Final = 0xFD
"""Index of the measurement manifest (DSP0274 table 57)."""
DEVICE_MODE_INDEX: Final = 0xFE
"""Index of the device mode (DSP0274 table 57)."""

_RAW_ONLY: Final = frozenset({MeasurementKind.DEVICE_MODE, MeasurementKind.INFORMATIONAL})
_DIGEST_ONLY: Final = frozenset({MeasurementKind.HASH_EXTEND})
_DMTF: Final = 0x01
_OPERATIONAL: Final = sum(flag.value for flag in OperationalMode)
_DEBUG: Final = sum(flag.value for flag in DebugMode)
_CONTEXT: Final = Context(version=V12)  # the layouts used here are the same in every version


def kind_label(kind: int) -> str:
    """What reports and files call a kind of measurement: "mutable-firmware"."""
    return _LABELS.get(kind) or f"reserved-0x{kind:02x}"


_LABELS: Final = {int(kind): kind.name.lower().replace("_", "-") for kind in MeasurementKind}
_BY_LABEL: Final = {kind_label(kind): kind for kind in MeasurementKind}


def kind_from_label(label: str) -> MeasurementKind:
    """The kind with that label.

    Raises:
        ConfigurationError: none has it; the hint lists those that exist.
    """
    found = _BY_LABEL.get(label)
    if found is None:
        raise ConfigurationError(
            f"no type of measurement is called {label!r}", hint=f"known: {', '.join(_BY_LABEL)}"
        )
    return found


def flag_names(flags: OperationalMode | DebugMode) -> list[str]:
    """Names of the flags that are set, for reports: "non-invasive-active"."""
    value = int(flags)
    return [name for bit, name in _FLAG_NAMES[type(flags)] if value & bit]


_FLAG_NAMES: Final = {
    kind: [(flag.value, str(flag.name).lower().replace("_", "-")) for flag in kind]
    for kind in (OperationalMode, DebugMode)
}


@dataclass(frozen=True, slots=True)
class ModeStates:
    """The states a device mode block reports (DSP0274 table 62); reserved bits are left out.

    Attributes:
        operational: operational states the device is in.
        operational_reported: operational states it can report.
        debug: debug states that hold.
        debug_reported: debug states it can report.
    """

    operational: OperationalMode
    operational_reported: OperationalMode
    debug: DebugMode
    debug_reported: DebugMode

    def as_dict(self) -> dict[str, list[str]]:
        """Names of the states, for reports."""
        return {
            "operational": flag_names(self.operational),
            "operational_reported": flag_names(self.operational_reported),
            "debug": flag_names(self.debug),
            "debug_reported": flag_names(self.debug_reported),
        }


@dataclass(frozen=True, slots=True)
class Block:
    """One measurement block.

    Attributes:
        index: 1 to 0xFE.
        kind: DMTFSpecMeasurementValueType bits 6:0; -1 when the block is not in DMTF's format.
        raw: bit 7: the value is the raw bit stream and not a digest.
        value: DMTFSpecMeasurementValue; the whole measurement when the block is not in that format.
        encoded: the block as received with its 4-byte header: what the measurement summary hash
            covers (DSP0274 10.10).
        broken: why the block could not be taken apart, or empty.
    """

    index: int
    kind: int
    raw: bool
    value: bytes
    encoded: bytes
    broken: str = ""

    @classmethod
    def read(cls, block: MeasurementBlock) -> Block:
        """Take a block's measurement apart.

        Nothing but its bytes matters, and devices of one kind measure the same: the last 1,024 of
        up to 256 bytes are remembered.
        """
        parts = block.index, block.measurement_specification, block.measurement
        return _remembered(*parts) if len(block.measurement) <= 256 else _read(*parts)

    @property
    def label(self) -> str:
        """Name of the kind, for reports."""
        return "unknown" if self.kind < 0 else kind_label(self.kind)

    def fault(self, digest_size: int) -> str:
        """What is wrong with the block's form, or an empty string.

        Args:
            digest_size: bytes of a digest by the negotiated measurement hash; 0 when it is not
                known (evidence without the negotiation).
        """
        if self.broken:
            return self.broken
        if not 1 <= self.index <= 0xFE:
            return f"index {self.index} is no measurement's"
        if self.kind not in _LABELS:
            return f"kind 0x{self.kind:02x} is reserved"
        if not self.raw:
            return self._digest_fault(digest_size)
        if self.kind in _DIGEST_ONLY:
            return f"{self.label} cannot be a raw bit stream"
        try:
            _READERS.get(self.kind, _anything)(self.value)
        except DecodeError as error:
            return str(error)
        return ""

    def _digest_fault(self, digest_size: int) -> str:
        if self.kind in _RAW_ONLY:
            return f"{self.label} has to be a raw bit stream"
        if digest_size and len(self.value) != digest_size:
            return f"digest of {len(self.value)} bytes, the measurement hash has {digest_size}"
        return "" if self.value else "empty digest"

    @property
    def modes(self) -> ModeStates | None:
        """The states of a well-formed device mode block; None for any other."""
        if self.kind != MeasurementKind.DEVICE_MODE or self.fault(0):
            return None
        mode = DeviceMode.decode(self.value, _CONTEXT)
        return ModeStates(
            OperationalMode(mode.operational_mode_state & _OPERATIONAL),
            OperationalMode(mode.operational_mode_capabilities & _OPERATIONAL),
            DebugMode(mode.device_mode_state & _DEBUG),
            DebugMode(mode.device_mode_capabilities & _DEBUG),
        )

    @property
    def security_version(self) -> int | None:
        """The number in a well-formed raw security version block; None for any other."""
        if self.kind != MeasurementKind.MUTABLE_FIRMWARE_SVN or not self.raw or self.fault(0):
            return None
        return SecurityVersionNumber.decode(self.value, _CONTEXT).svn

    @property
    def version(self) -> str | None:
        """The text of a raw firmware version block; None for any other."""
        if self.kind != MeasurementKind.MUTABLE_FIRMWARE_VERSION or not self.raw:
            return None
        return version_text(self.value)

    @property
    def manifest(self) -> StructuredManifest | None:
        """A raw structured manifest with its header (DSP0274 table 63); None for any other."""
        if self.kind != MeasurementKind.STRUCTURED_MANIFEST or not self.raw or self.fault(0):
            return None
        return StructuredManifest.decode(self.value, _CONTEXT)


def _read(index: int, specification: int, measurement: bytes) -> Block:
    block = MeasurementBlock(
        index=index, measurement_specification=specification, measurement=measurement
    )
    encoded = block.encode(_CONTEXT)
    if specification != _DMTF:
        broken = f"measurement specification 0x{specification:02x}"
        return Block(index, -1, False, measurement, encoded, broken)
    try:
        found = DmtfMeasurement.decode(measurement, _CONTEXT)
    except DecodeError as error:
        return Block(index, -1, False, measurement, encoded, str(error))
    return Block(index, found.kind, found.raw, found.value, encoded)


_remembered = functools.lru_cache(maxsize=1024)(_read)


def version_text(value: bytes) -> str:
    """A firmware version as text; the specification leaves its encoding to the vendor.

    A zero-filled tail is dropped. Bytes that are no printable UTF-8 give their hexadecimal form, so
    that two versions are equal only when their bytes are.
    """
    try:
        text = value.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return "0x" + value.hex()
    return text if text.isprintable() else "0x" + value.hex()


def _anything(_value: bytes) -> None:
    return None


def _security_version(value: bytes) -> None:
    SecurityVersionNumber.decode(value, _CONTEXT)


def _device_mode(value: bytes) -> None:
    DeviceMode.decode(value, _CONTEXT)


def _structured_manifest(value: bytes) -> None:
    StructuredManifest.decode(value, _CONTEXT)


_READERS: Final[dict[int, Callable[[bytes], None]]] = {
    MeasurementKind.DEVICE_MODE: _device_mode,
    MeasurementKind.MUTABLE_FIRMWARE_SVN: _security_version,
    MeasurementKind.STRUCTURED_MANIFEST: _structured_manifest,
}
