"""Everything a requester can ask, in one place: the exchanges of DSP0274.

Each is a generator for a driver to run, asynchronous or blocking:

    link = Link(connection.endpoint.connection)
    digests = await connection.run(get_digests(link))       # transports.aio
    digests = connection.run(get_digests(link))             # transports.blocking

A session's exchanges take the link that `key_exchange` or `psk_exchange` returned.
"""

from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.encapsulated import serve_encapsulated
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
from spdmkit.protocol.requester.sessions import (
    end_session,
    heartbeat,
    key_exchange,
    key_update,
    psk_exchange,
)

__all__ = [
    "Link",
    "challenge",
    "end_session",
    "erase_certificate",
    "get_capabilities",
    "get_certificate",
    "get_csr",
    "get_digests",
    "get_measurement_count",
    "get_measurement_log",
    "get_measurements",
    "get_signed_measurements",
    "get_version",
    "heartbeat",
    "key_exchange",
    "key_update",
    "negotiate",
    "negotiate_algorithms",
    "psk_exchange",
    "serve_encapsulated",
    "set_certificate",
]
