"""A small strict DER reader and writer (ITU-T X.690), for what cryptography does not give us.

Keys and certificates are parsed by cryptography. Here are the places around them: keys of kinds
that it does not know, encrypted keys, where one certificate ends and the next begins, the TCG DICE
extensions, SPDM's own extension, the otherName of a subject alternative name, and the unsigned
CertificationRequestInfo of GET_CSR.

Strict means: definite lengths in their shortest form, every length within its parent, primitive
values in their one DER encoding, nothing left over. All errors are `DecodeError`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from spdmkit.crypto.hashes import Octets
from spdmkit.errors import DecodeError

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "GENERALIZED_TIME",
    "INTEGER",
    "NULL",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "UTF8_STRING",
    "Reader",
    "context",
    "encode_integer",
    "encode_object_identifier",
    "encode_time",
    "header_length",
    "sequence",
    "tlv",
]

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
UTF8_STRING: Final = 0x0C
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_HIGH_TAG: Final = 0x1F
_LONGEST_LENGTH: Final = 4
"""Octets of a length; four reach 4 GiB, as far as the largest SPDM certificate chain does."""

_LONGEST_OBJECT_IDENTIFIER: Final = 64

T = TypeVar("T")


def context(number: int, *, constructed: bool = False) -> int:
    """Identifier octet of the context-specific tag [number] (0 to 30)."""
    return 0x80 | (0x20 if constructed else 0) | number


def header_length(
    data: bytes, offset: int, end: int, *, structure: str = "DER", field: str = "value"
) -> tuple[int, int]:
    """Read one header: the offset of its content and the offset after it.

    Args:
        data: where to read.
        offset: where the identifier octet stands.
        end: where the parent ends; the element must end there or before.
        structure: name of the structure, for the error.
        field: name of the field, for the error.

    Raises:
        DecodeError: cut short, an indefinite or not shortest length, or past `end`.
    """

    def fail(reason: str) -> DecodeError:
        return DecodeError(structure, field, offset, reason)

    if end - offset < 2:
        raise fail("cut short in a DER header")
    if data[offset] & _HIGH_TAG == _HIGH_TAG:
        raise fail("multi-byte tags are not used here")
    first = data[offset + 1]
    start = offset + 2
    if first < 0x80:
        length = first
    else:
        octets = first & 0x7F
        if octets == 0 or octets > _LONGEST_LENGTH:
            raise fail("indefinite or oversized DER length")
        if end - start < octets:
            raise fail("cut short in a DER length")
        length = int.from_bytes(data[start : start + octets], "big")
        if length < 0x80 or length >> (8 * (octets - 1)) == 0:
            raise fail("DER length is not in its shortest form")
        start += octets
    if length > end - start:
        raise fail(f"{length} bytes announced, {end - start} left")
    return start, start + length


class Reader:
    """Reads the elements of one constructed value in order.

    Attributes:
        data: the whole buffer.
        offset: where the next element stands.
        end: where this value ends.
    """

    __slots__ = ("_structure", "data", "end", "offset")

    def __init__(
        self, data: bytes, offset: int = 0, end: int | None = None, *, structure: str = "DER"
    ) -> None:
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end
        self._structure = structure

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self.offset < self.end

    def fail(self, field: str, reason: str) -> DecodeError:
        """The error to raise for what stands here."""
        return DecodeError(self._structure, field, self.offset, reason)

    def next_tag(self) -> int:
        """The identifier octet that stands next, or -1 at the end."""
        return self.data[self.offset] if self.offset < self.end else -1

    def take(self, tag: int, field: str) -> bytes:
        """The content of the next element, which must have `tag`."""
        start, stop = self._enter(tag, field)
        self.offset = stop
        return self.data[start:stop]

    def whole(self, tag: int, field: str) -> bytes:
        """The next element, header included, which must have `tag`."""
        begin = self.offset
        self.take(tag, field)
        return self.data[begin : self.offset]

    def take_any(self, field: str) -> bytes:
        """The next element whole, header included, whatever it is."""
        begin = self.offset
        _, stop = header_length(self.data, begin, self.end, structure=self._structure, field=field)
        self.offset = stop
        return self.data[begin:stop]

    def enter(self, tag: int, field: str) -> Reader:
        """A reader of the next element's content; this one goes on behind it."""
        start, stop = self._enter(tag, field)
        self.offset = stop
        return Reader(self.data, start, stop, structure=self._structure)

    def sequence(self, field: str) -> Reader:
        """`enter` for a SEQUENCE."""
        return self.enter(SEQUENCE, field)

    def optional(self, tag: int, read: Callable[[int], T]) -> T | None:
        """`read(tag)` when `tag` stands next, else None."""
        return read(tag) if self.next_tag() == tag else None

    def integer(self, field: str, tag: int = INTEGER) -> int:
        """An INTEGER of at most 64 bytes."""
        content = self.take(tag, field)
        if not content or len(content) > 64:
            raise self.fail(field, "INTEGER is empty or longer than 64 bytes")
        if len(content) > 1 and (
            (content[0] == 0 and content[1] < 0x80) or (content[0] == 0xFF and content[1] >= 0x80)
        ):
            raise self.fail(field, "INTEGER is not in its shortest form")
        return int.from_bytes(content, "big", signed=True)

    def natural(self, field: str) -> int:
        """An INTEGER that is not negative."""
        value = self.integer(field)
        if value < 0:
            raise self.fail(field, "INTEGER is negative")
        return value

    def boolean(self, field: str) -> bool:
        """A BOOLEAN: 00 or FF, as DER wants."""
        content = self.take(BOOLEAN, field)
        if content not in (b"\x00", b"\xff"):
            raise self.fail(field, "BOOLEAN is neither 00 nor FF")
        return content == b"\xff"

    def octets(self, field: str, tag: int = OCTET_STRING) -> bytes:
        """An OCTET STRING."""
        return self.take(tag, field)

    def bits(self, field: str, tag: int = BIT_STRING) -> tuple[int, bytes]:
        """A BIT STRING: the number of unused bits of the last byte, and the bytes."""
        content = self.take(tag, field)
        if not content or content[0] > 7 or (len(content) == 1 and content[0]):
            raise self.fail(field, "BIT STRING with a wrong count of unused bits")
        unused, value = content[0], content[1:]
        if unused and value[-1] & ((1 << unused) - 1):
            raise self.fail(field, "BIT STRING with unused bits set")
        return unused, value

    def whole_bits(self, field: str) -> bytes:
        """A BIT STRING of whole bytes."""
        unused, value = self.bits(field)
        if unused:
            raise self.fail(field, "expected a BIT STRING of whole bytes")
        return value

    def text(self, field: str, tag: int = UTF8_STRING) -> str:
        """A UTF8String."""
        content = self.take(tag, field)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(field, "not UTF-8") from None

    def object_identifier(self, field: str) -> str:
        """An OBJECT IDENTIFIER, dotted."""
        content = self.take(OBJECT_IDENTIFIER, field)
        if not content or len(content) > _LONGEST_OBJECT_IDENTIFIER:
            raise self.fail(field, "OBJECT IDENTIFIER is empty or too long")
        dotted = _dotted(content)
        if not dotted:
            raise self.fail(field, "OBJECT IDENTIFIER is cut short or not in its shortest form")
        return dotted

    def finish(self, field: str) -> None:
        """Check that nothing is left.

        Raises:
            DecodeError: something is.
        """
        if self.offset != self.end:
            raise self.fail(field, f"{self.end - self.offset} bytes left over")

    def _enter(self, tag: int, field: str) -> tuple[int, int]:
        found = self.next_tag()
        if found != tag:
            seen = "nothing" if found < 0 else f"tag 0x{found:02x}"
            raise self.fail(field, f"expected tag 0x{tag:02x}, found {seen}")
        return header_length(
            self.data, self.offset, self.end, structure=self._structure, field=field
        )


