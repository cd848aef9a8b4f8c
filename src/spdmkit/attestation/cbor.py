"""CBOR as it may arrive from anyone: bounded, definite, no duplicate keys, tags left as tags.

cbor2 does the decoding. It would turn some tags into Python objects (dates, fractions, shared
references); nothing here needs that, and shared references would let a few bytes describe a
structure without end, so every tag stays a `Tag`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

import cbor2

from spdmkit.errors import DecodeError

__all__ = ["MAX_DEPTH", "Tag", "decode", "encode", "thaw"]

Tag: TypeAlias = cbor2.CBORTag

MAX_DEPTH = 24
"""Deepest nesting that is read; a signed CoRIM with everything in it needs about twelve."""

_SHARED = (25, 28, 29, 256)
_TURNED_INTO_OBJECTS = (
    0, 1, 2, 3, 4, 5, 30, 35, 36, 37, 52, 54, 100, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip


def _keep(number: int) -> Callable[[Any, bool], Tag]:
    return lambda value, _immutable: Tag(number, value)


def _refuse(number: int) -> Callable[[Any, bool], NoReturn]:
    def hook(_value: object, _immutable: bool) -> NoReturn:
        raise ValueError(f"shared references (tag {number}) are not accepted")

    return hook


_HOOKS: dict[int, Callable[[Any, bool], Any]] = {
    **{number: _keep(number) for number in _TURNED_INTO_OBJECTS},
    **{number: _refuse(number) for number in _SHARED},
}


def decode(data: bytes, *, what: str, limit: int, deterministic: bool = False) -> Any:
    """The one data item that `data` is.

    Args:
        data: the encoding, nothing before or after it.
        what: what to call it in an error ("CoRIM").
        limit: most bytes that are looked at.
        deterministic: accept the length-first deterministic encoding only (RFC 8949 4.2.3), so
            that one value has one encoding and a signature can cover the re-encoding.

    Returns:
        dict or frozen dict, list or tuple, int, float, str, bytes, bool, None, or `Tag`.

    Raises:
        DecodeError: too large, malformed, too deep, indefinite, a duplicate key, bytes left over.
    """
    if len(data) > limit:
        raise DecodeError(what, "size", 0, f"{len(data)} bytes, more than the {limit} accepted")
    stream = io.BytesIO(data)
    try:
        item = cbor2.CBORDecoder(
            stream,
            semantic_decoders=_HOOKS,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error.__cause__ or error)
        raise DecodeError(what, "encoding", stream.tell(), f"not CBOR: {reason}") from None
    if stream.tell() != len(data):
        left = len(data) - stream.tell()
        raise DecodeError(what, "encoding", stream.tell(), f"{left} bytes after the end")
    if deterministic and encode(item) != data:
        raise DecodeError(what, "encoding", 0, "not in deterministic form (RFC 8949 4.2.3)")
    return item


def encode(item: object) -> bytes:
    """The length-first deterministic encoding of an item (RFC 8949 4.2.3)."""
    return cbor2.dumps(item, canonical=True)


def thaw(item: Any) -> Any:
    """A decoded item with plain dicts and lists; cbor2 freezes what stands inside a tag."""
    kind = type(item)
    if kind is bytes or kind is str or kind is int:
        return item
    if isinstance(item, list | tuple):
        return [thaw(value) for value in item]
    if isinstance(item, Mapping):
        return {key: thaw(value) for key, value in item.items()}
    return item
