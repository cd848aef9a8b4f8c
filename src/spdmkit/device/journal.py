"""What happened to a device, for those who want to hear of it (DSP0274 10.29, clause 18).

One journal serves all sessions: each remembers how far it has read. It keeps the latest events
only; who reads too seldom is told that something was lost.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from spdmkit.messages import DmtfEventType, Registry
from spdmkit.protocol.notifier import EventKind, EventsSince, Occurrence

__all__ = ["Journal"]

MOST_KEPT: Final = 1024


class Journal:
    """Events in order, the oldest of which are forgotten. Safe to use from several threads."""

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        """An empty journal.

        Args:
            most_kept: events that are kept.
        """
        self._lock = threading.Lock()
        self._kept: deque[Occurrence] = deque(maxlen=most_kept)
        self._place = 0

    @property
    def place(self) -> int:
        """How many events there were."""
        return self._place

    def since(self, place: int) -> EventsSince:
        """The events after a place that are still kept."""
        with self._lock:
            new = self._place - place
            kept = list(self._kept)[-new:] if new > 0 else []
            return EventsSince(self._place, kept, lost=len(kept) < new)

    def measurements_changed(self, indices: Iterable[int]) -> None:
        """Record MeasurementChanged for measurement indices (1 to 254); nothing for none."""
        mask = sum(1 << index for index in set(indices))
        if mask:
            self.record(DmtfEventType.MEASUREMENT_CHANGED, mask.to_bytes(32, "little"))

    def slots_changed(self, slots: Iterable[int], bank: int | None = None) -> None:
        """Record that what DIGESTS tells of slots has changed, and in which bank; nothing for none.

        Args:
            slots: slot ids.
            bank: BankID, None when no bank has them.
        """
        mask = sum(1 << slot for slot in set(slots))
        if not mask:
            return
        self.record(DmtfEventType.CERTIFICATE_CHANGED, bytes((mask,)))
        if bank is not None:
            self.record(DmtfEventType.CERTIFICATE_MANAGEMENT_CHANGED, bytes((bank, mask)))

    def record(
        self,
        event_type: int,
        detail: bytes,
        *,
        registry: int = Registry.DMTF,
        vendor_id: bytes = b"",
    ) -> None:
        """Record any event.

        Args:
            event_type: EventTypeId.
            detail: EventDetail.
            registry: with `vendor_id`, EventGroupId.
            vendor_id: see `registry`.
        """
        kind = EventKind(registry, vendor_id, event_type)
        with self._lock:
            self._kept.append(Occurrence(kind, detail))
            self._place += 1
