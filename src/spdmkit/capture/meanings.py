"""What the numbers of SPDM mean, in a sentence each, for `explain`.

Names, numbers, sizes and clauses come from the declarations of the messages; here stands only what
those do not say: what an error code tells whoever gets it, and what a capability promises.
"""

from __future__ import annotations

from spdmkit.messages import ErrorCode, RequesterFlags, ResponderExtendedFlags, ResponderFlags
from spdmkit.transports.tcp import MessageType

__all__ = ["CAPABILITIES", "ERRORS", "FRAME_FIELDS", "FRAME_TYPES"]

E = ErrorCode
Q, R, X = RequesterFlags, ResponderFlags, ResponderExtendedFlags

ERRORS: dict[int, tuple[str, str]] = {
    E.INVALID_REQUEST: (
        "A field of the request has a value that is not allowed, or its size is wrong.",
        "Compare the request with its layout (`spdm decode -v`), reserved values included.",
    ),
    E.INVALID_SESSION: (
        "The record was for a session that does not exist. Only SPDM 1.1 has this code.",
        "The session has ended at the other side: begin a new one.",
    ),
    E.BUSY: (
        "The responder cannot take the request now.",
        "Send the same request again later; nothing was hashed for it.",
    ),
    E.UNEXPECTED_REQUEST: (
        "The request does not fit the state of the connection or session.",
        "Look at what came before: negotiation, an open handshake, chunks not finished.",
    ),
    E.UNSPECIFIED: ("The responder gives no reason.", "Its own log may."),
    E.DECRYPT_ERROR: (
        "A record, or the proof in a handshake, did not verify. The session is over.",
        "Keys, sequence numbers or the dialect of records (inner header) differ.",
    ),
    E.UNSUPPORTED_REQUEST: (
        "The responder does not support this request; Param2 repeats its code.",
        "Compare with the capabilities it announced.",
    ),
    E.REQUEST_IN_FLIGHT: (
        "The responder has an encapsulated request open and waits for its answer.",
        "Deliver the answer first (DELIVER_ENCAPSULATED_RESPONSE).",
    ),
    E.INVALID_RESPONSE_CODE: (
        "What was delivered does not answer the encapsulated request.",
        "Reference responders also say this when they cannot build the request they had armed.",
    ),
    E.SESSION_LIMIT_EXCEEDED: (
        "The responder has as many sessions as it can.",
        "End one, or wait for one to expire.",
    ),
    E.SESSION_REQUIRED: (
        "The request is answered only inside a session.",
        "Open one by KEY_EXCHANGE or PSK_EXCHANGE and ask there.",
    ),
    E.RESET_REQUIRED: (
        "The responder must be reset first; for GET_CSR, Param2 is the tag to come back with.",
        "Reset the device, then repeat the request (with CSRTrackingTag).",
    ),
    E.RESPONSE_TOO_LARGE: (
        "The response is longer than the requester takes; ActualSize says how long.",
        "Announce a larger MaxSPDMmsgSize, CHUNK_CAP, or ask for less at a time.",
    ),
    E.REQUEST_TOO_LARGE: (
        "The request is longer than the responder takes.",
        "Look at its MaxSPDMmsgSize.",
    ),
    E.LARGE_RESPONSE: (
        "The response is there and must be fetched in chunks, by the handle in the error.",
        "CHUNK_GET from 0 on. This is not a failure.",
    ),
    E.MESSAGE_LOST: (
        "The large message whose chunks were exchanged is gone.",
        "Send it again from the first chunk.",
    ),
    E.INVALID_POLICY: ("The SessionPolicy asks for what is not possible.", "See SessionPolicy."),
    E.DATA_TOO_LARGE: (
        "What was asked for does not fit the 16-bit fields of this form; ActualSize tells.",
        "Use the large form (LARGE_RESP_CAP, SPDM 1.4).",
    ),
    E.VERSION_MISMATCH: (
        "The version byte is not the one that was negotiated, or is not supported.",
        "All messages after VERSION carry the same version.",
    ),
    E.RESPONSE_NOT_READY: (
        "The responder needs more time; the error says how long and gives a token.",
        "Wait 2^RDTExponent us, then RESPOND_IF_READY. This is not a failure.",
    ),
    E.REQUEST_RESYNCH: (
        "The responder has lost the state of the connection.",
        "Begin again with GET_VERSION.",
    ),
    E.OPERATION_FAILED: ("The responder tried, and it did not work.", "See its own log."),
    E.NO_PENDING_REQUESTS: (
        "GET_ENCAPSULATED_REQUEST found nothing: the responder has no request of its own.",
        "Ask again later. This is not a failure.",
    ),
    E.REQUEST_SESSION_TERMINATED: (
        "The responder wants the session ended, for example after an update took effect.",
        "END_SESSION, then attest anew.",
    ),
    E.INVALID_STATE: ("The responder is in a state that does not allow this.", ""),
    E.VENDOR_DEFINED: (
        "A standards body or vendor defines this error; Param2 is its registry.",
        "The extended data is theirs.",
    ),
}
"""Error code -> what it says, and what to do about it (DSP0274 10.13, table 65)."""

