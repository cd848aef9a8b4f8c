"""What several tests of this folder share."""

from __future__ import annotations

import shutil

import pytest

TSHARK = shutil.which("tshark") or "tshark"

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="tshark is not installed (Debian package tshark)"
)
