"""VENDOR_DEFINED_REQUEST (DSP0274 10.15)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Misbehaviour, Scene
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    ErrorCode,
    Registry,
    RequestCode,
    ResponseCode,
    VendorDefinedRequest,
    VendorDefinedResponse,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("vendor", "DSP0274 10.15")
R = RequestCode
E = ErrorCode


def _other(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    """An answer in another vendor's name."""
    if asked[1] != R.VENDOR_DEFINED_REQUEST:
        return sent
    return bytes((asked[0], ResponseCode.VENDOR_DEFINED_RESPONSE, 0, 0, 9, 0, 0, 0, 0))


@CASES.case(
    "unknown",
    "a vendor-defined request is refused, or answered in the same vendor's name",
    breaks=Misbehaviour(response=_other),
)
def unknown(talk: Talk) -> Exchange[None]:
    asked = VendorDefinedRequest(
        standard_id=Registry.PCI_SIG, vendor_id=b"\xfe\xff", payload=b"hello"
    )
    answer = yield from talk.ask(asked)
    if answer[1] == ResponseCode.ERROR:
        talk.refused(answer)
        return
    message = talk.decoded(answer, VendorDefinedResponse, asked)
    talk.equal(message.standard_id, asked.standard_id, "StandardID")
    talk.equal(message.vendor_id, asked.vendor_id, "VendorID")


_DATA = b"\x03\x00\x02\xfe\xff\x05\x00hello"


def _answered(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
    if sent[1] != ResponseCode.ERROR or asked[1] != R.VENDOR_DEFINED_REQUEST:
        return sent
    return bytes((asked[0], ResponseCode.VENDOR_DEFINED_RESPONSE, 0, 0, 3, 0, 0, 0, 0))


for _name, _body in (
    ("cut", _DATA[:-1]),
    ("length-beyond", _DATA[:5] + b"\xff\xff" + _DATA[7:]),
    ("vendor-length-beyond", _DATA[:2] + b"\xff" + _DATA[3:]),
    ("header-only", b""),
):

    def _malformed(talk: Talk, body: bytes = _body) -> Exchange[None]:
        sent = talk.header(R.VENDOR_DEFINED_REQUEST) + body
        yield from talk.expect_refusal(sent, E.INVALID_REQUEST, E.UNSUPPORTED_REQUEST)

    CASES.case(
        _name,
        f"a vendor-defined request that is malformed is refused ({_name})",
        breaks=Misbehaviour(response=_answered),
    )(_malformed)
