"""Certificate chains as a listener sees them: digests, portions, and the key at the end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import HashAlgorithm
from spdmkit.errors import SpdmError
from spdmkit.identity import CertificateChain

__all__ = ["MAX_CHAIN", "ChainMemory", "ChainStore", "SeenChain"]

MAX_CHAIN = 1 << 20
"""Bytes of a chain that is put together."""
_REMEMBERED = 64


@dataclass(eq=False)
class SeenChain:
    """A complete chain structure that went over the wire, or was given.

    Attributes:
        raw: the structure: Length, RootHash, certificates.
        hash_algorithm: the negotiated base hash.
    """

    raw: bytes
    hash_algorithm: HashAlgorithm

    @cached_property
    def digest(self) -> bytes:
        """Digest of the structure."""
        return self.hash_algorithm.digest(self.raw)

    @cached_property
    def parsed(self) -> CertificateChain | SpdmError:
        """The chain, or why it is none."""
        try:
            return CertificateChain.parse(self.raw, self.hash_algorithm, large=True)
        except SpdmError as error:
            return error

    @cached_property
    def public_key(self) -> PublicKey | SpdmError:
        """The leaf's key, or why there is none."""
        if isinstance(self.parsed, SpdmError):
            return self.parsed
        try:
            return PublicKey.from_spki(self.parsed.leaf.spki)
        except SpdmError as error:
            return error


class ChainMemory:
    """Chains seen lately, so that each is parsed once however many conversations show it."""

    def __init__(self) -> None:
        self._chains: OrderedDict[tuple[bytes, str], SeenChain] = OrderedDict()

    def get(self, raw: bytes, algorithm: HashAlgorithm) -> SeenChain:
        """The chain with these bytes."""
        key = (raw, algorithm.name)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = SeenChain(raw, algorithm)
            if len(self._chains) > _REMEMBERED:
                self._chains.popitem(last=False)
        else:
            self._chains.move_to_end(key)
        return chain

    def built(self, certificates: Sequence[bytes], algorithm: HashAlgorithm) -> SeenChain:
        """The chain of these certificates, root first."""
        structure = CertificateChain.from_certificates(certificates, algorithm)
        return self.get(structure.encode(), algorithm)


@dataclass(slots=True)
class ChainStore:
    """What one side has shown of its slots.

    Attributes:
        memory: where chains are kept.
        digests: digest by slot, as the last DIGESTS said.
        chains: complete chain by slot.
    """

    memory: ChainMemory
    digests: dict[int, bytes] = field(default_factory=dict)
    chains: dict[int, SeenChain] = field(default_factory=dict)
    _portions: dict[int, bytearray] = field(default_factory=dict)

    def portion(
        self, slot: int, offset: int, data: bytes, remainder: int, algorithm: HashAlgorithm
    ) -> SeenChain | None:
        """Take a portion of a chain; gives the chain when this completes it.

        Portions that leave a hole, because the capture misses one, complete nothing.
        """
        if offset == 0:
            self._portions[slot] = bytearray()
        buffer = self._portions.get(slot)
        if buffer is None or offset > len(buffer) or offset + len(data) > MAX_CHAIN:
            self._portions.pop(slot, None)
            return None
        del buffer[offset:]
        buffer += data
        if remainder:
            return None
        del self._portions[slot]
        chain = self.chains[slot] = self.memory.get(bytes(buffer), algorithm)
        return chain

    def digest(self, slot: int) -> bytes | None:
        """Digest of a slot's chain, computed or told; None when neither was seen."""
        chain = self.chains.get(slot)
        return chain.digest if chain is not None else self.digests.get(slot)
