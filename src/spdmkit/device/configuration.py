"""`device.toml`: what a software device is and does, as a person writes it.

Algorithms of signatures are not named here: they follow from the keys that the device has. Every
list of algorithms that is left out stands for all that are available on this machine.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from spdmkit.attestation.blocks import kind_from_label
from spdmkit.attestation.toml_file import Strict
from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.crypto.registry import (
    AEAD,
    BASE_ASYM,
    BASE_HASH,
    DHE,
    KEM,
    MEASUREMENT_HASH,
    PQC_ASYM,
    signature_algorithm,
)
from spdmkit.errors import ConfigurationError
from spdmkit.messages import (
    MeasurementKind,
    Registry,
    ResponderExtendedFlags,
    ResponderFlags,
)
from spdmkit.protocol.session import MutualAuth
from spdmkit.protocol.settings import ALL_VERSIONS, MAX_TCP_MESSAGE, AlgorithmSet, Settings

__all__ = [
    "ALGORITHM_KEYS",
    "Configuration",
    "DeviceClass",
    "LogEntry",
    "MeasurementSource",
    "flags_of",
    "registry_id",
]

MAX_SLOTS: Final = 8

F = TypeVar("F", bound=enum.IntFlag)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Texts = Annotated[tuple[Text, ...], msgspec.Meta(max_length=100)]
Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{2})*$", max_length=1 << 18)]
VersionText = Literal["1.0", "1.1", "1.2", "1.3", "1.4"]


class DeviceTable(Strict, frozen=True, kw_only=True):
    """[device]: what it says of itself.

    Attributes:
        name: "manufacturer:product:serial", as in the certificates (DSP0274 10.9.2).
        versions: SPDM versions it speaks.
        capabilities: names of the flags of CAPABILITIES (DSP0274 table 15).
        extended_capabilities: names of the flags of ExtFlags (table 16).
        slots: how many certificate slots there is room for.
    """

    name: Text
    versions: Annotated[tuple[VersionText, ...], msgspec.Meta(min_length=1)]
    capabilities: Texts
    extended_capabilities: Texts = ()
    slots: Annotated[int, msgspec.Meta(ge=1, le=MAX_SLOTS)] = MAX_SLOTS


class AlgorithmsTable(Strict, frozen=True, kw_only=True):
    """[algorithms]: short names ("sha-384"); a list left out stands for all there are."""

    hashes: Texts | None = None
    measurement_hashes: Texts | None = None
    dhe: Texts | None = None
    kem: Texts | None = None
    aead: Texts | None = None
    requester_signatures: Texts | None = None


class LimitsTable(Strict, frozen=True, kw_only=True):
    """[limits]: sizes and times.

    Attributes:
        data_transfer_size: the largest message taken in one piece, bytes (DataTransferSize).
        transmit_size: the largest message sent in one piece, bytes; larger ones go in chunks.
        max_message_size: the largest taken at all, in chunks, bytes (MaxSPDMmsgSize).
        ct_exponent: cryptography takes at most 2 to this many microseconds (CTExponent).
        heartbeat_period: seconds after which a silent session ends; 0 never.
        max_sessions: sessions of one connection.
        aead_limit_exponent: a session's key protects at most 2 to this many records (DSP0277 1.3).
        changes_per_minute: how often slots and keys may be changed; 0 sets no limit.
    """

    data_transfer_size: Annotated[int, msgspec.Meta(ge=42, le=0xFF00)] = 0xFF00
    transmit_size: Annotated[int, msgspec.Meta(ge=42, le=MAX_TCP_MESSAGE)] = MAX_TCP_MESSAGE
    max_message_size: Annotated[int, msgspec.Meta(ge=42, le=1 << 24)] = 1 << 20
    ct_exponent: Annotated[int, msgspec.Meta(ge=0, le=31)] = 20
    heartbeat_period: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    max_sessions: Annotated[int, msgspec.Meta(ge=1, le=255)] = 4
    aead_limit_exponent: Annotated[int, msgspec.Meta(ge=6, le=64)] = 64
    changes_per_minute: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 60


class TrustTable(Strict, frozen=True, kw_only=True):
    """[trust]: whom the device believes, and who may change it.

    Attributes:
        requester_trust_anchors: files with the roots of requesters that prove who they are.
        requester_public_key: file with the public key of the one requester that proves itself by
            a key provisioned here (SlotID 0xF) instead of a certificate.
        requester_slot: certificate slot of the requester that is asked for.
        require_requester_authentication: refuse sessions of requesters that prove nothing. A
            pre-shared key proves enough.
        may_provision: who may put certificates into slots and change keys:
            "certificate:SUBJECT", "public-key:spki-sha256:HEX" or "psk:HINT", `*` as wildcard.
        may_set_reference: who may give it reference values and policies (DSP0287 clause 7).
        reference_signers: files with the roots of those whose signed reference values it takes
            from anyone, outside a session too.
        policy_signers: likewise for signed policies.
        trusted_environment: anyone may do all of that, and slot 0 may be written: for production
            lines and test benches only.
    """

    requester_trust_anchors: Texts = ()
    requester_public_key: Text | None = None
    requester_slot: Annotated[int, msgspec.Meta(ge=0, lt=MAX_SLOTS)] = 0
    require_requester_authentication: bool = False
    may_provision: Texts = ()
    may_set_reference: Texts = ()
    reference_signers: Texts = ()
    policy_signers: Texts = ()
    trusted_environment: bool = False


class DeviceMode(Strict, frozen=True, kw_only=True):
    """device_mode of a [[measurement]]: names of the modes it can report, and those it is in."""

    operational: Texts = ()
    operational_reported: Texts = ()
    debug: Texts = ()
    debug_reported: Texts = ()


class Manifest(Strict, frozen=True, kw_only=True):
    """manifest of a [[measurement]]: whose format it has, and the file with the manifest itself."""

    registry: Text
    vendor_id: Hex = ""
    file: Text


class MeasurementSource(Strict, frozen=True, kw_only=True):
    """[[measurement]]: where a measurement comes from; exactly one of the sources is given.

    Attributes:
        index: 1 to 254.
        type: kind of measurement ("mutable-firmware").
        name: what is measured, for people.
        tcb: it counts in the summary of the trusted computing base.
        file: what is measured: a file, read when the device starts and when asked anew.
        digest_only: the file's content itself is never given, only its digest.
        text: the value as text.
        hex: the value in hexadecimal.
        svn: a security version number.
        device_mode: the states of the device.
        manifest: a structured manifest.
        digests: digests by algorithm, of something that is not here.
        log: the value is what the measurement extension log adds up to.
    """

    index: Annotated[int, msgspec.Meta(ge=1, le=0xFE)]
    type: Text
    name: str = ""
    tcb: bool = False
    file: Text | None = None
    digest_only: bool = False
    text: str | None = None
    hex: Hex | None = None
    svn: Annotated[int, msgspec.Meta(ge=0)] | None = None
    device_mode: DeviceMode | None = None
    manifest: Manifest | None = None
    digests: Annotated[dict[str, Hex], msgspec.Meta(min_length=1, max_length=16)] | None = None
    log: bool = False

    @property
    def kind(self) -> MeasurementKind:
        """The kind that `type` names."""
        return kind_from_label(self.type)


class LogEntry(Strict, frozen=True, kw_only=True):
    """[[log]]: an entry of the measurement extension log (DSP0274 10.31), in order.

    Attributes:
        extends: index of the measurement that the entry extends; 0 for none.
        type: kind of what was logged.
        file, text, hex: the value; exactly one.
    """

    extends: Annotated[int, msgspec.Meta(ge=0, le=0xFE)] = 0
    type: Text
    file: Text | None = None
    text: str | None = None
    hex: Hex | None = None

    @property
    def kind(self) -> MeasurementKind:
        """The kind that `type` names."""
        return kind_from_label(self.type)


class PreSharedKey(Strict, frozen=True, kw_only=True):
    """[[pre_shared_key]]: a file with a hint and a key, which only its owner may read."""

    file: Text


class DeviceClass(Strict, frozen=True, kw_only=True):
    """[[device_class]]: what the device is in somebody's registry (DSP0274 table 133).

    Attributes:
        registry: name of the registry ("pci-sig").
        vendor_id: hexadecimal.
        identifiers: subordinate identifiers, hexadecimal.
    """

    registry: Text
    vendor_id: Hex = ""
    identifiers: Annotated[tuple[Hex, ...], msgspec.Meta(max_length=255)] = ()


class Configuration(Strict, frozen=True, kw_only=True):
    """All of `device.toml`."""

    device: DeviceTable
    algorithms: AlgorithmsTable = AlgorithmsTable()
    limits: LimitsTable = LimitsTable()
    trust: TrustTable = TrustTable()
    measurement: Annotated[tuple[MeasurementSource, ...], msgspec.Meta(max_length=254)] = ()
    log: Annotated[tuple[LogEntry, ...], msgspec.Meta(max_length=10_000)] = ()
    pre_shared_key: Annotated[tuple[PreSharedKey, ...], msgspec.Meta(max_length=10_000)] = ()
    device_class: Annotated[tuple[DeviceClass, ...], msgspec.Meta(max_length=255)] = ()

    @property
    def flags(self) -> ResponderFlags:
        """The capabilities as the Flags of CAPABILITIES."""
        return flags_of(self.device.capabilities, ResponderFlags)

    def settings(self) -> Settings:
        """What the protocol needs to know.

        Raises:
            ConfigurationError: sizes contradict each other.
        """
        limits = self.limits
        extended = flags_of(self.device.extended_capabilities, ResponderExtendedFlags)
        return Settings(
            versions=tuple(
                version for version in ALL_VERSIONS if _text(version) in self.device.versions
            ),
            capabilities=self.flags,
            extended_capabilities=extended,
            algorithms=self._algorithms(),
            data_transfer_size=limits.data_transfer_size,
            transmit_size=limits.transmit_size,
            max_message_size=limits.max_message_size,
            ct_exponent=limits.ct_exponent,
            heartbeat_period=limits.heartbeat_period,
            max_sessions=limits.max_sessions,
            aead_limit_exponent=limits.aead_limit_exponent,
            requester_slot=self.trust.requester_slot,
            mutual_auth=self._mutual_auth(),
            mutual_auth_required=self.trust.require_requester_authentication,
            basic_mutual_auth=bool(self.trust.requester_trust_anchors),
            cache_negotiated_state=bool(self.flags & ResponderFlags.CACHE_CAP),
        )

    def _mutual_auth(self) -> MutualAuth:
        """What to ask of requesters: their chain when we have roots for it, or the known key."""
        if self.trust.requester_trust_anchors:
            return MutualAuth.GET_DIGESTS
        known = self.trust.requester_public_key is not None
        return MutualAuth.WITHOUT_ENCAPSULATION if known else MutualAuth.NONE

    def _algorithms(self) -> AlgorithmSet:
        masks = {
            field: table.mask(entries)
            for field, (table, entries) in _chosen(self.algorithms).items()
            if entries is not None
        }
        names = self.algorithms.requester_signatures
        if names is not None:
            chosen = [signature_algorithm(name) for name in names]
            masks["req_base_asym"] = BASE_ASYM.mask(e for e in chosen if not e.pqc)
            masks["req_pqc_asym"] = PQC_ASYM.mask(e for e in chosen if e.pqc)
        return AlgorithmSet.available().with_masks(**masks)

    def measurement_hashes(self) -> tuple[Algorithm, ...]:
        """The measurement hashes that may be negotiated, those of raw bit streams left out."""
        mask = self._algorithms().measurement_hash
        return tuple(entry for entry in MEASUREMENT_HASH.in_mask(mask) if entry.bit)


ALGORITHM_KEYS: Final[dict[str, tuple[str, Table[Algorithm]]]] = {
    "hashes": ("base_hash", BASE_HASH),
    "measurement_hashes": ("measurement_hash", MEASUREMENT_HASH),
    "dhe": ("dhe", DHE),
    "kem": ("kem", KEM),
    "aead": ("aead", AEAD),
}
"""Key of [algorithms] -> field of `AlgorithmSet`, and the table that knows the names."""


def _chosen(
    table: AlgorithmsTable,
) -> dict[str, tuple[Table[Algorithm], list[Algorithm] | None]]:
    found: dict[str, tuple[Table[Algorithm], list[Algorithm] | None]] = {}
    for key, (field, registry) in ALGORITHM_KEYS.items():
        names: tuple[str, ...] | None = getattr(table, key)
        entries = None if names is None else [registry.by_name(name) for name in names]
        found[field] = (registry, entries)
    return found


def registry_id(name: str) -> Registry:
    """The registry with a name ("pci-sig"; DSP0274 table 67).

    Raises:
        ConfigurationError: none has it.
    """
    try:
        return Registry[name.upper().replace("-", "_")]
    except KeyError:
        known = ", ".join(_label(entry.name) for entry in Registry)
        raise ConfigurationError(
            f"no registry is called {name!r}", hint=f"known: {known}"
        ) from None


def flags_of(names: Iterable[str], kind: type[F]) -> F:
    """Capability flags by the names of the specification ("CERT_CAP").

    Raises:
        ConfigurationError: none has that name.
    """
    known = {name: flag for name, flag in kind.__members__.items() if not name.endswith("_MASK")}
    flags = kind(0)
    for name in names:
        flag = known.get(name.upper())
        if flag is None:
            raise ConfigurationError(
                f"there is no capability {name!r}", hint=f"known: {', '.join(known)}"
            )
        flags |= flag
    return flags


def _text(version: int) -> str:
    return f"{version >> 4}.{version & 0xF}"


def _label(name: str) -> str:
    return name.lower().replace("_", "-")
