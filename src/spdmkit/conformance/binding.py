"""The TCP binding (DSP0287 clause 6) of a listener: headers, dialects, error frames, roles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from spdmkit.conformance.outcome import CaseResult, Outcome
from spdmkit.conformance.talk import Stopped
from spdmkit.conformance.wire import Reply, Wire, WireMisbehaviour
from spdmkit.errors import SpdmError
from spdmkit.transports.uri import Host

__all__ = ["BINDING_CASES", "BindingCase", "run_binding_case"]

GET_VERSION = b"\x10\x84\x00\x00"
STRICT = b"\x04\x00\x01\x05" + GET_VERSION
LIBSPDM = b"\x06\x00\x01\x05" + GET_VERSION
ROLE_INQUIRY = b"\x00\x00\x01\xbf"
VERSION_CODE = 0x04
OUT_OF_SESSION, IN_SESSION, INQUIRY = 0x05, 0x06, 0xBF
TOO_LARGE, BAD_VERSION, NOT_REQUESTER = 0xC0, 0xC1, 0xC2


@dataclass(frozen=True, slots=True)
class BindingCase:
    """One rule of the binding; as `conformance.case.Case`, without an SPDM version.

    Attributes:
        name: "binding.rule".
        clause: where it stands.
        title: the rule in a sentence.
        script: the conversation.
        breaks: how a listener breaks it.
    """

    name: str
    clause: str
    title: str
    script: Callable[[Wire], None]
    breaks: WireMisbehaviour


BINDING_CASES: list[BindingCase] = []
"""All of them, in order."""


def _case(
    name: str, clause: str, title: str, breaks: WireMisbehaviour
) -> Callable[[Callable[[Wire], None]], Callable[[Wire], None]]:
    def add(script: Callable[[Wire], None]) -> Callable[[Wire], None]:
        made = BindingCase(f"binding.{name}", f"DSP0287 {clause}", title, script, breaks)
        BINDING_CASES.append(made)
        return script

    return add


def run_binding_case(case: BindingCase, host: Host, patience: float) -> CaseResult:
    """Run a case against a listener."""
    result = CaseResult(case.name, case.title, case.clause, 0, Outcome.PASSED)
    started = time.perf_counter()
    wire = Wire(host, patience, case.clause)
    detail = ""
    try:
        with wire:
            case.script(wire)
    except Stopped:
        pass
    except SpdmError as error:
        detail = str(error)
    findings = tuple(wire.findings)
    outcome = Outcome.PASSED
    if any(not finding.holds for finding in findings):
        outcome = Outcome.FAILED
    elif detail or not findings:
        outcome = Outcome.ERROR
    seconds = time.perf_counter() - started
    return replace(result, outcome=outcome, findings=findings, detail=detail, seconds=seconds)


def _swallow(frame_type: int) -> Callable[[bytes], bytes]:
    """Leave out a header of a type."""
    return lambda data: b"" if data[3:4] == bytes((frame_type,)) else data


def _put(offset: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:offset] + bytes((value,)) + data[offset + 1 :]


def _version(wire: Wire, extra: int) -> None:
    """VERSION, its PayloadLen counted in a dialect."""
    reply = wire.reply(6)
    wire.need(reply is not None, "GET_VERSION is answered")
    if reply is None:
        return
    wire.check(reply.message_type == OUT_OF_SESSION, "VERSION has MessageType 0x05")
    wire.check(reply.version == 1, "BindingVer is 1")
    wire.need(reply.body[1:2] == bytes((VERSION_CODE,)), "the answer is VERSION")
    size = 6 + 2 * reply.body[5]
    wire.check(
        reply.length == size + extra,
        f"PayloadLen is {size + extra}; it was {reply.length}",
    )
    rest = wire.read(size - 6)
    wire.check(len(rest) == size - 6, "VERSION is complete")


@_case(
    "strict",
    "6.1, table 1",
    "a frame whose PayloadLen is the message's length is answered in kind",
    WireMisbehaviour(to_peer=lambda data: bytes((data[0] + 2,)) + data[1:]),
)
def strict(wire: Wire) -> None:
    """GET_VERSION by table 1."""
    wire.send(STRICT)
    _version(wire, 0)


@_case(
    "libspdm",
    "6.1, figure 2",
    "a frame whose PayloadLen counts two bytes more, as the figure has it, is answered in kind",
    WireMisbehaviour(to_peer=lambda data: bytes((data[0] - 2,)) + data[1:]),
)
def libspdm(wire: Wire) -> None:
    """GET_VERSION by figure 2."""
    wire.send(LIBSPDM)
    _version(wire, 2)


@_case(
    "split",
    "6.1",
    "a frame that comes byte by byte is answered",
    WireMisbehaviour(from_peer=lambda data: data if len(data) > 1 else b""),
)
def split(wire: Wire) -> None:
    """Eight segments of one byte."""
    wire.send_slowly(STRICT)
    _version(wire, 0)


@_case(
    "coalesced",
    "6.1",
    "two frames that come in one segment are both answered",
    WireMisbehaviour(from_peer=lambda data: data[: len(STRICT)]),
)
def coalesced(wire: Wire) -> None:
    """Two requests in one write."""
    wire.send(STRICT + STRICT)
    _version(wire, 0)
    _version(wire, 0)


def _error(wire: Wire, code: int, words: str) -> Reply | None:
    reply = wire.reply()
    wire.need(reply is not None, f"{words} is answered with an error frame")
    if reply is None:
        return None
    wire.check(reply.message_type == code, f"it is {code:#x}; it was {reply.message_type:#x}")
    wire.check(reply.length == 0, "PayloadLen of an error frame is 0")
    wire.check(wire.closed(), "the connection is closed then")
    return reply


@_case(
    "binding-version",
    "6.3, table 2",
    "a BindingVer that is not supported gets 0xC1 with the version that is",
    WireMisbehaviour(to_peer=_swallow(BAD_VERSION)),
)
def binding_version(wire: Wire) -> None:
    """BindingVer 9."""
    wire.send(STRICT[:2] + b"\x09" + STRICT[3:])
    reply = _error(wire, BAD_VERSION, "an unknown BindingVer")
    if reply is not None:
        wire.check(reply.version == 1, "BindingVer of the error frame is the supported one")


@_case(
    "closes-after-error",
    "6.3",
    "the connection is closed after an error frame",
    WireMisbehaviour(stays=True),
)
def closes_after_error(wire: Wire) -> None:
    """It must not go on after 0xC1."""
    wire.send(STRICT[:2] + b"\x09" + STRICT[3:])
    wire.reply()
    wire.check(wire.closed(), "the connection is closed after an error frame")


def _no_spdm(wire: Wire, words: str) -> None:
    """What came is no SPDM message; the connection ends."""
    reply = wire.reply()
    answered = reply is not None and reply.message_type in (OUT_OF_SESSION, IN_SESSION)
    wire.check(not answered, f"{words} is not answered by an SPDM message")
    wire.check(wire.closed(), "the connection is closed")


@_case(
    "unknown-type",
    "6.1, table 1",
    "a MessageType that is reserved ends the connection",
    WireMisbehaviour(from_peer=_put(3, OUT_OF_SESSION)),
)
def unknown_type(wire: Wire) -> None:
    """MessageType 0x42."""
    wire.send(STRICT[:3] + b"\x42" + STRICT[4:])
    _no_spdm(wire, "a reserved MessageType")


@_case(
    "error-frame",
    "6.3",
    "an error frame is not answered, least of all by another one",
    WireMisbehaviour(from_peer=lambda _data: STRICT),
)
def error_frame(wire: Wire) -> None:
    """0xC0 out of nowhere."""
    wire.send(b"\x00\x00\x01\xc0")
    reply = wire.reply()
    wire.check(reply is None, "an error frame is not answered")


@_case(
    "role-inquiry",
    "6.2",
    "Role-Inquiry is answered by the first request, or by 0xC2 and the end",
    WireMisbehaviour(to_peer=lambda _data: ROLE_INQUIRY),
)
def role_inquiry(wire: Wire) -> None:
    """There is no reply frame: an echo is wrong."""
    wire.send(ROLE_INQUIRY)
    reply = wire.reply()
    wire.need(reply is not None, "Role-Inquiry has an effect")
    if reply is None:
        return
    wire.check(reply.message_type != INQUIRY, "Role-Inquiry is not echoed")
    if reply.message_type == NOT_REQUESTER:
        wire.check(reply.length == 0, "PayloadLen of an error frame is 0")
        wire.check(wire.closed(), "the connection is closed then")
        return
    wire.check(reply.message_type == OUT_OF_SESSION, "it is a request, or 0xC2")
    wire.check(wire.read(2) == GET_VERSION[:2], "the first request is GET_VERSION")


@_case(
    "late-role-inquiry",
    "6.2",
    "Role-Inquiry after an SPDM message is refused: a connection has one requester",
    WireMisbehaviour(from_peer=lambda data: STRICT if data == ROLE_INQUIRY else data),
)
def late_role_inquiry(wire: Wire) -> None:
    """GET_VERSION first, then 0xBF."""
    wire.send(STRICT)
    _version(wire, 0)
    wire.send(ROLE_INQUIRY)
    _no_spdm(wire, "a late Role-Inquiry")


@_case(
    "record-first",
    "6.5",
    "a record before there is a session is not answered in a session",
    WireMisbehaviour(
        to_peer=lambda data: data[:3] + bytes((IN_SESSION,)) + data[4:] or STRICT,
        from_peer=lambda _data: STRICT,
    ),
)
def record_first(wire: Wire) -> None:
    """Twenty-two bytes of nothing."""
    record = b"\x01\x02\x03\x04\x10\x00" + bytes(16)
    wire.send(len(record).to_bytes(2, "little") + b"\x01\x06" + record)
    reply = wire.reply()
    in_session = reply is not None and reply.message_type == IN_SESSION
    wire.check(not in_session, "no record answers it")


@_case(
    "too-short",
    "6.4",
    "a PayloadLen too small for an SPDM header ends the connection",
    WireMisbehaviour(from_peer=lambda _data: STRICT),
)
def too_short(wire: Wire) -> None:
    """PayloadLen 1."""
    wire.send(b"\x01\x00\x01\x05\x10")
    _no_spdm(wire, "a message of one byte")
