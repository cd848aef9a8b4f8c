"""Hatchling's hook: the manual pages, where they were made, go into the wheel and the sdist.

They come from the commands (`spdm man`), which a build in isolation cannot run; `run.py build`
makes them first, and a wheel that is built from the sdist finds them there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGES = "build/man"


class ManualPages(BuildHookInterface[Any]):
    """Adds `build/man/*.1`, if there are any."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds."""
        pages = sorted(Path(self.root, PAGES).glob("*.1"))
        if version == "editable" or not pages:
            return
        for page in pages:
            if self.target_name == "wheel":
                build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"
            else:
                build_data["force_include"][str(page)] = f"{PAGES}/{page.name}"
