"""How sessions live and end: heartbeats, key updates, limits, policy, several at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from spdmkit.crypto.aead import Cipher
from spdmkit.crypto.registry import Aead
from spdmkit.errors import DeadlineExceeded, PeerError, ProtocolViolation, SpdmError
from spdmkit.messages import V11, V12, V13, V14, ErrorCode, Heartbeat, HeartbeatAck
from spdmkit.protocol.events import (
    ConnectionReset,
    DataArrived,
    KeysUpdated,
    ProtocolEvent,
    SessionEnded,
    SessionEstablished,
)
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.measurements import get_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    OpenedSession,
    PreSharedKey,
    end_session,
    heartbeat,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.session import Session

from .support import PSK, PSK_HINT, Pair

VERSIONS = [V11, V12, V13, V14]


def opened(
    *,
    version: int = V13,
    requester: dict[str, Any] | None = None,
    termination_policy: bool = False,
    **responder: Any,
) -> tuple[Pair, OpenedSession]:
    """A session by pre-shared key, which costs no signatures."""
    from .support import EVERYTHING

    pair = Pair(
        versions=(version,),
        requester=requester,
        responder={"capabilities": EVERYTHING, **responder},
    )
    pair.run(negotiate(pair.link))
    return pair, another(pair, termination_policy=termination_policy)


def another(pair: Pair, *, termination_policy: bool = False) -> OpenedSession:
    key = PreSharedKey(PSK_HINT, PSK)
    return pair.run(psk_exchange(pair.link, key, termination_policy=termination_policy))


def theirs(pair: Pair, one: OpenedSession) -> Session:
    return pair.responder.connection.sessions[one.session.session_id]


def idle(pair: Pair, seconds: float) -> None:
    """Let time pass while the application has nothing to say."""
    end = pair.clock.now + seconds
    while True:
        while pair.step():
            pass
        times = [pair.requester.next_deadline(), pair.responder.next_deadline()]
        due = min((time for time in times if time is not None), default=end)
        if due >= end:
            break
        pair.clock.now = max(pair.clock.now, due)
        pair.requester.on_time(pair.clock.now)
        pair.responder.on_time(pair.clock.now)
    pair.clock.now = end


def ended(pair: Pair, who: str) -> list[str]:
    """Why sessions of one side ended."""
    return [e.reason for w, e in pair.events if w == who and isinstance(e, SessionEnded)]


def events(pair: Pair, who: str, kind: type[ProtocolEvent]) -> int:
    return sum(w == who and isinstance(e, kind) for w, e in pair.events)


class TestHeartbeat:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_an_idle_requester_sends_it_by_itself(self, version: int) -> None:
        pair, one = opened(version=version, heartbeat_period=5)
        before = len(pair.wire)
        idle(pair, 60)
        assert one.session.alive
        assert theirs(pair, one).alive
        beats = [frame for who, frame in pair.wire[before:] if who == "requester"]
        assert 60 / 5 <= len(beats) <= 60 / 4 + 1
        assert pair.run(one.link.converse(b"still here")).data == b"still here"

    def test_none_is_sent_while_there_is_traffic(self) -> None:
        pair, one = opened(heartbeat_period=10)
        for _ in range(10):
            idle(pair, 5)
            pair.run(one.link.converse(b"x"))
        assert sum(who == "requester" for who, _ in pair.wire) == 10 + 5

    def test_without_a_period_a_session_lasts(self) -> None:
        pair, one = opened(heartbeat_period=0)
        before = len(pair.wire)
        idle(pair, 1e6)
        assert len(pair.wire) == before
        assert one.session.alive
        assert theirs(pair, one).alive

    def test_without_the_capability_there_is_no_period(self) -> None:
        from spdmkit.messages import RequesterFlags
        from spdmkit.protocol.capabilities import requester_capabilities

        flags = requester_capabilities(sessions=True, psk=True) & ~RequesterFlags.HBEAT_CAP
        _, one = opened(heartbeat_period=5, requester={"capabilities": flags})
        assert one.session.heartbeat_period == 0

    def test_the_responder_ends_a_silent_session_after_two_periods(self) -> None:
        pair, one = opened(heartbeat_period=5)
        pair.bend = lambda who, frame: None if who == "requester" else frame
        start = pair.clock.now
        while one.session.session_id in pair.responder.connection.sessions:
            deadline = pair.responder.next_deadline()
            assert deadline is not None
            pair.clock.now = deadline
            pair.responder.on_time(deadline)
        assert pair.clock.now - start == 10
        assert ended(pair, "responder") == ["no heartbeat for two periods"]

    def test_the_requester_ends_a_silent_session_after_two_periods(self) -> None:
        pair, one = opened(heartbeat_period=5)
        pair.clock.now += 11  # the application's thread slept through its own deadlines
        pair.requester.on_time(pair.clock.now)
        assert not one.session.alive
        assert ended(pair, "requester") == ["no traffic for two heartbeat periods"]
        with pytest.raises(ProtocolViolation):
            pair.run(one.link.converse(b"x"))

    def test_no_answer_to_a_heartbeat_ends_everything(self) -> None:
        pair, one = opened(heartbeat_period=5)
        pair.bend = lambda who, frame: None
        idle(pair, 30)
        assert not one.session.alive
        assert pair.requester.close_wanted
        assert ended(pair, "requester")[0].startswith("connection lost")

    def test_each_session_has_its_own_time(self) -> None:
        pair, one = opened(heartbeat_period=5)
        two = another(pair)
        for _ in range(10):
            pair.clock.now += 1.5
            pair.responder.on_time(pair.clock.now)
            pair.run(two.link.converse(b"x"))
        assert one.session.session_id not in pair.responder.connection.sessions
        assert theirs(pair, two).alive

    def test_it_does_not_run_out_while_the_responder_works(self) -> None:
        """The requester waits for its answer and may say nothing else meanwhile."""
        pair, one = opened(heartbeat_period=1)
        session = theirs(pair, one)
        ticket = pair.requester.submit(get_measurements(one.link))
        (frame,) = pair.requester.outgoing()
        pair.responder.receive(frame, pair.clock.now)
        jobs = pair.responder.work()
        if jobs:
            pair.clock.now += 30
            pair.responder.on_time(pair.clock.now)
            assert session.alive
        ticket.cancel()

    def test_by_hand(self) -> None:
        pair, one = opened(heartbeat_period=5)
        pair.run(heartbeat(one.link))
        with pytest.raises(ProtocolViolation):
            pair.run(heartbeat(pair.link))


class TestKeyUpdate:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("all_keys", [False, True])
    def test_by_the_requester(self, version: int, all_keys: bool) -> None:
        pair, one = opened(version=version)
        for _ in range(3):
            pair.run(key_update(one.link, all_keys=all_keys))
            assert pair.run(one.link.converse(b"x")).data == b"x"
        assert events(pair, "requester", KeysUpdated) == 3 * (1 + all_keys)
        assert events(pair, "responder", KeysUpdated) == 3 * (1 + all_keys)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_by_the_responder(self, version: int) -> None:
        """The ENCAPSULATED_RESPONSE_ACK after its KEY_UPDATE_ACK has the new key already."""
        pair, one = opened(version=version)
        pair.responder.update_keys(theirs(pair, one))
        assert pair.run(poll(one.link))
        assert events(pair, "responder", KeysUpdated) == 1
        assert events(pair, "requester", KeysUpdated) == 1
        assert not one.session.receiver.update_pending
        assert pair.run(one.link.converse(b"x")).data == b"x"
        assert not pair.run(poll(one.link))

    def test_the_responders_wish_is_found_by_polling(self) -> None:
        pair, one = opened(requester={"poll_interval": 10.0, **_able()})
        pair.responder.update_keys(theirs(pair, one))
        idle(pair, 15)
        assert events(pair, "responder", KeysUpdated) == 1
        idle(pair, 1000)
        assert pair.run(one.link.converse(b"x")).data == b"x"

    def test_polling_does_for_heartbeats(self) -> None:
        pair, one = opened(heartbeat_period=30, requester={"poll_interval": 10.0, **_able()})
        before = len(pair.wire)
        idle(pair, 301)
        assert one.session.alive
        assert sum(who == "requester" for who, _ in pair.wire[before:]) == 30

    def test_the_old_key_serves_until_the_new_one_is_seen(self) -> None:
        pair, one = opened()
        session = theirs(pair, one)
        session.announce_receiving()
        assert session.receiver.update_pending
        assert pair.run(one.link.converse(b"under the old key")).data == b"under the old key"
        assert session.receiver.update_pending
        one.session.update_sending()
        assert pair.run(one.link.converse(b"under the new key")).data == b"under the new key"
        assert not session.receiver.update_pending

    def test_once_the_new_key_is_seen_the_old_one_is_gone(self) -> None:
        pair, one = opened()
        stale: list[Frame] = []

        def keep_first(who: str, frame: Frame) -> Frame | None:
            if who == "requester" and not stale:
                stale.append(frame)
                return None
            return frame

        pair.bend = keep_first
        pair.run(one.link.tell(b"kept back"))
        while pair.step():
            pass
        session = theirs(pair, one)
        session.announce_receiving()
        one.session.update_sending()
        pair.run(one.link.converse(b"new"))
        pair.responder.receive(stale[0], pair.clock.now)
        assert not session.alive

    def test_a_busy_responder_does_not_cost_the_session(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """UpdateAllKeys is acknowledged under the new key, and refused under the old one."""
        pair, one = opened()
        session = theirs(pair, one)
        original = pair.responder._begin
        refusals: list[Any] = []

        def busy(code: Any, *rest: Any) -> None:
            if not refusals:
                refusals.append(code)
                raise ProtocolViolation("busy", error_code=ErrorCode.BUSY)
            original(code, *rest)

        monkeypatch.setattr(pair.responder, "_begin", busy)
        pair.run(key_update(one.link, all_keys=True))
        assert refusals
        assert session.alive
        assert pair.run(one.link.converse(b"x")).data == b"x"

    @pytest.mark.parametrize("all_keys", [False, True])
    def test_a_refusal(self, all_keys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        pair, one = opened()

        def refuse(*_: Any) -> None:
            raise ProtocolViolation("no", error_code=ErrorCode.UNSPECIFIED)

        monkeypatch.setattr(pair.responder, "_begin", refuse)
        with pytest.raises(PeerError):
            pair.run(key_update(one.link, all_keys=all_keys))
        # Asked for the peer's keys too, it cannot be known which ones it has now.
        assert one.session.alive is not all_keys

    @pytest.mark.parametrize(
        ("operation", "first"), [(3, None), (0, None), (4, None), (0xFF, None), (1, 1), (2, 1)]
    )
    def test_operations_out_of_order(self, operation: int, first: int | None) -> None:
        from spdmkit.messages import KeyUpdate, KeyUpdateAck

        pair, one = opened()
        if first is not None:
            pair.run(one.link.ask(KeyUpdate(operation=first, tag=1), KeyUpdateAck))
        with pytest.raises(PeerError) as caught:
            pair.run(one.link.ask(KeyUpdate(operation=operation, tag=2), KeyUpdateAck))
        assert caught.value.code == ErrorCode.INVALID_REQUEST

    def test_the_responder_may_not_have_all_keys_updated(self) -> None:
        from spdmkit.messages import KeyUpdate, KeyUpdateAck
        from spdmkit.protocol.responder.flow import EncapsulatedLink

        pair, one = opened()
        errors: list[SpdmError] = []

        def starter(link: EncapsulatedLink) -> Any:
            try:
                yield from link.ask(KeyUpdate(operation=2, tag=1), KeyUpdateAck)
            except SpdmError as error:
                errors.append(error)

        pair.responder.ask(starter, theirs(pair, one))
        assert pair.run(poll(one.link))
        assert isinstance(errors[0], PeerError)


def _able() -> dict[str, Any]:
    from spdmkit.protocol.capabilities import requester_capabilities

    return {"capabilities": requester_capabilities(sessions=True, psk=True)}


class TestLimits:
    def test_the_smaller_limit_counts(self) -> None:
        pair, one = opened(aead_limit_exponent=6, requester={"aead_limit_exponent": 5, **_able()})
        assert one.session.limit == theirs(pair, one).limit == 32

    def test_a_key_protects_no_more_records_than_it_may(self) -> None:
        pair, one = opened(aead_limit_exponent=4)
        for _ in range(16):
            pair.run(one.link.converse(b"x"))
        with pytest.raises(ProtocolViolation, match="AEAD limit"):
            pair.run(one.link.converse(b"x"))
        assert not one.session.alive
        assert len(pair.device.received) == 16
        assert ended(pair, "requester") == ["the AEAD limit of our key is reached"]

    def test_the_receiver_counts_too(self) -> None:
        pair, one = opened(aead_limit_exponent=4)
        one.session.sender._state.limit = 1 << 20  # type: ignore[union-attr]  # a peer that does not count
        for _ in range(16):
            pair.run(one.link.converse(b"x"))
        with pytest.raises(SpdmError):
            pair.run(one.link.converse(b"x"))
        assert ended(pair, "responder") == ["the AEAD limit of this key is reached"]

    def test_a_key_update_begins_anew(self) -> None:
        pair, one = opened(aead_limit_exponent=6)
        for _ in range(300):
            if one.session.update_due:
                pair.run(key_update(one.link, all_keys=True))
            pair.run(one.link.converse(b"x"))
        assert one.session.alive

    def test_the_responder_ends_a_session_that_it_can_no_longer_answer(self) -> None:
        pair, one = opened(aead_limit_exponent=4)
        theirs(pair, one).sender._state.limit = 2  # type: ignore[union-attr]  # as if it had said more
        for _ in range(2):
            pair.run(heartbeat(one.link))
        with pytest.raises(SpdmError):
            pair.run(heartbeat(one.link))
        assert not pair.responder.connection.sessions


class Watched:
    """A cipher that refuses to seal twice with one key and nonce."""

    used: ClassVar[set[tuple[bytes, bytes]]] = set()

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        self.cipher, self.key = cipher, key

    def note(self, nonce: bytes) -> None:
        entry = (self.key, bytes(nonce))
        assert entry not in self.used
        self.used.add(entry)

    def seal(self, nonce: bytes, *rest: Any) -> Any:
        self.note(nonce)
        return self.cipher.seal(nonce, *rest)

    def seal_into(self, nonce: bytes, *rest: Any) -> Any:
        self.note(nonce)
        return self.cipher.seal_into(nonce, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cipher, name)


def test_no_sequence_number_comes_twice_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonce reuse (the constant GCM nonce of some stacks): key and nonce never repeat."""
    original = Aead.new
    monkeypatch.setattr(Watched, "used", set())
    monkeypatch.setattr(Aead, "new", lambda self, key: Watched(original(self, key), bytes(key)))
    used = Watched.used
    pair, one = opened(heartbeat_period=5)
    two = another(pair)
    for turn in range(12):
        for each in (one, two):
            pair.run(each.link.converse(b"x" * turn))
            pair.run(get_measurements(each.link))
            with pytest.raises(ProtocolViolation):
                pair.run(each.link.tell(bytes(1 << 17)))  # too long: no number is lost to it
            if turn % 3 == 0:
                pair.run(key_update(each.link, all_keys=turn % 2 == 0))
            if turn % 5 == 0:
                pair.responder.update_keys(theirs(pair, each))
                pair.run(poll(each.link))
        idle(pair, 12)
    assert len(used) > 100
    assert len({key for key, _ in used}) > 10


