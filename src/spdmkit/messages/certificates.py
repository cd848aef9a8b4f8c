"""DIGESTS, CERTIFICATE and CHALLENGE_AUTH: who the other side is."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V13, V14
from spdmkit.wire import Format
from spdmkit.wire.kinds import Sized, Uint
from spdmkit.wire.layout import (
    bits,
    counted,
    fixed,
    flag,
    items,
    length_of,
    one_of,
    prefixed,
    reserved,
    sized,
    u8,
    u16,
    u32,
    word,
)
from spdmkit.wire.predicates import InContext, Not, Present, Requested

__all__ = [
    "Certificate",
    "CertificateModel",
    "Challenge",
    "ChallengeAuth",
    "Digests",
    "GetCertificate",
    "GetDigests",
    "KeyUsage",
    "MeasurementSummaryHashType",
]

OPAQUE_DATA_LIMIT = 1024
"""Most bytes of opaque data in a message (DSP0274, OpaqueDataLength)."""

LARGE = Present("large")
SMALL = Not(LARGE)
MULTI_KEY = InContext("multi_key_conn")


class CertificateModel(enum.IntEnum):
    """Certificate model (DSP0274 table 42)."""

    NONE = 0
    DEVICE = 1
    ALIAS = 2
    GENERIC = 3


class KeyUsage(enum.IntFlag):
    """Key usage bit mask (DSP0274 table 43)."""

    KEY_EX = 1 << 0
    CHALLENGE = 1 << 1
    MEASUREMENT = 1 << 2
    ENDPOINT_INFO = 1 << 3
    STANDARDS = 1 << 14
    VENDOR = 1 << 15


class MeasurementSummaryHashType(enum.IntEnum):
    """Which measurements a MeasurementSummaryHash covers (DSP0274 10.10)."""

    NONE = 0x00
    TCB = 0x01
    ALL = 0xFF


@message(RequestCode.GET_DIGESTS, clause="10.8")
class GetDigests(Message):
    """GET_DIGESTS: four bytes."""

    _param1 = reserved(1, "Param1")
    _param2 = reserved(1, "Param2")


@message(ResponseCode.DIGESTS, clause="10.8")
class Digests(Message):
    """DIGESTS: one digest for each provisioned slot, in slot order.

    The three lists after the digests are there when the side that answers uses several keys.

    Attributes:
        certificate_info: certificate model in bits 2:0.
    """

    supported_slot_mask: int = u8(reserved_before=V13, display=Format.HEX)
    provisioned_slot_mask: int = u8(display=Format.HEX)
    digests: list[bytes] = items(
        Sized(name="Digest", size="hash_size"), popcount="provisioned_slot_mask"
    )
    key_pair_ids: list[int] = items(
        Uint(name="KeyPairID", size=1),
        "KeyPairIDs",
        popcount="provisioned_slot_mask",
        since=V13,
        when=MULTI_KEY,
    )
    certificate_info: list[int] = items(
        Uint(name="CertificateInfo", size=1, display=CertificateModel),
        popcount="provisioned_slot_mask",
        since=V13,
        when=MULTI_KEY,
    )
    key_usage_masks: list[int] = items(
        Uint(name="KeyUsageMask", size=2, display=KeyUsage),
        popcount="provisioned_slot_mask",
        since=V13,
        when=MULTI_KEY,
    )

    def by_slot(self) -> dict[int, bytes]:
        """Slot id -> digest."""
        slots = [slot for slot in range(8) if self.provisioned_slot_mask >> slot & 1]
        return dict(zip(slots, self.digests, strict=True))


@message(RequestCode.GET_CERTIFICATE, clause="10.9")
class GetCertificate(Message):
    """GET_CERTIFICATE: `length` bytes of a slot's chain from `offset`.

    Attributes:
        large: the form of 1.4 with 32-bit offset and length.
        slot_size_requested: ask for the room in the slot and no chain.
    """

    _param1 = word("Param1")
    slot_id: int = bits(_param1, 0, 4)
    large: bool = flag(_param1, 7, "UseLargeCertChain", since=V14)
    _param2 = word("Param2")
    slot_size_requested: bool = flag(_param2, 0, since=V13)
    _reserved = reserved(4, when=LARGE)
    offset: int = one_of(u16("Offset", when=SMALL), u32("LargeOffset", when=LARGE))
    length: int = one_of(u16("Length", when=SMALL), u32("LargeLength", when=LARGE))


@message(ResponseCode.CERTIFICATE, clause="10.9")
class Certificate(Message):
    """CERTIFICATE: a portion of a slot's chain, and how many bytes are after it."""

    _param1 = word("Param1")
    slot_id: int = bits(_param1, 0, 4)
    large: bool = flag(_param1, 7, "UseLargeCertChain", since=V14)
    _param2 = word("Param2")
    certificate_model: int = bits(
        _param2, 0, 3, "CertificateInfo", since=V13, display=CertificateModel
    )
    _portion = length_of("cert_chain", 2, "PortionLength", when=SMALL)
    _reserved = reserved(4, when=LARGE)
    _large_portion = length_of("cert_chain", 4, "LargePortionLength", when=LARGE)
    remainder_length: int = one_of(
        u16("RemainderLength", when=SMALL), u32("LargeRemainderLength", when=LARGE)
    )
    cert_chain: bytes = one_of(
        counted("_portion", "CertChain", when=SMALL),
        counted("_large_portion", "CertChain", when=LARGE),
    )


@message(RequestCode.CHALLENGE, clause="10.10")
class Challenge(Message):
    """CHALLENGE: prove possession of a slot's key (0xFF: the provisioned key)."""

    slot_id: int = u8()
    measurement_summary_hash_type: int = u8(display=MeasurementSummaryHashType)
    nonce: bytes = fixed(32)
    context: bytes = fixed(8, since=V13)


@message(ResponseCode.CHALLENGE_AUTH, clause="10.10")
class ChallengeAuth(Message):
    """CHALLENGE_AUTH: the proof.

    Attributes:
        slot_id: 0xF for the provisioned key.
        measurement_summary_hash: only when the CHALLENGE in the context asked for it.
    """

    _param1 = word("Param1")
    slot_id: int = bits(_param1, 0, 4)
    basic_mut_auth_req: bool = flag(_param1, 7)
    slot_mask: int = u8(display=Format.HEX)
    cert_chain_hash: bytes = sized("hash_size")
    nonce: bytes = fixed(32)
    measurement_summary_hash: bytes = sized(
        "hash_size", when=Requested("measurement_summary_hash_type")
    )
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT)
    requester_context: bytes = fixed(8, since=V13)
    signature: bytes = sized("answer_signature_size")
