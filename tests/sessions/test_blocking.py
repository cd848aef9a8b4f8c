"""Sessions for threads that wait, over sockets."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from spdmkit.errors import AuthenticationError, ConfigurationError, PeerError, ProtocolViolation
from spdmkit.messages import Registry
from spdmkit.protocol.events import KeysUpdated, SessionEnded
from spdmkit.protocol.requester.measurements import get_measurements
from spdmkit.sessions import SessionOver, Terms, blocking

from .support import BY_PSK, Served, a_device, in_a_thread, with_heartbeat


def ended(served: Served) -> list[str]:
    return [e.reason for e in served.events if isinstance(e, SessionEnded)]


def test_send_and_receive() -> None:
    with in_a_thread(a_device()) as served:
        with blocking.open_session(served.uri, served.terms) as session:
            assert session.alive
            assert session.ended == ""
            assert session.peer.kind == "certificate"
            for number in range(5):
                session.send(b"%d" % number)
            assert [session.receive(5) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
            assert session.receive(0.01) is None
            assert session.request(b"and now") == b"and now"
            assert session.run(get_measurements)
        assert session.ended == "END_SESSION"
        with pytest.raises(SessionOver, match="END_SESSION"):
            session.send(b"x")
        with pytest.raises(SessionOver):
            session.receive()
        session.close()
        assert ended(served) == ["END_SESSION"]


def test_vendor_defined() -> None:
    with (
        in_a_thread(a_device()) as served,
        blocking.open_session(served.uri, served.terms) as session,
    ):
        vendor = (0x1234).to_bytes(4, "little")
        assert session.vendor_defined(Registry.IANA, vendor, b"payload") == b"payload"
        with pytest.raises(PeerError):
            session.vendor_defined(Registry.PCI_SIG, b"\x34\x12", b"nobody knows this")
        assert session.request(b"x") == b"x"


def test_by_pre_shared_key() -> None:
    with (
        in_a_thread(a_device()) as served,
        blocking.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):
        assert session.peer.kind == "psk"
        assert session.request(b"x") == b"x"


def test_more_than_one_session_on_a_connection() -> None:
    with (
        in_a_thread(a_device()) as served,
        blocking.open_session(served.uri, served.terms) as one,
    ):
        two = one.another()
        assert one.request(b"1") == b"1"
        assert two.request(b"2") == b"2"
        two.close()
        assert one.request(b"3") == b"3"
        assert len(served.endpoints) == 1


def test_large_and_many_records() -> None:
    """More than the kernel's buffers hold, sent before anything is received."""
    data = bytes(range(256)) * 240
    with (
        in_a_thread(a_device()) as served,
        blocking.open_session(
            served.uri, replace(served.terms, settings=_roomy(served))
        ) as session,
    ):
        for _ in range(300):
            session.send(data)
        for _ in range(300):
            assert session.receive(10) == data
        with pytest.raises(ProtocolViolation):
            session.send(bytes(1 << 17))
        assert session.request(b"x") == b"x"


def _roomy(served: Served) -> Any:
    return replace(served.terms._settings(), inbox_limit=64 << 20)


def test_heartbeats_while_the_application_is_busy_elsewhere() -> None:
    with (
        in_a_thread(with_heartbeat(2)) as served,
        blocking.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):
        time.sleep(4.4)
        assert session.alive
        assert session.request(b"still here") == b"still here"
    assert ended(served) == ["END_SESSION"]


def test_without_heartbeats_the_device_ends_it() -> None:
    with (
        in_a_thread(with_heartbeat(1)) as served,
        blocking.open_session(served.uri, Terms(psk=BY_PSK), keep_alive=False) as session,
    ):
        time.sleep(2.5)
        with pytest.raises(SessionOver):
            session.request(b"too late")
    assert ended(served)[0] == "no heartbeat for two periods"


def test_waiting_for_data_keeps_the_session_alive() -> None:
    with (
        in_a_thread(with_heartbeat(2)) as served,
        blocking.open_session(served.uri, Terms(psk=BY_PSK), keep_alive=False) as session,
    ):
        assert session.receive(4.4) is None
        assert session.alive


