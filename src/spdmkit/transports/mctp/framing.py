"""SPDM on a serial MCTP line, as the drivers know it: bytes in, frames out (DSP0275, DSP0276).

A requester opens by the control protocol: it learns the other end's endpoint id or assigns one,
and sees whether it announces SPDM. A responder answers control messages at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from spdmkit.errors import DeadlineExceeded, SpdmError, TransportError
from spdmkit.protocol import records
from spdmkit.protocol.frames import Frame
from spdmkit.transports import mctp_body
from spdmkit.transports.framing import (
    MAX_FRAME,
    BindingError,
    Framing,
    FramingEvent,
    Reply,
    Role,
)
from spdmkit.transports.mctp import control, serial
from spdmkit.transports.mctp.packets import (
    BASELINE_UNIT,
    MAX_MESSAGE,
    NULL_EID,
    Message,
    Reassembler,
)
from spdmkit.transports.mctp.retry import RetryRule
from spdmkit.transports.mctp.station import Answered, Arrived, Asked, Station, StationEvent

__all__ = ["BUS_OWNER_EID", "FIRST_DEVICE_EID", "Discovered", "MctpSerialFraming", "discover"]

BUS_OWNER_EID = 8
"""Our endpoint id when we ask, unless told otherwise."""
FIRST_DEVICE_EID = 9
"""The endpoint id that a device without one is given, unless told otherwise."""
CONTROL_WAIT = 0.3
"""MT2: seconds to wait for the answer to a control request."""
CONTROL_TRIES = 3
"""MN1 and the first try."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """An endpoint that answered.

    Attributes:
        eid: its endpoint id.
        types: the message types that it announces.
        assigned: its id was assigned by us just now.
        versions: versions of DSP0275 that it announces, as text.
    """

    eid: int
    types: frozenset[int]
    assigned: bool = False
    versions: tuple[str, ...] = ()


T = TypeVar("T")
Asking: TypeAlias = Generator[tuple[int, bytes], bytes | None, T]
"""Yields (destination, control request); is sent the response, or None when there was none."""
Discovery: TypeAlias = Asking[Discovered]


def discover(station: Station, peer: int | None, *, assigns: bool = True) -> Discovery:
    """Find out who is at the other end of a point-to-point line.

    Args:
        station: our end.
        peer: the endpoint id that the other end has or is to have, None for either.
        assigns: give an endpoint an id when it has none, or not the one it is to have.

    Raises:
        DeadlineExceeded: nobody answers.
        PeerError: the endpoint refuses.
        TransportError: it refuses its id.
    """
    eid = yield from _present_id(station, peer, assigns=assigns)
    assigned = eid is None
    if eid is None:
        wanted = peer or _other_than(station.status.eid)
        request = control.set_endpoint_id(station.next_instance(), wanted)
        data = yield from _asked(NULL_EID, request)
        eid = control.read_set_endpoint_id(data)
        if eid != wanted:
            raise TransportError(f"the endpoint has id {eid} and does not take {wanted}")
    data = yield from _asked(eid, control.get_message_types(station.next_instance()))
    types = control.read_message_types(data)
    versions: tuple[str, ...] = ()
    if control.SPDM in types:
        request = control.get_version_support(station.next_instance(), control.SPDM)
        try:
            versions = control.read_versions((yield from _asked(eid, request)))
        except SpdmError:
            # Nothing rests on it: older endpoints do not know the command for every type.
            versions = ()
    return Discovered(eid, types, assigned, versions)


def _present_id(station: Station, peer: int | None, *, assigns: bool) -> Asking[int | None]:
    """The id that the endpoint has and may keep, None when it needs one."""
    if peer is not None:
        request = control.get_endpoint_id(station.next_instance())
        response = yield peer, request
        if response is not None:
            return peer
        if not assigns:
            raise DeadlineExceeded(f"endpoint {peer} does not answer on the MCTP line")
    request = control.get_endpoint_id(station.next_instance())
    data = yield from _asked(NULL_EID, request)
    status = control.read_endpoint_id(data)
    keeps = status.eid in control.ASSIGNABLE and status.eid != station.status.eid
    return status.eid if keeps and peer in (None, status.eid) else None


def _asked(destination: int, request: bytes) -> Asking[bytes]:
    response = yield destination, request
    if response is None:
        raise DeadlineExceeded(
            "nobody answers on the MCTP line",
            hint="is the device running, and is this its tty? a line has one program at each end",
        )
    return control.read_response(request, response)


def _other_than(eid: int) -> int:
    return FIRST_DEVICE_EID if eid != FIRST_DEVICE_EID else FIRST_DEVICE_EID + 1


class MctpSerialFraming(Framing):
    """One conversation over a serial line.

    Attributes:
        station: our endpoint; it outlives the conversation when the line does.
        found: who is at the other end, once a requester knows.
        rule: when a request is sent again.
    """

    name = "mctp+serial"

    def __init__(
        self,
        role: Role,
        *,
        eid: int | None = None,
        peer: int | None = None,
        assigns: bool = True,
        unit: int = BASELINE_UNIT,
        max_frame: int = MAX_FRAME,
        status: control.EidStatus | None = None,
        rule: RetryRule | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A line on which nothing was sent or received.

        Args:
            role: requesters open by the control protocol.
            eid: our endpoint id; a requester is the bus owner, a responder may wait for one.
            peer: the other end's endpoint id, None to learn or assign it.
            assigns: assign the other end's id where it needs one; not with a bridge there.
            unit: transmission unit of what we send, in bytes.
            max_frame: largest message or record accepted, in bytes.
            status: our endpoint id as an earlier conversation on this line left it.
            rule: when a request is sent again.
            clock: monotonic seconds.
        """
        super().__init__(role)
        self.found: Discovered | None = None
        self.rule = rule or RetryRule()
        serves = (control.SPDM, control.SECURED) if role is Role.RESPONDER else ()
        own = eid if eid is not None else (BUS_OWNER_EID if role is Role.REQUESTER else NULL_EID)
        largest = min(max_frame + 1, MAX_MESSAGE)
        self.station = Station(
            own, types=serves, unit=unit, reassembler=Reassembler(max_message=largest)
        )
        if status is not None:
            self.station.status = status
        self._peer = peer
        self._assigns = assigns
        self._clock = clock
        self._decoder = serial.SerialDecoder()
        self._events: deque[FramingEvent] = deque()
        self._discovery: Discovery | None = None
        self._control: Asked | None = None
        self._asked: Asked | None = None
        self._request: Message | None = None
        self._over = False

    # -- what the framing is asked --------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """The opening is over and we are the requester."""
        return self.role is Role.REQUESTER and self.found is not None and not self._over

    @property
    def record_profile(self) -> records.RecordProfile:
        """Records of DSP0276."""
        return records.MCTP

    def pending(self) -> int:
        """Bytes of what is not whole."""
        return self._decoder.pending + self.station.pending

    def hint(self) -> str:
        """What the line threw away, when it threw away something."""
        dropped = self.station.dropped + self._decoder.dropped
        if not dropped:
            return ""
        what = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()))
        return f"seen on the MCTP line: {what}"

    # -- what we send ---------------------------------------------------------------------------

    def start(self) -> bytes:
        """A requester's first control request."""
        if self.role is Role.REQUESTER:
            self._discovery = discover(self.station, self._peer, assigns=self._assigns)
            self._advance(None)
        return self._flush()

    def pack(self, frame: Frame) -> bytes:
        """A request of ours, or the answer to the request that came."""
        if self._over:
            raise TransportError("the conversation is over")
        body = mctp_body.encode(frame)
        if self.role is Role.REQUESTER:
            self._ask(body)
        elif self._request is None:
            raise TransportError("an MCTP responder sends nothing but answers")
        else:
            request, self._request = self._request, None
            self.station.respond(request, body)
        return self._flush()

    def _ask(self, body: bytes) -> None:
        if self.found is None:
            raise TransportError("the conversation is not open")
        now = self._clock()
        if self._asked is not None:
            self.station.give_up(self._asked, now)
        rule = self.rule
        self._asked = self.station.request(
            self.found.eid, body, now, interval=rule.interval(body), tries=rule.tries_for(body)
        )

    def _flush(self) -> bytes:
        return b"".join(serial.encode(packet) for packet in self.station.outgoing())

    # -- what we receive ------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the line."""
        if self._over:
            return
        now = self._clock()
        for packet in self._decoder.feed(data):
            for event in self.station.receive(packet, now):
                self._handle(event)
        self._reply()

    def next_event(self) -> FramingEvent | None:
        """The next frame, or bytes that the station wants sent."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """When a request is to be sent again."""
        return None if self._over else self.station.next_deadline()

    def on_time(self, now: float) -> None:
        """Send again what had no answer; the endpoint decides when to give up."""
        if self._over:
            return
        for event in self.station.on_time(now):
            self._handle(event)
        self._reply()

    def _reply(self) -> None:
        data = self._flush()
        if data:
            self._events.append(Reply(data))

    def _handle(self, event: StationEvent) -> None:
        if isinstance(event, Arrived):
            self._arrived(event.message)
        elif event.request is self._control:
            self._control = None
            self._advance(event.message.body if isinstance(event, Answered) else None)
        elif event.request is self._asked:
            # Unanswered is the endpoint's affair: it has a deadline of its own.
            self._asked = None
            if isinstance(event, Answered):
                self.rule.observe(event.message.body)
                self._deliver(event.message)

    def _arrived(self, message: Message) -> None:
        if self._request is not None and self._request.source != message.source:
            # One requester at a time: the other one asks again.
            self.station.counts["another requester"] += 1
            return
        self._request = message
        self._deliver(message)

    def _deliver(self, message: Message) -> None:
        try:
            self._events.append(mctp_body.decode(message.body))
        except TransportError:
            self.station.counts["not SPDM"] += 1

    def _advance(self, response: bytes | None) -> None:
        """Let the discovery take the response to its request, and send its next."""
        if self._discovery is None:
            return
        try:
            # A generator's first step is sent None, as an unanswered request is.
            destination, request = self._discovery.send(response)
            self._control = self.station.request(
                destination,
                request,
                self._clock(),
                interval=CONTROL_WAIT,
                tries=CONTROL_TRIES,
            )
        except StopIteration as stop:
            self._opened(stop.value)
        except SpdmError as error:
            self._fail(error)

    def _opened(self, found: Discovered) -> None:
        self._discovery = None
        if control.SPDM not in found.types:
            have = ", ".join(f"0x{each:02X}" for each in sorted(found.types)) or "none"
            self._fail(
                TransportError(f"endpoint {found.eid} does not announce SPDM; its types: {have}")
            )
            return
        self.found = found

    def _fail(self, error: SpdmError) -> None:
        self._over = True
        self._discovery = None
        self._events.append(BindingError(error))
