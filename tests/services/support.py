"""A device and a verifier that know each other, on real sockets in one process."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.cli.serving import responder_factory
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.shared_keys import read_shared_key
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.settings import requester_settings
from spdmkit.services.desk import Received, ServiceDesk
from spdmkit.services.dialling import BackOff, Call, Caller
from spdmkit.services.listening import Report, VerifierService
from spdmkit.services.provider import Provider, gifts_from
from spdmkit.services.wishes import Wish
from spdmkit.transports.server import Listener, listen

QUICK = BackOff(first=0.02, longest=0.05)

POLICY = """\
[policy]
name = "rack"
version = 3

[[component]]
index = 5
minimum_svn = 1
"""


@dataclass
class Lab:
    """Folders of one device and one verifier."""

    device: Path
    verifier: Path
    policy: Path

    @classmethod
    def make(cls, folder: Path, algorithm: str = "ecdsa-p256") -> Lab:
        lab = cls(folder / "device", folder / "verifier", folder / "policy.toml")
        initialise(lab.device, algorithm=algorithm, serial="0001")
        initialise(lab.verifier, algorithm=algorithm, serial="V001", requester=True)
        shutil.copy(lab.verifier / "trust-anchor.pem", lab.device / "requesters.pem")
        lab.edit('# requester_trust_anchors = ["requesters.pem"]', TRUSTS)
        lab.edit("may_set_reference = []", 'may_set_reference = ["certificate:*", "psk:*"]')
        lab.policy.write_text(POLICY)
        return lab

    def copy(self, folder: Path) -> Lab:
        """The same, to be changed."""
        shutil.copytree(self.device, folder / "device")
        shutil.copytree(self.verifier, folder / "verifier")
        shutil.copy(self.policy, folder / "policy.toml")
        return Lab(folder / "device", folder / "verifier", folder / "policy.toml")

    def edit(self, old: str, new: str) -> None:
        """Change the device's configuration."""
        path = self.device / "device.toml"
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new))

    def psk(self) -> PreSharedKey:
        shared = read_shared_key(self.device / "psk.toml")
        return PreSharedKey(shared.hint, shared.key)

    def provider(self, **changes: Any) -> Provider:
        verifier = Verifier.from_files(
            Sources(
                trust_anchors=[self.device / "trust-anchor.pem"],
                references=[self.device / "reference.json"],
            )
        )
        values: dict[str, Any] = {
            "gifts": gifts_from([self.device / "reference.json"]),
            "policy_document": Provider.policy_file(self.policy),
            **changes,
        }
        return Provider(verifier, **values)


TRUSTS = 'requester_trust_anchors = ["requesters.pem"]'


@dataclass
class House:
    """A verifier that listens, what it reports, and a device that dials."""

    lab: Lab
    uri: str
    listener: Listener
    service: VerifierService
    reports: list[Report] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    async def call(self, *wishes: Wish, tries: int = 1, uri: str = "", **options: Any) -> Call:
        device = FolderDevice.load(self.lab.device)
        desk = ServiceDesk(device, on_received=self.received.append)
        device.register_vendor(desk)
        caller = Caller(device, desk, back_off=QUICK, **options)
        return await caller.call(uri or self.uri, wishes, tries=tries)

    def holdings(self) -> Any:
        from spdmkit.services.holdings import Holdings

        return Holdings(self.lab.device)


@asynccontextmanager
async def verifier_listens(
    lab: Lab,
    provider: Provider | None = None,
    *,
    mutual: bool = True,
    responder: Any = None,
    scheme: str = "tcp",
    limits: Any = None,
    versions: tuple[int, ...] | None = None,
    **options: Any,
) -> AsyncIterator[House]:
    """A verifier on a port of its own."""
    provider = provider or lab.provider()
    credentials = FolderDevice.load(lab.verifier).credentials if mutual else None
    reports: list[Report] = []
    service = VerifierService(
        provider,
        requester_settings(
            sessions=True, credentials=credentials, psk=bool(provider.psks), versions=versions
        ),
        credentials=credentials,
        on_report=reports.append,
        **options,
    )
    listener = await service.listen(f"{scheme}://127.0.0.1:0", responder=responder, limits=limits)
    async with listener:
        yield House(lab, str(listener.uri), listener, service, reports)


@asynccontextmanager
async def device_listens(
    lab: Lab, wishes: Sequence[Wish] = (), *, desk: bool = True
) -> AsyncIterator[tuple[str, list[Received]]]:
    """A device on a port of its own (reach-down)."""
    device = FolderDevice.load(lab.device)
    received: list[Received] = []
    if desk:
        device.register_vendor(ServiceDesk(device, wishes, on_received=received.append))
    async with await listen("tcp://127.0.0.1:0", responder_factory(device)) as listener:
        yield str(listener.uri), received


Edit = Callable[[Lab], None]
