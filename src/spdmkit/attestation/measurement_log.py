"""Replaying the measurement extension log (DSP0274 10.31.2, 10.12.1.1.2).

The log is not signed. It is believed as far as it leads to hash-extend measurements that are: for
each measurement index, starting from zeros, HEM = hash(HEM || entry) over whole entries, with the
measurement hash.
"""

from __future__ import annotations

from spdmkit.crypto.registry import HashAlgorithm
from spdmkit.errors import DecodeError
from spdmkit.messages import V13, Context, MeasurementLog

__all__ = ["read_log", "replay"]

_CONTEXT = Context(version=V13)


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
