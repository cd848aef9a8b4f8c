"""Messages that begin, keep and end secure sessions (DSP0274 10.17 to 10.25)."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.certificates import OPAQUE_DATA_LIMIT, MeasurementSummaryHashType
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V11, V12, V13, V14
from spdmkit.wire.kinds import Embedded
from spdmkit.wire.layout import (
    bits,
    counted,
    fixed,
    flag,
    length_of,
    one_of,
    prefixed,
    reserved,
    rest,
    sized,
    u8,
    u16,
    word,
)
from spdmkit.wire.predicates import Equals, InContext, Not, Present, Requested

__all__ = [
    "DeliverEncapsulatedResponse",
    "EncapsulatedPayload",
    "EncapsulatedRequest",
    "EncapsulatedResponseAck",
    "EndSession",
    "EndSessionAck",
    "Finish",
    "FinishRsp",
    "GetEncapsulatedRequest",
    "Heartbeat",
    "HeartbeatAck",
    "KeyExchange",
    "KeyExchangeRsp",
    "KeyUpdate",
    "KeyUpdateAck",
    "KeyUpdateOperation",
    "MutAuthRequested",
    "PskExchange",
    "PskExchangeRsp",
    "PskFinish",
    "PskFinishRsp",
]


class KeyUpdateOperation(enum.IntEnum):
    """Param1 of KEY_UPDATE (DSP0274 10.22)."""

    UPDATE_KEY = 1
    UPDATE_ALL_KEYS = 2
    VERIFY_NEW_KEY = 3


class MutAuthRequested(enum.IntFlag):
    """MutAuthRequested of KEY_EXCHANGE_RSP, at most one bit (DSP0274 table 79)."""

    WITHOUT_ENCAPSULATION = 1 << 0
    ENCAPSULATED = 1 << 1
    WITH_GET_DIGESTS = 1 << 2


class EncapsulatedPayload(enum.IntEnum):
    """Param2 of ENCAPSULATED_RESPONSE_ACK: what its payload is (DSP0274 10.24)."""

    ABSENT = 0
    PRESENT = 1
    REQ_SLOT_NUMBER = 2


@message(RequestCode.KEY_EXCHANGE, clause="10.17", since=V11)
class KeyExchange(Message):
    """KEY_EXCHANGE: asks for a session by Diffie-Hellman or key encapsulation."""

    measurement_summary_hash_type: int = u8(display=MeasurementSummaryHashType)
    slot_id: int = u8()
    req_session_id: int = u16()
    _policy = word("SessionPolicy")
    termination_policy: bool = flag(_policy, 0, since=V12)
    event_all_policy: bool = flag(_policy, 1, since=V13)
    _reserved = reserved(1)
    random_data: bytes = fixed(32)
    exchange_data: bytes = sized("exchange_request_size")
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT)


@message(ResponseCode.KEY_EXCHANGE_RSP, clause="10.17", since=V11)
class KeyExchangeRsp(Message):
    """KEY_EXCHANGE_RSP: the other half of the exchange, signed."""

    heartbeat_period: int = u8()
    _param2 = reserved(1)
    rsp_session_id: int = u16()
    mut_auth_requested: int = u8(display=MutAuthRequested)
    _slot_id_param = word("SlotIDParam")
    req_slot_id: int = bits(_slot_id_param, 0, 4, "SlotID")
    random_data: bytes = fixed(32)
    exchange_data: bytes = sized("exchange_response_size")
    measurement_summary_hash: bytes = sized(
        "hash_size", when=Requested("measurement_summary_hash_type")
    )
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT)
    signature: bytes = sized("signature_size")
    verify_data: bytes = sized(
        "hash_size", "ResponderVerifyData", when=Not(InContext("handshake_in_the_clear"))
    )


@message(RequestCode.FINISH, clause="10.18", since=V11)
class Finish(Message):
    """FINISH: proves that the Requester holds the session's secret and, if asked, who it is."""

    _param1 = word("Param1")
    signature_included: bool = flag(_param1, 0)
    req_slot_id: int = u8("ReqSlotID")
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT, since=V14)
    signature: bytes = sized("req_signature_size", when=Present("signature_included"))
    verify_data: bytes = sized("hash_size", "RequesterVerifyData")


@message(ResponseCode.FINISH_RSP, clause="10.18", since=V11)
class FinishRsp(Message):
    """FINISH_RSP: ends the handshake; with verify data when that was in the clear."""

    _param1 = reserved(1)
    _param2 = reserved(1)
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT, since=V14)
    verify_data: bytes = sized(
        "hash_size", "ResponderVerifyData", when=InContext("handshake_in_the_clear")
    )


@message(RequestCode.PSK_EXCHANGE, clause="10.19", since=V11)
class PskExchange(Message):
    """PSK_EXCHANGE: asks for a session by a pre-shared key."""

    measurement_summary_hash_type: int = u8(display=MeasurementSummaryHashType)
    _policy = word("SessionPolicy")
    termination_policy: bool = flag(_policy, 0, since=V12)
    event_all_policy: bool = flag(_policy, 1, since=V13)
    req_session_id: int = u16()
    _psk_hint_length = length_of("psk_hint", 2, "PSKHintLength")
    _context_length = length_of("requester_context", 2, "RequesterContextLength")
    _opaque_length = length_of("opaque_data", 2, "OpaqueDataLength")
    psk_hint: bytes = counted("_psk_hint_length", "PSKHint")
    requester_context: bytes = counted("_context_length")
    opaque_data: bytes = counted("_opaque_length", maximum=OPAQUE_DATA_LIMIT)


