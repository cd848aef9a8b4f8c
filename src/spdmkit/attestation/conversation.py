"""Reading the messages that evidence holds: what was negotiated, and what each exchange says.

Only layout and consistency here, no signature: everything read is a claim until `verification` has
verified the signature over the same bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from spdmkit.attestation.blocks import Block
from spdmkit.attestation.evidence import Evidence, ExchangeKind, SignedExchange
from spdmkit.crypto.registry import (
    BASE_HASH,
    MEASUREMENT_HASH,
    signature_algorithm,
)
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError, SpdmError
from spdmkit.messages import (
    V12,
    V13,
    VERSIONS,
    Algorithms,
    Capabilities,
    Challenge,
    ChallengeAuth,
    ContentChanged,
    Context,
    Digests,
    GetCapabilities,
    GetMeasurements,
    GetVersion,
    KeyExchange,
    KeyExchangeRsp,
    MeasurementOperation,
    Measurements,
    Message,
    NegotiateAlgorithms,
    RequesterFlags,
    ResponderFlags,
    Version,
)
from spdmkit.protocol.algorithms import Selection, read_choice, read_offer
from spdmkit.protocol.negotiation import verify_choice
from spdmkit.protocol.requester.challenge import VerifiedChallenge
from spdmkit.protocol.requester.measurements import SignedMeasurements

__all__ = [
    "Negotiated",
    "Statement",
    "Summary",
    "challenge_verified",
    "measurements_verified",
    "read_negotiation",
    "read_statement",
]

M = TypeVar("M", bound=Message)

_HASH_OF_KEY: Final = {"ec-p256": "sha-256", "ec-p384": "sha-384", "ec-p521": "sha-512"}


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What version and algorithms a conversation used.

    Attributes:
        version: the SPDM version byte.
        selection: the algorithms.
        covered: they stand in VCA messages that a signature may cover; False when they are only
            stated, or assumed from the key.
        vca: the VCA bytes, in a row.
        context: sizes for the codec.
        peer_flags: Flags of CAPABILITIES, 0 without VCA.
        offered: the version bytes of VERSION, empty without VCA.
    """

    version: int
    selection: Selection
    covered: bool
    vca: bytes
    context: Context
    peer_flags: int = 0
    offered: frozenset[int] = frozenset()

    @property
    def version_text(self) -> str:
        """The version as people write it, like 1.2."""
        return f"{self.version >> 4}.{self.version & 0xF}"

    @property
    def digest_size(self) -> int:
        """Bytes of a measurement digest; 0 when the measurement hash is not known."""
        chosen = self.selection.measurement_hash
        return chosen.size if chosen is not None else 0

    @property
    def prefix(self) -> bytes:
        """What L1/L2 begins with: VCA from 1.2 on (DSP0274 10.12.2)."""
        return self.vca if self.version >= V12 else b""


class Summary(NamedTuple):
    """A measurement summary hash that a signature covers.

    Attributes:
        kind: which measurements it sums up.
        value: the hash.
        where: the message it stands in.
    """

    kind: int
    value: bytes
    where: str


class Statement(NamedTuple):
    """One exchange, read.

    Attributes:
        kind: which signature it carries.
        signing: the context string of that signature.
        covered: the bytes that are hashed, VCA included where it belongs.
        signature: empty when the last MEASUREMENTS was not signed.
        nonce: the verifier's, from the last request; empty without a signature.
        chain_hash: CertChainHash of CHALLENGE_AUTH, or empty.
        summary: the measurement summary hash, or None.
        blocks: measurement blocks, in the order they came.
        indexes: what operation 0 said the number of indexes is, or None.
        all_requested: one request asked for all measurements.
        raw_requested: a request asked for raw bit streams instead of digests (1.2).
        changed: the device said that measurements changed meanwhile.
        opaque: opaque data of the last response.
        in_session: it travelled inside a session.
    """

    kind: ExchangeKind
    signing: SigningContext
    covered: bytes
    signature: bytes
    nonce: bytes = b""
    chain_hash: bytes = b""
    summary: Summary | None = None
    blocks: tuple[Block, ...] = ()
    indexes: int | None = None
    all_requested: bool = False
    raw_requested: bool = False
    changed: bool = False
    opaque: bytes = b""
    in_session: bool = False


# --- negotiation -------------------------------------------------------------------------------


