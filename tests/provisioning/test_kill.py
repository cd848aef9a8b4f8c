"""A device that is killed while it is provisioned comes back with the old chain or the new one."""

from __future__ import annotations

import random
from pathlib import Path

from tools.kill_trial import trial


def test_a_killed_device_loses_no_slot(tmp_path: Path) -> None:
    counts = trial(tmp_path, 4, random.Random(20_260_101))
    assert sum(counts.values()) == 4
