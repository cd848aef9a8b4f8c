"""Messages that no recording holds, byte by byte as the tables of DSP0274 1.4 lay them out.

Round trips cannot tell a field at the wrong offset; these can.
"""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from spdmkit.errors import DecodeError
from spdmkit.messages import (
    MESSAGES,
    V10,
    V11,
    V12,
    V13,
    V14,
    VENDOR_ID_LENGTHS,
    Algorithms,
    AlgorithmStructure,
    AlgType,
    BankDetails,
    BankElement,
    BankInfo,
    Capabilities,
    Certificate,
    CertificateManagementChanged,
    Challenge,
    ChallengeAuth,
    ChunkGet,
    ChunkResponse,
    ChunkSend,
    ChunkSendAck,
    Context,
    Csr,
    DeviceClassIdentifier,
    DeviceClassList,
    DeviceMode,
    Digests,
    DmtfMeasurement,
    EncapsulatedPayload,
    EncapsulatedResponseAck,
    EndpointInfo,
    EndSession,
    Event,
    EventGroup,
    EventLost,
    EventType,
    ExtendedAlgorithm,
    Finish,
    FinishRsp,
    GetCapabilities,
    GetCertificate,
    GetCsr,
    GetEndpointInfo,
    GetMeasurementExtensionLog,
    GetMeasurements,
    KeyExchange,
    KeyPairInfo,
    KeyPairOperation,
    KeyUpdate,
    ManageBank,
    ManageSlot,
    MeasurementBlock,
    MeasurementLog,
    MeasurementLogEntry,
    Measurements,
    Message,
    NegotiateAlgorithms,
    PskExchange,
    PskExchangeRsp,
    PskFinish,
    Registry,
    RequestCode,
    RespondIfReady,
    ResponseCode,
    SecurityVersionNumber,
    SendEvent,
    SetCertificate,
    SetKeyPairInfo,
    SlotAddress,
    SlotCertificateChain,
    SlotCsr,
    SlotElement,
    SlotGetCsr,
    SlotManagement,
    SlotManagementResp,
    SlotManagementSubCode,
    SlotSetCertificate,
    StructuredManifest,
    SubordinateIdentifier,
    SubscribeEventTypes,
    SupportedAlgorithmsBlock,
    SupportedEventTypes,
    SupportedSubCodes,
    VendorDefinedRequest,
    VendorDefinedResponse,
    message_tree,
    parse_message,
)
from spdmkit.wire import EncodeError, Struct

N32 = bytes(range(32))
HEX32 = N32.hex()
ADDRESS = SlotAddress(bank_id=2, slot_id=3)
ADDRESS_HEX = "0800 0000 02 03 0000"
DIGEST = "d1" * 32


def context(version: int, **more: Any) -> Context:
    return Context(version=version, hash_size=32, signature_size=8, req_signature_size=6, **more)


SIGNED = SimpleNamespace(signature_requested=True)
GROUP = EventGroup(
    registry=3,
    vendor_id=b"\x86\x80",
    event_group_ver=1,
    attributes=1,
    event_types=[EventType(event_type_id=2)],
)
GROUP_HEX = "03 02 8680 0100 0100 01000000 0200 0000"

