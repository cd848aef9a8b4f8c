"""A responder with little to offer, odd settings, and a device that fails."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.errors import ConfigurationError, PeerError, ProtocolViolation
from spdmkit.messages import (
    V12,
    V13,
    V14,
    Capabilities,
    Certificate,
    DeliverEncapsulatedResponse,
    Digests,
    ErrorCode,
    GetCapabilities,
    GetCertificate,
    GetDigests,
    GetEncapsulatedRequest,
    GetMeasurements,
    Heartbeat,
    MeasurementKind,
    MeasurementSummaryHashType,
    RequesterFlags,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.handlers.call import Call, SessionOver
from spdmkit.protocol.handlers.table import HANDLERS
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.measurements import get_measurements
from spdmkit.protocol.requester.negotiate import get_version, negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, key_exchange, psk_exchange
from spdmkit.protocol.responder.device import Measurement, Peer
from spdmkit.protocol.session import MutualAuth, Session
from spdmkit.protocol.settings import AlgorithmSet

from .support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair
from .test_attestation_flow import verified
from .test_mutual_authentication import identity, mutual_pair
from .test_session_life import another, opened, theirs

F, Q, E = ResponderFlags, RequesterFlags, ErrorCode


def ready(version: int = V13, **responder: Any) -> Pair:
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(version,),
        responder={"capabilities": EVERYTHING, **responder},
    )
    pair.run(negotiate(pair.link))
    return pair


def refused(pair: Pair, message: Any) -> int:
    """The ERROR that a request in the clear gets."""
    encoded = message.encode(pair.link.connection.context)
    pair.responder.receive(Frame(FrameKind.MESSAGE, encoded), pair.clock.now)
    while jobs := pair.responder.work():
        for job in jobs:
            try:
                outcome: Any = job.call()
            except Exception as error:
                outcome = error
            pair.responder.complete(job.token, outcome, pair.clock.now)
    (frame,) = pair.responder.outgoing()
    assert frame.body[1] == ResponseCode.ERROR, frame.body.hex()
    return frame.body[2]


class TestLittleToOffer:
    def test_no_slot_is_provisioned(self) -> None:
        pair = ready()
        pair.device.credentials = Credentials(supported=range(8))
        assert refused(pair, GetDigests()) == E.UNSPECIFIED

    @pytest.mark.parametrize("version", [V13, V14])
    def test_the_room_of_a_slot(self, version: int) -> None:
        pair = ready(version)
        request = GetCertificate(slot_id=0, slot_size_requested=True)
        answer = pair.run(pair.link.ask(request, Certificate)).message
        assert answer.cert_chain == b""
        assert answer.remainder_length > 100

    def test_no_measurement_specification(self) -> None:
        pair = ready(algorithms=AlgorithmSet.available().with_masks(measurement_specification=0))
        with pytest.raises(PeerError) as caught:
            pair.run(get_measurements(pair.link))
        assert caught.value.code == E.UNEXPECTED_REQUEST

    def test_a_summary_of_what_is_not_measured(self) -> None:
        pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(V13,),
            responder={"capabilities": EVERYTHING & ~F.MEAS_CAP_MASK},
        )
        proven = verified(pair)
        with pytest.raises(PeerError):
            pair.run(challenge(pair.link, proven, summary=MeasurementSummaryHashType.ALL))

    def test_a_summary_of_no_trusted_computing_base_is_zero(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        pair.device.values = [Measurement(1, MeasurementKind.MUTABLE_FIRMWARE, raw=b"x")]
        proven = verified(pair)
        found = pair.run(challenge(pair.link, proven, summary=MeasurementSummaryHashType.TCB))
        assert found.summary
        assert not any(found.summary)

    def test_a_measurement_without_a_value(self) -> None:
        pair = ready()
        pair.device.values = [Measurement(1, MeasurementKind.MUTABLE_FIRMWARE)]
        request = GetMeasurements(measurement_operation=1, context=bytes(8))
        assert refused(pair, request) == E.UNSPECIFIED

    def test_a_measurement_whose_digest_is_of_another_hash(self) -> None:
        """Its raw value is given instead, and says that it is raw."""
        pair = ready()
        pair.device.values = [
            Measurement(1, MeasurementKind.MUTABLE_FIRMWARE, raw=b"raw", digests=(("other", b"x"),))
        ]
        (block,) = pair.run(get_measurements(pair.link, 1))
        assert block.index == 1

    def test_no_log_without_a_measurement_hash(self) -> None:
        from spdmkit.messages import GetMeasurementExtensionLog

        pair = ready(algorithms=AlgorithmSet.available().with_masks(mel_specification=0))
        code = refused(pair, GetMeasurementExtensionLog(length=10))
        assert code == E.UNEXPECTED_REQUEST

    def test_no_aead(self) -> None:
        nothing = AlgorithmSet.available().with_masks(aead=0)
        pair = Pair(
            MemoryDevice("ecdsa-p256"), versions=(V13,), responder={
                "capabilities": EVERYTHING, "algorithms": nothing,
            },
        )  # fmt: skip
        proven = verified(pair)
        for exchange in (
            key_exchange(pair.link, proven),
            psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)),
        ):
            with pytest.raises(PeerError) as caught:
                pair.run(exchange)
            assert caught.value.code == E.UNEXPECTED_REQUEST

    def test_no_key_exchange(self) -> None:
        nothing = AlgorithmSet.available().with_masks(dhe=0, kem=0)
        pair = Pair(
            MemoryDevice("ecdsa-p256"), versions=(V13,), responder={
                "capabilities": EVERYTHING, "algorithms": nothing,
            },
        )  # fmt: skip
        verified(pair)
        from spdmkit.messages import KeyExchange

        request = KeyExchange(random_data=bytes(32), opaque_data=b"\0\0\0\0")
        assert refused(pair, request) == E.UNEXPECTED_REQUEST


class TestSupportedAlgorithms:
    """The block in CAPABILITIES (1.3)."""

    def request(self) -> GetCapabilities:
        return GetCapabilities(
            supported_algorithms_requested=True,
            flags=int(Q.CHUNK_CAP),
            ct_exponent=10,
            data_transfer_size=4096,
            max_spdm_msg_size=65536,
        )

    def test_it_is_given(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        pair.run(get_version(pair.link))
        answer = pair.raw(self.request().encode(pair.link.connection.context))
        found = Capabilities.decode(answer, pair.link.connection.context)
        block = found.supported_algorithms
        assert block is not None
        assert block.base_hash_algo
        assert block.base_asym_algo == 1 << 4  # ECDSA P-256: the keys that there are

    def test_it_needs_chunks_on_both_sides(self) -> None:
        pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(V13,),
            responder={"capabilities": EVERYTHING & ~F.CHUNK_CAP},
        )
        pair.run(get_version(pair.link))
        assert refused(pair, self.request()) == E.INVALID_REQUEST


class TestSeveralKeys:
    def test_a_responder_with_one_key(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))

        def bend(who: str, frame: Frame) -> Frame:
            if who == "requester" and frame.body[1] == 0xE3:
                body = bytearray(frame.body)
                body[7] |= 0x10
                return Frame(frame.kind, bytes(body))
            return frame

        pair.bend = bend
        with pytest.raises(PeerError) as caught:
            pair.run(negotiate(pair.link))
        assert caught.value.code == E.INVALID_REQUEST

    def test_a_responder_that_has_several_and_nothing_else(self) -> None:
        pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(V13,),
            responder={"capabilities": EVERYTHING | F.MULTI_KEY_CAP_ONLY | F.GET_KEY_PAIR_INFO_CAP},
        )

        def bend(who: str, frame: Frame) -> Frame:
            if who == "requester" and frame.body[1] == 0xE3:
                body = bytearray(frame.body)
                body[7] &= ~0x10
                return Frame(frame.kind, bytes(body))
            return frame

        pair.bend = bend
        with pytest.raises(PeerError) as caught:
            pair.run(negotiate(pair.link))
        assert caught.value.code == E.INVALID_REQUEST


class TestEncapsulation:
    def test_asking_twice(self) -> None:
        pair, one = opened()
        pair.responder.update_keys(theirs(pair, one))
        context = pair.link.connection.context
        for expected in (None, E.REQUEST_IN_FLIGHT):
            record = one.session.sender.message(GetEncapsulatedRequest().encode(context))
            pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
            (frame,) = pair.responder.outgoing()
            answer = one.session.receiver.message(frame.body)
            assert isinstance(answer, bytes)
            assert (answer[2] if answer[1] == ResponseCode.ERROR else None) == expected
        # Something else in between is refused just so, and costs no session.
        record = one.session.sender.message(Heartbeat().encode(context))
        pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
        (frame,) = pair.responder.outgoing()
        answer = one.session.receiver.message(frame.body)
        assert isinstance(answer, bytes)
        assert answer[2] == E.REQUEST_IN_FLIGHT
        assert theirs(pair, one).alive

    def test_another_request_id(self) -> None:
        pair, one = opened()
        pair.responder.update_keys(theirs(pair, one))
        context = pair.link.connection.context
        answers = []
        for message in (
            GetEncapsulatedRequest(),
            DeliverEncapsulatedResponse(request_id=9, encapsulated_response=b"\x13\x69\x01\0"),
        ):
            record = one.session.sender.message(message.encode(context))
            pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
            (frame,) = pair.responder.outgoing()
            answers.append(one.session.receiver.message(frame.body))
        assert isinstance(answers[1], bytes)
        assert answers[1][2] == E.UNEXPECTED_REQUEST

    def test_an_exchange_that_asks_nothing(self) -> None:
        from spdmkit.protocol.requester.encapsulated import serve_encapsulated

        pair, one = opened()

        def nothing(_link: Any) -> Any:
            return None
            yield

        pair.responder.ask(nothing, theirs(pair, one))
        assert not pair.run(serve_encapsulated(one.link, Credentials()))

    def test_an_exchange_that_wants_to_sleep_is_given_up(self) -> None:
        from spdmkit.protocol.actions import sleep
        from spdmkit.protocol.requester.encapsulated import serve_encapsulated

        pair, one = opened()

        def sleepy(_link: Any) -> Any:
            yield from sleep(1.0)

        pair.responder.ask(sleepy, theirs(pair, one))
        assert not pair.run(serve_encapsulated(one.link, Credentials()))
        assert not pair.run(serve_encapsulated(one.link, Credentials()))

    def test_basic_authentication_of_a_requester_without_the_slot(self) -> None:
        from spdmkit.protocol.requester.encapsulated import authenticate_basic

        pair = mutual_pair(MutualAuth.NONE, version=V12, basic_mutual_auth=True, requester_slot=4)
        found = pair.run(challenge(pair.link, verified(pair)))
        assert found.basic_mutual_auth
        pair.run(authenticate_basic(pair.link, identity()[0]))
        assert pair.responder.connection.requester_proof.kind == ""


class TestDevicesThatFail:
    def test_application_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pair, one = opened()

        def broken(data: bytes, peer: Peer) -> bytes:
            raise ProtocolViolation("not now", error_code=E.BUSY)

        monkeypatch.setattr(pair.device, "application_data", broken)
        with pytest.raises(PeerError) as caught:
            pair.run(one.link.converse(b"x"))
        assert caught.value.code == E.BUSY
        assert one.session.alive

    def test_measurements(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pair = ready()

        def broken(*, fresh: bool) -> Any:
            raise OSError("the sensor is gone")

        monkeypatch.setattr(pair.device, "measurements", broken)
        request = GetMeasurements(measurement_operation=1, context=bytes(8))
        assert refused(pair, request) == E.UNSPECIFIED
        monkeypatch.undo()
        assert pair.run(get_measurements(pair.link))

    def test_a_session_that_ends_while_its_request_is_answered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its keys cannot protect the answer: the peer is told in the clear."""
        pair, one = opened()
        session = theirs(pair, one)

        def ending(*, fresh: bool) -> Any:
            pair.responder.connection.end_session(session, "a test")
            return pair.device.values

        monkeypatch.setattr(pair.device, "measurements", ending)
        with pytest.raises(PeerError) as caught:
            pair.run(get_measurements(one.link))
        assert caught.value.code == E.DECRYPT_ERROR
        assert not one.session.alive


