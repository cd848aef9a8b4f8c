"""Requester and responder, driven in random legal and illegal orders (Hypothesis, stateful).

The first machine mixes what an honest requester does with what an attacker on the wire can do; the
second is an attacker that knows every public thing and no secret.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import SpdmError
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import V13, RequestCode
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.measurements import get_measurements, get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    OpenedSession,
    PreSharedKey,
    end_session,
    heartbeat,
    key_exchange,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.session import MutualAuth

from ..protocol.support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair, chain
from ..protocol.test_attestation_flow import verified
from .support import Half, deliver, open_key_exchange

CODES = st.sampled_from([int(code) for code in RequestCode])


class RandomOrders(RuleBasedStateMachine):
    """Whatever happens: no exception but `SpdmError`, no session that only one side believes in."""

    @initialize()
    def begin(self) -> None:
        self.pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(V13,),
            responder={"capabilities": EVERYTHING, "heartbeat_period": 5, "max_sessions": 3},
        )
        self.pair.proven = verified(self.pair)
        self.open: list[OpenedSession] = []
        self.ever: set[int] = set()

    def attempt(self, exchange: Exchange[Any]) -> bool:
        """Run an exchange; False when it was refused, which it may be."""
        if self.pair.requester.close_wanted:
            self.begin()
        try:
            result = self.pair.run(exchange)
        except SpdmError:
            return False
        if isinstance(result, OpenedSession):
            self.open.append(result)
            self.ever.add(result.session.session_id)
        return True

    @property
    def live(self) -> list[OpenedSession]:
        self.open = [each for each in self.open if each.session.alive]
        return self.open

    # -- what an honest requester does -----------------------------------------------------------

    @rule()
    def start_again(self) -> None:
        if self.attempt(negotiate(self.pair.link)):
            assert not self.live

    @rule()
    def authenticate(self) -> None:
        link = self.pair.link
        for exchange in (get_digests(link), get_certificate(link), get_measurements(link)):
            self.attempt(exchange)
        self.attempt(challenge(link, self.pair.proven))
        self.attempt(get_signed_measurements(link, self.pair.proven))

    @rule(policy=st.booleans())
    def open_by_key_exchange(self, policy: bool) -> None:
        self.attempt(key_exchange(self.pair.link, self.pair.proven, termination_policy=policy))

    @rule(right=st.booleans())
    def open_by_psk(self, right: bool) -> None:
        key = PreSharedKey(PSK_HINT, PSK if right else bytes(32))
        assert not self.attempt(psk_exchange(self.pair.link, key)) or right

    @precondition(lambda self: self.live)
    @rule(index=st.integers(0, 2), which=st.integers(0, 6))
    def use_a_session(self, index: int, which: int) -> None:
        one = self.live[index % len(self.live)]
        link = one.link
        exchanges: list[Callable[[Link], Exchange[Any]]] = [
            heartbeat, get_measurements, key_update, poll, end_session, get_digests,
            lambda link: link.converse(b"data"),
        ]  # fmt: skip
        self.attempt(exchanges[which](link))

    @precondition(lambda self: self.live)
    @rule()
    def the_responder_wants_new_keys(self) -> None:
        for session in self.pair.responder.connection.sessions.values():
            self.pair.responder.update_keys(session)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        pair = self.pair
        pair.clock.now += seconds
        pair.responder.on_time(pair.clock.now)
        pair.requester.on_time(pair.clock.now)
        while pair.step():
            pass

    # -- what somebody on the wire does ----------------------------------------------------------

    @rule(code=CODES, rest=st.binary(min_size=2, max_size=60))
    def a_message_from_nowhere(self, code: int, rest: bytes) -> None:
        frames = deliver(self.pair, Frame(FrameKind.MESSAGE, bytes((V13, code)) + rest))
        assert len(frames) == 1

    @rule(body=st.binary(max_size=60))
    def bytes_from_nowhere(self, body: bytes) -> None:
        assert len(deliver(self.pair, Frame(FrameKind.MESSAGE, body))) == 1

    @precondition(lambda self: self.live)
    @rule(body=st.binary(max_size=60), index=st.integers(0, 2))
    def a_forged_record(self, body: bytes, index: int) -> None:
        session_id = self.live[index % len(self.live)].session.session_id
        record = session_id.to_bytes(4, "little") + body
        assert len(deliver(self.pair, Frame(FrameKind.SECURED, record))) == 1

    @rule(position=st.integers(0, 400), who=st.sampled_from(["requester", "responder"]))
    def a_bit_is_bent(self, position: int, who: str) -> None:
        pair = self.pair

        def bend(sender: str, frame: Frame) -> Frame:
            if sender != who or not frame.body:
                return frame
            body = bytearray(frame.body)
            body[position % len(body)] ^= 1
            return Frame(frame.kind, bytes(body))

        pair.bend = bend
        self.attempt(get_measurements(self.live[0].link if self.live else pair.link))
        self.pair.bend = pair.bend = lambda _who, frame: frame

    @rule()
    def an_old_frame_comes_again(self) -> None:
        old = [frame for who, frame in self.pair.wire if who == "requester"][-5:]
        for frame in old:
            deliver(self.pair, frame)

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def sessions_are_few_and_whole(self) -> None:
        if not hasattr(self, "pair"):
            return
        connection = self.pair.responder.connection
        assert len(connection.sessions) <= 3
        for session_id, session in connection.sessions.items():
            assert session.alive
            assert session.session_id == session_id

    @invariant()
    def an_established_session_has_two_ends(self) -> None:
        """What the responder believes in was opened by the requester, with the same keys."""
        if not hasattr(self, "pair"):
            return
        for session in self.pair.responder.connection.sessions.values():
            if session.established:
                assert session.session_id in self.ever
                assert session.kind.value == "key-exchange" or session.proof.identity == "hint"


class Attacker(RuleBasedStateMachine):
    """It has the genuine requester's chain, keys of its own, and the responder's attention."""

    clear = False

    @initialize(clear=st.booleans())
    def begin(self, clear: bool) -> None:
        from ..protocol.test_mutual_authentication import CLEAR

        key, _ = chain("ecdsa-p256", b"stranger", requester=True)
        _, certificates = chain("ecdsa-p256", b"requester", requester=True)
        extra = int(CLEAR) if clear else 0
        self.clear = clear
        self.halves: list[Half] = []
        self.pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(V13,),
            credentials=Credentials([Slot(0, certificates, LocalSigner(key))]),
            requester={
                "capabilities": requester_capabilities(sessions=True, psk=True, mutual=True) | extra
            },
            responder={
                "capabilities": EVERYTHING | extra,
                "mutual_auth": MutualAuth.ENCAPSULATED,
                "mutual_auth_required": True,
                "max_sessions": 2,
            },
        )
        self.pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
        self.pair.proven = verified(self.pair)

    @rule()
    def negotiate_again(self) -> None:
        self.pair.run(negotiate(self.pair.link))
        self.halves.clear()

    @rule(encapsulated=st.booleans())
    def open(self, encapsulated: bool) -> None:
        connection = self.pair.responder.connection
        if len(connection.sessions) >= 2 or connection.clear_handshake is not None:
            return
        self.halves.append(open_key_exchange(self.pair, encapsulated=encapsulated))

    @precondition(lambda self: self.halves)
    @rule(
        kind=st.sampled_from(["FINISH", "PSK_FINISH"]),
        signed_by=st.sampled_from([None, "stranger"]),
        inside=st.booleans(),
    )
    def finish(self, kind: str, signed_by: str | None, inside: bool) -> None:
        half = self.halves.pop()
        if half.session.alive and not half.dead:
            half.send(half.finisher(kind, signed_by=signed_by), inside=inside)

    @precondition(lambda self: self.halves)
    @rule(code=CODES, rest=st.binary(min_size=2, max_size=60), inside=st.booleans())
    def anything_with_the_keys_of_the_handshake(self, code: int, rest: bytes, inside: bool) -> None:
        half = self.halves[-1]
        if half.dead:
            self.halves.pop()
            return
        message = bytes((V13, code)) + rest
        frame = Frame(FrameKind.MESSAGE, message)
        if inside:
            frame = Frame(FrameKind.SECURED, half.session.sender.message(message))
        for answer in deliver(self.pair, frame):
            if inside and answer.kind is FrameKind.SECURED:
                half.session.receiver.message(answer.body)

    @invariant()
    def nobody_is_let_in(self) -> None:
        if not hasattr(self, "pair"):
            return
        for session in self.pair.responder.connection.sessions.values():
            assert not session.established
            assert not session.authenticated_peer
        assert not self.pair.device.received


TestRandomOrders = RandomOrders.TestCase
TestRandomOrders.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestAttacker = Attacker.TestCase
TestAttacker.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
