"""Finding out whose records the far end has: a session that is opened twice (records=auto)."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.errors import AuthenticationError, DeadlineExceeded, PeerError, SpdmError
from spdmkit.messages import V13, ResponderFlags
from spdmkit.protocol import exchanges
from spdmkit.protocol.frames import Frame
from spdmkit.protocol.records import MCTP, TCP_STRICT
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, key_exchange, psk_exchange

from .support import EVERYTHING, PSK, PSK_HINT, MemoryDevice, Pair
from .test_attestation_flow import verified

F = ResponderFlags


def guessing(theirs: Any = MCTP, *, capabilities: int = int(EVERYTHING)) -> Pair:
    """We try the records of TCP first; the far end has `theirs`."""
    pair = Pair(
        MemoryDevice("ecdsa-p256"), versions=(V13,), responder={"capabilities": capabilities}
    )
    pair.proven = verified(pair)
    pair.requester.connection.record_alternatives = (MCTP,)
    pair.responder.connection.record_profile = theirs
    return pair


def by_psk(pair: Pair) -> Any:
    return pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK)))


@pytest.mark.parametrize("heartbeats", [True, False])
def test_the_first_guess_holds(heartbeats: bool) -> None:
    flags = EVERYTHING if heartbeats else EVERYTHING & ~F.HBEAT_CAP
    pair = guessing(TCP_STRICT, capabilities=int(flags))
    opened = by_psk(pair)
    assert opened.session.sender.profile.name == "tcp"
    assert pair.requester.connection.record_alternatives == ()
    assert pair.run(opened.link.converse(b"x")).data == b"x"


def test_by_key_exchange_it_is_the_other_guess() -> None:
    pair = guessing()
    opened = pair.run(key_exchange(pair.link, pair.proven))
    assert opened.session.sender.profile.name == "mctp"
    assert pair.requester.connection.record_profile is MCTP
    assert pair.run(opened.link.converse(b"x", 0x7E)).data == b"x"
    assert len(pair.responder.connection.sessions) == 1


def test_no_guess_holds() -> None:
    pair = guessing()
    pair.requester.connection.record_alternatives = (TCP_STRICT,)
    with pytest.raises(SpdmError):
        by_psk(pair)
    assert not pair.requester.connection.sessions


def test_a_refusal_that_has_another_reason_is_no_reason_to_try_again() -> None:
    pair = guessing()
    pair.device.psks.clear()
    with pytest.raises(AuthenticationError):
        by_psk(pair)
    assert pair.requester.connection.record_alternatives == (MCTP,)


def test_silence_says_what_may_help() -> None:
    pair = guessing()
    silent = False

    def bend(who: str, frame: Frame) -> Frame | None:
        nonlocal silent
        silent = silent or (who == "requester" and frame.kind.name == "SECURED")
        return None if silent else frame

    pair.bend = bend
    with pytest.raises(DeadlineExceeded) as caught:
        by_psk(pair)
    assert "records=mctp" in caught.value.hint


def test_the_second_negotiation_must_be_the_first() -> None:
    """Otherwise what was proven before would not cover what is used now."""
    pair = guessing()
    pair.responder.connection.settings = _weaker(pair)
    with pytest.raises((AuthenticationError, PeerError)):
        pair.run(key_exchange(pair.link, pair.proven))


def _weaker(pair: Pair) -> Any:
    from dataclasses import replace

    settings = pair.responder.connection.settings
    algorithms = settings.algorithms.with_masks(base_hash=1)
    return replace(settings, algorithms=algorithms)


def test_exchanges_in_one_place() -> None:
    for name in exchanges.__all__:
        assert getattr(exchanges, name) is not None
    assert exchanges.negotiate is negotiate
