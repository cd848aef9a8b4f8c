"""Which key answered at which address before: a file like OpenSSH's known_hosts.

One line a target, `#` begins a comment:

    tcp://10.0.0.7:4194 spki-sha256:46db7f5c... ACME:NIC:0001

Without it, or an identity that is expected, another genuine and healthy device behind the same
address would pass (relay): the step `identity` is then `unpinned`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from spdmkit.attestation.files import read_bounded, write_atomic
from spdmkit.errors import ConfigurationError
from spdmkit.identity import safe_text

__all__ = ["KnownDevices"]

_MAX_SIZE: Final = 16 << 20
_LINE: Final = re.compile(r"(\S+)\s+spki-sha256:([0-9a-fA-F]{64})(?:\s+(.*))?")


class KnownDevices:
    """Targets and the keys that answered there.

    Attributes:
        keys: target -> SHA-256 of the public key, lower-case hex.
        names: target -> what the device was called; for people only.
    """

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.names: dict[str, str] = {}

    @classmethod
    def load(cls, path: str | Path) -> KnownDevices:
        """Read a file; one that does not exist yet is empty.

        Raises:
            ConfigurationError: it cannot be read, or a line is malformed ("file:line:").
        """
        known = cls()
        if not Path(path).exists():
            return known
        try:
            text = read_bounded(path, _MAX_SIZE).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path}: not UTF-8") from None
        for number, line in enumerate(text.splitlines(), 1):
            content = line.partition("#")[0].strip()
            if not content:
                continue
            found = _LINE.fullmatch(content)
            if found is None:
                raise ConfigurationError(
                    f"{path}:{number}: not a known device",
                    hint="write: TARGET spki-sha256:64 hex digits, and a name if you like",
                )
            target, key, name = found[1], found[2].lower(), found[3] or ""
            if known.keys.get(target, key) != key:
                raise ConfigurationError(f"{path}:{number}: {target} has another key above")
            known.keys[target] = key
            known.names[target] = name
        return known

    def remember(self, target: str, key: str, name: str = "") -> None:
        """Note which key answered at a target, in place of an earlier one.

        Args:
            target: the address, without white space.
            key: SHA-256 of the public key, hexadecimal.
            name: what to call the device.

        Raises:
            ConfigurationError: the target cannot stand in the file.
        """
        shown = safe_text(name).replace("#", "").strip()
        if _LINE.fullmatch(f"{target} spki-sha256:{key}") is None or "#" in target:
            raise ConfigurationError(f"{safe_text(target)!r} cannot be a known device")
        self.keys[target] = key.lower()
        self.names[target] = shown

    def save(self, path: str | Path) -> None:
        """Write the file, all or nothing.

        Raises:
            ConfigurationError: it cannot be written.
        """
        lines = [
            f"{target} spki-sha256:{key} {self.names.get(target, '')}".rstrip()
            for target, key in sorted(self.keys.items())
        ]
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
