"""Algorithm sets to and from NEGOTIATE_ALGORITHMS and ALGORITHMS (DSP0274 10.4)."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

from spdmkit.crypto import registry
from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    Algorithms,
    AlgorithmStructure,
    AlgType,
    NegotiateAlgorithms,
    ResponderFlags,
    SupportedAlgorithmsBlock,
)
from spdmkit.protocol.negotiation import Chosen
from spdmkit.protocol.settings import AlgorithmSet

__all__ = [
    "Selection",
    "for_version",
    "read_choice",
    "read_offer",
    "signable",
    "supported_block",
    "write_choice",
    "write_offer",
]

_TABLES: dict[str, Table[Algorithm]] = {
    "base_hash": registry.BASE_HASH,
    "base_asym": registry.BASE_ASYM,
    "pqc_asym": registry.PQC_ASYM,
    "dhe": registry.DHE,
    "kem": registry.KEM,
    "aead": registry.AEAD,
    "req_base_asym": registry.BASE_ASYM,
    "req_pqc_asym": registry.PQC_ASYM,
    "measurement_hash": registry.MEASUREMENT_HASH,
}

_STRUCTURES: tuple[tuple[AlgType, str, int], ...] = (
    (AlgType.DHE, "dhe", V11),
    (AlgType.AEAD, "aead", V11),
    (AlgType.REQ_BASE_ASYM_ALG, "req_base_asym", V11),
    (AlgType.KEY_SCHEDULE, "key_schedule", V11),
    (AlgType.REQ_PQC_ASYM_ALG, "req_pqc_asym", V14),
    (AlgType.KEM_ALG, "kem", V14),
)
"""Algorithm structures in the ascending order the specification asks for, and since when."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The algorithms that ALGORITHMS selected, None where nothing was (DSP0274 10.4)."""

    base_hash: registry.HashAlgorithm
    signature: registry.SignatureAlgorithm | None = None
    req_signature: registry.SignatureAlgorithm | None = None
    measurement_hash: registry.HashAlgorithm | None = None
    measurement_specification: int = 0
    dhe: registry.Dhe | None = None
    kem: registry.Kem | None = None
    aead: registry.Aead | None = None
    key_schedule: bool = False
    opaque_format: int = 0
    mel_specification: int = 0

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(cls, chosen: Chosen) -> Selection:
        """The algorithms behind a choice's bits.

        Raises:
            ProtocolViolation: no hash is selected, or two algorithms of a kind.
            UnsupportedAlgorithm: a reserved bit.
        """
        base_asym, pqc_asym = registry.BASE_ASYM, registry.PQC_ASYM
        return cls(
            base_hash=registry.BASE_HASH.by_mask(chosen.base_hash),
            signature=base_asym.selected(chosen.base_asym) or pqc_asym.selected(chosen.pqc_asym),
            req_signature=base_asym.selected(chosen.req_base_asym)
            or pqc_asym.selected(chosen.req_pqc_asym),
            measurement_hash=registry.MEASUREMENT_HASH.selected(chosen.measurement_hash),
            measurement_specification=chosen.measurement_specification,
            dhe=registry.DHE.selected(chosen.dhe),
            kem=registry.KEM.selected(chosen.kem),
            aead=registry.AEAD.selected(chosen.aead),
            key_schedule=bool(chosen.key_schedule),
            opaque_format=chosen.opaque_format,
            mel_specification=chosen.mel_specification,
        )

    def names(self) -> dict[str, str]:
        """Short names of what was selected, for reports and evidence."""
        chosen: dict[str, Algorithm | None] = {
            "hash": self.base_hash,
            "signature": self.signature,
            "requester_signature": self.req_signature,
            "measurement_hash": self.measurement_hash,
            "dhe": self.dhe,
            "kem": self.kem,
            "aead": self.aead,
        }
        return {name: entry.short for name, entry in chosen.items() if entry is not None}


@functools.lru_cache(maxsize=64)
def for_version(algorithms: AlgorithmSet, version: int) -> AlgorithmSet:
    """What of a set exists in an SPDM version."""
    masks: dict[str, int] = {}
    for name, table in _TABLES.items():
        mask = getattr(algorithms, name)
        masks[name] = table.mask(e for e in table.in_mask(mask) if e.since <= version)
    if version < V11:
        masks.update(dhe=0, aead=0, req_base_asym=0)
        masks["key_schedule"] = 0
    if version < V12:
        masks["opaque_formats"] = 0
    if version < V13:
        masks["mel_specification"] = 0
    return algorithms._replace(**masks)


