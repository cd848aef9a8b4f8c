"""The one error tree: what can go wrong, and what to tell whoever has to act on it.

Every error is an `SpdmError`. The class says which kind of trouble it is, and so which exit code
the command line gives (`exit_code`), and, for what a peer did wrong, which SPDM ERROR to answer
with. Messages never hold key material; text that came from a peer is escaped by whoever prints it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "DeadlineExceeded",
    "DecodeError",
    "PeerError",
    "ProtocolViolation",
    "ResetRequired",
    "SpdmError",
    "TransportError",
    "UnsupportedAlgorithm",
]


class SpdmError(Exception):
    """Root of all errors that spdmkit raises on purpose.

    Attributes:
        hint: what to try next, or an empty string.
        exit_code: what the command line exits with when this error ends a command.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(SpdmError):
    """What we were told to do is wrong or contradicts itself: a file, an option, a URI."""

    exit_code = 2


class UnsupportedAlgorithm(SpdmError):
    """An algorithm in SPDM's registry that no installed library provides.

    Attributes:
        algorithm: its name in DSP0274.
    """

    def __init__(self, algorithm: str, *, hint: str = "") -> None:
        super().__init__(f"{algorithm} is not available here", hint=hint)
        self.algorithm = algorithm


class DecodeError(SpdmError):
    """Bytes that are not what their layout says (answered with ERROR InvalidRequest).

    Attributes:
        message: name of the message or structure, as in DSP0274.
        field: the field at which decoding stopped.
        offset: byte offset of that field from the start of the message.
        reason: what is wrong with it.
    """

    def __init__(self, message: str, field: str, offset: int, reason: str) -> None:
        super().__init__(f"{message}.{field} at byte {offset}: {reason}")
        self.message = message
        self.field = field
        self.offset = offset
        self.reason = reason


class PeerError(SpdmError):
    """The peer refused: an SPDM ERROR message, or a DSP0287 error frame (0xC0-0xFF).

    Attributes:
        code: the ERROR code (DSP0274, ERROR response), or the frame's MessageType.
        data: Param2 of the ERROR, or BindingVer of the frame.
        extended: extended error data, at most 32 bytes.
        frame: True when it was a DSP0287 error frame and not an SPDM message.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        data: int = 0,
        extended: bytes = b"",
        frame: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.data = data
        self.extended = extended
        self.frame = frame


class ResetRequired(PeerError):
    """The peer did what was asked, but it takes effect with its next reset (ERROR ResetRequired).

    Attributes:
        tracking_tag: what to ask for the result of a GET_CSR with after the reset (1 to 7); 0 for
            other requests.
    """

    def __init__(self, message: str, *, code: int, tracking_tag: int, hint: str = "") -> None:
        super().__init__(message, code=code, data=tracking_tag, hint=hint)
        self.tracking_tag = tracking_tag


class ProtocolViolation(SpdmError):
    """The peer broke a rule of the specification.

    Attributes:
        error_code: the SPDM ERROR code to answer with, when we are asked to answer.
        error_data: its Param2.
        extended: its extended error data.
    """

    def __init__(
        self,
        reason: str,
        *,
        error_code: int = 0x01,
        error_data: int = 0,
        extended: bytes = b"",
        hint: str = "",
    ) -> None:
        super().__init__(reason, hint=hint)
        self.error_code = error_code
        self.error_data = error_data
        self.extended = extended


class AuthenticationError(SpdmError):
    """A proof that does not hold: chain, signature, MAC, nonce, identity or downgrade.

    Attributes:
        step: name of the failed step, as reports show it ("chain", "signature", ...).
        reason: what exactly failed.
    """

    exit_code = 1

    def __init__(self, step: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{step}: {reason}", hint=hint)
        self.step = step
        self.reason = reason


class TransportError(SpdmError):
    """The bytes do not get through: no route, refused, reset, closed, or framing that is wrong."""


class DeadlineExceeded(TransportError):
    """Nothing came in time. The connection closes: a late answer must meet no other request."""
