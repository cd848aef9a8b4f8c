"""PEM files with labels above: what is stored, and what it is for, in one file.

    SPDM-Model: device
    SPDM-Key-Pair: 1

    -----BEGIN CERTIFICATE-----
    ...

Text before the first block is allowed in PEM files (RFC 7468 5.2), and every tool skips it. With
labels and content in one file, both are replaced in one step.
"""

from __future__ import annotations

from collections.abc import Mapping

from spdmkit.errors import ConfigurationError

__all__ = ["join", "split"]

_BEGIN = b"-----BEGIN "
_PREFIX = "SPDM-"


def split(data: bytes, source: str) -> tuple[dict[str, str], bytes]:
    """Take a file apart.

    Args:
        data: the file's content.
        source: what to call it in errors.

    Returns:
        The labels without "SPDM-", in lower case, and the PEM blocks; empty when there are none.

    Raises:
        ConfigurationError: the labels are not text, or one stands there twice.
    """
    start = data.find(_BEGIN)
    head, blocks = (data, b"") if start < 0 else (data[:start], data[start:])
    try:
        lines = head.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source}: the text above the PEM blocks is not UTF-8") from error
    labels: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.startswith(_PREFIX):
            continue
        name = name.removeprefix(_PREFIX).strip().lower()
        if name in labels:
            raise ConfigurationError(f"{source}: the label {_PREFIX}{name} stands there twice")
        labels[name] = value.strip()
    return labels, blocks


def join(labels: Mapping[str, str], blocks: bytes) -> bytes:
    """Put a file together; `split` takes it apart again.

    Args:
        labels: names as in the file without "SPDM-" ("Key-Pair"), and values of one line.
        blocks: PEM.
    """
    head = "".join(f"{_PREFIX}{name}: {value}\n" for name, value in labels.items())
    return head.encode() + b"\n" + blocks
