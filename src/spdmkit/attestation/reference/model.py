"""Reference values as one data model, whatever format they came in.

A `Manifest` says, for devices with certain identity claims, which values each measurement block may
have. It is only data: whether anyone vouches for it is said by the `Reference` around it
(`loader`), which carries the signer that was verified when it was read.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from spdmkit.errors import ConfigurationError
from spdmkit.messages import MeasurementKind

__all__ = [
    "AllowedDigest",
    "AllowedRaw",
    "AppliesTo",
    "Condition",
    "DeviceClaims",
    "Manifest",
    "ReferenceMeasurement",
    "SvnRule",
]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceClaims:
    """What a verified certificate chain says about a device; each may be empty.

    Attributes:
        manufacturer, product, serial: the three parts of the DMTF subject alternative name
            (otherName 1.3.6.1.4.1.412.274.1, DSP0274 10.9).
        root_sha256: SHA-256 of the DER of the root certificate, lower-case hex.
        spki_sha256: SHA-256 of the leaf's SubjectPublicKeyInfo, lower-case hex.
        subject: the leaf's subject as text.
    """

    manufacturer: str = ""
    product: str = ""
    serial: str = ""
    root_sha256: str = ""
    spki_sha256: str = ""
    subject: str = ""

    def describe(self) -> str:
        """One line a person recognises the device by."""
        san = ":".join((self.manufacturer, self.product, self.serial))
        return san.strip(":") or self.subject or self.spki_sha256 or "no identity"


@dataclass(frozen=True, slots=True)
class AppliesTo:
    """Which devices reference values are for: every claim that is given must agree.

    Each attribute lists alternatives; `*` and `?` are wildcards in manufacturer, product and
    serial. Nothing given at all applies to no device by itself: such values have to be named.
    """

    manufacturer: tuple[str, ...] = ()
    product: tuple[str, ...] = ()
    serial: tuple[str, ...] = ()
    root_sha256: tuple[str, ...] = ()
    spki_sha256: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """No claim is asked for."""
        return not any(getattr(self, name) for name in _CLAIMS)

    def disagreement(self, claims: DeviceClaims) -> str:
        """The first claim that does not agree, in words; empty when all do."""
        for name in _CLAIMS:
            allowed: tuple[str, ...] = getattr(self, name)
            actual: str = getattr(claims, name)
            if allowed and not any(_agrees(name, pattern, actual) for pattern in allowed):
                return (
                    f"is for {name} {' or '.join(allowed)}, the device says {actual or 'nothing'}"
                )
        return ""

    def describe(self) -> str:
        """One line for lists."""
        parts = [
            f"{name} {'|'.join(getattr(self, name))}" for name in _CLAIMS if getattr(self, name)
        ]
        return ", ".join(parts) or "nothing in particular"


_CLAIMS = ("manufacturer", "product", "serial", "root_sha256", "spki_sha256")


def _agrees(name: str, pattern: str, actual: str) -> bool:
    if not actual:
        return False
    if name.endswith("_sha256"):
        return pattern.lower() == actual.lower()
    return fnmatch.fnmatchcase(actual, pattern)


@dataclass(frozen=True, slots=True)
class AllowedDigest:
    """One digest a block may have.

    Attributes:
        algorithm: short name of the hash ("sha-384").
        value: the digest.
    """

    algorithm: str
    value: bytes


@dataclass(frozen=True, slots=True)
class AllowedRaw:
    """One raw bit stream a block may have.

    Attributes:
        value: the bytes.
        mask: of the same length, a 1 where a bit is compared; None compares all.
    """

    value: bytes
    mask: bytes | None = None

    def matches(self, actual: bytes) -> bool:
        """Whether the bits that count agree; another length never does."""
        if len(actual) != len(self.value):
            return False
        if self.mask is None:
            return actual == self.value
        return all((a ^ b) & m == 0 for a, b, m in zip(actual, self.value, self.mask, strict=True))


@dataclass(frozen=True, slots=True)
class SvnRule:
    """A security version number, or the least that is acceptable.

    Attributes:
        value: the number.
        exact: only this number will do; otherwise it and every higher one.
    """

    value: int
    exact: bool = False

    def allows(self, actual: int) -> bool:
        """Whether the rule accepts a number."""
        return actual == self.value if self.exact else actual >= self.value

    def describe(self) -> str:
        """The rule in words."""
        return f"exactly {self.value}" if self.exact else f"{self.value} or higher"


@dataclass(frozen=True, slots=True)
class Condition:
    """When an index counts: a fact the device reports must have a value (a vendor's rule).

    Attributes:
        fact: name of the fact, as the vendor profile gives it ("nvdec0").
        equals: the value.
    """

    fact: str
    equals: str

    def excuses(self, facts: Mapping[str, str]) -> bool:
        """Whether the device reports another value, so that the index does not count.

        A device that does not report the fact is not excused.
        """
        return facts.get(self.fact, self.equals) != self.equals


@dataclass(frozen=True, slots=True)
class ReferenceMeasurement:
    """What one measurement block may hold; any one of the values given is a match.

    Attributes:
        index: measurement index, 1 to 0xFE.
        name: what is measured, for people.
        kind: the kind the block must have, or None for any.
        digests: allowed digests.
        raw_values: allowed raw bit streams.
        svn: allowed security version numbers.
        versions: allowed version texts.
        required: the device is trusted only when this index is there and matches.
        condition: when it counts; None is always.
    """

    index: int
    name: str = ""
    kind: MeasurementKind | None = None
    digests: tuple[AllowedDigest, ...] = ()
    raw_values: tuple[AllowedRaw, ...] = ()
    svn: tuple[SvnRule, ...] = ()
    versions: tuple[str, ...] = ()
    required: bool = True
    condition: Condition | None = None

    @property
    def is_empty(self) -> bool:
        """It allows nothing, and so says nothing."""
        return not (self.digests or self.raw_values or self.svn or self.versions)

    def joined(self, other: ReferenceMeasurement) -> ReferenceMeasurement:
        """Both sets of alternatives for one index.

        Raises:
            ConfigurationError: they contradict each other on anything but the values.
        """
        mine = (self.kind, self.required, self.condition)
        if mine != (other.kind, other.required, other.condition):
            raise ConfigurationError(
                f"index {self.index} is listed twice with different type, required or condition"
            )
        return ReferenceMeasurement(
            self.index,
            self.name or other.name,
            self.kind,
            _union(self.digests, other.digests),
            _union(self.raw_values, other.raw_values),
            _union(self.svn, other.svn),
            _union(self.versions, other.versions),
            self.required,
            self.condition,
        )


def _union(first: Iterable[T], second: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*first, *second)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Reference values for the devices they apply to.

    Attributes:
        manifest_id: the publisher's identifier of it.
        name: what it is, for people.
        publisher: who made it, as it says itself.
        revision: the publisher's counter of versions of the manifest itself.
        component: the part of the device it covers ("driver"). Manifests of different parts are
            used together and must not share an index; manifests of one part are alternatives.
            Empty: parts are told apart by whether they share an index.
        release: version of the firmware it describes.
        profile: name of the vendor profile it is read with, or empty.
        applies_to: the devices it is for.
        not_before, not_after: validity, seconds since 1970, or None.
        measurements: by index, ascending, one each.
        inactive: indexes the publisher lists and declares not to be compared.
        format: "json", "corim" or "tcg-rim".
        notes: what was read over, and why.
    """

    manifest_id: str
    measurements: tuple[ReferenceMeasurement, ...]
    name: str = ""
    publisher: str = ""
    revision: int = 0
    component: str = ""
    release: str = ""
    profile: str = ""
    applies_to: AppliesTo = field(default_factory=AppliesTo)
    not_before: int | None = None
    not_after: int | None = None
    inactive: frozenset[int] = frozenset()
    format: str = "json"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        indexes = [entry.index for entry in self.measurements]
        if indexes != sorted(set(indexes)):
            raise ConfigurationError(f"{self.title}: indexes must ascend, each once")
        for entry in self.measurements:
            if not 1 <= entry.index <= 0xFE:
                raise ConfigurationError(f"{self.title}: index {entry.index} is not 1 to 254")
            if entry.is_empty:
                raise ConfigurationError(f"{self.title}: index {entry.index} allows no value")

    @property
    def title(self) -> str:
        """How reports call it."""
        label = self.name or self.manifest_id
        return " ".join(part for part in (label, self.component, self.release) if part)

    @property
    def indexes(self) -> frozenset[int]:
        """The indexes it has values for."""
        return frozenset(entry.index for entry in self.measurements)

    def staleness(self, time: int) -> str:
        """Why it is not valid at a time (seconds since 1970), or an empty string."""
        if self.not_before is not None and time < self.not_before:
            return "its validity has not begun"
        if self.not_after is not None and time > self.not_after:
            return "its validity has ended"
        return ""
