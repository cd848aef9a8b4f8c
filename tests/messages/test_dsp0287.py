"""The services of DSP0287 clause 7, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdmkit.errors import DecodeError
from spdmkit.messages import V12, Context, VendorDefinedRequest, VendorDefinedResponse, message_tree
from spdmkit.messages.dsp0287 import (
    GetServiceRequest,
    ServiceId,
    ServicePayload,
    ServiceRequest,
    ServiceState,
    SessionMethod,
    SetPolicy,
    SetReference,
    SubId,
    VerificationResult,
    VerificationResults,
    is_service,
    pack_results,
    unpack_results,
)
from spdmkit.wire import EncodeError, Struct

CTX = Context(version=V12)


def test_get_service_request() -> None:
    content = GetServiceRequest.of({ServiceId.VERIFY_MEASUREMENTS, 255})
    payload = ServicePayload.of(SubId.GET_SERVICE_REQUEST, content, CTX)
    data = VendorDefinedRequest(payload=payload.encode(CTX)).encode(CTX)
    assert data == bytes.fromhex(
        "12fe0000 0000 00 2c00"  # VENDOR_DEFINED, StandardID DMTF, no VendorID, 44 bytes
        "1f01 0010 00 2400 00"  # DSP0287 1.0, GET_SERVICE_REQUEST, 36 bytes
        "09" + "00" * 30 + "80" + "000000 00"
    )
    assert content.services == {0, 3, 255}
    assert content.state == ServiceState.NEXT


def test_service_request() -> None:
    content = ServiceRequest(
        session_method=SessionMethod.KEY_EXCHANGE,
        slot_id=2,
        service_id=ServiceId.GET_MEASUREMENTS,
        service_param=14,
    )
    payload = ServicePayload.of(SubId.SERVICE_REQUEST, content, CTX)
    data = VendorDefinedResponse(payload=payload.encode(CTX)).encode(CTX)
    assert data == bytes.fromhex(
        "127e0000 0000 00 14001f01 0010 80 0c00 0027 00 0000 04 00 0e 0000000000"
    )
    assert payload.content(CTX) == content


def test_service_of_somebody_else() -> None:
    """Table 14: others number their own services and may use the last five bytes."""
    content = ServiceRequest(
        registry=3, vendor_id=b"\xde\x10", service_id=9, service_param=1, vendor_parameters=b"12345"
    )
    data = content.encode(CTX)
    assert data == bytes.fromhex("00 00 03 02 de10 09 00 01 3132333435")
    assert ServiceRequest.decode(data, CTX) == content
    body = ServiceRequest(registry=1, service_id=2, vendor_parameters=b"12345")
    assert body.encode(CTX) == bytes.fromhex("00 00 01 00 02 00 00 3132333435")
    with pytest.raises(EncodeError, match="VendorParameters"):
        ServiceRequest(service_id=3, vendor_parameters=b"12345").encode(CTX)


@pytest.mark.parametrize("struct", [SetReference, SetPolicy])
def test_reference_and_policy(struct: type[SetReference] | type[SetPolicy]) -> None:
    opaque = bytes.fromhex("01000000 0a00 0300 616263 00")
    field = "reference" if struct is SetReference else "policy"
    content = struct(**{field: opaque})
    assert content.encode(CTX) == bytes.fromhex("0c00 0000") + opaque
    assert struct.tree(content.encode(CTX), CTX).find("OpaqueElementData") is not None
    with pytest.raises(DecodeError):
        struct.decode(bytes.fromhex("0d00 0000") + opaque, CTX)


@pytest.mark.parametrize("sub_id", [i for i in SubId if i > 0x80])
def test_acknowledgements_are_empty(sub_id: SubId) -> None:
    payload = ServicePayload.of(sub_id, None, CTX)
    assert len(payload.encode(CTX)) == 8
    assert payload.content(CTX) is None
    payload.sub_payload = b"x"
    with pytest.raises(DecodeError, match="holds nothing"):
        payload.content(CTX)


def test_each_request_names_its_response() -> None:
    assert SubId.GET_SERVICE_REQUEST.response is SubId.SERVICE_REQUEST
    assert SubId.SET_POLICY.response is SubId.SET_POLICY_ACK


@pytest.mark.parametrize(
    "payload",
    [
        "2001 0010 00 0000 00",
        "1f01 0020 00 0000 00",
        "1f01 0000 00 0000 00",
        "1f01 0010 00 0100 00",
        "1f01 0010 00 0000 00 00",
        "1f01 0010 00",
    ],
    ids=["other specification", "version 2", "version 0", "too short", "too long", "cut"],
)
def test_malformed_payload(payload: str) -> None:
    with pytest.raises(DecodeError):
        ServicePayload.decode(bytes.fromhex(payload), CTX)


def test_malformed_content() -> None:
    with pytest.raises(DecodeError, match="0x44 is unknown"):
        ServicePayload(sub_id=0x44).content(CTX)
    for content in (b"", bytes(127), bytes(129)):
        with pytest.raises(DecodeError):
            ServicePayload(sub_id=SubId.VERIFICATION_RESULTS, sub_payload=content).content(CTX)


def test_recognising_a_service() -> None:
    assert is_service(0, b"", b"\x1f\x01\x00\x10")
    assert not is_service(0, b"", b"\x20\x01")
    assert not is_service(0, b"x", b"\x1f\x01")
    assert not is_service(3, b"", b"\x1f\x01")


def test_tree_of_a_service() -> None:
    payload = ServicePayload.of(
        SubId.VERIFICATION_RESULTS, VerificationResults(results=bytes(128)), CTX
    )
    tree = message_tree(VendorDefinedRequest(payload=payload.encode(CTX)).encode(CTX), CTX)
    results = tree.find("Results")
    assert results is not None
    assert (results.offset, results.length) == (17, 128)


# --- nibbles -------------------------------------------------------------------------------------


def test_nibbles() -> None:
    packed = pack_results({1: VerificationResult.PASSED, 2: 4, 0xFE: 1, 255: 5})
    assert len(packed) == 128
    assert packed[0] == 0x80  # index 1: high half of byte 0
    assert packed[1] == 0x04  # index 2: low half of byte 1
    assert packed[127] == 0x51
    assert sum(packed) == 0x80 + 4 + 0x51


def test_reserved_results_have_failed() -> None:
    for value in range(16):
        result = unpack_results(bytes([value]) + bytes(127))
        if value == 0:
            assert result == {}
        elif value in (1, 2, 3, 4, 5, 8):
            assert result == {0: VerificationResult(value)}
        else:
            assert result == {0: VerificationResult.FAILED}


@given(st.dictionaries(st.integers(0, 255), st.sampled_from([1, 2, 3, 4, 5, 8])))
def test_nibbles_round_trip(results: dict[int, int]) -> None:
    assert unpack_results(pack_results(results)) == results


@pytest.mark.parametrize("results", [{256: 8}, {-1: 8}, {1: 16}, {1: -1}])
def test_no_nibble(results: dict[int, int]) -> None:
    with pytest.raises(EncodeError):
        pack_results(results)


@pytest.mark.parametrize("size", [0, 127, 129])
def test_not_128_bytes(size: int) -> None:
    with pytest.raises(DecodeError, match="not 128"):
        unpack_results(bytes(size))


def test_contents_are_structures() -> None:
    content = ServicePayload.of(SubId.SET_POLICY, SetPolicy(policy=b""), CTX).content(CTX)
    assert isinstance(content, Struct)