def test_keys_of_all_directions_and_phases_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    from spdmkit.crypto.keyschedule import DirectionSecret

    seen: list[tuple[bytes, bytes]] = []
    original = DirectionSecret.key_and_iv

    def key_and_iv(self: DirectionSecret) -> tuple[bytes, bytes]:
        result = original(self)
        seen.append((bytes(result[0]), bytes(result[1])))
        return result

    monkeypatch.setattr(DirectionSecret, "key_and_iv", key_and_iv)
    pair, one = opened()
    pair.run(key_update(one.link, all_keys=True))
    pair.run(key_update(one.link))
    another(pair)
    # Each of the two sides derives each key once.
    assert len(seen) == 2 * len(set(seen))


class TestSeveralSessions:
    def test_they_do_not_meet(self) -> None:
        pair, one = opened()
        two, three = another(pair), another(pair)
        for turn in range(3):
            for each in (one, two, three):
                data = f"{each.session.session_id} {turn}".encode()
                assert pair.run(each.link.converse(data)).data == data
        pair.run(key_update(two.link, all_keys=True))
        pair.run(end_session(one.link))
        assert pair.run(three.link.converse(b"x")).data == b"x"
        assert pair.run(two.link.converse(b"x")).data == b"x"
        assert sorted(pair.responder.connection.sessions) == sorted(
            each.session.session_id for each in (two, three)
        )

    def test_a_record_of_one_is_none_of_another(self) -> None:
        pair, one = opened()
        two = another(pair)
        record = one.session.sender.message(Heartbeat().encode(pair.requester.connection.context))
        forged = two.session.session_id.to_bytes(4, "little") + record[4:]
        pair.responder.receive(Frame(FrameKind.SECURED, forged), pair.clock.now)
        assert two.session.session_id not in pair.responder.connection.sessions
        assert one.session.session_id in pair.responder.connection.sessions

    def test_no_more_than_the_limit(self) -> None:
        pair, _ = opened(max_sessions=2)
        another(pair)
        with pytest.raises(PeerError) as caught:
            another(pair)
        assert caught.value.code == ErrorCode.SESSION_LIMIT_EXCEEDED
        assert len(pair.responder.connection.sessions) == 2

    def test_ids_of_the_requester_are_not_reused_while_they_live(self) -> None:
        pair, one = opened()
        halves = iter([one.session.session_id & 0xFFFF, 0x1234])
        original = pair.requester.connection.random

        def random(size: int) -> bytes:
            return next(halves).to_bytes(2, "little") if size == 2 else original(size)

        pair.requester.connection.random = random
        assert another(pair).session.session_id & 0xFFFF == 0x1234


