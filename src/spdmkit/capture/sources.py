"""Where conversations come from: capture files, recorded conversations, bare frames.

    pcap, pcapng    every TCP connection on the binding's port, or on those asked for, and others
                    that begin like SPDM; MCTP messages; PCI DOE objects
    JSON            a recorded conversation: `transport`, `messages` with `from` and `frame`, and
                    maybe `trust_anchors` and `derived`
    hex, binary     frames or messages as they are, in hex one a line; `>` or `requester:` before
                    a line, `<` or `responder:`, say who sent it

The first bytes decide which it is.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from spdmkit.capture.channels import Channel, Sender, WireEvent, WireKind
from spdmkit.capture.files import is_capture, read_packets
from spdmkit.capture.framing import (
    StreamFramer,
    describe_doe,
    is_emu,
    looks_like_spdm,
    may_become_emu,
)
from spdmkit.capture.keylog import Label
from spdmkit.capture.layers import DoeObject, MctpPacket, TcpSegment, dissect
from spdmkit.capture.packets import Packet
from spdmkit.capture.reassembly import MctpAssembler, StreamEvent, TcpConnection, TcpReassembler
from spdmkit.capture.secretfiles import Secrets
from spdmkit.errors import ConfigurationError, DecodeError, SpdmError
from spdmkit.protocol.frames import FrameKind
from spdmkit.transports import mctp_body

__all__ = ["Recording", "open_recording", "read_recording"]

DEFAULT_PORT = 4194
"""DSP0287 5: followed whatever its bytes look like."""
_MAX_DOCUMENT = 1 << 28
_MAX_FRAMES = 1 << 20
_MAX_CHANNELS = 4096


@dataclass(slots=True)
class Recording:
    """An input that was opened.

    Attributes:
        format: "capture", "conversation", "hex" or "binary".
        events: what was on the wire, read as it is asked for.
        secrets: secrets that the input itself holds.
        trust_anchors: DER certificates that it names as anchors.
        derived: what the recording says was derived or computed, in order: name and value.
        notes: what is to be said about the input; grows while `events` is read.
        stream: what is read from, closed with the recording.
    """

    format: str
    events: Iterator[WireEvent]
    secrets: Secrets = field(default_factory=Secrets)
    trust_anchors: list[bytes] = field(default_factory=list)
    derived: list[tuple[str, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stream: BinaryIO | None = None

    def close(self) -> None:
        """Close what it reads from."""
        if self.stream is not None:
            self.stream.close()


def open_recording(path: str, *, ports: Iterable[int] = ()) -> Recording:
    """Open a file of any form.

    Args:
        path: the file, or `-` for standard input.
        ports: follow TCP connections on these ports only; without any, those on 4194 and those
            that begin like SPDM.

    Raises:
        ConfigurationError: it cannot be read.
        DecodeError: it is of no form known here.
    """
    try:
        stream: BinaryIO = open(0 if path == "-" else path, "rb")  # noqa: SIM115  # see close()
        return read_recording(stream, ports=ports)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"cannot read {Path(path).name}: {reason}") from error


def read_recording(stream: BinaryIO, *, ports: Iterable[int] = ()) -> Recording:
    """The same for a stream, which the recording owns from now on.

    Raises:
        DecodeError: it is of no form known here.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else _buffered(stream)
    start = buffered.peek(8)[:8]
    if is_capture(start):
        notes: list[str] = []
        events = _PacketReader(frozenset(ports), notes).read(buffered)
        return Recording("capture", events, notes=notes, stream=buffered)
    data = buffered.read(_MAX_DOCUMENT + 1)
    buffered.close()
    if len(data) > _MAX_DOCUMENT:
        raise DecodeError("recording", "size", _MAX_DOCUMENT, "too large, and no pcap or pcapng")
    if data.lstrip()[:1] == b"{":
        return _conversation(data)
    return _bare(data)


def _buffered(stream: BinaryIO) -> io.BufferedReader:
    raw: Any = stream
    if not isinstance(stream, io.RawIOBase):
        raw = _Raw(stream)
    return io.BufferedReader(raw, 1 << 20)


