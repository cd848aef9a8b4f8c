"""What services there are, and where their messages are valid (DSP0287 tables 9 and 15)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spdmkit.errors import ConfigurationError
from spdmkit.messages import ErrorCode
from spdmkit.messages.dsp0287 import ServiceId, SubId

__all__ = [
    "SERVICES",
    "VALIDITY",
    "MutualSession",
    "Refused",
    "Service",
    "Validity",
    "refusal",
    "service_named",
    "services_named",
]


class MutualSession(enum.Enum):
    """Whether a service needs a session in which the requester proved who it is."""

    NO = "not needed"
    YES = "needed"
    UNLESS_GUARANTEED = "needed unless the data guarantees itself"


@dataclass(frozen=True, slots=True)
class Service:
    """A row of table 15.

    Attributes:
        service_id: its number.
        word: what commands call it.
        session: what session it needs.
        sentence: what the requester does.
    """

    service_id: ServiceId
    word: str
    session: MutualSession
    sentence: str


SERVICES: Final[dict[ServiceId, Service]] = {
    row.service_id: row
    for row in (
        Service(
            ServiceId.ANY_REQUEST,
            "any",
            MutualSession.NO,
            "does what was agreed out of band, and may wait for events",
        ),
        Service(ServiceId.SESSION_ONLY, "session", MutualSession.NO, "sets up a session"),
        Service(
            ServiceId.PROVISION_CERTIFICATE,
            "certificate",
            MutualSession.NO,
            "has a certificate issued and puts it into a slot",
        ),
        Service(
            ServiceId.VERIFY_MEASUREMENTS,
            "verify",
            MutualSession.YES,
            "verifies the measurements and tells the results",
        ),
        Service(
            ServiceId.GET_MEASUREMENTS, "measurements", MutualSession.NO, "reads the measurements"
        ),
        Service(ServiceId.GET_MEL, "mel", MutualSession.NO, "reads the measurement extension log"),
        Service(
            ServiceId.PROVISION_REFERENCE_MEASUREMENTS,
            "reference",
            MutualSession.UNLESS_GUARANTEED,
            "gives reference values",
        ),
        Service(
            ServiceId.PROVISION_VERIFICATION_POLICY,
            "policy",
            MutualSession.UNLESS_GUARANTEED,
            "gives a verification policy",
        ),
    )
}

_BY_WORD: Final = {row.word: row.service_id for row in SERVICES.values()}


def service_named(word: str) -> ServiceId:
    """The service that a command calls so.

    Raises:
        ConfigurationError: none is.
    """
    try:
        return _BY_WORD[word.strip().lower()]
    except KeyError:
        raise ConfigurationError(
            f"no service is called {word!r}", hint=f"known: {', '.join(_BY_WORD)}"
        ) from None


def services_named(words: Iterable[str]) -> frozenset[ServiceId]:
    """The services of a list like "verify,measurements".

    Raises:
        ConfigurationError: a word names none.
    """
    return frozenset(service_named(word) for text in words for word in text.split(","))


# --- validity ------------------------------------------------------------------------------------


class Validity(enum.Enum):
    """An entry of table 9."""

    ALLOWED = "allowed"
    PROHIBITED = "prohibited"
    MUTUAL = "allowed, mutual authentication required"
    GUARANTEED = "allowed only if the data guarantees integrity, authenticity and freshness"
    MUTUAL_OR_GUARANTEED = "allowed; mutual authentication required unless the data guarantees them"


VALIDITY: Final[dict[SubId, tuple[Validity, Validity]]] = {
    SubId.GET_SERVICE_REQUEST: (Validity.ALLOWED, Validity.ALLOWED),
    SubId.VERIFICATION_RESULTS: (Validity.PROHIBITED, Validity.MUTUAL),
    SubId.SET_REFERENCE: (Validity.GUARANTEED, Validity.MUTUAL_OR_GUARANTEED),
    SubId.SET_POLICY: (Validity.GUARANTEED, Validity.MUTUAL_OR_GUARANTEED),
}
"""Request -> its validity outside a session, and in the application phase of one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a message is not valid where it is.

    Attributes:
        reason: in words.
        error: the ERROR that a responder answers with; the specification has no code for "you have
            to prove who you are".
    """

    reason: str
    error: ErrorCode


def refusal(sub_id: SubId, *, session: bool, mutual: bool, guaranteed: bool) -> Refused | None:
    """Whether table 9 forbids a request; None when it does not.

    Args:
        sub_id: the request.
        session: it travels in the application phase of a session.
        mutual: the requester proved in that session who it is: by mutual authentication of
            KEY_EXCHANGE, or by a pre-shared key.
        guaranteed: the data itself guarantees its integrity, authenticity and freshness.
    """
    outside, inside = VALIDITY[sub_id]
    validity = inside if session else outside
    name = sub_id.name
    if validity is Validity.ALLOWED:
        return None
    if not session:
        if validity is Validity.GUARANTEED and guaranteed:
            return None
        return Refused(f"{name} outside a session", ErrorCode.SESSION_REQUIRED)
    if mutual or (validity is Validity.MUTUAL_OR_GUARANTEED and guaranteed):
        return None
    return Refused(f"{name} in a session without mutual authentication", ErrorCode.UNSPECIFIED)
