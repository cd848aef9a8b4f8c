"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Under python -O only asserts that pytest rewrites are run: those in helpers count too.
pytest.register_assert_rewrite(
    *(f"tests.{path.parent.name}" for path in sorted(Path(__file__).parent.glob("*/__init__.py")))
)

# Whoever runs the tests may keep reference values of their own; no verdict here is to see them.
os.environ["SPDM_REFERENCE_STORE"] = str(Path(__file__).with_name("no reference store"))
os.environ.pop("SPDM_PASSPHRASE", None)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: keys and signatures differ from process to process."""
    return argname if isinstance(val, (bytes, bytearray)) else None
