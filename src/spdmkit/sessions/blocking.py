"""A session for threads that wait."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from spdmkit.errors import SpdmError
from spdmkit.protocol.events import SessionEnded
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.sessions import end_session, heartbeat, key_update
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.requester.vendor import vendor_defined
from spdmkit.sessions.state import SessionState
from spdmkit.sessions.terms import establish, refresh
from spdmkit.transports.blocking import connect

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.events import ProtocolEvent
    from spdmkit.protocol.requester.sessions import OpenedSession
    from spdmkit.sessions.terms import Terms
    from spdmkit.transports.blocking import BlockingConnection
    from spdmkit.transports.conduit import TapFactory
    from spdmkit.transports.uri import EndpointUri

__all__ = ["Session", "open_session"]

T = TypeVar("T")


def open_session(
    uri: str | EndpointUri,
    terms: Terms,
    *,
    timeout: float | None = None,
    tap: TapFactory | None = None,
    keep_alive: bool = True,
) -> Session:
    """Connect to a device and open a session.

    Args:
        uri: its address.
        terms: whom to believe, who we are.
        timeout: seconds to connect; else that of the address, else ten.
        tap: sees all bytes, for a capture.
        keep_alive: have a thread send heartbeats and answer the device while nothing else happens.
            Without it, call something of the session within each heartbeat period.

    Raises:
        AuthenticationError: the device is not who it must be.
        SpdmError: it cannot be reached, or refuses.
    """
    shared = _Shared(keep_alive)
    connection = connect(uri, terms.factory(shared.note), timeout=timeout, tap=tap)
    try:
        return shared.begin(connection, terms)
    except BaseException:
        connection.close()
        raise


class _Shared:
    """What the sessions of one connection have in common: it, a lock, and who keeps it alive."""

    def __init__(self, keep_alive: bool) -> None:
        self.lock = threading.RLock()
        self.ended: dict[int, str] = {}
        self.sessions: list[Session] = []
        self.connection: BlockingConnection | None = None
        self._keep_alive = keep_alive
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, event: ProtocolEvent) -> None:
        if isinstance(event, SessionEnded):
            self.ended[event.session_id] = event.reason

    def begin(self, connection: BlockingConnection, terms: Terms) -> Session:
        self.connection = connection
        link = Link(connection.endpoint.connection)
        opened = connection.run(establish(link, terms))
        self.ended.pop(opened.session.session_id, None)
        session = Session(self, connection, opened, terms)
        self.sessions.append(session)
        if self._keep_alive and self._thread is None:
            self._thread = threading.Thread(target=self._tend, name="spdm-keep-alive", daemon=True)
            self._thread.start()
        return session

    def end(self, session: Session) -> None:
        self.sessions.remove(session)
        if not self.sessions and self.connection is not None:
            self._stop.set()
            self.connection.close()

    def _tend(self) -> None:
        """Drive the connection whenever something of its own is due and nobody else does."""
        while not self._stop.wait(self._pause()):
            with self.lock:
                connection = self.connection
                if connection is None or connection.closed:
                    return
                try:
                    connection.tend()
                except SpdmError:
                    return  # the session says so itself when it is next used

    def _pause(self) -> float:
        # Who holds the lock drives the connection, and then this need not.
        with self.lock:
            connection = self.connection
            if connection is None or connection.closed:
                return _IDLE
            return min(max(connection.due_in(), _SHORTEST), _IDLE)


_SHORTEST, _IDLE = 0.02, 1.0
"""Seconds between two looks at the connection."""


class Session(SessionState):
    """An open session. Its methods may be called by several threads; they take turns.

    Attributes:
        opened: the protocol's own view: link, state, what the device proved.
    """

    def __init__(
        self, shared: _Shared, connection: BlockingConnection, opened: OpenedSession, terms: Terms
    ) -> None:
        """Not for callers: use `open_session`."""
        super().__init__(opened, shared.ended)
        self._shared = shared
        self._connection = connection
        self._terms = terms

    # -- data -----------------------------------------------------------------------------------

    def send(self, data: bytes, *, message_type: int = 0) -> None:
        """Send application data: one record, at most 65,000 bytes or so.

        Args:
            data: what to send.
            message_type: MCTP message type, for devices on MCTP; others have none.

        Raises:
            SessionOver: the session is over.
            ProtocolViolation: too long for a record.
        """
        self._run(lambda: self.opened.link.tell(data, message_type))

    def receive(self, timeout: float | None = None) -> bytes | None:
        """The next application data that came; None when nothing came in time.

        Args:
            timeout: seconds to wait; None waits until something comes or the session ends.

        Raises:
            SessionOver: the session is over and everything that came was taken.
        """
        session = self.opened.session
        with self._shared.lock:
            if not session.inbox and self.alive:
                self._connection.wait(lambda: bool(session.inbox) or not session.alive, timeout)
            data = session.take()
            if data is None and not self.alive:
                raise self._over()
        return None if data is None else data.data

    def request(self, data: bytes, *, message_type: int = 0) -> bytes:
        """Send application data and wait for application data in return.

        Args:
            data: what to send.
            message_type: MCTP message type, for devices on MCTP; others have none.

        Raises:
            SessionOver: the session is over.
            DeadlineExceeded: nothing came; the connection is closed.
        """
        return self._run(lambda: self.opened.link.converse(data, message_type)).data

    def vendor_defined(self, standard_id: int, vendor_id: bytes, payload: bytes) -> bytes:
        """Send a VENDOR_DEFINED request in the session; the payload of its response.

        Args:
            standard_id: `Registry` of whoever defines the payload.
            vendor_id: the vendor's number there.
            payload: what they define.

        Raises:
            PeerError: the device does not understand it.
            SessionOver: the session is over.
        """
        return self._run(lambda: vendor_defined(self.opened.link, standard_id, vendor_id, payload))

    def run(self, exchange: Callable[[Link], Exchange[T]]) -> T:
        """Run any exchange in the session: `session.run(get_measurements)`.

        Raises:
            SpdmError: what the exchange raised.
        """
        return self._run(lambda: exchange(self.opened.link))

    # -- keys and life --------------------------------------------------------------------------

    def update_keys(self, *, all_keys: bool = True) -> None:
        """Move to new keys now; before their limit this happens by itself."""
        self._run(lambda: key_update(self.opened.link, all_keys=all_keys))

    def heartbeat(self) -> None:
        """Say that we are here; while the session is idle this happens by itself."""
        self._run(lambda: heartbeat(self.opened.link))

    def poll(self) -> bool:
        """Ask what the device wants of us, and do it; False when it wants nothing."""
        return self._run(lambda: poll(self.opened.link))

    def another(self, terms: Terms | None = None) -> Session:
        """Open one more session on the same connection.

        Args:
            terms: on other terms than this one; what was negotiated stays.
        """
        with self._shared.lock:
            return self._shared.begin(self._connection, terms or self._terms)

    def close(self, *, clear_negotiated_state: bool = False) -> None:
        """END_SESSION, and close the connection with its last session. Never raises.

        Args:
            clear_negotiated_state: have the device forget what was negotiated, if it keeps that.
        """
        with self._shared.lock:
            if self._closed:
                return
            link = self.opened.link
            if self.opened.session.alive and not self._connection.closed:
                with contextlib.suppress(SpdmError):  # closing is all that is left to do
                    self._connection.run(
                        end_session(link, clear_negotiated_state=clear_negotiated_state)
                    )
            self._closed = True
            self._shared.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, make: Callable[[], Exchange[T]]) -> T:
        with self._shared.lock:
            if not self.alive:
                raise self._over()
            if self.opened.session.update_due:
                self._connection.run(refresh(self.opened))
            with self._telling():
                return self._connection.run(make())
