"""The proxy carries frames unchanged and once, to one client at a time, whoever vanishes."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from spdmkit.errors import SpdmError, TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.proxy.configuration import ProxyConfiguration, tcp_address
from spdmkit.proxy.device import DeviceRoute, parse_network
from spdmkit.proxy.journal import Silent
from spdmkit.proxy.leases import Limits
from spdmkit.proxy.service import Proxy
from spdmkit.transports.aio import AsyncConnection, connect
from spdmkit.transports.framing import Role
from spdmkit.transports.mctp.framing import MctpSerialFraming
from spdmkit.transports.mctp.transport import KernelTransport
from spdmkit.transports.server import listen

from ..transports.mctp.lines import losing, medium
from ..transports.mctp.test_kernel import Kernel
from ..transports.support import (
    ECHO,
    GET_VERSION,
    SILENT,
    SLOW,
    TWICE,
    VERSION,
    Responders,
    ask,
    ask_all,
    ask_version,
    dial_bytes,
    peers_are_closed,  # noqa: F401 - a fixture that closes what a test leaves
    request,
    requester,
    soon,
)
from .lab import QUICK, descriptors, lab, tasks

VERSION_STRICT = b"\x04\x00\x01\x05" + GET_VERSION


@pytest.mark.parametrize("dialect", ["strict", "libspdm", "auto"])
async def test_frames_pass_unchanged(dialect: str) -> None:
    async with lab() as lab_:
        async with await connect(f"{lab_.uri}?dialect={dialect}&records=mctp", requester) as client:
            assert (await client.run(ask_all(ECHO, ECHO)))[0] == VERSION
            sent = [request(ECHO, bytes((number,)) * number) for number in range(40)]
            for frame in sent:
                assert await client.run(ask(frame)) == frame.body
            record = Frame(FrameKind.SECURED, bytes.fromhex("01020304 0000 2000") + bytes(32))
            client.conduit.framing.secured_allowed = True
            assert await client.run(ask(record)) == record.body
        await soon(lambda: not lab_.device.figures.leased_by)
        assert lab_.received()[2:] == [*(frame.body for frame in sent), record.body]
        figures = lab_.device.figures
        assert figures.messages["request", 5] == 43
        assert figures.messages["response", 6] == 1
        assert figures.octets["request", 6] == len(record.body)
        [ended] = lab_.journal("lease-ended")
        assert (ended["reason"], ended["requests"]) == ("client", 44)


async def test_the_largest_messages() -> None:
    async with lab() as lab_, await connect(lab_.uri, requester) as client:
        await client.run(ask_version())
        body = bytes(65_531)
        assert (await client.run(ask(request(ECHO, body))))[4:] == body


async def test_over_a_serial_line(tmp_path: Path) -> None:
    behind = f"mctp+serial://{tmp_path}/d.tty?pty=create"
    async with lab(behind=behind) as lab_:
        for _ in range(2):
            async with await connect(lab_.uri, requester) as client:
                await client.run(ask_version())
                body = bytes(range(256)) * 20
                assert (await client.run(ask(request(ECHO, body))))[4:] == body
        [up] = lab_.journal("device-up")
        assert up["eid"] == 9


async def test_over_linux_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a kernel of our own; the requests have a tag each, and the types are 5 and 6."""
    kernel = Kernel()
    transports = {"mctp": KernelTransport(kernel)}
    monkeypatch.setattr("spdmkit.transports.registry._factories", transports)
    responders = Responders()
    async with await listen("mctp://1/9", responders), lab(to="mctp://1/9") as lab_:
        for _ in range(2):
            async with await connect(f"{lab_.uri}?records=mctp", requester) as client:
                await client.run(ask_version())
                body = bytes(20_000)
                assert (await client.run(ask(request(ECHO, body))))[4:] == body
                client.conduit.framing.secured_allowed = True
                record = Frame(FrameKind.SECURED, bytes.fromhex("01020304 0000 2000") + bytes(32))
                assert await client.run(ask(record)) == record.body
        await soon(lambda: lab_.device.figures.leases == 2)
    assert {message_type for _data, message_type, _tag in kernel.sent} == {5, 6}
    assert not kernel.inbox


