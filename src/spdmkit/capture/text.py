"""Decoded conversations for people: a line for each message, its fields, and a summary.

Everything here is plain text without escapes of a terminal. What came from a peer has been made
harmless before: it is numbers, names from tables, hex, or escaped text.
"""

from __future__ import annotations

from collections.abc import Iterator

from spdmkit.capture.decode import Summary
from spdmkit.capture.events import Check, CheckKind, ConversationEvent, EventKind, Party, Verdict
from spdmkit.wire import Node

__all__ = ["event_lines", "summary_lines", "tree_lines"]

_ARROWS = {Party.REQUESTER: "-->", Party.RESPONDER: "<--", Party.UNKNOWN: "---"}
_MARKS = {Verdict.VERIFIED: "ok", Verdict.FAILED: "FAILED", Verdict.UNVERIFIABLE: "unverifiable"}
_HEX_WIDTH = 16
_AROUND = 24
"""Bytes shown before and after the place where decoding broke."""


def event_lines(
    event: ConversationEvent, *, start_ns: int | None = None, verbose: bool = False
) -> Iterator[str]:
    """The lines for one event: one, and more where something is wrong or `verbose` asks.

    Args:
        event: the event.
        start_ns: time that counts as zero; None shows no times.
        verbose: with every check, and the fields with names, offsets and clauses.
    """
    time = ""
    if start_ns is not None and event.time_ns is not None:
        time = f"{(event.time_ns - start_ns) / 1e9:12.6f}  "
    head = f"{event.number:6}  {time}#{event.channel.number} {_ARROWS[event.sender]} "
    yield from _lines(event, head, " " * 8, verbose=verbose)


def _lines(event: ConversationEvent, head: str, indent: str, *, verbose: bool) -> Iterator[str]:
    session = f" [{event.session_id:08x}]" if event.session_id is not None else ""
    marks = _marks(event.checks)
    clause = ""
    if verbose and event.message is not None:
        clause = f"[DSP0274 {event.message.clause}]"
    parts = [event.name + session, event.summary, marks, clause]
    yield head + "  ".join(part for part in parts if part)
    for note in event.notes:
        yield f"{indent}  note: {note}"
    for check in event.checks:
        if verbose or check.verdict is not Verdict.VERIFIED:
            reason = f": {check.reason}" if check.reason else ""
            yield f"{indent}  {_MARKS[check.verdict]}: {check.name}{reason}"
    if event.error and event.kind is not EventKind.MESSAGE:
        yield f"{indent}  error: {event.error}"
    if event.error_offset is not None:
        yield from _broken(event.raw, event.error_offset, indent + "  ")
    if verbose:
        tree = event.tree()
        if tree is not None:
            for child in tree.children:
                yield from tree_lines(child, indent=indent + "  ")
        elif event.raw and event.error_offset is None:
            yield from _dump(event.raw, 0, indent + "  ")
    for inner in event.inside:
        yield from _lines(
            inner, f"{indent}inside {_ARROWS[inner.sender]} ", indent + "    ", verbose=verbose
        )


def _marks(checks: list[Check]) -> str:
    """What came of the checks, in a word for each verdict."""
    if not checks:
        return ""
    counts = {
        verdict: sum(check.verdict is verdict for check in checks)
        for verdict in (Verdict.FAILED, Verdict.UNVERIFIABLE, Verdict.VERIFIED)
    }
    words = [f"{count} {_MARKS[verdict]}" for verdict, count in counts.items() if count]
    return f"({', '.join(words)})"


def tree_lines(node: Node, *, indent: str = "") -> Iterator[str]:
    """The lines for a field and those inside it: offset, name, value, clause."""
    value = f" = {node.display}" if node.display else ""
    clause = f"   [{node.clause}]" if node.clause else ""
    where = f"{node.offset:04x}"
    if node.bits is not None:
        low, width = node.bits
        where = f"  .{low}" if width == 1 else f".{low + width - 1}:{low}"
    yield f"{indent}{where:>5}  {node.name or 'reserved'}{value}{clause}"
    for child in node.children:
        yield from tree_lines(child, indent=indent + "  ")


def _dump(data: bytes, start: int, indent: str) -> Iterator[str]:
    for at in range(0, len(data), _HEX_WIDTH):
        yield f"{indent}{start + at:04x}  {data[at : at + _HEX_WIDTH].hex(' ')}"


def _broken(raw: bytes, offset: int, indent: str) -> Iterator[str]:
    """The bytes around the place where decoding broke, which a caret marks."""
    first = max(0, offset - _AROUND) // _HEX_WIDTH * _HEX_WIDTH
    last = min(len(raw), offset + _AROUND)
    marked = False
    for at in range(first, max(last, first + 1), _HEX_WIDTH):
        part = raw[at : min(at + _HEX_WIDTH, last)]
        yield f"{indent}{at:04x}  {part.hex(' ')}"
        if at <= offset < at + _HEX_WIDTH:
            marked = True
            yield f"{indent}      {'   ' * (offset - at)}^ here"
    if not marked:
        yield f"{indent}{offset:04x}  ^ here, behind the last byte"


def summary_lines(summary: Summary) -> Iterator[str]:
    """The summary of a recording: what was there, what was checked, how long it took."""
    yield (
        f"{summary.messages} messages, {summary.inside} more inside of them, "
        f"{summary.undecoded} undecoded"
    )
    yield (
        f"{summary.records} records, {summary.records_decrypted} decrypted; "
        f"{summary.connections} connections, {summary.sessions} sessions"
    )
    for kind, label in _CHECK_LABELS.items():
        tally = summary.checks[kind]
        if any(tally.values()):
            counts = ", ".join(
                f"{count} {verdict.value}" for verdict, count in tally.items() if count
            )
            yield f"{label}: {counts}"
    for name, count in summary.errors.most_common():
        yield f"ERROR {name}: {count}"
    if any(timing.total_ns for timing in summary.timings.values()):
        yield "exchange, by its response     count      mean  shortest   longest"
        for name, timing in sorted(summary.timings.items(), key=lambda item: -item[1].total_ns):
            mean = timing.total_ns / timing.count
            times = (mean, timing.shortest_ns, timing.longest_ns)
            yield f"{name:28} {timing.count:6} " + " ".join(f"{_span(ns):>9}" for ns in times)
    for note in summary.notes:
        yield f"note: {note}"


_CHECK_LABELS = {
    CheckKind.SIGNATURE: "signatures",
    CheckKind.HASH: "hashes",
    CheckKind.MAC: "verify data",
    CheckKind.CHAIN: "certificate chains",
}


def _span(nanoseconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"
