"""What an operator demands of a device: the policy, as an object.

`policy_file` reads it from TOML; everything has a default, and the defaults are the safe choice. A
policy in Python may add rules of its own (`rules`), composed with `AllOf` and `AnyOf`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spdmkit.messages import MeasurementKind
from spdmkit.messages.measurements import DebugMode, OperationalMode

if TYPE_CHECKING:
    from pathlib import Path

    from spdmkit.attestation.rules import Rule

__all__ = [
    "Component",
    "DeviceModeRule",
    "EvidenceRule",
    "FreshnessRule",
    "IdentityRule",
    "Policy",
    "ProtocolRule",
    "ReferenceRule",
    "WhenMissing",
]


class WhenMissing(enum.StrEnum):
    """What follows when there is no reference value."""

    NOT_APPRAISED = "not-appraised"
    """The verdict is not-appraised (the default)."""
    UNTRUSTED = "untrusted"
    """The verdict is untrusted."""
    ACCEPT = "accept"
    """Nothing follows; only for single measurements, never for a device without any reference."""


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """Which devices, and whose.

    Attributes:
        trust_anchors: files with the device roots.
        expected: identities, one of which the device must have, as `IdentityExpectation` reads
            them; empty for any device below the anchors.
        crls, ocsp: files with revocation lists and OCSP responses.
        demand_revocation: each certificate must be covered by one of them.
        demand_hardware_identity: some certificate must be marked as hardware identity.
        demand_spdm_purpose: a leaf that restricts its purposes must name SPDM's among them.
    """

    trust_anchors: tuple[Path, ...] = ()
    expected: tuple[str, ...] = ()
    crls: tuple[Path, ...] = ()
    ocsp: tuple[Path, ...] = ()
    demand_revocation: bool = False
    demand_hardware_identity: bool = False
    demand_spdm_purpose: bool = False


@dataclass(frozen=True, slots=True)
class ProtocolRule:
    """Floors for what was negotiated.

    Attributes:
        minimum_version: lowest SPDM version, as the version byte.
        minimum_security: least strength of base hash, measurement hash and signature algorithm, in
            bits against classical attack (`Algorithm.security`).
        hashes, signatures, measurement_hashes: short names that are accepted; empty for all.
        accept_uncovered_negotiation: accept evidence whose signature does not cover the
            negotiation: a bare pair of SPDM 1.0 or 1.1, where nothing proves that the version and
            algorithms were not talked down.
    """

    minimum_version: int = 0x12
    minimum_security: int = 112
    hashes: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    measurement_hashes: tuple[str, ...] = ()
    accept_uncovered_negotiation: bool = False


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """How new evidence must be.

    Attributes:
        max_age: seconds since it was collected, or None for no limit. The time is that of the
            collecting verifier, so a limit demands its signature over it.
        demand_nonce: the nonce that is expected has to be named; without, nothing shows that the
            evidence is not an old one.
    """

    max_age: int | None = None
    demand_nonce: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceRule:
    """Which reference values count.

    Attributes:
        signers: files with the roots of those who may sign them.
        store: folder of a reference store, or None.
        demand_signature: refuse values that are not signed; None demands it when signers are named.
        ignore_signer_expiry: accept signers whose certificates have ended.
        when_none: verdict for a device without any reference value.
        when_unlisted: verdict when a measurement has no reference value.
        check_release: a manifest's release must be the one the device reports, where a vendor
            profile knows how it reports it.
    """

    signers: tuple[Path, ...] = ()
    store: Path | None = None
    demand_signature: bool | None = None
    ignore_signer_expiry: bool = False
    when_none: WhenMissing = WhenMissing.NOT_APPRAISED
    when_unlisted: WhenMissing = WhenMissing.NOT_APPRAISED
    check_release: bool = True

    @property
    def wants_signature(self) -> bool:
        """Whether values without a signature are refused."""
        return bool(self.signers) if self.demand_signature is None else self.demand_signature


@dataclass(frozen=True, slots=True)
class EvidenceRule:
    """Which parts the evidence must have.

    Attributes:
        demand_challenge: a verified CHALLENGE_AUTH.
        demand_summary: a measurement summary hash that was compared.
        demand_log: a measurement extension log that was replayed.
    """

    demand_challenge: bool = False
    demand_summary: bool = False
    demand_log: bool = False


@dataclass(frozen=True, slots=True)
class DeviceModeRule:
    """What the device mode block may say (DSP0274 table 62).

    Attributes:
        demand: the device must report its mode.
        refuse_debug: debug states that are refused.
        operational: operational states that are accepted; empty for all.
    """

    demand: bool = False
    refuse_debug: DebugMode = DebugMode.NON_INVASIVE_ACTIVE | DebugMode.INVASIVE_ACTIVE
    operational: OperationalMode = OperationalMode.NORMAL


@dataclass(frozen=True, slots=True)
class Component:
    """What is demanded of one measurement index.

    Attributes:
        index: measurement index.
        name: what it is, for reports.
        required: it has to be there and match a reference value (or `minimum_svn`); False excuses
            an index that reference values require.
        kind: the kind of measurement it must be, or None.
        minimum_svn: least security version number of a block of kind 0x7.
    """

    index: int
    name: str = ""
    required: bool = True
    kind: MeasurementKind | None = None
    minimum_svn: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that is demanded. `Policy()` is the default.

    Attributes:
        name: how results call it.
        version: counter of the policy's own versions; a higher one replaces a lower one.
        not_before, not_after: its validity, seconds since 1970, or None.
        components: demands on single measurement indexes.
        rules: further rules in Python; every one has to pass.
        source: file it came from, or empty.
        sha256: of that file, lower-case hex, or empty.
    """

    name: str = "default"
    version: int = 0
    not_before: int | None = None
    not_after: int | None = None
    identity: IdentityRule = field(default_factory=IdentityRule)
    protocol: ProtocolRule = field(default_factory=ProtocolRule)
    freshness: FreshnessRule = field(default_factory=FreshnessRule)
    references: ReferenceRule = field(default_factory=ReferenceRule)
    evidence: EvidenceRule = field(default_factory=EvidenceRule)
    device_mode: DeviceModeRule = field(default_factory=DeviceModeRule)
    components: tuple[Component, ...] = ()
    rules: tuple[Rule, ...] = ()
    source: str = ""
    sha256: str = ""

    @property
    def identifier(self) -> str:
        """How results name it: name, version, and the first digits of the file's hash."""
        digest = f" sha256:{self.sha256[:16]}" if self.sha256 else ""
        return f"{self.name} v{self.version}{digest}"

    def component(self, index: int) -> Component | None:
        """What is demanded of an index, or None."""
        for component in self.components:
            if component.index == index:
                return component
        return None

    def staleness(self, time: int) -> str:
        """Why the policy is not valid at a time (seconds since 1970), or an empty string."""
        if self.not_before is not None and time < self.not_before:
            return "its validity has not begun"
        if self.not_after is not None and time > self.not_after:
            return "its validity has ended"
        return ""


DEFAULT_POLICY: Final = Policy()
