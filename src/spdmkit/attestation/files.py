"""Reading files of bounded size, and writing them so that a reader never sees half of one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from spdmkit.errors import ConfigurationError

__all__ = ["read_bounded", "write_atomic"]


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


def write_atomic(path: str | Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file: whoever opens it sees the old content or the new, also after a crash.

    Raises:
        ConfigurationError: the folder cannot be written to.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: {error.strerror or 'cannot be written'}") from error
