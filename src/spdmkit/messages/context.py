"""What a message's layout depends on beyond its own bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["V10", "V11", "V12", "V13", "V14", "VERSIONS", "Context"]

V10 = 0x10
V11 = 0x11
V12 = 0x12
V13 = 0x13
V14 = 0x14

VERSIONS = (V10, V11, V12, V13, V14)
"""The SPDM versions known here, as they stand in the first byte of a message."""


@dataclass(slots=True)
class Context:
    """Version, negotiated sizes and flags of a connection. Sizes are in bytes.

    Attributes:
        version: SPDM version, 0x10 until one is chosen.
        hash_size: of the base hash.
        signature_size: of the Responder's signatures (BaseAsymSel or PqcAsymSel).
        req_signature_size: of the Requester's, in mutual authentication.
        measurement_hash_size: of the measurement hash.
        exchange_request_size: ExchangeData in KEY_EXCHANGE: DHE public value, or KEM
            encapsulation key.
        exchange_response_size: ExchangeData in KEY_EXCHANGE_RSP: the same, or KEM ciphertext.
        opaque_format: OtherParamsSelection bits 3:0; 0 none or not negotiated.
        handshake_in_the_clear: both sides have HANDSHAKE_IN_THE_CLEAR_CAP.
        multi_key_conn_req: MULTI_KEY_CONN_REQ: the Requester uses several keys.
        multi_key_conn_rsp: MULTI_KEY_CONN_RSP: the Responder uses several keys.
        request: the request being answered; what a response holds often depends on it.
        requester_side: responses are sent by the Requester (encapsulated requests), so that the
            Requester's sizes and flags apply to them.
    """

    version: int = V10
    hash_size: int = 0
    signature_size: int = 0
    req_signature_size: int = 0
    measurement_hash_size: int = 0
    exchange_request_size: int = 0
    exchange_response_size: int = 0
    opaque_format: int = 0
    handshake_in_the_clear: bool = False
    multi_key_conn_req: bool = False
    multi_key_conn_rsp: bool = False
    request: Any = None
    requester_side: bool = False

    def answering(self, request: Any, *, requester_side: bool = False) -> Context:
        """A copy for the response to `request`; quicker than `dataclasses.replace`."""
        return Context(
            self.version,
            self.hash_size,
            self.signature_size,
            self.req_signature_size,
            self.measurement_hash_size,
            self.exchange_request_size,
            self.exchange_response_size,
            self.opaque_format,
            self.handshake_in_the_clear,
            self.multi_key_conn_req,
            self.multi_key_conn_rsp,
            request,
            requester_side,
        )

    @property
    def answer_signature_size(self) -> int:
        """Size of a signature in a response: of whoever answers."""
        return self.req_signature_size if self.requester_side else self.signature_size

    @property
    def multi_key_conn(self) -> bool:
        """Whether whoever answers uses several keys."""
        return self.multi_key_conn_req if self.requester_side else self.multi_key_conn_rsp
