"""Which handler answers which request, and what capability it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit import messages as m
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode, RequestCode, RequesterFlags, ResponderFlags
from spdmkit.protocol.handlers import (
    certificates,
    endpoint_info,
    events,
    key_pairs,
    measurements,
    negotiation,
    provisioning,
    sessions,
    slots,
    vendor,
)
from spdmkit.protocol.handlers.call import Call, Outcome
from spdmkit.protocol.handlers.entry import Entry
from spdmkit.protocol.responder import flow

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection

__all__ = ["HANDLERS", "Entry", "missing_capability"]

R = RequestCode
F = ResponderFlags
Q = RequesterFlags


def _elsewhere(call: Call) -> Outcome:
    """Requests that the endpoint answers itself never reach a handler."""
    raise ProtocolViolation(
        f"{call.request.name} is answered by the endpoint", error_code=ErrorCode.UNSPECIFIED
    )


HANDLERS: dict[RequestCode, Entry] = {
    R.GET_VERSION: Entry(m.GetVersion, negotiation.get_version),
    R.GET_CAPABILITIES: Entry(m.GetCapabilities, negotiation.get_capabilities),
    R.NEGOTIATE_ALGORITHMS: Entry(m.NegotiateAlgorithms, negotiation.negotiate_algorithms),
    R.GET_DIGESTS: Entry(m.GetDigests, certificates.get_digests, F.CERT_CAP),
    R.GET_CERTIFICATE: Entry(m.GetCertificate, certificates.get_certificate, F.CERT_CAP),
    R.CHALLENGE: Entry(m.Challenge, flow.challenge_and_ask, F.CHAL_CAP),
    R.GET_MEASUREMENTS: Entry(m.GetMeasurements, measurements.get_measurements, F.MEAS_CAP_MASK),
    R.GET_MEASUREMENT_EXTENSION_LOG: Entry(
        m.GetMeasurementExtensionLog, measurements.get_measurement_extension_log, F.MEL_CAP
    ),
    R.GET_CSR: Entry(m.GetCsr, provisioning.get_csr, F.CSR_CAP),
    R.SET_CERTIFICATE: Entry(m.SetCertificate, provisioning.set_certificate, F.SET_CERT_CAP),
    R.GET_ENDPOINT_INFO: Entry(
        m.GetEndpointInfo, endpoint_info.get_endpoint_info, F.EP_INFO_CAP_MASK
    ),
    R.GET_SUPPORTED_EVENT_TYPES: Entry(
        m.GetSupportedEventTypes, events.get_supported_event_types, F.EVENT_CAP
    ),
    R.SUBSCRIBE_EVENT_TYPES: Entry(
        m.SubscribeEventTypes, events.subscribe_event_types, F.EVENT_CAP
    ),
    R.SEND_EVENT: Entry(m.SendEvent, events.send_event, requester=Q.EVENT_CAP),
    R.GET_KEY_PAIR_INFO: Entry(
        m.GetKeyPairInfo, key_pairs.get_key_pair_info, F.GET_KEY_PAIR_INFO_CAP
    ),
    R.SET_KEY_PAIR_INFO: Entry(
        m.SetKeyPairInfo, key_pairs.set_key_pair_info, F.SET_KEY_PAIR_INFO_CAP
    ),
    R.SLOT_MANAGEMENT: Entry(m.SlotManagement, slots.slot_management),
    R.KEY_EXCHANGE: Entry(m.KeyExchange, sessions.key_exchange, F.KEY_EX_CAP, Q.KEY_EX_CAP),
    R.FINISH: Entry(m.Finish, sessions.finish, F.KEY_EX_CAP, Q.KEY_EX_CAP),
    R.PSK_EXCHANGE: Entry(m.PskExchange, sessions.psk_exchange, F.PSK_CAP_MASK, Q.PSK_CAP),
    R.PSK_FINISH: Entry(m.PskFinish, sessions.psk_finish, F.PSK_CAP_MASK, Q.PSK_CAP),
    R.HEARTBEAT: Entry(m.Heartbeat, sessions.heartbeat, F.HBEAT_CAP, Q.HBEAT_CAP),
    R.KEY_UPDATE: Entry(m.KeyUpdate, sessions.key_update, F.KEY_UPD_CAP, Q.KEY_UPD_CAP),
    R.END_SESSION: Entry(m.EndSession, sessions.end_session),
    R.GET_ENCAPSULATED_REQUEST: Entry(
        m.GetEncapsulatedRequest, flow.get_encapsulated_request, F.ENCAP_CAP, Q.ENCAP_CAP
    ),
    R.DELIVER_ENCAPSULATED_RESPONSE: Entry(
        m.DeliverEncapsulatedResponse, flow.deliver, F.ENCAP_CAP, Q.ENCAP_CAP
    ),
    R.VENDOR_DEFINED_REQUEST: Entry(m.VendorDefinedRequest, vendor.vendor_defined),
    R.RESPOND_IF_READY: Entry(m.RespondIfReady, _elsewhere),
    R.CHUNK_SEND: Entry(m.ChunkSend, _elsewhere, F.CHUNK_CAP, Q.CHUNK_CAP),
    R.CHUNK_GET: Entry(m.ChunkGet, _elsewhere, F.CHUNK_CAP, Q.CHUNK_CAP),
}


def missing_capability(entry: Entry, connection: Connection) -> str:
    """What capability a request lacks on this connection, in words; empty when it lacks none."""
    name = entry.message.name
    if entry.responder and not connection.responder.flags & entry.responder:
        return f"{name} needs a capability this responder did not announce"
    if entry.requester and not connection.requester.flags & entry.requester:
        return f"{name} needs a capability the requester did not announce"
    return ""
