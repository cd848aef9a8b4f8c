"""What the messages of one exchange have to have in common, whoever signed them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from spdmkit.attestation.appraiser import appraise
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.conversation import Negotiated, read_negotiation
from spdmkit.attestation.evidence import Evidence, ExchangeKind, SignedExchange
from spdmkit.attestation.outcome import AttestationResult
from spdmkit.attestation.policy import Policy, ProtocolRule
from spdmkit.attestation.verification import (
    EvidenceError,
    VerifiedEvidence,
    verify_evidence,
)
from spdmkit.crypto import signing
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import ConfigurationError
from spdmkit.identity import Outcome, TrustedPublicKey
from spdmkit.messages import (
    V11,
    V13,
    Challenge,
    ChallengeAuth,
    ContentChanged,
    Context,
    DmtfMeasurement,
    GetMeasurements,
    MeasurementBlock,
    MeasurementKind,
    Measurements,
    MeasurementSummaryHashType,
)

from .lab import NOW, good_evidence, good_manifest, make_device, reference, trust

ALL = 0xFF


def block(index: int, value: bytes = b"value", kind: int = 1) -> MeasurementBlock:
    measurement = DmtfMeasurement(kind=kind, raw=True, value=value).encode(Context(version=V13))
    return MeasurementBlock(index=index, measurement_specification=1, measurement=measurement)


@dataclass
class Forge:
    """Signs whatever a test wants with a genuine device's key, under a genuine negotiation."""

    version: int = V13
    slot: int = 0
    pairs: list[tuple[GetMeasurements, Measurements]] = field(default_factory=list)
    challenge: tuple[Challenge, ChallengeAuth] | None = None

    def __post_init__(self) -> None:
        self.device = make_device()
        self.base = good_evidence(self.version)
        self.negotiated: Negotiated = read_negotiation(self.base)

    def ask(
        self, operation: int, *blocks: MeasurementBlock, signed: bool = False, **response: Any
    ) -> Forge:
        """One more GET_MEASUREMENTS and its answer."""
        request = GetMeasurements(
            measurement_operation=operation,
            signature_requested=signed,
            nonce=b"n" * 32 if signed else b"",
            slot_id=response.pop("asked_slot", self.slot & 0xF) if signed else 0,
            context=b"contexts",
            raw_bit_stream_requested=response.pop("raw", False),
        )
        answer = Measurements(
            measurement_record=list(blocks),
            nonce=b"d" * 32,
            requester_context=b"contexts",
            slot_id=self.slot & 0xF if signed else 0,
        )
        self.pairs.append((request, replace(answer, **response)))
        return self

    def sign(self, context: SigningContext, covered: bytes) -> bytes:
        selection = self.negotiated.selection
        assert selection.signature is not None
        return signing.sign(
            selection.signature,
            self.device.key,
            version=self.version,
            context=context,
            hash=selection.base_hash,
            digest=selection.base_hash.digest(covered),
        )

    def evidence(self) -> Evidence:
        exchanges = []
        if self.challenge is not None:
            request, answer = self.challenge
            ctx = self._context(request)
            messages = [request.encode(ctx), answer.encode_before("signature", ctx)]
            context = SigningContext.RESPONDER_CHALLENGE_AUTH
            signature = self.sign(context, self.negotiated.vca + b"".join(messages))
            exchanges.append(
                SignedExchange.from_transcript(ExchangeKind.CHALLENGE, tuple(messages), signature)
            )
        if self.pairs:
            messages = []
            for asked, answered in self.pairs:
                ctx = self._context(asked)
                earlier = asked.signature_requested and asked is not self.pairs[-1][0]
                body = answered.encode_before("signature", ctx) + bytes(64 * earlier)
                messages += [asked.encode(ctx), body]
            covered = self.negotiated.prefix + b"".join(messages)
            signature = b""
            if self.pairs[-1][0].signature_requested:
                signature = self.sign(SigningContext.RESPONDER_MEASUREMENTS, covered)
            exchanges.append(
                SignedExchange.from_transcript(
                    ExchangeKind.MEASUREMENTS, tuple(messages), signature
                )
            )
        return replace(self.base, exchanges=tuple(exchanges), slot=self.slot, measurement_log=b"")

    def _context(self, request: Any) -> Context:
        return replace(self.negotiated.context, request=request)

    def verified(self) -> VerifiedEvidence:
        return verify_evidence(self.evidence(), trust())

    def result(self) -> AttestationResult:
        policy = Policy(protocol=ProtocolRule(minimum_version=self.version))
        return appraise(
            self.verified(),
            Expectations(NOW),
            policy=policy,
            references=[reference(good_manifest(V13))],
        )


