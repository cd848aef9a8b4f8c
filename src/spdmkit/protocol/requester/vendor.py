"""VENDOR_DEFINED_REQUEST as a requester (DSP0274 10.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.errors import PeerError, ProtocolViolation
from spdmkit.messages import ErrorCode, VendorDefinedRequest, VendorDefinedResponse

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link

__all__ = ["vendor_defined"]

_LARGEST_SMALL = 0xFFFF


def vendor_defined(
    link: Link, standard_id: int, vendor_id: bytes, payload: bytes
) -> Exchange[bytes]:
    """VENDOR_DEFINED_REQUEST: the payload of the response; the large form where it is needed (1.4).

    Args:
        link: the way to the responder, or through a session.
        standard_id: `Registry` of whoever defines the payload.
        vendor_id: the vendor's number in that registry; empty for the registry's own.
        payload: what they define.

    Raises:
        ProtocolViolation: too long for this version, or the answer is of another vendor.
        SpdmError: as `Link.ask`.
    """
    large = len(payload) > _LARGEST_SMALL
    able = link.large_forms
    if large and not able:
        raise ProtocolViolation(
            f"a payload of {len(payload)} bytes needs SPDM 1.4 and LARGE_RESP_CAP of the responder"
        )
    try:
        return (yield from _ask(link, standard_id, vendor_id, payload, large=large))
    except PeerError as error:
        if error.code != ErrorCode.DATA_TOO_LARGE or large or not able:
            raise
    return (yield from _ask(link, standard_id, vendor_id, payload, large=True))


def _ask(
    link: Link, standard_id: int, vendor_id: bytes, payload: bytes, *, large: bool
) -> Exchange[bytes]:
    request = VendorDefinedRequest(
        large=large, standard_id=standard_id, vendor_id=vendor_id, payload=payload
    )
    message = (yield from link.ask(request, VendorDefinedResponse)).message
    if (message.standard_id, message.vendor_id) != (standard_id, vendor_id):
        raise ProtocolViolation("VENDOR_DEFINED_RESPONSE is of another vendor than asked")
    if message.large != large:
        raise ProtocolViolation("VENDOR_DEFINED_RESPONSE is in another form than asked for")
    return message.payload
