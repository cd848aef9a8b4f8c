"""What the decoder tells: one event for each thing on the wire, with what was checked about it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from spdmkit.capture.channels import Channel
from spdmkit.messages import MESSAGES, Context, Message, message_tree
from spdmkit.wire import Node

__all__ = [
    "Check",
    "CheckKind",
    "ConversationEvent",
    "EventKind",
    "Party",
    "Verdict",
    "node_to_json",
]


_MESSAGES = frozenset(message.name for message in MESSAGES.values())


class EventKind(enum.Enum):
    """What an event is about."""

    MESSAGE = "message"
    """An SPDM message, in the clear or out of a record; maybe malformed."""
    RECORD = "record"
    """A secured message that could not be decrypted."""
    APPLICATION = "application"
    """Application data out of a record."""
    ROLE_INQUIRY = "role-inquiry"
    BINDING_ERROR = "binding-error"
    PLATFORM = "platform"
    LOST = "lost"
    CLOSED = "closed"


class Party(enum.Enum):
    """Who sent it, in SPDM's terms."""

    REQUESTER = "requester"
    RESPONDER = "responder"
    UNKNOWN = "unknown"

    @property
    def other(self) -> Party:
        """The other side."""
        return _OTHERS[self]


_OTHERS = {
    Party.REQUESTER: Party.RESPONDER,
    Party.RESPONDER: Party.REQUESTER,
    Party.UNKNOWN: Party.UNKNOWN,
}


class CheckKind(enum.Enum):
    """What was checked."""

    SIGNATURE = "signature"
    HASH = "hash"
    """A digest in a message, or of a transcript."""
    MAC = "mac"
    """Verify data of a handshake."""
    CHAIN = "chain"
    """A certificate chain, up to a trust anchor."""


class Verdict(enum.Enum):
    """How it came out."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNVERIFIABLE = "unverifiable"
    """Something it takes is not in the capture; not a word against it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing checked about a message.

    Attributes:
        kind: what sort of thing.
        name: which, in the specification's terms.
        verdict: how it came out.
        reason: why, unless it was verified.
    """

    kind: CheckKind
    name: str
    verdict: Verdict
    reason: str = ""

    def to_json(self) -> dict[str, str]:
        """For machines."""
        found = {"kind": self.kind.value, "name": self.name, "verdict": self.verdict.value}
        if self.reason:
            found["reason"] = self.reason
        return found


@dataclass(slots=True, eq=False)
class ConversationEvent:
    """One thing on the wire, decoded as far as it goes.

    Attributes:
        number: counts events of the recording from 1; 0 for one inside another.
        kind: what it is.
        channel: where it was.
        sender: who sent it.
        time_ns: nanoseconds since 1970 UTC; None when the recording has no times.
        raw: the SPDM message without wrapping, the record, or what else there was.
        message: the message; None when it is none, or malformed.
        context: what its layout depended on, for the field tree.
        session_id: the session it is in; None outside of sessions.
        error: where and why decoding broke; empty when it did not.
        error_offset: at which byte of `raw` it broke; None when that does not apply.
        checks: what was checked about it.
        notes: what else is to be said.
        inside: messages it brings: encapsulated ones, and one that its last chunk completes.
        answers: number of the event with the request that it answers; 0 when it answers none.
        elapsed_ns: time since that request; None when the recording has no times.
        describe: makes the line of what matters in it.
    """

    number: int
    kind: EventKind
    channel: Channel
    sender: Party
    time_ns: int | None
    raw: bytes
    message: Message | None = None
    context: Context | None = None
    session_id: int | None = None
    error: str = ""
    name: str = ""
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inside: list[ConversationEvent] = field(default_factory=list)
    answers: int = 0
    elapsed_ns: int | None = None
    describe: Callable[[ConversationEvent], str] | None = None
    error_offset: int | None = None

    @property
    def summary(self) -> str:
        """What matters in it, in one line."""
        return self.describe(self) if self.describe is not None else ""

    @property
    def failed(self) -> bool:
        """Something is wrong with it, or with what it brings."""
        return bool(
            self.error
            or self.kind is EventKind.LOST
            or any(check.verdict is Verdict.FAILED for check in self.checks)
            or any(event.failed for event in self.inside)
        )

    def walk(self) -> Iterator[ConversationEvent]:
        """This event, and all those inside it."""
        yield self
        for event in self.inside:
            yield from event.walk()

    def tree(self) -> Node | None:
        """The fields of the message; None when it is malformed or no message.

        A message that it brings is in `inside`, decoded by what its sender negotiated; so it is
        not a second time among the fields.
        """
        if self.message is None or self.context is None:
            return None
        tree = message_tree(self.raw, self.context)
        if self.inside:
            for node in tree.children:
                node.children = [child for child in node.children if child.name not in _MESSAGES]
        return tree

    def to_json(self, *, fields: bool = True) -> dict[str, Any]:
        """For machines.

        Args:
            fields: with the field tree.
        """
        found: dict[str, Any] = {
            "number": self.number,
            "time": None if self.time_ns is None else self.time_ns / 1e9,
            "connection": self.channel.number,
            "kind": self.kind.value,
            "from": self.sender.value,
            "session": None if self.session_id is None else f"0x{self.session_id:08x}",
            "name": self.name,
            "length": len(self.raw),
            "summary": self.summary,
        }
        if self.message is not None:
            found["code"] = self.message.code
        if self.answers:
            found["answers"] = self.answers
            if self.elapsed_ns is not None:
                found["elapsed"] = self.elapsed_ns / 1e9
        more = {
            "error": self.error,
            "error_offset": self.error_offset,
            "checks": [check.to_json() for check in self.checks],
            "notes": self.notes,
            "inside": [event.to_json(fields=fields) for event in self.inside],
        }
        found |= {key: value for key, value in more.items() if value or value == 0}
        if fields:
            tree = self.tree()
            if tree is not None:
                found["fields"] = [node_to_json(node) for node in tree.children]
            else:
                found["raw"] = self.raw.hex()
        return found


def node_to_json(node: Node) -> dict[str, Any]:
    """A field tree for machines; integers of more than 53 bits become text, bytes hex."""
    value = node.value
    if isinstance(value, bytes):
        value = value.hex()
    elif isinstance(value, list) or (isinstance(value, int) and value.bit_length() > 53):
        value = node.display
    found: dict[str, Any] = {"name": node.name, "offset": node.offset, "length": node.length}
    if node.bits is not None:
        found["bits"] = list(node.bits)
    if value is not None:
        found["value"] = value
    if node.display and node.display != str(value):
        found["display"] = node.display
    if node.children:
        found["fields"] = [node_to_json(child) for child in node.children]
    return found
