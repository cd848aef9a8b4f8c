"""How `mctp://` and `mctp+serial://` are dialled and listened on."""

from __future__ import annotations

from collections.abc import Collection

from spdmkit.errors import ConfigurationError
from spdmkit.transports.framing import Role
from spdmkit.transports.mctp.control import EidStatus
from spdmkit.transports.mctp.framing import MctpSerialFraming
from spdmkit.transports.mctp.kernel import Calls, KernelRequester, KernelResponder
from spdmkit.transports.mctp.messages import MctpMessageFraming
from spdmkit.transports.mctp.packets import BASELINE_UNIT, NULL_EID
from spdmkit.transports.mctp.retry import RetryRule
from spdmkit.transports.mctp.single import SingleLineAcceptor
from spdmkit.transports.mctp.tty import Tty, create_pty, open_tty
from spdmkit.transports.registry import Line, Wire
from spdmkit.transports.uri import EndpointUri, MctpAddress, SerialLine

__all__ = ["KernelTransport", "SerialTransport", "requester_framing"]

_BITS_PER_BYTE = 10
"""A byte on a serial line: a start bit, eight bits, a stop bit."""


def _requester_dials(role: Role) -> None:
    if role is not Role.REQUESTER:
        raise ConfigurationError("over MCTP the requester is who dials")


def _responder_listens(roles: Collection[Role]) -> None:
    if set(roles) != {Role.RESPONDER}:
        raise ConfigurationError("over MCTP only a responder listens")


class SerialTransport:
    """`mctp+serial://`: DSP0253 on a tty."""

    def dial(self, uri: EndpointUri, *, role: Role, timeout: float) -> Line:  # noqa: ARG002  # opening a tty takes no time
        """Open the tty as its requester and bus owner."""
        _requester_dials(role)
        address = _serial(uri)
        line = _open(address)
        framing = requester_framing(address)
        return Line(line, framing, f"mctp:{framing.station.status.eid}", address.device)

    def listen(self, uri: EndpointUri, *, roles: Collection[Role]) -> SingleLineAcceptor:
        """Open the tty as the responder at its end."""
        _responder_listens(roles)
        address = _serial(uri)
        # What a bus owner assigned lasts as long as the line.
        status = EidStatus(address.eid or NULL_EID, static=address.eid is not None)

        def line(wire: Wire) -> Line:
            framing = MctpSerialFraming(
                Role.RESPONDER, unit=address.mtu or BASELINE_UNIT, status=status
            )
            return Line(wire, framing, address.device, f"{address.device}:mctp")

        return SingleLineAcceptor(uri, _open(address), line)


class KernelTransport:
    """`mctp://`: AF_MCTP sockets of Linux."""

    def __init__(self, calls: Calls | None = None) -> None:
        """Use these system calls; the real ones by default."""
        self._calls = calls

    def dial(self, uri: EndpointUri, *, role: Role, timeout: float) -> Line:  # noqa: ARG002  # a datagram socket needs no time
        """Open a socket for requests to an endpoint."""
        _requester_dials(role)
        address = _mctp(uri)
        wire = KernelRequester(address, self._calls)
        return Line(wire, MctpMessageFraming(role), "mctp", f"mctp:{address}")

    def listen(self, uri: EndpointUri, *, roles: Collection[Role]) -> SingleLineAcceptor:
        """Bind sockets for both message types."""
        _responder_listens(roles)
        address = _mctp(uri)

        def line(wire: Wire) -> Line:
            return Line(wire, MctpMessageFraming(Role.RESPONDER), f"mctp:{address}", "mctp:peer")

        return SingleLineAcceptor(uri, KernelResponder(address, self._calls), line)


def requester_framing(address: SerialLine, *, assigns: bool = True) -> MctpSerialFraming:
    """The framing of a requester on a serial line.

    Args:
        address: the line and its options.
        assigns: assign the other end's endpoint id where it needs one.
    """
    return MctpSerialFraming(
        Role.REQUESTER,
        eid=address.eid,
        peer=address.peer,
        assigns=assigns,
        unit=address.mtu or BASELINE_UNIT,
        rule=_rule(address),
    )


def _open(address: SerialLine) -> Tty:
    return create_pty(address.device) if address.pty else open_tty(address.device, address.baud)


def _rule(address: SerialLine) -> RetryRule:
    rule = RetryRule()
    if address.baud:
        # A request of 4 KiB and its answer of as much must have the time to be on the line.
        rule.round_trip += 2 * 4096 * _BITS_PER_BYTE / address.baud
    return rule


def _serial(uri: EndpointUri) -> SerialLine:
    if not isinstance(uri.address, SerialLine):
        raise ConfigurationError(f"{uri} is no serial line")
    return uri.address


def _mctp(uri: EndpointUri) -> MctpAddress:
    if not isinstance(uri.address, MctpAddress):
        raise ConfigurationError(f"{uri} is no MCTP endpoint")
    return uri.address
