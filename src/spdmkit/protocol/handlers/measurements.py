"""GET_MEASUREMENTS, answered, and the summary of measurements (DSP0274 10.12, 10.10)."""

from __future__ import annotations

from collections.abc import Sequence

from spdmkit.crypto import registry
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    MEASUREMENT_KIND_SINCE,
    V12,
    ContentChanged,
    DmtfMeasurement,
    ErrorCode,
    GetMeasurementExtensionLog,
    GetMeasurements,
    KeyUsage,
    MeasurementBlock,
    MeasurementExtensionLog,
    MeasurementKind,
    MeasurementOperation,
    Measurements,
    MeasurementSummaryHashType,
    ResponderFlags,
)
from spdmkit.protocol.credentials import PROVISIONED_KEY_SLOT
from spdmkit.protocol.handlers.call import Call, Outcome, Steps
from spdmkit.protocol.responder.device import Measurement

__all__ = ["get_measurement_extension_log", "get_measurements", "summary_hash"]

_DMTF = 1
_ALWAYS_RAW = frozenset(
    {
        MeasurementKind.DEVICE_MODE,
        MeasurementKind.MUTABLE_FIRMWARE_VERSION,
        MeasurementKind.MUTABLE_FIRMWARE_SVN,
        MeasurementKind.INFORMATIONAL,
        MeasurementKind.STRUCTURED_MANIFEST,
    }
)
"""Kinds whose value says nothing as a digest; they are given as they are (10.12, table 61)."""
_MEL_HEADER = 12


def get_measurements(call: Call) -> Outcome | Steps:
    """GET_MEASUREMENTS -> MEASUREMENTS (10.12)."""
    request = call.typed(GetMeasurements)
    connection = call.connection
    if not connection.algorithms.measurement_specification:
        raise ProtocolViolation(
            "no measurement specification was negotiated", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    response = Measurements(nonce=connection.random(32), requester_context=request.context)
    measurements = _shown(call, fresh=request.new_measurement_requested)
    operation = request.measurement_operation
    if operation == MeasurementOperation.TOTAL_NUMBER:
        response.number_of_indices = len(measurements)
    else:
        chosen = [m for m in measurements if operation in (MeasurementOperation.ALL, m.index)]
        if not chosen and operation != MeasurementOperation.ALL:
            raise ProtocolViolation(f"there is no measurement with index {operation}")
        raw = request.raw_bit_stream_requested
        response.measurement_record = [_block(call, each, raw=raw) for each in chosen]
    if not request.signature_requested:
        outcome = call.answer(response)
        call.measurement_transcript.append(call.raw, outcome.response)
        return outcome
    return _signed(call, request, response)


def _signed(call: Call, request: GetMeasurements, response: Measurements) -> Steps:
    connection = call.connection
    signs = connection.own.flags & ResponderFlags.MEAS_CAP_MASK == ResponderFlags.MEAS_CAP_SIG
    if not signs:
        raise ProtocolViolation(
            "this responder does not sign measurements",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=request.code,
        )
    slot_id = PROVISIONED_KEY_SLOT if request.slot_id == 0xF else request.slot_id
    signer, _ = call.signing_key(slot_id, KeyUsage.MEASUREMENT)
    response.slot_id = request.slot_id
    if connection.version >= V12:
        response.content_changed = ContentChanged.NOT_CHANGED
    covered = response.encode_before("signature", call.context)
    transcript = call.measurement_transcript
    transcript.append(call.raw, covered)
    digest = transcript.digest()
    transcript.reset()
    signature = yield from call.sign(signer, SigningContext.RESPONDER_MEASUREMENTS, digest)
    return Outcome(covered + signature)


def summary_hash(call: Call, summary_type: int) -> bytes:
    """MeasurementSummaryHash: the hash of all blocks, or of those of the TCB (10.10).

    Whole blocks are hashed, in every version, digest form preferred.

    Raises:
        ProtocolViolation: an unknown type, or measurements are not supported.
    """
    if summary_type == MeasurementSummaryHashType.NONE:
        return b""
    connection = call.connection
    if not connection.own.flags & ResponderFlags.MEAS_CAP_MASK:
        raise ProtocolViolation("a summary of measurements, but there are none")
    if summary_type not in (MeasurementSummaryHashType.TCB, MeasurementSummaryHashType.ALL):
        raise ProtocolViolation(f"MeasurementSummaryHashType 0x{summary_type:02x} is reserved")
    algorithm = connection.algorithms.base_hash
    everything = summary_type == MeasurementSummaryHashType.ALL
    chosen = [m for m in _shown(call, fresh=False) if everything or m.tcb]
    if not chosen:
        return bytes(algorithm.size)
    running = algorithm.new()
    for each in chosen:
        running.update(_block(call, each, raw=False).encode(call.context))
    return running.digest()


def _shown(call: Call, *, fresh: bool) -> Sequence[Measurement]:
    version = call.connection.version
    return [
        each
        for each in call.the_device().measurements(fresh=fresh)
        if MEASUREMENT_KIND_SINCE[MeasurementKind(each.kind)] <= version
    ]


def _block(call: Call, measurement: Measurement, *, raw: bool) -> MeasurementBlock:
    """A measurement block, raw when asked for and possible, or when nothing else makes sense."""
    algorithm = call.connection.algorithms.measurement_hash
    only_raw = algorithm is None or algorithm is registry.RAW_BIT_STREAM
    as_raw = raw or only_raw or measurement.kind in _ALWAYS_RAW
    value = measurement.raw if as_raw else None
    is_raw = value is not None
    if value is None and algorithm is not None and not only_raw:
        value = measurement.digest(algorithm)
    if value is None:
        value, is_raw = measurement.raw, True
    if value is None:
        raise ProtocolViolation(
            f"measurement {measurement.index} has no value in the negotiated form",
            error_code=ErrorCode.UNSPECIFIED,
        )
    inner = DmtfMeasurement(kind=measurement.kind, raw=is_raw, value=value)
    return MeasurementBlock(
        index=measurement.index,
        measurement_specification=_DMTF,
        measurement=inner.encode(call.context),
    )


def get_measurement_extension_log(call: Call) -> Outcome:
    """GET_MEASUREMENT_EXTENSION_LOG -> a portion of the log (10.31)."""
    request = call.typed(GetMeasurementExtensionLog)
    algorithm = call.connection.algorithms.measurement_hash
    if algorithm is None or not call.connection.algorithms.mel_specification:
        raise ProtocolViolation(
            "no MEL specification was negotiated", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    log = call.the_device().measurement_log(algorithm)
    if request.offset >= len(log):
        raise ProtocolViolation("Offset is beyond the log")
    room = call.room_for_response(_MEL_HEADER)
    portion = log[request.offset : request.offset + min(request.length, room)]
    return call.answer(
        MeasurementExtensionLog(
            mel=portion, remainder_length=len(log) - request.offset - len(portion)
        )
    )
