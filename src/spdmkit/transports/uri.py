"""Endpoint addresses: where a peer is, and how to talk to it, in one line of text.

    tcp://host[:4194]                       DSP0287
    emu+tcp://host[:4194]                   spdm-emu's socket protocol
    emu+mctp://host[:2323]  emu+doe://host[:2323]  emu+none://host[:2323]
    mctp://NET/EID                          Linux AF_MCTP
    mctp+serial:///dev/ttyX                 DSP0253 framing over a tty

Query: `timeout=SECONDS` everywhere; `dialect=auto|strict|libspdm` and `records=tcp|mctp|auto` with
`tcp`; `end=continue|shutdown` and `hello=yes|no` with `emu+...`; with `mctp+serial` `eid=` (our
endpoint id), `peer=` (that of the other end), `mtu=` (bytes of a message in each packet), `baud=`,
and `pty=create`, which makes a pseudo terminal and a link to it at that path.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from spdmkit.errors import ConfigurationError
from spdmkit.transports.framing import Dialect

__all__ = [
    "ANY_EID",
    "DEFAULT_EMU_PORT",
    "DEFAULT_PORT",
    "EndpointUri",
    "Host",
    "MctpAddress",
    "Records",
    "SerialLine",
    "address_of",
    "parse_uri",
]

DEFAULT_PORT = 4194
"""The port that IANA assigned to SPDM over TCP (DSP0287 clause 5)."""
DEFAULT_EMU_PORT = 2323
"""Where spdm-emu serves every transport but TCP."""
ANY_EID = 0xFF
"""A listener's "every local endpoint" (MCTP_ADDR_ANY)."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?\Z")
_NUMERIC = re.compile(r"[0-9.]+\Z")
_EIDS = range(8, 0xFF)
"""Endpoint ids that can be assigned: 0 is null, 1 to 7 are reserved, 255 is broadcast (DSP0236)."""
_MTUS = range(64, 252)
"""From the baseline of DSP0236 to what DSP0253's length byte can count beside the header."""
_OF_THE_LINE = ("eid", "peer", "mtu", "baud", "pty")
_MAX_NETWORK = 0x7FFF_FFFF
_LONGEST_TIMEOUT = 86_400.0
_PORTS = range(0x1_0000)


class Records(enum.Enum):
    """Whose secured records a session has: those of the far end, not of the next hop."""

    TCP = "tcp"
    MCTP = "mctp"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Host:
    """An Internet address; `name` is empty for a listener on all of them."""

    name: str
    port: int

    @property
    def is_literal(self) -> bool:
        """The name is an IP address, which resolves without asking anybody."""
        return _is_literal(self.name)

    def __str__(self) -> str:
        return address_of(self.name, self.port)


def address_of(name: str, port: int) -> str:
    """An Internet address as text, "[::1]:4194" for example."""
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


@dataclass(frozen=True, slots=True)
class MctpAddress:
    """An MCTP endpoint: network number and endpoint id."""

    network: int
    eid: int

    def __str__(self) -> str:
        return f"{self.network}/{'any' if self.eid == ANY_EID else self.eid}"


@dataclass(frozen=True, slots=True)
class SerialLine:
    """A tty with an MCTP endpoint at its other end.

    Attributes:
        device: path of the tty.
        eid: our endpoint id; None: 8 for who asks, and for a device the id that it is assigned.
        baud: line speed, None to leave it as it is.
        peer: the endpoint id that the other end has or is given, None for either.
        mtu: transmission unit, bytes of a message in each packet; None is the baseline, 64.
        pty: make a pseudo terminal, with a symbolic link to it at `device`.
    """

    device: str
    eid: int | None = None
    baud: int | None = None
    peer: int | None = None
    mtu: int | None = None
    pty: bool = False

    def __str__(self) -> str:
        return self.device


