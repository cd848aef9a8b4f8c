"""Serial lines: ttys that exist, and pseudo terminals made for somebody to open."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import tty
from pathlib import Path

from spdmkit.errors import TransportError

__all__ = ["Tty", "create_pty", "open_tty"]


class Tty:
    """A serial line as a wire.

    Attributes:
        name: its path, for people.
    """

    def __init__(self, name: str, descriptor: int, *, keep: int = -1, link: str = "") -> None:
        """Take over an open, raw terminal.

        Args:
            name: see the attribute.
            descriptor: to read and write.
            keep: the other end of a pseudo terminal, held open so that it outlives who opens it.
            link: a symbolic link to remove in the end.
        """
        os.set_blocking(descriptor, False)
        self.name = name
        self._descriptor = descriptor
        self._keep = keep
        self._link = link

    def fileno(self) -> int:
        """Its descriptor, -1 once closed."""
        return self._descriptor

    def recv(self, size: int, /) -> bytes:
        """What came, up to `size` bytes."""
        return os.read(self._descriptor, size)

    def send(self, data: bytes | memoryview, /) -> int:
        """Send some of it."""
        return os.write(self._descriptor, data)

    def close(self) -> None:
        """Close; what a pseudo terminal's link pointed to is gone with it."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._keep >= 0:
            os.close(self._keep)
        if self._link and os.path.islink(self._link):
            os.unlink(self._link)


def open_tty(path: str, baud: int | None = None) -> Tty:
    """Open a tty for MCTP: raw, at a speed if one is given, and for us alone.

    Raises:
        TransportError: it cannot be opened, is no tty, is in use, or has no such speed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TransportError(f"cannot open {path}: {error.strerror}") from error
    try:
        _prepare(path, descriptor, baud)
    except BaseException:
        os.close(descriptor)
        raise
    return Tty(path, descriptor)


def _prepare(path: str, descriptor: int, baud: int | None) -> None:
    if not os.isatty(descriptor):
        raise TransportError(f"{path} is not a tty")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise TransportError(
                f"{path} is in use by another program", hint="a serial line has one user at a time"
            ) from error
        raise TransportError(f"cannot lock {path}: {error.strerror}") from error
    try:
        tty.setraw(descriptor)
        _ignore_modem_lines(descriptor)
        if baud is not None:
            _set_speed(path, descriptor, baud)
    except termios.error as error:
        raise TransportError(f"cannot set up {path}: {error.args[-1]}") from error


def _ignore_modem_lines(descriptor: int) -> None:
    """Three wires are enough; closing the tty resets nothing at the other end."""
    attributes = termios.tcgetattr(descriptor)
    attributes[2] |= termios.CLOCAL | termios.CREAD
    attributes[2] &= ~(termios.CRTSCTS | termios.HUPCL)
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def _set_speed(path: str, descriptor: int, baud: int) -> None:
    speed = getattr(termios, f"B{baud}", None)
    if not isinstance(speed, int):
        raise TransportError(f"{path}: a serial line has no speed of {baud} baud")
    attributes = termios.tcgetattr(descriptor)
    attributes[4] = attributes[5] = speed
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def create_pty(path: str) -> Tty:
    """Make a pseudo terminal; whoever opens `path`, a symbolic link to it, is at its other end.

    A link that is left over is replaced; anything else at that path is left alone.

    Raises:
        TransportError: something is at that path, or the system has no terminal left.
    """
    place = Path(path)
    if place.exists() and not place.is_symlink():
        raise TransportError(f"{path} exists and is not a link to a pseudo terminal")
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise TransportError(f"no pseudo terminal is to be had: {error.strerror}") from error
    try:
        tty.setraw(theirs)
        if place.is_symlink():
            place.unlink()
        place.symlink_to(os.ttyname(theirs))
    except OSError as error:
        os.close(ours)
        os.close(theirs)
        raise TransportError(f"cannot make {path}: {error.strerror}") from error
    return Tty(path, ours, keep=theirs, link=path)
