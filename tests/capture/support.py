"""What several tests of this folder share."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from spdmkit.capture.decode import Decoder, Summary
from spdmkit.capture.events import Check, ConversationEvent
from spdmkit.capture.sources import Recording, read_recording
from spdmkit.capture.writer import CaptureWriter

TSHARK = shutil.which("tshark") or "tshark"

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="tshark is not installed (Debian package tshark)"
)

DATA = Path(__file__).parent.parent / "data"
VECTORS = sorted((DATA / "vectors").glob("*.json"))


def vector_names() -> list[str]:
    """Names of all recorded conversations."""
    return [path.stem for path in VECTORS]


def load_vector(name: str) -> dict[str, Any]:
    """A recorded conversation as it stands in its file."""
    document: dict[str, Any] = json.loads((DATA / "vectors" / f"{name}.json").read_text())
    return document


def recording_of(document: dict[str, Any]) -> Recording:
    """A recorded conversation, maybe bent, opened for decoding."""
    return read_recording(io.BytesIO(json.dumps(document).encode()))


def decode(recording: Recording, **options: Any) -> tuple[list[ConversationEvent], Summary]:
    """All events of a recording, and its summary."""
    with Decoder(recording, **options) as decoder:
        return list(decoder), decoder.summary


def checks_of(events: Iterable[ConversationEvent]) -> list[Check]:
    """All checks, those of messages inside of others included."""
    return [check for event in events for each in event.walk() for check in each.checks]


def write_capture(document: dict[str, Any], path: Path) -> None:
    """A recorded conversation as a capture of the connection it could have been."""
    clock = itertools.count(1_800_000_000_000_000_000, 1_000_003).__next__
    frames = [(m["from"] == "requester", bytes.fromhex(m["frame"])) for m in document["messages"]]
    with CaptureWriter(path, clock=clock) as writer:
        if document["transport"] == "mctp":
            mctp = writer.mctp(8, 9)
            for ours, frame in frames:
                (mctp.sent if ours else mctp.received)(frame, owner=ours)
            return
        connection = writer.tcp(("10.0.0.1", 40000), ("10.0.0.2", 4194), initiator=True)
        for ours, frame in frames:
            (connection.sent if ours else connection.received)(frame)
        connection.closed()
