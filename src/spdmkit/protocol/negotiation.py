"""Choosing algorithms, and checking what the other side chose (DSP0274 10.5, 10.6).

Both functions are pure. The responder takes the strongest that both sides allow; the requester
refuses a choice that it did not offer, that is double, or that its policy put below the floor:
each of these was an attack or a bug somewhere.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final, NamedTuple

from spdmkit.crypto import registry
from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.errors import AuthenticationError
from spdmkit.messages import V12, V14
from spdmkit.protocol.settings import AlgorithmSet

__all__ = ["Chosen", "choose", "verify_choice"]


class Chosen(NamedTuple):
    """The selection fields of ALGORITHMS, as masks with one bit or none."""

    base_hash: int = 0
    base_asym: int = 0
    pqc_asym: int = 0
    dhe: int = 0
    kem: int = 0
    aead: int = 0
    req_base_asym: int = 0
    req_pqc_asym: int = 0
    measurement_hash: int = 0
    opaque_format: int = 0
    key_schedule: int = 0
    measurement_specification: int = 0
    mel_specification: int = 0


OPAQUE_FORMATS = (0b10, 0b01)
"""OpaqueDataFmt1 first: secured messages need it from 1.2 on (DSP0277 8)."""


def choose(offer: AlgorithmSet, own: AlgorithmSet, *, version: int) -> Chosen:
    """The strongest of what both sides allow, kind by kind; 0 where they have nothing in common."""
    post_quantum = version >= V14
    base, pqc = _one_of_two(
        registry.BASE_ASYM,
        offer.base_asym & own.base_asym,
        registry.PQC_ASYM,
        offer.pqc_asym & own.pqc_asym if post_quantum else 0,
    )
    dhe, kem = _one_of_two(
        registry.DHE,
        offer.dhe & own.dhe,
        registry.KEM,
        offer.kem & own.kem if post_quantum else 0,
    )
    req_base, req_pqc = _one_of_two(
        registry.BASE_ASYM,
        offer.req_base_asym & own.req_base_asym,
        registry.PQC_ASYM,
        offer.req_pqc_asym & own.req_pqc_asym if post_quantum else 0,
    )
    common_formats = offer.opaque_formats & own.opaque_formats
    return Chosen(
        base_hash=_strongest(registry.BASE_HASH, offer.base_hash & own.base_hash),
        base_asym=base,
        pqc_asym=pqc,
        dhe=dhe,
        kem=kem,
        aead=_strongest(registry.AEAD, offer.aead & own.aead),
        req_base_asym=req_base,
        req_pqc_asym=req_pqc,
        # The requester does not offer this one: the responder states what it measures with.
        measurement_hash=_strongest(registry.MEASUREMENT_HASH, own.measurement_hash),
        opaque_format=next((f for f in OPAQUE_FORMATS if f & common_formats), 0)
        if version >= V12
        else 0,
        key_schedule=offer.key_schedule & own.key_schedule & 1,
        measurement_specification=offer.measurement_specification
        & own.measurement_specification
        & 1,
        mel_specification=offer.mel_specification & own.mel_specification & 1,
    )


_FIELDS: Final = (
    "base_hash",
    "base_asym",
    "pqc_asym",
    "dhe",
    "kem",
    "aead",
    "req_base_asym",
    "req_pqc_asym",
    "opaque_format",
    "key_schedule",
    "measurement_specification",
    "mel_specification",
)
"""What a choice selects of what was offered; the set's name of the one exception is plural."""

_selected: Final = attrgetter(*_FIELDS)
_offered: Final = attrgetter(*(n.replace("opaque_format", "opaque_formats") for n in _FIELDS))

_EITHER_OR: Final = (
    ("base_asym", "pqc_asym"),
    ("dhe", "kem"),
    ("req_base_asym", "req_pqc_asym"),
)
"""Classical and post-quantum algorithms are not selected together (10.5)."""


def verify_choice(chosen: Chosen, offer: AlgorithmSet) -> None:
    """Refuse a selection that is not one of ours.

    Raises:
        AuthenticationError: step "negotiation", naming the field.
    """
    for field, mask, offered in zip(_FIELDS, _selected(chosen), _offered(offer), strict=True):
        if mask & (mask - 1):
            raise AuthenticationError("negotiation", f"{field}: more than one algorithm selected")
        if mask & ~offered:
            raise AuthenticationError(
                "negotiation", f"{field}: 0x{mask:x} was selected but not offered"
            )
    if chosen.measurement_hash & (chosen.measurement_hash - 1):
        raise AuthenticationError("negotiation", "more than one measurement hash selected")
    for one, other in _EITHER_OR:
        if getattr(chosen, one) and getattr(chosen, other):
            raise AuthenticationError("negotiation", f"{one} and {other} are both selected")


def _strongest(table: Table[Algorithm], mask: int) -> int:
    entry = table.strongest(mask)
    return 0 if entry is None else entry.mask


def _one_of_two(
    classical: Table[Algorithm], classical_mask: int, pqc: Table[Algorithm], pqc_mask: int
) -> tuple[int, int]:
    """One bit in one of the two fields: never both; post-quantum wins between equals."""
    old, new = classical.strongest(classical_mask), pqc.strongest(pqc_mask)
    if new is not None and (old is None or new.security >= old.security):
        return 0, new.mask
    return (0, 0) if old is None else (old.mask, 0)
