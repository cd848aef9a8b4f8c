"""One laboratory for all tests of services; those that change it take a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import Lab


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.make(tmp_path_factory.mktemp("services"))


@pytest.fixture
def lab(original: Lab, tmp_path: Path) -> Lab:
    return original.copy(tmp_path)
