"""GET_MEASUREMENT_EXTENSION_LOG (DSP0274 10.31)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Scene, answering, putting
from spdmkit.conformance.talk import Talk
from spdmkit.errors import DecodeError
from spdmkit.messages import (
    V13,
    ErrorCode,
    GetMeasurementExtensionLog,
    MeasurementExtensionLog,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.messages.measurements import MeasurementLog
from spdmkit.protocol.actions import Exchange

CASES = Cases("mel", "DSP0274 10.31")
R = RequestCode
E = ErrorCode
MEL = ResponderFlags.MEL_CAP
LOG = ResponseCode.MEASUREMENT_EXTENSION_LOG


def _part(talk: Talk, offset: int, length: int) -> Exchange[MeasurementExtensionLog]:
    asked = GetMeasurementExtensionLog(offset=offset, length=length)
    return (yield from talk.expect(asked, MeasurementExtensionLog))


@CASES.case(
    "layout",
    "MEASUREMENT_EXTENSION_LOG is well formed, and no longer than asked for",
    needs=MEL,
    since=V13,
    breaks=answering(LOG, putting(4, 0xFF)),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from _part(talk, 0, 16)
    talk.check(len(message.mel) <= 16, "no more than what was asked for is sent")


CASES.ends(
    MeasurementExtensionLog,
    lambda _talk: GetMeasurementExtensionLog(offset=0, length=16),
    needs=MEL,
    since=V13,
)


def _short(sent: bytearray, asked: bytes, _scene: Scene) -> bytearray:
    if any(asked[4:8]):
        sent[8] ^= 1
    return sent


@CASES.case(
    "portions",
    "RemainderLength counts down, and the portions make a log that is well formed",
    needs=MEL,
    since=V13,
    breaks=answering(LOG, _short),
)
def portions(talk: Talk) -> Exchange[None]:
    first = yield from _part(talk, 0, 8)
    total = len(first.mel) + first.remainder_length
    data = first.mel
    while len(data) < total and len(data) < 1 << 20:
        part = yield from _part(talk, len(data), 1024)
        talk.need(bool(part.mel), "a portion of the log is not empty")
        data += part.mel
        talk.equal(part.remainder_length, total - len(data), "RemainderLength")
    try:
        MeasurementLog.decode(data, talk.connection.context)
        fault = ""
    except DecodeError as error:
        fault = f": {error}"
    talk.check(not fault, f"the log is well formed{fault}")


def _mended(raw: bytearray, _scene: Scene) -> bytes | bytearray:
    if raw[1] != R.GET_MEASUREMENT_EXTENSION_LOG:
        return raw
    return bytes(raw[:4]) + bytes(4) + b"\x10\x00\x00\x00"


CASES.refuses(
    "offset-beyond",
    "an offset beyond the log is refused",
    lambda talk: talk.header(R.GET_MEASUREMENT_EXTENSION_LOG) + b"\xf0\xff\xff\x7f" + b"\x10\0\0\0",
    E.INVALID_REQUEST,
    E.UNSPECIFIED,
    needs=MEL,
    since=V13,
    mend=_mended,
)
for _cut in (1, 4, 8):
    CASES.refuses(
        f"cut-{_cut}",
        f"GET_MEASUREMENT_EXTENSION_LOG without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: (talk.header(R.GET_MEASUREMENT_EXTENSION_LOG) + bytes(8))[:-cut],  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        needs=MEL,
        since=V13,
        mend=_mended,
    )
