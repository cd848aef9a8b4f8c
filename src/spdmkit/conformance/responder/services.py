"""Services of DSP0287 clause 7, as a responder has to treat them."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Misbehaviour, Scene
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V12,
    ErrorCode,
    Registry,
    RequestCode,
    ResponseCode,
    VendorDefinedRequest,
    VendorDefinedResponse,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("services", "DSP0287 7")
R = RequestCode
E = ErrorCode
HEAD = (287).to_bytes(2, "little") + b"\x00\x10"
"""DSP number and version that begin each payload."""
GET_SERVICE_REQUEST, SERVICE_REQUEST = 0x00, 0x80
VERIFICATION_RESULTS, SET_REFERENCE, SET_POLICY = 0x02, 0x05, 0x06


def _payload(sub: int, data: bytes) -> bytes:
    return HEAD + bytes((sub,)) + len(data).to_bytes(2, "little") + b"\x00" + data


def _request(sub: int, data: bytes) -> VendorDefinedRequest:
    return VendorDefinedRequest(standard_id=Registry.DMTF, payload=_payload(sub, data))


def _wrong_service(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    """A service request without the service."""
    if asked[1] != R.VENDOR_DEFINED_REQUEST:
        return sent
    body = _payload(SERVICE_REQUEST, b"\x00")
    head = bytes((asked[0], ResponseCode.VENDOR_DEFINED_RESPONSE, 0, 0, 0, 0, 0))
    return head + len(body).to_bytes(2, "little") + body


@CASES.case(
    "service-request",
    "GET_SERVICE_REQUEST gets a well formed SERVICE_REQUEST, or is not supported",
    clause="DSP0287 7.2",
    breaks=Misbehaviour(response=_wrong_service),
)
def service_request(talk: Talk) -> Exchange[None]:
    asked = _request(GET_SERVICE_REQUEST, b"\xff" + bytes(31) + bytes(4))
    answer = yield from talk.ask(asked)
    if answer[1] == ResponseCode.ERROR:
        talk.refused(answer, E.UNSUPPORTED_REQUEST, E.INVALID_REQUEST, E.UNEXPECTED_REQUEST)
        return
    payload = talk.decoded(answer, VendorDefinedResponse, asked).payload
    talk.need(len(payload) >= 8, "the payload has a header of 8 bytes")
    talk.equal(payload[:4], HEAD, "DSP number and version")
    talk.equal(payload[4], SERVICE_REQUEST, "SubResponseID")
    size = int.from_bytes(payload[5:7], "little")
    talk.equal(len(payload) - 8, size, "the length of the sub payload")
    talk.need(size >= 4, "SERVICE_REQUEST has SessionOption and a service")
    method = payload[8] & 7
    talk.check(method in (0, 4, 6, 7), f"SessionMethod {method} is defined")


def _acknowledged(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    if sent[1] != ResponseCode.ERROR or asked[1] != R.VENDOR_DEFINED_REQUEST:
        return sent
    body = _payload(asked[13] | 0x80, b"")
    head = bytes((asked[0], ResponseCode.VENDOR_DEFINED_RESPONSE, 0, 0, 0, 0, 0))
    return head + len(body).to_bytes(2, "little") + body


for _name, _sub, _data in (
    ("results", VERIFICATION_RESULTS, bytes(128)),
    ("reference", SET_REFERENCE, b"\x04\x00\x00\x00" + bytes(4)),
    ("policy", SET_POLICY, b"\x04\x00\x00\x00" + bytes(4)),
):

    def _outside(talk: Talk, sub: int = _sub, data: bytes = _data) -> Exchange[None]:
        yield from talk.expect_refusal(_request(sub, data))

    CASES.case(
        f"outside-{_name}",
        f"what table 9 prohibits outside a session is refused ({_name})",
        clause="DSP0287 7.1, table 9",
        since=V12,
        breaks=Misbehaviour(response=_acknowledged),
    )(_outside)
