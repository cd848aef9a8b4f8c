"""GET_DIGESTS and GET_CERTIFICATE as a requester (DSP0274 10.8, 10.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.identity import CertificateChain, known_chain
from spdmkit.messages import (
    V13,
    Certificate,
    CertificateModel,
    Digests,
    ErrorCode,
    GetCertificate,
    GetDigests,
    KeyUsage,
)

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link

__all__ = ["SlotDigest", "SlotDigests", "get_certificate", "get_digests", "get_slot_size"]

_MOST_PORTIONS = 4096
"""A chain of 64 KiB in portions of 16 bytes: no honest responder needs more requests."""
_SMALL, _LARGE = 0xFFFF, 0xFFFF_FFFF


class SlotDigest(NamedTuple):
    """One provisioned slot in DIGESTS.

    Attributes:
        digest: hash of the slot's certificate chain structure; all zero for a key without chain.
        key_pair_id, model, key_usage: None unless the responder uses several keys (1.3).
    """

    slot_id: int
    digest: bytes
    key_pair_id: int | None = None
    model: CertificateModel | None = None
    key_usage: KeyUsage | None = None


class SlotDigests(NamedTuple):
    """What DIGESTS says.

    Attributes:
        slots: the provisioned slots by id.
        supported: SupportedSlotMask (1.3), 0 before.
    """

    slots: dict[int, SlotDigest]
    supported: int

    def slot_for(self, usage: KeyUsage) -> int:
        """The first slot with a chain whose key may be used for that.

        With one key per side that is the first slot with a chain.

        Raises:
            ProtocolViolation: there is none.
        """
        for slot_id, slot in sorted(self.slots.items()):
            if slot.key_usage is None or (slot.key_usage & usage and slot.model):
                return slot_id
        raise ProtocolViolation(f"the peer has no slot for {usage.name}")


def get_digests(link: Link) -> Exchange[SlotDigests]:
    """GET_DIGESTS: which slots there are, and the hash of each chain."""
    answer = yield from link.ask(GetDigests(), Digests)
    link.note_digests(answer.request, answer.response)
    message = answer.message
    multi_key = message.key_pair_ids
    slots: dict[int, SlotDigest] = {}
    for position, (slot_id, digest) in enumerate(message.by_slot().items()):
        if multi_key:
            slots[slot_id] = SlotDigest(
                slot_id,
                digest,
                message.key_pair_ids[position],
                CertificateModel(message.certificate_info[position] & 3),
                KeyUsage(message.key_usage_masks[position]),
            )
        else:
            slots[slot_id] = SlotDigest(slot_id, digest)
    return SlotDigests(slots, message.supported_slot_mask)


def get_certificate(
    link: Link, slot_id: int = 0, *, expected_digest: bytes | None = None
) -> Exchange[CertificateChain]:
    """GET_CERTIFICATE until the whole chain of a slot is here.

    Args:
        link: the way to the responder.
        slot_id: 0 to 7.
        expected_digest: what DIGESTS said of the slot; the chain must have it.

    Raises:
        AuthenticationError: step "chain": the chain is not the one that DIGESTS promised.
        DecodeError: the chain structure is malformed.
        SpdmError: as `Link.ask`.
    """
    try:
        data = yield from _collect(link, slot_id, large=False)
        large = False
    except PeerError as error:
        if error.code != ErrorCode.DATA_TOO_LARGE or not link.large_forms:
            raise
        data = yield from _collect(link, slot_id, large=True)
        large = True
    chain = known_chain(data, link.peer_hash, large)
    if expected_digest is not None and chain.digest() != expected_digest:
        raise AuthenticationError(
            "chain", f"the chain of slot {slot_id} does not have the digest that DIGESTS gave"
        )
    return chain


def get_slot_size(link: Link, slot_id: int = 0) -> Exchange[int]:
    """GET_CERTIFICATE with SlotSizeRequested: bytes of room for a chain in a slot (1.3).

    Without the large form 65535 stands for that much and more.

    Raises:
        ProtocolViolation: before SPDM 1.3, or the answer brings a chain.
        SpdmError: as `Link.ask`.
    """
    if link.connection.version < V13:
        raise ProtocolViolation("the size of a slot can be asked for from SPDM 1.3 on")
    request = GetCertificate(slot_id=slot_id, large=link.large_forms, slot_size_requested=True)
    answer = yield from link.ask(request, Certificate)
    link.note_for_challenge(answer.request, answer.response)
    message = answer.message
    if message.slot_id != slot_id or message.large != request.large or message.cert_chain:
        raise ProtocolViolation("CERTIFICATE is not the answer to SlotSizeRequested")
    return message.remainder_length


def _collect(link: Link, slot_id: int, *, large: bool) -> Exchange[bytes]:
    """All portions of a chain, in one form of GET_CERTIFICATE."""
    most = link.connection.settings.max_message_size if large else _SMALL
    parts: list[bytes] = []
    have, total = 0, -1
    for _ in range(_MOST_PORTIONS):
        wanted = (_LARGE if large else _SMALL) if total < 0 else total - have
        request = GetCertificate(slot_id=slot_id, large=large, offset=have, length=wanted)
        answer = yield from link.ask(request, Certificate)
        link.note_for_challenge(answer.request, answer.response)
        message = answer.message
        if message.slot_id != slot_id or message.large != large:
            raise ProtocolViolation("CERTIFICATE is for another slot or form than asked for")
        portion = message.cert_chain
        if not portion or len(portion) > wanted:
            raise ProtocolViolation(f"a portion of {len(portion)} bytes where {wanted} were asked")
        if total < 0:
            total = len(portion) + message.remainder_length
            if total > most:
                raise ProtocolViolation(f"a chain of {total} bytes, the limit is {most}")
        parts.append(portion)
        have += len(portion)
        if have + message.remainder_length != total:
            raise ProtocolViolation("the chain changed its length while it was read")
        if have == total:
            return b"".join(parts)
    raise ProtocolViolation(f"the chain came in more than {_MOST_PORTIONS} portions")
