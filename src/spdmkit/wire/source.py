"""Writing Python source piece by piece, and what decoder and encoder writers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from spdmkit.wire import kinds
from spdmkit.wire.kinds import Element
from spdmkit.wire.predicates import Predicate

__all__ = ["FORMATS", "Source", "blocks", "fixed_size", "halves", "runs"]

FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""`struct` format of an unsigned integer by its size; 3 bytes are read as `HB`."""


class Source:
    """The source of one function, and the constants it refers to.

    Attributes:
        names: constants by the name the source uses for them.
    """

    def __init__(self, name: str, arguments: str) -> None:
        self.name = name
        self.names: dict[str, Any] = {}
        self._lines = [f"def {name}({arguments}):"]
        self._depth = 1

    def line(self, text: str) -> None:
        """Add a line at the current depth."""
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def indented(self) -> Iterator[None]:
        """What is added inside stands one level deeper."""
        self._depth += 1
        self.line("pass")
        yield
        self._depth -= 1

    def constant(self, prefix: str, value: Any) -> str:
        """Make a value known to the source and return its name there."""
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def build(self) -> Any:
        """Compile the function."""
        code = compile("\n".join(self._lines), f"<{self.name}>", "exec")
        exec(code, self.names)  # noqa: S102  # the source is made of our own declarations alone
        return self.names[self.name]


def blocks(elements: Sequence[Element]) -> Iterator[tuple[Predicate | None, list[Element]]]:
    """Neighbouring elements with the same condition."""
    for when, group in groupby(elements, key=lambda element: element.when):
        yield when, list(group)


def fixed_size(element: Element) -> int | None:
    """Bytes of an element whose size is known from the declaration alone, else None."""
    if isinstance(element, (kinds.Uint, kinds.Word, kinds.Reserved, kinds.Fixed)):
        return element.size
    return None


def runs(elements: Sequence[Element]) -> Iterator[list[Element]]:
    """Neighbouring elements of fixed size together, every other one alone."""
    run: list[Element] = []
    for element in elements:
        if fixed_size(element) is not None:
            run.append(element)
            continue
        if run:
            yield run
        run = []
        yield [element]
    if run:
        yield run


def halves(element: kinds.Uint) -> tuple[str, str]:
    """Locals for the two parts of a 24-bit integer."""
    return f"f_{element.attribute}_low", f"f_{element.attribute}_high"
