"""A device in a folder: made, read, changed durably, and refused when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.crypto.registry import MEASUREMENT_HASH
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import ALGORITHMS, initialise
from spdmkit.errors import ConfigurationError, ProtocolViolation
from spdmkit.messages import CertificateModel
from spdmkit.protocol.responder.device import Peer, SetCertificateRequest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device") / "device"
    initialise(folder, algorithm="ecdsa-p256", serial="0001")
    return folder


def test_what_init_makes_is_read_back(made: Path) -> None:
    device = FolderDevice.load(made)
    assert list(device.credentials.slots) == [0]
    assert len(device.credentials.slots[0].certificates) == 3
    measurements = device.measurements(fresh=True)
    assert [each.index for each in measurements] == [1, 2, 3, 4, 5, 6, 254]
    sha384 = MEASUREMENT_HASH.by_name("sha-384")
    assert all(each.digest(sha384) is not None for each in measurements)
    assert len(device.measurement_log(sha384)) > 16


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if not name.startswith("rsa")])
def test_every_kind_of_key(tmp_path: Path, algorithm: str) -> None:
    initialise(tmp_path / "device", algorithm=algorithm)
    FolderDevice.load(tmp_path / "device")


def test_as_a_requester_it_says_the_same_of_itself(made: Path) -> None:
    device = FolderDevice.load(made)
    assert device.credentials.endpoint_info == {1: device.endpoint_info(1)}


def test_private_files_are_for_their_owner_only(made: Path) -> None:
    for path in (*(made / "keys").iterdir(), made / "psk.toml"):
        assert path.stat().st_mode & 0o077 == 0
    key = made / "keys" / "1.pem"
    key.chmod(0o644)
    try:
        with pytest.raises(ConfigurationError, match="others"):
            FolderDevice.load(made)
    finally:
        key.chmod(0o600)


def test_a_passphrase_encrypts_the_keys(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256", passphrase="correct horse")
    assert b"ENCRYPTED" in (folder / "keys" / "1.pem").read_bytes()
    FolderDevice.load(folder, "correct horse")
    with pytest.raises(ConfigurationError):
        FolderDevice.load(folder)
    with pytest.raises(ConfigurationError):
        FolderDevice.load(folder, "battery staple")


def test_a_folder_with_something_in_it_is_left_alone(made: Path) -> None:
    before = sorted(path.name for path in made.iterdir())
    with pytest.raises(ConfigurationError, match="not empty"):
        initialise(made)
    assert sorted(path.name for path in made.iterdir()) == before


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('versions = ["1.0"', 'versions = ["9.9"', "versions"),
        ('"CERT_CAP"', '"NO_SUCH_CAP"', "NO_SUCH_CAP"),
        ("index = 2", "index = 1", "already"),
        ("heartbeat_period = 0", "heartbeat_period = -1", "heartbeat_period"),
        ("heartbeat_period", "heart_beat", "heart_beat"),
        ('\nmeasurement_hashes = ["sha-384"]', '\nmeasurement_hashes = ["md5"]', "md5"),
    ],
)
def test_mistakes_in_the_configuration_name_their_line(
    tmp_path: Path, made: Path, old: str, new: str, complaint: str
) -> None:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256")
    path = folder / "device.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        FolderDevice.load(folder)
    assert "device.toml:" in str(caught.value)


class TestSetCertificate:
    def request(self, device: FolderDevice, slot: int, peer: Peer) -> SetCertificateRequest:
        chain = device.credentials.slots[0].certificates
        return SetCertificateRequest(
            slot, CertificateModel.DEVICE, 1, False, chain, "ecdsa-p256", peer
        )

    def allowed(self, folder: Path) -> FolderDevice:
        path = folder / "device.toml"
        text = path.read_text().replace("may_provision = []", 'may_provision = ["psk:factory"]')
        path.write_text(text)
        return FolderDevice.load(folder)

    def test_stored_by_whom_may(self, tmp_path: Path) -> None:
        folder = tmp_path / "device"
        initialise(folder, algorithm="ecdsa-p256")
        device = self.allowed(folder)
        peer = Peer(7, True, "factory", "psk")
        device.set_certificate(self.request(device, 1, peer))
        assert sorted(device.credentials.slots) == [0, 1]
        assert sorted(FolderDevice.load(folder).credentials.slots) == [0, 1]

    @pytest.mark.parametrize(
        "peer",
        [
            Peer(),
            Peer(session_id=7),
            Peer(7, True, "somebody", "psk"),
            Peer(7, True, "factory", "certificate"),
        ],
    )
    def test_refused_to_everybody_else(self, tmp_path: Path, peer: Peer) -> None:
        folder = tmp_path / "device"
        initialise(folder, algorithm="ecdsa-p256")
        device = self.allowed(folder)
        with pytest.raises(ProtocolViolation):
            device.set_certificate(self.request(device, 1, peer))
        assert sorted(FolderDevice.load(folder).credentials.slots) == [0]

    def test_slot_0_is_for_trusted_environments(self, tmp_path: Path) -> None:
        folder = tmp_path / "device"
        initialise(folder, algorithm="ecdsa-p256")
        device = self.allowed(folder)
        with pytest.raises(ProtocolViolation, match="slot 0"):
            device.set_certificate(self.request(device, 0, Peer(7, True, "factory", "psk")))
