"""GET_CSR and SET_CERTIFICATE (DSP0274 10.26): nothing here changes the device."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import Misbehaviour, Scene, answering, flipping
from spdmkit.conformance.talk import Talk
from spdmkit.errors import SpdmError
from spdmkit.identity import verify_csr
from spdmkit.messages import (
    V12,
    V13,
    CertificateModel,
    Csr,
    ErrorCode,
    GetCsr,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("provisioning", "DSP0274 10.26")
R = RequestCode
E = ErrorCode
F = ResponderFlags
_PERMITTED = (
    E.RESET_REQUIRED,
    E.SESSION_REQUIRED,
    E.BUSY,
    E.UNSPECIFIED,
    E.OPERATION_FAILED,
)
"""How a device may refuse a right request: it decides who may provision it."""


def _request(talk: Talk) -> GetCsr:
    several = talk.connection.context.multi_key_conn_rsp
    model = CertificateModel.DEVICE if several else CertificateModel.NONE
    return GetCsr(key_pair_id=1 if several else 0, csr_cert_model=model)


def _csr(talk: Talk) -> Exchange[None]:
    key = yield from talk.chain()
    asked = _request(talk)
    answer = yield from talk.ask(asked)
    if answer[1] == ResponseCode.ERROR:
        talk.refused(answer, *_PERMITTED)
        return
    message = talk.decoded(answer, Csr, asked)
    try:
        request = verify_csr(message.csr_data)
    except SpdmError as error:
        talk.need(False, f"the signing request is signed by its own key: {error}")
        return
    talk.check(True, "the signing request is signed by its own key")
    same_kind = request.public_key.key_type == key.public_key.key_type
    talk.check(same_kind, "its key is of the kind that was negotiated")


for _stage, _name in ((Stage.NEGOTIATED, "clear"), (Stage.SESSION, "session")):
    CASES.case(
        f"csr-{_name}",
        f"GET_CSR ({_name}) gets a signing request that holds, or is refused",
        stage=_stage,
        needs=F.CSR_CAP | F.CERT_CAP,
        since=V12,
        breaks=answering(ResponseCode.CSR, flipping(-1)),
    )(_csr)


def _sane(raw: bytearray, scene: Scene) -> bytes | bytearray:
    """A GET_CSR or SET_CERTIFICATE is taken for a request that is right."""
    if raw[1] not in (R.GET_CSR, R.SET_CERTIFICATE):
        return raw
    return bytes((scene.connection.version, R.GET_DIGESTS, 0, 0))


for _cut in (1, 3, 4):
    CASES.refuses(
        f"csr-cut-{_cut}",
        f"GET_CSR without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: _request(talk).encode(talk.connection.context)[:-cut],  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        needs=F.CSR_CAP,
        since=V12,
        mend=_sane,
    )
CASES.refuses(
    "csr-length-beyond",
    "GET_CSR whose RequesterInfoLength goes beyond the message is refused",
    lambda talk: talk.header(R.GET_CSR) + b"\xff\x00\x00\x00",
    E.INVALID_REQUEST,
    needs=F.CSR_CAP,
    since=V12,
    mend=_sane,
)
CASES.refuses(
    "csr-model",
    "a certificate model that is reserved is refused",
    lambda talk: talk.header(R.GET_CSR, 0, 0x07) + bytes(4),
    E.INVALID_REQUEST,
    needs=F.CSR_CAP,
    since=V13,
    mend=_sane,
)
CASES.refuses(
    "csr-tag",
    "the tag of a request that does not wait is refused",
    lambda talk: talk.header(R.GET_CSR, 0, 5 << 3) + bytes(4),
    needs=F.CSR_CAP,
    since=V13,
    mend=_sane,
)
for _slot in (8, 15):
    CASES.refuses(
        f"set-slot-{_slot}",
        f"SET_CERTIFICATE to slot {_slot}, which does not exist, is refused",
        lambda talk, slot=_slot: talk.header(R.SET_CERTIFICATE, slot) + bytes(64),  # type: ignore[misc] # likewise
        needs=F.SET_CERT_CAP,
        since=V12,
        mend=_sane,
    )
for _size in (0, 3, 20):
    CASES.refuses(
        f"set-cut-{_size}",
        f"SET_CERTIFICATE with a chain structure of {_size} bytes is refused",
        lambda talk, size=_size: talk.header(R.SET_CERTIFICATE, 1) + bytes(size),  # type: ignore[misc] # likewise
        needs=F.SET_CERT_CAP,
        since=V12,
        mend=_sane,
    )


def _nonsense(talk: Talk) -> bytes:
    size = 4 + talk.outside.peer_hash.size + 40
    chain = size.to_bytes(4, "little") + bytes(size - 4)
    return talk.header(R.SET_CERTIFICATE, 1) + chain


CASES.refuses(
    "set-nonsense",
    "SET_CERTIFICATE with certificates that are none is refused, and changes nothing",
    _nonsense,
    needs=F.SET_CERT_CAP,
    since=V12,
    mend=_sane,
)


@CASES.case(
    "set-keeps",
    "a SET_CERTIFICATE that is refused leaves the slots as they were",
    needs=F.SET_CERT_CAP | F.CERT_CAP,
    since=V12,
    breaks=Misbehaviour(response=lambda sent, _r, scene: _forgotten(sent, scene)),
)
def set_keeps(talk: Talk) -> Exchange[None]:
    before = yield from talk.ask(talk.header(R.GET_DIGESTS))
    yield from talk.expect_refusal(_nonsense(talk))
    after = yield from talk.ask(talk.header(R.GET_DIGESTS))
    talk.equal(after, before, "DIGESTS after a SET_CERTIFICATE that was refused")


def _forgotten(sent: bytearray, scene: Scene) -> bytearray:
    if sent[1] == ResponseCode.DIGESTS and scene.count == 2:
        sent[-1] ^= 1
    return sent
