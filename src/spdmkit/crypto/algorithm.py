"""One entry of an algorithm table of DSP0274, and the table.

A table answers by bit, by mask and by name, and turns masks into entries and back. Which entry two
sides should use is `Table.strongest`: the strongest that both allow, by the order of
`Table.by_strength`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from spdmkit.errors import ConfigurationError, ProtocolViolation, UnsupportedAlgorithm

if TYPE_CHECKING:
    from spdmkit.crypto.availability import Requirement

__all__ = ["Algorithm", "Table"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Algorithm:
    """An algorithm that SPDM numbers.

    Attributes:
        bit: its bit in the field of NEGOTIATE_ALGORITHMS / ALGORITHMS.
        name: its name in DSP0274.
        short: the name people type ("ecdsa-p384").
        since: first SPDM version that has it, as the version byte (0x12).
        security: estimated security strength in bits against classical attack
            (NIST SP 800-57 part 1, table 2 and 3); collisions for hashes. 0 where it means nothing.
        needs: what it needs beyond the standard library and cryptography's common parts.
    """

    bit: int
    name: str
    short: str
    since: int
    security: int
    needs: Requirement | None = field(default=None, kw_only=True)

    @property
    def mask(self) -> int:
        """The field of NEGOTIATE_ALGORITHMS with this bit alone set."""
        return 1 << self.bit

    @property
    def available(self) -> bool:
        """Whether it can be used with the libraries installed here."""
        return not self.why_unavailable

    @property
    def why_unavailable(self) -> str:
        """Why it cannot be used here; empty when it can."""
        return self.needs.missing() if self.needs is not None else ""

    def require(self) -> None:
        """Refuse by name when it cannot be used here.

        Raises:
            UnsupportedAlgorithm: with the reason, and what to install, as hint.
        """
        if self.needs is None:
            return
        reason = self.needs.missing()
        if reason:
            hint = f"{reason}; {self.needs.hint}" if self.needs.hint else reason
            raise UnsupportedAlgorithm(self.name, hint=hint)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.short}>"

    def __str__(self) -> str:
        return self.short


# Tables are only read, so a table of signature algorithms is a table of algorithms.
A_co = TypeVar("A_co", bound=Algorithm, covariant=True)


class Table(Generic[A_co]):
    """The algorithms of one field.

    Attributes:
        field_name: what DSP0274 calls the field ("BaseHashAlgo").
        known_mask: all bits that have an entry.
    """

    __slots__ = ("_by_bit", "_by_name", "_strength", "field_name", "known_mask")

    def __init__(self, field_name: str, entries: Iterable[A_co]) -> None:
        self.field_name = field_name
        self._by_bit: dict[int, A_co] = {entry.bit: entry for entry in entries}
        self._by_name: dict[str, A_co] = {}
        for entry in self._by_bit.values():
            self._by_name[_fold(entry.name)] = entry
            self._by_name[_fold(entry.short)] = entry
        # sorted() is stable: of two that are equally strong the one declared first wins.
        self._strength: tuple[A_co, ...] = tuple(
            sorted(self._by_bit.values(), key=operator.attrgetter("security"), reverse=True)
        )
        self.known_mask: int = self.mask(self._by_bit.values())

    def __iter__(self) -> Iterator[A_co]:
        """Entries in the order of their bits."""
        return iter(sorted(self._by_bit.values(), key=operator.attrgetter("bit")))

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, Algorithm) and self._by_bit.get(entry.bit) is entry

    def __len__(self) -> int:
        return len(self._by_bit)

    def __repr__(self) -> str:
        return f"<Table {self.field_name}>"

    @property
    def by_strength(self) -> tuple[A_co, ...]:
        """Entries from strongest to weakest; the registry says what decides between equals."""
        return self._strength

    def by_bit(self, bit: int) -> A_co:
        """The entry at a bit.

        Raises:
            UnsupportedAlgorithm: DSP0274 gives that bit no meaning.
        """
        try:
            return self._by_bit[bit]
        except KeyError:
            raise UnsupportedAlgorithm(
                f"{self.field_name} bit {bit}", hint="SPDM 1.0 to 1.4 reserve this bit"
            ) from None

    def by_name(self, name: str) -> A_co:
        """The entry with a name, DSP0274's or the short one.

        Case, "-", "_" and blanks do not matter: "SHA_384" is "sha-384".

        Raises:
            ConfigurationError: no entry has that name; the message lists those that exist.
        """
        try:
            return self._by_name[_fold(name)]
        except KeyError:
            known = ", ".join(entry.short for entry in self)
            raise ConfigurationError(
                f"{self.field_name} has no algorithm named {name!r}", hint=f"known: {known}"
            ) from None

    def by_mask(self, mask: int) -> A_co:
        """The entry of a mask with exactly one bit, as a selection carries it.

        Raises:
            ProtocolViolation: no bit or more than one is set.
            UnsupportedAlgorithm: the bit is reserved.
        """
        if mask <= 0 or mask & (mask - 1):
            count = "no bit" if mask == 0 else "more than one bit"
            raise ProtocolViolation(f"{self.field_name} selects {count} (0x{mask:x})")
        return self.by_bit(mask.bit_length() - 1)

    def selected(self, mask: int) -> A_co | None:
        """As `by_mask`, with None for a selection of nothing (0).

        Raises:
            ProtocolViolation: more than one bit is set.
            UnsupportedAlgorithm: the bit is reserved.
        """
        return None if mask == 0 else self.by_mask(mask)

    def in_mask(self, mask: int) -> tuple[A_co, ...]:
        """The entries whose bits are set, strongest first; reserved bits are passed over."""
        return tuple(entry for entry in self._strength if mask & entry.mask)

    @staticmethod
    def mask(entries: Iterable[Algorithm]) -> int:
        """The field that names these entries."""
        mask = 0
        for entry in entries:
            mask |= entry.mask
        return mask

    def usable(self, version: int) -> tuple[A_co, ...]:
        """Entries that are available here and exist in an SPDM version, strongest first."""
        return tuple(e for e in self._strength if e.since <= version and e.available)

    def usable_mask(self, version: int) -> int:
        """`usable` as a field."""
        return self.mask(self.usable(version))

    def strongest(self, *masks: int) -> A_co | None:
        """The strongest entry that every mask names, or None when they have none in common.

        Availability is not looked at: our own mask holds only what we can do.
        """
        common = self.known_mask
        for mask in masks:
            common &= mask
        return next((entry for entry in self._strength if common & entry.mask), None)


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")
