"""The requests of DSP0287 clause 7, as exchanges; `catalogue` says where each is valid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from spdmkit.errors import DecodeError, ProtocolViolation
from spdmkit.messages import V12, Registry, VendorDefinedRequest, VendorDefinedResponse
from spdmkit.messages.dsp0287 import (
    GetServiceRequest,
    ServicePayload,
    ServiceRequest,
    ServiceState,
    SetPolicy,
    SetReference,
    SubId,
    VerificationResults,
    is_service,
)
from spdmkit.messages.opaque import GeneralOpaqueData, OpaqueElement
from spdmkit.protocol.session import SessionKind
from spdmkit.services.catalogue import refusal

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.wire import Struct

__all__ = [
    "MAX_GIVEN",
    "get_service_request",
    "is_mutual",
    "send_verification_results",
    "set_policy",
    "set_reference",
]

MAX_GIVEN = 0xFFFF
"""Most bytes of Reference or Policy: their lengths have 16 bits (DSP0287 tables 17 and 18)."""


def is_mutual(link: Link) -> bool:
    """Whether we proved in the link's session who we are: what DSP0287 calls mutually
    authenticated, by KEY_EXCHANGE with mutual authentication or by PSK_EXCHANGE (7.2)."""  # noqa: D205, D209 - one sentence
    session = link.session
    if session is None or not session.established:
        return False
    return session.kind is SessionKind.PSK or bool(session.mutual)


def get_service_request(
    link: Link, services: Iterable[int], state: ServiceState = ServiceState.NEXT
) -> Exchange[ServiceRequest]:
    """GET_SERVICE_REQUEST: ask a device what it wants (7.1).

    Args:
        link: the way to it, in a session or outside.
        services: the DMTF services we provide.
        state: what became of its last request.

    Raises:
        PeerError: it supports no services (UnsupportedRequest), or refused.
        SpdmError: as `Link.ask`.
    """
    content = GetServiceRequest.of({int(each) for each in services}, state)
    answer = yield from _ask(link, SubId.GET_SERVICE_REQUEST, content)
    if not isinstance(answer, ServiceRequest):
        raise ProtocolViolation("SERVICE_REQUEST is empty")
    return answer


def send_verification_results(link: Link, results: bytes) -> Exchange[None]:
    """VERIFICATION_RESULTS: tell a device how its measurements compare (7.2).

    Args:
        link: a mutually authenticated session.
        results: 128 bytes, four bits for each index (`attestation.results.dsp0287`).

    Raises:
        ProtocolViolation: the link is no such session.
        SpdmError: as `Link.ask`.
    """
    yield from _ask(link, SubId.VERIFICATION_RESULTS, VerificationResults(results=results))


def set_reference(
    link: Link, elements: Sequence[OpaqueElement], *, guaranteed: bool
) -> Exchange[None]:
    """SET_REFERENCE: give a device reference values (7.3).

    Args:
        link: a mutually authenticated session, or any link for values that guarantee themselves.
        elements: the values, possibly in several versions.
        guaranteed: every element guarantees its integrity, authenticity and freshness.

    Raises:
        ProtocolViolation: not valid here, SPDM before 1.2, or more than fits.
        SpdmError: as `Link.ask`.
    """
    opaque = _opaque(link, elements)
    content = SetReference(reference=opaque)
    yield from _ask(link, SubId.SET_REFERENCE, content, guaranteed=guaranteed)


def set_policy(
    link: Link, elements: Sequence[OpaqueElement], *, guaranteed: bool
) -> Exchange[None]:
    """SET_POLICY: give a device a verification policy (7.4); arguments as `set_reference`.

    Raises:
        ProtocolViolation, SpdmError: as `set_reference`.
    """
    opaque = _opaque(link, elements)
    yield from _ask(link, SubId.SET_POLICY, SetPolicy(policy=opaque), guaranteed=guaranteed)


def _opaque(link: Link, elements: Sequence[OpaqueElement]) -> bytes:
    connection = link.connection
    if connection.version < V12:
        raise ProtocolViolation("SET_REFERENCE and SET_POLICY need SPDM 1.2 (DSP0287 7.3, 7.4)")
    opaque = GeneralOpaqueData(elements=list(elements)).encode(connection.context)
    if len(opaque) > MAX_GIVEN:
        raise ProtocolViolation(f"{len(opaque)} bytes, of which {MAX_GIVEN} fit one message")
    return opaque


def _ask(
    link: Link, sub_id: SubId, content: Struct, *, guaranteed: bool = False
) -> Exchange[Struct | None]:
    """One service request and what its response holds; None for an acknowledgement."""
    refused = refusal(
        sub_id, session=link.session is not None, mutual=is_mutual(link), guaranteed=guaranteed
    )
    if refused is not None:
        raise ProtocolViolation(f"{refused.reason} is prohibited (DSP0287 table 9)")
    context = link.connection.context
    payload = ServicePayload.of(sub_id, content, context).encode(context)
    request = VendorDefinedRequest(standard_id=Registry.DMTF, payload=payload)
    response = (yield from link.ask(request, VendorDefinedResponse)).message
    if not is_service(response.standard_id, response.vendor_id, response.payload):
        raise ProtocolViolation(f"{sub_id.name} was answered by somebody else's response")
    answer = ServicePayload.decode(response.payload, context)
    if answer.sub_id != sub_id.response:
        raise ProtocolViolation(f"{sub_id.name} was answered by SubResponseID {answer.sub_id:#04x}")
    try:
        return answer.content(context)
    except DecodeError as error:
        raise ProtocolViolation(f"{sub_id.response.name}: {error}") from error
