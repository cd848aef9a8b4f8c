"""The page of messages: every message, field by field, from the declarations of its layout."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

from spdmkit.messages import MESSAGES, Message, RequestCode, dsp0287
from spdmkit.wire import Struct, kinds, predicates
from spdmkit.wire.inside import inside, reachable

NEWEST = 0x14


def page() -> str:
    """Requests and responses by code, then the services, then the structures inside them."""
    requests = [each for each in MESSAGES.values() if each.code in set(RequestCode)]
    responses = [each for each in MESSAGES.values() if each not in requests]
    services: list[type[Struct]] = [dsp0287.ServicePayload, *dsp0287.CONTENTS.values()]
    structures = [
        each
        for each in reachable([*MESSAGES.values(), *services])
        if not issubclass(each, Message) and each not in services
    ]
    chapters = (
        ("Requests", sorted(requests, key=lambda each: each.name)),
        ("Responses", sorted(responses, key=lambda each: each.name)),
        ("Services of DSP0287", services),
        ("Structures", sorted(structures, key=lambda each: each.layout.name)),
    )
    return "\n\n".join(_chapter(title, structs) for title, structs in chapters)


def _chapter(title: str, structs: Iterable[type[Struct]]) -> str:
    return "\n\n".join([f"## {title}", *(_section(each) for each in structs)])


def _section(struct: type[Struct]) -> str:
    layout = struct.layout
    words = (inspect.getdoc(struct) or "").partition("\n\nAttributes:")[0]
    facts = [f"`{struct.__module__}.{struct.__qualname__}`", _clause(layout.clause)]
    if issubclass(struct, Message):
        facts.insert(0, f"code 0x{struct.code:02X}")
        facts.append(f"since SPDM {_version(struct.since)}")
    lines = [f"### {layout.name}", "", " · ".join(facts), "", _escape(words), ""]
    rows = [row for element in layout.elements for row in _rows(struct, element)]
    lines += ["| field | bytes | versions | |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _rows(struct: type[Struct], element: kinds.Element) -> Iterator[tuple[str, str, str, str]]:
    if isinstance(element, kinds.Align):
        return
    meaning = "; ".join(filter(None, _meanings(struct, element)))
    yield _code(element.name or "Reserved"), _size(element), _versions(element), meaning
    if isinstance(element, kinds.Word):
        for part in sorted(element.bits, key=lambda each: each.low):
            last = part.low + part.width - 1
            bits = f"bit {part.low}" if part.width == 1 else f"bits {last}:{part.low}"
            words = part.doc or _documented(struct, part.attribute)
            meanings = filter(None, [*_role(part.role), _escape(words), *_values(part.display)])
            yield (
                f"&emsp;{_code(part.name)}",
                bits,
                _span(part.since, part.until),
                "; ".join(meanings),
            )


def _meanings(struct: type[Struct], element: kinds.Element) -> Iterator[str]:
    if isinstance(element, kinds.Reserved):
        yield "reserved"
    yield from _role(element.role)
    if element.when is not None:
        yield "only when " + condition(element.when)
    yield _escape(element.doc or _documented(struct, element.attribute))
    if isinstance(element, kinds.Uint):
        yield from _bounds(element)
    if isinstance(element, kinds.Items):
        yield "a list of " + _item(element.item)
    if isinstance(element, kinds.Nested):
        yield f"a {_link(element.struct)}"
    for inner in inside(element):
        if not isinstance(element, (kinds.Items, kinds.Nested)):
            yield f"may hold {_link(inner)}"
    yield from _values(element.display)


def _bounds(element: kinds.Uint) -> Iterator[str]:
    if element.minimum and element.minimum == element.maximum:
        yield f"always 0x{element.minimum:0{2 * element.size}X}"
        return
    if element.minimum:
        yield f"at least {element.minimum}"
    if element.maximum is not None:
        yield f"at most {element.maximum}"


def _role(role: kinds.RoleOf) -> Iterator[str]:
    words = {
        kinds.Role.LENGTH_OF: "length of",
        kinds.Role.COUNT_OF: "number of",
        kinds.Role.TOTAL_LENGTH: "length of the whole structure",
    }
    if role.role in words:
        target = _code(role.target.strip("_")) if role.target else ""
        yield f"{words[role.role]} {target}".strip()


def _values(display: Any) -> Iterator[str]:
    if isinstance(display, type) and issubclass(display, enum.Enum):
        yield f"values of `{display.__name__}`"


def _item(item: Any) -> str:
    if isinstance(item, type):
        return _link(item)
    return f"{_code(item.name) if item.name else 'entries'} ({_size(item)} bytes)"


def _size(element: Any) -> str:
    match element:
        case kinds.Uint() | kinds.Word() | kinds.Fixed() | kinds.Reserved():
            return str(element.size)
        case kinds.Sized():
            return _SIZES[element.size]
        case kinds.Counted():
            return "counted"
        case kinds.Rest():
            return "the rest"
        case _:
            return ""


_SIZES = {
    "hash_size": "H",
    "signature_size": "SigLen",
    "req_signature_size": "ReqSigLen",
    "answer_signature_size": "SigLen of who answers",
    "exchange_request_size": "D",
    "exchange_response_size": "D",
    "opaque_length_size": "2",
}


def condition(predicate: Any) -> str:
    """A predicate in words."""
    match predicate:
        case predicates.Present():
            return f"{_code(predicate.attribute.strip('_'))} is not zero"
        case predicates.Equals():
            return f"{_code(predicate.attribute.strip('_'))} is {predicate.value}"
        case predicates.InContext():
            return f"{_code(predicate.name)} was negotiated"
        case predicates.Requested():
            return f"the request's {_code(predicate.attribute)} is not zero"
        case predicates.Not():
            return f"not ({condition(predicate.condition)})"
        case predicates.AllOf():
            return " and ".join(map(condition, predicate.conditions))
        case predicates.AnyOf():
            return " or ".join(map(condition, predicate.conditions))
        case _:
            raise TypeError(f"no words for {predicate!r}")


def _versions(element: kinds.Element) -> str:
    return _span(max(element.since, element.reserved_before), element.until)


def _span(since: int, until: int) -> str:
    if until < NEWEST:
        return f"{_version(since) + ' ' if since > 0x10 else ''}to {_version(until)}"
    return f"from {_version(since)}" if since > 0x10 else ""


def _version(version: int) -> str:
    return f"{version >> 4}.{version & 15}"


def _clause(clause: str) -> str:
    return clause if clause.startswith("DSP") else f"DSP0274 {clause}"


def _documented(struct: type[Struct], attribute: str) -> str:
    """What the docstring of a structure says about an attribute."""
    found = re.search(
        rf"^    {re.escape(attribute)}: (.*(?:\n        .*)*)",
        inspect.getdoc(struct) or "",
        re.MULTILINE,
    )
    return " ".join(found[1].split()) if found else ""


def _link(struct: type[Struct]) -> str:
    name = struct.layout.name
    return f"[{name}](#{re.sub(r'[^a-z0-9_-]', '', name.lower())})"


def _code(name: str) -> str:
    return f"`{name}`"


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split()) if text else ""
