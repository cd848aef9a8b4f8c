"""Listening: many connections on one event loop, none of which can hurt another.

    async with await listen("tcp://:4194", make_responder) as listener:
        print("listening on", listener.uri)
        await listener.serve_forever()

A listener serves responders (devices in the reach-down model), requesters (verifiers in the
reach-out model, DSP0287 clause 3.2), or both: the first frame of a connection tells.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import itertools
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

from spdmkit.errors import ConfigurationError, SpdmError, TransportError
from spdmkit.transports.aio import AsyncConnection, Patience
from spdmkit.transports.conduit import (
    CommandSink,
    Conduit,
    ConnectionInfo,
    EndpointFactory,
    TapFactory,
)
from spdmkit.transports.dial import address_text, resolve
from spdmkit.transports.framing import MAX_FRAME, Dialect, Framing, Role, Side
from spdmkit.transports.loops import raise_descriptor_limit
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.registry import Acceptor, framing_for, is_socket_scheme, transport_for
from spdmkit.transports.uri import EndpointUri, Host, parse_uri
from spdmkit.transports.wires import WireTransport
from spdmkit.transports.workpool import WorkPool

__all__ = ["Handler", "Happening", "Limits", "Listener", "ListenerEvent", "bind", "listen"]

BACKLOG = 4096
"""Connections that the kernel may hold for us; it cuts this to its own limit."""
BURST = 64
"""Connections accepted at once before those that stand get their turn."""
ACCEPT_PAUSE = 0.5
"""Seconds without accepting when the system has no room for more."""
SPARE_DESCRIPTORS = 64
"""File descriptors left for everything that is not a connection."""
QUIET = 0.25
"""Seconds without a frame after which a connection is between two requests."""
_SAME_PORT_TRIES = 16

_names = itertools.count(1)

Handler: TypeAlias = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a listener lets its peers take.

    Attributes:
        connections: at once; the process's limit of file descriptors may lower it.
        per_address: at once from one address, None for no limit of its own.
        half_open: connections whose handshake is not over; beyond, the oldest of them gives way.
        patience: seconds for what.
        max_frame: largest message or record accepted, in bytes.
        pending_work: jobs waiting or running, beyond which requests are answered Busy.
    """

    connections: int = 10_000
    per_address: int | None = None
    half_open: int = 4096
    patience: Patience = field(default_factory=lambda: Patience(handshake=20.0, idle=900.0))
    max_frame: int = MAX_FRAME
    pending_work: int = 1024


class Happening(enum.Enum):
    """What a listener tells of its connections."""

    OPENED = "opened"
    REFUSED = "refused"
    """Closed at once: a limit is reached."""
    EVICTED = "evicted"
    """Half-open for longest when a limit was reached."""
    ENDED = "ended"
    FAILED = "failed"
    """An exception that is no `SpdmError`: a fault of ours, contained to its connection."""
    SHUTDOWN_ASKED = "shutdown asked"
    """The peer sent the emulator's SHUTDOWN."""


@dataclass(frozen=True, slots=True)
class ListenerEvent:
    """One thing that happened.

    Attributes:
        what: the kind of thing.
        peer: the peer's address.
        connection: the connection, where there is one.
        error: why, where there is a reason.
    """

    what: Happening
    peer: str
    connection: AsyncConnection | None = None
    error: BaseException | None = None


ListenerSink: TypeAlias = Callable[[ListenerEvent], None]


