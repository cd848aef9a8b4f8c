"""The key log, and other files with secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.capture.keylog import KeyLog, KeyLogLine, Label, SessionRandom, parse_line
from spdmkit.capture.secretfiles import LooseSecret, Secrets, load_secrets, read_secrets
from spdmkit.errors import ConfigurationError, DecodeError

SESSION = (b"\x01" * 32, b"\x02" * 32)
DATA_LABELS = (Label.REQUEST_DATA_SECRET, Label.RESPONSE_DATA_SECRET)


@given(
    st.sampled_from(Label),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=64),
    st.binary(max_size=64),
    st.binary(min_size=1, max_size=64),
)
def test_lines_read_back(
    label: Label, generation: int, request: bytes, response: bytes, secret: bytes
) -> None:
    line = KeyLogLine(
        label, generation if label in DATA_LABELS else 0, SessionRandom(request, response), secret
    )
    assert parse_line(str(line)) == line


def test_the_form_of_a_line() -> None:
    line = KeyLogLine(Label.REQUEST_DATA_SECRET, 3, SessionRandom(b"\xab", b""), b"\x01\x02")
    assert str(line) == "REQUEST_DATA_SECRET_3 ab - 0102"


@pytest.mark.parametrize("text", ["", "\n", "   ", "# a remark", "  # PSK 00 00 00"])
def test_lines_that_say_nothing(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("PSK 00 00", "line"),
        ("PSK 00 00 00 00", "line"),
        ("CLIENT_RANDOM 00 00 00", "label"),
        ("PSK_0 00 00 00", "label"),
        ("REQUEST_DATA_SECRET 00 00 00", "label"),
        ("REQUEST_DATA_SECRET_ 00 00 00", "label"),
        ("REQUEST_DATA_SECRET_-1 00 00 00", "label"),
        ("REQUEST_DATA_SECRET_4294967296 00 00 00", "label"),
        ("REQUEST_DATA_SECRET_٣ 00 00 00", "label"),
        ("PSK 0 00 00", "request random"),
        ("PSK 00 xx 00", "response random"),
        ("PSK 00 00 -", "secret"),
        ("PSK 00 00 " + "00" * 1025, "secret"),
    ],
)
def test_broken_lines_name_the_field_and_no_secret(text: str, field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_line(text, 7)
    assert (caught.value.field, caught.value.offset) == (field, 7)
    assert text.rpartition(" ")[2] not in str(caught.value)


def test_it_is_opt_in_by_the_environment(tmp_path: Path) -> None:
    assert KeyLog.from_environment({}) is None
    assert KeyLog.from_environment({"SPDMKEYLOGFILE": ""}) is None
    path = tmp_path / "keys.log"
    log = KeyLog.from_environment({"SPDMKEYLOGFILE": str(path)})
    assert log is not None
    log.close()
    assert path.exists()


def test_writing_appends_and_counts_generations(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    other = (b"\x03" * 32, b"")
    for start in (0, 100):
        log = KeyLog(path)
        log.record("REQUEST_HANDSHAKE_SECRET", SESSION, bytes([start]))
        log.record("REQUEST_DATA_SECRET", SESSION, bytes([start + 1]))
        log.record("REQUEST_DATA_SECRET", other, bytes([start + 2]))
        log.record("REQUEST_DATA_SECRET", SESSION, bytes([start + 3]))
        log.close()
        log.record("PSK", SESSION, b"late")
    session = f"{'01' * 32} {'02' * 32}"
    expected = [
        line
        for start in (0, 100)
        for line in (
            f"REQUEST_HANDSHAKE_SECRET {session} {start:02x}",
            f"REQUEST_DATA_SECRET_0 {session} {start + 1:02x}",
            f"REQUEST_DATA_SECRET_0 {'03' * 32} - {start + 2:02x}",
            f"REQUEST_DATA_SECRET_1 {session} {start + 3:02x}",
        )
    ]
    assert path.read_text().splitlines() == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_both_ends_in_one_process_write_a_secret_once(tmp_path: Path) -> None:
    log = KeyLog(tmp_path / "keys.log")
    for secret in (b"a", b"a", b"b", b"b", b"c"):
        event = SimpleNamespace(
            label="RESPONSE_DATA_SECRET",
            client_random=SESSION[0],
            server_random=SESSION[1],
            secret=secret,
        )
        log(event)
    log.close()
    names = [line.split()[0] for line in (tmp_path / "keys.log").read_text().splitlines()]
    assert names == [f"RESPONSE_DATA_SECRET_{n}" for n in range(3)]


def test_an_unknown_label_is_refused(tmp_path: Path) -> None:
    log = KeyLog(tmp_path / "keys.log")
    with pytest.raises(ConfigurationError, match="no label"):
        log.record("MASTER_KEY", SESSION, b"x")
    log.close()
    assert (tmp_path / "keys.log").read_text() == ""


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    path.touch(0o644)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others") as caught:
        KeyLog(path)
    assert "chmod 600" in caught.value.hint


def test_something_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot open"):
        KeyLog(tmp_path)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        KeyLog("/dev/null")
    with pytest.raises(ConfigurationError, match="cannot open"):
        KeyLog(tmp_path / "none" / "keys.log")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_log_that_cannot_be_written_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = KeyLog(tmp_path / "keys.log")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._file)
    os.close(full)
    with pytest.raises(ConfigurationError, match="No space left"):
        log.record("PSK", SESSION, b"x")
    log.close()


def test_reading_a_key_log() -> None:
    session = f"{'01' * 32} {'02' * 32}"
    found = read_secrets(
        [
            "# spdmkit\n",
            f"REQUEST_HANDSHAKE_SECRET {session} aa\n",
            f"REQUEST_DATA_SECRET_0 {session} 00\n",
            f"REQUEST_DATA_SECRET_1 {session} 01\n",
            f"RESPONSE_DATA_SECRET_0 {session} 10\n",
            f"RESPONSE_DATA_SECRET_0 {session} zz\n",
            "PSK 03 - bb\n",
        ]
    )
    assert set(found.sessions) == {SessionRandom(*SESSION), SessionRandom(b"\x03", b"")}
    known = found.sessions[SessionRandom(*SESSION)]
    assert known.secrets == {Label.REQUEST_HANDSHAKE_SECRET: b"\xaa"}
    assert known.request_data == {0: b"\0", 1: b"\1"}
    assert known.response_data == {0: b"\x10"}
    assert found.trouble == ["key log line 6: secret: is not hex"]
    assert not found.loose


DEBUG_LOG = """\
RequesterRandomData (0x20) - 0d 32 e2 49 5e
0000: 12 6b 04 00
0020: 4c 3c 49 c9 d1 8b bf 6f 74 2e cf aa b7 0b 6b 29 bb 99 71 01 a7 a2 a0 7b
4c3c49c9d18bbf6f742ecfaab70b6b29bb997101a7a2a07b
[DHE Secret]: 3e9fe6ef
handshake_secret (0x30) - fd b2 46 2e
request_handshake_secret (0x30) - 42 0c 9e 27
psk_hint (0xc) - 54 65 73 74
[PSK]: 5465
[PSK]: 5465
[KEM Secret]: 0102
key (0x20) - 2d 42 90
"""


def test_reading_a_debug_log_of_the_reference() -> None:
    assert read_secrets(DEBUG_LOG.splitlines(keepends=True)).loose == [
        LooseSecret(Label.DHE_SECRET, bytes.fromhex("3e9fe6ef")),
        LooseSecret(Label.PSK, b"Te"),
        LooseSecret(Label.KEM_SECRET, b"\1\2"),
    ]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("dhe_secret 0102", Label.DHE_SECRET),
        ("DHE: 01 02", Label.DHE_SECRET),
        ("kem-secret = 0102", Label.KEM_SECRET),
        ('psk = "0102"', Label.PSK),
        ('hint = "x"\nkey = "0102"', Label.PSK),
    ],
)
def test_reading_a_secret_written_down(tmp_path: Path, text: str, label: Label) -> None:
    path = tmp_path / "secret"
    path.write_text(text + "\n")
    assert load_secrets(path).loose == [LooseSecret(label, b"\1\2")]


def test_bare_hex_may_be_any_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("ab" * 32 + "\n")
    secrets = load_secrets(path)
    assert secrets.loose == [LooseSecret(None, b"\xab" * 32)]
    assert list(secrets.candidates(Label.PSK)) == secrets.loose


def test_candidates_go_on_behind_the_last_that_fitted() -> None:
    secrets = Secrets()
    for number in range(4):
        label = Label.PSK if number == 2 else Label.DHE_SECRET
        secrets.add_loose(label, bytes([number]))
    order = [entry.secret[0] for entry in secrets.candidates(Label.DHE_SECRET)]
    assert order == [0, 1, 3]
    secrets.fitted(LooseSecret(Label.DHE_SECRET, b"\0"))
    assert [entry.secret[0] for entry in secrets.candidates(Label.DHE_SECRET)] == [1, 3, 0]
    assert [entry.secret[0] for entry in secrets.candidates(Label.PSK)] == [2]


def test_collections_join() -> None:
    one = read_secrets(["psk 01\n", "PSK 00 00 00\n"])
    two = read_secrets(["psk 01\n", "psk 02\n", "PSK 01 00 00\n", "PSK 01 zz\n"])
    one.update(two)
    assert [entry.secret for entry in one.loose] == [b"\1", b"\2"]
    assert len(one.sessions) == 2
    assert len(one.trouble) == 1


def test_files_that_cannot_be_read_or_are_broken(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_secrets(tmp_path / "none")
    path = tmp_path / "keys.log"
    path.write_text("PSK 00 zz\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        load_secrets(path)


@given(st.lists(st.text(max_size=60), max_size=10))
def test_reading_never_raises(lines: list[str]) -> None:
    read_secrets(lines)
    for line in lines:
        read_secrets([f"PSK {line}", f"REQUEST_DATA_SECRET_{line}", f"psk: {line}"])
