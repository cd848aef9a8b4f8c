"""The asyncio driver: dialling, listening, either role from either side, cancelling, limits."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spdmkit.errors import (
    ConfigurationError,
    DeadlineExceeded,
    PeerError,
    SpdmError,
    TransportError,
)
from spdmkit.protocol.actions import Exchange, Post, Send, Sleep, Work
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.records import MCTP, TCP_LIBSPDM, TCP_STRICT
from spdmkit.transports.aio import AsyncConnection, Patience, connect
from spdmkit.transports.emu import EmuCommand
from spdmkit.transports.framing import Dialect, Role
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.server import Happening, Limits, Listener, ListenerEvent, listen
from spdmkit.transports.tcp import ROLE_INQUIRY, encode_frame
from spdmkit.transports.uri import EndpointUri, MctpAddress
from spdmkit.transports.workpool import WorkPool

from .support import (
    BROKEN,
    BUSY,
    ECHO,
    GET_VERSION,
    LAST,
    OPENS,
    SILENT,
    SLOW,
    TWICE,
    VERSION,
    Peer,
    Responders,
    ask,
    ask_all,
    ask_version,
    both,
    dial_bytes,
    peers_are_closed,  # noqa: F401 - a fixture that closes what a test leaves
    request,
    requester,
    serve_bytes,
    silent,
    soon,
)

STRICT_GET_VERSION = encode_frame(Frame(FrameKind.MESSAGE, GET_VERSION), Dialect.STRICT)
STRICT_VERSION = encode_frame(Frame(FrameKind.MESSAGE, VERSION), Dialect.STRICT)
LIBSPDM_VERSION = encode_frame(Frame(FrameKind.MESSAGE, VERSION), Dialect.LIBSPDM)


class Served:
    """A listener, the responders it made and what it told."""

    def __init__(self) -> None:
        self.responders = Responders()
        self.events: list[ListenerEvent] = []
        self.listener: Listener

    @property
    def uri(self) -> str:
        return str(self.listener.uri)

    @property
    def port(self) -> int:
        return self.listener.uri.host.port

    def told(self, what: Happening) -> list[ListenerEvent]:
        return [event for event in self.events if event.what is what]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    made: list[Served] = []

    async def start(uri: str = "tcp://127.0.0.1:0", **options: Any) -> Served:
        served = Served()
        factory = options.pop("factory", served.responders)
        served.listener = await listen(uri, factory, on_event=served.events.append, **options)
        made.append(served)
        return served

    yield start
    for served in made:
        await served.listener.close(grace=0)


# -- one requester, one responder -----------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        "tcp://localhost:0",
        "tcp://127.0.0.1:0?dialect=strict",
        "tcp://127.0.0.1:0?dialect=libspdm",
        "emu+tcp://127.0.0.1:0",
        "emu+mctp://127.0.0.1:0",
        "emu+doe://[::1]:0",
        "emu+none://127.0.0.1:0",
    ],
)
async def test_every_scheme_both_ends(serve: Any, uri: str) -> None:
    served = await serve(uri)
    async with await connect(served.uri, requester) as connection:
        answers = await connection.run(ask_all(ECHO, SLOW))
    assert answers[0] == VERSION
    assert answers[2] == request(ECHO, b"\1dat").body
    assert answers[4] == request(SLOW, b"\1dat").body
    await soon(lambda: not served.listener.connections)
    assert [event.what for event in served.events] == [Happening.OPENED, Happening.ENDED]
    # A plain TCP peer's leaving and the emulator's CONTINUE: both are an end in good order.
    assert served.responders.made[0].lost is not None


@pytest.mark.parametrize("dialect", list(Dialect))
async def test_a_responder_answers_in_the_dialect_of_the_request(
    serve: Any, dialect: Dialect
) -> None:
    served = await serve()
    async with await connect(f"{served.uri}?dialect={dialect.value}", requester) as connection:
        assert await connection.run(ask_version()) == VERSION
        assert served.listener.connections[0].dialect is dialect
    [responder] = served.responders.made
    expected = {Dialect.STRICT: TCP_STRICT, Dialect.LIBSPDM: TCP_LIBSPDM}[dialect]
    assert responder.connection.record_profile is expected


async def test_records_of_mctp_are_told_to_both_ends(serve: Any) -> None:
    served = await serve()
    async with await connect(f"{served.uri}?records=mctp", requester) as connection:
        assert connection.info.record_profile is MCTP
        await connection.run(ask_version())
        assert connection.endpoint.connection.record_profile is MCTP


async def test_tasks_take_turns_on_one_connection(serve: Any) -> None:
    served = await serve()
    async with await connect(served.uri, requester) as connection:
        answers = await asyncio.gather(
            connection.run(ask_version()),
            *(connection.run(ask(request(SLOW, bytes((0, n))))) for n in range(20)),
        )
    assert answers == [VERSION, *(request(SLOW, bytes((0, n))).body for n in range(20))]


async def test_frames_of_the_largest_size(serve: Any) -> None:
    served = await serve()
    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        body = bytes(range(256)) * 255
        assert (await connection.run(ask(request(ECHO, body))))[4:] == body


async def test_a_frame_too_large_to_send_ends_the_exchange(serve: Any) -> None:
    served = await serve()
    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        with pytest.raises(TransportError, match="do not fit"):
            await connection.run(ask(request(ECHO, bytes(0xFFFF))))
        assert connection.closed


async def test_a_responder_may_close_after_its_answer(serve: Any) -> None:
    served = await serve()
    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        assert await connection.run(ask(request(LAST))) == request(LAST).body
        await connection.wait_closed()
        with pytest.raises(TransportError, match="closed the connection"):
            await connection.run(ask_version())


async def test_an_answer_that_nobody_asked_for_closes(serve: Any) -> None:
    served = await serve()
    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        assert await connection.run(ask(request(TWICE))) == request(TWICE).body
        await asyncio.wait_for(connection.wait_closed(), 5)


async def test_a_record_before_a_session_closes(serve: Any) -> None:
    served = await serve()
    peer = await dial_bytes("127.0.0.1", served.port)
    record = Frame(FrameKind.SECURED, b"\xff\xff\xff\xff\x10\x00" + bytes(16))
    peer.write(STRICT_GET_VERSION + encode_frame(record, Dialect.STRICT))
    assert await peer.read_all() == STRICT_VERSION
    assert len(served.responders.made[0].received) == 1
    peer.close()


async def test_a_record_in_a_session_reaches_the_endpoint(serve: Any) -> None:
    served = await serve()
    record = Frame(FrameKind.SECURED, b"\xff\xff\xff\xff\x10\x00" + bytes(16))
    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        await connection.run(ask(request(OPENS)))
        connection.endpoint.connection.sessions[1] = None  # type: ignore[assignment]  # only its presence counts
        assert await connection.run(ask(record)) == record.body


# -- who dials is not who asks --------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "emu+tcp"])
@pytest.mark.parametrize("roles", [[Role.REQUESTER], [Role.REQUESTER, Role.RESPONDER]])
async def test_a_responder_dials_and_a_requester_listens(
    serve: Any, scheme: str, roles: list[Role]
) -> None:
    results: list[Any] = []

    async def handler(connection: AsyncConnection) -> None:
        results.append(await connection.run(ask_all(ECHO)))

    responders = Responders()
    served = await serve(
        f"{scheme}://127.0.0.1:0", factory=both(Responders()), roles=roles, handler=handler
    )
    device = await connect(served.uri, responders, role=Role.RESPONDER)
    await asyncio.wait_for(device.wait_closed(), 5)
    assert results[0][0] == VERSION
    assert device.error is None or "closed" in str(device.error)
    assert responders.made[0].info.role is Role.RESPONDER


async def test_one_listener_serves_both_models(serve: Any) -> None:
    asked: list[bytes] = []

    async def handler(connection: AsyncConnection) -> None:
        asked.append(await connection.run(ask_version()))

    responders = Responders()
    served = await serve(factory=both(responders), roles=list(Role), handler=handler)
    async with await connect(served.uri, requester) as connection:
        assert await connection.run(ask_version()) == VERSION
    device = await connect(served.uri, Responders(), role=Role.RESPONDER)
    await asyncio.wait_for(device.wait_closed(), 5)
    assert asked == [VERSION]


async def test_a_refused_role_reaches_the_initiator_in_plain_words(serve: Any) -> None:
    only_responder = await serve()
    device = await connect(only_responder.uri, Responders(), role=Role.RESPONDER)
    await asyncio.wait_for(device.wait_closed(), 5)
    assert isinstance(device.error, PeerError)
    assert (device.error.code, device.error.frame) == (0xC2, True)

    async def handler(_connection: AsyncConnection) -> None:
        raise AssertionError("there is nobody to ask")

    only_requester = await serve(factory=requester, roles=[Role.REQUESTER], handler=handler)
    connection = await connect(only_requester.uri, requester)
    with pytest.raises(PeerError, match="cannot be the responder") as caught:
        await connection.run(ask_version())
    assert caught.value.code == 0xC3
    assert "devices" in caught.value.hint
    await connection.close()


async def test_a_requester_needs_a_handler() -> None:
    with pytest.raises(ConfigurationError, match="handler"):
        await listen("tcp://127.0.0.1:0", requester, roles=[Role.REQUESTER])


async def test_a_handler_that_fails_hurts_only_its_device(serve: Any) -> None:
    async def handler(connection: AsyncConnection) -> None:
        await connection.run(ask_version())
        raise RuntimeError("a fault of ours")

    served = await serve(factory=requester, roles=[Role.REQUESTER], handler=handler)
    for _ in range(2):
        device = await connect(served.uri, Responders(), role=Role.RESPONDER)
        await asyncio.wait_for(device.wait_closed(), 5)
    await soon(lambda: len(served.told(Happening.FAILED)) == 2)


# -- dialects -------------------------------------------------------------------------------------


async def answer_libspdm(peer: Peer) -> None:
    """A peer that reads PayloadLen as the reference implementation and waits for it."""
    head = await peer.read(4)
    await peer.read(int.from_bytes(head[:2], "little") - 2)
    peer.write(LIBSPDM_VERSION)
    await peer.read_all()


async def closes(peer: Peer) -> None:
    await peer.read(4)


async def resets(peer: Peer) -> None:
    await peer.read(4)
    peer.abort()


async def too_large(peer: Peer) -> None:
    await peer.read(4)
    peer.write(bytes.fromhex("000001c0"))
    await peer.read_all()


@pytest.mark.parametrize("wrong", [closes, resets, too_large, silent])
async def test_a_wrong_guess_is_followed_by_the_other_dialect(wrong: Any) -> None:
    memory = DialectMemory()
    async with serve_bytes(wrong, answer_libspdm) as (port, peers):
        uri = f"tcp://127.0.0.1:{port}"
        async with await connect(uri, requester, memory=memory) as connection:
            assert await connection.run(ask_version(patience=0.3)) == VERSION
            assert connection.dialect is Dialect.LIBSPDM
        assert len(peers) == 2
        async with await connect(uri, requester, memory=memory) as connection:
            assert await connection.run(ask_version()) == VERSION
        assert len(peers) == 3


async def test_a_peer_that_reads_either_way_needs_no_second_connection() -> None:
    async def careless(peer: Peer) -> None:
        await peer.read(8)
        peer.write(LIBSPDM_VERSION)
        await peer.read_all()

    async with serve_bytes(careless) as (port, peers):
        async with await connect(f"tcp://127.0.0.1:{port}", requester) as connection:
            assert await connection.run(ask_version()) == VERSION
            assert connection.dialect is Dialect.LIBSPDM
        assert len(peers) == 1


async def test_no_dialect_at_all_is_said_after_both() -> None:
    async with serve_bytes(closes) as (port, peers):
        connection = await connect(f"tcp://127.0.0.1:{port}", requester)
        with pytest.raises(TransportError, match="in both dialects"):
            await connection.run(ask_version())
        assert len(peers) == 2
        await connection.close()


@pytest.mark.parametrize("query", ["?dialect=strict", "?dialect=libspdm"])
async def test_a_configured_dialect_is_not_changed(query: str) -> None:
    async with serve_bytes(closes) as (port, peers):
        connection = await connect(f"tcp://127.0.0.1:{port}{query}", requester)
        with pytest.raises(TransportError, match="closed the connection"):
            await connection.run(ask_version())
        assert len(peers) == 1
        await connection.close()


@pytest.mark.parametrize("verdict", ["000002c1", "000001c2", "000001c3", "000001ff"])
async def test_other_error_frames_are_verdicts(verdict: str) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read(8)
        peer.write(bytes.fromhex(verdict))
        await peer.read_all()

    async with serve_bytes(refuse) as (port, peers):
        connection = await connect(f"tcp://127.0.0.1:{port}", requester)
        with pytest.raises(PeerError) as caught:
            await connection.run(ask_version())
        assert caught.value.code == int(verdict[-2:], 16)
        assert len(peers) == 1
        await connection.close()


async def test_silence_names_the_dialect_when_two_bytes_are_missing() -> None:
    async def answer(peer: Peer) -> None:
        await peer.read(8)
        peer.write(LIBSPDM_VERSION)
        await peer.read_all()

    async with serve_bytes(answer) as (port, _peers):
        connection = await connect(f"tcp://127.0.0.1:{port}?dialect=strict", requester)
        with pytest.raises(DeadlineExceeded) as caught:
            await connection.run(ask_version(patience=0.2))
        assert "dialect=libspdm" in caught.value.hint
        await connection.close()


async def test_cancelling_while_dialling_again_leaves_nothing(serve: Any) -> None:
    async with serve_bytes(closes, silent) as (port, peers):
        connection = await connect(f"tcp://127.0.0.1:{port}", requester)
        task = asyncio.create_task(connection.run(ask_version()))
        await soon(lambda: len(peers) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.closed
        await asyncio.wait_for(connection.wait_closed(), 5)


async def test_a_listening_requester_uses_the_other_dialect_when_the_device_returns(
    serve: Any,
) -> None:
    errors: list[SpdmError] = []

    async def handler(connection: AsyncConnection) -> None:
        try:
            await connection.run(ask_version(patience=0.2))
        except SpdmError as error:
            errors.append(error)
            raise

    served = await serve(factory=requester, roles=[Role.REQUESTER], handler=handler)
    first_frames = []
    for _ in range(3):
        peer = await dial_bytes("127.0.0.1", served.port)
        peer.write(ROLE_INQUIRY)
        first_frames.append((await peer.read(8))[0])
        assert await peer.read_all() == b""
        peer.close()
    assert first_frames == [4, 6, 4]
    assert all(isinstance(error, DeadlineExceeded) for error in errors)
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.write(ROLE_INQUIRY)
    assert (await peer.read(8))[0] == 6
    peer.write(STRICT_VERSION)
    assert await peer.read_all() == b""
    peer.close()
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.write(ROLE_INQUIRY)
    assert (await peer.read(8))[0] == 4
    peer.close()


# -- a late answer must never meet the next request ---------------------------------------------


async def test_a_deadline_that_passes_closes_the_connection(serve: Any) -> None:
    served = await serve()
    connection = await connect(served.uri, requester)
    await connection.run(ask_version())
    with pytest.raises(DeadlineExceeded):
        await connection.run(ask(request(SILENT), patience=0.1))
    assert connection.closed
    with pytest.raises(TransportError):
        await connection.run(ask(request(ECHO)))
    await connection.close()
    await soon(lambda: not served.listener.connections)


async def test_a_deadline_passes_only_when_a_read_found_nothing(serve: Any) -> None:
    """The loop is kept busy past the deadline while the answer already lies in the kernel."""
    served = await serve()

    connection = await connect(served.uri, requester)
    await connection.run(ask_version())
    task = asyncio.create_task(connection.run(ask(request(ECHO), patience=0.05)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251  # keeping the loop busy is the point
    assert await task == request(ECHO).body
    await connection.close()


POINTS = ["before it starts", "waiting for the answer", "working", "sleeping", "in the queue"]


@pytest.mark.parametrize("point", POINTS)
async def test_cancelling_at_every_await_point(serve: Any, point: str) -> None:
    """After a request is on the wire, cancelling closes; the next request never sees its answer."""
    served = await serve()
    connection = await connect(served.uri, requester, pool=WorkPool(2))
    await connection.run(ask_version())
    running = asyncio.Event()

    def exchange() -> Exchange[bytes]:
        answer = yield from ask(request(ECHO, b"first"))
        running.set()
        if point == "waiting for the answer":
            yield Send(request(SLOW, bytes((20,))), time.monotonic() + 5)
        elif point == "working":
            yield Work(lambda: time.sleep(0.2))
        elif point == "sleeping":
            yield Sleep(time.monotonic() + 5)
        else:
            return answer
        return answer

    if point == "in the queue":
        blocker = asyncio.create_task(connection.run(ask(request(SLOW, bytes((10,))))))
        await asyncio.sleep(0)
    task = asyncio.create_task(connection.run(exchange()))
    if point in ("working", "sleeping", "waiting for the answer"):
        await asyncio.wait_for(running.wait(), 5)
    elif point == "in the queue":
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    written = point in ("working", "sleeping", "waiting for the answer")
    assert connection.closed is written
    if written:
        with pytest.raises(TransportError):
            await connection.run(ask(request(ECHO, b"second")))
        await soon(lambda: not served.listener.connections)
    else:
        if point == "in the queue":
            assert await blocker == request(SLOW, bytes((10,))).body
        assert await connection.run(ask(request(ECHO, b"second"))) == request(ECHO, b"second").body
    await connection.close()


async def test_cancelling_connect_leaves_nothing() -> None:
    """The emulator's opening is an await point too."""
    async with serve_bytes(silent) as (port, peers):
        task = asyncio.create_task(connect(f"emu+mctp://127.0.0.1:{port}", requester))
        await soon(lambda: len(peers) == 1)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The peer sees the end of the stream: nothing is left open.
        await soon(peers[0].reader.at_eof)


