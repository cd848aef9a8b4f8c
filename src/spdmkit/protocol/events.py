"""What an endpoint tells its application as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "ConnectionReset",
    "DataArrived",
    "EventSink",
    "KeyLogged",
    "KeysUpdated",
    "PeerNotification",
    "ProtocolEvent",
    "RequestRefused",
    "RequesterAuthenticated",
    "SessionEnded",
    "SessionEstablished",
    "SlotChanged",
]


@dataclass(frozen=True, slots=True)
class ConnectionReset:
    """GET_VERSION ended everything that was negotiated, sessions included."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    """A session reached its application phase.

    Attributes:
        kind: "key-exchange" or "psk".
        mutual: the requester proved its identity too.
    """

    session_id: int
    kind: str
    mutual: bool


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over and its keys are gone."""

    session_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class RequesterAuthenticated:
    """A requester proved who it is, outside a session (basic mutual authentication).

    It binds nothing that follows: whoever sits in between can still change what is sent in the
    clear.

    Attributes:
        kind: "certificate".
        identity: the subject of its leaf.
    """

    kind: str
    identity: str


@dataclass(frozen=True, slots=True)
class DataArrived:
    """Application data waits in a session's inbox."""

    session_id: int


@dataclass(frozen=True, slots=True)
class KeysUpdated:
    """New keys are in use in one direction ("request" or "response")."""

    session_id: int
    direction: str


@dataclass(frozen=True, slots=True)
class KeyLogged:
    """A secret for the key log; only made when a key log was asked for.

    Attributes:
        label: which secret, as in the key log's documentation.
        client_random: the request's RandomData or PSK context, which names the session.
        server_random: the response's.
    """

    label: str
    client_random: bytes
    server_random: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class PeerNotification:
    """The peer sent an event (SEND_EVENT).

    Attributes:
        registry_id: with `vendor_id`, whose event it is (EventGroupId).
        event_type: EventTypeId.
        detail: its detail, undecoded.
        instance: EventInstanceId.
        missing: how many events that came before it never arrived.
    """

    session_id: int
    registry_id: int
    event_type: int
    detail: bytes
    vendor_id: bytes = b""
    instance: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class SlotChanged:
    """A slot of the peer holds another chain than before, or none: what was read of it is stale.

    Attributes:
        slot_id: the slot.
        bank_id: of which bank; None for the one that negotiation selected.
    """

    slot_id: int
    bank_id: int | None = None


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was answered with ERROR.

    Attributes:
        error_code: ErrorCode that the requester got.
        reason: why, which the requester is not told; may repeat what a peer wrote.
    """

    error_code: int
    reason: str


ProtocolEvent: TypeAlias = (
    ConnectionReset
    | SessionEstablished
    | SessionEnded
    | RequesterAuthenticated
    | DataArrived
    | KeysUpdated
    | KeyLogged
    | PeerNotification
    | SlotChanged
    | RequestRefused
)
EventSink: TypeAlias = Callable[[ProtocolEvent], None]
