"""The policy file: TOML, every part optional, mistakes named with their line.

Everything that may stand in it:

    [policy]
    name = "data centre"
    version = 3                        # a higher version replaces a lower one
    not_after = 2031-01-01             # TOML date, or RFC 3339 time

    [identity]
    trust_anchors = ["acme-root.pem"]  # relative to this file
    expected = ["ACME:NIC:*"]          # or serial:..., spki-sha256:...
    crls = ["acme.crl"]
    demand_revocation = true

    [protocol]
    minimum_version = "1.2"
    minimum_security = 128             # bits
    hashes = ["sha-384", "sha-512"]

    [freshness]
    max_age = "24h"
    demand_nonce = true

    [references]
    signers = ["acme-rim-root.pem"]
    store = "references"
    when_none = "not-appraised"        # or "untrusted"
    when_unlisted = "not-appraised"    # or "untrusted", "accept"

    [evidence]
    demand_challenge = true

    [device_mode]
    demand = true
    refuse_debug = ["non-invasive-active", "invasive-active"]
    operational = ["normal"]

    [[component]]
    index = 7
    name = "firmware security version"
    minimum_svn = 4
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Flag
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from spdmkit.attestation import cbor
from spdmkit.attestation.blocks import kind_from_label
from spdmkit.attestation.dates import duration_seconds, parse_time
from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.policy import (
    Component,
    DeviceModeRule,
    EvidenceRule,
    FreshnessRule,
    IdentityRule,
    Policy,
    ProtocolRule,
    ReferenceRule,
    WhenMissing,
)
from spdmkit.attestation.revocation import load_revocation
from spdmkit.attestation.toml_file import Strict, TomlFile
from spdmkit.crypto.registry import BASE_HASH, MEASUREMENT_HASH, signature_algorithm
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.identity import IdentityExpectation, Purpose, TrustAnchors
from spdmkit.messages.measurements import DebugMode, OperationalMode

__all__ = [
    "MAX_POLICY_SIZE",
    "POLICY_TAG",
    "check_policy",
    "load_policy",
    "pack_policy",
    "read_policy",
    "unpack_policy",
]

MAX_POLICY_SIZE: Final = 256 << 10
"""Largest policy file that is read, in bytes."""
POLICY_TAG: Final = 0x53504450
"""CBOR tag around a policy for SET_POLICY: "SPDP"."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)]


