"""One MCTP endpoint, sans I/O: tags, requests and their answers, retries, control messages.

    station.request(...)        send a message as the owner of its tag
    station.respond(...)        answer one that arrived
    station.receive(packet)     take a packet; what it means comes back as events
    station.on_time(now)        time has passed
    station.outgoing()          packets to send now

A request has one answer: the tag is free again with the first, and whatever comes later under it
is dropped. A tag whose request had no answer rests until no late answer can come.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from spdmkit.errors import TransportError
from spdmkit.transports.mctp import control
from spdmkit.transports.mctp.packets import (
    BASELINE_UNIT,
    BROADCAST_EID,
    NULL_EID,
    TAGS,
    Message,
    Packet,
    Reassembler,
    fragment,
)

__all__ = ["Answered", "Arrived", "Asked", "Station", "StationEvent", "Unanswered"]

TAG_REST = 6.0
"""Seconds that a tag rests after a request without an answer; Linux forgets tags after as long."""
REPEAT_WINDOW = 6.0
"""Seconds in which the same bytes under the same tag are a repetition and not a new request."""
MOST_PEERS = 16
"""Peers whose last request is remembered."""
MOST_OUTGOING = 0x4_0000
"""Bytes of packets that may wait to be sent."""


@dataclass(slots=True)
class Asked:
    """A request of ours that is under way.

    Attributes:
        destination: where it went; the null EID is whoever is at the other end.
        tag: its tag.
        body: the message from its type byte on.
        interval: seconds to wait before it is sent again.
        tries: how often it may still be sent again.
        again_at: when that is due, or it counts as unanswered.
        sent: how often it was sent.
    """

    destination: int
    tag: int
    body: bytes
    interval: float
    tries: int
    again_at: float
    sent: int = 1


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request of ours."""

    request: Asked
    message: Message


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request of ours had no answer, however often it was sent."""

    request: Asked


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request for us, to be answered by `respond`."""

    message: Message


StationEvent: TypeAlias = Answered | Unanswered | Arrived


@dataclass(slots=True)
class _Served:
    """The last request of a peer, and our answer once there is one."""

    tag: int
    body: bytes
    at: float
    answer: bytes | None = None


