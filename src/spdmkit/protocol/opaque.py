"""The opaque data of session messages: secured message versions and AEAD limits (DSP0277 8).

The layout is that of `messages.opaque`; here is what has to be said for a session to be opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import Context, SecuredMessageParameters
from spdmkit.messages.opaque import FMT1, UNLIMITED_EXPONENT

__all__ = [
    "SecuredMessageOffer",
    "choose_version",
    "read_offer",
    "read_selection",
    "write_offer",
    "write_selection",
]

MAX_LIMIT_EXPONENT = UNLIMITED_EXPONENT


@dataclass(frozen=True, slots=True)
class SecuredMessageOffer:
    """What one side said about secured messages.

    Attributes:
        versions: DSP0277 versions it supports, or the one it selected.
        limit_exponent: its AEAD limit is 2 to this many records.
    """

    versions: tuple[int, ...]
    limit_exponent: int = MAX_LIMIT_EXPONENT


def write_offer(spdm_version: int, versions: tuple[int, ...], limit_exponent: int) -> bytes:
    """Opaque data of KEY_EXCHANGE or PSK_EXCHANGE: every version, lowest first."""
    said = SecuredMessageParameters(tuple(sorted(versions)), aead_limit_exponent=limit_exponent)
    return said.encode(_context(spdm_version))


def write_selection(spdm_version: int, version: int, limit_exponent: int) -> bytes:
    """Opaque data of the response: the version chosen."""
    said = SecuredMessageParameters(selected=version, aead_limit_exponent=limit_exponent)
    return said.encode(_context(spdm_version))


def read_offer(spdm_version: int, opaque: bytes) -> SecuredMessageOffer:
    """What the requester supports.

    Raises:
        DecodeError: the layout is wrong.
        ProtocolViolation: it names no version.
    """
    said = SecuredMessageParameters.decode(opaque, _context(spdm_version))
    if not said.supported:
        raise ProtocolViolation("the opaque data offers no secured message version")
    return SecuredMessageOffer(said.supported, said.aead_limit_exponent)


def read_selection(spdm_version: int, opaque: bytes) -> SecuredMessageOffer:
    """What the responder chose.

    Raises:
        DecodeError: the layout is wrong.
        ProtocolViolation: it names no version.
    """
    said = SecuredMessageParameters.decode(opaque, _context(spdm_version))
    if said.selected is None:
        raise ProtocolViolation("the opaque data selects no secured message version")
    return SecuredMessageOffer((said.selected,), said.aead_limit_exponent)


def choose_version(offered: tuple[int, ...], own: tuple[int, ...]) -> int:
    """The highest version of DSP0277 that both sides have, by major and minor number.

    Raises:
        ProtocolViolation: none (InvalidRequest, DSP0277 8.1).
    """
    ours = {version >> 8: version for version in own}
    common = [version for version in offered if version >> 8 in ours and not version & 0xF]
    if not common:
        raise ProtocolViolation("no secured message version in common")
    return max(common)


def _context(spdm_version: int) -> Context:
    """Sessions use the general format from 1.2 on, and the table of 1.1 before."""
    return Context(version=spdm_version, opaque_format=FMT1)
