"""SPDM over something that carries whole MCTP messages, as the drivers know it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from spdmkit.errors import TransportError
from spdmkit.protocol import records
from spdmkit.protocol.frames import Frame
from spdmkit.transports import mctp_body
from spdmkit.transports.framing import MAX_FRAME, Framing, FramingEvent, Reply, Role
from spdmkit.transports.mctp.retry import RetryRule

__all__ = ["MctpMessageFraming"]


class MctpMessageFraming(Framing):
    """Each datagram is a message from its type byte on; tags are the wire's affair.

    Attributes:
        rule: when a request is sent again.
    """

    name = "mctp"

    def __init__(
        self,
        role: Role,
        *,
        max_frame: int = MAX_FRAME,
        rule: RetryRule | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing sent or received.

        Args:
            role: ours.
            max_frame: largest message or record accepted, in bytes.
            rule: when a request is sent again.
            clock: monotonic seconds.
        """
        super().__init__(role)
        self.rule = rule or RetryRule()
        self._max_frame = max_frame
        self._clock = clock
        self._events: deque[FramingEvent] = deque()
        self._asked = b""
        self._tries = 0
        self._again_at = 0.0

    @property
    def record_profile(self) -> records.RecordProfile:
        """Records of DSP0276."""
        return records.MCTP

    def pending(self) -> int:
        """Datagrams come whole."""
        return 0

    def pack(self, frame: Frame) -> bytes:
        """One message."""
        body = mctp_body.encode(frame)
        if self.role is Role.REQUESTER:
            self._asked = body
            self._tries = self.rule.tries_for(body) - 1
            self._again_at = self._clock() + self.rule.interval(body)
        return body

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take one datagram; what is no SPDM, or nothing that was asked for, is passed over."""
        body = bytes(data)
        if self.role is Role.REQUESTER and not self._asked:
            return
        try:
            frame = mctp_body.decode(body)
        except TransportError:
            return
        if len(frame.body) > self._max_frame:
            return
        self._asked = b""
        self.rule.observe(body)
        self._events.append(frame)

    def next_event(self) -> FramingEvent | None:
        """The next message, or a request to send again."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """When the request is to be sent again."""
        return self._again_at if self._asked and self._tries > 0 else None

    def on_time(self, now: float) -> None:
        """Send the request again, bit for bit."""
        if self._asked and self._tries > 0 and now >= self._again_at:
            self._tries -= 1
            self._again_at = now + self.rule.interval(self._asked)
            self._events.append(Reply(self._asked))
