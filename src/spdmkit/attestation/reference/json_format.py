"""Our JSON form of reference values: what `spdm device init` writes and a person can edit.

    {
      "spdm_reference": 1,
      "id": "acme-nic-7.2",
      "name": "ACME network card",
      "publisher": "ACME Corporation",
      "release": "7.2",
      "applies_to": {"manufacturer": ["ACME"], "product": ["NIC-*"]},
      "valid": {"not_before": "2026-01-01T00:00:00Z", "not_after": "2031-01-01T00:00:00Z"},
      "measurements": [
        {"index": 1, "name": "boot loader", "type": "mutable-firmware",
         "digests": [{"algorithm": "sha-384", "value": "0d1f..."}]},
        {"index": 7, "name": "security version", "svn": [{"value": 3}]},
        {"index": 8, "versions": ["7.2.0", "7.2.1"], "required": false}
      ],
      "inactive": [9, 10]
    }

Bytes are hexadecimal. A field that is not listed in the documentation is an error, so that a typing
mistake cannot loosen what was meant. The form carries no signature: whoever can write the file
decides; CoRIM carries one.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from spdmkit.attestation.blocks import kind_from_label, kind_label
from spdmkit.attestation.dates import describe_time, parse_time
from spdmkit.attestation.reference.digests import canonical_digest
from spdmkit.attestation.reference.model import (
    AllowedRaw,
    AppliesTo,
    Condition,
    Manifest,
    ReferenceMeasurement,
    SvnRule,
)
from spdmkit.errors import ConfigurationError

__all__ = ["MAX_JSON_SIZE", "from_json", "looks_like_json", "to_json"]

MAX_JSON_SIZE = 4 << 20
"""Largest file that is read, in bytes."""
FORMAT = 1

Text = Annotated[str, msgspec.Meta(max_length=500)]
Texts = Annotated[tuple[Text, ...], msgspec.Meta(max_length=1000)]
Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{2})*$", max_length=262144)]
Index = Annotated[int, msgspec.Meta(ge=1, le=0xFE)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A JSON object in which an unknown field is an error."""


class _Digest(_Strict, frozen=True):
    algorithm: Text
    value: Hex


class _Raw(_Strict, frozen=True):
    value: Hex
    mask: Hex | None = None


class _Svn(_Strict, frozen=True):
    value: Annotated[int, msgspec.Meta(ge=0)]
    exact: bool = False


class _Condition(_Strict, frozen=True):
    fact: Text
    equals: Text


class _Measurement(_Strict, frozen=True):
    index: Index
    name: Text = ""
    type: Text | None = None
    digests: Annotated[tuple[_Digest, ...], msgspec.Meta(max_length=256)] = ()
    raw: Annotated[tuple[_Raw, ...], msgspec.Meta(max_length=256)] = ()
    svn: Annotated[tuple[_Svn, ...], msgspec.Meta(max_length=64)] = ()
    versions: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()
    required: bool = True
    only_when: _Condition | None = None


class _AppliesTo(_Strict, frozen=True):
    manufacturer: Texts = ()
    product: Texts = ()
    serial: Texts = ()
    root_sha256: Texts = ()
    spki_sha256: Texts = ()


class _Valid(_Strict, frozen=True):
    not_before: Text | None = None
    not_after: Text | None = None


class _Document(_Strict, frozen=True):
    spdm_reference: int
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    measurements: Annotated[tuple[_Measurement, ...], msgspec.Meta(max_length=254)]
    name: Text = ""
    publisher: Text = ""
    revision: Annotated[int, msgspec.Meta(ge=0)] = 0
    component: Text = ""
    release: Text = ""
    profile: Text = ""
    applies_to: _AppliesTo = _AppliesTo()
    valid: _Valid = _Valid()
    inactive: Annotated[tuple[Index, ...], msgspec.Meta(max_length=254)] = ()


# Made once, here: msgspec reads a declaration at its first use otherwise, and two threads that meet
# there crash the process.
_DOCUMENT: Final = msgspec.json.Decoder(_Document)


def looks_like_json(data: bytes) -> bool:
    """Whether a file may be in this form: its first character opens an object."""
    return data[:64].lstrip()[:1] == b"{"


