"""What was learned of peers' dialects, for a while: bounded, expiring, owned by whoever made it."""

from __future__ import annotations

from collections import OrderedDict

from spdmkit.transports.framing import Dialect

__all__ = ["DialectMemory"]


class DialectMemory:
    """Remembers which DSP0287 dialect a peer speaks.

    Not thread safe; one per program, or per listener, is plenty. A forgotten or wrong entry costs
    one more connection, never correctness.
    """

    def __init__(self, *, limit: int = 4096, lifetime: float = 3600.0) -> None:
        """An empty memory.

        Args:
            limit: peers remembered; the one learned longest ago goes first.
            lifetime: seconds after which an entry is forgotten.
        """
        self._limit = limit
        self._lifetime = lifetime
        self._entries: OrderedDict[str, tuple[Dialect, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, peer: str, now: float) -> Dialect | None:
        """The dialect of this peer, if it was learned lately; `now` is monotonic seconds."""
        entry = self._entries.get(peer)
        if entry is None:
            return None
        dialect, learned = entry
        if now - learned > self._lifetime:
            del self._entries[peer]
            return None
        return dialect

    def remember(self, peer: str, dialect: Dialect, now: float) -> None:
        """Note a peer's dialect."""
        self._entries[peer] = (dialect, now)
        self._entries.move_to_end(peer)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
