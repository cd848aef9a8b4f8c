"""Which reference values a device is compared with, out of all that were given.

1. Values for other devices fall out, by their claims; values past their validity are kept apart.
2. Manifests of different parts of the device (driver, VBIOS) are used together; an index that two
   parts have values for is a conflict, and nothing is compared then.
3. Manifests of one part are alternatives (releases): the one that fits best is used, whole. Values
   of two releases are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spdmkit.attestation.blocks import Block
from spdmkit.attestation.comparison import compare
from spdmkit.attestation.reference.loader import Reference
from spdmkit.attestation.reference.model import DeviceClaims, ReferenceMeasurement
from spdmkit.attestation.vendor import profile_by_name
from spdmkit.crypto.registry import HashAlgorithm
from spdmkit.errors import DecodeError

__all__ = ["Expected", "Release", "Resolution", "resolve"]


class Expected(NamedTuple):
    """The values one index is compared with."""

    entry: ReferenceMeasurement
    reference: Reference


class Release(NamedTuple):
    """What a manifest is the release of, and what the device reports."""

    component: str
    described: str
    reported: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The reference values for one device.

    Attributes:
        expected: by index.
        stale: by index, from manifests past their validity, where `expected` has none.
        inactive: indexes that a manifest in use declares not to be compared.
        used: the references in use.
        passed_over: given, and not used: why, in words.
        conflict: two parts have values for one index: in words; empty when not.
        releases: releases to compare, where a vendor profile knows how the device reports them.
        facts: what vendor profiles read from the evidence.
        facts_fault: why they could not; empty when they could.
    """

    expected: Mapping[int, Expected]
    stale: Mapping[int, Expected]
    inactive: frozenset[int]
    used: tuple[Reference, ...]
    passed_over: tuple[str, ...]
    conflict: str
    releases: tuple[Release, ...]
    facts: Mapping[str, str]
    facts_fault: str


def resolve(
    references: Sequence[Reference],
    blocks: Sequence[Block],
    claims: DeviceClaims,
    *,
    opaque: bytes,
    measurement_hash: HashAlgorithm | None,
    time: int,
) -> Resolution:
    """Choose the values for a device.

    Args:
        references: all that were given, their signatures verified.
        blocks: what the device reported.
        claims: who it is.
        opaque: opaque data of its MEASUREMENTS, for vendor profiles.
        measurement_hash: the negotiated one, or None.
        time: the time validity is judged at, seconds since 1970.

    Raises:
        ConfigurationError: a manifest names a vendor profile that nobody here knows.
    """
    passed_over: list[str] = []
    fresh: list[Reference] = []
    old: list[Reference] = []
    for reference in references:
        manifest = reference.manifest
        other = manifest.applies_to.disagreement(claims)
        if other:
            passed_over.append(f"{manifest.title} {other}")
            continue
        staleness = manifest.staleness(time)
        if staleness:
            passed_over.append(f"{manifest.title}: {staleness}")
        (old if staleness else fresh).append(reference)
    facts, facts_fault = _facts([*fresh, *old], opaque)
    by_index = {block.index: block for block in blocks}
    used = _choose(fresh, by_index, facts, measurement_hash)
    passed_over += [
        f"{each.manifest.title}: another release fits better" for each in fresh if each not in used
    ]
    expected, conflict = _merge(used)
    stale = {
        entry.index: Expected(entry, reference)
        for reference in old
        for entry in reference.manifest.measurements
        if entry.index not in expected
    }
    inactive = frozenset[int]().union(*(each.manifest.inactive for each in used))
    return Resolution(
        expected,
        stale,
        inactive - set(expected),
        tuple(used),
        tuple(passed_over),
        conflict,
        tuple(_releases(used, facts)),
        facts,
        facts_fault,
    )


def _facts(references: Sequence[Reference], opaque: bytes) -> tuple[dict[str, str], str]:
    facts: dict[str, str] = {}
    for name in dict.fromkeys(each.manifest.profile for each in references):
        profile = profile_by_name(name)
        if profile is None:
            continue
        try:
            facts |= profile.facts(opaque)
        except DecodeError as error:
            return {}, f"{name}: {error}"
    return facts, ""


def _choose(
    references: Sequence[Reference],
    blocks: Mapping[int, Block],
    facts: Mapping[str, str],
    measurement_hash: HashAlgorithm | None,
) -> list[Reference]:
    """The best of each part."""
    return [
        group[0]
        if len(group) == 1
        else max(group, key=lambda each: _fit(each, blocks, facts, measurement_hash))
        for group in _parts(references)
    ]


def _parts(references: Sequence[Reference]) -> list[list[Reference]]:
    """Manifests by the part of the device they cover.

    Those that name a component go by its name; those that name none belong together when they
    share an index.
    """
    named: dict[str, list[Reference]] = {}
    nameless: list[list[Reference]] = []
    for reference in references:
        component = reference.manifest.component
        if component:
            named.setdefault(component, []).append(reference)
            continue
        indexes = reference.manifest.indexes
        touching = [
            group for group in nameless if any(indexes & each.manifest.indexes for each in group)
        ]
        nameless = [group for group in nameless if group not in touching]
        nameless.append([*(each for group in touching for each in group), reference])
    return [*named.values(), *nameless]


class _Fit(NamedTuple):
    """How well a manifest fits, best last."""

    no_mismatch: bool
    release: bool
    matches: int
    revision: int


def _fit(
    reference: Reference,
    blocks: Mapping[int, Block],
    facts: Mapping[str, str],
    measurement_hash: HashAlgorithm | None,
) -> _Fit:
    matches = mismatches = 0
    for entry in reference.manifest.measurements:
        block = blocks.get(entry.index)
        if block is None or block.fault(0):
            mismatches += entry.required
            continue
        found = compare(block, entry, measurement_hash).matches
        matches += found is True
        mismatches += found is False and not (entry.condition and entry.condition.excuses(facts))
    release = any(each.described == each.reported for each in _releases([reference], facts))
    return _Fit(mismatches == 0, release, matches, reference.manifest.revision)


def _releases(references: Sequence[Reference], facts: Mapping[str, str]) -> list[Release]:
    found = []
    for reference in references:
        manifest = reference.manifest
        profile = profile_by_name(manifest.profile)
        fact = profile.release_facts.get(manifest.component) if profile else None
        if fact is not None and manifest.release:
            found.append(Release(manifest.component, manifest.release, facts.get(fact, "")))
    return found


def _merge(references: Sequence[Reference]) -> tuple[dict[int, Expected], str]:
    expected: dict[int, Expected] = {}
    for reference in references:
        for entry in reference.manifest.measurements:
            other = expected.get(entry.index)
            if other is not None:
                return {}, (
                    f"{other.reference.manifest.title} and {reference.manifest.title} both have "
                    f"values for index {entry.index}"
                )
            expected[entry.index] = Expected(entry, reference)
    return expected, ""
