"""The blocking driver: one connection, driven by the thread that calls.

with connect("tcp://192.0.2.1", make_requester) as connection:
    measurements = connection.run(get_measurements(...))
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from spdmkit.errors import DeadlineExceeded, SpdmError, TransportError
from spdmkit.protocol.actions import Exchange
from spdmkit.transports.conduit import Conduit, ConnectionInfo, EndpointFactory, Tap, TapFactory
from spdmkit.transports.dial import address_text, dial
from spdmkit.transports.framing import MAX_FRAME, Dialect, Role, Side
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.registry import Line, framing_for, is_socket_scheme, transport_for
from spdmkit.transports.uri import EndpointUri, parse_uri

if TYPE_CHECKING:
    from spdmkit.protocol.endpoint import Endpoint, RequesterEndpoint

__all__ = ["BlockingConnection", "connect"]

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
"""Seconds to connect and to open the conversation, unless the address says otherwise."""
WRITE_TIMEOUT = 30.0
"""Seconds that a peer may take nothing of what we send."""
GOODBYE_TIMEOUT = 2.0
SLICE = 0.5
"""Seconds that one read may block; a deadline nearer than that is waited for by polling."""
READ_SIZE = 0x1_0010
"""Bytes read at once: the largest frame of any framing fits."""

_names = itertools.count(1)


def connect(
    uri: str | EndpointUri,
    factory: EndpointFactory,
    *,
    role: Role = Role.REQUESTER,
    timeout: float | None = None,
    memory: DialectMemory | None = None,
    max_frame: int = MAX_FRAME,
    tap: TapFactory | None = None,
) -> BlockingConnection:
    """Connect to a peer.

    Args:
        uri: its address.
        factory: makes our endpoint; it must be of the role asked for.
        role: what we are to be; as responder we send Role-Inquiry (DSP0287 6.2).
        timeout: seconds to connect and open; else that of the address, else ten.
        memory: remembers peers' dialects for later connections.
        max_frame: largest message or record accepted, in bytes.
        tap: sees all bytes, for a capture.

    Raises:
        ConfigurationError: the address is wrong or cannot be used here.
        DeadlineExceeded: nobody answered in time.
        TransportError: refused, unreachable, or the opening failed.
    """
    address = parse_uri(uri) if isinstance(uri, str) else uri
    patience = timeout or address.timeout or CONNECT_TIMEOUT
    connection = BlockingConnection(
        address, factory, role, patience, memory=memory, max_frame=max_frame, tap=tap
    )
    connection._open()  # a connection is not for others before it is open
    return connection


class BlockingConnection:
    """A connection that `connect` made. Not for two threads at once.

    Attributes:
        uri: the peer's address as it was asked for.
    """

    def __init__(
        self,
        uri: EndpointUri,
        factory: EndpointFactory,
        role: Role,
        timeout: float,
        *,
        memory: DialectMemory | None = None,
        max_frame: int = MAX_FRAME,
        tap: TapFactory | None = None,
    ) -> None:
        self.uri = uri
        self._timeout = timeout
        self._memory = memory
        self._max_frame = max_frame
        self._make_tap = tap
        self._tap: Tap | None = None
        self._poller: select.poll | None = None
        self._wakes = False
        self._role = role
        self._guesses = uri.scheme == "tcp" and uri.dialect is None and role is Role.REQUESTER
        remembered = memory.recall(self._key, time.monotonic()) if memory else None
        line = self._dial(remembered)
        self._line = line
        self._open_wire = True
        self._deaf = False
        info = ConnectionInfo(
            name=f"{uri.scheme}-{next(_names)}",
            scheme=uri.scheme,
            role=role,
            side=Side.INITIATOR,
            local=line.local,
            peer=line.peer,
            record_profile=line.framing.record_profile,
        )
        self._conduit = Conduit(
            line.framing,
            factory,
            info,
            records_of=uri.records,
            may_redial=self._guesses,
            # Only where it is used: it makes a circle, which waits for the garbage collector.
            on_dialect=self._learn if memory is not None else None,
        )

    # -- what applications call -----------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """Our endpoint.

        Raises:
            TransportError: the connection never opened.
        """
        if self._conduit.endpoint is None:
            raise TransportError("the connection is not open")
        return self._conduit.endpoint

    @property
    def info(self) -> ConnectionInfo:
        """What the endpoint was told of the connection."""
        return self._conduit.info

    @property
    def dialect(self) -> Dialect | None:
        """The peer's DSP0287 dialect, as far as it is known."""
        return self._conduit.framing.dialect

    @property
    def closed(self) -> bool:
        """Nothing can be sent or received any more."""
        return not self._open_wire

    def run(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end and return its result.

        Raises:
            SpdmError: what the exchange raised, or why the connection failed.
        """
        endpoint = cast("RequesterEndpoint", self.endpoint)
        if self._conduit.frames:  # before the first answer nothing can be late
            self._drain()
        ticket = endpoint.submit(exchange)
        try:
            self._drive(lambda: ticket.done)
        except BaseException:
            # Interrupted half-way: a late answer must meet no other request.
            self._abort(TransportError("an exchange was interrupted"))
            raise
        try:
            return ticket.result()
        except SpdmError as error:
            reason = self._conduit.explain(error)
            if reason is error:
                raise
            raise reason from error

    def wait(self, done: Callable[[], bool], patience: float | None = None) -> bool:
        """Take what comes and do what is due until `done`; what it says in the end.

        Args:
            done: what is waited for.
            patience: seconds; None waits as long as the connection stands.
        """
        until = None if patience is None else time.monotonic() + patience
        try:
            self._drive(done, until=until)
        except BaseException:
            self._abort(TransportError("waiting was interrupted"))
            raise
        return done()

    def due_in(self) -> float:
        """Seconds until the endpoint has something to do by itself (a heartbeat)."""
        at = self._conduit.next_deadline()
        return float("inf") if at is None else at - time.monotonic()

    def tend(self) -> None:
        """Take what came and do what is due by itself, without waiting for anything else."""
        endpoint = cast("RequesterEndpoint", self.endpoint)
        self.wait(lambda: False, 0.0)
        if not endpoint.idle:
            self.wait(lambda: endpoint.idle)

    def serve(self) -> None:
        """Be the responder until the connection ends.

        Raises:
            SpdmError: why it ended, when it was not in good order.
        """
        try:
            self._drive(lambda: False)
        except BaseException:
            self._abort(TransportError("serving was interrupted"))
            raise
        error = self._conduit.error
        if error is not None:
            raise error

    def command(self, command: int, payload: bytes = b"", *, patience: float = 5.0) -> bytes:
        """Send an out-of-band command of the emulator's socket protocol; what it answered.

        Raises:
            DeadlineExceeded: no answer; the connection is closed.
            TransportError: this connection has no such commands, or is gone.
        """
        self._conduit.platform_command(command, payload)
        answers: list[bytes] = []

        def answered() -> bool:
            event = self._conduit.take_command()
            if event is not None and event.command == command:
                answers.append(event.payload)
            return bool(answers)

        self._drive(answered, until=time.monotonic() + patience)
        if answers:
            return answers[0]
        error = self._conduit.error or DeadlineExceeded(f"no answer to command 0x{command:X}")
        self._abort(error)
        raise error

    def close(self) -> None:
        """End the conversation in good order and close the connection. Never raises."""
        if not self._open_wire:
            return
        try:
            if not self._conduit.closing:
                self._say_goodbye()
        except (SpdmError, OSError):
            pass  # closing is all that is left to do, and it follows
        finally:
            self._abort(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- opening and closing --------------------------------------------------------------------

    @property
    def _key(self) -> str:
        return str(self.uri.address)

    def _dial(self, guess: Dialect | None) -> Line:
        if not is_socket_scheme(self.uri.scheme):
            factory = transport_for(self.uri)
            line = factory.dial(self.uri, role=self._role, timeout=self._timeout)
        else:
            framing = framing_for(
                self.uri, Side.INITIATOR, [self._role], guess=guess, max_frame=self._max_frame
            )
            sock = dial(self.uri.host, self._timeout)
            local, peer = _addresses(sock)
            self._wakes = _wakes(sock)
            line = Line(sock, framing, local, peer)
        self._tap = self._make_tap(line.local, line.peer) if self._make_tap else None
        return line

    def _open(self) -> None:
        """Go through what opens the conversation (the emulator's hello, DOE discovery)."""
        conduit = self._conduit
        conduit.opened()
        if conduit.framing.role is Role.REQUESTER and conduit.ready:
            return
        try:
            self._drive(lambda: self._conduit.ready, until=time.monotonic() + self._timeout)
        except BaseException:
            self._abort(None)
            raise
        if not self._conduit.ready or self._conduit.closing:
            error = self._conduit.error or DeadlineExceeded(
                f"{self.uri} did not open the conversation", hint=self._conduit.framing.hint()
            )
            self._abort(error)
            raise error

    def _redial(self, guess: Dialect) -> None:
        """The first guess was wrong: the same request, on a new connection, in the other."""
        self._drop_wire()
        self._line = self._dial(guess)
        self._open_wire = True
        self._deaf = False
        self._conduit.reopen(self._line.framing, time.monotonic())

    def _learn(self, shown: Dialect) -> None:
        """Remember the dialect that the peer has shown."""
        if self._memory is not None and self._guesses:
            self._memory.remember(self._key, shown, time.monotonic())

    def _say_goodbye(self) -> None:
        framing = self._conduit.framing
        ending = framing.end()
        if not ending:
            return
        self._send(ending)
        if framing.awaits_goodbye:
            self._drive(lambda: False, until=time.monotonic() + GOODBYE_TIMEOUT)

    def _abort(self, error: SpdmError | None) -> None:
        self._conduit.abandon(error)
        self._drop_wire()

    def _drop_wire(self) -> None:
        if not self._open_wire:
            return
        self._open_wire = False
        self._poller = None
        self._line.wire.close()
        if self._tap is not None:
            self._tap.closed()

    # -- driving --------------------------------------------------------------------------------

    def _drive(self, done: Callable[[], bool], *, until: float | None = None) -> None:
        """Move bytes, jobs and time until `done`, the end of the connection, or `until`."""
        conduit = self._conduit
        while True:
            self._settle()
            if conduit.redial is not None:
                try:
                    self._redial(conduit.redial)
                except SpdmError as error:
                    conduit.abandon(error)
                continue
            if conduit.closing:
                self._drop_wire()
                return
            if done():
                return
            deadline = conduit.next_deadline()
            if until is not None:
                deadline = until if deadline is None else min(deadline, until)
            data = self._read(deadline)
            now = time.monotonic()
            if data:
                conduit.received(data, now)
            elif data is None:
                conduit.on_time(now)
                if until is not None and now >= until:
                    return

    def _drain(self) -> None:
        """Take what came since the last exchange: it answers nothing, and must not answer this."""
        conduit = self._conduit
        while self._open_wire and not conduit.closing and (data := self._read(0.0)):
            conduit.received(data, time.monotonic())

    def _settle(self) -> None:
        """Send and work until neither is left."""
        conduit = self._conduit
        while True:
            for data in conduit.output(time.monotonic()):
                self._send(data)
            jobs = conduit.jobs()
            if not jobs:
                return
            for job in jobs:
                outcome: Any
                try:
                    outcome = _awaited(job.call())
                except Exception as error:  # noqa: BLE001  # the exchange that asked for it decides
                    outcome = error
                conduit.complete(job.token, outcome, time.monotonic())

    def _read(self, deadline: float | None) -> bytes | None:
        """What came, empty when the peer is gone, or None when nothing came in time."""
        wait = SLICE + 1 if deadline is None else max(deadline - time.monotonic(), 0.0)
        # Where the kernel wakes us by itself, waiting and reading are one system call.
        if not (self._wakes and wait > SLICE) and not self._readable(wait):
            return None
        try:
            data = self._line.wire.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self._conduit.ended(error)
            return b""
        if data:
            if self._tap is not None:
                self._tap.received(data)
        else:
            self._conduit.ended()
        return data

    def _readable(self, wait: float) -> bool:
        """Whether a read would find something, within some seconds."""
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self._line.wire.fileno(), select.POLLIN)
        return bool(self._poller.poll(wait * 1000))

    def _send(self, data: bytes) -> None:
        """Send all of it, in one write when the kernel takes it."""
        if not self._open_wire or self._deaf:
            return
        if self._tap is not None:
            self._tap.sent(data)
        rest: bytes | memoryview = data
        while rest:
            try:
                sent = self._line.wire.send(rest)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._broken(error)
                return
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]
            if not self._make_room(time.monotonic() + WRITE_TIMEOUT):
                return

    def _make_room(self, until: float) -> bool:
        """Wait until more can be sent, reading meanwhile: the peer may wait for just that."""
        wire = self._line.wire
        poll = select.poll()
        poll.register(wire.fileno(), select.POLLOUT | select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            ready = poll.poll(left * 1000)
            flags = ready[0][1] if ready else 0
            if flags & select.POLLIN:
                data = self._read(0.0)
                if data:
                    self._conduit.received(data, time.monotonic())
                    continue
                poll.modify(wire.fileno(), select.POLLOUT)  # it says nothing more
            if flags & ~select.POLLIN:
                return True
        self._deaf = True
        self._conduit.abandon(DeadlineExceeded("the peer takes nothing of what we send"))
        return False

    def _broken(self, error: OSError) -> None:
        """Sending failed; the peer may have said why before it closed."""
        self._deaf = True
        try:
            data = self._line.wire.recv(READ_SIZE)
        except OSError:
            data = b""
        if data:
            self._conduit.received(data, time.monotonic())
        self._conduit.ended(error)


def _addresses(sock: socket.socket) -> tuple[str, str]:
    try:
        return address_text(sock.getsockname()), address_text(sock.getpeername())
    except OSError as error:
        sock.close()
        raise TransportError(f"the connection broke at once: {error.strerror}") from error


_INTERVAL = struct.pack("ll", 0, int(SLICE * 1e6))
"""SLICE as the kernel takes it."""


def _wakes(sock: socket.socket) -> bool:
    """Let reads and writes block for a SLICE, no longer; False where that is not to be had."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _INTERVAL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _INTERVAL)
    except OSError:
        return False
    sock.setblocking(True)
    return True


def _awaited(result: Any) -> Any:
    """What a job returned, waited for if it is awaitable."""
    if not hasattr(result, "__await__"):
        return result
    # Imported here: most programs that block never need an event loop.
    import asyncio  # noqa: PLC0415

    async def wait() -> Any:
        return await result

    return asyncio.run(wait())
