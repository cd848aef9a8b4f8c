"""A folder of reference values, found for a device by what its certificate says.

One file is one imported document: its bytes as they came, and a summary to list and search by. The
summary decides nothing. Whenever values are taken out, their signature is verified again by the
anchors and at the time of the appraisal, so that a folder someone else can write to is no way
around a signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.files import read_bounded, write_atomic
from spdmkit.attestation.reference.loader import MAX_FILE_SIZE, Reference, read_references
from spdmkit.attestation.reference.model import AppliesTo, DeviceClaims
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.errors import ConfigurationError, SpdmError

__all__ = ["ReferenceStore", "RejectedReference", "Selection", "StoreEntry", "Summary"]

_FORMAT: Final = 1
_ID_LENGTH: Final = 16
_MAX_ENTRY: Final = 2 * MAX_FILE_SIZE
_SUFFIX: Final = ".json"
_MOST_REMEMBERED: Final = 1024


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one manifest of an entry is about, for lists.

    Attributes:
        title: name, component and release.
        publisher: who made it, as it says itself.
        applies_to: claims it asks for, by name.
        indexes: how many measurement indexes it has values for.
        not_before: beginning of its validity, seconds since 1970.
        not_after: end of its validity.
    """

    title: str
    publisher: str
    applies_to: dict[str, tuple[str, ...]]
    indexes: int
    not_before: int | None = None
    not_after: int | None = None

    def may_apply(self, claims: DeviceClaims) -> bool:
        """Whether the manifest may be for a device; only the manifest itself decides."""
        wanted = AppliesTo(**{name: self.applies_to.get(name, ()) for name in _CLAIMS})
        return not wanted.is_empty and not wanted.disagreement(claims)


_CLAIMS: Final = ("manufacturer", "product", "serial", "root_sha256", "spki_sha256")


class StoreEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One imported document.

    Attributes:
        spdm_reference_entry: version of this form.
        sha256: of the document's bytes, lower-case hex.
        source: name of the file it came from.
        format: "json", "corim" or "tcg-rim".
        profile: vendor profile it is read with, when it does not show its own.
        imported_at: seconds since 1970.
        signer: subject of the signer when it was imported; empty when it is not signed.
        manifests: what it holds.
        content: the document's bytes.
    """

    spdm_reference_entry: int
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    source: str
    format: str
    profile: str
    imported_at: int
    signer: str
    manifests: tuple[Summary, ...]
    content: bytes

    @property
    def entry_id(self) -> str:
        """Name of the entry in the store: the first digits of the document's hash."""
        return self.sha256[:_ID_LENGTH]

    def expired(self, now: int) -> bool:
        """Whether the validity of everything in it has ended."""
        return all(each.not_after is not None and each.not_after < now for each in self.manifests)

    def matches(self, text: str) -> bool:
        """Whether a text occurs in what lists show of it; case does not matter."""
        wanted = text.casefold()
        shown = [self.entry_id, self.source, self.format, self.signer]
        for each in self.manifests:
            shown += [each.title, each.publisher, *sum(each.applies_to.values(), ())]
        return any(wanted in part.casefold() for part in shown)


@dataclass(frozen=True, slots=True)
class RejectedReference:
    """A document that was to be used and may not be.

    Attributes:
        source: name of its file or entry.
        error: why.
    """

    source: str
    error: SpdmError


@dataclass(frozen=True, slots=True)
class Selection:
    """What a store has for a device.

    Attributes:
        references: values whose signature was verified and whose claims agree.
        rejected: documents that may be for the device and were refused.
    """

    references: tuple[Reference, ...]
    rejected: tuple[RejectedReference, ...]


