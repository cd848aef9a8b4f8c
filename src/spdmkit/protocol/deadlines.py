"""How long to wait for what (DSP0274 clause 9, timing). Times are in seconds here.

SPDM gives its times as exponents of two in microseconds. A peer chooses CTExponent and
RDTExponent; a hostile one would park us for hours, so they are capped before they are used.
"""

from __future__ import annotations

from dataclasses import dataclass

MICROSECOND = 1e-6
ST1 = 100_000 * MICROSECOND
"""A responder's time for a request without cryptography."""
MAX_EXPONENT = 31
"""Above this an exponent is refused at once: 2^31 microseconds are 36 minutes already."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The limits of one connection's waits.

    Attributes:
        round_trip: RTT, the worst round trip of the transport, in seconds.
        longest: never wait longer than this for one answer, whatever the peer declares.
        slack: added to every wait for scheduling and network jitter at both ends.
    """

    round_trip: float = 1.0
    longest: float = 60.0
    slack: float = 4.0

    def patience(self, ct_exponent: int) -> tuple[float, float]:
        """Seconds to wait for an answer: T1, and T2 when the peer must do cryptography.

        Args:
            ct_exponent: the peer's CTExponent: 2^n microseconds for cryptographic work.
        """
        always = self.round_trip + self.slack
        work = (1 << ct_exponent) * MICROSECOND
        return min(always + ST1, self.longest), min(always + work, self.longest)


def ready_delay(rdt_exponent: int) -> float:
    """RDT in seconds: how long the peer asks us to wait before RESPOND_IF_READY."""
    return (1 << min(rdt_exponent, MAX_EXPONENT)) * MICROSECOND


def ready_limit(rdt_exponent: int, rdtm: int, *, longest: float) -> float:
    """WTMax in seconds from the first ResponseNotReady, capped by our own patience.

    RDTM shall be greater than 1, yet the reference responder sends 1: it then leaves no time at
    all, so that one try after RDT is always granted.
    """
    delay = ready_delay(rdt_exponent)
    return min(delay * max(rdtm, 2), longest)
