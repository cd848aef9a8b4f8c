"""The emulator's two programs: where they are, and how one of them is started and watched."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.failed import Failed

__all__ = ["Emulator", "NotAvailable", "RunningResponder", "free_port", "problems_of_requester"]

REQUESTER = "spdm_requester_emu"
RESPONDER = "spdm_responder_emu"
_A_KEY_FOLDER = "ecp384"
_PROBLEM = re.compile(r"^ERROR: |ASSERT")
_FINISHED = "Client stopped"
"""The last line of a requester that ran; with an option it does not know it prints its usage."""
_GOODBYE_SECONDS = 5.0
_RUN_SECONDS = 60.0


class NotAvailable(Exception):
    """The emulator is not where it was looked for; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """An emulator that is built already.

    Attributes:
        programs: folder of the two programs.
        keys: folder that holds libspdm's folders of sample keys (ecp384, ...).
    """

    programs: Path
    keys: Path

    @classmethod
    def locate(cls, programs: str | None = None, keys: str | None = None) -> Emulator:
        """Find it from the arguments, or from SPDM_EMU and SPDM_EMU_KEYS.

        Raises:
            NotAvailable: it is not there.
        """
        where = programs or os.environ.get("SPDM_EMU", "")
        if not where:
            raise NotAvailable("SPDM_EMU does not name the folder of spdm-emu's programs")
        folder = Path(where).expanduser().resolve()
        for name in (REQUESTER, RESPONDER):
            if not os.access(folder / name, os.X_OK):
                raise NotAvailable(f"{folder} holds no program {name}")
        samples = Path(keys or os.environ.get("SPDM_EMU_KEYS", "") or folder).expanduser().resolve()
        if not (samples / _A_KEY_FOLDER / "ca.cert.der").is_file():
            raise NotAvailable(f"{samples} holds no sample keys; SPDM_EMU_KEYS names their folder")
        return cls(folder, samples)

    @contextlib.contextmanager
    def working_directory(self) -> Iterator[Path]:
        """A fresh folder with links to the sample keys: the emulator writes into its own."""
        with tempfile.TemporaryDirectory(prefix="interop-") as name:
            folder = Path(name)
            for each in self.keys.iterdir():
                if each.is_dir():
                    (folder / each.name).symlink_to(each)
            yield folder

    @contextlib.contextmanager
    def responder(self, arguments: Sequence[str], *, port: int = 0) -> Iterator[RunningResponder]:
        """Run the responder; it listens some moments later.

        Args:
            arguments: its options.
            port: where it is to listen, or to dial to; 0 takes a free one.
        """
        with self.working_directory() as folder:
            running = RunningResponder(
                self.programs / RESPONDER, folder, arguments, port or free_port()
            )
            try:
                yield running
            finally:
                running.stop()

    def requester(self, port: int, arguments: Sequence[str], folder: Path) -> tuple[int, str]:
        """Run the requester against a responder of this machine, to its end.

        Args:
            port: where the responder listens.
            arguments: the requester's options.
            folder: its working directory.

        Returns:
            Its exit status and what it printed.

        Raises:
            Failed: it did not come to its end in time.
        """
        command = [str(self.programs / REQUESTER), "--ip", "127.0.0.1", "--port", str(port)]
        try:
            ran = subprocess.run(
                [*command, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the requester did not end within {_RUN_SECONDS:.0f} s") from error
        return ran.returncode, ran.stdout.decode(errors="replace")


class RunningResponder:
    """A responder of the emulator.

    Attributes:
        port: where it listens.
        folder: its working directory.
    """

    def __init__(self, program: Path, folder: Path, arguments: Sequence[str], port: int) -> None:
        self.port = port
        self.folder = folder
        self._log = (folder / "responder.log").open("w+b")
        self._process = subprocess.Popen(
            [str(program), "--ip", "127.0.0.1", "--port", str(self.port), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def gone(self) -> bool:
        """It ended by itself."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it, if the conversation has not."""
        try:
            self._process.wait(_GOODBYE_SECONDS if self._process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def end(self) -> None:
        """End it now."""
        self._process.terminate()
        self._process.wait()

    def log(self) -> str:
        """What it has printed; some of it may be on its way still."""
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")


def problems_of_requester(exit_status: int, log: str) -> list[str]:
    """What went wrong in a run of the emulator's requester, by its exit status and its log."""
    problems = [line.strip() for line in log.splitlines() if _PROBLEM.search(line)]
    if _FINISHED not in log:
        problems.append("the requester did not reach its end")
    if exit_status:
        problems.append(f"the requester's exit status is {exit_status}")
    return problems


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
