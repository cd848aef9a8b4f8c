"""Numbered steps of a verification, as reports show them, and the error that ends one."""

from __future__ import annotations

import enum
from typing import NamedTuple

from spdmkit.errors import AuthenticationError

__all__ = ["ChainError", "Outcome", "Step"]


class Outcome(enum.StrEnum):
    """How a step ended. Only `PASSED` is a proof."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_CHECKED = "not-checked"
    UNPINNED = "unpinned"
    NOT_COVERED = "not-covered"


class Step(NamedTuple):
    """One check.

    Attributes:
        name: what was checked, the same in every report.
        outcome: how it ended.
        detail: what was found, or why nothing was; safe to print.
    """

    name: str
    outcome: Outcome
    detail: str = ""


class ChainError(AuthenticationError):
    """A certificate chain that is not to be believed.

    Attributes:
        check: name of the check that failed ("signatures", "validity", ...).
        link: position of the certificate in the chain from 0; -1 for a trust anchor that is not in
            it; None when it is the whole chain.
        subject: subject of that certificate, safe to print; empty without `link`.
        steps: the steps up to and with the failed one.
    """

    def __init__(
        self,
        check: str,
        reason: str,
        *,
        link: int | None = None,
        subject: str = "",
        hint: str = "",
    ) -> None:
        super().__init__("chain", f"{check}: {_where(link, subject)}{reason}", hint=hint)
        self.check = check
        self.link = link
        self.subject = subject
        self.steps: tuple[Step, ...] = ()


def _where(link: int | None, subject: str) -> str:
    if link is None:
        return ""
    return f"{'the trust anchor' if link < 0 else f'certificate {link}'} ({subject}): "
