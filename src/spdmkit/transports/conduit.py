"""One connection without its socket: a framing and an endpoint, joined. Both drivers drive this.

    conduit.opened(now)                     the connection stands
    conduit.received(data, now)             bytes came;  conduit.ended(): no more will
    conduit.on_time(now)                    a deadline is due and a read found nothing
    conduit.complete(token, outcome, now)   a job is done

After each of them the driver writes `output()` (one write each), starts `jobs()`, looks at
`next_deadline()`, and closes when `closing` is set, or dials again when `redial` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from spdmkit.errors import DeadlineExceeded, PeerError, SpdmError, TransportError
from spdmkit.protocol import records
from spdmkit.protocol.frames import Frame
from spdmkit.transports.framing import (
    BindingError,
    Dialect,
    Framing,
    FramingEvent,
    Goodbye,
    PlatformCommand,
    Reply,
    Role,
    RoleInquiry,
    Side,
)
from spdmkit.transports.tcp import MessageType
from spdmkit.transports.uri import Records

if TYPE_CHECKING:
    from spdmkit.protocol.endpoint import Endpoint, Job

__all__ = ["CommandSink", "Conduit", "ConnectionInfo", "EndpointFactory", "Tap", "TapFactory"]


class ConnectionInfo(NamedTuple):
    """What an endpoint is told of the connection it is made for.

    Attributes:
        name: a short name that no other connection of this program has.
        scheme: "tcp", "emu+mctp", ...
        role: what the endpoint is to be.
        side: who opened the connection.
        local: our address, as text.
        peer: the peer's address, as text.
        record_profile: secured records to begin with; the conduit sets the connection's
            `record_profile` again when the peer shows its dialect.
    """

    name: str
    scheme: str
    role: Role
    side: Side
    local: str
    peer: str
    record_profile: records.RecordProfile


EndpointFactory: TypeAlias = "Callable[[ConnectionInfo], Endpoint]"


CommandSink: TypeAlias = "Callable[[Endpoint, PlatformCommand], None]"
"""Told of the emulator's out-of-band commands, with the endpoint they concern."""


class Tap(Protocol):
    """Sees the bytes of one connection pass, for a capture."""

    def sent(self, data: bytes) -> None:
        """One write."""

    def received(self, data: bytes) -> None:
        """One read."""

    def closed(self, *, by_peer: bool = False) -> None:
        """The connection ended."""


TapFactory: TypeAlias = "Callable[[str, str], Tap]"
"""(our address, the peer's address) -> the tap of a connection that was just opened."""


