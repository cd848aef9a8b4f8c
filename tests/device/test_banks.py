"""The banks of a device in a folder, seen and changed by SLOT_MANAGEMENT."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.errors import ProtocolViolation
from spdmkit.identity import Authority
from spdmkit.messages import (
    V14,
    CertificateModel,
    ErrorCode,
    KeyPairAlgorithms,
    SlotManagementSubCode,
)
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.events import (
    await_events,
    dmtf_event_group,
    subscribe_event_types,
)
from spdmkit.protocol.requester.key_pairs import generate_key_pair
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
from spdmkit.protocol.responder.device import Peer

from ..protocol.support import refusal
from .test_provisioning import ALLOWED, issued, made, pair_with, session

E, S = ErrorCode, SlotManagementSubCode
P384 = KeyPairAlgorithms.ECC_P384


def test_a_slot_of_a_bank_that_is_not_selected(tmp_path: Path, authority: Authority) -> None:
    device = made(tmp_path, ALLOWED)
    pair = pair_with(device, V14)
    link = session(pair, device)
    assert [each.slot_mask for each in pair.run(get_bank_info(link))] == [0xFF]
    pair.run(generate_key_pair(link, 2, slots=[4], algorithm=P384))
    selected, other = pair.run(get_bank_info(link))
    assert (selected.slot_mask, selected.modifiable_slot_mask) == (0xEF, 0xEE)
    assert (other.slot_mask, other.modifiable_slot_mask) == (0xFE, 0xFE)
    pair.run(subscribe_event_types(link, [dmtf_event_group([5])]))
    certificates = issued(authority, pair.run(get_bank_csr(link, 1, 4)))
    pair.run(set_bank_certificate(link, 1, 4, certificates))
    assert pair.run(get_bank_certificate(link, 1, 4)).certificates == certificates
    details = pair.run(get_bank_details(link, 1))
    assert not details.selected
    assert details.current_asym_algo == P384
    assert [each.slot_id for each in details.slot_elements if each.provisioned] == [4]
    assert set(pair.run(get_digests(link)).slots) == {0}
    pair.run(erase_bank_slot(link, 1, 4))
    events = pair.run(await_events(link))
    assert [each.detail for each in events] == [b"\x01\x10", b"\x01\x10"]
    assert refusal(pair, erase_bank_slot(link, 1, 4)) is E.INVALID_REQUEST


def test_what_a_software_device_cannot_do_is_refused_by_name(tmp_path: Path) -> None:
    device = made(tmp_path, ALLOWED)
    pair = pair_with(device, V14)
    link = session(pair, device)
    assert pair.run(get_slot_sub_codes(link)) == frozenset(S) - {S.MANAGE_BANK}
    exchange = configure_bank(link, 0, algorithm=P384)
    assert refusal(pair, exchange) is E.UNSUPPORTED_REQUEST
    with pytest.raises(ProtocolViolation, match="keys"):
        device.configure_bank(0, 0, 0, Peer())


def test_who_may(tmp_path: Path) -> None:
    device = made(tmp_path)
    pair = pair_with(device, V14)
    pair.run(negotiate(pair.link))
    assert refusal(pair, get_bank_info(pair.link)) is E.SESSION_REQUIRED
    link = session(pair, device)
    certificates = device.credentials.slots[0].certificates
    exchange = set_bank_certificate(link, 0, 1, certificates)
    assert refusal(pair, exchange) is E.UNSPECIFIED
    assert refusal(pair, erase_bank_slot(link, 0, 0)) is E.UNSPECIFIED


def test_in_a_trusted_environment(tmp_path: Path, authority: Authority) -> None:
    device = made(tmp_path, ("may_provision = []", "trusted_environment = true"))
    pair = pair_with(device, V14)
    pair.run(negotiate(pair.link))
    (bank,) = pair.run(get_bank_info(pair.link))
    assert bank.modifiable_slot_mask == 0xFF
    certificates = issued(authority, pair.run(get_bank_csr(pair.link, 0, 0)))
    model = CertificateModel.DEVICE
    pair.run(set_bank_certificate(pair.link, 0, 0, certificates, model=model))
    assert pair.run(get_bank_certificate(pair.link, 0, 0)).certificates == certificates


def test_without_provisioning_there_is_only_reading(tmp_path: Path) -> None:
    device = made(tmp_path, ('"SET_CERT_CAP", "CSR_CAP",', ""))
    pair = pair_with(device, V14)
    link = session(pair, device)
    assert pair.run(get_slot_sub_codes(link)) == {0, 1, 2, 3}
    (bank,) = pair.run(get_bank_info(link))
    assert bank.modifiable_slot_mask == 0
