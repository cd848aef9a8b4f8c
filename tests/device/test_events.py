"""A device in a folder tells who subscribed of what happens to it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from spdmkit.device.journal import Journal
from spdmkit.identity import Purpose, TrustAnchors, verify_chain
from spdmkit.messages import V13, V14, DmtfEventType, ErrorCode
from spdmkit.protocol.requester.certificates import get_certificate
from spdmkit.protocol.requester.events import (
    await_events,
    await_measurement_change,
    changed_measurements,
    changed_slots,
    dmtf_event_group,
    get_supported_event_types,
    subscribe_event_types,
)
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.provisioning import set_certificate
from spdmkit.protocol.requester.sessions import key_exchange

from ..protocol.support import refusal
from .test_provisioning import ALLOWED, made, pair_with, session

MEASURED = "firmware/main.bin"


@pytest.mark.parametrize("version", [V13, V14])
def test_changed_measurements(tmp_path: Path, version: int) -> None:
    device = made(tmp_path)
    pair = pair_with(device, version)
    device.watch(pair.responder)
    pair.run(negotiate(pair.link))
    proven = verify_chain(
        pair.run(get_certificate(pair.link, 0)),
        TrustAnchors([device.credentials.slots[0].certificates[0]], Purpose.DEVICE),
        purpose=Purpose.DEVICE,
        time=dt.datetime.now(dt.UTC),
    )
    opened = pair.run(key_exchange(pair.link, proven, termination_policy=True))
    link = opened.link
    pair.run(subscribe_event_types(link, [dmtf_event_group([DmtfEventType.MEASUREMENT_CHANGED])]))
    before = device.measurements(fresh=False)
    until = pair.clock.now + 3
    assert pair.run(await_events(link, until=until)) == []
    (device.folder / MEASURED).write_bytes(b"other firmware")
    signed = pair.run(await_measurement_change(link, proven))
    assert signed is not None
    after = device.measurements(fresh=False)
    changed = {new.index for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {2}
    assert len(signed.blocks) == len(after)


@pytest.mark.parametrize("version", [V13, V14])
def test_the_change_ends_a_session_that_did_not_ask_to_go_on(tmp_path: Path, version: int) -> None:
    device = made(tmp_path)
    pair = pair_with(device, version)
    device.watch(pair.responder)
    link = session(pair, device)
    pair.run(subscribe_event_types(link, [dmtf_event_group()]))
    (device.folder / MEASURED).write_bytes(b"other firmware")
    code = ErrorCode.REQUEST_SESSION_TERMINATED if version == V14 else ErrorCode.DECRYPT_ERROR
    assert refusal(pair, await_events(link)) is code
    assert link.session is not None
    (event,) = link.session.take_notifications()
    assert changed_measurements(event) == {2}


def test_a_file_that_only_looks_different(tmp_path: Path) -> None:
    device = made(tmp_path)
    path = device.folder / MEASURED
    path.write_bytes(path.read_bytes())
    assert device.events_since(0).occurrences == []
    path.unlink()
    assert device.events_since(0).occurrences == []


@pytest.mark.parametrize("version", [V13, V14])
def test_changed_slots(tmp_path: Path, version: int) -> None:
    device = made(tmp_path, ALLOWED)
    pair = pair_with(device, version)
    link = session(pair, device)
    (group,) = pair.run(get_supported_event_types(link))
    listed = [each.event_type_id for each in group.event_types]
    assert listed == ([1, 2, 4, 5] if version == V14 else [1, 2, 4])
    pair.run(subscribe_event_types(link, [dmtf_event_group()]))
    pair.run(set_certificate(link, 3, device.credentials.slots[0].certificates))
    first, *more = pair.run(await_events(link))
    assert changed_slots(first) == {3}
    assert [each.detail for each in more] == ([b"\x00\x08"] if version == V14 else [])


class TestJournal:
    def test_everybody_reads_from_its_own_place(self) -> None:
        journal = Journal()
        journal.slots_changed([0])
        place = journal.place
        journal.measurements_changed([])
        journal.measurements_changed([1, 254])
        since = journal.since(place)
        (only,) = since.occurrences
        assert only.detail == (1 << 254 | 2).to_bytes(32, "little")
        assert not since.lost
        assert journal.since(since.place).occurrences == []

    def test_what_is_forgotten_is_said(self) -> None:
        journal = Journal(most_kept=2)
        for index in (1, 2, 3):
            journal.measurements_changed([index])
        since = journal.since(0)
        assert since.lost
        assert [each.detail[0] for each in since.occurrences] == [4, 8]
        assert not journal.since(1).lost
