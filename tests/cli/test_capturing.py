"""`--capture` and SPDMKEYLOGFILE, on both ends of a conversation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from spdmkit.capture.files import read_packets
from spdmkit.capture.packets import Direction, LinkType, Packet
from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.root import run
from spdmkit.transports.mctp import serial

from .support import spdm


def decoded(path: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["decode", "--json", str(path), *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def packets(path: Path) -> list[Packet]:
    with path.open("rb") as stream:
        return list(read_packets(stream))


def test_a_captured_demo_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keys = tmp_path / "demo.pcapng", tmp_path / "keys.log"
    spdm("demo", "--capture", capture, SPDMKEYLOGFILE=str(keys))
    found = decoded(capture, "--keylog", str(keys), capsys=capsys)
    summary = found["summary"]
    assert summary["connections"] == 2
    assert summary["sessions"] == 1
    assert summary["undecoded"] == 0
    assert summary["records"] == summary["records_decrypted"] > 0
    for kind in ("signatures", "hashes", "macs"):
        assert summary[kind]["verified"] > 0
        assert summary[kind]["failed"] == summary[kind]["unverifiable"] == 0
    assert keys.stat().st_mode & 0o077 == 0


def test_every_command_that_talks_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        *(["attest"], ["probe"], ["demo"], ["provision"], ["session"], ["proxy"], ["conformance"]),
        *(["device", "serve"], ["device", "dial"], ["verifier", "serve"], ["verifier", "dial"]),
    ):
        assert run([*command, "--help"]) == 0
        assert "--capture FILE" in capsys.readouterr().out, command


def command_with(action: Any) -> click.Command:
    @click.command()
    @capture_option
    def command(capture: Capture) -> None:
        action(capture)

    return command


def test_without_a_file_there_is_no_tap() -> None:
    seen: list[object] = []
    CliRunner().invoke(
        command_with(lambda capture: seen.extend((capture.dialled, capture.accepted)))
    )
    assert seen == [None, None]


def test_a_file_that_cannot_be_made_is_an_error_before_anything_is_connected(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(
        command_with(lambda capture: capture.dialled), ["--capture", str(tmp_path / "no" / "c")]
    )
    assert "cannot write the capture" in str(result.exception)


def test_dialled_and_accepted_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"

    def talk(capture: Capture) -> None:
        assert capture.dialled is not None
        assert capture.accepted is not None
        out = capture.dialled("127.0.0.1:40000", "[::1]:4194")
        back = capture.accepted("127.0.0.1:4194", "127.0.0.1:40001")
        out.sent(b"\0" * 8)
        back.received(b"\0" * 8)
        out.closed()
        back.closed(by_peer=True)

    assert CliRunner().invoke(command_with(talk), ["--capture", str(path)]).exit_code == 0
    assert len(packets(path)) == 2 * (3 + 1 + 3)


def test_ends_that_are_mctp_endpoints_become_mctp_packets(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"

    def talk(capture: Capture) -> None:
        assert capture.dialled is not None
        tap = capture.dialled("mctp:1/8", "mctp:1/29")
        tap.sent(bytes.fromhex("0510840000"))
        tap.received(bytes.fromhex("0510040000000100 12"))
        tap.closed()

    assert CliRunner().invoke(command_with(talk), ["--capture", str(path)]).exit_code == 0
    request, response = packets(path)
    assert request.link_type == LinkType.LINUX_SLL
    assert request.data[16:20] == bytes((1, 29, 8, 0xC8))
    assert response.data[16:20] == bytes((1, 8, 29, 0xC0))


def test_the_packets_of_a_serial_line_become_mctp_packets(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    packets_sent = [bytes.fromhex("01090888 0510"), bytes.fromhex("01090858 840000")]

    def talk(capture: Capture) -> None:
        assert capture.dialled is not None
        tap = capture.dialled("mctp:8", "/dev/ttyS1")
        line = b"noise" + b"".join(map(serial.encode, packets_sent))
        for at in range(0, len(line), 5):
            tap.sent(line[at : at + 5])
        tap.received(serial.encode(bytes.fromhex("010809C0 0510040000000100 12")))
        tap.closed()

    assert CliRunner().invoke(command_with(talk), ["--capture", str(path)]).exit_code == 0
    first, second, answer = packets(path)
    assert [first.data[16:], second.data[16:]] == packets_sent
    assert answer.direction == Direction.INBOUND


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_ends_the_capture_and_not_the_conversation() -> None:
    def talk(capture: Capture) -> None:
        assert capture.accepted is not None
        tap = capture.accepted("127.0.0.1:4194", "127.0.0.1:40001")
        tap.received(b"\0" * 8)
        capture.accepted("127.0.0.1:4194", "127.0.0.1:40002").sent(b"\0" * 8)
        click.echo("still here")

    result = CliRunner().invoke(command_with(talk), ["--capture", "/dev/full"])
    assert "still here" in result.output
    assert result.output.count("the capture ends here") == 1
