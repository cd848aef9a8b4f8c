"""What is known of an open session, whoever drives its connection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from spdmkit.errors import AuthenticationError, SpdmError
from spdmkit.sessions.terms import SessionOver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spdmkit.protocol.requester.sessions import OpenedSession
    from spdmkit.protocol.session import PeerProof

__all__ = ["SessionState"]


class SessionState:
    """The part of a session that needs no driver.

    Attributes:
        opened: the protocol's own view: link, state, what the device proved.
    """

    def __init__(self, opened: OpenedSession, endings: Mapping[int, str]) -> None:
        """Not for callers: use `open_session`.

        Args:
            opened: the protocol's own view.
            endings: why sessions of the connection ended, by session id.
        """
        self.opened = opened
        self._endings = endings
        self._closed = False

    @property
    def alive(self) -> bool:
        """Data can be sent and received."""
        return not self._closed and self.opened.session.alive

    @property
    def ended(self) -> str:
        """Why the session is over, in words; empty while it is not."""
        if self.alive:
            return ""
        return self._endings.get(self.opened.session.session_id, "it was closed")

    @property
    def peer(self) -> PeerProof:
        """What the device proved."""
        return self.opened.session.proof

    def _over(self) -> SessionOver:
        return SessionOver(f"the session is over: {self.ended}", hint="open another one")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """An exchange that fails because the session is over says that, and why it is."""
        try:
            yield
        except AuthenticationError:
            raise
        except SpdmError as error:
            if self.opened.session.alive:
                raise
            raise self._over() from error
