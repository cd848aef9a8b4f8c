"""Attacks that were made on SPDM stacks, each tried with our rule against it and without.

An attack must fail, and must succeed once its rule is removed: so that no test here is vacuous.
Identifiers are those of advisories, of commits that fixed the reference, or of papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from spdmkit.crypto import signing
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V13,
    ErrorCode,
    GetMeasurements,
    Heartbeat,
    RequestCode,
    RespondIfReady,
    ResponseCode,
)
from spdmkit.protocol import negotiation, records, states
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.handlers import sessions as handlers
from spdmkit.protocol.handlers.call import Call
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester import certificates, challenge, measurements, negotiate, sessions
from spdmkit.protocol.responder import endpoint as responder
from spdmkit.protocol.session import MutualAuth

from ..protocol.support import MemoryDevice, Pair, chain
from ..protocol.test_attestation_flow import verified
from ..protocol.test_mutual_authentication import mutual_pair
from ..protocol.test_session_life import opened, theirs
from .support import deliver, error_of, open_key_exchange
from .test_cve_2023_31127 import demanding, plain_pair

Removal = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Attack:
    """An attack and the rule against it.

    Attributes:
        run: tries it; True when it worked.
        without: removes the rule.
    """

    run: Callable[[], bool]
    without: Removal


ATTACKS: dict[str, Attack] = {}


def attack(name: str, without: Removal) -> Callable[[Callable[[], bool]], Callable[[], bool]]:
    def register(run: Callable[[], bool]) -> Callable[[], bool]:
        ATTACKS[name] = Attack(run, without)
        return run

    return register


def _worked(pair: Pair, exchange: Any) -> bool:
    try:
        pair.run(exchange)
    except SpdmError:
        return False
    return True


# --- sessions ------------------------------------------------------------------------------------


def _join_openers(patch: pytest.MonkeyPatch) -> None:
    entry = (states.SessionPhase.HANDSHAKE_KEY_EXCHANGE, RequestCode.PSK_FINISH)
    patch.setitem(states.SESSION, entry, states.SessionPhase.ESTABLISHED)


@attack("CVE-2023-31127: PSK_FINISH finishes a KEY_EXCHANGE", _join_openers)
def _() -> bool:
    half = open_key_exchange(demanding(V13))
    half.send(half.finisher("PSK_FINISH"), inside=True)
    return half.established


def _demand_no_signature(patch: pytest.MonkeyPatch) -> None:
    original = handlers.finish

    def lenient(call: Call) -> Any:
        call.the_session().mutual = MutualAuth.NONE
        return original(call)

    from spdmkit.protocol.handlers.table import HANDLERS

    entry = HANDLERS[RequestCode.FINISH]
    patch.setitem(HANDLERS, RequestCode.FINISH, type(entry)(entry.message, lenient))


@attack("CVE-2023-31127: FINISH without the signature that was demanded", _demand_no_signature)
def _() -> bool:
    half = open_key_exchange(demanding(V13))
    half.send(half.finisher("FINISH"), inside=True)
    return half.established


def _believe_any_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signing, "verify", lambda *_, **__: None)


@attack("2024/2047: FINISH signed by another key than the chain's", _believe_any_signature)
def _() -> bool:
    half = open_key_exchange(demanding(V13), encapsulated=True)
    half.send(half.finisher("FINISH", signed_by="stranger"), inside=True)
    return half.established


def _take_requesters_as_they_are(patch: pytest.MonkeyPatch) -> None:
    original = Pair.__init__

    def lenient(self: Pair, *args: Any, **rest: Any) -> None:
        rest["responder"].pop("mutual_auth_required", None)
        original(self, *args, **rest)

    patch.setattr(Pair, "__init__", lenient)


@attack("demanded mutual authentication: a requester that cannot", _take_requesters_as_they_are)
def _() -> bool:
    pair = plain_pair(V13, mutual_auth=MutualAuth.GET_DIGESTS, mutual_auth_required=True)
    return _worked(pair, sessions.key_exchange(pair.link, verified(pair)))


def _finish_where_you_like(patch: pytest.MonkeyPatch) -> None:
    from spdmkit.protocol.session import Session

    half = property(lambda self: False)
    patch.setattr(Session, "in_the_clear", half)


@attack("FINISH in a record, though the handshake goes on in the clear", _finish_where_you_like)
def _() -> bool:
    half = open_key_exchange(plain_pair(V13, clear=True))
    half.send(half.finisher("FINISH"), inside=True)
    return half.established


def _ignore_verify_data(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handlers, "_check_finished", lambda *_: None)


@attack("a finisher without the session's secret", _ignore_verify_data)
def _() -> bool:
    half = open_key_exchange(plain_pair(V13, clear=True))
    finisher = half.finisher("FINISH")
    size = half.pair.requester.connection.context.hash_size
    half.send(finisher[:-size] + bytes(size), inside=False)
    return half.established


def _encapsulate_at_any_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(responder.ResponderEndpoint, "_check_flow", lambda *_: None)


@attack("RequestInFlight: another request before the encapsulated one is answered",
        _encapsulate_at_any_time)  # fmt: skip
def _() -> bool:
    pair = mutual_pair(MutualAuth.NONE, version=0x12, basic_mutual_auth=True)
    pair.run(challenge.challenge(pair.link, verified(pair)))
    answer = pair.raw(GetMeasurements().encode(pair.requester.connection.context))
    return answer[1] == ResponseCode.MEASUREMENTS


# --- records -------------------------------------------------------------------------------------


def _constant_nonce(patch: pytest.MonkeyPatch) -> None:
    """The nonce is as wide as the number on the wire, which for TCP is nothing."""
    patch.setattr(records._Direction, "nonce", lambda self: self.iv.to_bytes(12, "little"))


@attack("constant GCM nonce: a record replayed under one key", _constant_nonce)
def _() -> bool:
    pair, one = opened()
    session = theirs(pair, one)
    record = one.session.sender.message(Heartbeat().encode(pair.requester.connection.context))
    frame = Frame(FrameKind.SECURED, record)
    deliver(pair, frame)
    deliver(pair, frame)
    return session.alive


def _count_in_the_dark(patch: pytest.MonkeyPatch) -> None:
    """An implementation that takes whichever of the next numbers fits."""
    original = records.RecordReceiver.message

    def patient(self: records.RecordReceiver, record: bytes) -> Any:
        for _ in range(4):
            try:
                return original(self, record)
            except SpdmError:
                assert self._state is not None
                self._state.sequence += 1
        raise AssertionError

    patch.setattr(records.RecordReceiver, "message", patient)


@attack("a record left out: order and completeness", _count_in_the_dark)
def _() -> bool:
    pair, one = opened()
    one.session.sender.message(b"\x13\xe8\0\0")  # never delivered
    record = one.session.sender.message(b"\x13\xe8\0\0")
    deliver(pair, Frame(FrameKind.SECURED, record))
    return theirs_alive(pair)


def theirs_alive(pair: Pair) -> bool:
    return bool(pair.responder.connection.sessions)


def _forget_the_limit(patch: pytest.MonkeyPatch) -> None:
    from spdmkit.protocol import opaque

    offer = opaque.SecuredMessageOffer
    patch.setattr(opaque, "SecuredMessageOffer", lambda versions, _limit: offer(versions, 64))
    patch.setattr(Link, "_need_room", lambda *_: None)
    original = records.RecordSender.rekey
    patch.setattr(
        records.RecordSender, "rekey", lambda self, key, iv, limit: original(self, key, iv)
    )


@attack("AEAD limit: more records under one key than agreed", _forget_the_limit)
def _() -> bool:
    pair, one = opened(requester={"aead_limit_exponent": 3, **_able()})
    for _ in range(9):
        try:
            pair.run(one.link.tell(b"x"))
        except SpdmError:
            return False
    return one.session.sender.records == 9


def _able() -> dict[str, Any]:
    from ..protocol.test_session_life import _able

    return _able()


def _failed_records_are_forgiven(patch: pytest.MonkeyPatch) -> None:
    from spdmkit.protocol.connection import Connection

    patch.setattr(Connection, "end_session", lambda *_: None)


@attack("libspdm#2082: a record that fails, and the session goes on", _failed_records_are_forgiven)
def _() -> bool:
    pair, one = opened()
    record = bytearray(one.session.sender.message(b"\x13\xe8\0\0"))
    record[-1] ^= 1
    deliver(pair, Frame(FrameKind.SECURED, bytes(record)))
    return theirs_alive(pair)


def _answers_in_the_clear(patch: pytest.MonkeyPatch) -> None:
    original = Link._opened

    def lenient(self: Link, session: Any, frame: Frame) -> Any:
        return frame.body if frame.kind is FrameKind.MESSAGE else original(self, session, frame)

    patch.setattr(Link, "_opened", lenient)


@attack("an answer in the clear to a request in a session", _answers_in_the_clear)
def _() -> bool:
    pair, one = opened()
    pair.bend = lambda who, frame: (
        Frame(FrameKind.MESSAGE, b"\x13\x68\0\0") if who == "responder" else frame
    )
    return _worked(pair, sessions.heartbeat(one.link))


def _session_requests_anywhere(patch: pytest.MonkeyPatch) -> None:
    for code in (RequestCode.HEARTBEAT, RequestCode.END_SESSION, RequestCode.KEY_UPDATE):
        entry = (states.Phase.NEGOTIATED, code)
        patch.setitem(states.CONNECTION, entry, states.Phase.NEGOTIATED)
    original = responder.ResponderEndpoint._check

    def lenient(self: Any, code: Any, entry: Any, carrier: Any, session: Any) -> None:
        original(self, code, entry, carrier, session)

    patch.setattr(responder.ResponderEndpoint, "_check", lenient)
    patch.setattr(Call, "the_session", lambda self: next(iter(self.connection.sessions.values())))


@attack("xaionaro-go/spdm: END_SESSION accepted in the clear", _session_requests_anywhere)
def _() -> bool:
    pair, _one = opened()
    answer = pair.raw(b"\x13\xec\0\0")
    if not theirs_alive(pair):
        return True
    assert answer[2] == ErrorCode.SESSION_REQUIRED
    return False


# --- out of sessions -----------------------------------------------------------------------------


def _tokens_of_anyone(patch: pytest.MonkeyPatch) -> None:
    def lenient(self: Any, running: Any, raw: bytes, carrier: Any, now: float) -> None:
        if running is None or running.outcome is None:
            self._send(self._error(ErrorCode.UNEXPECTED_REQUEST), carrier)
            return
        self._running = None
        self._answer(running.outcome, carrier, None)

    patch.setattr(responder.ResponderEndpoint, "_respond_if_ready", lenient)


@attack("da738f32: RESPOND_IF_READY from another session context", _tokens_of_anyone)
def _() -> bool:
    pair, one = opened()
    context = pair.requester.connection.context
    request = GetMeasurements(
        signature_requested=True, measurement_operation=0xFF, nonce=bytes(32), context=bytes(8)
    )
    record = one.session.sender.message(request.encode(context))
    pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
    late = pair.responder.next_deadline()
    assert late is not None
    pair.clock.now = late
    pair.responder.on_time(late)
    (not_ready,) = pair.responder.outgoing()
    error = one.session.receiver.message(not_ready.body)
    assert isinstance(error, bytes)
    assert error[2] == ErrorCode.RESPONSE_NOT_READY
    (job,) = pair.responder.work()
    pair.responder.complete(job.token, job.call(), late)
    asked = RespondIfReady(request_code=RequestCode.GET_MEASUREMENTS, token=error[6])
    return pair.raw(asked.encode(context))[1] == ResponseCode.MEASUREMENTS


def _any_chain_hash(patch: pytest.MonkeyPatch) -> None:
    class Anything(bytes):
        __hash__ = bytes.__hash__

        def __ne__(self, other: object) -> bool:
            return False

    from spdmkit.protocol.proofs import key_digest as original

    patch.setattr(challenge, "key_digest", lambda key, alg: Anything(original(key, alg)))


@attack("spdm-rs#327: CertChainHash of another chain, rightly signed", _any_chain_hash)
def _() -> bool:
    pair = plain_pair(V13)
    proven = verified(pair)
    slot = pair.device.credentials.slots[0]
    _, other = chain("ecdsa-p256", b"another")
    algorithm = pair.requester.connection.algorithms.base_hash
    from spdmkit.protocol.credentials import Slot

    wrong = Slot(0, other, slot.signer).digest(algorithm)
    slot._structures[algorithm.name] = (slot.structure(algorithm), wrong)
    return _worked(pair, challenge.challenge(pair.link, proven))


def _choose_for_us(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(negotiate, "verify_choice", lambda *_: None)


@attack("cb5655c: ALGORITHMS selects what was not offered", _choose_for_us)
def _() -> bool:
    pair = Pair(
        versions=(V13,),
        requester={"algorithms": _without_sha256(pair_settings())},
    )

    def bend(who: str, frame: Frame) -> Frame:
        if who == "requester" and frame.body[1] == RequestCode.NEGOTIATE_ALGORITHMS:
            body = bytearray(frame.body)
            body[12:16] = (1).to_bytes(4, "little")  # only SHA-256 is left of our offer
            return Frame(frame.kind, bytes(body))
        return frame

    pair.bend = bend
    return _worked(pair, negotiate.negotiate(pair.link))


def pair_settings() -> Any:
    from spdmkit.protocol.settings import AlgorithmSet

    return AlgorithmSet.available()


def _without_sha256(algorithms: Any) -> Any:
    return algorithms.with_masks(base_hash=algorithms.base_hash & ~1)


def _no_floor(patch: pytest.MonkeyPatch) -> None:
    original = Pair.__init__

    def lenient(self: Pair, *args: Any, **rest: Any) -> None:
        rest["requester"]["versions"] = (0x14, 0x13, 0x12, 0x11, 0x10)
        original(self, *args, **rest)

    patch.setattr(Pair, "__init__", lenient)


@attack("downgrade: VERSION offers only what we do not allow", _no_floor)
def _() -> bool:
    pair = Pair(responder={"versions": (0x11, 0x10)}, requester={"versions": (0x13, 0x12)})
    return _worked(pair, negotiate.negotiate(pair.link))


def _weakest_first(patch: pytest.MonkeyPatch) -> None:
    def weakest(table: Any, mask: int) -> int:
        found = [entry for entry in table if entry.mask & mask]
        return min((entry.mask for entry in found), default=0)

    patch.setattr(negotiation, "_strongest", weakest)


@attack("xaionaro-go/spdm: the responder picks the weakest algorithm", _weakest_first)
def _() -> bool:
    pair = plain_pair(V13)
    verified(pair)
    return pair.requester.connection.algorithms.base_hash.size < 48


def _any_role(patch: pytest.MonkeyPatch) -> None:
    """Signatures without the role of the signer in their context (before 1.2 there is none)."""
    original = signing.verify

    def lenient(*args: Any, **rest: Any) -> None:
        for context in (rest["context"], SigningContext.REQUESTER_CHALLENGE_AUTH):
            try:
                original(*args, **{**rest, "context": context})
            except SpdmError:
                continue
            return
        raise AssertionError

    patch.setattr(signing, "verify", lenient)


@attack("signing context: a requester's signature passed off as the responder's", _any_role)
def _() -> bool:
    pair = plain_pair(V13)
    proven = verified(pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Call, "challenge_context", property(lambda _: SigningContext.REQUESTER_CHALLENGE_AUTH)
        )
        return _worked(pair, challenge.challenge(pair.link, proven))


def _keep_keys_on_resynch(patch: pytest.MonkeyPatch) -> None:
    from spdmkit.protocol.connection import Connection

    patch.setattr(Connection, "reset", lambda *_: None)


@attack("d53e360: keys outlive RequestResynch", _keep_keys_on_resynch)
def _() -> bool:
    pair, one = opened()
    pair.bend = lambda who, frame: (
        Frame(FrameKind.MESSAGE, b"\x10\x7f\x43\0") if who == "responder" else frame
    )
    with pytest.raises(SpdmError):
        pair.run(certificates.get_digests(pair.link))
    return one.session.alive


def _any_size(patch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    original = Link._collect

    def greedy(self: Link, extended: bytes) -> Any:
        connection = self.connection
        connection.settings = replace(connection.settings, max_message_size=1 << 31)
        return original(self, extended)

    patch.setattr(Link, "_collect", greedy)


@attack("a large response beyond MaxSPDMmsgSize", _any_size)
def _() -> bool:
    pair = Pair(
        versions=(V13,),
        requester={"data_transfer_size": 512, "max_message_size": 1024},
    )
    verified_big(pair)
    return _worked(pair, certificates.get_certificate(pair.link, 0))


def verified_big(pair: Pair) -> None:
    pair.run(negotiate.negotiate(pair.link))
    # A responder that does not look at what the requester announced.
    pair.responder.connection.peer.max_message_size = 1 << 20


def _any_blocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(measurements, "_check", lambda *_: None)


@attack("other measurements than asked for", _any_blocks)
def _() -> bool:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    verified(pair)

    def bend(who: str, frame: Frame) -> Frame:
        if who == "requester" and frame.body[1] == RequestCode.GET_MEASUREMENTS:
            return Frame(frame.kind, frame.body[:3] + b"\x02" + frame.body[4:])
        return frame

    pair.bend = bend
    return _worked(pair, measurements.get_measurements(pair.link, 1))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_fails(name: str) -> None:
    assert not ATTACKS[name].run()


@pytest.mark.parametrize("name", ATTACKS)
def test_and_would_work_without_the_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ATTACKS[name].without(monkeypatch)
    assert ATTACKS[name].run()


def test_errors_are_told_apart() -> None:
    assert error_of(b"\x13\x7f\x01\0") == 1
    assert error_of(b"\x13\x04\0\0") is None
