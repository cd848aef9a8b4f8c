"""Which requests a responder may encapsulate, and what answers them at the requester (10.21)."""

from __future__ import annotations

from spdmkit import messages as m
from spdmkit.messages import RequestCode, RequesterFlags, ResponderFlags
from spdmkit.protocol.handlers import certificates, endpoint_info, events, sessions
from spdmkit.protocol.handlers.entry import Entry

__all__ = ["ENCAPSULATED", "ENCAPSULATED_SINCE"]

R = RequestCode
Q = RequesterFlags

ENCAPSULATED: dict[int, Entry] = {
    R.GET_DIGESTS: Entry(m.GetDigests, certificates.get_digests, requester=Q.CERT_CAP),
    R.GET_CERTIFICATE: Entry(m.GetCertificate, certificates.get_certificate, requester=Q.CERT_CAP),
    R.CHALLENGE: Entry(m.Challenge, certificates.challenge, requester=Q.CHAL_CAP),
    R.GET_ENDPOINT_INFO: Entry(
        m.GetEndpointInfo, endpoint_info.get_endpoint_info, requester=Q.EP_INFO_CAP_MASK
    ),
    R.GET_SUPPORTED_EVENT_TYPES: Entry(
        m.GetSupportedEventTypes, events.get_supported_event_types, requester=Q.EVENT_CAP
    ),
    R.SUBSCRIBE_EVENT_TYPES: Entry(
        m.SubscribeEventTypes, events.subscribe_event_types, requester=Q.EVENT_CAP
    ),
    R.SEND_EVENT: Entry(m.SendEvent, events.send_event, responder=ResponderFlags.EVENT_CAP),
    R.KEY_UPDATE: Entry(m.KeyUpdate, sessions.key_update, requester=Q.KEY_UPD_CAP),
    R.END_SESSION: Entry(m.EndSession, sessions.end_session),
}
"""Request code -> how the requester answers; `Entry` names what each side must announce for it."""

ENCAPSULATED_SINCE: dict[int, int] = {R.END_SESSION: m.V14}
"""The version from which on a request may be encapsulated, where it is older than that itself."""
