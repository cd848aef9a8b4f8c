"""A requester with a responder that breaks the rules, answer by answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    PeerError,
    ProtocolViolation,
    SpdmError,
    TransportError,
)
from spdmkit.messages import (
    V11,
    V12,
    V13,
    EncapsulatedResponseAck,
    ErrorCode,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Closed, DeadlinePassed, Exchange, Send, Woken
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester import sessions
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.encapsulated import authenticate_basic, serve_encapsulated
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.measurements import get_measurements, get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    PreSharedKey,
    end_session,
    key_exchange,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.requester.upkeep import keep_alive, poll
from spdmkit.protocol.session import MutualAuth
from spdmkit.protocol.settings import AlgorithmSet, Settings
from spdmkit.protocol.transcript import Transcript

from .support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair, chain
from .test_attestation_flow import verified
from .test_mutual_authentication import CLEAR, identity, mutual_pair
from .test_session_life import another, opened, theirs

F, Q, E = ResponderFlags, RequesterFlags, ErrorCode
BY_PSK = PreSharedKey(PSK_HINT, PSK)


def bending(pair: Pair, code: int, change: Callable[[bytearray], Any]) -> None:
    """Change the responder's clear messages of one kind."""

    def bend(who: str, frame: Frame) -> Frame:
        if who != "responder" or frame.kind is not FrameKind.MESSAGE or frame.body[1] != code:
            return frame
        body = bytearray(frame.body)
        change(body)
        return Frame(frame.kind, bytes(body))

    pair.bend = bend


def put(position: int, value: int) -> Callable[[bytearray], None]:
    def change(body: bytearray) -> None:
        body[position] = value

    return change


def cut(size: int) -> Callable[[bytearray], None]:
    def change(body: bytearray) -> None:
        del body[size:]

    return change


def grow(tail: bytes) -> Callable[[bytearray], None]:
    return lambda body: body.extend(tail)


@dataclass(frozen=True)
class Row:
    """An exchange, what is changed in its answer, and what is made of it."""

    exchange: Callable[[Pair], Exchange[Any]]
    code: int
    change: Callable[[bytearray], Any]
    complaint: str
    error: type[SpdmError] = ProtocolViolation


def on_link(exchange: Callable[[Link], Exchange[Any]]) -> Callable[[Pair], Exchange[Any]]:
    return lambda pair: exchange(pair.link)


C = ResponseCode
DIGESTS = on_link(get_digests)
CHALLENGE: Callable[[Pair], Exchange[Any]] = lambda p: challenge(p.link, p.proven)  # noqa: E731  # a row of a table
SIGNED: Callable[[Pair], Exchange[Any]] = lambda p: get_signed_measurements(p.link, p.proven)  # noqa: E731  # likewise
EXCHANGE: Callable[[Pair], Exchange[Any]] = lambda p: key_exchange(p.link, p.proven)  # noqa: E731  # likewise
BY_KEY: Callable[[Pair], Exchange[Any]] = lambda p: psk_exchange(p.link, BY_PSK)  # noqa: E731  # likewise

