"""The blocking driver, against our own listener and against bytes."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from spdmkit.errors import (
    ConfigurationError,
    DeadlineExceeded,
    PeerError,
    SpdmError,
    TransportError,
)
from spdmkit.protocol.actions import Exchange, Post, Sleep, perform
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports import blocking, dial
from spdmkit.transports.blocking import BlockingConnection, connect
from spdmkit.transports.emu import EmuCommand
from spdmkit.transports.framing import Dialect, Role
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.server import listen
from spdmkit.transports.tcp import ROLE_INQUIRY, encode_frame
from spdmkit.transports.uri import EndpointUri, Host, MctpAddress

from .support import (
    BROKEN,
    ECHO,
    GET_VERSION,
    LAST,
    SILENT,
    SLOW,
    TWICE,
    VERSION,
    Responders,
    ask,
    ask_all,
    ask_version,
    both,
    request,
    requester,
)

STRICT_GET_VERSION = encode_frame(Frame(FrameKind.MESSAGE, GET_VERSION), Dialect.STRICT)
STRICT_VERSION = encode_frame(Frame(FrameKind.MESSAGE, VERSION), Dialect.STRICT)
LIBSPDM_VERSION = encode_frame(Frame(FrameKind.MESSAGE, VERSION), Dialect.LIBSPDM)


class Service:
    """A listener on an event loop in another thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.listeners: list[Any] = []
        self.responders = Responders()

    def start(self, uri: str = "tcp://127.0.0.1:0", **options: Any) -> str:
        factory = options.pop("factory", self.responders)
        listener = self.do(listen(uri, factory, **options))
        self.listeners.append(listener)
        return str(listener.uri)

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def stop(self) -> None:
        for listener in self.listeners:
            self.do(listener.close(grace=0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


Script = Callable[[socket.socket], None]


class Peers:
    """A listening socket that plays scripts in a thread, one for each connection in turn."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.count = 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def play(self) -> None:
        while True:
            try:
                sock, _address = self.listening.accept()
            except OSError:
                return
            script = self.scripts[min(self.count, len(self.scripts) - 1)]
            self.count += 1
            sock.settimeout(5)
            with sock:
                try:
                    script(sock)
                except OSError:
                    continue

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_error: object) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(10)


def until_closed(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


# -- both roles, every scheme ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        "tcp://localhost:0",
        "tcp://127.0.0.1:0?dialect=libspdm",
        "emu+tcp://127.0.0.1:0",
        "emu+mctp://127.0.0.1:0",
        "emu+doe://127.0.0.1:0",
        "emu+none://127.0.0.1:0",
    ],
)
def test_every_scheme(service: Service, uri: str) -> None:
    with connect(service.start(uri), requester) as connection:
        answers = connection.run(ask_all(ECHO, SLOW))
    assert answers[0] == VERSION
    assert answers[4] == request(SLOW, b"\1dat").body
    assert connection.closed


@pytest.mark.parametrize("scheme", ["tcp", "emu+tcp"])
def test_a_responder_that_dials(service: Service, scheme: str) -> None:
    results: list[Any] = []

    async def handler(connection: Any) -> None:
        results.append(await connection.run(ask_all(ECHO, SLOW)))

    uri = service.start(
        f"{scheme}://127.0.0.1:0", factory=both(Responders()), roles=list(Role), handler=handler
    )
    with (
        connect(uri, Responders(), role=Role.RESPONDER) as connection,
        pytest.raises(TransportError, match="closed the connection")
        if scheme == "tcp"
        else nullcontext(),
    ):
        connection.serve()
    assert results[0][0] == VERSION


def test_a_refused_role(service: Service) -> None:
    uri = service.start()
    with (
        connect(uri, Responders(), role=Role.RESPONDER) as connection,
        pytest.raises(PeerError) as caught,
    ):
        connection.serve()
    assert caught.value.code == 0xC2


def test_an_awaitable_job(service: Service) -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    call: Callable[[], int | Awaitable[int]] = answer
    with connect(service.start(), requester) as connection:
        assert connection.run(perform(call)) == 42


def test_a_job_that_fails(service: Service) -> None:
    def fail() -> None:
        raise LookupError("no key")

    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        with pytest.raises(LookupError):
            connection.run(perform(fail))


def test_sleeping_and_posting(service: Service) -> None:
    def exchange() -> Exchange[float]:
        yield Post(request(SILENT))
        started = time.monotonic()
        yield Sleep(started + 0.05)
        return time.monotonic() - started

    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        assert connection.run(exchange()) >= 0.05
        assert connection.run(ask(request(ECHO))) == request(ECHO).body


def test_large_frames(service: Service) -> None:
    body = bytes(range(256)) * 255
    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        for _ in range(20):
            assert connection.run(ask(request(ECHO, body)))[4:] == body


# -- dialects -------------------------------------------------------------------------------------


def answers_libspdm(sock: socket.socket) -> None:
    head = exactly(sock, 4)
    exactly(sock, int.from_bytes(head[:2], "little") - 2)
    sock.sendall(LIBSPDM_VERSION)
    until_closed(sock)


def closes(sock: socket.socket) -> None:
    exactly(sock, 4)


def too_large(sock: socket.socket) -> None:
    exactly(sock, 4)
    sock.sendall(bytes.fromhex("000001c0"))
    until_closed(sock)


@pytest.mark.parametrize("wrong", [closes, too_large, until_closed])
def test_a_wrong_guess_is_followed_by_the_other_dialect(wrong: Script) -> None:
    memory = DialectMemory()
    with Peers(wrong, answers_libspdm) as peers:
        uri = f"tcp://127.0.0.1:{peers.port}"
        with connect(uri, requester, memory=memory) as connection:
            assert connection.run(ask_version(patience=0.3)) == VERSION
            assert connection.dialect is Dialect.LIBSPDM
        with connect(uri, requester, memory=memory) as connection:
            assert connection.run(ask_version()) == VERSION
        assert peers.count == 3


def test_neither_dialect() -> None:
    with Peers(closes) as peers, connect(f"tcp://127.0.0.1:{peers.port}", requester) as connection:
        with pytest.raises(TransportError, match="in both dialects"):
            connection.run(ask_version())
        assert connection.closed
        assert peers.count == 2


def test_the_second_connection_may_be_refused() -> None:
    def closes_for_good(sock: socket.socket) -> None:
        peers.listening.shutdown(socket.SHUT_RDWR)
        exactly(sock, 4)

    peers = Peers(closes_for_good)
    try:
        with connect(f"tcp://127.0.0.1:{peers.port}", requester) as connection:
            with pytest.raises(TransportError, match="cannot connect"):
                connection.run(ask_version())
            assert connection.closed
    finally:
        peers.thread.join(10)
        peers.listening.close()


@pytest.mark.parametrize("verdict", ["000002c1", "000001c2", "000001c3"])
def test_other_error_frames_are_verdicts(verdict: str) -> None:
    def refuses(sock: socket.socket) -> None:
        exactly(sock, 8)
        sock.sendall(bytes.fromhex(verdict))
        until_closed(sock)

    with Peers(refuses) as peers:
        with (
            connect(f"tcp://127.0.0.1:{peers.port}", requester) as connection,
            pytest.raises(PeerError) as caught,
        ):
            connection.run(ask_version())
        assert caught.value.code == int(verdict[-2:], 16)
        assert peers.count == 1


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_deadline_that_passes_closes(service: Service) -> None:
    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        with pytest.raises(DeadlineExceeded):
            connection.run(ask(request(SILENT), patience=0.05))
        assert connection.closed
        with pytest.raises(TransportError):
            connection.run(ask(request(ECHO)))


def test_an_answer_in_the_kernel_is_in_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> Exchange[bytes]:
        exchange = ask(request(ECHO), patience=0.02)
        action = next(exchange)
        answer = yield action
        try:
            exchange.send(answer)
        except StopIteration as stop:
            result: bytes = stop.value
            return result
        raise AssertionError

    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        readable = connection._readable

        def slowly(wait: float) -> bool:
            """Sleeps past the deadline before it looks."""
            time.sleep(0.1)
            return readable(0.0)

        monkeypatch.setattr(connection, "_readable", slowly)
        assert connection.run(late()) == request(ECHO).body


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal; a shell has what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_closes_the_connection(service: Service) -> None:
    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        # To this very thread: os.kill may pick another one, and then nothing wakes the wait.
        here = threading.get_ident()
        timer = threading.Timer(0.1, signal.pthread_kill, (here, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            connection.run(ask(request(SILENT)))
        timer.join()
        assert connection.closed
        with pytest.raises(TransportError):
            connection.run(ask(request(ECHO)))


def test_a_responder_that_closes(service: Service) -> None:
    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        assert connection.run(ask(request(LAST))) == request(LAST).body
        with pytest.raises(TransportError, match=r"closed|broke"):
            connection.run(ask(request(ECHO)))


def test_a_responder_that_fails_inside(service: Service) -> None:
    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        with pytest.raises(TransportError, match="closed"):
            connection.run(ask(request(BROKEN)))


def test_a_second_answer_meets_no_request(service: Service) -> None:
    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        connection.run(ask(request(TWICE)))
        time.sleep(0.05)
        with pytest.raises(TransportError):
            assert connection.run(ask(request(ECHO, b"mine"))) == request(ECHO, b"mine").body


def test_an_exchange_with_a_fault_of_its_own(service: Service) -> None:
    def faulty() -> Exchange[None]:
        yield from ask(request(ECHO))
        raise LookupError("not ours to judge")

    with connect(service.start(), requester) as connection:
        connection.run(ask_version())
        with pytest.raises(LookupError):
            connection.run(faulty())
        assert connection.closed


def test_garbage_is_answered_and_closed() -> None:
    heard: list[bytes] = []

    def talks_nonsense(sock: socket.socket) -> None:
        exactly(sock, 8)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        heard.append(sock.recv(16))

    with (
        Peers(talks_nonsense) as peers,
        connect(f"tcp://127.0.0.1:{peers.port}", requester) as connection,
        pytest.raises(TransportError, match="BindingVer"),
    ):
        connection.run(ask_version())
    assert heard == [bytes.fromhex("000001c1")]


def test_an_error_frame_read_after_sending_failed() -> None:
    """The peer refuses and closes while we are still sending: what it said is what counts."""

    def refuses_early(sock: socket.socket) -> None:
        exactly(sock, 8)
        sock.sendall(STRICT_VERSION)
        exactly(sock, 4)
        sock.sendall(bytes.fromhex("000001c0"))
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)

    with Peers(refuses_early) as peers:
        uri = f"tcp://127.0.0.1:{peers.port}?dialect=strict"
        with connect(uri, requester) as connection:
            connection.run(ask_version())
            with pytest.raises(PeerError, match="0xC0"):
                connection.run(ask(request(ECHO, bytes(60_000))))


def test_a_peer_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "WRITE_TIMEOUT", 0.2)
    release = threading.Event()

    def takes_nothing(sock: socket.socket) -> None:
        exactly(sock, 8)
        sock.sendall(STRICT_VERSION)
        release.wait(10)

    def flood() -> Exchange[None]:
        for _ in range(400):
            yield Post(request(ECHO, bytes(60_000)))
        yield from ask(request(ECHO))

    with Peers(takes_nothing) as peers:
        try:
            with connect(f"tcp://127.0.0.1:{peers.port}", requester) as connection:
                connection.run(ask_version())
                with pytest.raises(SpdmError, match="takes nothing"):
                    connection.run(flood())
        finally:
            release.set()


# -- connecting -----------------------------------------------------------------------------------


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match=r"to .*: Connection refused$") as caught:
        connect(f"tcp://127.0.0.1:{port}", requester)
    assert f"port {port}" in caught.value.hint


def test_no_such_name() -> None:
    with pytest.raises(TransportError, match="does not resolve"):
        connect("tcp://no-such-host.invalid", requester)


def test_no_such_transport() -> None:
    uri = EndpointUri("carrier+pigeon", MctpAddress(1, 9))
    with pytest.raises(ConfigurationError, match="no transport"):
        connect(uri, requester)


def test_an_opening_without_end() -> None:
    with Peers(until_closed) as peers:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="did not open"):
            connect(f"emu+mctp://127.0.0.1:{peers.port}", requester, timeout=0.1)
        assert time.monotonic() - started < 2


def test_a_wrong_service() -> None:
    def greets(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
        until_closed(sock)

    with Peers(greets) as peers, pytest.raises(TransportError, match="no command"):
        connect(f"emu+mctp://127.0.0.1:{peers.port}", requester)


def test_closing_twice_and_after_the_peer(service: Service) -> None:
    connection = connect(service.start("emu+mctp://127.0.0.1:0"), requester)
    connection.run(ask_version())
    service.do(service.listeners[0].close(grace=0))
    connection.close()
    connection.close()
    assert connection.closed


def test_addresses_are_tried_family_by_family() -> None:
    one, two, three = (
        (socket.AF_INET6, ("a", 1)),
        (socket.AF_INET6, ("b", 1)),
        (socket.AF_INET, ("c", 1)),
    )
    assert dial.interleave([one, two, three, one]) == [one, three, two]
    assert dial.interleave([]) == []


def test_a_dead_address_does_not_hold_up_a_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address swallows what is sent to it; the second one answers at once."""
    with socket.create_server(("127.0.0.1", 0)) as live, socket.socket() as full:
        # A listener whose queue is full answers nobody.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        stuck = [socket.socket() for _ in range(4)]
        for sock in stuck:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        addresses = [
            (socket.AF_INET, full.getsockname()),
            (socket.AF_INET, live.getsockname()),
        ]
        monkeypatch.setattr(dial, "resolve", lambda _host: list(addresses))
        started = time.monotonic()
        with dial.dial(Host("h", 1), 5) as sock:
            assert sock.getpeername() == live.getsockname()
        assert 0.2 < time.monotonic() - started < 2
        addresses.pop()
        with pytest.raises(DeadlineExceeded, match="no answer"):
            dial.dial(Host("h", 1), 0.1)
        for sock in stuck:
            sock.close()


def test_small_frames_are_sent_at_once(service: Service) -> None:
    with connect(service.start(), requester) as connection:
        sock = connection._line.wire
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- the emulator's commands, the tap -------------------------------------------------------------


def test_out_of_band_commands(service: Service) -> None:
    commands: list[Any] = []
    uri = service.start(
        "emu+mctp://127.0.0.1:0", on_command=lambda _endpoint, command: commands.append(command)
    )
    with connect(uri, requester) as connection:
        assert connection.command(EmuCommand.OOB_ENCAP_ENDPOINT_INFO) == b""
        assert connection.run(ask_version()) == VERSION
    assert commands[0].command == 0x8002
    plain = connect(service.start(), requester)
    with plain, pytest.raises(TransportError, match="no out-of-band"):
        plain.command(EmuCommand.OOB_ENCAP_ENDPOINT_INFO)


def test_a_command_without_an_answer() -> None:
    def hello_only(sock: socket.socket) -> None:
        exactly(sock, 26)
        sock.sendall(bytes.fromhex("0000dead000000010000000e") + b"Server Hello!\0")
        until_closed(sock)

    with Peers(hello_only) as peers:
        connection = connect(f"emu+mctp://127.0.0.1:{peers.port}", requester)
        with pytest.raises(DeadlineExceeded, match="0x8001"):
            connection.command(EmuCommand.OOB_ENCAP_KEY_UPDATE, patience=0.05)
        assert connection.closed


def test_a_tap_sees_every_byte(service: Service) -> None:
    log: list[tuple[str, bytes]] = []

    class Tap:
        def sent(self, data: bytes) -> None:
            log.append(("sent", data))

        def received(self, data: bytes) -> None:
            log.append(("received", data))

        def closed(self, *, by_peer: bool = False) -> None:
            log.append(("closed", b""))

    with connect(service.start(), requester, tap=lambda _local, _peer: Tap()) as connection:
        connection.run(ask_version())
    assert log == [("sent", STRICT_GET_VERSION), ("received", STRICT_VERSION), ("closed", b"")]


def test_the_role_inquiry_goes_first() -> None:
    heard: list[bytes] = []

    def listens(sock: socket.socket) -> None:
        heard.append(exactly(sock, 4))

    with Peers(listens) as peers:
        connection: BlockingConnection = connect(
            f"tcp://127.0.0.1:{peers.port}", Responders(), role=Role.RESPONDER
        )
        with pytest.raises(TransportError, match="closed"):
            connection.serve()
    assert heard == [ROLE_INQUIRY]


def test_a_closed_connection_makes_no_work_for_the_garbage_collector(service: Service) -> None:
    """What stands in a circle stays until a collection, and collections cost all the others."""
    uri = service.start()
    enabled = gc.isenabled()
    gc.disable()
    try:
        with connect(uri, requester) as connection:
            connection.run(ask_version())
        gone = weakref.ref(connection)
        del connection
        assert gone() is None
    finally:
        if enabled:
            gc.enable()
