"""MCTP control messages, by hand from the tables of DSP0236."""

from __future__ import annotations

import pytest

from spdmkit.errors import PeerError, ProtocolViolation
from spdmkit.transports.mctp import control
from spdmkit.transports.mctp.control import EidStatus

TYPES = (5, 6)


def answer(request: str, status: EidStatus | None = None) -> str | None:
    response = control.respond(bytes.fromhex(request), status or EidStatus(9), TYPES)
    return None if response is None else response.hex(" ")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("008302", "00 03 02 00 09 00 00"),  # Get Endpoint ID
        ("00840100 0a", "00 04 01 00 00 0a 00"),  # Set Endpoint ID
        ("0084010100", "00 04 01 02"),  # the null EID
        ("00840100ff", "00 04 01 02"),  # broadcast
        ("0084010007", "00 04 01 02"),  # reserved
        ("008401020a", "00 04 01 02"),  # reset to static, which there is none
        ("00840100", "00 04 01 03"),
        ("00850405", "00 05 04 00 01 f1 f0 f2 00"),  # version of SPDM over MCTP
        ("008504ff", "00 05 04 00 01 f1 f3 f1 00"),
        ("0085047e", "00 05 04 80"),
        ("008504", "00 05 04 03"),
        ("009f05", "00 1f 05 00 02 05 06"),
        ("00800b", "00 00 0b 05"),  # a command not spoken
        ("00c002", None),  # a datagram
        ("000302", None),  # a response
        ("0083", None),
    ],
)
def test_answers(request_: str, expected: str | None) -> None:
    assert answer(request_) == expected


def test_an_assigned_id_is_kept() -> None:
    status = EidStatus(10, static=True)
    assert answer("008002", status) == "00 00 02 00 0a 02 00"
    answer("0080010114", status)
    assert (status.eid, status.static) == (20, False)


def test_what_a_bus_owner_asks_and_reads() -> None:
    status = EidStatus(0)
    for request, read, expected in (
        (control.get_endpoint_id(1), control.read_endpoint_id, EidStatus(0)),
        (control.set_endpoint_id(2, 12), control.read_set_endpoint_id, 12),
        (control.get_message_types(3), control.read_message_types, {5, 6}),
        (control.get_version_support(4, 5), control.read_versions, ("1.0.2",)),
    ):
        response = control.respond(request, status, TYPES)
        assert response is not None
        data = control.read_response(request, response)
        assert read(data) == expected


def test_versions_as_text() -> None:
    entries = bytes.fromhex("03 f1f3f100 f1f0ff00 1012ff61")
    assert control.read_versions(entries) == ("1.3.1", "1.0", "10.12a")


@pytest.mark.parametrize(
    "response", ["", "000102", "050102 00 00", "000103 00 00", "000202 00 00", "008102 00 00"]
)
def test_responses_to_something_else(response: str) -> None:
    with pytest.raises(ProtocolViolation):
        control.read_response(control.get_endpoint_id(1), bytes.fromhex(response))


def test_a_completion_code_names_the_command() -> None:
    with pytest.raises(PeerError, match=r"Get Endpoint Id.*0x04"):
        control.read_response(control.get_endpoint_id(1), bytes.fromhex("000102 04"))


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (control.read_endpoint_id, "09"),
        (control.read_set_endpoint_id, "00"),
        (control.read_message_types, ""),
        (control.read_message_types, "0305"),
        (control.read_message_types, "ff" + "05" * 255),
        (control.read_versions, "02f1f3f100"),
    ],
)
def test_short_data(read: object, data: str) -> None:
    with pytest.raises(ProtocolViolation):
        read(bytes.fromhex(data))  # type: ignore[operator]  # a table of functions