class TestEnd:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("clear", [False, True])
    def test_end_session(self, version: int, clear: bool) -> None:
        pair, one = opened(version=version)
        pair.run(end_session(one.link, clear_negotiated_state=clear))
        assert pair.responder.connection.cached_state_cleared is clear
        assert ended(pair, "requester") == ended(pair, "responder") == ["END_SESSION"]
        with pytest.raises(ProtocolViolation):
            pair.run(one.link.converse(b"x"))
        # The connection goes on: a new session needs no new negotiation.
        assert pair.run(another(pair).link.converse(b"x")).data == b"x"

    def test_events_say_when_and_why(self) -> None:
        pair, one = opened()
        (established,) = (
            e for w, e in pair.events if w == "responder" and isinstance(e, SessionEstablished)
        )
        assert established.kind == "psk"
        assert established.session_id == one.session.session_id
        pair.run(negotiate(pair.link))
        assert ended(pair, "requester") == ended(pair, "responder") == ["GET_VERSION"]
        assert events(pair, "responder", ConnectionReset) == 1

    def test_the_responder_ends_it(self) -> None:
        """END_SESSION in the other direction, from 1.4 on: the ACK of its ACK is the last word."""
        pair, one = opened(version=V14)
        two = another(pair)
        pair.responder.end(theirs(pair, one))
        assert pair.run(poll(one.link))
        assert ended(pair, "requester") == ["END_SESSION"]
        assert ended(pair, "responder") == ["END_SESSION of the responder"]
        assert pair.run(two.link.converse(b"x")).data == b"x"

    def test_before_1_4_only_the_requester_ends_it(self) -> None:
        from spdmkit.protocol.responder.flow import own_session_end

        pair, one = opened(version=V13)
        with pytest.raises(ProtocolViolation, match=r"1\.4"):
            pair.responder.end(theirs(pair, one))
        pair.responder.ask(own_session_end, theirs(pair, one))
        pair.run(poll(one.link))
        assert one.session.alive
        assert theirs(pair, one).alive

    def test_secrets_are_dropped(self) -> None:
        pair, one = opened()
        session = theirs(pair, one)
        pair.run(end_session(one.link))
        for side in (one.session, session):
            assert not side.alive
            assert side.sender.records == 0
            with pytest.raises(ProtocolViolation):
                side.sender.message(b"\x13\xe8\0\0")
            with pytest.raises(ProtocolViolation):
                side.receiver.open(bytes(64))
            with pytest.raises(ProtocolViolation):
                side.finished(requester=True, digest=bytes(48))
            with pytest.raises(ProtocolViolation):
                side.update_sending()

    @pytest.mark.parametrize("version", [V11, V12, V13, V14])
    def test_a_changed_device_ends_sessions(self, version: int) -> None:
        """SessionPolicy bit 0 unset: the responder shall end the session (10.16)."""
        pair, one = opened(version=version)
        pair.responder.measurements_changed()
        with pytest.raises(PeerError) as caught:
            pair.run(one.link.ask(Heartbeat(), HeartbeatAck))
        told = ErrorCode.REQUEST_SESSION_TERMINATED if version >= V14 else ErrorCode.DECRYPT_ERROR
        assert caught.value.code == told
        assert not one.session.alive
        assert not pair.responder.connection.sessions

    def test_termination_policy_leaves_it_to_the_responder(self) -> None:
        pair, one = opened(termination_policy=True)
        assert theirs(pair, one).policy & 1
        pair.responder.measurements_changed()
        pair.run(one.link.ask(Heartbeat(), HeartbeatAck))
        assert one.session.alive

    def test_event_all_policy_needs_events(self) -> None:
        pair, _ = opened()
        key = PreSharedKey(PSK_HINT, PSK)
        with pytest.raises(PeerError) as caught:
            pair.run(psk_exchange(pair.link, key, event_all_policy=True))
        assert caught.value.code == ErrorCode.INVALID_REQUEST


