"""The asyncio driver: connections that many can share one event loop.

    async with await connect("tcp://192.0.2.1", make_requester) as connection:
        measurements = await connection.run(get_measurements(...))

Who listens: `spdmkit.transports.server`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import select
import socket
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from spdmkit.errors import DeadlineExceeded, ProtocolViolation, SpdmError, TransportError
from spdmkit.protocol.actions import Exchange
from spdmkit.transports.conduit import Conduit, ConnectionInfo, EndpointFactory, Tap, TapFactory
from spdmkit.transports.dial import (
    ATTEMPT_DELAY,
    address_text,
    cannot_connect,
    interleave,
    reason_of,
    resolve,
    tune,
)
from spdmkit.transports.framing import MAX_FRAME, Dialect, Framing, Role, Side
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.registry import framing_for, is_socket_scheme, transport_for
from spdmkit.transports.uri import EndpointUri, Host, parse_uri
from spdmkit.transports.wires import WireTransport
from spdmkit.transports.workpool import WorkPool

if TYPE_CHECKING:
    from spdmkit.protocol.endpoint import Endpoint, RequesterEndpoint

__all__ = ["AsyncConnection", "Patience", "connect"]

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
"""Seconds to connect and to open the conversation, unless the address says otherwise."""
GOODBYE_TIMEOUT = 2.0
FLUSH_TIMEOUT = 5.0
"""Seconds to get out what was written before an end in good order."""
LINGER = 1.0
"""Seconds that a peer has to read our last words; closing at once could take them from it."""
LINGER_BYTES = 0x10_0000
"""What a peer may send meanwhile; it is thrown away."""
READ_SIZE = 0x4_0000
"""Bytes read at once, into one buffer for all connections: a few of the largest frames."""
HIGH_WATER = 0x2_0000
"""Unsent bytes at which a connection stops reading requests."""
_RETRY_READ = 0.001
_BUSY = 0x03
"""ERROR Busy (DSP0274 10.12)."""

_names = itertools.count(1)
_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = (
    weakref.WeakKeyDictionary()
)


def _read_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """One buffer for all connections of a loop: what it holds is taken before the next read."""
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(READ_SIZE))
    return buffer


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may take for what, in seconds; None is for ever.

    Attributes:
        handshake: to negotiate algorithms, and to finish a session's handshake once begun.
        idle: without a frame from the peer, once the handshake is over.
        write: that the peer takes nothing of what we send.
    """

    handshake: float | None = None
    idle: float | None = None
    write: float | None = 30.0


class _Wire(asyncio.BufferedProtocol):
    """What asyncio calls; it passes on to the connection it belongs to, as long as it does."""

    __slots__ = ("buffer", "owner")

    def __init__(self, owner: AsyncConnection, buffer: memoryview) -> None:
        self.owner: AsyncConnection | None = owner
        self.buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.owner is not None:
            self.owner._connected(cast("asyncio.Transport", transport))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.owner is not None:
            self.owner._received(self.buffer[:nbytes])

    def eof_received(self) -> bool:
        if self.owner is not None:
            self.owner._end_of_stream()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner._lost(exc)

    def pause_writing(self) -> None:
        if self.owner is not None:
            self.owner._pause()

    def resume_writing(self) -> None:
        if self.owner is not None:
            self.owner._resume()


