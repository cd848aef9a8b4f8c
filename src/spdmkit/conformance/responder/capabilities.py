"""GET_CAPABILITIES and CAPABILITIES (DSP0274 10.3)."""

from __future__ import annotations

from dataclasses import replace

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import (
    Misbehaviour,
    Scene,
    answering,
    putting,
)
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V11,
    V12,
    Capabilities,
    ErrorCode,
    GetCapabilities,
    RequestCode,
    RequesterFlags,
    ResponderFlags,
    ResponseCode,
    invalid_capabilities,
)
from spdmkit.messages.capabilities import DEFINED
from spdmkit.protocol.actions import Exchange

CASES = Cases("capabilities", "DSP0274 10.3")
R = RequestCode
E = ErrorCode
CAPABILITIES = ResponseCode.CAPABILITIES
FLAGS = 8
"""Offset of Flags in both messages."""
LEAST_TRANSFER = 42
"""MinDataTransferSize."""
SAFE = RequesterFlags.CHUNK_CAP
"""Flags that any requester may announce."""


def request(talk: Talk, **fields: int) -> GetCapabilities:
    """A sane request, with some fields as they should not be."""
    sane = GetCapabilities(
        flags=0 if talk.version < V12 else int(SAFE),
        ct_exponent=10,
        data_transfer_size=0xFF00,
        max_spdm_msg_size=0x1_0000,
    )
    return replace(sane, **fields)  # type: ignore[arg-type] # names of fields, by the callers


def raw(talk: Talk, **fields: int) -> bytes:
    """The same in bytes."""
    return request(talk, **fields).encode(talk.connection.context)


def _sane(sent: bytearray, scene: Scene) -> bytes | bytearray:
    """A request with everything that it can have wrong put right."""
    if sent[1:2] != bytes((R.GET_CAPABILITIES,)):
        return sent
    version = scene.connection.settings.versions[0]
    fixed = GetCapabilities(
        flags=0 if version < V12 else int(SAFE),
        ct_exponent=10,
        data_transfer_size=0xFF00,
        max_spdm_msg_size=0x1_0000,
    )
    context = scene.connection.context.answering(fixed)
    context.version = version
    return fixed.encode(context)


@CASES.case(
    "layout",
    "CAPABILITIES is well formed and has the version of the request",
    stage=Stage.VERSION,
    breaks=answering(CAPABILITIES, putting(0, 0x10 + 7)),
)
def layout(talk: Talk) -> Exchange[None]:
    yield from talk.expect(request(talk), Capabilities)


CASES.ends(Capabilities, request, stage=Stage.VERSION)


def _contradicting(sent: bytearray, _request: bytes, _scene: Scene) -> bytearray:
    flags = int.from_bytes(sent[FLAGS : FLAGS + 4], "little")
    sent[FLAGS : FLAGS + 4] = (flags | 3 << 3).to_bytes(4, "little")
    return sent


@CASES.case(
    "flags",
    "the flags do not contradict each other",
    stage=Stage.VERSION,
    clause="DSP0274 10.3, table 15",
    breaks=answering(CAPABILITIES, _contradicting),
)
def flags(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), Capabilities)
    reason = invalid_capabilities(message.flags, ResponderFlags, talk.version)
    talk.check(reason is None, f"the flags go together{f': {reason}' if reason else ''}")


@CASES.case(
    "reserved-flags",
    "flags that the version does not have are zero",
    stage=Stage.VERSION,
    until=V12 + 1,
    clause="DSP0274 10.3, table 15",
    breaks=answering(CAPABILITIES, putting(FLAGS + 3, 0xFF)),
)
def reserved_flags(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), Capabilities)
    unknown = message.flags & ~DEFINED[ResponderFlags][talk.version]
    talk.equal(unknown, 0, "what is reserved in Flags")


@CASES.case(
    "sizes",
    "DataTransferSize is 42 at least and MaxSPDMmsgSize no smaller",
    stage=Stage.VERSION,
    since=V12,
    breaks=answering(CAPABILITIES, putting(12, 41, 0, 0, 0)),
)
def sizes(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), Capabilities)
    talk.check(
        message.data_transfer_size >= LEAST_TRANSFER,
        f"DataTransferSize {message.data_transfer_size} is {LEAST_TRANSFER} at least",
    )
    talk.check(
        message.max_spdm_msg_size >= message.data_transfer_size,
        "MaxSPDMmsgSize is no smaller than DataTransferSize",
    )


def _unchunked(sent: bytearray, _request: bytes, _scene: Scene) -> bytearray:
    """No chunks, and yet messages larger than one transfer."""
    flags = int.from_bytes(sent[FLAGS : FLAGS + 4], "little") & ~int(ResponderFlags.CHUNK_CAP)
    sent[FLAGS : FLAGS + 4] = flags.to_bytes(4, "little")
    sent[16:20] = b"\xff\xff\xff\x00"
    return sent