def read_negotiation(
    evidence: Evidence, *, hash_name: str = "", signature_name: str = ""
) -> Negotiated:
    """Version and algorithms of evidence: from its VCA, else as stated.

    Args:
        evidence: the evidence.
        hash_name: base hash to assume when there is neither VCA nor a statement.
        signature_name: signature algorithm to assume likewise.

    Raises:
        DecodeError: a message is malformed or not the one that belongs there.
        AuthenticationError: step "negotiation": messages contradict each other, or a selection was
            not offered.
    """
    if evidence.vca:
        return _from_vca(evidence.vca)
    stated = dict(evidence.stated)
    try:
        base = BASE_HASH.by_name(stated.get("hash", hash_name))
        name = stated.get("signature", signature_name)
        signature = signature_algorithm(name) if name else None
        measurement = stated.get("measurement_hash")
        chosen = MEASUREMENT_HASH.by_name(measurement) if measurement else None
    except ConfigurationError as error:
        raise DecodeError("evidence", "stated", 0, str(error)) from None
    version = _version_of(evidence)
    selection = Selection(base_hash=base, signature=signature, measurement_hash=chosen)
    return Negotiated(version, selection, False, b"", _context(version, selection))


def hash_for_key(key_type: str) -> str:
    """The base hash that goes with a key where nothing states one."""
    return _HASH_OF_KEY.get(key_type, "sha-384")


def _version_of(evidence: Evidence) -> int:
    """The version in the messages themselves, where VCA is not at hand."""
    versions = {message[0] for exchange in evidence.exchanges for message in exchange.messages}
    if len(versions) != 1 or not versions <= set(VERSIONS):
        raise DecodeError("evidence", "exchanges", 0, "the messages share no SPDM version")
    return versions.pop()


@functools.lru_cache(maxsize=256)
def _from_vca(messages: tuple[bytes, ...]) -> Negotiated:
    """What VCA says; devices of one model say the same, so a few are remembered by their bytes."""
    if len(messages) != 6:
        raise DecodeError("evidence", "vca", 0, f"{len(messages)} messages instead of six")
    first = Context()
    _decode(GetVersion, messages[0], first)
    offered = _decode(Version, messages[1], first)
    version = messages[2][0]
    entries = frozenset(entry >> 8 for entry in offered.version_number_entries)
    if version not in VERSIONS or version not in entries:
        raise AuthenticationError("negotiation", "the version used is none that VERSION offers")
    ctx = Context(version=version)
    asked = _decode(GetCapabilities, messages[2], ctx)
    capabilities = _decode(Capabilities, messages[3], ctx)
    request = _decode(NegotiateAlgorithms, messages[4], ctx)
    response = _decode(Algorithms, messages[5], ctx)
    for message in messages[2:]:
        if message[0] != version:
            raise AuthenticationError("negotiation", "the messages are of different versions")
    try:
        chosen = read_choice(response, version)
        verify_choice(chosen, read_offer(request, version))
        selection = Selection.of(chosen)
    except AuthenticationError:
        raise
    except SpdmError as error:
        raise AuthenticationError("negotiation", str(error), hint=error.hint) from error
    several = capabilities.flags & ResponderFlags.MULTI_KEY_CAP_MASK
    multi_key = version >= V13 and (
        several == ResponderFlags.MULTI_KEY_CAP_ONLY
        or (several == ResponderFlags.MULTI_KEY_CAP_NEG and request.responder_multi_key_conn)
    )
    context = _context(version, selection)
    context.multi_key_conn_rsp = bool(multi_key)
    clear = RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP
    context.handshake_in_the_clear = bool(asked.flags & capabilities.flags & clear)
    context.multi_key_conn_req = version >= V13 and response.requester_multi_key_conn_sel
    vca = b"".join(messages)
    return Negotiated(version, selection, True, vca, context, capabilities.flags, entries)


def _context(version: int, selection: Selection) -> Context:
    signature, measurement = selection.signature, selection.measurement_hash
    exchange = (0, 0)
    if selection.dhe is not None:
        exchange = (selection.dhe.exchange_size, selection.dhe.exchange_size)
    elif selection.kem is not None:
        exchange = (selection.kem.encapsulation_key_size, selection.kem.ciphertext_size)
    return Context(
        version=version,
        hash_size=selection.base_hash.size,
        signature_size=signature.signature_size if signature is not None else 0,
        measurement_hash_size=measurement.size if measurement is not None else 0,
        exchange_request_size=exchange[0],
        exchange_response_size=exchange[1],
        opaque_format=selection.opaque_format,
    )