def test_a_device_that_speaks_first() -> None:
    with (
        in_a_thread(a_device()) as served,
        blocking.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):

        def speak() -> None:
            endpoint = served.endpoints[0]
            (theirs,) = endpoint.connection.sessions.values()
            endpoint.tell(theirs, b"news")
            served.connections[0]._pump()

        assert served.loop is not None
        served.loop.call_soon_threadsafe(speak)
        assert session.receive(5) == b"news"


def test_keys_are_updated_before_their_limit() -> None:
    with in_a_thread(a_device(aead_limit_exponent=6)) as served:
        with blocking.open_session(served.uri, Terms(psk=BY_PSK)) as session:
            for _ in range(300):
                assert session.request(b"x") == b"x"
            session.update_keys(all_keys=False)
            session.heartbeat()
            assert not session.poll()
        assert sum(isinstance(e, KeysUpdated) for e in served.events) >= 8


def test_polling_finds_what_the_device_wants() -> None:
    terms = Terms(psk=BY_PSK, poll_interval=0.2)
    with in_a_thread(a_device()) as served, blocking.open_session(served.uri, terms) as session:

        def want() -> None:
            endpoint = served.endpoints[0]
            (theirs,) = endpoint.connection.sessions.values()
            endpoint.update_keys(theirs)

        assert served.loop is not None
        served.loop.call_soon_threadsafe(want)
        deadline = time.monotonic() + 5
        while not any(isinstance(e, KeysUpdated) for e in served.events):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert session.request(b"x") == b"x"


def test_the_connection_breaks() -> None:
    with in_a_thread(a_device()) as served:
        session = blocking.open_session(served.uri, Terms(psk=BY_PSK))
        assert served.loop is not None
        served.loop.call_soon_threadsafe(served.connections[0].abort)
        time.sleep(0.3)
        with pytest.raises(SessionOver, match="connection"):
            session.request(b"x")
        assert "connection" in session.ended
        session.close()


def test_two_threads_take_turns() -> None:
    with (
        in_a_thread(a_device()) as served,
        blocking.open_session(served.uri, Terms(psk=BY_PSK)) as session,
    ):
        wrong: list[bytes] = []

        def talk(name: bytes) -> None:
            for number in range(50):
                data = name + b"%d" % number
                if session.request(data) != data:
                    wrong.append(data)

        threads = [threading.Thread(target=talk, args=(name,)) for name in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not wrong


class TestTerms:
    def test_one_of_trust_and_psk(self) -> None:
        with pytest.raises(ConfigurationError):
            Terms()
        with pytest.raises(ConfigurationError):
            Terms(trust=a_device().trust, psk=BY_PSK)
        with pytest.raises(ConfigurationError):
            Terms.trusting()
        with pytest.raises(ConfigurationError):
            Terms.trusting("/nowhere/root.pem")

    def test_a_device_of_somebody_else(self) -> None:
        from ..protocol.support import MemoryDevice

        with in_a_thread(a_device()) as served:
            stranger = Served(MemoryDevice("ecdsa-p384"), {})
            with pytest.raises(AuthenticationError) as caught:
                blocking.open_session(served.uri, Terms(stranger.trust))
            assert caught.value.step == "trust" or "anchor" in str(caught.value)

    def test_the_identity_that_is_expected(self) -> None:
        with in_a_thread(a_device()) as served:
            key = served.device.key.public_key.spki_sha256().hex()
            for good in ("ACME:Widget:0001", f"spki-sha256:{key}"):
                terms = replace(served.terms, identities=("serial:99", good))
                with blocking.open_session(served.uri, terms) as session:
                    assert session.alive
            terms = replace(served.terms, identities=("ACME:Widget:0002", f"spki-sha256:{0:064}"))
            with pytest.raises(AuthenticationError) as caught:
                blocking.open_session(served.uri, terms)
            assert caught.value.step == "identity"

    def test_secrets_are_not_shown(self) -> None:
        assert BY_PSK.key.hex() not in repr(Terms(psk=BY_PSK))

    def test_secrets_go_to_a_key_log(self) -> None:
        from spdmkit.protocol.events import KeyLogged, ProtocolEvent

        told: list[ProtocolEvent] = []
        with in_a_thread(a_device()) as served:
            terms = Terms(psk=BY_PSK, secrets=told.append)
            with blocking.open_session(served.uri, terms) as session:
                session.update_keys()
        labels = [event.label for event in told if isinstance(event, KeyLogged)]
        assert len(labels) == 6
