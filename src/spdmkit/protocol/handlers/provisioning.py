"""GET_CSR and SET_CERTIFICATE, answered (DSP0274 10.26).

What the messages say is checked here; who may provision, which slots and keys there are and
whether a chain is any good is for the device to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.identity import CertificateChain
from spdmkit.messages import (
    CertificateModel,
    Csr,
    ErrorCode,
    GetCsr,
    SetCertificate,
    SetCertificateRsp,
    parse_opaque,
)
from spdmkit.protocol.handlers.call import Call, Steps, slow
from spdmkit.protocol.responder.device import CsrRequest, SetCertificateRequest

if TYPE_CHECKING:
    from spdmkit.crypto.registry import HashAlgorithm

__all__ = ["checked_chain", "checked_key", "get_csr", "set_certificate"]

LAST_SLOT = 7
LARGEST_SMALL_CHAIN = 0xFFFF
_LENGTH_SIZE = 4


def get_csr(call: Call) -> Steps:
    """GET_CSR -> CSR: a signing request for one of our keys (10.26.1)."""
    request = call.typed(GetCsr)
    device = call.the_device()
    checked_key(call, request.key_pair_id, request.csr_cert_model)
    parse_opaque(request.opaque_data, call.context)
    wanted = CsrRequest(
        slot_algorithm=call.signature_algorithm.name,
        hash_algorithm=call.connection.algorithms.base_hash.name,
        key_pair_id=request.key_pair_id,
        model=CertificateModel(request.csr_cert_model),
        tracking_tag=request.csr_tracking_tag,
        overwrite=request.overwrite,
        requester_info=request.requester_info,
        opaque=request.opaque_data,
        peer=call.peer,
    )
    csr: bytes = yield from slow(lambda: device.certificate_signing_request(wanted))
    return call.answer(Csr(csr_data=csr))


def set_certificate(call: Call) -> Steps:
    """SET_CERTIFICATE -> SET_CERTIFICATE_RSP: a chain for a slot, or its end (10.26.2)."""
    request = call.typed(SetCertificate)
    device = call.the_device()
    connection = call.connection
    if request.slot_id > LAST_SLOT:
        raise ProtocolViolation(f"there is no slot {request.slot_id}")
    certificates: tuple[bytes, ...] = ()
    if request.erase:
        if any(request.cert_chain) or request.set_cert_model:
            raise ProtocolViolation("a request to erase a slot with a chain or a model in it")
        if request.key_pair_id and not call.context.multi_key_conn:
            raise ProtocolViolation("KeyPairID without several keys")
    else:
        checked_key(call, request.key_pair_id, request.set_cert_model)
        if request.slot_id == 0 and request.set_cert_model == CertificateModel.GENERIC:
            raise ProtocolViolation("slot 0 holds a device or alias certificate")
        certificates = checked_chain(
            request.cert_chain, connection.algorithms.base_hash, large=call.large_forms
        )
    wanted = SetCertificateRequest(
        slot_id=request.slot_id,
        model=CertificateModel(request.set_cert_model),
        key_pair_id=request.key_pair_id,
        erase=request.erase,
        certificates=certificates,
        algorithm=call.signature_algorithm.name,
        peer=call.peer,
    )
    yield from slow(lambda: device.set_certificate(wanted))
    return call.answer(SetCertificateRsp(slot_id=request.slot_id))


def checked_key(call: Call, key_pair_id: int, model: int) -> None:
    """KeyPairID and certificate model as this kind of connection has them.

    Raises:
        ProtocolViolation: InvalidRequest.
    """
    if model > CertificateModel.GENERIC:
        raise ProtocolViolation(f"certificate model {model} is reserved")
    if not call.context.multi_key_conn:
        if key_pair_id:
            raise ProtocolViolation("KeyPairID without several keys")
        if model == CertificateModel.GENERIC:
            raise ProtocolViolation("generic certificates need several keys")
    elif not key_pair_id or not model:
        raise ProtocolViolation("with several keys KeyPairID and certificate model are needed")


def checked_chain(data: bytes, algorithm: HashAlgorithm, *, large: bool) -> tuple[bytes, ...]:
    """The certificates of a chain structure with its root, root first.

    Args:
        data: the structure; zeros after it are a transport's padding.
        algorithm: the negotiated base hash.
        large: chains above 64 KiB are allowed (1.4, LARGE_RESP_CAP).

    Raises:
        ProtocolViolation: DataTooLarge; or InvalidRequest when RootHash is not that of the first
            certificate.
        DecodeError: not such a structure.
    """
    length = int.from_bytes(data[:_LENGTH_SIZE], "little")
    if _LENGTH_SIZE < length < len(data) and not any(data[length:]):
        data = data[:length]
    if len(data) > LARGEST_SMALL_CHAIN and not large:
        raise ProtocolViolation(
            f"a chain of {len(data)} bytes needs LARGE_RESP_CAP",
            error_code=ErrorCode.DATA_TOO_LARGE,
            extended=len(data).to_bytes(4, "little"),
        )
    chain = CertificateChain.parse(data, algorithm, large)
    if chain.root_hash != algorithm.digest(chain.certificates[0]):
        raise ProtocolViolation("the chain does not begin with the certificate that RootHash names")
    return chain.certificates
