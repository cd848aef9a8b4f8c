"""Steps of our requester that read or change what the emulator's responder is and holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator import samples
from emulator.failed import Failed
from spdmkit.identity import verify_csr
from spdmkit.messages import CertificateModel, KeyPairOperation
from spdmkit.messages.events import DmtfEventType
from spdmkit.messages.key_pairs import SetKeyPairInfo, SetKeyPairInfoAck
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.encapsulated import serve_encapsulated
from spdmkit.protocol.requester.endpoint_info import (
    device_classes,
    get_endpoint_info,
    get_signed_endpoint_info,
)
from spdmkit.protocol.requester.events import dmtf_event_group, subscribe_event_types
from spdmkit.protocol.requester.key_pairs import get_key_pairs
from spdmkit.protocol.requester.provisioning import get_csr, set_certificate
from spdmkit.transports.emu import EmuCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.requester import Visit

__all__ = ["STEPS"]


def _endpoint_info(visit: Visit, link: Link) -> None:
    """The same information with a signature and without."""
    info = visit.run(get_endpoint_info(link))
    if not device_classes(link, info).identifiers:
        raise Failed("ENDPOINT_INFO names no device class")
    signed = visit.run(get_signed_endpoint_info(link, visit.key, slot_id=visit.case.slot & 0xF))
    if signed.info != info:
        raise Failed("the signed information is another")


def _encapsulated_endpoint_info(visit: Visit, link: Link) -> None:
    """The responder asks for ours."""
    visit.connection.command(EmuCommand.OOB_ENCAP_ENDPOINT_INFO, b"")
    if not visit.run(serve_encapsulated(link, visit.credentials)):
        raise Failed("the responder did not ask for endpoint information")


def _key_pairs(visit: Visit, link: Link) -> None:
    pairs = visit.run(get_key_pairs(link))
    if not pairs:
        raise Failed("there are no key pairs")
    if link.connection.context.multi_key_conn_rsp:
        digests = visit.run(get_digests(link))
        for slot_id, slot in digests.slots.items():
            if not pairs[slot.key_pair_id].assoc_cert_slot_mask >> slot_id & 1:
                raise Failed(f"key pair {slot.key_pair_id} does not own slot {slot_id}")


def _set_key_pair(visit: Visit, link: Link) -> None:
    """Take a key pair out of its slots, and erase it: what the emulator's own requester does."""
    last = max(visit.run(get_key_pairs(link)))
    for operation in (KeyPairOperation.CHANGE, KeyPairOperation.ERASE):
        request = SetKeyPairInfo(operation=operation, key_pair_id=last)
        visit.run(link.ask(request, SetKeyPairInfoAck))


def _csr(visit: Visit, link: Link) -> None:
    several = link.connection.context.multi_key_conn_rsp
    request = visit.run(
        get_csr(
            link,
            key_pair_id=1 if several else 0,
            model=CertificateModel.DEVICE if several else CertificateModel.NONE,
        )
    )
    verify_csr(request)


def _set_certificate(visit: Visit, link: Link) -> None:
    """The chain that slot 0 has, into slot 0 outside of sessions and into slot 1 inside.

    The emulator stores it, but goes on serving what it started with, so nothing is read back.
    """
    several = link.connection.context.multi_key_conn_rsp
    chain = samples.chain(visit.keys, visit.case.suite.asym, "responder")
    visit.run(
        set_certificate(
            link,
            0 if link is visit.link else 1,
            chain,
            key_pair_id=1 if several else 0,
            model=CertificateModel.DEVICE if several else CertificateModel.NONE,
        )
    )


def _subscribe(visit: Visit, link: Link) -> None:
    """All event types, some, and none again; the emulator never sends an event."""
    visit.run(subscribe_event_types(link, [dmtf_event_group()]))
    visit.run(subscribe_event_types(link, [dmtf_event_group([DmtfEventType.EVENT_LOST])]))
    visit.run(subscribe_event_types(link, []))


_EITHER: dict[str, Callable[[Visit, Link], None]] = {
    "endpoint-info": _endpoint_info,
    "encapsulated-endpoint-info": _encapsulated_endpoint_info,
    "key-pairs": _key_pairs,
    "set-key-pair": _set_key_pair,
    "csr": _csr,
    "subscribe": _subscribe,
    "set-certificate": _set_certificate,
}


def _outside(step: Callable[[Visit, Link], None]) -> Callable[[Visit], None]:
    return lambda visit: step(visit, visit.link)


def _inside(step: Callable[[Visit, Link], None]) -> Callable[[Visit], None]:
    return lambda visit: step(visit, visit.session.link)


STEPS: dict[str, Callable[[Visit], None]] = {
    **{name: _outside(step) for name, step in _EITHER.items()},
    **{f"session {name}": _inside(step) for name, step in _EITHER.items()},
}
"""Each of them, outside sessions and inside."""