CASES: list[tuple[Message, Context, str]] = [
    (GetCapabilities(), context(V10), "10e10000"),
    (
        GetCapabilities(ct_exponent=20, flags=0x80, data_transfer_size=9),
        context(V11),
        "11e10000 00 14 0000 80000000",
    ),
    (
        GetCapabilities(
            supported_algorithms_requested=True, data_transfer_size=42, max_spdm_msg_size=64
        ),
        context(V13),
        "13e10100 00 00 0000 00000000 2a000000 40000000",
    ),
    (
        Capabilities(
            supported_algorithms_included=True,
            ext_flags=1,
            supported_algorithms=SupportedAlgorithmsBlock(
                measurement_specification=1,
                opaque_data_formats=2,
                responder_multi_key_conn=True,
                base_asym_algo=0x80,
                base_hash_algo=2,
                pqc_asym_algo=4,
                mel_specification=1,
                algorithm_structures=[AlgorithmStructure.of(AlgType.KEM_ALG, 1)],
            ),
        ),
        context(V14),
        "14610100 00 00 0100 00000000 00000000 00000000"
        "01 00 2200 01 12 80000000 02000000 04000000" + "00" * 8 + "00 00 00 01 07 20 0100",
    ),
    (
        NegotiateAlgorithms(
            measurement_specification=1,
            base_asym_algo=0x80,
            base_hash_algo=2,
            ext_asym=[ExtendedAlgorithm(registry=1, algorithm_id=0x203)],
        ),
        context(V10),
        "10e30000 2400 01 00 80000000 02000000" + "00" * 12 + "01 00 00 00 01 00 0302",
    ),
    (
        Algorithms(
            measurement_specification_sel=1,
            opaque_data_format=2,
            requester_multi_key_conn_sel=True,
            measurement_hash_algo=2,
            pqc_asym_sel=1,
            base_hash_sel=4,
            mel_specification_sel=1,
            ext_hash_sel=[ExtendedAlgorithm(registry=2, algorithm_id=3)],
            algorithm_structures=[AlgorithmStructure.of(AlgType.AEAD, 2)],
        ),
        context(V14),
        "14630100 2c00 01 12 02000000 00000000 04000000 01000000" + "00" * 7 + "01 00 01 0000"
        "02 00 0300 03 20 0200",
    ),
    (
        Digests(
            supported_slot_mask=7,
            provisioned_slot_mask=5,
            digests=[N32, N32],
            key_pair_ids=[1, 2],
            certificate_info=[1, 3],
            key_usage_masks=[0x0F, 0x4000],
        ),
        context(V13, multi_key_conn_rsp=True),
        f"13010705 {HEX32}{HEX32} 0102 0103 0f00 0040",
    ),
    (
        Digests(supported_slot_mask=7, provisioned_slot_mask=1, digests=[N32]),
        context(V12, multi_key_conn_rsp=True),
        f"12010001 {HEX32}",
    ),
    (
        Digests(
            provisioned_slot_mask=1,
            digests=[N32],
            key_pair_ids=[1],
            certificate_info=[1],
            key_usage_masks=[1],
        ),
        context(V14, multi_key_conn_req=True, requester_side=True),
        f"14010001 {HEX32} 01 01 0100",
    ),
    (GetCertificate(slot_id=1, offset=2, length=3), context(V12), "12820100 0200 0300"),
    (
        GetCertificate(slot_id=1, slot_size_requested=True, length=0xFFFF),
        context(V13),
        "13820101 0000 ffff",
    ),
    (
        GetCertificate(slot_id=1, large=True, offset=0x10000, length=0xFFFFFFFF),
        context(V14),
        "14828100 0000 0000 00000100 ffffffff",
    ),
    (
        Certificate(slot_id=1, certificate_model=2, remainder_length=5, cert_chain=b"abc"),
        context(V13),
        "13020102 0300 0500 616263",
    ),
    (
        Certificate(slot_id=1, large=True, remainder_length=0x10000, cert_chain=b"abc"),
        context(V14),
        "14028100 0000 0000 03000000 00000100 616263",
    ),
    (
        Challenge(slot_id=0xFF, measurement_summary_hash_type=0xFF, nonce=N32, context=b"contexts"),
        context(V13),
        f"1383ffff {HEX32} 636f6e7465787473",
    ),
    (
        Challenge(slot_id=1, nonce=N32, context=b"dropped"),
        context(V12),
        f"12830100 {HEX32}",
    ),
    (
        ChallengeAuth(
            slot_id=0xF,
            basic_mut_auth_req=True,
            slot_mask=1,
            cert_chain_hash=N32,
            nonce=N32,
            measurement_summary_hash=N32,
            opaque_data=b"op",
            requester_context=b"contexts",
            signature=b"signatur",
        ),
        context(V13, request=SimpleNamespace(measurement_summary_hash_type=1)),
        f"13038f01 {HEX32}{HEX32}{HEX32} 0200 6f70 636f6e7465787473 7369676e61747572",
    ),
    (
        ChallengeAuth(cert_chain_hash=N32, nonce=N32, signature=b"sixsix"),
        context(V12, requester_side=True),
        f"12030000 {HEX32}{HEX32} 0000 736978736978",
    ),
    (GetMeasurements(measurement_operation=0xFF), context(V12), "12e000ff"),
    (GetMeasurements(signature_requested=True, nonce=N32), context(V10), f"10e00100 {HEX32}"),
    (
        GetMeasurements(
            signature_requested=True,
            raw_bit_stream_requested=True,
            new_measurement_requested=True,
            measurement_operation=2,
            nonce=N32,
            slot_id=0xF,
            context=b"contexts",
        ),
        context(V13),
        f"13e00702 {HEX32} 0f 636f6e7465787473",
    ),
    (GetMeasurements(context=b"contexts"), context(V14), "14e00000 636f6e7465787473"),
    (
        Measurements(number_of_indices=9, nonce=N32),
        context(V11),
        f"11600900 00 000000 {HEX32} 0000",
    ),
    (
        Measurements(
            slot_id=2,
            content_changed=2,
            measurement_record=[
                MeasurementBlock(index=1, measurement_specification=1, measurement=b"\x81\1\0r")
            ],
            nonce=N32,
            requester_context=b"contexts",
            signature=b"signatur",
        ),
        context(V13, request=SIGNED),
        f"13600022 01 080000 01 01 0400 81010072 {HEX32} 0000 636f6e7465787473 7369676e61747572",
    ),
    (
        GetMeasurementExtensionLog(offset=1, length=2),
        context(V13),
        "13ef0000 01000000 02000000",
    ),
    (
        KeyExchange(
            measurement_summary_hash_type=1,
            slot_id=2,
            req_session_id=0xFFFE,
            termination_policy=True,
            event_all_policy=True,
            random_data=N32,
            exchange_data=b"exch",
            opaque_data=b"op",
        ),
        context(V13, exchange_request_size=4),
        f"13e40102 feff 03 00 {HEX32} 65786368 0200 6f70",
    ),
    (
        KeyExchange(termination_policy=True, event_all_policy=True, random_data=N32),
        context(V11),
        f"11e40000 0000 00 00 {HEX32} 0000",
    ),
    (
        Finish(signature_included=True, req_slot_id=1, signature=b"sixsix", verify_data=N32),
        context(V13),
        f"13e50101 736978736978 {HEX32}",
    ),
    (
        Finish(opaque_data=b"op", verify_data=N32),
        context(V14),
        f"14e50000 0200 6f70 {HEX32}",
    ),
    (FinishRsp(), context(V12), "12650000"),
    (FinishRsp(verify_data=N32), context(V12, handshake_in_the_clear=True), f"12650000 {HEX32}"),
    (FinishRsp(opaque_data=b"op"), context(V14), "14650000 0200 6f70"),
    (
        PskExchange(
            termination_policy=True,
            req_session_id=1,
            psk_hint=b"hint",
            requester_context=b"ctx",
            opaque_data=b"op",
        ),
        context(V12),
        "12e60001 0100 0400 0300 0200 68696e74 637478 6f70",
    ),
    (
        PskExchangeRsp(
            heartbeat_period=5,
            rsp_session_id=2,
            measurement_summary_hash=N32,
            responder_context=b"ctx",
            opaque_data=b"op",
            verify_data=N32,
        ),
        context(V12, request=SimpleNamespace(measurement_summary_hash_type=0xFF)),
        f"12660500 0200 0000 0300 0200 {HEX32} 637478 6f70 {HEX32}",
    ),
    (PskFinish(verify_data=N32), context(V13), f"13e70000 {HEX32}"),
    (PskFinish(verify_data=N32), context(V14), f"14e70000 0000 {HEX32}"),
    (KeyUpdate(operation=3, tag=9), context(V11), "11e90309"),
    (
        EncapsulatedResponseAck(
            request_id=2,
            payload_type=EncapsulatedPayload.PRESENT,
            ack_request_id=1,
            payload=bytes.fromhex("12810000"),
        ),
        context(V12),
        "126b0201 01 000000 12810000",
    ),
    (
        EncapsulatedResponseAck(
            payload_type=EncapsulatedPayload.REQ_SLOT_NUMBER, ack_request_id=1, payload=b"\3"
        ),
        context(V12),
        "126b0002 01 000000 03",
    ),
    (
        EncapsulatedResponseAck(
            request_id=1, payload_type=1, ack_request_id=7, payload=b"\x11\x81\0\0"
        ),
        context(V11),
        "116b0101 11810000",
    ),
    (EncapsulatedResponseAck(), context(V11), "116b0000"),
    (EndSession(clear_negotiated_state=True), context(V12), "12ec0100"),
    (
        GetCsr(
            key_pair_id=4,
            csr_cert_model=1,
            csr_tracking_tag=5,
            overwrite=True,
            requester_info=b"info",
            opaque_data=b"op",
        ),
        context(V13),
        "13ed04a9 0400 0200 696e666f 6f70",
    ),
    (GetCsr(key_pair_id=4, overwrite=True), context(V12), "12ed0000 0000 0000"),
    (Csr(csr_data=b"der"), context(V12), "126d0000 0300 0000 646572"),
    (
        SetCertificate(slot_id=3, set_cert_model=2, key_pair_id=9, cert_chain=b"chain"),
        context(V13),
        "13ee2309 636861696e",
    ),
    (SetCertificate(slot_id=3, erase=True), context(V14), "14ee8300"),
    (
        ChunkSend(last_chunk=True, handle=5, chunk_seq_no=1, chunk=b"abc"),
        context(V12),
        "12850105 0100 0000 03000000 616263",
    ),
    (
        ChunkSend(handle=5, large_message_size=9, chunk=b"abc"),
        context(V13),
        "13850005 0000 0000 03000000 09000000 616263",
    ),
    (
        ChunkSend(handle=5, chunk_seq_no=0x10000, chunk=b"abc"),
        context(V14),
        "14850005 00000100 03000000 616263",
    ),
    (
        ChunkSendAck(early_error_detected=True, handle=5, chunk_seq_no=2, response=b"rsp"),
        context(V12),
        "12050105 0200 727370",
    ),
    (
        ChunkSendAck(handle=5, chunk_seq_no=2, response=b"rsp"),
        context(V14),
        "14050005 02000000 727370",
    ),
    (ChunkGet(handle=5, chunk_seq_no=2), context(V13), "13860005 0200"),
    (ChunkGet(handle=5, chunk_seq_no=2), context(V14), "14860005 02000000"),
    (
        ChunkResponse(last_chunk=True, handle=5, large_message_size=3, chunk=b"abc"),
        context(V12),
        "12060105 0000 0000 03000000 03000000 616263",
    ),
    (
        KeyPairInfo(
            total_key_pairs=3,
            key_pair_id=1,
            capabilities=0x3F,
            key_usage_capabilities=0x0F,
            current_key_usage=1,
            asym_algo_capabilities=8,
            current_asym_algo=0x10,
            assoc_cert_slot_mask=4,
            public_key_info=b"der",
            pqc_asym_algo_capabilities=b"\1\2",
            current_pqc_asym_algo=b"\3",
        ),
        context(V14),
        "147c0000 03 01 3f00 0f00 0100 08000000 10000000 0300 04 646572 02 0102 01 03",
    ),
    (
        SetKeyPairInfo(
            operation=KeyPairOperation.GENERATE,
            key_pair_id=2,
            desired_key_usage=3,
            desired_asym_algo=4,
            desired_assoc_cert_slot_mask=5,
            desired_pqc_asym_algo=b"\6",
        ),
        context(V14),
        "14fd0200 02 00 0300 04000000 05 01 06",
    ),
    (
        SetKeyPairInfo(operation=KeyPairOperation.CHANGE, key_pair_id=2),
        context(V13),
        "13fd0000 02 00 0000 00000000 00",
    ),
    (
        SetKeyPairInfo(operation=KeyPairOperation.ERASE, key_pair_id=2),
        context(V14),
        "14fd0100 02",
    ),
    (SupportedEventTypes(event_groups=[GROUP]), context(V13), f"13620100 10000000 {GROUP_HEX}"),
    (SubscribeEventTypes(event_groups=[GROUP]), context(V13), f"13f00100 10000000 {GROUP_HEX}"),
    (SubscribeEventTypes(), context(V13), "13f00000"),
    (
        SendEvent(
            events=[Event(event_instance_id=7, event_type_id=4, event_detail=b"\1")],
        ),
        context(V13),
        "13f10000 01000000 07000000 00000000 00 00 0400 0100 01",
    ),
    (
        GetEndpointInfo(sub_code=1, slot_id=2, signature_requested=True, nonce=N32),
        context(V13),
        f"13870102 01 000000 {HEX32}",
    ),
    (GetEndpointInfo(sub_code=1), context(V13), "13870100 00 000000"),
    (
        EndpointInfo(slot_id=2, nonce=N32, ep_info=b"info", signature=b"signatur"),
        context(V13, request=SIGNED),
        f"13070002 00000000 {HEX32} 04000000 696e666f 7369676e61747572",
    ),
    (EndpointInfo(ep_info=b"info"), context(V13), "13070000 00000000 04000000 696e666f"),
    (
        VendorDefinedRequest(standard_id=3, vendor_id=b"\x86\x80", payload=b"abc"),
        context(V11),
        "11fe0000 0300 02 8680 0300 616263",
    ),
    (
        VendorDefinedResponse(large=True, standard_id=3, vendor_id=b"\x86\x80", payload=b"abc"),
        context(V14),
        "147e8000 0300 02 8680 0000 03000000 616263",
    ),
    (RespondIfReady(request_code=0x83, token=7), context(V12), "12ff8307"),
    (
        SlotManagement.of(
            SlotManagementSubCode.GET_CSR,
            SlotGetCsr(
                address=ADDRESS,
                key_pair_id=1,
                csr_cert_model=2,
                csr_tracking_tag=3,
                overwrite=True,
                requester_info=b"info",
                opaque_data=b"op",
            ),
            context(V14),
        ),
        context(V14),
        f"14880400 0800 0000 {ADDRESS_HEX} 01 9a 0000 0400 0200 696e666f 6f70",
    ),
    (
        SlotManagement.of(SlotManagementSubCode.GET_BANK_INFO, None, context(V14)),
        context(V14),
        "14880100 0000 0000",
    ),
    (
        SlotManagementResp.of(SlotManagementSubCode.MANAGE_SLOT, None, context(V14)),
        context(V14),
        "14082100 0000 0000",
    ),
]


