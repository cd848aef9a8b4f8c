"""Running hashes over the messages that a signature or MAC covers (DSP0274, "transcripts").

A transcript takes the bytes as they went over the wire, never a re-encoding. It hashes as it
grows, so that its cost in memory is one hash state however long the conversation is; a side that
must keep evidence asks it to keep the messages too.
"""

from __future__ import annotations

from spdmkit.crypto.hashes import HashAlgorithm, RunningHash

__all__ = ["Transcript"]


class Transcript:
    """Messages hashed in the order they are appended, after a fixed prefix.

    Attributes:
        messages: what was appended since the last reset, when `keep` was asked for.
    """

    __slots__ = ("_hash", "_keep", "_prefix", "_state", "messages")

    def __init__(
        self, algorithm: HashAlgorithm, prefix: bytes = b"", *, keep: bool = False
    ) -> None:
        """Start empty.

        Args:
            algorithm: the hash to run.
            prefix: bytes that stand before the first message after each reset (VCA).
            keep: keep the messages, for evidence.
        """
        self._hash = algorithm
        self._prefix = prefix
        self._keep = keep
        self._state: RunningHash | None = None
        self.messages: list[bytes] = []

    def append(self, *messages: bytes) -> None:
        """Add messages at the end."""
        state = self._state
        if state is None:
            state = self._state = self._hash.new()
            state.update(self._prefix)
        for message in messages:
            state.update(message)
        if self._keep:
            self.messages.extend(messages)

    def digest(self, *tail: bytes) -> bytes:
        """The digest of what is there, and of `tail` after it; the transcript itself stays."""
        state = self._state
        if state is None:
            state = self._hash.new()
            state.update(self._prefix)
        elif tail:
            state = state.copy()
        for part in tail:
            state.update(part)
        return state.digest()

    def fork(self) -> Transcript:
        """A transcript that starts with what is here and goes its own way."""
        other = Transcript(self._hash, self._prefix, keep=self._keep)
        other._state = None if self._state is None else self._state.copy()
        other.messages = list(self.messages)
        return other

    def reset(self) -> None:
        """Forget all messages; the prefix stays."""
        self._state = None
        if self._keep:
            self.messages = []

    @property
    def empty(self) -> bool:
        """True when nothing was appended since the last reset."""
        return self._state is None
