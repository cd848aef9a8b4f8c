"""Key pairs as GET_KEY_PAIR_INFO and SET_KEY_PAIR_INFO see them (DSP0274 10.28)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from spdmkit.crypto.der import Reader
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_ASYM, PQC_ASYM, SignatureAlgorithm
from spdmkit.device.key_store import KeyEntry
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode, KeyPairOperation, KeyUsage
from spdmkit.messages.key_pairs import KeyPairAlgorithms, KeyPairCapabilities
from spdmkit.protocol.credentials import ALL_USES
from spdmkit.protocol.responder.device import KeyPair

__all__ = ["KeyPairChange", "algorithm_bits", "algorithm_for", "changed", "describe"]

_ASYM: Final[dict[str, KeyPairAlgorithms]] = {
    "rsa-2048": KeyPairAlgorithms.RSA_2048,
    "rsa-3072": KeyPairAlgorithms.RSA_3072,
    "rsa-4096": KeyPairAlgorithms.RSA_4096,
    "ec-p256": KeyPairAlgorithms.ECC_P256,
    "ec-p384": KeyPairAlgorithms.ECC_P384,
    "ec-p521": KeyPairAlgorithms.ECC_P521,
    "sm2": KeyPairAlgorithms.SM2,
    "ed25519": KeyPairAlgorithms.ED25519,
    "ed448": KeyPairAlgorithms.ED448,
}
"""Type of key -> its bit in AsymAlgoCapabilities (table 113)."""

_CHANGEABLE: Final = (
    KeyPairCapabilities.GEN_KEY_CAP
    | KeyPairCapabilities.ERASABLE_CAP
    | KeyPairCapabilities.CERT_ASSOC_CAP
    | KeyPairCapabilities.KEY_USAGE_CAP
    | KeyPairCapabilities.ASYM_ALGO_CAP
    | KeyPairCapabilities.SHAREABLE_CAP
)


@dataclass(frozen=True, slots=True)
class KeyPairChange:
    """SET_KEY_PAIR_INFO.

    Attributes:
        operation: `KeyPairOperation`.
        usage: DesiredKeyUsage, 0 leaves it.
        asym: DesiredAsymAlgo, 0 leaves it.
        pqc: DesiredPqcAsymAlgo as a mask, 0 leaves it.
        slot_mask: DesiredAssocCertSlotMask, absolute.
    """

    operation: int
    usage: int
    asym: int
    pqc: int
    slot_mask: int


def algorithm_bits(key_type: str) -> tuple[int, int]:
    """A type of key as bits of tables 113 (AsymAlgo) and 114 (PqcAsymAlgo); one of them is 0."""
    pqc = PQC_ASYM.mask(each for each in PQC_ASYM if each.key_type == key_type)
    return int(_ASYM.get(key_type, 0)), pqc


def algorithm_for(key_type: str) -> str:
    """The name of a signature algorithm that takes such a key; empty when none is available."""
    found = _usable().get(key_type)
    return "" if found is None else found.name


def describe(entry: KeyEntry, slots: frozenset[int], *, changeable: bool) -> KeyPair:
    """A key pair as KEY_PAIR_INFO tells it.

    Args:
        entry: the key pair.
        slots: all slots it is associated with.
        changeable: SET_KEY_PAIR_INFO is supported.
    """
    usable = _usable()
    return KeyPair(
        key_pair_id=entry.key_pair_id,
        # Nothing can be changed without SET_KEY_PAIR_INFO, and ShareableCap alone is ruled out.
        capabilities=int(_CHANGEABLE) if changeable else 0,
        usage_capabilities=int(ALL_USES),
        current_usage=int(entry.usage),
        asym_capabilities=sum(bit for name, bit in _ASYM.items() if name in usable),
        current_asym=algorithm_bits(entry.key_type)[0],
        pqc_capabilities=PQC_ASYM.mask(e for e in usable.values() if e.pqc),
        current_pqc=algorithm_bits(entry.key_type)[1],
        public_key_info=b"" if entry.key is None else _algorithm_identifier(entry.key),
        slot_mask=sum(1 << slot for slot in slots),
    )


def changed(
    entry: KeyEntry,
    change: KeyPairChange,
    *,
    holds: frozenset[int],
    taken: Mapping[int, int],
) -> KeyEntry:
    """The key pair after a change; nothing is stored here.

    Args:
        entry: as it is.
        change: what is asked for.
        holds: slots with certificates for this key.
        taken: slot -> key pair, for slots that belong to other key pairs.

    Raises:
        ProtocolViolation: InvalidRequest or OperationFailed.
    """
    if change.operation == KeyPairOperation.ERASE:
        _not_associated(entry, holds)
        return KeyEntry(entry.key_pair_id, None)
    usage = KeyUsage(change.usage) if change.usage else entry.usage
    if usage & ~ALL_USES:
        raise ProtocolViolation("DesiredKeyUsage has a use that this key cannot have")
    wanted = _wanted_type(change) or entry.key_type
    if change.operation == KeyPairOperation.GENERATE:
        _not_associated(entry, holds)
        if not wanted:
            raise _failed("no algorithm to generate a key for")
        key = PrivateKey.generate(_usable()[wanted])
        return KeyEntry(entry.key_pair_id, key, usage, _slots(change, holds, taken))
    if change.operation != KeyPairOperation.CHANGE:
        raise ProtocolViolation(f"operation {change.operation} is reserved")
    if entry.key is not None and wanted != entry.key_type:
        raise ProtocolViolation("the algorithm of a key that exists cannot change")
    slots = _slots(change, holds, taken)
    following = wanted if entry.key is None else ""
    return replace(entry, usage=usage, slots=slots, next_type=following)


def _slots(
    change: KeyPairChange, holds: frozenset[int], taken: Mapping[int, int]
) -> frozenset[int]:
    slots = frozenset(slot for slot in range(8) if change.slot_mask >> slot & 1)
    if not holds <= slots:
        raise _failed("a slot with certificates for this key cannot be taken from it")
    for slot in slots & taken.keys():
        raise _failed(f"slot {slot} belongs to key pair {taken[slot]}")
    return slots - holds


def _not_associated(entry: KeyEntry, holds: frozenset[int]) -> None:
    if holds or entry.slots:
        raise _failed("the key pair is associated with a slot")


def _wanted_type(change: KeyPairChange) -> str:
    """The type of key that exactly one bit of a change asks for; empty when none is set."""
    bits = [name for name, bit in _ASYM.items() if change.asym & bit]
    bits += [entry.key_type for entry in PQC_ASYM if change.pqc & entry.mask]
    asked = change.asym.bit_count() + change.pqc.bit_count()
    if asked > 1:
        raise ProtocolViolation("more than one algorithm for one key")
    if asked and (not bits or bits[0] not in _usable()):
        raise ProtocolViolation("an algorithm that this device has no keys for")
    return bits[0] if bits else ""


def _usable() -> dict[str, SignatureAlgorithm]:
    """Type of key -> an algorithm that takes it and is available here."""
    return {
        entry.key_type: entry for table in (BASE_ASYM, PQC_ASYM) for entry in table.usable(0x14)
    }


def _failed(reason: str) -> ProtocolViolation:
    return ProtocolViolation(reason, error_code=ErrorCode.OPERATION_FAILED)


def _algorithm_identifier(key: PrivateKey) -> bytes:
    """PublicKeyInfo: the AlgorithmIdentifier of the public key, DER."""
    whole = Reader(key.public_key.spki(), structure="SubjectPublicKeyInfo")
    return whole.sequence("SubjectPublicKeyInfo").take_any("algorithm")
