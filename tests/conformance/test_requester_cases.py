"""Our requester refuses each wrong answer; one that believes everything is found out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.cli.connecting import requester_factory
from spdmkit.conformance.misbehaviour import Misbehaviour
from spdmkit.conformance.outcome import CaseResult, Outcome
from spdmkit.conformance.requester import RequesterCase, Trial, judge, requester_cases, sane_result
from spdmkit.conformance.watching import watch
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.errors import SpdmError
from spdmkit.messages import RequestCode
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports.blocking import connect

R = RequestCode


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requester") / "device"
    initialise(folder, algorithm="ecdsa-p256")
    return folder


def run(
    device: Path, requester: Callable[[str], None], cases: list[RequesterCase]
) -> list[CaseResult]:
    """Watch a requester that connects again and again from a thread."""
    over = threading.Event()
    address: list[str] = []

    def again() -> None:
        while not over.is_set():
            with contextlib.suppress(SpdmError):
                requester(address[0])

    thread = threading.Thread(target=again)

    def ready(uri: str) -> None:
        address.append(f"{uri}?dialect=strict")
        thread.start()

    try:
        return asyncio.run(
            watch(FolderDevice.load(device), "tcp://127.0.0.1:0", cases, patience=20, ready=ready)
        )
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("session", [False, True], ids=["clear", "session"])
def test_our_requester_refuses_what_is_wrong(device: Path, session: bool) -> None:
    verifier = Verifier.from_files(Sources(trust_anchors=[device / "trust-anchor.pem"]))
    settings = requester_settings(sessions=session)

    def attest(uri: str) -> None:
        with connect(uri, requester_factory(settings)) as connection:
            link = Link(connection.endpoint.connection)
            trust = verifier.trust(1_800_000_000)
            connection.run(collect(link, trust, Wanted(session=session)))

    results = run(device, attest, list(requester_cases()))
    wrong = [r for r in results if r.outcome not in (Outcome.PASSED, Outcome.NOT_APPLICABLE)]
    assert [(r.name, r.failures, r.detail) for r in wrong] == []
    applied = sum(r.outcome is Outcome.PASSED for r in results)
    assert applied > 18


CASE = RequesterCase("algorithms.one-hash", "DSP0274 10.4", "refuses", Misbehaviour())
SANE = [R.GET_VERSION, R.GET_CAPABILITIES, R.NEGOTIATE_ALGORITHMS, R.CHALLENGE, R.GET_MEASUREMENTS]


def trial(asked: list[RequestCode], bent_at: int, exit_code: int | None = None) -> Trial:
    return Trial(asked=[int(code) for code in asked], bent_at=bent_at, exit_code=exit_code)


def test_a_requester_that_goes_on_fails() -> None:
    result = judge(CASE, trial(SANE, 0), trial(SANE, 3))
    assert result.outcome is Outcome.FAILED
    assert "CHALLENGE next" in result.failures[0].words


def test_a_requester_may_verify_while_the_next_request_is_under_way() -> None:
    challenged = replace(CASE, name="challenge.signature")
    assert judge(challenged, trial(SANE, 0), trial(SANE, 4)).outcome is Outcome.PASSED
    content = trial(SANE, 4, exit_code=0)
    assert judge(challenged, trial(SANE, 0, 0), content).outcome is Outcome.FAILED


def test_a_requester_that_gives_up_or_starts_over_passes() -> None:
    for rest in ([], [R.GET_VERSION]):
        assert judge(CASE, trial(SANE, 0), trial(SANE[:3] + rest, 3)).outcome is Outcome.PASSED


def test_the_exit_code_must_tell() -> None:
    good = trial(SANE[:3], 3, exit_code=1)
    assert judge(CASE, trial(SANE, 0, 0), good).outcome is Outcome.PASSED
    silent = trial(SANE[:3], 3, exit_code=0)
    assert judge(CASE, trial(SANE, 0, 0), silent).outcome is Outcome.FAILED
    same = trial(SANE, 5, exit_code=4)
    assert judge(CASE, trial(SANE, 0, 4), same).outcome is Outcome.FAILED


def test_what_was_never_asked_does_not_apply() -> None:
    assert judge(CASE, trial(SANE, 0), trial(SANE, 0)).outcome is Outcome.NOT_APPLICABLE


def test_another_way_is_no_verdict() -> None:
    other = trial([R.GET_VERSION, R.GET_DIGESTS], 2)
    assert judge(CASE, trial(SANE, 0), other).outcome is Outcome.ERROR


def test_a_requester_that_is_not_content_with_a_sane_device() -> None:
    assert sane_result("sanity.first", trial(SANE, 0, 3)).outcome is Outcome.FAILED
    assert sane_result("sanity.first", trial([], 0)).outcome is Outcome.FAILED
    assert sane_result("sanity.first", trial(SANE, 0, 4)).outcome is Outcome.PASSED
