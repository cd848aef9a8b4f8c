"""Key pairs: what keys a Responder has and what they may do (DSP0274 10.28)."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.certificates import KeyUsage
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V13, V14
from spdmkit.wire import Format
from spdmkit.wire.layout import counted, length_of, prefixed, reserved, u8, u16, u32
from spdmkit.wire.predicates import Equals, Not

__all__ = [
    "GetKeyPairInfo",
    "KeyPairAlgorithms",
    "KeyPairCapabilities",
    "KeyPairInfo",
    "KeyPairOperation",
    "SetKeyPairInfo",
    "SetKeyPairInfoAck",
]


class KeyPairCapabilities(enum.IntFlag):
    """Key pair capabilities (DSP0274 table 112)."""

    GEN_KEY_CAP = 1 << 0
    ERASABLE_CAP = 1 << 1
    CERT_ASSOC_CAP = 1 << 2
    KEY_USAGE_CAP = 1 << 3
    ASYM_ALGO_CAP = 1 << 4
    SHAREABLE_CAP = 1 << 5


class KeyPairAlgorithms(enum.IntFlag):
    """Asymmetric algorithms of a key pair (DSP0274 table 113); not the bits of BaseAsymAlgo."""

    RSA_2048 = 1 << 0
    RSA_3072 = 1 << 1
    RSA_4096 = 1 << 2
    ECC_P256 = 1 << 3
    ECC_P384 = 1 << 4
    ECC_P521 = 1 << 5
    SM2 = 1 << 6
    ED25519 = 1 << 7
    ED448 = 1 << 8


class KeyPairOperation(enum.IntEnum):
    """Param1 of SET_KEY_PAIR_INFO (DSP0274 table 116)."""

    CHANGE = 0
    ERASE = 1
    GENERATE = 2


NOT_ERASE = Not(Equals("operation", KeyPairOperation.ERASE))


@message(RequestCode.GET_KEY_PAIR_INFO, clause="10.28.1", since=V13)
class GetKeyPairInfo(Message):
    """GET_KEY_PAIR_INFO: one key pair, by its id from 1."""

    _param1 = reserved(1)
    _param2 = reserved(1)
    key_pair_id: int = u8()


@message(ResponseCode.KEY_PAIR_INFO, clause="10.28.1", since=V13)
class KeyPairInfo(Message):
    """KEY_PAIR_INFO.

    Attributes:
        public_key_info: DER AlgorithmIdentifier; empty while there is no key.
        pqc_asym_algo_capabilities: a mask, least significant byte first.
        current_pqc_asym_algo: a mask, least significant byte first.
    """

    _param1 = reserved(1)
    _param2 = reserved(1)
    total_key_pairs: int = u8()
    key_pair_id: int = u8()
    capabilities: int = u16(display=KeyPairCapabilities)
    key_usage_capabilities: int = u16(display=KeyUsage)
    current_key_usage: int = u16(display=KeyUsage)
    asym_algo_capabilities: int = u32(display=KeyPairAlgorithms)
    current_asym_algo: int = u32(display=KeyPairAlgorithms)
    _info_length = length_of("public_key_info", 2, "PublicKeyInfoLen")
    assoc_cert_slot_mask: int = u8(display=Format.HEX)
    public_key_info: bytes = counted("_info_length")
    pqc_asym_algo_capabilities: bytes = prefixed(1, length_name="PqcAsymAlgoCapLen", since=V14)
    current_pqc_asym_algo: bytes = prefixed(1, length_name="CurrentPqcAsymAlgoLen", since=V14)


@message(RequestCode.SET_KEY_PAIR_INFO, clause="10.28.2", since=V13)
class SetKeyPairInfo(Message):
    """SET_KEY_PAIR_INFO: change, erase or generate a key pair.

    A usage or algorithm of zero leaves things as they are; the slot mask is absolute. ERASE has
    none of them.
    """

    operation: int = u8(display=KeyPairOperation)
    _param2 = reserved(1)
    key_pair_id: int = u8()
    _reserved = reserved(1, when=NOT_ERASE)
    desired_key_usage: int = u16(when=NOT_ERASE, display=KeyUsage)
    desired_asym_algo: int = u32(when=NOT_ERASE, display=KeyPairAlgorithms)
    desired_assoc_cert_slot_mask: int = u8(when=NOT_ERASE, display=Format.HEX)
    desired_pqc_asym_algo: bytes = prefixed(
        1, length_name="DesiredPqcAsymAlgoLen", since=V14, when=NOT_ERASE
    )


@message(ResponseCode.SET_KEY_PAIR_INFO_ACK, clause="10.28.2", since=V13)
class SetKeyPairInfoAck(Message):
    """SET_KEY_PAIR_INFO_ACK: done."""

    _param1 = reserved(1)
    _param2 = reserved(1)
