"""What the script of a case may do: send anything, look at what came, and say what should hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from spdmkit.conformance.case import SILENCE_SINCE, Stage
from spdmkit.errors import (
    DeadlineExceeded,
    DecodeError,
    PeerError,
    SpdmError,
    TransportError,
)
from spdmkit.identity import (
    CertificateChain,
    ChainPolicy,
    Purpose,
    TimePolicy,
    TrustAnchors,
    VerifiedChain,
    verify_chain,
)
from spdmkit.messages import V10, Error, ErrorCode, Message, RequestCode, ResponseCode
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.negotiate import (
    get_capabilities,
    get_version,
    negotiate,
)
from spdmkit.protocol.requester.sessions import (
    BegunPskSession,
    BegunSession,
    OpenedSession,
    PreSharedKey,
    begin_key_exchange,
    begin_psk_exchange,
    complete_key_exchange,
    complete_psk_exchange,
)

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection

__all__ = ["Facts", "Finding", "Stopped", "Talk"]

M = TypeVar("M", bound=Message)
T = TypeVar("T")
LEAST = 4
"""Bytes of the shortest SPDM message."""


class Stopped(Exception):
    """The script cannot go on: what should have held, and did not, is in the findings."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One assertion.

    Attributes:
        holds: whether the peer did what it should.
        words: what should hold, and what was seen instead when it does not.
        clause: where that stands.
    """

    holds: bool
    words: str
    clause: str


@dataclass(slots=True)
class Facts:
    """What is known of the peer from outside, and what was learned of it so far.

    Attributes:
        psk: a pre-shared key of the peer, or None.
        chains: chain bytes -> verified chain; a chain is verified once for all cases.
    """

    psk: PreSharedKey | None = None
    chains: dict[bytes, VerifiedChain] = field(default_factory=dict)


class Talk:
    """A conversation with the peer.

    Attributes:
        link: the way to the peer; in a session when the stage says so.
        outside: the way outside any session.
        version: the SPDM version that is tested.
        findings: what was asserted so far.
        session: the session of the stage, or None.
        begun: the session by KEY_EXCHANGE whose handshake is not finished, or None.
        begun_psk: the same by PSK_EXCHANGE.
    """

    def __init__(self, connection: Connection, version: int, clause: str, facts: Facts) -> None:
        """A conversation in which nothing was said yet."""
        self.outside = Link(connection)
        self.link = self.outside
        self.version = version
        self.clause = clause
        self.facts = facts
        self.findings: list[Finding] = []
        self.session: OpenedSession | None = None
        self.begun: BegunSession | None = None
        self.begun_psk: BegunPskSession | None = None

    @property
    def connection(self) -> Connection:
        """The state of the connection, as our requester keeps it."""
        return self.outside.connection

    def random(self, size: int) -> bytes:
        """Fresh random bytes."""
        return self.connection.random(size)

    # -- assertions -----------------------------------------------------------------------------

    def check(self, holds: bool, words: str, *, clause: str = "") -> bool:
        """Assert something; the script goes on either way."""
        self.findings.append(Finding(bool(holds), words, clause or self.clause))
        return bool(holds)

    def need(self, holds: bool, words: str, *, clause: str = "") -> None:
        """Assert something without which the rest makes no sense."""
        if not self.check(holds, words, clause=clause):
            raise Stopped

    def equal(self, seen: object, wanted: object, what: str, *, clause: str = "") -> bool:
        """Assert that a value is the one wanted."""
        same = seen == wanted
        words = f"{what} is {_show(wanted)}"
        if not same:
            words = f"{words}; it was {_show(seen)}"
        return self.check(same, words, clause=clause)

    def holds(self, exchange: Exchange[T], words: str) -> Exchange[T]:
        """Run one of the library's exchanges, and assert that it succeeds."""
        try:
            result = yield from exchange
        except SpdmError as error:
            self.need(False, f"{words}: {error}")
            raise
        self.check(True, words)
        return result

    # -- requests -------------------------------------------------------------------------------

    def ask(self, request: Message | bytes) -> Exchange[bytes]:
        """Send a message or any bytes, and return the answer as it is."""
        if isinstance(request, Message):
            request = request.encode(self.connection.context.answering(request))
        return (yield from self.link.ask_raw(request))

    def expect(self, request: Message | bytes, expected: type[M]) -> Exchange[M]:
        """Send a request, assert that the answer is of a kind, well formed, and nothing more."""
        answer = yield from self.ask(request)
        return self.decoded(answer, expected, request if isinstance(request, Message) else None)

    def decoded(self, answer: bytes, expected: type[M], request: Message | None = None) -> M:
        """Assert that bytes are a message of a kind, well formed, and nothing more."""
        name = expected.name
        self.need(len(answer) >= LEAST, f"{name} has at least {LEAST} bytes")
        if answer[1] == ResponseCode.ERROR and expected.code != ResponseCode.ERROR:
            self.need(False, f"the answer is {name}; it was {self.error_name(answer)}")
        self.need(answer[1] == expected.code, f"the answer is {name}; its code is {answer[1]:#x}")
        wanted = V10 if expected.code == ResponseCode.VERSION else self.version
        self.equal(answer[0], wanted, f"SPDMVersion of {name}")
        context = self.connection.context
        if request is not None:
            context = context.answering(request)
        try:
            message, size = expected.parse(answer, context)
        except DecodeError as error:
            self.need(False, f"{name} is well formed: {error}")
            raise Stopped from error
        self.check(True, f"{name} is well formed")
        rest = answer[size:]
        self.check(not any(rest), f"nothing follows {name}; {len(rest)} bytes do")
        return message

    def expect_refusal(self, request: Message | bytes, *codes: ErrorCode) -> Exchange[None]:
        """Send what must not be answered; assert one of the ERROR codes.

        From 1.2 on silence will do too (DSP0274 10.11, error handling); where that is allowed a
        closed connection counts as silence. What is too short for an SPDM header is not yet a
        message, and a transport may close at it in any version.
        """
        try:
            answer = yield from self.ask(request)
        except (DeadlineExceeded, TransportError):
            whole = isinstance(request, Message) or len(request) >= LEAST
            quiet = self.version >= SILENCE_SINCE or not whole
            self.check(quiet, "the request is refused with an ERROR; nothing came")
            return
        self.refused(answer, *codes)

    def refused(self, answer: bytes, *codes: ErrorCode) -> None:
        """Assert that an answer is ERROR with one of these codes (any, when there are none)."""
        named = " or ".join(code.name for code in codes)
        wanted = f"the request is refused{' with ' if named else ''}{named}"
        if len(answer) < LEAST or answer[1] != ResponseCode.ERROR:
            code = answer[1] if len(answer) > 1 else 0
            self.need(False, f"{wanted}; it was answered with code {code:#04x}")
        error, _ = Error.parse(answer, self.connection.context)
        if codes and error.error_code not in codes:
            self.check(False, f"{wanted}; it was {self.error_name(answer)}")
        else:
            self.check(True, wanted)

    def expect_end(self, request: Message | bytes, *codes: ErrorCode) -> Exchange[None]:
        """Send what ends a session; assert an ERROR, in the session or in the clear, and the end.

        Whatever is sent through the session afterwards must not be answered in it.
        """
        yield from self._expect_no_answer(request, *codes)
        if self.session is not None:
            alive = self.session.session.alive
            self.check(not alive, "the session is over")

    def _expect_no_answer(self, request: Message | bytes, *codes: ErrorCode) -> Exchange[None]:
        try:
            answer = yield from self.ask(request)
        except PeerError as error:
            wanted = " or ".join(code.name for code in codes)
            self.check(not codes or error.code in codes, f"it is refused with {wanted}: {error}")
        except (DeadlineExceeded, TransportError):
            # A record of a session that is over may be discarded in every version (DSP0277 9.3).
            self.check(True, "the request is not answered")
            self._drop("nothing came")
        else:
            self.refused(answer, *codes)
            self._drop("the peer refused")

    def _drop(self, why: str) -> None:
        if self.session is not None:
            self.connection.end_session(self.session.session, why)

    def error_name(self, answer: bytes) -> str:
        """An ERROR in words."""
        try:
            error, _ = Error.parse(answer, self.connection.context)
        except DecodeError as problem:
            return f"a malformed ERROR ({problem})"
        return error.describe()

    def header(self, code: RequestCode, param1: int = 0, param2: int = 0) -> bytes:
        """The four bytes that a request of the tested version begins with."""
        return bytes((self.version, code, param1, param2))

    # -- stages ---------------------------------------------------------------------------------

    def reach(self, stage: Stage) -> Exchange[None]:
        """Bring the peer to where the script begins.

        Raises:
            SpdmError: it does not get there.
        """
        for step in _STEPS[stage]:
            yield from step(self)

    def chain(self, slot_id: int = 0) -> Exchange[VerifiedChain]:
        """The chain of a slot, verified below the root that it brings itself.

        Whether that root is to be trusted is not for a conformance test to say.
        """
        digests = yield from get_digests(self.outside)
        if slot_id not in digests.slots:
            raise SpdmError(f"slot {slot_id} is not provisioned")
        found = yield from get_certificate(self.outside, slot_id)
        return self.verified(found)

    def verified(self, chain: CertificateChain) -> VerifiedChain:
        """A chain below its own first certificate."""
        known = self.facts.chains.get(chain.raw)
        if known is None or known.chain.hash_algorithm is not chain.hash_algorithm:
            anchors = TrustAnchors(chain.certificates[:1], Purpose.DEVICE)
            known = verify_chain(
                chain,
                anchors,
                purpose=Purpose.DEVICE,
                time=TimePolicy.ignoring_validity(),
                policy=ChainPolicy(),
            )
            self.facts.chains[chain.raw] = known
        return known


