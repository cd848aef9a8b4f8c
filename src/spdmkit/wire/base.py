"""What every structure can do: decode, encode, and show itself as a tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self, TypeVar, dataclass_transform

from spdmkit.errors import DecodeError
from spdmkit.wire.decoder import Decoder, compile_decoder
from spdmkit.wire.encoder import Encoder, compile_encoder
from spdmkit.wire.kinds import Element
from spdmkit.wire.layout import Layout, collect
from spdmkit.wire.tree import Node, walk

__all__ = ["LayoutContext", "Struct", "define", "structure"]

S = TypeVar("S", bound="Struct")


class LayoutContext(Protocol):
    """What layouts need to know; `spdmkit.messages.Context` is the one there is."""

    version: int
    request: Any


@dataclasses.dataclass(slots=True)
class Struct:
    """A structure on the wire: a dataclass whose fields declare their own layout.

    Attributes:
        layout: its declaration, for the tools that read it.
    """

    layout: ClassVar[Layout]
    _decoders: ClassVar[dict[int, Decoder]]
    _encoders: ClassVar[dict[tuple[int, str], Encoder]]

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, ctx: LayoutContext) -> tuple[Self, int]:
        """Decode from the start of `data`; bytes may follow.

        Returns:
            The object, and the number of bytes it took.

        Raises:
            DecodeError: the bytes are not what the layout says, or too few.
        """
        if type(data) is not bytes:
            data = bytes(data)
        decode = cls._decoders.get(ctx.version) or cls.decoder(ctx.version)
        return decode(data, 0, len(data), ctx)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview, ctx: LayoutContext) -> Self:
        """Decode all of `data`.

        Raises:
            DecodeError: as `parse`, or bytes are left over.
        """
        decoded, consumed = cls.parse(data, ctx)
        if consumed != len(data):
            name = cls.layout.name
            raise DecodeError(name, "", consumed, f"{len(data) - consumed} bytes are left over")
        return decoded

    def encode(self, ctx: LayoutContext) -> bytes:
        """The bytes of this object; fields that the version does not have are left out.

        Raises:
            EncodeError: a value does not fit its field. It is a `ConfigurationError`.
        """
        encode = self._encoders.get((ctx.version, "")) or self.encoder(ctx.version)
        return encode(self, ctx)

    @classmethod
    def tree(cls, data: bytes | bytearray | memoryview, ctx: LayoutContext) -> Node:
        """The field tree of the structure at the start of `data`; bytes may follow.

        Raises:
            DecodeError: as `parse`.
        """
        data = bytes(data)
        return walk(cls.layout, data, (0, len(data)), ctx)

    @classmethod
    def decoder(cls, version: int) -> Decoder:
        """The compiled decoder of one SPDM version; compiled on first use."""
        found = cls._decoders.get(version)
        if found is None:
            found = cls._decoders[version] = compile_decoder(cls, cls.layout, version)
        return found

    @classmethod
    def encoder(cls, version: int, stop: str = "") -> Encoder:
        """The compiled encoder of one SPDM version, up to before the attribute `stop`."""
        found = cls._encoders.get((version, stop))
        if found is None:
            found = compile_encoder(cls, cls.layout, version, stop)
            cls._encoders[version, stop] = found
        return found


def define(cls: type[S], name: str, clause: str, header: tuple[Element, ...] = ()) -> type[S]:
    """Turn a class body with declarations into a slotted dataclass with a layout."""
    layout = collect(cls, name, clause, header)
    made = dataclasses.dataclass(slots=True, kw_only=True)(cls)
    made.layout = layout
    made._decoders = {}
    made._encoders = {}
    return made


@dataclass_transform(kw_only_default=True)
def structure(*, clause: str, name: str = "") -> Callable[[type[S]], type[S]]:
    """Class decorator for structures that are no messages.

    Args:
        clause: where the specification defines it.
        name: its name there; the class's own when empty.
    """

    def decorate(cls: type[S]) -> type[S]:
        return define(cls, name or cls.__name__, clause)

    return decorate
