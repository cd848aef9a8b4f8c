"""CVE-2023-31127 and eprint 2024/2047: an opener of one kind, a finisher of the other.

KEY_EXCHANGE finished by PSK_FINISH made sessions without the requester's signature. The matrix is
opener x finisher x where it travels; whatever is off the diagonal is refused and ends the
handshake, in both roles. Keys, transcript and verify data are right in every cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    DeliverEncapsulatedResponse,
    EndSession,
    ErrorCode,
    GetDigests,
    GetEncapsulatedRequest,
    GetMeasurements,
    GetVersion,
    Heartbeat,
    KeyUpdate,
    ResponseCode,
    VendorDefinedRequest,
)
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.records import RecordSender, wrap_application
from spdmkit.protocol.requester import sessions
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.session import MutualAuth

from ..protocol.support import EVERYTHING, MemoryDevice, Pair
from ..protocol.test_attestation_flow import verified
from ..protocol.test_mutual_authentication import CLEAR, identity, mutual_pair
from .support import Half, deliver, error_of, open_key_exchange, open_psk

VERSIONS = [V11, V12, V13, V14]
E = ErrorCode


def plain_pair(version: int, *, clear: bool = False, **responder: Any) -> Pair:
    """Nobody is asked who they are."""
    extra = int(CLEAR) if clear else 0
    return Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(version,),
        requester={"capabilities": requester_capabilities(sessions=True, psk=True) | extra},
        responder={"capabilities": EVERYTHING | extra, **responder},
    )


def demanding(version: int, *, clear: bool = False, **responder: Any) -> Pair:
    """The responder wants to know who asks, and the requester is who it says."""
    return mutual_pair(
        MutualAuth.ENCAPSULATED,
        version=version,
        clear=clear,
        mutual_auth_required=True,
        **responder,
    )


Opener = Callable[[int], Half]
OPENERS: dict[str, Opener] = {
    "KEY_EXCHANGE": lambda v: open_key_exchange(plain_pair(v)),
    "KEY_EXCHANGE in the clear": lambda v: open_key_exchange(plain_pair(v, clear=True)),
    "KEY_EXCHANGE mutual": lambda v: open_key_exchange(demanding(v)),
    "KEY_EXCHANGE mutual in the clear": lambda v: open_key_exchange(demanding(v, clear=True)),
    "PSK_EXCHANGE": lambda v: open_psk(plain_pair(v)),
    "PSK_EXCHANGE where FINISH travels in the clear": lambda v: open_psk(plain_pair(v, clear=True)),
    "PSK_EXCHANGE mutual": lambda v: open_psk(demanding(v)),
}
FINISHERS: dict[str, Callable[[Half], bytes]] = {
    "FINISH": lambda half: half.finisher("FINISH"),
    "PSK_FINISH": lambda half: half.finisher("PSK_FINISH"),
}
DIAGONAL = {
    ("KEY_EXCHANGE", "FINISH", "inside"),
    ("KEY_EXCHANGE in the clear", "FINISH", "in the clear"),
    ("PSK_EXCHANGE", "PSK_FINISH", "inside"),
    ("PSK_EXCHANGE where FINISH travels in the clear", "PSK_FINISH", "inside"),
    ("PSK_EXCHANGE mutual", "PSK_FINISH", "inside"),
}
"""What may establish a session: nothing else does."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("where", ["inside", "in the clear"])
@pytest.mark.parametrize("finisher", FINISHERS)
@pytest.mark.parametrize("opener", OPENERS)
def test_opener_times_finisher(version: int, opener: str, finisher: str, where: str) -> None:
    half = OPENERS[opener](version)
    answer = half.send(FINISHERS[finisher](half), inside=where == "inside")
    if (opener, finisher, where) in DIAGONAL:
        assert error_of(answer) is None
        assert half.established
        return
    assert error_of(answer) in (
        E.UNEXPECTED_REQUEST,
        E.SESSION_REQUIRED,
        E.INVALID_REQUEST,
        E.DECRYPT_ERROR,
    )
    assert not half.established
    # A finisher that went elsewhere is not heard of by the session; one that came to it ends it.
    came_to_it = (where == "inside") or ("in the clear" in opener and finisher == "FINISH")
    if came_to_it and "PSK_EXCHANGE" not in opener:
        assert half.dead
    if where == "inside":
        assert half.dead


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("clear", [False, True], ids=["encrypted", "in the clear"])
@pytest.mark.parametrize("signed_by", [None, "requester", "stranger"])
def test_finish_without_the_identity_that_was_demanded(
    version: int, clear: bool, signed_by: str | None
) -> None:
    """No signature, one whose chain was never fetched, and one by another key."""
    half = open_key_exchange(demanding(version, clear=clear))
    answer = half.send(half.finisher("FINISH", signed_by=signed_by), inside=not clear)
    assert error_of(answer) in (E.INVALID_REQUEST, E.DECRYPT_ERROR)
    assert half.dead


