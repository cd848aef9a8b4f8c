"""Bytes received and not used yet. Adding and taking cost what they move, never what is kept."""

from __future__ import annotations

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """A queue of bytes.

    A read that holds whole frames is kept as it came: each frame is then one slice of it, one copy.
    Only what is cut across reads is put together.
    """

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._start = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end."""
        if self._start == len(self._data):
            self._data = bytes(data)
            self._start = 0
            return
        kept = self._data
        if isinstance(kept, bytes):
            kept = self._data = bytearray(kept[self._start :])
            self._start = 0
        elif self._start:
            del kept[: self._start]
            self._start = 0
        kept += data

    def peek(self, size: int, at: int = 0) -> bytes:
        """Up to `size` bytes from offset `at`, without taking them."""
        first = self._start + at
        return _cut(self._data, first, min(first + size, len(self._data)))

    def take(self, size: int, skip: int = 0) -> bytes:
        """Take `skip + size` bytes and return the last `size` of them; they must be there."""
        first = self._start + skip
        taken = _cut(self._data, first, first + size)
        self._start = first + size
        if self._start >= len(self._data):
            self.clear()
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._data = b""
        self._start = 0


def _cut(data: bytes | bytearray, first: int, last: int) -> bytes:
    if isinstance(data, bytes):
        return data[first:last]
    with memoryview(data) as view:
        return bytes(view[first:last])
