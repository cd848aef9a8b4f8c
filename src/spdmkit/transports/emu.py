"""The socket protocol of DMTF's spdm-emu, which QEMU and others speak too, sans I/O, both ends.

    command u32 | transport type u32 | payload size u32, all big endian | payload

It is no binding of the DMTF: it carries the messages of some binding between two programs, for
tests. A conversation opens with TEST ("Client Hello!", "Server Hello!"), goes on with NORMAL and
ends with CONTINUE (the server keeps running) or SHUTDOWN.
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from collections.abc import Callable, Collection
from typing import TypeAlias

from spdmkit.errors import ProtocolViolation, SpdmError, TransportError
from spdmkit.protocol import records
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports import doe, mctp_body, tcp
from spdmkit.transports.buffer import ReceiveBuffer
from spdmkit.transports.framing import (
    MAX_FRAME,
    BindingError,
    Dialect,
    Framing,
    FramingEvent,
    Goodbye,
    PlatformCommand,
    Reply,
    Role,
    RoleInquiry,
    Side,
    frame_kind,
)

__all__ = ["CLIENT_HELLO", "SERVER_HELLO", "EmuCommand", "EmuFraming", "EmuTransport"]

HEADER = struct.Struct(">III")
HEADER_SIZE = HEADER.size
CLIENT_HELLO = b"Client Hello!\0"
SERVER_HELLO = b"Server Hello!\0"
OVERHEAD = 16
"""Room for what a transport adds to a message: a DOE header and padding at most."""
MAX_FEATURES = 256
"""A DOE discovery has at most this many entries: the index is one byte."""


class EmuCommand(enum.IntEnum):
    """Commands of the socket protocol."""

    NORMAL = 0x0001
    OOB_ENCAP_KEY_UPDATE = 0x8001
    OOB_ENCAP_ENDPOINT_INFO = 0x8002
    CONTINUE = 0xFFFD
    SHUTDOWN = 0xFFFE
    UNKNOWN = 0xFFFF
    TEST = 0xDEAD


class EmuTransport(enum.IntEnum):
    """What the payload of NORMAL is."""

    NONE = 0
    MCTP = 1
    DOE = 2
    TCP = 3


_SECURED = FrameKind.SECURED
_MESSAGE_TYPE = mctp_body.TYPE_BYTES[FrameKind.MESSAGE]
_SECURED_TYPE = mctp_body.TYPE_BYTES[FrameKind.SECURED]
_NORMAL, _MCTP = int(EmuCommand.NORMAL), int(EmuTransport.MCTP)
"""The same as plain numbers, for what nearly all commands are."""

_Payload: TypeAlias = Frame | doe.DiscoveryRequest | doe.DiscoveryResponse


class _Stage(enum.Enum):
    """How far the opening has come."""

    OPENING = "opening"
    HELLO = "hello sent"
    DISCOVERY = "DOE discovery"
    OPEN = "open"
    CLOSED = "closed"


_OPEN, _CLOSED = _Stage.OPEN, _Stage.CLOSED


class _TcpPayload:
    """A DSP0287 frame whose size the socket protocol tells, so that both dialects are plain."""

    def __init__(self) -> None:
        self.dialect = Dialect.LIBSPDM

    def encode(self, frame: Frame) -> bytes:
        return tcp.encode_frame(frame, self.dialect)

    def decode(self, payload: bytes) -> Frame:
        if len(payload) < tcp.HEADER_SIZE:
            raise TransportError(f"a TCP binding frame of {len(payload)} bytes has no whole header")
        length, version, message_type = tcp.HEADER.unpack_from(payload)
        if message_type >= tcp.FIRST_ERROR:
            raise tcp.error_of_frame(message_type, version)
        if version != tcp.BINDING_VERSION:
            raise TransportError(f"BindingVer {version} is not supported")
        kind = frame_kind(message_type)
        if kind is None:
            raise TransportError(f"MessageType 0x{message_type:02X} is not SPDM")
        body = payload[tcp.HEADER_SIZE :]
        for dialect in (Dialect.LIBSPDM, Dialect.STRICT):
            if length == len(body) + dialect.extra:
                self.dialect = dialect
                return Frame(kind, body)
        raise TransportError(f"PayloadLen {length} of a frame with {len(body)} bytes")


class EmuFraming(Framing):
    """One connection in the socket protocol of spdm-emu.

    Attributes:
        transport: what NORMAL carries; both ends must agree on it.
        features: what DOE discovery found at the peer, when we are a requester on DOE.
    """

    def __init__(
        self,
        transport: EmuTransport,
        side: Side,
        roles: Collection[Role],
        *,
        hello: bool = True,
        ending: EmuCommand = EmuCommand.CONTINUE,
        max_frame: int = MAX_FRAME,
    ) -> None:
        """A connection on which nothing was sent or received.

        Args:
            transport: what NORMAL carries.
            side: who opened the connection.
            roles: roles we can take; an initiator has exactly one.
            hello: open with TEST when we are the requester (never with transport NONE).
            ending: what `end` sends, CONTINUE or SHUTDOWN.
            max_frame: largest message or record accepted, in bytes.

        Raises:
            ValueError: roles that this protocol cannot tell apart: only the TCP transport has a
                Role-Inquiry, so elsewhere the initiator is the requester.
        """
        if not roles or (side is Side.INITIATOR and len(set(roles)) != 1):
            raise ValueError("an initiator has one role, a listener one or both")
        natural = Role.REQUESTER if side is Side.INITIATOR else Role.RESPONDER
        if transport is not EmuTransport.TCP and natural not in roles:
            raise ValueError("without TCP's Role-Inquiry the requester is who dials")
        undecided = transport is EmuTransport.TCP and side is Side.LISTENER
        super().__init__(None if undecided else (next(iter(roles)) if len(roles) == 1 else natural))
        self.name = f"emu+{transport.name.lower()}"
        self.transport = transport
        self.features: list[doe.Feature] = []
        self._side = side
        self._roles = frozenset(roles)
        self._hello = hello and transport is not EmuTransport.NONE
        self._ending = ending
        self._max_payload = max_frame + OVERHEAD
        self._max_frame = max_frame
        self._tcp = _TcpPayload()
        self._is_mctp = transport is EmuTransport.MCTP
        self._buffer = ReceiveBuffer()
        self._queue: deque[FramingEvent] = deque()
        self._stage = _Stage.OPENING
        self._ended = False

    # -- what we send ---------------------------------------------------------------------------

    def start(self) -> bytes:
        """What opens the conversation: TEST, a bare Role-Inquiry, or nothing."""
        if self.role is Role.REQUESTER:
            return self._open_as_requester()
        if self._side is Side.INITIATOR:
            self._stage = _Stage.OPEN
            return tcp.ROLE_INQUIRY
        return b""

    def _open_as_requester(self) -> bytes:
        if self._hello:
            self._stage = _Stage.HELLO
            return self.pack_command(EmuCommand.TEST, CLIENT_HELLO)
        return self._after_hello()

    def _after_hello(self) -> bytes:
        if self.transport is EmuTransport.DOE:
            self._stage = _Stage.DISCOVERY
            return self.pack_command(EmuCommand.NORMAL, doe.encode_discovery_request(0))
        self._stage = _Stage.OPEN
        return b""

    @property
    def ready(self) -> bool:
        """The opening is over and we are the requester."""
        return self.role is Role.REQUESTER and self._stage is _Stage.OPEN

    @property
    def dialect(self) -> Dialect | None:
        """The dialect of the DSP0287 frames inside, for the TCP transport."""
        return self._tcp.dialect if self.transport is EmuTransport.TCP else None

    @property
    def record_profile(self) -> records.RecordProfile:
        """The records of the binding inside."""
        if self.transport is EmuTransport.TCP:
            return tcp.RECORD_PROFILES[self._tcp.dialect]
        return _RECORD_PROFILES[self.transport]

    def pack(self, frame: Frame) -> bytes:
        """One frame in a NORMAL command."""
        if self._stage is _CLOSED:
            raise TransportError("the connection is over")
        if self._is_mctp:
            return b"".join(
                (
                    HEADER.pack(_NORMAL, _MCTP, len(frame.body) + 1),
                    _SECURED_TYPE if frame.kind is _SECURED else _MESSAGE_TYPE,
                    frame.body,
                )
            )
        return self.pack_command(EmuCommand.NORMAL, self._encode(frame))

    def pack_command(self, command: int, payload: bytes = b"") -> bytes:
        """Any command of the socket protocol, for one write."""
        return HEADER.pack(command, self.transport, len(payload)) + payload

    def end(self) -> bytes:
        """CONTINUE or SHUTDOWN, when we are the requester of an open conversation."""
        if self.role is not Role.REQUESTER or self._ended or self._stage is _Stage.CLOSED:
            return b""
        self._ended = True
        return self.pack_command(self._ending)

    @property
    def awaits_goodbye(self) -> bool:
        """The reference responder dies of writing its answer to a connection already closed."""
        return self._ended and self._stage is not _Stage.CLOSED

    def _encode(self, frame: Frame) -> bytes:
        if self.transport is EmuTransport.DOE:
            return doe.encode(frame)
        if self.transport is EmuTransport.TCP:
            return self._tcp.encode(frame)
        if frame.kind is FrameKind.SECURED:
            raise TransportError("the transport NONE carries no secured messages")
        return frame.body

    def _decode(self, payload: bytes) -> _Payload:
        if self.transport is EmuTransport.MCTP:
            return mctp_body.decode(payload)
        if self.transport is EmuTransport.DOE:
            return doe.decode(payload, requester=self.role is Role.REQUESTER)
        if self.transport is EmuTransport.TCP:
            return self._tcp.decode(payload)
        return Frame(FrameKind.MESSAGE, payload)

    # -- what we receive ------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; nothing is kept after the connection is over."""
        if self._stage is not _Stage.CLOSED:
            self._buffer.append(data)

    def pending(self) -> int:
        """Bytes received that are not a whole command yet."""
        return len(self._buffer)

    def next_event(self) -> FramingEvent | None:
        """The next thing that is complete."""
        while not self._queue:
            if self._stage is _Stage.CLOSED:
                return None
            try:
                if not self._step():
                    return None
            except SpdmError as error:
                self._close(error)
        return self._queue.popleft()

    def whole(self, data: bytes | memoryview) -> Frame | None:
        """A read that is one whole NORMAL command of MCTP."""
        if (
            self._stage is not _OPEN
            or not self._is_mctp
            or self.role is None
            or self._buffer.size
            or self._queue
            or len(data) <= HEADER_SIZE
        ):
            return None
        command, transport, size = HEADER.unpack_from(data)
        kind = frame_kind(data[HEADER_SIZE])
        if (
            command != _NORMAL
            or transport != _MCTP
            or kind is None
            or size != len(data) - HEADER_SIZE
            or size > self._max_frame
        ):
            return None
        return Frame(kind, bytes(data[HEADER_SIZE + 1 :]))

    def _step(self) -> bool:
        """Take one command from the buffer; False when there is no whole one."""
        if not self._buffer.size:
            return False
        if self.role is None or (self._side is Side.INITIATOR and self._is_tcp):
            if len(self._buffer) < tcp.HEADER_SIZE:
                return False
            if self._bare_binding_frame():
                return True
        if len(self._buffer) < HEADER_SIZE:
            return False
        command, transport, size = HEADER.unpack(self._buffer.peek(HEADER_SIZE))
        handler = _HANDLERS.get(command)
        if handler is None:
            self._close(
                TransportError(f"spdm-emu's socket protocol has no command 0x{command:X}"),
                self.pack_command(EmuCommand.UNKNOWN),
            )
            return True
        if transport != self.transport:
            raise TransportError(
                f"the peer speaks {_transport_name(transport)}, not {self.transport.name}",
                hint="use emu+mctp, emu+doe or emu+tcp as the peer does",
            )
        if size > self._max_payload:
            raise TransportError(f"a payload of {size} bytes is more than we take")
        if len(self._buffer) < HEADER_SIZE + size:
            return False
        handler(self, command, self._buffer.take(size, HEADER_SIZE))
        return True

    @property
    def _is_tcp(self) -> bool:
        return self.transport is EmuTransport.TCP

    def _bare_binding_frame(self) -> bool:
        """Role inquiry and its refusal travel bare: they come before any command can.

        Returns:
            True when there was one. Otherwise a listener is the responder from here on.
        """
        length, version, message_type = tcp.HEADER.unpack(self._buffer.peek(tcp.HEADER_SIZE))
        bare = (length, version) == (0, tcp.BINDING_VERSION)
        if bare and message_type >= tcp.FIRST_ERROR:
            raise tcp.error_of_frame(message_type, version)
        if self.role is not None:
            return False
        if bare and message_type == tcp.MessageType.ROLE_INQUIRY:
            self._buffer.take(0, tcp.HEADER_SIZE)
            self._become_requester()
            return True
        if Role.RESPONDER not in self._roles:
            error = ProtocolViolation("a request came, but we only serve as requester")
            self._close(error, tcp.error_frame(tcp.MessageType.CANNOT_BE_RESPONDER))
            return True
        self.role = Role.RESPONDER
        return False

    def _become_requester(self) -> None:
        if Role.REQUESTER not in self._roles:
            error = ProtocolViolation("a Role-Inquiry came, but we only serve as responder")
            self._close(error, tcp.error_frame(tcp.MessageType.CANNOT_BE_REQUESTER))
            return
        self.role = Role.REQUESTER
        self._queue.append(RoleInquiry())
        opening = self._open_as_requester()
        if opening:
            self._queue.append(Reply(opening))

    def _close(self, error: SpdmError, reply: bytes = b"") -> None:
        self._stage = _Stage.CLOSED
        self._buffer.clear()
        self._queue.append(BindingError(error, reply))

    # -- commands -------------------------------------------------------------------------------

    def _normal(self, _command: int, payload: bytes) -> None:
        decoded = self._decode(payload)
        if isinstance(decoded, doe.DiscoveryRequest):
            answer = doe.answer_discovery(decoded)
            self._queue.append(Reply(self.pack_command(EmuCommand.NORMAL, answer)))
        elif isinstance(decoded, doe.DiscoveryResponse):
            self._discovered(decoded)
        elif self.role is Role.REQUESTER and self._stage is not _Stage.OPEN:
            raise ProtocolViolation("an SPDM message before the opening is over")
        elif len(decoded.body) > self._max_frame:
            raise TransportError(f"a message of {len(decoded.body)} bytes is more than we take")
        else:
            self._queue.append(decoded)

    def _discovered(self, response: doe.DiscoveryResponse) -> None:
        """One more entry of the peer's list; ask for the next, or be ready (DOE discovery)."""
        if self._stage is not _Stage.DISCOVERY:
            raise ProtocolViolation("a DOE discovery response that nobody asked for")
        self.features.append(response.feature)
        following = response.next_index
        if following:
            if following != len(self.features) or following >= MAX_FEATURES:
                raise TransportError(f"DOE discovery jumps to index {following}")
            request = doe.encode_discovery_request(following)
            self._queue.append(Reply(self.pack_command(EmuCommand.NORMAL, request)))
            return
        if doe.Feature(doe.VENDOR_PCI_SIG, doe.ObjectType.SPDM) not in self.features:
            raise TransportError("the peer's DOE does not take SPDM data objects")
        self._stage = _Stage.OPEN

    def _test(self, _command: int, payload: bytes) -> None:
        if self.role is Role.RESPONDER:
            self._queue.append(Reply(self.pack_command(EmuCommand.TEST, SERVER_HELLO)))
            return
        if self._stage is not _Stage.HELLO or payload != SERVER_HELLO:
            raise TransportError("the peer answered spdm-emu's TEST command with something else")
        opening = self._after_hello()
        if opening:
            self._queue.append(Reply(opening))

    def _out_of_band(self, command: int, payload: bytes) -> None:
        """The owner arms what was asked for; a responder answers by the same, empty command."""
        self._queue.append(PlatformCommand(command, payload))
        if self.role is Role.RESPONDER:
            self._queue.append(Reply(self.pack_command(command)))

    def _leave(self, command: int, _payload: bytes) -> None:
        self._stage = _Stage.CLOSED
        self._buffer.clear()
        answer = self.pack_command(command) if self.role is Role.RESPONDER else b""
        self._queue.append(Goodbye(answer, shutdown=command == EmuCommand.SHUTDOWN))

    def _unknown(self, _command: int, _payload: bytes) -> None:
        raise TransportError("the peer says that it does not know the command we sent")


_RECORD_PROFILES = {
    EmuTransport.NONE: records.NONE,
    EmuTransport.MCTP: records.MCTP,
    EmuTransport.DOE: records.DOE,
}


def _transport_name(value: int) -> str:
    try:
        return EmuTransport(value).name
    except ValueError:
        return f"transport type {value}"


_HANDLERS: dict[int, Callable[[EmuFraming, int, bytes], None]] = {
    EmuCommand.NORMAL: EmuFraming._normal,
    EmuCommand.TEST: EmuFraming._test,
    EmuCommand.OOB_ENCAP_KEY_UPDATE: EmuFraming._out_of_band,
    EmuCommand.OOB_ENCAP_ENDPOINT_INFO: EmuFraming._out_of_band,
    EmuCommand.CONTINUE: EmuFraming._leave,
    EmuCommand.SHUTDOWN: EmuFraming._leave,
    EmuCommand.UNKNOWN: EmuFraming._unknown,
}
