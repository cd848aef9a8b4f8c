"""ERROR with its extended data, and RESPOND_IF_READY (DSP0274 10.13, 10.14)."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from spdmkit.errors import DecodeError
from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import ErrorCode, RequestCode, ResponseCode
from spdmkit.messages.context import V10, V14, Context
from spdmkit.messages.negotiation import LARGEST_EXPONENT
from spdmkit.wire import Format, Struct, structure
from spdmkit.wire.kinds import Alternatives
from spdmkit.wire.layout import prefixed, rest, u8, u32

__all__ = [
    "ActualSize",
    "Error",
    "LargeResponseHandle",
    "NotReady",
    "RespondIfReady",
    "ResponseNotReady",
    "VendorError",
    "error_name",
]

D = TypeVar("D", bound=Struct)


@structure(clause="10.13", name="ResponseNotReady")
class ResponseNotReady(Struct):
    """Extended data of ResponseNotReady (DSP0274 table 66)."""

    rdt_exponent: int = u8(maximum=LARGEST_EXPONENT, display=Format.EXPONENT_US)
    request_code: int = u8(display=RequestCode)
    token: int = u8()
    rdtm: int = u8("RDTM")


@structure(clause="10.13", name="LargeResponse")
class LargeResponseHandle(Struct):
    """Extended data of LargeResponse (DSP0274 table 70)."""

    handle: int = u8()


@structure(clause="10.13")
class ActualSize(Struct):
    """Extended data of ResponseTooLarge and DataTooLarge (DSP0274 tables 69, 71)."""

    actual_size: int = u32()


@structure(clause="10.13", name="ExtendedErrorData")
class VendorError(Struct):
    """Extended data of an error that a vendor or standards body defines (DSP0274 table 68)."""

    vendor_id: bytes = prefixed(1, length_name="Len")
    opaque_error_data: bytes = rest()


class NotReady(NamedTuple):
    """When to ask again: RDTExponent, the request's code, its token, and RDTM."""

    rdt_exponent: int
    request_code: int
    token: int
    rdtm: int


EXTENDED: dict[int, type[Struct]] = {
    ErrorCode.RESPONSE_TOO_LARGE: ActualSize,
    ErrorCode.LARGE_RESPONSE: LargeResponseHandle,
    ErrorCode.DATA_TOO_LARGE: ActualSize,
    ErrorCode.RESPONSE_NOT_READY: ResponseNotReady,
    ErrorCode.VENDOR_DEFINED: VendorError,
}
"""Extended data that has a structure, by error code."""

ANY_VERSION = Context(version=V14)
"""Extended error data is laid out alike in all versions."""


def error_name(code: int) -> str:
    """The name of an error code as the specification writes it: "InvalidRequest"."""
    try:
        known = ErrorCode(code)
    except ValueError:
        return f"error 0x{code:02x}"
    return "".join(part.capitalize() for part in known.name.split("_"))


@message(ResponseCode.ERROR, clause="10.13", versions=(V10, V14))
class Error(Message):
    """ERROR: a request was not answered, and why.

    Its version byte may be another than the negotiated one: a Responder that was reset answers
    with 1.0. All versions lay it out alike.

    Attributes:
        error_data: Param2.
        extended: extended error data, at most 32 bytes.
    """

    error_code: int = u8(display=ErrorCode)
    error_data: int = u8()
    extended: bytes = rest(
        "ExtendedErrorData", maximum=32, inner=Alternatives("error_code", EXTENDED)
    )

    @classmethod
    def response_not_ready(
        cls, *, rdt_exponent: int, request_code: int, token: int, rdtm: int
    ) -> Error:
        """ResponseNotReady: ask again with RESPOND_IF_READY after 2^`rdt_exponent` us."""
        data = ResponseNotReady(
            rdt_exponent=rdt_exponent, request_code=request_code, token=token, rdtm=rdtm
        )
        return cls(error_code=ErrorCode.RESPONSE_NOT_READY, extended=data.encode(ANY_VERSION))

    @classmethod
    def too_large(cls, code: ErrorCode, actual_size: int) -> Error:
        """ResponseTooLarge or DataTooLarge, with the size in bytes that would be needed."""
        data = ActualSize(actual_size=actual_size)
        return cls(error_code=code, extended=data.encode(ANY_VERSION))

    @classmethod
    def large_response(cls, handle: int) -> Error:
        """LargeResponse: fetch the response with CHUNK_GET by this handle."""
        data = LargeResponseHandle(handle=handle)
        return cls(error_code=ErrorCode.LARGE_RESPONSE, extended=data.encode(ANY_VERSION))

    def describe(self) -> str:
        """Name and data for people: "ERROR UnsupportedRequest (0xe1)"."""
        name = f"ERROR {error_name(self.error_code)}"
        return f"{name} (0x{self.error_data:02x})" if self.error_data else name

    def not_ready(self) -> NotReady:
        """The extended data of ResponseNotReady.

        Raises:
            DecodeError: it is malformed, or the error is another one.
        """
        data = self._data(ErrorCode.RESPONSE_NOT_READY, ResponseNotReady)
        return NotReady(data.rdt_exponent, data.request_code, data.token, data.rdtm)

    def handle(self) -> int:
        """The handle of LargeResponse.

        Raises:
            DecodeError: it is malformed, or the error is another one.
        """
        return self._data(ErrorCode.LARGE_RESPONSE, LargeResponseHandle).handle

    def actual_size(self) -> int:
        """The size in bytes that ResponseTooLarge or DataTooLarge tells.

        Raises:
            DecodeError: it is malformed, or the error is another one.
        """
        wanted = ErrorCode.RESPONSE_TOO_LARGE
        if self.error_code == ErrorCode.DATA_TOO_LARGE:
            wanted = ErrorCode.DATA_TOO_LARGE
        return self._data(wanted, ActualSize).actual_size

    def vendor_error(self) -> VendorError:
        """The extended data of a vendor's error; `error_data` is the vendor's `Registry`.

        Raises:
            DecodeError: it is malformed, or the error is another one.
        """
        return self._data(ErrorCode.VENDOR_DEFINED, VendorError)

    def _data(self, code: ErrorCode, struct: type[D]) -> D:
        if self.error_code != code:
            raise DecodeError(
                "ERROR", "ErrorCode", 2, f"{self.describe()} is not {error_name(code)}"
            )
        data, _ = struct.parse(self.extended, ANY_VERSION)
        return data


@message(RequestCode.RESPOND_IF_READY, clause="10.14")
class RespondIfReady(Message):
    """RESPOND_IF_READY: is the response to the request with this token ready?"""

    request_code: int = u8("OriginalRequestCode", display=RequestCode)
    token: int = u8()
