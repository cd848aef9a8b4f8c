"""Which key each target had before: a file like known_hosts, so that a swapped device is noticed.

A genuine, healthy device that answers in another's place passes every check of cryptography; only
knowing whom one expects at an address tells the two apart. One line a device:

    tcp://192.0.2.7:4194 spki-sha256:5f0c... Widget in rack 12
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from spdmkit.attestation.files import read_bounded, write_atomic
from spdmkit.errors import AuthenticationError, ConfigurationError

__all__ = ["KnownDevices"]

MAX_SIZE = 16 << 20
_LINE = re.compile(r"(?P<target>\S+)\s+spki-sha256:(?P<key>[0-9a-f]{64})(?:\s+(?P<note>.*))?")


@dataclass(slots=True)
class KnownDevices:
    """Targets and the keys of the devices behind them.

    Attributes:
        keys: target -> SHA-256 of the device's SubjectPublicKeyInfo, lower-case hexadecimal.
    """

    path: Path
    keys: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> KnownDevices:
        """Read the file; one that is not there yet is empty.

        Raises:
            ConfigurationError: a line is not in this form, or a target stands there twice.
        """
        known = cls(path)
        if not path.exists():
            return known
        for number, line in enumerate(read_bounded(path, MAX_SIZE).decode("utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ConfigurationError(f"{path}:{number}: not TARGET spki-sha256:HEX [NOTE]")
            if found["target"] in known.keys:
                raise ConfigurationError(f"{path}:{number}: {found['target']} stands there twice")
            known.keys[found["target"]] = found["key"]
            known.notes[found["target"]] = found["note"] or ""
        return known

    def check_alone(self, target: str, key: str) -> None:
        """One device is behind one target.

        Raises:
            AuthenticationError: step "identity": this key is known from another target.
        """
        elsewhere = [each for each, known in self.keys.items() if known == key and each != target]
        if elsewhere:
            raise AuthenticationError(
                "identity",
                f"the device that answers is the one known as {elsewhere[0]}",
                hint="somebody relays to another device, or the device moved: then change the file",
            )

    def remember(self, target: str, key: str) -> None:
        """Add a target, and store the file in one step.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        self.keys[target] = key
        lines = [
            f"{each} spki-sha256:{known} {self.notes.get(each, '')}".rstrip()
            for each, known in self.keys.items()
        ]
        write_atomic(self.path, ("\n".join(lines) + "\n").encode())
