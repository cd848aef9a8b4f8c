"""What holds for all tests."""

from __future__ import annotations

import os

# Whoever runs the tests may keep reference values of their own; no verdict here is to see them.
os.environ["SPDM_REFERENCE_STORE"] = os.path.join(os.path.dirname(__file__), "no reference store")
os.environ.pop("SPDM_PASSPHRASE", None)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: keys and signatures differ from process to process."""
    return argname if isinstance(val, (bytes, bytearray)) else None