def signable(table: Table[registry.SignatureAlgorithm], key_types: frozenset[str]) -> int:
    """The algorithms of a table that keys of these types sign with, as a mask."""
    return table.mask(entry for entry in table if entry.key_type in key_types)


def write_offer(offer: AlgorithmSet, version: int, *, multi_key: bool) -> NegotiateAlgorithms:
    """NEGOTIATE_ALGORITHMS for a set that `for_version` cut down already."""
    return NegotiateAlgorithms(
        measurement_specification=offer.measurement_specification,
        opaque_data_formats=offer.opaque_formats,
        responder_multi_key_conn=multi_key and version >= V13,
        base_asym_algo=offer.base_asym,
        base_hash_algo=offer.base_hash,
        pqc_asym_algo=offer.pqc_asym,
        mel_specification=offer.mel_specification,
        algorithm_structures=_structures(offer, version),
    )


def supported_block(own: AlgorithmSet, flags: int, version: int) -> SupportedAlgorithmsBlock:
    """The block that CAPABILITIES carries on request: what a responder supports (1.3)."""
    return SupportedAlgorithmsBlock(
        measurement_specification=own.measurement_specification,
        opaque_data_formats=own.opaque_formats,
        responder_multi_key_conn=bool(flags & ResponderFlags.MULTI_KEY_CAP_MASK),
        base_asym_algo=own.base_asym,
        base_hash_algo=own.base_hash,
        pqc_asym_algo=own.pqc_asym,
        mel_specification=own.mel_specification,
        algorithm_structures=_structures(own, version),
    )


def read_offer(request: NegotiateAlgorithms, version: int) -> AlgorithmSet:
    """The set that a NEGOTIATE_ALGORITHMS offers, reserved bits included.

    Raises:
        ProtocolViolation: the algorithm structures are not in order (10.4).
    """
    return AlgorithmSet(
        base_hash=request.base_hash_algo,
        base_asym=request.base_asym_algo,
        pqc_asym=request.pqc_asym_algo if version >= V14 else 0,
        opaque_formats=request.opaque_data_formats,
        measurement_specification=request.measurement_specification,
        mel_specification=request.mel_specification,
        **_masks(request.algorithm_structures, version),
    )


def write_choice(chosen: Chosen, version: int, *, multi_key: bool) -> Algorithms:
    """ALGORITHMS for a choice."""
    return Algorithms(
        measurement_specification_sel=chosen.measurement_specification,
        opaque_data_format=chosen.opaque_format,
        requester_multi_key_conn_sel=multi_key,
        measurement_hash_algo=chosen.measurement_hash,
        base_asym_sel=chosen.base_asym,
        base_hash_sel=chosen.base_hash,
        pqc_asym_sel=chosen.pqc_asym,
        mel_specification_sel=chosen.mel_specification,
        algorithm_structures=_structures(chosen, version),
    )


def read_choice(response: Algorithms, version: int) -> Chosen:
    """What an ALGORITHMS selects.

    Raises:
        ProtocolViolation: the algorithm structures are not in order, or an external algorithm was
            selected, of which none are ever offered (10.4).
    """
    external = [entry for each in response.algorithm_structures for entry in each.alg_external]
    if response.ext_asym_sel or response.ext_hash_sel or external:
        raise ProtocolViolation("ALGORITHMS selects an external algorithm; none was offered")
    return Chosen(
        base_hash=response.base_hash_sel,
        base_asym=response.base_asym_sel,
        pqc_asym=response.pqc_asym_sel if version >= V14 else 0,
        measurement_hash=response.measurement_hash_algo,
        opaque_format=response.opaque_data_format,
        measurement_specification=response.measurement_specification_sel,
        mel_specification=response.mel_specification_sel,
        **_masks(response.algorithm_structures, version),
    )


def _structures(masks: AlgorithmSet | Chosen, version: int) -> list[AlgorithmStructure]:
    return [
        AlgorithmStructure.of(alg_type, getattr(masks, name))
        for alg_type, name, since in _STRUCTURES
        if since <= version and getattr(masks, name)
    ]


def _masks(structures: list[AlgorithmStructure], version: int) -> dict[str, int]:
    types = [structure.alg_type for structure in structures]
    if any(one >= next_one for one, next_one in itertools.pairwise(types)):
        # One type twice would leave it to the reader which of the two counts.
        raise ProtocolViolation("AlgType does not increase from structure to structure")
    masks = {name: 0 for _, name, _ in _STRUCTURES}
    names = {alg_type: name for alg_type, name, since in _STRUCTURES if since <= version}
    for structure in structures:
        name = names.get(AlgType(structure.alg_type)) if structure.alg_type in names else None
        if name is not None:
            masks[name] = structure.mask
    return masks
