"""Our requester, our proxy, and the emulator's responder as the device on MCTP behind it.

The requester is in this process, the proxy and the emulator each in one of their own.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from emulator.case import Case
from emulator.commands import wait_until_it_listens
from emulator.failed import Failed
from emulator.matrix import requester_cases
from emulator.programs import Emulator, RunningResponder
from emulator.record import Record
from emulator.requester import Visit, endpoint_factory, judge, take_steps
from spdmkit.messages import V12
from spdmkit.transports.blocking import connect

__all__ = ["proxied_cases", "run_proxied"]

_SPDM: Final = (sys.executable, "-m", "spdmkit")
_GROUPS: Final = ("attest", "session", "psk", "chunks", "log", "mutual", "application", "multi-key")
_OUT_OF_BAND: Final = "update-by-responder"
"""A step for which the emulator is told something that is no SPDM message."""


def proxied_cases() -> Iterator[Case]:
    """The cases of our requester on MCTP, with the proxy between, and a certificate that is set."""
    for case in requester_cases():
        chosen = case.group in _GROUPS or "ML_" in case.what
        if case.transport == "mctp" and chosen and not case.command:
            steps = tuple(step for step in case.steps if step != _OUT_OF_BAND)
            yield replace(case, steps=steps, proxied=True)
            clear = (case.group, case.what) == ("session", "handshake in the clear")
            if clear and case.version >= V12:
                opening = ("negotiate", "identify", "open", "session set-certificate", "end")
                yield replace(case, group="provision", what="slot 1", steps=opening, proxied=True)


def run_proxied(case: Case, emulator: Emulator) -> None:
    """Run a case through a proxy.

    Raises:
        Failed: it failed.
    """
    with emulator.responder(case.options()) as responder:
        wait_until_it_listens(responder)
        record = Record(responder.folder)
        with _proxy(responder) as uri:
            factory = endpoint_factory(case, emulator.keys, record)
            query = "dialect=strict&records=mctp"
            with connect(f"{uri}?{query}", factory, tap=record.dialling) as connection:
                take_steps(Visit(case, emulator.keys, connection, record.events), responder)
        responder.end()
        judge(case, emulator, record)


@contextlib.contextmanager
def _proxy(responder: RunningResponder) -> Iterator[str]:
    to = f"emu+mctp://127.0.0.1:{responder.port}"
    command = [*_SPDM, "proxy", "--listen", "tcp://127.0.0.1:0", "--to", to]
    log = (responder.folder / "proxy.log").open("w+")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("listening on "):
                raise Failed(f"the proxy did not start: {line}")
            yield line.split()[2]
        finally:
            process.terminate()
