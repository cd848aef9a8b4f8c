"""The benchmarks run and print what they promise; their figures are not judged here."""

from __future__ import annotations

import json

from .support import spdm


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


def test_proxy() -> None:
    document = json.loads(spdm("bench", "proxy", "--count", "50", "--json").stdout)
    assert {"straight_us", "relay_us", "proxy_us", "serial_us", "ratio"} <= set(document)
    assert document["count"] == 50
    assert 0 < document["straight_us"] < document["proxy_us"]
    text = spdm("bench", "proxy", "--count", "50", "--size", "4000").stdout
    assert "bare relay" in text


def test_hostile() -> None:
    done = spdm("bench", "hostile", "--hostile", "60", "--honest", "5", "--json")
    found = json.loads(done.stdout)
    assert found["failed"] == 0
    assert found["hostile"] == 60
    assert found["median_beside_ms"] > 0
    assert found["ratio"] < 20  # generous: how slow, not how fast