async def test_requests_sent_at_once_are_asked_one_after_another() -> None:
    async with lab() as lab_:
        peer = await dial_bytes("127.0.0.1", lab_.port)
        slow = b"\x05\x00\x01\x05\x12" + bytes((SLOW, 0, 0, 10))
        echo = b"\x04\x00\x01\x05\x12" + bytes((ECHO, 0, 0))
        peer.write(VERSION_STRICT + slow + echo + echo)
        await peer.read(4 + len(VERSION))
        assert await peer.read(len(slow)) == slow
        assert await peer.read(2 * len(echo)) == echo + echo
        assert [body[1] for body in lab_.received()] == [SLOW, ECHO, ECHO]
        peer.close()


async def test_an_answer_too_many_is_dropped() -> None:
    async with lab() as lab_:
        async with await connect(lab_.uri, requester) as client:
            await client.run(ask_version())
            assert (await client.run(ask(request(TWICE))))[1] == TWICE
            await asyncio.sleep(0.05)
            assert (await client.run(ask(request(ECHO))))[1] == ECHO
        assert len(lab_.journal("dropped")) == 1


# -- leases ---------------------------------------------------------------------------------------


async def test_first_come_first_served() -> None:
    async with lab() as lab_:
        first = await connect(lab_.uri, requester)
        await first.run(ask_version())
        order: list[int] = []

        async def visit(number: int) -> None:
            async with await connect(f"{lab_.uri}?dialect=strict", requester) as client:
                await client.run(ask_version())
                order.append(number)

        waiting = []
        for number in range(2):
            waiting.append(asyncio.create_task(visit(number)))
            await soon(lambda number=number: lab_.device.figures.waiting == number + 1)  # type: ignore[misc]  # mypy knows no default in a lambda
        # The third finds no place.
        with pytest.raises(SpdmError):
            await visit(3)
        assert lab_.device.figures.refused == {"queue": 1}
        # Those who wait disturb nobody: the first still has the device to itself.
        assert (await first.run(ask(request(ECHO))))[1] == ECHO
        assert order == []
        await first.close()
        await asyncio.gather(*waiting)
        assert order == [0, 1]
        assert len(lab_.responders.made) >= 3


async def test_waiting_has_an_end() -> None:
    limits = Limits(wait=0.2, idle=5, lease=5, answer=2, opening=2)
    async with lab(limits) as lab_:
        async with await connect(lab_.uri, requester) as first:
            await first.run(ask_version())
            peer = await dial_bytes("127.0.0.1", lab_.port)
            assert await peer.read_all() == b""
        assert lab_.device.figures.refused == {"wait": 1}
        assert lab_.device.figures.waiting == 0


async def test_who_left_while_waiting_takes_no_place() -> None:
    async with lab() as lab_:
        async with await connect(lab_.uri, requester) as first:
            await first.run(ask_version())
            for _ in range(2):
                peer = await dial_bytes("127.0.0.1", lab_.port)
                await soon(lambda: lab_.device.figures.waiting > 0)
                peer.close()
                await asyncio.sleep(0.02)
            late = asyncio.create_task(_visit(lab_.uri))
            await asyncio.sleep(0.05)
        assert await late == VERSION
        assert not lab_.device.figures.refused


async def _visit(uri: str) -> bytes:
    async with await connect(uri, requester) as client:
        return await client.run(ask_version())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(idle=0.15, lease=5, answer=5), "idle"),
        (Limits(idle=5, lease=0.15, answer=5), "lease"),
    ],
)
async def test_leases_end(limits: Limits, reason: str) -> None:
    async with lab(limits) as lab_:
        client = await connect(lab_.uri, requester)
        await client.run(ask_version())
        await client.wait_closed()
        await soon(lambda: bool(lab_.journal("lease-ended")))
        assert lab_.journal("lease-ended")[0]["reason"] == reason
        assert lab_.device.figures.failures == {reason: 1}
        assert await _visit(lab_.uri) == VERSION


async def test_a_client_that_asks_nothing_has_less_time() -> None:
    limits = Limits(first=0.15, idle=5, lease=5)
    async with lab(limits) as lab_:
        silent = await dial_bytes("127.0.0.1", lab_.port)
        served = asyncio.create_task(_visit(lab_.uri))
        assert await silent.read_all() == b""
        assert await served == VERSION
        async with await connect(lab_.uri, requester) as client:
            await client.run(ask_version())
            await asyncio.sleep(0.3)
            assert (await client.run(ask(request(ECHO))))[1] == ECHO