@pytest.mark.parametrize(
    ("message", "ctx", "expected"),
    CASES,
    ids=[f"{message.name}-{ctx.version:x}-{n}" for n, (message, ctx, _) in enumerate(CASES)],
)
def test_message(message: Message, ctx: Context, expected: str) -> None:
    data = bytes.fromhex(expected)
    assert message.encode(ctx).hex() == data.hex()
    decoded, consumed = parse_message(data, ctx)
    assert consumed == len(data)
    assert decoded.encode(ctx) == data
    assert message_tree(data, ctx).length == len(data)


STRUCTS: list[tuple[Struct, str]] = [
    (
        DmtfMeasurement(kind=5, raw=True, value=bytes(16)),
        "85 1000" + "00" * 16,
    ),
    (
        DeviceMode(
            operational_mode_capabilities=1,
            operational_mode_state=2,
            device_mode_capabilities=3,
            device_mode_state=4,
        ),
        "01000000 02000000 03000000 04000000",
    ),
    (SecurityVersionNumber(svn=7), "0700000000000000"),
    (StructuredManifest(registry=1, vendor_id=b"\1\0", manifest=b"m"), "01 02 0100 6d"),
    (
        MeasurementLog(
            entries=[
                MeasurementLogEntry(mel_index=1, meas_index=5, kind=8, value=b"ab"),
            ]
        ),
        "01000000 0d000000" + "00" * 8 + "01000000 05 000000 08 0200 6162",
    ),
    (EventLost(last_acked_event_inst_id=1, last_lost_event_inst_id=2), "01000000 02000000"),
    (CertificateManagementChanged(bank_changed=1, slot_changed=2), "01 02"),
    (
        DeviceClassList(
            identifiers=[
                DeviceClassIdentifier(
                    registry=3,
                    vendor_id=b"\x86\x80",
                    subordinate_ids=[
                        SubordinateIdentifier(identifier=b"abc"),
                        SubordinateIdentifier(identifier=b""),
                    ],
                )
            ]
        ),
        "01 000000 0a 03 02 8680 02 03 616263 00",
    ),
    (ADDRESS, ADDRESS_HEX),
    (
        ManageBank(address=ADDRESS, operation=1, select_asym_algo=8, select_pqc_asym_algo=b"\1"),
        f"{ADDRESS_HEX} 01 000000 08000000 01 01",
    ),
    (ManageSlot(address=ADDRESS, operation=1), f"{ADDRESS_HEX} 01 000000"),
    (
        SlotSetCertificate(address=ADDRESS, set_cert_model=1, certificate=b"chain"),
        f"{ADDRESS_HEX} 05000000 01 000000 636861696e",
    ),
    (SupportedSubCodes(sub_code_bitmap=0x1F), "2400 0000 1f00000000000000" + "00" * 24),
    (
        BankInfo(bank_elements=[BankElement(bank_id=1, slot_mask=3, modifiable_slot_mask=2)]),
        "0c00 0000 01 000000 04 01 03 02",
    ),
    (
        BankDetails(
            bank_id=1,
            selected=True,
            config_algo=True,
            asym_algo_capabilities=8,
            current_asym_algo=9,
            available_asym_algo=10,
            pqc_asym_algo_capabilities=b"\1",
            current_pqc_asym_algo=b"\2\3",
            available_pqc_asym_algo=b"",
            slot_elements=[
                SlotElement(
                    slot_id=2,
                    provisioned=True,
                    write_protected=True,
                    key_pair_id=4,
                    certificate_info=1,
                    key_usage=0x0F,
                    slot_size=0x1000,
                    digest=bytes.fromhex(DIGEST),
                )
            ],
        ),
        (
            "4e00 01 00 0100 03 00 08000000 09000000 0a000000 01 01 02 0203 00 00000000"
            f"3000 02 00 03 04 01 00 0f00 0000 00100000 {DIGEST}"
        ),
    ),
    (SlotCertificateChain(cert_chain=b"chain"), "05000000 00000000 636861696e"),
    (SlotCsr(csr=b"der"), "03000000 00000000 646572"),
]


