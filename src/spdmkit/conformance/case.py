"""What a conformance case is, and the list of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from spdmkit.conformance.misbehaviour import Mend, Misbehaviour, answering, appending, tolerating
from spdmkit.messages import (
    V10,
    V12,
    V14,
    ErrorCode,
    Message,
    RequesterFlags,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange

if TYPE_CHECKING:
    from spdmkit.conformance.talk import Talk

__all__ = ["Case", "Cases", "Script", "Stage"]

Script: TypeAlias = "Callable[[Talk], Exchange[None]]"
Request: TypeAlias = "Callable[[Talk], bytes]"

NO_FLAGS = ResponderFlags(0)
NOTHING = RequesterFlags(0)


class Stage(enum.Enum):
    """How far the conversation is when a script begins."""

    CONNECTED = "nothing was said"
    VERSION = "VERSION was received"
    CAPABILITIES = "CAPABILITIES was received"
    NEGOTIATED = "ALGORITHMS was received"
    HANDSHAKE = "KEY_EXCHANGE_RSP was received"
    SESSION = "a session by KEY_EXCHANGE is established"
    PSK_HANDSHAKE = "PSK_EXCHANGE_RSP was received"
    PSK_SESSION = "a session by PSK_EXCHANGE is established"


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation about one rule.

    Attributes:
        name: "group.rule", also the name of the misbehaviour that it finds.
        clause: where the rule stands, "DSP0274 10.8".
        title: the rule in one sentence.
        script: the conversation.
        stage: how far the peer has been brought before.
        since, until: SPDM versions that have the rule.
        needs: capabilities without which the rule does not apply.
        any_of: of these at least one is needed; 0 for none.
        without: capabilities that our side leaves out, for rules about what it lacks.
        breaks: how a responder breaks the rule; None where only a sane one can be shown.
        transfer_size: our DataTransferSize in bytes, to have messages travel in chunks; 0 for the
            largest.
    """

    name: str
    clause: str
    title: str
    script: Script
    stage: Stage = Stage.NEGOTIATED
    since: int = V10
    until: int = V14
    needs: ResponderFlags = NO_FLAGS
    any_of: ResponderFlags = NO_FLAGS
    without: RequesterFlags = NOTHING
    breaks: Misbehaviour | None = None
    transfer_size: int = 0

    @property
    def group(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]

    def lacking(self, flags: int) -> str:
        """Why the rule does not apply to a peer with these capabilities; empty when it does."""
        missing = [flag.name for flag in self.needs if not flags & flag]
        if missing:
            return f"the peer has no {', '.join(map(str, missing))}"
        if self.any_of and not flags & self.any_of:
            return f"the peer has none of {', '.join(str(f.name) for f in self.any_of)}"
        return ""


class Cases:
    """A group's cases, in the order in which they stand in its module."""

    def __init__(self, group: str, clause: str) -> None:
        """An empty list.

        Args:
            group: the first part of each name.
            clause: where the rules stand, for cases that do not say so themselves.
        """
        self._group = group
        self._clause = clause
        self._cases: list[Case] = []

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def case(
        self,
        name: str,
        title: str,
        *,
        clause: str = "",
        stage: Stage = Stage.NEGOTIATED,
        since: int = V10,
        until: int = V14,
        needs: ResponderFlags = NO_FLAGS,
        any_of: ResponderFlags = NO_FLAGS,
        without: RequesterFlags = NOTHING,
        breaks: Misbehaviour | None = None,
        transfer_size: int = 0,
    ) -> Callable[[Script], Script]:
        """Decorator: the script of a case."""

        def add(script: Script) -> Script:
            self._cases.append(
                Case(
                    f"{self._group}.{name}",
                    clause or self._clause,
                    title,
                    script,
                    stage,
                    since,
                    until,
                    needs,
                    any_of,
                    without,
                    breaks,
                    transfer_size,
                )
            )
            return script

        return add

    def ends(
        self,
        expected: type[Message],
        request: Callable[[Talk], Message | bytes],
        *,
        stage: Stage = Stage.NEGOTIATED,
        since: int = V10,
        needs: ResponderFlags = NO_FLAGS,
        any_of: ResponderFlags = NO_FLAGS,
    ) -> None:
        """The case "trailing": nothing follows a response.

        Args:
            expected: the response.
            request: what it answers.
            stage: where the peer is brought before.
            since: first version that has it.
            needs: capabilities that all are needed.
            any_of: capabilities of which one is needed.
        """

        def script(talk: Talk) -> Exchange[None]:
            yield from talk.expect(request(talk), expected)

        self.case(
            "trailing",
            f"nothing follows {expected.name}",
            stage=stage,
            since=since,
            needs=needs,
            any_of=any_of,
            breaks=answering(ResponseCode(expected.code), appending(b"\x01")),
        )(script)

    def refuses(
        self,
        name: str,
        title: str,
        request: Request,
        *codes: ErrorCode,
        mend: Mend,
        clause: str = "",
        stage: Stage = Stage.NEGOTIATED,
        since: int = V10,
        until: int = V14,
        needs: ResponderFlags = NO_FLAGS,
        any_of: ResponderFlags = NO_FLAGS,
        without: RequesterFlags = NOTHING,
    ) -> None:
        """A case whose only request has to be refused.

        The arguments are the attributes of `Case`, and:

        Args:
            name: without the group.
            title: the rule.
            request: the bytes to send.
            codes: ERROR codes that the specification names for it; from 1.2 on silence will do too.
            mend: what a responder that breaks the rule takes the request for.
            clause: where the rule stands, when not where the group's rules do.
            stage: where the peer is brought before.
            since: first version that has the rule.
            until: last one.
            needs: capabilities that all are needed.
            any_of: capabilities of which one is needed.
            without: capabilities of ours that are left out.
        """

        def script(talk: Talk) -> Exchange[None]:
            yield from talk.expect_refusal(request(talk), *codes)

        self.case(
            name,
            title,
            clause=clause,
            stage=stage,
            since=since,
            until=until,
            needs=needs,
            any_of=any_of,
            without=without,
            breaks=tolerating(mend),
        )(script)


SILENCE_SINCE = V12
"""From this version on a request may be discarded silently instead of being refused."""
