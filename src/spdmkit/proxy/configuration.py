"""The proxy's configuration file: TOML, mistakes named with their line.

[proxy]
metrics = "127.0.0.1:9494"           # /metrics for Prometheus, /status as JSON
status_file = "/run/spdm-proxy.json" # the same as /status, written every few seconds
journal = "/var/log/spdm-proxy.jsonl"
allow = ["192.0.2.0/24"]             # who may connect to any device

[limits]                             # seconds, but for waiting: clients
waiting = 16
wait = 60
first = 10                           # until a client's first request
idle = 60
lease = 600
answer = 60
opening = 10

[[device]]
name = "nic"
to = "mctp+serial:///dev/ttyS1"
listen = "tcp://192.0.2.10:4194"     # or a list
dial = "tcp://verifier.example"      # reach-out; or a list
every = 300
allow = ["192.0.2.7"]

[[bus]]
name = "backplane"
to = "mctp://1"                      # or a serial line with a bridge; every endpoint below
                                     # that announces SPDM
eids = [9, "20-30"]
listen = "tcp://192.0.2.10"
first_port = 4200                    # an endpoint's port is this plus its id
rescan = 60
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.toml_lines import LineMap, parse_toml
from spdmkit.errors import ConfigurationError
from spdmkit.proxy.device import DeviceRoute, Network, parse_network
from spdmkit.proxy.leases import Limits
from spdmkit.transports.uri import EndpointUri, MctpAddress, SerialLine, parse_uri

__all__ = ["Bus", "ProxyConfiguration", "read_configuration"]

T = TypeVar("T")
D = TypeVar("D")
MAX_SIZE = 0x10_0000
_EIDS = range(8, 0xFF)
_LONGEST = 86_400.0
_DEVICE_SCHEMES = ("mctp", "mctp+serial", "emu+mctp")


@dataclass(frozen=True, slots=True)
class Bus:
    """Endpoints that are devices when they announce SPDM.

    Attributes:
        name: prefix of the devices' names.
        to: the network, with any endpoint's id in it, or the serial line with a bridge at its end.
        eids: endpoint ids to ask.
        listen: where to listen; its port is replaced.
        first_port: an endpoint's port is this plus its id.
        rescan: seconds between two rounds of asking.
        allow, limits: as for a device.
    """

    name: str
    to: EndpointUri
    eids: tuple[int, ...]
    listen: EndpointUri
    first_port: int
    rescan: float
    allow: tuple[Network, ...]
    limits: Limits

    def route(self, eid: int) -> DeviceRoute:
        """The device at an endpoint id."""
        return DeviceRoute(
            name=f"{self.name}-{eid}",
            to=replace(self.to, address=self._address(eid)),
            listen=(self.listen.with_port(self.first_port + eid),),
            allow=self.allow,
            limits=self.limits,
        )

    def _address(self, eid: int) -> MctpAddress | SerialLine:
        address = self.to.address
        if isinstance(address, SerialLine):
            return replace(address, peer=eid)
        if not isinstance(address, MctpAddress):
            raise ConfigurationError(f"{self.to} is no MCTP network")
        return replace(address, eid=eid)


@dataclass(frozen=True, slots=True)
class ProxyConfiguration:
    """What one process carries.

    Attributes:
        devices: the devices that are named.
        buses: where to look for more.
        metrics: (host, port) of the status page, or None.
        status_file: a file to keep the status in, or None.
        journal: a file to append the journal to, or None for standard error.
    """

    devices: tuple[DeviceRoute, ...]
    buses: tuple[Bus, ...] = ()
    metrics: tuple[str, int] | None = None
    status_file: Path | None = None
    journal: Path | None = None

    def shared_lines(self) -> frozenset[str]:
        """Paths of the ttys behind which there are several devices."""
        paths = Counter(
            device.to.address.device
            for device in self.devices
            if isinstance(device.to.address, SerialLine)
        )
        bridged = (bus.to.address for bus in self.buses)
        return frozenset(
            [path for path, count in paths.items() if count > 1]
            + [address.device for address in bridged if isinstance(address, SerialLine)]
        )


class _Table:
    """A table of the file; what is not read of it is a mistake."""

    def __init__(
        self, source: str, lines: LineMap, path: tuple[str | int, ...], values: object
    ) -> None:
        self._source = source
        self._lines = lines
        self._path = path
        if not isinstance(values, dict):
            raise self.wrong("must be a table")
        self._values: dict[str, Any] = dict(values)
        self._known: list[str] = []

    def wrong(self, what: str, key: str | None = None) -> ConfigurationError:
        """An error that names the line."""
        path = self._path if key is None else (*self._path, key)
        name = ".".join(str(part) for part in path if isinstance(part, str))
        return ConfigurationError(f"{self._source}:{self._lines.line(path)}: {name} {what}".strip())

    def take(self, key: str, read: Callable[[Any], T], default: D) -> T | D:
        """A value, read, or the default where there is none."""
        self._known.append(key)
        if key not in self._values:
            return default
        try:
            return read(self._values.pop(key))
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.wrong('is wrong', key)}: {error}") from None
        except (TypeError, ValueError) as error:
            raise self.wrong(str(error), key) from None

    def demand(self, key: str, read: Callable[[Any], T]) -> T:
        """A value that must be there."""
        found = self.take(key, lambda value: (read(value),), None)
        if found is None:
            raise self.wrong(f"needs {key}")
        return found[0]

    def end(self) -> None:
        """Nothing may be left.

        Raises:
            ConfigurationError: a key that means nothing, with one that may be meant.
        """
        for key in self._values:
            near = difflib.get_close_matches(key, self._known, 1)
            meant = (
                f", did you mean {near[0]}?" if near else f"; known are {', '.join(self._known)}"
            )
            raise self.wrong(f"means nothing here{meant}", key)


# -- values ---------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("must be text")
    return value


def _seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= _LONGEST:
        raise ValueError(f"must be a number of seconds up to {_LONGEST:g}")
    return float(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10_000:
        raise ValueError("must be a number from 0 to 10000")
    return value


def _several(read: Callable[[str], T]) -> Callable[[Any], tuple[T, ...]]:
    def each(value: Any) -> tuple[T, ...]:
        return tuple(read(_text(one)) for one in (value if isinstance(value, list) else [value]))

    return each


def _network(value: str) -> Network:
    try:
        return parse_network(value)
    except ValueError as error:
        raise ValueError(f"must hold addresses or networks: {error}") from None


def tcp_address(text: str, *, listen: bool) -> EndpointUri:
    """An address of a verifier, or for verifiers.

    Raises:
        ConfigurationError: it is none.
    """
    uri = parse_uri(text, listen=listen)
    if uri.scheme != "tcp":
        raise ConfigurationError(f"verifiers are reached by tcp://, not by {uri.scheme}://")
    return uri


def device_address(text: str) -> EndpointUri:
    """An address of a device.

    Raises:
        ConfigurationError: it is none, or no MCTP carries it.
    """
    uri = parse_uri(text)
    if uri.scheme not in _DEVICE_SCHEMES:
        raise ConfigurationError(
            f"devices are reached by {', '.join(_DEVICE_SCHEMES)}, not by {uri.scheme}"
        )
    return uri


def page_address(text: str) -> tuple[str, int]:
    """HOST:PORT of the status page.

    Raises:
        ConfigurationError: it is none.
    """
    host = parse_uri(f"tcp://{text}", listen=True).host
    return host.name or "127.0.0.1", host.port


def _eids(value: Any) -> tuple[int, ...]:
    found: list[int] = []
    for one in value if isinstance(value, list) else [value]:
        first, _, last = str(one).partition("-")
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            raise ValueError('must hold endpoint ids and ranges of them, as in [9, "20-30"]')
        span = range(int(first), int(last or first) + 1)
        if not span or span[0] not in _EIDS or span[-1] not in _EIDS:
            raise ValueError(f"holds {one}; endpoint ids are from 8 to 254")
        found += span
    return tuple(dict.fromkeys(found))


def _bus_address(value: Any) -> EndpointUri:
    text = _text(value)
    if text.startswith("mctp+serial://"):
        uri = parse_uri(text)
        if "peer=" in text:
            raise ValueError("must not name one endpoint: eids names those to ask")
        return uri
    number = text.removeprefix("mctp://").rstrip("/")
    if not text.startswith("mctp://") or not number.isdigit():
        raise ValueError('must be an MCTP network or a serial line, as in "mctp://1"')
    return parse_uri(f"mctp://{number}/{_EIDS[0]}")


def _port(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 0xFFFF - 0xFE:
        raise ValueError("must be a port from 1 to 65281, so that an id can be added")
    return value


# -- tables ---------------------------------------------------------------------------------------


def _limits(table: _Table, base: Limits) -> Limits:
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(Limits)):
        read: Callable[[Any], Any] = _count if name == "waiting" else _seconds
        values[name] = table.take(name, read, getattr(base, name))
    table.end()
    return Limits(**values)


def _device(table: _Table, allow: tuple[Network, ...], limits: Limits) -> DeviceRoute:
    to = table.demand("to", lambda value: device_address(_text(value)))
    none: tuple[EndpointUri, ...] = ()
    listen = table.take("listen", _several(lambda text: tcp_address(text, listen=True)), none)
    dial = table.take("dial", _several(lambda text: tcp_address(text, listen=False)), none)
    if not listen and not dial:
        raise table.wrong("needs listen or dial")
    route = DeviceRoute(
        name=table.take("name", _text, str(to)),
        to=to,
        listen=listen,
        dial=dial,
        every=table.take("every", _seconds, 300.0),
        allow=table.take("allow", _several(_network), allow),
        limits=limits,
    )
    table.end()
    return route


def _bus(table: _Table, allow: tuple[Network, ...], limits: Limits) -> Bus:
    to = table.demand("to", _bus_address)
    bus = Bus(
        name=table.take("name", _text, str(to).partition("?")[0]),
        to=to,
        eids=table.demand("eids", _eids),
        listen=table.demand("listen", lambda value: tcp_address(_text(value), listen=True)),
        first_port=table.demand("first_port", _port),
        rescan=table.take("rescan", _seconds, 60.0),
        allow=table.take("allow", _several(_network), allow),
        limits=limits,
    )
    table.end()
    return bus


def parse_configuration(data: bytes, source: str) -> ProxyConfiguration:
    """Read a configuration.

    Args:
        data: the file's bytes.
        source: its name, for errors.

    Raises:
        ConfigurationError: beginning with "source:line:".
    """
    values, lines = parse_toml(data, source)
    root = _Table(source, lines, (), values)
    proxy = _Table(source, lines, ("proxy",), root.take("proxy", _as_it_is, {}))
    nobody: tuple[Network, ...] = ()
    allow = proxy.take("allow", _several(_network), nobody)
    metrics = proxy.take("metrics", lambda value: page_address(_text(value)), None)
    status_file = proxy.take("status_file", lambda value: Path(_text(value)), None)
    journal = proxy.take("journal", lambda value: Path(_text(value)), None)
    proxy.end()
    limits = _limits(
        _Table(source, lines, ("limits",), root.take("limits", _as_it_is, {})), Limits()
    )
    none: list[Any] = []
    devices = tuple(
        _device(_Table(source, lines, ("device", number), each), allow, limits)
        for number, each in enumerate(root.take("device", _tables, none))
    )
    buses = tuple(
        _bus(_Table(source, lines, ("bus", number), each), allow, limits)
        for number, each in enumerate(root.take("bus", _tables, none))
    )
    root.end()
    if not devices and not buses:
        raise ConfigurationError(f"{source}: no [[device]] and no [[bus]]")
    _all_different(devices, source, lines)
    found = ProxyConfiguration(devices, buses, metrics, status_file, journal)
    shared = found.shared_lines()
    for number, device in enumerate(devices):
        address = device.to.address
        if isinstance(address, SerialLine) and address.peer is None and address.device in shared:
            line = lines.line(("device", number, "to"))
            raise ConfigurationError(f"{source}:{line}: several devices on one line need peer=")
    return found


def _as_it_is(value: Any) -> Any:
    return value


def _tables(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("must be tables: write [[...]]")
    return value


def _all_different(devices: Iterable[DeviceRoute], source: str, lines: LineMap) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, device in enumerate(devices):
        keys = [("to", _endpoint_of(device)), ("name", device.name)]
        keys += [("listen", str(uri.address)) for uri in device.listen if uri.host.port]
        for key in keys:
            if key in seen:
                line = lines.line(("device", number, key[0]))
                raise ConfigurationError(
                    f"{source}:{line}: {key[0]} {key[1]} belongs to device {seen[key] + 1} already"
                )
            seen[key] = number


def _endpoint_of(device: DeviceRoute) -> str:
    """What no two devices may have: several on one line have an id each."""
    address = device.to.address
    peer = address.peer if isinstance(address, SerialLine) else None
    return str(address) if peer is None else f"{address} endpoint {peer}"


def read_configuration(path: Path) -> ProxyConfiguration:
    """Read a configuration file.

    Raises:
        ConfigurationError: it cannot be read, or is wrong; the line is named.
    """
    return parse_configuration(read_bounded(path, MAX_SIZE), str(path))