async def test_a_post_wants_no_answer(serve: Any) -> None:
    served = await serve()

    def post() -> Exchange[None]:
        yield Post(request(SILENT))

    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        await connection.run(post())
        assert await connection.run(ask(request(ECHO))) == request(ECHO).body


async def test_an_exchange_that_fails_for_a_reason_of_its_own_raises_that(serve: Any) -> None:
    served = await serve()

    def faulty() -> Exchange[None]:
        yield from ask(request(ECHO))
        raise LookupError("not ours to judge")

    connection = await connect(served.uri, requester)
    await connection.run(ask_version())
    with pytest.raises(LookupError):
        await connection.run(faulty())
    assert connection.closed
    await connection.close()


# -- connecting -----------------------------------------------------------------------------------


async def test_nobody_there(unused_tcp_port: int) -> None:
    with pytest.raises(TransportError, match=r"to .*: Connection refused$") as caught:
        await connect(f"tcp://127.0.0.1:{unused_tcp_port}", requester)
    assert f"port {unused_tcp_port}" in caught.value.hint


async def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(TransportError):
        await connect("tcp://no-such-host.invalid", requester)


async def test_an_opening_that_never_ends_has_a_deadline() -> None:
    async with serve_bytes(silent) as (port, _peers):
        with pytest.raises(DeadlineExceeded, match="did not open"):
            await connect(f"emu+mctp://127.0.0.1:{port}?timeout=0.1", requester)


