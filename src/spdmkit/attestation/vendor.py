"""Vendor profiles: what one vendor's evidence and reference values need and DSP0274 leaves open.

A profile is named, its rules are data or one small function each, and a report says which profile
was used. Nothing of a profile applies to devices of others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from spdmkit.attestation.reference.model import AppliesTo, Condition
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.identity.text import safe_text

__all__ = ["NVIDIA_GPU", "VendorProfile", "profile_by_name", "profile_for_manifest"]


@dataclass(frozen=True, slots=True)
class VendorProfile:
    """The rules of one vendor.

    Attributes:
        name: how manifests and reports call it.
        index_offset: added to an index of a manifest to get the measurement index.
        applies_to: devices that a manifest with given attributes is for.
        component: the part of the device that a release number stands for.
        conditions: measurement index -> when it counts.
        release_facts: component -> the fact that holds the device's release of it.
        facts: what the opaque data of MEASUREMENTS reports; raises DecodeError.
    """

    name: str
    index_offset: int
    applies_to: Callable[[Mapping[str, str]], AppliesTo]
    component: Callable[[str], str]
    facts: Callable[[bytes], dict[str, str]]
    conditions: Mapping[int, Condition] = field(default_factory=dict)
    release_facts: Mapping[str, str] = field(default_factory=dict)


def profile_by_name(name: str) -> VendorProfile | None:
    """The profile a manifest names; None for an empty name.

    Raises:
        ConfigurationError: there is no such profile.
    """
    if not name:
        return None
    found = _PROFILES.get(name)
    if found is None:
        raise ConfigurationError(
            f"unknown vendor profile {name!r}", hint=f"known: {', '.join(sorted(_PROFILES))}"
        )
    return found


def profile_for_manifest(attributes: Mapping[str, str]) -> VendorProfile | None:
    """The profile of a SWID manifest, by the platform manufacturer's number, or None.

    Args:
        attributes: attributes of the manifest's Meta element by local name.
    """
    return _BY_MANUFACTURER.get(attributes.get("PlatformManufacturerId", ""))


# --- NVIDIA GPUs -------------------------------------------------------------------------------

_ENABLED = {0xAA: "enabled", 0x55: "disabled"}


def _text(value: bytes) -> str:
    return safe_text(value.rstrip(b"\0").decode("latin-1"))


def _hexadecimal(value: bytes) -> str:
    return value.hex()


def _switch(value: bytes) -> str:
    return _ENABLED.get(value[0], "unknown") if len(value) == 1 else "unknown"


def _vbios_version(value: bytes) -> str:
    """Bytes 3, 2, 1, 0 of a little-endian number, then byte 4, in two hex digits each."""
    if len(value) != 8:
        return _hexadecimal(value)
    return ".".join(f"{byte:02X}" for byte in (*value[3::-1], value[4]))


def _counts(value: bytes) -> str:
    words = (value[at : at + 4] for at in range(0, len(value) - len(value) % 4, 4))
    return ",".join(str(int.from_bytes(word, "little")) for word in words)


_NVIDIA_FIELDS: Final[dict[int, tuple[str, Callable[[bytes], str]]]] = {
    3: ("driver_version", _text),
    4: ("gpu_info", _hexadecimal),
    6: ("vbios_version", _vbios_version),
    11: ("nvdec0", _switch),
    12: ("measurement_counts", _counts),
    13: ("cpr_info", _hexadecimal),
    14: ("board_id", _hexadecimal),
    15: ("chip_sku", _text),
    16: ("chip_sku_modifier", _text),
    17: ("project", _text),
    18: ("project_sku", _text),
    19: ("project_sku_modifier", _text),
    20: ("fwid", _hexadecimal),
    21: ("protected_pcie", _switch),
}


def _nvidia_facts(opaque: bytes) -> dict[str, str]:
    """The vendor's list: type u16, length u16, value, little endian, until the data is used up."""
    facts: dict[str, str] = {}
    at = 0
    while at < len(opaque):
        kind = int.from_bytes(opaque[at : at + 2], "little")
        end = at + 4 + int.from_bytes(opaque[at + 2 : at + 4], "little")
        if at + 4 > len(opaque) or end > len(opaque):
            raise DecodeError("vendor opaque data", "length", at, "runs past the end")
        name, read = _NVIDIA_FIELDS.get(kind, ("", _hexadecimal))
        if name in facts:
            raise DecodeError("vendor opaque data", name, at, "stands twice")
        if name:
            facts[name] = read(opaque[at + 4 : end])
        at = end
    return facts


_VBIOS_RELEASE = re.compile(r"[0-9A-Fa-f]{2}(\.[0-9A-Fa-f]{2}){4}")


def _nvidia_component(release: str) -> str:
    """The two manifests of a GPU differ in nothing but the form of their release number."""
    return "vbios" if _VBIOS_RELEASE.fullmatch(release) else "driver"


NVIDIA_GPU: Final = VendorProfile(
    name="nvidia-gpu",
    index_offset=1,  # manifests count from 0, measurement blocks from 1
    applies_to=lambda meta: AppliesTo(
        manufacturer=("NVIDIA",), product=(meta["product"],) if meta.get("product") else ()
    ),
    component=_nvidia_component,
    facts=_nvidia_facts,
    conditions={36: Condition("nvdec0", "enabled")},
    release_facts={"driver": "driver_version", "vbios": "vbios_version"},
)
"""Reference integrity manifests and attestation reports of NVIDIA GPUs (GH100)."""

_PROFILES: Final = {profile.name: profile for profile in (NVIDIA_GPU,)}
_BY_MANUFACTURER: Final = {"5703": NVIDIA_GPU}  # IANA private enterprise number