ROWS: dict[str, Row] = {
    "an answer of two bytes": Row(DIGESTS, C.DIGESTS, cut(2), "no SPDM message"),
    "another answer": Row(DIGESTS, C.DIGESTS, put(1, 0x02), "expected DIGESTS"),
    "another version": Row(DIGESTS, C.DIGESTS, put(0, V12), "version byte"),
    "bytes after the answer": Row(DIGESTS, C.DIGESTS, grow(b"\x01"), "follow DIGESTS"),
    "reserved flags in CAPABILITIES": Row(
        on_link(negotiate), C.CAPABILITIES, put(8, 0x18), "CAPABILITIES|MEAS"
    ),
    "CHALLENGE_AUTH for another slot": Row(CHALLENGE, C.CHALLENGE_AUTH, put(2, 1), "for slot 1"),
    "CHALLENGE_AUTH of an empty slot": Row(
        CHALLENGE, C.CHALLENGE_AUTH, put(3, 0), "not provisioned"
    ),
    "CHALLENGE_AUTH with another context": Row(
        CHALLENGE, C.CHALLENGE_AUTH, lambda b: put(len(b) - 64 - 8, b[-72] ^ 1)(b), "context"
    ),
    "CHALLENGE_AUTH with another signature": Row(
        CHALLENGE, C.CHALLENGE_AUTH, lambda b: put(-1, b[-1] ^ 1)(b), "signature",
        AuthenticationError,
    ),
    "MEASUREMENTS for another slot": Row(SIGNED, C.MEASUREMENTS, put(3, 1), "another slot"),
    "MEASUREMENTS with another signature": Row(
        SIGNED, C.MEASUREMENTS, lambda b: put(-1, b[-1] ^ 1)(b), "signature", AuthenticationError
    ),
    "MEASUREMENTS with another context": Row(
        SIGNED, C.MEASUREMENTS, lambda b: put(len(b) - 72, b[-72] ^ 1)(b), "context"
    ),
    "KEY_EXCHANGE_RSP with another signature": Row(
        EXCHANGE, C.KEY_EXCHANGE_RSP, lambda b: put(-70, b[-70] ^ 1)(b), "signature",
        AuthenticationError,
    ),
    "KEY_EXCHANGE_RSP with another MAC": Row(
        EXCHANGE, C.KEY_EXCHANGE_RSP, lambda b: put(-1, b[-1] ^ 1)(b), "ResponderVerifyData",
        AuthenticationError,
    ),
    "KEY_EXCHANGE_RSP with a reserved MutAuthRequested": Row(
        EXCHANGE, C.KEY_EXCHANGE_RSP, put(6, 3), "reserved"
    ),
    "KEY_EXCHANGE_RSP that wants a proof we did not offer": Row(
        EXCHANGE, C.KEY_EXCHANGE_RSP, put(6, 1), "not negotiated|no keys"
    ),
    "PSK_EXCHANGE_RSP with another MAC": Row(
        BY_KEY, C.PSK_EXCHANGE_RSP, lambda b: put(-1, b[-1] ^ 1)(b), "ResponderVerifyData",
        AuthenticationError,
    ),
    "VERSION without ours": Row(
        on_link(negotiate), C.VERSION, lambda b: (put(5, 1)(b), cut(8)(b), put(7, 0x2F)(b)),
        "offers SPDM", AuthenticationError,
    ),
    "VERSION of alpha versions only": Row(
        on_link(negotiate), C.VERSION, lambda b: (put(5, 1)(b), cut(8)(b), put(6, 1)(b)),
        "offers SPDM", AuthenticationError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_an_answer_that_breaks_a_rule(name: str) -> None:
    row = ROWS[name]
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V13,),
        requester={"capabilities": requester_capabilities(sessions=True, psk=True)},
    )
    pair.proven = verified(pair)
    bending(pair, row.code, row.change)
    with pytest.raises(row.error, match=row.complaint):
        pair.run(row.exchange(pair))
    assert not pair.requester.connection.sessions
    # Nothing of it stays: the next exchange is as if there had been none.
    pair.bend = lambda _who, frame: frame
    pair.proven = verified(pair)
    pair.run(challenge(pair.link, pair.proven))


def test_multi_key_that_was_not_offered() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))

    def change(body: bytearray) -> None:
        body[7] |= 0x10

    bending(pair, C.ALGORITHMS, change)
    with pytest.raises(AuthenticationError, match="RequesterMultiKeyConnSel"):
        pair.run(negotiate(pair.link))


def test_a_secured_message_version_that_was_not_offered() -> None:
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V13,),
        responder={"capabilities": EVERYTHING, "secured_versions": (0x1200,)},
        requester={"capabilities": requester_capabilities(psk=True)},
    )
    pair.run(negotiate(pair.link))
    from dataclasses import replace

    link = pair.link
    exchange = psk_exchange(link, BY_PSK)
    original = link.connection.settings
    ticket = pair.requester.submit(exchange)
    # The offer is out; from now on we would have wanted another.
    link.connection.settings = replace(original, secured_versions=(0x1300,))
    while not ticket.done:
        pair.step()
    with pytest.raises(AuthenticationError, match="not offered"):
        ticket.result()


def test_a_responder_context_that_should_not_be_there() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))
    pair.requester.connection.peer.flags ^= int(F.PSK_CAP_MASK)
    with pytest.raises(ProtocolViolation, match="ResponderContext"):
        pair.run(psk_exchange(pair.link, BY_PSK))


