"""The benchmarks run and print what they promise; their figures are not judged here."""

from __future__ import annotations

import json

from .support import spdm


def test_attest() -> None:
    found = json.loads(spdm("bench", "attest", "--count", "3", "--json").stdout)
    assert found["count"] == 3
    assert found["attest_ms"] > 0
    assert abs(found["ratio"] - found["attest_ms"] / found["floor_ms"]) < 0.02
    assert "ratio" in spdm("bench", "attest", "--count", "1").stdout
