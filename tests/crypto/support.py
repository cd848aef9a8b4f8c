"""What the tests of crypto share: the algorithms by their usual names, and recorded data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spdmkit.crypto.algorithm import Algorithm
from spdmkit.crypto.registry import BASE_HASH

DATA = Path(__file__).parent / "data"
SHA256 = BASE_HASH.by_name("sha-256")
SHA384 = BASE_HASH.by_name("sha-384")
SHA512 = BASE_HASH.by_name("sha-512")
SM3 = BASE_HASH.by_name("sm3-256")


def recorded(name: str) -> Any:
    return json.loads((DATA / name).read_text(encoding="ascii"))


def need(algorithm: Algorithm) -> None:
    """Skip, saying why, when no library here has the algorithm."""
    if not algorithm.available:
        pytest.skip(f"{algorithm.name}: {algorithm.why_unavailable}")


def flip(data: bytes, position: int = 0, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)
