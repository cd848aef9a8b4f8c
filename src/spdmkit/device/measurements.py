"""From `device.toml` to the measurements of a device and its measurement extension log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from spdmkit.attestation.files import read_bounded
from spdmkit.crypto.registry import MEASUREMENT_HASH, HashAlgorithm
from spdmkit.device.configuration import (
    Configuration,
    DeviceMode,
    LogEntry,
    Manifest,
    MeasurementSource,
    registry_id,
)
from spdmkit.errors import ConfigurationError
from spdmkit.messages import V14, Context, MeasurementLog, MeasurementLogEntry, StructuredManifest
from spdmkit.messages import DeviceMode as DeviceModeStruct
from spdmkit.messages.measurements import DebugMode, OperationalMode
from spdmkit.protocol.responder.device import Measurement

__all__ = ["MeasuredState", "extended_value", "files_as_they_are", "measure"]

MAX_FILE: Final = 256 << 20
"""Largest file that is measured by its digest, in bytes."""
MAX_RAW: Final = 0xFFFF - 3
"""Most bytes of a value: MeasurementSize counts them and three bytes of its own."""
_CONTEXT: Final = Context(version=V14)


class MeasuredState:
    """What a device measured at one moment.

    Attributes:
        measurements: ascending by index.
        log: the measurement extension log, encoded.
    """

    __slots__ = ("log", "measurements")

    def __init__(self, measurements: Sequence[Measurement], log: bytes) -> None:
        self.measurements = measurements
        self.log = log


def measure(configuration: Configuration, folder: Path) -> MeasuredState:
    """Take all measurements anew.

    Args:
        configuration: what to measure.
        folder: files are looked for here.

    Raises:
        ConfigurationError: a file is missing or too large.
    """
    entries = [
        _log_entry(number, entry, folder) for number, entry in enumerate(configuration.log, 1)
    ]
    hashes = tuple(MEASUREMENT_HASH.by_bit(e.bit) for e in configuration.measurement_hashes())
    taken = [
        _measurement(source, folder, entries, hashes)
        for source in sorted(configuration.measurement, key=lambda each: each.index)
    ]
    return MeasuredState(taken, MeasurementLog(entries=entries).encode(_CONTEXT))


def files_as_they_are(configuration: Configuration, folder: Path) -> tuple[object, ...]:
    """Something that differs when a measured file changed: measuring again is for then only."""
    names = [each.file for each in configuration.measurement if each.file]
    names += [each.file for each in configuration.log if each.file]
    names += [each.manifest.file for each in configuration.measurement if each.manifest]
    return tuple(_identity(folder / name) for name in names)


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def extended_value(
    entries: Iterable[MeasurementLogEntry], index: int, algorithm: HashAlgorithm
) -> bytes:
    """What the entries of a log for one index add up to (DSP0274 10.12, hash-extend).

    The value starts as zeros and becomes hash(value || entry) with each entry, its head included.
    """
    value = bytes(algorithm.size)
    for entry in entries:
        if entry.meas_index == index:
            value = algorithm.digest(value + entry.encode(_CONTEXT))
    return value


def _measurement(
    source: MeasurementSource,
    folder: Path,
    entries: Sequence[MeasurementLogEntry],
    hashes: Sequence[HashAlgorithm],
) -> Measurement:
    raw: bytes | None = None
    digests: tuple[tuple[str, bytes], ...] = ()
    if source.log:
        digests = tuple((h.name, extended_value(entries, source.index, h)) for h in hashes)
    elif source.digests is not None:
        digests = tuple(
            (MEASUREMENT_HASH.by_name(name).name, bytes.fromhex(value))
            for name, value in source.digests.items()
        )
    elif source.file is not None and source.digest_only:
        content = _content(folder / source.file, MAX_FILE)
        digests = tuple((h.name, h.digest(content)) for h in hashes)
    else:
        raw = _raw_value(source, folder)
    return Measurement(source.index, source.kind, raw=raw, digests=digests, tcb=source.tcb)


def _raw_value(source: MeasurementSource, folder: Path) -> bytes:
    if source.svn is not None:
        if source.svn >= 1 << 64:
            raise ConfigurationError(f"measurement {source.index}: svn has at most 64 bits")
        return source.svn.to_bytes(8, "little")
    if source.device_mode is not None:
        return _device_mode(source.device_mode)
    if source.manifest is not None:
        return _manifest(source.manifest, folder)
    return _plain_value(source, folder)


def _plain_value(source: MeasurementSource | LogEntry, folder: Path) -> bytes:
    if source.file is not None:
        return _content(folder / source.file, MAX_RAW)
    value = (source.text or "").encode() if source.hex is None else bytes.fromhex(source.hex)
    if len(value) > MAX_RAW:
        raise ConfigurationError(f"a value of {len(value)} bytes, at most {MAX_RAW} fit a block")
    return value


def _content(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit)
    except ConfigurationError as error:
        hint = "" if limit == MAX_FILE else "digest_only = true gives the digest of a larger file"
        raise ConfigurationError(f"cannot measure {error}", hint=hint) from error


def _device_mode(mode: DeviceMode) -> bytes:
    operational = _modes(mode.operational, OperationalMode)
    debug = _modes(mode.debug, DebugMode)
    return DeviceModeStruct(
        # Whatever it is in, it can report.
        operational_mode_capabilities=_modes(mode.operational_reported, OperationalMode)
        | operational,
        operational_mode_state=operational,
        device_mode_capabilities=_modes(mode.debug_reported, DebugMode) | debug,
        device_mode_state=debug,
    ).encode(_CONTEXT)


def _modes(names: Iterable[str], kind: type[OperationalMode] | type[DebugMode]) -> int:
    known = {str(flag.name).lower().replace("_", "-"): flag for flag in kind}
    mask = 0
    for name in names:
        flag = known.get(name)
        if flag is None:
            raise ConfigurationError(
                f"no mode is called {name!r}", hint=f"known: {', '.join(known)}"
            )
        mask |= flag
    return mask


def _manifest(manifest: Manifest, folder: Path) -> bytes:
    value = StructuredManifest(
        registry=registry_id(manifest.registry),
        vendor_id=bytes.fromhex(manifest.vendor_id),
        manifest=_content(folder / manifest.file, MAX_RAW),
    ).encode(_CONTEXT)
    if len(value) > MAX_RAW:
        raise ConfigurationError(f"{manifest.file}: {len(value)} bytes with its header")
    return value


def _log_entry(number: int, entry: LogEntry, folder: Path) -> MeasurementLogEntry:
    return MeasurementLogEntry(
        mel_index=number,
        meas_index=entry.extends,
        kind=entry.kind,
        raw=True,
        value=_plain_value(entry, folder),
    )
