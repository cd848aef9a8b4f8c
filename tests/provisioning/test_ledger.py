"""The ledger: no serial number twice, whatever happens to the file or its writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spdmkit.errors import ConfigurationError
from spdmkit.provisioning.ledger import MAX_LINE, Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def test_what_happened_is_read_back(path: Path) -> None:
    ledger = Ledger(path)
    serial = ledger.reserve(device="a:b:c", slot=1)
    ledger.note("issued", serial, certificate="AA==")
    ledger.note("installed", serial, target="tcp://h")
    with ledger.next_crl() as number:
        assert number == 1
    again = Ledger(path)
    entry = again.entries[serial]
    assert entry.state == "installed"
    assert entry.details == {
        "device": "a:b:c",
        "slot": 1,
        "certificate": "AA==",
        "target": "tcp://h",
    }
    assert again.crl_number == 1
    with again.next_crl() as number:
        assert number == 2


def test_serial_numbers_are_positive_and_short(path: Path) -> None:
    ledger = Ledger(path)
    for _ in range(50):
        assert 0 < ledger.reserve() < 1 << 158


def test_two_writers_see_each_other(path: Path) -> None:
    one, two = Ledger(path), Ledger(path)
    serials = [ledger.reserve() for ledger in (one, two, one, two)]
    assert two.entries.keys() == set(serials)
    assert Ledger(path).entries.keys() == set(serials)


def test_many_threads_lose_nothing(path: Path) -> None:
    def write(_: int) -> list[int]:
        ledger = Ledger(path)
        return [ledger.reserve() for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        drawn = [serial for found in pool.map(write, range(8)) for serial in found]
    assert len(set(drawn)) == 40
    assert Ledger(path).entries.keys() == set(drawn)


def test_a_line_cut_by_a_crash_is_dropped(path: Path) -> None:
    ledger = Ledger(path)
    first = ledger.reserve()
    with path.open("ab") as file:
        file.write(b'{"event": "reserved", "ser')
    again = Ledger(path)
    assert again.entries.keys() == {first}
    second = again.reserve()
    assert Ledger(path).entries.keys() == {first, second}


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"event": "minted", "serial": "01"}\n',
        b'{"event": "issued"}\n',
        b'{"event": "issued", "serial": "xyz"}\n',
        b'{"event": "crl"}\n',
        b'{"event": "revoked", "serial": "01"}\n',
    ],
)
def test_a_damaged_line_is_an_error_with_its_number(path: Path, line: bytes) -> None:
    Ledger(path).reserve()
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(ConfigurationError, match=r"ledger\.jsonl:2: not an entry"):
        Ledger(path)


def test_a_line_without_end_is_not_read_into_memory(path: Path) -> None:
    path.write_bytes(b"x" * (MAX_LINE + 10))
    with pytest.raises(ConfigurationError, match="too long a line"):
        Ledger(path)


def test_revoked_stays_revoked(path: Path) -> None:
    ledger = Ledger(path)
    serial = ledger.reserve()
    ledger.revoke(serial, time="2026-01-02T03:04:05Z", reason="superseded")
    ledger.note("installed", serial)
    assert Ledger(path).entries[serial].state == "revoked"
    with pytest.raises(ConfigurationError, match="revoked already"):
        ledger.revoke(serial, time="2026-01-02T03:04:05Z", reason="superseded")


def test_find_takes_what_people_write(path: Path) -> None:
    ledger = Ledger(path)
    serial = ledger.reserve()
    name = ledger.entries[serial].name
    spaced = ":".join(name[i : i + 2] for i in range(0, len(name), 2))
    for text in (name, name.lower(), spaced, f"serial:{name}", f"0x{name}"):
        assert ledger.find(text).serial == serial
    with pytest.raises(ConfigurationError, match="not a serial number"):
        ledger.find("zz")
    with pytest.raises(ConfigurationError, match=r"serial:01 is not in"):
        ledger.find("1")


def test_nothing_is_noted_of_unknown_numbers(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(ConfigurationError):
        ledger.note("issued", 5)
    with pytest.raises(ConfigurationError):
        ledger.revoke(5, time="", reason="")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Ledger(tmp_path / "no" / "ledger.jsonl").reserve()