@pytest.mark.parametrize("signed_by", [None, "stranger", "requester"])
def test_after_the_chain_was_fetched_only_its_key_will_do(signed_by: str | None) -> None:
    half = open_key_exchange(demanding(V13), encapsulated=True)
    answer = half.send(half.finisher("FINISH", signed_by=signed_by), inside=True)
    assert half.established is (signed_by == "requester")
    assert half.dead is (signed_by != "requester")
    assert (error_of(answer) is None) is (signed_by == "requester")


def test_finish_with_a_signature_nobody_asked_for() -> None:
    credentials, _ = identity()
    pair = mutual_pair(MutualAuth.NONE, credentials=credentials)
    half = open_key_exchange(pair)
    half.send(half.finisher("FINISH", signed_by="requester"), inside=True)
    assert half.dead


IN_BETWEEN: dict[str, Callable[[], bytes]] = {
    "HEARTBEAT": lambda: Heartbeat().encode(_context()),
    "KEY_UPDATE": lambda: KeyUpdate(operation=1, tag=1).encode(_context()),
    "END_SESSION": lambda: EndSession().encode(_context()),
    "GET_DIGESTS": lambda: GetDigests().encode(_context()),
    "GET_MEASUREMENTS": lambda: GetMeasurements(context=bytes(8)).encode(_context()),
    "VENDOR_DEFINED": lambda: VendorDefinedRequest(standard_id=4).encode(_context()),
    "GET_VERSION": lambda: b"\x10\x84\0\0",
    "CHALLENGE": lambda: b"\x13\x83\0\0" + bytes(40),
    "KEY_EXCHANGE": lambda: b"\x13\xe4\0\0" + bytes(200),
    "PSK_EXCHANGE": lambda: b"\x13\xe6\0\0" + bytes(60),
    "a request that does not exist": lambda: b"\x13\x99\0\0",
}


def _context() -> Any:
    from spdmkit.messages import Context

    return Context(version=V13, hash_size=48)


@pytest.mark.parametrize("opener", ["KEY_EXCHANGE", "KEY_EXCHANGE in the clear", "PSK_EXCHANGE"])
@pytest.mark.parametrize("between", IN_BETWEEN)
def test_nothing_but_the_finisher_in_a_handshake(opener: str, between: str) -> None:
    half = OPENERS[opener](V13)
    answer = half.send(IN_BETWEEN[between](), inside=True)
    assert error_of(answer) is not None
    assert not half.established
    if between != "a request that does not exist":
        assert half.dead


@pytest.mark.parametrize("opener", ["KEY_EXCHANGE", "KEY_EXCHANGE in the clear", "PSK_EXCHANGE"])
def test_no_application_data_in_a_handshake(opener: str) -> None:
    half = OPENERS[opener](V13)
    plaintext = wrap_application(half.session.sender.profile, b"too early")
    record = half.session.sender.seal(plaintext)
    (frame,) = deliver(half.pair, Frame(FrameKind.SECURED, record))
    assert error_of(frame.body) is not None
    assert half.dead
    assert not half.pair.device.received


@pytest.mark.parametrize("where", ["inside", "in the clear"])
@pytest.mark.parametrize("opener", ["KEY_EXCHANGE", "PSK_EXCHANGE", "KEY_EXCHANGE in the clear"])
def test_encapsulated_messages_that_nobody_asked_for(opener: str, where: str) -> None:
    """They bring nobody further: no flow is open, so that the finisher is judged as before."""
    half = OPENERS[opener](V13)
    context = half.pair.requester.connection.context
    inside = where == "inside"
    for request in (
        GetEncapsulatedRequest(),
        DeliverEncapsulatedResponse(request_id=0, encapsulated_response=b"\x13\x01\0\0"),
        DeliverEncapsulatedResponse(request_id=1, encapsulated_response=b"\x13\x7f\x01\0"),
    ):
        assert error_of(half.send(request.encode(context), inside=inside)) is not None
        assert not half.established
        if half.dead:
            return
    session = half.at_the_responder
    assert session is not None
    assert session.peer_key is None