async def test_a_wrong_service_is_told_at_once() -> None:
    async def greet(peer: Peer) -> None:
        peer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await peer.read_all()

    async with serve_bytes(greet) as (port, _peers):
        with pytest.raises(TransportError, match="no command"):
            await connect(f"emu+mctp://127.0.0.1:{port}", requester)


async def test_a_scheme_without_transport() -> None:
    uri = EndpointUri("carrier+pigeon", MctpAddress(1, 9))
    with pytest.raises(ConfigurationError, match="no transport"):
        await connect(uri, requester)


async def test_the_port_is_taken(serve: Any) -> None:
    served = await serve()
    with pytest.raises(TransportError, match="cannot listen"):
        await listen(served.uri, Responders())


async def test_a_name_with_two_families_has_one_port(serve: Any) -> None:
    served = await serve("tcp://localhost:0")
    families = {entry[0] for entry in socket.getaddrinfo("localhost", None)}
    for family in families:
        host = "::1" if family is socket.AF_INET6 else "127.0.0.1"
        peer = await dial_bytes(host, served.port)
        peer.write(STRICT_GET_VERSION)
        assert await peer.read(len(STRICT_VERSION)) == STRICT_VERSION
        peer.close()


async def test_listening_everywhere(serve: Any) -> None:
    served = await serve("tcp://:0")
    async with await connect(f"tcp://127.0.0.1:{served.port}", requester) as connection:
        assert await connection.run(ask_version()) == VERSION


