"""GET_VERSION, GET_CAPABILITIES and NEGOTIATE_ALGORITHMS, answered (DSP0274 10.2 to 10.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spdmkit.crypto import registry
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    Capabilities,
    GetCapabilities,
    NegotiateAlgorithms,
    RequesterFlags,
    ResponderFlags,
    Version,
    invalid_capabilities,
)
from spdmkit.protocol.algorithms import (
    for_version,
    read_offer,
    signable,
    supported_block,
    write_choice,
)
from spdmkit.protocol.capabilities import responder_flags
from spdmkit.protocol.connection import Announced
from spdmkit.protocol.handlers.call import Call, Outcome, for_request
from spdmkit.protocol.negotiation import Chosen, choose
from spdmkit.protocol.settings import MIN_DATA_TRANSFER_SIZE, AlgorithmSet
from spdmkit.protocol.states import Phase

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection

__all__ = ["get_capabilities", "get_version", "negotiate_algorithms"]


def get_version(call: Call) -> Outcome:
    """GET_VERSION -> VERSION; everything that was negotiated before is forgotten."""
    connection = call.connection
    connection.reset()
    context = for_request(connection.context, call.request, requester_side=False)
    entries = [version << 8 for version in sorted(connection.settings.versions)]
    response = Version(version_number_entries=entries).encode(context)
    connection.phase = Phase.VERSION
    connection.note_negotiation(call.raw, response)
    return Outcome(response)


def get_capabilities(call: Call) -> Outcome:
    """GET_CAPABILITIES -> CAPABILITIES; its version byte fixes the version (10.3)."""
    connection = call.connection
    settings = connection.settings
    request = call.typed(GetCapabilities)
    version = request.spdm_version
    reason = invalid_capabilities(request.flags, RequesterFlags, version)
    if reason:
        raise ProtocolViolation(f"GET_CAPABILITIES: {reason}")
    transfer = largest = settings.transmit_size
    if version >= V12:
        transfer, largest = request.data_transfer_size, request.max_spdm_msg_size
        chunks = request.flags & RequesterFlags.CHUNK_CAP
        if transfer < MIN_DATA_TRANSFER_SIZE or largest < transfer:
            raise ProtocolViolation("GET_CAPABILITIES: the sizes contradict each other")
        if not chunks and largest != transfer:
            raise ProtocolViolation("GET_CAPABILITIES: MaxSPDMmsgSize needs CHUNK_CAP")
    if request.supported_algorithms_requested and not request.flags & RequesterFlags.CHUNK_CAP:
        raise ProtocolViolation("Param1 bit 0 of GET_CAPABILITIES needs CHUNK_CAP")
    flags = responder_flags(settings.capabilities, version)
    if request.supported_algorithms_requested and not flags & ResponderFlags.CHUNK_CAP:
        raise ProtocolViolation("the supported algorithms block needs CHUNK_CAP on both sides")
    connection.set_version(version)
    connection.peer = Announced(
        request.flags, request.ext_flags, request.ct_exponent, transfer, largest
    )
    chunking = bool(flags & ResponderFlags.CHUNK_CAP)
    connection.own = Announced(
        flags,
        settings.extended_capabilities if version >= V14 else 0,
        settings.ct_exponent,
        settings.data_transfer_size,
        settings.max_message_size if chunking else settings.data_transfer_size,
    )
    response = Capabilities(
        ct_exponent=settings.ct_exponent,
        ext_flags=connection.own.extended,
        flags=flags,
        data_transfer_size=connection.own.data_transfer_size,
        max_spdm_msg_size=connection.own.max_message_size,
    )
    if request.supported_algorithms_requested:
        response.supported_algorithms_included = True
        response.supported_algorithms = supported_block(_own(call), connection.own.flags, version)
    encoded = response.encode(for_request(connection.context, request, requester_side=False))
    connection.phase = Phase.CAPABILITIES
    connection.note_negotiation(call.raw, encoded)
    return Outcome(encoded)


def negotiate_algorithms(call: Call) -> Outcome:
    """NEGOTIATE_ALGORITHMS -> ALGORITHMS: the strongest that both sides allow (10.4)."""
    connection = call.connection
    version = connection.version
    request = call.typed(NegotiateAlgorithms)
    own_multi_key = connection.own.flags & ResponderFlags.MULTI_KEY_CAP_MASK
    multi_key_rsp = version >= V13 and request.responder_multi_key_conn
    if multi_key_rsp and not own_multi_key:
        raise ProtocolViolation("ResponderMultiKeyConn, but this responder has one key")
    if own_multi_key == ResponderFlags.MULTI_KEY_CAP_ONLY and not multi_key_rsp:
        raise ProtocolViolation("this responder needs ResponderMultiKeyConn")
    peer_multi_key = connection.peer.flags & RequesterFlags.MULTI_KEY_CAP_MASK
    multi_key_req = version >= V13 and (
        peer_multi_key == RequesterFlags.MULTI_KEY_CAP_ONLY
        or (peer_multi_key == RequesterFlags.MULTI_KEY_CAP_NEG and connection.settings.multi_key)
    )
    offer = read_offer(request, version)
    own = _own(call)
    if multi_key_rsp and not (offer.base_asym & own.base_asym or offer.pqc_asym & own.pqc_asym):
        # Nothing with certificates: the requester may be about to bring them (10.28).
        own = _own(call, bare=True)
    chosen = choose(offer, own, version=version)
    chosen = _without_unused(chosen, connection)
    if not chosen.base_hash:
        # Nothing can be signed or hashed: every selection is zero, and only GET_VERSION helps.
        connection.phase = Phase.NOTHING_IN_COMMON
        return call.answer(write_choice(Chosen(), version, multi_key=False))
    response = write_choice(chosen, version, multi_key=multi_key_req)
    encoded = response.encode(call.context)
    connection.note_negotiation(call.raw, encoded)
    connection.adopt(chosen, multi_key_req=multi_key_req, multi_key_rsp=multi_key_rsp)
    connection.phase = Phase.NEGOTIATED
    return Outcome(encoded)


def _own(call: Call, *, bare: bool = False) -> AlgorithmSet:
    """What we allow, cut down to the keys that this device can sign with."""
    connection = call.connection
    own = for_version(connection.settings.algorithms, connection.version)
    types = call.credentials.key_types(bare=bare)
    return own.with_masks(
        base_asym=own.base_asym & signable(registry.BASE_ASYM, types),
        pqc_asym=own.pqc_asym & signable(registry.PQC_ASYM, types),
    )


def _without_unused(chosen: Chosen, connection: Connection) -> Chosen:
    """Select nothing for what the capabilities of the two sides rule out."""
    own, version = connection.own.flags, connection.version
    changes: dict[str, int] = {}
    measures = own & (ResponderFlags.MEAS_CAP_MASK | ResponderFlags.MEL_CAP)
    if not measures:
        changes["measurement_specification"] = 0
    if not own & ResponderFlags.MEAS_CAP_MASK or not chosen.measurement_specification:
        changes["measurement_hash"] = 0
    if version < V13 or not own & ResponderFlags.MEL_CAP:
        changes["mel_specification"] = 0
    if version < V11:
        changes["key_schedule"] = 0
    told = own & ResponderFlags.ENCAP_CAP and connection.peer.flags & RequesterFlags.EP_INFO_CAP_SIG
    if not (own & ResponderFlags.MUT_AUTH_CAP or told):
        # Nothing that the requester signs will ever be verified here.
        changes["req_base_asym"] = changes["req_pqc_asym"] = 0
    return chosen._replace(**changes)
