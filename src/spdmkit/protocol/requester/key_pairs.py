"""GET_KEY_PAIR_INFO and SET_KEY_PAIR_INFO as a requester (DSP0274 10.28, from 1.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    V14,
    GetKeyPairInfo,
    KeyPairInfo,
    KeyPairOperation,
    SetKeyPairInfo,
    SetKeyPairInfoAck,
)

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link

__all__ = [
    "change_key_pair",
    "erase_key_pair",
    "generate_key_pair",
    "get_key_pair_info",
    "get_key_pairs",
]

_PQC_MASK_SIZE = 4


def get_key_pair_info(link: Link, key_pair_id: int) -> Exchange[KeyPairInfo]:
    """GET_KEY_PAIR_INFO: one key pair of the responder, by its id from 1.

    Raises:
        ProtocolViolation: the answer is for another pair, or contradicts itself.
        SpdmError: as `Link.ask`.
    """
    answer = yield from link.ask(GetKeyPairInfo(key_pair_id=key_pair_id), KeyPairInfo)
    info = answer.message
    if info.key_pair_id != key_pair_id or not 1 <= key_pair_id <= info.total_key_pairs:
        raise ProtocolViolation(
            f"KEY_PAIR_INFO is for key pair {info.key_pair_id} of {info.total_key_pairs}, "
            f"asked for was {key_pair_id}"
        )
    pqc = int.from_bytes(info.current_pqc_asym_algo, "little")
    if info.current_asym_algo.bit_count() + pqc.bit_count() > 1:
        raise ProtocolViolation("KEY_PAIR_INFO names two algorithms for one key pair")
    return info


def get_key_pairs(link: Link) -> Exchange[dict[int, KeyPairInfo]]:
    """All key pairs of the responder, by id.

    Raises:
        ProtocolViolation: their number changed meanwhile.
        SpdmError: as `get_key_pair_info`.
    """
    first = yield from get_key_pair_info(link, 1)
    found = {1: first}
    for key_pair_id in range(2, first.total_key_pairs + 1):
        info = yield from get_key_pair_info(link, key_pair_id)
        if info.total_key_pairs != first.total_key_pairs:
            raise ProtocolViolation("TotalKeyPairs changed")
        found[key_pair_id] = info
    return found


def change_key_pair(
    link: Link,
    key_pair_id: int,
    *,
    slots: Iterable[int],
    usage: int = 0,
    algorithm: int = 0,
    pqc_algorithm: int = 0,
) -> Exchange[None]:
    """SET_KEY_PAIR_INFO, ParameterChange: what a pair is for and which slots it belongs to.

    Args:
        link: the way to the responder, best through a session.
        key_pair_id: from 1.
        slots: all slots that it is to be associated with from now on.
        usage: `KeyUsage`; 0 leaves it.
        algorithm: one bit of `KeyPairAlgorithms`; 0 leaves it.
        pqc_algorithm: one bit of PqcAsymAlgo (1.4); 0 leaves it.

    Raises:
        ResetRequired: it takes effect with the next reset.
        SpdmError: as `Link.ask`.
    """
    yield from _set(
        link,
        KeyPairOperation.CHANGE,
        key_pair_id,
        slots=slots,
        usage=usage,
        algorithm=algorithm,
        pqc_algorithm=pqc_algorithm,
    )


def generate_key_pair(
    link: Link,
    key_pair_id: int,
    *,
    slots: Iterable[int] = (),
    usage: int = 0,
    algorithm: int = 0,
    pqc_algorithm: int = 0,
) -> Exchange[None]:
    """SET_KEY_PAIR_INFO, GenerateKeyPair: a new key; no slot may be associated with the old one.

    Arguments and errors are those of `change_key_pair`.
    """
    yield from _set(
        link,
        KeyPairOperation.GENERATE,
        key_pair_id,
        slots=slots,
        usage=usage,
        algorithm=algorithm,
        pqc_algorithm=pqc_algorithm,
    )


def erase_key_pair(link: Link, key_pair_id: int) -> Exchange[None]:
    """SET_KEY_PAIR_INFO, KeyPairErase: forget a key that no slot is associated with.

    Raises:
        ResetRequired: it takes effect with the next reset.
        SpdmError: as `Link.ask`.
    """
    request = SetKeyPairInfo(operation=KeyPairOperation.ERASE, key_pair_id=key_pair_id)
    yield from link.ask(request, SetKeyPairInfoAck)


def _set(
    link: Link,
    operation: KeyPairOperation,
    key_pair_id: int,
    *,
    slots: Iterable[int],
    usage: int,
    algorithm: int,
    pqc_algorithm: int,
) -> Exchange[None]:
    chosen = set(slots)
    if not chosen <= set(range(8)):
        raise ProtocolViolation(f"slots are 0 to 7, not {sorted(chosen)}")
    if pqc_algorithm and link.connection.version < V14:
        raise ProtocolViolation("post-quantum key pairs need SPDM 1.4")
    wanted = pqc_algorithm.to_bytes(_PQC_MASK_SIZE, "little") if pqc_algorithm else b""
    request = SetKeyPairInfo(
        operation=operation,
        key_pair_id=key_pair_id,
        desired_key_usage=usage,
        desired_asym_algo=algorithm,
        desired_assoc_cert_slot_mask=sum(1 << slot for slot in chosen),
        desired_pqc_asym_algo=wanted,
    )
    yield from link.ask(request, SetKeyPairInfoAck)
