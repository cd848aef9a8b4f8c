"""Devices that cannot prove what they say, and devices that answer nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.device.folder import FolderDevice
from spdmkit.device.responders import responder_factory
from spdmkit.errors import AuthenticationError, DecodeError, PeerError, ProtocolViolation
from spdmkit.messages import V14, Context
from spdmkit.messages.dsp0287 import (
    ServiceId,
    ServicePayload,
    ServiceRequest,
    SessionMethod,
    SubId,
)
from spdmkit.protocol.connection import Role
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.responder.device import VendorMessage
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.wishes import Fate, Wish
from spdmkit.transports.aio import connect

from .support import House, Lab, verifier_listens
from .test_given import _key

S = ServiceId
CONTEXT = Context(version=V14)


async def dial(house: House, device: FolderDevice) -> None:
    connection = await connect(house.uri, responder_factory(device), role=Role.RESPONDER)
    await connection.wait_closed()


@pytest.mark.parametrize("method", [SessionMethod.NO_PREFERENCE, SessionMethod.KEY_EXCHANGE])
async def test_a_genuine_chain_with_another_key(lab: Lab, method: SessionMethod) -> None:
    device = FolderDevice.load(lab.device)
    device.register_vendor(
        ServiceDesk(device, [Wish.of(S.GET_MEASUREMENTS, session_method=method)])
    )
    device.credentials.slots[0].signer = LocalSigner(_key())
    async with verifier_listens(lab) as house:
        await dial(house, device)
    (report,) = house.reports
    assert isinstance(report.error, AuthenticationError)
    assert report.verdict == "untrusted"
    if method is SessionMethod.NO_PREFERENCE:
        assert report.result is not None
        assert report.result.verdict == "untrusted"
        assert [each.service for each in report.services] == ["measurements"]


async def test_another_pre_shared_key(lab: Lab) -> None:
    wrong = (PreSharedKey(b"0001", bytes(32)), PreSharedKey(b"else", bytes(32)))
    wish = Wish.of(S.VERIFY_MEASUREMENTS, session_method=SessionMethod.PSK_EXCHANGE)
    async with verifier_listens(lab, lab.provider(psks=wrong)) as house:
        call = await house.call(wish)
    assert isinstance(house.reports[0].error, AuthenticationError)
    assert call.endings[0].fate is Fate.UNANSWERED
    assert not house.received


def answer(payload: bytes, standard_id: int = 0) -> Any:
    return lambda _message, _peer: VendorMessage(standard_id, b"", payload)


def payload_of(sub_id: int, body: bytes) -> bytes:
    return ServicePayload(sub_id=sub_id, sub_payload=body).encode(CONTEXT)


REQUEST = ServiceRequest(service_id=S.GET_MEL).encode(CONTEXT)


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(b""),
        answer(b"\x1f\x01\x00\x10"),
        answer(payload_of(SubId.SERVICE_REQUEST, REQUEST), standard_id=3),
        answer(payload_of(SubId.VERIFICATION_RESULTS_ACK, b"")),
        answer(payload_of(SubId.SERVICE_REQUEST, b"")),
        answer(payload_of(SubId.SERVICE_REQUEST, REQUEST[:-1])),
        answer(payload_of(SubId.SERVICE_REQUEST, REQUEST + b"\0")),
        answer(payload_of(SubId.SERVICE_REQUEST, REQUEST).replace(b"\x00\x10", b"\x00\x20", 1)),
    ],
)
async def test_nonsense_for_service_request(lab: Lab, nonsense: Any) -> None:
    device = FolderDevice.load(lab.device)
    device.register_vendor(nonsense)
    async with verifier_listens(lab) as house:
        await dial(house, device)
        assert (await house.call(Wish.of(S.GET_MEL))).done
    assert isinstance(house.reports[0].error, (ProtocolViolation, DecodeError))
    assert house.reports[0].services == []


async def test_services_that_stop_in_the_middle(lab: Lab) -> None:
    """UnsupportedRequest after an answer is no sign of a device without services."""
    device = FolderDevice.load(lab.device)
    desk = ServiceDesk(device, [Wish.of(S.SESSION_ONLY)] * 2)
    answers = 0

    def once(message: VendorMessage, peer: Any) -> VendorMessage | None:
        nonlocal answers
        answers += 1
        return desk(message, peer) if answers == 1 else None

    device.register_vendor(once)
    async with verifier_listens(lab) as house:
        await dial(house, device)
    assert isinstance(house.reports[0].error, PeerError)
    assert [each.service for each in house.reports[0].services] == ["session"]


async def test_reports_of_untrusted_devices_are_whole(lab: Lab) -> None:
    (lab.device / "firmware" / "main.bin").write_bytes(b"something else")
    async with verifier_listens(lab) as house:
        await house.call(Wish.of(S.GET_MEASUREMENTS))
    document = house.reports[0].as_dict(whole=True)
    assert document["verdict"] == "untrusted"
    assert document["result"]["reasons"]
    assert document["services"][0]["results"]["mismatch"] == 1
    assert "corrections" not in document


@pytest.mark.parametrize(
    ("capability", "session", "verdict"),
    [
        ("MEAS_CAP_NO_SIG", SessionMethod.KEY_EXCHANGE, "trusted"),
        ("MEAS_CAP_NO_SIG", SessionMethod.NO_PREFERENCE, "not-appraised"),
        ("", SessionMethod.KEY_EXCHANGE, "not-appraised"),
    ],
)
async def test_devices_that_sign_no_measurements(
    lab: Lab, capability: str, session: SessionMethod, verdict: str
) -> None:
    """A session vouches for what it carried; in the clear nobody does."""
    lab.edit('"MEAS_CAP_SIG", ', f'"{capability}", ' if capability else "")
    if not capability:
        lab.edit('"MEAS_FRESH_CAP", "MEL_CAP",', "")
    async with verifier_listens(lab) as house:
        call = await house.call(Wish.of(S.GET_MEASUREMENTS, session_method=session))
    (report,) = house.reports
    assert report.error is None
    assert report.verdict == verdict
    assert call.done
