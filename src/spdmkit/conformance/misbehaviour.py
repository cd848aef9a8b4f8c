"""A responder that breaks one rule on purpose.

Each conformance case names the misbehaviour that it is there to find. A vendor gets a peer that is
wrong in one known way (`spdm device serve --misbehave RULE`); we get the proof that each case can
fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from spdmkit.messages import V14, ResponseCode
from spdmkit.protocol.connection import Connection
from spdmkit.protocol.responder.device import Device
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.session import Session

__all__ = [
    "MisbehavingResponder",
    "Misbehaviour",
    "Scene",
    "answering",
    "appending",
    "cutting",
    "flipping",
    "obliging",
    "putting",
    "tolerating",
]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a message stands in its conversation.

    Attributes:
        connection: the responder's state.
        count: how many requests with this code there were on the connection, this one included.
    """

    connection: Connection
    count: int


Bend: TypeAlias = Callable[[bytearray, bytes, Scene], "bytes | bytearray"]
"""(what would be sent, the request, the scene) -> what is sent instead."""
Mend: TypeAlias = Callable[[bytearray, Scene], "bytes | bytearray"]
"""(a request that breaks a rule, the scene) -> one that does not, to be answered instead."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """How a responder breaks a rule.

    Attributes:
        response: changes what is sent.
        request: makes a wrong request right before it is looked at, so that it is answered.
    """

    response: Bend | None = None
    request: Mend | None = None


def answering(code: ResponseCode, bend: Bend) -> Misbehaviour:
    """Change all responses of one kind."""

    def response(sent: bytearray, request: bytes, scene: Scene) -> bytes | bytearray:
        return bend(sent, request, scene) if sent[1] == code else sent

    return Misbehaviour(response=response)


def tolerating(mend: Mend) -> Misbehaviour:
    """Answer what should be refused."""
    return Misbehaviour(request=mend)


def obliging(code: ResponseCode) -> Misbehaviour:
    """Answer with a response what should be refused, whatever is wrong with it."""

    def response(sent: bytearray, asked: bytes, _scene: Scene) -> bytes | bytearray:
        if sent[1] != ResponseCode.ERROR or not asked[1] & 0x80:
            return sent
        # From 1.4 on finishers' responses have an OpaqueLength.
        return bytes((asked[0], code)) + bytes(asked[2:4]) + (b"\0\0" if asked[0] >= V14 else b"")

    return Misbehaviour(response=response)


def putting(offset: int, *values: int) -> Bend:
    """Write bytes at an offset, counted from the end when negative."""

    def bend(sent: bytearray, _request: bytes, _scene: Scene) -> bytearray:
        at = offset if offset >= 0 else len(sent) + offset
        sent[at : at + len(values)] = bytes(values)
        return sent

    return bend


def flipping(offset: int) -> Bend:
    """Flip the lowest bit of the byte at an offset, counted from the end when negative."""

    def bend(sent: bytearray, _request: bytes, _scene: Scene) -> bytearray:
        sent[offset] ^= 1
        return sent

    return bend


def cutting(count: int) -> Bend:
    """Leave out the last bytes."""
    return lambda sent, _request, _scene: sent[:-count]


def appending(data: bytes) -> Bend:
    """Send more than there is."""
    return lambda sent, _request, _scene: sent + data


class MisbehavingResponder(ResponderEndpoint):
    """A responder that is right in everything but one rule."""

    def __init__(
        self,
        connection: Connection,
        device: Device,
        misbehaviour: Misbehaviour,
        *,
        name: str = "",
    ) -> None:
        """An endpoint that waits for GET_VERSION, as its base class."""
        super().__init__(connection, device, name=name)
        self._misbehaviour = misbehaviour
        self._last = b""
        self._counts: Counter[int] = Counter()

    def _request(self, raw: bytes, carrier: Session | None, now: float) -> None:
        self._last = raw
        self._counts[self._code] += 1
        mend = self._misbehaviour.request
        if mend is not None:
            raw = bytes(mend(bytearray(raw), self._scene))
        super()._request(raw, carrier, now)

    def _send(self, message: bytes, carrier: Session | None) -> None:
        super()._send(self._bent(message), carrier)

    def _bent(self, message: bytes) -> bytes:
        bend = self._misbehaviour.response
        if bend is None or len(message) < 2:
            return message
        return bytes(bend(bytearray(message), self._last, self._scene))

    @property
    def _code(self) -> int:
        return self._last[1] if len(self._last) > 1 else -1

    @property
    def _scene(self) -> Scene:
        return Scene(self.connection, self._counts[self._code])
