"""Real devices and real verifiers for the proxy's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from spdmkit.attestation.collect import Collected, Wanted, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.cli.connecting import pre_shared_key, requester_factory
from spdmkit.device.folder import FolderDevice
from spdmkit.device.responders import responder_factory
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    end_session,
    heartbeat,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports.conduit import EndpointFactory

__all__ = ["attesting", "by_psk", "device_factory", "trust_in", "verifier_factory"]


def device_factory(folder: Path) -> EndpointFactory:
    return responder_factory(FolderDevice.load(folder), lambda _info: None, log_keys=False)


def verifier_factory(*, psk: bool = False) -> EndpointFactory:
    return requester_factory(requester_settings(sessions=not psk, psk=psk))


def trust_in(folder: Path) -> DeviceTrust:
    anchors = TrustAnchors.from_files([folder / "trust-anchor.pem"], Purpose.DEVICE)
    return DeviceTrust(int(time.time()), anchors)


def attesting(
    link: Link,
    trust: DeviceTrust,
    *,
    session: bool,
    then: Callable[[Link], Exchange[None]] | None = None,
) -> Exchange[Collected]:
    """Attest, in a session or not, and do some more in it."""
    wanted = Wanted(session=session, target="proxy", transport="tcp", now=int(time.time()))
    collected = yield from collect(link, trust, wanted, keep_session=session)
    if collected.session is not None:
        if then is not None:
            yield from then(collected.session.link)
        yield from end_session(collected.session.link)
    return collected


def everything(link: Link) -> Exchange[None]:
    """What a session is good for besides measurements."""
    yield from heartbeat(link)
    yield from key_update(link)
    yield from heartbeat(link)
    yield from key_update(link, all_keys=True)
    yield from heartbeat(link)


def by_psk(link: Link, folder: Path) -> Exchange[None]:
    """A session by pre-shared key, and what it is good for."""
    yield from negotiate(link)
    opened = yield from psk_exchange(link, pre_shared_key(folder / "psk.toml"))
    yield from everything(opened.link)
    yield from end_session(opened.link)
