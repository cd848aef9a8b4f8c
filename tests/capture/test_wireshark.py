"""The Wireshark dissector: complete by its declarations, and right by what tshark shows."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from spdmkit.capture.decode import Decoder
from spdmkit.capture.events import EventKind
from spdmkit.capture.keylog import KeyLog
from spdmkit.capture.packets import LinkType, Packet
from spdmkit.capture.secretfiles import load_secrets
from spdmkit.capture.sources import open_recording
from spdmkit.capture.wireshark.dissector import dissector, install
from spdmkit.capture.wireshark.fields import snake
from spdmkit.capture.wireshark.layouts import Layouts, condition
from spdmkit.capture.wireshark.lua import Raw, literal, table
from spdmkit.capture.writer import CaptureWriter
from spdmkit.cli.root import run
from spdmkit.errors import ConfigurationError
from spdmkit.messages import MESSAGES
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports import doe
from spdmkit.wire.layout import valued
from spdmkit.wire.predicates import AllOf, AnyOf, Equals, InContext, Not, Present, Requested

from ..cli.support import spdm
from .support import TSHARK, load_vector, needs_tshark, recording_of, vector_names, write_capture

# -- what is made from the declarations ------------------------------------------------------------


@pytest.fixture(scope="module")
def layouts() -> Layouts:
    return Layouts()


def test_every_field_of_every_message_can_be_filtered_for(layouts: Layouts) -> None:
    assert layouts.messages.keys() == MESSAGES.keys()
    for code, message in MESSAGES.items():
        made = layouts.messages[code]
        assert made["field"] in layouts.fields.fields
        keys = {element["key"] for element in made["elements"]}
        keys |= {bit["key"] for element in made["elements"] for bit in element.get("bits", ())}
        declared = {part.attribute for part in valued(message.layout.elements)}
        assert declared <= keys, message.name
        for element in made["elements"]:
            if element["kind"] in ("uint", "word", "bytes"):
                name = element["field"]
                assert name in layouts.fields.fields or name in ("spdm_version", "code")


def test_no_two_fields_have_one_name() -> None:
    names = re.findall(r'ProtoField\.\w+\("(spdm\.[^"]+)"', dissector())
    names += [
        f"spdm.{name}"
        for name in re.findall(r'^common\("\w+", "([^"]+)"', dissector(), re.MULTILINE)
    ]
    assert len(names) > 700
    assert not [name for name, count in Counter(names).items() if count > 1]


def test_it_is_the_same_every_time() -> None:
    assert dissector() == dissector()


def test_conditions_become_lua() -> None:
    made = condition(
        AllOf(
            (
                Not(Present("a")),
                AnyOf((Equals("b", 3), InContext("multi_key_conn"))),
                Requested("nonce"),
            )
        )
    )
    assert made == (
        'function(v, c) return (not (S.set(v["a"])) and ((v["b"] or 0) == 3 or '
        'S.in_context(c, "multi_key_conn")) and S.set(c.request and c.request["nonce"])) end'
    )


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (None, "nil"),
        (True, "true"),
        (7, "7"),
        ('a"\\\n\xe9', '"a\\"\\\\\\010\\195\\169"'),
        ([1, "x"], '{ 1, "x" }'),
        ([], "{}"),
        ({"a": 1, "end": 2, 3: None, 4: Raw("f()")}, '{ a = 1, ["end"] = 2, [4] = f() }'),
    ],
)
def test_values_become_lua(value: Any, source: str) -> None:
    assert literal(value) == source


def test_what_has_no_form_in_lua_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        literal(1.5)
    assert table({}) == "{}"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("ReqBaseAsymAlg", "req_base_asym_alg"),
        ("PSKHint", "psk_hint"),
        ("SlotID", "slot_id"),
        ("GET_VERSION", "get_version"),
    ],
)
def test_names_in_filters(name: str, made: str) -> None:
    assert snake(name) == made


# -- the commands ----------------------------------------------------------------------------------


def test_install_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wireshark", "install", "--dir", str(tmp_path / "new")]) == 0
    assert f"installed {tmp_path / 'new' / 'spdm.lua'}" in capsys.readouterr().out
    assert run(["wireshark", "show"]) == 0
    assert capsys.readouterr().out == (tmp_path / "new" / "spdm.lua").read_text()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot write .*spdm\.lua"):
        install(tmp_path / "file")


# -- what tshark shows -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("plugin"))


class Tshark:
    """tshark with our dissector."""

    def __init__(self, plugin: Path) -> None:
        self._plugin = plugin

    def fields(
        self, capture: Path, *names: str, only: str = "spdm", keys: Path | None = None
    ) -> list[list[str]]:
        """The values of fields in the packets that a filter lets pass."""
        options = [f"-e{name}" for name in names]
        text = self._run(capture, keys, f"-Y{only}", "-Tfields", "-Eseparator=|", *options)
        return [line.split("|") for line in text.splitlines()]

    def tree(self, capture: Path, keys: Path | None = None) -> str:
        """Everything there is to see."""
        return self._run(capture, keys, "-Ospdm")

    def names(self, capture: Path, keys: Path | None = None) -> list[str]:
        """The messages by name, those inside of others included; asserts that nothing is wrong."""
        rows = self.fields(capture, "spdm.name", "_ws.expert.severity", "_ws.malformed", keys=keys)
        for _, severities, malformed in rows:
            assert not malformed
            assert all(int(each, 0) < ERROR for each in severities.split(",") if each)
        return [name for row in rows for name in row[0].split(",") if name]

    def _run(self, capture: Path, keys: Path | None, *options: str) -> str:
        done = subprocess.run(
            [
                *(TSHARK, "-2", "-n", "-X", f"lua_script:{self._plugin}", "-r", str(capture)),
                *("-o", f"spdm.keylog:{keys or '/dev/null'}", *options),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "Lua" not in done.stderr, done.stderr
        return done.stdout


ERROR = 0x00800000
"""Severity "error" of expert information."""


@pytest.fixture(scope="module")
def tshark(plugin: Path) -> Tshark:
    return Tshark(plugin)


def expected_names(document: dict[str, Any], keys: Path) -> list[str]:
    """What our own decoder finds, writing the key log by the way."""
    log = KeyLog(keys)
    with Decoder(recording_of(document), keys=log.record, verify=False) as decoder:
        events = [event for event in decoder if event.kind is EventKind.MESSAGE]
    log.close()
    return [each.name for event in events for each in event.walk()]


@needs_tshark
@pytest.mark.parametrize("name", vector_names())
def test_every_message_of_every_recorded_conversation(
    name: str, tmp_path: Path, tshark: Tshark
) -> None:
    document = load_vector(name)
    capture, keys = tmp_path / "c.pcapng", tmp_path / "keys.log"
    write_capture(document, capture)
    expected = expected_names(document, keys)
    assert tshark.names(capture, keys) == expected


@needs_tshark
def test_every_message_of_a_captured_demo(tmp_path: Path, tshark: Tshark) -> None:
    capture, keys = tmp_path / "demo.pcapng", tmp_path / "keys.log"
    spdm("demo", "--capture", capture, SPDMKEYLOGFILE=str(keys))
    with Decoder(open_recording(str(capture)), secrets=load_secrets(keys)) as decoder:
        names = [event.name for event in decoder if event.kind is EventKind.MESSAGE]
    assert tshark.names(capture, keys) == names
    assert len(names) > 30
    assert not tshark.fields(capture, "frame.number", only="tcp.analysis.flags || _ws.malformed")


def frames_of(name: str) -> Iterable[tuple[bool, bytes]]:
    for message in load_vector(name)["messages"]:
        yield message["from"] == "requester", bytes.fromhex(message["frame"])


def tcp_capture(
    path: Path, frames: Iterable[tuple[bool, bytes]], *, port: int = 4194, initiator: bool = True
) -> Path:
    clock = itertools.count(1_800_000_000_000_000_000, 1_000_000).__next__
    with CaptureWriter(path, clock=clock) as writer:
        connection = writer.tcp(("10.0.0.1", 40000), ("10.0.0.2", port), initiator=initiator)
        for ours, frame in frames:
            (connection.sent if ours else connection.received)(frame)
        connection.closed()
    return path


def strict(frame: bytes) -> bytes:
    """A frame of libspdm's dialect in the other one."""
    length = struct.unpack_from("<H", frame)[0] - 2
    return struct.pack("<H", length) + frame[2:]


