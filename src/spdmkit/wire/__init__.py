"""Bytes in, fields out, and back: declarative layouts for the structures of SPDM.

A structure is declared once (`spdmkit.wire.layout`). From the declaration come the compiled
decoder and encoder of each SPDM version and the field tree that people read.
"""

from spdmkit.wire.base import LayoutContext, Struct, define, structure
from spdmkit.wire.display import Format
from spdmkit.wire.errors import EncodeError
from spdmkit.wire.layout import Layout
from spdmkit.wire.tree import Node

__all__ = [
    "EncodeError",
    "Format",
    "Layout",
    "LayoutContext",
    "Node",
    "Struct",
    "define",
    "structure",
]
