"""The TCP binding of DSP0287 1.0, sans I/O: header, role inquiry, error frames, dialects.

    PayloadLen u16 | BindingVer u8 = 1 | MessageType u8 | SPDM message or secured message

Two readings of PayloadLen are on the wire (see `Dialect`). A binding that was not told which one
to expect finds it out from the first frame, and reads no byte that only one of the readings
promises before it knows: a peer of the other dialect would wait for us while we wait for it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Collection

from spdmkit.errors import PeerError, ProtocolViolation, SpdmError, TransportError
from spdmkit.protocol import records
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports.buffer import ReceiveBuffer
from spdmkit.transports.framing import (
    MAX_FRAME,
    BindingError,
    Dialect,
    Framing,
    FramingEvent,
    Role,
    RoleInquiry,
    Side,
)
from spdmkit.transports.sizing import is_response, message_length

__all__ = [
    "BINDING_VERSION",
    "HEADER_SIZE",
    "ROLE_INQUIRY",
    "TRANSITIONS",
    "Input",
    "MessageType",
    "Move",
    "Phase",
    "TcpBinding",
    "encode_frame",
    "error_frame",
    "error_of_frame",
]

BINDING_VERSION = 1
"""BindingVer of DSP0287 1.0 (table 1)."""
HEADER = struct.Struct("<HBB")
HEADER_SIZE = HEADER.size
_unpack_header = HEADER.unpack_from
MIN_MESSAGE = 4
"""Every SPDM message has SPDMVersion, code, Param1 and Param2 (DSP0274 10.1)."""
RECORD_HEAD = 6
"""Session ID and Length of a secured message; a sequence number may stand between (DSP0277)."""


class MessageType(enum.IntEnum):
    """MessageType of the binding header (DSP0287 tables 1 and 2)."""

    OUT_OF_SESSION = 0x05
    IN_SESSION = 0x06
    ROLE_INQUIRY = 0xBF
    TOO_LARGE = 0xC0
    VERSION_NOT_SUPPORTED = 0xC1
    CANNOT_BE_REQUESTER = 0xC2
    CANNOT_BE_RESPONDER = 0xC3


FIRST_ERROR = 0xC0
"""MessageTypes from here to 0xFF are error messages (DSP0287 6.3)."""

_ERROR_WORDS: dict[int, tuple[str, str]] = {
    MessageType.TOO_LARGE: (
        "the peer cannot take a frame as long as the one we sent (0xC0)",
        "send less at a time, or try the other dialect: dialect=strict or dialect=libspdm",
    ),
    MessageType.VERSION_NOT_SUPPORTED: (
        "the peer supports version {version} of the TCP binding, not version 1 (0xC1)",
        "",
    ),
    MessageType.CANNOT_BE_REQUESTER: (
        "the peer cannot be the requester for us (0xC2)",
        "connect to a verifier that serves devices which dial in, or connect as requester",
    ),
    MessageType.CANNOT_BE_RESPONDER: (
        "the peer cannot be the responder for us (0xC3)",
        "this address waits for devices to dial in; connect to a responder instead",
    ),
}


class Phase(enum.Enum):
    """How far a connection's binding has come."""

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    OPENING = "opening"
    """A listener that has received nothing yet and does not know its role."""
    REQUESTER = "requester"
    RESPONDER = "responder"
    CLOSED = "closed"


_OPENING, _CLOSED = Phase.OPENING, Phase.CLOSED
_LIBSPDM, _MORE = Dialect.LIBSPDM, Dialect.LIBSPDM.extra
_BY_EXTRA = {dialect.extra: dialect for dialect in Dialect}
_MESSAGE = FrameKind.MESSAGE
"""Members of enumerations by names of their own, which are found faster, for every frame."""


class Input(enum.Enum):
    """What a header announces."""

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    MESSAGE = "message"
    RECORD = "record"
    ROLE_INQUIRY = "role inquiry"
    ERROR = "error"


class Move(enum.Enum):
    """What to do with it."""

    DELIVER = "deliver"
    BECOME_RESPONDER = "become the responder"
    BECOME_REQUESTER = "become the requester"
    REFUSE_INQUIRY = "answer 0xC2"
    VIOLATION = "close"
    PEER_ERROR = "report the peer's error"