class TestApplicationData:
    def test_told_and_taken(self) -> None:
        pair, one = opened()
        for number in range(5):
            pair.run(one.link.tell(bytes([number])))
        while pair.step():
            pass
        taken = [one.session.take() for _ in range(5)]
        assert [each.data for each in taken if each] == [bytes([n]) for n in range(5)]
        assert one.session.take() is None
        assert events(pair, "requester", DataArrived) == 5

    def test_it_may_come_before_the_answer_to_a_request(self) -> None:
        pair, one = opened()
        pair.run(one.link.tell(b"echo me"))
        assert pair.run(get_measurements(one.link))
        taken = one.session.take()
        assert taken is not None
        assert taken.data == b"echo me"

    def test_it_may_come_in_one_session_while_another_waits_for_an_answer(self) -> None:
        pair, one = opened()
        two = another(pair)
        pair.responder.tell(theirs(pair, two), b"news")
        assert pair.run(get_measurements(one.link))
        pair.responder.tell(theirs(pair, two), b"more")
        assert pair.run(get_measurements(pair.link))
        for expected in (b"news", b"more"):
            taken = two.session.take()
            assert taken is not None
            assert taken.data == expected
        assert one.session.alive

    def test_a_device_speaks_unasked(self) -> None:
        pair, one = opened()
        pair.responder.tell(theirs(pair, one), b"news")
        while pair.step():
            pass
        taken = one.session.take()
        assert taken is not None
        assert taken.data == b"news"

    def test_nobody_reads_it(self) -> None:
        pair, one = opened(requester={"inbox_limit": 1000, **_able()})
        for _ in range(20):
            pair.run(one.link.tell(bytes(100)))
        while pair.step():
            pass
        assert not one.session.alive
        assert "unread" in ended(pair, "requester")[0]
        assert not pair.requester.close_wanted

    def test_not_before_the_session_is_established(self) -> None:
        pair, one = opened()
        ended_session = one.session
        pair.run(end_session(one.link))
        for exchange in (one.link.tell(b"x"), one.link.converse(b"x"), pair.link.tell(b"x")):
            with pytest.raises(ProtocolViolation, match="established"):
                pair.run(exchange)
        with pytest.raises(ProtocolViolation):
            pair.responder.tell(ended_session, b"x")

    def test_a_refused_record_ends_the_session_and_not_the_connection(self) -> None:
        pair, one = opened()
        pair.bend = lambda who, frame: (
            Frame(frame.kind, frame.body[:-1] + bytes((frame.body[-1] ^ 1,)))
            if who == "requester"
            else frame
        )
        pair.run(one.link.tell(b"x"))
        while pair.step():
            pass
        assert not one.session.alive
        assert not theirs_or_none(pair, one)
        pair.bend = lambda _who, frame: frame
        assert pair.run(another(pair).link.converse(b"x")).data == b"x"


