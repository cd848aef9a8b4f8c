"""What a case that did not go as it should raises."""

from __future__ import annotations

__all__ = ["Failed"]


class Failed(Exception):
    """The conversation did not go as it should have; the message says where."""
