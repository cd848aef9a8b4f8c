"""The page of state machines: tables and diagrams from the tables that the code decides by."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from spdmkit.messages import V14, RequestCode
from spdmkit.protocol import states
from spdmkit.transports import tcp
from spdmkit.transports.framing import Side

from .diagrams import state_diagram

P = TypeVar("P", bound=enum.Enum)


def page() -> str:
    """Connection, session, TCP binding."""
    return "\n\n".join((_connection(), _session(), _binding()))


def _connection() -> str:
    moves = _moves(states.CONNECTION)
    # ALGORITHMS decides this one, by what it selects, so that no table can.
    moves["capabilities known", "no hash algorithm in common"] = ["ALGORITHMS without a hash"]
    return "\n\n".join(
        (
            "## A connection",
            "From `spdmkit.protocol.states.CONNECTION`: what is legal outside a session.",
            state_diagram([each.value for each in states.Phase], moves),
            (
                "What a responder does with each request, at SPDM 1.4; an older version answers "
                "requests that it does not have with UnsupportedRequest."
            ),
            _table(states.Phase, states.in_connection),
        )
    )


def _session() -> str:
    return "\n\n".join(
        (
            "## A session",
            (
                "From `spdmkit.protocol.states.SESSION`: what is legal inside a session. The two "
                "handshakes are phases of their own: the end of one kind never completes the "
                "other. Heartbeats that stay out, records that fail, and the end of the connection "
                "end a session from every phase."
            ),
            state_diagram([each.value for each in states.SessionPhase], _moves(states.SESSION)),
            # All but the last: nothing is legal in a session that has ended.
            _table(list(states.SessionPhase)[:-1], states.in_session),
        )
    )


def _moves(table: Mapping[tuple[P, int], P]) -> dict[tuple[str, str], list[str]]:
    """(from, to) -> names of the requests that lead there; what stays is left out."""
    moves: dict[tuple[str, str], list[str]] = {}
    for (phase, code), after in table.items():
        if phase is not after:
            moves.setdefault((phase.value, after.value), []).append(RequestCode(code).name)
    return moves


def _table(phases: Iterable[P], decide: Callable[[P, int, int], P | states.Refusal]) -> str:
    phases = list(phases)
    head = ["request", "since", *(phase.value for phase in phases)]
    rows = [head, ["---"] * len(head)]
    for code, since in sorted(states.SINCE.items(), key=lambda each: RequestCode(each[0]).name):
        cells = [_outcome(phase, decide(phase, code, V14)) for phase in phases]
        rows.append([f"`{RequestCode(code).name}`", f"{since >> 4}.{since & 15}", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _outcome(phase: P, after: P | states.Refusal) -> str:
    if isinstance(after, states.Refusal):
        name = "".join(part.capitalize() for part in after.error.name.split("_"))
        return f"{name}{', session ends' if after.ends_session else ''}"
    return "legal" if after is phase else f"**{after.value}**"


def _binding() -> str:
    rows = [
        "| who we are | phase | what came | what happens |",
        "|---|---|---|---|",
        *_binding_rows(),
    ]
    moves = {
        ("opening", "responder"): ["a message or a record"],
        ("opening", "requester"): ["Role-Inquiry"],
        ("requester", "closed"): ["Role-Inquiry", "error frame"],
        ("responder", "closed"): ["error frame", "Role-Inquiry (answered with 0xC2)"],
    }
    return "\n\n".join(
        (
            "## The TCP binding",
            (
                "From `spdmkit.transports.tcp.TRANSITIONS`. A listener learns its role from the "
                "first frame; an initiator knows it. A second Role-Inquiry, one after SPDM has "
                "begun, and one from a listener end the connection."
            ),
            state_diagram(["opening", "requester", "responder", "closed"], moves),
            "\n".join(rows),
        )
    )


def _binding_rows() -> Iterator[str]:
    for side in Side:
        for phase in tcp.Phase:
            for what in tcp.Input:
                move = tcp.TRANSITIONS.get((side, phase, what))
                if move is not None:
                    words = (side.name.lower(), phase.value, what.value, move.value)
                    yield "| " + " | ".join(words) + " |"
