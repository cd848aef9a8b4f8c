"""Messages of every kind, drawn from their own declarations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

import spdmkit.messages as package
from spdmkit.messages import MESSAGES, VERSIONS, Context, Message, dsp0287
from spdmkit.wire import Struct, kinds
from spdmkit.wire.kinds import Role

ALL_MESSAGES: list[type[Message]] = [MESSAGES[code] for code in sorted(MESSAGES)]

ALL_STRUCTS: list[type[Struct]] = sorted(
    {
        value
        for module in (package, dsp0287)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Struct)
        if not issubclass(value, Message) and value is not Struct
    },
    key=lambda struct: struct.__name__,
)

EVERY_MESSAGE = [
    (message, version)
    for message in ALL_MESSAGES
    for version in VERSIONS
    if version >= message.since
]
"""Each message with each version that has it."""

MOST_ITEMS = 2
MOST_BYTES = 12


@st.composite
def contexts(draw: Any, version: int) -> Context:
    """A context as a negotiation might leave it, with a request that asks for this or that."""
    request = SimpleNamespace(
        signature_requested=draw(st.booleans()),
        measurement_summary_hash_type=draw(st.sampled_from([0, 1, 0xFF])),
    )
    return Context(
        version=version,
        hash_size=draw(st.sampled_from([32, 48, 64])),
        signature_size=draw(st.sampled_from([64, 96])),
        req_signature_size=draw(st.sampled_from([64, 132])),
        measurement_hash_size=draw(st.sampled_from([32, 48])),
        exchange_request_size=draw(st.sampled_from([64, 96])),
        exchange_response_size=draw(st.sampled_from([64, 96])),
        opaque_format=2,
        handshake_in_the_clear=draw(st.booleans()),
        multi_key_conn_req=draw(st.booleans()),
        multi_key_conn_rsp=draw(st.booleans()),
        request=draw(st.sampled_from([None, request])),
        requester_side=draw(st.booleans()),
    )


@st.composite
def structures(draw: Any, cls: type[Any], ctx: Context) -> Any:
    """An object of `cls` that can be encoded for `ctx`."""
    values: dict[str, Any] = dict.fromkeys(
        (part.attribute for element in cls.layout.elements for part in _parts(element)), 0
    )
    made: dict[str, Any] = {}
    for element in cls.layout.of_version(ctx.version):
        if element.when is not None and not element.when.holds(values, ctx):
            continue
        for part in _parts(element):
            value = draw(_value(part, values, ctx))
            values[part.attribute] = value
            if not part.attribute.startswith("_") and part.role.role is Role.VALUE:
                made[part.attribute] = value
    return cls(**made)


def _parts(element: kinds.Element) -> Any:
    if isinstance(element, kinds.Word):
        return element.bits
    return () if isinstance(element, (kinds.Reserved, kinds.Align)) else (element,)


def _value(part: Any, values: dict[str, Any], ctx: Context) -> st.SearchStrategy[Any]:
    if part.role.role is Role.COUNT_OF:
        return st.integers(0, min(MOST_ITEMS, part.maximum or MOST_ITEMS) if _bounded(part) else 2)
    if part.role.role is Role.LENGTH_OF:
        return st.integers(0, MOST_BYTES)
    if isinstance(part, kinds.Bits):
        return st.booleans() if part.boolean else st.integers(0, (1 << part.width) - 1)
    if isinstance(part, kinds.Uint):
        largest = (1 << 8 * part.size) - 1 if part.maximum is None else part.maximum
        return st.integers(part.minimum, largest)
    if isinstance(part, kinds.Nested):
        nested: st.SearchStrategy[Any] = structures(part.struct, ctx)
        return nested
    if isinstance(part, kinds.Items):
        return _list(part, values, ctx)
    return _bytes(part, values, ctx)


def _bounded(part: Any) -> bool:
    return isinstance(part, kinds.Uint) and part.maximum is not None


def _bytes(part: Any, values: dict[str, Any], ctx: Context) -> st.SearchStrategy[bytes]:
    if isinstance(part, kinds.Fixed):
        size = part.size
    elif isinstance(part, kinds.Sized):
        size = getattr(ctx, part.size)
    elif isinstance(part, kinds.Counted):
        size = values[part.length]
    else:
        return st.binary(max_size=min(part.maximum or 40, 40))
    # Mostly constant bytes: their content does not steer decoding, and drawing them is slow.
    return st.one_of(
        st.sampled_from([bytes(size), b"\xa5" * size]), st.binary(min_size=size, max_size=size)
    )


def _list(part: kinds.Items, values: dict[str, Any], ctx: Context) -> st.SearchStrategy[list[Any]]:
    count = int(values[part.popcount]).bit_count() if part.popcount else values[part.count]
    item: st.SearchStrategy[Any]
    if isinstance(part.item, type):
        item = structures(part.item, ctx)
    elif isinstance(part.item, kinds.Uint):
        item = st.integers(0, (1 << 8 * part.item.size) - 1)
    else:
        item = st.sampled_from([bytes([n]) * getattr(ctx, part.item.size) for n in range(3)])
    return st.lists(item, min_size=count, max_size=count)
