"""GET_MEASUREMENTS and MEASUREMENTS (DSP0274 10.11)."""

from __future__ import annotations

from spdmkit.attestation.blocks import Block
from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import (
    Bend,
    Scene,
    answering,
    cutting,
    flipping,
    putting,
)
from spdmkit.conformance.talk import Talk
from spdmkit.crypto.signing import SigningContext, verify
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V11,
    V12,
    V13,
    ErrorCode,
    GetMeasurements,
    MeasurementKind,
    MeasurementOperation,
    Measurements,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("measurements", "DSP0274 10.11")
R = RequestCode
E = ErrorCode
F = ResponderFlags
ANY = F.MEAS_CAP_NO_SIG | F.MEAS_CAP_SIG
SIGNED = F.MEAS_CAP_SIG | F.CERT_CAP
MEASUREMENTS = ResponseCode.MEASUREMENTS
BLOCKS = 8
"""Offset of MeasurementRecord."""
ALL = MeasurementOperation.ALL
COUNT = 0
_KINDS = frozenset(MeasurementKind)


def request(talk: Talk, operation: int = ALL, *, signed: bool = False) -> GetMeasurements:
    """A sane request."""
    made = GetMeasurements(measurement_operation=operation, context=talk.random(8))
    if signed:
        made.signature_requested = True
        made.nonce = talk.random(32)
        made.slot_id = 0
    return made


def _for(operation: int, bend: Bend) -> Bend:
    """Change only the answers to one operation."""

    def changed(sent: bytearray, asked: bytes, scene: Scene) -> bytes | bytearray:
        return bend(sent, asked, scene) if asked[3] == operation else sent

    return changed


@CASES.case(
    "count",
    "operation 0 gets the number of measurements and no block",
    any_of=ANY,
    breaks=answering(MEASUREMENTS, _for(COUNT, putting(2, 0xEE))),
)
def count(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk, COUNT), Measurements)
    talk.equal(len(message.measurement_record), 0, "the number of blocks")
    everything = yield from talk.expect(request(talk), Measurements)
    number = len(everything.measurement_record)
    talk.equal(message.number_of_indices, number, "the number of indexes")


@CASES.case(
    "layout",
    "MEASUREMENTS is well formed, its blocks ascend and their lengths add up",
    any_of=ANY,
    breaks=answering(MEASUREMENTS, _for(ALL, putting(5, 0xFF, 0xFF, 0))),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), Measurements)
    indexes = [block.index for block in message.measurement_record]
    talk.equal(indexes, sorted(set(indexes)), "the indexes")
    for index in indexes:
        talk.check(1 <= index <= 0xFE, f"index {index} is 1 to 254")


CASES.ends(Measurements, request, any_of=ANY)


@CASES.case(
    "block",
    "each block is of DMTF's specification, and its value has a known type and fits",
    clause="DSP0274 10.11.1, table 54",
    any_of=ANY,
    breaks=answering(MEASUREMENTS, _for(ALL, putting(BLOCKS + 4, 0x7E))),
)
def block(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), Measurements)
    algorithm = talk.connection.algorithms.measurement_hash
    for found in message.measurement_record:
        value = Block.read(found)
        talk.need(not value.broken, f"block {found.index} is well formed: {value.broken}")
        known = value.kind in _KINDS
        talk.check(known, f"the type of {found.index} is known; it is {value.kind:#x}")
        if not value.raw and algorithm is not None:
            talk.equal(len(value.value), algorithm.size, f"the digest size of {found.index}")


@CASES.case(
    "one-by-one",
    "a single measurement is the one of the whole list",
    any_of=ANY,
    breaks=answering(MEASUREMENTS, _for(1, flipping(BLOCKS + 7))),
)
def one_by_one(talk: Talk) -> Exchange[None]:
    everything = yield from talk.expect(request(talk), Measurements)
    for found in everything.measurement_record[:4]:
        alone = yield from talk.expect(request(talk, found.index), Measurements)
        talk.equal(len(alone.measurement_record), 1, f"the number of blocks for {found.index}")
        same = alone.measurement_record[:1] == [found]
        talk.check(same, f"measurement {found.index} alone is that of the list")


@CASES.case(
    "raw",
    "raw bit streams are sent raw where the device has them, digests otherwise",
    any_of=ANY,
    since=V12,
    breaks=answering(MEASUREMENTS, _for(ALL, lambda sent, r, _c: _other_size(sent, r))),
)
def raw(talk: Talk) -> Exchange[None]:
    asked = request(talk)
    asked.raw_bit_stream_requested = True
    message = yield from talk.expect(asked, Measurements)
    algorithm = talk.connection.algorithms.measurement_hash
    for found in message.measurement_record:
        value = Block.read(found)
        talk.need(not value.broken, f"block {found.index} is well formed: {value.broken}")
        if not value.raw and algorithm is not None:
            talk.equal(len(value.value), algorithm.size, f"the digest size of {found.index}")
    talk.check(bool(message.measurement_record), "there are measurements")


