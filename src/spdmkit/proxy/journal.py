"""What happened, one line of JSON each: who was carried where, how much of it, and how it ended.

Never a byte of what was carried.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import TextIO

__all__ = ["Journal", "Silent"]

Value = str | int | float | bool | None


class Journal:
    """Writes lines.

    Attributes:
        messages: also a line for each message carried.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        messages: bool = False,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Write to `out`, which stays the caller's."""
        self._out = out
        self._now = now
        self.messages = messages

    def write(self, event: str, **values: Value) -> None:
        """One line; a journal that cannot be written to stops nobody."""
        line = {
            "time": self._now().isoformat(timespec="milliseconds"),
            "event": event,
            **{name: value for name, value in values.items() if value is not None},
        }
        try:
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()
        except (OSError, ValueError):
            # A full disk or a closed pipe: carrying goes on.
            return


class Silent(Journal):
    """Writes nothing."""

    def __init__(self) -> None:
        """Nothing to write to."""
        self.messages = False

    def write(self, event: str, **values: Value) -> None:
        """Nothing."""
