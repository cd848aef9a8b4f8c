"""GET_ENDPOINT_INFO in both directions, signed and not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from spdmkit.crypto import signing
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_ASYM, BASE_HASH
from spdmkit.crypto.signing import LocalSigner, SigningContext
from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation, SpdmError
from spdmkit.identity import (
    Certificate,
    CertificateChain,
    Purpose,
    TrustAnchors,
    VerifiedChain,
)
from spdmkit.messages import (
    V12,
    V13,
    V14,
    Context,
    EndpointInfo,
    ErrorCode,
    GetEndpointInfo,
    KeyUsage,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.requester.certificates import get_certificate
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.endpoint_info import (
    SignedEndpointInfo,
    device_classes,
    get_endpoint_info,
    get_signed_endpoint_info,
)
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.upkeep import poll
from spdmkit.protocol.responder.flow import EncapsulatedLink

from .support import EVERYTHING, MemoryDevice, Pair, ask, chain, psk_session, refusal
from .test_attestation_flow import verified

VERSIONS = [V13, V14]
E, F, Q = ErrorCode, ResponderFlags, RequesterFlags


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("in_session", [False, True], ids=["clear", "session"])
def test_what_a_responder_says(version: int, in_session: bool) -> None:
    pair = Pair(versions=(version,))
    proven = verified(pair)
    link = pair.link
    if in_session:
        link = psk_session(pair)
    info = pair.run(get_endpoint_info(link))
    (only,) = device_classes(link, info).identifiers
    assert only.registry == 0
    signed = pair.run(get_signed_endpoint_info(link, proven))
    assert signed.info == info
    assert signed.key is proven
    assert refusal(pair, get_endpoint_info(link, 2)) is E.UNSUPPORTED_REQUEST


@pytest.mark.parametrize("version", VERSIONS)
def test_it_leaves_other_transcripts_alone(version: int) -> None:
    pair = Pair(versions=(version,))
    proven = verified(pair)
    pair.run(get_signed_endpoint_info(pair.link, proven))
    pair.run(challenge(pair.link, proven))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("at", [4, 45, -1], ids=["negotiation", "info", "signature"])
def test_a_changed_bit(version: int, at: int) -> None:
    pair = Pair(versions=(version,))
    proven = verified(pair)
    if at == 4:
        connection = pair.responder.connection
        connection.vca = connection.vca[:-1] + bytes((connection.vca[-1] ^ 1,))

    def bend(who: str, frame: Any) -> Any:
        if who == "responder" and at != 4:
            body = bytearray(frame.body)
            body[at] ^= 1
            frame.body = bytes(body)
        return frame

    pair.bend = bend
    with pytest.raises(SpdmError) as caught:
        pair.run(get_signed_endpoint_info(pair.link, proven))
    if at != 45:  # the information's own layout is not ours to judge
        assert isinstance(caught.value, AuthenticationError)


def test_only_the_exchange_makes_the_result() -> None:
    with pytest.raises(TypeError):
        SignedEndpointInfo(b"", None, 0, b"", b"", object())  # type: ignore[arg-type]  # forged on purpose


class TestRefused:
    def test_unsigned_responders_do_not_sign(self) -> None:
        flags = EVERYTHING & ~F.EP_INFO_CAP_MASK | F.EP_INFO_CAP_NO_SIG
        pair = Pair(responder={"capabilities": flags})
        proven = verified(pair)
        pair.run(get_endpoint_info(pair.link))
        exchange = get_signed_endpoint_info(pair.link, proven)
        assert refusal(pair, exchange) is E.UNSUPPORTED_REQUEST

    def test_without_the_capability(self) -> None:
        pair = Pair(responder={"capabilities": EVERYTHING & ~F.EP_INFO_CAP_MASK})
        pair.run(negotiate(pair.link))
        assert refusal(pair, get_endpoint_info(pair.link)) is E.UNSUPPORTED_REQUEST

    @pytest.mark.parametrize("slot", [3, 8, 0xF])
    def test_a_slot_without_key(self, slot: int) -> None:
        pair = Pair()
        proven = verified(pair)
        exchange = get_signed_endpoint_info(pair.link, proven, slot_id=slot)
        assert refusal(pair, exchange) is E.INVALID_REQUEST

    def test_before_1_3(self) -> None:
        pair = Pair(versions=(V12,))
        pair.run(negotiate(pair.link))
        with pytest.raises(ProtocolViolation, match="not legal"):
            pair.run(get_endpoint_info(pair.link))

    def test_before_negotiation(self) -> None:
        with pytest.raises(ProtocolViolation, match="not started"):
            Pair().run(get_endpoint_info(Pair().link))

    def test_a_key_that_is_for_something_else(self) -> None:
        device = MemoryDevice()
        slot = device.credentials.slots[0]
        slot.key_usage = KeyUsage.CHALLENGE
        flags = EVERYTHING | F.MULTI_KEY_CAP_ONLY | F.GET_KEY_PAIR_INFO_CAP
        pair = Pair(device, responder={"capabilities": flags})
        proven = verified(pair)
        assert refusal(pair, get_signed_endpoint_info(pair.link, proven)) is E.INVALID_REQUEST

    def test_a_nonce_must_be_there_when_a_signature_is_wanted(self) -> None:
        pair = Pair()
        pair.run(negotiate(pair.link))
        raw = GetEndpointInfo(sub_code=1).encode(pair.requester.connection.context)
        answer = pair.raw(raw[:4] + b"\x01" + raw[5:])
        assert answer[1:3] == bytes((0x7F, E.INVALID_REQUEST))


# --- a responder asks its requester --------------------------------------------------------------


def asking(version: int, capability: int, infos: dict[int, bytes]) -> Pair:
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    slots = [Slot(0, certificates, LocalSigner(key))]
    flags = int(requester_capabilities(sessions=True, psk=True, mutual=True))
    pair = Pair(
        versions=(version,),
        credentials=Credentials(slots, endpoint_info=infos),
        requester={"capabilities": flags & ~Q.EP_INFO_CAP_MASK | capability},
    )
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    return pair


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("in_session", [False, True], ids=["clear", "session"])
def test_what_a_requester_says(version: int, in_session: bool) -> None:
    pair = asking(version, Q.EP_INFO_CAP_SIG, {1: bytes(4)})
    heard: list[Any] = []

    def question(link: EncapsulatedLink) -> Exchange[int | None]:
        heard.append((yield from get_endpoint_info(link)))
        read = yield from get_certificate(link, 0)
        key: VerifiedChain = pair.device.verify_requester(read, link.peer_signature)
        heard.append((yield from get_signed_endpoint_info(link, key)))
        return None

    pair.run(negotiate(pair.link))
    link = psk_session(pair) if in_session else pair.link
    session = next(iter(pair.responder.connection.sessions.values()), None)
    pair.responder.ask(question, session)
    assert pair.run(poll(link))
    info, signed = heard
    assert info == signed.info == bytes(4)
    assert not pair.run(poll(link))


@pytest.mark.parametrize(
    ("capability", "infos", "signed"),
    [
        (0, {1: bytes(4)}, False),
        (Q.EP_INFO_CAP_SIG, {}, False),
        (Q.EP_INFO_CAP_NO_SIG, {1: bytes(4)}, True),
    ],
    ids=["no capability", "no such information", "no signature"],
)
def test_a_requester_refuses(capability: int, infos: dict[int, bytes], signed: bool) -> None:
    pair = asking(V13, capability, infos)
    failures: list[PeerError] = []

    def question(link: EncapsulatedLink) -> Exchange[int | None]:
        request = GetEndpointInfo(sub_code=1, signature_requested=signed)
        request.nonce = bytes(32) if signed else b""
        try:
            yield from ask(link, request, EndpointInfo)
        except PeerError as error:
            failures.append(error)
        return None

    link = psk_session(pair)
    (session,) = pair.responder.connection.sessions.values()
    pair.responder.ask(question, session)
    pair.run(poll(link))
    assert [error.code for error in failures] == [E.UNSUPPORTED_REQUEST]


def test_a_recorded_signature() -> None:
    """The reference's ENDPOINT_INFO verifies over VCA, request and response, as it does here."""
    vector = Path(__file__).parents[1] / "data" / "vectors" / "v13_mel_endpoint_keypair.json"
    messages = [
        bytes.fromhex(each["frame"])[4:] for each in json.loads(vector.read_text())["messages"]
    ]
    request, response = next(
        (one, other)
        for one, other in itertools.pairwise(messages)
        if one[1] == GetEndpointInfo.code
    )
    certificate = next(each for each in messages if each[1] == 0x02)
    sha384 = BASE_HASH.by_name("sha-384")
    read = CertificateChain.parse(certificate[8:], sha384)
    context = Context(version=V13, hash_size=48, signature_size=96)
    asked = GetEndpointInfo.decode(request, context)
    answer, consumed = EndpointInfo.parse(response, context.answering(asked))
    covered = b"".join(messages[:6]) + request + response[: answer.signature_offset(consumed)]
    signing.verify(
        BASE_ASYM.by_name("ecdsa-p384"),
        PublicKey.from_spki(Certificate(read.certificates[-1]).spki),
        answer.signature,
        version=V13,
        context=SigningContext.RESPONDER_ENDPOINT_INFO,
        hash=sha384,
        digest=sha384.digest(covered),
    )