@dataclass(frozen=True, slots=True)
class EndpointUri:
    """A parsed endpoint address; `str()` gives its canonical text.

    Attributes:
        scheme: "tcp", "emu+mctp", ...
        address: where.
        dialect: DSP0287 dialect, None for automatic.
        records: profile of secured records.
        timeout: seconds to wait for a connection and for an answer, None for the defaults.
        shutdown: ask the emulator to stop when we are done, instead of letting it go on.
        hello: open a conversation with the emulator by its TEST command.
    """

    scheme: str
    address: Host | MctpAddress | SerialLine
    dialect: Dialect | None = None
    records: Records = Records.TCP
    timeout: float | None = None
    shutdown: bool = False
    hello: bool = True

    @property
    def host(self) -> Host:
        """The Internet address.

        Raises:
            ConfigurationError: this scheme has none.
        """
        if not isinstance(self.address, Host):
            raise ConfigurationError(f"{self} has no host and port")
        return self.address

    def with_port(self, port: int) -> EndpointUri:
        """The same address with another port, for example the one a listener was given."""
        return replace(self, address=Host(self.host.name, port))

    def __str__(self) -> str:
        default = EndpointUri(self.scheme, self.address)
        query = []
        if self.dialect is not None:
            query.append(f"dialect={self.dialect.value}")
        if self.records is not default.records:
            query.append(f"records={self.records.value}")
        if self.timeout is not None:
            query.append(f"timeout={self.timeout:g}")
        if self.shutdown:
            query.append("end=shutdown")
        if not self.hello:
            query.append("hello=no")
        if isinstance(self.address, SerialLine):
            query += [
                f"{name}={value}"
                for name in ("eid", "baud", "peer", "mtu")
                if (value := getattr(self.address, name)) is not None
            ]
            query += ["pty=create"] if self.address.pty else []
        return f"{self.scheme}://{self.address}" + ("?" + "&".join(query) if query else "")


