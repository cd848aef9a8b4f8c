"""What an authority issued: a file of JSON lines that only grows.

    {"event": "reserved", "serial": "3A...", "time": "2026-01-02T03:04:05Z", ...}
    {"event": "issued",   "serial": "3A...", "certificate": "base64", ...}
    {"event": "installed", "serial": "3A...", "slot": 1, "target": "tcp://192.0.2.7:4194"}
    {"event": "revoked",  "serial": "3A...", "reason": "key_compromise"}
    {"event": "crl",      "number": 4, "until": "..."}

A serial number is written here, and forced to the disk, before a certificate with it is signed: a
crash between the two wastes a number and never gives one twice. A lock keeps two processes from
writing at once; each reads what the other wrote before it writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from spdmkit.errors import ConfigurationError

__all__ = ["Entry", "Ledger"]

SERIAL_BITS: Final = 158
"""Random bits of a serial number: positive, and 20 bytes at most in DER (RFC 5280 4.1.2.2)."""
MAX_LINE: Final = 1 << 18
_EVENTS: Final = frozenset({"reserved", "issued", "installed", "failed", "revoked", "crl"})


@dataclass(slots=True)
class Entry:
    """All that is known of one certificate.

    Attributes:
        serial: serial number.
        state: the last event: "reserved", "issued", "installed", "failed" or "revoked".
        details: the fields of all its events, later ones over earlier ones.
        revoked_at: when it was revoked, RFC 3339; empty when it was not.
        reason: why.
    """

    serial: int
    state: str = "reserved"
    details: dict[str, Any] = field(default_factory=dict)
    revoked_at: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        """The serial number as people write it: upper-case hex, two digits a byte."""
        return serial_text(self.serial)


class Ledger:
    """The ledger of one authority.

    Attributes:
        entries: serial number -> what is known of it.
        crl_number: number of the last revocation list; 0 when there was none.
    """

    def __init__(self, path: Path) -> None:
        """Read a ledger; one that does not exist yet is empty.

        Raises:
            ConfigurationError: it cannot be read, or a line is damaged ("file:line:").
        """
        self._path = path
        self._read_to = 0
        self._line = 0
        self.entries: dict[int, Entry] = {}
        self.crl_number = 0
        if path.exists():
            with self._open("rb") as file:
                self._catch_up(file)

    def reserve(self, **details: Any) -> int:
        """Draw a serial number that was never drawn before, and write it down.

        Args:
            details: what else to write: profile, identity, target, time.

        Raises:
            ConfigurationError: the ledger cannot be written.
        """
        with self._locked() as file:
            serial = 0
            while not serial or serial in self.entries:
                serial = secrets.randbits(SERIAL_BITS)
            self._append(file, {"event": "reserved", "serial": serial_text(serial), **details})
        return serial

    def note(self, event: str, serial: int, **details: Any) -> None:
        """Write down what happened to a certificate.

        Args:
            event: "issued", "installed" or "failed".
            serial: its serial number.
            details: what else to write.

        Raises:
            ConfigurationError: the ledger cannot be written, or knows no such number.
        """
        with self._locked() as file:
            self._known(serial)
            self._append(file, {"event": event, "serial": serial_text(serial), **details})

    def revoke(self, serial: int, *, time: str, reason: str) -> None:
        """Write down that a certificate is revoked; it stays so.

        Raises:
            ConfigurationError: it is revoked already, there is none, or the ledger cannot be
                written.
        """
        with self._locked() as file:
            if self._known(serial).revoked_at:
                raise ConfigurationError(f"serial:{serial_text(serial)} is revoked already")
            event = {"event": "revoked", "serial": serial_text(serial)}
            self._append(file, {**event, "time": time, "reason": reason})

    @contextmanager
    def next_crl(self, **details: Any) -> Iterator[int]:
        """Take the number of the next revocation list, and keep others out until it is written.

        Raises:
            ConfigurationError: the ledger cannot be written.
        """
        with self._locked() as file:
            number = self.crl_number + 1
            self._append(file, {"event": "crl", "number": number, **details})
            yield number

    @property
    def revoked(self) -> list[Entry]:
        """All certificates that are revoked."""
        return [entry for entry in self.entries.values() if entry.revoked_at]

    def find(self, text: str) -> Entry:
        """The certificate with a serial number in hex; colons are passed over.

        Raises:
            ConfigurationError: not a number, or none of ours.
        """
        digits = text.lower().removeprefix("serial:").replace(":", "").removeprefix("0x")
        try:
            serial = int(digits, 16)
        except ValueError:
            raise ConfigurationError(f"{text!r} is not a serial number in hex") from None
        return self._known(serial)

    def _known(self, serial: int) -> Entry:
        entry = self.entries.get(serial)
        if entry is None:
            raise ConfigurationError(
                f"serial:{serial_text(serial)} is not in {self._path.name}",
                hint="see what was issued with: spdm ca show DIR",
            )
        return entry

    # -- the file -------------------------------------------------------------------------------

    def _open(self, mode: str) -> BinaryIO:
        try:
            return self._path.open(mode)  # type: ignore[return-value] # all modes here are binary
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file for appending, ours alone, with all that others wrote already read."""
        with self._open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._catch_up(file)
            yield file

    def _append(self, file: BinaryIO, event: dict[str, Any]) -> None:
        line = json.dumps(event, ensure_ascii=True).encode() + b"\n"
        try:
            file.seek(self._read_to)
            file.truncate()  # what a crash left of a line that was never finished
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}") from error
        self._apply(event)
        self._read_to += len(line)
        self._line += 1

    def _catch_up(self, file: BinaryIO) -> None:
        """Read the lines that are new; one without its end is not written yet, or never was."""
        file.seek(self._read_to)
        while True:
            line = file.readline(MAX_LINE)
            if not line.endswith(b"\n"):
                if len(line) == MAX_LINE:
                    raise ConfigurationError(f"{self._path}:{self._line + 1}: too long a line")
                return
            self._line += 1
            try:
                event = json.loads(line)
                self._apply(event)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigurationError(
                    f"{self._path}:{self._line}: not an entry of a ledger",
                    hint="restore the file from a copy: serial numbers must not be given twice",
                ) from error
            self._read_to += len(line)

    def _apply(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind not in _EVENTS:
            raise ValueError(f"no event is called {kind!r}")
        if kind == "crl":
            self.crl_number = max(self.crl_number, int(event["number"]))
            return
        serial = int(event["serial"], 16)
        entry = self.entries.setdefault(serial, Entry(serial))
        if kind == "revoked":
            entry.revoked_at = str(event["time"])
            entry.reason = str(event["reason"])
            entry.state = "revoked"
            return
        if entry.state != "revoked":
            entry.state = kind
        entry.details.update({k: v for k, v in event.items() if k not in ("event", "serial")})


def serial_text(serial: int) -> str:
    """A serial number in upper-case hex, two digits a byte."""
    return serial.to_bytes((serial.bit_length() + 7) // 8 or 1, "big").hex().upper()