@message(ResponseCode.PSK_EXCHANGE_RSP, clause="10.19", since=V11)
class PskExchangeRsp(Message):
    """PSK_EXCHANGE_RSP: the Responder's context, and proof that it holds the key."""

    heartbeat_period: int = u8()
    _param2 = reserved(1)
    rsp_session_id: int = u16()
    _reserved = reserved(2)
    _context_length = length_of("responder_context", 2, "ResponderContextLength")
    _opaque_length = length_of("opaque_data", 2, "OpaqueDataLength")
    measurement_summary_hash: bytes = sized(
        "hash_size", when=Requested("measurement_summary_hash_type")
    )
    responder_context: bytes = counted("_context_length")
    opaque_data: bytes = counted("_opaque_length", maximum=OPAQUE_DATA_LIMIT)
    verify_data: bytes = sized("hash_size", "ResponderVerifyData")


@message(RequestCode.PSK_FINISH, clause="10.20", since=V11)
class PskFinish(Message):
    """PSK_FINISH: proves that the Requester holds the pre-shared key."""

    _param1 = reserved(1)
    _param2 = reserved(1)
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT, since=V14)
    verify_data: bytes = sized("hash_size", "RequesterVerifyData")


@message(ResponseCode.PSK_FINISH_RSP, clause="10.20", since=V11)
class PskFinishRsp(Message):
    """PSK_FINISH_RSP: ends the handshake."""

    _param1 = reserved(1)
    _param2 = reserved(1)
    opaque_data: bytes = prefixed(2, maximum=OPAQUE_DATA_LIMIT, since=V14)


@message(RequestCode.HEARTBEAT, clause="10.21", since=V11)
class Heartbeat(Message):
    """HEARTBEAT: keeps a session alive."""

    _param1 = reserved(1)
    _param2 = reserved(1)


@message(ResponseCode.HEARTBEAT_ACK, clause="10.21", since=V11)
class HeartbeatAck(Message):
    """HEARTBEAT_ACK: the session lives."""

    _param1 = reserved(1)
    _param2 = reserved(1)


@message(RequestCode.KEY_UPDATE, clause="10.22", since=V11)
class KeyUpdate(Message):
    """KEY_UPDATE: moves a session to new keys."""

    operation: int = u8("KeyOperation", display=KeyUpdateOperation)
    tag: int = u8()


@message(ResponseCode.KEY_UPDATE_ACK, clause="10.22", since=V11)
class KeyUpdateAck(Message):
    """KEY_UPDATE_ACK: repeats what KEY_UPDATE said."""

    operation: int = u8("KeyOperation", display=KeyUpdateOperation)
    tag: int = u8()


@message(RequestCode.GET_ENCAPSULATED_REQUEST, clause="10.23", since=V11)
class GetEncapsulatedRequest(Message):
    """GET_ENCAPSULATED_REQUEST: has the Responder a request of its own?"""

    _param1 = reserved(1)
    _param2 = reserved(1)


@message(ResponseCode.ENCAPSULATED_REQUEST, clause="10.23", since=V11)
class EncapsulatedRequest(Message):
    """ENCAPSULATED_REQUEST: a request of the Responder's."""

    request_id: int = u8()
    _param2 = reserved(1)
    encapsulated_request: bytes = rest(inner=Embedded())


@message(RequestCode.DELIVER_ENCAPSULATED_RESPONSE, clause="10.24", since=V11)
class DeliverEncapsulatedResponse(Message):
    """DELIVER_ENCAPSULATED_RESPONSE: the Requester's answer to it."""

    request_id: int = u8()
    _param2 = reserved(1)
    encapsulated_response: bytes = rest(inner=Embedded())


@message(ResponseCode.ENCAPSULATED_RESPONSE_ACK, clause="10.24", since=V11)
class EncapsulatedResponseAck(Message):
    """ENCAPSULATED_RESPONSE_ACK: takes the answer; brings the next request, a slot, or nothing."""

    request_id: int = u8()
    payload_type: int = u8(display=EncapsulatedPayload)
    ack_request_id: int = u8(since=V12)
    _reserved = reserved(3, since=V12)
    payload: bytes = one_of(
        rest(
            "EncapsulatedRequest",
            inner=Embedded(),
            when=Equals("payload_type", EncapsulatedPayload.PRESENT),
        ),
        fixed(1, "ReqSlotNumber", when=Equals("payload_type", EncapsulatedPayload.REQ_SLOT_NUMBER)),
    )


@message(RequestCode.END_SESSION, clause="10.25", since=V11)
class EndSession(Message):
    """END_SESSION: ends a session."""

    _param1 = word("Param1")
    clear_negotiated_state: bool = flag(_param1, 0, "NegotiatedStatePreservationIndicator")
    _param2 = reserved(1)


@message(ResponseCode.END_SESSION_ACK, clause="10.25", since=V11)
class EndSessionAck(Message):
    """END_SESSION_ACK: the session is over."""

    _param1 = reserved(1)
    _param2 = reserved(1)
