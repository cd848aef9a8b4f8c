"""The little DER that keys need which cryptography cannot read (X.690; RFC 5280, RFC 5958).

Reading is strict: definite lengths in the fewest bytes, one-byte tags, no byte left over.
"""

from __future__ import annotations

from spdmkit.crypto.hashes import Octets
from spdmkit.errors import DecodeError

__all__ = [
    "BIT_STRING",
    "INTEGER",
    "NULL",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "Reader",
    "integer",
    "oid",
    "tlv",
]

INTEGER, BIT_STRING, OCTET_STRING, NULL = 0x02, 0x03, 0x04, 0x05
OBJECT_IDENTIFIER, SEQUENCE = 0x06, 0x30


def tlv(tag: int, *parts: Octets) -> bytes:
    """One element: tag, length, and the parts one after the other as its content."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    """An INTEGER element of a number that is not negative."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER element from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body.extend(reversed(groups))
    return tlv(OBJECT_IDENTIFIER, body)


class Reader:
    """Reads elements one after the other.

    Args:
        data: the bytes.
        what: what they are, for errors ("SubjectPublicKeyInfo").
    """

    __slots__ = ("_data", "_position", "_what")

    def __init__(self, data: Octets, what: str) -> None:
        self._data = bytes(data)
        self._position = 0
        self._what = what

    def _error(self, field: str, reason: str) -> DecodeError:
        return DecodeError(self._what, field, self._position, reason)

    def peek(self) -> int:
        """Tag of the next element, or -1 at the end."""
        return self._data[self._position] if self._position < len(self._data) else -1

    def element(self, tag: int, field: str) -> bytes:
        """The next element, whole, which must have that tag.

        Raises:
            DecodeError: it has another, or its length is not DER or reaches past the end.
        """
        start = self._position
        self.content(tag, field)
        return self._data[start : self._position]

    def content(self, tag: int, field: str) -> bytes:
        """The content of the next element, which must have that tag.

        Raises:
            DecodeError: it has another, or its length is not DER or reaches past the end.
        """
        found = self.peek()
        if found != tag:
            what = "the end" if found < 0 else f"tag 0x{found:02x}"
            raise self._error(field, f"expected tag 0x{tag:02x}, found {what}")
        start, size = self._length(field)
        if size > len(self._data) - start:
            raise self._error(field, f"{size} bytes announced, {len(self._data) - start} left")
        self._position = start + size
        return self._data[start : start + size]

    def _length(self, field: str) -> tuple[int, int]:
        """Where the content starts and how long it is."""
        at = self._position + 1
        if at >= len(self._data):
            raise self._error(field, "length is missing")
        first = self._data[at]
        if first < 0x80:
            return at + 1, first
        count = first & 0x7F
        octets = self._data[at + 1 : at + 1 + count]
        # Four bytes of length are more than anything read here can have.
        if not 1 <= count <= 4 or len(octets) != count:
            raise self._error(field, "length is not a definite length of 1 to 4 bytes")
        size = int.from_bytes(octets, "big")
        if octets[0] == 0 or size < 0x80:
            raise self._error(field, "length is not in its shortest form")
        return at + 1 + count, size

    def integer(self, field: str) -> int:
        """The next element as a number that is not negative, in the fewest bytes."""
        content = self.content(INTEGER, field)
        if not content or content[0] >= 0x80:
            raise self._error(field, "expected an INTEGER that is not negative")
        if len(content) > 1 and content[0] == 0 and content[1] < 0x80:
            raise self._error(field, "INTEGER is not in its shortest form")
        return int.from_bytes(content, "big")

    def bits(self, field: str) -> bytes:
        """The next element as a BIT STRING of whole bytes."""
        content = self.content(BIT_STRING, field)
        if not content or content[0] != 0:
            raise self._error(field, "expected a BIT STRING of whole bytes")
        return content[1:]

    def nested(self, tag: int, field: str) -> Reader:
        """A reader over the content of the next element."""
        return Reader(self.content(tag, field), self._what)

    def finish(self, field: str) -> None:
        """Check that nothing is left.

        Raises:
            DecodeError: something is.
        """
        left = len(self._data) - self._position
        if left:
            raise self._error(field, f"{left} bytes left over")