@needs_tshark
@pytest.mark.parametrize("port", [4194, 50000])
def test_both_dialects_on_any_port(tmp_path: Path, tshark: Tshark, port: int) -> None:
    frames = list(frames_of("v12_attest_p384"))
    found = []
    for each in (frames, [(ours, strict(frame)) for ours, frame in frames]):
        path = tcp_capture(tmp_path / "c.pcapng", each, port=port)
        found.append(tshark.names(path))
        dialects = {row[0] for row in tshark.fields(path, "spdm.binding.dialect")}
        assert len(dialects) == 1
    assert found[0] == found[1]
    assert len(found[0]) == 36


@needs_tshark
def test_frames_cut_and_joined_at_any_place(tmp_path: Path, tshark: Tshark) -> None:
    whole = list(frames_of("v12_attest_p384"))
    expected = tshark.names(tcp_capture(tmp_path / "whole.pcapng", whole))
    pieces = [
        (ours, frame[at : at + 3]) for ours, frame in whole[:6] for at in range(0, len(frame), 3)
    ]
    path = tcp_capture(tmp_path / "cut.pcapng", [*pieces, *whole[6:]])
    assert tshark.names(path) == expected


@needs_tshark
@pytest.mark.parametrize(("transport", "vector"), [(1, "v12_mctp_session"), (2, "v12_attest_p384")])
def test_the_emulators_framing(tmp_path: Path, tshark: Tshark, transport: int, vector: str) -> None:
    def wrapped(frame: bytes) -> bytes:
        if transport == 2:
            frame = doe.encode(Frame(FrameKind.MESSAGE, frame[4:]))
        return struct.pack(">III", 1, transport, len(frame)) + frame

    hello = struct.pack(">III", 0xDEAD, transport, 14) + b"Client Hello!\0"
    frames = [(ours, wrapped(frame)) for ours, frame in frames_of(vector)]
    keys = tmp_path / "keys.log"
    names = expected_names(load_vector(vector), keys)
    path = tcp_capture(tmp_path / "c.pcapng", [(True, hello), *frames], port=2323)
    assert tshark.names(path, keys) == names
    assert tshark.fields(path, "spdm.emu.command", only="spdm.emu.command == 0xdead") == [
        ["0x0000dead"]
    ]


