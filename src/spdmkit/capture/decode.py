"""Decoding a recording: every conversation in it, message by message, and a summary.

    with Decoder(open_recording("capture.pcapng"), secrets=load_secrets("keys.log")) as decoder:
        for event in decoder:
            print(event.number, event.name, event.summary)
    print(decoder.summary.to_json())

Events come as they are read; nothing of them is kept, so that memory does not grow with the file.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from spdmkit.capture.channels import Channel, WireKind
from spdmkit.capture.conversation import Conversation
from spdmkit.capture.events import CheckKind, ConversationEvent, EventKind, Party, Verdict
from spdmkit.capture.proofs import Evidence
from spdmkit.capture.secretfiles import Secrets
from spdmkit.capture.sessions import DerivedSink, KeySink
from spdmkit.capture.sources import Recording
from spdmkit.crypto.keys import PublicKey
from spdmkit.protocol.algorithms import Selection

__all__ = ["Decoder", "EventFilter", "Summary", "Timing"]

_MAX_CONVERSATIONS = 4096
_MAX_NOTES = 100


@dataclass(slots=True)
class Timing:
    """How long a kind of exchange took, in nanoseconds from request to response."""

    count: int = 0
    total_ns: int = 0
    shortest_ns: int = 0
    longest_ns: int = 0

    def add(self, elapsed_ns: int) -> None:
        """Count one exchange."""
        if not self.count or elapsed_ns < self.shortest_ns:
            self.shortest_ns = elapsed_ns
        self.longest_ns = max(self.longest_ns, elapsed_ns)
        self.count += 1
        self.total_ns += elapsed_ns

    def to_json(self) -> dict[str, Any]:
        """For machines, in seconds."""
        mean = self.total_ns / self.count if self.count else 0.0
        return {
            "count": self.count,
            "total": self.total_ns / 1e9,
            "mean": mean / 1e9,
            "shortest": self.shortest_ns / 1e9,
            "longest": self.longest_ns / 1e9,
        }


def _tally() -> dict[Verdict, int]:
    return dict.fromkeys(Verdict, 0)


@dataclass(slots=True)
class Summary:
    """A recording in numbers.

    Attributes:
        messages: SPDM messages on the wire, decrypted ones included.
        inside: further messages inside of those: encapsulated, or put together from chunks.
        undecoded: malformed messages, and stretches that are no frames at all.
        records: secured messages.
        records_decrypted: those of them that could be decrypted.
        connections: connections, or pairs of endpoints.
        sessions: sessions that were seen to begin.
        errors: ERROR responses, by name.
        names: messages by name.
        checks: how checks came out, by what was checked.
        timings: exchanges by the name of their response.
        first_ns: time of the first event.
        last_ns: time of the last.
        notes: what is to be said about the recording.
    """

    messages: int = 0
    inside: int = 0
    undecoded: int = 0
    records: int = 0
    records_decrypted: int = 0
    connections: int = 0
    sessions: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    checks: dict[CheckKind, dict[Verdict, int]] = field(
        default_factory=lambda: {kind: _tally() for kind in CheckKind}
    )
    timings: dict[str, Timing] = field(default_factory=dict)
    first_ns: int | None = None
    last_ns: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """A check failed."""
        return any(tally[Verdict.FAILED] for tally in self.checks.values())

    def count(self, event: ConversationEvent, *, record: bool) -> None:
        """Count an event.

        Args:
            event: it.
            record: it came as a secured message.
        """
        kind = event.kind
        if event.time_ns is not None:
            if self.first_ns is None:
                self.first_ns = event.time_ns
            self.last_ns = event.time_ns
        if record:
            self.records += 1
            if kind is not EventKind.RECORD:
                self.records_decrypted += 1
        if kind is EventKind.MESSAGE:
            self.messages += 1
            self.names[event.name] += 1
            if event.error:
                self.undecoded += 1
            if event.elapsed_ns is not None:
                timing = self.timings.get(event.name)
                if timing is None:
                    timing = self.timings[event.name] = Timing()
                timing.add(event.elapsed_ns)
            if event.name == "ERROR":
                self.errors[event.summary] += 1
        elif kind is EventKind.LOST:
            self.undecoded += 1
        self._count_checks(event)
        for inner in event.inside:
            for each in inner.walk():
                self.inside += 1
                self.undecoded += bool(each.error)
                self._count_checks(each)

    def _count_checks(self, event: ConversationEvent) -> None:
        for check in event.checks:
            self.checks[check.kind][check.verdict] += 1

    def to_json(self) -> dict[str, Any]:
        """For machines."""

        def tally(kind: CheckKind) -> dict[str, int]:
            return {verdict.value: count for verdict, count in self.checks[kind].items()}

        duration = None
        if self.first_ns is not None and self.last_ns is not None:
            duration = (self.last_ns - self.first_ns) / 1e9
        return {
            "messages": self.messages,
            "inside": self.inside,
            "undecoded": self.undecoded,
            "records": self.records,
            "records_decrypted": self.records_decrypted,
            "connections": self.connections,
            "sessions": self.sessions,
            "signatures": tally(CheckKind.SIGNATURE),
            "hashes": tally(CheckKind.HASH),
            "macs": tally(CheckKind.MAC),
            "chains": tally(CheckKind.CHAIN),
            "errors": dict(self.errors),
            "names": dict(self.names),
            "duration": duration,
            "timings": {name: timing.to_json() for name, timing in self.timings.items()},
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to show. What is left out here is still decoded and counted.

    Attributes:
        names: messages of these names, or that have one of these inside; all when empty.
        connections: these connections; all when empty.
        sessions: in these sessions; all when empty.
        sender: only what this side sent; None for both.
        failed: only what is malformed or failed a check.
        since_ns: not before this time.
        until_ns: not after this time.
    """

    names: frozenset[str] = frozenset()
    connections: frozenset[int] = frozenset()
    sessions: frozenset[int] = frozenset()
    sender: Party | None = None
    failed: bool = False
    since_ns: int | None = None
    until_ns: int | None = None

    def __call__(self, event: ConversationEvent) -> bool:
        """Shall this event be shown?"""
        if self.names and not any(each.name in self.names for each in event.walk()):
            return False
        if self.connections and event.channel.number not in self.connections:
            return False
        if self.sessions and event.session_id not in self.sessions:
            return False
        if self.sender is not None and event.sender is not self.sender:
            return False
        if self.failed and not event.failed:
            return False
        time_ns = event.time_ns
        if time_ns is None:
            return self.since_ns is None and self.until_ns is None
        return (self.since_ns is None or time_ns >= self.since_ns) and (
            self.until_ns is None or time_ns <= self.until_ns
        )


