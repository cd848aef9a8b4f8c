"""Key pairs, and several of them in one connection, between our two sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import PeerError, ProtocolViolation, ResetRequired, SpdmError
from spdmkit.identity import Purpose, TrustAnchors, VerifiedChain, verify_chain
from spdmkit.messages import (
    V12,
    V13,
    V14,
    CertificateModel,
    ErrorCode,
    KeyPairAlgorithms,
    KeyPairCapabilities,
    KeyPairOperation,
    KeyUsage,
    RequesterFlags,
    ResponderFlags,
    SetKeyPairInfo,
    SetKeyPairInfoAck,
)
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester import sessions
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.key_pairs import (
    change_key_pair,
    erase_key_pair,
    generate_key_pair,
    get_key_pair_info,
    get_key_pairs,
)
from spdmkit.protocol.requester.measurements import get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import key_exchange
from spdmkit.protocol.responder.device import KeyPair
from spdmkit.protocol.session import MutualAuth

from .support import EVERYTHING, NOW, MemoryDevice, Pair, ask, chain, psk_session, refusal

VERSIONS = [V13, V14]
F, E, C = ResponderFlags, ErrorCode, KeyPairCapabilities
Q = RequesterFlags
PAIRS = EVERYTHING | F.GET_KEY_PAIR_INFO_CAP | F.SET_KEY_PAIR_INFO_CAP
EVERYTHING_OF_A_PAIR = 0x3F
P384, P256 = KeyPairAlgorithms.ECC_P384, KeyPairAlgorithms.ECC_P256
ALL_USES = 0b1111
PAIR = KeyPair(
    key_pair_id=1,
    capabilities=EVERYTHING_OF_A_PAIR,
    usage_capabilities=ALL_USES,
    current_usage=ALL_USES,
    asym_capabilities=P384 | P256,
    current_asym=P384,
    pqc_capabilities=0b111,
    current_pqc=0,
    public_key_info=b"\x30\x00",
    slot_mask=1,
)
BLANK = replace(PAIR, key_pair_id=2, current_asym=0, public_key_info=b"", slot_mask=0)


def pair_of(version: int, *pairs: KeyPair, flags: int = PAIRS) -> Pair:
    pair = Pair(versions=(version,), responder={"capabilities": flags})
    pair.device.pairs = list(pairs or (PAIR, BLANK))
    return pair


def link_of(pair: Pair, *, in_session: bool) -> Link:
    if in_session:
        return psk_session(pair)
    pair.run(negotiate(pair.link))
    return pair.link


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("in_session", [False, True], ids=["clear", "session"])
class TestBothSides:
    def test_all_pairs_are_read(self, version: int, in_session: bool) -> None:
        pair = pair_of(version)
        found = pair.run(get_key_pairs(link_of(pair, in_session=in_session)))
        assert set(found) == {1, 2}
        first = found[1]
        assert (first.total_key_pairs, first.capabilities) == (2, EVERYTHING_OF_A_PAIR)
        assert first.current_asym_algo == P384
        assert first.public_key_info == b"\x30\x00"
        assert first.assoc_cert_slot_mask == 1
        pqc = int.from_bytes(first.pqc_asym_algo_capabilities, "little")
        assert pqc == (0b111 if version == V14 else 0)

    def test_changes_reach_the_device(self, version: int, in_session: bool) -> None:
        pair = pair_of(version)
        link = link_of(pair, in_session=in_session)
        pair.run(change_key_pair(link, 1, slots=[0, 3], usage=KeyUsage.CHALLENGE))
        pair.run(generate_key_pair(link, 2, algorithm=P256, slots=[4]))
        pair.run(erase_key_pair(link, 2))
        assert pair.device.pair_changes == [
            (1, 0, 2, 0, 0, 0b1001),
            (2, 2, 0, int(P256), 0, 0b10000),
            (2, 1, 0, 0, 0, 0),
        ]
        if version == V14:
            pair.run(generate_key_pair(link, 2, pqc_algorithm=0b10))
            assert pair.device.pair_changes[-1] == (2, 2, 0, 0, 0b10, 0)

    @pytest.mark.parametrize("key_pair_id", [0, 3, 255])
    def test_a_pair_that_is_none(self, version: int, in_session: bool, key_pair_id: int) -> None:
        pair = pair_of(version)
        link = link_of(pair, in_session=in_session)
        assert refusal(pair, get_key_pair_info(link, key_pair_id)) is E.INVALID_REQUEST
        assert refusal(pair, erase_key_pair(link, key_pair_id)) is E.INVALID_REQUEST


def wish(**fields: Any) -> tuple[Any, Any]:
    return SetKeyPairInfo(**{"key_pair_id": 1, **fields}), SetKeyPairInfoAck


@pytest.mark.parametrize("version", VERSIONS)
class TestRefused:
    @pytest.mark.parametrize(
        ("lacks", "fields"),
        [
            (C.ERASABLE_CAP, {"operation": KeyPairOperation.ERASE}),
            (C.GEN_KEY_CAP, {"operation": KeyPairOperation.GENERATE}),
            (C.KEY_USAGE_CAP, {"desired_key_usage": 1, "desired_assoc_cert_slot_mask": 1}),
            (C.ASYM_ALGO_CAP, {"desired_asym_algo": P256, "desired_assoc_cert_slot_mask": 1}),
            (C.CERT_ASSOC_CAP, {"desired_assoc_cert_slot_mask": 2}),
            (C.SHAREABLE_CAP, {"desired_assoc_cert_slot_mask": 3}),
        ],
    )
    def test_what_the_pair_lacks(self, version: int, lacks: int, fields: dict[str, Any]) -> None:
        pair = pair_of(version, replace(PAIR, capabilities=EVERYTHING_OF_A_PAIR & ~lacks))
        pair.run(negotiate(pair.link))
        assert refusal(pair, ask(pair.link, *wish(**fields))) is E.INVALID_REQUEST
        assert not pair.device.pair_changes
        able = pair_of(version, PAIR)
        able.run(negotiate(able.link))
        able.run(ask(able.link, *wish(**fields)))

    @pytest.mark.parametrize(
        "fields",
        [
            {"operation": 3},
            {"desired_key_usage": KeyUsage.VENDOR},
            {"desired_asym_algo": P256 | P384},
            {"desired_asym_algo": KeyPairAlgorithms.SM2},
        ],
    )
    def test_what_no_pair_has(self, version: int, fields: dict[str, Any]) -> None:
        pair = pair_of(version)
        pair.run(negotiate(pair.link))
        fields.setdefault("desired_assoc_cert_slot_mask", 1)
        assert refusal(pair, ask(pair.link, *wish(**fields))) is E.INVALID_REQUEST

    def test_a_slot_that_does_not_exist(self, version: int) -> None:
        pair = pair_of(version)
        pair.device.credentials = Credentials(pair.device.credentials.slots.values())
        pair.run(negotiate(pair.link))
        exchange = change_key_pair(pair.link, 1, slots=[0, 7])
        assert refusal(pair, exchange) is E.INVALID_REQUEST

    def test_without_the_capability(self, version: int) -> None:
        pair = pair_of(version, flags=EVERYTHING)
        pair.run(negotiate(pair.link))
        assert refusal(pair, get_key_pair_info(pair.link, 1)) is E.UNSUPPORTED_REQUEST
        assert refusal(pair, erase_key_pair(pair.link, 1)) is E.UNSUPPORTED_REQUEST

    def test_the_device_fails(self, version: int) -> None:
        pair = pair_of(version)
        pair.run(negotiate(pair.link))
        error = ProtocolViolation("no", error_code=E.OPERATION_FAILED)
        pair.device.provisioning_error = error
        assert refusal(pair, erase_key_pair(pair.link, 2)) is E.OPERATION_FAILED
        pair.device.provisioning_error = ProtocolViolation("no", error_code=E.RESET_REQUIRED)
        with pytest.raises(ResetRequired):
            pair.run(erase_key_pair(pair.link, 2))


def test_two_algorithms_in_one_mask_each() -> None:
    pair = pair_of(V14)
    pair.run(negotiate(pair.link))
    both = wish(desired_asym_algo=P256, desired_pqc_asym_algo=b"\x01\x00\x00\x00")
    assert refusal(pair, ask(pair.link, *both)) is E.INVALID_REQUEST
    beyond = wish(desired_pqc_asym_algo=b"\x00\x01", desired_assoc_cert_slot_mask=1)
    assert refusal(pair, ask(pair.link, *beyond)) is E.INVALID_REQUEST
    none = pair_of(V13)
    none.run(negotiate(none.link))
    with pytest.raises(ProtocolViolation, match=r"1\.4"):
        none.run(generate_key_pair(none.link, 2, pqc_algorithm=1))


def test_before_1_3() -> None:
    pair = pair_of(V12)
    pair.run(negotiate(pair.link))
    with pytest.raises(ProtocolViolation, match="GET_KEY_PAIR_INFO is not legal"):
        pair.run(get_key_pair_info(pair.link, 1))
    assert pair.raw(bytes((V12, 0xFC, 0, 0, 1)))[2] == E.UNSUPPORTED_REQUEST


@pytest.mark.parametrize(
    "answered",
    [
        replace(PAIR, key_pair_id=2),
        replace(PAIR, current_asym=P384 | P256),
    ],
    ids=["another pair", "two algorithms"],
)
def test_answers_that_are_wrong(answered: KeyPair) -> None:
    pair = pair_of(V13)
    pair.run(negotiate(pair.link))

    def bend(who: str, frame: Any) -> Any:
        if who == "responder":
            body = bytearray(frame.body)
            body[5] = answered.key_pair_id
            body[16:20] = answered.current_asym.to_bytes(4, "little")
            frame.body = bytes(body)
        return frame

    pair.bend = bend
    with pytest.raises(ProtocolViolation, match="KEY_PAIR_INFO"):
        pair.run(get_key_pair_info(pair.link, 1))


# --- several keys in one connection --------------------------------------------------------------


def several_keys() -> MemoryDevice:
    """Slot 0 for sessions and challenges, slot 1 for measurements, slot 2 a key without chain."""
    device = MemoryDevice()
    key, certificates = chain("ecdsa-p384", b"measurements")
    bare, _ = chain("ecdsa-p384", b"bare")
    model = CertificateModel.DEVICE
    first = KeyUsage.KEY_EX | KeyUsage.CHALLENGE
    device.credentials = Credentials(
        [
            Slot(0, device.certificates, LocalSigner(device.key), model, 1, first),
            Slot(1, certificates, LocalSigner(key), model, 2, KeyUsage.MEASUREMENT),
        ],
        supported=range(4),
        bare=[Slot(2, (), LocalSigner(bare), CertificateModel.NONE, 3, KeyUsage.CHALLENGE)],
    )
    return device


def several(version: int, *, negotiated: bool = False) -> Pair:
    cap = F.MULTI_KEY_CAP_NEG if negotiated else F.MULTI_KEY_CAP_ONLY
    return Pair(
        several_keys(),
        versions=(version,),
        requester={"multi_key": True},
        responder={"capabilities": EVERYTHING | cap | F.GET_KEY_PAIR_INFO_CAP},
    )


def read(pair: Pair, slot: int) -> VerifiedChain:
    read = pair.run(get_certificate(pair.link, slot))
    anchors = TrustAnchors([read.certificates[0]], Purpose.DEVICE)
    return verify_chain(read, anchors, purpose=Purpose.DEVICE, time=NOW)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("negotiated", [False, True])
class TestSeveralKeys:
    def test_digests_tell_of_every_slot(self, version: int, negotiated: bool) -> None:
        pair = several(version, negotiated=negotiated)
        pair.run(negotiate(pair.link))
        digests = pair.run(get_digests(pair.link))
        assert digests.supported == 0b1111
        assert [slot.key_pair_id for slot in digests.slots.values()] == [1, 2, 3]
        models = [slot.model for slot in digests.slots.values()]
        assert models == [CertificateModel.DEVICE] * 2 + [CertificateModel.NONE]
        assert digests.slots[1].key_usage == KeyUsage.MEASUREMENT
        assert not any(digests.slots[2].digest)
        assert digests.slot_for(KeyUsage.MEASUREMENT) == 1
        assert digests.slot_for(KeyUsage.CHALLENGE) == 0
        with pytest.raises(ProtocolViolation, match="ENDPOINT_INFO"):
            digests.slot_for(KeyUsage.ENDPOINT_INFO)

    @pytest.mark.parametrize("digests_first", [True, False])
    def test_each_key_does_what_it_is_for(
        self, version: int, negotiated: bool, digests_first: bool
    ) -> None:
        pair = several(version, negotiated=negotiated)
        pair.run(negotiate(pair.link))
        if digests_first:
            pair.run(get_digests(pair.link))
        general, measuring = read(pair, 0), read(pair, 1)
        pair.run(challenge(pair.link, general, slot_id=0))
        opened = pair.run(key_exchange(pair.link, general, slot_id=0))
        pair.run(get_signed_measurements(opened.link, measuring, slot_id=1))
        digest = pair.run(get_digests(opened.link))
        assert set(digest.slots) == {0, 1, 2}

    def test_and_nothing_else(self, version: int, negotiated: bool) -> None:
        pair = several(version, negotiated=negotiated)
        pair.run(negotiate(pair.link))
        general, measuring = read(pair, 0), read(pair, 1)
        for exchange in (
            challenge(pair.link, measuring, slot_id=1),
            key_exchange(pair.link, measuring, slot_id=1),
            get_signed_measurements(pair.link, general, slot_id=0),
            get_certificate(pair.link, 2),
            challenge(pair.link, general, slot_id=2),
        ):
            with pytest.raises(PeerError) as caught:
                pair.run(exchange)
            assert caught.value.code == E.INVALID_REQUEST

    def test_every_key_does_all_when_not_negotiated(self, version: int, negotiated: bool) -> None:
        flags = EVERYTHING | F.MULTI_KEY_CAP_NEG | F.GET_KEY_PAIR_INFO_CAP
        pair = Pair(several_keys(), versions=(version,), responder={"capabilities": flags})
        pair.run(negotiate(pair.link))
        digests = pair.run(get_digests(pair.link))
        assert set(digests.slots) == {0, 1}
        assert digests.slot_for(KeyUsage.MEASUREMENT) == 0
        pair.run(challenge(pair.link, read(pair, 1), slot_id=1))


# --- several keys of the requester ---------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mutual", [MutualAuth.ENCAPSULATED, MutualAuth.GET_DIGESTS])
@pytest.mark.parametrize("ours", [0, Q.MULTI_KEY_CAP_NEG, Q.MULTI_KEY_CAP_ONLY])
@pytest.mark.parametrize("theirs", [False, True], ids=["one key", "several keys"])
def test_a_requester_with_several_keys(
    version: int, mutual: MutualAuth, ours: int, theirs: bool
) -> None:
    """Its DIGESTS joins the transcript of the session when several of its keys are in use."""
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    slot = Slot(0, certificates, LocalSigner(key), CertificateModel.DEVICE, 4, KeyUsage.KEY_EX)
    flags = int(requester_capabilities(sessions=True, mutual=True)) | ours
    cap = F.MULTI_KEY_CAP_NEG | F.GET_KEY_PAIR_INFO_CAP if theirs else 0
    pair = Pair(
        several_keys() if theirs else MemoryDevice(),
        versions=(version,),
        credentials=Credentials([slot]),
        requester={"capabilities": flags, "multi_key": theirs},
        responder={
            "capabilities": EVERYTHING | cap,
            "mutual_auth": mutual,
            "multi_key": bool(ours),
        },
    )
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    pair.run(negotiate(pair.link))
    pair.run(get_digests(pair.link))
    opened = pair.run(key_exchange(pair.link, read(pair, 0)))
    assert pair.requester.connection.context.multi_key_conn_req is bool(ours)
    assert pair.requester.connection.context.multi_key_conn_rsp is theirs
    (session,) = pair.responder.connection.sessions.values()
    assert session.authenticated_peer
    assert bool(session.encapsulated_digests) is bool(ours)
    pair.run(get_digests(opened.link))


@pytest.mark.parametrize("honest", [True, False])
def test_a_requesters_key_that_is_for_something_else(
    honest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither side signs or takes FINISH with it (DSP0274 table 43, KeyExUse)."""
    key, certificates = chain("ecdsa-p256", b"requester", requester=True)
    slot = Slot(0, certificates, LocalSigner(key), CertificateModel.DEVICE, 1, KeyUsage.CHALLENGE)
    flags = int(requester_capabilities(sessions=True, mutual=True)) | Q.MULTI_KEY_CAP_ONLY
    pair = Pair(
        versions=(V13,),
        credentials=Credentials([slot]),
        requester={"capabilities": flags},
        responder={"mutual_auth": MutualAuth.ENCAPSULATED},
    )
    pair.device.requester_anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    pair.run(negotiate(pair.link))
    proven = read(pair, 0)
    if not honest:
        signer = (slot.signer, slot.digest(pair.requester.connection.algorithms.base_hash))
        monkeypatch.setattr(sessions, "_our_signer", lambda *_: signer)
    with pytest.raises(SpdmError):
        pair.run(key_exchange(pair.link, proven))
    (one,) = pair.responder.connection.sessions.values() or (None,)
    assert one is None or not one.established