TRANSITIONS: dict[tuple[Side, Phase, Input], Move] = {
    # A listener learns its role from the first frame (DSP0287 6.2).
    (Side.LISTENER, Phase.OPENING, Input.MESSAGE): Move.BECOME_RESPONDER,
    (Side.LISTENER, Phase.OPENING, Input.RECORD): Move.BECOME_RESPONDER,
    (Side.LISTENER, Phase.OPENING, Input.ROLE_INQUIRY): Move.BECOME_REQUESTER,
    (Side.LISTENER, Phase.RESPONDER, Input.MESSAGE): Move.DELIVER,
    (Side.LISTENER, Phase.RESPONDER, Input.RECORD): Move.DELIVER,
    # One connection has one requester and one responder (clause 4): here we are the responder.
    (Side.LISTENER, Phase.RESPONDER, Input.ROLE_INQUIRY): Move.REFUSE_INQUIRY,
    (Side.LISTENER, Phase.REQUESTER, Input.MESSAGE): Move.DELIVER,
    (Side.LISTENER, Phase.REQUESTER, Input.RECORD): Move.DELIVER,
    (Side.LISTENER, Phase.REQUESTER, Input.ROLE_INQUIRY): Move.VIOLATION,
    # Only an initiator inquires.
    (Side.INITIATOR, Phase.REQUESTER, Input.MESSAGE): Move.DELIVER,
    (Side.INITIATOR, Phase.REQUESTER, Input.RECORD): Move.DELIVER,
    (Side.INITIATOR, Phase.REQUESTER, Input.ROLE_INQUIRY): Move.VIOLATION,
    (Side.INITIATOR, Phase.RESPONDER, Input.MESSAGE): Move.DELIVER,
    (Side.INITIATOR, Phase.RESPONDER, Input.RECORD): Move.DELIVER,
    (Side.INITIATOR, Phase.RESPONDER, Input.ROLE_INQUIRY): Move.VIOLATION,
    # An error frame ends the connection wherever it comes, and is never answered.
    **{
        (side, phase, Input.ERROR): Move.PEER_ERROR
        for side in Side
        for phase in Phase
        if phase is not Phase.CLOSED and (side is Side.LISTENER or phase is not Phase.OPENING)
    },
}
"""(side, phase, what came) -> what to do. A pair that is missing cannot occur: an initiator is
never opening, and a closed binding takes nothing."""

_INPUTS = {
    MessageType.OUT_OF_SESSION: Input.MESSAGE,
    MessageType.IN_SESSION: Input.RECORD,
    MessageType.ROLE_INQUIRY: Input.ROLE_INQUIRY,
}
_FRAME_KINDS = {Input.MESSAGE: FrameKind.MESSAGE, Input.RECORD: FrameKind.SECURED}
_PHASES = {Role.REQUESTER: Phase.REQUESTER, Role.RESPONDER: Phase.RESPONDER}


RECORD_PROFILES = {
    Dialect.STRICT: records.TCP_STRICT,
    Dialect.LIBSPDM: records.TCP_LIBSPDM,
}
"""The presets: each reading of PayloadLen with the record form that its peers use."""


def error_frame(message_type: int, version: int = BINDING_VERSION) -> bytes:
    """An error frame; `version` is what we support, which is the point of 0xC1."""
    return HEADER.pack(0, version, message_type)


ROLE_INQUIRY = HEADER.pack(0, BINDING_VERSION, MessageType.ROLE_INQUIRY)
"""What an initiator that is the responder sends first (DSP0287 6.2)."""


def encode_frame(frame: Frame, dialect: Dialect) -> bytes:
    """A frame of type 0x05 or 0x06.

    Raises:
        TransportError: PayloadLen cannot count that much.
    """
    length = len(frame.body) + (_MORE if dialect is _LIBSPDM else 0)
    if length > MAX_FRAME:
        raise TransportError(
            f"{len(frame.body)} bytes do not fit one frame of the {dialect.value} dialect",
            hint="announce a smaller DataTransferSize, so that messages travel in chunks",
        )
    return HEADER.pack(length, BINDING_VERSION, frame.kind) + frame.body


def error_of_frame(message_type: int, version: int) -> PeerError:
    """What an error frame from the peer means, in plain words."""
    reserved = (f"the peer sent the reserved error frame 0x{message_type:02X}", "")
    words, hint = _ERROR_WORDS.get(message_type, reserved)
    return PeerError(
        words.format(version=version), code=message_type, data=version, frame=True, hint=hint
    )