@CASES.case(
    "one-transfer",
    "without CHUNK_CAP MaxSPDMmsgSize is DataTransferSize",
    stage=Stage.VERSION,
    since=V12,
    breaks=answering(CAPABILITIES, _unchunked),
)
def one_transfer(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(request(talk), Capabilities)
    chunks = bool(message.flags & ResponderFlags.CHUNK_CAP)
    talk.check(
        chunks or message.max_spdm_msg_size == message.data_transfer_size,
        "MaxSPDMmsgSize needs CHUNK_CAP to be larger than DataTransferSize",
    )


@CASES.case(
    "reserved",
    "reserved bytes of CAPABILITIES are zero",
    stage=Stage.VERSION,
    breaks=answering(CAPABILITIES, putting(4, 1)),
)
def reserved(talk: Talk) -> Exchange[None]:
    answer = yield from talk.ask(request(talk))
    talk.decoded(answer, Capabilities, request(talk))
    talk.equal(answer[3], 0, "Param2")
    talk.equal(answer[4], 0, "the byte before CTExponent")


def _forgetful(sent: bytearray, request: bytes, scene: Scene) -> bytes | bytearray:
    """A retry gets an answer of its own."""
    if request[1] != R.GET_CAPABILITIES or scene.count < 2:
        return sent
    return bytes((request[0], CAPABILITIES)) + bytes(18)


@CASES.case(
    "again",
    "an identical GET_CAPABILITIES is a retry and gets the identical answer",
    stage=Stage.VERSION,
    breaks=Misbehaviour(response=_forgetful),
)
def again(talk: Talk) -> Exchange[None]:
    first = yield from talk.ask(request(talk))
    talk.decoded(first, Capabilities, request(talk))
    second = yield from talk.ask(request(talk))
    if second[1] == ResponseCode.ERROR:
        talk.refused(second, E.UNEXPECTED_REQUEST)  # retries are optional on reliable transports
    else:
        talk.equal(second, first, "the answer to a retry")


@CASES.case(
    "different",
    "a second GET_CAPABILITIES that says something else is refused",
    stage=Stage.CAPABILITIES,
    since=V11,
    breaks=Misbehaviour(response=_forgetful),
)
def different(talk: Talk) -> Exchange[None]:
    yield from talk.expect_refusal(raw(talk, ct_exponent=11), E.UNEXPECTED_REQUEST)


def _with(flags: RequesterFlags | int) -> int:
    return int(SAFE | flags)


_F = RequesterFlags
_CONTRADICTIONS = (
    ("key-ex-without-mac", _F.KEY_EX_CAP, V12),
    ("psk-without-mac", _F.PSK_CAP, V12),
    ("encrypt-without-session", _F.ENCRYPT_CAP, V12),
    ("psk-reserved", 3 << 10 | _F.MAC_CAP, V12),
    ("psk-reserved-2", 2 << 10 | _F.MAC_CAP, V12),
    ("cert-and-pub-key-id", _F.CERT_CAP | _F.CHAL_CAP | _F.PUB_KEY_ID_CAP, V12),
    ("ep-info-reserved", 3 << 22, V12 + 1),
    ("multi-key-reserved", 3 << 26 | _F.CERT_CAP | _F.CHAL_CAP, V12 + 1),
)
for _name, _flags, _since in _CONTRADICTIONS:
    CASES.refuses(
        f"contradiction-{_name}",
        f"requester flags that contradict each other are refused ({_name})",
        lambda talk, flags=_flags: raw(talk, flags=_with(flags)),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        clause="DSP0274 10.3, table 13",
        mend=_sane,
        stage=Stage.VERSION,
        since=_since,
    )

CASES.refuses(
    "transfer-too-small",
    "DataTransferSize below 42 is refused",
    lambda talk: raw(talk, data_transfer_size=LEAST_TRANSFER - 1),
    E.INVALID_REQUEST,
    mend=_sane,
    stage=Stage.VERSION,
    since=V12,
)
CASES.refuses(
    "message-smaller-than-transfer",
    "MaxSPDMmsgSize below DataTransferSize is refused",
    lambda talk: raw(talk, data_transfer_size=4096, max_spdm_msg_size=4095),
    E.INVALID_REQUEST,
    mend=_sane,
    stage=Stage.VERSION,
    since=V12,
)
CASES.refuses(
    "large-without-chunks",
    "MaxSPDMmsgSize above DataTransferSize without CHUNK_CAP is refused",
    lambda talk: raw(talk, flags=0, data_transfer_size=4096, max_spdm_msg_size=8192),
    E.INVALID_REQUEST,
    mend=_sane,
    stage=Stage.VERSION,
    since=V12,
)
for _cut in (1, 4, 8, 12):
    CASES.refuses(
        f"cut-{_cut}",
        f"GET_CAPABILITIES without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: raw(talk)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        mend=_sane,
        stage=Stage.VERSION,
        since=V12,
    )
CASES.refuses(
    "other-version",
    "a version that was not offered is refused",
    lambda talk: bytes((0x19,)) + raw(talk)[1:],
    E.VERSION_MISMATCH,
    E.INVALID_REQUEST,
    mend=_sane,
    stage=Stage.VERSION,
)
CASES.refuses(
    "skipped",
    "NEGOTIATE_ALGORITHMS before GET_CAPABILITIES is refused",
    lambda talk: talk.header(R.NEGOTIATE_ALGORITHMS) + bytes(28),
    E.UNEXPECTED_REQUEST,
    E.INVALID_REQUEST,
    clause="DSP0274 10.1",
    mend=lambda sent, scene: (
        _sane(bytearray((sent[0], R.GET_CAPABILITIES)), scene)
        if sent[1] == R.NEGOTIATE_ALGORITHMS
        else sent
    ),
    stage=Stage.VERSION,
)