class _Raw(io.RawIOBase):
    """Any binary stream as a raw one."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


# --- captures -------------------------------------------------------------------------------------


class _PacketReader:
    """Everything that turns packets into events."""

    def __init__(self, ports: frozenset[int], notes: list[str]) -> None:
        self._ports = frozenset(port.to_bytes(2, "big") for port in ports)
        self._notes = notes
        self._out: list[WireEvent] = []
        self._tcp = TcpReassembler()
        self._framers: dict[int, StreamFramer | None] = {}
        self._begun: dict[tuple[int, bool], bytes] = {}
        self._mctp = MctpAssembler()
        self._channels: dict[object, _Keyed] = {}
        self._count = 0

    def read(self, stream: BinaryIO) -> Iterator[WireEvent]:
        time_ns: int | None = None
        out = self._out
        packets = 0
        try:
            for packet in read_packets(stream):
                time_ns = packet.time_ns
                packets += 1
                found = dissect(packet.link_type, packet.data)
                if found is None:
                    continue
                if isinstance(found, TcpSegment):
                    for event in self._tcp.feed(found):
                        self._stream(time_ns, event)
                elif isinstance(found, MctpPacket):
                    self._mctp_packet(packet, found)
                else:
                    self._doe_object(packet, found)
                if out:
                    yield from out
                    out.clear()
        except DecodeError as error:
            # What was captured up to here is still worth reading.
            self._notes.append(f"the capture is broken: {error}")
        for event in self._tcp.finish():
            self._stream(time_ns, event)
        yield from out
        if not self._count:
            self._notes.append(f"no SPDM in {packets} packets; --port names another TCP port")

    def _new_channel(self, transport: str, initiator: str = "", listener: str = "") -> Channel:
        self._count += 1
        return Channel(self._count, transport, initiator, listener)

    def _stream(self, time_ns: int | None, event: StreamEvent) -> None:
        connection = event.connection
        if event.ended:
            for from_initiator in (True, False):
                self._begun.pop((connection.number, from_initiator), None)
            framer = self._framers.pop(connection.number, None)
            if framer is not None:
                framer.end(time_ns)
            return
        data = event.data
        if self._begun:
            data = self._begun.pop((connection.number, event.from_initiator), b"") + data
        try:
            framer = self._framers[connection.number]
        except KeyError:
            if may_become_emu(data) and not event.lost:
                self._begun[connection.number, event.from_initiator] = data
                return
            framer = self._framers[connection.number] = self._framer(connection, data)
        if framer is not None:
            sender = Sender.INITIATOR if event.from_initiator else Sender.LISTENER
            framer.feed(time_ns, sender, data, event.lost)

    def _framer(self, connection: TcpConnection, data: bytes) -> StreamFramer | None:
        """A framer for a connection that shall be followed."""
        own = {connection.flow[-4:-2], connection.flow[-2:]}
        if self._ports:
            if not own & self._ports:
                return None
        elif DEFAULT_PORT.to_bytes(2, "big") not in own and not looks_like_spdm(data):
            return None
        channel = self._new_channel("tcp", str(connection.initiator), str(connection.listener))
        return StreamFramer(channel, self._out.append)

    def _keyed(self, key: object, transport: str, first: int, names: tuple[str, str]) -> _Keyed:
        """The channel of a key, made when it is first seen."""
        known = self._channels.get(key)
        if known is None:
            if len(self._channels) >= _MAX_CHANNELS:
                self._channels.pop(next(iter(self._channels)))
            known = self._channels[key] = _Keyed(self._new_channel(transport, *names), first)
        return known

    def _mctp_packet(self, packet: Packet, found: MctpPacket) -> None:
        message = self._mctp.feed(found)
        if message is None or message.type not in (FrameKind.MESSAGE, FrameKind.SECURED):
            return
        ends = (message.source, message.destination)
        told = ends[0] != ends[1]  # spdm-emu leaves both at zero
        names = (f"EID {ends[0]}", f"EID {ends[1]}") if told else ("", "")
        known = self._keyed(("mctp", min(ends), max(ends)), "mctp", message.source, names)
        sender = known.sender(message.source) if told else Sender.UNKNOWN
        kind = WireKind.MESSAGE if message.type == FrameKind.MESSAGE else WireKind.RECORD
        self._out.append(WireEvent(packet.time_ns, known.channel, sender, kind, message.body))

    def _doe_object(self, packet: Packet, found: DoeObject) -> None:
        known = self._keyed(("doe", packet.interface), "doe", packet.direction, ("", ""))
        sender = known.sender(packet.direction) if packet.direction else Sender.UNKNOWN
        try:
            kind, body, note = describe_doe(found.data)
        except SpdmError as error:
            kind, body, note = WireKind.LOST, found.data, str(error)
        self._out.append(WireEvent(packet.time_ns, known.channel, sender, kind, body, note))


@dataclass(slots=True)
class _Keyed:
    """A channel without connections: the first to send counts as its initiator.

    Attributes:
        channel: the channel.
        first: what told the first sender: an endpoint ID, or a direction.
    """

    channel: Channel
    first: int

    def sender(self, who: int) -> Sender:
        return Sender.INITIATOR if who == self.first else Sender.LISTENER


# --- recorded conversations -----------------------------------------------------------------------


class _Message(msgspec.Struct, rename={"sender": "from"}):
    sender: str
    frame: str
    time_ns: int | None = None


class _Document(msgspec.Struct):
    transport: str
    messages: list[_Message]
    name: str = ""
    trust_anchors: dict[str, str] = {}
    derived: list[tuple[str, str]] = []


# Made once, here: msgspec reads a declaration at its first use otherwise, and two threads that meet
# there crash the process.
_DOCUMENT: Final = msgspec.json.Decoder(_Document)


_SENDERS = {"requester": Sender.REQUESTER, "responder": Sender.RESPONDER}
_DERIVED_SECRETS = {
    "dhe_secret": Label.DHE_SECRET,
    "kem_secret": Label.KEM_SECRET,
    "psk": Label.PSK,
}


def _conversation(data: bytes) -> Recording:
    try:
        document = _DOCUMENT.decode(data)
        frames = [
            (_SENDERS[message.sender], message.time_ns, bytes.fromhex(message.frame))
            for message in document.messages
        ]
        derived = [(name, bytes.fromhex(value)) for name, value in document.derived]
        anchors = [bytes.fromhex(value) for value in document.trust_anchors.values()]
    except KeyError as error:
        reason = f"a message is from {error}, not from requester or responder"
        raise DecodeError("conversation", "messages", 0, reason) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise DecodeError("conversation", "JSON", 0, str(error)) from None
    if document.transport not in _CUTTERS:
        reason = f"{document.transport!r} is none of {', '.join(_CUTTERS)}"
        raise DecodeError("conversation", "transport", 0, reason)
    recording = Recording(
        "conversation",
        _recorded(document.transport, frames),
        trust_anchors=anchors,
        derived=derived,
    )
    for name, value in derived:
        label = _DERIVED_SECRETS.get(name)
        if label is not None:
            recording.secrets.add_loose(label, value)
    return recording


def _recorded(
    transport: str, frames: list[tuple[Sender, int | None, bytes]]
) -> Iterator[WireEvent]:
    channel = Channel(1, _TRANSPORT_NAMES.get(transport, transport), "requester", "responder")
    cut = _CUTTERS[transport](channel)
    for sender, time_ns, frame in frames:
        for event in cut(frame):
            event.time_ns, event.sender = time_ns, sender
            yield event


_TRANSPORT_NAMES = {"pci-doe": "doe"}


class _TcpCutter:
    """Each frame is one or more DSP0287 frames of one direction."""

    def __init__(self, channel: Channel) -> None:
        self._out: list[WireEvent] = []
        self._framer = StreamFramer(channel, self._out.append)

    def __call__(self, frame: bytes) -> list[WireEvent]:
        self._out.clear()
        # Whole frames come one by one, so that no bytes wait and one direction serves both.
        self._framer.feed(None, Sender.INITIATOR, frame)
        self._framer.flush(None, Sender.INITIATOR)
        return list(self._out)


class _MctpCutter:
    """Each frame is the body of an MCTP message, from its type byte on."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, frame: bytes) -> list[WireEvent]:
        try:
            found = mctp_body.decode(frame)
        except SpdmError as error:
            return [_plain(self._channel, WireKind.LOST, frame, str(error))]
        kind = WireKind.RECORD if found.kind is FrameKind.SECURED else WireKind.MESSAGE
        return [_plain(self._channel, kind, found.body)]