class Listener:
    """What `listen` gives.

    Attributes:
        uri: where it listens, with the real port.
        accepted: connections accepted so far.
        refused: connections closed at once because of a limit.
    """

    def __init__(
        self,
        uri: EndpointUri,
        factory: EndpointFactory,
        *,
        roles: Collection[Role],
        handler: Handler | None,
        limits: Limits,
        pool: WorkPool,
        memory: DialectMemory,
        stop_on_shutdown: bool,
        on_event: ListenerSink | None,
        on_command: CommandSink | None,
        tap: TapFactory | None,
    ) -> None:
        """See `listen`, which also starts it."""
        self.uri = uri
        self.accepted = 0
        self.refused = 0
        self._factory = factory
        self._roles = roles
        self._handler = handler
        self._limits = limits
        self._pool = pool
        self._memory = memory
        self._stop_on_shutdown = stop_on_shutdown
        self._on_event = on_event
        self._on_command = on_command
        self._tap = tap
        self._most = limits.connections
        self._connections: dict[AsyncConnection, str] = {}
        self._half_open: dict[AsyncConnection, None] = {}
        self._by_address: Counter[str] = Counter()
        self._tasks: dict[AsyncConnection, asyncio.Task[None]] = {}
        self._sockets: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._acceptor: Acceptor | None = None
        self._stop = asyncio.Event()
        self._closing = False

    # -- what applications call -----------------------------------------------------------------

    @property
    def connections(self) -> list[AsyncConnection]:
        """The connections that are open now."""
        return list(self._connections)

    async def serve_forever(self) -> None:
        """Wait until `stop` is called, or a peer stops us where that is allowed."""
        await self._stop.wait()

    def stop(self) -> None:
        """Make `serve_forever` return; `close` does the closing."""
        self._stop.set()

    async def close(self, grace: float = 5.0) -> None:
        """Stop listening, finish what is in flight within `grace` seconds, close the rest."""
        self._closing = True
        self._stop.set()
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        if self._acceptor is not None:
            loop.remove_reader(self._acceptor.fileno())
            self._acceptor.close()
            self._acceptor = None
        if self._arriving:
            await asyncio.wait(self._arriving)
        deadline = time.monotonic() + grace
        while self._connections and time.monotonic() < deadline:
            for connection in self.connections:
                if connection not in self._tasks and not connection.busy(time.monotonic(), QUIET):
                    connection.finish()
            await asyncio.sleep(0.02)
        for task in list(self._tasks.values()):
            task.cancel()
        for connection in self.connections:
            connection.abort(TransportError("the service is stopping"))
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await asyncio.gather(*(connection.wait_closed() for connection in self.connections))
        self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- starting -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            ConfigurationError: the address cannot be listened on.
            TransportError: it is in use, or not ours.
        """
        limit = raise_descriptor_limit()
        self._most = max(min(self._limits.connections, limit - SPARE_DESCRIPTORS), 1)
        loop = asyncio.get_running_loop()
        if not is_socket_scheme(self.uri.scheme):
            self._acceptor = transport_for(self.uri).listen(self.uri, roles=self._roles)
            self.uri = self._acceptor.uri
            loop.add_reader(self._acceptor.fileno(), self._accept_lines)
            return
        self._framing(None)
        sockets = await loop.run_in_executor(None, bind, self.uri.host)
        self.uri = self.uri.with_port(sockets[0].getsockname()[1])
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._sockets.append(sock)
            self._watch(sock)

    def _framing(self, guess: Dialect | None) -> Framing:
        return framing_for(
            self.uri, Side.LISTENER, self._roles, guess=guess, max_frame=self._limits.max_frame
        )

    # -- accepting ------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        """The kernel has connections for us."""
        for _ in range(BURST):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:
                self._pause_accepting(listening, error)
                return
            self._welcome(sock, address)

    def _pause_accepting(self, listening: socket.socket, error: OSError) -> None:
        """Out of descriptors or memory: free some, and leave the rest to the kernel for now."""
        self._report(Happening.FAILED, "", error=error)
        self._evict()
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())
        loop.call_later(ACCEPT_PAUSE, self._watch, listening)

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.add_reader(listening.fileno(), self._accept, listening)

    def _welcome(self, sock: socket.socket, address: object) -> None:
        try:
            sock.setblocking(False)
            local = address_text(sock.getsockname())
            connection = self._admit(address_text(address), local)
        except Exception as error:  # noqa: BLE001  # one bad peer must not stop the listener
            self._report(Happening.FAILED, address_text(address), error=error)
            connection = None
        if connection is None:
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._attach(connection, sock))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _attach(self, connection: AsyncConnection, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(connection.wire, sock=sock)
        except OSError as error:
            sock.close()
            connection.abort(TransportError(f"the connection broke: {error.strerror or error}"))

    def _accept_lines(self) -> None:
        """A transport of its own has something to accept."""
        if self._acceptor is None:
            return
        try:
            line = self._acceptor.accept()
        except Exception as error:  # noqa: BLE001  # one bad peer must not stop the listener
            self._report(Happening.FAILED, "", error=error)
            return
        if line is None:
            return
        connection = self._admit(line.peer, line.local, line.framing)
        if connection is None:
            line.wire.close()
        else:
            WireTransport(asyncio.get_running_loop(), line.wire, connection.wire())

    def _admit(
        self, peer: str, local: str, framing: Framing | None = None
    ) -> AsyncConnection | None:
        """A connection for a peer that dialled, or None when a limit forbids it."""
        address = _host_of(peer)
        self.accepted += 1
        if self._closing or not self._room(address):
            self.refused += 1
            self._report(Happening.REFUSED, peer)
            return None
        if framing is None:
            framing = self._framing(self._memory.recall(address, time.monotonic()))
        info = ConnectionInfo(
            name=f"{self.uri.scheme}-in-{next(_names)}",
            scheme=self.uri.scheme,
            role=framing.role or Role.RESPONDER,
            side=Side.LISTENER,
            local=local,
            peer=peer,
            record_profile=framing.record_profile,
        )
        connection = AsyncConnection(
            self.uri,
            Conduit(
                framing,
                self._factory,
                info,
                records_of=self.uri.records,
                on_command=self._on_command,
            ),
            self._pool,
            patience=self._limits.patience,
            tap=self._tap,
            on_ready=self._ready,
            on_settled=self._settled,
            on_failure=self._failed,
            on_end=self._ended,
        )
        self._connections[connection] = address
        self._by_address[address] += 1
        self._half_open[connection] = None
        self._make_room()
        self._report(Happening.OPENED, peer, connection)
        return connection

    def _room(self, address: str) -> bool:
        most = self._limits.per_address
        if most is not None and self._by_address[address] >= most:
            return False
        if len(self._connections) < self._most:
            return True
        # Whoever has shown nothing yet gives way to whoever may.
        return self._evict()

    def _make_room(self) -> None:
        while len(self._half_open) > self._limits.half_open:
            if not self._evict():
                return

    def _evict(self) -> bool:
        oldest = next(iter(self._half_open), None)
        if oldest is None:
            return False
        self._report(Happening.EVICTED, oldest.info.peer, oldest)
        error = TransportError("gave way to newer connections: its handshake was not over")
        self._forget(oldest)
        oldest.abort(error)
        return True

    def _forget(self, connection: AsyncConnection) -> None:
        address = self._connections.pop(connection, None)
        self._half_open.pop(connection, None)
        if address is None:
            return
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    # -- what connections tell ------------------------------------------------------------------

    def _ready(self, connection: AsyncConnection) -> None:
        conduit = connection.conduit
        if conduit.closing or conduit.framing.role is not Role.REQUESTER or self._handler is None:
            return
        task = asyncio.get_running_loop().create_task(self._handle(connection, self._handler))
        self._tasks[connection] = task

    async def _handle(self, connection: AsyncConnection, handler: Handler) -> None:
        """Be the requester of a device that dialled in."""
        peer = connection.info.peer
        try:
            await handler(connection)
        except SpdmError:
            # It concerns this device alone, and the handler had its chance to report it; the
            # event at the end of the connection tells why that ended.
            connection.abort()
        except Exception as error:  # noqa: BLE001  # a fault in serving one device is not another's
            self._report(Happening.FAILED, peer, connection, error)
            connection.abort()
        finally:
            self._tasks.pop(connection, None)
            with suppress(asyncio.CancelledError):
                await connection.close()

    def _settled(self, connection: AsyncConnection, settled: bool) -> None:
        if connection not in self._connections:
            return
        if settled:
            self._half_open.pop(connection, None)
        else:
            self._half_open[connection] = None
            self._make_room()

    def _failed(self, connection: AsyncConnection, error: Exception) -> None:
        self._report(Happening.FAILED, connection.info.peer, connection, error)

    def _ended(self, connection: AsyncConnection) -> None:
        self._forget(connection)
        conduit = connection.conduit
        self._learn(conduit)
        self._report(Happening.ENDED, connection.info.peer, connection, conduit.error)
        if conduit.goodbye is not None and conduit.goodbye.shutdown:
            self._report(Happening.SHUTDOWN_ASKED, connection.info.peer, connection)
            if self._stop_on_shutdown:
                self._stop.set()

    def _learn(self, conduit: Conduit) -> None:
        """Note the dialect of a device that dialled in, or that our guess was not it.

        A listener cannot dial again: when the device comes back, the other dialect gets its turn.
        """
        framing = conduit.framing
        if framing.name != "tcp" or self.uri.dialect or framing.role is not Role.REQUESTER:
            return
        address = _host_of(conduit.info.peer)
        now = time.monotonic()
        if framing.dialect is not None:
            self._memory.remember(address, framing.dialect, now)
        elif conduit.guess_failed:
            self._memory.remember(address, conduit.guess.other, now)

    def _report(
        self,
        what: Happening,
        peer: str,
        connection: AsyncConnection | None = None,
        error: BaseException | None = None,
    ) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(ListenerEvent(what, peer, connection, error))
        except Exception as fault:  # noqa: BLE001  # whoever listens to us must not stop us
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a listener's event sink failed", "exception": fault}
            )


def _host_of(peer: str) -> str:
    return peer.rpartition(":")[0] or peer


def bind(host: Host) -> list[socket.socket]:
    """Listening sockets for every address of a host, all on one port.

    Raises:
        TransportError: an address is in use, not ours, or does not resolve.
    """
    if not host.name:
        return [_bind_everywhere(host.port)]
    addresses = resolve(host)
    for _ in range(_SAME_PORT_TRIES):
        sockets: list[socket.socket] = []
        port = host.port
        try:
            for family, address in addresses:
                sockets.append(_bind_one(family, (address[0], port, *address[2:])))
                port = sockets[0].getsockname()[1]
        except OSError as error:
            for sock in sockets:
                sock.close()
            # The free port of one family may be taken in the other: try another one.
            if host.port == 0 and sockets and error.errno == errno.EADDRINUSE:
                continue
            raise TransportError(f"cannot listen on {host}: {error.strerror}") from error
        return sockets
    raise TransportError(f"no port is free on every address of {host.name}")


def _bind_one(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_everywhere(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise TransportError(f"cannot listen on port {port}: {error.strerror}") from error


async def listen(
    uri: str | EndpointUri,
    factory: EndpointFactory,
    *,
    roles: Collection[Role] = (Role.RESPONDER,),
    handler: Handler | None = None,
    limits: Limits | None = None,
    pool: WorkPool | None = None,
    memory: DialectMemory | None = None,
    stop_on_shutdown: bool = False,
    on_event: ListenerSink | None = None,
    on_command: CommandSink | None = None,
    tap: TapFactory | None = None,
) -> Listener:
    """Listen, and serve whoever connects.

    Args:
        uri: where; port 0 takes any free one, an empty host takes all addresses.
        factory: makes an endpoint for each connection, of the role it is told.
        roles: what we can be; with both, a connection's first frame decides.
        handler: runs exchanges on a connection whose requester we are; when it returns, the
            connection closes.
        limits: what peers may take.
        pool: runs the endpoints' jobs; the listener closes it.
        memory: remembers the dialects of devices that dial in.
        stop_on_shutdown: the emulator's SHUTDOWN ends `serve_forever`, not only its connection.
        on_event: told of connections that open, end, are refused or fail.
        on_command: told of the emulator's out-of-band commands.
        tap: sees all bytes, for a capture.

    Raises:
        ConfigurationError: the address is wrong, or a requester has no handler.
        TransportError: the address is in use, or not ours.
    """
    address = parse_uri(uri, listen=True) if isinstance(uri, str) else uri
    if Role.REQUESTER in roles and handler is None:
        raise ConfigurationError("a listener that can be the requester needs a handler")
    limits = limits or Limits()
    listener = Listener(
        address,
        factory,
        roles=roles,
        handler=handler,
        limits=limits,
        pool=pool or WorkPool(limit=limits.pending_work),
        memory=memory or DialectMemory(),
        stop_on_shutdown=stop_on_shutdown,
        on_event=on_event,
        on_command=on_command,
        tap=tap,
    )
    await listener.start()
    return listener