def test_a_session_id_that_is_in_use() -> None:
    pair, one = opened()
    ours = one.session.session_id & 0xFFFF
    with pytest.raises(ProtocolViolation, match="in use"):
        sessions._session_id(pair.requester.connection, ours, one.session.session_id >> 16)


def test_a_short_pre_shared_key() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))
    with pytest.raises(ProtocolViolation, match="16 bytes"):
        pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, bytes(15))))
    # The responder's key may be short just as little: it is answered like an unknown one.
    pair.device.psks = {PSK_HINT: bytes(15)}
    with pytest.raises(AuthenticationError):
        pair.run(psk_exchange(pair.link, BY_PSK))


def test_no_key_exchange_was_negotiated() -> None:
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V13,),
        requester={"algorithms": AlgorithmSet.available().with_masks(dhe=0, kem=0)},
    )
    proven = verified(pair)
    with pytest.raises(ProtocolViolation, match="key exchange"):
        pair.run(key_exchange(pair.link, proven))


def test_the_way_back_in_the_clear_proves_itself() -> None:
    """FINISH_RSP in the clear carries the responder's MAC."""
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V13,),
        requester={"capabilities": requester_capabilities(sessions=True) | CLEAR},
        responder={"capabilities": EVERYTHING | CLEAR},
    )
    proven = verified(pair)
    bending(pair, C.FINISH_RSP, lambda b: put(-1, b[-1] ^ 1)(b))
    with pytest.raises(AuthenticationError, match="FINISH_RSP"):
        pair.run(key_exchange(pair.link, proven))
    assert not pair.requester.connection.sessions


def test_psk_finish_is_refused() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))

    def bend(who: str, frame: Frame) -> Frame:
        if who == "requester" and frame.kind is FrameKind.SECURED:
            return Frame(frame.kind, frame.body[:-1] + bytes((frame.body[-1] ^ 1,)))
        return frame

    pair.bend = bend
    with pytest.raises(PeerError):
        pair.run(psk_exchange(pair.link, BY_PSK))
    assert not pair.requester.connection.sessions


