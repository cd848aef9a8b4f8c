"""Times as reports and files write them: RFC 3339 in UTC, and durations like "24h"."""

from __future__ import annotations

import datetime as dt
import re

from spdmkit.errors import ConfigurationError

__all__ = ["describe_time", "duration_seconds", "parse_time"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")
_LATEST = 253402300799  # 9999-12-31T23:59:59Z, which certificates use for "no end"


def describe_time(seconds: int) -> str:
    """Seconds since 1970 as "2026-11-24T10:00:00Z"; outside years 1 to 9999 as a number."""
    if not -62135596800 <= seconds <= _LATEST:
        return f"{seconds} s since 1970"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 time with its offset, or of a date (midnight UTC).

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is not a time", hint="write it like 2026-11-24T10:00:00Z"
        ) from None
    if moment.tzinfo is None:
        if len(text) != len("2026-11-24"):
            raise ConfigurationError(f"{text!r} has no offset", hint="end it with Z for UTC")
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp())


def duration_seconds(text: str) -> int:
    """Seconds of a duration: a number and one of s, m, h, d, w.

    Raises:
        ConfigurationError: it is not one.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(
            f"{text!r} is not a duration", hint="write a number and s, m, h, d or w, like 24h"
        )
    return int(match[1]) * _UNITS[match[2]]
