"""SLOT_MANAGEMENT as a requester: banks of slots (DSP0274 10.32, from 1.4).

A bank is the slots of one signature algorithm. GET_CERTIFICATE and its kin see the bank that
negotiation selected; these exchanges see all. Through a session, or in a trusted environment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from spdmkit.errors import ProtocolViolation
from spdmkit.identity import CertificateChain
from spdmkit.messages import (
    BankDetails,
    BankElement,
    BankInfo,
    CertificateModel,
    ManageBank,
    ManageBankOperation,
    ManageSlot,
    ManageSlotOperation,
    SlotAddress,
    SlotCertificateChain,
    SlotCsr,
    SlotGetCsr,
    SlotManagement,
    SlotManagementResp,
    SlotManagementSubCode,
    SlotSetCertificate,
    SupportedSubCodes,
)
from spdmkit.protocol.events import SlotChanged

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.wire import Struct

__all__ = [
    "configure_bank",
    "erase_bank_slot",
    "get_bank_certificate",
    "get_bank_csr",
    "get_bank_details",
    "get_bank_info",
    "get_slot_sub_codes",
    "set_bank_certificate",
]

R = TypeVar("R", bound="Struct")
S = SlotManagementSubCode
_PQC_MASK_SIZE = 4


def get_slot_sub_codes(link: Link) -> Exchange[frozenset[int]]:
    """Which SubCodes the responder supports.

    Raises:
        PeerError: UnsupportedRequest: it has no SLOT_MGMT_CAP.
        SpdmError: as `Link.ask`.
    """
    found = yield from _ask(link, S.SUPPORTED_SUB_CODES, None, SupportedSubCodes)
    return frozenset(n for n in range(64) if found.sub_code_bitmap >> n & 1)


def get_bank_info(link: Link) -> Exchange[list[BankElement]]:
    """All banks, with the slots they have and those that can be written.

    Raises:
        ProtocolViolation: banks that are not numbered from 0 without gaps.
        SpdmError: as `Link.ask`.
    """
    found = yield from _ask(link, S.GET_BANK_INFO, None, BankInfo)
    if [each.bank_id for each in found.bank_elements] != list(range(len(found.bank_elements))):
        raise ProtocolViolation("banks are not numbered from 0 without gaps")
    return found.bank_elements


def get_bank_details(link: Link, bank_id: int) -> Exchange[BankDetails]:
    """A bank and its slots; bank 0xFF has the slots of all banks one after the other.

    Raises:
        ProtocolViolation: the answer is for another bank.
        SpdmError: as `Link.ask`.
    """
    found = yield from _ask(link, S.GET_BANK_DETAILS, SlotAddress(bank_id=bank_id), BankDetails)
    if found.bank_id != bank_id:
        raise ProtocolViolation(f"BankDetails is for bank {found.bank_id}, not {bank_id}")
    return found


def get_bank_certificate(link: Link, bank_id: int, slot_id: int) -> Exchange[CertificateChain]:
    """The chain in a slot of a bank.

    Raises:
        DecodeError: it is malformed.
        SpdmError: as `Link.ask`.
    """
    address = SlotAddress(bank_id=bank_id, slot_id=slot_id)
    found = yield from _ask(link, S.GET_CERTIFICATE_CHAIN, address, SlotCertificateChain)
    return CertificateChain.parse(found.cert_chain, link.peer_hash, large=True)


def get_bank_csr(
    link: Link,
    bank_id: int,
    slot_id: int,
    *,
    key_pair_id: int = 0,
    model: CertificateModel = CertificateModel.NONE,
    requester_info: bytes = b"",
    opaque_data: bytes = b"",
    tracking_tag: int = 0,
    overwrite: bool = False,
) -> Exchange[bytes]:
    """A signing request for a slot of a bank; arguments and errors are those of `get_csr`."""
    wish = SlotGetCsr(
        address=SlotAddress(bank_id=bank_id, slot_id=slot_id),
        key_pair_id=key_pair_id,
        csr_cert_model=model,
        csr_tracking_tag=tracking_tag,
        overwrite=overwrite,
        requester_info=requester_info,
        opaque_data=opaque_data,
    )
    found = yield from _ask(link, S.GET_CSR, wish, SlotCsr)
    if not found.csr:
        raise ProtocolViolation("the answer holds no signing request")
    return found.csr


def set_bank_certificate(
    link: Link,
    bank_id: int,
    slot_id: int,
    certificates: Iterable[bytes],
    *,
    model: CertificateModel = CertificateModel.NONE,
) -> Exchange[None]:
    """Put a chain into a slot of a bank; see `set_certificate`."""
    chain = CertificateChain.from_certificates(certificates, link.peer_hash).encode()
    wish = SlotSetCertificate(
        address=SlotAddress(bank_id=bank_id, slot_id=slot_id),
        set_cert_model=model,
        certificate=chain,
    )
    yield from _do(link, S.SET_CERTIFICATE, wish)
    link.connection.events(SlotChanged(slot_id, bank_id))


def erase_bank_slot(link: Link, bank_id: int, slot_id: int) -> Exchange[None]:
    """Empty a slot of a bank; its key stays.

    Raises:
        ResetRequired: it takes effect with the next reset.
        SpdmError: as `Link.ask`.
    """
    address = SlotAddress(bank_id=bank_id, slot_id=slot_id)
    wish = ManageSlot(address=address, operation=ManageSlotOperation.ERASE)
    yield from _do(link, S.MANAGE_SLOT, wish)
    link.connection.events(SlotChanged(slot_id, bank_id))


def configure_bank(
    link: Link, bank_id: int, *, algorithm: int = 0, pqc_algorithm: int = 0
) -> Exchange[None]:
    """Give a bank without certificates another signature algorithm.

    Args:
        link: the way to the responder.
        bank_id: the bank.
        algorithm: one bit of `KeyPairAlgorithms`, or
        pqc_algorithm: one bit of PqcAsymAlgo.

    Raises:
        PeerError: InvalidState: the bank has certificates.
        ResetRequired: it takes effect with the next reset.
        SpdmError: as `Link.ask`.
    """
    wish = ManageBank(
        address=SlotAddress(bank_id=bank_id),
        operation=ManageBankOperation.CONFIG_ALGO,
        select_asym_algo=algorithm,
        select_pqc_asym_algo=pqc_algorithm.to_bytes(_PQC_MASK_SIZE, "little"),
    )
    yield from _do(link, S.MANAGE_BANK, wish)


def _ask(link: Link, sub_code: int, wish: Struct | None, expected: type[R]) -> Exchange[R]:
    message = yield from _exchange(link, sub_code, wish)
    content = message.content(link.connection.context)
    if not isinstance(content, expected):
        raise ProtocolViolation("SLOT_MANAGEMENT_RESP lacks its structure")
    return content


def _do(link: Link, sub_code: int, wish: Struct) -> Exchange[None]:
    message = yield from _exchange(link, sub_code, wish)
    if message.mgmt_struct_offset:
        raise ProtocolViolation("SLOT_MANAGEMENT_RESP has a structure that nobody asked for")


def _exchange(link: Link, sub_code: int, wish: Struct | None) -> Exchange[SlotManagementResp]:
    request = SlotManagement.of(sub_code, wish, link.connection.context)
    message = (yield from link.ask(request, SlotManagementResp)).message
    if message.sub_code != sub_code:
        raise ProtocolViolation("SLOT_MANAGEMENT_RESP is for another SubCode")
    return message
