"""Comparing one measurement block with the values one index may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spdmkit.attestation.blocks import Block, kind_label
from spdmkit.attestation.reference.digests import hash_by_name
from spdmkit.attestation.reference.model import AllowedDigest, AllowedRaw, ReferenceMeasurement
from spdmkit.crypto.registry import HashAlgorithm
from spdmkit.messages import MeasurementKind

__all__ = ["Comparison", "compare", "describe_allowed", "describe_value"]

_SHOWN_RAW: Final = 64
_SHOWN_ALTERNATIVES: Final = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a block compares.

    Attributes:
        matches: True or False; None when the reference gives nothing that can be compared with it.
        detail: why, for people.
    """

    matches: bool | None
    detail: str


def compare(
    block: Block, entry: ReferenceMeasurement, measurement_hash: HashAlgorithm | None
) -> Comparison:
    """Compare a well-formed block with the values of its index.

    Any one alternative is a match. A raw bit stream is compared with allowed digests by hashing it;
    a digest with allowed raw values by hashing those. Masked values compare with raw bit streams
    only.

    Args:
        block: the block.
        entry: what its index may hold.
        measurement_hash: the negotiated measurement hash; None where the evidence does not say, and
            digests are then compared with those of the same length.
    """
    if entry.kind is not None and block.kind != entry.kind:
        return Comparison(False, f"is {block.label}, has to be {kind_label(entry.kind)}")
    number = block.security_version
    if number is not None and entry.svn:
        allowed = " or ".join(rule.describe() for rule in entry.svn)
        good = any(rule.allows(number) for rule in entry.svn)
        return Comparison(good, f"security version {number}, has to be {allowed}")
    version = block.version
    if version is not None and entry.versions:
        allowed = " or ".join(entry.versions)
        return Comparison(version in entry.versions, f"version {version}, has to be {allowed}")
    found = (
        _compare_raw(block, entry) if block.raw else _compare_digest(block, entry, measurement_hash)
    )
    if found is None:
        form = "a raw bit stream" if block.raw else "a digest"
        return Comparison(None, f"the reference gives nothing to compare {form} with")
    return found


def _compare_raw(block: Block, entry: ReferenceMeasurement) -> Comparison | None:
    if not entry.raw_values and not entry.digests:
        return None
    for number, raw in enumerate(entry.raw_values, 1):
        if raw.matches(block.value):
            return _matched(number, len(entry.raw_values))
    for number, digest in enumerate(entry.digests, 1):
        if hash_by_name(digest.algorithm).digest(block.value) == digest.value:
            return _matched(number, len(entry.digests))
    return _differs(len(entry.raw_values) + len(entry.digests))


def _compare_digest(
    block: Block, entry: ReferenceMeasurement, measurement_hash: HashAlgorithm | None
) -> Comparison | None:
    candidates = [
        digest.value for digest in entry.digests if _comparable(digest, block, measurement_hash)
    ]
    # A hash-extend measurement is no hash of one value, so a raw value says nothing about it.
    if measurement_hash is not None and block.kind != MeasurementKind.HASH_EXTEND:
        candidates += [
            measurement_hash.digest(raw.value) for raw in entry.raw_values if raw.mask is None
        ]
    if not candidates:
        return None
    for number, value in enumerate(candidates, 1):
        if value == block.value:
            return _matched(number, len(candidates))
    return _differs(len(candidates))


def _comparable(
    digest: AllowedDigest, block: Block, measurement_hash: HashAlgorithm | None
) -> bool:
    if measurement_hash is None:
        return len(digest.value) == len(block.value)
    return digest.algorithm == measurement_hash.short


def _matched(number: int, of: int) -> Comparison:
    return Comparison(True, "as expected" if of == 1 else f"alternative {number} of {of}")


def _differs(of: int) -> Comparison:
    return Comparison(False, "differs" if of == 1 else f"differs from all {of} alternatives")


def describe_value(block: Block) -> str:
    """A block's value for reports: a number or a text where the kind has one, else hexadecimal."""
    if block.security_version is not None:
        return str(block.security_version)
    if block.version is not None:
        return block.version
    if len(block.value) > _SHOWN_RAW:
        return f"{block.value[:_SHOWN_RAW].hex()}... ({len(block.value)} bytes)"
    return block.value.hex()


def describe_allowed(entry: ReferenceMeasurement) -> tuple[str, ...]:
    """What an index may hold, for reports."""
    found = [f"{digest.algorithm}:{digest.value.hex()}" for digest in entry.digests]
    found += [_describe_raw(raw) for raw in entry.raw_values]
    found += [f"security version {rule.describe()}" for rule in entry.svn]
    found += [f"version {text}" for text in entry.versions]
    more = len(found) - _SHOWN_ALTERNATIVES
    return (*found[:_SHOWN_ALTERNATIVES], f"and {more} more") if more > 0 else tuple(found)


def _describe_raw(raw: AllowedRaw) -> str:
    shown = raw.value[:_SHOWN_RAW].hex() + ("..." if len(raw.value) > _SHOWN_RAW else "")
    return f"raw:{shown}" if raw.mask is None else f"raw:{shown} (masked)"