class TestMutual:
    def test_a_slot_of_ours_that_is_empty(self) -> None:
        pair = mutual_pair(MutualAuth.WITHOUT_ENCAPSULATION)
        proven = verified(pair)
        from .test_mutual_authentication import chain_known

        chain_known(pair, 0)
        bending(pair, C.KEY_EXCHANGE_RSP, put(7, 5))
        with pytest.raises(SpdmError):
            pair.run(key_exchange(pair.link, proven))
        credentials, _ = identity()
        with pytest.raises(ProtocolViolation, match="holds no chain"):
            sessions._our_signer(pair.requester.connection, credentials, 5)

    @pytest.mark.parametrize(
        ("ack", "complaint"),
        [
            ("136b000009000000", "another request"),
            ("136b000201000000", "ReqSlotNumber|left|bytes"),
            ("136b000101000000", "payload type"),
            ("136b000701000000", "payload type"),
        ],
    )
    def test_an_acknowledgement_that_does_not_fit(self, ack: str, complaint: str) -> None:
        pair, one = opened()
        pair.responder.update_keys(theirs(pair, one))

        def forged(self: Link, code: int, message: bytes) -> Exchange[bytes]:
            answer = yield from original(self, code, message)
            if code == RequestCode.DELIVER_ENCAPSULATED_RESPONSE:
                return bytes.fromhex(ack)
            return answer

        original = Link._deliver
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "_deliver", forged)
            with pytest.raises(SpdmError, match=complaint):
                pair.run(poll(one.link))

    def test_a_responder_that_does_not_stop_asking(self) -> None:
        pair, one = opened()
        again = EncapsulatedResponseAck(
            ack_request_id=1, request_id=1, payload_type=1, payload=b"\x13\x81\0\0"
        )
        pair.responder.update_keys(theirs(pair, one))

        def forged(self: Link, code: int, message: bytes) -> Exchange[bytes]:
            if code == RequestCode.DELIVER_ENCAPSULATED_RESPONSE:
                return again.encode(self._context(again))
            return (yield from original(self, code, message))

        original = Link._deliver
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "_deliver", forged)
            with pytest.raises(ProtocolViolation, match="stop asking"):
                pair.run(poll(one.link))

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            (b"\x12\x81\0\0", E.INVALID_REQUEST),
            (b"\x13", E.INVALID_REQUEST),
            (b"\x13\xea\0\0", E.UNSUPPORTED_REQUEST),
            (b"\x13\xe4\0\0", E.UNSUPPORTED_REQUEST),
            (b"\x13\x83\0\0" + b"\x01" * 40, E.UNSUPPORTED_REQUEST),
            (b"\x13\xe9\x02\0", E.INVALID_REQUEST),
            (b"\x13\xe9\x01", E.INVALID_REQUEST),
        ],
    )
    def test_encapsulated_requests_that_we_do_not_answer(self, request_: bytes, code: int) -> None:
        from spdmkit.protocol.responder.flow import EncapsulatedLink

        pair, one = opened()
        answers: list[bytes] = []

        def starter(link: EncapsulatedLink) -> Any:
            answers.append((yield from link._deliver(0, request_)))

        pair.responder.ask(starter, theirs(pair, one))
        assert pair.run(poll(one.link))
        assert answers[0][1:3] == bytes((C.ERROR, code))

    def test_in_a_handshake_only_what_belongs_there(self) -> None:
        pair = mutual_pair(MutualAuth.ENCAPSULATED)
        proven = verified(pair)
        from spdmkit.protocol.responder import flow

        asked: list[bytes] = []

        def other(device: Any, session: Any) -> Any:
            def run(link: Any) -> Any:
                asked.append((yield from link._deliver(0, b"\x13\xe9\x01\x07")))

            return run

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flow, "mutual_authentication", other)
            with pytest.raises(SpdmError):
                pair.run(key_exchange(pair.link, proven))
        assert asked[0][2] == E.UNEXPECTED_REQUEST

    def test_errors_that_mean_more_than_nothing_to_do(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        pair.run(negotiate(pair.link))
        assert not pair.run(serve_encapsulated(pair.link, identity()[0]))
        bending(pair, C.ERROR, put(2, E.REQUEST_RESYNCH))
        with pytest.raises(PeerError):
            pair.run(serve_encapsulated(pair.link, identity()[0]))

    def test_basic_authentication_that_is_asked_for_and_then_not_wanted(self) -> None:
        pair = mutual_pair(MutualAuth.NONE, version=V12)
        verified(pair)
        with pytest.raises(PeerError):
            pair.run(authenticate_basic(pair.link, identity()[0]))

    @pytest.mark.parametrize("version", [V12, V13])
    @pytest.mark.parametrize("mutual", [MutualAuth.ENCAPSULATED, MutualAuth.GET_DIGESTS])
    def test_with_several_keys_the_first_digests_join_the_transcript(
        self, version: int, mutual: MutualAuth
    ) -> None:
        """ED, from 1.3 on where the requester uses several keys."""
        credentials, root = identity()
        from spdmkit.identity import Purpose, TrustAnchors

        flags = requester_capabilities(sessions=True, mutual=True)
        if version >= V13:
            flags |= Q.MULTI_KEY_CAP_ONLY
        pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(version,),
            credentials=credentials,
            requester={"capabilities": flags},
            responder={"capabilities": EVERYTHING, "mutual_auth": mutual, "multi_key": True},
        )
        pair.device.requester_anchors = TrustAnchors([root], Purpose.REQUESTER)
        pair.run(key_exchange(pair.link, verified(pair)))
        (session,) = pair.responder.connection.sessions.values()
        assert bool(session.encapsulated_digests) is (version >= V13)
        assert session.proof.kind == "certificate"


