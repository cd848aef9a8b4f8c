"""The benchmarks run and print what they promise; their figures are not judged here."""

from __future__ import annotations

import json

from .support import spdm


def checked(*arguments: str) -> dict[str, object]:
    """The document of a benchmark, with what each of them has."""
    found = json.loads(spdm("bench", *arguments, "--json").stdout)
    assert found["benchmark"] == arguments[0]
    assert found["figure"] > 0
    assert found["floor"] > 0
    assert abs(found["ratio"] - found["figure"] / found["floor"]) < 0.02
    low, high = found["ratio_spread"]
    assert low <= high
    assert {"processor", "cpus", "load", "python", "openssl"} <= set(found["machine"])
    assert isinstance(found, dict)
    return found


def test_attest_blocking() -> None:
    found = checked("attest", "--count", "5")
    assert (found["count"], found["bar"], found["driver"]) == (5, 1.5, "blocking")


def test_attest_asyncio() -> None:
    found = checked("attest", "--count", "10", "--asyncio", "--in-flight", "4")
    assert (found["count"], found["bar"]) == (10, 1.6)
    assert found["driver"] == "asyncio, 4 in flight"


def test_for_people() -> None:
    shown = spdm("bench", "attest", "--count", "5").stdout
    assert "ratio" in shown
    assert "bar 1.5" in shown


def test_decode() -> None:
    found = json.loads(spdm("bench", "decode", "--count", "500", "--json").stdout)
    assert found["messages"] >= 2000  # four times what was asked for
    assert 0 < found["records"] < found["messages"]
    assert 50 < found["mean_bytes"] <= 300
    # Half of the bar: other processes may be running.
    assert found["messages_per_second"] > 10_000
    assert found["memory_growth_kib"] < 16 * 1024


def test_verifier() -> None:
    options = ("--devices", "24", "--identities", "2", "--algorithm", "ecdsa-p256")
    found = json.loads(spdm("bench", "verifier", *options, "--json").stdout)
    assert (found["trusted"], found["lost"], found["devices"]) == (24, 0, 24)
    assert found["seconds"] > 0
