"""Names of hash algorithms in reference values, and their digests checked for size."""

from __future__ import annotations

from spdmkit.attestation.reference.model import AllowedDigest
from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import ConfigurationError

__all__ = ["NAMED_INFORMATION", "canonical_digest", "hash_by_name", "named_information"]

NAMED_INFORMATION = {
    1: "sha-256",
    7: "sha-384",
    8: "sha-512",
    10: "sha3-256",
    11: "sha3-384",
    12: "sha3-512",
}
"""Number in IANA's Named Information Hash Algorithm registry -> short name. SM3 has none there."""

_NUMBERS = {name: number for number, name in NAMED_INFORMATION.items()}


def hash_by_name(name: str) -> HashAlgorithm:
    """The hash algorithm with a name of DSP0274 or a short one ("sha-384").

    Raises:
        ConfigurationError: SPDM has no such hash.
    """
    return BASE_HASH.by_name(name)


def canonical_digest(algorithm: str, value: bytes, where: str) -> AllowedDigest:
    """An allowed digest under the algorithm's short name.

    Args:
        algorithm: its name in any spelling the registry knows.
        value: the digest.
        where: what to call the place in errors.

    Raises:
        ConfigurationError: unknown hash, or a digest of another length than it makes.
    """
    try:
        entry = hash_by_name(algorithm)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}", hint=error.hint) from None
    if len(value) != entry.size:
        raise ConfigurationError(
            f"{where}: a {entry.short} digest has {entry.size} bytes, this one {len(value)}"
        )
    return AllowedDigest(entry.short, value)


def named_information(short: str) -> int | str:
    """How CoRIM names a hash: its number in IANA's registry, or its name where it has none."""
    return _NUMBERS.get(short, short)