def _decode(kind: type[M], data: bytes, ctx: Context) -> M:
    """A whole message of a kind; `DecodeError` names what was found instead."""
    if len(data) < 2 or data[1] != kind.code:
        found = f"code {data[1]:#04x}" if len(data) > 1 else "nothing"
        raise DecodeError(kind.name, "RequestResponseCode", 1, f"{found} stands in its place")
    return kind.decode(data, ctx)


# --- exchanges ---------------------------------------------------------------------------------


def challenge_verified(
    found: VerifiedChallenge, negotiated: Negotiated, chain_hash: bytes
) -> Statement:
    """What `read_statement` would read in the exchange that gave this, without reading it again."""
    summary = None
    if found.summary:
        summary = Summary(found.summary_type, found.summary, ChallengeAuth.name)
    return Statement(
        ExchangeKind.CHALLENGE,
        SigningContext.RESPONDER_CHALLENGE_AUTH,
        negotiated.vca + b"".join(found.signed),
        found.signature,
        nonce=found.nonce,
        chain_hash=chain_hash,
        summary=summary,
        opaque=found.opaque_data,
    )


def measurements_verified(found: SignedMeasurements, negotiated: Negotiated) -> Statement | None:
    """As `challenge_verified`; None when earlier, unsigned requests are covered too."""
    if len(found.signed) != 2:
        return None
    return Statement(
        ExchangeKind.MEASUREMENTS,
        SigningContext.RESPONDER_MEASUREMENTS,
        negotiated.prefix + b"".join(found.signed),
        found.signature,
        nonce=found.nonce,
        blocks=tuple(Block.read(block) for block in found.blocks),
        all_requested=found.operation == MeasurementOperation.ALL,
        raw_requested=found.raw,
        changed=found.content_changed is ContentChanged.CHANGED,
        opaque=found.opaque_data,
        in_session=found.session_id is not None,
    )


def read_statement(
    exchange: SignedExchange, negotiated: Negotiated, slot: int, key_digest: bytes
) -> Statement:
    """Read one exchange.

    Args:
        exchange: its messages.
        negotiated: version and algorithms.
        slot: the slot that has to have signed it.
        key_digest: digest of the slot's chain, or of the provisioned key: part of what the
            signature of KEY_EXCHANGE_RSP covers.

    Raises:
        DecodeError: a message is malformed, or not the one that belongs there.
        AuthenticationError: step "decode": the answer is to another request, slot or context.
    """
    statement = _READERS[exchange.kind](exchange.messages, negotiated, slot, key_digest)
    return statement._replace(in_session=True) if exchange.in_session else statement


def _check_answer(response: Message, request: Message, slot: int, signed: bool) -> None:
    """The response is for the slot, and repeats the context of its request (1.3)."""
    if signed and getattr(response, "slot_id", slot & 0xF) != slot & 0xF:
        raise AuthenticationError("decode", f"{response.name} is for another slot than {slot}")
    if getattr(response, "requester_context", b"") != getattr(request, "context", b""):
        raise AuthenticationError(
            "decode", f"{response.name} does not repeat the context of its request"
        )


def _challenge(
    messages: Sequence[bytes], negotiated: Negotiated, slot: int, _key_digest: bytes
) -> Statement:
    ctx = negotiated.context.answering(None)
    request = _decode(Challenge, messages[-2], ctx)
    if request.slot_id != slot:
        raise AuthenticationError("decode", f"CHALLENGE asks slot {request.slot_id}, not {slot}")
    ctx.request = request
    response = _decode(ChallengeAuth, messages[-1], ctx)
    _check_answer(response, request, slot, True)
    if any(message[0] != negotiated.version for message in messages):
        raise AuthenticationError("negotiation", "the messages are of different versions")
    summary = None
    if response.measurement_summary_hash:
        kind = request.measurement_summary_hash_type
        summary = Summary(kind, response.measurement_summary_hash, response.name)
    return Statement(
        ExchangeKind.CHALLENGE,
        SigningContext.RESPONDER_CHALLENGE_AUTH,
        negotiated.vca + _before_signature(messages, response),
        response.signature,
        nonce=request.nonce,
        chain_hash=response.cert_chain_hash,
        summary=summary,
        opaque=response.opaque_data,
    )


