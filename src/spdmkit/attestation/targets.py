"""The file of `spdm attest --targets`: which devices, and what holds for each of them.

    [defaults]                          # for every target that does not say otherwise
    trust_anchor = "acme-root.pem"      # files are relative to this file; one, or a list
    reference = ["nic.json"]
    session = true

    [[target]]
    uri = "tcp://10.0.0.7"
    name = "nic-7"                      # of its result file; made of the address by default
    expect_identity = "ACME:NIC:0001"

    [[target]]
    uri = "tcp://10.0.0.8"
    policy = "strict.toml"
    psk = "nic-8.toml"                  # instead of a trust anchor

The keys are those of the command's options. A file that is no TOML but lists one address a line is
read too; `#` begins a comment there.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec

from spdmkit.attestation.dates import duration_seconds
from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.toml_file import Strict, TomlFile
from spdmkit.errors import ConfigurationError
from spdmkit.identity import IdentityExpectation
from spdmkit.transports.uri import parse_uri

__all__ = ["MAX_TARGETS", "Target", "load_targets", "several"]

MAX_TARGETS: Final = 100_000
"""Most targets of one file."""
_MAX_SIZE: Final = 64 << 20
_ADDRESS: Final = re.compile(r"[a-z+]+://\S+")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 100

File = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Files = File | Annotated[tuple[File, ...], msgspec.Meta(max_length=100)]


class Target(Strict, frozen=True):
    """What holds for one target; None where the file does not say.

    Attributes:
        name: what its files are called.
        uri: its address.
        trust_anchor, public_key, psk, mutual, reference, reference_anchor, reference_store, policy,
            crl, ocsp: files, by absolute path or relative to the working folder.
        expect_identity: identities, one of which the device must have.
        slot, session, raw, versions, algorithms, max_age: as the options of `spdm attest`.
    """

    uri: str = ""
    name: Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)] = ""
    trust_anchor: Files | None = None
    public_key: File | None = None
    psk: File | None = None
    mutual: File | None = None
    reference: Files | None = None
    reference_anchor: Files | None = None
    reference_store: File | None = None
    policy: File | None = None
    crl: Files | None = None
    ocsp: Files | None = None
    expect_identity: Files | None = None
    slot: Annotated[int, msgspec.Meta(ge=0, le=7)] | None = None
    session: bool | None = None
    raw: bool | None = None
    versions: str | None = None
    algorithms: str | None = None
    max_age: str | None = None

    @property
    def identity_source(self) -> str:
        """Which of the three kinds of trust it names: the key's name, or empty."""
        named = [key for key in _TRUST if getattr(self, key) is not None]
        return named[0] if named else ""


_TRUST: Final = ("trust_anchor", "public_key", "psk")
_PATHS: Final = (
    *_TRUST, "mutual", "reference", "reference_anchor", "reference_store", "policy", "crl", "ocsp",
)  # fmt: skip


_OPTIONAL: Final = tuple(
    field.name for field in msgspec.structs.fields(Target) if field.name not in ("uri", "name")
)


class _File(Strict, frozen=True):
    defaults: Target = Target()
    target: Annotated[tuple[Target, ...], msgspec.Meta(max_length=MAX_TARGETS)] = ()


def load_targets(path: Path) -> tuple[Target, ...]:
    """Read a file of targets: what the defaults say is filled in, and each has a name of its own.

    Raises:
        ConfigurationError: it cannot be read or is wrong; the message begins with "file:line:".
    """
    data = read_bounded(path, _MAX_SIZE)
    placed = _listed(data, str(path))
    if placed is None:
        placed = _from_toml(TomlFile(data, str(path)), path.parent)
    if not placed:
        raise ConfigurationError(f"{path}: names no target", hint="[[target]] and uri = ...")
    return _named(placed)


Placed = tuple[str, Target]
"""A target, and where it stands: "file:line"."""


def _listed(data: bytes, source: str) -> list[Placed] | None:
    """The targets of a list of addresses; None when the file is no such list."""
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return None  # TOML complains with the line
    placed = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text and _ADDRESS.match(text) is None:
            return None
        if text:
            placed.append((f"{source}:{number}", Target(uri=text)))
    return placed


def _from_toml(toml: TomlFile, folder: Path) -> list[Placed]:
    file = toml.convert(_File)
    for key in ("uri", "name"):
        if getattr(file.defaults, key):
            raise toml.wrong(("defaults", key), "every target has its own")
    _check(toml, ("defaults",), file.defaults)
    placed = []
    for number, target in enumerate(file.target):
        _check(toml, ("target", number), target)
        where = toml.where(("target", number, "uri"))
        placed.append((where, _filled(target, file.defaults, folder)))
    return placed


def _check(toml: TomlFile, path: tuple[str | int, ...], target: Target) -> None:
    """What types cannot say."""
    named = [key for key in _TRUST if getattr(target, key) is not None]
    if len(named) > 1:
        raise toml.wrong((*path, named[1]), f"{named[0]} says already how the device is known")
    for text in several(target.expect_identity):
        toml.at((*path, "expect_identity"), partial(IdentityExpectation.parse, text))
    if target.max_age is not None:
        toml.at((*path, "max_age"), partial(duration_seconds, target.max_age))


def _filled(target: Target, defaults: Target, folder: Path) -> Target:
    """A target with the defaults in it, and its files relative to the file of targets."""
    values = {
        name: getattr(target, name)
        if getattr(target, name) is not None
        else getattr(defaults, name)
        for name in _OPTIONAL
    }
    if target.identity_source:  # how a device is known replaces whatever the defaults say of it
        values |= {key: getattr(target, key) for key in _TRUST}
    for key in _PATHS:
        if isinstance(values[key], str):
            values[key] = str(folder / values[key])
        elif values[key] is not None:
            values[key] = tuple(str(folder / each) for each in values[key])
    return msgspec.structs.replace(target, **values)


def _named(placed: list[Placed]) -> tuple[Target, ...]:
    """The targets, each with an address that can be used and a name that no other has."""
    found: dict[str, Target] = {}
    places: set[tuple[str, int]] = set()
    for where, target in placed:
        try:
            uri = parse_uri(target.uri)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}", hint=error.hint) from None
        place = (str(uri.address), target.slot or 0)
        if place in places:
            raise ConfigurationError(f"{where}: {target.uri} stands above already")
        places.add(place)
        name = target.name or _name_of(f"{uri.scheme}-{uri.address}", target.slot)
        if _UNFIT.search(name) or not name.strip("."):
            raise ConfigurationError(
                f"{where}: the name {name!r} cannot be that of a file",
                hint="letters, digits, dot, hyphen and underscore",
            )
        if name in found:
            raise ConfigurationError(f"{where}: another target is called {name!r}")
        found[name] = msgspec.structs.replace(target, name=name)
    return tuple(found.values())


def _name_of(address: str, slot: int | None) -> str:
    name = _UNFIT.sub("_", address).strip("_")[-_LONGEST_NAME:]
    return f"{name}-slot{slot}" if slot else name


def several(files: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """One value or a list of them, as a tuple; empty for None."""
    if files is None:
        return ()
    return (files,) if isinstance(files, str) else files