class _DoeCutter:
    """Each frame is a DOE data object."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, frame: bytes) -> list[WireEvent]:
        try:
            return [_plain(self._channel, *describe_doe(frame))]
        except SpdmError as error:
            return [_plain(self._channel, WireKind.LOST, frame, str(error))]


class _BareCutter:
    """Each frame is one or more SPDM messages."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, frame: bytes) -> list[WireEvent]:
        return [_plain(self._channel, WireKind.MESSAGES, frame)]


def _plain(channel: Channel, kind: WireKind, body: bytes, note: str = "") -> WireEvent:
    return WireEvent(None, channel, Sender.UNKNOWN, kind, body, note)


_CUTTERS: dict[str, Callable[[Channel], Callable[[bytes], list[WireEvent]]]] = {
    "tcp": _TcpCutter,
    "mctp": _MctpCutter,
    "pci-doe": _DoeCutter,
    "doe": _DoeCutter,
    "none": _BareCutter,
}


# --- bare frames ----------------------------------------------------------------------------------

_LINE = re.compile(
    rb"\s*(?:(?P<to>>|req(?:uester)?:|->)|(?P<back><|res(?:ponder)?:|rsp:|<-))?\s*"
    rb"(?:0x)?(?P<hex>(?:[0-9a-fA-F]{2}[ \t:]*)+)(?:#.*)?",
    re.IGNORECASE,
)


