"""A laboratory: devices below one root, their evidence, and reference values made from it."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spdmkit.attestation.appraiser import appraise, refused
from spdmkit.attestation.blocks import Block
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.measurement_log import replay
from spdmkit.attestation.outcome import AttestationResult
from spdmkit.attestation.policy import Policy
from spdmkit.attestation.reference.loader import Reference
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AllowedRaw,
    AppliesTo,
    Manifest,
    ReferenceMeasurement,
)
from spdmkit.attestation.reference.store import RejectedReference
from spdmkit.attestation.verification import DeviceTrust, EvidenceError, verify_evidence
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_HASH, HashAlgorithm
from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import DecodeError
from spdmkit.identity import CertificateModel, Purpose, TrustAnchors
from spdmkit.identity.issue import Authority, Issuance, Profile
from spdmkit.messages import (
    V13,
    Context,
    MeasurementKind,
    MeasurementLog,
    MeasurementLogEntry,
)
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.responder.device import Measurement
from tests.protocol.support import EVERYTHING, MemoryDevice, Pair

NOW = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())
DAY = 86400

ROM, FIRMWARE, STRAPS, SETTINGS, VERSION, SVN, EXTENDED, NEWS, MODE = (
    1, 2, 3, 4, 7, 8, 0x11, 0x20, 0xFE,
)  # fmt: skip


def mode(operational: int = 0b100, debug: int = 0) -> bytes:
    """A device mode that can report everything."""
    words = (0x3F, operational, 0x1F, debug)
    return b"".join(word.to_bytes(4, "little") for word in words)


LOG = MeasurementLog(
    entries=[
        MeasurementLogEntry(mel_index=1, meas_index=EXTENDED, kind=1, raw=True, value=b"loader"),
        MeasurementLogEntry(mel_index=2, meas_index=0, kind=9, raw=True, value=b"a remark"),
        MeasurementLogEntry(mel_index=5, meas_index=EXTENDED, kind=1, raw=True, value=b"kernel"),
    ]
)


def log_bytes(log: MeasurementLog = LOG) -> bytes:
    return log.encode(Context(version=V13))


def healthy() -> list[Measurement]:
    """The measurements of a healthy device."""
    extended = tuple(
        (entry.name, replay(LOG, entry)[EXTENDED]) for entry in BASE_HASH if entry.available
    )
    kind = MeasurementKind
    return [
        Measurement(ROM, kind.IMMUTABLE_ROM, raw=b"rom", tcb=True),
        Measurement(FIRMWARE, kind.MUTABLE_FIRMWARE, raw=b"firmware 7"),
        Measurement(STRAPS, kind.HARDWARE_CONFIGURATION, raw=b"straps"),
        Measurement(SETTINGS, kind.FIRMWARE_CONFIGURATION, raw=b"settings"),
        Measurement(VERSION, kind.MUTABLE_FIRMWARE_VERSION, raw=b"7.2.0\0"),
        Measurement(SVN, kind.MUTABLE_FIRMWARE_SVN, raw=(5).to_bytes(8, "little")),
        Measurement(EXTENDED, kind.HASH_EXTEND, digests=extended),
        Measurement(NEWS, kind.INFORMATIONAL, raw=b"booted in 5 s"),
        Measurement(MODE, kind.DEVICE_MODE, raw=mode()),
    ]


@functools.cache
def authority(name: str = "Lab") -> tuple[Authority, Authority]:
    """A root and an authority below it."""
    key = PrivateKey.from_seed("ecdsa-p256", name.encode())
    issuance = Issuance(serial_number=1)
    root = Authority.root(f"CN={name} Root", key, deterministic=True, issuance=issuance)
    below = PrivateKey.from_seed("ecdsa-p256", b"below " + name.encode())
    end = dt.datetime.fromtimestamp(NOW + 1000 * DAY, dt.UTC)
    middle = root.subordinate(
        f"CN={name} Factory",
        below,
        deterministic=True,
        issuance=Issuance(serial_number=2, not_after=end),
    )
    return root, middle


def anchors(name: str = "Lab") -> TrustAnchors:
    return TrustAnchors([authority(name)[0].certificate], Purpose.DEVICE)


def make_device(
    name: str = "ACME:Widget:0001",
    *,
    factory: str = "Lab",
    number: int = 3,
    slots: Sequence[int] = (0,),
    log: MeasurementLog = LOG,
    **roles: bool,
) -> MemoryDevice:
    """A healthy device with its own key and a chain below the factory."""
    root, middle = authority(factory)
    key = PrivateKey.from_seed("ecdsa-p256", name.encode())
    leaf = middle.issue(
        f"CN={name.replace(':', ' ')}",
        key.public_key,
        Profile.leaf(CertificateModel.DEVICE, name, **roles),
        Issuance(serial_number=number),
    )
    device = MemoryDevice("ecdsa-p256")
    device.key, device.certificates = key, (root.certificate.der, middle.certificate.der, leaf.der)
    device.credentials = Credentials(
        [Slot(slot, device.certificates, LocalSigner(key)) for slot in slots], supported=range(8)
    )
    device.values = healthy()
    device.measurement_log = lambda _algorithm: log_bytes(log)  # type: ignore[method-assign, assignment] # a device of its own
    return device


def trust(factory: str = "Lab", **changes: Any) -> DeviceTrust:
    return DeviceTrust(**{"time": NOW, "anchors": anchors(factory), **changes})


def collect_from(
    device: MemoryDevice,
    *,
    version: int = V13,
    believed: DeviceTrust | None = None,
    responder: dict[str, Any] | None = None,
    requester: dict[str, Any] | None = None,
    **wanted: Any,
) -> Evidence:
    """Evidence of a device over a wire in memory."""
    pair = Pair(device, versions=(version,), responder=responder, requester=requester)
    options: dict[str, Any] = {"target": "tcp://device", "transport": "memory", "now": NOW}
    found = pair.run(collect(pair.link, believed or trust(), Wanted(**{**options, **wanted})))
    return found.evidence


@functools.cache
def good_evidence(version: int = V13) -> Evidence:
    return collect_from(make_device(), version=version)


def manifest_for(blocks: Sequence[Block], algorithm: HashAlgorithm, **changes: Any) -> Manifest:
    """Reference values that these blocks meet."""
    entries = [
        ReferenceMeasurement(
            block.index,
            f"part {block.index}",
            raw_values=(AllowedRaw(block.value),) if block.raw else (),
            digests=() if block.raw else (AllowedDigest(algorithm.short, block.value),),
        )
        for block in blocks
        if block.kind != MeasurementKind.INFORMATIONAL
    ]
    options: dict[str, Any] = {
        "name": "Widget",
        "applies_to": AppliesTo(("ACME",), ("Widget",)),
        "release": "7.2",
        **changes,
    }
    return Manifest("widget", tuple(entries), **options)


@functools.cache
def good_manifest(version: int = V13) -> Manifest:
    verified = verify_evidence(good_evidence(version), trust())
    algorithm = verified.negotiated.selection.measurement_hash
    assert algorithm is not None
    return manifest_for(verified.blocks, algorithm)


def reference(manifest: Manifest, source: str = "widget.json") -> Reference:
    return Reference(manifest, source, "00" * 32)


def without(manifest: Manifest, *indexes: int) -> Manifest:
    kept = tuple(entry for entry in manifest.measurements if entry.index not in indexes)
    return replace(manifest, measurements=kept)


def changed(manifest: Manifest, index: int, **changes: Any) -> Manifest:
    return replace(
        manifest,
        measurements=tuple(
            replace(entry, **changes) if entry.index == index else entry
            for entry in manifest.measurements
        ),
    )


@dataclass
class Trial:
    """Everything that goes into an appraisal; a test changes one thing of it."""

    version: int = V13
    device: MemoryDevice = field(default_factory=make_device)
    evidence: Evidence | None = None
    believed: DeviceTrust = field(default_factory=trust)
    expectations: Expectations = field(default_factory=lambda: Expectations(NOW))
    policy: Policy = field(default_factory=Policy)
    references: list[Reference] = field(default_factory=list)
    rejected: list[RejectedReference] = field(default_factory=list)
    collecting: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def good(cls, version: int = V13) -> Trial:
        """A healthy device with the values that it meets."""
        return cls(
            version=version,
            evidence=good_evidence(version),
            references=[reference(good_manifest(version))],
        )

    def recollect(self) -> None:
        """Collect again, from the device as it now is."""
        self.evidence = collect_from(self.device, version=self.version, **self.collecting)

    def measure(self, index: int, **changes: Any) -> None:
        """Change one measurement of the device, and collect again."""
        self.device.values = [
            replace(each, **changes) if each.index == index else each for each in self.device.values
        ]
        self.recollect()

    def run(self) -> AttestationResult:
        assert self.evidence is not None
        try:
            verified = verify_evidence(self.evidence, self.believed)
        except (EvidenceError, DecodeError) as error:
            return refused(error, self.expectations, policy=self.policy)
        return appraise(
            verified,
            self.expectations,
            policy=self.policy,
            references=self.references,
            rejected=self.rejected,
        )


__all__ = ["EVERYTHING", "Trial"]
