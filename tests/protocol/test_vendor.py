"""Vendor-defined messages, small and large, between our two sides."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import V10, V11, V12, V13, V14, ErrorCode, Registry, ResponderFlags
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.vendor import vendor_defined
from spdmkit.protocol.responder.device import Peer, VendorMessage

from .support import EVERYTHING, MemoryDevice, Pair, psk_session, refusal

IANA = Registry.IANA
VENDOR = b"\x01\x02\x03\x04"


@pytest.mark.parametrize("version", [V10, V11, V12, V13, V14])
def test_echo(version: int) -> None:
    pair = Pair(versions=(version,))
    link = pair.link
    pair.run(negotiate(link))
    assert pair.run(vendor_defined(link, IANA, VENDOR, b"payload")) == b"payload"
    assert refusal(pair, vendor_defined(link, Registry.TCG, b"\x01\x02", b"x")) is (
        ErrorCode.UNSUPPORTED_REQUEST
    )
    if version > V10:
        link = psk_session(pair)
        assert pair.run(vendor_defined(link, IANA, VENDOR, b"payload")) == b"payload"


@pytest.mark.parametrize("in_session", [False, True])
def test_a_large_payload(in_session: bool) -> None:
    pair = Pair(versions=(V14,))
    pair.run(negotiate(pair.link))
    link = psk_session(pair) if in_session else pair.link
    payload = bytes(range(256)) * 300
    assert pair.run(vendor_defined(link, IANA, VENDOR, payload)) == payload


class Talkative(MemoryDevice):
    def vendor_defined(self, message: VendorMessage, peer: Peer) -> VendorMessage | None:
        return VendorMessage(message.standard_id, message.vendor_id, bytes(70_000))


def test_a_large_answer_to_a_small_request() -> None:
    pair = Pair(Talkative(), versions=(V14,))
    pair.run(negotiate(pair.link))
    assert len(pair.run(vendor_defined(pair.link, IANA, VENDOR, b""))) == 70_000


@pytest.mark.parametrize("version", [V13, V14])
def test_large_payloads_need_1_4_and_the_capability(version: int) -> None:
    flags = EVERYTHING & ~ResponderFlags.LARGE_RESP_CAP
    pair = Pair(Talkative(), versions=(version,), responder={"capabilities": flags})
    pair.run(negotiate(pair.link))
    with pytest.raises(ProtocolViolation, match="LARGE_RESP_CAP"):
        pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(70_000)))
    exchange = vendor_defined(pair.link, IANA, VENDOR, b"")
    assert refusal(pair, exchange) is ErrorCode.DATA_TOO_LARGE


@pytest.mark.parametrize("at", [2, 4, 8])
def test_the_answer_is_of_another_vendor_or_form(at: int) -> None:
    pair = Pair(versions=(V14,))
    pair.run(negotiate(pair.link))

    def bend(who: str, frame: Any) -> Any:
        if who == "responder":
            body = bytearray(frame.body)
            body[at] ^= 0x80
            frame.body = bytes(body)
        return frame

    pair.bend = bend
    with pytest.raises(Exception, match="VENDOR_DEFINED_RESPONSE"):
        pair.run(vendor_defined(pair.link, IANA, VENDOR, bytes(200)))
