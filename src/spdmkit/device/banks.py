"""The slots of a device as SLOT_MANAGEMENT shows them: a bank for each type of key (DSP0274 10.32).

The device keeps one set of slots. A slot with certificates, or given to a key, is in the bank of
that key's type; a slot that nobody has is in every bank, until one of them takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spdmkit.device import key_pairs
from spdmkit.device.key_store import KeyEntry
from spdmkit.device.provisioning import MAX_CHAIN
from spdmkit.device.slot_store import SlotEntry
from spdmkit.messages import CertificateModel
from spdmkit.protocol.responder.device import Bank, BankSlot

__all__ = ["bank_of", "banks"]

_PROTECTED: Final = 0
"""The slot that is written in a trusted environment only."""


def banks(
    keys: Mapping[int, KeyEntry],
    slots: Mapping[int, SlotEntry],
    owners: Mapping[int, int],
    *,
    room: int,
    writable: bool,
    trusted_environment: bool,
) -> tuple[Bank, ...]:
    """All banks, in the order of their first key pair.

    Args:
        keys: key pairs by id.
        slots: provisioned slots.
        owners: slot -> key pair, for slots that belong to one.
        room: how many slots there are.
        writable: slots can be changed at all.
        trusted_environment: slot 0 as well.
    """
    found = []
    for bank_id, key_type in enumerate(_key_types(keys)):
        members = tuple(
            _slot(slot_id, keys, slots, owners, writable, trusted_environment)
            for slot_id in range(room)
            if slot_id not in owners or keys[owners[slot_id]].key_type == key_type
        )
        asym, pqc = key_pairs.algorithm_bits(key_type)
        algorithm = key_pairs.algorithm_for(key_type)
        found.append(Bank(bank_id, members, key_type, algorithm, asym, pqc))
    return tuple(found)


def bank_of(keys: Mapping[int, KeyEntry], key_pair_id: int) -> int | None:
    """The bank of a key pair's type; None for a pair without a key."""
    if keys[key_pair_id].key is None:
        return None
    return list(_key_types(keys)).index(keys[key_pair_id].key_type)


def _key_types(keys: Mapping[int, KeyEntry]) -> dict[str, None]:
    return {entry.key_type: None for entry in keys.values() if entry.key is not None}


def _slot(
    slot_id: int,
    keys: Mapping[int, KeyEntry],
    slots: Mapping[int, SlotEntry],
    owners: Mapping[int, int],
    writable: bool,
    trusted_environment: bool,
) -> BankSlot:
    entry = slots.get(slot_id)
    number = owners.get(slot_id, 0)
    return BankSlot(
        slot_id,
        certificates=() if entry is None else entry.certificates,
        size=MAX_CHAIN,
        key_pair_id=number,
        model=CertificateModel.NONE if entry is None else entry.model,
        key_usage=int(keys[number].usage) if number else 0,
        write_protected=not writable or (slot_id == _PROTECTED and not trusted_environment),
    )
