"""How often a device may be changed: storage wears, and a requester in a loop wears it fast."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode

__all__ = ["RateLimit"]


class RateLimit:
    """A bucket of changes that fills up steadily; safe for threads.

    A minute's worth may be spent at once.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        """Begin with a full bucket.

        Args:
            per_minute: changes in a minute; 0 sets no limit.
            clock: monotonic seconds.
        """
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._left = float(per_minute)
        self._at = clock()

    def take(self) -> None:
        """Count one change.

        Raises:
            ProtocolViolation: Busy: there were too many, and waiting helps.
        """
        if not self._per_minute:
            return
        with self._lock:
            now = self._clock()
            refilled = self._left + (now - self._at) * self._per_minute / 60
            self._left = min(refilled, float(self._per_minute))
            self._at = now
            if self._left < 1:
                raise ProtocolViolation(
                    f"more than {self._per_minute} changes in a minute", error_code=ErrorCode.BUSY
                )
            self._left -= 1
