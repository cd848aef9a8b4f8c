"""Changes of a device are rationed."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.rate import RateLimit
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import CertificateModel, ErrorCode
from spdmkit.protocol.responder.device import Peer, SetCertificateRequest


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_at_once_then_steadily() -> None:
    clock = Clock()
    limit = RateLimit(4, clock)
    for _ in range(4):
        limit.take()
    with pytest.raises(ProtocolViolation) as caught:
        limit.take()
    assert caught.value.error_code == ErrorCode.BUSY
    clock.now += 14.9
    with pytest.raises(ProtocolViolation):
        limit.take()
    clock.now += 0.2
    limit.take()
    clock.now += 10_000
    for _ in range(4):
        limit.take()
    with pytest.raises(ProtocolViolation):
        limit.take()


def test_zero_is_no_limit() -> None:
    limit = RateLimit(0, Clock())
    for _ in range(1000):
        limit.take()


def test_set_certificate_counts_only_who_is_permitted(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256")
    path = folder / "device.toml"
    text = path.read_text().replace("[limits]", "[limits]\nchanges_per_minute = 2")
    path.write_text(text.replace("may_provision = []", 'may_provision = ["psk:*"]'))
    device = FolderDevice.load(folder)
    chain = device.credentials.slots[0].certificates

    def put(peer: Peer) -> ErrorCode | None:
        request = SetCertificateRequest(
            1, CertificateModel.NONE, 0, False, chain, "ecdsa-p256", peer
        )
        try:
            device.set_certificate(request)
        except ProtocolViolation as error:
            return ErrorCode(error.error_code)
        return None

    stranger = Peer()
    owner = Peer(session_id=1, authenticated=True, identity="rack 12", identity_kind="psk")
    assert [put(stranger) for _ in range(5)] == [ErrorCode.SESSION_REQUIRED] * 5
    assert [put(owner) for _ in range(3)] == [None, None, ErrorCode.BUSY]
