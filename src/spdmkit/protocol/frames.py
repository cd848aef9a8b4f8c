"""What a transport hands to the protocol and takes from it: one whole message or record."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FrameKind(enum.IntEnum):
    """Which of the two kinds of payload a frame carries.

    The values are those of DSP0287 MessageType, and of the MCTP message types (DSP0239).
    """

    MESSAGE = 0x05
    """An SPDM message outside a session (DSP0287 clause 6.4)."""
    SECURED = 0x06
    """A secured message, from its Session ID on (DSP0277; DSP0287 clause 6.5)."""


@dataclass(slots=True)
class Frame:
    """One SPDM message or one secured record, free of any transport's framing.

    Attributes:
        kind: message or record.
        body: the bytes from SPDMVersion on, or from Session ID on. Immutable once made:
            transcripts and evidence keep references to it.
    """

    kind: FrameKind
    body: bytes