def outcome(result: AttestationResult, name: str) -> Outcome:
    return next(step.outcome for step in result.steps if step.name == name)


def test_what_is_forged_verifies_when_nothing_is_wrong() -> None:
    forge = Forge().ask(0, number_of_indices=2).ask(1, block(1)).ask(2, block(2), signed=True)
    verified = forge.verified()
    assert [each.index for each in verified.blocks] == [1, 2]
    assert outcome(forge.result(), "content") is Outcome.PASSED


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda f: f.ask(1, block(2), signed=True), "index 2 was not asked for"),
        (lambda f: f.ask(0, block(2), signed=True), "index 2 was not asked for"),
        (lambda f: f.ask(ALL, block(1), block(1), signed=True), "index 1 stands twice"),
        (
            lambda f: f.ask(1, block(1), signed=True).ask(2, block(2), signed=True),
            "follow a signed MEASUREMENTS",
        ),
        (lambda f: f.ask(ALL, block(1), signed=True, asked_slot=3), "asks slot 3, not 0"),
        (lambda f: f.ask(ALL, block(1), signed=True, slot_id=3), "another slot than 0"),
        (
            lambda f: f.ask(ALL, block(1), signed=True, requester_context=b"another "),
            "does not repeat the context",
        ),
        (lambda f: f.ask(1, block(1)), "nothing in the evidence is signed"),
    ],
)
def test_answers_that_do_not_belong(make: Callable[[Forge], Forge], complaint: str) -> None:
    with pytest.raises(EvidenceError, match=complaint) as caught:
        make(Forge()).verified()
    assert caught.value.step in ("decode", "signature")


def test_a_device_that_saw_its_measurements_change() -> None:
    forge = Forge().ask(ALL, block(1), signed=True, content_changed=ContentChanged.CHANGED)
    assert outcome(forge.result(), "content") is Outcome.FAILED
    forge = Forge().ask(ALL, block(1), signed=True, content_changed=ContentChanged.NOT_CHANGED)
    assert outcome(forge.result(), "content") is Outcome.PASSED


def test_one_index_read_twice_with_different_values() -> None:
    forge = Forge().ask(1, block(1, b"before")).ask(1, block(1, b"after"), signed=True)
    assert outcome(forge.result(), "content") is Outcome.FAILED


def test_a_count_that_does_not_agree_with_what_was_read() -> None:
    forge = Forge().ask(0, number_of_indices=3).ask(1, block(1)).ask(2, block(2), signed=True)
    assert outcome(forge.result(), "content") is Outcome.FAILED


# --- summaries ---------------------------------------------------------------------------------

ROM = block(1, b"rom", MeasurementKind.IMMUTABLE_ROM)
FIRMWARE = block(2, b"firmware")


def summed(forge: Forge, kind: int, value: bytes) -> Forge:
    """The same device's CHALLENGE_AUTH with a summary hash."""
    algorithm = forge.negotiated.selection.base_hash
    request = Challenge(
        slot_id=0,
        measurement_summary_hash_type=kind,
        nonce=b"n" * 32,
        context=b"contexts" if forge.version >= V13 else b"",
    )
    answer = ChallengeAuth(
        slot_id=0,
        slot_mask=1,
        cert_chain_hash=algorithm.digest(forge.base.chain),
        nonce=b"d" * 32,
        measurement_summary_hash=value,
        requester_context=b"contexts" if forge.version >= V13 else b"",
    )
    forge.challenge = (request, answer)
    return forge