@pytest.mark.parametrize(
    ("struct", "expected"), STRUCTS, ids=[type(struct).__name__ for struct, _ in STRUCTS]
)
def test_structure(struct: Struct, expected: str) -> None:
    ctx = context(V14)
    data = bytes.fromhex(expected)
    assert struct.encode(ctx).hex() == data.hex()
    assert type(struct).decode(data, ctx) == struct


# --- slot management -----------------------------------------------------------------------------


def test_slot_management_content() -> None:
    ctx = context(V14)
    sub = SlotManagementSubCode
    request = SlotManagement.of(sub.GET_BANK_DETAILS, SlotAddress(bank_id=0xFF), ctx)
    assert request.content(ctx) == SlotAddress(bank_id=0xFF)
    response = SlotManagementResp.of(sub.GET_CSR, SlotCsr(csr=b"der"), ctx)
    assert response.content(ctx) == SlotCsr(csr=b"der")
    assert SlotManagement.of(sub.GET_BANK_INFO, None, ctx).content(ctx) is None
    assert SlotManagementResp.of(sub.MANAGE_BANK, None, ctx).content(ctx) is None


def test_slot_management_structure_may_move() -> None:
    """Table 139: the offset may change in future versions."""
    ctx = context(V14)
    moved = SlotManagement(
        sub_code=SlotManagementSubCode.GET_BANK_DETAILS,
        mgmt_struct_offset=12,
        mgmt_struct=b"new!" + ADDRESS.encode(ctx),
    )
    assert SlotManagement.decode(moved.encode(ctx), ctx).content(ctx) == ADDRESS