def from_json(data: bytes, source: str = "reference values") -> Manifest:
    """Read reference values.

    Args:
        data: the file's bytes.
        source: what to call the file in errors.

    Raises:
        ConfigurationError: not in this form; the message names the place.
    """
    if len(data) > MAX_JSON_SIZE:
        raise ConfigurationError(f"{source}: {len(data)} bytes, more than {MAX_JSON_SIZE}")
    try:
        document = _DOCUMENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{source}: {error}") from None
    if document.spdm_reference != FORMAT:
        raise ConfigurationError(
            f"{source}: spdm_reference is {document.spdm_reference}, this reads {FORMAT}"
        )
    try:
        return _manifest(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}", hint=error.hint) from None


def _manifest(document: _Document) -> Manifest:
    entries: dict[int, ReferenceMeasurement] = {}
    for item in document.measurements:
        if item.index in entries:
            raise ConfigurationError(f"index {item.index} is listed twice")
        entries[item.index] = _measurement(item)
    both = set(entries) & set(document.inactive)
    if both:
        raise ConfigurationError(f"index {min(both)} has values and is listed as inactive")
    valid = document.valid
    return Manifest(
        document.id,
        tuple(entries[index] for index in sorted(entries)),
        name=document.name,
        publisher=document.publisher,
        revision=document.revision,
        component=document.component,
        release=document.release,
        profile=document.profile,
        applies_to=AppliesTo(
            document.applies_to.manufacturer,
            document.applies_to.product,
            document.applies_to.serial,
            document.applies_to.root_sha256,
            document.applies_to.spki_sha256,
        ),
        not_before=None if valid.not_before is None else parse_time(valid.not_before),
        not_after=None if valid.not_after is None else parse_time(valid.not_after),
        inactive=frozenset(document.inactive),
    )


def _measurement(item: _Measurement) -> ReferenceMeasurement:
    where = f"index {item.index}"
    try:
        kind = None if item.type is None else kind_from_label(item.type)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}", hint=error.hint) from None
    raw = []
    for each in item.raw:
        value = bytes.fromhex(each.value)
        mask = None if each.mask is None else bytes.fromhex(each.mask)
        if mask is not None and len(mask) != len(value):
            raise ConfigurationError(f"{where}: mask and value differ in length")
        raw.append(AllowedRaw(value, mask))
    if any(each.value >= 1 << 64 for each in item.svn):
        raise ConfigurationError(f"{where}: a security version number has 64 bits")
    return ReferenceMeasurement(
        item.index,
        item.name,
        kind,
        tuple(canonical_digest(d.algorithm, bytes.fromhex(d.value), where) for d in item.digests),
        tuple(raw),
        tuple(SvnRule(each.value, each.exact) for each in item.svn),
        item.versions,
        item.required,
        None if item.only_when is None else Condition(item.only_when.fact, item.only_when.equals),
    )


def to_json(manifest: Manifest) -> bytes:
    """Write reference values, indented, ending in a newline; `from_json` reads them back equal."""
    document = _Document(
        FORMAT,
        manifest.manifest_id,
        tuple(_item(entry) for entry in manifest.measurements),
        name=manifest.name,
        publisher=manifest.publisher,
        revision=manifest.revision,
        component=manifest.component,
        release=manifest.release,
        profile=manifest.profile,
        applies_to=_AppliesTo(
            manifest.applies_to.manufacturer,
            manifest.applies_to.product,
            manifest.applies_to.serial,
            manifest.applies_to.root_sha256,
            manifest.applies_to.spki_sha256,
        ),
        valid=_Valid(
            None if manifest.not_before is None else describe_time(manifest.not_before),
            None if manifest.not_after is None else describe_time(manifest.not_after),
        ),
        inactive=tuple(sorted(manifest.inactive)),
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _item(entry: ReferenceMeasurement) -> _Measurement:
    condition = entry.condition
    return _Measurement(
        entry.index,
        entry.name,
        None if entry.kind is None else kind_label(entry.kind),
        tuple(_Digest(digest.algorithm, digest.value.hex()) for digest in entry.digests),
        tuple(
            _Raw(raw.value.hex(), None if raw.mask is None else raw.mask.hex())
            for raw in entry.raw_values
        ),
        tuple(_Svn(rule.value, rule.exact) for rule in entry.svn),
        entry.versions,
        entry.required,
        None if condition is None else _Condition(condition.fact, condition.equals),
    )
