"""All cases: both halves of the matrix, and what SPDM 1.4 has over every transport."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from emulator.case import Case
from emulator.matrix import requester_cases
from emulator.matrix_responder import responder_cases
from emulator.proxied import proxied_cases
from spdmkit.messages import V14

__all__ = ["all_cases"]

_OF_MCTP = frozenset({"application"})
"""The emulator has PLDM behind MCTP alone."""


def all_cases() -> tuple[Case, ...]:
    """Every case, in the order of the report."""
    return (*_spread(requester_cases()), *_spread(responder_cases()), *proxied_cases())


def _spread(cases: Iterable[Case]) -> Iterator[Case]:
    """The cases, and those of 1.4 over MCTP once more over the other transports."""
    known = tuple(cases)
    names = {case.name for case in known}
    for case in known:
        yield case
        wanted = case.version == V14 and case.transport == "mctp" and not case.command
        if not wanted or case.group in _OF_MCTP or case.suite.asym.startswith("SLH_DSA"):
            continue
        for transport in ("tcp", "doe"):
            also = replace(case, transport=transport)
            if also.name not in names:
                yield also