@pytest.mark.parametrize("offset", [0, 7, 17, 0xFFFF])
def test_slot_management_structure_is_nowhere(offset: int) -> None:
    ctx = context(V14)
    content = ADDRESS.encode(ctx)
    request = SlotManagement(sub_code=2, mgmt_struct_offset=offset, mgmt_struct=content)
    with pytest.raises(DecodeError, match="MgmtStructOffset"):
        request.content(ctx)


def test_slot_management_structure_is_malformed() -> None:
    ctx = context(V14)
    request = SlotManagement(sub_code=2, mgmt_struct_offset=8, mgmt_struct=b"\x09\0\0\0\0\0\0\0\0")
    with pytest.raises(DecodeError, match="SlotAddress"):
        request.content(ctx)


# --- small helpers -------------------------------------------------------------------------------


def test_masks_of_algorithm_structures() -> None:
    tables = [AlgorithmStructure.of(AlgType.DHE, 0x10), AlgorithmStructure.of(AlgType.AEAD, 2)]
    for message in (
        NegotiateAlgorithms(algorithm_structures=tables),
        Algorithms(algorithm_structures=tables),
        SupportedAlgorithmsBlock(algorithm_structures=tables),
    ):
        assert message.mask(AlgType.DHE) == 0x10
        assert message.mask(AlgType.AEAD) == 2
        assert message.mask(AlgType.KEM_ALG) == 0


