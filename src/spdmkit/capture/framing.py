"""Frames out of the byte streams of a TCP connection, as somebody who only listens.

Told apart are DSP0287 in both dialects, the socket protocol of spdm-emu with any transport in it,
and what is neither. Unlike an endpoint, a listener may look at what follows before it decides, and
goes on behind what it cannot read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from spdmkit.capture.channels import Channel, Sender, WireEvent, WireKind
from spdmkit.errors import SpdmError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports import doe, mctp_body
from spdmkit.transports.emu import EmuCommand, EmuTransport
from spdmkit.transports.framing import Dialect
from spdmkit.transports.sizing import message_length
from spdmkit.transports.tcp import BINDING_VERSION, FIRST_ERROR, MessageType

__all__ = [
    "MAX_EMU_PAYLOAD",
    "StreamFramer",
    "describe_doe",
    "is_emu",
    "looks_like_spdm",
    "may_become_emu",
]

_HEADER = struct.Struct("<HBB")
_EMU_HEADER = struct.Struct(">III")
MAX_EMU_PAYLOAD = 1 << 20
"""Bytes of a payload of spdm-emu's socket protocol that are believed."""
_MIN_RECORD = 6 + 16
_RECORD_LENGTHS = struct.Struct("<HH")
_COMMANDS = frozenset(EmuCommand)

_FRAMES = {
    int(MessageType.OUT_OF_SESSION): WireKind.MESSAGE,
    int(MessageType.IN_SESSION): WireKind.RECORD,
}
_KINDS = {FrameKind.MESSAGE: WireKind.MESSAGE, FrameKind.SECURED: WireKind.RECORD}


def is_emu(data: bytes | bytearray) -> bool:
    """Does a command of spdm-emu begin here? DSP0287 never begins with these bytes."""
    if len(data) < _EMU_HEADER.size:
        return False
    command, transport, size = _EMU_HEADER.unpack_from(data)
    return command in _COMMANDS and transport <= max(EmuTransport) and size <= MAX_EMU_PAYLOAD


def may_become_emu(data: bytes | bytearray) -> bool:
    """Is this the beginning of a command of spdm-emu, which writes its header in pieces?"""
    return len(data) < _EMU_HEADER.size and any(
        data[:4] == command.to_bytes(4, "big")[: len(data)] for command in _COMMANDS
    )


def _is_binding_header(data: bytes | bytearray, at: int = 0) -> bool:
    """Does a DSP0287 frame begin here, as far as its header and first byte show?"""
    if at + 4 > len(data):
        return False
    length, version, kind = _HEADER.unpack_from(data, at)
    if version != BINDING_VERSION:
        return False
    if kind == MessageType.OUT_OF_SESSION:
        return bool(length >= 4 and (at + 4 == len(data) or data[at + 4] >> 4 == 1))
    if kind == MessageType.IN_SESSION:
        return bool(length >= _MIN_RECORD)
    return bool(length == 0 and (kind == MessageType.ROLE_INQUIRY or kind >= FIRST_ERROR))


def looks_like_spdm(data: bytes | bytearray) -> bool:
    """Do the first bytes of a stream begin a conversation that is followed here?"""
    return is_emu(data) or _is_binding_header(data)


def _dialect_of_message(data: bytes | bytearray, length: int) -> Dialect | None:
    """The dialect of a 0x05 frame, header included; None when it takes more bytes to tell."""
    if length < 6:
        return Dialect.STRICT  # no SPDM message has fewer than four bytes
    body = bytes(data[4 : 4 + length])
    try:
        own = message_length(body)
    except SpdmError:
        own = None
    if own == length:
        return Dialect.STRICT
    if own == length - 2:
        return Dialect.LIBSPDM
    return _dialect_by_end(data, length)


def _dialect_by_end(data: bytes | bytearray, length: int) -> Dialect | None:
    """The dialect by what follows the frame: another header, or the end of what was sent."""
    ends = {dialect: 4 + length - dialect.extra for dialect in Dialect}
    for dialect in (Dialect.STRICT, Dialect.LIBSPDM):
        if len(data) == ends[dialect] or _is_binding_header(data, ends[dialect]):
            return dialect
    return Dialect.STRICT if len(data) > ends[Dialect.STRICT] else None


def _dialect_of_record(
    data: bytes | bytearray, length: int, known: Dialect | None
) -> Dialect | None:
    """The dialect of a 0x06 frame by the Length inside, which a sequence number may precede."""
    first, second = _RECORD_LENGTHS.unpack_from(data, 8)
    sizes = {
        6 + first if first >= 16 else 0,
        8 + second if second >= 16 else 0,
    }  # 16: the tag alone
    for dialect in (known, Dialect.STRICT, Dialect.LIBSPDM):
        if dialect is not None and length - dialect.extra in sizes:
            return dialect
    return known or _dialect_by_end(data, length)


