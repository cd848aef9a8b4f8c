"""tshark as it comes: without what whoever runs the tests has installed for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _no_plugins_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Their dissector would be a second one of the same name, and refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("XDG_CONFIG_HOME", raising=False)
        yield