# -- bad peers ------------------------------------------------------------------------------------


async def test_garbage_beside_a_good_client(serve: Any) -> None:
    """The second is served; the first gets an error frame and is closed."""
    served = await serve()
    garbage = await dial_bytes("127.0.0.1", served.port)
    connection = await connect(served.uri, requester)
    for byte in b"\x99\x88":
        garbage.write(bytes((byte,)))
        await asyncio.sleep(0.01)
        await connection.run(ask_version())
    garbage.write(b"\x77\x66")
    assert await garbage.read_all() == bytes.fromhex("000001c1")
    assert await connection.run(ask(request(ECHO))) == request(ECHO).body
    garbage.close()
    await connection.close()


async def test_an_oversize_frame_gets_its_error_even_with_its_body_unread(serve: Any) -> None:
    served = await serve(limits=Limits(max_frame=1000))
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.write(bytes.fromhex("ffff0105") + bytes(0xFFFF))
    assert await peer.read_all() == bytes.fromhex("000001c0")
    peer.close()


async def test_a_fault_in_one_connection_is_contained_and_told(serve: Any) -> None:
    served = await serve()
    good = await connect(served.uri, requester)
    await good.run(ask_version())
    bad = await connect(served.uri, requester)
    await bad.run(ask_version())
    with pytest.raises(TransportError):
        await bad.run(ask(request(BROKEN)))
    [event] = served.told(Happening.FAILED)
    assert isinstance(event.error, RuntimeError)
    assert await good.run(ask(request(ECHO))) == request(ECHO).body
    await bad.close()
    await good.close()


