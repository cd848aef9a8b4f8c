"""What attesting leaves behind: evidence, and the keys of known devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spdmkit.attestation.files import write_atomic
from spdmkit.attestation.known_devices import KnownDevices
from spdmkit.attestation.outcome import Verdict
from spdmkit.cli.keys import load_private_key
from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.attestation.verifier import Attested
    from spdmkit.crypto.keys import PrivateKey

__all__ = ["Keeper"]


@dataclass(slots=True)
class Keeper:
    """Keeps evidence, signed with our key if there is one, and remembers devices.

    Attributes:
        evidence: file or folder for evidence, or None.
        collector_key: signs evidence, or None.
        known: devices known from before, or None.
        known_file: their file.
        remember: add new ones.
    """

    evidence: Path | None
    collector_key: PrivateKey | None
    known: KnownDevices | None
    known_file: Path | None
    remember: bool

    @classmethod
    def of(cls, options: dict[str, Any]) -> Keeper:
        """From the options of a command.

        Raises:
            ConfigurationError: they contradict each other, or a file is wrong.
        """
        evidence, key = options["evidence"], options["collector_key"]
        known_file, remember = options["known_devices"], options["remember"]
        if key is not None and evidence is None:
            raise ConfigurationError("--collector-key signs evidence: give --evidence too")
        if remember and known_file is None:
            raise ConfigurationError("--remember goes with --known-devices FILE")
        return cls(
            evidence,
            None if key is None else load_private_key(key, options["passphrase_file"]),
            None if known_file is None else KnownDevices.load(known_file),
            known_file,
            remember,
        )

    @property
    def known_keys(self) -> Mapping[str, str]:
        """Target -> key that answered there before."""
        return {} if self.known is None else self.known.keys

    def keep(self, attested: Attested, path: Path | None) -> None:
        """Keep the evidence of one device, if there is any.

        Args:
            attested: what attesting it gave.
            path: the file; its suffix says whether it is CBOR or JSON. None keeps nothing.
        """
        evidence = attested.evidence
        if evidence is None or path is None:
            return
        if self.collector_key is not None:
            evidence = evidence.signed_by_collector(self.collector_key)
        write_atomic(path, evidence.to_json() if path.suffix == ".json" else evidence.to_cbor())

    def note(self, attested: Attested) -> None:
        """Remember the key that answered, when that is wanted, new, and nothing is wrong."""
        if self.known is None or not self.remember or not attested.key:
            return
        result = attested.result
        if result.verdict is not Verdict.UNTRUSTED and result.target not in self.known.keys:
            self.known.remember(result.target, attested.key, str(result.identity.get("san") or ""))

    def close(self) -> None:
        """Write the file of known devices, if anything may have been added."""
        if self.known is not None and self.known_file is not None and self.remember:
            self.known.save(self.known_file)
