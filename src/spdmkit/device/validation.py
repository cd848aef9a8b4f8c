"""The TOML files of devices are read as all are: see `spdmkit.attestation.toml_file`."""

from __future__ import annotations

from spdmkit.attestation.toml_file import Strict, TomlFile

__all__ = ["Strict", "TomlFile"]