@needs_tshark
def test_objects_of_a_doe_mailbox(tmp_path: Path, tshark: Tshark) -> None:
    path = tmp_path / "c.pcapng"
    with CaptureWriter(path) as writer:
        mailbox = writer.doe()
        for ours, frame in frames_of("v12_attest_p384"):
            message = doe.encode(Frame(FrameKind.MESSAGE, frame[4:]))
            (mailbox.sent if ours else mailbox.received)(message)
    assert len(tshark.names(path)) == 36


@needs_tshark
def test_requests_and_responses_are_linked(tmp_path: Path, tshark: Tshark) -> None:
    path = tcp_capture(tmp_path / "c.pcapng", frames_of("v12_attest_p384"))
    rows = tshark.fields(path, "spdm.code", "spdm.request_in", "spdm.response_in", "spdm.time")
    assert rows[0] == ["0x84", "", "5", ""]
    assert rows[1] == ["0x04", "4", "", "0.001000000"]


@needs_tshark
def test_filters_for_messages_fields_and_bits(tmp_path: Path, tshark: Tshark) -> None:
    path = tcp_capture(tmp_path / "c.pcapng", frames_of("v12_attest_p384"))
    wanted = {
        "spdm.challenge_auth": 2,  # the requester proves itself as well
        "spdm.challenge.slot_id": 2,
        "spdm.capabilities.flags.cert_cap": 1,
        "spdm.measurements.nonce": 1,
        "spdm.device_mode": 1,
        "spdm.measurement_block.index": 1,
        "spdm.challenge_auth.cert_chain_hash": 2,
        "spdm.inside": 6,
        "spdm.in_session": 0,
    }
    rows = tshark.fields(path, *wanted)
    found = {name: sum(bool(row[at]) for row in rows) for at, name in enumerate(wanted)}
    assert found == wanted
    together = (
        'spdm.code == 0x61 && spdm.capabilities.flags.meas_cap == 2 && spdm.from == "Responder"'
    )
    assert len(tshark.fields(path, "frame.number", only=together)) == 1


@needs_tshark
def test_records_without_secrets_are_shown_as_such(tmp_path: Path, tshark: Tshark) -> None:
    path = tcp_capture(tmp_path / "c.pcapng", frames_of("v12_session_p384"))
    rows = tshark.fields(path, "spdm.record.decrypted", "spdm.from", only="spdm.record")
    assert len(rows) == 20
    assert {row[0] for row in rows} == {"0"}
    assert {row[1] for row in rows} == {"Requester", "Responder"}
    assert "not decrypted, no secret of this session is in the key log" in tshark.tree(path)


