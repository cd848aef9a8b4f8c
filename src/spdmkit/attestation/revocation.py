"""CRLs and OCSP responses given as files; nothing is fetched.

What they say is judged with the chain (`identity`). With none at hand the step `revocation` of a
report is `not-checked`, and says so; a policy with `demand_revocation` turns that into a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from spdmkit.attestation.files import read_bounded
from spdmkit.errors import ConfigurationError
from spdmkit.identity import RevocationData

__all__ = ["load_revocation"]

_MAX_SIZE: Final = 64 << 20


def load_revocation(
    crls: Iterable[str | Path] = (), ocsp_responses: Iterable[str | Path] = ()
) -> RevocationData:
    """Read certificate revocation lists (PEM or DER) and OCSP responses (DER).

    Raises:
        ConfigurationError: a file cannot be read or is none of these; it is named.
    """
    lists = [_read(path, "CRL") for path in crls]
    responses = [_read(path, "OCSP response") for path in ocsp_responses]
    return RevocationData(lists, responses)


def _read(path: str | Path, what: str) -> bytes:
    """One file, known to be what it should be, so that an error can name it."""
    data = read_bounded(path, _MAX_SIZE)
    try:
        RevocationData([data] if what == "CRL" else [], [] if what == "CRL" else [data])
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} is no {what} that can be read: {error}") from error
    return data
