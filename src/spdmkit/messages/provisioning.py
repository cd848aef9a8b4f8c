"""Provisioning certificates: CSR and SET_CERTIFICATE (DSP0274 10.26)."""

from __future__ import annotations

from spdmkit.messages.base import Message, message
from spdmkit.messages.certificates import OPAQUE_DATA_LIMIT, CertificateModel
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V12, V13
from spdmkit.wire.layout import bits, counted, flag, length_of, reserved, rest, u8, word

__all__ = ["Csr", "GetCsr", "SetCertificate", "SetCertificateRsp"]


@message(RequestCode.GET_CSR, clause="10.26.1", since=V12)
class GetCsr(Message):
    """GET_CSR: make a certificate signing request.

    Attributes:
        key_pair_id: 0 unless the Responder uses several keys.
        csr_tracking_tag: 0 for a new request, else the tag that ResetRequired gave.
        requester_info: DER CertificationRequestInfo of PKCS #10, or empty.
    """

    key_pair_id: int = u8(reserved_before=V13)
    _param2 = word("Param2")
    csr_cert_model: int = bits(_param2, 0, 3, since=V13, display=CertificateModel)
    csr_tracking_tag: int = bits(_param2, 3, 3, since=V13)
    overwrite: bool = flag(_param2, 7, since=V13)
    _info_length = length_of("requester_info", 2, "RequesterInfoLength")
    _opaque_length = length_of("opaque_data", 2, "OpaqueDataLength")
    requester_info: bytes = counted("_info_length")
    opaque_data: bytes = counted("_opaque_length", maximum=OPAQUE_DATA_LIMIT)


@message(ResponseCode.CSR, clause="10.26.1", since=V12)
class Csr(Message):
    """CSR: a DER certificate signing request of PKCS #10."""

    _param1 = reserved(1)
    _param2 = reserved(1)
    _csr_length = length_of("csr_data", 2, "CSRLength")
    _reserved = reserved(2)
    csr_data: bytes = counted("_csr_length", "CSRdata")


@message(RequestCode.SET_CERTIFICATE, clause="10.26.2", since=V12)
class SetCertificate(Message):
    """SET_CERTIFICATE: put a chain into a slot, or erase it.

    Attributes:
        key_pair_id: 0 unless the Responder uses several keys.
        cert_chain: the whole chain structure, root certificate included; empty to erase.
    """

    _param1 = word("Param1")
    slot_id: int = bits(_param1, 0, 4)
    set_cert_model: int = bits(_param1, 4, 3, since=V13, display=CertificateModel)
    erase: bool = flag(_param1, 7, since=V13)
    key_pair_id: int = u8(reserved_before=V13)
    cert_chain: bytes = rest()


@message(ResponseCode.SET_CERTIFICATE_RSP, clause="10.26.2", since=V12)
class SetCertificateRsp(Message):
    """SET_CERTIFICATE_RSP: done."""

    _param1 = word("Param1")
    slot_id: int = bits(_param1, 0, 4)
    _param2 = reserved(1)
