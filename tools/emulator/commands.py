"""Our command line as a person types it, against either program of the emulator."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emulator import samples
from emulator.case import Case
from emulator.device import make_folder
from emulator.failed import Failed
from emulator.programs import Emulator, RunningResponder, problems_of_requester
from spdmkit.crypto.pkcs8 import armour

__all__ = ["run_command", "run_served", "wait_until_it_listens"]

_SECONDS = 60.0
_READY = "listening on "
_SPDM = (sys.executable, "-m", "spdmkit")


def run_command(case: Case, emulator: Emulator) -> None:
    """Run a command against the emulator's responder; it ends with the status it should.

    Raises:
        Failed: it did not.
    """
    with emulator.responder(case.options()) as responder:
        anchor = responder.folder / "root.pem"
        anchor.write_bytes(armour(samples.root(emulator.keys, case.suite.asym), "CERTIFICATE"))
        identity = responder.folder / "identity"
        if "{identity}" in case.command:
            make_folder(identity, case, emulator.keys, role="requester")
        words = [
            word.format(
                uri=f"emu+{case.transport}://127.0.0.1:{responder.port}?end=shutdown",
                anchor=anchor,
                identity=identity,
            )
            for word in case.command
        ]
        wait_until_it_listens(responder)
        ran = subprocess.run(
            [*_SPDM, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if ran.returncode != case.exit_status:
            raise Failed(f"exit status {ran.returncode}: {(ran.stderr or ran.stdout)[-300:]}")
        if "--json" in case.command:
            json.loads(ran.stdout)


def wait_until_it_listens(responder: RunningResponder) -> None:
    """It serves one connection at a time, so no trial ones: its sockets are in the kernel's table.

    Raises:
        Failed: it does not listen.
    """
    wanted = f":{responder.port:04X} 00000000:0000 0A"
    give_up = time.monotonic() + _SECONDS
    while wanted not in Path("/proc/net/tcp").read_text():
        if responder.gone or time.monotonic() > give_up:
            raise Failed("the responder did not start: " + responder.log()[-200:])
        time.sleep(0.02)


def run_served(case: Case, emulator: Emulator) -> None:
    """Run the emulator's requester against `spdm device serve`.

    Raises:
        Failed: either did not end as it should.
    """
    with emulator.working_directory() as folder:
        make_folder(folder / "device", case, emulator.keys)
        with (
            _served(folder / "device", case.transport) as port,
            ThreadPoolExecutor(case.at_once) as visitors,
        ):
            visits = [visitors.submit(_visit, port, case, emulator) for _ in range(case.at_once)]
            problems = [each for visit in visits for each in visit.result()]
        if problems:
            raise Failed("; ".join(problems[:4]))


def _visit(port: int, case: Case, emulator: Emulator) -> list[str]:
    with emulator.working_directory() as folder:
        return problems_of_requester(*emulator.requester(port, case.options(), folder))


@contextlib.contextmanager
def _served(device: Path, transport: str) -> Iterator[int]:
    listen = f"emu+{transport}://127.0.0.1:0"
    command = [*_SPDM, "device", "serve", str(device), "--listen", listen]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(_READY):
                process.kill()
                raise Failed(f"it does not listen: {line}{process.communicate()[1][-300:]}")
            yield int(line.strip().rpartition(":")[2].partition("?")[0])
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS)
            process.kill()
    if process.returncode:
        raise Failed(f"`spdm device serve` ended with {process.returncode}")
