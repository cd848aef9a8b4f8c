"""Slot management: banks of certificate slots, and what is in them (DSP0274 10.32, from 1.4)."""

from __future__ import annotations

import enum

from spdmkit.errors import DecodeError
from spdmkit.messages.base import Message, message
from spdmkit.messages.certificates import OPAQUE_DATA_LIMIT, CertificateModel, KeyUsage
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V14, Context
from spdmkit.messages.key_pairs import KeyPairAlgorithms
from spdmkit.wire import Format, Struct, structure
from spdmkit.wire.kinds import Alternatives
from spdmkit.wire.layout import (
    bits,
    count_of,
    counted,
    flag,
    items,
    length_of,
    nested,
    prefixed,
    reserved,
    rest,
    sized,
    total_length,
    u8,
    u16,
    u32,
    u64,
    word,
)
from spdmkit.wire.predicates import Present

__all__ = [
    "BankDetails",
    "BankElement",
    "BankInfo",
    "ManageBank",
    "ManageBankOperation",
    "ManageSlot",
    "ManageSlotOperation",
    "SlotAddress",
    "SlotCertificateChain",
    "SlotCsr",
    "SlotElement",
    "SlotGetCsr",
    "SlotManagement",
    "SlotManagementResp",
    "SlotManagementSubCode",
    "SlotSetCertificate",
    "SupportedSubCodes",
]

ALL_BANKS = 0xFF
"""BankID that asks GET_BANK_DETAILS for every bank."""

STRUCT_OFFSET = 8
"""Where a request or response structure begins in this version."""


class SlotManagementSubCode(enum.IntEnum):
    """SubCodes of SLOT_MANAGEMENT (DSP0274 table 142)."""

    SUPPORTED_SUB_CODES = 0x00
    GET_BANK_INFO = 0x01
    GET_BANK_DETAILS = 0x02
    GET_CERTIFICATE_CHAIN = 0x03
    GET_CSR = 0x04
    MANAGE_BANK = 0x20
    MANAGE_SLOT = 0x21
    SET_CERTIFICATE = 0x22


class ManageBankOperation(enum.IntEnum):
    """Operation of ManageBank (DSP0274 table 145)."""

    CONFIG_ALGO = 1


class ManageSlotOperation(enum.IntEnum):
    """Operation of ManageSlot (DSP0274 table 146)."""

    ERASE = 1


# --- request structures --------------------------------------------------------------------------


@structure(clause="10.32.2.1.1")
class SlotAddress(Struct):
    """Which slot of which bank (DSP0274 table 143)."""

    _length = total_length(2, "ReqLength")
    _reserved = reserved(2)
    bank_id: int = u8()
    _slot = word("SlotID")
    slot_id: int = bits(_slot, 0, 4)
    _reserved2 = reserved(2)


@structure(clause="10.32.2.1.2", name="GetCSR")
class SlotGetCsr(Struct):
    """GET_CSR for a slot of a bank (DSP0274 table 144)."""

    address: SlotAddress = nested(SlotAddress, "SlotAddress")
    key_pair_id: int = u8()
    _attributes = word("RequestAttributes")
    csr_cert_model: int = bits(_attributes, 0, 3, display=CertificateModel)
    csr_tracking_tag: int = bits(_attributes, 3, 3)
    overwrite: bool = flag(_attributes, 7)
    _reserved = reserved(2)
    _info_length = length_of("requester_info", 2, "RequesterInfoLength")
    _opaque_length = length_of("opaque_data", 2, "OpaqueDataLength")
    requester_info: bytes = counted("_info_length")
    opaque_data: bytes = counted("_opaque_length", maximum=OPAQUE_DATA_LIMIT)


@structure(clause="10.32.2.1.3")
class ManageBank(Struct):
    """An operation on a bank (DSP0274 table 145).

    Attributes:
        select_pqc_asym_algo: a mask, least significant byte first.
    """

    address: SlotAddress = nested(SlotAddress, "SlotAddress")
    operation: int = u8(display=ManageBankOperation)
    _reserved = reserved(3)
    select_asym_algo: int = u32(display=KeyPairAlgorithms)
    select_pqc_asym_algo: bytes = prefixed(1, length_name="SelectPqcAsymAlgoLen")


@structure(clause="10.32.2.1.4")
class ManageSlot(Struct):
    """An operation on a slot (DSP0274 table 146)."""

    address: SlotAddress = nested(SlotAddress, "SlotAddress")
    operation: int = u8(display=ManageSlotOperation)
    _reserved = reserved(3)