def _version(talk: Talk) -> Exchange[None]:
    yield from get_version(talk.outside)


def _capabilities(talk: Talk) -> Exchange[None]:
    yield from get_capabilities(talk.outside)


def _negotiated(talk: Talk) -> Exchange[None]:
    yield from negotiate(talk.outside)


def _handshake(talk: Talk) -> Exchange[None]:
    key = yield from talk.chain()
    talk.begun = yield from begin_key_exchange(talk.outside, key)
    talk.session = talk.begun.opened
    talk.link = talk.session.link


def _finish(talk: Talk) -> Exchange[None]:
    if talk.begun is not None:
        yield from complete_key_exchange(talk.begun)


def _psk_handshake(talk: Talk) -> Exchange[None]:
    if talk.facts.psk is None:
        raise SpdmError("a pre-shared key is needed")
    talk.begun_psk = yield from begin_psk_exchange(talk.outside, talk.facts.psk)
    talk.session = talk.begun_psk.opened
    talk.link = talk.session.link


def _psk_finish(talk: Talk) -> Exchange[None]:
    if talk.begun_psk is not None:
        yield from complete_psk_exchange(talk.begun_psk)


_STEPS: dict[Stage, tuple[Callable[[Talk], Exchange[None]], ...]] = {
    Stage.CONNECTED: (),
    Stage.VERSION: (_version,),
    Stage.CAPABILITIES: (_version, _capabilities),
    Stage.NEGOTIATED: (_negotiated,),
    Stage.HANDSHAKE: (_negotiated, _handshake),
    Stage.SESSION: (_negotiated, _handshake, _finish),
    Stage.PSK_HANDSHAKE: (_negotiated, _psk_handshake),
    Stage.PSK_SESSION: (_negotiated, _psk_handshake, _psk_finish),
}


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() or "empty"
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
