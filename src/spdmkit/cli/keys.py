"""Private keys and passphrases for commands: from files and the environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spdmkit.cli.passphrase import passphrase_from
from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey, PublicKey

__all__ = ["VARIABLE", "load_private_key", "load_public_key", "passphrase_option"]

VARIABLE = "SPDM_PASSPHRASE"
_MAX_SIZE = 1 << 16

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"First line: the passphrase of private keys. Else {VARIABLE}, else no passphrase.",
)


def load_private_key(path: Path, passphrase_file: Path | None = None) -> PrivateKey:
    """A private key from a PEM file (or DER, in the clear) that only its owner may read.

    An encrypted key needs a passphrase from a file, the environment, or a person at a terminal.

    Raises:
        ConfigurationError: others may read it, it is none, or the passphrase is missing or wrong.
    """
    from spdmkit.crypto.keys import PrivateKey
    from spdmkit.device.files import read_secret

    data = read_secret(path, _MAX_SIZE, "private key")
    secret = None
    if b"ENCRYPTED" in data:
        secret = passphrase_from(passphrase_file, VARIABLE)
        if secret is None and sys.stdin.isatty():
            secret = click.prompt(f"passphrase of {path}", hide_input=True, err=True)
    try:
        return PrivateKey.load(data, secret)
    except ConfigurationError as error:
        raise ConfigurationError(f"private key {path}: {error}", hint=error.hint) from error


def load_public_key(path: Path) -> PublicKey:
    """A public key from a PEM or DER file.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    from spdmkit.attestation.files import read_bounded
    from spdmkit.crypto.keys import PublicKey
    from spdmkit.errors import DecodeError

    try:
        return PublicKey.load(read_bounded(path, _MAX_SIZE))
    except DecodeError as error:
        raise ConfigurationError(f"public key {path}: {error}") from error
