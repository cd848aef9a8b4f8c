"""The decoder's summary, filters, forms for machines and people."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from spdmkit.capture.decode import Decoder, EventFilter, Summary, Timing
from spdmkit.capture.events import EventKind, Party, Verdict
from spdmkit.capture.sources import open_recording, read_recording
from spdmkit.capture.text import event_lines, summary_lines, tree_lines

from .support import checks_of, decode, load_vector, recording_of, vector_names, write_capture

SESSION = "v12_session_p384"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "c.pcapng"
    write_capture(load_vector("v12_attest_p384"), path)
    return path


def test_the_summary_for_machines() -> None:
    _, summary = decode(recording_of(load_vector(SESSION)))
    found = json.loads(json.dumps(summary.to_json()))
    tally = {"verified", "failed", "unverifiable"}
    assert {
        key for key, value in found.items() if isinstance(value, dict) and tally == set(value)
    } == {
        "signatures",
        "hashes",
        "macs",
        "chains",
    }
    assert (found["messages"], found["undecoded"]) == (46, 0)
    assert (found["records"], found["records_decrypted"]) == (20, 20)
    assert (found["connections"], found["sessions"]) == (1, 2)
    assert found["names"]["KEY_UPDATE"] == 4
    assert found["duration"] is None
    assert found["timings"] == {}


def test_exchanges_are_timed(capture: Path) -> None:
    _, summary = decode(open_recording(str(capture)))
    timing = summary.timings["MEASUREMENTS"]
    assert timing.count == 1
    assert timing.shortest_ns == timing.longest_ns == timing.total_ns == 1_000_003
    found = summary.to_json()
    assert found["timings"]["CERTIFICATE"] == {
        "count": 3,
        "total": pytest.approx(0.003000009),
        "mean": pytest.approx(0.001000003),
        "shortest": pytest.approx(0.001000003),
        "longest": pytest.approx(0.001000003),
    }
    assert found["duration"] == pytest.approx(0.031, abs=0.002)


def test_timings_keep_extremes() -> None:
    timing = Timing()
    for elapsed in (5, 2, 9):
        timing.add(elapsed)
    assert (timing.count, timing.total_ns, timing.shortest_ns, timing.longest_ns) == (3, 16, 2, 9)
    assert Timing().to_json()["mean"] == 0


def test_events_for_machines() -> None:
    events, _ = decode(recording_of(load_vector("v12_mutual_encap")))
    for event in events:
        found = json.loads(json.dumps(event.to_json()))
        assert found["number"] == event.number
        assert found["from"] in ("requester", "responder")
        assert found["name"]
        assert found["fields"][0]["name"] == "SPDMVersion"
        assert "fields" not in event.to_json(fields=False)
    finish = next(event for event in events if event.name == "FINISH")
    found = finish.to_json()
    assert found["session"] == "0xffffffff"
    assert found["code"] == 0xE5
    assert {"kind": "signature", "name": "requester-finish", "verdict": "verified"} in found[
        "checks"
    ]
    assert events[finish.number].to_json()["answers"] == finish.number
    deliver = next(event for event in events if event.inside)
    assert deliver.to_json()["inside"][0]["fields"]


def test_wide_integers_are_text_for_machines() -> None:
    events, _ = decode(recording_of(load_vector("v12_attest_p384")))
    text = json.dumps([event.to_json() for event in events])
    numbers: list[int] = []
    json.loads(text, parse_int=lambda digits: numbers.append(int(digits)))
    assert numbers
    assert max(numbers) < 2**53


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (EventFilter(), 46),
        (EventFilter(names=frozenset({"KEY_UPDATE"})), 4),
        (EventFilter(sessions=frozenset({0xFFFFFFFF})), 20 + 6),  # and what begins them
        (EventFilter(sessions=frozenset({1})), 0),
        (EventFilter(connections=frozenset({1})), 46),
        (EventFilter(connections=frozenset({2})), 0),
        (EventFilter(sender=Party.REQUESTER), 23),
        (EventFilter(failed=True), 0),
        (EventFilter(since_ns=1), 0),  # the recording has no times
    ],
)
def test_filters(chosen: EventFilter, expected: int) -> None:
    events, _ = decode(recording_of(load_vector(SESSION)))
    assert sum(map(chosen, events)) == expected


def test_filters_by_time_and_failure(capture: Path) -> None:
    events, _ = decode(open_recording(str(capture)))
    times = [event.time_ns or 0 for event in events]
    assert sum(map(EventFilter(since_ns=times[10]), events)) == len(events) - 10
    assert sum(map(EventFilter(until_ns=times[9]), events)) == 10
    document = load_vector(SESSION)
    document["messages"][5]["frame"] = "0800010512630400"
    events, _ = decode(recording_of(document))
    assert EventFilter(failed=True)(events[5])
    assert not EventFilter(failed=True)(events[4])


def test_filters_find_what_is_inside() -> None:
    events, _ = decode(recording_of(load_vector("v12_attest_p384")))
    names = [e.name for e in events if EventFilter(names=frozenset({"CHALLENGE_AUTH"}))(e)]
    assert names == ["CHALLENGE_AUTH", "DELIVER_ENCAPSULATED_RESPONSE"]


def test_a_chain_is_judged_at_the_time_of_the_capture(tmp_path: Path) -> None:
    document = load_vector("v12_attest_p384")
    anchors = [bytes.fromhex(der) for der in document["trust_anchors"].values()]
    path = tmp_path / "c.pcapng"
    write_capture(document, path)
    events, _ = decode(open_recording(str(path)), anchors=anchors)
    chains = [check for check in checks_of(events) if check.name == "certificate chain"]
    assert {check.verdict for check in chains} == {Verdict.VERIFIED}
    recording = open_recording(str(path))
    stamped = list(recording.events)
    for event in stamped:
        event.time_ns = 2**60  # 2006, before the certificates were issued
    recording.events = iter(stamped)
    events, _ = decode(recording, anchors=anchors)
    failed = [check for check in checks_of(events) if check.verdict is Verdict.FAILED]
    assert {check.name for check in failed} == {"certificate chain"}
    assert "validity" in failed[0].reason


def test_without_verifying_nothing_is_checked_but_everything_decrypted() -> None:
    for name in vector_names():
        document = load_vector(name)
        events, summary = decode(recording_of(document), verify=False)
        assert not checks_of(events)
        assert summary.records == summary.records_decrypted
        assert summary.undecoded == 0


def test_trouble_with_secrets_is_in_the_summary() -> None:
    from spdmkit.capture.secretfiles import read_secrets

    secrets = read_secrets(["PSK zz 00 00"])
    _, summary = decode(recording_of(load_vector(SESSION)), secrets=secrets)
    assert summary.notes == ["key log line 1: request random: is not hex"]
    assert "note: key log line 1" in list(summary_lines(summary))[-1]


def test_a_capture_without_spdm() -> None:
    from spdmkit.capture.pcapng import PcapngWriter

    stream = io.BytesIO()
    PcapngWriter(stream)
    with Decoder(read_recording(io.BytesIO(stream.getvalue()))) as decoder:
        summary = decoder.run()
    assert summary.messages == 0
    assert summary.notes[0].startswith("no SPDM in 0 packets")


# --- for people -------------------------------------------------------------------------------


def lines(document: dict[str, Any], **options: Any) -> list[str]:
    events, _ = decode(recording_of(document))
    return [line for event in events for line in event_lines(event, **options)]


def test_a_line_for_each_message() -> None:
    text = lines(load_vector("v12_attest_p384"))
    assert text[0] == "     1  #1 --> GET_VERSION"
    assert text[1] == "     2  #1 <-- VERSION  1.2"
    assert "    14  #1 <-- CHALLENGE_AUTH  slot 0, chain 8ba830f57b7ffcf9…" in text[13]
    assert text[13].endswith("(3 ok)")
    assert "        inside <-- GET_DIGESTS" in text


def test_lines_with_times(capture: Path) -> None:
    events, _ = decode(open_recording(str(capture)))
    first = next(iter(event_lines(events[1], start_ns=events[0].time_ns)))
    assert first == "     2      0.001000  #1 <-- VERSION  1.2"
    assert events[-1].kind is EventKind.CLOSED
    assert next(iter(event_lines(events[-1]))).endswith("connection closed")


def test_verbose_lines_have_checks_fields_and_clauses() -> None:
    text = lines(load_vector("v12_session_p384"), verbose=True)
    assert any("GET_CAPABILITIES" in line and "[DSP0274 10.3]" in line for line in text)
    assert any(line.strip() == "0000  SPDMVersion = 1.2" for line in text)
    assert any(line.strip() == ".3:0  OpaqueDataFormats = 0x2 (FMT1)" for line in text)
    assert any(line.strip() == "ok: responder-key_exchange_rsp" for line in text)
    assert any("MeasurementBlock" in line and "[10.12]" in line for line in text)


def test_a_break_is_shown_in_the_bytes() -> None:
    document = load_vector("v12_attest_p384")
    position = 5
    frame = bytes.fromhex(document["messages"][position]["frame"])[4:-10]
    document["messages"][position]["frame"] = (
        (len(frame) + 2).to_bytes(2, "little") + b"\x01\x05" + frame
    ).hex()
    text = lines(document)
    start = next(number for number, line in enumerate(text) if "malformed" in line)
    assert "ALGORITHMS  malformed: ALGORITHMS.Length at byte 4" in text[start]
    caret = next(line for line in text[start:] if "^ here" in line)
    above = text[text.index(caret) - 1]
    assert above[caret.index("^") :].startswith("34 00")


def test_a_break_behind_the_last_byte() -> None:
    text = lines({"transport": "none", "messages": [{"from": "requester", "frame": "1284"}]})
    assert any("^ here" in line for line in text)
    text = lines({"transport": "none", "messages": [{"from": "requester", "frame": "10" * 16}]})
    assert text


def test_failed_and_unverifiable_checks_are_lines_of_their_own() -> None:
    document = load_vector("v12_attest_p384")
    frame = document["messages"][13]["frame"]
    document["messages"][13]["frame"] = frame[:-2] + ("00" if frame[-2:] != "00" else "01")
    text = lines(document)
    assert any("FAILED: responder-challenge_auth: " in line for line in text)
    document["derived"] = []
    document["messages"] = [m for i, m in enumerate(document["messages"]) if i not in (8, 9)]
    text = lines(document)
    assert any("unverifiable: responder-challenge_auth: the certificate chain" in t for t in text)


def test_records_without_keys_say_why_once() -> None:
    document = load_vector(SESSION)
    document["derived"] = []
    text = [line for line in lines(document) if "not decrypted" in line]
    assert len(text) == 2  # one for each session


def test_role_inquiry_error_frames_and_junk() -> None:
    messages = [
        {"from": "responder", "frame": "000001bf"},
        {"from": "requester", "frame": "0400010510840000"},
        {"from": "responder", "frame": "000001c0"},
        {"from": "responder", "frame": "000002c1"},
        {"from": "responder", "frame": "000001ff"},
        {"from": "responder", "frame": "0a0b0c0d0e0f"},
    ]
    text = lines({"transport": "tcp", "messages": messages})
    assert "Role-Inquiry  the initiator is a responder" in text[0]
    assert "error frame  0xC0: the frame before is too large" in text[2]
    assert "0xC1: supports version 2 of the binding" in text[3]
    assert "0xFF: reserved" in text[4]
    assert "not SPDM  6 bytes" in text[5]


def test_the_summary_for_people(capture: Path) -> None:
    _, summary = decode(open_recording(str(capture)))
    text = list(summary_lines(summary))
    assert text[0] == "30 messages, 6 more inside of them, 0 undecoded"
    assert "signatures: 3 verified" in text
    assert any(line.startswith("CERTIFICATE ") and "1 ms" in line for line in text)
    empty = list(summary_lines(Summary()))
    assert len(empty) == 2


def test_tree_lines_name_reserved_bytes() -> None:
    events, _ = decode(recording_of(load_vector("v12_attest_p384")))
    tree = events[2].tree()
    assert tree is not None
    text = [line for child in tree.children for line in tree_lines(child)]
    assert any("Reserved" in line for line in text)
