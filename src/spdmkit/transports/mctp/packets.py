"""MCTP packets (DSP0236 8.1): a message is cut into pieces and put together again.

    header version u4 | destination EID | source EID | SOM EOM sequence(2) TO tag(3) | payload

The first byte of a message, in its first packet, is the message type; it counts as payload.
Nothing here answers a peer that breaks a rule: MCTP drops what is wrong, and says so to nobody.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from spdmkit.errors import TransportError

__all__ = [
    "BASELINE_UNIT",
    "BROADCAST_EID",
    "HEADER_SIZE",
    "MAX_MESSAGE",
    "NULL_EID",
    "TAGS",
    "Message",
    "Packet",
    "Reassembler",
    "fragment",
]

HEADER_SIZE = 4
HEADER_VERSION = 1
BASELINE_UNIT = 64
"""Bytes of a message in each packet that every endpoint takes (DSP0236 8.3.1)."""
MAX_MESSAGE = 0x1_0000
"""Largest message that Linux and libmctp put together, the type byte included."""
NULL_EID = 0
"""Addresses whoever is at the other end of a point-to-point medium."""
BROADCAST_EID = 0xFF
TAGS = 8
_SEQUENCES = 4
_SOM, _EOM, _OWNER = 0x80, 0x40, 0x08


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet.

    Attributes:
        destination, source: endpoint ids.
        start, end: the packet is its message's first, its last.
        sequence: counts the packets of a message modulo four.
        owner: the message's sender allocated the tag: it is a request.
        tag: pairs a response with its request.
        payload: a piece of the message.
    """

    destination: int
    source: int
    start: bool
    end: bool
    sequence: int
    owner: bool
    tag: int
    payload: bytes

    def encode(self) -> bytes:
        """Header and payload."""
        flags = (
            (_SOM if self.start else 0)
            | (_EOM if self.end else 0)
            | self.sequence << 4
            | (_OWNER if self.owner else 0)
            | self.tag
        )
        return bytes((HEADER_VERSION, self.destination, self.source, flags)) + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Packet:
        """Read a packet.

        Raises:
            TransportError: no whole header, no payload, another header version, or a source that
                no packet can have.
        """
        if len(data) <= HEADER_SIZE:
            raise TransportError(f"an MCTP packet of {len(data)} bytes")
        if data[0] & 0x0F != HEADER_VERSION:
            raise TransportError(f"MCTP header version {data[0] & 0x0F}")
        if data[2] == BROADCAST_EID:
            raise TransportError("an MCTP packet from the broadcast EID")
        flags = data[3]
        return cls(
            destination=data[1],
            source=data[2],
            start=bool(flags & _SOM),
            end=bool(flags & _EOM),
            sequence=flags >> 4 & 3,
            owner=bool(flags & _OWNER),
            tag=flags & 7,
            payload=data[HEADER_SIZE:],
        )


