"""The cases against a responder, by group; a module a group."""

from __future__ import annotations

import importlib
from functools import cache

from spdmkit.conformance.case import Case

__all__ = ["GROUPS", "responder_cases"]

GROUPS = (
    "version",
    "capabilities",
    "algorithms",
    "digests",
    "certificate",
    "challenge",
    "measurements",
    "key_exchange",
    "finish",
    "psk",
    "session",
    "encapsulated",
    "chunks",
    "provisioning",
    "mel",
    "endpoint_info",
    "key_pairs",
    "events",
    "vendor",
    "not_ready",
    "services",
)
"""In the order of a conversation."""


@cache
def responder_cases() -> tuple[Case, ...]:
    """All cases, in order."""
    found: list[Case] = []
    for group in GROUPS:
        found += importlib.import_module(f"{__name__}.{group}").CASES
    return tuple(found)
