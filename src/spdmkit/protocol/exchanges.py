"""Everything a requester can ask, in one place: the exchanges of DSP0274.

Each is a generator for a driver to run, asynchronous or blocking:

    link = Link(connection.endpoint.connection)
    digests = await connection.run(get_digests(link))       # transports.aio
    digests = connection.run(get_digests(link))             # transports.blocking

A session's exchanges take the link that `key_exchange` or `psk_exchange` returned.
"""

from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests, get_slot_size
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.encapsulated import serve_encapsulated
from spdmkit.protocol.requester.endpoint_info import (
    device_classes,
    get_endpoint_info,
    get_signed_endpoint_info,
)
from spdmkit.protocol.requester.events import (
    await_events,
    await_measurement_change,
    changed_measurements,
    changed_slots,
    dmtf_event_group,
    get_supported_event_types,
    send_events,
    subscribe_event_types,
)
from spdmkit.protocol.requester.key_pairs import (
    change_key_pair,
    erase_key_pair,
    generate_key_pair,
    get_key_pair_info,
    get_key_pairs,
)
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.measurements import (
    get_measurement_count,
    get_measurements,
    get_signed_measurements,
)
from spdmkit.protocol.requester.negotiate import (
    get_capabilities,
    get_version,
    negotiate,
    negotiate_algorithms,
)
from spdmkit.protocol.requester.provisioning import erase_certificate, get_csr, set_certificate
from spdmkit.protocol.requester.resume import resume_by_key, resume_by_psk
from spdmkit.protocol.requester.sessions import (
    end_session,
    heartbeat,
    key_exchange,
    key_update,
    psk_exchange,
)
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
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.requester.vendor import vendor_defined

__all__ = [
    "Link",
    "await_events",
    "await_measurement_change",
    "challenge",
    "change_key_pair",
    "changed_measurements",
    "changed_slots",
    "configure_bank",
    "device_classes",
    "dmtf_event_group",
    "end_session",
    "erase_bank_slot",
    "erase_certificate",
    "erase_key_pair",
    "generate_key_pair",
    "get_bank_certificate",
    "get_bank_csr",
    "get_bank_details",
    "get_bank_info",
    "get_capabilities",
    "get_certificate",
    "get_csr",
    "get_digests",
    "get_endpoint_info",
    "get_key_pair_info",
    "get_key_pairs",
    "get_measurement_count",
    "get_measurement_log",
    "get_measurements",
    "get_signed_endpoint_info",
    "get_signed_measurements",
    "get_slot_size",
    "get_slot_sub_codes",
    "get_supported_event_types",
    "get_version",
    "heartbeat",
    "key_exchange",
    "key_update",
    "negotiate",
    "negotiate_algorithms",
    "poll",
    "psk_exchange",
    "resume_by_key",
    "resume_by_psk",
    "send_events",
    "serve_encapsulated",
    "set_bank_certificate",
    "set_certificate",
    "subscribe_event_types",
    "vendor_defined",
]
