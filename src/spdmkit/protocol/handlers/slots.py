"""SLOT_MANAGEMENT, answered: banks of slots, whichever is selected now (DSP0274 10.32, 1.4).

What a SubCode does to certificates is what GET_CSR and SET_CERTIFICATE do, with a bank named
beside the slot; the device decides alike who may. A SubCode that the device lacks is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from spdmkit.errors import ProtocolViolation
from spdmkit.identity import CertificateChain
from spdmkit.messages import (
    BankDetails,
    BankElement,
    BankInfo,
    CertificateModel,
    ErrorCode,
    ManageBank,
    ManageBankOperation,
    ManageSlot,
    ManageSlotOperation,
    ResponderExtendedFlags,
    SlotAddress,
    SlotCertificateChain,
    SlotCsr,
    SlotElement,
    SlotGetCsr,
    SlotManagement,
    SlotManagementResp,
    SlotManagementSubCode,
    SlotSetCertificate,
    SupportedSubCodes,
    parse_opaque,
)
from spdmkit.messages.slots import REQUESTS
from spdmkit.protocol.actions import Work
from spdmkit.protocol.handlers.call import Call, Outcome, Steps, slow
from spdmkit.protocol.handlers.key_pairs import PQC_MASK_SIZE
from spdmkit.protocol.handlers.provisioning import checked_chain, checked_key
from spdmkit.protocol.responder.device import Bank, BankSlot, CsrRequest, SetCertificateRequest
from spdmkit.wire import Struct

if TYPE_CHECKING:
    from spdmkit.crypto.registry import HashAlgorithm

__all__ = ["REQUIRED_SUB_CODES", "slot_management"]

S = SlotManagementSubCode
ALL_BANKS = 0xFF
_FIXED_PART = 8
_OPTIONAL = frozenset({S.GET_CSR, S.MANAGE_BANK, S.MANAGE_SLOT, S.SET_CERTIFICATE})
REQUIRED_SUB_CODES = frozenset(S) - _OPTIONAL

C = TypeVar("C", bound=Struct)
Content: TypeAlias = Struct | None
SubSteps: TypeAlias = Generator[Work, Any, Struct | None]
SubHandler: TypeAlias = Callable[[Call, Content], Struct | SubSteps]


def slot_management(call: Call) -> Outcome | Steps:
    """SLOT_MANAGEMENT -> SLOT_MANAGEMENT_RESP (10.32.2)."""
    request = call.typed(SlotManagement)
    if not call.connection.own.extended & ResponderExtendedFlags.SLOT_MGMT_CAP:
        raise _unsupported(call, "slot management was not announced")
    sub_code = request.sub_code
    if sub_code not in SlotManagementSubCode.__members__.values():
        raise ProtocolViolation(f"SubCode 0x{sub_code:02x} of SLOT_MANAGEMENT is reserved")
    if sub_code not in _supported(call):
        name = SlotManagementSubCode(sub_code).name
        raise _unsupported(call, f"SubCode {name} is not supported by this device")
    return _answered(call, request)


def _answered(call: Call, request: SlotManagement) -> Steps:
    content = _content(call, request)
    made = _HANDLERS[SlotManagementSubCode(request.sub_code)](call, content)
    response = made if isinstance(made, Struct) else (yield from made)
    return call.answer(SlotManagementResp.of(request.sub_code, response, call.context))


def _content(call: Call, request: SlotManagement) -> Struct | None:
    """The request structure, exactly; None for a SubCode that has none.

    Raises:
        ProtocolViolation, DecodeError: it is there when it should not be, or wrong.
    """
    if request.sub_code not in REQUESTS:
        if request.mgmt_struct_offset:
            raise ProtocolViolation("a request structure for a SubCode that has none")
        return None
    content = request.content(call.context)
    if content is None:
        raise ProtocolViolation("the request structure is missing")
    end = request.mgmt_struct_offset - _FIXED_PART + len(content.encode(call.context))
    if any(request.mgmt_struct[end:]):
        raise ProtocolViolation("bytes follow the request structure")
    return content


def _supported(call: Call) -> frozenset[int]:
    return REQUIRED_SUB_CODES | (call.the_device().slot_operations() & _OPTIONAL)


# --- reading -------------------------------------------------------------------------------------


def _sub_codes(call: Call, _content: Content) -> Struct:
    return SupportedSubCodes(sub_code_bitmap=sum(1 << code for code in _supported(call)))


def _bank_info(call: Call, _content: Content) -> Struct:
    return BankInfo(
        bank_elements=[
            BankElement(
                bank_id=bank.bank_id,
                slot_mask=sum(1 << slot.slot_id for slot in bank.slots),
                modifiable_slot_mask=sum(
                    1 << slot.slot_id for slot in bank.slots if not slot.write_protected
                ),
            )
            for bank in _banks(call)
        ]
    )


def _bank_details(call: Call, content: Content) -> Struct:
    address = _typed(content, SlotAddress)
    banks = _banks(call)
    if address.bank_id == ALL_BANKS:
        # One structure for all: what is said of a bank cannot be said of all of them.
        slots = [slot for bank in banks for slot in bank.slots]
        return BankDetails(bank_id=ALL_BANKS, slot_elements=_elements(call, slots))
    bank = _bank(banks, address.bank_id)
    key_type = call.signature_algorithm.key_type
    return BankDetails(
        bank_id=bank.bank_id,
        selected=bank.key_type == key_type,
        config_algo=bank.configurable,
        asym_algo_capabilities=bank.asym_capabilities,
        current_asym_algo=bank.current_asym,
        available_asym_algo=bank.available_asym,
        pqc_asym_algo_capabilities=_mask(bank.pqc_capabilities),
        current_pqc_asym_algo=_mask(bank.current_pqc),
        available_pqc_asym_algo=_mask(bank.available_pqc),
        slot_elements=_elements(call, bank.slots),
    )


def _elements(call: Call, slots: Sequence[BankSlot]) -> list[SlotElement]:
    algorithm = call.connection.algorithms.base_hash
    several = call.context.multi_key_conn
    return [
        SlotElement(
            slot_id=slot.slot_id,
            provisioned=bool(slot.certificates),
            write_protected=slot.write_protected,
            key_pair_id=slot.key_pair_id if several else 0,
            certificate_info=int(slot.model) if several else 0,
            key_usage=slot.key_usage if several else 0,
            slot_size=slot.size,
            digest=_digest(slot, algorithm),
        )
        for slot in slots
    ]


def _digest(slot: BankSlot, algorithm: HashAlgorithm) -> bytes:
    if not slot.certificates:
        return bytes(algorithm.size)
    return algorithm.digest(_chain(slot, algorithm))


def _chain(slot: BankSlot, algorithm: HashAlgorithm) -> bytes:
    return CertificateChain.from_certificates(slot.certificates, algorithm).encode()


def _certificate_chain(call: Call, content: Content) -> Struct:
    _, slot = _addressed(call, _typed(content, SlotAddress))
    if not slot.certificates:
        raise ProtocolViolation(f"slot {slot.slot_id} holds no chain")
    algorithm = call.connection.algorithms.base_hash
    return SlotCertificateChain(cert_chain=_chain(slot, algorithm))


# --- writing -------------------------------------------------------------------------------------


def _csr(call: Call, content: Content) -> SubSteps:
    wish = _typed(content, SlotGetCsr)
    device = call.the_device()
    bank, _ = _addressed(call, wish.address)
    checked_key(call, wish.key_pair_id, wish.csr_cert_model)
    parse_opaque(wish.opaque_data, call.context)
    wanted = CsrRequest(
        slot_algorithm=_algorithm(call, bank),
        hash_algorithm=call.connection.algorithms.base_hash.name,
        key_pair_id=wish.key_pair_id,
        model=CertificateModel(wish.csr_cert_model),
        tracking_tag=wish.csr_tracking_tag,
        overwrite=wish.overwrite,
        requester_info=wish.requester_info,
        opaque=wish.opaque_data,
        peer=call.peer,
    )
    csr: bytes = yield from slow(lambda: device.certificate_signing_request(wanted))
    return SlotCsr(csr=csr)


def _set_certificate(call: Call, content: Content) -> SubSteps:
    wish = _typed(content, SlotSetCertificate)
    bank, slot = _addressed(call, wish.address)
    model = wish.set_cert_model
    # The structure has no KeyPairID: the key is that of the slot, or the first of the bank.
    checked_key(call, int(call.context.multi_key_conn), model)
    if slot.slot_id == 0 and model == CertificateModel.GENERIC:
        raise ProtocolViolation("slot 0 holds a device or alias certificate")
    connection = call.connection
    certificates = checked_chain(
        wish.certificate, connection.algorithms.base_hash, large=call.large_forms
    )
    yield from _store(call, bank, slot, certificates, CertificateModel(model))
    return None


def _manage_slot(call: Call, content: Content) -> SubSteps:
    wish = _typed(content, ManageSlot)
    if wish.operation != ManageSlotOperation.ERASE:
        raise ProtocolViolation(f"operation {wish.operation} on a slot is reserved")
    bank, slot = _addressed(call, wish.address)
    if not slot.certificates:
        raise ProtocolViolation(f"slot {slot.slot_id} is empty")
    yield from _store(call, bank, slot, (), CertificateModel.NONE)
    return None


def _store(
    call: Call,
    bank: Bank,
    slot: BankSlot,
    certificates: tuple[bytes, ...],
    model: CertificateModel,
) -> SubSteps:
    device = call.the_device()
    wanted = SetCertificateRequest(
        slot_id=slot.slot_id,
        model=model,
        key_pair_id=slot.key_pair_id,
        erase=not certificates,
        certificates=certificates,
        algorithm=_algorithm(call, bank),
        peer=call.peer,
    )
    yield from slow(lambda: device.set_certificate(wanted))
    return None


def _manage_bank(call: Call, content: Content) -> SubSteps:
    wish = _typed(content, ManageBank)
    if wish.operation != ManageBankOperation.CONFIG_ALGO:
        raise ProtocolViolation(f"operation {wish.operation} on a bank is reserved")
    device, peer = call.the_device(), call.peer
    bank = _bank(_banks(call), wish.address.bank_id)
    asym = wish.select_asym_algo
    pqc = int.from_bytes(wish.select_pqc_asym_algo, "little")
    if asym.bit_count() + pqc.bit_count() != 1:
        raise ProtocolViolation("not one algorithm for a bank")
    if not bank.configurable or asym & ~bank.available_asym or pqc & ~bank.available_pqc:
        raise ProtocolViolation("an algorithm that this bank cannot have, or another bank has")
    if any(slot.certificates for slot in bank.slots):
        raise ProtocolViolation(
            "a bank with certificates keeps its algorithm", error_code=ErrorCode.INVALID_STATE
        )
    yield from slow(lambda: device.configure_bank(bank.bank_id, asym, pqc, peer))
    return None


# --- what they share -----------------------------------------------------------------------------


def _typed(content: Content, kind: type[C]) -> C:
    if not isinstance(content, kind):
        raise ProtocolViolation("the request structure is another one", error_code=0x05)
    return content


def _banks(call: Call) -> Sequence[Bank]:
    return call.the_device().slot_banks(call.peer)


def _bank(banks: Sequence[Bank], bank_id: int) -> Bank:
    for bank in banks:
        if bank.bank_id == bank_id:
            return bank
    raise ProtocolViolation(f"there is no bank {bank_id}")


def _addressed(call: Call, address: SlotAddress) -> tuple[Bank, BankSlot]:
    bank = _bank(_banks(call), address.bank_id)
    for slot in bank.slots:
        if slot.slot_id == address.slot_id:
            return bank, slot
    raise ProtocolViolation(f"bank {bank.bank_id} has no slot {address.slot_id}")


def _algorithm(call: Call, bank: Bank) -> str:
    """The signature algorithm to use with a bank's keys: the negotiated one when it fits them."""
    negotiated = call.signature_algorithm
    if bank.key_type == negotiated.key_type:
        return negotiated.name
    if not bank.algorithm:
        raise ProtocolViolation(
            f"bank {bank.bank_id} has no algorithm yet", error_code=ErrorCode.INVALID_STATE
        )
    return bank.algorithm


def _mask(value: int) -> bytes:
    return value.to_bytes(PQC_MASK_SIZE, "little")


def _unsupported(call: Call, reason: str) -> ProtocolViolation:
    return ProtocolViolation(
        reason, error_code=ErrorCode.UNSUPPORTED_REQUEST, error_data=call.request.code
    )


_HANDLERS: dict[SlotManagementSubCode, SubHandler] = {
    S.SUPPORTED_SUB_CODES: _sub_codes,
    S.GET_BANK_INFO: _bank_info,
    S.GET_BANK_DETAILS: _bank_details,
    S.GET_CERTIFICATE_CHAIN: _certificate_chain,
    S.GET_CSR: _csr,
    S.MANAGE_BANK: _manage_bank,
    S.MANAGE_SLOT: _manage_slot,
    S.SET_CERTIFICATE: _set_certificate,
}
