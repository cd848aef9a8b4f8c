"""GET_ENDPOINT_INFO (DSP0274 10.30)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Scene, answering, appending, flipping
from spdmkit.conformance.talk import Talk
from spdmkit.errors import DecodeError
from spdmkit.messages import (
    V13,
    DeviceClassList,
    EndpointInfo,
    EndpointInfoSubCode,
    ErrorCode,
    GetEndpointInfo,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.endpoint_info import get_signed_endpoint_info

CASES = Cases("endpoint-info", "DSP0274 10.30")
R = RequestCode
E = ErrorCode
F = ResponderFlags
ANY = F.EP_INFO_CAP_NO_SIG | F.EP_INFO_CAP_SIG
INFO = ResponseCode.ENDPOINT_INFO
CLASSES = EndpointInfoSubCode.DEVICE_CLASS_IDENTIFIER


@CASES.case(
    "layout",
    "ENDPOINT_INFO is well formed, and so is the list of device classes in it",
    any_of=ANY,
    since=V13,
    breaks=answering(INFO, appending(b"\x01")),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GetEndpointInfo(sub_code=CLASSES), EndpointInfo)
    try:
        DeviceClassList.decode(message.ep_info, talk.connection.context)
        fault = ""
    except DecodeError as error:
        fault = f": {error}"
    talk.check(not fault, f"the list of device classes is well formed{fault}")


@CASES.case(
    "signature",
    "the signature covers the negotiation, the request and the response",
    needs=F.EP_INFO_CAP_SIG | F.CERT_CAP,
    since=V13,
    breaks=answering(INFO, flipping(-1)),
)
def signature(talk: Talk) -> Exchange[None]:
    key = yield from talk.chain()
    signed = get_signed_endpoint_info(talk.outside, key, CLASSES)
    yield from talk.holds(signed, "the signature of ENDPOINT_INFO verifies")


def _mended(raw: bytearray, _scene: Scene) -> bytes | bytearray:
    if raw[1] != R.GET_ENDPOINT_INFO:
        return raw
    return bytes((raw[0], R.GET_ENDPOINT_INFO, CLASSES, 0)) + bytes(4)


for _code in (0x00, 0x02, 0xFF):
    CASES.refuses(
        f"sub-code-{_code:02x}",
        f"SubCode {_code:#04x}, which is reserved, is refused",
        lambda talk, code=_code: talk.header(R.GET_ENDPOINT_INFO, code) + bytes(4),  # type: ignore[misc] # default argument binds the loop variable
        E.UNSUPPORTED_REQUEST,
        E.INVALID_REQUEST,
        any_of=ANY,
        since=V13,
        mend=_mended,
    )
for _cut in (1, 4):
    CASES.refuses(
        f"cut-{_cut}",
        f"GET_ENDPOINT_INFO without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: (talk.header(R.GET_ENDPOINT_INFO, CLASSES) + bytes(4))[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        any_of=ANY,
        since=V13,
        mend=_mended,
    )
