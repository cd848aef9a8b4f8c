"""GET_MEASUREMENTS as a requester, signed and unsigned (DSP0274 10.12)."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any

from spdmkit.crypto import signing
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    ContentChanged,
    GetMeasurements,
    MeasurementBlock,
    MeasurementOperation,
    Measurements,
)
from spdmkit.protocol.actions import Meanwhile, perform

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Answer, Link
    from spdmkit.protocol.proofs import ProvenKey

__all__ = [
    "SignedMeasurements",
    "get_measurement_count",
    "get_measurements",
    "get_signed_measurements",
]

_MAKER = object()


@dataclass(frozen=True, slots=True)
class SignedMeasurements:
    """Measurements whose signature verified; only `get_signed_measurements` makes one.

    Attributes:
        blocks: the blocks of the signed response and of the unsigned ones that its signature
            covers too, in the order received.
        key: what the signature verified with.
        slot_id: the slot, 0xF for a provisioned key.
        nonce: ours, fresh.
        operation: what the signed request asked for.
        raw: it asked for raw bit streams instead of digests (1.2).
        content_changed: whether the device saw its measurements change meanwhile (1.2).
        opaque_data: the responder's.
        signed: the messages of L1/L2 in order (VCA not included), when messages are kept.
        signature: the signature over them.
        session_id: the session they came in, or None.
    """

    blocks: tuple[MeasurementBlock, ...]
    key: ProvenKey
    slot_id: int
    nonce: bytes
    operation: int
    raw: bool
    content_changed: ContentChanged
    opaque_data: bytes
    signed: tuple[bytes, ...]
    signature: bytes
    session_id: int | None
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only get_signed_measurements makes SignedMeasurements")


_CONTENT_CHANGED = tuple(ContentChanged)


def get_measurement_count(link: Link) -> Exchange[int]:
    """How many measurement indices there are (operation 0)."""
    request = _request(link, MeasurementOperation.TOTAL_NUMBER)
    answer = yield from link.ask(request, Measurements)
    _check(answer, request)
    link.l1l2.append(answer.request, answer.response)
    return answer.message.number_of_indices


def get_measurements(
    link: Link,
    operation: int = MeasurementOperation.ALL,
    *,
    raw: bool = False,
    fresh: bool = False,
) -> Exchange[tuple[MeasurementBlock, ...]]:
    """Measurements without a signature: one index, or all.

    They prove nothing by themselves; a signed request that follows on the same link covers them.

    Args:
        link: the way to the responder.
        operation: an index from 1 to 0xFE, or ALL.
        raw: ask for raw bit streams instead of digests (1.2).
        fresh: ask for new measurements (1.3).
    """
    request = _request(link, operation, raw=raw, fresh=fresh)
    answer = yield from link.ask(request, Measurements)
    _check(answer, request)
    link.l1l2.append(answer.request, answer.response)
    return tuple(answer.message.measurement_record)


def get_signed_measurements(
    link: Link,
    key: ProvenKey,
    operation: int = MeasurementOperation.ALL,
    *,
    slot_id: int = 0,
    raw: bool = False,
    fresh: bool = False,
    covered: tuple[MeasurementBlock, ...] = (),
    nonce: bytes | None = None,
    meanwhile: Meanwhile[Any] | None = None,
) -> Exchange[SignedMeasurements]:
    """Measurements, and a signature over them and over all unsigned ones just before.

    Args:
        link: the way to the responder.
        key: the verified chain of the slot, or the provisioned key for slot 0xF.
        operation: an index, ALL, or TOTAL_NUMBER to have only what came before signed.
        slot_id: whose key signs.
        raw: ask for raw bit streams instead of digests (1.2).
        fresh: ask for new measurements (1.3).
        covered: blocks of the unsigned responses before, to stand in the result.
        nonce: 32 bytes for the answer to repeat under its signature; fresh random ones by default.
        meanwhile: work to do while the peer measures and signs, as for `Link.ask`.

    Raises:
        AuthenticationError: step "signature".
        ProtocolViolation: the answer is not one to this request.
        SpdmError: as `Link.ask`.
    """
    connection = link.connection
    if nonce is None:
        nonce = connection.random(32)
    request = _request(link, operation, raw=raw, fresh=fresh)
    request.signature_requested = True
    request.nonce = nonce
    request.slot_id = slot_id & 0xF
    answer = yield from link.ask(request, Measurements, meanwhile=meanwhile)
    message = answer.message
    _check(answer, request)
    if message.slot_id != request.slot_id:
        raise ProtocolViolation("MEASUREMENTS is signed for another slot than asked for")
    transcript = link.l1l2
    unsigned = answer.response[: message.signature_offset(len(answer.response))]
    transcript.append(answer.request, unsigned)
    digest = transcript.digest()
    signed = tuple(transcript.messages)
    transcript.reset()
    algorithm, hash_algorithm = link.peer_signature, link.peer_hash
    yield from perform(
        lambda: signing.verify(
            algorithm,
            key.public_key,
            message.signature,
            version=connection.version,
            context=SigningContext.RESPONDER_MEASUREMENTS,
            hash=hash_algorithm,
            digest=digest,
        )
    )
    return SignedMeasurements(
        blocks=(*covered, *message.measurement_record),
        key=key,
        slot_id=slot_id,
        nonce=nonce,
        operation=operation,
        raw=raw,
        content_changed=_CONTENT_CHANGED[message.content_changed % 3],
        opaque_data=message.opaque_data,
        signed=signed,
        signature=message.signature,
        session_id=None if link.session is None else link.session.session_id,
        maker=_MAKER,
    )


def _request(
    link: Link, operation: int, *, raw: bool = False, fresh: bool = False
) -> GetMeasurements:
    return GetMeasurements(
        measurement_operation=operation,
        raw_bit_stream_requested=raw,
        new_measurement_requested=fresh,
        context=link.connection.random(8),
    )


def _check(answer: Answer[Measurements], request: GetMeasurements) -> None:
    """The blocks are those that were asked for, and our context came back (1.3)."""
    message = answer.message
    if message.requester_context and message.requester_context != request.context:
        raise ProtocolViolation("MEASUREMENTS does not repeat our context")
    operation = request.measurement_operation
    indices = [block.index for block in message.measurement_record]
    if operation == MeasurementOperation.TOTAL_NUMBER:
        wrong = bool(indices)
    elif operation == MeasurementOperation.ALL:
        wrong = indices != sorted(set(indices))
    else:
        wrong = indices != [operation]
    if wrong:
        raise ProtocolViolation(f"measurement blocks {indices} answer operation {operation}")
