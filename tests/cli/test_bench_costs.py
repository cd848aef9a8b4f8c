"""The benchmarks with a floor run and print what they promise; their figures are not judged."""

from __future__ import annotations

import json

from spdmkit.bench.measuring import Round, result_of

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
    assert found["device"] == "awake"


def test_attest_a_device_that_sleeps() -> None:
    found = checked("attest", "--count", "3", "--sleeping-device")
    assert (found["count"], found["device"]) == (3, "sleeps between messages")


def test_attest_asyncio() -> None:
    found = checked("attest", "--count", "10", "--asyncio", "--in-flight", "4")
    assert (found["count"], found["bar"]) == (10, 1.6)
    assert found["driver"] == "asyncio, 4 in flight"


def test_for_people() -> None:
    shown = spdm("bench", "attest", "--count", "5").stdout
    assert "ratio" in shown
    assert "bar 1.5" in shown


def test_handshake() -> None:
    found = checked("handshake", "--count", "5")
    algorithms = found["algorithms"]
    assert isinstance(algorithms, dict)
    assert (algorithms["dhe"], algorithms["hash"]) == ("secp384r1", "sha-384")


def test_session() -> None:
    found = checked("session", "--count", "100")
    for name in ("aead_ms", "bare_socket_ms", "throughput_megabytes_per_second"):
        assert float(str(found[name])) > 0
    assert float(str(found["request_and_response_of_64_bytes_ms"])) > 0


def test_connections() -> None:
    found = checked("connections", "--count", "40")
    assert (found["count"], found["sessions"]) == (40, 40)
    assert float(str(found["figure"])) < 200  # so few say little; see docs/reference/benchmarks.md


def test_appraise() -> None:
    found = checked("appraise", "--count", "5")
    # Without its chain, half of the signatures are left to verify.
    assert float(str(found["chain_validated_before_ms"])) < float(str(found["figure"]))


def test_a_result_is_that_of_the_median_round() -> None:
    """The processor slowed down in the second round: the others still say what a thing costs."""
    rounds = [Round([3.0, 3.2], [1.0]), Round([9.0, 9.0], [2.0]), Round([2.0, 2.0], [1.0])]
    found = result_of("thing", rounds, times=2, bar=2.0, what="a", of_what="b")
    assert (found.figure, found.floor, found.ratio) == (3.1, 2.0, 1.55)
    assert found.spread == (1.0, 2.25)


def test_rounds_of_one_figure_are_taken_together() -> None:
    rounds = [Round([3.0], [1.0]), Round([9.0], [2.0, 2.0]), Round([2.0], [1.0])]
    found = result_of("thing", rounds, bar=2.0, what="a", of_what="b")
    assert (found.figure, found.floor, found.ratio) == (3.0, 1.5, 2.0)
    assert found.spread == (2.0, 4.5)