def fragment(
    body: bytes,
    *,
    destination: int,
    source: int,
    owner: bool,
    tag: int,
    unit: int = BASELINE_UNIT,
) -> Iterator[bytes]:
    """The packets of a message, encoded.

    Args:
        body: the message from its type byte on.
        destination: endpoint id of the receiver.
        source: endpoint id of the sender.
        owner: it is a request.
        tag: its tag.
        unit: transmission unit, in bytes of payload.

    Raises:
        TransportError: the message is empty, or larger than any endpoint takes.
    """
    if not body or len(body) > MAX_MESSAGE:
        raise TransportError(f"{len(body)} bytes do not go into one MCTP message")
    fixed = (_OWNER if owner else 0) | tag
    address = bytes((HEADER_VERSION, destination, source))
    last = len(body) - 1
    for number, start in enumerate(range(0, len(body), unit)):
        flags = fixed | (number % _SEQUENCES) << 4
        if start == 0:
            flags |= _SOM
        if start + unit > last:
            flags |= _EOM
        yield b"".join((address, bytes((flags,)), body[start : start + unit]))


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message.

    Attributes:
        destination, source: endpoint ids.
        owner: it is a request.
        tag: its tag.
        body: the message from its type byte on.
    """

    destination: int
    source: int
    owner: bool
    tag: int
    body: bytes

    @property
    def type(self) -> int:
        """The type byte, its integrity check bit included."""
        return self.body[0]


@dataclass(slots=True)
class _Partial:
    """A message of which packets are missing."""

    unit: int
    sequence: int
    deadline: float
    size: int
    pieces: list[bytes] = field(default_factory=list)


Key = tuple[int, int, int, bool]


class Reassembler:
    """Puts messages together, with a bound on how many, how large and how long.

    Messages are told apart by source, destination, tag and tag owner (DSP0236 8.6): a request and
    a response of equal tags never mix.

    Attributes:
        dropped: what was thrown away, counted by reason.
    """

    def __init__(
        self, *, max_message: int = MAX_MESSAGE, max_open: int = 16, patience: float = 6.0
    ) -> None:
        """Nothing received yet.

        Args:
            max_message: largest message, in bytes, the type byte included.
            max_open: messages under way; beyond, the one that waits longest gives way.
            patience: seconds from one packet of a message to its next.
        """
        self.dropped: Counter[str] = Counter()
        self._max_message = max_message
        self._max_open = max_open
        self._patience = patience
        self._open: OrderedDict[Key, _Partial] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def pending(self) -> int:
        """Bytes of messages that are not whole."""
        return sum(partial.size for partial in self._open.values())

    def add(self, packet: Packet, now: float) -> Message | None:
        """Take a packet; the message that it completes, or None."""
        self.expire(now)
        key = (packet.source, packet.destination, packet.tag, packet.owner)
        if packet.start:
            if self._open.pop(key, None) is not None:
                self.dropped["began again"] += 1
            if packet.end:
                return self._whole(key, packet.payload)
            self._begin(key, packet, now)
            return None
        partial = self._open.get(key)
        if partial is None:
            self.dropped["no beginning"] += 1
            return None
        reason = self._wrong(partial, packet)
        if reason:
            self._drop(key, reason)
            return None
        partial.pieces.append(packet.payload)
        partial.size += len(packet.payload)
        if packet.end:
            del self._open[key]
            return self._whole(key, b"".join(partial.pieces))
        partial.sequence = packet.sequence
        partial.deadline = now + self._patience
        self._open.move_to_end(key)
        return None

    def expire(self, now: float) -> None:
        """Drop what has waited too long for its next packet."""
        while self._open:
            key, partial = next(iter(self._open.items()))
            if now < partial.deadline:
                return
            self._drop(key, "timed out")

    def next_deadline(self) -> float | None:
        """When `expire` has something to do, at the earliest."""
        for partial in self._open.values():
            return partial.deadline
        return None

    def _begin(self, key: Key, packet: Packet, now: float) -> None:
        if len(packet.payload) > self._max_message:
            self.dropped["too large"] += 1
            return
        while len(self._open) >= self._max_open:
            self._drop(next(iter(self._open)), "gave way")
        size = len(packet.payload)
        self._open[key] = _Partial(
            size, packet.sequence, now + self._patience, size, [packet.payload]
        )

    def _wrong(self, partial: _Partial, packet: Packet) -> str:
        if packet.sequence != (partial.sequence + 1) % _SEQUENCES:
            return "out of sequence"
        size = len(packet.payload)
        if size > partial.unit or (size != partial.unit and not packet.end):
            return "wrong size"
        if partial.size + size > self._max_message:
            return "too large"
        return ""

    def _whole(self, key: Key, body: bytes) -> Message | None:
        source, destination, tag, owner = key
        if len(body) > self._max_message:
            self.dropped["too large"] += 1
            return None
        return Message(destination, source, owner, tag, body)

    def _drop(self, key: Key, reason: str) -> None:
        del self._open[key]
        self.dropped[reason] += 1
