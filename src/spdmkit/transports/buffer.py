"""Bytes received and not used yet. Adding and taking cost what they move, never what is kept."""

from __future__ import annotations

__all__ = ["ReceiveBuffer"]

SMALL = 2048
"""Reads below this many bytes are put together as they come: a peer that sends single bytes must
not cost an object for each."""


LARGE = 0x4000
"""A read above this many bytes is not kept for the sake of a small rest of it."""


class ReceiveBuffer:
    """A queue of bytes.

    Reads are kept as they came. A frame within one read is one slice of it, and a frame across
    several is joined once: every byte is copied one time. A large read may be lent, so that frames
    within it are cut out of the memory that it came in.

    Attributes:
        size: bytes that are there; `len` says the same.
    """

    __slots__ = ("_parts", "_start", "size")

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray | memoryview] = []
        self._start = 0
        """Bytes of the first part that are taken already."""
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end."""
        size = len(data)
        if not size:
            return
        self.size += size
        parts = self._parts
        if size >= SMALL or not parts:
            parts.append(bytes(data))
            return
        last = parts[-1]
        if not isinstance(last, bytearray):
            last = bytearray()
            parts.append(last)
        last += data

    def lend(self, data: memoryview) -> None:
        """Add bytes at the end that stay as they are only until `settle`."""
        if len(data) < LARGE:
            self.append(data)
            return
        self.size += len(data)
        self._parts.append(data)

    def settle(self) -> None:
        """Copy what is left of lent bytes, whose memory is about to change."""
        if not self._parts or not isinstance(self._parts[-1], memoryview):
            return
        if len(self._parts) == 1:
            self._parts[0] = bytes(self._parts[0][self._start :])
            self._start = 0
        else:
            self._parts[-1] = bytes(self._parts[-1])

    def peek(self, size: int, at: int = 0) -> bytes:
        """Up to `size` bytes from offset `at`, without taking them."""
        first = self._start + at
        last = min(first + size, self._start + self.size)
        if not self._parts or last <= len(self._parts[0]):
            return bytes(self._parts[0][first:last]) if self._parts else b""
        return self._join(first, last)

    def take(self, size: int, skip: int = 0) -> bytes:
        """Take `skip + size` bytes and return the last `size` of them; they must be there."""
        first = self._start + skip
        last = first + size
        if not self._parts:
            return b""
        head = self._parts[0]
        taken = bytes(head[first:last]) if last <= len(head) else self._join(first, last)
        self._drop(last)
        self.size -= skip + size
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self._start = self.size = 0

    def _join(self, first: int, last: int) -> bytes:
        """Bytes of several parts; positions count from the beginning of the first part."""
        pieces: list[memoryview] = []
        for part in self._parts:
            if last <= 0:
                break
            if first < len(part):
                pieces.append(memoryview(part)[max(first, 0) : last])
            first -= len(part)
            last -= len(part)
        joined = b"".join(pieces)
        for piece in pieces:
            # A bytearray cannot grow while somebody looks at it.
            piece.release()
        return joined

    def _drop(self, upto: int) -> None:
        done = 0
        for part in self._parts:
            if upto < len(part):
                break
            upto -= len(part)
            done += 1
        if done:
            del self._parts[:done]
        self._start = upto
        rest = self._parts[0] if upto else b""
        if len(rest) > LARGE and 4 * (len(rest) - upto) < upto and not isinstance(rest, memoryview):
            # What is left of a large read must not hold on to all of it.
            self._parts[0] = rest[upto:]
            self._start = 0