class ReferenceStore:
    """Reference values in a folder; several processes may use it at once.

    What was read is remembered as long as its file does not change, and what was verified for an
    hour of appraisal time, so that one store serves many devices.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a store.

        Args:
            folder: where it is; made by the first import.
        """
        self.folder = Path(folder)
        self._read: dict[str, tuple[tuple[int, int, int], StoreEntry]] = {}
        self._verified: dict[tuple[object, ...], tuple[int, tuple[Reference, ...]]] = {}

    def add(
        self, data: bytes, check: SignerCheck, *, source: str, now: int, profile: str = ""
    ) -> StoreEntry:
        """Import a document; one that is there already is imported anew.

        Args:
            data: the document's bytes.
            check: decides about its signer.
            source: name of the file it comes from.
            now: time of the import, seconds since 1970.
            profile: vendor profile to read it with, when it does not show its own.

        Raises:
            AuthenticationError, DecodeError, ConfigurationError: as `read_references`; nothing is
                imported then.
        """
        references = read_references(data, check, source=source, profile=profile)
        signer = references[0].signer
        entry = StoreEntry(
            _FORMAT,
            hashlib.sha256(data).hexdigest(),
            source,
            references[0].manifest.format,
            profile,
            now,
            signer.subject if signer else "",
            tuple(_summary(reference) for reference in references),
            data,
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.folder}: {error.strerror}") from error
        encoded = msgspec.json.format(msgspec.json.encode(entry), indent=1) + b"\n"
        write_atomic(self.folder / (entry.entry_id + _SUFFIX), encoded)
        return entry

    def entries(self) -> tuple[tuple[StoreEntry, ...], tuple[RejectedReference, ...]]:
        """All entries by title, and files that are none of them."""
        found: list[StoreEntry] = []
        broken: list[RejectedReference] = []
        for path in sorted(self.folder.glob("*" + _SUFFIX)) if self.folder.is_dir() else ():
            try:
                found.append(self._entry(path))
            except SpdmError as error:
                broken.append(RejectedReference(path.name, error))
        found.sort(key=lambda entry: (entry.manifests[0].title, entry.entry_id))
        return tuple(found), tuple(broken)

    def _entry(self, path: Path) -> StoreEntry:
        """An entry, read again only when its file is another one than before."""
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigurationError(f"{path.name}: {error.strerror}") from error
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._read.get(path.name)
        if known is not None and known[0] == mark:
            return known[1]
        entry = _read_entry(path)
        self._read[path.name] = (mark, entry)
        return entry

    def search(self, text: str) -> tuple[StoreEntry, ...]:
        """The entries in which a text occurs."""
        return tuple(entry for entry in self.entries()[0] if entry.matches(text))

    def get(self, entry_id: str) -> StoreEntry:
        """The entry whose name begins like that.

        Raises:
            ConfigurationError: none or several do.
        """
        found = [entry for entry in self.entries()[0] if entry.entry_id.startswith(entry_id)]
        if len(found) != 1 or not entry_id:
            count = "no entry begins" if not found else f"{len(found)} entries begin"
            raise ConfigurationError(
                f"{count} with {entry_id!r}", hint="`spdm reference list` shows the names"
            )
        return found[0]

    def remove(self, entry_id: str) -> StoreEntry:
        """Take an entry out, and return it.

        Raises:
            ConfigurationError: as `get`, or the folder cannot be written to.
        """
        entry = self.get(entry_id)
        try:
            (self.folder / (entry.entry_id + _SUFFIX)).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.folder}: {error.strerror}") from error
        return entry

    def expire(self, now: int) -> tuple[StoreEntry, ...]:
        """Take out the entries whose validity has ended by a time, and return them."""
        gone = tuple(entry for entry in self.entries()[0] if entry.expired(now))
        for entry in gone:
            self.remove(entry.entry_id)
        return gone

    def references(self, entry: StoreEntry, check: SignerCheck) -> tuple[Reference, ...]:
        """The values of an entry, their signature verified.

        Raises:
            AuthenticationError, DecodeError, ConfigurationError: as `read_references`.
        """
        return read_references(entry.content, check, source=entry.source, profile=entry.profile)

    def _judged(self, entry: StoreEntry, check: SignerCheck) -> tuple[Reference, ...]:
        """As `references`; what was verified by the same rules within the hour is not again."""
        anchors = None if check.anchors is None else check.anchors.fingerprint
        rules = (check.ignore_expiry, check.demand_signature)
        key = (entry.sha256, entry.source, entry.profile, anchors, *rules)
        known = self._verified.get(key)
        if known is not None and all(each.holds(known[0], check.time) for each in known[1]):
            return known[1]
        references = self.references(entry, check)
        if len(self._verified) >= _MOST_REMEMBERED:
            self._verified.clear()
        self._verified[key] = (check.time, references)
        return references

    def select(
        self, claims: DeviceClaims, check: SignerCheck, *, unsigned_only: bool = False
    ) -> Selection:
        """The values for a device, by its identity claims.

        Documents that ask for no claim are never selected: they have to be named. Values whose
        validity has ended are selected, so that the appraisal can say so.

        Args:
            claims: who the device is.
            check: decides about signers.
            unsigned_only: pass over documents that are signed, for when nobody's signature counts.
        """
        chosen: list[Reference] = []
        entries, broken = self.entries()
        rejected = list(broken)
        for entry in entries:
            if not any(summary.may_apply(claims) for summary in entry.manifests):
                continue
            if unsigned_only and entry.signer:
                continue
            try:
                references = self._judged(entry, check)
            except SpdmError as error:
                rejected.append(RejectedReference(entry.source, error))
                continue
            for reference in references:
                wanted = reference.manifest.applies_to
                if not wanted.is_empty and not wanted.disagreement(claims):
                    chosen.append(reference)
        return Selection(tuple(chosen), tuple(rejected))


def describe_entry(entry: StoreEntry) -> list[str]:
    """An entry in lines for a terminal: what, for which devices, signed by whom, until when."""
    lines = [f"{entry.entry_id}  {entry.source}  ({entry.format})"]
    lines.append(f"  signed by {entry.signer}" if entry.signer else "  not signed")
    for each in entry.manifests:
        claims = ", ".join(f"{name} {'|'.join(v)}" for name, v in each.applies_to.items() if v)
        until = "no end" if each.not_after is None else describe_time(each.not_after)
        lines.append(f"  {each.title}: {each.indexes} indexes, for {claims or 'none by itself'}")
        lines.append(f"    by {each.publisher or 'nobody named'}, valid until {until}")
    return lines


def _summary(reference: Reference) -> Summary:
    manifest = reference.manifest
    claims = {name: getattr(manifest.applies_to, name) for name in _CLAIMS}
    return Summary(
        manifest.title,
        manifest.publisher,
        {name: values for name, values in claims.items() if values},
        len(manifest.measurements),
        manifest.not_before,
        manifest.not_after,
    )


# Made once, here: see `json_format`.
_ENTRY: Final = msgspec.json.Decoder(StoreEntry)


def _read_entry(path: Path) -> StoreEntry:
    try:
        entry = _ENTRY.decode(read_bounded(path, _MAX_ENTRY))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path.name}: no entry of a reference store: {error}") from None
    if entry.spdm_reference_entry != _FORMAT or not entry.manifests:
        raise ConfigurationError(f"{path.name}: written by another version")
    if hashlib.sha256(entry.content).hexdigest() != entry.sha256:
        raise ConfigurationError(f"{path.name}: the content is not what was imported")
    if path.name != entry.entry_id + _SUFFIX:
        raise ConfigurationError(f"{path.name}: the entry belongs into another file")
    return entry