@structure(clause="10.32.2.1.5", name="SetCertificate")
class SlotSetCertificate(Struct):
    """A chain for a slot of a bank, root certificate included (DSP0274 table 147)."""

    address: SlotAddress = nested(SlotAddress, "SlotAddress")
    _cert_length = length_of("certificate", 4, "CertLength")
    _attributes = word("CertAttributes")
    set_cert_model: int = bits(_attributes, 0, 3, display=CertificateModel)
    _reserved = reserved(3)
    certificate: bytes = counted("_cert_length")


# --- response structures -------------------------------------------------------------------------


@structure(clause="10.32.2.2.1")
class SupportedSubCodes(Struct):
    """Bit n of the map: SubCode n is supported (DSP0274 table 148)."""

    _length = total_length(2, "RespLength")
    _reserved = reserved(2)
    sub_code_bitmap: int = u64(display=Format.HEX)
    _reserved2 = reserved(24)


@structure(clause="10.32.2.2.2")
class BankElement(Struct):
    """A bank (DSP0274 table 150)."""

    _length = total_length(1, "ElementLength")
    bank_id: int = u8()
    slot_mask: int = u8(display=Format.HEX)
    modifiable_slot_mask: int = u8(display=Format.HEX)


@structure(clause="10.32.2.2.2")
class BankInfo(Struct):
    """All banks (DSP0274 table 149)."""

    _length = total_length(2, "RespLength")
    _reserved = reserved(2)
    _num_elements = count_of("bank_elements", 1, "NumBankElements")
    _reserved2 = reserved(3)
    bank_elements: list[BankElement] = items(BankElement, count="_num_elements")


@structure(clause="10.32.2.2.3")
class SlotElement(Struct):
    """A slot of a bank (DSP0274 table 152).

    Attributes:
        certificate_info: certificate model in bits 2:0.
        slot_size: room for a chain, in bytes.
        digest: of the chain structure, all zeros when the slot is not provisioned.
    """

    _length = total_length(2, "ElementLength")
    slot_id: int = u8()
    _reserved = reserved(1)
    _attributes = word("SlotAttributes")
    provisioned: bool = flag(_attributes, 0)
    write_protected: bool = flag(_attributes, 1)
    key_pair_id: int = u8()
    certificate_info: int = u8(display=CertificateModel)
    _reserved2 = reserved(1)
    key_usage: int = u16(display=KeyUsage)
    _reserved3 = reserved(2)
    slot_size: int = u32()
    digest: bytes = sized("hash_size")


@structure(clause="10.32.2.2.3")
class BankDetails(Struct):
    """A bank and its slots (DSP0274 table 151, where BankID is at byte 2, after RespLength).

    Attributes:
        pqc_asym_algo_capabilities: this and the next two: masks, least significant byte first.
    """

    _length = total_length(2, "RespLength")
    bank_id: int = u8()
    _reserved = reserved(1)
    _num_elements = count_of("slot_elements", 2, "NumSlotElements")
    _attributes = word("BankAttributes")
    selected: bool = flag(_attributes, 0)
    config_algo: bool = flag(_attributes, 1)
    _reserved2 = reserved(1)
    asym_algo_capabilities: int = u32(display=KeyPairAlgorithms)
    current_asym_algo: int = u32(display=KeyPairAlgorithms)
    available_asym_algo: int = u32(display=KeyPairAlgorithms)
    pqc_asym_algo_capabilities: bytes = prefixed(1, length_name="PqcAsymAlgoCapLen")
    current_pqc_asym_algo: bytes = prefixed(1, length_name="CurrentPqcAsymAlgoLen")
    available_pqc_asym_algo: bytes = prefixed(1, length_name="AvailablePqcAsymAlgoLen")
    _reserved3 = reserved(4)
    slot_elements: list[SlotElement] = items(SlotElement, count="_num_elements")


@structure(clause="10.32.2.2.4", name="GetCertificateChain")
class SlotCertificateChain(Struct):
    """The chain in a slot of a bank (DSP0274 table 153)."""

    _cc_length = length_of("cert_chain", 4, "CCLength")
    _reserved = reserved(4)
    cert_chain: bytes = counted("_cc_length")


@structure(clause="10.32.2.2.5", name="CSR")
class SlotCsr(Struct):
    """A DER certificate signing request of PKCS #10 (DSP0274 table 154)."""

    _csr_length = length_of("csr", 4, "CSRLength")
    _reserved = reserved(4)
    csr: bytes = counted("_csr_length")