class Decoder:
    """The events of a recording, in order, and their summary.

    Attributes:
        recording: what is decoded.
        summary: of what was given so far.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        secrets: Secrets | None = None,
        anchors: Iterable[bytes] = (),
        chains: Iterable[Sequence[bytes]] = (),
        public_keys: Iterable[PublicKey] = (),
        assume: Selection | None = None,
        verify: bool = True,
        sink: DerivedSink | None = None,
        keys: KeySink | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            recording: what to decode; it is closed with the decoder.
            secrets: for decrypting, besides those that the recording holds.
            anchors: DER certificates that chains may hang on, besides those that the recording
                names; without any, chains are not judged.
            chains: chains that may not be in the recording, root first, certificates in DER.
            public_keys: keys that were provisioned out of band.
            assume: algorithms for a recording that begins after ALGORITHMS.
            verify: check signatures, digests and verify data.
            sink: told of every value that is derived or computed.
            keys: told of every secret that protects records, for a key log.
        """
        self.recording = recording
        self.summary = Summary(notes=recording.notes)
        known = Secrets()
        for each in (recording.secrets, secrets):
            if each is not None:
                known.update(each)
        self.summary.notes += known.trouble
        self._evidence = Evidence(
            known,
            anchors=[*recording.trust_anchors, *anchors],
            chains=list(chains),
            public_keys=list(public_keys),
            derived=recording.derived,
            sink=sink,
            keys=keys,
            verify=verify,
        )
        self._assume = assume
        self._conversations: OrderedDict[int, Conversation] = OrderedDict()
        self._numbers = itertools.count(1).__next__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.recording.close()

    def __iter__(self) -> Iterator[ConversationEvent]:
        """The events of the recording; it can be read once."""
        summary = self.summary
        for wire in self.recording.events:
            number = wire.channel.number
            conversation = self._conversations.get(number)
            if conversation is None:
                conversation = self._begin(wire.channel)
            record = wire.kind is WireKind.RECORD
            for event in conversation.feed(wire):
                summary.count(event, record=record)
                yield event
            if wire.kind is WireKind.CLOSED:
                summary.sessions += conversation.handshakes.count
                del self._conversations[number]
        for conversation in self._conversations.values():
            summary.sessions += conversation.handshakes.count
        self._conversations.clear()

    def run(self) -> Summary:
        """Read everything and give the summary alone."""
        for _ in self:
            pass
        return self.summary

    def _begin(self, channel: Channel) -> Conversation:
        conversation = Conversation(
            channel, self._evidence, number=self._numbers, assume=self._assume
        )
        self._conversations[channel.number] = conversation
        self.summary.connections += 1
        if len(self._conversations) > _MAX_CONVERSATIONS:
            _, oldest = self._conversations.popitem(last=False)
            self.summary.sessions += oldest.handshakes.count
        return conversation
