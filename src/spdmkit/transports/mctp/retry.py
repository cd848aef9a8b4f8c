"""When the owner of a tag sends a request again (DSP0274 clause 9; MCTP may lose packets).

Only SPDM messages outside a session are sent again, bit for bit, and only after the time that the
responder has for its answer: ST1 without cryptography, CT with it. A secured message is never
sent again: its sequence number has been used, and the session ends with what was lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from spdmkit.messages import V11, ResponseCode
from spdmkit.protocol.deadlines import MAX_EXPONENT, MICROSECOND, ST1
from spdmkit.protocol.link import CRYPTOGRAPHIC
from spdmkit.transports.mctp.control import SPDM

__all__ = ["RetryRule"]

_CT_EXPONENT = 5
"""Where CAPABILITIES has its CTExponent (DSP0274 10.3)."""
_UNKNOWN_CT = 1.0


@dataclass(slots=True)
class RetryRule:
    """How patiently one device is asked.

    Attributes:
        round_trip: RTT of the medium, in seconds; what transmission takes comes on top.
        tries: how often a request is sent at most, the first time included.
        longest: seconds between two tries at most.
        crypto_time: CT of the device, in seconds, as its CAPABILITIES told.
    """

    round_trip: float = 0.5
    tries: int = 4
    longest: float = 20.0
    crypto_time: float = _UNKNOWN_CT

    def tries_for(self, body: bytes) -> int:
        """How often a message (from its type byte on) may be sent."""
        return self.tries if body[:1] == bytes((SPDM,)) else 1

    def interval(self, body: bytes) -> float:
        """Seconds to wait for an answer before the request is sent again: T1 or T2."""
        cryptographic = len(body) < 3 or body[2] in CRYPTOGRAPHIC
        work = self.crypto_time if cryptographic else ST1
        return min(self.round_trip + work, self.longest)

    def observe(self, response: bytes) -> None:
        """Learn CT from CAPABILITIES as it passes; nothing else is looked at."""
        if (
            len(response) > _CT_EXPONENT + 1
            and response[0] == SPDM
            and response[2] == ResponseCode.CAPABILITIES
            and response[1] >= V11
        ):
            exponent = min(response[1 + _CT_EXPONENT], MAX_EXPONENT)
            self.crypto_time = (1 << exponent) * MICROSECOND
