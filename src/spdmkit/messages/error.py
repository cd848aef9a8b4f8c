"""ERROR and RESPOND_IF_READY (DSP0274 10.25, 10.26)."""

from __future__ import annotations

from typing import NamedTuple

from spdmkit.errors import DecodeError
from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import ErrorCode, RequestCode, ResponseCode
from spdmkit.messages.context import V10, V14
from spdmkit.wire.layout import rest, u8

__all__ = ["Error", "NotReady", "RespondIfReady", "error_name"]


class NotReady(NamedTuple):
    """Extended error data of ResponseNotReady (DSP0274 table 66)."""

    rdt_exponent: int
    request_code: int
    token: int
    rdtm: int


def error_name(code: int) -> str:
    """The name of an error code as the specification writes it: "InvalidRequest"."""
    try:
        known = ErrorCode(code)
    except ValueError:
        return f"error 0x{code:02x}"
    return "".join(part.capitalize() for part in known.name.split("_"))


@message(ResponseCode.ERROR, clause="10.25", versions=(V10, V14))
class Error(Message):
    """A request was not answered, and why.

    Its version byte may be another than the negotiated one: a responder that was reset says 1.0.
    """

    error_code: int = u8(display=ErrorCode)
    error_data: int = u8()
    extended: bytes = rest("ExtendedErrorData", maximum=32)

    def describe(self) -> str:
        """Name and data in words, for people."""
        name = error_name(self.error_code)
        return f"ERROR {name}" + (f" (0x{self.error_data:02x})" if self.error_data else "")

    def not_ready(self) -> NotReady:
        """The extended data of ResponseNotReady.

        Raises:
            DecodeError: it is not four bytes.
        """
        if len(self.extended) < 4:
            raise DecodeError("ERROR", "ExtendedErrorData", 4, "ResponseNotReady has four bytes")
        return NotReady(*self.extended[:4])

    def actual_size(self) -> int | None:
        """ActualSize of ResponseTooLarge and DataTooLarge, None when it is not there."""
        return int.from_bytes(self.extended[:4], "little") if len(self.extended) >= 4 else None


@message(RequestCode.RESPOND_IF_READY, clause="10.26")
class RespondIfReady(Message):
    """Asks for the answer to a request that was not ready."""

    request_code: int = u8("OriginalRequestCode", display=RequestCode)
    token: int = u8()
