"""The certificate slots of a device: `slots/N.pem`, one file each, replaced in one step.

Labels above the certificates say what belongs to them:

    SPDM-Model: device
    SPDM-Key-Pair: 1
    SPDM-Stored-By: certificate:CN=Verifier

The certificates stand root first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spdmkit.attestation.files import read_bounded
from spdmkit.crypto.pkcs8 import armour
from spdmkit.device import labelled
from spdmkit.device.files import clear_leftovers, remove, write_whole
from spdmkit.errors import ConfigurationError
from spdmkit.identity import load_certificates
from spdmkit.messages import CertificateModel

__all__ = ["SlotEntry", "SlotStore"]

MAX_FILE: Final = 2 << 20
MAX_SLOT: Final = 7
_MADE_HERE: Final = "device init"


@dataclass(frozen=True, slots=True)
class SlotEntry:
    """What a slot holds.

    Attributes:
        slot_id: 0 to 7.
        certificates: DER, root first.
        model: certificate model.
        key_pair_id: the key of the leaf.
        stored_by: who put it there.
    """

    slot_id: int
    certificates: tuple[bytes, ...]
    model: CertificateModel
    key_pair_id: int
    stored_by: str = _MADE_HERE


class SlotStore:
    """The slots in a folder.

    Attributes:
        entries: by slot id, provisioned ones only.
    """

    def __init__(self, folder: Path, entries: Mapping[int, SlotEntry]) -> None:
        """Not for callers: use `load` or `create`."""
        self._folder = folder
        self.entries: dict[int, SlotEntry] = dict(sorted(entries.items()))

    @classmethod
    def create(cls, folder: Path) -> SlotStore:
        """Make an empty store.

        Raises:
            OSError: the folder is there already, or cannot be made.
        """
        folder.mkdir()
        return cls(folder, {})

    @classmethod
    def load(cls, folder: Path) -> SlotStore:
        """Read all slots.

        Raises:
            ConfigurationError: a file is damaged, or its name is not a slot's.
        """
        clear_leftovers(folder)
        return cls(folder, {e.slot_id: e for e in map(_read, sorted(folder.glob("*.pem")))})

    def put(self, entry: SlotEntry) -> None:
        """Store a slot durably, then show it.

        Raises:
            OSError: it could not be written; what was there before still is.
        """
        labels = {
            "Model": entry.model.name.lower(),
            "Key-Pair": str(entry.key_pair_id),
            # A label is one line, and the words in it came from a peer.
            "Stored-By": "".join(c if c.isprintable() else "?" for c in entry.stored_by),
        }
        blocks = b"".join(armour(der, "CERTIFICATE") for der in entry.certificates)
        write_whole(self._path(entry.slot_id), labelled.join(labels, blocks))
        self.entries[entry.slot_id] = entry

    def erase(self, slot_id: int) -> None:
        """Empty a slot durably.

        Raises:
            KeyError: it is empty.
            OSError: it could not be removed, and is as it was.
        """
        remove(self._path(self.entries[slot_id].slot_id))
        del self.entries[slot_id]

    def _path(self, slot_id: int) -> Path:
        return self._folder / f"{slot_id}.pem"


def _read(path: Path) -> SlotEntry:
    if not path.stem.isdecimal() or not 0 <= int(path.stem) <= MAX_SLOT:
        raise ConfigurationError(f"{path}: slots are named 0.pem to {MAX_SLOT}.pem")
    labels, blocks = labelled.split(read_bounded(path, MAX_FILE), str(path))
    model = labels.get("model", "device").upper()
    if model not in CertificateModel.__members__:
        known = ", ".join(name.lower() for name in CertificateModel.__members__)
        raise ConfigurationError(f"{path}: no model is called {model.lower()!r}", hint=known)
    key_pair = labels.get("key-pair", "1")
    if not key_pair.isdecimal():
        raise ConfigurationError(f"{path}: key pair {key_pair!r} is not a number")
    certificates = load_certificates(blocks, source=str(path))
    return SlotEntry(
        int(path.stem),
        tuple(certificate.der for certificate in certificates),
        CertificateModel[model],
        int(key_pair),
        labels.get("stored-by", _MADE_HERE),
    )
