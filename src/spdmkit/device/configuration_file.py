"""Reading `device.toml`, and refusing what contradicts itself with the line that says it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.toml_file import Strict, TomlFile
from spdmkit.crypto.algorithm import Algorithm
from spdmkit.crypto.registry import MEASUREMENT_HASH, signature_algorithm
from spdmkit.device.configuration import (
    ALGORITHM_KEYS,
    Configuration,
    flags_of,
    registry_id,
)
from spdmkit.errors import ConfigurationError
from spdmkit.messages import (
    V14,
    MeasurementKind,
    ResponderExtendedFlags,
    ResponderFlags,
    invalid_capabilities,
)

__all__ = ["FILE_NAME", "load_configuration", "read_configuration"]

FILE_NAME: Final = "device.toml"
_PUBLIC_KEY: Final = "requester_public_key"
MAX_SIZE: Final = 1 << 20
"""Largest `device.toml` that is read, in bytes."""
NOT_HERE: Final = frozenset({"ALIAS_CERT_CAP", "CERT_INSTALL_RESET_CAP", "SET_KEY_PAIR_RESET_CAP"})
"""Capabilities that a software device does not have: it needs no reset."""


def load_configuration(folder: Path) -> Configuration:
    """Read `device.toml` of a device's folder.

    Raises:
        ConfigurationError: there is none, or it is wrong; the message begins with "file:line:" and
            names the key.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise ConfigurationError(
            f"{folder} is not a device: it has no {FILE_NAME}",
            hint=f"make one with: spdm device init {folder}",
        )
    return read_configuration(read_bounded(path, MAX_SIZE), str(path))


def read_configuration(data: bytes, source: str = FILE_NAME) -> Configuration:
    """As `load_configuration`, from bytes.

    Raises:
        ConfigurationError: it is wrong.
    """
    file = TomlFile(data, source)
    configuration = file.convert(Configuration)
    _check_device(file, configuration)
    _check_trust(file, configuration)
    _check_algorithms(file, configuration)
    _check_measurements(file, configuration)
    _check_log(file, configuration)
    for number, entry in enumerate(configuration.device_class):
        path = ("device_class", number, "registry")
        file.at(path, lambda e=entry: registry_id(e.registry))  # type: ignore[misc] # default argument binds the loop variable
    try:
        configuration.settings()
    except ConfigurationError as error:
        raise file.wrong(("limits",), str(error)) from None
    return configuration


def _check_device(file: TomlFile, configuration: Configuration) -> None:
    device = configuration.device
    if device.name.count(":") != 2 or not all(device.name.split(":")):
        raise file.wrong(("device", "name"), "is not manufacturer:product:serial")
    flags = file.at(("device", "capabilities"), lambda: configuration.flags)
    file.at(
        ("device", "extended_capabilities"),
        lambda: flags_of(device.extended_capabilities, ResponderExtendedFlags),
    )
    for name in device.capabilities + device.extended_capabilities:
        if name.upper() in NOT_HERE:
            raise file.wrong(("device", "capabilities"), f"a software device has no {name}")
    reason = invalid_capabilities(flags, ResponderFlags, V14)
    if reason is not None:
        raise file.wrong(("device", "capabilities"), reason)


def _check_trust(file: TomlFile, configuration: Configuration) -> None:
    trust, flags = configuration.trust, configuration.flags
    known = trust.requester_trust_anchors or trust.requester_public_key
    if known and not flags & ResponderFlags.MUT_AUTH_CAP:
        name = "requester_trust_anchors" if trust.requester_trust_anchors else _PUBLIC_KEY
        raise file.wrong(("trust", name), "is of no use without the capability MUT_AUTH_CAP")
    if trust.require_requester_authentication and not known and not configuration.pre_shared_key:
        raise file.wrong(
            ("trust", "require_requester_authentication"),
            "nobody could: give requester_trust_anchors, requester_public_key or a pre-shared key",
        )


def _check_algorithms(file: TomlFile, configuration: Configuration) -> None:
    table = configuration.algorithms
    for key, (_, registry) in ALGORITHM_KEYS.items():
        for name in getattr(table, key) or ():
            file.at(("algorithms", key), lambda n=name, r=registry: _available(r.by_name(n)))  # type: ignore[misc] # likewise
    for name in table.requester_signatures or ():
        path = ("algorithms", "requester_signatures")
        file.at(path, lambda n=name: _available(signature_algorithm(n)))  # type: ignore[misc] # likewise
    for key in ("hashes", "measurement_hashes"):
        if getattr(table, key) == ():
            raise file.wrong(("algorithms", key), "names no algorithm, and one is needed")


def _available(entry: Algorithm) -> None:
    if not entry.available:
        raise ConfigurationError(f"{entry.short} is not available here: {entry.why_unavailable}")


_SOURCES: Final = ("file", "text", "hex", "svn", "device_mode", "manifest", "digests", "log")


def _check_measurements(file: TomlFile, configuration: Configuration) -> None:
    seen: set[int] = set()
    for number, entry in enumerate(configuration.measurement):
        path = ("measurement", number)
        if entry.index in seen:
            raise file.wrong((*path, "index"), f"{entry.index} is there already")
        seen.add(entry.index)
        file.at((*path, "type"), lambda e=entry: e.kind)  # type: ignore[misc] # likewise
        _one_of(file, path, entry, _SOURCES)
        if entry.digest_only and entry.file is None:
            raise file.wrong((*path, "digest_only"), "goes with file only")
        for name, value in (entry.digests or {}).items():
            where = (*path, "digests", name)
            algorithm = file.at(where, lambda n=name: MEASUREMENT_HASH.by_name(n))  # type: ignore[misc] # likewise
            if len(value) != 2 * algorithm.size:
                raise file.wrong(where, f"{len(value) // 2} bytes, not {algorithm.size}")
        if entry.log and entry.kind is not MeasurementKind.HASH_EXTEND:
            raise file.wrong((*path, "log"), 'goes with type = "hash-extend" only')
        if entry.manifest is not None:
            name = entry.manifest.registry
            file.at((*path, "manifest"), lambda n=name: registry_id(n))  # type: ignore[misc] # likewise


def _check_log(file: TomlFile, configuration: Configuration) -> None:
    extended = {entry.index for entry in configuration.measurement if entry.log}
    for number, entry in enumerate(configuration.log):
        path = ("log", number)
        file.at((*path, "type"), lambda e=entry: e.kind)  # type: ignore[misc] # likewise
        _one_of(file, path, entry, ("file", "text", "hex"))
        if entry.extends and entry.extends not in extended:
            raise file.wrong(
                (*path, "extends"), f"measurement {entry.extends} is not one with log = true"
            )


def _one_of(
    file: TomlFile, path: tuple[str | int, ...], entry: Strict, names: Iterable[str]
) -> None:
    given = [name for name in names if getattr(entry, name) not in (None, False)]
    if len(given) != 1:
        what = f"has {' and '.join(given)}" if given else "has no value"
        raise file.wrong(path, f"{what}; give one of {', '.join(names)}")
