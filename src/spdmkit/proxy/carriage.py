"""One lease: the frames of one client go to its device, and the answers come back, exactly once.

One request is under way at a time (DSP0274 8.4). What the client sends meanwhile is not read. An
answer that nobody asked for is dropped. When the client leaves in the middle of a request, the
device has until the deadline to answer, before anybody else may ask it something.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from spdmkit.errors import SpdmError, TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.proxy.client import Client
from spdmkit.proxy.figures import DeviceFigures
from spdmkit.proxy.journal import Journal
from spdmkit.proxy.leases import Limits
from spdmkit.proxy.line import DeviceLine

__all__ = ["Carriage", "Ending"]


_KINDS = (FrameKind.MESSAGE, FrameKind.SECURED)
_SECURED = FrameKind.SECURED


@dataclass(frozen=True, slots=True)
class Ending:
    """How a lease ended.

    Attributes:
        reason: a word for the figures: "client", "device", "answer", "idle", "lease", "stopped".
        detail: a sentence.
        device_lost: the device's line is of no more use.
    """

    reason: str
    detail: str
    device_lost: bool = False


class Carriage:
    """Joins a client with a device until either is gone or time is up.

    Attributes:
        ended: how it ended, once it has.
        requests: requests carried.
        octets: bytes of messages carried, in both directions.
    """

    def __init__(
        self,
        client: Client,
        line: DeviceLine,
        limits: Limits,
        figures: DeviceFigures,
        journal: Journal,
    ) -> None:
        """Join them; `start` begins to carry."""
        self._client = client
        self._line = line
        # In the order of (secured or not), so that counting needs no look-up by kind.
        self._up = [figures.counting("request", kind) for kind in _KINDS]
        self._down = [figures.counting("response", kind) for kind in _KINDS]
        self._limits = limits
        self._figures = figures
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self._over = False
        self.requests = 0
        self.octets = 0
        now = time.monotonic()
        self._began = self._last = now
        self._asked = 0.0
        self._answer_due: float | None = None
        self._parting: Ending | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def start(self) -> None:
        """Carry from now on."""
        self._client.on_frame = self._client_spoke
        self._client.on_whole = self._client_asked
        self._client.on_gone = self._client_left
        self._client.on_flushed = self._client_spoke
        self._line.on_frame = self._device_answered
        self._line.on_lost = self._device_lost
        # Either may have gone before we listened.
        if self._line.error is not None:
            self._device_lost(self._line.error)
        elif self._client.left:
            self._client_left(None if self._client.left is True else self._client.left)
        else:
            self._arm()
            self._client_spoke()

    def stop(self) -> None:
        """End it, whatever is under way."""
        self._end(Ending("stopped", "the proxy is stopping", self._answer_due is not None))

    # -- the client -----------------------------------------------------------------------------

    def _client_spoke(self) -> None:
        """Take the next request, when the device is free and the client takes its answers."""
        if self._answer_due is not None:
            # More than one request at a time: it can wait where it is.
            self._client.rest()
            return
        if self._client.congested or self.ended.done():
            return
        frame = self._client.take()
        if frame is None:
            self._client.listen()
            return
        self._ask(frame)

    def _client_asked(self, frame: Frame) -> bool:
        """A request that came alone; False when it must wait."""
        if self._answer_due is not None or self._client.congested or self._over:
            return False
        self._ask(frame)
        return True

    def _ask(self, frame: Frame) -> None:
        now = time.monotonic()
        try:
            self._line.send(frame)
        except TransportError as error:
            self._end(Ending("device", str(error)))
            return
        self._asked = self._last = now
        self._answer_due = due = now + self._limits.answer
        count, size = self._up[frame.kind is _SECURED], len(frame.body)
        count.messages += 1
        count.octets += size
        self.octets += size
        self.requests += 1
        if self._journal.messages:
            self._note("request", frame)
        again = self._line.next_deadline()
        if self._timer_at > due or (again is not None and self._timer_at > again):
            self._arm()

    def _client_left(self, error: SpdmError | None) -> None:
        self._part(Ending("client", "the client closed" if error is None else str(error)))

    def _part(self, ending: Ending) -> None:
        """Be done with the client."""
        if self._answer_due is None:
            self._end(ending)
        elif self._parting is None:
            # The device still works on its request, and must be let to finish.
            self._parting = ending
            self._client.close()

    # -- the device -----------------------------------------------------------------------------

    def _device_answered(self, frame: Frame) -> None:
        if self._answer_due is None:
            self._journal.write("dropped", device=self._figures.name, why="nothing was asked")
            return
        now = time.monotonic()
        self._answer_due = None
        self._last = now
        self._figures.answers += 1
        self._figures.answer_seconds += now - self._asked
        if self._parting is not None:
            self._end(self._parting)
            return
        try:
            self._client.send(frame)
        except TransportError as error:
            self._end(Ending("client", str(error)))
            return
        count, size = self._down[frame.kind is _SECURED], len(frame.body)
        count.messages += 1
        count.octets += size
        self.octets += size
        if self._journal.messages:
            self._note("response", frame)
        if self._client.idle:
            return
        self._client_spoke()

    def _device_lost(self, error: SpdmError) -> None:
        self._end(Ending("device", str(error), device_lost=True))

    # -- time -----------------------------------------------------------------------------------

    def _deadlines(self) -> list[tuple[float, Ending]]:
        limits = self._limits
        found: list[tuple[float, Ending]] = []
        if self._parting is None:
            leased = Ending("lease", f"leased for {limits.lease:g} seconds")
            found.append((self._began + limits.lease, leased))
        if self._answer_due is not None:
            waited = f"the device did not answer within {limits.answer:g} seconds"
            found.append((self._answer_due, Ending("answer", waited, device_lost=True)))
        else:
            idle = Ending("idle", f"idle for {self._patience:g} seconds")
            found.append((self._last + self._patience, idle))
        return found

    def _arm(self) -> None:
        """Have a timer for the earliest deadline; one that is early looks again when it fires."""
        at = self._earliest()
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._set_timer(at)

    @property
    def _patience(self) -> float:
        """How long the client may say nothing: less when it has said nothing yet."""
        return self._limits.idle if self.requests else min(self._limits.first, self._limits.idle)

    def _earliest(self) -> float:
        """The next deadline, without making words for it."""
        limits = self._limits
        at = self._began + limits.lease if self._parting is None else math.inf
        other = self._last + self._patience if self._answer_due is None else self._answer_due
        due = self._line.next_deadline()
        return min(at, other) if due is None else min(at, other, due)

    def _set_timer(self, at: float) -> None:
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - time.monotonic(), 0.0), self._due)

    def _due(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = time.monotonic()
        self._line.on_time(now)
        if self.ended.done():
            return
        for at, ending in self._deadlines():
            if at > now:
                continue
            if ending.device_lost:
                self._end(ending)
                return
            self._part(ending)
        if not self.ended.done():
            self._arm()

    # -- the end --------------------------------------------------------------------------------

    def _end(self, ending: Ending) -> None:
        if self.ended.done():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._answer_due = None
        self._over = True
        self.ended.set_result(ending)

    def _note(self, direction: str, frame: Frame) -> None:
        """A line about one message, where those are wanted."""
        self._journal.write(
            "carried",
            device=self._figures.name,
            direction=direction,
            type=f"0x{frame.kind:02X}",
            bytes=len(frame.body),
        )
