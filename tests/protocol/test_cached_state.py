"""Negotiated state across connections (CACHE_CAP), and the resynchronisation that replaces it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    ErrorCode,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.cache import NegotiatedStates, psk_identity
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.resume import resume_by_key, resume_by_psk
from spdmkit.protocol.requester.sessions import (
    OpenedSession,
    PreSharedKey,
    end_session,
    psk_exchange,
)

from .support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair, psk_session, refusal
from .test_attestation_flow import verified

VERSIONS = [V11, V12, V13, V14]
E, F = ErrorCode, ResponderFlags
KEY = PreSharedKey(PSK_HINT, PSK)
IDENTITY = psk_identity(PSK_HINT)


class House:
    """A device, and what its responders and a requester remember; connections come and go."""

    def __init__(self, version: int, **options: Any) -> None:
        self.device = MemoryDevice()
        self.theirs = NegotiatedStates()
        self.ours = NegotiatedStates()
        self.version = version
        self.options = options

    def connect(self, **changes: Any) -> Pair:
        options: dict[str, Any] = {"requester": {}, "responder": {}, **self.options, **changes}
        options["responder"] = {
            "capabilities": EVERYTHING | F.CACHE_CAP,
            "cache_negotiated_state": True,
            **options["responder"],
        }
        options["requester"] = {"cache_negotiated_state": True, **options["requester"]}
        pair = Pair(self.device, versions=(self.version,), **options)
        pair.responder.connection.states = self.theirs
        return pair

    def open(self, pair: Pair, key: PreSharedKey = KEY) -> OpenedSession:
        return pair.run(resume_by_psk(pair.link, key, self.ours))


def asked(pair: Pair) -> list[int]:
    """Codes of the requests in the clear."""
    return [f.body[1] for who, f in pair.wire if who == "requester" and f.kind.name == "MESSAGE"]


NEGOTIATION = [
    RequestCode.GET_VERSION,
    RequestCode.GET_CAPABILITIES,
    RequestCode.NEGOTIATE_ALGORITHMS,
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("context", [True, False], ids=["context", "no context"])
def test_the_second_connection_begins_with_the_session(version: int, context: bool) -> None:
    flags = EVERYTHING & ~F.PSK_CAP_MASK | F.CACHE_CAP
    flags |= F.PSK_CAP_CONTEXT if context else F.PSK_CAP_NO_CONTEXT
    house = House(version, responder={"capabilities": flags})
    first = house.connect()
    assert first.run(house.open(first).link.converse(b"x")).data == b"x"
    assert asked(first)[:4] == [*NEGOTIATION, RequestCode.PSK_EXCHANGE]
    second = house.connect()
    opened = house.open(second)
    assert asked(second) == [RequestCode.PSK_EXCHANGE]
    assert second.requester.connection.vca == first.requester.connection.vca
    assert second.run(opened.link.converse(b"again")).data == b"again"
    # Once the session stands the rest is as after a negotiation.
    second.run(get_digests(second.link))


@pytest.mark.parametrize("version", VERSIONS)
class TestResynch:
    def test_a_responder_that_does_not_remember(self, version: int) -> None:
        house = House(version)
        house.open(house.connect())
        house.theirs.forget(IDENTITY)
        again = house.connect()
        house.open(again)
        assert asked(again) == [RequestCode.PSK_EXCHANGE, *NEGOTIATION, RequestCode.PSK_EXCHANGE]

    def test_a_responder_that_never_does(self, version: int) -> None:
        pair = Pair(versions=(version,))
        for code in (0x81, 0xE1, 0xE3, 0xE4, 0xE6, 0xFE, 0xFF):
            answer = pair.raw(bytes((version, code)) + bytes(40))
            assert answer[:3] == bytes((0x10, ResponseCode.ERROR, E.REQUEST_RESYNCH))
        assert pair.raw(bytes((version, 0x55, 0, 0)))[2] == E.UNSUPPORTED_REQUEST
        pair.run(negotiate(pair.link))

    def test_nothing_is_remembered_without_being_asked_to(self, version: int) -> None:
        house = House(version, requester={"cache_negotiated_state": False})
        house.open(house.connect())
        again = house.connect()
        house.open(again)
        assert asked(again)[:3] == NEGOTIATION
        house = House(version, responder={"capabilities": EVERYTHING})
        house.open(house.connect())
        assert house.ours.recall(IDENTITY) is None

    def test_the_requester_clears_it(self, version: int) -> None:
        house = House(version)
        pair = house.connect()
        link = house.open(pair).link
        pair.run(link.converse(b"x"))
        assert house.theirs.recall(IDENTITY) is not None
        pair.run(end_session(link, clear_negotiated_state=True))
        assert house.theirs.recall(IDENTITY) is None
        other = pair.run(psk_exchange(pair.link, KEY)).link
        pair.run(other.converse(b"x"))
        assert house.theirs.recall(IDENTITY) is None

    def test_keys_that_are_not_pre_shared_start_anew(self, version: int) -> None:
        house = House(version)
        pair = house.connect()
        proven = verified(pair)
        fresh = house.connect()
        fresh.run(resume_by_key(fresh.link, proven, house.ours))
        again = house.connect()
        again.run(resume_by_key(again.link, proven, house.ours))
        sent = [RequestCode.KEY_EXCHANGE, *NEGOTIATION, RequestCode.KEY_EXCHANGE]
        assert asked(again)[:5] == sent


class TestByIdentity:
    def test_somebody_elses_state_is_not_found(self) -> None:
        house = House(V13)
        house.device.psks[b"other"] = bytes(32)
        house.open(house.connect())
        pair = house.connect()
        state = house.ours.recall(IDENTITY)
        assert state is not None
        pair.requester.connection.restore(state)
        other = PreSharedKey(b"other", bytes(32))
        assert refusal(pair, psk_exchange(pair.link, other)) is E.REQUEST_RESYNCH

    def test_a_hint_alone_opens_nothing(self) -> None:
        """Who knows the hint and not the key gets no session, and no answer to anything else."""
        house = House(V13)
        house.open(house.connect())
        pair = house.connect()
        thief = PreSharedKey(PSK_HINT, bytes(32))
        with pytest.raises((AuthenticationError, PeerError)):
            house.open(pair, thief)
        assert pair.raw(b"\x13\x81\0\0")[2] == E.REQUEST_RESYNCH
        assert house.theirs.recall(IDENTITY) is not None
        assert house.ours.recall(IDENTITY) is None

    def test_nothing_else_before_the_session_stands(self) -> None:
        house = House(V13)
        house.open(house.connect())
        house.device.psks[b"other"] = bytes(32)
        pair = house.connect()
        state = house.ours.recall(IDENTITY)
        assert state is not None
        connection = pair.requester.connection
        connection.restore(state)
        opener = psk_exchange(pair.link, KEY)
        ticket = pair.requester.submit(opener)
        for frame in pair.requester.outgoing():
            pair.responder.receive(frame, pair.clock.now)
        assert len(pair.responder.connection.sessions) == 1
        pair.responder.outgoing()
        assert pair.raw(b"\x13\x81\0\0")[2] == E.REQUEST_RESYNCH
        ticket.cancel()

    def test_two_that_remember_differently_find_out(self) -> None:
        house = House(V13)
        house.open(house.connect())
        state = house.theirs.recall(IDENTITY)
        assert state is not None
        changed = (*state.messages[:-1], state.messages[-1][:-1] + b"\xff")
        house.theirs.remember(IDENTITY, replace(state, messages=changed))
        with pytest.raises(AuthenticationError):
            house.open(house.connect())
        assert house.ours.recall(IDENTITY) is None
        house.open(house.connect())

    def test_another_version_is_not_taken(self) -> None:
        house = House(V13)
        house.open(house.connect())
        house.version = V12
        pair = house.connect()
        house.open(pair)
        assert asked(pair)[:3] == NEGOTIATION

    def test_a_malformed_opener(self) -> None:
        house = House(V13)
        pair = house.connect()
        assert pair.raw(b"\x13\xe6\0\0\0\0\xff\xff\0\0\0\0")[2] == E.INVALID_REQUEST

    def test_get_version_ends_the_presumption(self) -> None:
        house = House(V13)
        house.open(house.connect())
        pair = house.connect()
        state = house.ours.recall(IDENTITY)
        assert state is not None
        pair.requester.connection.restore(state)
        pair.requester.submit(psk_exchange(pair.link, KEY))
        for frame in pair.requester.outgoing():
            pair.responder.receive(frame, pair.clock.now)
        fresh = house.connect()
        fresh.responder = pair.responder
        pair.responder.outgoing()
        fresh.run(negotiate(fresh.link))
        fresh.run(get_digests(fresh.link))


def test_only_so_many_are_kept() -> None:
    house = House(V13)
    house.open(house.connect())
    state = house.ours.recall(IDENTITY)
    assert state is not None
    states = NegotiatedStates(2)
    states.remember("a", state)
    states.remember("b", state)
    assert states.recall("a") is state
    states.remember("c", state)
    assert states.recall("b") is None
    assert states.recall("a") is state
    states.forget("a")
    states.forget("never there")
    assert states.recall("a") is None


# --- a device that changed (10.2) ----------------------------------------------------------------


@pytest.mark.parametrize("version", [V12, V13, V14])
def test_after_a_change_outside_of_sessions_only_get_version(version: int) -> None:
    pair = Pair(versions=(version,))
    pair.responder.measurements_changed()
    pair.run(negotiate(pair.link))
    pair.run(get_digests(pair.link))
    opened = pair.run(psk_exchange(pair.link, KEY, termination_policy=True))
    pair.responder.measurements_changed()
    assert pair.run(opened.link.converse(b"x")).data == b"x"
    assert pair.raw(bytes((version, 0x81, 0, 0)))[2] == E.REQUEST_RESYNCH
    assert refusal(pair, get_digests(pair.link)) is E.REQUEST_RESYNCH
    with pytest.raises(ProtocolViolation, match="not started"):
        pair.run(get_digests(pair.link))
    pair.run(negotiate(pair.link))
    pair.run(get_digests(pair.link))


def test_a_snapshot_needs_a_negotiation() -> None:
    pair = Pair()
    with pytest.raises(ProtocolViolation, match="not negotiated"):
        pair.requester.connection.snapshot()
    psk_session(pair)
    assert len(pair.requester.connection.snapshot().messages) == 6
