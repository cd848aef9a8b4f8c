"""Mutual authentication end to end over sockets, with the device of a folder on the other side."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.cli.serving import responder_factory
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.errors import PeerError
from spdmkit.identity import Purpose, TrustAnchors, TrustedPublicKey
from spdmkit.messages import V11, V12, V13, V14, ErrorCode
from spdmkit.protocol.credentials import Credentials
from spdmkit.protocol.endpoint import Endpoint
from spdmkit.protocol.events import ProtocolEvent, RequesterAuthenticated, SessionEstablished
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports import aio
from spdmkit.transports.conduit import ConnectionInfo, EndpointFactory
from spdmkit.transports.requesters import requester_factory
from spdmkit.transports.server import listen

KEY_ONLY = (
    '"CHAL_CAP", "MEAS_CAP_SIG", "ENCRYPT_CAP", "MAC_CAP", "KEY_EX_CAP", '
    '"PUB_KEY_ID_CAP", "MUT_AUTH_CAP", "ENCAP_CAP"'
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("mutual")
    for name in ("device", "requester", "stranger"):
        initialise(base / name, algorithm="ecdsa-p256", serial=name, requester=name != "device")
    return {path.name: path for path in base.iterdir()}


def configured(folder: Path, copy: Path, trust: str = "", capabilities: str = "") -> FolderDevice:
    """A copy of a device's folder, with other [trust] and capabilities."""
    import shutil

    shutil.copytree(folder, copy)
    path = copy / "device.toml"
    text = path.read_text()
    text = text.replace("may_provision = []", f"may_provision = []\n{trust}")
    if capabilities:
        begin = text.index("capabilities = [")
        end = text.index("]", begin)
        text = text[:begin] + f"capabilities = [{capabilities}" + text[end:]
    path.write_text(text)
    return FolderDevice.load(copy)


def asking(
    credentials: Credentials | None, versions: tuple[int, ...], *, sessions: bool = True
) -> EndpointFactory:
    settings = requester_settings(versions=versions, sessions=sessions, credentials=credentials)
    return requester_factory(settings, credentials=credentials)


def answering(device: FolderDevice, events: list[ProtocolEvent]) -> EndpointFactory:
    make = responder_factory(device)

    def watched(info: ConnectionInfo) -> Endpoint:
        endpoint = make(info)
        endpoint.connection.events = events.append
        return endpoint

    return watched


async def attest(
    device: FolderDevice,
    credentials: Credentials | None,
    *,
    versions: tuple[int, ...] = (V14,),
    session: bool = True,
    by_key: bool = False,
    uri: str = "tcp://127.0.0.1:0",
) -> list[ProtocolEvent]:
    """Attest over a socket; what the responder told of it."""
    events: list[ProtocolEvent] = []
    if by_key:
        key = TrustedPublicKey.from_file(device.folder / "public-key.pem")
        trust = DeviceTrust(time=int(time.time()), public_key=key)
    else:
        anchors = TrustAnchors.from_files([device.folder / "trust-anchor.pem"], Purpose.DEVICE)
        trust = DeviceTrust(time=int(time.time()), anchors=anchors)
    wanted = Wanted(slot=0xFF if by_key else 0, session=session, now=int(time.time()))
    async with (
        await listen(uri, answering(device, events)) as listener,
        await aio.connect(listener.uri, asking(credentials, versions)) as connection,
    ):
        link = Link(connection.endpoint.connection)
        collected = await connection.run(collect(link, trust, wanted))
        collected.verified(trust)
    return events


def proven(events: list[ProtocolEvent]) -> bool:
    (established,) = (e for e in events if isinstance(e, SessionEstablished))
    return established.mutual


@pytest.mark.parametrize("version", [V11, V12, V13, V14])
async def test_by_certificate(tmp_path: Path, folders: dict[str, Path], version: int) -> None:
    anchor = folders["requester"] / "trust-anchor.pem"
    device = configured(
        folders["device"],
        tmp_path / "device",
        f'requester_trust_anchors = ["{anchor}"]\nrequire_requester_authentication = true',
    )
    requester = FolderDevice.load(folders["requester"]).credentials
    events = await attest(device, requester, versions=(version,))
    assert proven(events)
    # 1.1 and 1.2 challenge the requester as well, before the session.
    basic = [e for e in events if isinstance(e, RequesterAuthenticated)]
    assert len(basic) == (version <= V12)


