"""MCTP control messages (DSP0236 11, 12): what an endpoint answers, what a bus owner asks.

type 0x00 | Rq D - instance(5) | command | request data, or completion code and response data

Functions that ask and read are the bus owner's; `respond` is the endpoint's.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from spdmkit.errors import PeerError, ProtocolViolation

__all__ = [
    "CONTROL",
    "SECURED",
    "SPDM",
    "Command",
    "Completion",
    "EidStatus",
    "answers",
    "get_endpoint_id",
    "get_message_types",
    "get_version_support",
    "read_endpoint_id",
    "read_message_types",
    "read_response",
    "read_set_endpoint_id",
    "read_versions",
    "respond",
    "set_endpoint_id",
]

CONTROL, SPDM, SECURED = 0x00, 0x05, 0x06
"""Message types (DSP0239)."""
_REQUEST, _DATAGRAM, _INSTANCE = 0x80, 0x40, 0x1F
_HEAD = 3
MAX_VERSIONS = 32
MAX_TYPES = 64
ASSIGNABLE = range(8, 0xFF)
"""Endpoint ids that can be assigned: 0 is null, 1 to 7 are reserved, 255 is broadcast."""


class Command(enum.IntEnum):
    """Control commands spoken here."""

    SET_ENDPOINT_ID = 0x01
    GET_ENDPOINT_ID = 0x02
    GET_VERSION_SUPPORT = 0x04
    GET_MESSAGE_TYPES = 0x05


class Completion(enum.IntEnum):
    """Completion codes of a response."""

    SUCCESS = 0x00
    ERROR = 0x01
    INVALID_DATA = 0x02
    INVALID_LENGTH = 0x03
    NOT_READY = 0x04
    UNSUPPORTED = 0x05
    TYPE_NOT_SUPPORTED = 0x80
    """Of Get MCTP Version Support: that message type is not spoken here."""


@dataclass(slots=True)
class EidStatus:
    """What an endpoint says of its id.

    Attributes:
        eid: its id now, 0 for none.
        static: it came with that id.
    """

    eid: int
    static: bool = False


VERSIONS: dict[int, tuple[tuple[int, int, int, int], ...]] = {
    0xFF: ((0xF1, 0xF3, 0xF1, 0x00),),
    CONTROL: ((0xF1, 0xF3, 0xF1, 0x00),),
    SPDM: ((0xF1, 0xF0, 0xF2, 0x00),),
    SECURED: ((0xF1, 0xF3, 0xF0, 0x00),),
}
"""Message type -> versions of its binding, as on the wire: DSP0236 1.3.1, DSP0275 1.0.2,
DSP0276 1.3.0."""


def answers(request: int, response: int) -> bool:
    """Whether a message of this type may answer one of that.

    An ERROR in the clear can answer a secured message: its session, and so its keys, are gone.
    """
    return request == response or {request, response} == {SPDM, SECURED}


# -- what a bus owner asks ------------------------------------------------------------------------


def _request(instance: int, command: Command, data: bytes = b"") -> bytes:
    return bytes((CONTROL, _REQUEST | instance & _INSTANCE, command)) + data


def get_endpoint_id(instance: int) -> bytes:
    """Get Endpoint ID."""
    return _request(instance, Command.GET_ENDPOINT_ID)


def set_endpoint_id(instance: int, eid: int) -> bytes:
    """Set Endpoint ID, operation "set"."""
    return _request(instance, Command.SET_ENDPOINT_ID, bytes((0, eid)))


def get_message_types(instance: int) -> bytes:
    """Get Message Type Support."""
    return _request(instance, Command.GET_MESSAGE_TYPES)


def get_version_support(instance: int, message_type: int) -> bytes:
    """Get MCTP Version Support, of a message type."""
    return _request(instance, Command.GET_VERSION_SUPPORT, bytes((message_type,)))


def read_response(request: bytes, response: bytes) -> bytes:
    """The data of a successful response to a request of ours.

    Raises:
        ProtocolViolation: it is no response to this request.
        PeerError: its completion code tells of a failure.
    """
    if len(response) <= _HEAD or response[0] != CONTROL or response[2] != request[2]:
        raise ProtocolViolation("an MCTP control response that does not match its request")
    if response[1] & (_REQUEST | _DATAGRAM) or (response[1] ^ request[1]) & _INSTANCE:
        raise ProtocolViolation("an MCTP control response of another instance")
    code = response[_HEAD]
    if code:
        name = Command(request[2]).name.replace("_", " ").title()
        raise PeerError(f"MCTP {name} ended with completion code 0x{code:02X}", code=code)
    return response[_HEAD + 1 :]


def read_endpoint_id(data: bytes) -> EidStatus:
    """The data of Get Endpoint ID's response.

    Raises:
        ProtocolViolation: it is too short.
    """
    if len(data) < 2:
        raise ProtocolViolation("a short response to Get Endpoint ID")
    return EidStatus(data[0], static=bool(data[1] & 3))


def read_set_endpoint_id(data: bytes) -> int:
    """The id that the endpoint has after Set Endpoint ID.

    Raises:
        ProtocolViolation: it is too short.
    """
    if len(data) < 2:
        raise ProtocolViolation("a short response to Set Endpoint ID")
    return data[1]


def read_message_types(data: bytes) -> frozenset[int]:
    """The message types that an endpoint announces; control is not among them.

    Raises:
        ProtocolViolation: the count contradicts the length.
    """
    if not data or data[0] > MAX_TYPES or len(data) < 1 + data[0]:
        raise ProtocolViolation("a short response to Get Message Type Support")
    return frozenset(data[1 : 1 + data[0]])


def read_versions(data: bytes) -> tuple[str, ...]:
    """The versions in a response to Get MCTP Version Support, as text ("1.3.1").

    Raises:
        ProtocolViolation: the count contradicts the length.
    """
    if not data or data[0] > MAX_VERSIONS or len(data) < 1 + 4 * data[0]:
        raise ProtocolViolation("a short response to Get MCTP Version Support")
    entries = (data[1 + 4 * each : 5 + 4 * each] for each in range(data[0]))
    return tuple(_version_text(entry) for entry in entries)


def _version_text(entry: bytes) -> str:
    parts = [_bcd(byte) for byte in entry[:3] if byte != 0xFF]
    alpha = chr(entry[3]) if 0x20 < entry[3] < 0x7F else ""
    return ".".join(parts) + alpha


def _bcd(byte: int) -> str:
    """Two decimal digits, of which the high one may be missing (0xF)."""
    high, low = byte >> 4, byte & 0xF
    return f"{low:x}" if high == 0xF else f"{high:x}{low:x}"


# -- what an endpoint answers ---------------------------------------------------------------------


def respond(body: bytes, status: EidStatus, types: Sequence[int]) -> bytes | None:
    """The answer of an endpoint to a control request; None where silence is the answer.

    Args:
        body: the request.
        status: the endpoint's id; Set Endpoint ID changes it.
        types: message types that it speaks, without control.
    """
    if len(body) < _HEAD or not body[1] & _REQUEST or body[1] & _DATAGRAM:
        # A datagram wants no answer, and a wrong flag is dropped in silence (DSP0236 11.1).
        return None
    head = bytes((CONTROL, body[1] & _INSTANCE, body[2]))
    data = body[_HEAD:]
    if body[2] == Command.SET_ENDPOINT_ID:
        return head + _set_endpoint_id(data, status)
    if body[2] == Command.GET_ENDPOINT_ID:
        kind = 2 if status.static else 0
        return head + bytes((Completion.SUCCESS, status.eid, kind, 0))
    if body[2] == Command.GET_MESSAGE_TYPES:
        return head + bytes((Completion.SUCCESS, len(types), *types))
    if body[2] == Command.GET_VERSION_SUPPORT:
        return head + _versions(data, types)
    return head + bytes((Completion.UNSUPPORTED,))


def _set_endpoint_id(data: bytes, status: EidStatus) -> bytes:
    if len(data) != 2:
        return bytes((Completion.INVALID_LENGTH,))
    operation, eid = data[0] & 3, data[1]
    if operation > 1 or eid not in ASSIGNABLE:
        return bytes((Completion.INVALID_DATA,))
    status.eid, status.static = eid, False
    return bytes((Completion.SUCCESS, 0, eid, 0))


def _versions(data: bytes, types: Sequence[int]) -> bytes:
    if len(data) != 1:
        return bytes((Completion.INVALID_LENGTH,))
    known = VERSIONS.get(data[0])
    if known is None or (data[0] not in (0xFF, CONTROL) and data[0] not in types):
        return bytes((Completion.TYPE_NOT_SUPPORTED,))
    return bytes((Completion.SUCCESS, len(known))) + b"".join(map(bytes, known))
