"""The key log: secrets of sessions as text, so that captures of them can be decrypted.

An endpoint writes one when the environment names a file in `SPDMKEYLOGFILE`, and never otherwise.
Each line is one secret:

    LABEL REQUEST_RANDOM RESPONSE_RANDOM SECRET

The three values are hex. The randoms name the session, in place of a session id, which is used
again and again: RandomData of KEY_EXCHANGE and KEY_EXCHANGE_RSP, or RequesterContext and
ResponderContext of PSK_EXCHANGE and PSK_EXCHANGE_RSP; `-` stands for an empty one. Lines of many
sessions and processes may share a file. Blank lines and what follows a `#` say nothing.

    label                           secret                                          DSP0274
    DHE_SECRET, KEM_SECRET, PSK     what the key schedule starts from               12.3
    REQUEST_HANDSHAKE_SECRET        S0, protects the requester's handshake records  12.6.1
    RESPONSE_HANDSHAKE_SECRET       S1, the responder's                             12.6.2
    REQUEST_DATA_SECRET_n           S2 after n key updates, from 0                  12.6.3, 12.10
    RESPONSE_DATA_SECRET_n          S3 after n key updates                          12.6.4, 12.10

S0 to S3 (generation 0) are all that decrypting takes, and what spdmkit writes, with every further
generation. One of the first three does as well, when the capture holds the whole handshake.
"""

from __future__ import annotations

import enum
import hashlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from spdmkit.errors import ConfigurationError, DecodeError

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "KeyLog",
    "KeyLogEvent",
    "KeyLogLine",
    "Label",
    "SessionRandom",
    "parse_line",
]

ENVIRONMENT_VARIABLE = "SPDMKEYLOGFILE"
_MAX_SECRET = 1024
_MAX_GENERATION = 1 << 32
_REMEMBERED_SESSIONS = 4096
_REMEMBERED_SECRETS = 8


class Label(enum.Enum):
    """Which secret of a session; the data secrets have a generation besides."""

    DHE_SECRET = "DHE_SECRET"  # noqa: S105  # a name, as the others below
    KEM_SECRET = "KEM_SECRET"  # noqa: S105
    PSK = "PSK"
    REQUEST_HANDSHAKE_SECRET = "REQUEST_HANDSHAKE_SECRET"  # noqa: S105
    RESPONSE_HANDSHAKE_SECRET = "RESPONSE_HANDSHAKE_SECRET"  # noqa: S105
    REQUEST_DATA_SECRET = "REQUEST_DATA_SECRET"  # noqa: S105
    RESPONSE_DATA_SECRET = "RESPONSE_DATA_SECRET"  # noqa: S105


_GENERATIONS = frozenset((Label.REQUEST_DATA_SECRET, Label.RESPONSE_DATA_SECRET))


class SessionRandom(NamedTuple):
    """The two random values that name a session."""

    request: bytes
    response: bytes


class KeyLogEvent(Protocol):
    """What the protocol reports when it derives a secret."""

    @property
    def label(self) -> str:
        """A `Label`, as text."""

    @property
    def client_random(self) -> bytes:
        """The request's random value."""

    @property
    def server_random(self) -> bytes:
        """The response's."""

    @property
    def secret(self) -> bytes:
        """The secret."""


class KeyLogLine(NamedTuple):
    """One line of a key log."""

    label: Label
    generation: int
    session: SessionRandom
    secret: bytes

    def __str__(self) -> str:
        name = self.label.value
        if self.label in _GENERATIONS:
            name += f"_{self.generation}"
        request, response = (value.hex() or "-" for value in self.session)
        return f"{name} {request} {response} {self.secret.hex()}"