@needs_tshark
def test_a_record_that_was_changed_is_not_decrypted(tmp_path: Path, tshark: Tshark) -> None:
    frames = list(frames_of("v12_session_p384"))
    keys = tmp_path / "keys.log"
    expected_names(load_vector("v12_session_p384"), keys)
    at = next(number for number, (_, frame) in enumerate(frames) if frame[3] == 6)
    ours, frame = frames[at]
    frames[at] = (ours, frame[:-1] + bytes((frame[-1] ^ 1,)))
    path = tcp_capture(tmp_path / "c.pcapng", frames)
    rows = tshark.fields(path, "spdm.record.decrypted", only="spdm.record", keys=keys)
    assert rows[0] == ["0"]
    assert ["1"] in rows


@needs_tshark
def test_what_is_wrong_is_said(tmp_path: Path, tshark: Tshark) -> None:
    frames = [(ours, strict(frame)) for ours, frame in frames_of("v12_attest_p384")]
    broken = bytearray(frames[5][1])
    broken[4 + 4 : 4 + 6] = b"\xff\x00"  # Length of ALGORITHMS
    frames[5] = (False, bytes(broken))
    reserved = bytearray(frames[6][1])
    reserved[6] = 1  # Param1 of GET_DIGESTS
    frames[6] = (True, bytes(reserved))
    path = tcp_capture(tmp_path / "c.pcapng", [*frames[:8], (False, bytes.fromhex("000001c0"))])
    said = [row[0] for row in tshark.fields(path, "_ws.expert.message", only="spdm && _ws.expert")]
    text = "\n".join(said)
    assert "ALGORITHMS: decoding broke at byte 4, Length: 255 bytes, but fewer are there" in text
    assert "Reserved bits are not zero" in text
    assert "TOO_LARGE" in text
    assert "ALGORITHMS malformed" in "\n".join(
        row[0] for row in tshark.fields(path, "_ws.col.Info")
    )


@needs_tshark
def test_role_inquiry_tells_who_is_who(tmp_path: Path, tshark: Tshark) -> None:
    inquiry = (True, bytes.fromhex("000001bf"))
    turned = [(not ours, strict(frame)) for ours, frame in frames_of("v12_attest_p384")]
    path = tcp_capture(tmp_path / "c.pcapng", [inquiry, *turned[:4]])
    rows = tshark.fields(path, "spdm.binding.type", "spdm.from")
    assert [row[0] for row in rows] == ["0xbf", "0x05", "0x05", "0x05", "0x05"]
    assert [row[1] for row in rows[1:]] == ["Requester", "Responder"] * 2


@needs_tshark
def test_an_mctp_message_in_several_packets(tmp_path: Path, tshark: Tshark) -> None:
    path = tmp_path / "c.pcapng"
    message = bytes.fromhex("0510840000")
    with CaptureWriter(path) as writer:
        capture = writer.mctp(8, 9)
        capture.sent(message, owner=True)
        for number, part in enumerate((message[:2], message[2:4], message[4:])):
            flags = 0x88 if number == 0 else 0x48 if number == 2 else 0x08
            packet = bytes((1, 9, 8, flags | number << 4)) + part
            writer.write([_cooked(packet)])
    assert tshark.names(path) == ["GET_VERSION", "GET_VERSION"]


def _cooked(packet: bytes) -> Packet:
    data = struct.pack("!HHH8sH", 4, 290, 1, b"\x08", 0x00FA) + packet
    return Packet(1_800_000_000_000_000_000, LinkType.LINUX_SLL, data, len(data))


@needs_tshark
def test_the_services_of_a_device_that_connects(tmp_path: Path, tshark: Tshark) -> None:
    vector = Path(__file__).parent.parent.parent / "vectors" / "strict_reach_out.json"
    path, keys = tmp_path / "c.pcapng", tmp_path / "keys.log"
    copies = ["--write-capture", str(path), "--write-keylog", str(keys)]
    assert run(["decode", str(vector), "--summary", *copies]) == 0
    told = [row[0] for row in tshark.fields(path, "_ws.col.Info", keys=keys)]
    assert told[0] == "Role-Inquiry"
    wanted = ("GET_SERVICE_REQUEST", "VERIFICATION_RESULTS", "SET_REFERENCE", "SET_POLICY_ACK")
    for name in wanted:
        assert any(f" {name} " in f"{line} " for line in told), name
    assert tshark.fields(path, "frame.number", only="spdm.set_policy && spdm.in_session", keys=keys)
