"""Files with secrets, for decrypting a capture: key logs, debug logs, single secrets.

A file may hold lines of a key log (`spdmkit.capture.keylog`), which name their session. It may as
well be the debug log of the reference implementation, or hold one or more secrets as a person
would write them down:

    [DHE Secret]: 3e9fe6ef...        psk (0x0c) - 54 65 73 74 ...
    dhe_secret 3e9fe6ef...           psk: 546573745073...          3e9fe6ef...

Such secrets are loose: which session they belong to shows when its first HMAC is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from spdmkit.capture.keylog import KeyLogLine, Label, SessionRandom, parse_line
from spdmkit.errors import ConfigurationError, DecodeError

__all__ = ["LooseSecret", "Secrets", "SessionSecrets", "load_secrets", "read_secrets"]

_MAX_LINE = 8192
_MAX_LOOSE = 1 << 16

_WRITTEN = re.compile(
    r"\W*(?P<name>dhe|kem|psk)(?:[ _-]?secret)?\W*"
    r"(?:\(0x[0-9a-f]+\))?[\s:=\"'-]*(?P<hex>(?:[0-9a-f]{2} ?)+)[\s\"']*",
    re.IGNORECASE,
)
_PSK_FILE = re.compile(r"\s*key\s*=\s*[\"'](?P<hex>(?:[0-9a-f]{2} ?)+)[\"']\s*", re.IGNORECASE)
_BARE = re.compile(r"\s*(?:0x)?(?P<hex>(?:[0-9a-f]{2}[ :]?){16,})\s*", re.IGNORECASE)
_LABELS = {
    "dhe": Label.DHE_SECRET,
    "kem": Label.KEM_SECRET,
    "psk": Label.PSK,
}


@dataclass(slots=True)
class SessionSecrets:
    """What is known of one session's secrets.

    Attributes:
        secrets: by label; data secrets are in `request_data` and `response_data`.
        request_data: S2 by generation.
        response_data: S3 by generation.
    """

    secrets: dict[Label, bytes] = field(default_factory=dict)
    request_data: dict[int, bytes] = field(default_factory=dict)
    response_data: dict[int, bytes] = field(default_factory=dict)

    def add(self, label: Label, generation: int, secret: bytes) -> None:
        """Note a secret; a later line of the same label counts."""
        if label is Label.REQUEST_DATA_SECRET:
            self.request_data[generation] = secret
        elif label is Label.RESPONSE_DATA_SECRET:
            self.response_data[generation] = secret
        else:
            self.secrets[label] = secret


class LooseSecret(NamedTuple):
    """A secret that does not say which session it belongs to; label None: nor which it is."""

    label: Label | None
    secret: bytes


@dataclass(slots=True)
class Secrets:
    """All the secrets there are to decrypt a capture with.

    Attributes:
        sessions: those that name their session.
        loose: those that do not, without repetitions, in the order they were found.
        trouble: what was wrong with lines that were stepped over.
    """

    sessions: dict[SessionRandom, SessionSecrets] = field(default_factory=dict)
    loose: list[LooseSecret] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    _known: set[LooseSecret] = field(default_factory=set)
    _next: int = 0

    def __bool__(self) -> bool:
        return bool(self.sessions or self.loose)

    def add_loose(self, label: Label | None, secret: bytes) -> None:
        """Note a loose secret; what is too many is dropped and said."""
        entry = LooseSecret(label, secret)
        if not secret or entry in self._known:
            return
        if len(self.loose) >= _MAX_LOOSE:
            if len(self.loose) == _MAX_LOOSE:
                self.trouble.append(f"more than {_MAX_LOOSE} secrets: the rest is left out")
            return
        self._known.add(entry)
        self.loose.append(entry)

    def candidates(self, *labels: Label) -> Iterator[LooseSecret]:
        """The loose secrets of these labels, or of none, beginning behind the last that fitted."""
        count = len(self.loose)
        for step in range(count):
            entry = self.loose[(self._next + step) % count]
            if entry.label is None or entry.label in labels:
                yield entry

    def fitted(self, entry: LooseSecret) -> None:
        """A candidate was the right one: files mostly have them in the order of the sessions."""
        self._next = (self.loose.index(entry) + 1) % len(self.loose)

    def update(self, other: Secrets) -> None:
        """Take in everything another collection has."""
        self.sessions.update(other.sessions)
        for entry in other.loose:
            self.add_loose(*entry)
        self.trouble += other.trouble


def _loose(text: str) -> tuple[Label | None, bytes] | None:
    """What a line says that is not one of a key log; None when that is no secret."""
    if match := _WRITTEN.fullmatch(text):
        return _LABELS[match["name"].lower()], bytes.fromhex(match["hex"])
    if match := _PSK_FILE.fullmatch(text):
        return Label.PSK, bytes.fromhex(match["hex"])
    if match := _BARE.fullmatch(text):
        return None, bytes.fromhex(match["hex"].replace(":", ""))
    return None


def _parsed(text: str, number: int) -> tuple[KeyLogLine | None, DecodeError | None]:
    try:
        return parse_line(text, number), None
    except DecodeError as error:
        return None, error


def read_secrets(lines: Iterable[str]) -> Secrets:
    """Read a key log, a debug log, or a file with single secrets.

    Lines that are neither are stepped over; `Secrets.trouble` tells of those that look like lines
    of a key log and are not.
    """
    found = Secrets()
    for number, text in enumerate(lines, 1):
        if len(text) > _MAX_LINE:
            continue
        words = text.split(maxsplit=1)
        logged = bool(words) and words[0].rstrip("_0123456789") in _KEY_LOG_NAMES
        line, error = _parsed(text, number) if logged else (None, None)
        if line is not None:
            session = found.sessions.setdefault(line.session, SessionSecrets())
            session.add(line.label, line.generation, line.secret)
        elif (loose := _loose(text)) is not None:
            found.add_loose(*loose)
        elif error is not None:
            found.trouble.append(f"key log line {number}: {error.field}: {error.reason}")
    if any(entry.label for entry in found.loose):
        # In a debug log bare hex is a dump of something else.
        found.loose = [entry for entry in found.loose if entry.label]
    return found


_KEY_LOG_NAMES = frozenset(label.value for label in Label)


def load_secrets(path: str | os.PathLike[str]) -> Secrets:
    """Read the secrets of a file.

    Raises:
        ConfigurationError: it cannot be read, or holds nothing but broken lines.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            found = read_secrets(iter(lambda: stream.readline(_MAX_LINE + 1), ""))
    except OSError as error:
        raise ConfigurationError(f"cannot read the key log {path}: {error.strerror}") from error
    if not found and found.trouble:
        raise ConfigurationError(f"{path}: {found.trouble[0]}")
    if not found:
        found.trouble.append(f"{path} holds no secret")
    return found
