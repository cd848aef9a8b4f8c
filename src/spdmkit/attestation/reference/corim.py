"""CoRIM: concise reference integrity manifests (draft-ietf-rats-corim), unsigned and signed.

How SPDM's terms are written:

    environment  class: vendor = manufacturer, model = product of the DMTF subject alternative name;
                 class-id, layer and index tell parts of a device apart; instance: serial number
                 (tagged bytes) or SHA-256 of the leaf's public key (key thumbprint)
    mkey         the measurement index, an unsigned integer
    mval         digests, raw value with or without mask, svn or min-svn, version, name
    alternatives several measurements with one mkey in one environment: any one is a match
    authority    authorized-by with a certificate thumbprint: SHA-256 of the device root

Each environment of each CoMID becomes a `Manifest`. What would narrow a value and cannot be judged
from a measurement block (flags, integer ranges, ...) is refused and not read over. Triples other
than reference triples, and measurement keys that are no integers, are left out and noted.

Two things SPDM needs have no place in the draft. A manifest that uses them names the profile of
`corim_terms`, and its measured values then carry them under negative keys: -1 whether the index is
required (default: yes), -2 the kind of measurement (DSP0274 table 61).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeGuard

from spdmkit.attestation import cbor
from spdmkit.attestation.cose import CONTENT_TYPE, Sign1
from spdmkit.attestation.reference import corim_terms as terms
from spdmkit.attestation.reference.digests import NAMED_INFORMATION, canonical_digest
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AllowedRaw,
    AppliesTo,
    Manifest,
    ReferenceMeasurement,
    SvnRule,
)
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.messages import MeasurementKind

__all__ = [
    "looks_like_corim",
    "manifests_from_corim",
    "open_signed",
    "signature_validity",
]

_WHAT: Final = "CoRIM"

Period: TypeAlias = tuple[int | None, int | None]
"""Not before and not after, in seconds since 1970; None where there is no bound."""


def looks_like_corim(data: bytes) -> bool:
    """Whether a file begins with a CBOR tag that a CoRIM may have."""
    tags = (terms.CORIM, *terms.OLD_WRAPPERS)
    heads = [b"\xd2", *(b"\xd9" + tag.to_bytes(2, "big") for tag in tags)]
    return data.startswith(tuple(heads))


def open_signed(data: bytes) -> Sign1 | None:
    """The signature around a CoRIM, not yet verified; None when the CoRIM is not signed.

    Raises:
        DecodeError: neither form.
    """
    item = _unwrap(cbor.decode(data, what=_WHAT, limit=terms.MAX_CORIM_SIZE))
    if not isinstance(item, cbor.Tag) or item.tag not in (terms.CORIM, terms.SIGN1):
        raise _malformed("neither a CoRIM (tag 501) nor a signed one (tag 18)")
    if item.tag == terms.CORIM:
        return None
    signed = Sign1.read(
        item, what=_WHAT, understood=frozenset({terms.CORIM_META, terms.CWT_CLAIMS})
    )
    if signed.protected.get(CONTENT_TYPE) != terms.MEDIA_TYPE:
        raise _malformed(f"the signed content is not {terms.MEDIA_TYPE}")
    if signed.payload is None:
        raise _malformed("the signed content is detached")
    return signed


def signature_validity(signed: Sign1) -> Period:
    """The period the signer gave its signature: not before, not after, in seconds since 1970.

    It stands in corim-meta, in CWT claims, or in both; then the narrower counts.

    Raises:
        DecodeError: neither stands in the protected header, or one is malformed.
    """
    meta, claims = signed.protected.get(terms.CORIM_META), signed.protected.get(terms.CWT_CLAIMS)
    if meta is None and claims is None:
        raise _malformed("the protected header names no signer (corim-meta or CWT claims)")
    periods: list[Period] = []
    if meta is not None:
        if not isinstance(meta, bytes):
            raise _malformed("corim-meta is no byte string")
        decoded = _mapping(cbor.decode(meta, what=_WHAT, limit=1 << 16), "corim-meta")
        periods.append(_validity(decoded.get(1)))
    if claims is not None:
        decoded = _mapping(claims, "CWT claims")
        periods.append((_time(decoded.get(5)), _time(decoded.get(4))))
    return _narrowest(periods)


def manifests_from_corim(data: bytes, *, validity: Period = (None, None)) -> tuple[Manifest, ...]:
    """Read an unsigned CoRIM, or the payload of a signed one whose signature was verified.

    Args:
        data: the CoRIM under its tag 501.
        validity: period of the signature around it; the manifests get what both periods share.

    Raises:
        DecodeError: malformed.
        ConfigurationError: it demands what cannot be judged from measurement blocks, or holds no
            reference value for one.
    """
    item = _unwrap(cbor.decode(data, what=_WHAT, limit=terms.MAX_CORIM_SIZE))
    if not isinstance(item, cbor.Tag) or item.tag != terms.CORIM:
        raise _malformed("not under tag 501")
    corim = _mapping(item.value, "corim-map")
    _only(corim, {0, 1, 2, 3, 4, 5}, "corim-map", negative_is_extension=True)
    period = _narrowest([validity, _validity(corim.get(4))])
    ours = _uri(corim.get(3)) == terms.PROFILE
    publisher = _entity_name(corim.get(5))
    identifier = _identifier(corim.get(0))
    manifests: list[Manifest] = []
    for tag in _sequence(corim.get(1), "tags"):
        if not isinstance(tag, cbor.Tag) or not isinstance(tag.value, bytes):
            raise _malformed("a tag of the CoRIM is no tagged byte string")
        if tag.tag == terms.COMID:
            comid = cbor.decode(tag.value, what=_WHAT, limit=terms.MAX_CORIM_SIZE)
            reader = _ComidReader(_mapping(comid, "concise-mid-tag"), identifier, ours)
            manifests += reader.manifests(publisher, period)
    if not manifests:
        raise ConfigurationError(
            "the CoRIM has no reference value for a measurement block",
            hint="measurement keys have to be measurement indexes, as integers 1 to 254",
        )
    return tuple(manifests)


class _ComidReader:
    """Reads one CoMID into a manifest for each environment."""

    def __init__(self, comid: Mapping[Any, Any], corim_id: str, ours: bool) -> None:
        _only(comid, {0, 1, 2, 3, 4}, "concise-mid-tag", negative_is_extension=True)
        identity = _mapping(comid.get(1), "tag-identity")
        self.identifier = f"{corim_id}/{_identifier(identity.get(0))}"
        self.revision = identity.get(1, 0)
        if not _is_uint(self.revision):
            raise _malformed("tag-version is no unsigned integer")
        self.creator = _entity_name(comid.get(2))
        self.triples = _mapping(comid.get(4), "triples")
        self.ours = ours
        self.notes: list[str] = []

    def manifests(self, publisher: str, period: Period) -> Iterable[Manifest]:
        others = sorted(str(key) for key in self.triples if key != 0)
        if others:
            self.notes.append(f"triples of other kinds are not used: {', '.join(others)}")
        by_environment: dict[bytes, tuple[Mapping[Any, Any], list[Mapping[Any, Any]]]] = {}
        for triple in _sequence(self.triples.get(0, ()), "reference-triples"):
            pair = _sequence(triple, "reference-triple")
            if len(pair) != 2:
                raise _malformed("a reference triple is no pair")
            environment = _mapping(pair[0], "environment")
            claims = [_mapping(item, "measurement") for item in _sequence(pair[1], "claims")]
            key = cbor.encode(environment)
            by_environment.setdefault(key, (environment, []))[1].extend(claims)
        for number, (environment, claims) in enumerate(by_environment.values(), 1):
            entries, roots = self._measurements(claims)
            if entries:
                part = f"#{number}" if len(by_environment) > 1 else ""
                applies_to, component, notes = _environment(environment, roots)
                yield Manifest(
                    self.identifier + part,
                    entries,
                    name=" ".join((*applies_to.manufacturer, *applies_to.product)),
                    publisher=publisher or self.creator,
                    revision=self.revision,
                    component=component,
                    applies_to=applies_to,
                    not_before=period[0],
                    not_after=period[1],
                    format="corim",
                    notes=(*self.notes, *notes),
                )

    def _measurements(
        self, claims: Iterable[Mapping[Any, Any]]
    ) -> tuple[tuple[ReferenceMeasurement, ...], tuple[str, ...]]:
        entries: dict[int, ReferenceMeasurement] = {}
        authorities: set[tuple[str, ...]] = set()
        for claim in claims:
            _only(claim, {0, 1, 2}, "measurement-map")
            key = claim.get(0)
            if not _is_uint(key):
                note = "measurements whose key is no integer are not used"
                if note not in self.notes:
                    self.notes.append(note)
                continue
            if not 1 <= key <= 0xFE:
                raise _malformed(f"measurement key {key} is no measurement index")
            authorities.add(_authorities(claim.get(2)))
            entry = _values(key, _mapping(claim.get(1), "measurement-values"), self.ours)
            entries[key] = entries[key].joined(entry) if key in entries else entry
        if len(authorities) > 1:
            raise ConfigurationError("measurements of one environment name different authorities")
        return tuple(entries[key] for key in sorted(entries)), next(iter(authorities), ())


def _values(index: int, values: Mapping[Any, Any], ours: bool) -> ReferenceMeasurement:
    """measurement-values-map of one index."""
    understood = {0, 1, 2, 4, 5, 11} | ({-1, -2} if ours else set())
    for key in values:
        if key not in understood:
            raise ConfigurationError(
                f"index {index}: value {key!r} of the CoRIM cannot be judged from a measurement"
                " block"
            )
    required = values.get(-1, True) if ours else True
    kind = values.get(-2) if ours else None
    if not isinstance(required, bool):
        raise _malformed(f"index {index}: the required flag is no boolean")
    if kind is not None and (not _is_uint(kind) or kind > max(MeasurementKind)):
        raise _malformed(f"index {index}: unknown kind of measurement")
    name = values.get(11, "")
    if not isinstance(name, str):
        raise _malformed(f"index {index}: name is no text")
    entry = ReferenceMeasurement(
        index,
        name,
        None if kind is None else MeasurementKind(kind),
        tuple(_digests(values.get(2), index)),
        tuple(_raw(values, index)),
        tuple(_svn(values.get(1), index)),
        tuple(_version(values.get(0), index)),
        required,
    )
    if entry.is_empty:
        raise _malformed(f"index {index}: no value")
    return entry


def _digests(item: object, index: int) -> Iterable[AllowedDigest]:
    if item is None:
        return
    seen: set[str] = set()
    for pair in _sequence(item, "digests"):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[1], bytes):
            raise _malformed(f"index {index}: a digest is no pair of algorithm and bytes")
        algorithm = NAMED_INFORMATION.get(pair[0], "") if _is_uint(pair[0]) else pair[0]
        if not isinstance(algorithm, str) or not algorithm:
            raise ConfigurationError(f"index {index}: digest algorithm {pair[0]!r} is not SPDM's")
        digest = canonical_digest(algorithm, pair[1], f"index {index}")
        if digest.algorithm in seen:
            raise _malformed(f"index {index}: two digests by {digest.algorithm} in one value")
        seen.add(digest.algorithm)
        yield digest


def _raw(values: Mapping[Any, Any], index: int) -> Iterable[AllowedRaw]:
    item, mask = values.get(4), values.get(5)
    if item is None:
        if mask is not None:
            raise _malformed(f"index {index}: a mask without a raw value")
        return
    value = (
        item.value
        if isinstance(item, cbor.Tag) and item.tag in (terms.BYTES, terms.MASKED)
        else item
    )
    if isinstance(item, cbor.Tag) and item.tag == terms.MASKED:
        if mask is not None or not isinstance(value, list | tuple) or len(value) != 2:
            raise _malformed(f"index {index}: masked raw value")
        value, mask = value
    if not isinstance(value, bytes) or not isinstance(mask, bytes | None):
        raise _malformed(f"index {index}: raw value or mask is no byte string")
    if mask is not None and len(mask) != len(value):
        raise _malformed(f"index {index}: mask and raw value differ in length")
    yield AllowedRaw(value, mask)


def _svn(item: object, index: int) -> Iterable[SvnRule]:
    if item is None:
        return
    exact = not (isinstance(item, cbor.Tag) and item.tag == terms.MIN_SVN)
    value = (
        item.value
        if isinstance(item, cbor.Tag) and item.tag in (terms.SVN, terms.MIN_SVN)
        else item
    )
    if not _is_uint(value):
        raise _malformed(f"index {index}: security version number is no unsigned integer")
    yield SvnRule(value, exact)


def _version(item: object, index: int) -> Iterable[str]:
    if item is None:
        return
    version = _mapping(item, "version-map").get(0)
    if not isinstance(version, str):
        raise _malformed(f"index {index}: version is no text")
    yield version


def _environment(
    environment: Mapping[Any, Any], roots: tuple[str, ...]
) -> tuple[AppliesTo, str, list[str]]:
    """The devices an environment stands for, the part of them it is, and notes."""
    _only(environment, {0, 1}, "environment")
    klass = _mapping(environment.get(0, {}), "class")
    _only(klass, {0, 1, 2, 3, 4}, "class")
    notes = []
    if 0 in klass and not {1, 2} & set(klass):
        notes.append("the class-id cannot be compared with an SPDM identity")
    vendor, model = (_optional_text(klass.get(key), "class") for key in (1, 2))
    part = []
    for key, word in ((3, "layer"), (4, "index")):
        if key in klass:
            if not _is_uint(klass[key]):
                raise _malformed(f"{word} of the class is no unsigned integer")
            part.append(f"{word} {klass[key]}")
    serial: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    instance = environment.get(1)
    if isinstance(instance, cbor.Tag) and instance.tag == terms.BYTES:
        serial = (_serial(instance.value),)
    elif isinstance(instance, cbor.Tag) and instance.tag == terms.KEY_THUMBPRINT:
        keys = (_sha256(instance.value, "instance"),)
    elif instance is not None:
        raise ConfigurationError("the CoRIM names an instance in a form that SPDM does not know")
    return AppliesTo(vendor, model, serial, roots, keys), " ".join(part), notes


def _serial(value: object) -> str:
    if not isinstance(value, bytes):
        raise _malformed("instance is no byte string")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError("the instance of the CoRIM is no serial number in UTF-8") from None


def _authorities(item: object) -> tuple[str, ...]:
    if item is None:
        return ()
    found = []
    for each in _sequence(item, "authorized-by"):
        if not isinstance(each, cbor.Tag) or each.tag != terms.CERTIFICATE_THUMBPRINT:
            raise ConfigurationError(
                "authorized-by has to be SHA-256 thumbprints of root certificates"
            )
        found.append(_sha256(each.value, "authorized-by"))
    return tuple(found)


def _sha256(item: object, where: str) -> str:
    if not isinstance(item, list | tuple) or len(item) != 2 or item[0] not in (1, "sha-256"):
        raise ConfigurationError(f"{where} has to be a SHA-256 thumbprint")
    if not isinstance(item[1], bytes) or len(item[1]) != 32:
        raise _malformed(f"{where}: a SHA-256 thumbprint has 32 bytes")
    return item[1].hex()


# --- helpers --------------------------------------------------------------------------------


def _malformed(reason: str) -> DecodeError:
    return DecodeError(_WHAT, "content", 0, reason)


def _unwrap(item: object) -> object:
    for _ in terms.OLD_WRAPPERS:
        if isinstance(item, cbor.Tag) and item.tag in terms.OLD_WRAPPERS:
            item = item.value
    return item


def _is_uint(item: object) -> TypeGuard[int]:
    return isinstance(item, int) and not isinstance(item, bool) and item >= 0


def _mapping(item: object, what: str) -> Mapping[Any, Any]:
    if not isinstance(item, Mapping):
        raise _malformed(f"{what} is no map")
    return item


def _sequence(item: object, what: str) -> Sequence[Any]:
    if not isinstance(item, list | tuple):
        raise _malformed(f"{what} is no array")
    return item


def _only(
    item: Mapping[Any, Any], known: set[int], what: str, *, negative_is_extension: bool = False
) -> None:
    for key in item:
        extension = negative_is_extension and isinstance(key, int) and key < 0
        if key not in known and not extension:
            raise ConfigurationError(f"{what} of the CoRIM has {key!r}, which is not understood")


def _optional_text(item: object, what: str) -> tuple[str, ...]:
    if item is None:
        return ()
    if not isinstance(item, str):
        raise _malformed(f"{what} holds no text where it should")
    return (item,)


def _identifier(item: object) -> str:
    if isinstance(item, cbor.Tag) and item.tag == terms.UUID:
        item = item.value
    if isinstance(item, str) and item:
        return item
    if isinstance(item, bytes) and len(item) == 16:
        return str(uuid.UUID(bytes=item))
    raise _malformed("an identifier is neither text nor a UUID")


def _uri(item: object) -> str:
    value = item.value if isinstance(item, cbor.Tag) and item.tag == terms.URI else item
    return value if isinstance(value, str) else ""


def _entity_name(item: object) -> str:
    for entity in item if isinstance(item, list | tuple) else ():
        if isinstance(entity, Mapping) and isinstance(entity.get(0), str):
            return str(entity[0])
    return ""


def _time(item: object) -> int | None:
    value = item.value if isinstance(item, cbor.Tag) and item.tag == terms.TIME else item
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed("a time is no number")
    if not -1e12 < value < 1e12:
        raise _malformed("a time lies beyond any calendar")
    return int(value)


def _validity(item: object) -> Period:
    if item is None:
        return (None, None)
    validity = _mapping(item, "validity-map")
    return (_time(validity.get(0)), _time(validity.get(1)))


def _narrowest(
    periods: Sequence[Period],
) -> Period:
    begins = [begin for begin, _ in periods if begin is not None]
    ends = [end for _, end in periods if end is not None]
    return (max(begins, default=None), min(ends, default=None))
