"""Explaining a code, a name, a field or a message (`spdm explain`).

    explain("0x41")            what this number is, wherever SPDM has it
    explain("MEAS_FRESH_CAP")  a capability, with its bit and who has it
    explain("slot_id")         a field, in every message that has it
    explain("10840000")        a message, field by field

Everything is found in the declarations that the codec is made from.
"""

from __future__ import annotations

import difflib
import enum
import functools
import inspect
import io
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from spdmkit.capture.decode import Decoder
from spdmkit.capture.meanings import CAPABILITIES, ERRORS, FRAME_FIELDS, FRAME_TYPES
from spdmkit.capture.sources import read_recording
from spdmkit.capture.text import event_lines
from spdmkit.crypto import registry
from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.errors import ConfigurationError, SpdmError
from spdmkit.messages import (
    MESSAGES,
    ErrorCode,
    Message,
    RequestCode,
    RequesterFlags,
    ResponderExtendedFlags,
    ResponderFlags,
    ResponseCode,
    error_name,
)
from spdmkit.wire import Struct, kinds
from spdmkit.wire.display import Format
from spdmkit.wire.inside import reachable
from spdmkit.wire.layout import valued

__all__ = ["Explanation", "explain"]

_SHORTEST_MESSAGE = 4
_OWN_TABLES = (RequestCode, ResponseCode, ErrorCode)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One meaning of what was asked for.

    Attributes:
        kind: what it is: "request", "error", "capability", "field", "value", "algorithm", ...
        name: its name in the specification.
        clause: where it is defined.
        lines: what there is to say.
    """

    kind: str
    name: str
    clause: str
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "kind": self.kind,
            "name": self.name,
            "clause": self.clause,
            "lines": list(self.lines),
        }


def explain(query: str) -> list[Explanation]:
    """Every meaning of a code, a name, a field, or a message in hex.

    Args:
        query: a number ("0x84", "132"), a name as the specification or this package writes it, or
            the bytes of a message or frame in hex. "error 0x04" or "request 0x84" asks for one
            table alone.

    Raises:
        ConfigurationError: nothing is known by that name or number.
    """
    text = query.strip()
    kind, _, rest = text.partition(" ")
    wanted = kind.lower() if kind.lower() in _FINDERS and rest else ""
    subject = rest.strip() if wanted else text
    found: list[Explanation] = []
    for name, finder in _FINDERS.items():
        if _fold(subject) and (not wanted or name == wanted):
            found += finder(subject)
    if not found and not wanted:
        found = _message(text)
    if not found:
        raise ConfigurationError(
            f"nothing in SPDM is known as {text[:80]!r}",
            hint=_suggestion(subject),
        )
    return found


def _suggestion(text: str) -> str:
    """Names that look alike, or what may be asked for."""
    close = difflib.get_close_matches(_fold(text), _names(), n=3)
    if close:
        return "did you mean " + ", ".join(_names()[name] for name in close) + "?"
    return (
        "give a code (0x84), a name (GET_DIGESTS, CHUNK_CAP, InvalidRequest), a field (SlotID), "
        "or a message in hex"
    )


@functools.cache
def _names() -> dict[str, str]:
    """Every name there is, by how it is looked up."""
    names = [code.name for table in (RequestCode, ResponseCode) for code in table]
    names += [error_name(code) for code in ErrorCode]
    names += [name for flags, _, _ in _FLAGS for name in flags.__members__ if "_MASK" not in name]
    names += list(FRAME_FIELDS)
    names += [entry.short for table, _ in _TABLES for entry in table]
    names += [
        part.name
        for struct in reachable(MESSAGES.values())
        for part in valued(struct.layout.elements)
    ]
    return {_fold(name): name for name in names if name}


# --- finding --------------------------------------------------------------------------------------


def _number(text: str) -> int | None:
    """The number that a text is, hex or decimal; None when it is none."""
    if re.fullmatch(r"0x[0-9a-f]{1,16}", text, re.IGNORECASE):
        return int(text, 16)
    return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else None


def _fold(text: str) -> str:
    """A name without what people write in different ways."""
    return re.sub(r"[\s_.-]", "", text).lower()


def _matches(text: str, value: int, *names: str) -> bool:
    number = _number(text)
    if number is not None:
        return number == value
    return _fold(text) in {_fold(name) for name in names}


def _sentence(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    doc = inspect.getdoc(thing) or ""
    return " ".join(doc.partition("\n\n")[0].split())


def _version(version: int) -> str:
    return f"{version >> 4}.{version & 15}"


def _codes(table: type[enum.IntEnum], kind: str) -> Callable[[str], Iterator[Explanation]]:
    def find(text: str) -> Iterator[Explanation]:
        for code in table:
            message = MESSAGES.get(code)
            own = message.__name__ if message is not None else ""
            if message is not None and _matches(text, code, code.name, own):
                yield _message_type(kind, message)

    return find


def _message_type(kind: str, message: type[Message]) -> Explanation:
    answer = message.code ^ 0x80
    lines = [
        f"code 0x{message.code:02x}, since SPDM {_version(message.since)}",
        _sentence(message),
    ]
    other = MESSAGES.get(answer)
    if other is not None and message.name != "ERROR":
        lines.append(f"{'answered by' if message.code & 0x80 else 'answers'} {other.name}")
    lines += [f"  {line}" for line in _layout(message)]
    return Explanation(kind, message.name, f"DSP0274 {message.clause}", tuple(lines))


def _errors(text: str) -> Iterator[Explanation]:
    for code in ErrorCode:
        if not _matches(text, code, code.name, error_name(code)):
            continue
        meaning, advice = ERRORS[code]
        lines = [f"code 0x{code:02x} in Param1 of ERROR", meaning]
        if advice:
            lines.append(advice)
        yield Explanation("error", error_name(code), "DSP0274 10.13, table 65", tuple(lines))


def _frames(text: str) -> Iterator[Explanation]:
    for value, (name, meaning) in FRAME_TYPES.items():
        if _matches(text, value, name if name != "error" else ""):
            yield Explanation(
                "frame",
                f"MessageType 0x{value:02X}",
                "DSP0287 6, tables 1 and 2",
                (f"{name}: {meaning}",),
            )


_FLAGS: tuple[tuple[type[enum.IntFlag], str, str], ...] = (
    (RequesterFlags, "requester", "DSP0274 10.3, table 13"),
    (ResponderFlags, "responder", "DSP0274 10.3, table 15"),
    (ResponderExtendedFlags, "responder, ExtFlags", "DSP0274 10.3, table 16"),
)


def _capabilities(text: str) -> Iterator[Explanation]:
    wanted = _fold(text)
    for flags, who, clause in _FLAGS:
        for name, flag in flags.__members__.items():
            short = name.replace("_CAP", "")
            # "MEAS_CAP" asks for all values of that field.
            field = name.partition("_CAP")[0] + "_CAP"
            if wanted not in {_fold(each) for each in (name, short, field)}:
                continue
            if name.endswith("_MASK"):
                continue
            meaning = CAPABILITIES.get((flags, name)) or CAPABILITIES[RequesterFlags, name]
            bits = [bit for bit in range(32) if flag & 1 << bit]
            where = f"bit {bits[0]}"
            if f"{field}_MASK" in flags.__members__:
                mask = int(flags.__members__[f"{field}_MASK"])
                low = (mask & -mask).bit_length() - 1
                where = f"bits {mask.bit_length() - 1}:{low}, value {flag >> low}"
            lines = (f"{where} of the {who}", f"Who sets it {meaning}.")
            yield Explanation("capability", name, clause, lines)


_TABLES: tuple[tuple[Table[Algorithm], str], ...] = (
    (registry.BASE_HASH, "BaseHashAlgo"),
    (registry.MEASUREMENT_HASH, "MeasurementHashAlgo"),
    (registry.BASE_ASYM, "BaseAsymAlgo, ReqBaseAsymAlg"),
    (registry.PQC_ASYM, "PqcAsymAlgo, ReqPqcAsymAlg"),
    (registry.DHE, "DHE"),
    (registry.KEM, "KEMAlg"),
    (registry.AEAD, "AEAD"),
)


def _algorithms(text: str) -> Iterator[Explanation]:
    if _number(text) is not None:
        return
    for table, field in _TABLES:
        for entry in table:
            if _fold(text) not in (_fold(entry.name), _fold(entry.short)):
                continue
            since = f"since SPDM {_version(entry.since)}"
            lines = [f"bit {entry.bit} (0x{entry.mask:x}) of {field}, {since}", *_sizes(entry)]
            if not entry.available:
                lines.append(f"not available here: {entry.why_unavailable}")
            yield Explanation("algorithm", entry.name, "DSP0274 10.4", tuple(lines))


_SIZE_NAMES = {
    "size": "digest",
    "signature_size": "signature",
    "exchange_size": "ExchangeData",
    "encapsulation_key_size": "encapsulation key",
    "ciphertext_size": "ciphertext",
    "key_size": "key",
    "tag_size": "MAC",
}


def _sizes(entry: Algorithm) -> Iterator[str]:
    for attribute, words in _SIZE_NAMES.items():
        size = getattr(entry, attribute, 0)
        if size:
            yield f"{words}: {size} bytes"


# --- fields and values ----------------------------------------------------------------------------


def _fields(text: str) -> Iterator[Explanation]:
    if _number(text) is not None:
        return
    wanted = _fold(text)
    for name, (clause, meaning) in FRAME_FIELDS.items():
        if _fold(name) == wanted:
            yield Explanation("frame field", name, clause, (meaning,))
    for struct in reachable(MESSAGES.values()):
        for element in struct.layout.elements:
            parts: list[Any] = [element]
            if isinstance(element, kinds.Word):
                parts += element.bits
            for part in parts:
                if wanted in (_fold(part.name), _fold(part.attribute)) and part.name:
                    yield _field(struct, element, part)


def _field(struct: type[Struct], element: kinds.Element, part: Any) -> Explanation:
    lines = [f"in {struct.layout.name}: {_size(element)}"]
    if isinstance(part, kinds.Bits):
        last = part.low + part.width - 1
        bits = f"bit {part.low}" if part.width == 1 else f"bits {last}:{part.low}"
        lines[0] = f"in {struct.layout.name}: {bits} of {element.name}"
    lines += _when(element, part)
    doc = part.doc or _attribute_doc(struct, part.attribute)
    if doc:
        lines.append(doc)
    display = part.display
    if isinstance(display, type) and issubclass(display, enum.Enum):
        lines.append(_sentence(display))
        lines += [f"  0x{member.value:02x} {member.name}" for member in display]
    clause = part.clause if isinstance(part, kinds.Element) and part.clause else ""
    return Explanation("field", part.name, _clause(clause or struct.layout.clause), tuple(lines))


def _attribute_doc(struct: type[Struct], attribute: str) -> str:
    """What the docstring of a structure says about an attribute."""
    match = re.search(
        rf"^    {re.escape(attribute)}: (.*(?:\n        .*)*)",
        inspect.getdoc(struct) or "",
        re.MULTILINE,
    )
    return " ".join(match[1].split()) if match else ""


def _clause(clause: str) -> str:
    return clause if clause.startswith("DSP") else f"DSP0274 {clause}"


def _when(element: kinds.Element, part: Any) -> Iterator[str]:
    since, until = max(element.since, part.since), min(element.until, part.until)
    since = max(since, element.reserved_before)
    if since > 0x10:
        yield f"since SPDM {_version(since)}"
    if until < 0xFF:
        yield f"until SPDM {_version(until)}"
    if element.when is not None:
        yield "only where a flag, the negotiation or the request says so"


def _size(element: kinds.Element) -> str:
    if isinstance(element, (kinds.Uint, kinds.Word, kinds.Fixed, kinds.Reserved)):
        return f"{element.size} byte{'s' if element.size > 1 else ''}"
    if isinstance(element, kinds.Sized):
        return _SIZED.get(element.size, element.size)
    if isinstance(element, kinds.Counted):
        return "as many bytes as its length field says"
    if isinstance(element, kinds.Rest):
        return "all bytes to the end"
    if isinstance(element, kinds.Items):
        return "a list"
    if isinstance(element, kinds.Nested):
        return f"a {element.struct.layout.name}"
    return "padding"


_SIZED = {
    "hash_size": "as long as the base hash (H)",
    "signature_size": "as long as a signature of the responder (SigLen)",
    "req_signature_size": "as long as a signature of the requester (ReqSigLen)",
    "answer_signature_size": "as long as a signature of whoever answers",
    "exchange_request_size": "as long as the DHE public value or the encapsulation key (D)",
    "exchange_response_size": "as long as the DHE public value or the KEM ciphertext (D)",
}


def _layout(struct: type[Struct]) -> Iterator[str]:
    for element in struct.layout.elements:
        if isinstance(element, (kinds.Reserved, kinds.Align)):
            continue
        more = ", ".join(_when(element, element))
        yield f"{element.name}: {_size(element)}{f' ({more})' if more else ''}"


def _enums() -> list[type[enum.Enum]]:
    found: dict[type[enum.Enum], None] = {}
    for struct in reachable(MESSAGES.values()):
        for element in struct.layout.elements:
            parts: list[Any] = [element]
            if isinstance(element, kinds.Word):
                parts += element.bits
            if isinstance(element, kinds.Items):
                parts.append(element.item)
            for part in parts:
                display = getattr(part, "display", None)
                if isinstance(display, type) and issubclass(display, enum.Enum):
                    found[display] = None
    ours = {*_OWN_TABLES, *(flags for flags, _, _ in _FLAGS), Format}
    return [each for each in found if each not in ours]


def _values(text: str) -> Iterator[Explanation]:
    """Members of the tables that fields are shown by; numbers alone say too little here."""
    if _number(text) is not None:
        return
    for table in _enums():
        for name, member in table.__members__.items():
            if _fold(text) != _fold(name):
                continue
            doc = _sentence(table)
            clause = re.search(r"\((DSP\d+[^)]*)\)", doc)
            lines = (f"0x{member.value:02x} in {table.__name__}: {doc}",)
            yield Explanation("value", name, clause[1] if clause else "", lines)


# --- messages -------------------------------------------------------------------------------------


def _message(text: str) -> list[Explanation]:
    """A message or frame in hex, decoded as far as it goes without what was negotiated."""
    digits = re.sub(r"[\s:]|0x", "", text, flags=re.IGNORECASE)
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", digits) or len(digits) < 2 * _SHORTEST_MESSAGE:
        return []
    try:
        recording = read_recording(io.BytesIO(bytes.fromhex(digits)))
    except SpdmError as error:
        raise ConfigurationError(f"these bytes are no SPDM: {error}") from error
    found: list[Explanation] = []
    with Decoder(recording, verify=False) as decoder:
        for event in decoder:
            clause = f"DSP0274 {event.message.clause}" if event.message is not None else ""
            event.notes = [note for note in event.notes if "answers no request" not in note]
            lines = list(event_lines(event, verbose=True))[1:]
            if event.summary:
                lines.insert(0, event.summary)
            text = textwrap.dedent("\n".join(lines))
            found.append(Explanation("message", event.name, clause, tuple(text.splitlines())))
    return found


_FINDERS: dict[str, Callable[[str], Iterator[Explanation]]] = {
    "request": _codes(RequestCode, "request"),
    "response": _codes(ResponseCode, "response"),
    "error": _errors,
    "capability": _capabilities,
    "frame": _frames,
    "algorithm": _algorithms,
    "field": _fields,
    "value": _values,
}
"""Kind -> who finds it; in the order in which meanings are told."""