class TestInASession:
    def test_an_spdm_message_is_no_application_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pair, one = opened()
        monkeypatch.setattr(pair.device, "application_data", _raising)
        with pytest.raises(PeerError) as caught:
            pair.run(one.link.converse(b"x"))
        assert caught.value.code == E.UNSPECIFIED
        assert one.session.alive

        def answered(_self: Any, session: Any, content: Any) -> None:
            pair.responder._send(b"\x13\x68\0\0", session)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(pair.responder), "_application_data", answered)
            with pytest.raises(ProtocolViolation, match="SPDM message"):
                pair.run(one.link.converse(b"x"))

    def test_a_record_is_no_answer_outside(self) -> None:
        pair, _ = opened()
        pair.bend = lambda who, frame: (
            Frame(FrameKind.SECURED, bytes(40)) if who == "responder" else frame
        )
        with pytest.raises(ProtocolViolation, match="secured message"):
            pair.run(get_digests(pair.link))

    def test_key_update_ack_that_does_not_repeat(self) -> None:
        pair, one = opened()
        with pytest.MonkeyPatch.context() as patch:
            from spdmkit.messages import KeyUpdateAck
            from spdmkit.protocol.handlers import sessions as handlers

            patch.setattr(
                handlers,
                "KeyUpdateAck",
                lambda operation, tag: KeyUpdateAck(operation=operation, tag=tag ^ 1),
            )
            with pytest.raises(ProtocolViolation, match="repeat"):
                pair.run(key_update(one.link))
        assert one.session.alive

    def test_key_update_ack_under_the_old_key(self) -> None:
        pair, one = opened()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(one.session), "update_sending", lambda self: None)
            with pytest.raises(ProtocolViolation, match="old key"):
                pair.run(key_update(one.link, all_keys=True))
        assert not one.session.alive

    def test_without_a_session(self) -> None:
        pair, one = opened()
        for exchange in (key_update(pair.link), end_session(pair.link)):
            with pytest.raises(ProtocolViolation, match="session"):
                pair.run(exchange)
        pair.run(end_session(one.link))
        pair.run(keep_alive(one.link))
        pair.run(keep_alive(pair.link))

    def test_polling_needs_encapsulation(self) -> None:
        from spdmkit.protocol.requester.upkeep import upkeep_due

        flags = EVERYTHING & ~F.ENCAP_CAP & ~F.MUT_AUTH_CAP
        pair, one = opened(capabilities=flags)
        assert not pair.run(poll(one.link))
        settings = Settings(poll_interval=1.0)
        assert upkeep_due(one.session, settings) == float("inf")
        pair.run(end_session(one.link))
        assert upkeep_due(one.session, settings) == float("inf")

    def test_what_is_not_ours_to_send(self) -> None:
        pair, one = opened()
        proven = verified(Pair(MemoryDevice("ecdsa-p256"), versions=(V13,)))
        with pytest.raises(ProtocolViolation, match="legal"):
            pair.run(challenge(one.link, proven))


def _raising(*_: Any) -> bytes:
    raise RuntimeError("a device that fails")


def test_transcripts_need_a_negotiation() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    for name in ("l1l2", "challenge_transcript", "peer_signature", "peer_hash"):
        with pytest.raises(ProtocolViolation, match="negotiated"):
            getattr(pair.link, name)
    with pytest.raises(ProtocolViolation):
        pair.run(get_measurements(pair.link))


def test_a_responder_without_a_signature_algorithm() -> None:
    """A pre-shared key needs none; everything else says so."""
    flags = EVERYTHING & ~(
        F.CERT_CAP | F.CHAL_CAP | F.MEAS_CAP_MASK | F.KEY_EX_CAP | F.SET_CERT_CAP | F.CSR_CAP
        | F.MUT_AUTH_CAP | F.EP_INFO_CAP_MASK
    )  # fmt: skip
    nothing = AlgorithmSet.available().with_masks(base_asym=0, pqc_asym=0)
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V13,),
        requester={"algorithms": nothing, "capabilities": requester_capabilities(psk=True)},
        responder={"algorithms": nothing, "capabilities": flags},
    )
    pair.run(negotiate(pair.link))
    with pytest.raises(ProtocolViolation, match="signature algorithm"):
        pair.link.peer_signature  # noqa: B018  # the property raises
    assert pair.run(another(pair).link.converse(b"x")).data == b"x"


def test_a_log_that_grows_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V13,),
        responder={"capabilities": EVERYTHING & ~F.CHUNK_CAP, "transmit_size": 300},
    )
    pair.run(negotiate(pair.link))
    sizes = iter(range(1000, 10_000))
    monkeypatch.setattr(pair.device, "measurement_log", lambda algorithm: bytes(next(sizes)))
    with pytest.raises(ProtocolViolation, match="grows"):
        pair.run(get_measurement_log(pair.link))


def test_a_chain_in_too_many_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    from spdmkit.protocol.requester import certificates

    monkeypatch.setattr(certificates, "_MOST_PORTIONS", 2)
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(V11,),
        responder={"capabilities": EVERYTHING, "transmit_size": 100},
    )
    pair.run(negotiate(pair.link))
    with pytest.raises(ProtocolViolation, match="portions"):
        pair.run(get_certificate(pair.link))


