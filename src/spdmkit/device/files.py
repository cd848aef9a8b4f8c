"""Files that must not be lost or seen: written whole or not at all, secrets for their owner only.

`write_whole` is that of `attestation.files`; a file that it left half written keeps its own name
and is removed at the next start.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from spdmkit.attestation.files import LEFTOVER, sync_folder, write_whole
from spdmkit.errors import ConfigurationError

__all__ = ["clear_leftovers", "make_folder", "read_secret", "remove", "write_whole"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path) -> None:
    """Make a folder durably, when it is not there yet.

    Raises:
        OSError: it could not be made.
    """
    if not path.is_dir():
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file durably.

    Raises:
        OSError: it could not be removed, or there is none.
    """
    path.unlink()
    sync_folder(path.parent)


def clear_leftovers(folder: Path) -> None:
    """Remove what an interrupted `write_whole` left in `folder`; nothing ever refers to it."""
    for leftover in folder.glob(f"{LEFTOVER}*"):
        leftover.unlink(missing_ok=True)


def read_secret(path: Path, limit: int, what: str) -> bytes:
    """The content of a file that only its owner can read or write.

    Args:
        path: the file.
        limit: most bytes it may have.
        what: what to call it in errors.

    Raises:
        ConfigurationError: others have rights on it, it is missing or not readable, or larger.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and not status.st_mode & _OTHERS:
                data = file.read(limit + 1)
            else:
                data = None
    except OSError as error:
        raise ConfigurationError(f"{what} {path}: {error.strerror or error}") from error
    if data is None:
        raise ConfigurationError(
            f"{what} {path} can be read or changed by others "
            f"(mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )
    if len(data) > limit:
        raise ConfigurationError(f"{what} {path} has more than the {limit} bytes it may have")
    return data
