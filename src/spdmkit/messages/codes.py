"""The numbers of DSP0274: request, response and error codes, registries."""

from __future__ import annotations

import enum

__all__ = ["VENDOR_ID_LENGTHS", "ErrorCode", "Registry", "RequestCode", "ResponseCode"]


class RequestCode(enum.IntEnum):
    """Request codes (DSP0274 table 4)."""

    GET_DIGESTS = 0x81
    GET_CERTIFICATE = 0x82
    CHALLENGE = 0x83
    GET_VERSION = 0x84
    CHUNK_SEND = 0x85
    CHUNK_GET = 0x86
    GET_ENDPOINT_INFO = 0x87
    SLOT_MANAGEMENT = 0x88
    GET_MEASUREMENTS = 0xE0
    GET_CAPABILITIES = 0xE1
    GET_SUPPORTED_EVENT_TYPES = 0xE2
    NEGOTIATE_ALGORITHMS = 0xE3
    KEY_EXCHANGE = 0xE4
    FINISH = 0xE5
    PSK_EXCHANGE = 0xE6
    PSK_FINISH = 0xE7
    HEARTBEAT = 0xE8
    KEY_UPDATE = 0xE9
    GET_ENCAPSULATED_REQUEST = 0xEA
    DELIVER_ENCAPSULATED_RESPONSE = 0xEB
    END_SESSION = 0xEC
    GET_CSR = 0xED
    SET_CERTIFICATE = 0xEE
    GET_MEASUREMENT_EXTENSION_LOG = 0xEF
    SUBSCRIBE_EVENT_TYPES = 0xF0
    SEND_EVENT = 0xF1
    GET_KEY_PAIR_INFO = 0xFC
    SET_KEY_PAIR_INFO = 0xFD
    VENDOR_DEFINED_REQUEST = 0xFE
    RESPOND_IF_READY = 0xFF


class ResponseCode(enum.IntEnum):
    """Response codes (DSP0274 table 5). A request's code is that of its response, bit 7 set."""

    DIGESTS = 0x01
    CERTIFICATE = 0x02
    CHALLENGE_AUTH = 0x03
    VERSION = 0x04
    CHUNK_SEND_ACK = 0x05
    CHUNK_RESPONSE = 0x06
    ENDPOINT_INFO = 0x07
    SLOT_MANAGEMENT_RESP = 0x08
    MEASUREMENTS = 0x60
    CAPABILITIES = 0x61
    SUPPORTED_EVENT_TYPES = 0x62
    ALGORITHMS = 0x63
    KEY_EXCHANGE_RSP = 0x64
    FINISH_RSP = 0x65
    PSK_EXCHANGE_RSP = 0x66
    PSK_FINISH_RSP = 0x67
    HEARTBEAT_ACK = 0x68
    KEY_UPDATE_ACK = 0x69
    ENCAPSULATED_REQUEST = 0x6A
    ENCAPSULATED_RESPONSE_ACK = 0x6B
    END_SESSION_ACK = 0x6C
    CSR = 0x6D
    SET_CERTIFICATE_RSP = 0x6E
    MEASUREMENT_EXTENSION_LOG = 0x6F
    SUBSCRIBE_EVENT_TYPES_ACK = 0x70
    EVENT_ACK = 0x71
    KEY_PAIR_INFO = 0x7C
    SET_KEY_PAIR_INFO_ACK = 0x7D
    VENDOR_DEFINED_RESPONSE = 0x7E
    ERROR = 0x7F


class ErrorCode(enum.IntEnum):
    """Error codes (DSP0274 table 65)."""

    INVALID_REQUEST = 0x01
    INVALID_SESSION = 0x02
    """SPDM 1.1 only."""
    BUSY = 0x03
    UNEXPECTED_REQUEST = 0x04
    UNSPECIFIED = 0x05
    DECRYPT_ERROR = 0x06
    UNSUPPORTED_REQUEST = 0x07
    REQUEST_IN_FLIGHT = 0x08
    INVALID_RESPONSE_CODE = 0x09
    SESSION_LIMIT_EXCEEDED = 0x0A
    SESSION_REQUIRED = 0x0B
    RESET_REQUIRED = 0x0C
    RESPONSE_TOO_LARGE = 0x0D
    REQUEST_TOO_LARGE = 0x0E
    LARGE_RESPONSE = 0x0F
    MESSAGE_LOST = 0x10
    INVALID_POLICY = 0x11
    DATA_TOO_LARGE = 0x12
    VERSION_MISMATCH = 0x41
    RESPONSE_NOT_READY = 0x42
    REQUEST_RESYNCH = 0x43
    OPERATION_FAILED = 0x44
    NO_PENDING_REQUESTS = 0x45
    REQUEST_SESSION_TERMINATED = 0x46
    INVALID_STATE = 0x47
    VENDOR_DEFINED = 0xFF


class Registry(enum.IntEnum):
    """Registry or standards body IDs (DSP0274 table 67)."""

    DMTF = 0x00
    TCG = 0x01
    USB = 0x02
    PCI_SIG = 0x03
    IANA = 0x04
    HDBASET = 0x05
    MIPI = 0x06
    CXL = 0x07
    JEDEC = 0x08
    VESA = 0x09
    IANA_CBOR = 0x0A
    DMTF_DSP = 0x0B


VENDOR_ID_LENGTHS: dict[Registry, int | None] = {
    Registry.DMTF: 0,
    Registry.TCG: 2,
    Registry.USB: 2,
    Registry.PCI_SIG: 2,
    Registry.IANA: 4,
    Registry.HDBASET: 4,
    Registry.MIPI: 2,
    Registry.CXL: 2,
    Registry.JEDEC: 2,
    Registry.VESA: 0,
    Registry.IANA_CBOR: None,
    Registry.DMTF_DSP: 2,
}
"""Bytes of a VendorID by registry, None where it varies (DSP0274 table 67).

A payload that the registry's owner defines itself has a VendorIDLen of 0 in any case.
"""
