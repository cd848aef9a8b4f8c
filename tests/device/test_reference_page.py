"""docs/reference/device.md names every key of `device.toml`, and no other."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

from spdmkit.device.configuration import (
    AlgorithmsTable,
    Configuration,
    DeviceClass,
    DeviceMode,
    DeviceTable,
    LimitsTable,
    LogEntry,
    Manifest,
    MeasurementSource,
    PreSharedKey,
    TrustTable,
)
from spdmkit.device.configuration_file import NOT_HERE
from spdmkit.messages import MeasurementKind

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "device.md"
SECTIONS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "[device]": (DeviceTable,),
    "[algorithms]": (AlgorithmsTable,),
    "[limits]": (LimitsTable,),
    "[trust]": (TrustTable,),
    "[[measurement]]": (MeasurementSource,),
    "[[log]]": (LogEntry,),
    "[[pre_shared_key]] and [[device_class]]": (PreSharedKey, DeviceClass),
}


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def keys_of(text: str) -> set[str]:
    """The names in the first column of the section's tables."""
    rows = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_and_no_other(title: str) -> None:
    wanted = {f.name for kind in SECTIONS[title] for f in msgspec.structs.fields(kind)}
    assert keys_of(sections()[title]) == wanted


def test_every_table_has_a_section() -> None:
    tables = set(typing.get_type_hints(Configuration))
    named = {name for title in SECTIONS for name in re.findall(r"\[+(\w+)\]+", title)}
    assert named == tables
    assert list(sections()) == list(SECTIONS)


def test_what_is_inside_a_measurement() -> None:
    text = sections()["[[measurement]]"]
    for kind in (DeviceMode, Manifest):
        for field in msgspec.structs.fields(kind):
            assert f"`{field.name}`" in text
    for kind_of in MeasurementKind:
        assert f'"{kind_of.name.lower().replace("_", "-")}"' in text


def test_what_a_software_device_does_not_have() -> None:
    for name in NOT_HERE:
        assert name in sections()["[device]"]
