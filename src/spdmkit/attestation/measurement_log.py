"""Replaying the measurement extension log (DSP0274 10.31.2, 10.12.1.1.2).

The log is not signed. It is believed as far as it leads to hash-extend measurements that are: for
each measurement index, starting from zeros, HEM = hash(HEM || entry) over whole entries, with the
measurement hash.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import NamedTuple

from spdmkit.attestation.blocks import Block
from spdmkit.crypto.registry import HashAlgorithm
from spdmkit.errors import DecodeError
from spdmkit.messages import V13, Context, MeasurementKind, MeasurementLog

__all__ = ["LogReplay", "check_log", "read_log", "replay"]

_CONTEXT = Context(version=V13)


class LogReplay(NamedTuple):
    """How a log and the hash-extend measurements go together.

    Attributes:
        fault: why they do not, or an empty string.
        entries: how many entries the log has.
        indexes: the measurement indexes that it leads to.
    """

    fault: str
    entries: int = 0
    indexes: tuple[int, ...] = ()


def read_log(data: bytes) -> MeasurementLog:
    """A complete log.

    Raises:
        DecodeError: malformed, or its entries do not ascend.
    """
    log = MeasurementLog.decode(data, _CONTEXT)
    indexes = [entry.mel_index for entry in log.entries]
    if indexes != sorted(set(indexes)):
        raise DecodeError("measurement extension log", "MELIndex", 16, "does not ascend")
    return log


def replay(log: MeasurementLog, measurement_hash: HashAlgorithm) -> dict[int, bytes]:
    """The hash-extend measurements the log leads to, by measurement index.

    Entries that extend nothing (MeasIndex 0) count for none.
    """
    state: dict[int, bytes] = {}
    for entry in log.entries:
        if entry.meas_index:
            before = state.get(entry.meas_index, bytes(measurement_hash.size))
            state[entry.meas_index] = measurement_hash.digest(before + entry.encode(_CONTEXT))
    return state


def check_log(
    data: bytes, blocks: Iterable[Block], measurement_hash: HashAlgorithm | None
) -> LogReplay:
    """Compare a log with the hash-extend measurements among some blocks.

    Args:
        data: the log as received.
        blocks: measurement blocks that are vouched for.
        measurement_hash: the negotiated measurement hash.
    """
    if measurement_hash is None or not measurement_hash.size:
        return LogReplay("there is a log, and no measurement hash to replay it with")
    try:
        log = read_log(data)
    except DecodeError as error:
        return LogReplay(str(error))
    extended = {
        block.index: block.value for block in blocks if block.kind == MeasurementKind.HASH_EXTEND
    }
    replayed = replay(log, measurement_hash)
    foreign = sorted(set(replayed) - set(extended))
    if foreign:
        return LogReplay(f"the log extends index {foreign[0]}, which is no hash-extend measurement")
    for index, value in sorted(extended.items()):
        # What nothing was extended into is still as it began.
        led_to = replayed.get(index, bytes(measurement_hash.size))
        if not hmac.compare_digest(value, led_to):
            return LogReplay(f"the log does not lead to the hash-extend value of index {index}")
    return LogReplay("", len(log.entries), tuple(sorted(replayed)))
