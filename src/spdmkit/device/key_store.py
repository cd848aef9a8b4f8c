"""The key pairs of a device: `keys/N.pem`, one file each, readable by their owner only.

Labels above the key say what GET_KEY_PAIR_INFO tells of it (DSP0274 10.28):

    SPDM-Usage: key-ex, challenge, measurement
    SPDM-Slots: 0, 1

A file with labels and no key is a key pair that was erased: its id stays, and so may the type of
the key that is to be generated next ("SPDM-Next-Type: ec-p384").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spdmkit.crypto.keys import PrivateKey
from spdmkit.device import labelled
from spdmkit.device.files import clear_leftovers, read_secret, write_whole
from spdmkit.errors import ConfigurationError
from spdmkit.messages import KeyUsage
from spdmkit.protocol.credentials import ALL_USES

__all__ = ["KeyEntry", "KeyStore"]

MAX_FILE: Final = 64 << 10
MAX_SLOT: Final = 7


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key pair.

    Attributes:
        key_pair_id: from 1.
        key: the private key; None when it was erased.
        usage: what it may be used for.
        slots: empty slots it is associated with; a slot with certificates names its key itself.
        next_type: type of the key to generate, where there is none.
    """

    key_pair_id: int
    key: PrivateKey | None
    usage: KeyUsage = ALL_USES
    slots: frozenset[int] = frozenset()
    next_type: str = ""

    @property
    def key_type(self) -> str:
        """Type of the key, or of the one to generate."""
        return self.next_type if self.key is None else self.key.key_type


class KeyStore:
    """The key pairs in a folder.

    Attributes:
        entries: by key pair id, ascending, without gaps.
    """

    def __init__(
        self, folder: Path, entries: Mapping[int, KeyEntry], passphrase: str | None
    ) -> None:
        """Not for callers: use `load` or `create`."""
        self._folder = folder
        self._passphrase = passphrase
        self.entries: dict[int, KeyEntry] = dict(sorted(entries.items()))

    @classmethod
    def create(cls, folder: Path, passphrase: str | None) -> KeyStore:
        """Make an empty store, its folder closed to others.

        Args:
            folder: is made.
            passphrase: encrypts the keys; None stores them in the clear.

        Raises:
            OSError: the folder is there already, or cannot be made.
        """
        folder.mkdir(mode=0o700)
        return cls(folder, {}, passphrase)

    @classmethod
    def load(cls, folder: Path, passphrase: str | None) -> KeyStore:
        """Read all key pairs.

        Raises:
            ConfigurationError: a file can be read by others, is damaged, or wants another
                passphrase; or ids are missing.
            UnsupportedAlgorithm: a key needs a package that is not installed.
        """
        clear_leftovers(folder)
        entries = {}
        for path in sorted(folder.glob("*.pem")):
            entry = _read(path, passphrase)
            entries[entry.key_pair_id] = entry
        if not entries:
            raise ConfigurationError(f"{folder} has no keys")
        if sorted(entries) != list(range(1, len(entries) + 1)):
            raise ConfigurationError(f"{folder}: key pair ids must run from 1 without gaps")
        return cls(folder, entries, passphrase)

    def put(self, entry: KeyEntry) -> None:
        """Store an entry durably, then show it.

        Raises:
            OSError: it could not be written; what was there before still is.
        """
        labels = {
            "Usage": ", ".join(_usage_name(flag) for flag in entry.usage),
            "Slots": ", ".join(str(slot) for slot in sorted(entry.slots)),
        }
        if entry.key is None and entry.next_type:
            labels["Next-Type"] = entry.next_type
        block = b"" if entry.key is None else entry.key.to_pem(self._passphrase)
        path = self._folder / f"{entry.key_pair_id}.pem"
        write_whole(path, labelled.join(labels, block), mode=0o600)
        self.entries[entry.key_pair_id] = entry


def _read(path: Path, passphrase: str | None) -> KeyEntry:
    if not path.stem.isdecimal() or not 1 <= int(path.stem) <= 255:
        raise ConfigurationError(f"{path}: keys are named 1.pem to 255.pem")
    data = read_secret(path, MAX_FILE, "private key")
    labels, block = labelled.split(data, str(path))
    try:
        usage = _usage(labels.get("usage"))
        slots = _slots(labels.get("slots", ""))
        key = PrivateKey.load(block, _needed(block, passphrase)) if block else None
    except ConfigurationError as error:
        raise ConfigurationError(f"private key {path}: {error}", hint=error.hint) from error
    return KeyEntry(int(path.stem), key, usage, slots, labels.get("next-type", ""))


def _needed(block: bytes, passphrase: str | None) -> str | None:
    """The passphrase if the key wants one; a key in the clear next to encrypted ones is refused."""
    encrypted = b"ENCRYPTED" in block.partition(b"\n")[0]
    if encrypted and passphrase is None:
        raise ConfigurationError(
            "it is encrypted and no passphrase was given",
            hint="give --passphrase-file FILE, or set SPDM_PASSPHRASE",
        )
    return passphrase


def _usage(text: str | None) -> KeyUsage:
    if text is None:
        return ALL_USES
    known = {_usage_name(flag): flag for flag in KeyUsage}
    usage = KeyUsage(0)
    for name in _items(text):
        if name not in known:
            raise ConfigurationError(
                f"no usage is called {name!r}", hint=f"known: {', '.join(known)}"
            )
        usage |= known[name]
    return usage


def _slots(text: str) -> frozenset[int]:
    items = _items(text)
    if not all(item.isdecimal() and int(item) <= MAX_SLOT for item in items):
        raise ConfigurationError(f"slots {text!r} are not numbers from 0 to {MAX_SLOT}")
    return frozenset(int(item) for item in items)


def _items(text: str) -> Iterable[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _usage_name(flag: KeyUsage) -> str:
    return str(flag.name).lower().replace("_", "-")
