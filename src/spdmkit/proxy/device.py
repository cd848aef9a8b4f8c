"""One device: where it is listened for, who has it now, who waits, and whom it calls.

The order of a lease: the device is reached first, then the client is read. A client whose device
is not there is closed without a byte, which is all that the binding has to say about it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from spdmkit.errors import SpdmError, TransportError
from spdmkit.proxy.bus import SerialBuses
from spdmkit.proxy.carriage import Carriage, Ending
from spdmkit.proxy.client import Client
from spdmkit.proxy.discovery import discover
from spdmkit.proxy.figures import DeviceFigures
from spdmkit.proxy.journal import Journal
from spdmkit.proxy.leases import Limits, WaitingRoom
from spdmkit.proxy.line import DeviceLine, open_line, open_socket
from spdmkit.proxy.watching import watched
from spdmkit.transports.conduit import TapFactory
from spdmkit.transports.dial import address_text
from spdmkit.transports.framing import Side
from spdmkit.transports.server import bind
from spdmkit.transports.uri import EndpointUri

__all__ = ["DeviceRoute", "Network", "ProxiedDevice", "parse_network"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

BACKLOG = 64
BURST = 16
ACCEPT_PAUSE = 0.5
FIRST_RETRY = 2.0
"""Seconds before a verifier that could not be reached is tried again; doubled each time."""
LONGEST_RETRY = 300.0
CLOSING = 2.0


def parse_network(text: str) -> Network:
    """An address or a network of them: "192.0.2.7", "2001:db8::/32".

    Raises:
        ValueError: it is neither.
    """
    return ipaddress.ip_network(text.strip(), strict=False)


@dataclass(frozen=True, slots=True)
class DeviceRoute:
    """How one device is reached from both sides.

    Attributes:
        name: for people and metrics.
        to: the device's address.
        listen: where verifiers connect.
        dial: verifiers to connect to (reach-out).
        every: seconds between two calls to the same verifier.
        allow: source addresses that may connect; empty allows all.
        limits: what clients may take.
        taps: see all bytes of connections accepted and made, for a capture.
    """

    name: str
    to: EndpointUri
    listen: tuple[EndpointUri, ...] = ()
    dial: tuple[EndpointUri, ...] = ()
    every: float = 300.0
    allow: tuple[Network, ...] = ()
    limits: Limits = field(default_factory=Limits)
    taps: tuple[TapFactory | None, TapFactory | None] = (None, None)


@dataclass(eq=False, slots=True)
class _Visitor:
    """Who wants the device: a connection that was accepted, or a verifier to be called.

    Attributes:
        name: the address, as text.
        sock: the connection, unread; None while a verifier is still to be called.
        uri: the listener's address or the verifier's, for its dialect.
        over: done when the lease is over, or refused (with the reason).
    """

    name: str
    uri: EndpointUri
    sock: socket.socket | None = None
    over: asyncio.Future[str] | None = None

    def dismiss(self, reason: str) -> None:
        """Close what there is, unread."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        self.settle(reason)

    def settle(self, reason: str) -> None:
        """Tell whoever waits for the end of it; an empty reason is a good end."""
        if self.over is not None and not self.over.done():
            self.over.set_result(reason)

    def has_left(self) -> bool:
        """The client closed its connection while it waited."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))


class ProxiedDevice:
    """A device and everybody who wants it.

    Attributes:
        route: its configuration.
        figures: what was carried.
        uris: where it is listened for, with real ports.
    """

    def __init__(
        self, route: DeviceRoute, journal: Journal, buses: SerialBuses | None = None
    ) -> None:
        """Nothing is listened on yet.

        Args:
            route: its configuration.
            journal: where to write what happens.
            buses: serial lines that it may share with others.
        """
        self._buses = buses
        self.route = route
        self.figures = DeviceFigures(route.name, str(route.to))
        self.uris: list[EndpointUri] = []
        self._journal = journal
        self._room: WaitingRoom[_Visitor] = WaitingRoom(route.limits)
        self._sockets: list[tuple[socket.socket, EndpointUri]] = []
        self._lease: asyncio.Task[None] | None = None
        self._carriage: Carriage | None = None
        self._calls: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    # -- starting and stopping ------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and call verifiers.

        Raises:
            TransportError: an address is in use, or not ours.
        """
        loop = asyncio.get_running_loop()
        for uri in self.route.listen:
            sockets = await loop.run_in_executor(None, bind, uri.host)
            bound = uri.with_port(sockets[0].getsockname()[1])
            self.uris.append(bound)
            for sock in sockets:
                sock.setblocking(False)
                sock.listen(BACKLOG)
                self._sockets.append((sock, bound))
                loop.add_reader(sock.fileno(), self._accept, sock, bound)
            self._journal.write("listening", device=self.route.name, on=str(bound))
        for uri in self.route.dial:
            self._calls.append(loop.create_task(self._call_again_and_again(uri)))

    async def close(self) -> None:
        """Stop everything; what is under way ends at once."""
        self._closing = True
        loop = asyncio.get_running_loop()
        for sock, _uri in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        if self._timer is not None:
            self._timer.cancel()
        for call in self._calls:
            call.cancel()
        for visitor in self._room.clear():
            visitor.dismiss("the proxy is stopping")
        if self._carriage is not None:
            self._carriage.stop()
        tasks = [*self._calls, *([self._lease] if self._lease is not None else [])]
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=CLOSING + 1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- who comes ------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket, uri: EndpointUri) -> None:
        for _ in range(BURST):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._pause(listening, uri, error)
                return
            sock.setblocking(False)
            self._welcome(_Visitor(address_text(address), uri, sock), address)

    def _pause(self, listening: socket.socket, uri: EndpointUri, error: OSError) -> None:
        """Out of descriptors: leave the rest to the kernel for now."""
        self._journal.write("cannot-accept", device=self.route.name, why=str(error))
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def again() -> None:
            if listening.fileno() >= 0:
                loop.add_reader(listening.fileno(), self._accept, listening, uri)

        loop.call_later(ACCEPT_PAUSE, again)

    def _welcome(self, visitor: _Visitor, address: Sequence[object]) -> None:
        if not self._allowed(str(address[0])):
            self._refuse(visitor, "address", "its address is not allowed")
        else:
            self._offer(visitor)

    def _allowed(self, text: str) -> bool:
        if not self.route.allow:
            return True
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.route.allow)

    def _refuse(self, visitor: _Visitor, reason: str, detail: str) -> None:
        self.figures.refused[reason] += 1
        self._journal.write("refused", device=self.route.name, client=visitor.name, why=detail)
        visitor.dismiss(detail)

    def _offer(self, visitor: _Visitor) -> None:
        """Lease the device to whoever comes, or let them wait."""
        if self._lease is None and not self._closing:
            self._begin(visitor)
        elif self._closing or not self._enter(visitor):
            self._refuse(visitor, "queue", "too many wait for the device")

    def _enter(self, visitor: _Visitor) -> bool:
        now = time.monotonic()
        if self._room.enter(visitor, now):
            self._waiting_changed(now)
            return True
        # Those who have left by themselves need no place.
        for other in [each for each in self._room.visitors() if each.has_left()]:
            self._room.leave(other)
            other.dismiss("it left")
        return self._room.enter(visitor, now)

    def _waiting_changed(self, now: float) -> None:
        self.figures.waiting = len(self._room)
        deadline = self._room.next_deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(deadline - now, 0.0), self._waited_enough)

    def _waited_enough(self) -> None:
        self._timer = None
        now = time.monotonic()
        for visitor in self._room.expired(now):
            self._refuse(visitor, "wait", "it waited too long for the device")
        self._waiting_changed(now)

    async def look(self) -> None:
        """Find out whether the device is there, unless somebody has it already."""
        if self._lease is not None or self._closing:
            return
        self._lease = asyncio.get_running_loop().create_task(self._look())
        await asyncio.wait([self._lease])

    async def _look(self) -> None:
        try:
            found = await discover(self.route.to, self.route.limits.opening, buses=self._buses)
        except SpdmError as error:
            self._found(up=False, why=str(error))
        else:
            self._found(up=True, eid=found.eid or None)
        finally:
            self._lease = None
            if not self._closing:
                self._next()

    # -- a lease --------------------------------------------------------------------------------

    def _begin(self, visitor: _Visitor) -> None:
        self.figures.leased_by = visitor.name
        self._lease = asyncio.get_running_loop().create_task(self._serve(visitor))

    async def _serve(self, visitor: _Visitor) -> None:
        """One lease from its beginning to its end, and the call to who is next."""
        began = time.monotonic()
        try:
            ending = await self._lend(visitor)
            self._note_end(visitor, ending, began)
            visitor.settle("" if ending.reason == "client" else ending.detail)
        except Exception as error:  # noqa: BLE001  # a fault of ours in one lease is not the next one's
            self.figures.failures["fault"] += 1
            why = f"{type(error).__name__}: {error}"
            self._journal.write("fault", device=self.route.name, client=visitor.name, why=why)
        finally:
            visitor.dismiss("stopped")
            self.figures.leased_by = ""
            self._lease = None
            self._carriage = None
            if not self._closing:
                self._next()

    def _next(self) -> None:
        now = time.monotonic()
        for visitor in self._room.expired(now):
            self._refuse(visitor, "wait", "it waited too long for the device")
        following = self._room.call()
        while following is not None and following.has_left():
            following.dismiss("it left")
            following = self._room.call()
        self._waiting_changed(now)
        if following is not None:
            self._begin(following)

    async def _lend(self, visitor: _Visitor) -> Ending:
        limits = self.route.limits
        try:
            line = await open_line(self.route.to, limits.opening, self.route.taps[1], self._buses)
        except SpdmError as error:
            self._found(up=False, why=str(error))
            return Ending("unreachable", str(error))
        self._found(up=True, eid=line.eid)
        client: Client | None = None
        try:
            client = await self._connected(visitor)
            self.figures.leases += 1
            self._journal.write("lease-began", device=self.route.name, client=visitor.name)
            self._carriage = Carriage(client, line, limits, self.figures, self._journal)
            self._carriage.start()
            if self._closing:
                self._carriage.stop()
            ending = await self._carriage.ended
        except SpdmError as error:
            ending = Ending("verifier", str(error))
        except BaseException:
            # Whatever it is: neither side may stay open because of it.
            line.abort()
            if client is not None:
                client.abort()
            raise
        await self._part(client, line, ending)
        return ending

    async def _part(self, client: Client | None, line: DeviceLine, ending: Ending) -> None:
        """Close both sides, and wait until both are."""
        self.figures.retries += line.retries
        if client is not None:
            client.close()
        if ending.device_lost:
            line.abort()
            await asyncio.wait([line.closed], timeout=CLOSING)
        else:
            await line.close()
        if client is not None:
            await asyncio.wait([client.closed], timeout=CLOSING)
            client.abort()

    async def _connected(self, visitor: _Visitor) -> Client:
        """The client's connection: as it was accepted, or made now."""
        loop = asyncio.get_running_loop()
        sock, visitor.sock = visitor.sock, None
        side = Side.LISTENER
        if sock is None:
            side = Side.INITIATOR
            sock = await open_socket(visitor.uri.host, self.route.limits.opening)
        client = Client(side, dialect=visitor.uri.dialect)
        accepted, made = self.route.taps
        try:
            if side is Side.LISTENER:
                await loop.connect_accepted_socket(lambda: watched(client, accepted), sock)
            else:
                await loop.create_connection(lambda: watched(client, made), sock=sock)
        except OSError as error:
            sock.close()
            raise TransportError(f"the connection broke: {error}") from error
        return client

    def _found(self, *, up: bool, why: str | None = None, eid: int | None = None) -> None:
        if self.figures.up is not up:
            self._journal.write(
                "device-up" if up else "device-down",
                device=self.route.name,
                to=str(self.route.to),
                why=why,
                eid=eid,
            )
        self.figures.up = up

    def _note_end(self, visitor: _Visitor, ending: Ending, began: float) -> None:
        carriage = self._carriage
        seconds = time.monotonic() - began
        self.figures.lease_seconds += seconds
        if ending.reason not in ("client", "stopped"):
            self.figures.failures[ending.reason] += 1
        self._journal.write(
            "lease-ended",
            device=self.route.name,
            client=visitor.name,
            reason=ending.reason,
            why=ending.detail,
            seconds=round(seconds, 6),
            requests=carriage.requests if carriage else 0,
            bytes=carriage.octets if carriage else 0,
        )

    # -- reach-out ------------------------------------------------------------------------------

    async def _call_again_and_again(self, uri: EndpointUri) -> None:
        """Call a verifier at intervals; sooner, but ever more rarely, while it is not there."""
        retry = FIRST_RETRY
        while True:
            over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            visitor = _Visitor(str(uri.host), uri, over=over)
            self._journal.write("calling", device=self.route.name, verifier=visitor.name)
            self._offer(visitor)
            failed = await over
            if failed:
                pause = retry
                retry = min(retry * 2, LONGEST_RETRY, max(self.route.every, FIRST_RETRY))
            else:
                pause, retry = self.route.every, FIRST_RETRY
            # Not all devices of a rack at the same moment.
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311  # no secret
