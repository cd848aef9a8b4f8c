"""Running `spdm` as a person would, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPDM = [sys.executable, "-m", "spdmkit"]


def spdm(
    *arguments: str | Path, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and check its exit code."""
    done = subprocess.run(
        [*SPDM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@contextmanager
def serving(folder: Path, listen: str = "tcp://127.0.0.1:0", *more: str) -> Iterator[str]:
    """Serve a device; gives the address it listens on."""
    with subprocess.Popen(
        [*SPDM, "device", "serve", str(folder), "--listen", listen, *more],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("listening on "), line
            yield line.removeprefix("listening on ").strip()
        finally:
            server.terminate()
            server.wait(timeout=20)
