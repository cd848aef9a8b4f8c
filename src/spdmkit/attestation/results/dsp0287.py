"""VERIFICATION_RESULTS: what the verifier tells the device (DSP0287 7.2, table 16).

128 bytes, four bits for each of the indexes 0 to 255, the even index in the low half.
"""

from __future__ import annotations

import enum
from typing import Final

from spdmkit.attestation.outcome import AttestationResult, MeasurementOutcome
from spdmkit.errors import DecodeError

__all__ = ["SIZE", "IndexVerification", "pack_results", "unpack_results"]

SIZE: Final = 128
"""Length of the Results field in bytes."""


class IndexVerification(enum.IntEnum):
    """The verification result of one index."""

    NOT_PROVIDED = 0b0000
    NO_REFERENCE = 0b0001
    NO_POLICY = 0b0010
    NO_REFERENCE_AND_POLICY = 0b0011
    FAILED = 0b0100
    UNABLE = 0b0101
    PASSED = 0b1000


_OF_OUTCOME: Final = {
    MeasurementOutcome.MATCH: IndexVerification.PASSED,
    MeasurementOutcome.MISMATCH: IndexVerification.FAILED,
    MeasurementOutcome.NO_REFERENCE: IndexVerification.NO_REFERENCE,
    # "not suitable for verification": informational, optional, or excused
    MeasurementOutcome.NOT_REQUIRED: IndexVerification.NOT_PROVIDED,
    MeasurementOutcome.STALE: IndexVerification.UNABLE,
    MeasurementOutcome.MALFORMED: IndexVerification.UNABLE,
    MeasurementOutcome.MISSING: IndexVerification.NOT_PROVIDED,
}


def pack_results(result: AttestationResult, *, with_policy: bool = True) -> bytes:
    """The Results field for a result.

    Args:
        result: the appraisal.
        with_policy: a policy was there to judge by; otherwise a measurement without reference has
            neither.
    """
    packed = bytearray(SIZE)
    for each in result.measurements:
        code = _OF_OUTCOME[each.result]
        if code is IndexVerification.NO_REFERENCE and not with_policy:
            code = IndexVerification.NO_REFERENCE_AND_POLICY
        packed[each.index // 2] |= code << (4 * (each.index % 2))
    return bytes(packed)


def unpack_results(data: bytes) -> dict[int, IndexVerification]:
    """What the Results field says, by index; indexes without a result are left out.

    A reserved value counts as failed, as the specification wants.

    Raises:
        DecodeError: the field has another length.
    """
    if len(data) != SIZE:
        raise DecodeError(
            "VERIFICATION_RESULTS", "Results", 0, f"{len(data)} bytes instead of {SIZE}"
        )
    found: dict[int, IndexVerification] = {}
    for index in range(2 * SIZE):
        code = data[index // 2] >> (4 * (index % 2)) & 0xF
        try:
            verification = IndexVerification(code)
        except ValueError:
            verification = IndexVerification.FAILED
        if verification is not IndexVerification.NOT_PROVIDED:
            found[index] = verification
    return found
