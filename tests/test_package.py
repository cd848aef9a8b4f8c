"""What goes into a wheel and into an image; `run.py test-package` installs and runs one."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from spdmkit import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def test_everything_that_is_no_python_is_in_it(wheel: zipfile.ZipFile) -> None:
    source = ROOT / "src"
    data = {
        str(path.relative_to(source))
        for path in (source / "spdmkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in data if not name.endswith(".py")} >= {"spdmkit/py.typed"}
    assert data <= set(wheel.namelist())


def test_it_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (name,) = [each for each in wheel.namelist() if each.endswith("METADATA")]
    metadata = wheel.read(name).decode()
    assert f"Version: {__version__}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert not [each for each in wheel.namelist() if each.startswith(("tests", "docs"))]
    entry = name.replace("METADATA", "entry_points.txt")
    assert "spdm = spdmkit.cli:main" in wheel.read(entry).decode()


def test_what_the_image_copies_is_there() -> None:
    recipe = (ROOT / "Containerfile").read_text()
    shown = (ROOT / ".containerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", recipe, re.MULTILINE):
        for path in line.split():
            assert (ROOT / path).exists(), path
            assert f"!{path}" in shown.splitlines(), path
    assert "USER spdm" in recipe
    assert re.findall(r"^FROM (\S+)", recipe, re.MULTILINE) == ["python:3.13-slim"] * 2


def test_requirements_name_no_host() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"https?:|file:|--index|--find-links", path.read_text()), path.name
