"""Sessions between our own two sides: openers, finishers, what happens inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import ProtocolViolation
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    ErrorCode,
    MeasurementSummaryHashType,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.records import MCTP, TCP_LIBSPDM, TCP_STRICT, RecordProfile
from spdmkit.protocol.requester.measurements import get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    PreSharedKey,
    end_session,
    heartbeat,
    key_exchange,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.session import MutualAuth

from .support import EVERYTHING, PSK, PSK_HINT, Pair, chain
from .test_attestation_flow import verified

CLEAR = RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP
VERSIONS = [V11, V12, V13, V14]


def live_in(pair: Pair, opened: Any) -> None:
    link = opened.link
    pair.run(heartbeat(link)) if opened.session.heartbeat_period else None
    assert pair.run(link.converse(b"hello")).data == b"hello"
    for all_keys in (False, True, False):
        pair.run(key_update(link, all_keys=all_keys))
        assert pair.run(link.converse(b"again")).data == b"again"
    pair.run(end_session(link))
    assert not pair.requester.connection.sessions
    assert not pair.responder.connection.sessions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("clear", [False, True], ids=["encrypted", "in-the-clear"])
@pytest.mark.parametrize(
    "profile", [TCP_STRICT, TCP_LIBSPDM, MCTP], ids=["strict", "libspdm", "mctp"]
)
def test_key_exchange(version: int, clear: bool, profile: RecordProfile) -> None:
    extra = int(CLEAR) if clear else 0
    pair = Pair(
        versions=(version,),
        profile=profile,
        requester={"capabilities": requester_capabilities(sessions=True) | extra},
        responder={"capabilities": EVERYTHING | extra},
    )
    proven = verified(pair)
    opened = pair.run(key_exchange(pair.link, proven, summary=MeasurementSummaryHashType.ALL))
    assert opened.session.established
    assert opened.summary
    pair.run(get_signed_measurements(opened.link, proven))
    live_in(pair, opened)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("context", [True, False])
def test_psk(version: int, context: bool) -> None:
    flags = EVERYTHING & ~0xC00 | (0x800 if context else 0x400)
    pair = Pair(versions=(version,), responder={"capabilities": flags})
    pair.run(negotiate(pair.link))
    opened = pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)))
    live_in(pair, opened)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("clear", [False, True], ids=["encrypted", "in-the-clear"])
@pytest.mark.parametrize("mutual", [MutualAuth.ENCAPSULATED, MutualAuth.GET_DIGESTS])
def test_mutual_authentication(version: int, clear: bool, mutual: MutualAuth) -> None:
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    credentials = Credentials([Slot(0, certificates, LocalSigner(key))])
    extra = int(CLEAR) if clear else 0
    pair = Pair(
        versions=(version,),
        credentials=credentials,
        requester={"capabilities": requester_capabilities(sessions=True, mutual=True) | extra},
        responder={"capabilities": EVERYTHING | extra, "mutual_auth": mutual},
    )
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    proven = verified(pair)
    opened = pair.run(key_exchange(pair.link, proven))
    (session,) = pair.responder.connection.sessions.values()
    assert session.authenticated_peer
    live_in(pair, opened)


def test_a_stream_is_sent_a_few_records_at_a_time() -> None:
    pair = Pair(
        requester={"capabilities": requester_capabilities(sessions=True)},
        responder={"capabilities": EVERYTHING},
    )
    opened = pair.run(key_exchange(pair.link, verified(pair)))
    waiting: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(9):
            waiting.append(len(pair.requester._outgoing))
            yield bytes([number]) * 1000

    assert pair.run(opened.link.stream(chunks())) == 9000
    assert [data for data, _ in pair.device.received] == [bytes([n]) * 1000 for n in range(9)]
    assert max(waiting) < 9


def test_a_stream_ends_with_its_session() -> None:
    pair = Pair(
        requester={"capabilities": requester_capabilities(sessions=True)},
        responder={"capabilities": EVERYTHING},
    )
    opened = pair.run(key_exchange(pair.link, verified(pair)))

    def chunks() -> Iterator[bytes]:
        for number in range(9):
            if number == 4:
                pair.requester.connection.end_session(opened.session, "a test")
            yield b"x"

    with pytest.raises(ProtocolViolation):
        pair.run(opened.link.stream(chunks()))


@pytest.mark.parametrize(
    ("version", "clear", "error"),
    [
        (V11, False, ErrorCode.UNEXPECTED_REQUEST),  # 1.1 has no SessionRequired
        (V12, False, ErrorCode.SESSION_REQUIRED),
        (V14, False, ErrorCode.SESSION_REQUIRED),
        (V12, True, ErrorCode.UNEXPECTED_REQUEST),
        (V14, True, ErrorCode.UNEXPECTED_REQUEST),
    ],
)
def test_finish_outside_a_session(version: int, clear: bool, error: ErrorCode) -> None:
    extra = int(CLEAR) if clear else 0
    pair = Pair(
        versions=(version,),
        requester={"capabilities": requester_capabilities(sessions=True) | extra},
        responder={"capabilities": EVERYTHING | extra},
    )
    verified(pair)
    answer = pair.raw(bytes((version, RequestCode.FINISH, 0, 0)) + bytes(50))
    assert answer[:3] == bytes((version, 0x7F, error))


@pytest.mark.parametrize("mutual", [False, True])
def test_no_requester_signature_is_chosen_that_nobody_would_verify(mutual: bool) -> None:
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    without = 0 if mutual else ResponderFlags.MUT_AUTH_CAP
    asks = requester_capabilities(sessions=True, mutual=True) & ~RequesterFlags.EP_INFO_CAP_SIG
    pair = Pair(
        credentials=Credentials([Slot(0, certificates, LocalSigner(key))]),
        requester={"capabilities": asks},
        responder={"capabilities": EVERYTHING & ~without},
    )
    verified(pair)
    chosen = [end.connection.algorithms.req_signature for end in (pair.requester, pair.responder)]
    assert [each is not None for each in chosen] == [mutual, mutual]