async def test_a_factory_that_fails_is_contained(serve: Any) -> None:
    def factory(_info: Any) -> Any:
        raise RuntimeError("no device")

    served = await serve(factory=factory)
    for _ in range(2):
        peer = await dial_bytes("127.0.0.1", served.port)
        peer.write(STRICT_GET_VERSION)
        assert await peer.read_all() == b""
        peer.close()
    assert len(served.told(Happening.FAILED)) == 2


async def test_an_event_sink_that_fails_does_not_stop_the_listener() -> None:
    def sink(_event: ListenerEvent) -> None:
        raise RuntimeError("a full disk")

    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    listener = await listen("tcp://127.0.0.1:0", Responders(), on_event=sink)
    async with await connect(str(listener.uri), requester) as connection:
        assert await connection.run(ask_version()) == VERSION
    await listener.close()
    assert faults


async def test_a_reset_by_the_peer(serve: Any) -> None:
    served = await serve()
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.write(STRICT_GET_VERSION)
    await peer.read(4)
    peer.abort()
    await soon(lambda: bool(served.told(Happening.ENDED)))
    assert served.told(Happening.ENDED)[0].error is not None


async def test_a_peer_that_leaves_in_the_middle_of_a_frame(serve: Any) -> None:
    served = await serve()
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.write(STRICT_GET_VERSION + b"\x08\x00\x01\x05\x12")
    await peer.read(len(STRICT_VERSION))
    peer.close()
    await soon(lambda: bool(served.told(Happening.ENDED)))
    assert "5 bytes into a frame" in str(served.told(Happening.ENDED)[0].error)


