"""Hash algorithms: running hashes, HMAC and HKDF (RFC 5869) over them.

SHA-2 and SHA-3 come from hashlib, which is the quickest for short inputs and copies cheaply; SM3
comes from cryptography, because hashlib has it only where the system's OpenSSL does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from spdmkit.crypto.algorithm import Algorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import Hash

__all__ = ["HashAlgorithm", "Octets", "RunningHash"]

Octets: TypeAlias = bytes | bytearray | memoryview


class RunningHash(Protocol):
    """A hash that is fed piece by piece and may be copied on the way."""

    def update(self, data: Octets, /) -> None:
        """Append bytes."""
        ...

    def copy(self) -> RunningHash:
        """An independent hash in the same state."""
        ...

    def digest(self) -> bytes:
        """The digest of what was fed so far; feeding may go on."""
        ...


class _Sm3:
    """SM3 with the manners of a hashlib object: `digest` does not end it."""

    __slots__ = ("_hash",)

    def __init__(self, state: Hash) -> None:
        self._hash = state

    def update(self, data: Octets, /) -> None:
        self._hash.update(data)

    def copy(self) -> _Sm3:
        return _Sm3(self._hash.copy())

    def digest(self) -> bytes:
        return self._hash.copy().finalize()


def new_sm3() -> RunningHash:
    """A running SM3 hash (GB/T 32905)."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - loaded at first use

    return _Sm3(hashes.Hash(hashes.SM3()))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class HashAlgorithm(Algorithm):
    """A hash algorithm of BaseHashAlgo (DSP0274 10.4) or MeasurementHashAlgo.

    Attributes:
        size: length of a digest in bytes, the specification's H. 0 for the raw bit stream of
            MeasurementHashAlgo, which hashes nothing.
        block_size: input block in bytes, which HMAC pads its key to.
        new: makes a running hash.
    """

    size: int
    block_size: int
    new: Callable[[], RunningHash] = field(kw_only=True)
    _hashlib_name: str = field(default="", kw_only=True)

    def digest(self, data: Octets) -> bytes:
        """The digest of bytes at hand."""
        running = self.new()
        running.update(data)
        return running.digest()

    def hmac(self, key: Octets, data: Octets) -> bytes:
        """HMAC (RFC 2104) of bytes at hand, `size` bytes long."""
        if self._hashlib_name:
            return hmac.digest(key, data, self._hashlib_name)
        return self._hmac_by_definition(key, data)

    def _hmac_by_definition(self, key: Octets, data: Octets) -> bytes:
        padded = bytearray(key if len(key) <= self.block_size else self.digest(key))
        padded.extend(bytes(self.block_size - len(padded)))
        inner, outer = self.new(), self.new()
        inner.update(padded.translate(_INNER_PAD))
        inner.update(data)
        outer.update(padded.translate(_OUTER_PAD))
        outer.update(inner.digest())
        padded[:] = bytes(len(padded))
        return outer.digest()

    def hkdf_extract(self, salt: Octets, key_material: Octets) -> bytes:
        """HKDF-Extract(salt, IKM) (RFC 5869 2.2): a pseudorandom key of `size` bytes."""
        return self.hmac(salt, key_material)

    def hkdf_expand(self, secret: Octets, info: Octets, length: int) -> bytes:
        """HKDF-Expand(PRK, info, L) (RFC 5869 2.3).

        Args:
            secret: pseudorandom key.
            info: context.
            length: how many bytes to make, at most 255 digests.

        Raises:
            ValueError: more than that was asked for.
        """
        if not 0 < length <= 255 * self.size:
            raise ValueError(f"HKDF-Expand makes 1 to {255 * self.size} bytes, not {length}")
        block = self.hmac(secret, bytes(info) + b"\x01")
        if length <= self.size:  # every derivation of DSP0274 clause 12
            return block[:length]
        output = bytearray(block)
        counter = 2
        while len(output) < length:
            block = self.hmac(secret, block + bytes(info) + bytes([counter]))
            output += block
            counter += 1
        return bytes(output[:length])


_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


def hashlib_entry(bit: int, short: str, block_size: int) -> HashAlgorithm:
    """The entry of SHA-2 or SHA-3 ("sha-384") at a bit of a table; all since SPDM 1.0."""
    tpm_name = "TPM_ALG_" + short.upper().replace("-", "_")
    hashlib_name = short.replace("sha-", "sha").replace("-", "_")
    new: Callable[[], RunningHash] = getattr(hashlib, hashlib_name)
    size = hashlib.new(hashlib_name).digest_size
    return HashAlgorithm(
        bit,
        tpm_name,
        short,
        0x10,
        size * 4,  # collision resistance in bits: half the digest
        size,
        block_size,
        new=new,
        _hashlib_name=hashlib_name,
    )


def sm3_entry(bit: int) -> HashAlgorithm:
    """SM3-256 at a bit; since SPDM 1.2."""
    return HashAlgorithm(bit, "TPM_ALG_SM3_256", "sm3-256", 0x12, 128, 32, 64, new=new_sm3)