def test_digests_by_slot() -> None:
    digests = Digests(provisioned_slot_mask=0b1000_0101, digests=[b"0", b"2", b"7"])
    assert digests.by_slot() == {0: b"0", 2: b"2", 7: b"7"}


def test_negotiation_has_a_limit() -> None:
    tables = [AlgorithmStructure.of(AlgType.DHE, 1)] * 24
    assert len(NegotiateAlgorithms(algorithm_structures=tables).encode(context(V12))) == 128
    with pytest.raises(EncodeError):
        NegotiateAlgorithms(algorithm_structures=[*tables, tables[0]]).encode(context(V12))
    with pytest.raises(DecodeError, match="Length"):
        NegotiateAlgorithms.decode(bytes.fromhex("12e30000 8400") + bytes(126), context(V12))


def test_peers_exponents_are_capped() -> None:
    """CVE-2023-32690: CTExponent was once a shift count."""
    for exponent in range(256):
        data = bytes.fromhex("11e10000 00") + bytes([exponent]) + bytes(6)
        if exponent <= 31:
            assert GetCapabilities.decode(data, context(V11)).ct_exponent == exponent
        else:
            with pytest.raises(DecodeError, match="CTExponent"):
                GetCapabilities.decode(data, context(V11))


def test_every_code_has_a_message() -> None:
    codes: set[int] = {*RequestCode, *ResponseCode}
    assert set(MESSAGES) == codes
    for code, cls in MESSAGES.items():
        assert cls.code == code
        assert cls.layout.name == cls.name
        assert cls.layout.clause == cls.clause
        assert cls.clause.startswith("10.")
        assert cls.__doc__


