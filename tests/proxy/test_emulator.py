"""DMTF's spdm-emu as the device behind the proxy; skipped where it is not installed.

All cases: `SPDM_EMU=/path tools/interop.py --only proxy+mctp`. Here is one of each kind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CASES = (
    "1.4/attest/ECDSA_P384",
    "1.2/session/handshake in the clear",
    "1.3/session/handshake encrypted",
    "1.2/psk/with context",
    "1.2/provision/slot 1",
    "1.3/chunks/DataTransferSize 256",
    "1.2/mutual/W_ENCAP clear",
    "1.4/post-quantum/ML_DSA_87",
)


@pytest.mark.skipif(
    not os.environ.get("SPDM_EMU"),
    reason="SPDM_EMU does not name the folder of spdm-emu's programs (docs/how-to/interop.md)",
)
def test_the_reference_emulator_behind_the_proxy() -> None:
    wanted = [word for case in CASES for word in ("--only", f"proxy+mctp/{case}")]
    done = subprocess.run(
        [sys.executable, "tools/interop.py", *wanted],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(CASES)} of {len(CASES)} passed" in done.stderr
