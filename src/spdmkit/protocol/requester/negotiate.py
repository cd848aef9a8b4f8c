"""GET_VERSION, GET_CAPABILITIES, NEGOTIATE_ALGORITHMS as a requester (DSP0274 10.2 to 10.4)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from spdmkit.crypto import registry
from spdmkit.errors import AuthenticationError, ProtocolViolation
from spdmkit.messages import (
    V11,
    V12,
    V13,
    Algorithms,
    Capabilities,
    Context,
    GetCapabilities,
    GetVersion,
    NegotiateAlgorithms,
    RequesterFlags,
    ResponderFlags,
    Version,
    invalid_capabilities,
)
from spdmkit.protocol.algorithms import for_version, read_choice, signable, write_offer
from spdmkit.protocol.capabilities import requester_flags
from spdmkit.protocol.connection import Announced
from spdmkit.protocol.negotiation import Chosen, verify_choice
from spdmkit.protocol.settings import MIN_DATA_TRANSFER_SIZE, AlgorithmSet
from spdmkit.protocol.states import Phase

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.link import Link

__all__ = ["get_capabilities", "get_version", "negotiate", "negotiate_algorithms"]


_CHUNK_CAP = int(RequesterFlags.CHUNK_CAP)
_OWN_MULTI_KEY = int(RequesterFlags.MULTI_KEY_CAP_MASK)
_PEER_MULTI_KEY = int(ResponderFlags.MULTI_KEY_CAP_MASK)
"""Numbers: the operators of flag classes take twenty times as long."""


def negotiate(link: Link) -> Exchange[Connection]:
    """Bring a connection from nothing to negotiated algorithms.

    Returns:
        The connection; its `version`, `peer` and `selection` are set.

    Raises:
        AuthenticationError: step "negotiation": nothing in common, or a choice that is not ours.
        SpdmError: as `Link.ask`.
    """
    yield from get_version(link)
    yield from get_capabilities(link)
    yield from negotiate_algorithms(link)
    return link.connection


def get_version(link: Link) -> Exchange[int]:
    """GET_VERSION: reset the connection and settle on the newest version both sides allow."""
    connection = link.connection
    if connection.phase is not Phase.NOT_STARTED:
        connection.reset()
    answer = yield from link.ask(GetVersion(), Version)
    # Major, minor, update, alpha in four bits each; an alpha version is not for release.
    offered = {entry >> 8 for entry in answer.message.version_number_entries if not entry & 0xF}
    common = offered.intersection(connection.settings.versions)
    if not common:
        theirs = ", ".join(f"{v >> 4}.{v & 15}" for v in sorted(offered)) or "none"
        ours = ", ".join(f"{v >> 4}.{v & 15}" for v in sorted(connection.settings.versions))
        raise AuthenticationError(
            "negotiation",
            f"the responder offers SPDM {theirs}, allowed are {ours}",
            hint="--versions allows other versions by name",
        )
    connection.offered_versions = list(answer.message.version_number_entries)
    connection.set_version(max(common))
    connection.phase = Phase.VERSION
    connection.note_negotiation(answer.request, answer.response)
    return connection.version


def get_capabilities(link: Link) -> Exchange[Announced]:
    """GET_CAPABILITIES: say what we can, check what the responder says (DSP0274 10.3)."""
    connection = link.connection
    settings = connection.settings
    version = connection.version
    flags = requester_flags(settings.capabilities, version)
    # Without chunks nothing larger than one transfer can come (DSP0274 10.3).
    chunks = bool(flags & _CHUNK_CAP)
    largest = settings.max_message_size if chunks else settings.data_transfer_size
    connection.own = Announced(flags, 0, settings.ct_exponent, settings.data_transfer_size, largest)
    request = GetCapabilities(
        ct_exponent=settings.ct_exponent,
        flags=flags,
        data_transfer_size=settings.data_transfer_size,
        max_spdm_msg_size=largest,
    )
    answer = yield from link.ask(request, Capabilities)
    response = answer.message
    reason = invalid_capabilities(response.flags, ResponderFlags, version)
    if reason:
        raise ProtocolViolation(f"CAPABILITIES: {reason}")
    transfer = largest = settings.transmit_size
    if version >= V12:
        transfer, largest = response.data_transfer_size, response.max_spdm_msg_size
        if transfer < MIN_DATA_TRANSFER_SIZE or largest < transfer:
            raise ProtocolViolation(
                f"CAPABILITIES: DataTransferSize {transfer}, MaxSPDMmsgSize {largest}"
            )
    connection.peer = Announced(
        response.flags, response.ext_flags, response.ct_exponent, transfer, largest
    )
    connection.phase = Phase.CAPABILITIES
    connection.note_negotiation(answer.request, answer.response)
    return connection.peer


def negotiate_algorithms(link: Link) -> Exchange[None]:
    """NEGOTIATE_ALGORITHMS: refuse every selection that was not offered (DSP0274 10.4)."""
    connection = link.connection
    version = connection.version
    peer_multi_key = connection.peer.flags & _PEER_MULTI_KEY
    multi_key = version >= V13 and (
        peer_multi_key == ResponderFlags.MULTI_KEY_CAP_ONLY
        or (peer_multi_key == ResponderFlags.MULTI_KEY_CAP_NEG and connection.settings.multi_key)
    )
    offer, request = _offer(connection, multi_key)
    answer = yield from link.ask(request, Algorithms)
    response = answer.message
    chosen = _chosen(answer.response, offer, version)
    own_multi_key = connection.own.flags & _OWN_MULTI_KEY
    if response.requester_multi_key_conn_sel and not own_multi_key:
        raise AuthenticationError(
            "negotiation", "RequesterMultiKeyConnSel was selected but not offered"
        )
    connection.note_negotiation(answer.request, answer.response)
    connection.adopt(
        chosen,
        multi_key_req=version >= V13 and response.requester_multi_key_conn_sel,
        multi_key_rsp=multi_key,
    )
    connection.phase = Phase.NEGOTIATED


@functools.lru_cache(maxsize=64)
def _chosen(response: bytes, offer: AlgorithmSet, version: int) -> Chosen:
    """What an ALGORITHMS selects of an offer; devices of one model answer with the same bytes."""
    chosen = read_choice(Algorithms.decode(response, Context(version=version)), version)
    verify_choice(chosen, offer)
    return chosen


def _offer(connection: Connection, multi_key: bool) -> tuple[AlgorithmSet, NegotiateAlgorithms]:
    """What to offer: our set, without what our capabilities and keys rule out."""
    types = connection.credentials.key_types() if connection.credentials else frozenset[str]()
    algorithms, flags = connection.settings.algorithms, connection.own.flags
    return _allowed(algorithms, connection.version, flags, types, multi_key)


@functools.lru_cache(maxsize=64)
def _allowed(
    algorithms: AlgorithmSet, version: int, flags: int, types: frozenset[str], multi_key: bool
) -> tuple[AlgorithmSet, NegotiateAlgorithms]:
    offer = for_version(algorithms, version)
    without: dict[str, int] = {"measurement_hash": 0}
    if version < V11 or not flags & (RequesterFlags.KEY_EX_CAP | RequesterFlags.PSK_CAP):
        without.update(dhe=0, kem=0, aead=0, key_schedule=0)
    elif not flags & RequesterFlags.KEY_EX_CAP:
        without.update(dhe=0, kem=0)
    proves = flags & (RequesterFlags.MUT_AUTH_CAP | RequesterFlags.EP_INFO_CAP_MASK)
    if not proves:
        types = frozenset()
    without.update(
        req_base_asym=offer.req_base_asym & signable(registry.BASE_ASYM, types),
        req_pqc_asym=offer.req_pqc_asym & signable(registry.PQC_ASYM, types),
    )
    offer = offer.with_masks(**without)
    return offer, write_offer(offer, version, multi_key=multi_key)