def test_every_request_has_a_response_with_its_code() -> None:
    for request in RequestCode:
        if request is not RequestCode.RESPOND_IF_READY:
            assert ResponseCode(request & 0x7F)


def test_vendor_id_lengths() -> None:
    assert set(VENDOR_ID_LENGTHS) == set(Registry)


def test_unknown_codes() -> None:
    for data in (b"", b"\x12", b"\x12\x55\0\0", b"\x12\x80\0\0"):
        with pytest.raises(DecodeError):
            parse_message(data, context(V12))
        with pytest.raises(DecodeError):
            message_tree(data, context(V12))


def test_get_version_never_changes() -> None:
    """DSP0274 10.2: of version 1.0 whatever is negotiated; the answer likewise."""
    for version in (V10, V12, V14):
        assert MESSAGES[0x84]().encode(context(version)) == bytes.fromhex("10840000")
        assert MESSAGES[0x04]().encode(context(version)) == bytes.fromhex("100400000000")
        with pytest.raises(DecodeError, match="SPDMVersion"):
            parse_message(bytes.fromhex("11840000"), context(version))


def test_encoding_by_the_messages_own_version() -> None:
    message, _ = parse_message(bytes.fromhex("12810000"), context(V12))
    assert message.spdm_version == V12
    assert message.encode(context(V14)) == bytes.fromhex("12810000")


def test_tree_looks_into_embedded_messages() -> None:
    data = bytes.fromhex("126a0100 12810000")
    tree = message_tree(data, context(V12))
    inner = tree.find("GET_DIGESTS")
    assert inner is not None
    assert (inner.offset, inner.length) == (4, 4)
    # What is no message is shown as bytes.
    assert len(message_tree(bytes.fromhex("126a0100 ffff"), context(V12)).children) == 5


def test_context_of_an_answer_is_a_whole_copy() -> None:
    """All that was negotiated comes along; only the request and the side are new."""
    request = GetMeasurements()
    numbers: dict[str, Any] = {field.name: n for n, field in enumerate(fields(Context), start=1)}
    original = Context(**numbers)
    copy = original.answering(request, requester_side=True)
    assert copy == replace(original, request=request, requester_side=True)
    assert original.request == numbers["request"]


def test_side_that_answers() -> None:
    ctx = context(V13, multi_key_conn_req=True)
    assert (ctx.answer_signature_size, ctx.multi_key_conn) == (8, False)
    ctx.requester_side = True
    assert (ctx.answer_signature_size, ctx.multi_key_conn) == (6, True)


def test_prefix_needs_what_it_counts() -> None:
    """What stands before a field cannot be told when it holds a length of what is after."""
    with pytest.raises(EncodeError):
        Measurements(nonce=N32).encode_before("measurement_record", context(V12))