class Station:
    """See the module.

    Attributes:
        status: our endpoint id.
        unit: transmission unit of what we send, in bytes.
        counts: packets and messages dropped by reason, and requests sent again ("retried").
    """

    def __init__(
        self,
        eid: int = NULL_EID,
        *,
        types: Sequence[int] = (),
        unit: int = BASELINE_UNIT,
        reassembler: Reassembler | None = None,
    ) -> None:
        """An endpoint that has sent nothing.

        Args:
            eid: its endpoint id; the null EID waits for a bus owner to assign one.
            types: message types that it answers requests of, besides control.
            unit: transmission unit.
            reassembler: bounds of what it receives.
        """
        self.status = control.EidStatus(eid, static=eid != NULL_EID)
        self.unit = unit
        self.counts: Counter[str] = Counter()
        self._types = tuple(types)
        self._reassembler = reassembler or Reassembler()
        self._asked: dict[tuple[int, int], Asked] = {}
        self._resting: dict[tuple[int, int], float] = {}
        self._next_tag = 0
        self._instance = 0
        self._served: OrderedDict[int, _Served] = OrderedDict()
        self._outgoing: deque[bytes] = deque()
        self._queued = 0

    @property
    def dropped(self) -> Counter[str]:
        """Everything that was thrown away, counted by reason."""
        return self.counts + self._reassembler.dropped

    @property
    def pending(self) -> int:
        """Bytes of messages that are not whole."""
        return self._reassembler.pending

    # -- what we send ---------------------------------------------------------------------------

    def request(
        self,
        destination: int,
        body: bytes,
        now: float,
        *,
        interval: float,
        tries: int = 1,
    ) -> Asked:
        """Send a message as the owner of its tag.

        Args:
            destination: endpoint id, or the null EID.
            body: the message from its type byte on.
            now: monotonic seconds.
            interval: seconds to wait for the answer, before each further try and after the last.
            tries: how often to send it at most.

        Raises:
            TransportError: no tag is free, or it is too large.
        """
        tag = self._free_tag(destination, now)
        asked = Asked(destination, tag, body, interval, tries - 1, now + interval)
        self._send(destination, body, owner=True, tag=tag)
        self._asked[destination, tag] = asked
        return asked

    def give_up(self, asked: Asked, now: float) -> None:
        """Wait no longer for an answer; a late one will be dropped."""
        if self._asked.pop((asked.destination, asked.tag), None) is not None:
            self._resting[asked.destination, asked.tag] = now + TAG_REST

    def respond(self, request: Message, body: bytes) -> None:
        """Answer a request that arrived.

        Raises:
            TransportError: the answer is too large.
        """
        served = self._served.get(request.source)
        if served is not None and (served.tag, served.body) == (request.tag, request.body):
            served.answer = body
        self._send(request.source, body, owner=False, tag=request.tag)

    def next_instance(self) -> int:
        """An instance id for a control request."""
        self._instance = (self._instance + 1) & 0x1F
        return self._instance

    def outgoing(self) -> list[bytes]:
        """Packets to send now, in order."""
        packets = list(self._outgoing)
        self._outgoing.clear()
        self._queued = 0
        return packets

    def _send(self, destination: int, body: bytes, *, owner: bool, tag: int) -> None:
        if self._queued > MOST_OUTGOING:
            raise TransportError("the MCTP medium takes nothing of what we send")
        for packet in fragment(
            body,
            destination=destination,
            source=self.status.eid,
            owner=owner,
            tag=tag,
            unit=self.unit,
        ):
            self._outgoing.append(packet)
            self._queued += len(packet)

    def _free_tag(self, destination: int, now: float) -> int:
        """The next tag in turn that nothing of this destination waits under.

        An answer to the null EID comes from an id that we do not know yet, so that such a request
        needs a tag that no other one has.
        """
        for key in [key for key, until in self._resting.items() if until <= now]:
            del self._resting[key]
        for _ in range(TAGS):
            tag = self._next_tag
            self._next_tag = (tag + 1) % TAGS
            taken = self._asked.keys() | self._resting.keys()
            if destination == NULL_EID:
                free = all(other != tag for _eid, other in taken)
            else:
                free = (destination, tag) not in taken and (NULL_EID, tag) not in self._asked
            if free:
                return tag
        raise TransportError(f"no MCTP tag is free for endpoint {destination}")

    # -- what we receive ------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[StationEvent]:
        """Take one packet; what is wrong with it is counted, never raised."""
        try:
            packet = Packet.decode(data)
        except TransportError:
            self.counts["malformed"] += 1
            return []
        if packet.destination not in (self.status.eid, NULL_EID, BROADCAST_EID):
            self.counts["not for us"] += 1
            return []
        if not packet.owner:
            self._progress(packet, now)
        message = self._reassembler.add(packet, now)
        if message is None:
            return []
        if message.owner:
            return self._request_arrived(message, now)
        return self._response_arrived(message, now)

    def on_time(self, now: float) -> list[StationEvent]:
        """Send again, or give up, what has waited for long enough."""
        self._reassembler.expire(now)
        events: list[StationEvent] = []
        for key, asked in list(self._asked.items()):
            if now < asked.again_at:
                continue
            if asked.tries <= 0:
                del self._asked[key]
                self._resting[key] = now + TAG_REST
                events.append(Unanswered(asked))
                continue
            asked.tries -= 1
            asked.sent += 1
            asked.again_at = now + asked.interval
            self.counts["retried"] += 1
            self._send(asked.destination, asked.body, owner=True, tag=asked.tag)
        return events

    def next_deadline(self) -> float | None:
        """When `on_time` has something to do."""
        return min((asked.again_at for asked in self._asked.values()), default=None)

    def _progress(self, packet: Packet, now: float) -> None:
        """An answer is on its way: it is no time to ask again."""
        asked = self._find(packet.source, packet.tag)
        if asked is not None:
            asked.again_at = max(asked.again_at, now + asked.interval)

    def _find(self, source: int, tag: int) -> Asked | None:
        return self._asked.get((source, tag)) or self._asked.get((NULL_EID, tag))

    def _response_arrived(self, message: Message, now: float) -> list[StationEvent]:
        asked = self._find(message.source, message.tag)
        if asked is None or not control.answers(asked.body[0], message.type):
            self.counts["answers nothing"] += 1
            return []
        key = (asked.destination, asked.tag)
        del self._asked[key]
        if asked.sent > 1:
            # The answer to the other try may still come, as soon as this one did.
            self._resting[key] = now + min(2 * asked.interval, TAG_REST)
        return [Answered(asked, message)]

    def _request_arrived(self, message: Message, now: float) -> list[StationEvent]:
        if message.type == control.CONTROL:
            self._answer_control(message)
            return []
        if message.destination == BROADCAST_EID or message.type not in self._types:
            self.counts["type not served"] += 1
            return []
        served = self._served.get(message.source)
        if (
            served is not None
            and (served.tag, served.body) == (message.tag, message.body)
            and now - served.at < REPEAT_WINDOW
        ):
            self._repeated(message, served, now)
            return []
        self._served[message.source] = _Served(message.tag, message.body, now)
        self._served.move_to_end(message.source)
        while len(self._served) > MOST_PEERS:
            self._served.popitem(last=False)
        return [Arrived(message)]

    def _repeated(self, message: Message, served: _Served, now: float) -> None:
        """Nothing is done twice; a lost answer goes out again, that of a secured message never."""
        self.counts["repeated"] += 1
        served.at = now
        if served.answer is not None and message.type != control.SECURED:
            self._send(message.source, served.answer, owner=False, tag=message.tag)

    def _answer_control(self, message: Message) -> None:
        answer = control.respond(message.body, self.status, self._types)
        if answer is None:
            self.counts["control message without answer"] += 1
        else:
            self._send(message.source, answer, owner=False, tag=message.tag)
