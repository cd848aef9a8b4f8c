"""A device that needs a reset before it uses a certificate calls its authority again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.device.responders import responder_factory
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode
from spdmkit.messages.dsp0287 import ServiceId
from spdmkit.protocol.connection import Role
from spdmkit.protocol.responder.device import CsrRequest, SetCertificateRequest
from spdmkit.provisioning.authority import CertificateAuthority
from spdmkit.provisioning.serving import ServiceProvisioner
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.wishes import Wish
from spdmkit.transports.aio import connect

from .support import House, Lab, verifier_listens


class Resetting(FolderDevice):
    """Signs and stores what it is asked to only with its next reset."""

    asked: CsrRequest | None = None
    given: SetCertificateRequest | None = None
    made: bytes = b""

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        if self.made and request.tracking_tag == 3:
            made, self.made = self.made, b""
            return made
        self.asked = request
        raise ProtocolViolation("reset", error_code=ErrorCode.RESET_REQUIRED, error_data=3)

    def set_certificate(self, request: SetCertificateRequest) -> None:
        self.given = request
        raise ProtocolViolation("reset", error_code=ErrorCode.RESET_REQUIRED)

    def reset(self) -> None:
        if self.asked is not None:
            self.made = super().certificate_signing_request(self.asked)
        if self.given is not None:
            super().set_certificate(self.given)
        self.asked = self.given = None


async def dial(house: House, device: FolderDevice) -> None:
    connection = await connect(house.uri, responder_factory(device), role=Role.RESPONDER)
    await connection.wait_closed()


async def test_it_comes_back_after_each_reset(lab: Lab, tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca", "secret", algorithm="ecdsa-p256")
    lab.edit("may_provision = []", 'may_provision = ["certificate:*"]')
    provisioner = ServiceProvisioner(authority)
    device = Resetting.load(lab.device)
    assert isinstance(device, Resetting)
    device.register_vendor(ServiceDesk(device, [Wish.of(ServiceId.PROVISION_CERTIFICATE)]))
    async with verifier_listens(lab, lab.provider(provisioner=provisioner)) as house:
        await dial(house, device)
        assert house.reports[0].services[0].detail["awaits_reset"]
        assert list(provisioner.waiting.values()) == [3]
        device.reset()
        await dial(house, device)
        assert house.reports[1].error is None
        assert house.reports[1].services[0].detail["awaits_reset"]
        device.reset()
        assert sorted(device.credentials.slots) == [0, 1]
        await dial(house, device)
    last = house.reports[2].services[0].detail
    assert not last["awaits_reset"]
    assert [each["name"] for each in last["steps"]][-2:] == ["read-back", "challenge"]
    assert not provisioner.waiting
    serial = house.reports[1].services[0].detail["serial"]
    assert last["serial"] == serial


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spdmkit.provisioning.serving.MOST_WAITING", 2)
    authority = CertificateAuthority.create(tmp_path / "ca", "secret", algorithm="ecdsa-p256")
    provisioner = ServiceProvisioner(authority)
    for number in range(4):
        provisioner._remember((bytes([number]), 1), number)
    assert list(provisioner.waiting.values()) == [2, 3]
