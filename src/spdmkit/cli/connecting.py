"""Connecting as a requester, with what the options of a command ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from spdmkit.errors import ConfigurationError
from spdmkit.messages import V10, V11, V12, V13, V14

if TYPE_CHECKING:
    from spdmkit.protocol.credentials import Credentials
    from spdmkit.protocol.events import EventSink
    from spdmkit.protocol.requester.sessions import PreSharedKey
    from spdmkit.protocol.settings import AlgorithmSet, Settings
    from spdmkit.transports.conduit import EndpointFactory

__all__ = ["algorithms_option", "requester_factory", "versions_option"]

_VERSIONS = {"1.0": V10, "1.1": V11, "1.2": V12, "1.3": V13, "1.4": V14}


def versions_option(text: str | None) -> tuple[int, ...] | None:
    """`--versions 1.2,1.3` as version bytes; None for the default, 1.2 and newer.

    Raises:
        ConfigurationError: not a version of SPDM.
    """
    if text is None:
        return None
    try:
        chosen = {_VERSIONS[each.strip()] for each in text.split(",")}
    except KeyError as error:
        raise ConfigurationError(
            f"there is no SPDM {error.args[0]}", hint="--versions 1.2,1.3,1.4"
        ) from None
    return tuple(sorted(chosen, reverse=True))


def algorithms_option(text: str | None) -> AlgorithmSet | None:
    """`--algorithms ecdsa-p384,sha-384`: allow only these where one of their kind is named.

    Raises:
        ConfigurationError: no algorithm has that name, or none of a kind is available.
    """
    from spdmkit.crypto import registry
    from spdmkit.protocol.settings import AlgorithmSet

    if text is None:
        return None
    tables = {
        "base_hash": registry.BASE_HASH,
        "base_asym": registry.BASE_ASYM,
        "pqc_asym": registry.PQC_ASYM,
        "dhe": registry.DHE,
        "kem": registry.KEM,
        "aead": registry.AEAD,
    }
    masks: dict[str, int] = {}
    for name in (each.strip() for each in text.split(",")):
        found = False
        for field, table in tables.items():
            for entry in table:
                if name.lower() in (entry.short, entry.name.lower()):
                    entry.require()
                    masks[field] = masks.get(field, 0) | entry.mask
                    found = True
        if not found:
            raise ConfigurationError(f"no algorithm is called {name!r}")
    for one, other in (("base_asym", "pqc_asym"), ("dhe", "kem")):
        if (one in masks) != (other in masks):
            masks.setdefault(one, 0)
            masks.setdefault(other, 0)
    return AlgorithmSet.available().narrowed(**masks)


def requester_factory(
    settings: Settings, *, credentials: Credentials | None = None
) -> EndpointFactory:
    """Makes requester endpoints; secrets go to SPDMKEYLOGFILE when that is set."""
    from spdmkit.transports import requesters

    events = key_log()
    return requesters.requester_factory(
        settings, credentials=credentials, events=events, log_keys=events is not None
    )


def key_log() -> EventSink | None:
    """A sink that writes secrets to the file SPDMKEYLOGFILE names; None when it names none."""
    from spdmkit.capture.keylog import KeyLog
    from spdmkit.protocol.events import KeyLogged, ProtocolEvent

    log = KeyLog.from_environment(os.environ)
    if log is None:
        return None

    def sink(event: ProtocolEvent) -> None:
        if isinstance(event, KeyLogged):
            log(event)

    return sink


def pre_shared_key(path: Path) -> PreSharedKey:
    """A pre-shared key from its file.

    Raises:
        ConfigurationError: others may read it, it is malformed, or too short.
    """
    from spdmkit.device.shared_keys import read_shared_key
    from spdmkit.protocol.requester.sessions import PreSharedKey

    shared = read_shared_key(path)
    return PreSharedKey(shared.hint, shared.key)