class TestCalls:
    """What handlers rely on, for handlers that are yet to be written."""

    def call(self, pair: Pair, session: Session | None = None, **changes: Any) -> Call:
        values: dict[str, Any] = {
            "connection": pair.responder.connection,
            "session": session,
            "request": Heartbeat(),
            "raw": b"\x13\xe8\0\0",
            "context": pair.responder.connection.context,
            "credentials": pair.device.credentials,
            "device": pair.device,
            "peer": Peer(),
            **changes,
        }
        return Call(**values)

    def test_a_request_at_the_wrong_handler(self) -> None:
        pair = ready()
        with pytest.raises(ProtocolViolation, match="handler"):
            self.call(pair).typed(GetDigests)
        for code in (0xFF, 0x85, 0x86):
            with pytest.raises(ProtocolViolation, match="endpoint"):
                HANDLERS[code].handler(self.call(pair))  # type: ignore[index]  # codes as on the wire

    def test_what_is_not_there(self) -> None:
        pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
        fresh = self.call(pair)
        for name in ("challenge_transcript", "measurement_transcript"):
            with pytest.raises(ProtocolViolation, match="negotiated"):
                getattr(fresh, name)
        with pytest.raises(ProtocolViolation, match="session"):
            fresh.the_session()
        with pytest.raises(ProtocolViolation, match="not supported"):
            self.call(pair, device=None).the_device()

    def test_no_signature_algorithm(self) -> None:
        nothing = AlgorithmSet.available().with_masks(base_asym=0, pqc_asym=0)
        flags = EVERYTHING & ~(
            F.CERT_CAP | F.CHAL_CAP | F.MEAS_CAP_MASK | F.KEY_EX_CAP | F.SET_CERT_CAP | F.CSR_CAP
            | F.MUT_AUTH_CAP | F.EP_INFO_CAP_MASK
        )  # fmt: skip
        pair = Pair(
            MemoryDevice("ecdsa-p256"),
            versions=(V13,),
            requester={"algorithms": nothing, "capabilities": requester_capabilities(psk=True)},
            responder={"algorithms": nothing, "capabilities": flags},
        )
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="signature algorithm"):
            self.call(pair).signature_algorithm  # noqa: B018  # the property raises
        assert another(pair).session.established

    def test_what_ends_a_session_is_told_by_its_kind(self) -> None:
        pair, one = opened()
        session = theirs(pair, one)
        from spdmkit.errors import AuthenticationError

        told = {
            ProtocolViolation("x", error_code=E.BUSY, error_data=3): (E.BUSY, 3),
            AuthenticationError("x", "y"): (E.DECRYPT_ERROR, 0),
            ConfigurationError("x"): (E.INVALID_REQUEST, 0),
        }
        for reason, expected in told.items():
            over = SessionOver(session, reason)
            assert (over.error_code, over.error_data) == expected

    def test_the_handshake_is_over_once(self) -> None:
        pair, one = opened()
        with pytest.raises(ProtocolViolation, match="handshake"):
            theirs(pair, one).handshake_transcript()
        assert Digests.code == ResponseCode.DIGESTS
        assert pair.run(get_digests(pair.link)).slots