@dataclass(slots=True)
class _Record:
    """What the MEASUREMENTS of one transcript say together."""

    blocks: dict[int, Block] = field(default_factory=dict)
    indexes: int | None = None
    all_requested: bool = False
    raw_requested: bool = False
    changed: bool = False

    def add(self, request: GetMeasurements, response: Measurements) -> None:
        operation = request.measurement_operation
        if operation == MeasurementOperation.TOTAL_NUMBER:
            self.indexes = response.number_of_indices
        self.all_requested |= operation == MeasurementOperation.ALL
        self.raw_requested |= request.raw_bit_stream_requested
        self.changed |= response.content_changed == ContentChanged.CHANGED
        seen: set[int] = set()
        for each in response.measurement_record:
            block = Block.read(each)
            if block.index in seen:
                raise AuthenticationError("decode", f"index {block.index} stands twice")
            if operation not in (MeasurementOperation.ALL, block.index):
                raise AuthenticationError("decode", f"index {block.index} was not asked for")
            seen.add(block.index)
            earlier = self.blocks.get(block.index)
            if earlier is not None and earlier.raw == block.raw and earlier != block:
                self.changed = True
            self.blocks[block.index] = block


def _measurements(
    messages: Sequence[bytes], negotiated: Negotiated, slot: int, _key_digest: bytes
) -> Statement:
    ctx = negotiated.context.answering(None)
    if len(messages) % 2:
        raise DecodeError("evidence", "exchanges", 0, "a request without its response")
    record = _Record()
    request, response = GetMeasurements(), Measurements()
    for number, (asked, answered) in enumerate(_pairs(messages), 1):
        if asked[0] != negotiated.version or answered[0] != negotiated.version:
            raise AuthenticationError("negotiation", "the messages are of different versions")
        ctx.request = None
        request = _decode(GetMeasurements, asked, ctx)
        ctx.request = request
        response = _decode(Measurements, answered, ctx)
        signed = request.signature_requested
        if signed and 2 * number != len(messages):
            raise AuthenticationError("decode", "messages follow a signed MEASUREMENTS")
        if signed and negotiated.version > 0x10 and request.slot_id != slot & 0xF:
            raise AuthenticationError(
                "decode", f"GET_MEASUREMENTS asks slot {request.slot_id}, not {slot}"
            )
        _check_answer(response, request, slot, signed and negotiated.version > 0x10)
        record.add(request, response)
    return Statement(
        ExchangeKind.MEASUREMENTS,
        SigningContext.RESPONDER_MEASUREMENTS,
        negotiated.prefix + _before_signature(messages, response),
        response.signature,
        nonce=request.nonce,
        blocks=tuple(record.blocks.values()),
        indexes=record.indexes,
        all_requested=record.all_requested,
        raw_requested=record.raw_requested,
        changed=record.changed,
        opaque=response.opaque_data,
    )


def _key_exchange(
    messages: Sequence[bytes], negotiated: Negotiated, slot: int, key_digest: bytes
) -> Statement:
    ctx = negotiated.context.answering(None)
    digests = list(messages[:-2])
    if len(digests) > 1:
        raise DecodeError("evidence", "exchanges", 0, "more before KEY_EXCHANGE than DIGESTS")
    for message in digests:
        _decode(Digests, message, ctx)
    request = _decode(KeyExchange, messages[-2], ctx)
    if request.slot_id != slot:
        raise AuthenticationError("decode", f"KEY_EXCHANGE asks slot {request.slot_id}, not {slot}")
    ctx.request = request
    response = _decode(KeyExchangeRsp, messages[-1], ctx)
    summary = None
    if response.measurement_summary_hash:
        kind = request.measurement_summary_hash_type
        summary = Summary(kind, response.measurement_summary_hash, response.name)
    begin = negotiated.vca + b"".join(digests) + key_digest
    return Statement(
        ExchangeKind.KEY_EXCHANGE,
        SigningContext.RESPONDER_KEY_EXCHANGE_RSP,
        begin + _before_signature(messages[-2:], response),
        response.signature,
        nonce=request.random_data,
        summary=summary,
    )


def _before_signature(messages: Sequence[bytes], last: Message) -> bytes:
    end = last.signature_offset(len(messages[-1]))
    return b"".join(messages[:-1]) + messages[-1][:end]


def _pairs(messages: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(messages[::2], messages[1::2], strict=True)


_READERS: Final = {
    ExchangeKind.CHALLENGE: _challenge,
    ExchangeKind.MEASUREMENTS: _measurements,
    ExchangeKind.KEY_EXCHANGE: _key_exchange,
}
