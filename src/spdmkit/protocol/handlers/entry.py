"""A row of the tables that say which handler answers which request."""

from __future__ import annotations

from dataclasses import dataclass

from spdmkit.messages import Message
from spdmkit.protocol.handlers.call import Handler

__all__ = ["Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """How a request is answered.

    Attributes:
        message: its class.
        handler: what answers it.
        responder: flags of which the responder must have announced one; 0: none needed.
        requester: flags of which the requester must have announced one; 0: none needed.
    """

    message: type[Message]
    handler: Handler
    responder: int = 0
    requester: int = 0
