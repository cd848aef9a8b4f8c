"""Numbers of the CoRIM draft and of our profile, shared by reading and writing."""

from __future__ import annotations

from typing import Final

MAX_CORIM_SIZE: Final = 4 << 20
"""Largest CoRIM that is read, in bytes."""
MEDIA_TYPE: Final = "application/rim+cbor"
PROFILE: Final = "urn:uuid:6f0a53b8-0d0c-4c8e-9f6e-5d1f4e2b7c11"
"""Names our two additions to a measured value; `corim` says what they are."""
REQUIRED: Final = -1
KIND: Final = -2

# CBOR tags
TIME: Final = 1
SIGN1: Final = 18
URI: Final = 32
UUID: Final = 37
CORIM: Final = 501
COMID: Final = 506
OLD_WRAPPERS: Final = frozenset({500, 502})  # drafts before -03 put these around both forms
SVN: Final = 552
MIN_SVN: Final = 553
KEY_THUMBPRINT: Final = 557
CERTIFICATE_THUMBPRINT: Final = 559
BYTES: Final = 560
MASKED: Final = 563

# COSE header parameters that a signed CoRIM adds
CORIM_META: Final = 8
CWT_CLAIMS: Final = 15
