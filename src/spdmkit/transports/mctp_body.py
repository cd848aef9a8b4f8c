"""SPDM as the body of an MCTP message: one type byte in front (DSP0275, DSP0276, DSP0239)."""

from __future__ import annotations

from spdmkit.errors import TransportError
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.transports.framing import frame_kind

__all__ = ["INTEGRITY_CHECK", "TYPE_BYTES", "decode", "encode"]

INTEGRITY_CHECK = 0x80
"""The IC bit of the type byte. Types 5 and 6 never set it (DSP0275 and DSP0276)."""


TYPE_BYTES = {kind: bytes((kind,)) for kind in FrameKind}
"""Frame kind -> type byte."""


def encode(frame: Frame) -> bytes:
    """The frame as an MCTP message body."""
    return TYPE_BYTES[frame.kind] + frame.body


def decode(body: bytes) -> Frame:
    """The frame in an MCTP message body.

    Raises:
        TransportError: empty, of a type that is not SPDM, or with a message integrity check.
    """
    if not body:
        raise TransportError("an MCTP message without a type byte")
    if body[0] & INTEGRITY_CHECK:
        raise TransportError("an MCTP message with an integrity check, which SPDM does not use")
    kind = frame_kind(body[0])
    if kind is None:
        raise TransportError(f"MCTP message type 0x{body[0]:02X} is not SPDM")
    return Frame(kind, body[1:])
