"""Messages that begin, keep and end secure sessions (DSP0274 10.16 to 10.23)."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import RequestCode, ResponseCode
from spdmkit.messages.context import V11, V12, V13, V14
from spdmkit.wire.kinds import Embedded
from spdmkit.wire.layout import (
    bits,
    counted,
    fixed,
    flag,
    length_of,
    prefixed,
    reserved,
    rest,
    sized,
    u8,
    u16,
    word,
)
from spdmkit.wire.predicates import InContext, Not, Present, Requested

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
    "PskExchange",
    "PskExchangeRsp",
    "PskFinish",
    "PskFinishRsp",
]

MAX_OPAQUE_DATA = 1024
"""Most bytes of an opaque data field (DSP0274, OpaqueDataLength)."""


class KeyUpdateOperation(enum.IntEnum):
    """Param1 of KEY_UPDATE (DSP0274 10.22)."""

    UPDATE_KEY = 1
    UPDATE_ALL_KEYS = 2
    VERIFY_NEW_KEY = 3


class EncapsulatedPayload(enum.IntEnum):
    """Param2 of ENCAPSULATED_RESPONSE_ACK: what its payload is (DSP0274 10.21)."""

    ABSENT = 0
    PRESENT = 1
    REQ_SLOT_NUMBER = 2


@message(RequestCode.KEY_EXCHANGE, clause="10.16", since=V11)
class KeyExchange(Message):
    """Asks for a session by Diffie-Hellman or key encapsulation."""

    measurement_summary_hash_type: int = u8()
    slot_id: int = u8("SlotID")
    req_session_id: int = u16("ReqSessionID")
    _policy = word("SessionPolicy", since=V11)
    termination_policy: bool = flag(_policy, 0, since=V12)
    event_all_policy: bool = flag(_policy, 1, since=V13)
    _reserved = reserved(1)
    random_data: bytes = fixed(32)
    exchange_data: bytes = sized("exchange_request_size")
    opaque_data: bytes = prefixed(2, maximum=MAX_OPAQUE_DATA)


@message(ResponseCode.KEY_EXCHANGE_RSP, clause="10.16", since=V11)
class KeyExchangeRsp(Message):
    """Answers with the other half of the exchange, signed."""

    heartbeat_period: int = u8()
    _param2 = reserved(1)
    rsp_session_id: int = u16("RspSessionID")
    mut_auth_requested: int = u8()
    _slot_id_param = word("SlotIDParam")
    req_slot_id: int = bits(_slot_id_param, 0, 4, "SlotID")
    random_data: bytes = fixed(32)
    exchange_data: bytes = sized("exchange_response_size")
    measurement_summary_hash: bytes = sized(
        "hash_size", when=Requested("measurement_summary_hash_type")
    )
    opaque_data: bytes = prefixed(2, maximum=MAX_OPAQUE_DATA)
    signature: bytes = sized("signature_size")
    verify_data: bytes = sized(
        "hash_size", "ResponderVerifyData", when=Not(InContext("handshake_in_the_clear"))
    )


@message(RequestCode.FINISH, clause="10.17", since=V11)
class Finish(Message):
    """Proves that the requester holds the session's secret and, if asked, who it is."""

    _param1 = word("Param1")
    signature_included: bool = flag(_param1, 0)
    req_slot_id: int = u8("ReqSlotID")
    opaque_data: bytes = prefixed(2, maximum=MAX_OPAQUE_DATA, since=V14)
    signature: bytes = sized("req_signature_size", when=Present("signature_included"))
    verify_data: bytes = sized("hash_size", "RequesterVerifyData")


@message(ResponseCode.FINISH_RSP, clause="10.17", since=V11)
class FinishRsp(Message):
    """Ends the handshake."""

    _params = reserved(2)
    opaque_data: bytes = prefixed(2, maximum=MAX_OPAQUE_DATA, since=V14)
    verify_data: bytes = sized(
        "hash_size", "ResponderVerifyData", when=InContext("handshake_in_the_clear")
    )


@message(RequestCode.PSK_EXCHANGE, clause="10.18", since=V11)
class PskExchange(Message):
    """Asks for a session by a pre-shared key."""

    measurement_summary_hash_type: int = u8()
    _policy = word("SessionPolicy", since=V11)
    termination_policy: bool = flag(_policy, 0, since=V12)
    event_all_policy: bool = flag(_policy, 1, since=V13)
    req_session_id: int = u16("ReqSessionID")
    _psk_hint_length = length_of("psk_hint", 2, "PSKHintLength")
    _context_length = length_of("requester_context", 2, "RequesterContextLength")
    _opaque_length = length_of("opaque_data", 2, "OpaqueDataLength", maximum=MAX_OPAQUE_DATA)
    psk_hint: bytes = counted("_psk_hint_length", "PSKHint")
    requester_context: bytes = counted("_context_length")
    opaque_data: bytes = counted("_opaque_length")


