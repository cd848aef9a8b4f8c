"""What holds for all tests."""

from __future__ import annotations


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: keys and signatures differ from process to process."""
    return argname if isinstance(val, (bytes, bytearray)) else None
