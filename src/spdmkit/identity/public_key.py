"""Public keys that were given to us instead of a certificate chain (DSP0274 7.2.2, slot 0xFF)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spdmkit.crypto.keys import PublicKey
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity.anchors import Purpose

if TYPE_CHECKING:
    from spdmkit.crypto.registry import SignatureAlgorithm

__all__ = ["TrustedPublicKey"]


@dataclass(frozen=True, slots=True)
class TrustedPublicKey:
    """The peer's public key, provisioned to us in a trusted environment.

    Trust comes from where the file came from; nothing about it can be verified here.

    Attributes:
        public_key: the key.
        purpose: the role its holder may take.
    """

    public_key: PublicKey
    purpose: Purpose = Purpose.DEVICE

    @classmethod
    def from_bytes(
        cls, data: bytes, purpose: Purpose = Purpose.DEVICE, *, source: str = "public key"
    ) -> TrustedPublicKey:
        """Read a SubjectPublicKeyInfo, PEM or DER.

        Raises:
            ConfigurationError: it is none, or holds a key that SPDM has no algorithm for.
        """
        try:
            key = PublicKey.load(data)
        except (ConfigurationError, DecodeError) as error:
            raise ConfigurationError(
                f"{source} holds no public key: {error}",
                hint="a PEM public key begins with -----BEGIN PUBLIC KEY-----",
            ) from error
        if not key.algorithms:
            raise ConfigurationError(f"{source}: SPDM has no algorithm for a {key.key_type} key")
        return cls(key, purpose)

    @classmethod
    def from_file(cls, path: str | Path, purpose: Purpose = Purpose.DEVICE) -> TrustedPublicKey:
        """Read a SubjectPublicKeyInfo from a PEM or DER file.

        Raises:
            ConfigurationError: the file cannot be read, or as `from_bytes`.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            reason = error.strerror or "unreadable"
            raise ConfigurationError(f"public key {path}: {reason}") from error
        return cls.from_bytes(data, purpose, source=str(path))

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo: what the peer's transcripts hold instead of a chain."""
        return self.public_key.spki()

    @property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return self.public_key.spki_sha256()

    def check_algorithm(self, algorithm: SignatureAlgorithm) -> None:
        """Check that the key fits the negotiated signature algorithm.

        Raises:
            AuthenticationError: step "public-key"; it does not.
        """
        if self.public_key.key_type != algorithm.key_type:
            raise AuthenticationError(
                "public-key",
                f"the provisioned key is of kind {self.public_key.key_type}, "
                f"but {algorithm.name} was negotiated",
            )
