"""A full disk, a clock that jumps, a process that is told to stop."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.errors import ConfigurationError, ProtocolViolation
from spdmkit.messages import CertificateModel, ErrorCode
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.responder.device import Peer, SetCertificateRequest
from spdmkit.provisioning.ledger import Ledger
from tests.protocol.support import MemoryDevice, Pair

OWNER = Peer(session_id=1, authenticated=True, identity="x", identity_kind="psk")


@pytest.fixture
def device(tmp_path: Path) -> FolderDevice:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256")
    path = folder / "device.toml"
    path.write_text(path.read_text().replace("may_provision = []", 'may_provision = ["psk:*"]'))
    return FolderDevice.load(folder)


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "open"])
def test_a_full_disk_keeps_the_old_chain(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    chain = device.credentials.slots[0].certificates
    request = SetCertificateRequest(1, CertificateModel.NONE, 0, False, chain, "ecdsa-p256", OWNER)
    monkeypatch.setattr(os, step, full)
    with pytest.raises(ProtocolViolation) as caught:
        device.set_certificate(request)
    assert caught.value.error_code == ErrorCode.OPERATION_FAILED
    assert "No space left" in str(caught.value)
    assert 1 not in device.credentials.slots
    monkeypatch.undo()
    assert 1 not in FolderDevice.load(device.folder).credentials.slots
    device.set_certificate(request)
    assert FolderDevice.load(device.folder).credentials.slots[1].certificates == chain


def test_a_full_disk_stops_an_authority_before_it_issues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    first = ledger.reserve()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        ledger.reserve()
    monkeypatch.undo()
    again = Ledger(tmp_path / "ledger.jsonl")
    assert first in again.entries
    assert again.reserve() not in (first, 0)


@pytest.mark.parametrize("jump", [-86_400.0 * 365, 86_400.0 * 365])
def test_a_jump_of_the_wall_clock_disturbs_no_conversation(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    pair = Pair(MemoryDevice())
    pair.run(negotiate(pair.link))
    assert pair.link.connection.version


def test_a_jump_of_the_monotonic_clock_ends_sessions_and_nothing_else() -> None:
    from spdmkit.protocol.requester.sessions import PreSharedKey, psk_exchange
    from tests.protocol.support import PSK, PSK_HINT

    pair = Pair(MemoryDevice(), responder={"heartbeat_period": 5})
    pair.run(negotiate(pair.link))
    pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)))
    pair.clock.now += 10_000
    pair.responder.on_time(pair.clock.now)
    assert not pair.responder.connection.sessions
    pair.run(negotiate(pair.link))


def test_sigterm_in_the_middle_finishes_what_is_in_flight(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "spdmkit", "device", "serve", str(folder)),
            *("--listen", "tcp://127.0.0.1:0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        uri = server.stdout.readline().removeprefix("listening on ").strip()
        results: list[subprocess.CompletedProcess[str]] = []

        def attest() -> None:
            anchor = folder / "trust-anchor.pem"
            results.append(
                subprocess.run(
                    [
                        *(sys.executable, "-m", "spdmkit", "attest", uri, "--json"),
                        *("--trust-anchor", str(anchor), "--authenticate-only"),
                    ],
                    capture_output=True,
                    text=True,
                    timeout=40,
                    check=False,
                )
            )

        client = threading.Thread(target=attest)
        client.start()
        time.sleep(0.4)
        server.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert server.wait(timeout=20) == 0
        assert time.monotonic() - started < 15
        client.join()
    (done,) = results
    # Either it was served whole, or it was turned away in plain words; never half an answer.
    assert done.returncode in (0, 3), done.stderr
    json.loads(done.stdout)
