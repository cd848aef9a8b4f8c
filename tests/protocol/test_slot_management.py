"""SLOT_MANAGEMENT of 1.4: banks of slots, whichever is selected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spdmkit.errors import PeerError, ProtocolViolation, ResetRequired
from spdmkit.identity import CertificateChain, verify_csr
from spdmkit.messages import (
    V13,
    V14,
    CertificateModel,
    ErrorCode,
    KeyPairAlgorithms,
    ManageBank,
    ManageSlot,
    ResponderExtendedFlags,
    ResponderFlags,
    SlotAddress,
    SlotGetCsr,
    SlotManagement,
    SlotManagementResp,
    SlotManagementSubCode,
    SlotSetCertificate,
)
from spdmkit.protocol.events import SlotChanged
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.slots import (
    configure_bank,
    erase_bank_slot,
    get_bank_certificate,
    get_bank_csr,
    get_bank_details,
    get_bank_info,
    get_slot_sub_codes,
    set_bank_certificate,
)
from spdmkit.protocol.responder.device import Bank, BankSlot
from spdmkit.wire import Struct

from .support import EVERYTHING, MemoryDevice, Pair, ask, chain, psk_session, refusal

E, F, S = ErrorCode, ResponderFlags, SlotManagementSubCode
P384, P256 = KeyPairAlgorithms.ECC_P384, KeyPairAlgorithms.ECC_P256
DEVICE = CertificateModel.DEVICE
SLOT_MGMT = int(ResponderExtendedFlags.SLOT_MGMT_CAP)


def banked() -> MemoryDevice:
    """Bank 0 for P-384 is selected; bank 1 for P-256 has one chain; bank 2 has no algorithm."""
    device = MemoryDevice()
    _, other = chain("ecdsa-p256", b"other bank")
    device.banks = [
        Bank(
            0,
            (
                BankSlot(0, device.certificates, 4096, 1, DEVICE, 0b1111, write_protected=True),
                BankSlot(1, size=4096),
            ),
            "ec-p384",
            "ecdsa-p384",
            int(P384),
        ),
        Bank(1, (BankSlot(3, other, 2048, 2, DEVICE, 1),), "ec-p256", "ecdsa-p256", int(P256)),
        Bank(
            2,
            (BankSlot(0, size=1024),),
            configurable=True,
            asym_capabilities=int(P256 | P384 | KeyPairAlgorithms.ECC_P521),
            pqc_capabilities=0b11,
            available_asym=int(KeyPairAlgorithms.ECC_P521),
            available_pqc=0b10,
        ),
    ]
    return device


def pair_with(device: MemoryDevice | None = None, **responder: Any) -> Pair:
    responder.setdefault("extended_capabilities", SLOT_MGMT)
    responder.setdefault("capabilities", EVERYTHING)
    return Pair(device or banked(), versions=(V14,), responder=responder)


def link_of(pair: Pair, *, in_session: bool = True) -> Link:
    if in_session:
        return psk_session(pair)
    pair.run(negotiate(pair.link))
    return pair.link


@pytest.mark.parametrize("in_session", [False, True], ids=["clear", "session"])
class TestReading:
    def test_sub_codes(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        assert pair.run(get_slot_sub_codes(link)) == frozenset(S)
        pair.device.operations = frozenset({0x63})
        assert pair.run(get_slot_sub_codes(link)) == {0, 1, 2, 3}

    def test_banks(self, in_session: bool) -> None:
        pair = pair_with()
        found = pair.run(get_bank_info(link_of(pair, in_session=in_session)))
        masks = [(each.slot_mask, each.modifiable_slot_mask) for each in found]
        assert masks == [(0b11, 0b10), (0b1000, 0b1000), (1, 1)]

    def test_details(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        selected = pair.run(get_bank_details(link, 0))
        assert selected.selected
        assert not selected.config_algo
        assert (selected.current_asym_algo, selected.asym_algo_capabilities) == (P384, 0)
        first, second = selected.slot_elements
        assert first.provisioned
        assert first.write_protected
        assert (first.key_pair_id, first.key_usage, first.certificate_info) == (0, 0, 0)
        algorithm = pair.requester.connection.algorithms.base_hash
        certificates = pair.device.certificates
        raw = CertificateChain.from_certificates(certificates, algorithm).encode()
        assert first.digest == algorithm.digest(raw)
        assert (second.provisioned, any(second.digest), second.slot_size) == (False, False, 4096)
        assert not pair.run(get_bank_details(link, 1)).selected
        blank = pair.run(get_bank_details(link, 2))
        assert blank.config_algo
        assert blank.available_asym_algo == KeyPairAlgorithms.ECC_P521
        assert int.from_bytes(blank.available_pqc_asym_algo, "little") == 0b10
        every = pair.run(get_bank_details(link, 0xFF))
        assert [each.slot_id for each in every.slot_elements] == [0, 1, 3, 0]
        assert not every.selected

    def test_chains_of_any_bank(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        for bank, slot in ((0, 0), (1, 3)):
            read = pair.run(get_bank_certificate(link, bank, slot))
            wanted = pair.device.banks[bank].slots[0].certificates
            assert read.certificates == wanted
            algorithm = pair.requester.connection.algorithms.base_hash
            assert read.root_hash == algorithm.digest(wanted[0])

    def test_a_signing_request(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        verify_csr(pair.run(get_bank_csr(link, 1, 3)))
        verify_csr(pair.run(get_bank_csr(link, 0, 1, tracking_tag=3, overwrite=True)))
        other, selected = pair.device.csr_requests
        assert other.slot_algorithm == "ecdsa-p256"
        negotiated = pair.requester.connection.algorithms.signature
        assert negotiated is not None
        assert selected.slot_algorithm == negotiated.name
        assert (selected.tracking_tag, selected.overwrite) == (3, True)


@pytest.mark.parametrize("in_session", [False, True], ids=["clear", "session"])
class TestWriting:
    def test_a_chain(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        _, certificates = chain("ecdsa-p256", b"new")
        pair.run(set_bank_certificate(link, 1, 3, certificates, model=DEVICE))
        (stored,) = pair.device.stored
        assert (stored.slot_id, stored.certificates, stored.model) == (3, certificates, DEVICE)
        assert not stored.erase
        assert ("requester", SlotChanged(3, 1)) in pair.events

    def test_erase(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        pair.run(erase_bank_slot(link, 1, 3))
        (stored,) = pair.device.stored
        assert stored.erase
        assert stored.slot_id == 3
        assert refusal(pair, erase_bank_slot(link, 0, 1)) is E.INVALID_REQUEST

    def test_a_bank(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        pair.run(configure_bank(link, 2, algorithm=KeyPairAlgorithms.ECC_P521))
        pair.run(configure_bank(link, 2, pqc_algorithm=0b10))
        assert pair.device.configured == [(2, int(KeyPairAlgorithms.ECC_P521), 0), (2, 0, 0b10)]

    def test_the_device_refuses(self, in_session: bool) -> None:
        pair = pair_with()
        link = link_of(pair, in_session=in_session)
        pair.device.provisioning_error = ProtocolViolation("no", error_code=E.UNSPECIFIED)
        assert refusal(pair, erase_bank_slot(link, 1, 3)) is E.UNSPECIFIED
        pair.device.provisioning_error = ProtocolViolation("no", error_code=E.RESET_REQUIRED)
        with pytest.raises(ResetRequired):
            pair.run(configure_bank(link, 2, pqc_algorithm=0b10))


def test_a_large_chain_travels_in_chunks() -> None:
    device = banked()
    filler = b"\x30\x82\x17\x70" + bytes(6000)
    large = device.certificates[:1] + (filler,) * 14 + device.certificates[-1:]
    device.banks[1] = replace(device.banks[1], slots=(BankSlot(3, large, 1 << 20, 2),))
    pair = pair_with(device)
    link = link_of(pair)
    read = pair.run(get_bank_certificate(link, 1, 3))
    assert len(read.raw) > 0xFFFF
    pair.run(set_bank_certificate(link, 1, 3, large))
    assert device.stored[0].certificates == large


def raw(sub_code: int, content: Struct | None, *, offset: int | None = None) -> tuple[Any, Any]:
    def build(context: Any) -> SlotManagement:
        request = SlotManagement.of(sub_code, content, context)
        if offset is not None:
            request.mgmt_struct_offset = offset
        return request

    return build, SlotManagementResp


class TestRefused:
    def code(self, pair: Pair, built: tuple[Any, Any]) -> ErrorCode:
        request = built[0](pair.requester.connection.context)
        return refusal(pair, ask(pair.link, request, built[1]))

    @pytest.mark.parametrize("sub_code", [5, 0x1F, 0x23, 0x3F, 0x40, 0xFF])
    def test_sub_codes_that_do_not_exist(self, sub_code: int) -> None:
        pair = pair_with()
        pair.run(negotiate(pair.link))
        assert self.code(pair, raw(sub_code, None)) is E.INVALID_REQUEST

    @pytest.mark.parametrize("sub_code", [4, 0x20, 0x21, 0x22])
    def test_sub_codes_that_this_device_lacks(self, sub_code: int) -> None:
        pair = pair_with()
        pair.device.operations = frozenset({4, 0x20, 0x21, 0x22} - {sub_code})
        pair.run(negotiate(pair.link))
        code = self.code(pair, raw(sub_code, SlotAddress()))
        assert code is E.UNSUPPORTED_REQUEST

    @pytest.mark.parametrize(
        ("sub_code", "content"),
        [
            (S.GET_BANK_DETAILS, SlotAddress(bank_id=3)),
            (S.GET_CERTIFICATE_CHAIN, SlotAddress(bank_id=9)),
            (S.GET_CERTIFICATE_CHAIN, SlotAddress(bank_id=0, slot_id=7)),
            (S.GET_CERTIFICATE_CHAIN, SlotAddress(bank_id=0, slot_id=1)),
            (S.GET_CSR, SlotGetCsr(address=SlotAddress(bank_id=0, slot_id=7))),
            (S.GET_CSR, SlotGetCsr(address=SlotAddress(), key_pair_id=1)),
            (S.GET_CSR, SlotGetCsr(address=SlotAddress(), csr_cert_model=4)),
            (S.GET_CSR, SlotGetCsr(address=SlotAddress(), opaque_data=b"\x01\x00\x00\x00")),
            (S.SET_CERTIFICATE, SlotSetCertificate(address=SlotAddress())),
            (S.SET_CERTIFICATE, SlotSetCertificate(address=SlotAddress(), certificate=bytes(9))),
            (S.MANAGE_SLOT, ManageSlot(address=SlotAddress(), operation=2)),
            (S.MANAGE_BANK, ManageBank(address=SlotAddress(bank_id=2), operation=0)),
            (S.MANAGE_BANK, ManageBank(address=SlotAddress(bank_id=2), operation=1)),
            (
                S.MANAGE_BANK,
                ManageBank(address=SlotAddress(bank_id=2), operation=1, select_asym_algo=P256),
            ),
            (
                S.MANAGE_BANK,
                ManageBank(address=SlotAddress(bank_id=0), operation=1, select_asym_algo=P384),
            ),
        ],
    )
    def test_requests_that_are_wrong(self, sub_code: int, content: Struct) -> None:
        pair = pair_with()
        pair.run(negotiate(pair.link))
        assert self.code(pair, raw(sub_code, content)) is E.INVALID_REQUEST
        assert not pair.device.stored

    @pytest.mark.parametrize(
        ("sub_code", "content", "offset"),
        [
            (S.GET_BANK_INFO, SlotAddress(), None),
            (S.GET_BANK_DETAILS, None, None),
            (S.GET_BANK_DETAILS, SlotAddress(), 4),
            (S.GET_BANK_DETAILS, SlotAddress(), 12),
            (S.GET_BANK_DETAILS, SlotAddress(), 0xFFFF),
            (S.GET_BANK_DETAILS, SlotGetCsr(address=SlotAddress(), key_pair_id=1), None),
        ],
        ids=["none wanted", "none there", "in the header", "cut", "beyond", "too much"],
    )
    def test_structures_that_are_wrong(
        self, sub_code: int, content: Struct | None, offset: int | None
    ) -> None:
        pair = pair_with()
        pair.run(negotiate(pair.link))
        code = self.code(pair, raw(sub_code, content, offset=offset))
        assert code is E.INVALID_REQUEST

    def test_a_bank_with_certificates_keeps_its_algorithm(self) -> None:
        device = banked()
        full = BankSlot(0, device.certificates, 1024)
        device.banks[2] = replace(device.banks[2], slots=(full,))
        pair = pair_with(device)
        link = link_of(pair)
        exchange = configure_bank(link, 2, pqc_algorithm=0b10)
        assert refusal(pair, exchange) is E.INVALID_STATE

    def test_a_bank_without_an_algorithm_signs_nothing(self) -> None:
        pair = pair_with()
        assert refusal(pair, get_bank_csr(link_of(pair), 2, 0)) is E.INVALID_STATE

    def test_without_the_capability(self) -> None:
        pair = pair_with(extended_capabilities=0)
        assert refusal(pair, get_slot_sub_codes(link_of(pair))) is E.UNSUPPORTED_REQUEST

    def test_before_1_4(self) -> None:
        pair = Pair(banked(), versions=(V13,))
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="SLOT_MANAGEMENT is not legal"):
            pair.run(ask(pair.link, SlotManagement(), SlotManagementResp))
        assert pair.raw(bytes((V13, 0x88, 0, 0, 0, 0, 0, 0)))[2] == E.UNSUPPORTED_REQUEST

    def test_with_several_keys(self) -> None:
        flags = EVERYTHING | F.MULTI_KEY_CAP_ONLY | F.GET_KEY_PAIR_INFO_CAP
        pair = pair_with(capabilities=flags)
        link = link_of(pair)
        details = pair.run(get_bank_details(link, 0)).slot_elements[0]
        assert (details.key_pair_id, details.certificate_info) == (1, DEVICE)
        _, certificates = chain("ecdsa-p256", b"new")
        for exchange in (
            get_bank_csr(link, 1, 3),
            get_bank_csr(link, 1, 3, key_pair_id=2),
            set_bank_certificate(link, 1, 3, certificates),
            set_bank_certificate(link, 2, 0, certificates, model=CertificateModel.GENERIC),
        ):
            assert refusal(pair, exchange) is E.INVALID_REQUEST
        pair.run(set_bank_certificate(link, 1, 3, certificates, model=DEVICE))


class TestAnswersThatAreWrong:
    def bent(self, change: dict[int, int]) -> Pair:
        pair = pair_with()
        pair.run(negotiate(pair.link))

        def bend(who: str, frame: Any) -> Any:
            if who == "responder":
                body = bytearray(frame.body)
                for at, value in change.items():
                    body[at] = value
                frame.body = bytes(body)
            return frame

        pair.bend = bend
        return pair

    def test_another_sub_code(self) -> None:
        pair = self.bent({2: 1})
        with pytest.raises(ProtocolViolation, match="SubCode"):
            pair.run(get_slot_sub_codes(pair.link))

    def test_another_bank(self) -> None:
        pair = self.bent({10: 1})
        with pytest.raises(ProtocolViolation, match="bank 1"):
            pair.run(get_bank_details(pair.link, 0))

    def test_banks_with_a_gap(self) -> None:
        pair = self.bent({17: 5})
        with pytest.raises(ProtocolViolation, match="gaps"):
            pair.run(get_bank_info(pair.link))

    def test_a_structure_nobody_asked_for(self) -> None:
        pair = self.bent({4: 8})
        with pytest.raises((ProtocolViolation, PeerError), match="SLOT_MANAGEMENT_RESP"):
            pair.run(erase_bank_slot(pair.link, 1, 3))
