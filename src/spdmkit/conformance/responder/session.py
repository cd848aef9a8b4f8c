"""Life in a session: HEARTBEAT, KEY_UPDATE, END_SESSION, records (DSP0274 10.20 to 10.23)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import (
    Misbehaviour,
    Scene,
    answering,
    appending,
    obliging,
    putting,
)
from spdmkit.conformance.talk import Talk
from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V11,
    V12,
    V13,
    Digests,
    EndSession,
    EndSessionAck,
    ErrorCode,
    GetDigests,
    GetMeasurements,
    Heartbeat,
    HeartbeatAck,
    KeyUpdate,
    KeyUpdateAck,
    KeyUpdateOperation,
    MeasurementOperation,
    Measurements,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.sessions import key_update

CASES = Cases("session", "DSP0274 10.20")
R = RequestCode
E = ErrorCode
F = ResponderFlags
KEX = F.KEY_EX_CAP | F.CERT_CAP
ACK = ResponseCode.KEY_UPDATE_ACK


@CASES.case(
    "heartbeat",
    "HEARTBEAT is answered",
    stage=Stage.SESSION,
    needs=KEX | F.HBEAT_CAP,
    since=V11,
    breaks=answering(ResponseCode.HEARTBEAT_ACK, appending(b"\x01")),
)
def heartbeat(talk: Talk) -> Exchange[None]:
    yield from talk.expect(Heartbeat(), HeartbeatAck)
    yield from talk.expect(Heartbeat(), HeartbeatAck)


@CASES.case(
    "heartbeat-psk",
    "HEARTBEAT is answered in a session by pre-shared key",
    stage=Stage.PSK_SESSION,
    needs=F.HBEAT_CAP,
    since=V11,
    breaks=answering(ResponseCode.HEARTBEAT_ACK, putting(0, 0x19)),
)
def heartbeat_psk(talk: Talk) -> Exchange[None]:
    yield from talk.expect(Heartbeat(), HeartbeatAck)


@CASES.case(
    "measurements",
    "measurements can be read in a session",
    clause="DSP0274 8.6",
    stage=Stage.SESSION,
    needs=KEX,
    any_of=F.MEAS_CAP_NO_SIG | F.MEAS_CAP_SIG,
    since=V11,
    breaks=answering(ResponseCode.MEASUREMENTS, appending(b"\x01")),
)
def measurements(talk: Talk) -> Exchange[None]:
    asked = GetMeasurements(measurement_operation=MeasurementOperation.ALL, context=talk.random(8))
    message = yield from talk.expect(asked, Measurements)
    talk.check(bool(message.measurement_record), "there are measurements")


@CASES.case(
    "digests",
    "digests can be read in a session, and are those outside",
    clause="DSP0274 8.6",
    stage=Stage.SESSION,
    needs=KEX,
    since=V13,
    breaks=answering(
        ResponseCode.DIGESTS,
        lambda sent, _r, scene: sent if scene.count < 2 else sent + b"\x01",
    ),
)
def digests(talk: Talk) -> Exchange[None]:
    yield from talk.expect(GetDigests(), Digests)


@CASES.case(
    "key-update",
    "KEY_UPDATE is repeated in its ACK",
    clause="DSP0274 10.21",
    stage=Stage.SESSION,
    needs=KEX | F.KEY_UPD_CAP,
    since=V11,
    breaks=answering(ACK, putting(3, 0x77)),
)
def update(talk: Talk) -> Exchange[None]:
    asked = KeyUpdate(operation=KeyUpdateOperation.UPDATE_KEY, tag=0x11)
    message = yield from talk.expect(asked, KeyUpdateAck)
    talk.equal(message.operation, KeyUpdateOperation.UPDATE_KEY, "KeyOperation")
    talk.equal(message.tag, 0x11, "Tag")


def _updated(talk: Talk, *, all_keys: bool) -> Exchange[None]:
    try:
        yield from key_update(talk.link, all_keys=all_keys)
    except SpdmError as error:
        talk.need(False, f"the keys can be updated: {error}")
    talk.check(True, "the keys can be updated")
    yield from talk.expect(Heartbeat(), HeartbeatAck)


@CASES.case(
    "key-update-one",
    "after UpdateKey and VerifyNewKey the requester's new key is in use",
    clause="DSP0274 10.21",
    stage=Stage.SESSION,
    needs=KEX | F.KEY_UPD_CAP | F.HBEAT_CAP,
    since=V11,
    breaks=answering(ACK, putting(2, 9)),
)
def update_one(talk: Talk) -> Exchange[None]:
    yield from _updated(talk, all_keys=False)


@CASES.case(
    "key-update-all",
    "after UpdateAllKeys both directions have new keys",
    clause="DSP0274 10.21",
    stage=Stage.SESSION,
    needs=KEX | F.KEY_UPD_CAP | F.HBEAT_CAP,
    since=V11,
    breaks=Misbehaviour(request=lambda raw, _s: _only_one(raw)),
)
def update_all(talk: Talk) -> Exchange[None]:
    yield from _updated(talk, all_keys=True)


def _only_one(raw: bytearray) -> bytearray:
    if raw[1] == R.KEY_UPDATE and raw[2] == KeyUpdateOperation.UPDATE_ALL_KEYS:
        raw[2] = KeyUpdateOperation.UPDATE_KEY
    return raw


for _operation in (0, 4, 0xFF):

    def _reserved(talk: Talk, operation: int = _operation) -> Exchange[None]:
        sent = talk.header(R.KEY_UPDATE, operation, 1)
        yield from talk.expect_refusal(sent, E.INVALID_REQUEST)

    CASES.case(
        f"key-operation-{_operation:02x}",
        f"KeyOperation {_operation:#04x} is reserved",
        clause="DSP0274 10.21",
        stage=Stage.SESSION,
        needs=KEX | F.KEY_UPD_CAP,
        since=V11,
        breaks=obliging(ACK),
    )(_reserved)


@CASES.case(
    "verify-without-update",
    "VerifyNewKey without an update before it is refused",
    clause="DSP0274 10.21",
    stage=Stage.SESSION,
    needs=KEX | F.KEY_UPD_CAP,
    since=V11,
    breaks=obliging(ACK),
)
def verify_without_update(talk: Talk) -> Exchange[None]:
    asked = KeyUpdate(operation=KeyUpdateOperation.VERIFY_NEW_KEY, tag=1)
    yield from talk.expect_refusal(asked, E.UNEXPECTED_REQUEST, E.INVALID_REQUEST)


@CASES.case(
    "end",
    "END_SESSION is answered, and then the session is over",
    clause="DSP0274 10.22",
    stage=Stage.SESSION,
    needs=KEX,
    since=V11,
    breaks=Misbehaviour(request=lambda raw, _s: _no_end(raw)),
)
def end(talk: Talk) -> Exchange[None]:
    yield from talk.expect(EndSession(), EndSessionAck)
    yield from talk.expect_end(Heartbeat())


def _no_end(raw: bytearray) -> bytes | bytearray:
    return bytes((raw[0], R.HEARTBEAT, 0, 0)) if raw[1] == R.END_SESSION else raw


for _name, _request in (
    ("heartbeat", R.HEARTBEAT),
    ("key-update", R.KEY_UPDATE),
    ("end-session", R.END_SESSION),
):

    def _mended(raw: bytearray, _scene: Scene) -> bytes | bytearray:
        inside = (R.HEARTBEAT, R.KEY_UPDATE, R.END_SESSION)
        return bytes((raw[0], R.GET_DIGESTS, 0, 0)) if raw[1] in inside else raw

    CASES.refuses(
        f"outside-{_name}",
        f"{_request.name} outside a session is refused",
        lambda talk, code=_request: talk.header(code, 1, 1),  # type: ignore[misc] # default argument binds the loop variable
        E.UNEXPECTED_REQUEST,
        E.SESSION_REQUIRED,
        E.UNSUPPORTED_REQUEST,
        E.INVALID_REQUEST,
        clause="DSP0274 8.6, table 6",
        needs=F.CERT_CAP,
        since=V11,
        mend=_mended,
    )

for _name, _request in (
    ("version", R.GET_VERSION),
    ("capabilities", R.GET_CAPABILITIES),
    ("algorithms", R.NEGOTIATE_ALGORITHMS),
    ("challenge", R.CHALLENGE),
    ("psk-exchange", R.PSK_EXCHANGE),
):

    def _inside(talk: Talk, code: RequestCode = _request) -> Exchange[None]:
        yield from talk.expect_refusal(talk.header(code) + bytes(40))

    CASES.case(
        f"inside-{_name}",
        f"{_request.name} inside a session is refused",
        clause="DSP0274 8.6, table 6",
        stage=Stage.SESSION,
        needs=KEX,
        since=V11,
        breaks=obliging(ResponseCode(_request & 0x7F)),
    )(_inside)


def _tampered(talk: Talk) -> Exchange[bytes]:
    """A record with one bit flipped; what comes back, in the clear or in the session."""
    session = talk.session
    if session is None:
        raise SpdmError("no session")
    sent = Heartbeat().encode(talk.connection.context)
    record = bytearray(session.session.sender.message(sent))
    record[-1] ^= 1
    answer = yield from talk.link.ask_frame(Frame(FrameKind.SECURED, bytes(record)))
    if answer.kind is FrameKind.MESSAGE:
        return answer.body
    content = session.session.opened(answer.body, talk.connection.clock())
    return content if isinstance(content, bytes) else b""


def _unmoved(sent: bytearray, _asked: bytes, _scene: Scene) -> bytes | bytearray:
    """Go on as if the record had been right."""
    if sent[1] == ResponseCode.ERROR and sent[2] == E.DECRYPT_ERROR:
        return bytes((sent[0], ResponseCode.HEARTBEAT_ACK, 0, 0))
    return sent


@CASES.case(
    "tampered-record",
    "a record that is not authentic gets ERROR DecryptError, or nothing",
    clause="DSP0277 9.3",
    stage=Stage.SESSION,
    needs=KEX,
    since=V12,
    breaks=Misbehaviour(response=_unmoved),
)
def tampered_record(talk: Talk) -> Exchange[None]:
    try:
        answer = yield from _tampered(talk)
    except SpdmError as error:
        talk.check(True, f"the record is not answered: {error}")
        return
    talk.refused(answer, E.DECRYPT_ERROR)