# -- limits ---------------------------------------------------------------------------------------


def quick(**limits: Any) -> Limits:
    patience = limits.pop("patience", Patience(handshake=0.2, idle=0.4, write=0.3))
    return Limits(patience=patience, **limits)


async def test_a_silent_client_and_a_slow_one_meet_the_handshake_deadline(serve: Any) -> None:
    served = await serve(limits=quick())
    mute = await dial_bytes("127.0.0.1", served.port)
    slow = await dial_bytes("127.0.0.1", served.port)
    started = time.monotonic()
    for byte in STRICT_GET_VERSION[:-1]:
        slow.write(bytes((byte,)))
        await asyncio.sleep(0.05)
    assert await mute.read_all() == b""
    assert await slow.read_all() == b""
    assert time.monotonic() - started < 2
    errors = [event.error for event in served.told(Happening.ENDED)]
    assert [str(error) for error in errors] == ["the handshake took too long"] * 2
    mute.close()
    slow.close()


async def test_a_session_that_is_half_way_meets_it_too(serve: Any) -> None:
    served = await serve(limits=quick(patience=Patience(handshake=0.2, idle=60)))
    connection = await connect(served.uri, requester)
    await connection.run(ask_version())
    await asyncio.sleep(0.3)
    await connection.run(ask(request(OPENS)))
    await asyncio.wait_for(connection.wait_closed(), 3)
    assert "handshake" in str(served.told(Happening.ENDED)[0].error)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(serve: Any) -> None:
    served = await serve(limits=quick())
    connection = await connect(served.uri, requester)
    await connection.run(ask_version())
    for _ in range(4):
        await asyncio.sleep(0.15)
        await connection.run(ask(request(ECHO)))
    await asyncio.wait_for(connection.wait_closed(), 3)
    assert "idle" in str(served.told(Happening.ENDED)[0].error)


async def test_drops_of_a_frame_do_not_keep_a_connection_alive(serve: Any) -> None:
    served = await serve(limits=quick())
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.write(STRICT_GET_VERSION)
    await peer.read(len(STRICT_VERSION))
    started = time.monotonic()
    for byte in bytes.fromhex("0004010512600000") + bytes(40):
        peer.write(bytes((byte,)))
        await asyncio.sleep(0.05)
        if served.told(Happening.ENDED):
            break
    assert time.monotonic() - started < 2
    peer.close()


async def test_more_connections_than_the_limit_are_refused(serve: Any) -> None:
    served = await serve(limits=Limits(connections=2))
    first = [await connect(served.uri, requester) for _ in range(2)]
    for connection in first:
        await connection.run(ask_version())
    third = await dial_bytes("127.0.0.1", served.port)
    assert await third.read_all() == b""
    assert served.listener.refused == 1
    assert len(served.told(Happening.REFUSED)) == 1
    for connection in first:
        assert await connection.run(ask(request(ECHO))) == request(ECHO).body
        await connection.close()
    await soon(lambda: not served.listener.connections)
    async with await connect(served.uri, requester) as connection:
        assert await connection.run(ask_version()) == VERSION
    third.close()


async def test_a_limit_for_each_address(serve: Any) -> None:
    served = await serve("tcp://localhost:0", limits=Limits(per_address=1))
    first = await connect(f"tcp://127.0.0.1:{served.port}", requester)
    await first.run(ask_version())
    second = await dial_bytes("127.0.0.1", served.port)
    assert await second.read_all() == b""
    second.close()
    await first.close()
    await soon(lambda: not served.listener.connections)
    async with await connect(f"tcp://127.0.0.1:{served.port}", requester) as connection:
        await connection.run(ask_version())


