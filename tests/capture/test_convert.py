"""Recordings of any form as captures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spdmkit.capture.decode import Decoder
from spdmkit.capture.events import EventKind
from spdmkit.capture.files import read_packets
from spdmkit.capture.sources import open_recording
from spdmkit.cli.root import run

from .support import DATA, vector_names

VECTORS = Path(__file__).parent.parent.parent / "vectors"


def events_of(path: Path) -> list[tuple[str, str, bytes]]:
    with Decoder(open_recording(str(path)), verify=False) as decoder:
        return [
            (event.name, event.sender.value, event.raw)
            for event in decoder
            if event.kind is not EventKind.CLOSED
        ]


def converted(source: Path, folder: Path) -> Path:
    target = folder / "c.pcapng"
    assert run(["decode", str(source), "--summary", "--write-capture", str(target)]) == 0
    return target


@pytest.mark.parametrize(
    "path",
    [
        *(DATA / "vectors" / f"{name}.json" for name in vector_names()),
        *sorted(VECTORS.glob("*reach_out*.json")),
        *sorted((DATA / "captures").glob("*.pcap")),
    ],
    ids=lambda path: path.stem,
)
def test_what_goes_in_comes_out(path: Path, tmp_path: Path) -> None:
    # Secrets do not travel in captures: records stay records.
    before = [
        entry
        for entry in events_of_without_secrets(path, tmp_path)
        if entry[0] != "platform"  # a DOE discovery is no message
    ]
    assert events_of(converted(path, tmp_path)) == before


def events_of_without_secrets(path: Path, folder: Path) -> list[tuple[str, str, bytes]]:
    if path.suffix != ".json":
        return events_of(path)
    document = json.loads(path.read_text())
    document["derived"] = []
    bare = folder / "bare.json"
    bare.write_text(json.dumps(document))
    return events_of(bare)


def test_messages_in_hex_become_frames(tmp_path: Path) -> None:
    source = tmp_path / "hex"
    source.write_text("> 10840000\n< 1004000000010012\n")
    target = converted(source, tmp_path)
    assert [entry[:2] for entry in events_of(target)] == [
        ("GET_VERSION", "requester"),
        ("VERSION", "responder"),
    ]
    with target.open("rb") as stream:
        times = [packet.time_ns for packet in read_packets(stream)]
    assert times == sorted(times)
    assert times[-1] - times[0] == 1_000_000


def test_the_same_recording_gives_the_same_file(tmp_path: Path) -> None:
    source = DATA / "vectors" / "v12_session_short.json"
    first = converted(source, tmp_path).read_bytes()
    assert converted(source, tmp_path).read_bytes() == first


def test_a_capture_is_not_written_over_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = converted(DATA / "vectors" / "v12_session_short.json", tmp_path)
    whole = source.read_bytes()
    assert run(["decode", str(source), "--write-capture", str(source)]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert source.read_bytes() == whole