@message(ResponseCode.PSK_EXCHANGE_RSP, clause="10.18", since=V11)
class PskExchangeRsp(Message):
    """Answers with the responder's context and proves that it holds the key."""

    heartbeat_period: int = u8()
    _param2 = reserved(1)
    rsp_session_id: int = u16("RspSessionID")
    _reserved = reserved(2)
    _context_length = length_of("responder_context", 2, "ResponderContextLength")
    _opaque_length = length_of("opaque_data", 2, "OpaqueDataLength", maximum=MAX_OPAQUE_DATA)
    measurement_summary_hash: bytes = sized(
        "hash_size", when=Requested("measurement_summary_hash_type")
    )
    responder_context: bytes = counted("_context_length")
    opaque_data: bytes = counted("_opaque_length")
    verify_data: bytes = sized("hash_size", "ResponderVerifyData")


@message(RequestCode.PSK_FINISH, clause="10.19", since=V11)
class PskFinish(Message):
    """Proves that the requester holds the pre-shared key."""

    _params = reserved(2)
    opaque_data: bytes = prefixed(2, maximum=MAX_OPAQUE_DATA, since=V14)
    verify_data: bytes = sized("hash_size", "RequesterVerifyData")


@message(ResponseCode.PSK_FINISH_RSP, clause="10.19", since=V11)
class PskFinishRsp(Message):
    """Ends the handshake."""

    _params = reserved(2)
    opaque_data: bytes = prefixed(2, maximum=MAX_OPAQUE_DATA, since=V14)


@message(RequestCode.HEARTBEAT, clause="10.20", since=V11)
class Heartbeat(Message):
    """Keeps a session alive."""

    _params = reserved(2)


@message(ResponseCode.HEARTBEAT_ACK, clause="10.20", since=V11)
class HeartbeatAck(Message):
    """Says that the session lives."""

    _params = reserved(2)


@message(RequestCode.KEY_UPDATE, clause="10.22", since=V11)
class KeyUpdate(Message):
    """Moves a session to new keys."""

    operation: int = u8("KeyOperation", display=KeyUpdateOperation)
    tag: int = u8()


@message(ResponseCode.KEY_UPDATE_ACK, clause="10.22", since=V11)
class KeyUpdateAck(Message):
    """Repeats what KEY_UPDATE said."""

    operation: int = u8("KeyOperation", display=KeyUpdateOperation)
    tag: int = u8()


@message(RequestCode.GET_ENCAPSULATED_REQUEST, clause="10.21", since=V11)
class GetEncapsulatedRequest(Message):
    """Asks whether the responder has a request of its own."""

    _params = reserved(2)


@message(ResponseCode.ENCAPSULATED_REQUEST, clause="10.21", since=V11)
class EncapsulatedRequest(Message):
    """A request of the responder's."""

    request_id: int = u8("RequestID")
    _param2 = reserved(1)
    encapsulated_request: bytes = rest(inner=Embedded())


@message(RequestCode.DELIVER_ENCAPSULATED_RESPONSE, clause="10.21", since=V11)
class DeliverEncapsulatedResponse(Message):
    """The requester's answer to it."""

    request_id: int = u8("RequestID")
    _param2 = reserved(1)
    encapsulated_response: bytes = rest(inner=Embedded())


@message(ResponseCode.ENCAPSULATED_RESPONSE_ACK, clause="10.21", since=V11)
class EncapsulatedResponseAck(Message):
    """Takes the answer; brings the next request, or the slot to use, or nothing."""

    request_id: int = u8("RequestID")
    payload_type: int = u8(display=EncapsulatedPayload)
    ack_request_id: int = u8("AckRequestID", since=V12)
    _reserved = reserved(3, since=V12)
    payload: bytes = rest("EncapsulatedRequest")


@message(RequestCode.END_SESSION, clause="10.23", since=V11)
class EndSession(Message):
    """Ends a session."""

    _param1 = word("Param1")
    clear_negotiated_state: bool = flag(_param1, 0, "NegotiatedStatePreservationIndicator")
    _param2 = reserved(1)


@message(ResponseCode.END_SESSION_ACK, clause="10.23", since=V11)
class EndSessionAck(Message):
    """Says that the session is over."""

    _params = reserved(2)
