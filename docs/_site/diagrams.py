"""Diagrams as SVG inside the page: no program to draw them, nothing to load from elsewhere."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LINE = 16
LETTER = 6.6
"""Pixels that a letter takes, on average, at the size of the text."""
MARKERS = (
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
    'markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z"/></marker></defs>'
)


@dataclass(slots=True)
class _Canvas:
    """Collects shapes and the room that they take."""

    width: float = 0
    height: float = 0
    shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, *, anchor: str = "middle") -> None:
        """One line of text; `y` is its base line."""
        self.shapes.append(
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>'
        )
        room = len(text) * LETTER * {"start": 1.0, "middle": 0.5}.get(anchor, 0)
        self.reach(x + room, y)

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A rectangle."""
        self.shapes.append(
            f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" rx="5"/>'
        )
        self.reach(x + width, y + height)

    def line(self, path: str, kind: str = "arrow") -> None:
        """A path; an arrow has its tip at the end."""
        tip = ' marker-end="url(#tip)"' if kind == "arrow" else ""
        self.shapes.append(f'<path class="{kind}" d="{path}"{tip}/>')

    def reach(self, x: float, y: float) -> None:
        """Make room up to this point."""
        self.width, self.height = max(self.width, x), max(self.height, y)

    def svg(self, title: str) -> str:
        """The picture, on lines without a blank one between: a block of HTML in Markdown."""
        width, height = self.width + 12, self.height + 12
        return "\n".join(
            (
                (
                    f'<svg class="diagram" role="img" aria-label="{html.escape(title)}" '
                    f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px">'
                ),
                MARKERS,
                *self.shapes,
                "</svg>",
            )
        )


def state_diagram(states: Sequence[str], moves: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """States one below the other; what leads from one to another at its right.

    Args:
        states: their names, from the first to the last.
        moves: (from, to) -> what leads there.
    """
    canvas = _Canvas()
    width = max(map(len, states)) * LETTER + 24
    right, middle = 10 + width, 10 + width / 2
    following = set(itertools.pairwise(states))
    aside = [pair for pair in moves if pair not in following]
    ports = {name: sum(pair.count(name) for pair in aside) for name in states}
    tops: dict[str, float] = {}
    bottoms: dict[str, float] = {}
    top = 10.0
    for name in states:
        tops[name], bottoms[name] = top, top + max(30, 10 + 18 * ports[name])
        canvas.box(10, top, width, bottoms[name] - top, "state")
        canvas.text(middle, (top + bottoms[name]) / 2 + 4, name)
        top = bottoms[name] + 40
    for start, end in [pair for pair in moves if pair in following]:
        canvas.line(f"M{middle:.0f} {bottoms[start]:.0f}V{tops[end]:.0f}")
        canvas.text(middle + 8, bottoms[start] + 24, _names(moves[start, end]), anchor="start")
    used = dict.fromkeys(states, 0)

    def port(name: str) -> float:
        used[name] += 1
        return tops[name] + 18 * used[name]

    longest = max((len(_names(moves[pair])) for pair in aside), default=0)
    for lane, (start, end) in enumerate(aside):
        reach = right + longest * LETTER + 30 + 22 * lane
        leave, arrive = port(start), port(end)
        canvas.line(f"M{right:.0f} {leave:.0f}H{reach:.0f}V{arrive:.0f}H{right:.0f}")
        canvas.text(right + 8, leave - 3, _names(moves[start, end]), anchor="start")
        canvas.reach(reach, leave)
    return canvas.svg("states: " + ", ".join(states))


def _names(words: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(words))


_ARROW = re.compile(r"(\w+)(-?->>)(\w+): (.*)")
_NOTE = re.compile(r"Note over ([\w,]+): (.*)")
_PARTICIPANT = re.compile(r"participant (\w+) as (.*)")
_OPENERS = ("opt", "loop", "alt", "rect")


def sequence_diagram(source: str) -> str:
    """A sequence diagram in the notation of Mermaid, as far as these pages use it.

    Raises:
        ValueError: a line that is not understood.
    """
    canvas = _Canvas()
    columns: dict[str, tuple[float, str]] = {}
    blocks: list[tuple[str, float]] = []
    y = 62.0
    lines = [line.strip() for line in source.strip().splitlines()][1:]
    longest = max((len(_label(line)) for line in lines), default=0)
    apart = max(360.0, longest * LETTER + 40)
    for line in lines:
        word, _, words = line.partition(" ")
        if found := _PARTICIPANT.fullmatch(line):
            columns[found[1]] = (130 + apart * len(columns), found[2])
        elif found := _ARROW.fullmatch(line):
            begin, end = columns[found[1]][0], columns[found[3]][0]
            canvas.text((begin + end) / 2, y, found[4])
            canvas.line(f"M{begin:.0f} {y + 6:.0f}H{end:.0f}")
            y += 34
        elif found := _NOTE.fullmatch(line):
            over = [columns[name][0] for name in found[1].split(",")]
            middle = (min(over) + max(over)) / 2
            half = max((max(over) - min(over)) / 2 + 40, len(found[2]) * LETTER / 2 + 10)
            canvas.box(max(4, middle - half), y - 14, 2 * half, 24, "note")
            canvas.text(max(4 + half, middle), y + 3, found[2])
            y += 36
        elif word in _OPENERS:
            blocks.append((word, y - 14))
            if word != "rect":
                canvas.text(18, y, f"{word}  [{words}]", anchor="start")
                y += 24
        elif word == "else":
            canvas.line(f"M8 {y - 12:.0f}H{130 + apart * (len(columns) - 1) + 120:.0f}", "divide")
            canvas.text(18, y + 4, f"else  [{words}]", anchor="start")
            y += 28
        elif word == "end":
            kind, top = blocks.pop()
            inset = 8 + 5 * len(blocks)
            width = 130 + apart * (len(columns) - 1) + 120 - 2 * (inset - 8)
            canvas.shapes.insert(0, _frame(inset, top, width, y - 16 - top, kind))
            y += 12
        else:
            raise ValueError(f"not understood in a sequence diagram: {line}")
    bottom = y
    for x, name in columns.values():
        canvas.shapes.insert(0, f'<path class="life" d="M{x:.0f} 36V{bottom:.0f}"/>')
        half = len(name) * LETTER / 2 + 12
        canvas.box(x - half, 8, 2 * half, 28, "state")
        canvas.text(x, 27, name)
        canvas.reach(x + 124, bottom)
    return canvas.svg("sequence of messages")


def _label(line: str) -> str:
    found = _ARROW.fullmatch(line)
    return found[4] if found else ""


def _frame(x: float, y: float, width: float, height: float, kind: str) -> str:
    shade = "shade" if kind == "rect" else "frame"
    return (
        f'<rect class="{shade}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" rx="3"/>'
    )
