"""GET_VERSION and VERSION (DSP0274 10.2)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import Scene, answering, putting, tolerating
from spdmkit.conformance.talk import Talk
from spdmkit.messages import V10, V14, ErrorCode, GetVersion, RequestCode, ResponseCode, Version
from spdmkit.protocol.actions import Exchange

CASES = Cases("version", "DSP0274 10.2")
R = RequestCode
VERSION = ResponseCode.VERSION
GET_VERSION = bytes((V10, R.GET_VERSION, 0, 0))


@CASES.case(
    "layout",
    "VERSION has version byte 1.0, no reserved bits, and as many entries as it says",
    stage=Stage.CONNECTED,
    breaks=answering(VERSION, putting(0, 0x12)),
)
def layout(talk: Talk) -> Exchange[None]:
    answer = yield from talk.ask(GET_VERSION)
    message = talk.decoded(answer, Version, GetVersion())
    talk.check(bool(message.version_number_entries), "there is at least one version")
    talk.equal(len(answer), 6 + 2 * answer[5], "the length of VERSION")
    talk.equal(answer[2:5], bytes(3), "what is reserved in VERSION")


@CASES.case(
    "reserved",
    "reserved bytes of VERSION are zero",
    stage=Stage.CONNECTED,
    breaks=answering(VERSION, putting(2, 7)),
)
def reserved(talk: Talk) -> Exchange[None]:
    answer = yield from talk.ask(GET_VERSION)
    talk.decoded(answer, Version, GetVersion())
    talk.equal(answer[2:5], bytes(3), "what is reserved in VERSION")


@CASES.case(
    "entries",
    "the entries are versions of SPDM, none twice, with the tested one among them",
    stage=Stage.CONNECTED,
    breaks=answering(VERSION, putting(6, 0x00, 0x90)),
)
def entries(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GET_VERSION, Version)
    found = message.version_number_entries
    talk.equal(len(set(found)), len(found), "the number of different versions")
    for entry in found:
        major, minor = entry >> 12, entry >> 8 & 0xF
        talk.check(major == 1 and minor <= 9, f"{major}.{minor} is a version of SPDM")
    talk.check(talk.version in {entry >> 8 for entry in found}, "the tested version is offered")


CASES.ends(Version, lambda _talk: GET_VERSION, stage=Stage.CONNECTED)


def _less(sent: bytearray) -> bytearray:
    sent[5] -= 1
    return sent[:-2]


@CASES.case(
    "again",
    "GET_VERSION may be asked again, and the answer is the same",
    stage=Stage.CONNECTED,
    breaks=answering(VERSION, lambda sent, _, scene: sent if scene.count < 2 else _less(sent)),
)
def again(talk: Talk) -> Exchange[None]:
    first = yield from talk.ask(GET_VERSION)
    second = yield from talk.ask(GET_VERSION)
    talk.equal(second, first, "VERSION when it is asked for again")


def _without_reset(sent: bytearray, request: bytes, _scene: Scene) -> bytes | bytearray:
    """Answer GET_CERTIFICATE and the like as if nothing had been reset."""
    if request[1] == R.GET_DIGESTS and sent[1] == ResponseCode.ERROR:
        return bytes((request[0], ResponseCode.DIGESTS, 0, 0))
    return sent


@CASES.case(
    "resets",
    "GET_VERSION resets the connection: nothing negotiated before counts afterwards",
    clause="DSP0274 10.2",
    breaks=answering(ResponseCode.ERROR, _without_reset),
)
def resets(talk: Talk) -> Exchange[None]:
    yield from talk.expect(GET_VERSION, Version)
    answer = yield from talk.ask(talk.header(R.GET_DIGESTS))
    talk.refused(
        answer,
        ErrorCode.UNEXPECTED_REQUEST,
        ErrorCode.REQUEST_RESYNCH,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.VERSION_MISMATCH,  # the next request fixes the version, and this one may not
    )


@CASES.case(
    "survives",
    "a GET_VERSION that is refused changes nothing",
    breaks=tolerating(lambda raw, _c: GET_VERSION if raw[1] == R.GET_VERSION else raw),
)
def survives(talk: Talk) -> Exchange[None]:
    before = talk.connection.vca
    answer = yield from talk.ask(bytes((0x11, R.GET_VERSION, 0, 0)))
    talk.refused(answer, ErrorCode.VERSION_MISMATCH)
    talk.check(bool(before), "a negotiation came before")
    code = R.GET_MEASUREMENTS
    answer = yield from talk.ask(talk.header(code))
    unexpected = answer[1:3] == bytes((ResponseCode.ERROR, ErrorCode.UNEXPECTED_REQUEST))
    talk.check(not unexpected, "requests that follow a negotiation are still known")


def _as_version(raw: bytearray, _scene: Scene) -> bytes | bytearray:
    return GET_VERSION if raw[1:2] == bytes((R.GET_VERSION,)) else raw


for _value in (0x00, 0x11, V14 + 1, 0x20, 0xFF):
    CASES.refuses(
        f"version-byte-{_value:02x}",
        f"GET_VERSION with version byte {_value:#04x} is refused",
        lambda _talk, value=_value: bytes((value, R.GET_VERSION, 0, 0)),  # type: ignore[misc] # default argument binds the loop variable
        ErrorCode.VERSION_MISMATCH,
        ErrorCode.INVALID_REQUEST,
        mend=_as_version,
        stage=Stage.CONNECTED,
    )

for _size in (1, 2, 3):
    CASES.refuses(
        f"short-{_size}",
        f"a message of {_size} bytes is refused",
        lambda _talk, size=_size: GET_VERSION[:size],  # type: ignore[misc] # likewise
        ErrorCode.INVALID_REQUEST,
        mend=lambda raw, _c: GET_VERSION if len(raw) < 4 else raw,
        stage=Stage.CONNECTED,
    )

CASES.refuses(
    "unknown-code",
    "a request code that does not exist is refused",
    lambda talk: talk.header(RequestCode.GET_DIGESTS)[:1] + b"\x90\x00\x00",
    ErrorCode.UNSUPPORTED_REQUEST,
    ErrorCode.INVALID_REQUEST,
    clause="DSP0274 8.4",
    mend=lambda raw, _c: GET_VERSION if raw[1] == 0x90 else raw,
)

for _name, _code, _rest in (
    ("digests", R.GET_DIGESTS, b""),
    ("algorithms", R.NEGOTIATE_ALGORITHMS, b"\x20\x00" + bytes(26)),
):
    CASES.refuses(
        f"first-{_name}",
        f"{_code.name} before GET_VERSION is refused",
        lambda talk, code=_code, rest=_rest: talk.header(code) + rest,  # type: ignore[misc] # likewise
        ErrorCode.UNEXPECTED_REQUEST,
        ErrorCode.VERSION_MISMATCH,
        ErrorCode.REQUEST_RESYNCH,
        ErrorCode.INVALID_REQUEST,
        clause="DSP0274 10.1",
        mend=lambda raw, scene: raw if scene.connection.vca else GET_VERSION,
        stage=Stage.CONNECTED,
    )