def test_get_version_in_between_ends_the_handshake() -> None:
    for opener in ("KEY_EXCHANGE", "KEY_EXCHANGE in the clear", "PSK_EXCHANGE"):
        half = OPENERS[opener](V13)
        kind = "PSK_FINISH" if opener.startswith("PSK") else "FINISH"
        finisher = half.finisher(kind)
        answer = half.send(
            GetVersion().encode(half.pair.requester.connection.context), inside=False
        )
        assert isinstance(answer, bytes)
        assert answer[1] == ResponseCode.VERSION
        assert half.dead
        inside = "clear" not in opener
        assert error_of(half.send(finisher, inside=inside)) is not None
        assert not half.pair.responder.connection.sessions


def test_get_version_and_a_new_negotiation_do_not_bring_the_handshake_back() -> None:
    half = open_key_exchange(plain_pair(V13))
    finisher = Frame(FrameKind.SECURED, half.session.sender.message(half.finisher("FINISH")))
    half.pair.run(negotiate(half.pair.link))
    (frame,) = deliver(half.pair, finisher)
    assert error_of(frame.body) == E.DECRYPT_ERROR
    assert not half.pair.responder.connection.sessions


@pytest.mark.parametrize("second", ["KEY_EXCHANGE", "PSK_EXCHANGE"])
@pytest.mark.parametrize("first", ["KEY_EXCHANGE", "PSK_EXCHANGE"])
def test_a_second_opener_in_between(first: str, second: str) -> None:
    """Two handshakes on one connection: each finishes by its own finisher or not at all."""
    pair = plain_pair(V13)
    open_one: dict[str, Callable[[Pair], Half]] = {
        "KEY_EXCHANGE": open_key_exchange,
        "PSK_EXCHANGE": open_psk,
    }
    one, two = open_one[first](pair), open_one[second](pair)
    kinds = {"KEY_EXCHANGE": "FINISH", "PSK_EXCHANGE": "PSK_FINISH"}
    # The finisher of the one in the records of the other.
    record = two.session.sender.message(one.finisher(kinds[first]))
    deliver(pair, Frame(FrameKind.SECURED, record))
    assert not two.established
    assert two.dead
    assert not one.established


def test_a_second_opener_while_a_handshake_goes_on_in_the_clear() -> None:
    """FINISH in the clear names no session: there must be one candidate only."""
    pair = plain_pair(V13, clear=True)
    one = open_key_exchange(pair)
    record = bytes(pair.responder.connection.clear_handshake is one.at_the_responder)
    assert record
    with pytest.raises(SpdmError):
        pair.run(sessions.key_exchange(pair.link, pair.proven))
    answer = one.send(one.finisher("FINISH"), inside=False)
    assert error_of(answer) is None
    assert one.established


def test_a_psk_session_in_between_does_not_take_the_finish_of_the_other() -> None:
    pair = plain_pair(V13, clear=True)
    one = open_key_exchange(pair)
    two = open_psk(pair)
    answer = one.send(two.finisher("FINISH"), inside=False)
    assert error_of(answer) == E.DECRYPT_ERROR
    assert one.dead
    assert not two.established


@pytest.mark.parametrize("opener", ["KEY_EXCHANGE", "PSK_EXCHANGE"])
def test_a_finisher_twice(opener: str) -> None:
    half = OPENERS[opener](V13)
    finisher = half.finisher("PSK_FINISH" if opener.startswith("PSK") else "FINISH")
    half.send(finisher, inside=True)
    assert half.established
    half.session.start_application(th2=_th2(half))
    answer = half.send(finisher, inside=True)
    assert error_of(answer) == E.UNEXPECTED_REQUEST
    assert half.established