async def test_a_device_that_does_not_answer() -> None:
    limits = Limits(idle=5, lease=5, answer=0.2)
    async with lab(limits) as lab_:
        client = await connect(lab_.uri, requester)
        await client.run(ask_version())
        with pytest.raises(TransportError):
            await client.run(ask(request(SILENT)))
        await client.close()
        await soon(lambda: lab_.device.figures.failures == {"answer": 1})
        assert await _visit(lab_.uri) == VERSION


async def test_a_client_that_vanishes_leaves_the_device_to_finish() -> None:
    async with lab() as lab_:
        client = await connect(lab_.uri, requester)
        await client.run(ask_version())
        run = asyncio.create_task(client.run(ask(request(SLOW, bytes((30,))))))
        await soon(lambda: len(lab_.received()) == 1)
        run.cancel()
        await client.wait_closed()
        begun = asyncio.get_running_loop().time()
        # The next one is served once the answer to nobody has come, and gets its own answers.
        async with await connect(lab_.uri, requester) as other:
            assert (await other.run(ask_all(ECHO)))[0] == VERSION
        assert asyncio.get_running_loop().time() - begun > 0.15
        assert lab_.device.figures.answers >= 3


async def test_a_lease_that_ends_in_the_middle_of_a_request() -> None:
    limits = Limits(idle=5, lease=0.1, answer=5)
    async with lab(limits) as lab_:
        client = await connect(lab_.uri, requester)
        await client.run(ask_version())
        with pytest.raises(TransportError):
            await client.run(ask(request(SLOW, bytes((30,)))))
        await client.close()
        await soon(lambda: lab_.device.figures.failures == {"lease": 1})
        assert await _visit(lab_.uri) == VERSION


# -- who is not there -----------------------------------------------------------------------------


async def test_a_device_that_is_not_there_and_comes_back() -> None:
    async with lab() as lab_:
        assert lab_.behind is not None
        await lab_.behind.close(grace=0)
        peer = await dial_bytes("127.0.0.1", lab_.port)
        peer.write(VERSION_STRICT)
        assert await peer.read_all() == b""
        await soon(lambda: lab_.device.figures.up is False)
        assert lab_.device.figures.leases == 0
        back = await listen(str(lab_.behind.uri), lab_.responders)
        assert await _visit(lab_.uri) == VERSION
        assert lab_.device.figures.up
        await back.close(grace=0)


async def test_a_device_that_vanishes_in_the_middle() -> None:
    async with lab() as lab_:
        assert lab_.behind is not None
        client = await connect(lab_.uri, requester)
        await client.run(ask_version())
        run = asyncio.create_task(client.run(ask(request(SILENT))))
        await soon(lambda: len(lab_.received()) == 1)
        await lab_.behind.close(grace=0)
        with pytest.raises(TransportError):
            await run
        await client.close()
        await soon(lambda: lab_.device.figures.failures == {"device": 1})


async def test_a_serial_device_that_restarts(tmp_path: Path) -> None:
    """It has forgotten its endpoint id: the next lease assigns one again."""
    path = f"mctp+serial://{tmp_path}/d.tty"
    responders = Responders()
    device = await listen(f"{path}?pty=create", responders)
    async with lab(to=f"{path}?peer=30") as lab_:
        assert await _visit(lab_.uri) == VERSION
        await device.close(grace=0)
        await asyncio.sleep(0.02)
        with pytest.raises(SpdmError):
            await _visit(lab_.uri)
        device = await listen(f"{path}?pty=create", responders)
        assert await _visit(lab_.uri) == VERSION
        await device.close(grace=0)


