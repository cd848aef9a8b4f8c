"""Reading files of bounded size, and writing them whole or not at all.

`write_whole` leaves, whenever the machine stops, either the old content or the new: it writes a
file beside the old one, forces it to the disk, renames it over the old one, and forces the folder
to the disk.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from spdmkit.errors import ConfigurationError

__all__ = ["LEFTOVER", "read_bounded", "sync_folder", "write_atomic", "write_whole"]

LEFTOVER = ".new-"
"""How names of files begin that `write_whole` has not finished."""


def read_bounded(path: str | Path, limit: int) -> bytes:
    """The bytes of a file.

    Args:
        path: the file.
        limit: most bytes it may have.

    Raises:
        ConfigurationError: it cannot be read, or is larger.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or 'unreadable'}") from error
    if len(data) > limit:
        raise ConfigurationError(f"{path}: more than the {limit} bytes that are accepted")
    return data


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the content of `path`, durably and in one step.

    Args:
        path: the file; its folder exists.
        data: the new content.
        mode: permissions of the file from its first byte on; the umask may narrow them.

    Raises:
        OSError: it could not be written; the old content is still there.
    """
    beside = path.with_name(f"{LEFTOVER}{path.name}-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomic(path: str | Path, data: bytes, *, mode: int = 0o644) -> None:
    """As `write_whole`, for files that a person named.

    Raises:
        ConfigurationError: it could not be written.
    """
    try:
        write_whole(Path(path), data, mode=mode)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or 'cannot be written'}") from error


def sync_folder(folder: Path) -> None:
    """Force what a folder lists to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