def _th2(half: Half) -> bytes:
    """TH2 as the requester has it once the finisher's response is in."""
    from spdmkit.messages import FinishRsp, PskFinishRsp

    context = half.pair.requester.connection.context
    transcript = half.session.handshake_transcript()
    response = FinishRsp() if half.session.kind.value == "key-exchange" else PskFinishRsp()
    transcript.append(response.encode(context))
    return transcript.digest()


@pytest.mark.parametrize("verify_data", ["zero", "cut", "of the responder"])
@pytest.mark.parametrize("opener", ["KEY_EXCHANGE", "KEY_EXCHANGE in the clear", "PSK_EXCHANGE"])
def test_verify_data_that_does_not_hold(opener: str, verify_data: str) -> None:
    half = OPENERS[opener](V13)
    size = half.pair.requester.connection.context.hash_size
    finisher = half.finisher("PSK_FINISH" if opener.startswith("PSK") else "FINISH")
    forged = {
        "zero": bytes(size),
        "cut": finisher[-size:-1],
        "of the responder": half.session.finished(requester=False, digest=bytes(size)),
    }[verify_data]
    answer = half.send(finisher[:-size] + forged, inside="clear" not in opener)
    assert error_of(answer) in (E.DECRYPT_ERROR, E.INVALID_REQUEST)
    assert not half.established
    if verify_data != "cut":
        assert half.dead


class TestRequester:
    """The same from the other side: a responder that answers one kind with the other."""

    def refused(self, pair: Pair, exchange: Any) -> None:
        with pytest.raises(SpdmError):
            pair.run(exchange)
        assert not any(s.established for s in pair.requester.connection.sessions.values())

    @pytest.mark.parametrize("clear", [False, True])
    def test_key_exchange_answered_as_psk(self, clear: bool) -> None:
        pair = plain_pair(V13, clear=clear)
        proven = verified(pair)

        def swap(who: str, frame: Frame) -> Frame:
            if who == "responder" and frame.body[1] == ResponseCode.KEY_EXCHANGE_RSP:
                return Frame(frame.kind, frame.body[:1] + b"\x66" + frame.body[2:])
            return frame

        pair.bend = swap
        self.refused(pair, sessions.key_exchange(pair.link, proven))

    def test_psk_exchange_answered_as_key_exchange(self) -> None:
        pair = plain_pair(V13)
        pair.run(negotiate(pair.link))

        def swap(who: str, frame: Frame) -> Frame:
            if who == "responder" and frame.body[1] == ResponseCode.PSK_EXCHANGE_RSP:
                return Frame(frame.kind, frame.body[:1] + b"\x64" + frame.body[2:])
            return frame

        pair.bend = swap
        key = sessions.PreSharedKey(b"hint", bytes(range(32)))
        self.refused(pair, sessions.psk_exchange(pair.link, key))

    @pytest.mark.parametrize("answer", [b"\x13\x67\0\0", b"\x13\x68\0\0", b"\x13\x7f\x05\0", b""])
    @pytest.mark.parametrize("inside", [True, False])
    def test_finish_answered_with_something_else(self, answer: bytes, inside: bool) -> None:
        pair = plain_pair(V13)
        proven = verified(pair)

        def swap(who: str, frame: Frame) -> Frame:
            if who != "responder" or frame.kind is not FrameKind.SECURED:
                return frame
            if not inside:
                return Frame(FrameKind.MESSAGE, answer)
            (session,) = pair.requester.connection.sessions.values()
            # A responder that holds the keys: those the requester opens with.
            sender = RecordSender(
                pair.requester.connection.algorithms.aead,  # type: ignore[arg-type]  # negotiated
                session.session_id,
                session.receiver.profile,
                encrypt=True,
                random=pair.requester.connection.random,
            )
            sender._state = session.receiver._state
            sealed = sender.message(answer) if answer else sender.seal(b"\0")
            assert session.receiver._state is not None
            session.receiver._state.sequence -= 1
            return Frame(FrameKind.SECURED, sealed)

        pair.bend = swap
        self.refused(pair, sessions.key_exchange(pair.link, proven))

    def test_mutual_authentication_is_not_skipped_by_the_responder(self) -> None:
        """It asked, the requester offered, and then it takes FINISH without the signature."""
        pair = demanding(V13)
        proven = verified(pair)
        pair.run(sessions.key_exchange(pair.link, proven))
        (session,) = pair.responder.connection.sessions.values()
        assert session.proof.kind == "certificate"
