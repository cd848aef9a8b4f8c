"""What keeps a session alive while its application has nothing to say (DSP0274 10.21).

Over TCP a responder cannot tell that it wants something, so that a requester that cares asks now
and then (10.22). Asking is traffic, and does for a heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.messages import RequesterFlags
from spdmkit.protocol.credentials import Credentials
from spdmkit.protocol.requester.encapsulated import serve_encapsulated
from spdmkit.protocol.requester.sessions import heartbeat

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.session import Session
    from spdmkit.protocol.settings import Settings

__all__ = ["keep_alive", "poll", "upkeep_due"]

_EARLY = 0.8
"""Part of the heartbeat period after which a silent session is heard of again: ours and the peer's
clock and the way between them must fit into the rest."""


def upkeep_due(session: Session, settings: Settings) -> float:
    """When a session needs a heartbeat or a poll, monotonic seconds."""
    if not session.established:
        return float("inf")
    due = float("inf")
    if session.heartbeat_period:
        due = session.last_traffic + _EARLY * session.heartbeat_period
    if settings.poll_interval and session.polls:
        due = min(due, _poll_due(session, settings))
    return due


def _poll_due(session: Session, settings: Settings) -> float:
    """After every exchange, for then the peer may have something new to ask, and now and then."""
    if session.last_traffic > session.last_poll:
        return session.last_traffic
    return session.last_poll + settings.poll_interval


def keep_alive(link: Link) -> Exchange[None]:
    """A poll where one is due, else a heartbeat."""
    session, settings = link.session, link.connection.settings
    if session is None or not session.established:
        return
    polls = settings.poll_interval and session.polls
    if polls and link.connection.clock() >= _poll_due(session, settings):
        yield from poll(link)
    else:
        yield from heartbeat(link)


def poll(link: Link) -> Exchange[bool]:
    """Ask for the responder's own requests and answer them; False when it had none."""
    connection, session = link.connection, link.session
    if not connection.flag(RequesterFlags.ENCAP_CAP, both=True):
        return False
    served = yield from serve_encapsulated(link, connection.credentials or Credentials())
    if session is not None:
        session.last_poll = connection.clock()
    return served