class TcpBinding(Framing):
    """The binding of one TCP connection.

    Attributes:
        side: who opened the connection.
    """

    name = "tcp"

    def __init__(
        self,
        side: Side,
        roles: Collection[Role],
        *,
        dialect: Dialect | None = None,
        guess: Dialect = Dialect.STRICT,
        max_frame: int = MAX_FRAME,
        sequence_sizes: tuple[int, ...] = (0,),
    ) -> None:
        """A binding on which nothing was sent or received.

        Args:
            side: who opened the connection.
            roles: roles we can take; an initiator has exactly one.
            dialect: the peer's dialect, when it is known; None finds it out.
            guess: dialect of what we send before the peer has shown its own.
            max_frame: largest message or record accepted, in bytes; 0xC0 answers more.
            sequence_sizes: bytes of sequence number that records may carry: 0 for those of
                DSP0287, 2 for MCTP's (DSP0276) from behind a proxy.

        Raises:
            ValueError: no role, or an initiator with two.
        """
        if not roles or (side is Side.INITIATOR and len(set(roles)) != 1):
            raise ValueError("an initiator has one role, a listener one or both")
        super().__init__(next(iter(roles)) if side is Side.INITIATOR else None)
        self.side = side
        self._roles = frozenset(roles)
        self._dialect = dialect
        self._guess = guess
        self._max_frame = min(max_frame, MAX_FRAME)
        self._sequence_sizes = sequence_sizes
        self._buffer = ReceiveBuffer()
        self._head: tuple[Input, int] | None = None
        self._size: int | None = None
        self._phase = Phase.OPENING if self.role is None else _PHASES[self.role]

    # -- what we send ---------------------------------------------------------------------------

    def start(self) -> bytes:
        """Role-Inquiry when we are a responder that dialled; nothing otherwise."""
        inquires = self.side is Side.INITIATOR and self.role is Role.RESPONDER
        return ROLE_INQUIRY if inquires else b""

    def pack(self, frame: Frame) -> bytes:
        """One frame, in the peer's dialect, or in our guess while it has not shown one."""
        if self._phase is _CLOSED:
            raise TransportError("the connection is over")
        return encode_frame(frame, self._dialect or self._guess)

    @property
    def dialect(self) -> Dialect | None:
        """The peer's dialect, configured or shown; None before."""
        return self._dialect

    @property
    def sending_dialect(self) -> Dialect:
        """The dialect that `pack` would use now."""
        return self._dialect or self._guess

    @property
    def record_profile(self) -> records.RecordProfile:
        """DSP0287 records; whether they have an inner header goes with the dialect."""
        return RECORD_PROFILES[self.sending_dialect]

    @property
    def phase(self) -> Phase:
        """Where the state table stands."""
        return self._phase

    # -- what we receive ------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; nothing is kept after the connection is over."""
        if self._phase is not Phase.CLOSED:
            self._buffer.append(data)

    def lend(self, data: memoryview) -> None:
        """As `receive`, of bytes that stay as they are only until `settle`."""
        if self._phase is not Phase.CLOSED:
            self._buffer.lend(data)

    def settle(self) -> None:
        """Copy what is left of lent bytes."""
        self._buffer.settle()

    def pending(self) -> int:
        """Bytes received that are not a whole frame yet."""
        return len(self._buffer)

    def next_event(self) -> FramingEvent | None:
        """The next whole frame, role inquiry or error."""
        if self._phase is Phase.CLOSED:
            return None
        if self._head is None:
            if self._buffer.size < HEADER_SIZE:
                return None
            event = self._whole_frame() or self._read_header()
            if event is not None:
                return event
        return self._read_body()

    def whole(self, data: bytes | memoryview) -> Frame | None:
        """A read that is one whole 0x05 frame, of a known dialect or one that it shows."""
        dialect, phase = self._dialect, self._phase
        size = len(data) - HEADER_SIZE
        if dialect is None:
            dialect = self._shown_by(data, size)
        if (
            dialect is None
            or self._buffer.size
            or not 0 <= size <= self._max_frame
            or phase is _OPENING
            or phase is _CLOSED
            or _unpack_header(data) != (size + dialect.extra, BINDING_VERSION, 0x05)
        ):
            return None
        self._dialect = dialect
        return Frame(_MESSAGE, bytes(data[HEADER_SIZE:]))

    def _shown_by(self, data: bytes | memoryview, size: int) -> Dialect | None:
        """The dialect in which PayloadLen, the read and the message's own length agree."""
        if size < MIN_MESSAGE:
            return None
        dialect = _BY_EXTRA.get(_unpack_header(data)[0] - size)
        try:
            whole = message_length(bytes(data[HEADER_SIZE:])) == size
        except SpdmError:
            return None
        return dialect if whole else None

    def _whole_frame(self) -> Frame | None:
        """The next frame, if it is what nearly all are: whole, sound, and of a known dialect.

        The state table delivers those in every phase but the first; what follows here is the same
        as the long way, in fewer steps. Anything else is None and goes the long way.
        """
        if self._dialect is None or self._phase is Phase.OPENING:
            return None
        head = self._buffer.peek(HEADER_SIZE + RECORD_HEAD)
        length, version, message_type = HEADER.unpack_from(head)
        size: int = length - self._dialect.extra
        if (
            version != BINDING_VERSION
            or not 0 <= size <= self._max_frame
            or self._buffer.size < HEADER_SIZE + size
        ):
            return None
        if message_type == MessageType.OUT_OF_SESSION:
            return Frame(FrameKind.MESSAGE, self._buffer.take(size, HEADER_SIZE))
        if (
            message_type == MessageType.IN_SESSION
            and self.secured_allowed
            and 0 in self._sequence_sizes
            and size == RECORD_HEAD + int.from_bytes(head[-2:], "little")
        ):
            return Frame(FrameKind.SECURED, self._buffer.take(size, HEADER_SIZE))
        return None

    def _read_header(self) -> FramingEvent | None:
        """Check a header in the order BindingVer, MessageType, PayloadLen, order of frames."""
        length, version, message_type = HEADER.unpack(self._buffer.peek(HEADER_SIZE))
        if message_type >= FIRST_ERROR:
            # First of all: an error frame is never answered, whatever its version.
            return self._close(error_of_frame(message_type, version))
        if version != BINDING_VERSION:
            return self._close(
                TransportError(f"BindingVer {version} is not supported, only {BINDING_VERSION}"),
                MessageType.VERSION_NOT_SUPPORTED,
            )
        kind = _INPUTS.get(message_type)
        if kind is None:
            # DSP0287 has no error for a reserved MessageType, and a wrong one would mislead.
            return self._close(TransportError(f"MessageType 0x{message_type:02X} is reserved"))
        if length > self._largest(kind):
            return self._close(
                TransportError(f"PayloadLen {length} is more than we take ({self._max_frame})"),
                MessageType.TOO_LARGE,
            )
        return self._move(kind, length)

    def _largest(self, kind: Input) -> int:
        """The largest PayloadLen to accept; while the dialect is open, the larger reading."""
        extra = Dialect.LIBSPDM.extra if self._dialect is None else self._dialect.extra
        # What carries no message is judged by the state table and by its own rule.
        return MAX_FRAME if kind is Input.ROLE_INQUIRY else self._max_frame + extra

    def _move(self, kind: Input, length: int) -> FramingEvent | None:
        move = TRANSITIONS[self.side, self._phase, kind]
        if move is Move.VIOLATION:
            return self._close(ProtocolViolation("a Role-Inquiry that must not come here"))
        if move is Move.REFUSE_INQUIRY:
            return self._close(
                ProtocolViolation("a Role-Inquiry after SPDM messages"),
                MessageType.CANNOT_BE_REQUESTER,
            )
        if move is Move.BECOME_REQUESTER:
            return self._become_requester(length)
        if move is Move.BECOME_RESPONDER:
            if Role.RESPONDER not in self._roles:
                return self._close(
                    ProtocolViolation("an SPDM request came, but we only serve as requester"),
                    MessageType.CANNOT_BE_RESPONDER,
                )
            self.role, self._phase = Role.RESPONDER, Phase.RESPONDER
        if kind is Input.RECORD and not self.secured_allowed:
            return self._close(ProtocolViolation("a secured message before any session"))
        self._head = (kind, length)
        return None

    def _become_requester(self, length: int) -> FramingEvent:
        if length:
            return self._close(TransportError(f"a Role-Inquiry with PayloadLen {length}"))
        if Role.REQUESTER not in self._roles:
            return self._close(
                ProtocolViolation("a Role-Inquiry came, but we only serve as responder"),
                MessageType.CANNOT_BE_REQUESTER,
            )
        self.role, self._phase = Role.REQUESTER, Phase.REQUESTER
        self._buffer.take(0, HEADER_SIZE)
        return RoleInquiry()

    def _read_body(self) -> FramingEvent | None:
        if self._head is None:
            return None
        kind, length = self._head
        if self._size is None:
            find = self._size_of_record if kind is Input.RECORD else self._size_of_message
            problem = find(length)
            if problem is not None:
                return self._close(problem)
            if self._size is None:
                return None
        if len(self._buffer) < HEADER_SIZE + self._size:
            return None
        body = self._buffer.take(self._size, HEADER_SIZE)
        self._head = self._size = None
        return Frame(_FRAME_KINDS[kind], body)

    # -- dialects -------------------------------------------------------------------------------

    def _adopt(self, dialect: Dialect, length: int) -> SpdmError | None:
        """The dialect is known now and for the rest of the connection, and so is the size."""
        size = length - dialect.extra
        if size < 0:
            return TransportError(f"PayloadLen {length} cannot be in the {dialect.value} dialect")
        if size > self._max_frame:
            return TransportError(f"a message of {size} bytes is more than we take")
        self._dialect = dialect
        self._size = size
        return None

    def _size_of_message(self, length: int) -> SpdmError | None:
        """Find the size of a 0x05 frame's body; leave it None while more bytes are needed."""
        if self._dialect is not None:
            return self._adopt(self._dialect, length)
        if length < MIN_MESSAGE:
            return TransportError(f"PayloadLen {length} is less than any SPDM message")
        if length < MIN_MESSAGE + Dialect.LIBSPDM.extra:
            return self._adopt(Dialect.STRICT, length)
        return self._detect(length)

    def _detect(self, length: int) -> SpdmError | None:
        """Let the first message tell by its own lengths which reading of PayloadLen is right.

        Both readings deliver `length - 2` bytes. The last two are waited for only when the message
        itself says that it is longer than that.
        """
        shorter = length - Dialect.LIBSPDM.extra
        have = len(self._buffer) - HEADER_SIZE
        if have < shorter:
            return None
        try:
            size = message_length(self._buffer.peek(shorter, HEADER_SIZE))
            if size is None:
                if have < length:
                    return None
                size = message_length(self._buffer.peek(length, HEADER_SIZE))
        except SpdmError as error:
            if self.role is Role.REQUESTER and is_response(self._buffer.peek(shorter, HEADER_SIZE)):
                # With cached state the first answer may hold what only the negotiation sized. The
                # peer understood our dialect, or it would not have answered.
                return self._adopt(self._guess, length)
            return TransportError(f"the first message does not tell its size: {error}")
        if size == shorter:
            return self._adopt(Dialect.LIBSPDM, length)
        if size == length:
            return self._adopt(Dialect.STRICT, length)
        return TransportError(f"PayloadLen {length} fits the first message in neither dialect")

    def _size_of_record(self, length: int) -> SpdmError | None:
        """Check a 0x06 frame against the record's own Length, before its body is waited for."""
        shortest = RECORD_HEAD + min(self._sequence_sizes)
        dialects = tuple(Dialect) if self._dialect is None else (self._dialect,)
        if all(length - dialect.extra < shortest for dialect in dialects):
            return TransportError(f"PayloadLen {length} is too short for a secured message")
        longest = RECORD_HEAD + max(self._sequence_sizes)
        head = self._buffer.peek(min(longest, length), HEADER_SIZE)
        for sequence in self._sequence_sizes:
            end = RECORD_HEAD + sequence
            if len(head) < end:
                continue
            size = end + int.from_bytes(head[end - 2 : end], "little")
            for dialect in dialects:
                if size + dialect.extra == length:
                    return self._adopt(dialect, length)
        if len(head) < min(longest, length):
            return None
        return TransportError(
            f"PayloadLen {length} contradicts the Length of the secured message in it"
        )

    def hint(self) -> str:
        """Name the dialect when a frame stands that would be whole in the other one."""
        if self._head is None or self._size is None or self._dialect is not Dialect.STRICT:
            return ""
        missing = HEADER_SIZE + self._size - len(self._buffer)
        if missing != Dialect.LIBSPDM.extra:
            return ""
        return "two bytes are missing: the peer may speak the other dialect, try dialect=libspdm"

    def _close(self, error: SpdmError, answer: MessageType | None = None) -> BindingError:
        self._phase = Phase.CLOSED
        self._buffer.clear()
        return BindingError(error, b"" if answer is None else error_frame(answer))
