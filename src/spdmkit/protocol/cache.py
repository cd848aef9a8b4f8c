"""Negotiated state that outlives its connection (CACHE_CAP, DSP0274 10.1.1), keyed by identity.

Off by default. A later connection may begin without GET_VERSION, GET_CAPABILITIES and
NEGOTIATE_ALGORITHMS when both sides remember what they said; VCA stays part of every signature and
MAC, so that two sides that remember differently find out. What is remembered belongs to a peer
that proved who it is, and is found again by that identity only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spdmkit.messages import Context
    from spdmkit.protocol.algorithms import Selection
    from spdmkit.protocol.connection import Announced

__all__ = ["NegotiatedState", "NegotiatedStates", "psk_identity"]

MOST_KEPT = 1024


@dataclass(frozen=True, slots=True)
class NegotiatedState:
    """What GET_VERSION to ALGORITHMS settled (DSP0274 10.1.1).

    Attributes:
        version: the SPDM version byte.
        own, peer: what each side announced.
        selection: the algorithms.
        context: sizes and flags for the codec.
        messages: the six messages of VCA.
        offered_versions: the entries of VERSION.
    """

    version: int
    own: Announced
    peer: Announced
    selection: Selection
    context: Context
    messages: tuple[bytes, ...]
    offered_versions: tuple[int, ...]


class NegotiatedStates:
    """States by the identity that proved itself; of too many, the one least recently used goes."""

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        """Nothing is remembered yet.

        Args:
            most_kept: identities that are remembered.
        """
        self._most = most_kept
        self._states: dict[str, NegotiatedState] = {}

    def remember(self, identity: str, state: NegotiatedState) -> None:
        """Keep the state of a peer that proved its identity; the latest counts."""
        self._states.pop(identity, None)
        self._states[identity] = state
        while len(self._states) > self._most:
            self._states.pop(next(iter(self._states)), None)

    def recall(self, identity: str) -> NegotiatedState | None:
        """What is remembered of an identity, or None."""
        state = self._states.pop(identity, None)
        if state is not None:
            self._states[identity] = state
        return state

    def forget(self, identity: str) -> None:
        """Remember nothing of an identity."""
        self._states.pop(identity, None)


def psk_identity(hint: bytes) -> str:
    """The identity of whoever holds the pre-shared key with a hint."""
    return f"psk:{hint.hex()}"