class Conduit:
    """See the module.

    Attributes:
        framing: the connection's framing.
        endpoint: the connection's endpoint; None while a listener does not know its role.
        info: what the endpoint was told; its role is provisional until there is an endpoint.
        closing: send what is to be sent, then close.
        error: why it is closing; None when it ends in good order.
        goodbye: how the peer ended the conversation, when it did so in good order.
        guess_failed: nothing answered our first request in the dialect we guessed: only silence,
            a close, or 0xC0. Other error frames are verdicts, and nonsense is nonsense.
        redial: connect again and `reopen`, in this dialect: the guess was wrong.
        frames: whole frames received.
        working: jobs that the driver has started and not completed; the driver counts.
    """

    def __init__(
        self,
        framing: Framing,
        factory: EndpointFactory,
        info: ConnectionInfo,
        *,
        records_of: Records = Records.TCP,
        may_redial: bool = False,
        on_command: CommandSink | None = None,
        on_dialect: Callable[[Dialect], None] | None = None,
    ) -> None:
        """A connection that is not open yet.

        Args:
            framing: nothing sent or received yet.
            factory: makes the endpoint once the role is known.
            info: what to tell it.
            records_of: whose secured records travel here.
            may_redial: this is a dialling requester that may guess the dialect once more.
            on_command: told of the emulator's out-of-band commands.
            on_dialect: told which dialect the peer has shown.
        """
        self.framing = framing
        self.endpoint: Endpoint | None = None
        self.info = info
        self.closing = False
        self.error: SpdmError | None = None
        self.goodbye: Goodbye | None = None
        self.guess_failed = False
        self.redial: Dialect | None = None
        self.frames = 0
        self.working = 0
        self._factory = factory
        self._records_of = records_of
        self._may_redial = may_redial
        self._on_command = on_command
        self._on_dialect = on_dialect
        self._output: list[bytes] = []
        self._open = False
        self._asked: Frame | None = None
        self._stale: float | None = None
        self._renewed = 0.0
        self._asked_at = 0.0
        self._shown: Dialect | None = None
        self._commands: list[PlatformCommand] = []

    # -- what happens ---------------------------------------------------------------------------

    def opened(self, local: str = "", peer: str = "") -> None:
        """The connection stands, between these addresses: say what the framing opens with."""
        if local or peer:
            local, peer = local or self.info.local, peer or self.info.peer
            self.info = self.info._replace(local=local, peer=peer)
        if self.framing.role is not None:
            self._make_endpoint(self.framing.role)
        self._write(self.framing.start())

    def received(self, data: bytes, now: float, *, stop: Callable[[], bool] | None = None) -> None:
        """Bytes came from the peer; see `process`."""
        frame = None if self.closing else self.framing.whole(data)
        if frame is not None:
            self._deliver(frame, now)
            return
        self.framing.receive(data)
        self.process(now, stop=stop)

    def lent(self, data: memoryview, now: float, *, stop: Callable[[], bool] | None = None) -> None:
        """As `received`, of bytes in memory that is the caller's again when this returns."""
        framing = self.framing
        frame = None if self.closing else framing.whole(data)
        if frame is not None:
            self._deliver(frame, now)
            return
        framing.lend(data)
        try:
            self.process(now, stop=stop)
        finally:
            framing.settle()

    def process(self, now: float, *, stop: Callable[[], bool] | None = None) -> None:
        """Handle what is complete, until `stop` says that the driver wants a pause.

        It is asked when there is something to send.
        """
        framing = self.framing
        while not self.closing:
            if (
                not framing.secured_allowed
                and self.endpoint is not None
                and self.endpoint.connection.sessions
            ):
                # Once true it stays: a late record of an ended session is the endpoint's affair.
                framing.secured_allowed = True
            event = framing.next_event()
            if event is None:
                break
            if type(event) is Frame:
                self._deliver(event, now)
            else:
                self._collect(now)  # what was answered before is sent before
                self._happened(event)
            if stop is not None and self._has_output(now) and stop():
                break

    def _happened(self, event: FramingEvent) -> None:
        """Something other than a frame came."""
        if isinstance(event, Reply):
            self._write(event.data)
        elif isinstance(event, BindingError):
            self._write(event.reply)
            self._failed(event.error, doubtful=_is_too_large(event.error))
        elif isinstance(event, RoleInquiry):
            self._make_endpoint(Role.REQUESTER)
        elif isinstance(event, Goodbye):
            self._write(event.reply)
            self.goodbye = event
            self._close(None)
        elif isinstance(event, PlatformCommand):
            self._command(event)

    def _has_output(self, now: float) -> bool:
        """Whoever has said nothing cannot be stopped by a peer that takes nothing."""
        self._collect(now)
        return bool(self._output)

    def ended(self, error: OSError | None = None) -> None:
        """The peer sends nothing more, or the connection broke."""
        if self.closing:
            return
        if error is None:
            self._failed(self.framing.closed(), doubtful=True)
        else:
            broken = TransportError(f"the connection broke: {error.strerror or error}")
            self._failed(broken, doubtful=True)

    def on_time(self, now: float) -> None:
        """A deadline is due, and a read has just found nothing."""
        endpoint = self.endpoint
        if endpoint is None or self.closing:
            return
        if self._framing_ended(now):
            return
        deadline = endpoint.next_deadline()
        if deadline is None or now < self._extended(deadline):
            return
        if self._unanswered_guess:
            self.guess_failed = True
            if self._may_redial:
                self.redial = self.guess.other
                return
        endpoint.on_time(now)
        self._collect(now)

    def complete(self, token: int, outcome: Any | BaseException, now: float) -> None:
        """A job is done."""
        if self.endpoint is not None:
            self.endpoint.complete(token, outcome, now)
            if self.endpoint.close_wanted:
                self._collect(now)

    def abandon(self, error: SpdmError | None = None) -> None:
        """The driver closes the connection: in good order, or because of an error."""
        self._close(error)

    def reopen(self, framing: Framing, now: float) -> None:
        """A second connection, in the other dialect, takes the place of the first.

        The request that had no answer is sent once more there: it is the first of its connection,
        so that no answer to it can come twice.
        """
        self.framing = framing
        self.redial = None
        self._open = False
        self.guess_failed = False
        self._may_redial = False
        self.frames = 0
        self._output = []
        self._write(framing.start())
        if self.endpoint is not None and self._asked is not None:
            self._stale = self.endpoint.next_deadline()
            if self._stale is not None:
                self._renewed = self._stale + max(now - self._asked_at, 0.0)
            self._write(framing.pack(self._asked))
            self._show_profile()

    # -- what is to be done ---------------------------------------------------------------------

    def output(self, now: float) -> list[bytes]:
        """Bytes to send now, each in one write."""
        self._collect(now)
        output = self._output
        if output:
            self._output = []
        return output

    def jobs(self) -> list[Job]:
        """Jobs to start now."""
        return [] if self.endpoint is None or self.closing else self.endpoint.work()

    def next_deadline(self) -> float | None:
        """When `on_time` is due, monotonic seconds."""
        if self.endpoint is None or self.closing:
            return None
        deadline = self.endpoint.next_deadline()
        due = self.framing.next_deadline()
        if deadline is None:
            return due
        if self._stale is not None:
            deadline = self._extended(deadline)
        return deadline if due is None or due > deadline else due

    @property
    def ready(self) -> bool:
        """The opening is over: a requester may ask, a responder may be asked."""
        return self.endpoint is not None and self._open_for_frames()

    @property
    def settled(self) -> bool:
        """Algorithms are negotiated and no session is half-way: patience may begin."""
        if self.endpoint is None:
            return False
        connection = self.endpoint.connection
        if connection.selection is None:
            return False
        return not connection.sessions or all(
            session.established for session in connection.sessions.values()
        )

    @property
    def guess(self) -> Dialect:
        """The dialect in which we send now, the peer's or the one we guess."""
        sending = getattr(self.framing, "sending_dialect", None)
        return sending if isinstance(sending, Dialect) else Dialect.STRICT

    def explain(self, error: SpdmError) -> SpdmError:
        """The error to show for one that an exchange ended with.

        An exchange only learns that its connection is gone; the binding knows why.
        """
        if isinstance(error, DeadlineExceeded):
            error.hint = error.hint or self.framing.hint()
        elif isinstance(error, TransportError) and self.error is not None:
            return self.error
        return error

    def platform_command(self, command: int, payload: bytes = b"") -> None:
        """Send an out-of-band command of the emulator's socket protocol.

        Raises:
            TransportError: this connection's framing has none.
        """
        pack = getattr(self.framing, "pack_command", None)
        if pack is None:
            raise TransportError(f"{self.framing.name} has no out-of-band commands")
        self._write(pack(command, payload))

    def take_command(self) -> PlatformCommand | None:
        """The oldest out-of-band command that came and was not taken."""
        return self._commands.pop(0) if self._commands else None

    # -- inside ---------------------------------------------------------------------------------

    def _make_endpoint(self, role: Role) -> None:
        profile = self._profile
        if role is not self.info.role or profile is not self.info.record_profile:
            self.info = self.info._replace(role=role, record_profile=profile)
        self.endpoint = self._factory(self.info)
        if self._records_of is Records.AUTO and role is Role.REQUESTER:
            # Those of TCP first; opening a session shows whether they are the right ones.
            self.endpoint.connection.record_alternatives = (records.MCTP,)

    @property
    def _profile(self) -> records.RecordProfile:
        if self._records_of is Records.MCTP:
            return records.MCTP
        return self.framing.record_profile

    def _show_profile(self) -> None:
        """Tell the endpoint whose records to expect, once the dialect is shown."""
        if self.endpoint is not None:
            self.endpoint.connection.record_profile = self._profile

    def _deliver(self, frame: Frame, now: float) -> None:
        self.frames += 1
        if self._shown is None:
            self._learn()
        endpoint = self.endpoint
        if endpoint is not None:
            endpoint.receive(frame, now)
            if endpoint.close_wanted:
                self._collect(now)

    def _learn(self) -> None:
        """Make the endpoint if the first frame tells our role, and tell what dialect it shows."""
        if self.endpoint is None:
            self._make_endpoint(self.framing.role or Role.RESPONDER)
        self._shown = self.framing.dialect
        if self._shown is not None:
            self._show_profile()
            if self._on_dialect is not None:
                self._on_dialect(self._shown)

    def _collect(self, now: float) -> None:
        """Pack what the endpoint wants sent, before anything later can close the connection."""
        endpoint = self.endpoint
        if endpoint is None or self.redial is not None:
            return
        if not self._open:
            self._open = self._open_for_frames()
            if not self._open:
                return
        frames = endpoint.outgoing()
        if frames:
            self._pack(frames, now)
        if endpoint.close_wanted:
            self._close(None)

    def _pack(self, frames: list[Frame], now: float) -> None:
        for frame in frames:
            if self.closing:
                return
            try:
                self._output.append(self.framing.pack(frame))
            except TransportError as error:
                self._close(error)
                return
            if self.frames == 0 and self._asked is None and self.framing.role is Role.REQUESTER:
                self._asked, self._asked_at = frame, now

    def _write(self, data: bytes) -> None:
        if data:
            self._output.append(data)

    def _command(self, event: PlatformCommand) -> None:
        if self.framing.role is Role.REQUESTER:
            self._commands.append(event)
        elif self._on_command is not None and self.endpoint is not None:
            self._on_command(self.endpoint, event)

    def _open_for_frames(self) -> bool:
        return self.framing.role is Role.RESPONDER or self.framing.ready

    @property
    def _unanswered_guess(self) -> bool:
        """Our first request is out in a guessed dialect, and the peer has not shown its own."""
        guessing = self.framing.role is Role.REQUESTER and self.framing.name == "tcp"
        return guessing and self._asked is not None and self.framing.dialect is None

    def _framing_ended(self, now: float) -> bool:
        """Let the framing see the time; True when that ended the connection."""
        due = self.framing.next_deadline()
        if due is not None and now >= due:
            self.framing.on_time(now)
            self.process(now)
        return self.closing

    def _extended(self, deadline: float) -> float:
        return self._renewed if deadline == self._stale else deadline

    def _failed(self, error: SpdmError, *, doubtful: bool) -> None:
        """The connection failed; where that is doubtful, a wrong guess may be all it was."""
        if doubtful and self._unanswered_guess:
            self.guess_failed = True
            if self._may_redial:
                self.redial = self.guess.other
                return
            if self._stale is not None:
                error = TransportError(f"{error} (in both dialects)", hint=error.hint)
        self._close(error)

    def _close(self, error: SpdmError | None) -> None:
        if self.closing:
            return
        self.closing = True
        self.redial = None
        self.error = error
        if self.endpoint is None:
            return
        if isinstance(error, TransportError):
            lost = error
        elif error is None:
            lost = TransportError("the connection was closed")
        else:
            lost = TransportError(str(error), hint=error.hint)
        self.endpoint.connection_lost(lost)


def _is_too_large(error: SpdmError) -> bool:
    return isinstance(error, PeerError) and error.frame and error.code == MessageType.TOO_LARGE
