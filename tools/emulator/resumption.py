"""A second connection that goes on with what the first negotiated (CACHE_CAP, DSP0274 10.1.1)."""

from __future__ import annotations

import asyncio
import dataclasses

from emulator import samples
from emulator.case import Case
from emulator.device import make_folder
from emulator.failed import Failed
from emulator.programs import Emulator, problems_of_requester
from emulator.record import Record
from emulator.requester import STEPS, Visit, connect_to, judge, settings
from emulator.responder import serve
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.cache import NegotiatedStates
from spdmkit.protocol.requester.resume import resume_by_key, resume_by_psk
from spdmkit.protocol.requester.sessions import OpenedSession, PreSharedKey, end_session, heartbeat

__all__ = ["run_requester", "run_responder"]


def run_requester(case: Case, emulator: Emulator) -> None:
    """Run a case: its steps first, then a session in each of two connections.

    Raises:
        Failed, SpdmError: it failed, or the second connection negotiated again.
    """
    states = NegotiatedStates()
    caching = dataclasses.replace(settings(case), cache_negotiated_state=True)
    with emulator.responder(case.options()) as responder:
        known = None
        for ending in ("continue", "shutdown"):
            folder = responder.folder / ending
            folder.mkdir()
            record = Record(folder)
            with connect_to(
                case, emulator.keys, responder, record, ending=ending, allowed=caching
            ) as connection:
                visit = Visit(case, emulator.keys, connection, record.events)
                if known is None:
                    for step in case.steps:
                        STEPS[step](visit)
                    known = visit
                opened = visit.run(_opening(visit, known, states))
                visit.run(heartbeat(opened.link))
                visit.run(end_session(opened.link))
            if ending == "continue":
                judge(case, emulator, record)
                continue
            _negotiated_nothing(record)


def run_responder(case: Case, emulator: Emulator) -> None:
    """The same with our responder: the emulator keeps what was negotiated in a file.

    Raises:
        Failed, SpdmError: it failed, or the second connection negotiated again.
    """
    states = NegotiatedStates()
    with emulator.working_directory() as folder:
        make_folder(folder / "device", case, emulator.keys)
        for option in ("--save_state", "--load_state"):
            scratch = folder / option
            scratch.mkdir()
            record = Record(scratch)
            options = [*case.options(), option, "negotiated"]
            status, log = asyncio.run(serve(case, emulator, folder, record, options, states))
            problems = problems_of_requester(status, log)
            if problems:
                raise Failed(f"{option}: {'; '.join(problems[:4])}")
            if option == "--save_state":
                judge(case, emulator, record)
            else:
                _negotiated_nothing(record)


def _negotiated_nothing(record: Record) -> None:
    """Nothing can be verified that begins so late, but what was asked can be read."""
    record.judge()
    opened = record.asked["KEY_EXCHANGE"] + record.asked["PSK_EXCHANGE"]
    if record.asked["GET_VERSION"] or not opened:
        raise Failed("the second connection negotiated again")


def _opening(visit: Visit, known: Visit, states: NegotiatedStates) -> Exchange[OpenedSession]:
    if visit.case.what == "psk":
        psk = PreSharedKey(samples.PSK_HINT, samples.PSK)
        return resume_by_psk(visit.link, psk, states)
    return resume_by_key(visit.link, known.key, states)
