"""Which capabilities an endpoint announces (DSP0274 10.3)."""

from __future__ import annotations

from spdmkit.messages import V11, RequesterFlags, ResponderFlags
from spdmkit.messages.capabilities import DEFINED

__all__ = ["requester_capabilities", "requester_flags", "responder_flags"]

Q = RequesterFlags


def requester_capabilities(
    *,
    sessions: bool = False,
    psk: bool = False,
    mutual: bool = False,
    provisioned_key: bool = False,
    events: bool = False,
) -> RequesterFlags:
    """The capabilities of a requester that wants to do certain things.

    Args:
        sessions: open sessions by key exchange.
        psk: open sessions by pre-shared key.
        mutual: prove its own identity, with certificates.
        provisioned_key: prove it with a key that the responder was given beforehand instead.
        events: send events of its own.
    """
    flags = Q.CHUNK_CAP | Q.LARGE_RESP_CAP
    if sessions or psk:
        flags |= Q.ENCRYPT_CAP | Q.MAC_CAP | Q.HBEAT_CAP | Q.KEY_UPD_CAP | Q.ENCAP_CAP
    if sessions:
        flags |= Q.KEY_EX_CAP
    if psk:
        flags |= Q.PSK_CAP
    if mutual or provisioned_key:
        flags |= Q.MUT_AUTH_CAP | Q.ENCAP_CAP | Q.EP_INFO_CAP_SIG
        flags |= Q.PUB_KEY_ID_CAP if provisioned_key else Q.CERT_CAP | Q.CHAL_CAP
    if events:
        flags |= Q.EVENT_CAP
    return flags


def requester_flags(flags: int, version: int) -> int:
    """What of our capabilities an SPDM version knows."""
    if version < V11:
        return 0
    return int(flags) & DEFINED[RequesterFlags][version]


def responder_flags(flags: int, version: int) -> int:
    """What of our capabilities an SPDM version knows."""
    return int(flags) & DEFINED[ResponderFlags][version]
