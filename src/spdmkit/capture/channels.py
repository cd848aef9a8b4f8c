"""What was on the wire, free of whatever carried it: the input of the conversation decoder."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Channel", "Sender", "WireEvent", "WireKind"]


class WireKind(enum.Enum):
    """What a `WireEvent` is."""

    MESSAGE = "message"
    """An SPDM message outside of sessions."""
    MESSAGES = "messages"
    """One or more SPDM messages in a row, without anything that tells where each ends."""
    RECORD = "record"
    """A secured message."""
    ROLE_INQUIRY = "role-inquiry"
    """DSP0287 MessageType 0xBF."""
    BINDING_ERROR = "binding-error"
    """A DSP0287 error frame; `body` is MessageType and BindingVer."""
    PLATFORM = "platform"
    """What belongs to the transport: DOE discovery, commands of spdm-emu's socket protocol."""
    LOST = "lost"
    """The capture misses bytes here, or they could not be told apart into frames."""
    CLOSED = "closed"
    """The connection is over."""


class Sender(enum.Enum):
    """Which end of a channel sent something."""

    INITIATOR = "initiator"
    """Who opened the connection; on MCTP whoever is seen to send first."""
    LISTENER = "listener"
    UNKNOWN = "unknown"
    """The capture does not tell."""
    REQUESTER = "requester"
    """The recording names SPDM roles and not ends."""
    RESPONDER = "responder"

    @property
    def other(self) -> Sender:
        """The other end."""
        return _OTHERS[self]


_OTHERS = {
    Sender.INITIATOR: Sender.LISTENER,
    Sender.LISTENER: Sender.INITIATOR,
    Sender.UNKNOWN: Sender.UNKNOWN,
    Sender.REQUESTER: Sender.RESPONDER,
    Sender.RESPONDER: Sender.REQUESTER,
}


@dataclass(slots=True, eq=False)
class Channel:
    """What carries one SPDM connection.

    Attributes:
        number: counts channels from 1.
        transport: "tcp", "mctp", "doe" or "none".
        initiator: one end, for people.
        listener: the other end.
        framing: "emu" inside the socket protocol of spdm-emu, else empty.
        dialect: how PayloadLen counts on TCP, "strict" or "libspdm", once it shows.
    """

    number: int
    transport: str = ""
    initiator: str = ""
    listener: str = ""
    framing: str = ""
    dialect: str = ""


@dataclass(slots=True, eq=False)
class WireEvent:
    """One thing on the wire.

    Attributes:
        time_ns: nanoseconds since 1970 UTC; None when the recording has no times.
        channel: where.
        sender: which end sent it.
        kind: what it is.
        body: the message or record, free of framing; of LOST what could not be made out.
        note: what is to be said about it.
    """

    time_ns: int | None
    channel: Channel
    sender: Sender
    kind: WireKind
    body: bytes = b""
    note: str = ""