@lru_cache(maxsize=512)
def _dotted(content: bytes) -> str:
    """An OBJECT IDENTIFIER's content in dotted form, or empty when it is not DER."""
    if content[-1] & 0x80:
        return ""
    arcs: list[int] = []
    value = 0
    fresh = True
    for octet in content:
        if fresh and octet == 0x80:
            return ""
        value = value << 7 | octet & 0x7F
        fresh = not octet & 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def tlv(tag: int, *parts: Octets) -> bytes:
    """One element: tag, length, and the parts one after the other as its content."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def sequence(*content: bytes) -> bytes:
    """A SEQUENCE of encoded elements."""
    return tlv(SEQUENCE, *content)


def encode_integer(value: int, tag: int = INTEGER) -> bytes:
    """An INTEGER in its shortest form."""
    magnitude = value if value >= 0 else ~value
    return tlv(tag, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def encode_object_identifier(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER element from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body.extend(reversed(groups))
    return tlv(OBJECT_IDENTIFIER, body)


def encode_time(moment: dt.datetime) -> bytes:
    """A Time of RFC 5280 4.1.2.5: UTCTime from 1950 to 2049, GeneralizedTime otherwise.

    Args:
        moment: with a time zone; fractions of a second are dropped.
    """
    utc = moment.astimezone(dt.UTC)
    text = f"{utc:%m%d%H%M%SZ}"
    if 1950 <= utc.year < 2050:
        return tlv(UTC_TIME, f"{utc.year % 100:02}{text}".encode())
    return tlv(GENERALIZED_TIME, f"{utc.year:04}{text}".encode())