class TestTicketsAndActions:
    def test_a_ticket_that_is_not_done_has_no_result(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        ticket = pair.requester.submit(negotiate(pair.link))
        with pytest.raises(TransportError, match="not done"):
            ticket.result()
        told: list[Any] = []
        ticket.on_done(told.append)
        while not ticket.done:
            pair.step()
        ticket.on_done(told.append)
        assert told == [ticket, ticket]
        ticket._finish(None, None)
        ticket.result()

    def test_after_the_end_nothing_starts(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        waiting = [pair.requester.submit(negotiate(pair.link)) for _ in range(2)]
        for _ in range(2):
            pair.requester.connection_lost(TransportError("gone"))
        for ticket in (*waiting, pair.requester.submit(negotiate(pair.link))):
            with pytest.raises(TransportError, match="gone"):
                ticket.result()

    def test_a_fault_of_ours_ends_the_connection_and_is_raised(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))

        def broken() -> Exchange[None]:
            yield Send(Frame(FrameKind.MESSAGE, b"\x10\x84\0\0"), 1e9)
            raise RuntimeError("a defect")

        pair.requester.submit(broken())
        with pytest.raises(RuntimeError):
            pair.requester.receive(Frame(FrameKind.MESSAGE, b""), 0.0)
        assert pair.requester.close_wanted

    def test_times_that_have_not_come(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        pair.requester.on_time(0.0)
        assert pair.requester.next_deadline() is None
        pair.requester.submit(negotiate(pair.link))
        pair.requester.on_time(0.0)
        assert pair.requester.next_deadline() is not None
        pair.requester.complete(999, None, 0.0)

    @pytest.mark.parametrize("event", [Woken(), DeadlinePassed()])
    def test_a_driver_that_resumes_with_nonsense(self, event: Any) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        exchange = negotiate(pair.link)
        next(exchange)
        with pytest.raises(TransportError):
            exchange.send(event)

    def test_the_connection_goes_while_a_request_is_out(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        exchange = negotiate(pair.link)
        next(exchange)
        with pytest.raises(TransportError, match="gone"):
            exchange.send(Closed(TransportError("gone")))


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "complaint"),
        [
            ({"versions": ()}, "versions"),
            ({"versions": (0x20,)}, "versions"),
            ({"data_transfer_size": 41}, "data_transfer_size"),
            ({"transmit_size": 41}, "transmit_size"),
            ({"max_message_size": 1000}, "max_message_size"),
        ],
    )
    def test_what_contradicts_itself(self, values: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ConfigurationError, match=complaint):
            Settings(**values)

    def test_algorithms_that_are_not_there(self) -> None:
        with pytest.raises(ConfigurationError, match="base_hash"):
            AlgorithmSet.available().narrowed(base_hash=1 << 31)

    def test_names_of_what_was_selected(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        pair.run(negotiate(pair.link))
        names = pair.requester.connection.algorithms.names()
        assert names["signature"] == "ecdsa-p256"
        assert "kem" not in names


def test_transcripts() -> None:
    from spdmkit.crypto.registry import BASE_HASH

    sha256 = BASE_HASH.by_name("sha-256")
    transcript = Transcript(sha256, b"prefix", keep=True)
    assert transcript.digest() == sha256.digest(b"prefix")
    assert transcript.digest(b"tail") == sha256.digest(b"prefixtail")
    transcript.append(b"one", b"two")
    fork = transcript.fork()
    assert transcript.digest(b"tail") == sha256.digest(b"prefixonetwotail")
    transcript.append(b"three")
    assert fork.digest() == sha256.digest(b"prefixonetwo")
    assert fork.messages == [b"one", b"two"]
    assert not transcript.empty
    transcript.reset()
    assert not transcript.messages
    assert transcript.fork().digest() == sha256.digest(b"prefix")


def test_key_logs_get_what_they_asked_for() -> None:
    from spdmkit.protocol.events import KeyLogged

    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.requester.connection.log_keys = True
    pair.run(negotiate(pair.link))
    another(pair)
    labels = [e.label for who, e in pair.events if isinstance(e, KeyLogged) and who == "requester"]
    assert labels == [
        "REQUEST_HANDSHAKE_SECRET",
        "RESPONSE_HANDSHAKE_SECRET",
        "REQUEST_DATA_SECRET",
        "RESPONSE_DATA_SECRET",
    ]
    assert chain is not None
