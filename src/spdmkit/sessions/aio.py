"""A session for event loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from spdmkit.errors import SpdmError
from spdmkit.protocol.events import DataArrived, SessionEnded
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.sessions import end_session, heartbeat, key_update
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.requester.vendor import vendor_defined
from spdmkit.sessions.state import SessionState
from spdmkit.sessions.terms import establish, refresh
from spdmkit.transports.aio import connect

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.events import ProtocolEvent
    from spdmkit.protocol.requester.sessions import OpenedSession
    from spdmkit.sessions.terms import Terms
    from spdmkit.transports.aio import AsyncConnection
    from spdmkit.transports.conduit import TapFactory
    from spdmkit.transports.uri import EndpointUri
    from spdmkit.transports.workpool import WorkPool

__all__ = ["Session", "open_session"]

T = TypeVar("T")


async def open_session(
    uri: str | EndpointUri,
    terms: Terms,
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # covers several steps, as in `transports.aio`
    pool: WorkPool | None = None,
    tap: TapFactory | None = None,
) -> Session:
    """Connect to a device and open a session.

    Args:
        uri: its address.
        terms: whom to believe, who we are.
        timeout: seconds to connect; else that of the address, else ten.
        pool: runs slow cryptography; by default it runs in the event loop's thread.
        tap: sees all bytes, for a capture.

    Raises:
        AuthenticationError: the device is not who it must be.
        SpdmError: it cannot be reached, or refuses.
    """
    shared = _Shared()
    connection = await connect(uri, terms.factory(shared.note), timeout=timeout, pool=pool, tap=tap)
    try:
        return await shared.begin(connection, terms)
    except BaseException:
        await connection.close()
        raise


class _Shared:
    """What the sessions of one connection have in common."""

    def __init__(self) -> None:
        self.ended: dict[int, str] = {}
        self.news: dict[int, asyncio.Event] = {}
        self.sessions: list[Session] = []

    def note(self, event: ProtocolEvent) -> None:
        if isinstance(event, SessionEnded):
            self.ended[event.session_id] = event.reason
        if isinstance(event, (SessionEnded, DataArrived)):
            news = self.news.get(event.session_id)
            if news is not None:
                news.set()

    async def begin(self, connection: AsyncConnection, terms: Terms) -> Session:
        link = Link(connection.endpoint.connection)
        opened = await connection.run(establish(link, terms))
        session_id = opened.session.session_id
        self.ended.pop(session_id, None)
        news = self.news[session_id] = asyncio.Event()
        session = Session(self, connection, opened, terms, news)
        self.sessions.append(session)
        return session


class Session(SessionState):
    """An open session. Several tasks may use it; their requests take turns.

    Attributes:
        opened: the protocol's own view: link, state, what the device proved.
    """

    def __init__(
        self,
        shared: _Shared,
        connection: AsyncConnection,
        opened: OpenedSession,
        terms: Terms,
        news: asyncio.Event,
    ) -> None:
        """Not for callers: use `open_session`."""
        super().__init__(opened, shared.ended)
        self._shared = shared
        self._connection = connection
        self._terms = terms
        self._news = news

    # -- data -----------------------------------------------------------------------------------

    async def send(self, data: bytes, *, message_type: int = 0) -> None:
        """Send application data: one record, at most 65,000 bytes or so.

        Returns once the operating system has taken most of it, so that a slow device slows us.

        Args:
            data: what to send.
            message_type: MCTP message type, for devices on MCTP; others have none.

        Raises:
            SessionOver: the session is over.
            ProtocolViolation: too long for a record.
        """
        await self._run(lambda: self.opened.link.tell(data, message_type))
        await self._connection.drain()

    async def receive(self, timeout: float | None = None) -> bytes | None:  # noqa: ASYNC109  # as a socket's
        """The next application data that came; None when nothing came in time.

        Args:
            timeout: seconds to wait; None waits until something comes or the session ends.

        Raises:
            SessionOver: the session is over and everything that came was taken.
        """
        session = self.opened.session
        try:
            async with asyncio.timeout(timeout):
                while not session.inbox and self.alive:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        data = session.take()
        if data is None:
            raise self._over()
        return data.data

    async def request(self, data: bytes, *, message_type: int = 0) -> bytes:
        """Send application data and wait for application data in return.

        Args:
            data: what to send.
            message_type: MCTP message type, for devices on MCTP; others have none.

        Raises:
            SessionOver: the session is over.
            DeadlineExceeded: nothing came; the connection is closed.
        """
        return (await self._run(lambda: self.opened.link.converse(data, message_type))).data

    async def vendor_defined(self, standard_id: int, vendor_id: bytes, payload: bytes) -> bytes:
        """Send a VENDOR_DEFINED request in the session; the payload of its response.

        Args:
            standard_id: `Registry` of whoever defines the payload.
            vendor_id: the vendor's number there.
            payload: what they define.

        Raises:
            PeerError: the device does not understand it.
            SessionOver: the session is over.
        """
        return await self._run(
            lambda: vendor_defined(self.opened.link, standard_id, vendor_id, payload)
        )

    async def run(self, exchange: Callable[[Link], Exchange[T]]) -> T:
        """Run any exchange in the session: `await session.run(get_measurements)`.

        Raises:
            SpdmError: what the exchange raised.
        """
        return await self._run(lambda: exchange(self.opened.link))

    # -- keys and life --------------------------------------------------------------------------

    async def update_keys(self, *, all_keys: bool = True) -> None:
        """Move to new keys now; before their limit this happens by itself."""
        await self._run(lambda: key_update(self.opened.link, all_keys=all_keys))

    async def heartbeat(self) -> None:
        """Say that we are here; while the session is idle this happens by itself."""
        await self._run(lambda: heartbeat(self.opened.link))

    async def poll(self) -> bool:
        """Ask what the device wants of us, and do it; False when it wants nothing."""
        return await self._run(lambda: poll(self.opened.link))

    async def another(self, terms: Terms | None = None) -> Session:
        """Open one more session on the same connection.

        Args:
            terms: on other terms than this one; what was negotiated stays.
        """
        return await self._shared.begin(self._connection, terms or self._terms)

    async def close(self, *, clear_negotiated_state: bool = False) -> None:
        """END_SESSION, and close the connection with its last session. Never raises.

        Args:
            clear_negotiated_state: have the device forget what was negotiated, if it keeps that.
        """
        if self._closed:
            return
        link = self.opened.link
        if self.opened.session.alive and not self._connection.closed:
            with contextlib.suppress(SpdmError):  # closing is all that is left to do
                await self._connection.run(
                    end_session(link, clear_negotiated_state=clear_negotiated_state)
                )
        self._closed = True
        self._news.set()
        shared = self._shared
        shared.news.pop(self.opened.session.session_id, None)
        shared.sessions.remove(self)
        if not shared.sessions:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, make: Callable[[], Exchange[T]]) -> T:
        if not self.alive:
            raise self._over()
        if self.opened.session.update_due:
            await self._connection.run(refresh(self.opened))
        with self._telling():
            return await self._connection.run(make())
