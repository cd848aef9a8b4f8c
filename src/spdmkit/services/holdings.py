"""What a device was given by requesters, on its disk: reference values, a policy, results.

    received/references.cbor   all reference values, from whom and when
    received/policy.cbor       the policy
    received/results.cbor      the last verification results of each requester

Each file is replaced in one step: whenever the machine stops, it is the old one or the new one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spdmkit.attestation import cbor
from spdmkit.attestation.files import read_bounded
from spdmkit.device.files import clear_leftovers, make_folder, write_whole
from spdmkit.errors import ConfigurationError, DecodeError

__all__ = ["FOLDER", "Entry", "Holdings", "StoredResults"]

FOLDER: Final = "received"
MOST_REFERENCES: Final = 64
"""Sets of reference values that are kept."""
MOST_RESULTS: Final = 16
"""Requesters whose last results are kept."""
MAX_FILE: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """Reference values or a policy that a device holds.

    Attributes:
        data: as it came.
        versions: what it is a version of -> which version.
        given_by: who gave it: "certificate:CN=...", "psk:...", or nobody in particular.
        signer: subject of the verified signer, or empty.
        received_at: seconds since 1970.
    """

    data: bytes
    versions: Mapping[str, int]
    given_by: str
    signer: str
    received_at: int

    @property
    def sha256(self) -> str:
        """SHA-256 of the data, lower-case hex."""
        return hashlib.sha256(self.data).hexdigest()

    def as_item(self) -> dict[str, Any]:
        """For the file."""
        return {
            "data": self.data,
            "versions": dict(self.versions),
            "given_by": self.given_by,
            "signer": self.signer,
            "received_at": self.received_at,
        }


@dataclass(frozen=True, slots=True)
class StoredResults:
    """The last VERIFICATION_RESULTS of a requester.

    Attributes:
        given_by: who gave them.
        results: 128 bytes.
        received_at: seconds since 1970.
    """

    given_by: str
    results: bytes
    received_at: int

    def as_item(self) -> dict[str, Any]:
        """For the file."""
        return {
            "given_by": self.given_by,
            "results": self.results,
            "received_at": self.received_at,
        }


class Holdings:
    """See the module. What is read is replaced as a whole and never changed in place.

    Attributes:
        references: sets of reference values, oldest first.
        policy: the policy, or None.
        results: by requester, oldest first.
    """

    def __init__(self, device: Path) -> None:
        """Read what a device holds.

        Args:
            device: its folder.

        Raises:
            ConfigurationError: a file is damaged.
        """
        self._folder = device / FOLDER
        self._lock = threading.Lock()
        if self._folder.is_dir():
            clear_leftovers(self._folder)
        self.references = tuple(_entry(item) for item in self._read("references"))
        policies = [_entry(item) for item in self._read("policy")]
        self.policy: Entry | None = policies[0] if policies else None
        self.results = tuple(_results(item) for item in self._read("results"))

    @property
    def reference_versions(self) -> Mapping[str, int]:
        """Manifest -> the version that is held."""
        return {
            name: version for each in self.references for name, version in each.versions.items()
        }

    @property
    def policy_versions(self) -> Mapping[str, int]:
        """Policy -> the version that is held."""
        return {} if self.policy is None else self.policy.versions

    def put_references(self, entries: list[Entry]) -> None:
        """Store reference values; they replace those they are versions of.

        Raises:
            ConfigurationError: there is no room for more.
            OSError: they could not be stored; what was there before still is.
        """
        with self._lock:
            new = {name for entry in entries for name in entry.versions}
            kept = [each for each in self.references if not new & set(each.versions)]
            after = (*kept, *entries)
            if len(after) > MOST_REFERENCES:
                raise ConfigurationError(f"{MOST_REFERENCES} sets of reference values are held")
            self._write("references", [each.as_item() for each in after])
            self.references = after

    def put_policy(self, entry: Entry) -> None:
        """Store a policy in place of the one before.

        Raises:
            OSError: it could not be stored; what was there before still is.
        """
        with self._lock:
            self._write("policy", [entry.as_item()])
            self.policy = entry

    def put_results(self, results: StoredResults) -> None:
        """Store results in place of those of the same requester.

        Raises:
            OSError: they could not be stored; what was there before still is.
        """
        with self._lock:
            kept = [each for each in self.results if each.given_by != results.given_by]
            after = (*kept[-(MOST_RESULTS - 1) :], results)
            self._write("results", [each.as_item() for each in after])
            self.results = after

    def _read(self, name: str) -> list[Mapping[str, Any]]:
        path = self._folder / f"{name}.cbor"
        if not path.exists():
            return []
        try:
            item = cbor.thaw(cbor.decode(read_bounded(path, MAX_FILE), what=name, limit=MAX_FILE))
        except DecodeError as error:
            raise ConfigurationError(f"{path}: {error}", hint="remove the file") from error
        if not isinstance(item, list) or not all(isinstance(each, dict) for each in item):
            raise ConfigurationError(f"{path}: not a list of entries", hint="remove the file")
        return item

    def _write(self, name: str, items: list[dict[str, Any]]) -> None:
        make_folder(self._folder)
        write_whole(self._folder / f"{name}.cbor", cbor.encode(items))


def _entry(item: Mapping[str, Any]) -> Entry:
    try:
        versions = {str(name): int(number) for name, number in item["versions"].items()}
        return Entry(
            bytes(item["data"]),
            versions,
            str(item["given_by"]),
            str(item["signer"]),
            int(item["received_at"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{FOLDER}: an entry is damaged: {error}") from error


def _results(item: Mapping[str, Any]) -> StoredResults:
    try:
        return StoredResults(
            str(item["given_by"]), bytes(item["results"]), int(item["received_at"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{FOLDER}: results are damaged: {error}") from error