def _bare(data: bytes) -> Recording:
    """Frames or messages without anything around them, as text in hex or as they are."""
    lines = [line for line in data.splitlines() if line.partition(b"#")[0].strip()]
    matches = [_LINE.fullmatch(line) for line in lines]
    frames: list[tuple[Sender, int | None, bytes]] = []
    kind = "hex"
    if lines and len(lines) <= _MAX_FRAMES and all(matches):
        for match in filter(None, matches):
            text = match["hex"].translate(None, b" \t:")
            sender = Sender.UNKNOWN
            if match["to"] or match["back"]:
                sender = Sender.REQUESTER if match["to"] else Sender.RESPONDER
            frames.append((sender, None, bytes.fromhex(text.decode())))
        if not all(_transport_of(frame) for _, _, frame in frames):
            # Not a frame on every line: one that is broken into lines.
            frames = [(frames[0][0], None, b"".join(frame for _, _, frame in frames))]
    else:
        kind, frames = "binary", [(Sender.UNKNOWN, None, data)]
    transport = _transport_of(frames[0][2]) if frames else ""
    if not transport:
        raise DecodeError("recording", "start", 0, "neither a capture nor frames of SPDM")
    return Recording(kind, _recorded(transport, frames))


def _transport_of(frame: bytes) -> str:
    """What a frame seems to be wrapped in; empty when it is nothing known."""
    if is_emu(frame):
        return "tcp"
    if len(frame) >= 4 and frame[0] >> 4 == 1:
        return "none"
    if looks_like_spdm(frame):
        return "tcp"
    if len(frame) >= 5 and (frame[0], frame[1] >> 4) == (FrameKind.MESSAGE, 1):
        return "mctp"
    if len(frame) > 22 and frame[0] == FrameKind.SECURED:
        return "mctp"
    try:
        describe_doe(frame)
    except SpdmError:
        return ""
    return "pci-doe"