async def test_packets_lost_on_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request reaches the device once and is answered once."""
    from spdmkit.transports.mctp import transport
    from spdmkit.transports.mctp.retry import RetryRule

    rule = RetryRule(round_trip=0.05, crypto_time=0.05, tries=20)
    monkeypatch.setattr(transport, "_rule", lambda _address: rule)
    with medium(tmp_path, losing(0.1, 3), losing(0.1, 4)) as (ours, theirs):
        responders = Responders()
        device = await listen(f"mctp+serial://{theirs}", responders)
        async with lab(to=f"mctp+serial://{ours}") as lab_:
            async with await connect(lab_.uri, requester) as client:
                await client.run(ask_version())
                for number in range(20):
                    frame = request(ECHO, bytes((number,)) * 100)
                    assert await client.run(ask(frame)) == frame.body
            await soon(lambda: lab_.device.figures.retries > 0)
            seen = [
                f.body[4] for each in responders.made for f in each.received if f.body[1] == ECHO
            ]
            assert seen == list(range(20))
        await device.close(grace=0)


# -- who may, and who is called -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [(["192.0.2.0/24"], False), (["127.0.0.0/8"], True), (["::1", "127.0.0.1"], True)],
)
async def test_source_addresses(allow: list[str], allowed: bool) -> None:
    async with lab(allow=[parse_network(text) for text in allow]) as lab_:
        if allowed:
            assert await _visit(lab_.uri) == VERSION
            return
        peer = await dial_bytes("127.0.0.1", lab_.port)
        assert await peer.read_all() == b""
        assert lab_.device.figures.refused == {"address": 1}
        assert lab_.journal("refused")[0]["why"] == "its address is not allowed"


async def test_reach_out() -> None:
    served: list[bytes] = []

    async def verify(connection: AsyncConnection) -> None:
        served.append((await connection.run(ask_all(ECHO)))[0])

    async with (
        await listen(
            "tcp://127.0.0.1:0", requester, roles=[Role.REQUESTER], handler=verify
        ) as verifier,
        lab(dial=[str(verifier.uri)], every=0.05) as lab_,
    ):
        await soon(lambda: len(served) >= 3)
        assert served[0] == VERSION
        await soon(lambda: lab_.device.figures.leases >= 3)
        # Those who connect get their turn in between.
        assert await _visit(lab_.uri) == VERSION


async def test_a_verifier_that_is_not_there(unused_tcp_port: int) -> None:
    async with lab(dial=[f"tcp://127.0.0.1:{unused_tcp_port}"]) as lab_:
        await soon(lambda: lab_.device.figures.failures == {"verifier": 1})
        assert await _visit(lab_.uri) == VERSION


async def test_role_inquiry_is_refused_by_a_listener() -> None:
    async with lab() as lab_:
        peer = await dial_bytes("127.0.0.1", lab_.port)
        peer.write(b"\x00\x00\x01\xbf")
        assert await peer.read(4) == b"\x00\x00\x01\xc2"
        assert await peer.read_all() == b""
        await soon(lambda: bool(lab_.journal("lease-ended")))


async def test_garbage_from_a_client() -> None:
    async with lab() as lab_:
        for garbage in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 100, b"\x04\x00\x02\x05"):
            peer = await dial_bytes("127.0.0.1", lab_.port)
            peer.write(garbage)
            await peer.read_all()
        assert await _visit(lab_.uri) == VERSION


# -- the process ----------------------------------------------------------------------------------


async def test_it_stops_in_the_middle_and_starts_again(tmp_path: Path) -> None:
    async with lab(status_file=tmp_path / "status.json") as lab_:
        client = await connect(lab_.uri, requester)
        await client.run(ask_version())
        run = asyncio.create_task(client.run(ask(request(SILENT))))
        waiting = await dial_bytes("127.0.0.1", lab_.port)
        await soon(lambda: lab_.device.figures.waiting == 1)
        await soon((tmp_path / "status.json").exists)
    with pytest.raises(TransportError):
        await run
    await client.close()
    assert await waiting.read_all() == b""
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["devices"][0]["name"] == "nic"
    assert lab_.journal("stopped")


async def test_it_starts_again_where_it_was() -> None:
    """At the same port, while connections of its last life are still being forgotten."""
    async with await listen("emu+mctp://127.0.0.1:0", Responders()) as device:
        port = 0
        for _ in range(2):
            route = DeviceRoute(
                "nic", device.uri, (tcp_address(f"tcp://127.0.0.1:{port}", listen=True),)
            )
            async with Proxy(ProxyConfiguration((route,)), Silent()) as proxy:
                uri = proxy.devices["nic"].uris[0]
                assert port in (0, uri.host.port)
                port = uri.host.port
                client = await connect(uri, requester)
                assert await client.run(ask_version()) == VERSION
            await client.close()


async def test_a_port_that_is_taken() -> None:
    async with lab() as lab_:
        route = DeviceRoute("other", lab_.device.route.to, (tcp_address(lab_.uri, listen=True),))
        with pytest.raises(TransportError, match="cannot listen"):
            async with Proxy(ProxyConfiguration((route,)), Silent()):
                raise AssertionError


async def test_a_client_that_takes_nothing() -> None:
    """Its next requests stay unread, and so does nothing grow; then its lease is over."""
    limits = Limits(idle=0.5, lease=10, answer=5)
    async with lab(limits) as lab_:
        peer = await dial_bytes("127.0.0.1", lab_.port)
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]  # there is no public way
        peer.write(VERSION_STRICT)
        body = b"\x12" + bytes((ECHO,)) + bytes(60_000)
        frame = len(body).to_bytes(2, "little") + b"\x01\x05" + body
        for _ in range(400):
            peer.write(frame)
        await soon(lambda: bool(lab_.journal("lease-ended")), patience=10)
        assert lab_.journal("lease-ended")[0]["reason"] == "idle"
        # What the kernel holds at both ends of a connection, and little more.
        assert len(lab_.received()) < 300
        peer.abort()
        assert await _visit(lab_.uri) == VERSION


async def test_a_fault_of_ours_ends_one_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as lab_:

        def broken(*_arguments: object) -> None:
            raise RuntimeError("a fault of ours")

        with monkeypatch.context() as patch:
            patch.setattr("spdmkit.proxy.device.Carriage", broken)
            peer = await dial_bytes("127.0.0.1", lab_.port)
            assert await peer.read_all() == b""
        assert lab_.journal("fault")[0]["why"] == "RuntimeError: a fault of ours"
        assert await _visit(lab_.uri) == VERSION


async def test_nothing_leaks() -> None:
    async with lab() as lab_:
        await _visit(lab_.uri)
        await soon(lambda: not lab_.device.figures.leased_by)
        gc.collect()
        before = descriptors(), tasks()
        for _ in range(30):
            await _visit(lab_.uri)
            peer = await dial_bytes("127.0.0.1", lab_.port)
            peer.abort()
        await soon(lambda: not lab_.device.figures.leased_by)
        gc.collect()
        await soon(lambda: (descriptors(), tasks()) <= before)


async def test_the_status_page() -> None:
    async with lab(metrics=("127.0.0.1", 0), messages=True) as lab_:
        await _visit(lab_.uri)
        await soon(lambda: bool(lab_.journal("lease-ended")))
        assert lab_.proxy.page is not None

        async def fetch(request_: bytes) -> tuple[str, str]:
            assert lab_.proxy.page is not None
            peer = await dial_bytes(*lab_.proxy.page)
            peer.write(request_ + b"\r\n\r\n")
            head, _, body = (await peer.read_all()).decode().partition("\r\n\r\n")
            return head, body

        head, metrics = await fetch(b"GET /metrics HTTP/1.1\r\nHost: x")
        assert "text/plain; version=0.0.4" in head
        assert (
            'spdm_proxy_messages_total{device="nic",direction="request",type="0x05"} 1' in metrics
        )
        _head, body = await fetch(b"GET /status HTTP/1.0")
        document: dict[str, Any] = json.loads(body)
        assert document["devices"][0]["messages"]["response"] == {"0x05": 1}
        assert "404" in (await fetch(b"GET /secrets HTTP/1.0"))[0]
        assert "405" in (await fetch(b"POST /status HTTP/1.0"))[0]
        assert await fetch(b"x" * 10_000) == ("", "")
        carried = lab_.journal("carried")
        assert [line["direction"] for line in carried] == ["request", "response"]
        assert set(carried[0]) == {"time", "event", "device", "direction", "type", "bytes"}


async def test_a_journal_that_cannot_be_written_stops_nobody() -> None:
    async with lab() as lab_:
        lab_.out.close()
        assert await _visit(lab_.uri) == VERSION


def test_ids_found_are_shown() -> None:
    assert MctpSerialFraming(Role.REQUESTER).found is None
    assert QUICK.waiting == 2