class _Head(Strict, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "unnamed"
    version: Annotated[int, msgspec.Meta(ge=0)] = 0
    not_before: str | None = None
    not_after: str | None = None


class _Identity(Strict, frozen=True):
    trust_anchors: Names = ()
    expected: Names = ()
    crls: Names = ()
    ocsp: Names = ()
    demand_revocation: bool = False
    demand_hardware_identity: bool = False
    demand_spdm_purpose: bool = False


class _Protocol(Strict, frozen=True):
    minimum_version: Literal["1.0", "1.1", "1.2", "1.3", "1.4"] = "1.2"
    minimum_security: Annotated[int, msgspec.Meta(ge=0, le=256)] = 112
    hashes: Names = ()
    signatures: Names = ()
    measurement_hashes: Names = ()
    accept_uncovered_negotiation: bool = False


class _Freshness(Strict, frozen=True):
    max_age: str | None = None
    demand_nonce: bool = False


class _References(Strict, frozen=True):
    signers: Names = ()
    store: str | None = None
    demand_signature: bool | None = None
    ignore_signer_expiry: bool = False
    when_none: Literal["not-appraised", "untrusted"] = "not-appraised"
    when_unlisted: Literal["not-appraised", "untrusted", "accept"] = "not-appraised"
    check_release: bool = True


class _Evidence(Strict, frozen=True):
    demand_challenge: bool = False
    demand_summary: bool = False
    demand_log: bool = False


class _DeviceMode(Strict, frozen=True):
    demand: bool = False
    refuse_debug: Names | None = None
    operational: Names | None = None


class _Component(Strict, frozen=True):
    index: Annotated[int, msgspec.Meta(ge=1, le=0xFE)]
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    required: bool = True
    type: str | None = None
    minimum_svn: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _File(Strict, frozen=True):
    policy: _Head = _Head()
    identity: _Identity = _Identity()
    protocol: _Protocol = _Protocol()
    freshness: _Freshness = _Freshness()
    references: _References = _References()
    evidence: _Evidence = _Evidence()
    device_mode: _DeviceMode = _DeviceMode()
    component: Annotated[tuple[_Component, ...], msgspec.Meta(max_length=254)] = ()


def load_policy(path: str | Path) -> Policy:
    """Read a policy file; files it names are taken relative to it.

    Raises:
        ConfigurationError: unreadable, or wrong; the message begins with "file:line:".
    """
    return read_policy(read_bounded(path, MAX_POLICY_SIZE), str(path), folder=Path(path).parent)


def read_policy(data: bytes, source: str = "policy", *, folder: Path = Path()) -> Policy:
    """As `load_policy`, from bytes.

    Args:
        data: the file's bytes.
        source: what to call it in errors.
        folder: where files that it names are looked for.

    Raises:
        ConfigurationError: wrong; the message begins with "source:line:".
    """
    if len(data) > MAX_POLICY_SIZE:
        raise ConfigurationError(f"{source}: more than {MAX_POLICY_SIZE} bytes")
    toml = TomlFile(data, source)
    toml.values = _dates_as_text(toml.values)
    reader = _Reader(toml.convert(_File), toml, folder)
    return replace(reader.policy(), sha256=hashlib.sha256(data).hexdigest())


def _dates_as_text(value: Any) -> Any:
    """TOML's dates and times in RFC 3339, as they would stand in quotes."""
    if isinstance(value, dict):
        return {key: _dates_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dates_as_text(item) for item in value]
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


def check_policy(path: str | Path) -> Policy:
    """As `load_policy`, and the files that the policy names are read too.

    Raises:
        ConfigurationError: wrong, or a file that it names is missing or is not what it should be;
            the message begins with "file:line:".
    """
    policy = load_policy(path)
    toml = TomlFile(read_bounded(path, MAX_POLICY_SIZE), str(path))
    identity, references = policy.identity, policy.references
    checks: list[tuple[tuple[str, str], Iterable[Path], Callable[[Path], object]]] = [
        (
            ("identity", "trust_anchors"),
            identity.trust_anchors,
            lambda each: TrustAnchors.from_files([each], Purpose.DEVICE),
        ),
        (("identity", "crls"), identity.crls, lambda each: load_revocation([each])),
        (("identity", "ocsp"), identity.ocsp, lambda each: load_revocation((), [each])),
        (
            ("references", "signers"),
            references.signers,
            lambda each: TrustAnchors.from_files([each], Purpose.REFERENCE_SIGNER),
        ),
        (("references", "store"), filter(None, [references.store]), _check_folder),
    ]
    for place, files, check in checks:
        for file in files:
            toml.at(place, partial(check, file))
    return policy


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise ConfigurationError(
            f"there is no folder {path}", hint="`spdm reference import --store` makes one"
        )


class _Reader:
    """Turns a validated file into a `Policy`; what types cannot say is checked here."""

    def __init__(self, file: _File, toml: TomlFile, folder: Path) -> None:
        self.file = file
        self.toml = toml
        self.folder = folder

    def policy(self) -> Policy:
        head = self.file.policy
        return Policy(
            name=head.name,
            version=head.version,
            not_before=self._time(head.not_before, "not_before"),
            not_after=self._time(head.not_after, "not_after"),
            identity=self._identity(),
            protocol=self._protocol(),
            freshness=self._freshness(),
            references=self._references(),
            evidence=EvidenceRule(
                self.file.evidence.demand_challenge,
                self.file.evidence.demand_summary,
                self.file.evidence.demand_log,
            ),
            device_mode=self._device_mode(),
            components=self._components(),
            source=self.toml.source,
        )

    def _time(self, value: str | None, key: str) -> int | None:
        return None if value is None else self.toml.at(("policy", key), lambda: parse_time(value))

    def _identity(self) -> IdentityRule:
        table = self.file.identity
        for text in table.expected:
            self.toml.at(("identity", "expected"), partial(IdentityExpectation.parse, text))
        return IdentityRule(
            self._files(table.trust_anchors),
            table.expected,
            self._files(table.crls),
            self._files(table.ocsp),
            table.demand_revocation,
            table.demand_hardware_identity,
            table.demand_spdm_purpose,
        )

    def _files(self, names: Iterable[str]) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in names)

    def _protocol(self) -> ProtocolRule:
        table = self.file.protocol
        return ProtocolRule(
            0x10 + int(table.minimum_version[2]),
            table.minimum_security,
            self._algorithms("hashes", table.hashes, BASE_HASH.by_name),
            self._algorithms("signatures", table.signatures, signature_algorithm),
            self._algorithms(
                "measurement_hashes", table.measurement_hashes, MEASUREMENT_HASH.by_name
            ),
            table.accept_uncovered_negotiation,
        )

    def _algorithms(
        self, key: str, names: Iterable[str], find: Callable[[str], Any]
    ) -> tuple[str, ...]:
        return tuple(self.toml.at(("protocol", key), partial(find, name)).short for name in names)

    def _freshness(self) -> FreshnessRule:
        table = self.file.freshness
        age = table.max_age
        return FreshnessRule(
            None
            if age is None
            else self.toml.at(("freshness", "max_age"), lambda: duration_seconds(age)),
            table.demand_nonce,
        )

    def _references(self) -> ReferenceRule:
        table = self.file.references
        return ReferenceRule(
            self._files(table.signers),
            None if table.store is None else self.folder / table.store,
            table.demand_signature,
            table.ignore_signer_expiry,
            WhenMissing(table.when_none),
            WhenMissing(table.when_unlisted),
            table.check_release,
        )

    def _device_mode(self) -> DeviceModeRule:
        table, default = self.file.device_mode, DeviceModeRule()
        return DeviceModeRule(
            table.demand,
            self._flags("refuse_debug", table.refuse_debug, DebugMode, default.refuse_debug),
            self._flags("operational", table.operational, OperationalMode, default.operational),
        )

    def _flags(self, key: str, names: tuple[str, ...] | None, kind: type[F], default: F) -> F:
        if names is None:
            return default
        known = {str(flag.name).lower().replace("_", "-"): flag for flag in kind}
        found = kind(0)
        for name in names:
            if name not in known:
                raise self.toml.wrong(
                    ("device_mode", key), f"has no {name!r}", hint=f"known: {', '.join(known)}"
                )
            found |= known[name]
        return found

    def _components(self) -> tuple[Component, ...]:
        found: dict[int, Component] = {}
        for number, table in enumerate(self.file.component):
            if table.index in found:
                raise self.toml.wrong(
                    ("component", number, "index"), f"{table.index} has a component already"
                )
            kind = None
            if table.type is not None:
                kind = self.toml.at(
                    ("component", number, "type"), partial(kind_from_label, table.type)
                )
            found[table.index] = Component(
                table.index, table.name, table.required, kind, table.minimum_svn
            )
        return tuple(found[index] for index in sorted(found))


T = TypeVar("T")
F = TypeVar("F", bound=Flag)


def pack_policy(data: bytes) -> bytes:
    """A policy file as SET_POLICY carries it: its text under `POLICY_TAG` (DSP0287 7.4).

    Raises:
        ConfigurationError: it is not a policy.
    """
    read_policy(data)
    return cbor.encode(cbor.Tag(POLICY_TAG, data.decode("utf-8")))


def unpack_policy(data: bytes) -> bytes:
    """The policy file out of `pack_policy`.

    Raises:
        DecodeError: it is not one.
    """
    item = cbor.decode(data, what="policy", limit=MAX_POLICY_SIZE + 16)
    if not isinstance(item, cbor.Tag) or item.tag != POLICY_TAG or not isinstance(item.value, str):
        raise DecodeError("policy", "content", 0, f"not a text under tag {POLICY_TAG}")
    return item.value.encode()
