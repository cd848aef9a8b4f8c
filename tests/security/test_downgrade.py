"""Negotiation: nothing is taken that was not offered, and the strongest is what is chosen."""

from __future__ import annotations

import pytest

from spdmkit.errors import AuthenticationError, SpdmError
from spdmkit.messages import V12, V13, V14, Algorithms, NegotiateAlgorithms, ResponseCode
from spdmkit.protocol.algorithms import for_version
from spdmkit.protocol.frames import Frame
from spdmkit.protocol.negotiation import Chosen, choose, verify_choice
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.settings import AlgorithmSet

from ..protocol.support import MemoryDevice, Pair

MASKS = [name for name in Chosen._fields if name != "measurement_hash"]


def offer() -> AlgorithmSet:
    return for_version(AlgorithmSet.available(), V14)


def offered(name: str) -> int:
    mask: int = getattr(offer(), "opaque_formats" if name == "opaque_format" else name)
    return mask


@pytest.mark.parametrize("name", MASKS)
def test_cb5655c_a_selection_that_was_not_offered(name: str) -> None:
    unoffered = next(1 << bit for bit in range(32) if not offered(name) >> bit & 1)
    with pytest.raises(AuthenticationError, match="not offered"):
        verify_choice(Chosen()._replace(**{name: unoffered}), offer())


@pytest.mark.parametrize("name", MASKS)
def test_more_than_one_selection(name: str) -> None:
    with pytest.raises(AuthenticationError):
        verify_choice(Chosen()._replace(**{name: 3}), offer())


def test_more_than_one_measurement_hash() -> None:
    with pytest.raises(AuthenticationError, match="measurement hash"):
        verify_choice(Chosen(measurement_hash=6), offer())


@pytest.mark.parametrize(
    ("one", "other"),
    [("base_asym", "pqc_asym"), ("dhe", "kem"), ("req_base_asym", "req_pqc_asym")],
)
def test_a_classical_and_a_post_quantum_selection_at_once(one: str, other: str) -> None:
    masks = {name: offered(name) & -offered(name) for name in (one, other)}
    with pytest.raises(AuthenticationError, match="both"):
        verify_choice(Chosen()._replace(**masks), offer())


@pytest.mark.parametrize("version", [V12, V13, V14])
def test_the_strongest_in_common_is_chosen(version: int) -> None:
    from spdmkit.crypto import registry

    allowed = for_version(AlgorithmSet.available(), version)
    chosen = choose(allowed, allowed, version=version)
    strongest = max(
        (entry for entry in registry.BASE_HASH.in_mask(allowed.base_hash)),
        key=lambda entry: entry.security,
    )
    (taken,) = registry.BASE_HASH.in_mask(chosen.base_hash)
    assert taken.security == strongest.security


@pytest.mark.parametrize("field", ["base_asym_algo", "base_hash_algo"])
def test_a_bent_offer_does_not_survive(field: str) -> None:
    """VCA is in every transcript: an offer that was cut down on the way breaks the signature."""
    from spdmkit.protocol.requester.challenge import challenge

    from ..protocol.test_attestation_flow import verified

    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))

    def bend(who: str, frame: Frame) -> Frame:
        if who == "requester" and frame.body[1] == NegotiateAlgorithms.code:
            message = NegotiateAlgorithms.decode(frame.body, pair.requester.connection.context)
            mask = getattr(message, field)
            if field == "base_hash_algo":
                setattr(message, field, mask & 1)  # the weakest
            else:
                setattr(message, field, mask & (1 << 4))
            return Frame(frame.kind, message.encode(pair.requester.connection.context))
        return frame

    pair.bend = bend
    proven = verified(pair)
    with pytest.raises(AuthenticationError) as caught:
        pair.run(challenge(pair.link, proven))
    assert caught.value.step == "signature"


def test_a_hash_that_is_no_hash() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))

    def bend(who: str, frame: Frame) -> Frame:
        if who == "responder" and frame.body[1] == ResponseCode.ALGORITHMS:
            message = Algorithms.decode(frame.body, pair.requester.connection.context)
            message.base_hash_sel = 0
            return Frame(frame.kind, message.encode(pair.requester.connection.context))
        return frame

    pair.bend = bend
    with pytest.raises(SpdmError, match="BaseHashAlgo"):
        pair.run(negotiate(pair.link))
