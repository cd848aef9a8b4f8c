"""Writing CoRIM, unsigned and signed; `corim` says how SPDM's terms are written."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from spdmkit.attestation import cbor
from spdmkit.attestation.cose import CONTENT_TYPE, X5CHAIN, make_sign1
from spdmkit.attestation.reference import corim_terms as terms
from spdmkit.attestation.reference.digests import named_information
from spdmkit.attestation.reference.model import Manifest, ReferenceMeasurement
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import ConfigurationError

__all__ = ["sign_corim", "to_corim"]


def to_corim(manifests: Sequence[Manifest], *, corim_id: str = "") -> bytes:
    """Write manifests as one unsigned CoRIM under tag 501; `manifests_from_corim` reads it back.

    Args:
        manifests: at least one; they must share one validity period.
        corim_id: identifier of the CoRIM; default the first manifest's.

    Raises:
        ConfigurationError: something that CoRIM cannot say: a condition, wildcards, inactive
            indexes, several alternatives of an identity claim, a vendor profile.
    """
    periods = {(manifest.not_before, manifest.not_after) for manifest in manifests}
    if len(periods) != 1:
        raise ConfigurationError("a CoRIM has one validity period, the manifests have several")
    entries = [entry for manifest in manifests for entry in manifest.measurements]
    ours = any(entry.kind is not None or not entry.required for entry in entries)
    corim: dict[int, Any] = {
        0: corim_id or manifests[0].manifest_id,
        1: [_write_comid(manifest, ours) for manifest in manifests],
    }
    if ours:
        corim[3] = cbor.Tag(terms.URI, terms.PROFILE)
    not_before, not_after = next(iter(periods))
    if not_after is not None:
        corim[4] = {1: cbor.Tag(terms.TIME, not_after)}
        if not_before is not None:
            corim[4][0] = cbor.Tag(terms.TIME, not_before)
    elif not_before is not None:
        raise ConfigurationError("a CoRIM cannot have a beginning of validity without an end")
    return cbor.encode(cbor.Tag(terms.CORIM, corim))


def sign_corim(
    corim: bytes,
    key: PrivateKey,
    *,
    signer: str,
    certificates: Sequence[bytes] = (),
    not_before: int | None = None,
    not_after: int | None = None,
) -> bytes:
    """Sign a CoRIM (COSE_Sign1).

    Args:
        corim: an unsigned CoRIM under tag 501.
        key: the signer's key; it decides the algorithm.
        signer: the signer's name, put into corim-meta.
        certificates: the signer's chain in DER, signer first, put into x5chain.
        not_before: beginning of the signature's period, in seconds since 1970.
        not_after: its end.

    Raises:
        ConfigurationError: a beginning without an end.
        UnsupportedAlgorithm: COSE has no algorithm for the key.
    """
    meta: dict[int, Any] = {0: {0: signer}}
    if not_after is not None:
        meta[1] = {1: cbor.Tag(terms.TIME, not_after)}
        if not_before is not None:
            meta[1][0] = cbor.Tag(terms.TIME, not_before)
    elif not_before is not None:
        raise ConfigurationError("a signature cannot have a beginning of validity without an end")
    protected: dict[int, Any] = {
        CONTENT_TYPE: terms.MEDIA_TYPE,
        terms.CORIM_META: cbor.encode(meta),
    }
    if certificates:
        chain = list(certificates)
        protected[X5CHAIN] = chain[0] if len(chain) == 1 else chain
    return cbor.encode(make_sign1(key, corim, protected=protected))


def _write_comid(manifest: Manifest, ours: bool) -> cbor.Tag:
    if manifest.inactive or manifest.profile:
        raise ConfigurationError(
            f"{manifest.title}: CoRIM has no word for inactive indexes or vendor profiles"
        )
    environment = _write_environment(manifest)
    authority = [
        cbor.Tag(terms.CERTIFICATE_THUMBPRINT, [1, bytes.fromhex(root)])
        for root in manifest.applies_to.root_sha256
    ]
    triples: list[list[Any]] = []
    for entry in manifest.measurements:
        if entry.condition is not None:
            raise ConfigurationError(f"index {entry.index}: CoRIM has no word for a condition")
        for number, values in enumerate(_write_values(entry, ours)):
            claim: dict[int, Any] = {0: entry.index, 1: values}
            if authority:
                claim[2] = authority
            # Alternatives stand in triples of their own: within one, all claims have to hold.
            while len(triples) <= number:
                triples.append([environment, []])
            triples[number][1].append(claim)
    comid: dict[int, Any] = {1: {0: manifest.manifest_id}, 4: {0: triples}}
    if manifest.revision:
        comid[1][1] = manifest.revision
    if manifest.publisher:
        comid[2] = [{0: manifest.publisher, 2: [0]}]
    return cbor.Tag(terms.COMID, cbor.encode(comid))


def _write_environment(manifest: Manifest) -> dict[int, Any]:
    claims = manifest.applies_to
    for name in ("manufacturer", "product", "serial", "spki_sha256"):
        values: tuple[str, ...] = getattr(claims, name)
        if len(values) > 1 or any(char in text for text in values for char in "*?["):
            raise ConfigurationError(f"{manifest.title}: CoRIM takes one {name}, without wildcards")
    klass: dict[int, Any] = {}
    if claims.manufacturer:
        klass[1] = claims.manufacturer[0]
    if claims.product:
        klass[2] = claims.product[0]
    if manifest.component:
        klass |= _write_component(manifest.component)
    environment: dict[int, Any] = {0: klass} if klass else {}
    if claims.serial and claims.spki_sha256:
        raise ConfigurationError(f"{manifest.title}: CoRIM names an instance by one claim")
    if claims.serial:
        environment[1] = cbor.Tag(terms.BYTES, claims.serial[0].encode())
    if claims.spki_sha256:
        environment[1] = cbor.Tag(terms.KEY_THUMBPRINT, [1, bytes.fromhex(claims.spki_sha256[0])])
    if not environment:
        # An environment may not be empty; a class-id made from the identifier applies to nothing.
        identifier = uuid.uuid5(uuid.NAMESPACE_URL, manifest.manifest_id)
        environment[0] = {0: cbor.Tag(terms.UUID, identifier.bytes)}
    return environment


def _write_component(component: str) -> dict[int, int]:
    words = component.split()
    found: dict[int, int] = {}
    for name, value in zip(words[::2], words[1::2], strict=False):
        key = {"layer": 3, "index": 4}.get(name)
        if key is not None and value.isascii() and value.isdigit():
            found[key] = int(value)
    if 2 * len(found) != len(words):
        raise ConfigurationError(
            f"CoRIM cannot name the component {component!r}", hint='write "layer 1" or "index 2"'
        )
    return found


def _write_values(entry: ReferenceMeasurement, ours: bool) -> Iterable[dict[int, Any]]:
    """One measurement-values-map for each alternative."""
    common: dict[int, Any] = {}
    if entry.name:
        common[11] = entry.name
    if ours and not entry.required:
        common[-1] = False
    if ours and entry.kind is not None:
        common[-2] = int(entry.kind)
    # Digests by different algorithms of one object share a value; further ones are alternatives.
    sets: list[dict[str, bytes]] = []
    for digest in entry.digests:
        home = next((each for each in sets if digest.algorithm not in each), None)
        if home is None:
            home = {}
            sets.append(home)
        home[digest.algorithm] = digest.value
    for each in sets:
        yield {**common, 2: [[named_information(name), value] for name, value in each.items()]}
    for raw in entry.raw_values:
        tagged = (
            cbor.Tag(terms.BYTES, raw.value)
            if raw.mask is None
            else cbor.Tag(terms.MASKED, [raw.value, raw.mask])
        )
        yield {**common, 4: tagged}
    for rule in entry.svn:
        yield {**common, 1: cbor.Tag(terms.SVN if rule.exact else terms.MIN_SVN, rule.value)}
    for version in entry.versions:
        yield {**common, 0: {0: version}}