def parse_line(text: str, number: int = 1) -> KeyLogLine | None:
    """Read one line; None when it says nothing.

    Args:
        text: the line.
        number: of the line in its file, for the error.

    Raises:
        DecodeError: it is not of the form; its offset is the line number. The error does not
            repeat the line, which may hold a secret.
    """
    parts = text.partition("#")[0].split()
    if not parts:
        return None
    if len(parts) != 4:
        raise DecodeError("key log", "line", number, f"{len(parts)} words instead of 4")
    name, _, suffix = parts[0].rpartition("_")
    generation = 0
    if suffix.isascii() and suffix.isdigit() and len(suffix) < 11:
        generation = int(suffix)
    else:
        name = parts[0]
    try:
        label = Label(name)
    except ValueError:
        raise DecodeError("key log", "label", number, "no such label") from None
    if (name != parts[0]) is not (label in _GENERATIONS) or generation >= _MAX_GENERATION:
        raise DecodeError("key log", "label", number, f"{label.value} with a wrong generation")
    values = []
    for what, word in zip(("request random", "response random", "secret"), parts[1:], strict=True):
        try:
            value = b"" if word == "-" and what != "secret" else bytes.fromhex(word)
        except ValueError:
            raise DecodeError("key log", what, number, "is not hex") from None
        if len(value) > _MAX_SECRET:
            raise DecodeError("key log", what, number, f"{len(value)} bytes are too many")
        values.append(value)
    return KeyLogLine(label, generation, SessionRandom(values[0], values[1]), values[2])


@dataclass(slots=True)
class _Written:
    """What was written of one label of one session: how often, and what lately (hashed)."""

    count: int = 0
    lately: list[bytes] = field(default_factory=list)


class KeyLog:
    """Appends to a key log; the sink that the protocol reports its secrets to.

    Endpoints of one process may share it: a secret that both ends of a session report is written
    once. Lines are written whole, so that processes may share the file. Threads may share the log.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, made with access for its owner alone, at its end.

        Raises:
            ConfigurationError: it cannot be opened, is no regular file, or others may read it.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigurationError(f"cannot open the key log {path}: {error.strerror}") from error
        status = os.fstat(self._file)
        reason = ""
        if not stat.S_ISREG(status.st_mode):
            reason = "is not a regular file"
        elif status.st_mode & 0o077:
            reason = "can be read by others than its owner"
        if reason:
            os.close(self._file)
            raise ConfigurationError(f"the key log {path} {reason}", hint=f"chmod 600 {path}")
        self._lock = threading.Lock()
        self._written: OrderedDict[SessionRandom, dict[Label, _Written]] = OrderedDict()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> KeyLog | None:
        """The key log that `SPDMKEYLOGFILE` asks for; None when it does not.

        Raises:
            ConfigurationError: as for the constructor.
        """
        path = environment.get(ENVIRONMENT_VARIABLE, "")
        return cls(path) if path else None

    def record(self, label: str, session_random: tuple[bytes, bytes], secret: bytes) -> None:
        """Write a secret down.

        Of REQUEST_DATA_SECRET and RESPONSE_DATA_SECRET each further one of a session is the next
        generation.

        Args:
            label: a `Label`, without a generation.
            session_random: the request's and the response's random value.
            secret: the secret.

        Raises:
            ConfigurationError: no such label, or the file cannot be written.
        """
        try:
            which = Label(label)
        except ValueError:
            raise ConfigurationError(f"{label} is no label of the key log") from None
        session = SessionRandom(*session_random)
        with self._lock:
            if self._file < 0:
                return
            generation = self._generation(session, which, secret)
            if generation is None:
                return
            line = f"{KeyLogLine(which, generation, session, secret)}\n"
            try:
                os.write(self._file, line.encode())
            except OSError as error:
                raise ConfigurationError(f"cannot write the key log: {error.strerror}") from error

    def __call__(self, event: KeyLogEvent) -> None:
        """Write the secret of an event down."""
        self.record(event.label, (event.client_random, event.server_random), event.secret)

    def close(self) -> None:
        """Close the file; what is reported afterwards is dropped."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _generation(self, session: SessionRandom, label: Label, secret: bytes) -> int | None:
        """Which generation this secret is; None when it was written already."""
        labels = self._written.setdefault(session, {})
        self._written.move_to_end(session)
        if len(self._written) > _REMEMBERED_SESSIONS:
            self._written.popitem(last=False)
        written = labels.setdefault(label, _Written())
        digest = hashlib.sha256(secret).digest()
        if digest in written.lately:
            return None
        written.lately = [*written.lately[1 - _REMEMBERED_SECRETS :], digest]
        written.count += 1
        return written.count - 1
