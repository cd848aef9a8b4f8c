"""What matters in a message, in a line of words.

One small function for each message that has something to say. What comes from a peer is shown as
numbers, names from tables, hex, or escaped text.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

from spdmkit.capture.events import ConversationEvent, EventKind
from spdmkit.crypto import registry
from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.errors import SpdmError
from spdmkit.identity import safe_text
from spdmkit.messages import (
    Algorithms,
    AlgType,
    Capabilities,
    Certificate,
    Challenge,
    ChallengeAuth,
    ChunkGet,
    ChunkResponse,
    ChunkSend,
    ChunkSendAck,
    ContentChanged,
    Context,
    Csr,
    DeliverEncapsulatedResponse,
    Digests,
    DmtfMeasurement,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    EndpointInfo,
    EndpointInfoSubCode,
    EndSession,
    Error,
    ErrorCode,
    Finish,
    GetCapabilities,
    GetCertificate,
    GetCsr,
    GetEndpointInfo,
    GetKeyPairInfo,
    GetMeasurementExtensionLog,
    GetMeasurements,
    KeyExchange,
    KeyExchangeRsp,
    KeyPairInfo,
    KeyPairOperation,
    KeyUpdate,
    KeyUpdateAck,
    KeyUpdateOperation,
    MeasurementBlock,
    MeasurementExtensionLog,
    MeasurementKind,
    MeasurementOperation,
    Measurements,
    MeasurementSummaryHashType,
    Message,
    NegotiateAlgorithms,
    PskExchange,
    PskExchangeRsp,
    Registry,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    RespondIfReady,
    SendEvent,
    SetCertificate,
    SetCertificateRsp,
    SetKeyPairInfo,
    SlotManagement,
    SlotManagementResp,
    SlotManagementSubCode,
    SubscribeEventTypes,
    SupportedEventTypes,
    VendorDefinedRequest,
    VendorDefinedResponse,
    Version,
)
from spdmkit.messages.dsp0287 import ServicePayload, SubId, is_service
from spdmkit.transports.tcp import MessageType

__all__ = ["describe", "message_line"]

_CONTEXT = Context(version=0x14)


def describe(event: ConversationEvent) -> str:
    """The line for an event; empty when its name says it all."""
    if event.kind is EventKind.MESSAGE:
        if event.message is None:
            return f"malformed: {event.error}"
        return message_line(event.message)
    if event.kind is EventKind.BINDING_ERROR:
        return _binding_error(event.raw)
    if event.kind in (EventKind.RECORD, EventKind.APPLICATION):
        return f"{len(event.raw)} bytes"
    if event.kind is EventKind.ROLE_INQUIRY:
        return "the initiator is a responder"
    if event.kind is EventKind.LOST:
        return f"{len(event.raw)} bytes" if event.raw else ""
    return ""


def message_line(message: Message) -> str:
    """The line for a message."""
    line = _LINES.get(type(message))
    return line(message) if line is not None else ""


def _binding_error(raw: bytes) -> str:
    words = {
        MessageType.TOO_LARGE: "the frame before is too large",
        MessageType.VERSION_NOT_SUPPORTED: f"supports version {raw[1]} of the binding",
        MessageType.CANNOT_BE_REQUESTER: "cannot be the requester",
        MessageType.CANNOT_BE_RESPONDER: "cannot be the responder",
    }
    known = next((text for kind, text in words.items() if kind == raw[0]), "reserved")
    return f"0x{raw[0]:02X}: {known}"


# --- words ----------------------------------------------------------------------------------------


def _name(kind: type[enum.IntEnum], value: int) -> str:
    """The name of a value, in words."""
    try:
        return kind(value).name.lower().replace("_", " ")
    except ValueError:
        return f"0x{value:02x}"


def _code(value: int) -> str:
    try:
        return RequestCode(value).name
    except ValueError:
        return f"code 0x{value:02x}"


def _slot(slot: int) -> str:
    return "provisioned key" if slot in (0x0F, 0xFF) else f"slot {slot}"


def _slots(mask: int) -> str:
    slots = [str(slot) for slot in range(8) if mask >> slot & 1]
    if len(slots) == 1:
        return f"slot {slots[0]}"
    return f"slots {', '.join(slots)}" if slots else "no slot"


def _bytes(data: bytes, longest: int = 8) -> str:
    """The first bytes in hex."""
    return data.hex() if len(data) <= longest else f"{data[:longest].hex()}…"


def _flags(kind: type[enum.IntFlag], value: int) -> str:
    """The names of flags, without those of whole two-bit fields."""
    names = [
        name.replace("_CAP", "")
        for name, flag in kind.__members__.items()
        if flag & value == flag and not name.endswith("_MASK") and not flag & flag - 1
    ]
    return " ".join(names) or "none"


def _algorithms(table: Table[Algorithm], mask: int) -> str:
    known = [entry.short for entry in table if mask & entry.mask]
    other = mask & ~table.known_mask
    return "|".join([*known, *([f"0x{other:x}"] if other else [])])


def _structures(message: NegotiateAlgorithms | Algorithms) -> list[str]:
    return [
        _algorithms(table, message.mask(kind))
        for kind, table in _TABLES.items()
        if message.mask(kind)
    ]


_TABLES: dict[AlgType, Table[Algorithm]] = {
    AlgType.DHE: registry.DHE,
    AlgType.KEM_ALG: registry.KEM,
    AlgType.AEAD: registry.AEAD,
    AlgType.REQ_BASE_ASYM_ALG: registry.BASE_ASYM,
    AlgType.REQ_PQC_ASYM_ALG: registry.PQC_ASYM,
}


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)


def _summary_type(value: int) -> str:
    if value == MeasurementSummaryHashType.NONE:
        return ""
    return f"summary of {_name(MeasurementSummaryHashType, value)} measurements"


# --- one function for each message ----------------------------------------------------------------


def _version(m: Version) -> str:
    return " ".join(f"{e >> 12}.{e >> 8 & 15}" for e in m.version_number_entries)


def _get_capabilities(m: GetCapabilities) -> str:
    return _flags(RequesterFlags, m.flags) if m.flags else ""


def _capabilities(m: Capabilities) -> str:
    return _flags(ResponderFlags, m.flags)


def _negotiate(m: NegotiateAlgorithms) -> str:
    return _joined(
        [
            _algorithms(registry.BASE_HASH, m.base_hash_algo),
            _algorithms(registry.BASE_ASYM, m.base_asym_algo),
            _algorithms(registry.PQC_ASYM, m.pqc_asym_algo),
            *_structures(m),
        ]
    )


def _selected(m: Algorithms) -> str:
    return _joined(
        [
            _algorithms(registry.BASE_HASH, m.base_hash_sel) or "no hash",
            _algorithms(registry.BASE_ASYM, m.base_asym_sel),
            _algorithms(registry.PQC_ASYM, m.pqc_asym_sel),
            *_structures(m),
        ]
    )


def _digests(m: Digests) -> str:
    return _slots(m.provisioned_slot_mask)


def _get_certificate(m: GetCertificate) -> str:
    if m.slot_size_requested:
        return f"{_slot(m.slot_id)}, its size"
    return f"{_slot(m.slot_id)}, {m.length} bytes from {m.offset}"


def _certificate(m: Certificate) -> str:
    return f"{_slot(m.slot_id)}, {len(m.cert_chain)} bytes, {m.remainder_length} more"


def _challenge(m: Challenge) -> str:
    return _joined(
        [
            _slot(m.slot_id),
            _summary_type(m.measurement_summary_hash_type),
            f"nonce {_bytes(m.nonce)}",
        ]
    )


def _challenge_auth(m: ChallengeAuth) -> str:
    wants = "wants mutual authentication" if m.basic_mut_auth_req else ""
    return _joined([_slot(m.slot_id), f"chain {_bytes(m.cert_chain_hash)}", wants])


def _get_measurements(m: GetMeasurements) -> str:
    operation = m.measurement_operation
    if operation == MeasurementOperation.TOTAL_NUMBER:
        what = "how many"
    elif operation == MeasurementOperation.ALL:
        what = "all"
    else:
        what = f"index {operation}"
    signed = f"signed by {_slot(m.slot_id)}" if m.signature_requested else "unsigned"
    return _joined([what, signed, "raw" if m.raw_bit_stream_requested else ""])


def _measurements(m: Measurements) -> str:
    if not m.measurement_record:
        return f"{m.number_of_indices} measurements"
    changed = m.content_changed == ContentChanged.CHANGED
    blocks = [_block(block) for block in m.measurement_record[:4]]
    more = len(m.measurement_record) - len(blocks)
    return _joined(
        [
            *blocks,
            f"and {more} more" if more else "",
            "signed" if m.signature else "",
            "content changed meanwhile" if changed else "",
        ]
    )


def _block(block: MeasurementBlock) -> str:
    kind = ""
    if block.measurement_specification == 1:
        try:
            found = DmtfMeasurement.decode(block.measurement, _CONTEXT)
            kind = f" {_name(MeasurementKind, found.kind)}"
        except SpdmError:
            kind = " malformed"
    return f"0x{block.index:02x}{kind}"


def _key_exchange(m: KeyExchange) -> str:
    return _joined(
        [
            _slot(m.slot_id),
            f"session half 0x{m.req_session_id:04x}",
            _summary_type(m.measurement_summary_hash_type),
        ]
    )


def _heartbeat(period: int) -> str:
    return f"heartbeat every {period} s" if period else ""


def _key_exchange_rsp(m: KeyExchangeRsp) -> str:
    return _joined(
        [
            f"session half 0x{m.rsp_session_id:04x}",
            _heartbeat(m.heartbeat_period),
            "wants mutual authentication" if m.mut_auth_requested else "",
        ]
    )


def _finish(m: Finish) -> str:
    return f"signed by {_slot(m.req_slot_id)}" if m.signature_included else ""


def _psk_exchange(m: PskExchange) -> str:
    hint = safe_text(m.psk_hint.decode("utf-8", "backslashreplace"), longest=64)
    return _joined([f"hint {hint}" if hint else "", f"session half 0x{m.req_session_id:04x}"])


def _psk_exchange_rsp(m: PskExchangeRsp) -> str:
    context = "" if m.responder_context else "no context"
    return _joined(
        [f"session half 0x{m.rsp_session_id:04x}", _heartbeat(m.heartbeat_period), context]
    )


def _key_update(m: KeyUpdate | KeyUpdateAck) -> str:
    return f"{_name(KeyUpdateOperation, m.operation)}, tag {m.tag}"


def _encapsulated(m: EncapsulatedRequest | DeliverEncapsulatedResponse) -> str:
    return f"request {m.request_id}"


def _encapsulated_ack(m: EncapsulatedResponseAck) -> str:
    if m.payload_type == EncapsulatedPayload.PRESENT:
        return f"request {m.request_id}"
    if m.payload_type == EncapsulatedPayload.REQ_SLOT_NUMBER:
        return f"use {_slot(m.payload[0])}" if m.payload else "use a slot, but which is missing"
    return "no more requests"


def _end_session(m: EndSession) -> str:
    return "forget the negotiated state" if m.clear_negotiated_state else ""


def _error(m: Error) -> str:
    text = m.describe().removeprefix("ERROR ")
    if m.error_code == ErrorCode.LARGE_RESPONSE and m.extended:
        return f"{text}, handle {m.extended[0]}"
    return text


def _respond_if_ready(m: RespondIfReady) -> str:
    return f"{_code(m.request_code)}, token {m.token}"


def _chunk_send(m: ChunkSend | ChunkResponse) -> str:
    size = f"of {m.large_message_size} in all" if m.chunk_seq_no == 0 else ""
    last = "the last" if m.last_chunk else ""
    return _joined(
        [f"handle {m.handle}", f"chunk {m.chunk_seq_no}", f"{len(m.chunk)} bytes", size, last]
    )


def _chunk_get(m: ChunkGet | ChunkSendAck) -> str:
    return f"handle {m.handle}, chunk {m.chunk_seq_no}"


def _get_csr(m: GetCsr) -> str:
    return _joined(
        [
            f"key pair {m.key_pair_id}" if m.key_pair_id else "",
            f"tag {m.csr_tracking_tag}" if m.csr_tracking_tag else "",
        ]
    )


def _csr(m: Csr) -> str:
    return f"{len(m.csr_data)} bytes"


def _set_certificate(m: SetCertificate) -> str:
    return f"{_slot(m.slot_id)}, {'erase' if m.erase else f'{len(m.cert_chain)} bytes'}"


def _set_certificate_rsp(m: SetCertificateRsp) -> str:
    return _slot(m.slot_id)


def _get_mel(m: GetMeasurementExtensionLog) -> str:
    return f"{m.length} bytes from {m.offset}"


def _mel(m: MeasurementExtensionLog) -> str:
    return f"{len(m.mel)} bytes, {m.remainder_length} more"


def _get_endpoint_info(m: GetEndpointInfo) -> str:
    signed = f"signed by {_slot(m.slot_id)}" if m.signature_requested else "unsigned"
    return _joined([_name(EndpointInfoSubCode, m.sub_code), signed])


def _endpoint_info(m: EndpointInfo) -> str:
    return _joined([f"{len(m.ep_info)} bytes", "signed" if m.signature else ""])


def _get_key_pair_info(m: GetKeyPairInfo) -> str:
    return f"key pair {m.key_pair_id}"


def _key_pair_info(m: KeyPairInfo) -> str:
    return f"key pair {m.key_pair_id} of {m.total_key_pairs}, {_slots(m.assoc_cert_slot_mask)}"


def _set_key_pair_info(m: SetKeyPairInfo) -> str:
    return f"{_name(KeyPairOperation, m.operation)} key pair {m.key_pair_id}"


def _slot_management(m: SlotManagement | SlotManagementResp) -> str:
    return _name(SlotManagementSubCode, m.sub_code)


def _event_groups(m: SupportedEventTypes | SubscribeEventTypes) -> str:
    types = sum(len(group.event_types) for group in m.event_groups)
    return f"{len(m.event_groups)} groups, {types} event types"


def _send_event(m: SendEvent) -> str:
    return f"{len(m.events)} events"


def _vendor_defined(m: VendorDefinedRequest | VendorDefinedResponse) -> str:
    if is_service(m.standard_id, m.vendor_id, m.payload):
        try:
            payload = ServicePayload.decode(m.payload, _CONTEXT)
        except SpdmError as error:
            return f"service, malformed: {error}"
        try:
            return f"service {SubId(payload.sub_id).name}"
        except ValueError:
            return f"service 0x{payload.sub_id:02x}"
    vendor = f" vendor {m.vendor_id.hex()}" if m.vendor_id else ""
    return f"{_name(Registry, m.standard_id)}{vendor}, {len(m.payload)} bytes"


_LINES: dict[type[Message], Callable[[Any], str]] = {
    Version: _version,
    GetCapabilities: _get_capabilities,
    Capabilities: _capabilities,
    NegotiateAlgorithms: _negotiate,
    Algorithms: _selected,
    Digests: _digests,
    GetCertificate: _get_certificate,
    Certificate: _certificate,
    Challenge: _challenge,
    ChallengeAuth: _challenge_auth,
    GetMeasurements: _get_measurements,
    Measurements: _measurements,
    KeyExchange: _key_exchange,
    KeyExchangeRsp: _key_exchange_rsp,
    Finish: _finish,
    PskExchange: _psk_exchange,
    PskExchangeRsp: _psk_exchange_rsp,
    KeyUpdate: _key_update,
    KeyUpdateAck: _key_update,
    EncapsulatedRequest: _encapsulated,
    DeliverEncapsulatedResponse: _encapsulated,
    EncapsulatedResponseAck: _encapsulated_ack,
    EndSession: _end_session,
    Error: _error,
    RespondIfReady: _respond_if_ready,
    ChunkSend: _chunk_send,
    ChunkResponse: _chunk_send,
    ChunkGet: _chunk_get,
    ChunkSendAck: _chunk_get,
    GetCsr: _get_csr,
    Csr: _csr,
    SetCertificate: _set_certificate,
    SetCertificateRsp: _set_certificate_rsp,
    GetMeasurementExtensionLog: _get_mel,
    MeasurementExtensionLog: _mel,
    GetEndpointInfo: _get_endpoint_info,
    EndpointInfo: _endpoint_info,
    GetKeyPairInfo: _get_key_pair_info,
    KeyPairInfo: _key_pair_info,
    SetKeyPairInfo: _set_key_pair_info,
    SlotManagement: _slot_management,
    SlotManagementResp: _slot_management,
    SupportedEventTypes: _event_groups,
    SubscribeEventTypes: _event_groups,
    SendEvent: _send_event,
    VendorDefinedRequest: _vendor_defined,
    VendorDefinedResponse: _vendor_defined,
}
