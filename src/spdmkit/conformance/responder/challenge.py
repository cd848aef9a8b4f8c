"""CHALLENGE and CHALLENGE_AUTH (DSP0274 10.10)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Scene, answering, cutting, flipping, putting
from spdmkit.conformance.talk import Talk
from spdmkit.crypto.signing import verify
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V13,
    Challenge,
    ChallengeAuth,
    ErrorCode,
    MeasurementSummaryHashType,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.proofs import key_digest
from spdmkit.protocol.requester.measurements import get_measurements

CASES = Cases("challenge", "DSP0274 10.10")
R = RequestCode
E = ErrorCode
F = ResponderFlags
CHAL = F.CHAL_CAP | F.CERT_CAP
AUTH = ResponseCode.CHALLENGE_AUTH
HASH_OFFSET = 4


def request(talk: Talk, summary: int = MeasurementSummaryHashType.NONE, slot: int = 0) -> Challenge:
    """A sane request."""
    return Challenge(
        slot_id=slot,
        measurement_summary_hash_type=summary,
        nonce=talk.random(32),
        context=talk.random(8),
    )


@CASES.case(
    "layout",
    "CHALLENGE_AUTH is well formed, for the slot asked for, with that slot in its mask",
    needs=CHAL,
    breaks=answering(AUTH, putting(2, 1)),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), ChallengeAuth)
    talk.equal(message.slot_id, 0, "SlotID")
    talk.check(bool(message.slot_mask & 1), "the slot is in SlotMask")
    talk.check(len(message.opaque_data) <= 1024, "OpaqueData has 1,024 bytes at most")


CASES.ends(ChallengeAuth, request, needs=CHAL)


@CASES.case(
    "complete",
    "CHALLENGE_AUTH is complete",
    needs=CHAL,
    breaks=answering(AUTH, cutting(1)),
)
def complete(talk: Talk) -> Exchange[None]:
    yield from talk.expect(request(talk), ChallengeAuth)


@CASES.case(
    "chain-hash",
    "CertChainHash is the hash of the slot's chain",
    needs=CHAL,
    breaks=answering(AUTH, flipping(HASH_OFFSET)),
)
def chain_hash(talk: Talk) -> Exchange[None]:
    key = yield from talk.chain()
    message = yield from talk.expect(request(talk), ChallengeAuth)
    talk.equal(message.cert_chain_hash, key_digest(key, talk.outside.peer_hash), "CertChainHash")


@CASES.case(
    "context",
    "RequesterContext is repeated",
    needs=CHAL,
    since=V13,
    breaks=answering(AUTH, lambda sent, _r, scene: _other_context(sent, scene)),
)
def context(talk: Talk) -> Exchange[None]:
    asked = request(talk)
    message = yield from talk.expect(asked, ChallengeAuth)
    talk.equal(message.requester_context, asked.context, "RequesterContext")


def _other_context(sent: bytearray, scene: Scene) -> bytearray:
    algorithm = scene.connection.algorithms.signature
    at = -(algorithm.signature_size if algorithm is not None else 0) - 1
    sent[at] ^= 1
    return sent


def _same_nonce(sent: bytearray, _request: bytes, scene: Scene) -> bytearray:
    at = HASH_OFFSET + scene.connection.algorithms.base_hash.size
    sent[at : at + 32] = bytes(32)
    return sent


@CASES.case(
    "nonce",
    "each CHALLENGE_AUTH has a nonce of its own",
    needs=CHAL,
    breaks=answering(AUTH, _same_nonce),
)
def nonce(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk), ChallengeAuth)
    second = yield from talk.expect(request(talk), ChallengeAuth)
    talk.check(first.nonce != second.nonce, "two nonces differ")


def _signed(talk: Talk, summary: int) -> Exchange[None]:
    key = yield from talk.chain()
    asked = request(talk, summary)
    covered = talk.outside.challenge_transcript.fork()
    sent = asked.encode(talk.connection.context)
    answer = yield from talk.ask(sent)
    message = talk.decoded(answer, ChallengeAuth, asked)
    covered.append(sent, answer[: message.signature_offset(len(answer))])
    algorithm, signing = talk.outside.challenge_signature
    try:
        verify(
            algorithm,
            key.public_key,
            message.signature,
            version=talk.version,
            context=signing,
            hash=talk.outside.peer_hash,
            digest=covered.digest(),
        )
    except SpdmError as error:
        talk.need(False, f"the signature over M1 verifies: {error}")
    talk.check(True, "the signature over M1 verifies")


@CASES.case(
    "signature",
    "the signature covers the negotiation, the digests, the chain and the challenge",
    needs=CHAL,
    breaks=answering(AUTH, flipping(-1)),
)
def signature(talk: Talk) -> Exchange[None]:
    yield from _signed(talk, MeasurementSummaryHashType.NONE)


@CASES.case(
    "signature-with-summary",
    "the signature covers a measurement summary too",
    needs=CHAL,
    any_of=F.MEAS_CAP_NO_SIG | F.MEAS_CAP_SIG,
    breaks=answering(AUTH, flipping(-5)),
)
def signature_with_summary(talk: Talk) -> Exchange[None]:
    yield from _signed(talk, MeasurementSummaryHashType.ALL)


def _other_summary(sent: bytearray, asked: bytes, scene: Scene) -> bytearray:
    if asked[3]:
        sent[HASH_OFFSET + scene.connection.algorithms.base_hash.size + 32] ^= 1
    return sent


@CASES.case(
    "summary",
    "MeasurementSummaryHash is the hash of all measurement blocks",
    needs=CHAL,
    any_of=F.MEAS_CAP_NO_SIG | F.MEAS_CAP_SIG,
    breaks=answering(AUTH, _other_summary),
)
def summary(talk: Talk) -> Exchange[None]:
    asked = request(talk, MeasurementSummaryHashType.ALL)
    message = yield from talk.expect(asked, ChallengeAuth)
    blocks = yield from get_measurements(talk.outside)
    covered = b"".join(block.encode(talk.connection.context) for block in blocks)
    digest = talk.outside.peer_hash.digest(covered)
    talk.equal(message.measurement_summary_hash, digest, "MeasurementSummaryHash")


def _mended(raw: bytearray, scene: Scene) -> bytes | bytearray:
    if raw[1] != R.CHALLENGE:
        return raw
    size = 36 if scene.connection.version < V13 else 44
    return bytes((scene.connection.version, R.CHALLENGE, 0, 0)) + bytes(size - 4)


def _raw(talk: Talk, slot: int = 0, summary_type: int = 0) -> bytes:
    return request(talk, summary_type, slot).encode(talk.connection.context)


for _slot in (8, 9, 0x7F, 0xFE):
    CASES.refuses(
        f"slot-{_slot}",
        f"slot {_slot} does not exist",
        lambda talk, slot=_slot: _raw(talk, slot),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        needs=CHAL,
        mend=_mended,
    )
for _type in (2, 0x7F, 0xFE):
    CASES.refuses(
        f"summary-type-{_type:02x}",
        f"measurement summary hash type {_type:#04x} is reserved",
        lambda talk, kind=_type: _raw(talk, 0, kind),  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        needs=CHAL,
        mend=_mended,
    )
for _cut in (1, 8, 33):
    CASES.refuses(
        f"cut-{_cut}",
        f"CHALLENGE without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: _raw(talk)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        needs=CHAL,
        mend=_mended,
    )
