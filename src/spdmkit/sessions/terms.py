"""On what terms a session is opened: whom to believe, who we are, what is negotiated."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spdmkit.attestation.collect import authenticate
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.errors import AuthenticationError, ConfigurationError, TransportError
from spdmkit.identity import (
    IdentityExpectation,
    Purpose,
    TrustAnchors,
    TrustedPublicKey,
    VerifiedChain,
)
from spdmkit.messages import RequesterFlags
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import PROVISIONED_KEY_SLOT
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import key_exchange, key_update, psk_exchange
from spdmkit.protocol.settings import Settings
from spdmkit.protocol.states import Phase
from spdmkit.transports.requesters import requester_factory

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.credentials import Credentials
    from spdmkit.protocol.events import EventSink, ProtocolEvent
    from spdmkit.protocol.proofs import ProvenKey
    from spdmkit.protocol.requester.sessions import OpenedSession, PreSharedKey
    from spdmkit.transports.conduit import EndpointFactory

__all__ = ["SessionOver", "Terms", "establish", "refresh"]


class SessionOver(TransportError):
    """The session ended, and why; its keys are gone. The connection may still stand."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a session is opened on. Give `trust` or `psk`, one of them.

    Attributes:
        trust: whose certificates are believed, or the one key that is.
        psk: a key that the device has too; it names itself and proves both sides.
        credentials: our own identity, for devices that want to know who asks.
        slot: the device's certificate slot; with a public key it is 0xFF whatever stands here.
        identities: identities, one of which the device must have (`IdentityExpectation`).
        settings: what to negotiate; None takes what the terms call for.
        termination_policy: SessionPolicy bit 0 (1.2): the device decides whether a change of what
            it measures ends the session.
        poll_interval: seconds after which an idle session asks what the device wants; 0 never.
        secrets: told of the session's secrets, for a key log.
    """

    trust: DeviceTrust | None = None
    psk: PreSharedKey | None = field(default=None, repr=False)
    credentials: Credentials | None = None
    slot: int = 0
    identities: tuple[str, ...] = ()
    settings: Settings | None = None
    termination_policy: bool = False
    poll_interval: float = 0.0
    secrets: EventSink | None = None

    @classmethod
    def trusting(
        cls,
        *anchors: str | Path,
        public_key: str | Path | None = None,
        credentials: Credentials | None = None,
    ) -> Terms:
        """Terms that believe devices below these roots, or one that has this public key.

        Args:
            anchors: files with root certificates.
            public_key: file with a public key, instead.
            credentials: our own identity.

        Raises:
            ConfigurationError: neither or both are given, or a file is wrong.
        """
        if bool(anchors) == (public_key is not None):
            raise ConfigurationError("give trust anchors or a public key, one of them")
        trust = DeviceTrust(
            int(time.time()),
            TrustAnchors.from_files(anchors, Purpose.DEVICE) if anchors else None,
            None if public_key is None else TrustedPublicKey.from_file(public_key),
        )
        return cls(trust, credentials=credentials)

    def __post_init__(self) -> None:
        """Refuse terms that say two things.

        Raises:
            ConfigurationError: `trust` and `psk` are both given, or neither.
        """
        if (self.trust is None) == (self.psk is None):
            raise ConfigurationError("a session needs trust or a pre-shared key, one of them")

    def factory(self, events: EventSink | None = None) -> EndpointFactory:
        """Makes our endpoints.

        Args:
            events: told of what happens to sessions.
        """
        settings = replace(self.settings or self._settings(), poll_interval=self.poll_interval)
        secrets = self.secrets

        def tell(event: ProtocolEvent) -> None:
            for sink in (secrets, events):
                if sink is not None:
                    sink(event)

        return requester_factory(
            settings, credentials=self.credentials, events=tell, log_keys=secrets is not None
        )

    def _settings(self) -> Settings:
        credentials = self.credentials
        by_key = credentials is not None and credentials.provisioned_key is not None
        return Settings(
            capabilities=requester_capabilities(
                sessions=self.psk is None,
                psk=self.psk is not None,
                mutual=credentials is not None and not by_key,
                provisioned_key=by_key,
            )
        )


def establish(link: Link, terms: Terms) -> Exchange[OpenedSession]:
    """Negotiate where that is still to be done, and open a session.

    Args:
        link: the connection, outside of any session.
        terms: on what terms.

    Raises:
        AuthenticationError: the device is not who it must be; the step says in which regard.
        ConfigurationError: the terms and the device's capabilities do not go together.
        SpdmError: as `Link.ask`.
    """
    if link.connection.phase is not Phase.NEGOTIATED:
        yield from negotiate(link)
    if terms.psk is not None:
        return (
            yield from psk_exchange(link, terms.psk, termination_policy=terms.termination_policy)
        )
    trust = terms.trust
    if trust is None:
        raise ConfigurationError("a session needs trust or a pre-shared key")
    slot = terms.slot if trust.public_key is None else PROVISIONED_KEY_SLOT
    _, key = yield from authenticate(link, trust, slot)
    _check_identity(key, terms.identities)
    return (
        yield from key_exchange(
            link, key, slot_id=slot, termination_policy=terms.termination_policy
        )
    )


def _check_identity(key: ProvenKey, expected: tuple[str, ...]) -> None:
    if not expected:
        return
    found = f"spki-sha256:{key.public_key.spki_sha256().hex()}"
    for text in expected:
        wanted = IdentityExpectation.parse(text)
        if wanted.kind == "spki-sha256":
            good = f"spki-sha256:{wanted.value}" == found
        else:
            good = isinstance(key, VerifiedChain) and wanted.matches(key.identity)
        if good:
            return
    raise AuthenticationError("identity", f"{found} answered, expected was {' or '.join(expected)}")


def refresh(opened: OpenedSession) -> Exchange[None]:
    """Update all keys when they have protected nearly as many records as they may."""
    session, link = opened.session, opened.link
    able = link.connection.flag(RequesterFlags.KEY_UPD_CAP, both=True)
    if able and session.update_due:
        yield from key_update(link, all_keys=True)
