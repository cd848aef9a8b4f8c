"""From the options of `spdm attest`, or a target of its file, to an order."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spdmkit import __version__
from spdmkit.attestation.collect import Wanted
from spdmkit.attestation.evidence import PROVISIONED_KEY
from spdmkit.attestation.fleet import Order
from spdmkit.attestation.targets import Target, several
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.cli.appraise import parse_nonce
from spdmkit.cli.connecting import (
    algorithms_option,
    pre_shared_key,
    requester_factory,
    versions_option,
)
from spdmkit.cli.keys import VARIABLE
from spdmkit.cli.passphrase import passphrase_from
from spdmkit.errors import ConfigurationError
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports.uri import EndpointUri, parse_uri

if TYPE_CHECKING:
    from spdmkit.cli.judging import Judging
    from spdmkit.protocol.credentials import Credentials
    from spdmkit.transports.conduit import EndpointFactory

__all__ = ["Conversation", "Orders"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """How to talk to a device; the attributes are the options."""

    slot: int | None
    versions: str | None
    algorithms: str | None
    session: bool
    mutual: Path | None
    psk: Path | None
    raw: bool
    nonce: str | None

    @classmethod
    def of(cls, options: dict[str, Any]) -> Conversation:
        """The options of a command that are ours."""
        return cls(**{each.name: options[each.name] for each in fields(cls)})

    def for_target(self, target: Target) -> Conversation:
        """With what a target says of it."""
        said = {
            name: getattr(target, name)
            for name in ("slot", "versions", "algorithms", "session", "raw")
            if getattr(target, name) is not None
        }
        if target.mutual is not None:
            said["mutual"] = Path(target.mutual)
        if target.identity_source:
            said["psk"] = None if target.psk is None else Path(target.psk)
        return replace(self, **said)


def judging_for(judging: Judging, target: Target) -> Judging:
    """What a verdict goes by, with what a target says of it; each thing it says replaces ours."""
    said: dict[str, Any] = {}
    lists = {
        "anchors": target.trust_anchor,
        "references": target.reference,
        "reference_anchor": target.reference_anchor,
        "crls": target.crl,
        "ocsp": target.ocsp,
    }
    said |= {
        name: tuple(map(Path, several(value))) for name, value in lists.items() if value is not None
    }
    if target.identity_source:
        said["anchors"] = tuple(map(Path, several(target.trust_anchor)))
        said["public_key"] = None if target.public_key is None else Path(target.public_key)
    if target.expect_identity is not None:
        said["identities"] = several(target.expect_identity)
    if target.policy is not None:
        said["policy"] = Path(target.policy)
    for name in ("reference_store", "max_age"):
        if getattr(target, name) is not None:
            said[name] = getattr(target, name)
    return replace(judging, **said)


class Orders:
    """Makes orders; what several of them have in common is made once."""

    def __init__(self, passphrase_file: Path | None = None) -> None:
        """Make no order yet.

        Args:
            passphrase_file: with the passphrase of the folders of `--mutual`.
        """
        self._passphrase_file = passphrase_file
        self._verifiers: dict[Sources, Verifier] = {}
        self._factories: dict[tuple[object, ...], EndpointFactory] = {}
        self._credentials: dict[Path, Credentials] = {}

    def make(self, uri: str, judging: Judging, conversation: Conversation, name: str = "") -> Order:
        """An order for one device.

        Args:
            uri: its address.
            judging: what its verdict goes by.
            conversation: how to talk to it.
            name: what to call it; its address by default.

        Raises:
            ConfigurationError: an option or a file is wrong, or two contradict each other.
        """
        address = parse_uri(uri)
        by_key = judging.public_key is not None
        if conversation.slot is not None and (by_key or conversation.psk is not None):
            raise ConfigurationError("a slot holds certificates: not with --public-key or --psk")
        versions = versions_option(conversation.versions)
        sources = judging.sources(
            psk=conversation.psk is not None, minimum_version=min(versions) if versions else None
        )
        return Order(
            name or uri,
            address,
            self._verifier(sources),
            self._factory(conversation, versions),
            Wanted(
                slot=PROVISIONED_KEY if by_key else conversation.slot or 0,
                session=conversation.session or conversation.mutual is not None,
                raw=conversation.raw,
                nonce=None if conversation.nonce is None else parse_nonce(conversation.nonce),
                target=_target(address),
                transport=address.scheme,
                collector=f"spdmkit {__version__}",
            ),
            pre_shared_key(conversation.psk) if conversation.psk is not None else None,
            None if judging.moment is None else judging.now(),
        )

    def _verifier(self, sources: Sources) -> Verifier:
        if sources not in self._verifiers:
            self._verifiers[sources] = Verifier.from_files(sources)
        return self._verifiers[sources]

    def _factory(
        self, conversation: Conversation, versions: tuple[int, ...] | None
    ) -> EndpointFactory:
        psk, mutual = conversation.psk is not None, conversation.mutual
        sessions = conversation.session or mutual is not None
        key = (versions, conversation.algorithms, sessions, psk, mutual)
        if key not in self._factories:
            credentials = None if mutual is None else self._own(mutual)
            settings = requester_settings(
                versions=versions,
                algorithms=algorithms_option(conversation.algorithms),
                sessions=sessions,
                psk=psk,
                credentials=credentials,
            )
            self._factories[key] = requester_factory(settings, credentials=credentials)
        return self._factories[key]

    def _own(self, folder: Path) -> Credentials:
        from spdmkit.device.folder import FolderDevice

        if folder not in self._credentials:
            passphrase = passphrase_from(self._passphrase_file, VARIABLE)
            self._credentials[folder] = FolderDevice.load(folder, passphrase).credentials
        return self._credentials[folder]


def _target(address: EndpointUri) -> str:
    """The address without what says how to talk: the same device has the same one."""
    return f"{address.scheme}://{address.address}"
