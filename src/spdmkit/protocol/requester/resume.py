"""Opening a session without negotiating again, where both sides remember (CACHE_CAP).

Needs `Settings.cache_negotiated_state` and a responder that announced CACHE_CAP. A responder that
does not remember answers RequestResynch, and everything starts from GET_VERSION as usual. A
responder of ours takes this from holders of a pre-shared key only: nobody else can be told apart
before the session stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spdmkit.errors import AuthenticationError, PeerError
from spdmkit.messages import ErrorCode, MeasurementSummaryHashType, ResponderFlags
from spdmkit.protocol.cache import psk_identity
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import key_exchange, psk_exchange

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.cache import NegotiatedStates
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.protocol.requester.sessions import OpenedSession, PreSharedKey

__all__ = ["resume_by_key", "resume_by_psk"]

NONE = MeasurementSummaryHashType.NONE


def resume_by_psk(
    link: Link,
    psk: PreSharedKey,
    states: NegotiatedStates,
    *,
    summary: int = NONE,
    termination_policy: bool = False,
    event_all_policy: bool = False,
) -> Exchange[OpenedSession]:
    """`psk_exchange`, with what was negotiated for the last session with this key if possible.

    Args:
        link: the way to the responder, on which nothing was said yet.
        psk: the key; its hint is the identity that states are remembered by.
        states: what is remembered, shared by connections.
        summary: as `psk_exchange`.
        termination_policy: as `psk_exchange`.
        event_all_policy: as `psk_exchange`.

    Raises:
        AuthenticationError: the responder does not hold the key, or remembers something else.
        SpdmError: as `negotiate` and `psk_exchange`.
    """
    return (
        yield from _resumed(
            link,
            psk_identity(psk.hint),
            states,
            lambda: psk_exchange(
                link,
                psk,
                summary=summary,
                termination_policy=termination_policy,
                event_all_policy=event_all_policy,
            ),
        )
    )


def resume_by_key(
    link: Link,
    key: ProvenKey,
    states: NegotiatedStates,
    *,
    slot_id: int = 0,
    summary: int = NONE,
    termination_policy: bool = False,
    event_all_policy: bool = False,
) -> Exchange[OpenedSession]:
    """`key_exchange` with a device that was verified before, without negotiating when it remembers.

    Args:
        link: the way to the responder, on which nothing was said yet.
        key: the chain that was verified in an earlier connection, or a provisioned key; its public
            key is the identity that states are remembered by.
        states: what is remembered, shared by connections.
        slot_id: as `key_exchange`.
        summary: as `key_exchange`.
        termination_policy: as `key_exchange`.
        event_all_policy: as `key_exchange`.

    Raises:
        AuthenticationError: the responder does not hold the key, or remembers something else.
        SpdmError: as `negotiate` and `key_exchange`.
    """
    return (
        yield from _resumed(
            link,
            f"spki-sha256:{key.public_key.spki_sha256().hex()}",
            states,
            lambda: key_exchange(
                link,
                key,
                slot_id=slot_id,
                summary=summary,
                termination_policy=termination_policy,
                event_all_policy=event_all_policy,
            ),
        )
    )


def _resumed(
    link: Link,
    identity: str,
    states: NegotiatedStates,
    opener: Callable[[], Exchange[OpenedSession]],
) -> Exchange[OpenedSession]:
    connection = link.connection
    wanted = connection.settings.cache_negotiated_state
    state = states.recall(identity) if wanted else None
    if state is not None and state.version in connection.settings.versions:
        connection.restore(state)
        try:
            return (yield from opener())
        except PeerError as error:
            states.forget(identity)
            if error.code != ErrorCode.REQUEST_RESYNCH:
                raise
        except AuthenticationError:
            states.forget(identity)
            raise
    yield from negotiate(link)
    opened = yield from opener()
    if wanted and connection.peer.flags & ResponderFlags.CACHE_CAP:
        states.remember(identity, connection.snapshot())
    return opened