def theirs_or_none(pair: Pair, one: OpenedSession) -> Session | None:
    return pair.responder.connection.sessions.get(one.session.session_id)


@pytest.mark.parametrize(
    "make",
    [
        lambda pair, one: Frame(FrameKind.MESSAGE, b"\x13\x60\0\0"),
        lambda pair, one: Frame(FrameKind.MESSAGE, b"\x13\x7f\x01\0"),
        lambda pair, one: Frame(FrameKind.MESSAGE, b""),
    ],
)
def test_unasked_messages_in_the_clear_end_the_connection(
    make: Callable[[Pair, OpenedSession], Frame],
) -> None:
    pair, one = opened()
    pair.requester.receive(make(pair, one), pair.clock.now)
    assert pair.requester.close_wanted
    assert not one.session.alive


def test_unasked_records_that_are_no_application_data() -> None:
    pair, one = opened()
    two = another(pair)
    answer = theirs(pair, one).sender.message(b"\x13\x68\0\0")
    pair.requester.receive(Frame(FrameKind.SECURED, answer), pair.clock.now)
    assert not one.session.alive
    assert two.session.alive
    assert not pair.requester.close_wanted
    # A record of a session that has just ended is not worth a word.
    pair.requester.receive(Frame(FrameKind.SECURED, answer), pair.clock.now)
    assert not pair.requester.close_wanted
    # One too short to name its session is.
    pair.requester.receive(Frame(FrameKind.SECURED, b"\x01"), pair.clock.now)
    assert pair.requester.close_wanted


def test_a_deadline_closes_the_connection() -> None:
    """Amendment of DSP0274's retries for TCP: a late answer must meet no other request."""
    pair, one = opened()
    pair.bend = lambda who, frame: None
    with pytest.raises(DeadlineExceeded):
        pair.run(heartbeat(one.link))
    assert pair.requester.close_wanted
    with pytest.raises(SpdmError):
        pair.run(heartbeat(one.link))
