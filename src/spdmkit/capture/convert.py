"""A recording of any form as a capture file, which other tools read.

What the recording does not hold is made up: addresses, packets, and times, a millisecond apart.
Frames keep the dialect they had; messages without frames get those of DSP0287.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from spdmkit.capture.channels import Channel, Sender, WireEvent, WireKind
from spdmkit.capture.writer import CaptureWriter, DoeCapture, MctpCapture, TcpCapture
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports import doe
from spdmkit.transports.framing import Dialect
from spdmkit.transports.tcp import BINDING_VERSION, MessageType

__all__ = ["SteppingClock", "written"]

_STEP_NS = 1_000_000
_START_NS = 1_577_836_800_000_000_000
"""2020-01-01 UTC, where recordings without times begin."""
_PORT = 4194
_FIRST_PORT = 40_000
_REQUEST = 0x80
_KINDS = {
    WireKind.MESSAGE: MessageType.OUT_OF_SESSION,
    WireKind.MESSAGES: MessageType.OUT_OF_SESSION,
    WireKind.RECORD: MessageType.IN_SESSION,
}


class SteppingClock:
    """The time of the event at hand, or a millisecond after the one before."""

    def __init__(self) -> None:
        """Begin at a fixed time, so that the same recording gives the same file."""
        self._now = _START_NS

    def step(self, time_ns: int | None) -> None:
        """Go on to an event."""
        self._now = self._now + _STEP_NS if time_ns is None else time_ns

    def __call__(self) -> int:
        """The time, in nanoseconds since 1970 UTC."""
        return self._now


def written(
    events: Iterable[WireEvent], writer: CaptureWriter, clock: SteppingClock
) -> Iterator[WireEvent]:
    """Hand events on, and write each to a capture that has this clock.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    channels: dict[int, _Written] = {}
    for event in events:
        clock.step(event.time_ns)
        number = event.channel.number
        found = channels.get(number)
        if found is None:
            found = channels[number] = _Written(event.channel, writer)
        found.add(event)
        if event.kind is WireKind.CLOSED:
            del channels[number]
        yield event
    for each in channels.values():
        each.close()


class _Written:
    """One channel: whoever sends first opened it."""

    def __init__(self, channel: Channel, writer: CaptureWriter) -> None:
        self._channel = channel
        self._first: Sender | None = None
        self._last = Sender.RESPONDER
        self._tcp: TcpCapture | None = None
        self._mctp: MctpCapture | None = None
        self._doe: DoeCapture | None = None
        if channel.transport == "mctp":
            self._mctp = writer.mctp(8, 9)
        elif channel.transport == "doe":
            self._doe = writer.doe()
        else:
            port = _FIRST_PORT + channel.number % 20_000
            self._tcp = writer.tcp(("192.0.2.1", port), ("192.0.2.2", _PORT), initiator=True)

    def add(self, event: WireEvent) -> None:
        if event.kind is WireKind.CLOSED:
            self.close()
            return
        sender = self._last = self._sender(event)
        if self._first is None:
            self._first = sender
        ours = sender is self._first
        if self._mctp is not None:
            self._add_mctp(self._mctp, event, ours=ours)
        elif self._doe is not None:
            self._add_doe(self._doe, event, ours=ours)
        elif self._tcp is not None:
            _pass(self._tcp.sent, self._tcp.received, ours=ours)(self._framed(event))

    def _sender(self, event: WireEvent) -> Sender:
        """Who sent it; where that is not told, a request shows it, and a record takes its turn."""
        if event.sender is not Sender.UNKNOWN:
            return event.sender
        if event.kind is WireKind.RECORD:
            return self._last.other
        asks = len(event.body) > 1 and bool(event.body[1] & _REQUEST)
        return Sender.REQUESTER if asks else Sender.RESPONDER

    def close(self) -> None:
        if self._tcp is not None:
            self._tcp.closed()

    def _framed(self, event: WireEvent) -> bytes:
        """A frame of DSP0287; what was none stays as it is."""
        if event.kind in (WireKind.ROLE_INQUIRY, WireKind.BINDING_ERROR):
            return bytes((0, 0)) + event.body[::-1]
        kind = _KINDS.get(event.kind)
        if kind is None:
            return event.body
        extra = Dialect.LIBSPDM.extra if self._channel.dialect == Dialect.LIBSPDM.value else 0
        length = len(event.body) + extra
        return struct.pack("<HBB", length & 0xFFFF, BINDING_VERSION, kind) + event.body

    @staticmethod
    def _add_mctp(capture: MctpCapture, event: WireEvent, *, ours: bool) -> None:
        kind = _KINDS.get(event.kind)
        if kind is not None:
            message = bytes((kind,)) + event.body
            (capture.sent if ours else capture.received)(message, owner=ours)

    @staticmethod
    def _add_doe(capture: DoeCapture, event: WireEvent, *, ours: bool) -> None:
        kind = _KINDS.get(event.kind)
        if kind is not None:
            secured = kind is MessageType.IN_SESSION
            frame = Frame(FrameKind.SECURED if secured else FrameKind.MESSAGE, event.body)
            _pass(capture.sent, capture.received, ours=ours)(doe.encode(frame))


def _pass(
    sent: Callable[[bytes], None], received: Callable[[bytes], None], *, ours: bool
) -> Callable[[bytes], None]:
    return sent if ours else received
