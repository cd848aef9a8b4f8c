"""Bad input, rule by rule: what DSP0274 says is answered to what must not come.

Each row names its clause, the state it needs, the bytes, and the ERROR. After every row the
responder must still serve: nothing a peer sends raises, hangs, or leaves it dead. What the binding
refuses (DSP0287 6.3) has the second table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from spdmkit.messages import (
    V10,
    V11,
    V12,
    V13,
    V14,
    Challenge,
    ChunkGet,
    ChunkSend,
    Context,
    DeliverEncapsulatedResponse,
    EndSession,
    ErrorCode,
    Finish,
    GetCapabilities,
    GetCertificate,
    GetDigests,
    GetEncapsulatedRequest,
    GetMeasurementExtensionLog,
    GetMeasurements,
    Heartbeat,
    KeyExchange,
    KeyUpdate,
    Message,
    PskExchange,
    PskFinish,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    RespondIfReady,
    VendorDefinedRequest,
)
from spdmkit.protocol import opaque
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.requester.negotiate import (
    get_capabilities,
    get_version,
    negotiate,
)
from spdmkit.transports.framing import BindingError, Dialect, Role, Side
from spdmkit.transports.tcp import ROLE_INQUIRY, TcpBinding

from ..protocol.support import EVERYTHING, MemoryDevice, Pair
from ..protocol.test_session_life import another
from .support import Half, deliver, error_of, open_key_exchange, open_psk

E = ErrorCode
R = RequestCode
F = ResponderFlags
CLEAR = int(F.HANDSHAKE_IN_THE_CLEAR_CAP)
ALL = (V10, V11, V12, V13, V14)
FROM_11, FROM_12, FROM_13 = ALL[1:], ALL[2:], ALL[3:]

Build = Callable[[Any], "bytes | Message"]


@dataclass(frozen=True)
class Row:
    """A rule.

    Attributes:
        clause: of DSP0274.
        state: what comes first: "start", "version", "capabilities", "negotiated", or "session".
        build: the request, for the pair that it goes to.
        code: the ERROR; None when the request is accepted.
        data: Param2 of the ERROR.
        versions: those that have the rule.
        responder: other settings of the responder.
        session_over: with "session", whether the session ends.
    """

    clause: str
    state: str
    build: Build
    code: int | None
    data: int | None = None
    versions: tuple[int, ...] = (V13,)
    responder: dict[str, Any] | None = None
    requester: dict[str, Any] | None = None
    session_over: bool = False


def raw(text: str) -> Build:
    return lambda _pair: bytes.fromhex(text)


def capabilities(**changes: Any) -> Build:
    """GET_CAPABILITIES that is right but for this."""

    def build(pair: Pair) -> Message:
        values: dict[str, Any] = {
            "ct_exponent": 10,
            "flags": int(RequesterFlags.CHUNK_CAP),
            "data_transfer_size": 4096,
            "max_spdm_msg_size": 65536,
        }
        values.update(changes)
        return GetCapabilities(**values)

    return build


def key_exchange(**changes: Any) -> Build:
    """KEY_EXCHANGE that is right but for this."""

    def build(pair: Pair) -> Message:
        algorithms = pair.requester.connection.algorithms
        assert algorithms.dhe is not None
        values: dict[str, Any] = {
            "slot_id": 0,
            "req_session_id": 1,
            "random_data": bytes(range(32)),
            "exchange_data": algorithms.dhe.generate().exchange_data,
            "opaque_data": _offer(pair),
        }
        values.update(changes)
        return KeyExchange(**values)

    return build


def psk_exchange(**changes: Any) -> Build:
    """PSK_EXCHANGE that is right but for this."""

    def build(pair: Pair) -> Message:
        values: dict[str, Any] = {
            "req_session_id": 1,
            "psk_hint": b"hint",
            "requester_context": bytes(range(32)),
            "opaque_data": _offer(pair),
        }
        values.update(changes)
        return PskExchange(**values)

    return build


def _offer(pair: Pair) -> bytes:
    return opaque.write_offer(pair.requester.connection.version, (0x1200,), 64)


def chunk(**changes: Any) -> Build:
    """CHUNK_SEND that is right but for this."""

    def build(_pair: Pair) -> Message:
        values: dict[str, Any] = {
            "last_chunk": False,
            "handle": 1,
            "chunk_seq_no": 0,
            "large_message_size": 70_000,
            "chunk": bytes(64),
        }
        values.update(changes)
        if values["chunk_seq_no"]:
            values["large_message_size"] = 0
        return ChunkSend(**values)

    return build


def of(message: Message) -> Build:
    return lambda _pair: message


NO_CAPABILITIES = {"capabilities": 0}
NO_KEYS = {"capabilities": int(EVERYTHING & ~(F.PSK_CAP_MASK))}
POINT_OFF_THE_CURVE = bytes(95) + b"\x07"

ROWS: dict[str, Row] = {
    # -- headers, codes, versions -----------------------------------------------------------------
    "no bytes": Row("8.3", "negotiated", raw(""), E.INVALID_REQUEST, versions=ALL),
    "one byte": Row("8.3", "start", raw("10"), E.INVALID_REQUEST),
    "three bytes": Row("8.3", "negotiated", raw("138100"), E.INVALID_REQUEST),
    "a code that does not exist": Row(
        "8.4", "negotiated", lambda p: bytes((p.requester.connection.version, 0x99, 0, 0)),
        E.UNSUPPORTED_REQUEST, 0x99, ALL,
    ),
    "a response code as a request": Row(
        "8.4", "negotiated", raw("13010000"), E.UNSUPPORTED_REQUEST, 0x01
    ),
    "a reserved code before anything": Row(
        "8.4", "start", raw("10f80000"), E.UNSUPPORTED_REQUEST, 0xF8
    ),
    "GET_VERSION with another version": Row("10.2", "start", raw("12840000"), E.VERSION_MISMATCH),
    "another version than negotiated": Row(
        "10.2", "negotiated", raw("12810000"), E.VERSION_MISMATCH
    ),
    "a version that was not offered": Row(
        "10.2", "version", raw("15e10000"), E.VERSION_MISMATCH
    ),
    "version 0": Row("10.2", "negotiated", raw("00810000"), E.VERSION_MISMATCH),
    "more bytes than the message has": Row(
        "8.3", "negotiated", raw("1381000001"), E.INVALID_REQUEST
    ),
    "zero bytes after the message": Row("8.3", "negotiated", raw("138100000000"), None),
    # -- order ------------------------------------------------------------------------------------
    "GET_CAPABILITIES before GET_VERSION": Row(
        "10.2", "start", raw("10e10000"), E.REQUEST_RESYNCH
    ),
    "NEGOTIATE_ALGORITHMS before GET_CAPABILITIES": Row(
        "10.1", "version", raw("13e30000" + "00" * 28), E.UNEXPECTED_REQUEST
    ),
    "GET_DIGESTS before NEGOTIATE_ALGORITHMS": Row(
        "10.1", "capabilities", raw("13810000"), E.UNEXPECTED_REQUEST
    ),
    "GET_CAPABILITIES twice": Row(
        "10.3", "capabilities", capabilities(), E.UNEXPECTED_REQUEST, versions=FROM_12
    ),
    "NEGOTIATE_ALGORITHMS twice": Row(
        "10.4", "negotiated", raw("13e30000" + "00" * 28), E.UNEXPECTED_REQUEST
    ),
    "FINISH outside a session": Row(
        "10.18", "negotiated", of(Finish(verify_data=bytes(48))), E.SESSION_REQUIRED,
        versions=(V12, V13),
    ),
    "FINISH outside a session in 1.1": Row(
        "10.18", "negotiated", of(Finish(verify_data=bytes(48))), E.UNEXPECTED_REQUEST,
        versions=(V11,),
    ),
    "FINISH in the clear without KEY_EXCHANGE": Row(
        "10.18", "negotiated", of(Finish(verify_data=bytes(48))), E.UNEXPECTED_REQUEST,
        versions=(V11, V12, V13),
        responder={"capabilities": int(EVERYTHING & ~F.EVENT_CAP) | CLEAR},
        requester={"capabilities": requester_capabilities(sessions=True) | CLEAR},
    ),
    "HEARTBEAT outside a session": Row(
        "10.21", "negotiated", of(Heartbeat()), E.SESSION_REQUIRED, versions=FROM_12
    ),
    "HEARTBEAT outside a session in 1.1": Row(
        "10.21", "negotiated", of(Heartbeat()), E.UNEXPECTED_REQUEST, versions=(V11,)
    ),
    "KEY_UPDATE outside a session": Row(
        "10.22", "negotiated", of(KeyUpdate(operation=1, tag=1)), E.SESSION_REQUIRED,
        versions=FROM_12,
    ),
    "END_SESSION outside a session": Row(
        "10.25", "negotiated", of(EndSession()), E.SESSION_REQUIRED, versions=FROM_12
    ),
    "PSK_FINISH outside a session": Row(
        "10.20", "negotiated", of(PskFinish(verify_data=bytes(48))), E.SESSION_REQUIRED,
        versions=FROM_12,
    ),
    # -- capabilities -----------------------------------------------------------------------------
    **{
        f"{name} without its capability": Row(
            "10.3", "negotiated", build, E.UNSUPPORTED_REQUEST, code, (V13,), NO_CAPABILITIES
        )
        for name, code, build in (
            ("GET_DIGESTS", R.GET_DIGESTS, of(GetDigests())),
            ("GET_CERTIFICATE", R.GET_CERTIFICATE, of(GetCertificate(length=1))),
            ("CHALLENGE", R.CHALLENGE, raw("13830000" + "01" * 40)),
            ("GET_MEASUREMENTS", R.GET_MEASUREMENTS, of(GetMeasurements(context=bytes(8)))),
            ("GET_MEASUREMENT_EXTENSION_LOG", R.GET_MEASUREMENT_EXTENSION_LOG,
             of(GetMeasurementExtensionLog(length=1))),
            ("KEY_EXCHANGE", R.KEY_EXCHANGE, raw("13e40000" + "00" * 40)),
            ("PSK_EXCHANGE", R.PSK_EXCHANGE, raw("13e60000" + "00" * 40)),
            ("HEARTBEAT", R.HEARTBEAT, of(Heartbeat())),
            ("CHUNK_SEND", R.CHUNK_SEND, chunk()),
            ("GET_ENCAPSULATED_REQUEST", R.GET_ENCAPSULATED_REQUEST, of(GetEncapsulatedRequest())),
            ("GET_CSR", R.GET_CSR, raw("13ed000000000000")),
            ("SET_CERTIFICATE", R.SET_CERTIFICATE, raw("13ee000000000000")),
            ("GET_ENDPOINT_INFO", R.GET_ENDPOINT_INFO, raw("1387000000000000")),
            ("GET_KEY_PAIR_INFO", R.GET_KEY_PAIR_INFO, raw("13fc000001")),
            ("SUBSCRIBE_EVENT_TYPES", R.SUBSCRIBE_EVENT_TYPES, raw("13f0000000000000")),
        )
    },
    "a request of a later version": Row(
        "8.4", "negotiated", raw("12870000" + "00" * 4), E.UNSUPPORTED_REQUEST, 0x87, (V12,)
    ),
    # -- GET_CAPABILITIES -------------------------------------------------------------------------
    "CTExponent above 31": Row(
        "10.3", "version", raw("12e1000000200000" + "00000400" + "00100000" * 2),
        E.INVALID_REQUEST, versions=(V12,),
    ),
    "DataTransferSize below 42": Row(
        "10.3", "version", capabilities(data_transfer_size=41), E.INVALID_REQUEST,
        versions=FROM_12,
    ),
    "MaxSPDMmsgSize below DataTransferSize": Row(
        "10.3", "version", capabilities(max_spdm_msg_size=4095), E.INVALID_REQUEST,
        versions=FROM_12,
    ),
    "MaxSPDMmsgSize without CHUNK_CAP": Row(
        "10.3", "version", capabilities(flags=0), E.INVALID_REQUEST, versions=FROM_12
    ),
    "MAC_CAP without a way to a session": Row(
        "10.3", "version", capabilities(flags=int(RequesterFlags.MAC_CAP)), E.INVALID_REQUEST,
        versions=FROM_12,
    ),
    "KEY_EX_CAP without ENCRYPT_CAP or MAC_CAP": Row(
        "10.3", "version", capabilities(flags=int(RequesterFlags.KEY_EX_CAP)), E.INVALID_REQUEST,
        versions=FROM_12,
    ),
    "CERT_CAP and PUB_KEY_ID_CAP": Row(
        "10.3", "version",
        capabilities(flags=int(RequesterFlags.CERT_CAP | RequesterFlags.PUB_KEY_ID_CAP
                               | RequesterFlags.CHAL_CAP)),
        E.INVALID_REQUEST, versions=FROM_12,
    ),
    "the supported algorithms without CHUNK_CAP": Row(
        "10.3", "version",
        capabilities(flags=0, max_spdm_msg_size=4096, supported_algorithms_requested=True),
        E.INVALID_REQUEST, versions=FROM_13,
    ),
    # -- NEGOTIATE_ALGORITHMS ---------------------------------------------------------------------
    **{
        f"NEGOTIATE_ALGORITHMS: {name}": Row("10.4", "capabilities", raw(text), E.INVALID_REQUEST)
        for name, text in {
            "Length above its message": "13e300002100" + "0102" + "00" * 24,
            "Length below its message": "13e300001f00" + "0102" + "00" * 24,
            "Length above 128": "13e300008100" + "0102" + "00" * 121,
            "Length 0": "13e300000000" + "0102" + "00" * 24,
            "more structures than are there": "13e301002000" + "0102" + "00" * 24,
            "external algorithms that are not there": "13e300002000" + "0102" + "00" * 20
            + "01000000",
            "a structure that is cut": "13e301002200" + "0102" + "00" * 24 + "0220",
        }.items()
    },
    "nothing in common": Row(
        "10.4", "capabilities", raw("13e300002000" + "0102" + "00" * 24), None
    ),
    # -- certificates -----------------------------------------------------------------------------
    **{
        f"GET_CERTIFICATE of slot {slot}": Row(
            "10.9", "negotiated", of(GetCertificate(slot_id=slot, length=100)), E.INVALID_REQUEST
        )
        for slot in (1, 7, 8, 15)
    },
    "GET_CERTIFICATE beyond the chain": Row(
        "10.9", "negotiated", of(GetCertificate(offset=0xFFFF, length=1)), E.INVALID_REQUEST
    ),
    "CHALLENGE of a slot that does not exist": Row(
        "10.10", "negotiated", of(Challenge(slot_id=8, nonce=bytes(32), context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    "CHALLENGE of an empty slot": Row(
        "10.10", "negotiated", of(Challenge(slot_id=3, nonce=bytes(32), context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    "CHALLENGE of a key that was not provisioned": Row(
        "10.10", "negotiated", of(Challenge(slot_id=0xFF, nonce=bytes(32), context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    "CHALLENGE with a reserved summary type": Row(
        "10.10", "negotiated",
        of(Challenge(measurement_summary_hash_type=2, nonce=bytes(32), context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    # -- measurements -----------------------------------------------------------------------------
    "a measurement that does not exist": Row(
        "10.11", "negotiated", of(GetMeasurements(measurement_operation=0x99, context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    "a reserved measurement index": Row(
        "10.11", "negotiated", of(GetMeasurements(measurement_operation=0xF0, context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    "a signature of a responder that does not sign": Row(
        "10.11", "negotiated",
        of(GetMeasurements(signature_requested=True, nonce=bytes(32), context=bytes(8))),
        E.UNSUPPORTED_REQUEST, R.GET_MEASUREMENTS, (V13,),
        {"capabilities": int(EVERYTHING & ~F.MEAS_CAP_MASK | F.MEAS_CAP_NO_SIG)},
    ),
    "a signature by an empty slot": Row(
        "10.11", "negotiated",
        of(GetMeasurements(signature_requested=True, nonce=bytes(32), slot_id=5,
                           context=bytes(8))),
        E.INVALID_REQUEST,
    ),
    "the measurement log beyond its end": Row(
        "10.31", "negotiated", of(GetMeasurementExtensionLog(offset=16, length=1)),
        E.INVALID_REQUEST,
    ),
    # -- sessions ---------------------------------------------------------------------------------
    "KEY_EXCHANGE of an empty slot": Row(
        "10.17", "negotiated", key_exchange(slot_id=5), E.INVALID_REQUEST
    ),
    "KEY_EXCHANGE with a reserved summary type": Row(
        "10.17", "negotiated", key_exchange(measurement_summary_hash_type=7), E.INVALID_REQUEST
    ),
    "KEY_EXCHANGE with a point that is not on the curve": Row(
        "10.17", "negotiated", key_exchange(exchange_data=POINT_OFF_THE_CURVE), E.INVALID_REQUEST
    ),
    "KEY_EXCHANGE without opaque data": Row(
        "DSP0277 8", "negotiated", key_exchange(opaque_data=b""), E.INVALID_REQUEST
    ),
    "KEY_EXCHANGE with opaque data that is cut": Row(
        "DSP0277 8", "negotiated", key_exchange(opaque_data=b"\x01\0\0\0\0\0\x20\0"),
        E.INVALID_REQUEST,
    ),
    "KEY_EXCHANGE with another secured message version": Row(
        "DSP0277 8", "negotiated",
        key_exchange(opaque_data=opaque.write_offer(V13, (0x2000,), 64)), E.INVALID_REQUEST,
    ),
    "KEY_EXCHANGE with an AEAD limit above 2^64": Row(
        "DSP0277 8", "negotiated",
        key_exchange(opaque_data=opaque.write_offer(V13, (0x1300,), 7).replace(
            b"\x01\x02\x07", b"\x01\x02\x41")),
        E.INVALID_REQUEST,
    ),
    "KEY_EXCHANGE beyond the limit of sessions": Row(
        "10.17", "negotiated", lambda p: (another(p), key_exchange()(p))[1],
        E.SESSION_LIMIT_EXCEEDED, None, (V13,), {"max_sessions": 1},
    ),
    "EventAllPolicy without EVENT_CAP": Row(
        "10.17", "negotiated", key_exchange(event_all_policy=True), E.INVALID_REQUEST
    ),
    "PSK_EXCHANGE with a short context": Row(
        "10.19", "negotiated", psk_exchange(requester_context=bytes(31)), E.INVALID_REQUEST
    ),
    "PSK_EXCHANGE without opaque data": Row(
        "DSP0277 8", "negotiated", psk_exchange(opaque_data=b""), E.INVALID_REQUEST
    ),
    "PSK_EXCHANGE with a reserved summary type": Row(
        "10.19", "negotiated", psk_exchange(measurement_summary_hash_type=9), E.INVALID_REQUEST
    ),
    # -- in a session -----------------------------------------------------------------------------
    **{
        f"{name} in a session": Row("8.6", "session", build, E.UNEXPECTED_REQUEST)
        for name, build in {
            "GET_CAPABILITIES": capabilities(),
            "NEGOTIATE_ALGORITHMS": raw("13e30000" + "00" * 28),
            "CHALLENGE": raw("13830000" + "01" * 40),
            "KEY_EXCHANGE": raw("13e40000" + "00" * 200),
            "PSK_EXCHANGE": raw("13e60000" + "00" * 60),
            "FINISH": raw("13e50000" + "00" * 64),
            "PSK_FINISH": raw("13e70000" + "00" * 64),
        }.items()
    },
    "GET_VERSION in a session": Row("8.6", "session", raw("10840000"), E.UNEXPECTED_REQUEST),
    "a code that does not exist, in a session": Row(
        "8.4", "session", raw("13990000"), E.UNSUPPORTED_REQUEST, 0x99
    ),
    "another version in a session": Row("8.4", "session", raw("12e80000"), E.VERSION_MISMATCH),
    "KEY_UPDATE with a reserved operation": Row(
        "10.22", "session", of(KeyUpdate(operation=4, tag=1)), E.INVALID_REQUEST
    ),
    "VerifyNewKey without an update": Row(
        "10.22", "session", of(KeyUpdate(operation=3, tag=1)), E.INVALID_REQUEST
    ),
    "a message cut in a session": Row("8.3", "session", raw("13e8"), E.INVALID_REQUEST),
    # -- encapsulated -----------------------------------------------------------------------------
    "GET_ENCAPSULATED_REQUEST when nothing waits": Row(
        "10.23", "negotiated", of(GetEncapsulatedRequest()), E.NO_PENDING_REQUESTS,
        versions=FROM_13,
    ),
    "GET_ENCAPSULATED_REQUEST when nothing waits, before 1.3": Row(
        "10.23", "negotiated", of(GetEncapsulatedRequest()), E.UNEXPECTED_REQUEST,
        versions=(V11, V12),
    ),
    "DELIVER_ENCAPSULATED_RESPONSE that nothing waits for": Row(
        "10.24", "negotiated",
        of(DeliverEncapsulatedResponse(request_id=1, encapsulated_response=b"\x13\x01\0\0")),
        E.UNEXPECTED_REQUEST,
    ),
    # -- large messages ---------------------------------------------------------------------------
    "a first chunk that is not number 0": Row(
        "10.27", "negotiated", raw("13850001" + "01000000" + "40000000" + "00" * 64),
        E.INVALID_REQUEST,
    ),
    "a chunk of fewer than 42 bytes": Row(
        "10.27", "negotiated", chunk(chunk=bytes(8)), E.INVALID_REQUEST
    ),
    "chunks beyond MaxSPDMmsgSize": Row(
        "10.27", "negotiated", chunk(large_message_size=1 << 30), E.REQUEST_TOO_LARGE
    ),
    "a chunk larger than DataTransferSize": Row(
        "10.27", "negotiated", chunk(chunk=bytes(600)), E.REQUEST_TOO_LARGE, None, (V13,),
        {"data_transfer_size": 512},
    ),
    "a last chunk that leaves bytes over": Row(
        "10.27", "negotiated", chunk(last_chunk=True), E.INVALID_REQUEST
    ),
    "CHUNK_GET when nothing waits": Row(
        "10.27", "negotiated", of(ChunkGet(handle=1, chunk_seq_no=0)), E.UNEXPECTED_REQUEST
    ),
    # -- the rest ---------------------------------------------------------------------------------
    "RESPOND_IF_READY when nothing waits": Row(
        "10.14", "negotiated", of(RespondIfReady(request_code=0x83, token=1)),
        E.UNEXPECTED_REQUEST, versions=ALL,
    ),
    "VENDOR_DEFINED that nobody understands": Row(
        "10.15", "negotiated", of(VendorDefinedRequest(standard_id=3, vendor_id=b"\x34\x12")),
        E.UNSUPPORTED_REQUEST, R.VENDOR_DEFINED_REQUEST, ALL,
    ),
    "VENDOR_DEFINED whose vendor id is cut": Row(
        "10.15", "negotiated", raw("13fe0000" + "0400" + "ff" + "0000"), E.INVALID_REQUEST
    ),
    "VENDOR_DEFINED whose payload is cut": Row(
        "10.15", "negotiated", raw("13fe0000" + "0400" + "04" + "00000000" + "ffff" + "00"),
        E.INVALID_REQUEST,
    ),
}  # fmt: skip

CASES = [(name, version) for name, row in ROWS.items() for version in row.versions]


def pair_in(state: str, version: int, row: Row) -> Pair:
    """A pair that has come as far as a row needs."""
    responder: dict[str, Any] = {"capabilities": EVERYTHING & ~F.EVENT_CAP}
    responder.update(row.responder or {})
    pair = Pair(
        MemoryDevice("ecdsa-p256"),
        versions=(version,),
        requester={"algorithms": _small(), **(row.requester or {})},
        responder=responder,
    )
    steps = {"version": get_version, "capabilities": get_capabilities}
    if state in ("negotiated", "session"):
        pair.run(negotiate(pair.link))
    elif state != "start":
        for name, step in steps.items():
            pair.run(step(pair.link))
            if name == state:
                break
    return pair


def _small() -> Any:
    """P-384 and SHA-384, so that literal bytes have the right length."""
    from spdmkit.crypto import registry
    from spdmkit.protocol.settings import AlgorithmSet

    return AlgorithmSet.available().narrowed(
        base_hash=registry.BASE_HASH.by_name("sha-384").mask,
        dhe=registry.DHE.by_name("secp384r1").mask,
        kem=0,
    )


def serves_on(pair: Pair) -> None:
    """Whatever came: a new client of the same connection is served."""
    pair.bend = lambda _who, frame: frame
    pair.run(negotiate(pair.link))
    if pair.responder.connection.own.flags & F.CERT_CAP:
        assert pair.run(get_digests(pair.link)).slots


def asked(pair: Pair, build: Build, session: Any = None) -> bytes:
    """Send what a row builds and return the answer, opened."""
    message = build(pair)
    if isinstance(message, Message):
        message = message.encode(pair.requester.connection.context)
    if session is None:
        (frame,) = deliver(pair, Frame(FrameKind.MESSAGE, message))
        assert frame.kind is FrameKind.MESSAGE
        return frame.body
    record = session.sender.message(message)
    (frame,) = deliver(pair, Frame(FrameKind.SECURED, record))
    assert frame.kind is FrameKind.SECURED
    opened = session.receiver.message(frame.body)
    assert isinstance(opened, bytes)
    return opened


@pytest.mark.parametrize(("name", "version"), CASES)
def test_a_rule(name: str, version: int) -> None:
    row = ROWS[name]
    pair = pair_in(row.state, version, row)
    session = another(pair).session if row.state == "session" else None
    before = len(pair.responder.connection.sessions)
    answer = asked(pair, row.build, session)
    if row.code is None:
        assert error_of(answer) is None
    else:
        assert error_of(answer) == row.code, f"{answer.hex()}, not {E(row.code).name}"
        if row.data is not None:
            assert answer[3] == row.data
    if session is not None:
        assert len(pair.responder.connection.sessions) == before - row.session_over
    serves_on(pair)


def test_nothing_in_common_leaves_only_get_version() -> None:
    """10.5: every selection is zero, and what follows is answered RequestResynch."""
    row = ROWS["nothing in common"]
    pair = pair_in("capabilities", V13, row)
    answer = asked(pair, row.build)
    assert answer[1] == 0x63
    assert not any(answer[8:24])
    for request in (GetDigests(), GetMeasurements(context=bytes(8)), Heartbeat()):
        refused = asked(pair, of(request))
        assert error_of(refused) == E.REQUEST_RESYNCH
    serves_on(pair)


# --- chunks in the wrong order -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (chunk(chunk_seq_no=2), E.INVALID_REQUEST),
        (chunk(chunk_seq_no=1, handle=2), E.INVALID_REQUEST),
        (chunk(chunk_seq_no=0), None),  # the same once more: a retry (10.27.3)
        (chunk(chunk_seq_no=0, chunk=b"x" * 64), E.INVALID_REQUEST),
        (chunk(chunk_seq_no=1, chunk=b""), E.INVALID_REQUEST),
        (of(GetDigests()), E.UNEXPECTED_REQUEST),
        (of(ChunkGet(handle=1, chunk_seq_no=0)), E.UNEXPECTED_REQUEST),
    ],
)
def test_after_a_first_chunk(second: Build, code: int | None) -> None:
    pair = pair_in("negotiated", V13, ROWS["no bytes"])
    assert error_of(asked(pair, chunk())) is None
    assert error_of(asked(pair, second)) == code
    serves_on(pair)


def test_a_large_request_may_not_be_one_of_a_negotiation_or_a_chunk() -> None:
    for inner in ("10840000", "13e10000", "13850001", "13860001"):
        pair = pair_in("negotiated", V13, ROWS["no bytes"])
        body = bytes.fromhex(inner) + bytes(66_000)
        size = 0xFE00
        first = chunk(large_message_size=len(body), chunk=body[:size])
        assert error_of(asked(pair, first)) is None
        rest = body[size:]
        last = chunk(chunk_seq_no=1, last_chunk=True, large_message_size=0, chunk=rest)
        answer = asked(pair, last)
        assert error_of(answer[6:]) in (E.UNEXPECTED_REQUEST, E.VERSION_MISMATCH)
        serves_on(pair)


def test_a_large_request_with_an_error_in_it_answers_in_the_acknowledgement() -> None:
    pair = pair_in("negotiated", V13, ROWS["no bytes"])
    body = bytes.fromhex("13810000") + b"\x01" * 66_000
    assert error_of(asked(pair, chunk(large_message_size=len(body), chunk=body[:0xFE00]))) is None
    last = chunk(chunk_seq_no=1, last_chunk=True, large_message_size=0, chunk=body[0xFE00:])
    answer = asked(pair, last)
    assert answer[1] == 0x05
    assert error_of(answer[6:]) == E.INVALID_REQUEST
    serves_on(pair)


# --- every request, cut at every byte ------------------------------------------------------------


def samples(pair: Pair) -> dict[str, bytes]:
    """A good request of each kind that has more than a header."""
    context = pair.requester.connection.context
    made = {
        "CHALLENGE": Challenge(nonce=bytes(32), context=bytes(8)),
        "GET_CERTIFICATE": GetCertificate(length=100),
        "GET_MEASUREMENTS": GetMeasurements(
            signature_requested=True, measurement_operation=1, nonce=bytes(32), context=bytes(8)
        ),
        "GET_MEASUREMENT_EXTENSION_LOG": GetMeasurementExtensionLog(length=1),
        "VENDOR_DEFINED": VendorDefinedRequest(standard_id=4, vendor_id=bytes(4), payload=bytes(9)),
        "KEY_EXCHANGE": key_exchange()(pair),
        "PSK_EXCHANGE": psk_exchange()(pair),
    }
    return {
        name: message.encode(context) if isinstance(message, Message) else message
        for name, message in made.items()
    }


@pytest.mark.parametrize(
    "name",
    ["CHALLENGE", "GET_CERTIFICATE", "GET_MEASUREMENTS", "GET_MEASUREMENT_EXTENSION_LOG",
     "VENDOR_DEFINED", "KEY_EXCHANGE", "PSK_EXCHANGE"],
)  # fmt: skip
def test_cut_at_every_byte(name: str) -> None:
    pair = pair_in("negotiated", V13, ROWS["no bytes"])
    whole = samples(pair)[name]
    for length in range(len(whole)):
        answer = asked(pair, raw(whole[:length].hex()))
        assert error_of(answer) == E.INVALID_REQUEST, (length, answer.hex())
    assert error_of(asked(pair, raw(whole.hex()))) is None
    serves_on(pair)


@pytest.mark.parametrize("opener", [open_key_exchange, open_psk])
def test_a_finisher_cut_at_every_byte(opener: Callable[[Pair], Half]) -> None:
    kind = "FINISH" if opener is open_key_exchange else "PSK_FINISH"
    length = 0
    while True:
        half = opener(Pair(MemoryDevice("ecdsa-p256"), versions=(V13,)))
        finisher = half.finisher(kind)
        answer = half.send(finisher[:length], inside=True)
        if length == len(finisher):
            assert half.established
            return
        assert error_of(answer) is not None
        assert not half.established
        length += max(1, len(finisher) // 6) if length < len(finisher) - 1 else 1
        length = min(length, len(finisher))


# --- records -------------------------------------------------------------------------------------


RECORDS: dict[str, Callable[[Any, bytes], bytes]] = {
    "nothing": lambda session, good: b"",
    "one byte": lambda session, good: good[:1],
    "only a session id": lambda session, good: good[:4],
    "a record of no session": lambda session, good: b"\x01\x02\x03\x04" + good[4:],
    "a Length beyond the record": lambda session, good: good[:4] + b"\xff\xff" + good[6:],
    "a Length below the tag": lambda session, good: good[:4] + b"\x0f\0" + good[6:],
    "a Length of zero": lambda session, good: good[:4] + b"\0\0" + good[6:],
    "cut": lambda session, good: good[:-1],
    "a bit of the tag": lambda session, good: good[:-1] + bytes((good[-1] ^ 1,)),
    "a bit of the text": lambda session, good: good[:8] + bytes((good[8] ^ 1,)) + good[9:],
    "more after it": lambda session, good: good + b"\x01",
    "an empty record": lambda session, good: session.sender.seal(b""),
    "the next but one": lambda session, good: session.sender.message(b"\x13\xe8\0\0"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_is_wrong(name: str) -> None:
    """DSP0277 9: whatever fails ends its session; another session and the connection go on."""
    pair = pair_in("negotiated", V13, ROWS["no bytes"])
    one, two = another(pair), another(pair)
    good = one.session.sender.message(Heartbeat().encode(pair.requester.connection.context))
    bad = RECORDS[name](one.session, good)
    if name == "an empty record":
        # Sealed after the other: the numbers must fit, so that it is the emptiness that fails.
        deliver(pair, Frame(FrameKind.SECURED, good))
    frames = deliver(pair, Frame(FrameKind.SECURED, bad))
    assert error_of(frames[-1].body) == E.DECRYPT_ERROR
    names_it = bad[:4] == good[:4] and len(bad) >= 22
    assert (one.session.session_id in pair.responder.connection.sessions) is not names_it
    assert pair.run(two.link.converse(b"x")).data == b"x"
    serves_on(pair)


def test_invalid_session_in_1_1() -> None:
    """The code exists there only, with the low byte of the id."""
    pair = pair_in("negotiated", V11, ROWS["no bytes"])
    (frame,) = deliver(pair, Frame(FrameKind.SECURED, b"\x07\0\0\0" + bytes(40)))
    assert error_of(frame.body) == E.INVALID_SESSION
    assert frame.body[3] == 7
    serves_on(pair)


# --- the binding (DSP0287 6) ---------------------------------------------------------------------


@dataclass(frozen=True)
class BindingRow:
    """What a listener answers to bytes, before it closes; nothing when `reply` is empty."""

    clause: str
    data: str
    reply: str
    roles: tuple[Role, ...] = (Role.RESPONDER,)


BINDING: dict[str, BindingRow] = {
    "another BindingVer": BindingRow("6.3", "04000205", "000001c1"),
    "BindingVer 0": BindingRow("6.3", "04000005", "000001c1"),
    "another BindingVer of a reserved type": BindingRow("6.3", "04000207", "000001c1"),
    "another BindingVer of Role-Inquiry": BindingRow("6.3", "000002bf", "000001c1"),
    "more than we take": BindingRow("6.3", "ffff0105", "000001c0"),
    "a record that is more than we take": BindingRow("6.3", "ffff0106", "000001c0"),
    "Role-Inquiry to a responder": BindingRow("6.3", "000001bf", "000001c2"),
    "a request to a requester": BindingRow("6.3", "0400010510840000", "000001c3",
                                           (Role.REQUESTER,)),
    "a record to a requester": BindingRow("6.3", "20000106" + "00" * 32, "000001c3",
                                          (Role.REQUESTER,)),
    "Role-Inquiry after SPDM": BindingRow("6.2", "0400010510840000000001bf", "000001c2"),
    "a reserved MessageType": BindingRow("6.1", "04000107", ""),
    "MessageType 0": BindingRow("6.1", "04000100", ""),
    "an error frame": BindingRow("6.3", "000001c1", ""),
    "a reserved error frame": BindingRow("6.3", "000001ff", ""),
    "a record before any session": BindingRow("6.5", "20000106" + "00" * 32, ""),
    "PayloadLen 0": BindingRow("6.4", "00000105", ""),
    "PayloadLen 3": BindingRow("6.4", "03000105108400", ""),
    "Role-Inquiry with a payload": BindingRow("6.2", "040001bf", "", (Role.REQUESTER,)),
    "Role-Inquiry twice": BindingRow("6.2", "000001bf000001bf", "", (Role.REQUESTER,)),
    "a first message of no known length": BindingRow("6.4", "40000105" + "99" * 64, ""),
}  # fmt: skip


@pytest.mark.parametrize("split", [1, 3, 1000])
@pytest.mark.parametrize("name", BINDING)
def test_a_rule_of_the_binding(name: str, split: int) -> None:
    row = BINDING[name]
    binding = TcpBinding(Side.LISTENER, row.roles, max_frame=4096)
    data = bytes.fromhex(row.data)
    errors: list[BindingError] = []
    for start in range(0, len(data), split):
        binding.receive(data[start : start + split])
        while (event := binding.next_event()) is not None:
            if isinstance(event, BindingError):
                errors.append(event)
    (error,) = errors
    assert error.reply.hex() == row.reply
    # After that the connection is over: nothing more is taken or given.
    binding.receive(ROLE_INQUIRY * 3)
    assert binding.next_event() is None


def test_both_dialects_refuse_alike() -> None:
    for dialect in Dialect:
        binding = TcpBinding(Side.LISTENER, [Role.RESPONDER], dialect=dialect, max_frame=100)
        binding.receive(bytes.fromhex("ffff0105"))
        event = binding.next_event()
        assert isinstance(event, BindingError)
        assert event.reply.hex() == "000001c0"


def test_contexts_are_what_the_rows_assume() -> None:
    pair = pair_in("negotiated", V13, ROWS["no bytes"])
    context: Context = pair.requester.connection.context
    assert context.hash_size == 48
    assert context.exchange_request_size == 96