class AsyncConnection:
    """One connection on an event loop, whoever dialled and whatever our role.

    Made by `connect` and by a listener. Several tasks may `run` exchanges; they take turns.

    Attributes:
        uri: the peer's address as dialled, or the listener's.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_closed",
        "_command_waiters",
        "_conduit",
        "_discard",
        "_ending",
        "_frames",
        "_last_frame",
        "_lingering",
        "_loop",
        "_make_framing",
        "_make_tap",
        "_next_framing",
        "_on_end",
        "_on_failure",
        "_on_ready",
        "_on_settled",
        "_patience",
        "_paused_since",
        "_pool",
        "_ready_told",
        "_redialling",
        "_room",
        "_settled",
        "_tap",
        "_timer",
        "_timer_at",
        "_transport",
        "_unsettled_since",
        "_wire",
        "uri",
    )

    def __init__(
        self,
        uri: EndpointUri,
        conduit: Conduit,
        pool: WorkPool,
        *,
        patience: Patience,
        tap: TapFactory | None = None,
        make_framing: Callable[[Dialect], Framing] | None = None,
        on_ready: Callable[[AsyncConnection], None] | None = None,
        on_settled: Callable[[AsyncConnection, bool], None] | None = None,
        on_failure: Callable[[AsyncConnection, Exception], None] | None = None,
        on_end: Callable[[AsyncConnection], None] | None = None,
    ) -> None:
        """Prepare; `wire` makes the protocol that asyncio connects.

        Args:
            uri: see the attribute.
            conduit: framing and endpoint, not opened yet.
            pool: runs the endpoint's jobs.
            patience: how long to wait for what.
            tap: sees all bytes, for a capture.
            make_framing: for dialling once more in another dialect.
            on_ready: told once that the opening is over.
            on_settled: told when the handshake is over, and when one begins again.
            on_failure: told of an exception that must not leave a callback.
            on_end: told once that the connection is gone.
        """
        self.uri = uri
        self._loop = asyncio.get_running_loop()
        self._buffer = _read_buffer(self._loop)
        self._conduit = conduit
        self._pool = pool
        self._patience = patience
        self._make_tap = tap
        self._tap: Tap | None = None
        self._make_framing = make_framing
        self._on_ready = on_ready
        self._on_settled = on_settled
        self._on_failure = on_failure
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._wire: _Wire | None = None
        self._closed: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._ending = False
        self._ready_told = False
        self._redialling: asyncio.Task[None] | None = None
        self._next_framing: Framing | None = None
        self._command_waiters: list[tuple[int, asyncio.Future[bytes]]] = []
        self._discard = LINGER_BYTES
        self._lingering = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._frames = 0
        now = time.monotonic()
        self._last_frame = now
        self._paused_since: float | None = None
        self._settled = False
        self._unsettled_since = now

    # -- what applications call -----------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """Our endpoint.

        Raises:
            TransportError: a listener does not know its role yet.
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
    def error(self) -> SpdmError | None:
        """Why the connection ended; None while it is open, and after an end in good order."""
        return self._conduit.error

    @property
    def closed(self) -> bool:
        """Nothing can be sent or received any more."""
        return self._ending or self._conduit.closing

    async def run(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end and return its result.

        Cancelling it after its request was written closes the connection: over TCP nothing tells
        a late answer from that of the next request.

        Raises:
            SpdmError: what the exchange raised, or why the connection failed.
        """
        endpoint = cast("RequesterEndpoint", self.endpoint)
        ticket = endpoint.submit(exchange)
        self._pump()
        if not ticket.done:
            waiter: asyncio.Future[None] = self._loop.create_future()
            ticket.on_done(lambda _ticket: None if waiter.done() else waiter.set_result(None))
            try:
                await waiter
            except asyncio.CancelledError:
                if not ticket.done:
                    written = ticket.sent
                    ticket.cancel()
                    if written:
                        self.abort(TransportError("an exchange was cancelled"))
                raise
        try:
            return ticket.result()
        except SpdmError as error:
            reason = self._conduit.explain(error)
            if reason is error:
                raise
            raise reason from error

    async def drain(self) -> None:
        """Wait while the peer does not take what we send."""
        while self._paused and not self.closed:
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)

    async def command(self, command: int, payload: bytes = b"", *, patience: float = 5.0) -> bytes:
        """Send an out-of-band command of the emulator's socket protocol; what it answered.

        Raises:
            DeadlineExceeded: no answer; the connection is closed.
            TransportError: this connection has no such commands, or is gone.
        """
        if self.closed:
            raise self.error or TransportError("the connection is closed")
        self._conduit.platform_command(command, payload)
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._command_waiters.append((command, waiter))
        self._pump()
        try:
            async with asyncio.timeout(patience):
                return await waiter
        except TimeoutError:
            error = DeadlineExceeded(f"no answer to command 0x{command:X}")
            self.abort(error)
            raise error from None
        except asyncio.CancelledError:
            self.abort(TransportError("a command was cancelled"))
            raise

    async def close(self) -> None:
        """End the conversation in good order and wait until the connection is gone."""
        conduit = self._conduit
        if not self.closed and self._transport is not None:
            ending = conduit.framing.end()
            if ending:
                self._write(ending)
            if not conduit.framing.awaits_goodbye:
                self.finish()
        try:
            await asyncio.wait_for(self.wait_closed(), GOODBYE_TIMEOUT)
        except TimeoutError:
            self.abort()
            await self.wait_closed()

    def finish(self) -> None:
        """Close once what was written is sent, without waiting for it."""
        self._conduit.abandon()
        self._pump()

    def abort(self, error: SpdmError | None = None) -> None:
        """Close at once, whatever is under way or unsent."""
        self._conduit.abandon(error)
        if self._redialling is not None:
            self._redialling.cancel()
        if self._transport is not None:
            self._transport.abort()
        else:
            self._end()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone; never raises because of how it went."""
        if self._ending:
            return
        if self._closed is None:
            self._closed = self._loop.create_future()
        await asyncio.shield(self._closed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- what the listener uses -----------------------------------------------------------------

    @property
    def conduit(self) -> Conduit:
        """Framing and endpoint."""
        return self._conduit

    def wire(self) -> asyncio.BufferedProtocol:
        """The protocol object for a transport that is about to be connected."""
        if self._wire is not None:
            self._wire.owner = None
        self._wire = _Wire(self, self._buffer)
        return self._wire

    def busy(self, now: float, quiet: float) -> bool:
        """Something is under way: unsent bytes, a job, or a frame less than `quiet` ago."""
        transport = self._transport
        unsent = transport is not None and transport.get_write_buffer_size() > 0
        return unsent or self._conduit.working > 0 or now - self._last_frame < quiet

    # -- what asyncio calls ---------------------------------------------------------------------

    def _connected(self, transport: asyncio.Transport) -> None:
        if self._ending:
            transport.abort()
            return
        self._transport = transport
        sock = transport.get_extra_info("socket")
        local, peer = self._conduit.info.local, self._conduit.info.peer
        if sock is not None and transport.get_extra_info("peername") is not None:
            tune(cast("socket.socket", sock))
            local = address_text(transport.get_extra_info("sockname"))
            peer = address_text(transport.get_extra_info("peername"))
            transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._make_tap is not None:
            self._tap = self._make_tap(local, peer)
        framing, self._next_framing = self._next_framing, None
        if framing is None:
            self._guarded(lambda: self._conduit.opened(local, peer))
        else:
            self._guarded(lambda: self._conduit.reopen(framing, time.monotonic()))

    def _received(self, data: memoryview) -> None:
        if self._tap is not None:
            self._tap.received(bytes(data))
        if self._conduit.closing:
            self._discard -= len(data)
            if self._discard < 0 and self._transport is not None:
                self._transport.abort()
            return
        # A requester says one thing at a time, so that it cannot be made to say too much.
        stop = None if self._conduit.framing.role is Role.REQUESTER else self._stalled
        self._guarded(lambda: self._conduit.lent(data, time.monotonic(), stop=stop))

    def _end_of_stream(self) -> None:
        self._guarded(self._conduit.ended)

    def _pause(self) -> None:
        self._paused_since = time.monotonic()
        if self._holding and self._transport is not None and not self._conduit.closing:
            self._transport.pause_reading()
        self._arm()

    def _resume(self) -> None:
        self._paused_since = None
        self._make_room()
        # What was read before the pause comes first; it may bring the next pause.
        self._guarded(lambda: self._conduit.process(time.monotonic(), stop=self._stalled))
        if not self._paused and self._transport is not None:
            self._transport.resume_reading()

    def _lost(self, error: Exception | None) -> None:
        self._transport = None
        self._guarded(lambda: self._conduit.ended(error if isinstance(error, OSError) else None))
        if self._conduit.redial is None:
            self._end()

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    @property
    def _holding(self) -> bool:
        """Read no more: the peer does not take what its requests have brought about.

        A requester goes on reading. What comes is its own doing, and both ends of a stream that
        waited for the other to read would wait for ever.
        """
        return self._paused and self._conduit.framing.role is not Role.REQUESTER

    @property
    def _paused(self) -> bool:
        return self._paused_since is not None

    # -- driving --------------------------------------------------------------------------------

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step and what follows from it; no exception of one connection gets further."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  # contained, reported, and the connection ends
            self._contain(error)
        self._pump()

    def _contain(self, error: Exception) -> None:
        self._conduit.abandon(TransportError(f"internal error: {type(error).__name__}: {error}"))
        if self._on_failure is not None:
            self._on_failure(self, error)

    def _pump(self) -> None:
        """Send, start work, and see what the connection needs now."""
        conduit = self._conduit
        spoke = False
        try:
            spoke = self._flush()
            self._start_jobs()
            self._tell()
        except Exception as error:  # noqa: BLE001  # contained, reported, and the connection ends
            self._contain(error)
        if conduit.redial is not None and not conduit.closing:
            self._start_redial()
        elif conduit.closing:
            self._shut(last_words=spoke)
        else:
            self._arm()

    def _flush(self) -> bool:
        """Send what there is; True when there was something."""
        output = self._conduit.output(time.monotonic())
        for data in output:
            self._write(data)
        return bool(output)

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._tap is not None:
            self._tap.sent(data)
        self._transport.write(data)

    def _stalled(self) -> bool:
        """Send what there is; True when the peer does not take it, so that no more should come."""
        self._flush()
        self._start_jobs()
        return self._holding

    def _start_jobs(self) -> None:
        conduit = self._conduit
        for job in conduit.jobs():
            if self._pool.full and conduit.framing.role is Role.RESPONDER:
                busy = ProtocolViolation("too much work is waiting", error_code=_BUSY)
                conduit.complete(job.token, busy, time.monotonic())
                self._flush()
                continue
            token = job.token
            conduit.working += 1
            self._pool.start(job.call, lambda outcome, token=token: self._worked(token, outcome))  # type: ignore[misc]  # mypy knows no default in a lambda

    def _worked(self, token: int, outcome: Any) -> None:
        conduit = self._conduit
        conduit.working -= 1
        if conduit.closing:
            return
        self._guarded(lambda: conduit.complete(token, outcome, time.monotonic()))

    def _tell(self) -> None:
        """Tell the listener, and whoever waits, what has changed."""
        conduit = self._conduit
        if conduit.frames != self._frames:
            self._frames = conduit.frames
            self._last_frame = time.monotonic()
        if conduit.settled is not self._settled:
            self._settled = not self._settled
            self._unsettled_since = time.monotonic()
            if self._on_settled is not None:
                self._on_settled(self, self._settled)
        if not self._ready_told and (conduit.ready or conduit.closing):
            self._ready_told = True
            if self._on_ready is not None:
                self._on_ready(self)
        while (event := conduit.take_command()) is not None:
            for index, (command, waiter) in enumerate(self._command_waiters):
                if command == event.command:
                    del self._command_waiters[index]
                    if not waiter.done():
                        waiter.set_result(event.payload)
                    break

    def _shut(self, *, last_words: bool) -> None:
        """Close; after last words, leave the peer time to read them."""
        transport = self._transport
        if transport is None:
            if self._redialling is None:
                self._end()
            return
        if transport.is_closing() or self._lingering:
            return
        self._stop_timer()
        if self._paused and isinstance(self._conduit.error, DeadlineExceeded):
            # It takes nothing: neither last words nor a moment will change that.
            transport.abort()
        elif last_words and transport.can_write_eof():
            # Closing with unread bytes in the kernel resets the connection and can take our error
            # frame from the peer; so the peer is let to close first, for a moment.
            self._lingering = True
            transport.write_eof()
            if not self._paused:
                transport.resume_reading()
            self._timer = self._loop.call_later(LINGER, transport.abort)
        else:
            transport.close()
            self._timer = self._loop.call_later(FLUSH_TIMEOUT, transport.abort)

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._stop_timer()
        self._make_room()
        conduit = self._conduit
        conduit.abandon(conduit.error)
        if self._tap is not None:
            self._tap.closed()
        for _command, waiter in self._command_waiters:
            if not waiter.done():
                waiter.set_exception(conduit.error or TransportError("the connection was closed"))
        self._command_waiters.clear()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        try:
            self._tell()
        except Exception as error:  # noqa: BLE001  # contained and reported
            self._contain(error)
        if self._on_end is not None:
            self._on_end(self)

    # -- time -----------------------------------------------------------------------------------

    def _deadlines(self) -> list[tuple[float, str]]:
        """When something must have happened, and what to say if it has not."""
        patience = self._patience
        deadlines: list[tuple[float, str]] = []
        at = self._conduit.next_deadline()
        if at is not None:
            deadlines.append((at, ""))
        if not self._settled and patience.handshake is not None:
            reason = "the handshake took too long"
            deadlines.append((self._unsettled_since + patience.handshake, reason))
        if self._settled and patience.idle is not None:
            deadlines.append((self._last_frame + patience.idle, "the connection was idle"))
        if self._paused_since is not None and patience.write is not None:
            reason = "the peer takes nothing of what we send"
            deadlines.append((self._paused_since + patience.write, reason))
        return deadlines

    def _arm(self) -> None:
        """Have a timer for the earliest deadline; one that is early looks again when it fires."""
        if self._ending:
            return
        at = min((each[0] for each in self._deadlines()), default=math.inf)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        if at < math.inf:
            self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - time.monotonic(), 0.0), self._due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._ending or self._conduit.closing or self._transport is None:
            return
        now = time.monotonic()
        passed = sorted(entry for entry in self._deadlines() if entry[0] <= now)
        if not passed:
            self._arm()
            return
        if self._paused_since is None and _readable(self._transport):
            # A deadline has passed only when a read after it found nothing.
            self._set_timer(now + _RETRY_READ)
            return
        reason = passed[0][1]
        if reason:
            error = DeadlineExceeded(reason, hint=self._conduit.framing.hint())
            self._guarded(lambda: self._conduit.abandon(error))
        else:
            self._guarded(lambda: self._conduit.on_time(now))

    # -- the other dialect ----------------------------------------------------------------------

    def _start_redial(self) -> None:
        if self._redialling is None and self._make_framing is not None:
            self._stop_timer()
            if self._wire is not None:
                self._wire.owner = None
            if self._transport is not None:
                self._transport.abort()
                self._transport = None
            if self._tap is not None:
                self._tap.closed()
            self._redialling = self._loop.create_task(self._redial(self._make_framing))

    async def _redial(self, make_framing: Callable[[Dialect], Framing]) -> None:
        """The first guess was wrong: the same request, on a new connection, in the other."""
        conduit = self._conduit
        try:
            self._next_framing = make_framing(conduit.redial or Dialect.STRICT)
            await _open_socket(self, self.uri, CONNECT_TIMEOUT)
        except SpdmError as error:
            conduit.abandon(error)
            self._redialling = None
            self._pump()
        else:
            self._redialling = None


def _readable(transport: asyncio.Transport) -> bool:
    """Whether a read would find something (the end of the stream included)."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def connect(
    uri: str | EndpointUri,
    factory: EndpointFactory,
    *,
    role: Role = Role.REQUESTER,
    timeout: float | None = None,  # noqa: ASYNC109  # covers several steps, as in `blocking`
    memory: DialectMemory | None = None,
    pool: WorkPool | None = None,
    max_frame: int = MAX_FRAME,
    patience: Patience | None = None,
    tap: TapFactory | None = None,
) -> AsyncConnection:
    """Connect to a peer.

    Args:
        uri: its address.
        factory: makes our endpoint; it must be of the role asked for.
        role: what we are to be; as responder we send Role-Inquiry (DSP0287 6.2), then serve.
        timeout: seconds to connect and open; else that of the address, else ten.
        memory: remembers peers' dialects for later connections.
        pool: runs the endpoint's jobs; by default they run in the event loop's thread.
        max_frame: largest message or record accepted, in bytes.
        patience: further limits of time; a requester's answers have their own deadlines.
        tap: sees all bytes, for a capture.

    Raises:
        ConfigurationError: the address is wrong or cannot be used here.
        DeadlineExceeded: nobody answered in time.
        TransportError: refused, unreachable, or the opening failed.
    """
    address = parse_uri(uri) if isinstance(uri, str) else uri
    limit = timeout or address.timeout or CONNECT_TIMEOUT
    guesses = address.scheme == "tcp" and address.dialect is None and role is Role.REQUESTER
    key = str(address.address)
    line = None
    if is_socket_scheme(address.scheme):
        guess = memory.recall(key, time.monotonic()) if memory is not None else None
        framing = framing_for(address, Side.INITIATOR, [role], guess=guess, max_frame=max_frame)
        local, peer = "", key
    else:
        dialler = transport_for(address)
        line = await asyncio.to_thread(dialler.dial, address, role=role, timeout=limit)
        framing, local, peer = line.framing, line.local, line.peer
    info = ConnectionInfo(
        name=f"{address.scheme}-{next(_names)}",
        scheme=address.scheme,
        role=role,
        side=Side.INITIATOR,
        local=local,
        peer=peer,
        record_profile=framing.record_profile,
    )
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ready(_connection: AsyncConnection) -> None:
        if not opened.done():
            opened.set_result(None)

    def learn(shown: Dialect) -> None:
        if memory is not None and guesses:
            memory.remember(key, shown, time.monotonic())

    connection = AsyncConnection(
        address,
        Conduit(
            framing,
            factory,
            info,
            records_of=address.records,
            may_redial=guesses,
            on_dialect=learn,
        ),
        pool or WorkPool(0),
        patience=patience or Patience(),
        tap=tap,
        make_framing=lambda other: framing_for(
            address, Side.INITIATOR, [role], guess=other, max_frame=max_frame
        ),
        on_ready=ready,
    )
    try:
        if line is None:
            await _open_socket(connection, address, limit)
        else:
            WireTransport(connection._loop, line.wire, connection.wire())
        async with asyncio.timeout(limit):
            await opened
    except TimeoutError:
        connection.abort()
        raise DeadlineExceeded(
            f"{address} did not open the conversation", hint=framing.hint()
        ) from None
    except BaseException:
        connection.abort()
        raise
    if connection.closed:
        await connection.close()
        raise connection.error or TransportError(f"{address} closed the connection at once")
    return connection


async def _open_socket(connection: AsyncConnection, uri: EndpointUri, limit: float) -> None:
    """Connect a TCP socket for a connection, whichever address of the host answers first."""
    host = uri.host
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit):
            sock = await _first_to_answer(loop, host)
            await loop.create_connection(connection.wire, sock=sock)
    except TimeoutError:
        raise DeadlineExceeded(f"no answer from {host} when connecting") from None
    except OSError as error:
        raise cannot_connect(host, reason_of(error)) from error


async def _first_to_answer(loop: asyncio.AbstractEventLoop, host: Host) -> socket.socket:
    """Try the addresses of a host one after another, each a little later (RFC 8305).

    Not every event loop has this of its own.
    """
    if host.is_literal:
        addresses = resolve(host)
    else:
        found = await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
        addresses = interleave([(entry[0], entry[4]) for entry in found])
    if len(addresses) == 1:
        return await _attempt(loop, *addresses[0])
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: OSError | None = None
    try:
        while addresses or attempts:
            if addresses:
                attempts.add(loop.create_task(_attempt(loop, *addresses.pop(0))))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=ATTEMPT_DELAY if addresses else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winners = [task for task in done if task.exception() is None]
            for task in winners[1:]:
                task.result().close()
            if winners:
                return winners[0].result()
            for task in done:
                error = task.exception()
                failure = error if isinstance(error, OSError) else failure
    finally:
        for task in attempts:
            if not task.cancel() and not task.cancelled() and task.exception() is None:
                task.result().close()
    raise failure or OSError(f"{host.name} has no address")


async def _attempt(
    loop: asyncio.AbstractEventLoop, family: int, address: tuple[Any, ...]
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