def _other_size(sent: bytearray, asked: bytes) -> bytearray:
    if asked[2] & 2:
        sent[BLOCKS + 5] ^= 1
    return sent


@CASES.case(
    "context",
    "RequesterContext is repeated",
    any_of=ANY,
    since=V13,
    breaks=answering(MEASUREMENTS, _for(ALL, flipping(-1))),
)
def context(talk: Talk) -> Exchange[None]:
    asked = request(talk)
    message = yield from talk.expect(asked, Measurements)
    talk.equal(message.requester_context, asked.context, "RequesterContext")


def _signature(talk: Talk, operations: tuple[int, ...]) -> Exchange[None]:
    """Unsigned requests, the last one signed: the signature covers them all."""
    key = yield from talk.chain()
    covered = talk.outside.l1l2.fork()
    for operation in operations[:-1]:
        asked = request(talk, operation)
        sent = asked.encode(talk.connection.context)
        answer = yield from talk.ask(sent)
        talk.decoded(answer, Measurements, asked)
        covered.append(sent, answer)
    asked = request(talk, operations[-1], signed=True)
    sent = asked.encode(talk.connection.context)
    answer = yield from talk.ask(sent)
    message = talk.decoded(answer, Measurements, asked)
    covered.append(sent, answer[: message.signature_offset(len(answer))])
    try:
        verify(
            talk.outside.peer_signature,
            key.public_key,
            message.signature,
            version=talk.version,
            context=SigningContext.RESPONDER_MEASUREMENTS,
            hash=talk.outside.peer_hash,
            digest=covered.digest(),
        )
    except SpdmError as error:
        talk.need(False, f"the signature over L1 verifies: {error}")
    talk.check(True, "the signature over L1 verifies")
    talk.equal(message.slot_id, 0, "SlotID")


@CASES.case(
    "signature",
    "the signature covers the negotiation (from 1.2) and the measurements",
    needs=SIGNED,
    breaks=answering(MEASUREMENTS, flipping(-1)),
)
def signature(talk: Talk) -> Exchange[None]:
    yield from _signature(talk, (ALL,))


@CASES.case(
    "signature-over-several",
    "the signature covers all unsigned requests since the last one",
    needs=SIGNED,
    breaks=answering(MEASUREMENTS, _for(COUNT, lambda sent, _r, _c: _hidden(sent))),
)
def signature_over_several(talk: Talk) -> Exchange[None]:
    yield from _signature(talk, (COUNT, 1, ALL))


def _hidden(sent: bytearray) -> bytearray:
    sent[2] ^= 0x10
    return sent


@CASES.case(
    "signed-complete",
    "a signed MEASUREMENTS is complete",
    needs=SIGNED,
    breaks=answering(MEASUREMENTS, cutting(2)),
)
def signed_complete(talk: Talk) -> Exchange[None]:
    yield from talk.expect(request(talk, ALL, signed=True), Measurements)


def _zero_nonce(sent: bytearray, asked: bytes, _scene: Scene) -> bytearray:
    if asked[2] & 1:
        length = int.from_bytes(sent[5:8], "little")
        sent[BLOCKS + length : BLOCKS + length + 32] = bytes(32)
    return sent


@CASES.case(
    "nonce",
    "each signed MEASUREMENTS has a nonce of its own",
    needs=SIGNED,
    breaks=answering(MEASUREMENTS, _zero_nonce),
)
def nonce(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(request(talk, ALL, signed=True), Measurements)
    second = yield from talk.expect(request(talk, ALL, signed=True), Measurements)
    talk.check(first.nonce != second.nonce, "two nonces differ")


def _mended(raw: bytearray, scene: Scene) -> bytes | bytearray:
    if raw[1] != R.GET_MEASUREMENTS:
        return raw
    tail = bytes(8) if scene.connection.version >= V13 else b""
    return bytes((scene.connection.version, R.GET_MEASUREMENTS, 0, ALL)) + tail


def _raw(talk: Talk, operation: int = ALL, *, signed: bool = False) -> bytes:
    return request(talk, operation, signed=signed).encode(talk.connection.context)


for _index in (0xEF, 0xF5):
    CASES.refuses(
        f"index-{_index:02x}",
        f"index {_index:#04x}, which does not exist, is refused",
        lambda talk, index=_index: _raw(talk, index),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        E.UNSPECIFIED,
        any_of=ANY,
        mend=_mended,
    )
for _cut in (1, 9, 33):
    CASES.refuses(
        f"cut-{_cut}",
        f"a signed GET_MEASUREMENTS without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: _raw(talk, signed=True)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        needs=SIGNED,
        since=V11,
        mend=_mended,
    )


def _with_slot(talk: Talk, slot: int) -> bytes:
    asked = request(talk, ALL, signed=True)
    asked.slot_id = slot
    return asked.encode(talk.connection.context)


for _slot in (8, 14):
    CASES.refuses(
        f"slot-{_slot}",
        f"slot {_slot} does not exist",
        lambda talk, slot=_slot: _with_slot(talk, slot),  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        needs=SIGNED,
        since=V11,
        mend=_mended,
    )
