"""GET_MEASUREMENT_EXTENSION_LOG as a requester (DSP0274 10.31)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import GetMeasurementExtensionLog, MeasurementExtensionLog

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link

__all__ = ["get_measurement_log"]

_LARGEST = 1 << 20
_MOST_PORTIONS = 4096
_TRIES_WHILE_GROWING = 3


def get_measurement_log(link: Link) -> Exchange[bytes]:
    """The whole log; read again from its beginning when it grows meanwhile.

    Nothing signs the log: it is worth what it leads to, see `attestation.measurement_log`.

    Raises:
        ProtocolViolation: portions that do not fit together, or a log without end.
        SpdmError: as `Link.ask`.
    """
    for _ in range(_TRIES_WHILE_GROWING):
        log = yield from _read_once(link)
        if log is not None:
            return log
    raise ProtocolViolation("the measurement extension log grows faster than it can be read")


def _read_once(link: Link) -> Exchange[bytes | None]:
    """All portions, or None when the log grew between two of them."""
    parts: list[bytes] = []
    have, total = 0, -1
    for _ in range(_MOST_PORTIONS):
        wanted = _LARGEST if total < 0 else total - have
        request = GetMeasurementExtensionLog(offset=have, length=wanted)
        answer = yield from link.ask(request, MeasurementExtensionLog)
        portion, remainder = answer.message.mel, answer.message.remainder_length
        if not portion or len(portion) > wanted:
            raise ProtocolViolation(f"a portion of {len(portion)} bytes where {wanted} were asked")
        parts.append(portion)
        have += len(portion)
        if have + remainder > _LARGEST:
            raise ProtocolViolation(f"a log of more than {_LARGEST} bytes")
        if total >= 0 and have + remainder != total:
            return None
        total = have + remainder
        if not remainder:
            return b"".join(parts)
    raise ProtocolViolation(f"the log came in more than {_MOST_PORTIONS} portions")
