"""What every framing gives and takes, whatever carries it: bytes in, events out, bytes back.

A framing is sans-I/O and belongs to one connection. A driver does this, and nothing else:

    send(framing.start())
    framing.receive(bytes_read)                # as often as there is something
    while (event := framing.next_event()) is not None:
        ...                                    # a Frame goes to the endpoint
    send(framing.pack(frame))                  # what the endpoint wants sent, one write each
    send(framing.end())                        # before closing in good order

`next_event` looks at one frame at a time, so that what the endpoint learns from one frame (that a
session exists now) counts for the next, and so that a driver can stop half-way under pressure.
"""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass
from typing import TypeAlias

from spdmkit.errors import SpdmError, TransportError
from spdmkit.protocol import records
from spdmkit.protocol.connection import Role
from spdmkit.protocol.frames import Frame, FrameKind

__all__ = [
    "MAX_FRAME",
    "BindingError",
    "Dialect",
    "Framing",
    "FramingEvent",
    "Goodbye",
    "PeerClosed",
    "PlatformCommand",
    "Reply",
    "Role",
    "RoleInquiry",
    "Side",
    "frame_kind",
]

MAX_FRAME = 0xFFFF
"""Largest body of a frame, in bytes: PayloadLen of DSP0287 is 16 bits wide."""


class PeerClosed(TransportError):
    """The peer closed the connection between two frames, as it does when it is done."""


class Side(enum.Enum):
    """Who opened the connection (DSP0287 clause 3.2: initiator and listener)."""

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    INITIATOR = "initiator"
    LISTENER = "listener"


class Dialect(enum.Enum):
    """How PayloadLen counts in frames of type 0x05 and 0x06.

    Table 1 of DSP0287 (normative) says the message's length; figure 2 (informative) and the
    reference implementation add the two bytes of BindingVer and MessageType.
    """

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    STRICT = "strict"
    LIBSPDM = "libspdm"

    extra: int
    """Bytes that PayloadLen counts beyond the message."""

    def __init__(self, value: str) -> None:
        self.extra = 2 if value == "libspdm" else 0

    @property
    def other(self) -> Dialect:
        """The dialect that is not this one."""
        return Dialect.STRICT if self is Dialect.LIBSPDM else Dialect.LIBSPDM


@dataclass(frozen=True, slots=True)
class RoleInquiry:
    """The initiator is a responder and asks us to be the requester (DSP0287 6.2)."""


@dataclass(frozen=True, slots=True)
class BindingError:
    """The connection must end.

    Attributes:
        error: why; a `PeerError` with `frame` set when the peer sent an error frame.
        reply: what to send before closing, for example an error frame; may be empty.
    """

    error: SpdmError
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """The framing answers by itself, without the endpoint.

    Attributes:
        data: bytes to send now.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class PlatformCommand:
    """A command of the emulator's socket protocol that is not an SPDM message.

    Attributes:
        command: its number.
        payload: what came with it.
    """

    command: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The peer ends the conversation in good order.

    Attributes:
        reply: bytes to send before closing.
        shutdown: it also asks the whole service to stop.
    """

    reply: bytes = b""
    shutdown: bool = False


FramingEvent: TypeAlias = Frame | RoleInquiry | BindingError | Reply | PlatformCommand | Goodbye

_KINDS = {0x05: FrameKind.MESSAGE, 0x06: FrameKind.SECURED}


def frame_kind(value: int) -> FrameKind | None:
    """The frame kind of a message type byte (0x05 or 0x06), or None."""
    return _KINDS.get(value)


class Framing(abc.ABC):
    """One connection's framing; see the module for how it is driven.

    Attributes:
        name: as in endpoint URIs, for example "emu+mctp".
        role: our SPDM role; None while a listener does not know it yet.
        secured_allowed: kept by the driver: the endpoint has, or had, a session on this
            connection, so that a secured message may come.
    """

    name: str = ""

    def __init__(self, role: Role | None) -> None:
        self.role = role
        self.secured_allowed = False

    @property
    def ready(self) -> bool:
        """Our own first request may be sent now."""
        return self.role is Role.REQUESTER

    @property
    def dialect(self) -> Dialect | None:
        """The DSP0287 dialect in use, once known; None where there is none."""
        return None

    @property
    def record_profile(self) -> records.RecordProfile:
        """How secured records look at an end that speaks this binding itself."""
        return records.NONE

    def start(self) -> bytes:
        """Bytes to send as soon as the connection stands."""
        return b""

    @abc.abstractmethod
    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes that came from the peer, cut anywhere."""

    def lend(self, data: memoryview) -> None:
        """As `receive`, of bytes that stay as they are only until `settle`."""
        self.receive(bytes(data))

    def settle(self) -> None:  # noqa: B027  # most framings copy what they receive
        """The memory of lent bytes is about to change: copy what is left of them."""

    def whole(self, data: bytes | memoryview) -> Frame | None:  # noqa: ARG002  # not every framing has a short way
        """The frame that a read is, if it is one whole frame and nothing came before it.

        A short way beside `receive` and `next_event`, for what nearly all reads are. None: nothing
        was taken, `receive` the data.
        """
        return None

    @abc.abstractmethod
    def next_event(self) -> FramingEvent | None:
        """The next thing that is complete, or None. Never raises on what a peer sent."""

    @abc.abstractmethod
    def pack(self, frame: Frame) -> bytes:
        """One frame as bytes for one write.

        Raises:
            TransportError: it does not fit, or the connection is over.
        """

    @abc.abstractmethod
    def pending(self) -> int:
        """Bytes received that are not a whole frame yet."""

    def next_deadline(self) -> float | None:
        """When `on_time` has something to do, monotonic seconds; None: never."""
        return None

    def on_time(self, now: float) -> None:  # noqa: B027  # most framings know no time
        """Time has passed: `next_event` may have something, bytes to send for example."""

    def end(self) -> bytes:
        """Bytes to send before we close in good order; may be asked for once."""
        return b""

    @property
    def awaits_goodbye(self) -> bool:
        """The peer will answer `end` with a `Goodbye`, and wants it read before we close."""
        return False

    def hint(self) -> str:
        """What may be wrong when the peer seems to say nothing, or an empty string."""
        return ""

    def feed(self, data: bytes | bytearray | memoryview) -> list[FramingEvent]:
        """`receive`, and all events that are complete after it."""
        self.receive(data)
        events: list[FramingEvent] = []
        while (event := self.next_event()) is not None:
            events.append(event)
        return events

    def closed(self) -> TransportError:
        """The error that describes the peer's closing the connection at this point."""
        cut = self.pending()
        if cut:
            return TransportError(f"the peer closed the connection {cut} bytes into a frame")
        return PeerClosed("the peer closed the connection")