class _Direction:
    """One direction: what waits for more bytes, and whether the place in it is lost."""

    __slots__ = ("buffer", "dialect", "searching", "skipped")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.dialect: Dialect | None = None
        self.searching = False
        self.skipped = 0


class StreamFramer:
    """Cuts both directions of one TCP connection into frames.

    Attributes:
        channel: what its events say they come from; dialect and framing are filled in.
    """

    def __init__(self, channel: Channel, emit: Callable[[WireEvent], None]) -> None:
        """Begin with the connection.

        Args:
            channel: the channel of the connection.
            emit: takes the events.
        """
        self.channel = channel
        self._emit = emit
        self._initiator = _Direction()
        self._listener = _Direction()
        self._emu: bool | None = None

    def feed(self, time_ns: int | None, sender: Sender, data: bytes, lost: int = 0) -> None:
        """Take the next bytes of one direction.

        Args:
            time_ns: when they passed.
            sender: which end sent them.
            data: the bytes.
            lost: how many bytes before them the capture misses.
        """
        direction = self._direction(sender)
        if lost:
            self._lose(time_ns, sender, f"the capture misses {lost} bytes")
        buffer = direction.buffer
        if direction.searching:
            if not looks_like_spdm(data):
                direction.skipped += len(data)
                return
            self._found(time_ns, sender, direction)
        if not buffer and not self._emu and self._whole(time_ns, sender, direction, data):
            return
        buffer += data
        while buffer:
            step = self._emu_frame if self._is_emu(buffer) else self._binding_frame
            taken = step(time_ns, sender, direction)
            if not taken:
                return
            del buffer[:taken]

    def flush(self, time_ns: int | None, sender: Sender) -> None:
        """What this direction holds is all of it: give up what is not whole."""
        direction = self._direction(sender)
        if direction.buffer:
            count = len(direction.buffer)
            self._lose(time_ns, sender, f"the frame ends after {count} bytes")
        self._found(time_ns, sender, direction)

    def end(self, time_ns: int | None) -> None:
        """The connection is over."""
        for sender in (Sender.INITIATOR, Sender.LISTENER):
            direction = self._direction(sender)
            if direction.buffer:
                count = len(direction.buffer)
                self._lose(time_ns, sender, f"the stream ends {count} bytes into a frame")
            self._found(time_ns, sender, direction)
        self._event(time_ns, Sender.UNKNOWN, WireKind.CLOSED)

    def _direction(self, sender: Sender) -> _Direction:
        return self._initiator if sender is Sender.INITIATOR else self._listener

    def _event(
        self,
        time_ns: int | None,
        sender: Sender,
        kind: WireKind,
        body: bytes = b"",
        note: str = "",
    ) -> None:
        self._emit(WireEvent(time_ns, self.channel, sender, kind, body, note))

    def _lose(self, time_ns: int | None, sender: Sender, note: str) -> None:
        """Give up the place in a direction; a frame may begin with the next segment."""
        direction = self._direction(sender)
        self._event(time_ns, sender, WireKind.LOST, bytes(direction.buffer), note)
        direction.buffer.clear()
        direction.searching = True

    def _found(self, time_ns: int | None, sender: Sender, direction: _Direction) -> None:
        """Reading goes on, or is over: say what was stepped over."""
        if direction.skipped:
            note = f"{direction.skipped} bytes in which no frame begins"
            self._event(time_ns, sender, WireKind.LOST, note=note)
        direction.searching = False
        direction.skipped = 0

    def _is_emu(self, buffer: bytearray) -> bool:
        if self._emu is None and len(buffer) >= 4 and buffer[2:4] != b"\x01\xbf":
            if may_become_emu(buffer):
                return True  # it can only be that; the rest of its header is to come
            self._emu = is_emu(buffer)
            self.channel.framing = "emu" if self._emu else ""
            if not self._emu:
                self.channel.transport = "tcp"
        return bool(self._emu)

    # -- DSP0287 --------------------------------------------------------------------------------

    def _whole(
        self, time_ns: int | None, sender: Sender, direction: _Direction, data: bytes
    ) -> bool:
        """The common case: a segment is one frame of the dialect known."""
        if direction.dialect is None or len(data) < 8:
            return False
        length, version, kind = _HEADER.unpack_from(data)
        if len(data) != 4 + length - direction.dialect.extra or version != BINDING_VERSION:
            return False
        wire = _FRAMES.get(kind)
        if wire is None:
            return False
        self._emit(WireEvent(time_ns, self.channel, sender, wire, data[4:]))
        return True

    def _binding_frame(self, time_ns: int | None, sender: Sender, direction: _Direction) -> int:
        """One DSP0287 frame; gives how many bytes it took, 0 when more are needed."""
        buffer = direction.buffer
        if len(buffer) < 4:
            return 0
        length, version, kind = _HEADER.unpack_from(buffer)
        if kind == MessageType.ROLE_INQUIRY or kind >= FIRST_ERROR:
            return self._bare_frame(time_ns, sender, bytes(buffer[:4]))
        if version != BINDING_VERSION or kind not in _FRAMES:
            self._lose(time_ns, sender, f"no DSP0287 frame begins with {buffer[:4].hex()}")
            return 0
        size = self._size(direction, length, record=kind == MessageType.IN_SESSION)
        if size is None or len(buffer) < size:
            return 0
        self._event(time_ns, sender, _FRAMES[kind], bytes(buffer[4:size]))
        return size

    def _bare_frame(self, time_ns: int | None, sender: Sender, header: bytes) -> int:
        length, version, kind = _HEADER.unpack(header)
        if length or (version != BINDING_VERSION and kind == MessageType.ROLE_INQUIRY):
            self._lose(time_ns, sender, f"no DSP0287 frame begins with {header.hex()}")
            return 0
        wire = WireKind.BINDING_ERROR
        if kind == MessageType.ROLE_INQUIRY:
            wire = WireKind.ROLE_INQUIRY
        self._event(time_ns, sender, wire, bytes((kind, version)))
        return 4

    def _size(self, direction: _Direction, length: int, *, record: bool) -> int | None:
        """Bytes of the frame at hand, its header included; None when it cannot be told yet."""
        buffer = direction.buffer
        found = direction.dialect
        if record:
            found = _dialect_of_record(buffer, length, found) if len(buffer) >= 12 else None
        elif found is None:
            found = _dialect_of_message(buffer, length)
        if found is None:
            return None
        direction.dialect = found
        self.channel.dialect = found.value
        return 4 + length - found.extra

    # -- spdm-emu -------------------------------------------------------------------------------

    def _emu_frame(self, time_ns: int | None, sender: Sender, direction: _Direction) -> int:
        """One command of spdm-emu; gives how many bytes it took, 0 when more are needed."""
        buffer = direction.buffer
        if len(buffer) < _EMU_HEADER.size:
            return 0
        if not is_emu(buffer):
            self._lose(time_ns, sender, f"no spdm-emu command begins with {buffer[:12].hex()}")
            return 0
        command, transport, size = _EMU_HEADER.unpack_from(buffer)
        end: int = _EMU_HEADER.size + size
        if len(buffer) < end:
            return 0
        payload = bytes(buffer[_EMU_HEADER.size : end])
        if command != EmuCommand.NORMAL:
            name = EmuCommand(command).name
            self._event(time_ns, sender, WireKind.PLATFORM, payload, f"spdm-emu {name}")
            return end
        self.channel.transport = EmuTransport(transport).name.lower()
        try:
            self._event(time_ns, sender, *self._emu_payload(transport, payload))
        except SpdmError as error:
            self._event(time_ns, sender, WireKind.LOST, payload, str(error))
        return end

    def _emu_payload(self, transport: int, payload: bytes) -> tuple[WireKind, bytes, str]:
        if transport == EmuTransport.NONE:
            return WireKind.MESSAGE, payload, ""
        if transport == EmuTransport.MCTP:
            frame = mctp_body.decode(payload)
            return _KINDS[frame.kind], frame.body, ""
        if transport == EmuTransport.DOE:
            return describe_doe(payload)
        if not _is_binding_header(payload):
            return WireKind.LOST, payload, "no DSP0287 frame inside"
        if payload[3] == MessageType.ROLE_INQUIRY:
            return WireKind.ROLE_INQUIRY, payload[3:1:-1], ""
        if payload[3] >= FIRST_ERROR:
            return WireKind.BINDING_ERROR, payload[3:1:-1], ""
        extra = _HEADER.unpack_from(payload)[0] - (len(payload) - 4)
        self.channel.dialect = (Dialect.LIBSPDM if extra == 2 else Dialect.STRICT).value
        record = payload[3] == MessageType.IN_SESSION
        return WireKind.RECORD if record else WireKind.MESSAGE, payload[4:], ""


def describe_doe(data: bytes) -> tuple[WireKind, bytes, str]:
    """Kind, body and note of a PCI DOE data object.

    Raises:
        TransportError: it is none, or of somebody else's type.
    """
    found = doe.decode(data, requester=True)
    if isinstance(found, Frame):
        return _KINDS[found.kind], found.body, ""
    return WireKind.PLATFORM, data[8:], "DOE discovery"
