"""Who may change a device: patterns of `device.toml` against what a requester proved."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import ErrorCode
from spdmkit.protocol.responder.device import Peer

__all__ = ["describe", "permitted", "require"]


def describe(peer: Peer) -> str:
    """A requester as patterns name it: "certificate:CN=Verifier", "psk:rack 12"."""
    if not peer.authenticated:
        return "nobody in particular"
    return f"{peer.identity_kind}:{peer.identity}"


def permitted(peer: Peer, patterns: Iterable[str]) -> bool:
    """Whether a requester that proved who it is, in this session, is one of those named.

    The kind of proof is part of the pattern: a pre-shared key whose hint reads like the subject of
    a certificate is not that certificate.
    """
    if not peer.authenticated or peer.session_id is None:
        return False
    kind, name = peer.identity_kind, peer.identity
    for pattern in patterns:
        wanted, _, text = pattern.partition(":")
        if wanted == kind and fnmatch.fnmatchcase(name, text):
            return True
    return False


def require(peer: Peer, patterns: Iterable[str], what: str, *, trusted_environment: bool) -> None:
    """Refuse whoever is not permitted.

    Raises:
        ProtocolViolation: SessionRequired in the clear, else Unspecified: the specification has no
            code that says "not you".
    """
    if trusted_environment or permitted(peer, patterns):
        return
    if peer.session_id is None:
        raise ProtocolViolation(f"{what} outside a session", error_code=ErrorCode.SESSION_REQUIRED)
    raise ProtocolViolation(
        f"{what} by {describe(peer)}, which is not permitted", error_code=ErrorCode.UNSPECIFIED
    )