# --- messages ------------------------------------------------------------------------------------

S = SlotManagementSubCode

REQUESTS: dict[int, type[Struct]] = {
    S.GET_BANK_DETAILS: SlotAddress,
    S.GET_CERTIFICATE_CHAIN: SlotAddress,
    S.GET_CSR: SlotGetCsr,
    S.MANAGE_BANK: ManageBank,
    S.MANAGE_SLOT: ManageSlot,
    S.SET_CERTIFICATE: SlotSetCertificate,
}
"""Request structures by SubCode; the others have none."""

RESPONSES: dict[int, type[Struct]] = {
    S.SUPPORTED_SUB_CODES: SupportedSubCodes,
    S.GET_BANK_INFO: BankInfo,
    S.GET_BANK_DETAILS: BankDetails,
    S.GET_CERTIFICATE_CHAIN: SlotCertificateChain,
    S.GET_CSR: SlotCsr,
}
"""Response structures by SubCode; the others have none."""


@message(RequestCode.SLOT_MANAGEMENT, clause="10.32.2", since=V14)
class SlotManagement(Message):
    """SLOT_MANAGEMENT: a SubCode and its request structure.

    Attributes:
        mgmt_struct_offset: where the structure begins, 0 when there is none.
        mgmt_struct: all bytes behind the fixed part.
    """

    sub_code: int = u8(display=SlotManagementSubCode)
    _param2 = reserved(1)
    mgmt_struct_offset: int = u16()
    _reserved = reserved(2)
    mgmt_struct: bytes = rest(
        "SlotMgmtReqStruct",
        when=Present("mgmt_struct_offset"),
        inner=Alternatives("sub_code", REQUESTS),
    )

    @classmethod
    def of(cls, sub_code: int, content: Struct | None, ctx: Context) -> SlotManagement:
        """The request with its structure, or with none."""
        encoded = b"" if content is None else content.encode(ctx)
        offset = 0 if content is None else STRUCT_OFFSET
        return cls(sub_code=sub_code, mgmt_struct_offset=offset, mgmt_struct=encoded)

    def content(self, ctx: Context) -> Struct | None:
        """The request structure, or None when the SubCode has none.

        Raises:
            DecodeError: it is missing or malformed.
        """
        return _content(self, REQUESTS, ctx)


@message(ResponseCode.SLOT_MANAGEMENT_RESP, clause="10.32.2", since=V14)
class SlotManagementResp(Message):
    """SLOT_MANAGEMENT_RESP: the SubCode again and its response structure.

    Attributes:
        mgmt_struct_offset: where the structure begins, 0 when there is none.
        mgmt_struct: all bytes behind the fixed part.
    """

    sub_code: int = u8(display=SlotManagementSubCode)
    _param2 = reserved(1)
    mgmt_struct_offset: int = u16()
    _reserved = reserved(2)
    mgmt_struct: bytes = rest(
        "SlotMgmtRespStruct",
        when=Present("mgmt_struct_offset"),
        inner=Alternatives("sub_code", RESPONSES),
    )

    @classmethod
    def of(cls, sub_code: int, content: Struct | None, ctx: Context) -> SlotManagementResp:
        """The response with its structure, or with none."""
        encoded = b"" if content is None else content.encode(ctx)
        offset = 0 if content is None else STRUCT_OFFSET
        return cls(sub_code=sub_code, mgmt_struct_offset=offset, mgmt_struct=encoded)

    def content(self, ctx: Context) -> Struct | None:
        """The response structure, or None when the SubCode has none.

        Raises:
            DecodeError: it is missing or malformed.
        """
        return _content(self, RESPONSES, ctx)


def _content(
    message: SlotManagement | SlotManagementResp, structs: dict[int, type[Struct]], ctx: Context
) -> Struct | None:
    """The structure, from its offset on; bytes between the fixed part and it are skipped."""
    struct = structs.get(message.sub_code)
    if struct is None:
        return None
    skip = message.mgmt_struct_offset - STRUCT_OFFSET
    if not 0 <= skip <= len(message.mgmt_struct):
        raise DecodeError(
            message.name, "MgmtStructOffset", 4, f"{message.mgmt_struct_offset} points nowhere"
        )
    content, _ = struct.parse(message.mgmt_struct[skip:], ctx)
    return content