async def test_half_open_connections_give_way_oldest_first(serve: Any) -> None:
    served = await serve(limits=Limits(half_open=3))
    served_client = await connect(served.uri, requester)
    await served_client.run(ask_version())
    mute = []
    for number in range(5):
        mute.append(await dial_bytes("127.0.0.1", served.port))
        await soon(lambda number=number: served.listener.accepted == number + 2)  # type: ignore[misc]  # mypy knows no default in a lambda
    assert await mute[0].read_all() == b""
    assert await mute[1].read_all() == b""
    assert len(served.told(Happening.EVICTED)) == 2
    async with await connect(served.uri, requester) as connection:
        assert await connection.run(ask_version()) == VERSION
    assert await served_client.run(ask(request(ECHO))) == request(ECHO).body
    await served_client.close()
    for peer in mute:
        peer.close()


async def test_a_full_house_of_silent_peers_lets_a_newcomer_in(serve: Any) -> None:
    served = await serve(limits=Limits(connections=3))
    mute = [await dial_bytes("127.0.0.1", served.port) for _ in range(3)]
    await soon(lambda: served.listener.accepted == 3)
    async with await connect(served.uri, requester) as connection:
        assert await connection.run(ask_version()) == VERSION
    for peer in mute:
        peer.close()


async def test_too_much_work_is_answered_busy(serve: Any) -> None:
    served = await serve(pool=WorkPool(1, limit=2))
    connections = [await connect(served.uri, requester) for _ in range(4)]
    for connection in connections:
        await connection.run(ask_version())
    answers = await asyncio.gather(
        *(connection.run(ask(request(BUSY, bytes((10,))))) for connection in connections)
    )
    refused = [answer for answer in answers if answer[1] == 0x7F]
    assert len(refused) == 2
    assert all(answer == b"\x12\x7f\x03\x00" for answer in refused)
    for connection in connections:
        assert (await connection.run(ask(request(BUSY))))[1] == BUSY
        await connection.close()


async def test_a_peer_that_takes_nothing_is_left(serve: Any) -> None:
    """It sends and never reads: we stop reading, memory stays bounded, a deadline ends it."""
    served = await serve(limits=quick(patience=Patience(handshake=10, idle=60, write=0.5)))
    peer = await dial_bytes("127.0.0.1", served.port)
    peer.reader._transport.pause_reading()  # type: ignore[attr-defined]  # a peer that reads nothing
    peer.write(STRICT_GET_VERSION)
    wire = encode_frame(request(ECHO, bytes(60_000)), Dialect.STRICT)
    for _ in range(400):
        peer.write(wire)
    await soon(lambda: bool(served.told(Happening.ENDED)), patience=15)
    assert "takes nothing" in str(served.told(Happening.ENDED)[0].error)
    # 24 MB were offered; what was taken is what the kernel's buffers and ours hold.
    assert len(served.responders.made[0].received) < 300
    peer.abort()


async def test_a_slow_reader_gets_everything(serve: Any) -> None:
    served = await serve()
    peer = await dial_bytes("127.0.0.1", served.port)
    count = 100
    wire = encode_frame(request(ECHO, bytes(50_000)), Dialect.STRICT)
    peer.write(STRICT_GET_VERSION + wire * count)
    await asyncio.sleep(0.3)
    assert await peer.read(len(STRICT_VERSION)) == STRICT_VERSION
    for _ in range(count):
        assert await peer.read(len(wire)) == wire
    peer.close()


# -- stopping -------------------------------------------------------------------------------------


async def test_a_graceful_stop_finishes_what_is_in_flight(serve: Any) -> None:
    served = await serve()
    idle = await connect(served.uri, requester)
    busy = await connect(served.uri, requester)
    for connection in (idle, busy):
        await connection.run(ask_version())
    task = asyncio.create_task(busy.run(ask(request(SLOW, bytes((40,))))))
    await asyncio.sleep(0.3)
    await served.listener.close(grace=5)
    assert await task == request(SLOW, bytes((40,))).body
    await asyncio.wait_for(idle.wait_closed(), 1)
    with pytest.raises(TransportError):
        await connect(served.uri, requester)
    await idle.close()
    await busy.close()


async def test_a_stop_has_a_deadline(serve: Any) -> None:
    served = await serve(pool=WorkPool(1))
    connection = await connect(served.uri, requester)
    await connection.run(ask_version())
    task = asyncio.create_task(connection.run(ask(request(SLOW, bytes((100,))))))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await served.listener.close(grace=0.1)
    assert time.monotonic() - started < 0.8
    with pytest.raises(TransportError):
        await task
    await connection.close()


