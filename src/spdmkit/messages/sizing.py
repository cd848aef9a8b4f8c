"""How long a message is, from its first bytes alone.

A listener that does not know yet how its peer counts PayloadLen (DSP0287 6.1, table 1 against
figure 2) must find the end of the first message by the message's own lengths. Nothing is
negotiated at that moment, so that only what a message says of itself counts.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeAlias

from spdmkit.errors import DecodeError
from spdmkit.messages.base import message_type
from spdmkit.messages.codes import ErrorCode, RequestCode, ResponseCode
from spdmkit.messages.context import VERSIONS
from spdmkit.messages.error import EXTENDED
from spdmkit.wire import kinds
from spdmkit.wire.kinds import Role
from spdmkit.wire.layout import Layout, valued

__all__ = ["Size", "Unsized", "message_size"]


class Unsized(enum.Enum):
    """Why a size is not known."""

    MORE = "more bytes are needed to tell"
    NEVER = "the message does not tell its own size"


Size: TypeAlias = int | Unsized

ERROR_SIZES = {
    ErrorCode.RESPONSE_NOT_READY: 8,
    ErrorCode.RESPONSE_TOO_LARGE: 8,
    ErrorCode.DATA_TOO_LARGE: 8,
    ErrorCode.LARGE_RESPONSE: 5,
}
"""Size of an ERROR with extended data; all others but vendors' have four bytes."""

CHAIN_OFFSET = 4
"""Where the chain structure begins in SET_CERTIFICATE; its first four bytes are its length."""


def message_size(data: bytes) -> Size:
    """The size in bytes of the message that `data` begins, which may be longer than `data`.

    Args:
        data: its first bytes, from SPDMVersion on.
    """
    if len(data) < 2:
        return Unsized.MORE
    if data[0] not in VERSIONS:
        return Unsized.NEVER
    special = _SPECIAL.get(data[1])
    if special is not None:
        return special(data) if len(data) >= 4 else Unsized.MORE
    try:
        found = message_type(data)
        return _Sizer(data, data[0]).measure(found.layout, 0)
    except DecodeError:
        return Unsized.NEVER
    except _UnknownError as unknown:
        return unknown.why


def _error_size(data: bytes) -> Size:
    code = data[2]
    if code in EXTENDED:
        return ERROR_SIZES.get(ErrorCode(code), Unsized.NEVER)
    return 4


def _set_certificate_size(data: bytes) -> Size:
    if data[2] & 0x80:  # Erase: there is no chain
        return 4
    if len(data) < CHAIN_OFFSET + 4:
        return Unsized.MORE
    return CHAIN_OFFSET + int.from_bytes(data[CHAIN_OFFSET : CHAIN_OFFSET + 4], "little")


def _version_size(data: bytes) -> Size:
    return 6 + 2 * data[5] if len(data) > 5 else Unsized.MORE


_SPECIAL: dict[int, Callable[[bytes], Size]] = {
    ResponseCode.ERROR: _error_size,
    RequestCode.SET_CERTIFICATE: _set_certificate_size,
    ResponseCode.VERSION: _version_size,
}
"""Messages that end with bytes whose length stands inside them; and VERSION, whose layout says as
much, because it is what nearly every connection detects its dialect by."""


class _UnknownError(Exception):
    """The size cannot be told, and why."""

    def __init__(self, why: Unsized) -> None:
        super().__init__(why)
        self.why = why


class _Values(dict[str, int]):
    """Fields read so far; asking for one that is not there yet takes more bytes."""

    def __missing__(self, key: str) -> int:
        raise _UnknownError(Unsized.MORE)


class _Negotiated:
    """Stands for a context of which nothing is known."""

    def __getattr__(self, name: str) -> Any:
        raise _UnknownError(Unsized.NEVER)


class _Sizer:
    """Adds up the sizes of elements, reading the lengths among them."""

    def __init__(self, data: bytes, version: int) -> None:
        self.data = data
        self.version = version
        self.context = _Negotiated()

    def measure(self, layout: Layout, start: int) -> int:
        """The size of the structure at `start`."""
        elements = layout.of_version(self.version)
        absent = {part.attribute for part in valued(layout.elements)}
        absent -= {part.attribute for part in valued(elements)}
        values = _Values(dict.fromkeys(absent, 0))
        position = start
        for element in elements:
            if element.when is not None and not element.when.holds(values, self.context):
                continue
            if isinstance(element, kinds.Uint) and element.role.role is Role.TOTAL_LENGTH:
                return self.integer(position, element.size) + element.uncounted
            position += self.element(element, values, position)
        return position - start

    def element(self, element: kinds.Element, values: _Values, position: int) -> int:
        """The size of one element; what it holds, if it is an integer, goes to `values`."""
        if isinstance(element, (kinds.Uint, kinds.Word)):
            self.read(element, values, position)
        if isinstance(element, (kinds.Uint, kinds.Word, kinds.Reserved, kinds.Fixed)):
            return element.size
        if isinstance(element, kinds.Counted):
            return values[element.length]
        if isinstance(element, kinds.Nested):
            return self.measure(element.struct.layout, position)
        if isinstance(element, kinds.Items):
            return self.items(element, values, position)
        raise _UnknownError(Unsized.NEVER)

    def read(self, element: kinds.Uint | kinds.Word, values: _Values, position: int) -> None:
        if position + element.size > len(self.data):
            return
        value = self.integer(position, element.size)
        if isinstance(element, kinds.Uint):
            values[element.attribute] = value
        else:
            for bit in element.bits:
                values[bit.attribute] = value >> bit.low & (1 << bit.width) - 1

    def items(self, element: kinds.Items, values: _Values, position: int) -> int:
        if element.length:
            return values[element.length]
        if not element.count or isinstance(element.item, kinds.Sized):
            raise _UnknownError(Unsized.NEVER)
        count = values[element.count]
        if isinstance(element.item, kinds.Uint):
            return count * element.item.size
        size = 0
        for _ in range(count):
            if position + size >= len(self.data):
                raise _UnknownError(Unsized.MORE)
            size += self.measure(element.item.layout, position + size)
        return size

    def integer(self, position: int, size: int) -> int:
        if position + size > len(self.data):
            raise _UnknownError(Unsized.MORE)
        return int.from_bytes(self.data[position : position + size], "little")
