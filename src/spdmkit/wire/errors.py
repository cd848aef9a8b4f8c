"""What encoding can refuse."""

from __future__ import annotations

from spdmkit.errors import ConfigurationError

__all__ = ["EncodeError"]


class EncodeError(ConfigurationError):
    """A value we were asked to put on the wire does not fit its field.

    Attributes:
        message: name of the message or structure, as in DSP0274.
        field: the field whose value does not fit.
        reason: what is wrong with it.
    """

    def __init__(self, message: str, field: str, reason: str) -> None:
        super().__init__(f"{message}.{field}: {reason}")
        self.message = message
        self.field = field
        self.reason = reason
