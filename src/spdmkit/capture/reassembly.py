"""TCP streams out of TCP segments, and MCTP messages out of MCTP packets, in bounded memory.

A passive listener sees segments twice, out of order or not at all. What comes out of here is each
direction's bytes once and in order; where the capture misses some, a gap says how many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from spdmkit.capture.layers import ACK, FIN, RST, SYN, Endpoint, MctpPacket, TcpSegment, endpoints

__all__ = ["MctpAssembler", "MctpMessage", "StreamEvent", "TcpConnection", "TcpReassembler"]

_MASK = 0xFFFFFFFF
_HALF = 0x80000000


def _distance(sequence: int, position: int) -> int:
    """How far a sequence number lies ahead of another; negative when behind (RFC 9293 3.4)."""
    ahead = sequence - position & _MASK
    return ahead - (_MASK + 1) if ahead >= _HALF else ahead


class _Half:
    """One direction of a connection: what is next, and what waits because it came too early.

    Attributes:
        first: sequence number of the first byte that was seen; None before the first segment.
        next: sequence number of the next byte to hand out; None before the first segment.
        pending: payload captured and true length of segments ahead, by sequence number.
        pending_bytes: how much captured payload waits.
        fin: sequence number behind the last byte, once a FIN was seen.
    """

    __slots__ = ("fin", "first", "next", "pending", "pending_bytes")

    def __init__(self) -> None:
        self.first: int | None = None
        self.next: int | None = None
        self.pending: dict[int, tuple[bytes, int]] = {}
        self.pending_bytes = 0
        self.fin: int | None = None

    def insert(self, start: int, data: bytes, length: int) -> None:
        """Let a segment wait, or the part of it that was not there yet."""
        position = start if self.next is None else self.next
        behind = -_distance(start, position)
        if behind >= length:
            return
        if behind > 0:
            start, data, length = position, data[behind:], length - behind
        known, known_length = self.pending.get(start, (b"", 0))
        if length > known_length:
            kept = known + data[len(known) :]  # of two versions of a byte the first counts
            self.pending[start] = (kept, length)
            self.pending_bytes += len(kept) - len(known)

    def take(self, limit: int = _MASK, *, past: int | None = None) -> Iterator[tuple[bytes, int]]:
        """Hand out what waits, as (bytes, bytes lost before them).

        Args:
            limit: how many bytes may wait for a hole; above it the hole is stepped over.
            past: a sequence number up to which holes are stepped over.
        """
        while self.pending:
            position = self.next if self.next is not None else next(iter(self.pending))
            start = min(self.pending, key=lambda sequence: _distance(sequence, position))
            ahead = _distance(start, position)
            acknowledged = past is not None and _distance(past, start) >= 0
            if ahead > 0 and not acknowledged and self.pending_bytes <= limit:
                return
            data, length = self.pending.pop(start)
            self.pending_bytes -= len(data)
            if ahead < 0:
                data, length = data[-ahead:], length + ahead
            # What a capture cut off counts as not seen: it may come again, or show as a gap.
            if data:
                self.next = position + max(ahead, 0) + len(data) & _MASK
                yield data, max(ahead, 0)


@dataclass(slots=True, eq=False)
class TcpConnection:
    """A TCP connection in a capture.

    Attributes:
        number: counts connections from 1 in the order their first segment was captured.
        flow: `TcpSegment.flow` of the side that opened it, as far as the capture shows.
        initiator_half: what that side sent.
        listener_half: what the other side sent.
    """

    number: int
    flow: bytes
    initiator_half: _Half = field(default_factory=_Half)
    listener_half: _Half = field(default_factory=_Half)

    @property
    def initiator(self) -> Endpoint:
        """The side that opened the connection."""
        return endpoints(self.flow)[0]

    @property
    def listener(self) -> Endpoint:
        """The side that was connected to."""
        return endpoints(self.flow)[1]

    @property
    def finished(self) -> bool:
        """Both sides have sent their last byte, and it was handed out."""
        one, other = self.initiator_half, self.listener_half
        return (
            one.fin is not None
            and one.fin == one.next
            and (other.fin is not None and other.fin == other.next)
        )


class StreamEvent(NamedTuple):
    """What came out of a segment, for one direction of one connection.

    Attributes:
        connection: the connection.
        from_initiator: the direction; False for bytes of the listener.
        data: the next bytes of that direction; empty at the end.
        lost: how many bytes before `data` the capture misses.
        ended: the connection was closed (by both sides, or by a reset) or given up.
    """

    connection: TcpConnection
    from_initiator: bool
    data: bytes = b""
    lost: int = 0
    ended: bool = False


def _reversed_flow(flow: bytes) -> bytes:
    size = (len(flow) - 4) // 2
    return flow[size : 2 * size] + flow[:size] + flow[-2:] + flow[-4:-2]


class TcpReassembler:
    """Puts the segments of many connections in order.

    A byte that was handed out is never handed out again, so of overlapping segments the first
    counts. Segments ahead of a hole wait for it, until the other side acknowledges the hole
    (then the capture missed it), too much waits, or the connection ends.
    """

    def __init__(self, *, max_connections: int = 4096, max_pending: int = 1 << 20) -> None:
        """Start without connections.

        Args:
            max_connections: how many are followed at once; the one idle longest is given up.
            max_pending: bytes that may wait for a hole in one direction.
        """
        self._flows: dict[bytes, tuple[TcpConnection, bool]] = {}
        self._recent: OrderedDict[int, TcpConnection] = OrderedDict()
        self._max_connections = max_connections
        self._max_pending = max_pending
        self._count = 0

    def feed(self, segment: TcpSegment) -> Sequence[StreamEvent]:
        """Take one segment; gives what can be handed out now, in order."""
        events: list[StreamEvent] = []
        known = self._flows.get(segment.flow)
        syn = segment.flags & SYN
        if known is not None and syn and self._reopens(known, segment):
            self._give_up(known[0], events)
            known = None
        if known is None:
            if not segment.length and not syn:
                return events  # the last ACK of a connection that has ended, for example
            known = self._open(segment, events)
        connection, from_initiator = known
        self._recent.move_to_end(connection.number)
        mine, theirs = connection.initiator_half, connection.listener_half
        if not from_initiator:
            mine, theirs = theirs, mine
        start = segment.sequence + 1 & _MASK if syn else segment.sequence
        if mine.next is None:
            mine.first = mine.next = start
        if segment.length:
            if mine.next == start and not mine.pending and len(segment.payload) == segment.length:
                mine.next = start + segment.length & _MASK  # the common case, without detours
                events.append(StreamEvent(connection, from_initiator, segment.payload))
            else:
                mine.insert(start, segment.payload, segment.length)
                self._take(connection, from_initiator, events)
        if theirs.pending and segment.flags & ACK:
            self._take(connection, not from_initiator, events, past=segment.acknowledged)
        if segment.flags & FIN:
            mine.fin = start + segment.length & _MASK
        if segment.flags & RST or (mine.fin is not None and connection.finished):
            self._give_up(connection, events)
        return events

    def finish(self) -> list[StreamEvent]:
        """The capture is over: what still waits is handed out behind its gaps."""
        events: list[StreamEvent] = []
        for connection in list(self._recent.values()):
            self._give_up(connection, events)
        return events

    @staticmethod
    def _reopens(known: tuple[TcpConnection, bool], segment: TcpSegment) -> bool:
        """Does this SYN open another connection on ports used before, rather than repeat itself?"""
        connection, from_initiator = known
        half = connection.initiator_half if from_initiator else connection.listener_half
        return half.first is not None and half.first != (segment.sequence + 1 & _MASK)

    def _open(self, segment: TcpSegment, events: list[StreamEvent]) -> tuple[TcpConnection, bool]:
        flow = segment.flow
        if segment.flags & SYN:
            from_initiator = not segment.flags & ACK
        else:  # the capture began later: services have low port numbers
            from_initiator = flow[-4:-2] >= flow[-2:]
        back = _reversed_flow(flow)
        self._count += 1
        connection = TcpConnection(self._count, flow if from_initiator else back)
        self._recent[connection.number] = connection
        self._flows[flow] = (connection, from_initiator)
        self._flows[back] = (connection, not from_initiator)
        while len(self._recent) > self._max_connections:
            self._give_up(next(iter(self._recent.values())), events)
        return connection, from_initiator

    def _take(
        self,
        connection: TcpConnection,
        from_initiator: bool,
        events: list[StreamEvent],
        *,
        past: int | None = None,
    ) -> None:
        half = connection.initiator_half if from_initiator else connection.listener_half
        for data, lost in half.take(self._max_pending, past=past):
            events.append(StreamEvent(connection, from_initiator, data, lost))

    def _give_up(self, connection: TcpConnection, events: list[StreamEvent]) -> None:
        """Hand out what waits, say that the connection ended, and forget it."""
        for from_initiator in (True, False):
            half = connection.initiator_half if from_initiator else connection.listener_half
            for data, lost in half.take(-1):
                events.append(StreamEvent(connection, from_initiator, data, lost))
        events.append(StreamEvent(connection, from_initiator=True, ended=True))
        del self._recent[connection.number]
        del self._flows[connection.flow], self._flows[_reversed_flow(connection.flow)]


@dataclass(slots=True)
class MctpMessage:
    """One MCTP message.

    Attributes:
        source: endpoint ID of its sender.
        destination: endpoint ID of its receiver.
        owner: the sender chose the message tag, as the one who starts an exchange does.
        type: the message type, without the integrity check bit.
        body: what follows the message type byte.
    """

    source: int
    destination: int
    owner: bool
    type: int
    body: bytes


class MctpAssembler:
    """Joins MCTP packets to messages (DSP0236 8.8): by source, destination, tag and tag owner."""

    def __init__(self, *, max_message: int = 1 << 20, max_open: int = 256) -> None:
        """Start with nothing.

        Args:
            max_message: bytes of the longest message that is put together.
            max_open: how many messages may be incomplete at once; the oldest is given up.
        """
        self._open: OrderedDict[tuple[int, int, int], tuple[int, bytearray]] = OrderedDict()
        self._max_message = max_message
        self._max_open = max_open

    def feed(self, packet: MctpPacket) -> MctpMessage | None:
        """Take one packet; gives the message that it completes.

        A packet out of sequence ends the message it belonged to, as DSP0236 8.9 has it.
        """
        data = packet.data
        _, destination, source, flags = data[:4]
        key = (source, destination, flags & 0x0F)
        sequence = flags >> 4 & 3
        if flags & 0x80:  # start of message
            self._open.pop(key, None)
            buffer = bytearray(data[4:])
        else:
            expected, buffer = self._open.pop(key, (-1, bytearray()))
            if sequence != expected or len(buffer) + len(data) > self._max_message:
                return None
            buffer += data[4:]
        if not flags & 0x40:  # not the end of message
            self._open[key] = (sequence + 1 & 3, buffer)
            if len(self._open) > self._max_open:
                self._open.popitem(last=False)
            return None
        if not buffer:
            return None
        body = bytes(buffer[1:-4] if buffer[0] & 0x80 else buffer[1:])  # IC bit: a CRC-32 follows
        return MctpMessage(source, destination, bool(flags & 0x08), buffer[0] & 0x7F, body)
