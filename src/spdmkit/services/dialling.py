"""A device that connects to its requester, says what it wants, and comes back (reach-out model).

    caller = Caller(device, desk)
    call = await caller.call("tcp://192.0.2.10", wishes)

When the requester is away it is dialled again, each time after a longer pause, and never by all
devices at the same moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spdmkit.device.responders import responder_factory
from spdmkit.errors import ConfigurationError, PeerError, SpdmError, TransportError
from spdmkit.protocol.connection import Role
from spdmkit.services.wishes import Ending, Fate, Wish
from spdmkit.transports.aio import AsyncConnection, Patience, connect
from spdmkit.transports.framing import PeerClosed

if TYPE_CHECKING:
    from spdmkit.device.folder import FolderDevice
    from spdmkit.protocol.endpoint import Endpoint
    from spdmkit.protocol.events import EventSink
    from spdmkit.services.desk import ServiceDesk
    from spdmkit.transports.conduit import ConnectionInfo, TapFactory
    from spdmkit.transports.workpool import WorkPool

__all__ = ["BackOff", "Call", "Caller"]

PATIENCE: Final = Patience(handshake=120.0, idle=600.0)
"""A requester with many devices may let each wait its turn."""
VERDICTS: Final = (0xC1, 0xC2)
"""Error frames after which dialling again would be answered alike."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Pauses between tries: each longer, none as long as its neighbour's.

    Attributes:
        first: seconds after the first failure.
        factor: how much longer the next one is.
        longest: where that ends.
        jitter: share of a pause that is left to chance.
    """

    first: float = 0.5
    factor: float = 2.0
    longest: float = 60.0
    jitter: float = 0.5

    def pause(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row.

        Args:
            failures: 1 or more.
            chance: a random number from 0 to 1.
        """
        whole = min(self.first * self.factor ** min(failures - 1, 64), self.longest)
        return whole * (1 - self.jitter * chance)


@dataclass(slots=True)
class Call:
    """What became of one call.

    Attributes:
        endings: what became of the wishes.
        error: why the last connection ended, where not in good order.
        tries: connections that were tried.
    """

    endings: list[Ending] = field(default_factory=list)
    error: SpdmError | None = None
    tries: int = 0

    @property
    def done(self) -> bool:
        """Every wish was fulfilled."""
        return all(each.fate is Fate.FULFILLED for each in self.endings)


class Caller:
    """Dials requesters for one device."""

    def __init__(
        self,
        device: FolderDevice,
        desk: ServiceDesk,
        *,
        back_off: BackOff = BackOff(),
        patience: Patience = PATIENCE,
        on_failure: Callable[[SpdmError, float], None] | None = None,
        tap: TapFactory | None = None,
        pool: WorkPool | None = None,
        events: EventSink | None = None,
        log_keys: bool = False,
    ) -> None:
        """A caller.

        Args:
            device: answers as responder; the desk is registered with it.
            desk: says what is wanted.
            back_off: the pauses.
            patience: how long a connection may be silent.
            on_failure: told of a connection that failed, and of the pause that follows.
            tap: sees all bytes, for a capture.
            pool: runs the device's work; by default it runs in the event loop's thread.
            events: told of sessions and refusals, and of secrets when `log_keys`.
            log_keys: for a key log.
        """
        self._desk = desk
        self._back_off = back_off
        self._patience = patience
        self._on_failure = on_failure
        self._tap = tap
        self._pool = pool
        self._make = responder_factory(device, lambda _info: events, log_keys=log_keys)

    async def call(self, uri: str, wishes: Sequence[Wish], *, tries: int | None = 5) -> Call:
        """Dial until every wish is fulfilled or refused.

        Args:
            uri: the requester's address.
            wishes: what to ask for; what one connection left unanswered the next one asks again.
            tries: connections to try; None for as many as it takes.

        Raises:
            ConfigurationError: the address is wrong.
        """
        call = Call()
        waiting = list(wishes)
        failures = 0
        while True:
            call.tries += 1
            endings, call.error = await self._once(uri, waiting)
            call.endings += [each for each in endings if each.fate is not Fate.UNANSWERED]
            left = [each for each in endings if each.fate is Fate.UNANSWERED]
            settled = not left and bool(endings)
            if settled or (call.error is None and not wishes) or _is_verdict(call.error):
                call.endings += left
                return call
            failures = 1 if len(left) < len(waiting) else failures + 1
            waiting = [each.wish for each in left]
            if tries is not None and call.tries >= tries:
                call.endings += left
                return call
            pause = self._back_off.pause(failures, random.random())  # noqa: S311 - not a secret
            if self._on_failure is not None:
                reason = call.error or TransportError("the requester closed before it was done")
                self._on_failure(reason, pause)
            await asyncio.sleep(pause)

    async def _once(
        self, uri: str, wishes: Sequence[Wish]
    ) -> tuple[list[Ending], SpdmError | None]:
        """One connection: what became of the wishes, and why it failed."""
        name = ""

        def make(info: ConnectionInfo) -> Endpoint:
            nonlocal name
            name = info.name
            self._desk.follow(name, lambda: opened[0].conduit.frames if opened else 0)
            return self._make(info)

        opened: list[AsyncConnection] = []

        self._desk.want(wishes)
        error: SpdmError | None = None
        try:
            connection = await connect(
                uri,
                make,
                role=Role.RESPONDER,
                patience=self._patience,
                tap=self._tap,
                pool=self._pool,
            )
        except ConfigurationError:
            raise
        except SpdmError as problem:
            self._desk.close(name, in_good_order=False)
            return [Ending(wish, Fate.UNANSWERED) for wish in wishes], problem
        opened.append(connection)
        try:
            await connection.wait_closed()
        finally:
            connection.abort()
            error = connection.error
            endings = self._desk.close(name, in_good_order=_in_good_order(error))
        return list(endings), None if _in_good_order(error) else error


def _in_good_order(error: SpdmError | None) -> bool:
    """The requester should close the connection when it is done (DSP0287 clause 4)."""
    return error is None or isinstance(error, PeerClosed)


def _is_verdict(error: SpdmError | None) -> bool:
    return isinstance(error, PeerError) and error.frame and error.code in VERDICTS