def encoded(*blocks: MeasurementBlock) -> bytes:
    return b"".join(each.encode(Context(version=V13)) for each in blocks)


def summary_outcome(
    kind: int, summed_up: bytes, *, version: int = V13, raw: bool = False, digest: bool = True
) -> Outcome:
    forge = Forge(version).ask(ALL, ROM, FIRMWARE, signed=True, raw=raw)
    algorithm = forge.negotiated.selection.base_hash
    value = algorithm.digest(summed_up) if digest else summed_up
    return outcome(summed(forge, kind, value).result(), "measurement-summary")


def test_a_summary_of_all_measurements() -> None:
    kind = MeasurementSummaryHashType.ALL
    assert summary_outcome(kind, encoded(ROM, FIRMWARE)) is Outcome.PASSED
    assert summary_outcome(kind, encoded(FIRMWARE, ROM)) is Outcome.FAILED
    assert summary_outcome(kind, encoded(ROM)) is Outcome.FAILED
    headless = b"".join(each.measurement for each in (ROM, FIRMWARE))
    assert summary_outcome(kind, headless) is Outcome.FAILED
    assert summary_outcome(kind, headless, version=V11) is Outcome.PASSED
    assert summary_outcome(kind, encoded(ROM), raw=True) is Outcome.NOT_CHECKED


def test_a_summary_of_the_trusted_computing_base() -> None:
    kind = MeasurementSummaryHashType.TCB
    assert summary_outcome(kind, encoded(ROM)) is Outcome.PASSED
    # which measurements belong to it is the device's own matter, so others cannot be judged
    assert summary_outcome(kind, encoded(ROM, FIRMWARE)) is Outcome.NOT_CHECKED
    assert summary_outcome(kind, bytes(64), digest=False) is Outcome.NOT_CHECKED


def test_a_summary_without_measurements() -> None:
    forge = summed(Forge(), MeasurementSummaryHashType.ALL, bytes(64))
    assert outcome(forge.result(), "measurement-summary") is Outcome.NOT_CHECKED


# --- provisioned keys --------------------------------------------------------------------------


def test_a_provisioned_key_instead_of_certificates() -> None:
    forge = Forge(slot=0xFF).ask(ALL, block(1), signed=True)
    key = forge.device.key.public_key
    evidence = replace(forge.evidence(), chain=b"", public_key=key.spki())
    believed = trust(public_key=TrustedPublicKey(key))
    verified = verify_evidence(evidence, believed)
    assert verified.identity is None
    assert verified.claims.spki_sha256 == key.spki_sha256().hex()
    result = appraise(verified, Expectations(NOW))
    assert result.identity == {"spki_sha256": key.spki_sha256().hex()}
    other = make_device("ACME:Widget:0009").key.public_key
    with pytest.raises(EvidenceError) as caught:
        verify_evidence(evidence, trust(public_key=TrustedPublicKey(other)))
    assert caught.value.step == "signature"
    pinned = Expectations(NOW, identities=(f"spki-sha256:{key.spki_sha256().hex()}",))
    assert outcome(appraise(verified, pinned), "identity") is Outcome.PASSED


def test_no_anchor_is_a_mistake_of_ours() -> None:
    with pytest.raises(ConfigurationError, match="no trust anchor"):
        verify_evidence(good_evidence(), trust(anchors=None))


def test_verified_evidence_cannot_be_made_or_sent() -> None:
    import pickle

    verified = verify_evidence(good_evidence(), trust())
    with pytest.raises(TypeError, match="only verify_evidence"):
        replace(verified, maker=object())
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(verified)
