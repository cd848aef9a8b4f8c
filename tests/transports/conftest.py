"""The drivers are tested on asyncio's own event loop and on uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from spdmkit.transports.loops import loop_factory


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], Any]]:
    factories: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    fast = loop_factory()
    if fast is not None:
        factories["uvloop"] = fast
    return factories
