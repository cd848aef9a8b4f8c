"""One lease, without sockets: whatever comes in whatever order, each frame passes once."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.proxy.carriage import Carriage
from spdmkit.proxy.client import Client
from spdmkit.proxy.figures import DeviceFigures
from spdmkit.proxy.journal import Silent
from spdmkit.proxy.leases import Limits
from spdmkit.proxy.line import DeviceLine
from spdmkit.transports.emu import HEADER, EmuFraming, EmuTransport
from spdmkit.transports.framing import Dialect, Role, Side
from spdmkit.transports.tcp import encode_frame

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "extra", "leave", "pieces"]), st.binary(max_size=40)
    ),
    max_size=40,
)


class Ends:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = True
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        if data:
            self.written.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


def feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    memoryview(protocol.get_buffer(-1))[: len(data)] = data
    protocol.buffer_updated(len(data))


def message(data: bytes) -> Frame:
    return Frame(FrameKind.MESSAGE, b"\x12\xfe\x00\x00" + data)


def emulated(frame: Frame) -> bytes:
    return HEADER.pack(1, 1, len(frame.body) + 1) + bytes((frame.kind,)) + frame.body


async def lease(steps: list[tuple[str, bytes]]) -> None:
    client = Client(Side.LISTENER, dialect=Dialect.STRICT)
    framing = EmuFraming(EmuTransport.MCTP, Side.INITIATOR, [Role.REQUESTER], hello=False)
    line = DeviceLine(framing)
    to_client, to_device = Ends(), Ends()
    client.connection_made(to_client)  # type: ignore[arg-type]  # all that is used of a transport
    line.connection_made(to_device)  # type: ignore[arg-type]  # the same
    figures = DeviceFigures("d", "to")
    carriage = Carriage(client, line, Limits(), figures, Silent())
    carriage.start()
    # GET_VERSION first: the binding learns nothing from it here, the dialect is given.
    asked: list[Frame] = []
    answered: list[Frame] = []
    left = False
    for step, data in steps:
        frame = message(data)
        if step in ("ask", "pieces") and not left:
            asked.append(frame)
            encoded = encode_frame(frame, Dialect.STRICT)
            cut = len(data) if step == "pieces" else 0
            for piece in (encoded[:cut], encoded[cut:]):
                if piece:
                    feed(client, piece)
        elif step == "answer" and len(to_device.written) > len(answered):
            if not left:
                answered.append(frame)
            else:
                answered.append(Frame(FrameKind.MESSAGE, b""))
            feed(line, emulated(frame))
        elif step == "extra" and len(to_device.written) == len(answered):
            feed(line, emulated(frame))
        elif step == "leave" and not left:
            left = True
            client.eof_received()
        if carriage.ended.done():
            break
        # Never more than one request without an answer.
        assert len(to_device.written) - len(answered) in (0, 1)
    sent = [emulated(frame) for frame in asked[: len(to_device.written)]]
    assert to_device.written == sent
    got = [encode_frame(frame, Dialect.STRICT) for frame in answered if frame.body]
    assert to_client.written == got
    assert figures.messages.get(("request", 5), 0) == len(sent)
    assert figures.messages.get(("response", 5), 0) == len(got)
    carriage.stop()


@given(STEPS)
def test_each_frame_passes_once_and_unchanged(steps: list[tuple[str, bytes]]) -> None:
    asyncio.run(lease(steps))
