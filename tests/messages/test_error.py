"""ERROR and what its extended data says (DSP0274 10.13)."""

from __future__ import annotations

import pytest

from spdmkit.errors import DecodeError
from spdmkit.messages import (
    V10,
    V11,
    V12,
    V14,
    VERSIONS,
    ActualSize,
    Context,
    Error,
    ErrorCode,
    NotReady,
    VendorError,
    error_name,
    message_tree,
)
from spdmkit.wire import EncodeError


def test_version_byte_of_an_error_may_differ() -> None:
    """A responder that was reset answers RequestResynch with 1.0."""
    for version in VERSIONS:
        error = Error.decode(bytes.fromhex("107f4300"), Context(version=version))
        assert error.error_code == ErrorCode.REQUEST_RESYNCH
        assert error.spdm_version == V10
        assert error.encode(Context(version=version)) == bytes.fromhex("107f4300")
    with pytest.raises(DecodeError, match="SPDMVersion"):
        Error.decode(bytes.fromhex("0f7f4300"), Context())


def test_own_error_has_the_negotiated_version() -> None:
    assert Error(error_code=3).encode(Context(version=V12)) == bytes.fromhex("127f0300")


def test_not_ready() -> None:
    error = Error.response_not_ready(rdt_exponent=20, request_code=0x83, token=7, rdtm=2)
    data = error.encode(Context(version=V11))
    assert data == bytes.fromhex("117f420014830702")
    assert Error.decode(data, Context(version=V11)).not_ready() == NotReady(20, 0x83, 7, 2)


def test_not_ready_with_an_absurd_exponent() -> None:
    """CVE-2023-32690: a peer's exponent was once a shift count. 2^31 us are enough for anyone."""
    for exponent in range(256):
        error = Error(error_code=ErrorCode.RESPONSE_NOT_READY, extended=bytes([exponent, 1, 1, 2]))
        if exponent <= 31:
            assert error.not_ready().rdt_exponent == exponent
        else:
            with pytest.raises(DecodeError, match="RDTExponent"):
                error.not_ready()


def test_large_response() -> None:
    data = Error.large_response(9).encode(Context(version=V12))
    assert data == bytes.fromhex("127f0f0009")
    assert Error.decode(data, Context(version=V12)).handle() == 9


@pytest.mark.parametrize("code", [ErrorCode.RESPONSE_TOO_LARGE, ErrorCode.DATA_TOO_LARGE])
def test_too_large(code: ErrorCode) -> None:
    data = Error.too_large(code, 0x12345).encode(Context(version=V14))
    assert data == bytes([0x14, 0x7F, code, 0, 0x45, 0x23, 1, 0])
    assert Error.decode(data, Context(version=V14)).actual_size() == 0x12345


def test_vendor_error() -> None:
    error = Error(error_code=0xFF, error_data=3, extended=b"\x02\xde\x10rest")
    assert error.vendor_error() == VendorError(vendor_id=b"\xde\x10", opaque_error_data=b"rest")


@pytest.mark.parametrize("method", ["not_ready", "handle", "actual_size", "vendor_error"])
def test_extended_data_of_another_error_or_too_short(method: str) -> None:
    with pytest.raises(DecodeError, match="is not"):
        getattr(Error(error_code=ErrorCode.BUSY, extended=bytes(8)), method)()
    codes = {"not_ready": 0x42, "handle": 0x0F, "actual_size": 0x0D, "vendor_error": 0xFF}
    with pytest.raises(DecodeError):
        getattr(Error(error_code=codes[method], extended=b""), method)()


def test_extended_data_has_32_bytes_at_most() -> None:
    ctx = Context(version=V12)
    assert Error.decode(bytes.fromhex("127f0100") + bytes(32), ctx).extended == bytes(32)
    with pytest.raises(DecodeError, match="ExtendedErrorData"):
        Error.decode(bytes.fromhex("127f0100") + bytes(33), ctx)
    with pytest.raises(EncodeError, match="at most 32"):
        Error(extended=bytes(33)).encode(ctx)


def test_names_for_people() -> None:
    assert error_name(ErrorCode.UNSUPPORTED_REQUEST) == "UnsupportedRequest"
    assert error_name(0x99) == "error 0x99"
    assert Error(error_code=7, error_data=0xE1).describe() == "ERROR UnsupportedRequest (0xe1)"
    assert Error(error_code=3).describe() == "ERROR Busy"


def test_tree_looks_into_extended_data() -> None:
    data = Error.too_large(ErrorCode.DATA_TOO_LARGE, 70000).encode(Context(version=V14))
    node = message_tree(data, Context(version=V14)).find("ActualSize")
    assert node is not None
    assert node.children[0].value == 70000
    assert ActualSize.decode(data[4:], Context(version=V14)).actual_size == 70000
