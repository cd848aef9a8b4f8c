"""What all SPDM messages share: the header, the dispatch by code, and where signatures begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar, dataclass_transform

from spdmkit.errors import DecodeError
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V10, VERSIONS, Context
from spdmkit.wire import EncodeError, Format, Node, Struct, define
from spdmkit.wire.base import LayoutContext
from spdmkit.wire.decoder import Decoder
from spdmkit.wire.encoder import Encoder
from spdmkit.wire.kinds import Role, RoleOf, Uint
from spdmkit.wire.tree import walk

__all__ = ["MESSAGES", "Message", "message", "message_tree", "message_type", "parse_message"]

M = TypeVar("M", bound="Message")

MESSAGES: dict[int, type[Message]] = {}
"""Message classes by request or response code."""


@dataclass(slots=True, kw_only=True)
class Message(Struct):
    """An SPDM message.

    Attributes:
        code: RequestResponseCode.
        name: its name in DSP0274, "GET_DIGESTS".
        clause: where DSP0274 1.4 defines it.
        since: first SPDM version that has it.
        spdm_version: its SPDMVersion byte. 0 when made here: the context's version is used.
    """

    code: ClassVar[int]
    name: ClassVar[str]
    clause: ClassVar[str]
    since: ClassVar[int]

    spdm_version: int = field(default=0, compare=False)

    def encode(self, ctx: LayoutContext) -> bytes:
        """The bytes of the message, for its own version, else the context's.

        Fields that the version does not have are left out. A field that is absent for another
        reason, such as a nonce where no signature is requested, must be empty.

        Raises:
            EncodeError: a value does not fit its field, or the version lacks the message.
        """
        version = self.spdm_version or ctx.version
        encode = self._encoders.get((version, "")) or self.encoder(version)
        return encode(self, ctx)

    def encode_before(self, attribute: str, ctx: LayoutContext) -> bytes:
        """The bytes before a field, which may still be unset: what a signature or MAC covers.

        Args:
            attribute: "signature" or "verify_data".
            ctx: as for `encode`.
        """
        version = self.spdm_version or ctx.version
        encode = self._encoders.get((version, attribute)) or self.encoder(version, attribute)
        return encode(self, ctx)

    def signature_offset(self, consumed: int) -> int:
        """Where the signature begins in a decoded message of `consumed` bytes.

        Signature and verify data are the last fields of every message that has them.
        """
        return self.verify_data_offset(consumed) - len(getattr(self, "signature", b""))

    def verify_data_offset(self, consumed: int) -> int:
        """Where the HMAC begins in a decoded message of `consumed` bytes."""
        return consumed - len(getattr(self, "verify_data", b""))

    @classmethod
    def tree(cls, data: bytes | bytearray | memoryview, ctx: LayoutContext) -> Node:
        """The field tree of the message at the start of `data`; embedded messages included."""
        data = bytes(data)
        cls.decoder(ctx.version)
        return walk(cls.layout, data, (0, len(data)), ctx, _embedded_tree)

    @classmethod
    def decoder(cls, version: int) -> Decoder:
        """The compiled decoder of one SPDM version.

        Raises:
            DecodeError: the version does not have the message.
        """
        if version not in VERSIONS or version < cls.since:
            raise DecodeError(cls.name, "SPDMVersion", 0, f"is not a message of {version:#x}")
        return super(Message, cls).decoder(version)

    @classmethod
    def encoder(cls, version: int, stop: str = "") -> Encoder:
        """The compiled encoder of one SPDM version.

        Raises:
            EncodeError: the version does not have the message.
        """
        if version not in VERSIONS or version < cls.since:
            raise EncodeError(cls.name, "SPDMVersion", f"is not a message of {version:#x}")
        return super(Message, cls).encoder(version, stop)


@dataclass_transform(kw_only_default=True)
def message(
    code: RequestCode | ResponseCode,
    *,
    clause: str,
    since: int = V10,
    versions: tuple[int, int] | None = None,
) -> Callable[[type[M]], type[M]]:
    """Class decorator for messages: adds the first two bytes and registers the code.

    Args:
        code: the request or response code.
        clause: where DSP0274 1.4 defines the message.
        since: first SPDM version that has it.
        versions: smallest and largest SPDMVersion byte, when that is not the negotiated one.
    """
    smallest, largest = versions or (0, None)
    header = (
        Uint(
            attribute="spdm_version",
            name="SPDMVersion",
            size=1,
            role=RoleOf(Role.VERSION),
            minimum=smallest,
            maximum=largest,
            display=Format.SPDM_VERSION,
        ),
        Uint(
            attribute="_code",
            name="RequestResponseCode",
            size=1,
            role=RoleOf(Role.CODE),
            minimum=code,
            maximum=code,
            display=type(code),
        ),
    )

    def decorate(cls: type[M]) -> type[M]:
        made = define(cls, code.name, clause, header)
        made.code, made.name, made.clause, made.since = int(code), code.name, clause, since
        MESSAGES[code] = made
        return made

    return decorate


def message_type(data: bytes | bytearray | memoryview) -> type[Message]:
    """The class of the message that `data` starts with.

    Raises:
        DecodeError: fewer than two bytes, or a code that no version has.
    """
    if len(data) < 2:
        raise DecodeError("SPDM message", "SPDMVersion", 0, f"{len(data)} bytes are no message")
    found = MESSAGES.get(data[1])
    if found is None:
        raise DecodeError(
            "SPDM message", "RequestResponseCode", 1, f"{data[1]:#04x} is no known code"
        )
    return found


def parse_message(data: bytes | bytearray | memoryview, ctx: Context) -> tuple[Message, int]:
    """Decode whatever message `data` starts with; bytes may follow.

    Returns:
        The message, and the number of bytes it took.

    Raises:
        DecodeError: unknown code, a code younger than the version, or a malformed message.
    """
    return message_type(data).parse(data, ctx)


def message_tree(data: bytes | bytearray | memoryview, ctx: Context) -> Node:
    """The field tree of whatever message `data` starts with.

    Raises:
        DecodeError: as `parse_message`.
    """
    return message_type(data).tree(data, ctx)


def _embedded_tree(data: bytes, span: tuple[int, int], ctx: LayoutContext) -> Node:
    """The tree of a message inside another one; its offsets count from the outer message."""
    found = message_type(data[span[0] : span[1]])
    found.decoder(ctx.version)
    return walk(found.layout, data, span, ctx, _embedded_tree)
