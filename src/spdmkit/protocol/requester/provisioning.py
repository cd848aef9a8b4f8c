"""GET_CSR and SET_CERTIFICATE as a requester (DSP0274 10.26).

A device that must be reset first answers with `ResetRequired`: connect again after the reset, and
ask for the signing request with the tag that the error carries, or simply go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.identity import CertificateChain
from spdmkit.messages import (
    V13,
    CertificateModel,
    Csr,
    GetCsr,
    SetCertificate,
    SetCertificateRsp,
)
from spdmkit.protocol.events import SlotChanged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link

__all__ = ["erase_certificate", "get_csr", "set_certificate"]

_LARGEST_SMALL = 0xFFFF


def get_csr(
    link: Link,
    *,
    key_pair_id: int = 0,
    model: CertificateModel = CertificateModel.NONE,
    requester_info: bytes = b"",
    opaque_data: bytes = b"",
    tracking_tag: int = 0,
    overwrite: bool = False,
) -> Exchange[bytes]:
    """GET_CSR: have the responder make a signing request for one of its keys.

    Args:
        link: the way to the responder, best through a session.
        key_pair_id: the key; 0 unless several are in use (1.3).
        model: certificate model wanted; needed with several keys (1.3).
        requester_info: what to put in, DER CertificationRequestInfo, `RequesterInfo.encode()`.
        opaque_data: in the opaque data format that was negotiated.
        tracking_tag: the tag of the `ResetRequired` that an earlier GET_CSR met (1.3).
        overwrite: give up what earlier requests wait for (1.3).

    Returns:
        DER PKCS #10; `identity.verify_csr` says whether it holds.

    Raises:
        ResetRequired: ask again after a reset, with its `tracking_tag`.
        ProtocolViolation: an argument that this version or connection does not have.
        SpdmError: as `Link.ask`.
    """
    _check_key(link, key_pair_id, model)
    if link.connection.version < V13 and (tracking_tag or overwrite):
        raise ProtocolViolation("CSRTrackingTag and Overwrite need SPDM 1.3")
    request = GetCsr(
        key_pair_id=key_pair_id,
        csr_cert_model=model,
        csr_tracking_tag=tracking_tag,
        overwrite=overwrite,
        requester_info=requester_info,
        opaque_data=opaque_data,
    )
    answer = yield from link.ask(request, Csr)
    if not answer.message.csr_data:
        raise ProtocolViolation("CSR holds no signing request")
    return answer.message.csr_data


def set_certificate(
    link: Link,
    slot_id: int,
    certificates: Iterable[bytes],
    *,
    key_pair_id: int = 0,
    model: CertificateModel = CertificateModel.NONE,
) -> Exchange[None]:
    """SET_CERTIFICATE: put a chain into a slot.

    Whatever was known of the slot is out of date afterwards: read its digest and chain again. The
    event `SlotChanged` says so to whoever keeps them.

    Args:
        link: the way to the responder; outside trusted environments through a session.
        slot_id: 0 to 7.
        certificates: DER, root first, root included.
        key_pair_id: the key of the leaf; 0 unless several are in use (1.3).
        model: certificate model of the chain; needed with several keys (1.3).

    Raises:
        ResetRequired: it is stored, and takes effect with the next reset.
        ConfigurationError: the certificates make no chain structure.
        ProtocolViolation: an argument that this version or connection does not have.
        SpdmError: as `Link.ask`.
    """
    _check_key(link, key_pair_id, model)
    chain = CertificateChain.from_certificates(certificates, link.peer_hash).encode()
    if len(chain) > _LARGEST_SMALL and not link.large_forms:
        raise ProtocolViolation(
            f"a chain of {len(chain)} bytes needs SPDM 1.4 and LARGE_RESP_CAP of the responder"
        )
    request = SetCertificate(
        slot_id=slot_id, set_cert_model=model, key_pair_id=key_pair_id, cert_chain=chain
    )
    yield from _set(link, request)


def erase_certificate(link: Link, slot_id: int, *, key_pair_id: int = 0) -> Exchange[None]:
    """SET_CERTIFICATE with Erase: empty a slot; its key stays (1.3).

    Raises:
        ResetRequired: it takes effect with the next reset.
        ProtocolViolation: SPDM 1.2 has no Erase.
        SpdmError: as `Link.ask`.
    """
    if link.connection.version < V13:
        raise ProtocolViolation("slots can be erased from SPDM 1.3 on")
    request = SetCertificate(slot_id=slot_id, erase=True, key_pair_id=key_pair_id)
    yield from _set(link, request)


def _set(link: Link, request: SetCertificate) -> Exchange[None]:
    if not 0 <= request.slot_id <= 7:
        raise ProtocolViolation(f"there is no slot {request.slot_id}")
    answer = yield from link.ask(request, SetCertificateRsp)
    if answer.message.slot_id != request.slot_id:
        raise ProtocolViolation("SET_CERTIFICATE_RSP is for another slot")
    link.connection.events(SlotChanged(request.slot_id))


def _check_key(link: Link, key_pair_id: int, model: CertificateModel) -> None:
    """KeyPairID and model as this connection has them: a responder would refuse the rest."""
    context = link.connection.context
    if context.version < V13 and (key_pair_id or model):
        raise ProtocolViolation("KeyPairID and certificate model need SPDM 1.3")
    if not context.multi_key_conn_rsp:
        if key_pair_id:
            raise ProtocolViolation("KeyPairID needs several keys (MULTI_KEY_CAP)")
    elif not key_pair_id or not model:
        raise ProtocolViolation("with several keys KeyPairID and certificate model are needed")