@pytest.mark.parametrize("uri", ["tcp://127.0.0.1:0?dialect=libspdm", "emu+mctp://127.0.0.1:0"])
async def test_over_other_framings(tmp_path: Path, folders: dict[str, Path], uri: str) -> None:
    anchor = folders["requester"] / "trust-anchor.pem"
    trust = f'requester_trust_anchors = ["{anchor}"]'
    device = configured(folders["device"], tmp_path / "device", trust)
    requester = FolderDevice.load(folders["requester"]).credentials
    assert proven(await attest(device, requester, uri=uri))


async def test_by_a_provisioned_key(tmp_path: Path, folders: dict[str, Path]) -> None:
    """Neither side has certificates for the other: each was given the other's key."""
    key = folders["requester"] / "public-key.pem"
    device = configured(
        folders["device"],
        tmp_path / "device",
        f'requester_public_key = "{key}"\nrequire_requester_authentication = true',
        KEY_ONLY,
    )
    requester = configured(
        folders["requester"], tmp_path / "requester", capabilities=KEY_ONLY
    ).credentials
    assert requester.provisioned_key is not None
    assert proven(await attest(device, requester, by_key=True))
    assert proven(await attest(device, requester, by_key=True, versions=(V11,)))


async def test_a_device_by_its_key_without_a_session(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    device = configured(folders["device"], tmp_path / "device", capabilities=KEY_ONLY)
    await attest(device, None, by_key=True, session=False)


async def test_another_slot_of_the_requester(tmp_path: Path, folders: dict[str, Path]) -> None:
    anchor = folders["requester"] / "trust-anchor.pem"
    device = configured(
        folders["device"],
        tmp_path / "device",
        f'requester_trust_anchors = ["{anchor}"]\nrequester_slot = 2',
    )
    requester = FolderDevice.load(folders["requester"]).credentials
    only = requester.slots[0]
    from dataclasses import replace

    elsewhere = Credentials([replace(only, slot_id=2)])
    assert proven(await attest(device, elsewhere))
    with pytest.raises(PeerError):
        await attest(device, requester)


@pytest.mark.parametrize("who", ["stranger", "nobody"])
async def test_who_is_refused(tmp_path: Path, folders: dict[str, Path], who: str) -> None:
    anchor = folders["requester"] / "trust-anchor.pem"
    device = configured(
        folders["device"],
        tmp_path / "device",
        f'requester_trust_anchors = ["{anchor}"]\nrequire_requester_authentication = true',
    )
    credentials = None if who == "nobody" else FolderDevice.load(folders[who]).credentials
    with pytest.raises(PeerError) as caught:
        await attest(device, credentials)
    refused = ErrorCode.INVALID_POLICY if who == "nobody" else ErrorCode.DECRYPT_ERROR
    assert caught.value.code == refused


@pytest.mark.parametrize(
    ("trust", "complaint"),
    [
        ("require_requester_authentication = true", None),
        ('requester_trust_anchors = ["missing.pem"]', "missing.pem"),
        ('requester_public_key = "missing.pem"', "missing.pem"),
    ],
)
def test_configurations(
    tmp_path: Path, folders: dict[str, Path], trust: str, complaint: str | None
) -> None:
    from spdmkit.errors import ConfigurationError

    if complaint is None:
        configured(folders["device"], tmp_path / "device", trust)  # the pre-shared key will do
        return
    with pytest.raises(ConfigurationError, match=complaint):
        configured(folders["device"], tmp_path / "device", trust)


def test_trust_without_the_capability_is_a_mistake(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    from spdmkit.errors import ConfigurationError

    anchor = folders["requester"] / "trust-anchor.pem"
    with pytest.raises(ConfigurationError, match="MUT_AUTH_CAP"):
        configured(
            folders["device"],
            tmp_path / "device",
            f'requester_trust_anchors = ["{anchor}"]',
            '"CERT_CAP", "CHAL_CAP", "MEAS_CAP_SIG"',
        )