CAPABILITIES: dict[tuple[type, str], str] = {
    (R, "CACHE_CAP"): "keeps the negotiated state over a reset",
    (Q, "CERT_CAP"): "answers GET_DIGESTS and GET_CERTIFICATE, encapsulated",
    (R, "CERT_CAP"): "answers GET_DIGESTS and GET_CERTIFICATE",
    (Q, "CHAL_CAP"): "answers CHALLENGE, encapsulated; deprecated since 1.3",
    (R, "CHAL_CAP"): "answers CHALLENGE",
    (R, "MEAS_CAP_NO_SIG"): "answers GET_MEASUREMENTS, but does not sign",
    (R, "MEAS_CAP_SIG"): "answers GET_MEASUREMENTS and signs when asked",
    (R, "MEAS_FRESH_CAP"): "measures anew for each GET_MEASUREMENTS",
    (Q, "ENCRYPT_CAP"): "encrypts records",
    (Q, "MAC_CAP"): "authenticates records",
    (Q, "MUT_AUTH_CAP"): "takes part in mutual authentication",
    (Q, "KEY_EX_CAP"): "opens sessions by KEY_EXCHANGE",
    (R, "KEY_EX_CAP"): "answers KEY_EXCHANGE",
    (Q, "PSK_CAP"): "opens sessions by PSK_EXCHANGE",
    (R, "PSK_CAP_NO_CONTEXT"): "answers PSK_EXCHANGE without a context, so without PSK_FINISH",
    (R, "PSK_CAP_CONTEXT"): "answers PSK_EXCHANGE with a context, so with PSK_FINISH",
    (Q, "ENCAP_CAP"): "understands encapsulated requests",
    (Q, "HBEAT_CAP"): "understands HEARTBEAT",
    (Q, "KEY_UPD_CAP"): "understands KEY_UPDATE",
    (Q, "HANDSHAKE_IN_THE_CLEAR_CAP"): "can do the handshake of a session outside of it; happens "
    "when both sides say so",
    (Q, "PUB_KEY_ID_CAP"): "has a public key that the other side was given; no certificates",
    (Q, "CHUNK_CAP"): "understands chunks of large messages",
    (R, "ALIAS_CERT_CAP"): "uses the alias certificate model",
    (R, "SET_CERT_CAP"): "answers SET_CERTIFICATE",
    (R, "CSR_CAP"): "answers GET_CSR",
    (R, "CERT_INSTALL_RESET_CAP"): "may want a reset before a certificate or request is ready",
    (Q, "EP_INFO_CAP_NO_SIG"): "answers GET_ENDPOINT_INFO, but does not sign",
    (Q, "EP_INFO_CAP_SIG"): "answers GET_ENDPOINT_INFO and signs when asked",
    (R, "MEL_CAP"): "answers GET_MEASUREMENT_EXTENSION_LOG",
    (Q, "EVENT_CAP"): "sends events",
    (Q, "MULTI_KEY_CAP_ONLY"): "uses several asymmetric keys, always",
    (Q, "MULTI_KEY_CAP_NEG"): "uses several asymmetric keys when that is negotiated",
    (R, "GET_KEY_PAIR_INFO_CAP"): "answers GET_KEY_PAIR_INFO",
    (R, "SET_KEY_PAIR_INFO_CAP"): "answers SET_KEY_PAIR_INFO",
    (R, "SET_KEY_PAIR_RESET_CAP"): "may want a reset after SET_KEY_PAIR_INFO",
    (Q, "LARGE_RESP_CAP"): "takes the large forms of messages (32-bit lengths)",
    (X, "SLOT_MGMT_CAP"): "answers SLOT_MANAGEMENT",
}
"""(flags, name) -> what who sets it promises; of flags that both sides have, stated once."""

FRAME_TYPES: dict[int, tuple[str, str]] = {
    MessageType.OUT_OF_SESSION: ("Out-of-Session message", "an SPDM message follows the header"),
    MessageType.IN_SESSION: ("In-Session message", "a secured message (DSP0277) follows"),
    MessageType.ROLE_INQUIRY: (
        "Role-Inquiry",
        "the initiator is a responder and asks the listener to be the requester",
    ),
    MessageType.TOO_LARGE: ("error", "PayloadLen of the frame before is too large for the sender"),
    MessageType.VERSION_NOT_SUPPORTED: (
        "error",
        "BindingVer is not supported; that of this frame is",
    ),
    MessageType.CANNOT_BE_REQUESTER: ("error", "Role-Inquiry refused: cannot be the requester"),
    MessageType.CANNOT_BE_RESPONDER: ("error", "request refused: cannot be the responder"),
}
"""MessageType of DSP0287 -> its name and meaning (tables 1 and 2)."""

FRAME_FIELDS: dict[str, tuple[str, str]] = {
    "PayloadLen": (
        "DSP0287 6, table 1",
        "2 bytes: the bytes behind the header, and two more in the other dialect.",
    ),
    "BindingVer": ("DSP0287 6, table 1", "1 byte: 1. Another value is answered with 0xC1."),
    "MessageType": (
        "DSP0287 6, tables 1 and 2",
        "1 byte: 0x05 message, 0x06 secured message, 0xBF Role-Inquiry, 0xC0 to 0xFF errors.",
    ),
    "dialect": (
        "DSP0287 6, table 1 and figure 2",
        "strict: PayloadLen is N for N bytes. libspdm: N + 2, and a second header inside records.",
    ),
    "SessionID": (
        "DSP0277 6",
        "4 bytes: ReqSessionID in the low half, RspSessionID in the high half.",
    ),
    "ApplicationDataLength": (
        "DSP0277 6",
        "2 bytes, encrypted: the bytes of the message; random bytes may follow it.",
    ),
}
"""What belongs to frames and records, and to no message: its clause, and what it is."""
