"""CHALLENGE as a requester: does the peer hold the key of this slot (DSP0274 10.10)?"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from spdmkit.crypto import signing
from spdmkit.errors import AuthenticationError, ProtocolViolation
from spdmkit.messages import Challenge, ChallengeAuth, MeasurementSummaryHashType
from spdmkit.protocol.actions import Meanwhile, settled
from spdmkit.protocol.credentials import PROVISIONED_KEY_SLOT
from spdmkit.protocol.proofs import key_digest

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey

__all__ = ["VerifiedChallenge", "challenge", "challenge_answered"]

_MAKER = object()


@dataclass(frozen=True, slots=True)
class VerifiedChallenge:
    """A CHALLENGE that was answered with the right signature; only `challenge` makes one.

    Attributes:
        slot_id: the slot, or 0xFF for a provisioned key.
        key: what the signature verified with.
        nonce: ours, fresh.
        summary: MeasurementSummaryHash, empty when none was asked for.
        summary_type: what it covers.
        slot_mask: the responder's provisioned slots.
        basic_mutual_auth: the responder wants the requester to prove itself too (1.0 to 1.2).
        opaque_data: the responder's, signed with the rest.
        signed: the messages of M1/M2 in order (VCA not included), when messages are kept.
        signature: the signature over them.
    """

    slot_id: int
    key: ProvenKey
    nonce: bytes
    summary: bytes
    summary_type: int
    slot_mask: int
    basic_mutual_auth: bool
    opaque_data: bytes
    signed: tuple[bytes, ...]
    signature: bytes
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only challenge makes a VerifiedChallenge")


def challenge(
    link: Link,
    key: ProvenKey,
    *,
    slot_id: int = 0,
    summary: int = MeasurementSummaryHashType.NONE,
) -> Exchange[VerifiedChallenge]:
    """CHALLENGE a slot and verify CHALLENGE_AUTH.

    Args:
        link: the way to the peer, outside any session.
        key: the verified chain of that slot, or the provisioned key for slot 0xFF.
        slot_id: 0 to 7, or 0xFF.
        summary: which measurements to have summed up.

    Raises:
        AuthenticationError: step "challenge": another chain than the verified one, or step
            "signature".
        ProtocolViolation: the answer is for another slot or does not echo our context.
        SpdmError: as `Link.ask`.
    """
    answered = yield from challenge_answered(link, key, slot_id=slot_id, summary=summary)
    return (yield from settled(answered))


def challenge_answered(
    link: Link,
    key: ProvenKey | Meanwhile[ProvenKey],
    *,
    slot_id: int = 0,
    summary: int = MeasurementSummaryHashType.NONE,
) -> Exchange[Meanwhile[VerifiedChallenge]]:
    """As `challenge`, up to the signature: its verification is left to the caller.

    Args:
        link: as for `challenge`.
        key: the same, or its verification, which is done while the peer signs.
        slot_id: as for `challenge`.
        summary: as for `challenge`.

    Raises:
        SpdmError: as `challenge`, and what the verification of the key raises.
    """
    connection = link.connection
    transcript = link.challenge_transcript
    nonce = connection.random(32)
    request = Challenge(
        slot_id=slot_id,
        measurement_summary_hash_type=summary,
        nonce=nonce,
        context=connection.random(8),
    )
    if isinstance(key, Meanwhile):
        answer = yield from link.ask(request, ChallengeAuth, meanwhile=key)
        proven = key.result()
    else:
        answer = yield from link.ask(request, ChallengeAuth)
        proven = key
    message = answer.message
    if message.slot_id != slot_id & 0xF:
        raise ProtocolViolation(f"CHALLENGE_AUTH is for slot {message.slot_id}, not {slot_id}")
    if slot_id != PROVISIONED_KEY_SLOT and not message.slot_mask >> slot_id & 1:
        raise ProtocolViolation("CHALLENGE_AUTH says that its own slot is not provisioned")
    if message.requester_context != (request.context if message.requester_context else b""):
        raise ProtocolViolation("CHALLENGE_AUTH does not repeat our context")
    if not any(message.nonce):
        raise ProtocolViolation("the responder's Nonce is all zero: it has no random numbers")
    if message.basic_mut_auth_req and not link.may_be_asked_back:
        raise ProtocolViolation("BasicMutAuthReq without MUT_AUTH_CAP and ENCAP_CAP of both sides")
    hash_algorithm = link.peer_hash
    if message.cert_chain_hash != key_digest(proven, hash_algorithm):
        raise AuthenticationError(
            "challenge", "CertChainHash is not that of the chain that was verified"
        )
    covered = answer.response[: message.signature_offset(len(answer.response))]
    transcript.append(answer.request, covered)
    digest = transcript.digest()
    signed = tuple(transcript.messages)
    transcript.reset()
    algorithm, context = link.challenge_signature
    version = connection.version

    def verify() -> VerifiedChallenge:
        signing.verify(
            algorithm,
            proven.public_key,
            message.signature,
            version=version,
            context=context,
            hash=hash_algorithm,
            digest=digest,
        )
        return VerifiedChallenge(
            slot_id=slot_id,
            key=proven,
            nonce=nonce,
            summary=message.measurement_summary_hash,
            summary_type=summary,
            slot_mask=message.slot_mask,
            basic_mutual_auth=message.basic_mut_auth_req,
            opaque_data=message.opaque_data,
            signed=signed,
            signature=message.signature,
            maker=_MAKER,
        )

    return Meanwhile(verify)
