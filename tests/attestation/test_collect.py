"""Evidence of a live responder, verified live, and again from its bytes."""

from __future__ import annotations

import pytest

from spdmkit.attestation.collect import Wanted, collect, collect_psk
from spdmkit.attestation.verification import DeviceTrust, verify_evidence
from spdmkit.errors import AuthenticationError
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import V10, V11, V12, V13, V14
from spdmkit.protocol.requester.sessions import PreSharedKey
from tests.protocol.support import NOW, PSK, PSK_HINT, MemoryDevice, Pair

TIME = int(NOW.timestamp())


def trust(pair: Pair) -> DeviceTrust:
    anchors = TrustAnchors([pair.device.certificates[0]], Purpose.DEVICE)
    return DeviceTrust(TIME, anchors)


@pytest.mark.parametrize("version", [V10, V11, V12, V13, V14])
@pytest.mark.parametrize("session", [False, True])
def test_collected_evidence_verifies_live_and_from_its_bytes(version: int, session: bool) -> None:
    if session and version == V10:
        pytest.skip("SPDM 1.0 has no sessions")
    pair = Pair(versions=(version,))
    believed = trust(pair)
    collected = pair.run(collect(pair.link, believed, Wanted(session=session)))
    live = collected.verified(believed)
    again = verify_evidence(collected.evidence, believed)
    assert [block.index for block in live.blocks] == [1, 2, 16] if version >= V12 else [1, 2]
    assert [(s.name, s.outcome) for s in live.steps] == [(s.name, s.outcome) for s in again.steps]
    assert live.blocks == again.blocks
    assert not pair.requester.connection.sessions


def test_a_stranger_behind_the_address_is_refused() -> None:
    pair = Pair(MemoryDevice("ecdsa-p384"))
    other = MemoryDevice("ecdsa-p256")
    believed = DeviceTrust(TIME, TrustAnchors([other.certificates[0]], Purpose.DEVICE))
    with pytest.raises(AuthenticationError) as caught:
        pair.run(collect(pair.link, believed, Wanted()))
    assert caught.value.step == "chain"


def test_measurements_by_pre_shared_key() -> None:
    pair = Pair()
    collected = pair.run(collect_psk(pair.link, PreSharedKey(PSK_HINT, PSK), Wanted()))
    assert [block.index for block in collected.blocks] == [1, 2, 16]
    with pytest.raises(AuthenticationError):
        pair.run(collect_psk(pair.link, PreSharedKey(PSK_HINT, bytes(32)), Wanted()))
