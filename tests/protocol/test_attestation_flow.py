"""Our requester and responder, in every version: negotiation, chain, challenge, measurements."""

from __future__ import annotations

import pytest

from spdmkit.identity import Purpose, TrustAnchors, VerifiedChain, verify_chain
from spdmkit.messages import V10, V11, V12, V13, V14, MeasurementSummaryHashType
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import VerifiedChallenge, challenge
from spdmkit.protocol.requester.measurements import (
    SignedMeasurements,
    get_measurement_count,
    get_measurements,
    get_signed_measurements,
)
from spdmkit.protocol.requester.negotiate import negotiate

from .support import NOW, MemoryDevice, Pair

ALL = MeasurementSummaryHashType.ALL


def verified(pair: Pair, slot: int = 0) -> VerifiedChain:
    def exchange(link: Link) -> Exchange[VerifiedChain]:
        yield from negotiate(link)
        digests = yield from get_digests(link)
        chain = yield from get_certificate(link, slot, expected_digest=digests.slots[slot].digest)
        return verify_chain(
            chain,
            TrustAnchors([pair.device.certificates[0]], Purpose.DEVICE),
            purpose=Purpose.DEVICE,
            time=NOW,
            algorithm=link.peer_signature,
        )

    return pair.run(exchange(pair.link))


@pytest.mark.parametrize("version", [V10, V11, V12, V13, V14])
@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p384"])
def test_whole_flow(version: int, algorithm: str) -> None:
    pair = Pair(MemoryDevice(algorithm), versions=(version,))
    chain = verified(pair)
    assert pair.requester.connection.version == version
    proof: VerifiedChallenge = pair.run(challenge(pair.link, chain, summary=ALL))
    assert proof.summary
    count = pair.run(get_measurement_count(pair.link))
    blocks = pair.run(get_measurements(pair.link, raw=version >= V12))
    assert len(blocks) == count
    one = pair.run(get_measurements(pair.link, 1))
    assert [block.index for block in one] == [1]
    signed: SignedMeasurements = pair.run(get_signed_measurements(pair.link, chain))
    assert [block.index for block in signed.blocks] == [block.index for block in blocks]
    assert pair.requester.connection.vca == pair.responder.connection.vca


@pytest.mark.parametrize("algorithm", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_post_quantum_signatures_travel_in_chunks(algorithm: str) -> None:
    pair = Pair(
        MemoryDevice(algorithm),
        versions=(V14,),
        requester={"data_transfer_size": 0x1000},
        responder={"data_transfer_size": 0x1000},
    )
    chain = verified(pair)
    pair.run(challenge(pair.link, chain))
    pair.run(get_signed_measurements(pair.link, chain))
