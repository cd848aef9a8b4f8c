"""When a field is present: a small closed set of conditions that every reader can express.

A condition looks at fields that stand before it in the same structure, at the negotiated
`Context`, or at the request that is being answered. The set is closed on purpose: the compiled
decoder, the tree walker and the generated Wireshark dissector must all give the same answer, so
nothing here is an arbitrary function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "AllOf",
    "AnyOf",
    "Equals",
    "InContext",
    "Not",
    "Predicate",
    "Present",
    "Requested",
]


class Predicate(Protocol):
    """A condition over fields already read, the context and the request being answered."""

    def holds(self, values: Mapping[str, Any], ctx: Any, /) -> bool:
        """Whether it holds; `values` maps attribute names to what was read."""
        ...

    def source(self) -> str:
        """The same as a Python expression over the compiled code's locals (`f_<attribute>`)."""
        ...


@dataclass(frozen=True, slots=True)
class Present:
    """A field of the same structure is not zero and not empty."""

    attribute: str

    def holds(self, values: Mapping[str, Any], _ctx: Any, /) -> bool:
        """See `Predicate`."""
        return bool(values[self.attribute])

    def source(self) -> str:
        """See `Predicate`."""
        return f"(not not f_{self.attribute})"


@dataclass(frozen=True, slots=True)
class Equals:
    """A field of the same structure has this value."""

    attribute: str
    value: int

    def holds(self, values: Mapping[str, Any], _ctx: Any, /) -> bool:
        """See `Predicate`."""
        return bool(values[self.attribute] == self.value)

    def source(self) -> str:
        """See `Predicate`."""
        return f"(f_{self.attribute} == {self.value})"


@dataclass(frozen=True, slots=True)
class InContext:
    """A flag of the `Context` is set."""

    name: str

    def holds(self, _values: Mapping[str, Any], ctx: Any, /) -> bool:
        """See `Predicate`."""
        return bool(getattr(ctx, self.name))

    def source(self) -> str:
        """See `Predicate`."""
        return f"(not not ctx.{self.name})"


@dataclass(frozen=True, slots=True)
class Requested:
    """The request being answered has a field that is not zero; without a request: no."""

    attribute: str

    def holds(self, _values: Mapping[str, Any], ctx: Any, /) -> bool:
        """See `Predicate`."""
        return bool(getattr(ctx.request, self.attribute, 0))

    def source(self) -> str:
        """See `Predicate`."""
        return f"(not not getattr(ctx.request, {self.attribute!r}, 0))"


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: Predicate

    def holds(self, values: Mapping[str, Any], ctx: Any, /) -> bool:
        """See `Predicate`."""
        return not self.condition.holds(values, ctx)

    def source(self) -> str:
        """See `Predicate`."""
        return f"(not {self.condition.source()})"


@dataclass(frozen=True, slots=True)
class AllOf:
    """All conditions hold."""

    conditions: tuple[Predicate, ...]

    def holds(self, values: Mapping[str, Any], ctx: Any, /) -> bool:
        """See `Predicate`."""
        return all(condition.holds(values, ctx) for condition in self.conditions)

    def source(self) -> str:
        """See `Predicate`."""
        return "(" + " and ".join(condition.source() for condition in self.conditions) + ")"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one condition holds."""

    conditions: tuple[Predicate, ...]

    def holds(self, values: Mapping[str, Any], ctx: Any, /) -> bool:
        """See `Predicate`."""
        return any(condition.holds(values, ctx) for condition in self.conditions)

    def source(self) -> str:
        """See `Predicate`."""
        return "(" + " or ".join(condition.source() for condition in self.conditions) + ")"
