"""Pre-shared keys in files that only their owner may read.

    hint = "rack 12"
    key = "8f1c..."

`hint` is what a requester sends to say which key it means (PSKHint, DSP0274 10.17); bytes that are
no text go into `hint_hex`. `key` is hexadecimal.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec

from spdmkit.attestation.toml_file import Strict, TomlFile
from spdmkit.device.files import read_secret, write_whole
from spdmkit.errors import ConfigurationError

__all__ = ["SharedKey", "new_shared_key", "read_shared_key", "write_shared_key"]

MAX_SIZE: Final = 16 << 10
MIN_KEY: Final = 16
"""Fewest bytes of a key that is not to be guessed."""
MAX_KEY: Final = 1024
MAX_HINT: Final = 0xFFFF
NEW_KEY: Final = 32

Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{2})*$")]


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A pre-shared key.

    Attributes:
        hint: what it is called on the wire.
        key: the key.
    """

    hint: bytes
    key: bytes = field(repr=False)


class _File(Strict, frozen=True, kw_only=True):
    key: Hex
    hint: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    hint_hex: Hex | None = None


def read_shared_key(path: Path) -> SharedKey:
    """Read a key file.

    Raises:
        ConfigurationError: others may read it, it is not in this form, or the key is too short.
    """
    source = f"pre-shared key {path}"
    file = TomlFile(read_secret(path, MAX_SIZE, "pre-shared key"), source)
    content = file.convert(_File)
    if (content.hint is None) == (content.hint_hex is None):
        raise ConfigurationError(f"{source}: give one of hint and hint_hex")
    hint = (content.hint or "").encode()
    if content.hint_hex is not None:
        hint = bytes.fromhex(content.hint_hex)
    key = bytes.fromhex(content.key)
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise file.wrong(("key",), f"{len(key)} bytes, not {MIN_KEY} to {MAX_KEY}")
    if len(hint) > MAX_HINT:
        raise file.wrong(("hint_hex",), f"{len(hint)} bytes, at most {MAX_HINT}")
    return SharedKey(hint, key)


def new_shared_key(hint: str) -> SharedKey:
    """A fresh random key under a hint."""
    return SharedKey(hint.encode(), secrets.token_bytes(NEW_KEY))


def write_shared_key(path: Path, shared: SharedKey) -> None:
    """Write a key file that only its owner may read.

    Raises:
        OSError: it could not be written.
    """
    text = shared.hint.decode("utf-8", "replace")
    if text.encode() == shared.hint and text.isprintable() and '"' not in text and "\\" not in text:
        hint = f'hint = "{text}"'
    else:
        hint = f'hint_hex = "{shared.hint.hex()}"'
    lines = (
        "# A pre-shared key. Whoever has this file is the other side: keep it readable for its",
        "# owner only, and give each pair of device and requester a key of its own.",
        hint,
        f'key = "{shared.key.hex()}"',
        "",
    )
    write_whole(path, "\n".join(lines).encode(), mode=0o600)
