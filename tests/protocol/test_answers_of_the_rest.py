"""Key pairs, signing requests, endpoint information, logs: answers and arguments that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.errors import ProtocolViolation, SpdmError
from spdmkit.messages import (
    V12,
    V13,
    CertificateModel,
    Csr,
    EndpointInfo,
    GetCertificate,
    KeyPairInfo,
    Message,
)
from spdmkit.protocol import opaque
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.events import PeerNotification
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.endpoint_info import get_signed_endpoint_info
from spdmkit.protocol.requester.events import changed_slots
from spdmkit.protocol.requester.key_pairs import generate_key_pair, get_key_pairs
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.provisioning import get_csr

from .support import EVERYTHING, MemoryDevice, Pair
from .test_attestation_flow import verified
from .test_session_life import opened, theirs


def ready(version: int = V13, **responder: Any) -> Pair:
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(version,),
        responder={"capabilities": EVERYTHING, **responder},
    )
    pair.proven = verified(pair)
    return pair


def answered(patch: pytest.MonkeyPatch, *answers: Message | bytes) -> None:
    """The responder's next answers, whatever is asked."""
    waiting = iter(answers)

    def settled(self: Link, code: int, message: bytes) -> Exchange[bytes]:
        yield from ()
        answer = next(waiting)
        return answer if isinstance(answer, bytes) else answer.encode(self.connection.context)

    patch.setattr(Link, "_deliver", settled)


def test_a_signing_request_that_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ready()
    answered(monkeypatch, Csr())
    with pytest.raises(ProtocolViolation, match="no signing request"):
        pair.run(get_csr(pair.link))


@pytest.mark.parametrize(
    ("version", "arguments"),
    [
        (V12, {"key_pair_id": 1}),
        (V12, {"model": CertificateModel.DEVICE}),
        (V12, {"tracking_tag": 1}),
        (V13, {"key_pair_id": 1}),
    ],
)
def test_arguments_that_a_version_or_connection_has_not(
    version: int, arguments: dict[str, Any]
) -> None:
    pair = ready(version)
    sent = len(pair.wire)
    with pytest.raises(ProtocolViolation):
        pair.run(get_csr(pair.link, **arguments))
    assert len(pair.wire) == sent


def info(number: int, total: int) -> KeyPairInfo:
    return KeyPairInfo(key_pair_id=number, total_key_pairs=total, public_key_info=b"")


def test_key_pairs_whose_number_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ready()
    answered(monkeypatch, info(1, 2), info(2, 3))
    with pytest.raises(ProtocolViolation, match="TotalKeyPairs"):
        pair.run(get_key_pairs(pair.link))


@pytest.mark.parametrize("answer", [info(2, 2), info(1, 0)])
def test_key_pairs_that_were_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, answer: KeyPairInfo
) -> None:
    pair = ready()
    answered(monkeypatch, answer)
    with pytest.raises(ProtocolViolation, match="key pair"):
        pair.run(get_key_pairs(pair.link))


def test_slots_that_do_not_exist() -> None:
    pair = ready()
    with pytest.raises(ProtocolViolation, match="slots are 0 to 7"):
        pair.run(generate_key_pair(pair.link, 1, slots=[9]))


def test_endpoint_information_for_another_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ready()
    size = pair.link.connection.context.signature_size

    def settled(self: Link, code: int, message: bytes) -> Exchange[bytes]:
        yield from ()
        answer = EndpointInfo(slot_id=3, nonce=bytes(32), signature=bytes(size))
        asked = self.connection.context.answering(
            _request(message, self.connection.context), requester_side=False
        )
        return answer.encode(asked)

    monkeypatch.setattr(Link, "_deliver", settled)
    with pytest.raises(SpdmError):
        pair.run(get_signed_endpoint_info(pair.link, pair.proven))


def _request(message: bytes, context: Any) -> Message:
    from spdmkit.messages import GetEndpointInfo

    return GetEndpointInfo.decode(message, context)


def test_a_log_in_too_many_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    from spdmkit.messages import ResponderFlags
    from spdmkit.protocol.requester import measurement_log

    pair = ready(capabilities=EVERYTHING & ~ResponderFlags.CHUNK_CAP, transmit_size=2000)
    monkeypatch.setattr(pair.device, "measurement_log", lambda algorithm: bytes(9000))
    monkeypatch.setattr(measurement_log, "_MOST_PORTIONS", 2)
    with pytest.raises(ProtocolViolation, match="portions"):
        pair.run(get_measurement_log(pair.link))


def test_the_size_of_a_slot_that_does_not_exist() -> None:
    pair = ready()
    request = GetCertificate(slot_id=12, slot_size_requested=True)
    answer = pair.raw(request.encode(pair.link.connection.context))
    assert answer[1:3] == b"\x7f\x01"


def test_an_offer_is_no_selection() -> None:
    offer = opaque.write_offer(V13, (0x1200,), 64)
    with pytest.raises(ProtocolViolation, match="selects no"):
        opaque.read_selection(V13, offer)


def test_a_record_without_room_for_its_length() -> None:
    pair, one = opened()
    sender = one.session.sender
    state = sender._state
    assert state is not None
    header = one.session.session_id.to_bytes(4, "little") + (17).to_bytes(2, "little")
    record = header + state.cipher.seal(state.nonce(), b"\0", header)
    session = theirs(pair, one)
    pair.responder.receive(Frame(FrameKind.SECURED, record), pair.clock.now)
    assert not session.alive


def test_events_that_tell_of_no_slot() -> None:
    event = PeerNotification(1, 0, 0xFF, b"")
    assert changed_slots(event) == frozenset()
