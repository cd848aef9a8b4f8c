"""Which schemes can be dialled and listened on, and by what. Later modules add theirs here."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import NamedTuple, Protocol

from spdmkit.errors import ConfigurationError
from spdmkit.transports.emu import EmuCommand, EmuFraming, EmuTransport
from spdmkit.transports.framing import MAX_FRAME, Dialect, Framing, Role, Side
from spdmkit.transports.tcp import TcpBinding
from spdmkit.transports.uri import EndpointUri, Host, Records

__all__ = [
    "Acceptor",
    "Line",
    "TransportFactory",
    "Wire",
    "available_schemes",
    "framing_for",
    "is_socket_scheme",
    "register_transport",
    "transport_for",
]


class Wire(Protocol):
    """What the drivers need of a connected thing that carries bytes or datagrams.

    It never blocks: `recv` and `send` raise BlockingIOError when they would, OSError when it is
    broken. A non-blocking `socket.socket` is one. A wire of datagrams gives and takes one whole
    datagram a call; its framing knows.
    """

    def fileno(self) -> int:
        """The descriptor to wait on."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty when the peer ended."""
        ...

    def send(self, data: bytes | memoryview, /) -> int:
        """Send some of `data`; how much of it went."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class Line(NamedTuple):
    """One connection as a transport hands it over.

    Attributes:
        wire: its descriptor.
        framing: its framing, nothing sent or received yet.
        local: our address as text.
        peer: the peer's address as text.
    """

    wire: Wire
    framing: Framing
    local: str
    peer: str


class Acceptor(Protocol):
    """What listens."""

    @property
    def uri(self) -> EndpointUri:
        """Where it really listens."""
        ...

    def fileno(self) -> int:
        """The descriptor that is readable when `accept` may have something."""
        ...

    def accept(self) -> Line | None:
        """The next connection, or None; never blocks."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class TransportFactory(Protocol):
    """What `register_transport` takes."""

    def dial(self, uri: EndpointUri, *, role: Role, timeout: float) -> Line:
        """Connect; may block up to `timeout` seconds.

        Raises:
            SpdmError: it cannot be done.
        """
        ...

    def listen(self, uri: EndpointUri, *, roles: Collection[Role]) -> Acceptor:
        """Start to listen.

        Raises:
            SpdmError: it cannot be done.
        """
        ...


_EMU_TRANSPORTS = {f"emu+{transport.name.lower()}": transport for transport in EmuTransport}
_SOCKET_SCHEMES = frozenset({"tcp", *_EMU_TRANSPORTS})
_factories: dict[str, TransportFactory] = {}


def register_transport(scheme: str, factory: TransportFactory) -> None:
    """Make a scheme usable by `connect` and `listen`.

    Raises:
        ConfigurationError: the scheme has a transport already.
    """
    if scheme in _SOCKET_SCHEMES or scheme in _factories:
        raise ConfigurationError(f"there is a transport for {scheme}:// already")
    _factories[scheme] = factory


def is_socket_scheme(scheme: str) -> bool:
    """True for what runs over TCP sockets, which the drivers open themselves."""
    return scheme in _SOCKET_SCHEMES


def available_schemes() -> list[str]:
    """The schemes that can be used now."""
    return sorted(_SOCKET_SCHEMES | set(_factories) | set(_BUILT_IN))


def transport_for(uri: EndpointUri) -> TransportFactory:
    """The transport registered for an address.

    Raises:
        ConfigurationError: none is; names those that are.
    """
    factory = _factories.get(uri.scheme) or _built_in(uri.scheme)
    if factory is None:
        raise ConfigurationError(
            f"no transport for {uri.scheme}:// is available",
            hint=f"available are {', '.join(available_schemes())}",
        )
    return factory


_BUILT_IN = {"mctp": "KernelTransport", "mctp+serial": "SerialTransport"}
"""Scheme -> class in `spdmkit.transports.mctp.transport`, loaded when it is asked for."""


def _built_in(scheme: str) -> TransportFactory | None:
    name = _BUILT_IN.get(scheme)
    if name is None:
        return None
    module = importlib.import_module("spdmkit.transports.mctp.transport")
    factory: TransportFactory = getattr(module, name)()
    return factory


def framing_for(
    uri: EndpointUri,
    side: Side,
    roles: Collection[Role],
    *,
    guess: Dialect | None = None,
    max_frame: int = MAX_FRAME,
) -> Framing:
    """The framing of a connection over a TCP socket.

    Args:
        uri: what was dialled or listened on.
        side: who opened the connection.
        roles: roles we can take.
        guess: dialect to start with while the peer's is not known.
        max_frame: largest message or record accepted, in bytes.

    Raises:
        ConfigurationError: the scheme cannot have these roles.
    """
    if not isinstance(uri.address, Host):
        raise ConfigurationError(f"{uri} is not reached over a socket")
    try:
        if uri.scheme == "tcp":
            return TcpBinding(
                side,
                roles,
                dialect=uri.dialect,
                guess=guess or Dialect.STRICT,
                max_frame=max_frame,
                sequence_sizes=_SEQUENCE_SIZES[uri.records],
            )
        return EmuFraming(
            _EMU_TRANSPORTS[uri.scheme],
            side,
            roles,
            hello=uri.hello,
            ending=EmuCommand.SHUTDOWN if uri.shutdown else EmuCommand.CONTINUE,
            max_frame=max_frame,
        )
    except ValueError as error:
        raise ConfigurationError(f"{uri}: {error}") from None


_SEQUENCE_SIZES = {Records.TCP: (0,), Records.MCTP: (2,), Records.AUTO: (0, 2)}
"""Sequence number bytes on the wire by record profile (DSP0287 6.5, DSP0276)."""
