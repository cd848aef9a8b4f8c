"""Passphrases: from a file, the environment, or a prompt; never from the command line."""

from __future__ import annotations

import os
from pathlib import Path

from spdmkit.errors import ConfigurationError

__all__ = ["passphrase_from"]


def passphrase_from(file: Path | None, variable: str) -> str | None:
    """The first line of a file, else an environment variable, else None.

    Raises:
        ConfigurationError: the file cannot be read or is no text, or its first line is empty.
    """
    if file is None:
        return os.environ.get(variable)
    try:
        text = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: a passphrase is text in UTF-8") from error
    if not text or not text[0]:
        raise ConfigurationError(f"{file}: its first line, the passphrase, is empty")
    return text[0]