@functools.lru_cache(maxsize=1024)
def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _UriError(Exception):
    """What is wrong with a part of an address, and what to try."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@functools.lru_cache(maxsize=1024)
def parse_uri(text: str, *, listen: bool = False) -> EndpointUri:
    """Parse an endpoint address.

    Args:
        text: what a person typed.
        listen: it is an address to listen on: the host may be empty (all addresses), and port 0
            asks for any free port.

    Raises:
        ConfigurationError: naming what is wrong with it.
    """
    try:
        return _parse(text, listen=listen)
    except _UriError as fault:
        raise ConfigurationError(f"endpoint {text!r}: {fault}", hint=fault.hint) from None


def _parse(text: str, *, listen: bool) -> EndpointUri:
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in text):
        raise _UriError("white space or control characters do not belong here")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise _UriError("no scheme", f"write for example tcp://{text or 'HOST'}")
    if scheme not in _SCHEMES:
        raise _UriError(f"unknown scheme {scheme!r}", f"known are {', '.join(sorted(_SCHEMES))}")
    if "#" in rest:
        raise _UriError("'#' does not belong here")
    location, _, query = rest.partition("?")
    parse_location, keys = _SCHEMES[scheme]
    values = _query(query, keys)
    own: dict[str, Any] = {key: values.pop(key) for key in _OF_THE_LINE if key in values}
    return EndpointUri(scheme, parse_location(scheme, location, listen, own), **values)


# -- locations ----------------------------------------------------------------------------------


def _host_and_port(scheme: str, location: str, listen: bool, _own: dict[str, Any]) -> Host:
    authority, slash, path = location.partition("/")
    if slash and path:
        raise _UriError(f"a path ({'/' + path!r}) does not belong here")
    if "@" in authority:
        raise _UriError("a user name does not belong here")
    name, port = _split_port(authority)
    default = DEFAULT_PORT if scheme in ("tcp", "emu+tcp") else DEFAULT_EMU_PORT
    number = default if port is None else _number("port", port, _PORTS)
    if number == 0 and not listen:
        raise _UriError("port 0 can be listened on, not connected to")
    if not name and not listen:
        raise _UriError("no host")
    return Host(name, number)


def _split_port(authority: str) -> tuple[str, str | None]:
    if authority.startswith("["):
        literal, bracket, rest = authority[1:].partition("]")
        if not bracket:
            raise _UriError("'[' without ']'")
        if rest and not rest.startswith(":"):
            raise _UriError(f"{rest!r} after ']' is no port")
        return _ipv6(unquote(literal)), rest[1:] if rest else None
    if authority.count(":") > 1:
        raise _UriError("an IPv6 address stands in brackets", f"write [{authority}]")
    name, colon, port = authority.partition(":")
    return _name(name), port if colon else None


def _ipv6(literal: str) -> str:
    address, _, zone = literal.partition("%")
    try:
        canonical = str(ipaddress.IPv6Address(address))
    except ValueError:
        raise _UriError(f"{literal!r} is no IPv6 address") from None
    return f"{canonical}%{zone}" if zone else canonical


def _name(name: str) -> str:
    if not name:
        return ""
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        raise _UriError(f"{name!r} is no host name") from None
    if _NUMERIC.match(ascii_name):
        try:
            return str(ipaddress.IPv4Address(ascii_name))
        except ValueError:
            raise _UriError(f"{name!r} is no IPv4 address") from None
    if not _HOST_NAME.match(ascii_name):
        raise _UriError(f"{name!r} is no host name")
    return ascii_name


def _mctp(_scheme: str, location: str, listen: bool, _own: dict[str, Any]) -> MctpAddress:
    network, slash, eid = location.partition("/")
    if not slash or not network or not eid:
        raise _UriError("mctp needs a network and an endpoint id", "write for example mctp://1/9")
    number = _number("network", network, range(_MAX_NETWORK + 1))
    if eid == "any":
        if not listen:
            raise _UriError("'any' can be listened on, not connected to")
        return MctpAddress(number, ANY_EID)
    return MctpAddress(number, _number("endpoint id", eid, _EIDS))


def _serial(_scheme: str, location: str, _listen: bool, own: dict[str, Any]) -> SerialLine:
    if not location.startswith("/") or location == "/":
        raise _UriError("no tty", "write for example mctp+serial:///dev/ttyS1")
    return SerialLine(unquote(location), **own)


# -- query --------------------------------------------------------------------------------------


def _query(query: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for item in query.split("&") if query else ():
        key, _, value = item.partition("=")
        if key not in _QUERY:
            raise _UriError(f"unknown option {key!r}", f"known here are {', '.join(allowed)}")
        if key not in allowed:
            raise _UriError(f"option {key!r} means nothing here", f"known are {', '.join(allowed)}")
        if key in seen:
            raise _UriError(f"option {key!r} stands there twice")
        seen.add(key)
        name, read = _QUERY[key]
        values[name] = read(unquote(value))
    return values


def _number(what: str, text: str, allowed: range) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) not in allowed:
        raise _UriError(
            f"{what} {text!r} is not a number from {allowed.start} to {allowed.stop - 1}"
        )
    return int(text)


def _choice(what: str, choices: dict[str, Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text not in choices:
            raise _UriError(f"{what} is one of {', '.join(choices)}, not {text!r}")
        return choices[text]

    return read


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise _UriError(f"timeout {text!r} is not a number of seconds up to {_LONGEST_TIMEOUT:g}")
    return seconds


_QUERY: dict[str, tuple[str, Callable[[str], Any]]] = {
    "dialect": (
        "dialect",
        _choice("dialect", {"auto": None, **{dialect.value: dialect for dialect in Dialect}}),
    ),
    "records": ("records", _choice("records", {entry.value: entry for entry in Records})),
    "timeout": ("timeout", _timeout),
    "end": ("shutdown", _choice("end", {"continue": False, "shutdown": True})),
    "hello": ("hello", _choice("hello", {"yes": True, "no": False})),
    "eid": ("eid", lambda text: _number("endpoint id", text, _EIDS)),
    "peer": ("peer", lambda text: _number("endpoint id", text, _EIDS)),
    "mtu": ("mtu", lambda text: _number("mtu", text, _MTUS)),
    "pty": ("pty", _choice("pty", {"create": True})),
    "baud": ("baud", lambda text: _number("baud", text, range(1, 10_000_001))),
}
"""Option -> the field it sets and how its value is read."""

_Location = Callable[[str, str, bool, dict[str, Any]], Host | MctpAddress | SerialLine]
_EMU_KEYS = ("timeout", "end", "hello")
_SCHEMES: dict[str, tuple[_Location, tuple[str, ...]]] = {
    "tcp": (_host_and_port, ("dialect", "records", "timeout")),
    "emu+tcp": (_host_and_port, _EMU_KEYS),
    "emu+mctp": (_host_and_port, _EMU_KEYS),
    "emu+doe": (_host_and_port, _EMU_KEYS),
    "emu+none": (_host_and_port, _EMU_KEYS),
    "mctp": (_mctp, ("timeout",)),
    "mctp+serial": (_serial, ("timeout", *_OF_THE_LINE)),
}
"""Scheme -> how its location is read and which options it has."""
