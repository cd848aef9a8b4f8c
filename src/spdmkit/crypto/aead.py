"""Ciphers of secured messages (DSP0274 13, DSP0277): seal and open, whole or in place.

A cipher holds one key of one direction. It knows nothing of sequence numbers: the caller passes
each nonce (`keyschedule.RecordKeys.nonce`). For a session that only authenticates, the plaintext is
empty and the message is the associated data; what `seal` returns is then the tag alone.

cryptography's cipher objects cannot be wiped; drop every reference when the key ends.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as PycaCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from spdmkit.errors import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from spdmkit.crypto.hashes import Octets
    from spdmkit.crypto.registry import Aead

__all__ = ["Cipher", "new"]

WritableOctets: TypeAlias = bytearray | memoryview


class Cipher(abc.ABC):
    """One key of an AEAD algorithm.

    Attributes:
        algorithm: the algorithm, with its sizes.
    """

    __slots__ = ("algorithm",)

    def __init__(self, algorithm: Aead) -> None:
        self.algorithm = algorithm

    @abc.abstractmethod
    def seal(self, nonce: Octets, plaintext: Octets, associated_data: Octets) -> bytes:
        """Encrypt and authenticate.

        Args:
            nonce: `algorithm.iv_size` bytes, never used before with this key.
            plaintext: may be empty.
            associated_data: authenticated, not encrypted.

        Returns:
            Ciphertext, as long as the plaintext, and the tag.

        Raises:
            ValueError: the nonce has another length.
        """

    @abc.abstractmethod
    def open(self, nonce: Octets, sealed: Octets, associated_data: Octets) -> bytes:
        """Check the tag and decrypt.

        Args:
            nonce: the nonce `seal` was given.
            sealed: ciphertext and tag.
            associated_data: what `seal` was given.

        Returns:
            The plaintext.

        Raises:
            AuthenticationError: step "record": the tag does not match, or there is no whole tag.
            ValueError: the nonce has another length.
        """

    @abc.abstractmethod
    def seal_into(
        self, nonce: Octets, plaintext: Octets, associated_data: Octets, into: WritableOctets
    ) -> int:
        """As `seal`, into a buffer of exactly the plaintext's length and the tag's.

        The plaintext may lie at the start of that buffer.

        Returns:
            How many bytes were written.

        Raises:
            ValueError: the buffer or the nonce has another length.
        """

    @abc.abstractmethod
    def open_into(
        self, nonce: Octets, sealed: Octets, associated_data: Octets, into: WritableOctets
    ) -> int:
        """As `open`, into a buffer of exactly the plaintext's length.

        The buffer may be the start of `sealed`. What it holds after an error means nothing and must
        not be used.

        Returns:
            How many bytes were written.

        Raises:
            AuthenticationError: as `open`.
            ValueError: the buffer or the nonce has another length.
        """

    def _check_sealed(self, sealed: Octets) -> None:
        if len(sealed) < self.algorithm.tag_size:
            _mismatch(f"{len(sealed)} bytes hold no tag of {self.algorithm.tag_size}")

    def __repr__(self) -> str:
        return f"<Cipher {self.algorithm.short}>"


def _mismatch(reason: str) -> NoReturn:
    raise AuthenticationError("record", reason) from None


_BAD_TAG = "the authentication tag does not match"


class _PycaAead(Cipher):
    """AES-GCM and ChaCha20-Poly1305, which cryptography offers as AEAD."""

    __slots__ = ("_handle",)

    def __init__(self, algorithm: Aead, handle: AESGCM | ChaCha20Poly1305) -> None:
        super().__init__(algorithm)
        self._handle = handle

    def seal(self, nonce: Octets, plaintext: Octets, associated_data: Octets) -> bytes:
        if len(nonce) != self.algorithm.iv_size:
            _check_nonce(self.algorithm, nonce)
        return self._handle.encrypt(nonce, plaintext, associated_data)

    def open(self, nonce: Octets, sealed: Octets, associated_data: Octets) -> bytes:
        algorithm = self.algorithm
        if len(nonce) != algorithm.iv_size or len(sealed) < algorithm.tag_size:
            _check_nonce(algorithm, nonce)
            self._check_sealed(sealed)
        try:
            return self._handle.decrypt(nonce, sealed, associated_data)
        except InvalidTag:
            _mismatch(_BAD_TAG)

    def seal_into(
        self, nonce: Octets, plaintext: Octets, associated_data: Octets, into: WritableOctets
    ) -> int:
        _check_nonce(self.algorithm, nonce)
        return self._handle.encrypt_into(nonce, plaintext, associated_data, into)

    def open_into(
        self, nonce: Octets, sealed: Octets, associated_data: Octets, into: WritableOctets
    ) -> int:
        _check_nonce(self.algorithm, nonce)
        self._check_sealed(sealed)
        try:
            return self._handle.decrypt_into(nonce, sealed, associated_data, into)
        except InvalidTag:
            _mismatch(_BAD_TAG)


class _Sm4Gcm(Cipher):
    """SM4-GCM (RFC 8998), which cryptography offers as a block cipher in GCM mode."""

    __slots__ = ("_key",)

    def __init__(self, algorithm: Aead, key: bytes) -> None:
        super().__init__(algorithm)
        self._key = algorithms.SM4(key)

    def seal(self, nonce: Octets, plaintext: Octets, associated_data: Octets) -> bytes:
        _check_nonce(self.algorithm, nonce)
        context = PycaCipher(self._key, modes.GCM(bytes(nonce))).encryptor()
        context.authenticate_additional_data(associated_data)
        ciphertext = context.update(plaintext) + context.finalize()
        return ciphertext + context.tag

    def open(self, nonce: Octets, sealed: Octets, associated_data: Octets) -> bytes:
        _check_nonce(self.algorithm, nonce)
        self._check_sealed(sealed)
        split = len(sealed) - self.algorithm.tag_size
        view = memoryview(sealed)
        context = PycaCipher(self._key, modes.GCM(bytes(nonce), bytes(view[split:]))).decryptor()
        context.authenticate_additional_data(associated_data)
        try:
            return context.update(view[:split]) + context.finalize()
        except InvalidTag:
            _mismatch(_BAD_TAG)

    def seal_into(
        self, nonce: Octets, plaintext: Octets, associated_data: Octets, into: WritableOctets
    ) -> int:
        return _store(self.seal(nonce, plaintext, associated_data), into)

    def open_into(
        self, nonce: Octets, sealed: Octets, associated_data: Octets, into: WritableOctets
    ) -> int:
        return _store(self.open(nonce, sealed, associated_data), into)


def _store(result: bytes, into: WritableOctets) -> int:
    if len(into) != len(result):
        raise ValueError(f"the buffer has {len(into)} bytes, the result {len(result)}")
    into[:] = result
    return len(result)


def _check_nonce(algorithm: Aead, nonce: Octets) -> None:
    # GCM takes nonces of other lengths, by another construction that no record here uses.
    if len(nonce) != algorithm.iv_size:
        raise ValueError(f"{algorithm.name} takes a nonce of {algorithm.iv_size} bytes")


_CIPHERS: dict[str, Callable[[Aead, bytes], Cipher]] = {
    "aes-128-gcm": lambda algorithm, key: _PycaAead(algorithm, AESGCM(key)),
    "aes-256-gcm": lambda algorithm, key: _PycaAead(algorithm, AESGCM(key)),
    "chacha20-poly1305": lambda algorithm, key: _PycaAead(algorithm, ChaCha20Poly1305(key)),
    "sm4-gcm": _Sm4Gcm,
}


def new(algorithm: Aead, key: Octets) -> Cipher:
    """A cipher under a key; see `registry.Aead.new`."""
    algorithm.require()
    if len(key) != algorithm.key_size:
        raise ValueError(f"{algorithm.name} takes a key of {algorithm.key_size} bytes")
    return _CIPHERS[algorithm.short](algorithm, bytes(key))
