"""`spdm session`, in-process, against a device of a folder on a socket."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spdmkit.cli import session as module
from spdmkit.cli.root import run
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.responders import responder_factory
from spdmkit.transports.server import listen


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("session")
    initialise(base / "device", algorithm="ecdsa-p256", serial="device")
    initialise(base / "requester", algorithm="ecdsa-p256", serial="asker", requester=True)
    path = base / "device" / "device.toml"
    anchor = 'requester_trust_anchors = ["../requester/trust-anchor.pem"]'
    text = path.read_text().replace("may_provision = []", f"may_provision = []\n{anchor}")
    path.write_text(text)
    return base


@contextmanager
def served(device: FolderDevice) -> Iterator[str]:
    """Serve a device on a loop of its own; gives its address."""
    uri: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        listener = await listen("tcp://127.0.0.1:0", responder_factory(device))
        uri.append(str(listener.uri))
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.01)
        await listener.close(grace=0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield uri[0]
    finally:
        done.set()
        thread.join(10)


@pytest.fixture(scope="module")
def device(folders: Path) -> Iterator[str]:
    with served(FolderDevice.load(folders / "device")) as uri:
        yield uri


def typed(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    class Stdin:
        buffer = io.BytesIO(text)

    monkeypatch.setattr("sys.stdin", Stdin())


def spdm(*arguments: object, code: int = 0) -> None:
    assert run(["session", *map(str, arguments)]) == code


def test_lines(
    device: str, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, b"hello\nw\xc3\xb6rld\r\n\x1b[31m\n")
    spdm(device, "--trust-anchor", folders / "device" / "trust-anchor.pem", "-v")
    out, err = capsys.readouterr()
    assert out.splitlines() == ["hello", "wörld", "\\x1b[31m"]
    assert "mutual: False" in err


def test_lines_as_json(
    device: str, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, b"hello\n")
    spdm(device, "--psk", folders / "device" / "psk.toml", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["lines"] == [{"sent": "hello", "received": "hello"}]
    assert document["identity"] == {"kind": "psk", "name": "device"}
    assert document["mutual"] is True
    assert document["bytes_sent"] == document["bytes_received"] == 5


@pytest.mark.parametrize("size", [0, 1, 60_000, 60_001, 5_000_000])
def test_a_file(
    device: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(bytes(range(251)) * (size // 251) + bytes(size % 251))
    spdm(
        *(device, "--trust-anchor", folders / "device" / "trust-anchor.pem"),
        *("--mutual", folders / "requester", "--file", source, "--output", back, "--json"),
    )
    document = json.loads(capsys.readouterr().out)
    assert document["mutual"] is True
    assert document["bytes_sent"] == document["bytes_received"] == size
    assert document["came_back_unchanged"] is True
    assert back.read_bytes() == source.read_bytes()


def test_a_file_for_people(
    device: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(1000))
    spdm(
        *(device, "--public-key", folders / "device" / "public-key.pem"),
        *("--file", source, "--record-size", 100),
        code=3,  # the device is not one that is known by its key
    )
    psk = folders / "device" / "psk.toml"
    spdm(device, "--psk", psk, "--file", source, "--record-size", 100)
    out, err = capsys.readouterr()
    assert "1000 bytes in 10 records came back unchanged" in out
    assert "source" in err


class Changing(FolderDevice):
    """A device that sends back something else, or nothing."""

    answer: Any = staticmethod(lambda data: data)

    def application_data(self, data: bytes, peer: Any) -> bytes | None:
        result: bytes | None = self.answer(data)
        return result


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda data: bytes(len(data)), "NOT"),
        (lambda data: data + b"more", "more than it got"),
        (lambda data: None, "nothing back"),
    ],
)
def test_what_does_not_come_back_as_it_went(
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: Any,
    complaint: str,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    changing = Changing.load(folders / "device")
    assert isinstance(changing, Changing)
    changing.answer = answer
    with served(changing) as uri:
        spdm(uri, "--psk", folders / "device" / "psk.toml", "--file", source, code=3)
        out, err = capsys.readouterr()
        assert complaint in out + err
        if answer(b"x") is None:
            typed(monkeypatch, b"hello\n")
            spdm(uri, "--psk", folders / "device" / "psk.toml")
            assert "no answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 2),
        (["--trust-anchor", "{device}/trust-anchor.pem", "--psk", "{device}/psk.toml"], 2),
        (["--psk", "{device}/psk.toml", "--mutual", "{requester}"], 2),
        (["--psk", "{device}/psk.toml", "--output", "x"], 2),
        (["--trust-anchor", "{requester}/trust-anchor.pem"], 1),
        (["--trust-anchor", "{device}/trust-anchor.pem", "--expect-identity", "serial:00"], 1),
        (["--psk", "{requester}/psk.toml"], 1),
        (["--trust-anchor", "{device}/trust-anchor.pem", "--time", "yesterday"], 2),
        (["--trust-anchor", "{device}/trust-anchor.pem", "--versions", "9.9"], 2),
    ],
)
def test_refusals(
    device: str,
    folders: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
) -> None:
    names = {"device": folders / "device", "requester": folders / "requester"}
    spdm(device, *(each.format(**names) for each in options), code=code)
    out, err = capsys.readouterr()
    assert err
    assert "Traceback" not in err
    assert not out


def test_nobody_there(folders: Path) -> None:
    spdm("tcp://127.0.0.1:1", "--psk", folders / "device" / "psk.toml", code=3)


def test_secrets_go_to_the_key_log(
    device: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPDMKEYLOGFILE", str(tmp_path / "keys.log"))
    typed(monkeypatch, b"hello\n")
    spdm(device, "--psk", folders / "device" / "psk.toml")
    text = (tmp_path / "keys.log").read_text()
    assert "REQUEST_DATA_SECRET_0" in text
    assert (tmp_path / "keys.log").stat().st_mode & 0o077 == 0
