"""Explaining codes, names, fields and messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.capture.explain import Explanation, _names, explain
from spdmkit.capture.meanings import CAPABILITIES, ERRORS
from spdmkit.errors import ConfigurationError
from spdmkit.messages import (
    MESSAGES,
    ErrorCode,
    Message,
    RequesterFlags,
    ResponderExtendedFlags,
    ResponderFlags,
    error_name,
)


def kinds(query: str) -> list[tuple[str, str]]:
    return [(found.kind, found.name) for found in explain(query)]


def one(query: str) -> Explanation:
    (found,) = explain(query)
    return found


def test_a_number_is_explained_wherever_it_stands() -> None:
    assert kinds("0x84") == [("request", "GET_VERSION")]
    assert kinds("132") == [("request", "GET_VERSION")]
    assert kinds("0x04") == [("response", "VERSION"), ("error", "UnexpectedRequest")]
    assert kinds("error 0x04") == [("error", "UnexpectedRequest")]
    assert kinds("0xC2") == [("frame", "MessageType 0xC2")]
    assert kinds("0xff") == [("request", "RESPOND_IF_READY"), ("error", "VendorDefined")]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda message: message.name)
def test_every_message_is_explained_by_code_and_by_name(message: type[Message]) -> None:
    kind = "request" if message.code & 0x80 else "response"
    for query in (f"{kind} 0x{message.code:02x}", f"{kind} {message.name}", message.__name__):
        found = next(each for each in explain(query) if each.kind == kind)
        assert found.name == message.name
        assert found.clause == f"DSP0274 {message.clause}"
        assert any("SPDMVersion: 1 byte" in line for line in found.lines)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_is_explained(code: ErrorCode) -> None:
    for query in (f"error 0x{code:02x}", f"error {error_name(code)}", f"error {code.name}"):
        found = one(query)
        assert found.lines[0] == f"code 0x{code:02x} in Param1 of ERROR"
        assert found.lines[1] == ERRORS[code][0]
        assert "table 65" in found.clause


@pytest.mark.parametrize("flags", [RequesterFlags, ResponderFlags, ResponderExtendedFlags])
def test_every_capability_is_explained(
    flags: type[RequesterFlags | ResponderFlags | ResponderExtendedFlags],
) -> None:
    for name in flags.__members__:
        if not name.endswith("_MASK"):
            found = explain(f"capability {name}")
            assert found
            assert all(each.lines[1].startswith("Who sets it ") for each in found)
    assert {name for _, name in CAPABILITIES} <= {
        name
        for each in (RequesterFlags, ResponderFlags, ResponderExtendedFlags)
        for name in each.__members__
    }


def test_two_bit_capabilities_tell_their_values() -> None:
    found = explain("MEAS_CAP")
    assert [(each.name, each.lines[0]) for each in found] == [
        ("MEAS_CAP_NO_SIG", "bits 4:3, value 1 of the responder"),
        ("MEAS_CAP_SIG", "bits 4:3, value 2 of the responder"),
    ]
    assert explain("chunk cap")[0].lines[0] == "bit 17 of the requester"


def test_algorithms_are_explained() -> None:
    found = one("ml-dsa-65")
    assert found.kind == "algorithm"
    assert found.lines[0].startswith("bit 1 (0x2) of PqcAsymAlgo")
    assert "signature: 3309 bytes" in found.lines
    assert len(explain("TPM_ALG_SHA_384")) == 2  # base hash and measurement hash


def test_fields_are_explained_in_every_message_that_has_them() -> None:
    found = explain("MeasurementSummaryHash")
    where = [each.lines[0].split(":")[0] for each in found if each.kind == "field"]
    assert where == ["in CHALLENGE_AUTH", "in KEY_EXCHANGE_RSP", "in PSK_EXCHANGE_RSP"]
    assert "as long as the base hash (H)" in found[0].lines[0]
    assert "only where" in found[0].lines[1]
    changed = one("content_changed")
    assert changed.lines[:2] == ("in MEASUREMENTS: bits 5:4 of Param2", "since SPDM 1.2")
    assert "  0x01 CHANGED" in changed.lines


def test_values_of_tables_are_explained() -> None:
    found = explain("hash extend")
    assert ("value", "HASH_EXTEND") in [(each.kind, each.name) for each in found]


def test_messages_and_frames_in_hex_are_decoded() -> None:
    found = one("10 84 00 00")
    assert (found.kind, found.name, found.clause) == ("message", "GET_VERSION", "DSP0274 10.2")
    assert found.lines[0] == "0000  SPDMVersion = 1.0"
    assert one("0400010510840000").name == "GET_VERSION"
    both = explain("1084000010040000 00010012")
    assert [each.name for each in both] == ["GET_VERSION", "VERSION"]
    assert both[1].lines[0] == "1.2"
    (broken,) = explain("1284000012")
    assert "^ here" in "\n".join(broken.lines)


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("GET_DIGEST", "did you mean GET_DIGESTS"),
        ("InvalidReqest", "InvalidRequest"),
        ("chunkcaps", "CHUNK_CAP"),
        ("zzzzzzzz", "give a code"),
        ("0x1234567", "give a code"),
        ("12 84", "give a code"),
        ("", "give a code"),
    ],
)
def test_what_is_not_known_gets_a_suggestion(query: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match="nothing in SPDM") as caught:
        explain(query)
    assert hint in caught.value.hint


def test_bytes_that_are_no_spdm() -> None:
    with pytest.raises(ConfigurationError, match="no SPDM"):
        explain("ffffffffffffffff")


def test_every_name_there_is_can_be_explained() -> None:
    for name in _names().values():
        assert explain(name), name


def test_for_machines() -> None:
    found = json.loads(json.dumps([each.to_json() for each in explain("CHALLENGE")]))
    assert found[0]["kind"] == "request"
    assert found[0]["lines"]


@given(st.text(max_size=30))
def test_no_query_raises_anything_else(query: str) -> None:
    try:
        found = explain(query)
    except ConfigurationError:
        return
    assert found


@pytest.mark.parametrize("name", ["PayloadLen", "BindingVer", "MessageType", "dialect"])
def test_what_belongs_to_frames(name: str) -> None:
    found = explain(name)
    assert [(each.kind, each.name) for each in found] == [("frame field", name)]
    assert found[0].clause.startswith("DSP0287 6")
