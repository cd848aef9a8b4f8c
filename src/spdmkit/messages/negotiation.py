"""VERSION, CAPABILITIES and ALGORITHMS: the messages that set up a connection (VCA)."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.capabilities import (
    RequesterFlags,
    ResponderExtendedFlags,
    ResponderFlags,
)
from spdmkit.messages.codes import Registry, RequestCode, ResponseCode
from spdmkit.messages.context import V10, V11, V12, V13, V14
from spdmkit.wire import Format, Struct, structure
from spdmkit.wire.kinds import Uint
from spdmkit.wire.layout import (
    bits,
    count_of,
    counted,
    flag,
    items,
    length_of,
    nested,
    reserved,
    total_length,
    u8,
    u16,
    u32,
    word,
)
from spdmkit.wire.predicates import Present

__all__ = [
    "AlgType",
    "AlgorithmStructure",
    "Algorithms",
    "Capabilities",
    "ExtendedAlgorithm",
    "GetCapabilities",
    "GetVersion",
    "NegotiateAlgorithms",
    "OpaqueDataFormat",
    "SupportedAlgorithmsBlock",
    "Version",
]

LARGEST_EXPONENT = 31
"""Largest CTExponent taken: 2^31 us are 35 minutes, and nobody waits longer for an answer."""


@message(RequestCode.GET_VERSION, clause="10.2", versions=(V10, V10))
class GetVersion(Message):
    """GET_VERSION: four bytes, always of version 1.0."""

    _param1 = reserved(1, "Param1")
    _param2 = reserved(1, "Param2")


@message(ResponseCode.VERSION, clause="10.2", versions=(V10, V10))
class Version(Message):
    """VERSION: the versions a Responder speaks."""

    _param1 = reserved(1, "Param1")
    _param2 = reserved(1, "Param2")
    _reserved = reserved(1)
    _count = count_of("version_number_entries", 1, "VersionNumberEntryCount")
    version_number_entries: list[int] = items(
        Uint(name="VersionNumberEntry", size=2, display=Format.VERSION),
        count="_count",
        doc="major, minor, update, alpha in four bits each, major highest",
    )


@structure(clause="10.4", name="ExtendedAlgorithm")
class ExtendedAlgorithm(Struct):
    """An algorithm that a registry other than DMTF's defines (DSP0274 table 33)."""

    registry: int = u8("RegistryID", display=Registry)
    _reserved = reserved(1)
    algorithm_id: int = u16()


class AlgType(enum.IntEnum):
    """AlgType of an algorithm structure (DSP0274 table 18)."""

    DHE = 2
    AEAD = 3
    REQ_BASE_ASYM_ALG = 4
    KEY_SCHEDULE = 5
    REQ_PQC_ASYM_ALG = 6
    KEM_ALG = 7


class OpaqueDataFormat(enum.IntFlag):
    """OtherParamsSupport and OtherParamsSelection, bits 3:0 (DSP0274 tables 17 and 25)."""

    FMT0 = 1 << 0
    FMT1 = 1 << 1


@structure(clause="10.4", name="AlgStructure")
class AlgorithmStructure(Struct):
    """One algorithm structure table: a type, and the algorithms supported or selected.

    Attributes:
        alg_supported: a bit mask, least significant byte first; two bytes for every type so far.
    """

    alg_type: int = u8(display=AlgType)
    _alg_count = word("AlgCount")
    _ext_count = count_of("alg_external", 4, "ExtAlgCount", within=_alg_count, low=0)
    _fixed_count = length_of("alg_supported", 4, "FixedAlgCount", within=_alg_count, low=4)
    alg_supported: bytes = counted("_fixed_count")
    alg_external: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_count")

    @classmethod
    def of(cls, alg_type: AlgType, mask: int) -> AlgorithmStructure:
        """The table for a mask of 16 bits."""
        return cls(alg_type=alg_type, alg_supported=mask.to_bytes(2, "little"))

    @property
    def mask(self) -> int:
        """AlgSupported as a number."""
        return int.from_bytes(self.alg_supported, "little")


def mask_of(structures: list[AlgorithmStructure], alg_type: AlgType) -> int:
    """The mask of the table of one type, 0 when there is none."""
    return next((entry.mask for entry in structures if entry.alg_type == alg_type), 0)


@structure(clause="10.3.1")
class SupportedAlgorithmsBlock(Struct):
    """What a Responder supports: NEGOTIATE_ALGORITHMS from Param1 on, without the first bytes."""

    _param1 = count_of("algorithm_structures", 1, "Param1")
    _param2 = reserved(1, "Param2")
    _length = total_length(2)
    measurement_specification: int = u8()
    _other_params = word("OtherParamsSupport")
    opaque_data_formats: int = bits(_other_params, 0, 4, display=OpaqueDataFormat)
    responder_multi_key_conn: bool = flag(_other_params, 4)
    base_asym_algo: int = u32(display=Format.HEX)
    base_hash_algo: int = u32(display=Format.HEX)
    pqc_asym_algo: int = u32(reserved_before=V14, display=Format.HEX)
    _reserved = reserved(8)
    _ext_asym_count = count_of("ext_asym", 1, "ExtAsymCount")
    _ext_hash_count = count_of("ext_hash", 1, "ExtHashCount")
    _reserved2 = reserved(1)
    mel_specification: int = u8("MELspecification")
    ext_asym: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_asym_count")
    ext_hash: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_hash_count")
    algorithm_structures: list[AlgorithmStructure] = items(
        AlgorithmStructure, "AlgStructure", count="_param1"
    )

    def mask(self, alg_type: AlgType) -> int:
        """The mask of an algorithm structure, 0 when it is not there."""
        return mask_of(self.algorithm_structures, alg_type)


