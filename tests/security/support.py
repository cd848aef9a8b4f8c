"""An attacker: one side of a conversation that keeps to no order, with all the keys it can have.

`Half` is a handshake that was begun in earnest. What a finisher needs (keys, transcript, verify
data) is right, so that whatever is refused is refused for its order and not for its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from spdmkit.crypto.signing import LocalSigner, SigningContext
from spdmkit.messages import Finish, PskFinish
from spdmkit.protocol.actions import Done, Exchange, Post, Send, Sleep, Wait, Woken, Work
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.link import Link
from spdmkit.protocol.records import ApplicationData
from spdmkit.protocol.requester import sessions
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.protocol.session import Session

from ..protocol.support import PSK, PSK_HINT, Pair, chain
from ..protocol.test_attestation_flow import verified

__all__ = ["Half", "Halted", "deliver", "drive", "error_of", "open_key_exchange", "open_psk"]

T = TypeVar("T")
Answer = bytes | ApplicationData | None


class Halted(BaseException):
    """A handshake stopped before its finisher."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session


def deliver(pair: Pair, frame: Frame) -> list[Frame]:
    """Put a frame on the wire to the responder; what it answers."""
    pair.responder.receive(frame, pair.clock.now)
    while jobs := pair.responder.work():
        for job in jobs:
            try:
                outcome: Any = job.call()
            except Exception as error:
                outcome = error
            pair.responder.complete(job.token, outcome, pair.clock.now)
    return pair.responder.outgoing()


def drive(pair: Pair, exchange: Exchange[T]) -> T:
    """Run an exchange without the requester's endpoint, and so without its caution."""
    event: Any = None
    while True:
        try:
            action = exchange.send(event)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if isinstance(action, Work):
            event = Done(action.call())
        elif isinstance(action, Send):
            event = deliver(pair, action.frame)[-1]
        elif isinstance(action, Post):
            deliver(pair, action.frame)
            event = Done(None)
        elif isinstance(action, Sleep):
            pair.clock.now = action.until
            event = Woken()
        else:
            assert not isinstance(action, Wait)


@dataclass
class Half:
    """A handshake that waits for its finisher, as the requester's side of it sees it."""

    pair: Pair
    session: Session

    @property
    def at_the_responder(self) -> Session | None:
        return self.pair.responder.connection.sessions.get(self.session.session_id)

    @property
    def dead(self) -> bool:
        return self.at_the_responder is None

    @property
    def established(self) -> bool:
        session = self.at_the_responder
        return session is not None and session.established

    def send(self, message: bytes, *, inside: bool) -> Answer:
        """Send a message in the session or in the clear; the answer, opened where that works."""
        if inside:
            frame = Frame(FrameKind.SECURED, self.session.sender.message(message))
        else:
            frame = Frame(FrameKind.MESSAGE, message)
        frames = deliver(self.pair, frame)
        if not frames:
            return None
        answer = frames[-1]
        if answer.kind is FrameKind.SECURED:
            return self.session.receiver.message(answer.body)
        return answer.body

    def finisher(self, kind: str, *, signed_by: str | None = None) -> bytes:
        """FINISH or PSK_FINISH with verify data that fits this handshake."""
        context = self.pair.requester.connection.context
        transcript = self.session.handshake_transcript()
        if kind == "PSK_FINISH":
            message: Finish | PskFinish = PskFinish()
            transcript.append(message.encode_before("verify_data", context))
        else:
            message = Finish()
            if signed_by is not None:
                self._sign(message, signed_by)
            else:
                transcript.append(message.encode_before("verify_data", context))
        message.verify_data = self.session.finished(requester=True, digest=transcript.digest())
        transcript.append(message.verify_data)
        return message.encode(context)

    def _sign(self, message: Finish, who: str) -> None:
        """Sign as somebody, with a chain of ours whether or not it was asked for."""
        connection = self.pair.requester.connection
        key, _ = chain("ecdsa-p256", who.encode(), requester=True)
        credentials = connection.credentials
        assert credentials is not None
        algorithm = connection.algorithms.req_signature
        assert algorithm is not None
        message.signature_included = True
        transcript = self.session.handshake_transcript()
        covered = message.encode_before("signature", connection.context)
        digest = credentials.slots[0].digest(connection.algorithms.base_hash)
        transcript.append(self.session.encapsulated_digests, digest, covered)
        message.signature = LocalSigner(key).sign(
            algorithm,
            version=connection.version,
            context=SigningContext.REQUESTER_FINISH,
            hash=connection.algorithms.base_hash,
            digest=transcript.digest(),
        )
        transcript.append(message.signature)


def _halting(monkeypatch: pytest.MonkeyPatch) -> None:
    def halt(inside: Link, session: Session, *_: object) -> Exchange[None]:
        raise Halted(session)

    monkeypatch.setattr(sessions, "_finish", halt)
    monkeypatch.setattr(sessions, "_psk_finish", halt)


def open_key_exchange(pair: Pair, *, encapsulated: bool = False) -> Half:
    """KEY_EXCHANGE in earnest, without FINISH.

    Args:
        pair: negotiated or not.
        encapsulated: go through the encapsulated requests that were asked for, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        _halting(patch)
        if not encapsulated:
            patch.setattr(sessions, "_our_slot", lambda inside, *_: _stop(inside))
        _negotiated(pair)
        return _halted(pair, sessions.key_exchange(pair.link, pair.proven))


def open_psk(pair: Pair, key: bytes = PSK, hint: bytes = PSK_HINT) -> Half:
    """PSK_EXCHANGE in earnest, without PSK_FINISH."""
    with pytest.MonkeyPatch.context() as patch:
        _halting(patch)
        _negotiated(pair)
        return _halted(pair, sessions.psk_exchange(pair.link, PreSharedKey(hint, key)))


def _negotiated(pair: Pair) -> None:
    if pair.requester.connection.selection is None:
        pair.proven = verified(pair)


def _stop(inside: Link) -> Exchange[int]:
    assert inside.session is not None
    raise Halted(inside.session)


def _halted(pair: Pair, exchange: Exchange[object]) -> Half:
    with pytest.raises(Halted) as caught:
        drive(pair, exchange)
    return Half(pair, caught.value.session)


def error_of(answer: Answer) -> int | None:
    """The code of an ERROR, or None for any other answer."""
    if isinstance(answer, bytes) and len(answer) >= 4 and answer[1] == 0x7F:
        return answer[2]
    return None