async def test_a_handler_is_cancelled_after_the_grace(serve: Any) -> None:
    ended = asyncio.Event()

    async def handler(_connection: AsyncConnection) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    served = await serve(factory=requester, roles=[Role.REQUESTER], handler=handler)
    device = await connect(served.uri, Responders(), role=Role.RESPONDER)
    await asyncio.sleep(0.05)
    await served.listener.close(grace=0.1)
    assert ended.is_set()
    await asyncio.wait_for(device.wait_closed(), 3)


# -- the emulator's commands ----------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?end=shutdown"])
@pytest.mark.parametrize("stops", [False, True])
async def test_shutdown_stops_only_where_it_may(serve: Any, query: str, stops: bool) -> None:
    served = await serve("emu+mctp://127.0.0.1:0", stop_on_shutdown=stops)
    waiting = asyncio.create_task(served.listener.serve_forever())
    async with await connect(served.uri + query, requester) as connection:
        await connection.run(ask_version())
    await soon(lambda: bool(served.told(Happening.ENDED)))
    await asyncio.sleep(0.02)
    assert waiting.done() is (stops and bool(query))
    assert bool(served.told(Happening.SHUTDOWN_ASKED)) is bool(query)
    # Either way the service goes on until it is closed.
    async with await connect(served.uri, requester) as connection:
        assert await connection.run(ask_version()) == VERSION
    served.listener.stop()
    await waiting


async def test_out_of_band_commands_reach_the_owner(serve: Any) -> None:
    commands: list[tuple[Any, Any]] = []
    served = await serve(
        "emu+mctp://127.0.0.1:0",
        on_command=lambda endpoint, command: commands.append((endpoint, command)),
    )
    async with await connect(served.uri, requester) as connection:
        await connection.run(ask_version())
        payload = b"\xff\xff\xff\xff"
        assert await connection.command(EmuCommand.OOB_ENCAP_KEY_UPDATE, payload) == b""
        assert await connection.run(ask(request(ECHO))) == request(ECHO).body
    assert commands[0][0] is served.responders.made[0]
    assert (commands[0][1].command, commands[0][1].payload) == (0x8001, payload)


async def test_a_command_without_an_answer_closes() -> None:
    async def hello_only(peer: Peer) -> None:
        await peer.read(26)
        peer.write(bytes.fromhex("0000dead000000010000000e") + b"Server Hello!\0")
        await peer.read_all()

    async with serve_bytes(hello_only) as (port, _peers):
        connection = await connect(f"emu+mctp://127.0.0.1:{port}", requester)
        with pytest.raises(DeadlineExceeded, match="0x8001"):
            await connection.command(EmuCommand.OOB_ENCAP_KEY_UPDATE, patience=0.1)
        assert connection.closed
        with pytest.raises(TransportError):
            await connection.command(EmuCommand.OOB_ENCAP_KEY_UPDATE)


async def test_plain_tcp_has_no_commands(serve: Any) -> None:
    served = await serve()
    async with await connect(served.uri, requester) as connection:
        with pytest.raises(TransportError, match="no out-of-band"):
            await connection.command(EmuCommand.OOB_ENCAP_KEY_UPDATE)


# -- what a capture sees ------------------------------------------------------------------------


class Recorder:
    """Keeps what a tap is told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes]] = []
        self.addresses: list[tuple[str, str]] = []

    def __call__(self, local: str, peer: str) -> Recorder:
        self.addresses.append((local, peer))
        return self

    def sent(self, data: bytes) -> None:
        self.log.append(("sent", data))

    def received(self, data: bytes) -> None:
        self.log.append(("received", data))

    def closed(self, *, by_peer: bool = False) -> None:
        self.log.append(("closed", b""))


async def test_a_tap_sees_every_byte_and_the_addresses(serve: Any) -> None:
    theirs, ours = Recorder(), Recorder()
    served = await serve(tap=theirs)
    async with await connect(served.uri, requester, tap=ours) as connection:
        await connection.run(ask_version())
    await soon(lambda: not served.listener.connections)
    assert ours.log == [
        ("sent", STRICT_GET_VERSION),
        ("received", STRICT_VERSION),
        ("closed", b""),
    ]
    assert theirs.log == [
        ("received", STRICT_GET_VERSION),
        ("sent", STRICT_VERSION),
        ("closed", b""),
    ]
    assert ours.addresses[0] == theirs.addresses[0][::-1]


async def test_five_hundred_at_once(serve: Any) -> None:
    served = await serve()

    async def one() -> bytes:
        async with await connect(served.uri, requester) as connection:
            return await connection.run(ask_version(patience=30))

    assert await asyncio.gather(*(one() for _ in range(500))) == [VERSION] * 500
    await soon(lambda: not served.listener.connections)
    assert served.listener.accepted == 500