@message(RequestCode.GET_CAPABILITIES, clause="10.3")
class GetCapabilities(Message):
    """GET_CAPABILITIES: four bytes in 1.0, with the Requester's capabilities from 1.1 on."""

    _param1 = word("Param1")
    supported_algorithms_requested: bool = flag(_param1, 0, since=V13)
    _param2 = reserved(1, "Param2")
    _reserved = reserved(1, since=V11)
    ct_exponent: int = u8(since=V11, maximum=LARGEST_EXPONENT, display=Format.EXPONENT_US)
    ext_flags: int = u16(since=V11, reserved_before=V14, display=Format.HEX)
    flags: int = u32(since=V11, display=RequesterFlags)
    data_transfer_size: int = u32(since=V12)
    max_spdm_msg_size: int = u32("MaxSPDMmsgSize", since=V12)

    @property
    def capabilities(self) -> RequesterFlags:
        """Flags, named."""
        return RequesterFlags(self.flags)


@message(ResponseCode.CAPABILITIES, clause="10.3")
class Capabilities(Message):
    """CAPABILITIES: what the Responder can do.

    Attributes:
        supported_algorithms: only when `supported_algorithms_included`.
    """

    _param1 = word("Param1")
    supported_algorithms_included: bool = flag(_param1, 0, since=V13)
    _param2 = reserved(1, "Param2")
    _reserved = reserved(1)
    ct_exponent: int = u8(maximum=LARGEST_EXPONENT, display=Format.EXPONENT_US)
    ext_flags: int = u16(reserved_before=V14, display=ResponderExtendedFlags)
    flags: int = u32(display=ResponderFlags)
    data_transfer_size: int = u32(since=V12)
    max_spdm_msg_size: int = u32("MaxSPDMmsgSize", since=V12)
    supported_algorithms: SupportedAlgorithmsBlock | None = nested(
        SupportedAlgorithmsBlock, since=V13, when=Present("supported_algorithms_included")
    )

    @property
    def capabilities(self) -> ResponderFlags:
        """Flags, named."""
        return ResponderFlags(self.flags)


@message(RequestCode.NEGOTIATE_ALGORITHMS, clause="10.4")
class NegotiateAlgorithms(Message):
    """NEGOTIATE_ALGORITHMS: the algorithms a Requester offers, as bit masks."""

    _param1 = count_of("algorithm_structures", 1, "Param1", reserved_before=V11)
    _param2 = reserved(1, "Param2")
    _length_of_10 = total_length(2, maximum=64, until=V10)
    _length = total_length(2, maximum=128, since=V11)
    measurement_specification: int = u8()
    _other_params = word("OtherParamsSupport")
    opaque_data_formats: int = bits(_other_params, 0, 4, since=V12, display=OpaqueDataFormat)
    responder_multi_key_conn: bool = flag(_other_params, 4, since=V13)
    base_asym_algo: int = u32(display=Format.HEX)
    base_hash_algo: int = u32(display=Format.HEX)
    pqc_asym_algo: int = u32(reserved_before=V14, display=Format.HEX)
    _reserved = reserved(8)
    _ext_asym_count = count_of("ext_asym", 1, "ExtAsymCount")
    _ext_hash_count = count_of("ext_hash", 1, "ExtHashCount")
    _reserved2 = reserved(1)
    mel_specification: int = u8("MELspecification", reserved_before=V13)
    ext_asym: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_asym_count")
    ext_hash: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_hash_count")
    algorithm_structures: list[AlgorithmStructure] = items(
        AlgorithmStructure, "AlgStructure", count="_param1", since=V11
    )

    def mask(self, alg_type: AlgType) -> int:
        """The mask of an algorithm structure, 0 when it is not there."""
        return mask_of(self.algorithm_structures, alg_type)


@message(ResponseCode.ALGORITHMS, clause="10.4")
class Algorithms(Message):
    """ALGORITHMS: what the Responder selected, at most one bit in each mask."""

    _param1 = count_of("algorithm_structures", 1, "Param1", reserved_before=V11)
    _param2 = reserved(1, "Param2")
    _length = total_length(2)
    measurement_specification_sel: int = u8()
    _other_params = word("OtherParamsSelection")
    opaque_data_format: int = bits(_other_params, 0, 4, since=V12, display=OpaqueDataFormat)
    requester_multi_key_conn_sel: bool = flag(_other_params, 4, since=V13)
    measurement_hash_algo: int = u32(display=Format.HEX)
    base_asym_sel: int = u32(display=Format.HEX)
    base_hash_sel: int = u32(display=Format.HEX)
    pqc_asym_sel: int = u32(reserved_before=V14, display=Format.HEX)
    _reserved = reserved(7)
    mel_specification_sel: int = u8("MELspecificationSel", reserved_before=V13)
    _ext_asym_count = count_of("ext_asym_sel", 1, "ExtAsymSelCount", maximum=1)
    _ext_hash_count = count_of("ext_hash_sel", 1, "ExtHashSelCount", maximum=1)
    _reserved2 = reserved(2)
    ext_asym_sel: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_asym_count")
    ext_hash_sel: list[ExtendedAlgorithm] = items(ExtendedAlgorithm, count="_ext_hash_count")
    algorithm_structures: list[AlgorithmStructure] = items(
        AlgorithmStructure, "RespAlgStruct", count="_param1", since=V11
    )

    def mask(self, alg_type: AlgType) -> int:
        """The mask of an algorithm structure, 0 when it is not there."""
        return mask_of(self.algorithm_structures, alg_type)
