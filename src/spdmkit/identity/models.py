"""Certificate models of DSP0274 7.2.1.1."""

from __future__ import annotations

import enum

__all__ = ["CertificateModel"]


class CertificateModel(enum.IntEnum):
    """How a chain is built (DSP0274, CertModel of the certificate info table)."""

    NONE = 0
    """Not told: always so without several keys per connection (MULTI_KEY_CONN)."""
    DEVICE = 1
    """The leaf is the Device Certificate; nothing in the chain is made on the device."""
    ALIAS = 2
    """A Device Certificate CA signs alias certificates, which the device makes itself."""
    GENERIC = 3
    """Nothing is promised but the leaf's key; slots 1 to 7 only."""
